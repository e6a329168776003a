//! The last hour and day of an instance or a destination.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use zapbus_event::{DestinationId, InstanceId, Timestamp};
use zapbus_store::{Figures, Statistics, Subject, Window};

use crate::{
    api::{
        auth::Caller,
        body::Path,
        error::{ApiError, Named},
    },
    app::App,
};

/// What became of deliveries. Replays count too; a probe that was not an attempt of its event does
/// not.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveryFigures {
    /// Attempts that have finished.
    attempts: u64,
    /// Of these, accepted by the destination.
    accepted: u64,
    /// Of these, failed.
    failed: u64,
    /// Deliveries given up.
    dead: u64,
    /// Deliveries whose event was too old to be of use, or gone, before it could be sent.
    expired: u64,
    /// `accepted` as a share of `attempts`, 0 to 1; none without attempts.
    success_rate: Option<f64>,
    /// Half of all attempts took no longer, in milliseconds; up to an eighth too high.
    latency_p50_ms: Option<u64>,
    /// 99 of 100 attempts took no longer, in milliseconds; up to an eighth too high.
    latency_p99_ms: Option<u64>,
}

impl From<&Figures> for DeliveryFigures {
    fn from(figures: &Figures) -> Self {
        Self {
            attempts: figures.accepted + figures.failed,
            accepted: figures.accepted,
            failed: figures.failed,
            dead: figures.dead,
            expired: figures.expired,
            success_rate: figures.success_rate(),
            latency_p50_ms: figures.latencies.quantile(0.5),
            latency_p99_ms: figures.latencies.quantile(0.99),
        }
    }
}

/// Figures of a destination since a time.
#[derive(Debug, Serialize, ToSchema)]
struct DestinationWindow {
    /// They begin here: a round five minutes, up to five minutes before the hour or day.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// What became of its deliveries.
    deliveries: DeliveryFigures,
}

impl From<&Window> for DestinationWindow {
    fn from(window: &Window) -> Self {
        Self { from: window.from, deliveries: (&window.figures).into() }
    }
}

/// Figures of an instance since a time.
#[derive(Debug, Serialize, ToSchema)]
struct InstanceWindow {
    /// They begin here: a round five minutes, up to five minutes before the hour or day.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// Events accepted from its source; repeats do not count.
    events: u64,
    /// What became of the deliveries of its own destinations; those of the whole account do not
    /// count.
    deliveries: DeliveryFigures,
}

impl From<&Window> for InstanceWindow {
    fn from(window: &Window) -> Self {
        Self {
            from: window.from,
            events: window.figures.events,
            deliveries: (&window.figures).into(),
        }
    }
}

/// The last hour and day of a destination.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DestinationStatistics {
    /// The destination.
    #[schema(value_type = String, example = "dst_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    destination_id: DestinationId,
    /// The last hour.
    last_hour: DestinationWindow,
    /// The last day.
    last_day: DestinationWindow,
    /// When it last accepted an event.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_event_at: Option<Timestamp>,
    /// How long ago that was.
    seconds_since_last_event: Option<f64>,
}

/// The last hour and day of an instance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstanceStatistics {
    /// The instance.
    #[schema(value_type = String, example = "ins_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    instance_id: InstanceId,
    /// The last hour.
    last_hour: InstanceWindow,
    /// The last day.
    last_day: InstanceWindow,
    /// When its newest event was accepted.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_event_at: Option<Timestamp>,
    /// How long ago that was.
    seconds_since_last_event: Option<f64>,
}

/// Shows how a destination did in the last hour and day.
#[utoipa::path(
    get, path = "/v1/destinations/{destination}/statistics", tag = "destinations",
    params(("destination" = String, Path, description = "Its id.")),
    responses((status = 200, body = DestinationStatistics), Named)
)]
pub(super) async fn show_destination_statistics(
    State(app): State<App>,
    caller: Caller,
    Path(destination): Path<String>,
) -> Result<axum::Json<DestinationStatistics>, ApiError> {
    let destination_id = caller.destination(&app, &destination).await?.id;
    let found = app.store.statistics(Subject::Destination(destination_id)).await?;
    Ok(axum::Json(DestinationStatistics {
        destination_id,
        last_hour: (&found.hour).into(),
        last_day: (&found.day).into(),
        last_event_at: found.last_event_at,
        seconds_since_last_event: seconds_since(&app, &found),
    }))
}

/// Shows how an instance and its own destinations did in the last hour and day.
///
/// What destinations of the whole account made of its events is in their own statistics.
#[utoipa::path(
    get, path = "/v1/instances/{instance}/statistics", tag = "instances",
    params(("instance" = String, Path, description = "Id in any form, or name.")),
    responses((status = 200, body = InstanceStatistics), Named)
)]
pub(super) async fn show_instance_statistics(
    State(app): State<App>,
    caller: Caller,
    Path(instance): Path<String>,
) -> Result<axum::Json<InstanceStatistics>, ApiError> {
    let instance_id = caller.instance(&app, &instance).await?.instance.id;
    let found = app.store.statistics(Subject::Instance(instance_id)).await?;
    Ok(axum::Json(InstanceStatistics {
        instance_id,
        last_hour: (&found.hour).into(),
        last_day: (&found.day).into(),
        last_event_at: found.last_event_at,
        seconds_since_last_event: seconds_since(&app, &found),
    }))
}

fn seconds_since(app: &App, found: &Statistics) -> Option<f64> {
    found.last_event_at.map(|at| (app.clock)().since(at).as_secs_f64())
}
