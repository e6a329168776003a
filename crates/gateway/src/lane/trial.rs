//! What is done at a destination's peer beside its lane: a sample, and what its events will need.

use std::sync::Arc;

use bytes::Bytes;
use zapbus_channel::{Message, Report};
use zapbus_event::Event;
use zapbus_store::Destination;

use super::{
    Lanes,
    send::{Said, dialect_headers, headers_win, segment, wanted},
};
use crate::spec::Spec;

impl Lanes {
    /// Sends one event past the lane: nothing is logged and no cursor moves. One report for each
    /// part that was sent.
    pub async fn send_test(
        &self,
        destination: &Destination,
        spec: &Spec,
        event: &Event,
    ) -> Result<Vec<Report>, String> {
        let channel = self.shared.open_channel(&destination.label, spec);
        let channel = channel.map_err(|error| error.to_string())?;
        let is_global = destination.instance.is_none();
        let rendering = &self.shared.rendering;
        let rendered = rendering.parts_of(event, &wanted(spec, is_global)).await;
        let (parts, identity) = rendered.map_err(|error| error.to_string())?;
        let mut reports = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let id =
                if index == 0 { event.id.to_string() } else { format!("{}.{index}", event.id) };
            let message = Message {
                id,
                headers: dialect_headers(&Said {
                    dialect: spec.dialect,
                    event,
                    name: &part.name,
                    attempt: 1,
                    instance_name: &identity.name,
                    is_global,
                }),
                headers_win: headers_win(spec.dialect),
                segment: segment(spec.dialect, &part.name),
                event_name: part.name.clone(),
                instance_name: Arc::clone(&identity.name),
                body: part.body.clone(),
                ordering_key: event.ordering_key(),
                timestamp: (self.shared.wall)(),
                hops: event.hops.saturating_add(1),
                replay: None,
                traceparent: None,
                warrant: None,
            };
            reports.extend(channel.send(&[message]).await);
        }
        Ok(reports)
    }

    /// Makes at a destination's peer what events of these names will need, as far as its channel makes
    /// anything: whoever consumes then finds it before the first one comes.
    ///
    /// # Errors
    ///
    /// Why it could not be made, in words. It is made with the first event then.
    pub async fn prepare(
        &self,
        label: &str,
        spec: &Spec,
        instance_name: &str,
        names: &[&str],
    ) -> Result<(), String> {
        let channel = self.shared.open_channel(label, spec).map_err(|error| error.to_string())?;
        let timestamp = (self.shared.wall)();
        let messages: Vec<Message> = names
            .iter()
            .map(|name| Message {
                id: String::new(),
                headers: Vec::new(),
                headers_win: false,
                segment: None,
                event_name: (*name).to_owned(),
                instance_name: instance_name.into(),
                body: Bytes::new(),
                ordering_key: String::new(),
                timestamp,
                hops: 1,
                replay: None,
                traceparent: None,
                warrant: None,
            })
            .collect();
        channel.prepare(&messages).await
    }

    /// Runs something beside the lanes, until it ends or they stop.
    pub(crate) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.spawn(work);
    }
}
