//! The delivery log: what it shows of a delivery, and who sees it.

pub(super) mod bulk;
pub(in crate::api) mod detail;
pub(super) mod search;

use serde::Serialize;
use utoipa::ToSchema;
use zapbus_event::{DestinationId, EventId, InstanceId, Kind, Position, Timestamp};
use zapbus_store::{Attempt, Delivery, DeliveryId, Destination, LIVE, State as Row, Status};

use crate::{
    api::{
        auth::Caller,
        error::{ApiError, What},
    },
    app::App,
};

/// One event for one destination, in one run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(in crate::api::native) struct DeliveryAnswer {
    /// Its id.
    #[schema(example = "dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17")]
    id: String,
    /// The event; `null` when it is no longer stored.
    #[schema(value_type = Option<String>)]
    event_id: Option<EventId>,
    /// The event's type.
    #[schema(value_type = Option<String>)]
    event_type: Option<Kind>,
    /// The event's instance.
    #[schema(value_type = Option<String>)]
    instance_id: Option<InstanceId>,
    /// The event's position.
    #[schema(value_type = u64)]
    seq: Position,
    /// The destination.
    #[schema(value_type = String)]
    destination_id: DestinationId,
    /// The replay it belongs to; `null` for live delivery.
    run: Option<u32>,
    /// `delivered`, `retrying`, `waiting`, `dead`, `cancelled` or `expired`.
    #[schema(value_type = String, example = "delivered")]
    status: Status,
    /// Why it is dead: `attempts`, `refused` or `render_failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    dead_reason: Option<zapbus_store::DeadReason>,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// With `expired`: the last position of the stretch that was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    expired_to: Option<Position>,
    /// With `expired`: how many events were lost in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_events: Option<u64>,
    /// Attempts made so far.
    attempts: u32,
    /// HTTP status of the last attempt.
    http_status: Option<u16>,
    /// Milliseconds of the last attempt.
    latency_ms: Option<u32>,
    /// Error of the last attempt, in words.
    error: Option<String>,
    /// The start of the last answer's body.
    response_excerpt: Option<String>,
    /// When the first attempt had ended.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<Delivery> for DeliveryAnswer {
    fn from(delivery: Delivery) -> Self {
        let (mut dead_reason, mut next_attempt_at, mut expired) = (None, None, None);
        let status = match delivery.state {
            Row::Delivered => Status::Delivered,
            Row::Retrying { due } => {
                next_attempt_at = Some(due);
                Status::Retrying
            }
            Row::Waiting => Status::Waiting,
            Row::Dead { reason } => {
                dead_reason = Some(reason);
                Status::Dead
            }
            Row::Cancelled => Status::Cancelled,
            Row::Expired { to, count } => {
                expired = Some((to, count));
                Status::Expired
            }
        };
        let excerpt = String::from_utf8_lossy(&delivery.excerpt);
        Self {
            id: delivery.id.to_string(),
            event_id: delivery.event.as_ref().map(|event| event.id),
            event_type: delivery.event.as_ref().map(|event| event.kind),
            instance_id: delivery.event.as_ref().map(|event| event.instance),
            seq: delivery.id.seq,
            destination_id: delivery.id.lane.destination,
            run: (delivery.id.lane.run != LIVE).then_some(delivery.id.lane.run),
            status,
            dead_reason,
            next_attempt_at,
            expired_to: expired.map(|(to, _)| to),
            expired_events: expired.map(|(_, count)| count),
            attempts: delivery.attempts,
            http_status: delivery.code,
            latency_ms: delivery.latency_ms,
            error: delivery.error,
            response_excerpt: (!excerpt.is_empty()).then(|| excerpt.into_owned()),
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
        }
    }
}

/// A delivery the caller sees, with its attempts and its destination if that still exists.
async fn find(
    app: &App,
    caller: &Caller,
    text: &str,
) -> Result<(Delivery, Vec<Attempt>, Option<Destination>), ApiError> {
    let unknown = ApiError::NotFound(What::Delivery);
    let Ok(id) = text.parse::<DeliveryId>() else {
        return Err(unknown);
    };
    let Some((delivery, attempts)) = app.store.delivery(id).await? else {
        return Err(unknown);
    };
    if let Some(destination) = app.store.destination(id.lane.destination).await? {
        return if caller.sees(destination.account, destination.instance) {
            Ok((delivery, attempts, Some(destination)))
        } else {
            Err(unknown)
        };
    }
    // The destination is gone; whose account it was shows in the event, and not whether it was
    // the instance's own or the account's.
    if caller.instance.is_some() {
        return Err(unknown);
    }
    let Some(event) = &delivery.event else {
        return Err(unknown);
    };
    match app.store.instance(event.instance).await? {
        Some(instance) if caller.sees(instance.account, Some(instance.id)) => {
            Ok((delivery, attempts, None))
        }
        _ => Err(unknown),
    }
}
