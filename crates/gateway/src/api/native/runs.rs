//! Replays: a stretch of the past sent again beside live delivery.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zapbus_event::{DestinationId, Position, Timestamp};
use zapbus_store::{LIVE, LaneId, Run, RunState, Start, Stretch};

use super::{
    accounts::Paging,
    complete,
    destinations::document::{Place, filter_of},
    refuse_if_any,
};
use crate::{
    api::{
        auth::Caller,
        body::{Json, Path, Query},
        error::{ApiError, Changing, Fault, Named, What},
        idempotency::{self, Once},
        page::{self, Page},
    },
    app::App,
};

/// Which stretch of the past to send again. One of `since` and `from` is required.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// Events received at or after this time.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Events after this position or event id, or `beginning`.
    #[serde(default)]
    #[schema(example = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    from: Option<String>,
    /// Only events received before this time; up to where live delivery stands when left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Which of them; the destination's own choice when left out.
    #[serde(default)]
    types: Option<Vec<String>>,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

/// How many events a replay would send.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplayCount {
    /// Always `true`: nothing was sent.
    dry_run: bool,
    /// Events that match.
    events: u64,
    /// When the first of them was received.
    #[schema(value_type = Option<String>, format = DateTime)]
    first: Option<Timestamp>,
    /// When the last of them was received.
    #[schema(value_type = Option<String>, format = DateTime)]
    last: Option<Timestamp>,
    /// All of the stretch was counted; else there are at least so many.
    complete: bool,
}

/// A replay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Run)]
pub(super) struct RunAnswer {
    /// Its number, from 1. Its sends carry `zapbus-replay` with this number.
    run: u32,
    /// Its destination.
    #[schema(value_type = String)]
    destination: DestinationId,
    /// `running`, `paused`, `done` or `cancelled`.
    #[schema(value_type = String, example = "running")]
    state: RunState,
    /// Events after this position.
    #[schema(value_type = u64)]
    from: Position,
    /// Events up to this position: the destination's cursor when the replay was made, or the last
    /// one before `until`.
    #[schema(value_type = u64)]
    to: Position,
    /// How far it is.
    #[schema(value_type = u64)]
    cursor: Position,
    /// Which events.
    types: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Run> for RunAnswer {
    fn from(run: Run) -> Self {
        Self {
            run: run.lane.run,
            destination: run.lane.destination,
            state: run.state,
            from: run.from,
            to: run.to,
            cursor: run.cursor,
            types: run.filter.patterns(),
            created_at: run.created_at,
        }
    }
}

impl ReplayRequest {
    async fn start(&self, app: &App, caller: &Caller) -> Result<Start, ApiError> {
        match (self.since, &self.from) {
            (Some(since), None) => Ok(Start::Time(since)),
            (None, Some(from)) => match Place::read("from", from)? {
                Place::Start(Start::Now) => {
                    Err(ApiError::invalid("from", "expected a place in the past, not `now`"))
                }
                place => place.start(app, caller).await,
            },
            (None, None) => Err(ApiError::invalid(
                "since",
                "say from where: `since` (a time) or `from` (an event id, a position or \
                 `beginning`)",
            )),
            (Some(_), Some(_)) => {
                Err(ApiError::invalid("from", "goes without `since`: give one of them"))
            }
        }
    }
}

/// Sends a stretch of the past again, up to where live delivery stands, beside live delivery.
/// With `dry_run`, only counts.
#[utoipa::path(
    post, path = "/v1/destinations/{destination}/replay", tag = "destinations",
    request_body = ReplayRequest,
    params(
        ("destination" = String, Path, description = "Its id."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes repeats harmless for 24 hours."),
    ),
    responses(
        (status = 201, body = RunAnswer, description = "It runs."),
        (status = 200, body = ReplayCount, description = "With `dry_run`: how many events there are."),
        Changing,
    )
)]
pub(super) async fn replay_destination(
    State(app): State<App>,
    caller: Caller,
    Path(destination): Path<String>,
    once: Once,
    body: Json<ReplayRequest>,
) -> Result<Response, ApiError> {
    let destination = caller.destination(&app, &destination).await?;
    let creation = match once.begin(&app, &caller, &body.bytes).await? {
        Ok(creation) => creation,
        Err(answer) => return Ok(answer),
    };
    let request = body.value;
    let mut faults: Vec<Fault> = Vec::new();
    let filter = match &request.types {
        Some(types) => filter_of(types, "types", &mut faults),
        None => destination.filter.clone(),
    };
    refuse_if_any(faults)?;
    let from = request.start(&app, &caller).await?;
    let stretch = Stretch { from, until: request.until };
    // A replay ends where live delivery is, and a lane writes what it skipped only lazily.
    app.lanes.write_cursor(destination.id).await?;
    if request.dry_run {
        let count = app.store.count_run(destination.id, stretch, filter).await?;
        let answer = ReplayCount {
            dry_run: true,
            events: count.events,
            first: count.first,
            last: count.last,
            complete: count.complete,
        };
        return Ok(axum::Json(answer).into_response());
    }
    complete(async move {
        let (destination, actor) = (destination.id, caller.actor());
        let made = match creation.remember(StatusCode::CREATED, &Value::Null)? {
            None => app.store.create_run(destination, stretch, filter, &actor).await,
            Some(remember) => {
                app.store
                    .create_run_once(destination, stretch, filter, &actor, remember, |run| {
                        // A struct of numbers and texts: its serialisation cannot fail.
                        let body = serde_json::to_value(RunAnswer::from(run.clone()));
                        idempotency::kept(StatusCode::CREATED, body.unwrap_or_default())
                    })
                    .await
            }
        };
        match made {
            Ok(run) => {
                app.lanes.run_changed(run.lane);
                Ok((StatusCode::CREATED, axum::Json(RunAnswer::from(run))).into_response())
            }
            Err(error) => creation.resolve(&app, error).await,
        }
    })
    .await
}

/// Lists the replays of a destination.
#[utoipa::path(
    get, path = "/v1/destinations/{destination}/runs", tag = "destinations",
    params(("destination" = String, Path, description = "Its id."), Paging),
    responses((status = 200, body = Page<RunAnswer>), Named)
)]
pub(super) async fn list_runs(
    State(app): State<App>,
    caller: Caller,
    Path(destination): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<Page<RunAnswer>>, ApiError> {
    let destination = caller.destination(&app, &destination).await?;
    let limit = page::limit(paging.limit)?;
    let after: Option<u32> = page::after(paging.after.as_deref())?;
    let mut runs = app.store.runs(destination.id).await?;
    runs.retain(|run| after.is_none_or(|after| run.lane.run > after));
    runs.sort_by_key(|run| run.lane.run);
    runs.truncate(limit + 1);
    let page = Page::cut(runs, limit, |run: &Run| run.lane.run.to_string());
    Ok(axum::Json(page.map(RunAnswer::from)))
}

/// Shows a replay and how far it is.
#[utoipa::path(
    get, path = "/v1/destinations/{destination}/runs/{run}", tag = "destinations",
    params(
        ("destination" = String, Path, description = "Its id."),
        ("run" = u32, Path, description = "The number of the replay."),
    ),
    responses((status = 200, body = RunAnswer), Named)
)]
pub(super) async fn show_run(
    State(app): State<App>,
    caller: Caller,
    Path((destination, run)): Path<(String, String)>,
) -> Result<axum::Json<RunAnswer>, ApiError> {
    find(&app, &caller, &destination, &run).await.map(|run| axum::Json(run.into()))
}

/// Stops a replay for now.
#[utoipa::path(
    post, path = "/v1/destinations/{destination}/runs/{run}/pause", tag = "destinations",
    params(
        ("destination" = String, Path, description = "Its id."),
        ("run" = u32, Path, description = "The number of the replay."),
    ),
    responses((status = 200, body = RunAnswer), Named)
)]
pub(super) async fn pause_run(
    State(app): State<App>,
    caller: Caller,
    Path((destination, run)): Path<(String, String)>,
) -> Result<axum::Json<RunAnswer>, ApiError> {
    set_state(app, caller, &destination, &run, RunState::Paused).await
}

/// Lets a paused replay go on.
#[utoipa::path(
    post, path = "/v1/destinations/{destination}/runs/{run}/resume", tag = "destinations",
    params(
        ("destination" = String, Path, description = "Its id."),
        ("run" = u32, Path, description = "The number of the replay."),
    ),
    responses((status = 200, body = RunAnswer), Named)
)]
pub(super) async fn resume_run(
    State(app): State<App>,
    caller: Caller,
    Path((destination, run)): Path<(String, String)>,
) -> Result<axum::Json<RunAnswer>, ApiError> {
    set_state(app, caller, &destination, &run, RunState::Running).await
}

/// Calls a replay off.
#[utoipa::path(
    post, path = "/v1/destinations/{destination}/runs/{run}/cancel", tag = "destinations",
    params(
        ("destination" = String, Path, description = "Its id."),
        ("run" = u32, Path, description = "The number of the replay."),
    ),
    responses((status = 200, body = RunAnswer), Named)
)]
pub(super) async fn cancel_run(
    State(app): State<App>,
    caller: Caller,
    Path((destination, run)): Path<(String, String)>,
) -> Result<axum::Json<RunAnswer>, ApiError> {
    set_state(app, caller, &destination, &run, RunState::Cancelled).await
}

async fn set_state(
    app: App,
    caller: Caller,
    destination: &str,
    run: &str,
    state: RunState,
) -> Result<axum::Json<RunAnswer>, ApiError> {
    let found = find(&app, &caller, destination, run).await?;
    let lane = found.lane;
    if matches!(found.state, RunState::Done | RunState::Cancelled) && found.state != state {
        return Err(ApiError::Conflict {
            code: "run_ended",
            reason: "This replay has ended; start a new one.".to_owned(),
        });
    }
    complete(async move {
        let run = app.store.set_run_state(lane, state, &caller.actor()).await?;
        app.lanes.run_changed(lane);
        Ok(axum::Json(run.into()))
    })
    .await
}

async fn find(app: &App, caller: &Caller, destination: &str, run: &str) -> Result<Run, ApiError> {
    let destination = caller.destination(app, destination).await?;
    let run = match run.parse() {
        Ok(run) if run != LIVE => run,
        _ => return Err(ApiError::NotFound(What::Run)),
    };
    let lane = LaneId { destination: destination.id, run };
    let found = app.store.runs(destination.id).await?.into_iter().find(|it| it.lane == lane);
    found.ok_or(ApiError::NotFound(What::Run))
}
