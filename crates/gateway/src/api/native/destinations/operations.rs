//! What else can be done with a destination: test it, stop it, go on, give it another secret.

use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zapbus_channel::Outcome;
use zapbus_event::{Event, EventId, InstanceId, Kind, Position};
use zapbus_store::{Activity, Destination};

use super::{
    super::event_types::sample_event,
    DestinationAnswer, Resume,
    document::{document_of, refuse_environment, spec_of},
    update, with_status,
};
use crate::{
    api::{
        auth::Caller,
        body::{OptionalJson, Path},
        error::{ApiError, Changing},
        token,
    },
    app::App,
    environment,
    spec::is_off_for_ryze,
};

/// Which sample to send.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api::native) struct TestRequest {
    /// An event type. `message.received` when left out.
    #[serde(default)]
    #[schema(example = "message.received")]
    r#type: Option<String>,
}

/// What became of a sample.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TestResult)]
pub(in crate::api::native) struct TestAnswer {
    /// Something was sent, and all of it was accepted.
    ok: bool,
    /// The type of the sample.
    #[schema(value_type = String)]
    r#type: Kind,
    /// The messages it became in the destination's dialect, in order; none when the dialect has
    /// no name for the type.
    messages: Vec<Exchange>,
}

/// One message and the answer to it.
#[derive(Debug, Serialize, ToSchema)]
struct Exchange {
    /// `accepted`, `retry`, `refused`, `gone` or `not_sent`.
    #[schema(value_type = String, example = "accepted")]
    outcome: &'static str,
    /// The HTTP status, when there was an answer.
    status: Option<u16>,
    /// Milliseconds from the first byte sent to the last byte read.
    latency_ms: u64,
    /// Why it failed, in words.
    error: Option<String>,
    /// Headers as sent, secrets masked.
    request_headers: Vec<(String, String)>,
    /// Headers of the answer.
    response_headers: Vec<(String, String)>,
    /// The start of the answer's body.
    excerpt: String,
}

/// Sends a sample event to a destination, now and once. It leaves no trace in journal and log.
#[utoipa::path(
    post, path = "/v1/destinations/{destination}/test", tag = "destinations",
    request_body = TestRequest,
    params(("destination" = String, Path, description = "Its id.")),
    responses((status = 200, body = TestAnswer), Changing)
)]
pub(in crate::api::native) async fn test_destination(
    State(app): State<App>,
    caller: Caller,
    Path(destination): Path<String>,
    OptionalJson(request): OptionalJson<TestRequest>,
) -> Result<axum::Json<TestAnswer>, ApiError> {
    let destination = caller.destination(&app, &destination).await?;
    let kind: Kind = match request.r#type.as_deref() {
        None => Kind::MessageReceived,
        Some(name) => name
            .parse()
            .map_err(|unknown| ApiError::UnknownEventType { path: "type".to_owned(), unknown })?,
    };
    let spec = spec_of(&destination)?;
    let instance = match destination.instance {
        Some(id) => id,
        None => app.directory.reserved(destination.account).await?.instance.id,
    };
    let event = sample(&app, kind, instance)?;
    let sent = app.lanes.send_test(&destination, &spec, &event).await;
    let reports = sent.map_err(|reason| ApiError::Conflict { code: "cannot_be_sent", reason })?;
    let messages: Vec<Exchange> = reports
        .into_iter()
        .map(|report| Exchange {
            outcome: match report.outcome {
                Outcome::Accepted => "accepted",
                Outcome::Retry { .. } => "retry",
                Outcome::Refused => "refused",
                Outcome::Gone => "gone",
                Outcome::Withheld => "not_sent",
            },
            status: report.status,
            latency_ms: u64::try_from(report.latency.as_millis()).unwrap_or(u64::MAX),
            error: report.error,
            request_headers: report.request_headers,
            response_headers: report.response_headers,
            excerpt: String::from_utf8_lossy(&report.excerpt).into_owned(),
        })
        .collect();
    let accepted = messages.iter().all(|message| message.outcome == "accepted");
    let ok = accepted && !messages.is_empty();
    Ok(axum::Json(TestAnswer { ok, r#type: kind, messages }))
}

fn sample(app: &App, kind: Kind, instance: InstanceId) -> Result<Event, ApiError> {
    let now = (app.clock)();
    Ok(sample_event(kind, EventId::new(now, token::random()?), Position::START, instance, now))
}

/// Why a destination is stopped.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api::native) struct PauseRequest {
    /// Shown with the destination, at most 256 characters.
    #[serde(default)]
    #[schema(example = "maintenance")]
    reason: Option<String>,
}

/// Stops a destination. What is under way finishes; everything else waits.
#[utoipa::path(
    post, path = "/v1/destinations/{destination}/pause", tag = "destinations",
    request_body = PauseRequest,
    params(("destination" = String, Path, description = "Its id.")),
    responses((status = 200, body = DestinationAnswer), Changing)
)]
pub(in crate::api::native) async fn pause_destination(
    State(app): State<App>,
    caller: Caller,
    Path(destination): Path<String>,
    OptionalJson(request): OptionalJson<PauseRequest>,
) -> Result<axum::Json<DestinationAnswer>, ApiError> {
    let destination = caller.destination(&app, &destination).await?;
    refuse_environment(&destination)?;
    let reason = request.reason.unwrap_or_else(|| "paused by a person".to_owned());
    if reason.is_empty() || reason.chars().count() > 256 || reason.chars().any(char::is_control) {
        return Err(ApiError::invalid("reason", "expected 1 to 256 characters"));
    }
    let paused = Activity::Paused { reason, since: (app.clock)() };
    let change = move |_: &App, stored: Destination| {
        // That it is off says more: whoever resumed it would send its events nowhere.
        let activity = if is_off_for_ryze(&stored.activity) { stored.activity } else { paused };
        Ok(Destination { activity, ..stored })
    };
    let changed = update(&app, &caller, destination.id, Resume::AtCursor, change).await?;
    with_status(&app, &changed).await.map(axum::Json)
}

/// Where to go on.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api::native) struct ResumeRequest {
    /// `cursor`: where it stopped. `now`: at the head; what waited is not sent.
    #[serde(default)]
    #[schema(inline)]
    from: ResumeFrom,
}

/// Where to go on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ResumeFrom {
    /// Where it stopped.
    #[default]
    Cursor,
    /// At the head; what waited is not sent.
    Now,
}

/// Lets a paused or disabled destination go on.
#[utoipa::path(
    post, path = "/v1/destinations/{destination}/resume", tag = "destinations",
    request_body = ResumeRequest,
    params(("destination" = String, Path, description = "Its id.")),
    responses((status = 200, body = DestinationAnswer), Changing)
)]
pub(in crate::api::native) async fn resume_destination(
    State(app): State<App>,
    caller: Caller,
    Path(destination): Path<String>,
    OptionalJson(request): OptionalJson<ResumeRequest>,
) -> Result<axum::Json<DestinationAnswer>, ApiError> {
    let destination = caller.destination(&app, &destination).await?;
    // What stopped it otherwise is for a person to end, also where the rest is the environment's.
    if environment::has_gone(&destination) {
        refuse_environment(&destination)?;
    }
    spec_of(&destination)?;
    let resume = match request.from {
        ResumeFrom::Cursor => Resume::AtCursor,
        ResumeFrom::Now => Resume::AtHead,
    };
    let change = |_: &App, stored: Destination| {
        if is_off_for_ryze(&stored.activity) {
            return Err(ApiError::Conflict {
                code: "switched_off",
                reason: "This webhook was switched off through RyzeAPI's API, and leads nowhere. \
                         Set it again there, with a url: POST /api/events/webhook/{instance}."
                    .to_owned(),
            });
        }
        Ok(Destination { activity: Activity::Active, ..stored })
    };
    let changed = update(&app, &caller, destination.id, resume, change).await?;
    with_status(&app, &changed).await.map(axum::Json)
}

/// How long the old secret goes on signing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api::native) struct RotateSecretRequest {
    /// Seconds for which the old secret signs beside the new one: 0 to 2592000; 86400 when left
    /// out.
    #[serde(default)]
    overlap_s: Option<u64>,
}

/// A day.
const DEFAULT_OVERLAP_S: u64 = 24 * 3600;

/// Thirty days.
const MAX_OVERLAP_S: u64 = 30 * 24 * 3600;

/// How long what is rotated overlaps.
pub(in crate::api::native) fn overlap(seconds: Option<u64>) -> Result<Duration, ApiError> {
    match seconds.unwrap_or(DEFAULT_OVERLAP_S) {
        seconds @ 0..=MAX_OVERLAP_S => Ok(Duration::from_secs(seconds)),
        _ => Err(ApiError::invalid("overlap_s", format!("expected 0 to {MAX_OVERLAP_S} seconds"))),
    }
}

/// Makes a new signing secret and shows it. The old one signs beside it for a while, so that
/// receivers can change over.
#[utoipa::path(
    post, path = "/v1/destinations/{destination}/rotate-secret", tag = "destinations",
    request_body = RotateSecretRequest,
    params(("destination" = String, Path, description = "Its id.")),
    responses((status = 200, body = DestinationAnswer, description = "With the new `channel.secret`, which is not shown again."), Changing)
)]
pub(in crate::api::native) async fn rotate_destination_secret(
    State(app): State<App>,
    caller: Caller,
    Path(destination): Path<String>,
    OptionalJson(request): OptionalJson<RotateSecretRequest>,
) -> Result<axum::Json<DestinationAnswer>, ApiError> {
    let destination = caller.destination(&app, &destination).await?;
    refuse_environment(&destination)?;
    let overlap = overlap(request.overlap_s)?;
    let channel = spec_of(&destination)?.channel;
    if channel.signing_secret().is_none() {
        return Err(ApiError::Conflict {
            code: "not_signed",
            reason: format!("A {} destination signs nothing.", channel.kind()),
        });
    }
    let change = move |app: &App, stored: Destination| {
        let mut spec = spec_of(&stored)?;
        spec.channel.rotate_secret((app.clock)(), overlap);
        Ok(Destination { spec: document_of(&spec)?, ..stored })
    };
    let changed = update(&app, &caller, destination.id, Resume::AtCursor, change).await?;
    let secret = spec_of(&changed)?.channel.signing_secret();
    Ok(axum::Json(with_status(&app, &changed).await?.with_secret(secret)))
}
