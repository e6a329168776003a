//! The delivery log of an instance's webhook, under VZaps's names.

mod query;

use std::collections::HashMap;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use zapbus_event::{Event, EventId, Kind, Timestamp, dialect::Part};
use zapbus_store::{Attempt, Delivery, DeliveryId, Destination, State as Row};

use self::query::Query;
use super::{
    access::Access,
    answer::{Failure, enveloped},
    body::{Members, Path},
    subscription::Webhook,
};
use crate::{
    api::{
        error::{ApiError, What},
        native::{complete, deliveries::detail::parts, destinations::document::known_spec},
    },
    app::App,
    lane::max_attempts,
};

/// What ids begin with here, and in our own API.
const PREFIX: &str = "log_";
const OWN_PREFIX: &str = "dlv_";

/// A delivery as VZaps shows it.
#[derive(Debug, Serialize)]
struct Log {
    id: String,
    instance_id: String,
    event_id: Option<String>,
    event: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    url: String,
    status: &'static str,
    http_status: Option<u16>,
    attempts: u32,
    max_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Value>,
    response_body: Option<String>,
    error: Option<String>,
    duration_ms: Option<u32>,
    created_at: Timestamp,
    updated_at: Timestamp,
    last_attempt_at: Timestamp,
    next_attempt_at: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
}

/// What the log lines of one webhook have in common.
struct Page<'a> {
    app: &'a App,
    destination: &'a Destination,
    instance_id: String,
    url: String,
    max_attempts: u32,
}

impl<'a> Page<'a> {
    fn of(
        app: &'a App,
        destination: &'a Destination,
        instance_id: String,
        url: &str,
    ) -> Result<Self, Failure> {
        let spec = known_spec(destination)?;
        let max_attempts = spec.map_or(0, |spec| max_attempts(&spec.retry));
        Ok(Self { app, destination, instance_id, url: url.to_owned(), max_attempts })
    }

    async fn log(
        &self,
        delivery: Delivery,
        attempts: Option<&[Attempt]>,
        with_payload: bool,
    ) -> Result<Log, Failure> {
        let sent = match &delivery.event {
            Some(summary) => self.sent(summary.id, summary.kind, with_payload).await?,
            None => Sent::default(),
        };
        let (status, next_attempt_at) = self.status(&delivery).await;
        let excerpt = String::from_utf8_lossy(&delivery.excerpt);
        let last = attempts.and_then(|attempts| attempts.last()).map(|attempt| attempt.at);
        let error = match (&delivery.state, delivery.error) {
            (_, Some(error)) => Some(error),
            (Row::Cancelled, None) => Some("called off before it was delivered".to_owned()),
            (Row::Expired { .. }, None) => {
                Some("older than what is kept before it was delivered".to_owned())
            }
            (_, None) => None,
        };
        Ok(Log {
            id: log_id(delivery.id),
            instance_id: self.instance_id.clone(),
            event_id: delivery.event.as_ref().map(|event| event.id.to_string()),
            event: sent.name.clone(),
            kind: sent.name,
            url: self.url.clone(),
            status,
            http_status: delivery.code,
            attempts: delivery.attempts,
            max_attempts: self.max_attempts,
            payload: sent.payload,
            response_body: (!excerpt.is_empty()).then(|| excerpt.into_owned()),
            error,
            duration_ms: delivery.latency_ms,
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
            last_attempt_at: last.unwrap_or(delivery.updated_at),
            next_attempt_at,
            delivered_at: matches!(delivery.state, Row::Delivered).then_some(delivery.updated_at),
        })
    }

    async fn status(&self, delivery: &Delivery) -> (&'static str, Option<Timestamp>) {
        match delivery.state {
            Row::Delivered => ("success", None),
            Row::Retrying { .. } if self.app.lanes.is_sending(delivery.id).await => {
                ("processing", None)
            }
            Row::Retrying { due } => ("pending", Some(due)),
            Row::Waiting => ("pending", None),
            Row::Dead { .. } | Row::Cancelled | Row::Expired { .. } => ("failed", None),
        }
    }

    /// The name and, if wanted, the body of an event, written again as the webhook is set now.
    async fn sent(&self, id: EventId, kind: Kind, with_payload: bool) -> Result<Sent, Failure> {
        if !with_payload && let Some(name) = query::only_name(kind) {
            return Ok(Sent { name: Some(name.to_owned()), payload: None });
        }
        let Some(event) = self.app.store.event(id).await? else {
            return Ok(Sent::default());
        };
        let part = self.first_part(&event).await?;
        let payload = match &part {
            Some(part) if with_payload => {
                Some(serde_json::from_slice(&part.body).map_err(ApiError::internal)?)
            }
            _ => None,
        };
        Ok(Sent { name: part.map(|part| part.name), payload })
    }

    async fn first_part(&self, event: &Event) -> Result<Option<Part>, Failure> {
        if self.destination.spec.is_null() {
            return Ok(None);
        }
        let parts = parts(self.app, event, self.destination).await?;
        Ok(parts.first().cloned())
    }
}

#[derive(Default)]
struct Sent {
    name: Option<String>,
    payload: Option<Value>,
}

fn log_id(id: DeliveryId) -> String {
    format!("{PREFIX}{}", id.to_string().trim_start_matches(OWN_PREFIX))
}

fn delivery_id(text: &str) -> Option<DeliveryId> {
    format!("{OWN_PREFIX}{}", text.strip_prefix(PREFIX)?).parse().ok()
}

/// Reads what a search asks for.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_search(body: &Members) {
    if let Ok(query) = Query::read(body) {
        query.check();
    }
}

/// Searches the log.
pub(super) async fn search(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
    body: Members,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let query = Query::read(&body)?;
    let webhook = Webhook::of(&app, &known.instance).await?;
    let Some(destination) = &webhook.destination else {
        return enveloped(query.page(Vec::new(), 0));
    };
    let instance_id = known.instance.id.to_vzaps();
    let page = Page::of(&app, destination, instance_id, &shown_url(&webhook, destination)?)?;
    let found = query.run(&app, destination, &page.url).await?;
    let mut content = Vec::with_capacity(found.page.len());
    let mut seen: HashMap<DeliveryId, ()> = HashMap::new();
    for id in found.page {
        // Pruned since, or twice in pages that moved while they were read.
        let fresh = seen.insert(id, ()).is_none();
        if fresh && let Some((delivery, attempts)) = app.store.delivery(id).await? {
            content.push(page.log(delivery, Some(&attempts), query.include_payload).await?);
        }
    }
    let content = content.into_iter().map(serde_json::to_value).collect::<Result<_, _>>();
    enveloped(query.page(content.map_err(ApiError::internal)?, found.total))
}

/// The URL that deliveries went to, also while the webhook is off.
fn shown_url(webhook: &Webhook, destination: &Destination) -> Result<String, Failure> {
    if !webhook.url.is_empty() {
        return Ok(webhook.url.clone());
    }
    Ok(match known_spec(destination)?.map(|spec| spec.channel) {
        Some(zapbus_channel::Config::Webhook(config)) => config.url.to_string(),
        Some(_) | None => String::new(),
    })
}

/// The delivery with this id, if it is one of this instance's webhook.
async fn find(
    app: &App,
    webhook: &Webhook,
    log: &str,
) -> Result<(Delivery, Vec<Attempt>, DeliveryId), Failure> {
    let unknown =
        || Failure::new(StatusCode::NOT_FOUND, "log_not_found", "There is no such webhook log.");
    let id = delivery_id(log).ok_or_else(unknown)?;
    let own = webhook.destination.as_ref().map(|destination| destination.id);
    if own != Some(id.lane.destination) {
        return Err(unknown());
    }
    let (delivery, attempts) = app.store.delivery(id).await?.ok_or_else(unknown)?;
    Ok((delivery, attempts, id))
}

/// Shows one line with what was sent.
pub(super) async fn show(
    State(app): State<App>,
    access: Access,
    Path((instance, log)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let webhook = Webhook::of(&app, &known.instance).await?;
    let (delivery, attempts, _) = find(&app, &webhook, &log).await?;
    let Some(destination) = &webhook.destination else {
        return Err(ApiError::NotFound(What::Delivery).into());
    };
    let url = shown_url(&webhook, destination)?;
    let page = Page::of(&app, destination, known.instance.id.to_vzaps(), &url)?;
    enveloped(page.log(delivery, Some(&attempts), true).await?)
}

/// Sends it again, now, under the same event id and with the attempts counted anew.
pub(super) async fn retry(
    State(app): State<App>,
    access: Access,
    Path((instance, log)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let webhook = Webhook::of(&app, &known.instance).await?;
    let (_, _, id) = find(&app, &webhook, &log).await?;
    if app.lanes.is_sending(id).await {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "log_in_flight",
            "This delivery is being sent at this moment.",
        ));
    }
    let actor = access.caller.actor();
    let attempts = complete(async move {
        app.store.redeliver(id, (app.clock)(), &actor).await?;
        app.lanes.rows_changed(id.lane);
        let found = app.store.delivery(id).await?;
        let (delivery, _) = found.ok_or(ApiError::NotFound(What::Delivery))?;
        Ok(delivery.attempts)
    })
    .await?;
    enveloped(json!({ "id": log, "status": "pending", "attempts": attempts }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_logs_are_ids_of_deliveries() {
        for text in ["log_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17", "log_01ARZ3NDEKTSV4RRFFQ69G5FAV_3_2-9"]
        {
            assert_eq!(log_id(delivery_id(text).unwrap()), text);
        }
        for text in ["log_123", "log_", "dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17", "", "log_a/b"] {
            assert_eq!(delivery_id(text), None, "{text}");
        }
    }
}
