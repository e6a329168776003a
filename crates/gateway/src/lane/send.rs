//! One attempt: render, send part after part, report.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, header};
use tokio::sync::OwnedSemaphorePermit;
use zapbus_channel::{self as channel, Channel, Message, Outcome, Report, Warrant};
use zapbus_event::{
    DestinationId, Dialect, Event, Timestamp,
    dialect::{
        Options,
        evolution::{self, Form},
    },
};
use zapbus_store::LIVE;

use super::{
    Shared,
    track::{Task, key_of},
};
use crate::{rendering::Wanted, spec::Spec, telemetry::Meter, traces::Attempt};

/// How long to wait before an event is read again that could not be rendered for want of the store.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Tried {
    /// It was sent.
    Reported(Report),
    /// The dialect has nothing to say about this event.
    Nothing,
    /// The dialect cannot write it.
    RenderFailed(String),
    /// The lane may be another node's by now: it was not sent, or not all of it.
    Withheld,
}

/// A finished attempt.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) run: u32,
    pub(crate) key: u64,
    pub(crate) task: Task,
    pub(crate) probe: bool,
    pub(crate) started: Timestamp,
    /// Parts accepted by now.
    pub(crate) parts_done: u16,
    pub(crate) tried: Tried,
}

/// What an attempt needs besides the event.
#[derive(Clone)]
pub(crate) struct Outlet {
    pub(crate) shared: Arc<Shared>,
    pub(crate) destination: DestinationId,
    pub(crate) channel: Arc<Channel>,
    pub(crate) spec: Arc<Spec>,
    pub(crate) meter: Meter,
    /// The lane's right to send.
    pub(crate) warrant: Warrant,
    /// It gets the events of all instances.
    pub(crate) is_global: bool,
    /// Others may want the same rendering of the same events at the same time.
    pub(crate) has_neighbours: bool,
}

impl Outlet {
    pub(crate) async fn attempt(
        self,
        task: Task,
        run: u32,
        probe: bool,
        permit: OwnedSemaphorePermit,
    ) -> Sent {
        let started = (self.shared.clock)();
        let span = self.shared.tracer.as_ref().and_then(|tracer| {
            tracer.begin(task.event.id, self.destination, run, started).map(|span| (tracer, span))
        });
        let traceparent = span.map(|(_, span)| span.traceparent());
        let began = Instant::now();
        let mut parts_done = task.parts_done;
        let tried = self.try_parts(&task, run, traceparent, &mut parts_done).await;
        drop(permit);
        if let Some((tracer, span)) = span {
            let result = match &tried {
                Tried::Reported(report) => Ok(report),
                Tried::Nothing => Err("the dialect has no word for it"),
                Tried::RenderFailed(error) => Err(error.as_str()),
                Tried::Withheld => Err("the lane may be another node's"),
            };
            let attempt = Attempt {
                event: task.event.id,
                kind: task.event.kind,
                destination: self.destination,
                dialect: self.spec.dialect.as_str(),
                channel: self.spec.channel.kind(),
                run,
                number: task.attempts + 1,
                probe,
                started,
                took: began.elapsed(),
                result,
            };
            tracer.end(span, &attempt);
        }
        let key = key_of(&task.event);
        Sent { run, key, task, probe, started, parts_done, tried }
    }

    async fn try_parts(
        &self,
        task: &Task,
        run: u32,
        traceparent: Option<String>,
        parts_done: &mut u16,
    ) -> Tried {
        let event = &task.event;
        let wanted = Wanted {
            shared: self.has_neighbours && task.attempts == 0 && run == LIVE,
            ..wanted(&self.spec, self.is_global)
        };
        let (parts, identity) = loop {
            match self.shared.rendering.parts_of(event, &wanted).await {
                Ok(rendered) => break rendered,
                Err(failure) if failure.is_final() => {
                    return Tried::RenderFailed(failure.to_string());
                }
                // The window stays taken: a store that cannot be read stops the lane by itself.
                Err(_) => tokio::time::sleep(STORE_PAUSE).await,
            }
        };
        let mut last = None;
        for (index, part) in parts.iter().enumerate().skip(usize::from(*parts_done)) {
            let id = match index {
                0 => event.id.to_string(),
                n => format!("{}.{n}", event.id),
            };
            let message = Message {
                id,
                headers: dialect_headers(&Said {
                    dialect: self.spec.dialect,
                    event,
                    name: &part.name,
                    attempt: task.attempts + 1,
                    instance_name: &identity.name,
                    is_global: self.is_global,
                }),
                headers_win: headers_win(self.spec.dialect),
                segment: segment(self.spec.dialect, &part.name),
                event_name: part.name.clone(),
                instance_name: Arc::clone(&identity.name),
                body: part.body.clone(),
                ordering_key: event.ordering_key(),
                timestamp: (self.shared.wall)(),
                hops: event.hops.saturating_add(1),
                replay: (run != LIVE).then(|| run.to_string()),
                traceparent: traceparent.clone(),
                warrant: Some(self.warrant.clone()),
            };
            let report = self.channel.send(&[message]).await.pop().unwrap_or_else(no_report);
            if report.outcome == Outcome::Withheld {
                return Tried::Withheld;
            }
            let accepted = report.outcome == Outcome::Accepted;
            last = Some(report);
            if !accepted {
                break;
            }
            *parts_done = u16::try_from(index + 1).unwrap_or(u16::MAX);
        }
        last.map_or(Tried::Nothing, Tried::Reported)
    }
}

/// What this destination asks of a rendering that nobody shares. `is_global`: it gets the events of
/// all instances. The server's name is the rendering's to say.
pub(crate) fn wanted(spec: &Spec, is_global: bool) -> Wanted<'_> {
    let options = Options {
        include_raw: spec.include_raw,
        fallback: spec.fallback,
        media_key: spec.media_key,
        live: false,
        inline_media: spec.inline_media,
        evolution: spec.evolution,
        ryze: spec.ryze,
    };
    let form = match &spec.channel {
        channel::Config::Webhook(_) if is_global => {
            Form::Everyone { own: None, base: spec.shown_url().unwrap_or_default() }
        }
        channel::Config::Webhook(_) => {
            Form::Webhook { destination: spec.shown_url().unwrap_or_default() }
        }
        channel::Config::Pusher(pusher) => Form::Webhook { destination: &pusher.app_id },
        channel::Config::Rabbitmq(_) => Form::Queue,
        channel::Config::Sqs(_) => Form::Sqs { server: "" },
    };
    Wanted { dialect: spec.dialect, options, form, shared: false }
}

const INSTANCE: HeaderName = HeaderName::from_static("x-instance");
const INSTANCE_ID: HeaderName = HeaderName::from_static("x-instance-id");
const EVENT_ID: HeaderName = HeaderName::from_static("x-event-id");
const EVENT_TYPE: HeaderName = HeaderName::from_static("x-event-type");
const DELIVERY_ATTEMPT: HeaderName = HeaderName::from_static("x-delivery-attempt");

const INSTANCE_NAME: HeaderName = HeaderName::from_static("x-instance-name");
const EVENT_TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");

/// What Evolution API calls itself, to the webhooks of instances.
const EVOLUTION_AGENT: &str = "EvolutionAPI-Webhook/2.3.7";

/// What headers may tell of a message.
pub(crate) struct Said<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) event: &'a Event,
    /// The event's name in the dialect.
    pub(crate) name: &'a str,
    /// The how-manieth attempt it is, from 1.
    pub(crate) attempt: u32,
    pub(crate) instance_name: &'a str,
    /// The destination gets the events of all instances.
    pub(crate) is_global: bool,
}

/// An event's name as the last segment of a URL, where the dialect has a form for that.
pub(crate) fn segment(dialect: Dialect, name: &str) -> Option<String> {
    (dialect == Dialect::Evolution).then(|| evolution::segment(name))
}

/// Whether the dialect's own product lets no header of a destination's own take the place of what it
/// says itself.
pub(crate) fn headers_win(dialect: Dialect) -> bool {
    dialect == Dialect::Evolution
}

/// What the dialect's own product says in headers.
pub(crate) fn dialect_headers(said: &Said<'_>) -> Vec<(HeaderName, String)> {
    let Said { dialect, event, name, attempt, instance_name, is_global } = *said;
    match dialect {
        Dialect::Native => Vec::new(),
        Dialect::Ryze => vec![
            (INSTANCE, instance_name.to_owned()),
            (EVENT_ID, event.id.to_string()),
            (EVENT_TYPE, name.to_owned()),
            (DELIVERY_ATTEMPT, attempt.to_string()),
        ],
        // Upstream says these to the webhooks of instances, and not to that of all.
        Dialect::Evolution if is_global => Vec::new(),
        Dialect::Evolution => {
            let mut headers = vec![
                (INSTANCE_ID, event.instance.to_uuid()),
                (EVENT_TYPE, name.to_owned()),
                (EVENT_TIMESTAMP, event.received_at.as_millis().to_string()),
                (header::USER_AGENT, EVOLUTION_AGENT.to_owned()),
                (header::CONTENT_TYPE, "application/json".to_owned()),
            ];
            // Many receivers cannot read other letters in a header.
            if instance_name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
                headers.push((INSTANCE_NAME, instance_name.to_owned()));
            }
            headers
        }
        Dialect::Vzaps => vec![
            (INSTANCE_ID, event.instance.to_vzaps()),
            (EVENT_ID, event.id.to_string()),
            (EVENT_TYPE, name.to_owned()),
            (DELIVERY_ATTEMPT, attempt.to_string()),
        ],
    }
}

/// A channel gives one report for each message; should it ever not, the event is tried again.
fn no_report() -> Report {
    Report {
        outcome: Outcome::Retry { after: None, scope: zapbus_channel::Scope::Event },
        status: None,
        latency: Duration::ZERO,
        error: Some("the channel gave no report".to_owned()),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        excerpt: Bytes::new(),
    }
}
