//! Replays: a stretch of the past sent again beside live delivery.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zapbus_event::{DestinationId, InstanceId, Position, Timestamp};
use zapbus_store::{Destination, LIVE, LaneId, Run, RunState, ShardId, Start, Stretch};

use super::{
    accounts::Paging,
    complete,
    destinations::document::{Place, filter_of},
    refuse_if_any,
    shards::{has_one_cursor, run_in_shards},
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
    /// Events after this position; `null` where there are `shards`.
    #[schema(value_type = Option<u64>)]
    from: Option<Position>,
    /// Events up to this position: the destination's cursor when the replay was made, or the last
    /// one before `until`; `null` where there are `shards`.
    #[schema(value_type = Option<u64>)]
    to: Option<Position>,
    /// How far it is; `null` where there are `shards`.
    #[schema(value_type = Option<u64>)]
    cursor: Option<Position>,
    /// The same in each shard, of a destination of a whole account where the journal has several;
    /// when one replay is shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    shards: Vec<RunShard>,
    /// Which events.
    types: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// How far a replay is in one shard of the journal.
#[derive(Debug, Serialize, ToSchema)]
struct RunShard {
    /// Which shard.
    #[schema(value_type = u16)]
    shard: ShardId,
    /// Events after this position.
    #[schema(value_type = u64)]
    from: Position,
    /// Events up to this position.
    #[schema(value_type = u64)]
    to: Position,
    /// How far it is.
    #[schema(value_type = u64)]
    cursor: Position,
}

impl RunAnswer {
    /// `one_cursor`: positions of the run say where it is.
    fn new(run: Run, one_cursor: bool) -> Self {
        let only = |position: Position| one_cursor.then_some(position);
        Self {
            run: run.lane.run,
            destination: run.lane.destination,
            state: run.state,
            from: only(run.from),
            to: only(run.to),
            cursor: only(run.cursor),
            shards: Vec::new(),
            types: run.filter.patterns(),
            created_at: run.created_at,
        }
    }

    /// With its places in several shards.
    async fn whole(app: &App, destination: &Destination, run: Run) -> Result<Self, ApiError> {
        if has_one_cursor(&app.store, destination) {
            return Ok(Self::new(run, true));
        }
        let number = run.lane.run;
        let shards = run_in_shards(&app.store, destination, number).await?;
        let place = |(shard, run): (ShardId, Run)| RunShard {
            shard,
            from: run.from,
            to: run.to,
            cursor: run.cursor,
        };
        Ok(Self { shards: shards.into_iter().map(place).collect(), ..Self::new(run, false) })
    }
}

impl ReplayRequest {
    async fn start(
        &self,
        app: &App,
        caller: &Caller,
        instance: Option<InstanceId>,
    ) -> Result<Start, ApiError> {
        match (self.since, &self.from) {
            (Some(since), None) => Ok(Start::Time(since)),
            (None, Some(from)) => match Place::read("from", from)? {
                Place::Start(Start::Now) => {
                    Err(ApiError::invalid("from", "expected a place in the past, not `now`"))
                }
                place => place.start("from", app, caller, instance).await,
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
    let from = request.start(&app, &caller, destination.instance).await?;
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
    let one_cursor = has_one_cursor(&app.store, &destination);
    complete(async move {
        let (destination, actor) = (destination.id, caller.actor());
        let made = match creation.remember(StatusCode::CREATED, &Value::Null)? {
            None => app.store.create_run(destination, stretch, filter, &actor).await,
            Some(remember) => {
                app.store
                    .create_run_once(destination, stretch, filter, &actor, remember, move |run| {
                        // A struct of numbers and texts: its serialisation cannot fail.
                        let body = serde_json::to_value(RunAnswer::new(run.clone(), one_cursor));
                        idempotency::kept(StatusCode::CREATED, body.unwrap_or_default())
                    })
                    .await
            }
        };
        match made {
            Ok(run) => {
                app.lanes.run_changed(run.lane);
                let answer = RunAnswer::new(run, one_cursor);
                Ok((StatusCode::CREATED, axum::Json(answer)).into_response())
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
    let one_cursor = has_one_cursor(&app.store, &destination);
    Ok(axum::Json(page.map(|run| RunAnswer::new(run, one_cursor))))
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
    let (destination, run) = find(&app, &caller, &destination, &run).await?;
    Ok(axum::Json(RunAnswer::whole(&app, &destination, run).await?))
}

/// What a person does with a replay.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    Pause,
    Resume,
    Cancel,
}

impl Change {
    fn state(self) -> RunState {
        match self {
            Self::Pause => RunState::Paused,
            Self::Resume => RunState::Running,
            Self::Cancel => RunState::Cancelled,
        }
    }
}

/// Stops a replay for now, lets it go on, or calls it off.
#[utoipa::path(
    post, path = "/v1/destinations/{destination}/runs/{run}/{change}", tag = "destinations",
    params(
        ("destination" = String, Path, description = "Its id."),
        ("run" = u32, Path, description = "The number of the replay."),
        ("change" = inline(Change), Path, description = "`pause`: it sends nothing until it is resumed. `cancel`: it never sends again."),
    ),
    responses((status = 200, body = RunAnswer), Named)
)]
pub(super) async fn change_run(
    State(app): State<App>,
    caller: Caller,
    Path((destination, run, change)): Path<(String, String, Change)>,
) -> Result<axum::Json<RunAnswer>, ApiError> {
    let (destination, found) = find(&app, &caller, &destination, &run).await?;
    let (lane, state) = (found.lane, change.state());
    if matches!(found.state, RunState::Done | RunState::Cancelled) && found.state != state {
        return Err(ApiError::Conflict {
            code: "run_ended",
            reason: "This replay has ended; start a new one.".to_owned(),
        });
    }
    complete(async move {
        let run = app.store.set_run_state(lane, state, &caller.actor()).await?;
        app.lanes.run_changed(lane);
        Ok(axum::Json(RunAnswer::whole(&app, &destination, run).await?))
    })
    .await
}

async fn find(
    app: &App,
    caller: &Caller,
    destination: &str,
    run: &str,
) -> Result<(Destination, Run), ApiError> {
    let destination = caller.destination(app, destination).await?;
    let run = match run.parse() {
        Ok(run) if run != LIVE => run,
        _ => return Err(ApiError::NotFound(What::Run)),
    };
    let lane = LaneId { destination: destination.id, run };
    let found = app.store.runs(destination.id).await?.into_iter().find(|it| it.lane == lane);
    Ok((destination, found.ok_or(ApiError::NotFound(What::Run))?))
}
