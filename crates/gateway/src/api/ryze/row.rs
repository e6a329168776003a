//! A webhook as clients see it: what stands in its destination.

use serde_json::{Value, json};
use zapbus_channel::Config as Channel;
use zapbus_event::dialect::ryze::Choice;
use zapbus_store::{Destination, DestinationScope, Instance};

use super::{
    answer::Failure,
    options::{Own, listed},
};
use crate::{
    api::native::destinations::document::known_spec,
    app::App,
    spec::{Spec, is_off_for_ryze},
};

/// How the labels of their destinations begin.
pub(super) const LABELS: &str = "ryze/";

/// The label of a webhook that was given none.
pub(super) const DEFAULT: &str = "default";

/// Destinations read from the store at one time.
const READ: usize = 1_000;

/// The destination's label of a webhook.
pub(super) fn label_of(label: &str) -> String {
    format!("{LABELS}{label}")
}

/// A webhook that there is not, as if it were switched off.
pub(super) fn none() -> Value {
    answer(DEFAULT, None, false)
}

/// A webhook as it is.
pub(super) fn shown(destination: &Destination) -> Result<Value, Failure> {
    let label = destination.label.strip_prefix(LABELS).unwrap_or(&destination.label);
    let spec = known_spec(destination)?;
    if spec.is_none() {
        tracing::warn!(event = "ryze.unreadable", destination = %destination.id, "where a webhook goes cannot be decrypted, or went with the secrets of a backup; it is shown without");
    }
    Ok(answer(label, spec.as_ref(), !is_off_for_ryze(&destination.activity)))
}

fn answer(label: &str, spec: Option<&Spec>, is_on: bool) -> Value {
    let webhook = spec.and_then(|spec| match &spec.channel {
        Channel::Webhook(webhook) => Some(webhook),
        // Somebody has made something else of it in the native API.
        _ => None,
    });
    let choice = spec.map_or_else(Choice::default, |spec| spec.ryze);
    let on = webhook.filter(|_| is_on);
    let authorization = on.and_then(|it| it.authorization.as_ref()).map(|it| it.expose());
    let mut answer = json!({
        "label": label,
        "enabled": is_on,
        "url": on.map(|it| it.url.as_str()).unwrap_or_default(),
        "authorization": authorization.unwrap_or_default(),
        "byEvents": webhook.is_some_and(|it| it.by_events),
        "events": if is_on { listed(choice.names) } else { Vec::new() },
        "mediaBase64": is_on && spec.is_some_and(|spec| spec.inline_media),
    });
    Own::show(&choice, &mut answer);
    answer
}

/// The webhook of an instance with this label.
pub(super) async fn find(
    app: &App,
    instance: &Instance,
    label: &str,
) -> Result<Option<Destination>, Failure> {
    // Among all: one that cannot be decrypted is listed, but not found.
    let label = label_of(label);
    Ok(all(app, instance).await?.into_iter().find(|it| it.label == label))
}

/// Every webhook of an instance, on or off, by label.
pub(super) async fn all(app: &App, instance: &Instance) -> Result<Vec<Destination>, Failure> {
    let (account, scope) = (Some(instance.account), DestinationScope::Instance(instance.id));
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let read = app.store.destinations(account, scope, after, READ).await?;
        after = read.last().map(|destination| destination.id);
        let is_last = read.len() < READ;
        found.extend(read.into_iter().filter(|it| it.label.starts_with(LABELS)));
        if is_last {
            found.sort_unstable_by(|a, b| a.label.cmp(&b.label));
            return Ok(found);
        }
    }
}
