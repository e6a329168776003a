//! One delivery: every attempt, what was sent, and sending it again.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use zapbus_event::{Event, Timestamp, dialect::Part};
use zapbus_store::{Attempt, Destination};

use super::{
    super::{
        complete,
        destinations::document::{known_spec, spec_of},
    },
    DeliveryAnswer, find,
};
use crate::{
    api::{
        auth::Caller,
        body::Path,
        error::{ApiError, Named, What},
    },
    app::App,
    lane::wanted,
    rendering::{RenderFailure, Wanted},
    spec::Spec,
};

/// A delivery with its attempts and what was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api::native) struct DeliveryDetail {
    /// The delivery.
    delivery: DeliveryAnswer,
    /// Its attempts, oldest first. Of one that was accepted at once, only what `delivery` holds.
    attempts: Vec<AttemptAnswer>,
    /// What was sent, rendered again from the journal as the destination is set now; `null` when
    /// that cannot be told any more, for the reason in `no_request`.
    request: Option<RenderedRequest>,
    /// Why there is no `request`.
    #[schema(inline)]
    no_request: Option<NoRequest>,
}

/// Why what was sent cannot be told.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum NoRequest {
    /// The event is past its retention.
    EventExpired,
    /// The destination is gone.
    DestinationDeleted,
    /// The destination was restored without its secrets, and its channel is not set since.
    NoChannel,
    /// The dialect cannot write this event.
    RenderFailed,
}

/// One attempt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
struct AttemptAnswer {
    /// Its number, from 1.
    number: u32,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The HTTP status, when there was an answer.
    http_status: Option<u16>,
    /// Milliseconds from start to end.
    latency_ms: u32,
    /// Why it failed, in words.
    error: Option<String>,
    /// Headers as sent, secrets masked; only of failed attempts.
    request_headers: Vec<(String, String)>,
    /// Headers of the answer; only of failed attempts.
    response_headers: Vec<(String, String)>,
    /// The start of the answer's body.
    response_excerpt: String,
}

impl From<Attempt> for AttemptAnswer {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at,
            http_status: attempt.code,
            latency_ms: attempt.latency_ms,
            error: attempt.error,
            request_headers: attempt.request_headers,
            response_headers: attempt.response_headers,
            response_excerpt: String::from_utf8_lossy(&attempt.excerpt).into_owned(),
        }
    }
}

/// What was sent, as it would be sent now.
#[derive(Debug, Serialize, ToSchema)]
struct RenderedRequest {
    /// Always `true`: bodies are not kept, they are rendered again.
    rendered_again: bool,
    /// The messages, in order.
    parts: Vec<RenderedPart>,
}

/// One message.
#[derive(Debug, Serialize, ToSchema)]
struct RenderedPart {
    /// The event's name in the destination's dialect.
    name: String,
    /// The body.
    #[schema(value_type = Object)]
    body: Box<RawValue>,
}

/// Shows a delivery with every attempt.
#[utoipa::path(
    get, path = "/v1/deliveries/{delivery}", tag = "deliveries",
    params(("delivery" = String, Path, description = "Its id.")),
    responses((status = 200, body = DeliveryDetail), Named)
)]
pub(in crate::api::native) async fn show_delivery(
    State(app): State<App>,
    caller: Caller,
    Path(delivery): Path<String>,
) -> Result<axum::Json<DeliveryDetail>, ApiError> {
    let (delivery, attempts, destination) = find(&app, &caller, &delivery).await?;
    let event = match &delivery.event {
        Some(event) => app.store.event(event.id).await?,
        None => None,
    };
    let rendered = match (&event, &destination) {
        (Some(event), Some(destination)) => rendered(&app, event, destination).await?,
        (None, _) => Err(NoRequest::EventExpired),
        (_, None) => Err(NoRequest::DestinationDeleted),
    };
    let (request, no_request) = match rendered {
        Ok(request) => (Some(request), None),
        Err(why) => (None, Some(why)),
    };
    Ok(axum::Json(DeliveryDetail {
        delivery: delivery.into(),
        attempts: attempts.into_iter().map(AttemptAnswer::from).collect(),
        request,
        no_request,
    }))
}

async fn rendered(
    app: &App,
    event: &Event,
    destination: &Destination,
) -> Result<Result<RenderedRequest, NoRequest>, ApiError> {
    let Some(spec) = known_spec(destination)? else { return Ok(Err(NoRequest::NoChannel)) };
    let parts = match app.lanes.rendering().parts(event, &wanted_by(&spec, destination)).await {
        Ok(parts) => parts,
        // Its delivery is dead for that reason, and the attempts say what the dialect says.
        Err(RenderFailure::Dialect(_)) => return Ok(Err(NoRequest::RenderFailed)),
        Err(RenderFailure::Store(error)) => return Err(error.into()),
    };
    let parts = parts
        .iter()
        .map(|part| {
            let body = serde_json::from_slice(&part.body).map_err(ApiError::internal)?;
            Ok(RenderedPart { name: part.name.clone(), body })
        })
        .collect::<Result<_, ApiError>>()?;
    Ok(Ok(RenderedRequest { rendered_again: true, parts }))
}

/// The messages that an event becomes for a destination, as it is set now.
pub(in crate::api) async fn parts(
    app: &App,
    event: &Event,
    destination: &Destination,
) -> Result<Arc<[Part]>, ApiError> {
    let spec = spec_of(destination)?;
    let wanted = wanted_by(&spec, destination);
    app.lanes.rendering().parts(event, &wanted).await.map_err(|failure| match failure {
        RenderFailure::Store(error) => error.into(),
        RenderFailure::Dialect(error) => ApiError::internal(error),
    })
}

fn wanted_by<'a>(spec: &'a Spec, destination: &Destination) -> Wanted<'a> {
    wanted(spec, destination.instance.is_none())
}

/// Sends one delivery again, now, whatever became of it.
#[utoipa::path(
    post, path = "/v1/deliveries/{delivery}/retry", tag = "deliveries",
    params(("delivery" = String, Path, description = "Its id.")),
    responses(
        (status = 202, body = DeliveryAnswer, description = "It is due now."),
        Named,
    )
)]
pub(in crate::api::native) async fn retry_delivery(
    State(app): State<App>,
    caller: Caller,
    Path(delivery): Path<String>,
) -> Result<(http::StatusCode, axum::Json<DeliveryAnswer>), ApiError> {
    let (delivery, _, destination) = find(&app, &caller, &delivery).await?;
    if destination.is_none() {
        return Err(ApiError::Conflict {
            code: "destination_deleted",
            reason: "The destination of this delivery was deleted.".to_owned(),
        });
    }
    let id = delivery.id;
    complete(async move {
        app.store.redeliver(id, (app.clock)(), &caller.actor()).await?;
        app.lanes.rows_changed(id.lane);
        let (now, _) = app.store.delivery(id).await?.ok_or(ApiError::NotFound(What::Delivery))?;
        Ok((http::StatusCode::ACCEPTED, axum::Json(now.into())))
    })
    .await
}
