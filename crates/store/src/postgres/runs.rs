//! Replays.

use serde_json::json;
use tokio_postgres::Row;
use zapbus_event::{AccountId, DestinationId, Filter, Position, Timestamp};

use super::{
    Engine, Shared, Tx,
    destinations::{self, Known, cursor_in},
    lanes::instances_of,
    pool::Session,
    read,
    row::{self, Fixed, fixed, int, position, sql, time},
};
use crate::{
    Change, ShardId, StoreError,
    delivery::{LaneId, Run, RunCount, RunState, Stretch},
    encoding::{filter_of, filter_text},
    fault::{Fault, Result},
    registry::{Actor, Remember, Start},
};

/// How many events a dry run looks at.
const COUNTED: usize = 200_000;
/// Runs of one destination that may be unfinished at a time.
const OPEN_RUNS: i64 = 16;

/// A run as it stands in shard `$3`.
const RUN: &str = "SELECT l.run, coalesce(l.froms[$3::int + 1], l.from_seq), \
     coalesce(l.tos[$3::int + 1], l.to_seq), l.filter, \
     coalesce(l.cursors[$3::int + 1], l.cursor), l.state, l.created_at FROM lane l";

fn state_text(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Paused => "paused",
        RunState::Done => "done",
        RunState::Cancelled => "cancelled",
    }
}

fn run(row: &Row, destination: DestinationId) -> Result<Run> {
    let state: &str = row.try_get(5)?;
    let filter: Option<&str> = row.try_get(3)?;
    Ok(Run {
        lane: LaneId { destination, run: row::small(row.try_get(0)?) },
        from: position(row.try_get(1)?),
        to: position(row.try_get::<_, Option<i64>>(2)?.unwrap_or(0)),
        filter: filter_of(filter.unwrap_or("[]"))?,
        cursor: position(row.try_get(4)?),
        state: match state {
            "running" => RunState::Running,
            "paused" => RunState::Paused,
            "done" => RunState::Done,
            "cancelled" => RunState::Cancelled,
            other => return Err(Fault::malformed(format!("state {other:?} of a run"))),
        },
        created_at: time(row, 6)?,
    })
}

/// Where something starts, as a position in each of some shards.
pub(super) async fn resolve_start(
    shared: &Shared,
    session: &Session,
    start: Start,
    shards: &[ShardId],
) -> Result<Vec<Position>> {
    let numbers: Vec<i32> = shards.iter().map(|shard| i32::from(shard.0)).collect();
    let rows = session
        .query(
            "SELECT h.seq, (SELECT j.seq FROM journal j WHERE j.shard = s.shard \
             ORDER BY j.seq LIMIT 1) FROM unnest($1::int[]) WITH ORDINALITY AS s(shard, n), \
             zapbus_head(s.shard) h ORDER BY s.n",
            &[&numbers],
        )
        .await?;
    let mut found = Vec::with_capacity(shards.len());
    for (row, shard) in rows.iter().zip(shards) {
        let head = position(row.try_get(0)?);
        let first: Option<i64> = row.try_get(1)?;
        found.push(match start {
            Start::Now => head,
            Start::Beginning => first.map_or(head, |first| position(first - 1)),
            Start::Time(time) => read::position_at(session, *shard, time).await?.min(head),
            Start::After(after) if shards.len() == 1 => after.min(head),
            Start::After(_) => {
                return Err(Fault::refused(format!(
                    "one position means nothing in {} shards: start at a time",
                    shared.shards.len()
                )));
            }
        });
    }
    Ok(found)
}

/// The shards that a destination's events are in.
fn shards_of(shared: &Shared, known: Known) -> Vec<ShardId> {
    if known.global { shared.all().collect() } else { vec![known.home] }
}

/// Where live delivery stands in each shard.
async fn live(session: &Session, known: Known, shards: &[ShardId]) -> Result<Vec<Position>> {
    let numbers: Vec<i32> = shards.iter().map(|shard| i32::from(shard.0)).collect();
    let rows = session
        .query(
            &format!(
                "SELECT {} FROM lane l, unnest($2::int[]) WITH ORDINALITY AS s(shard, n) \
                 WHERE l.destination = $1 AND l.run = 0 ORDER BY s.n",
                cursor_in("s.shard")
            ),
            &[&known.number, &numbers],
        )
        .await?;
    rows.iter().map(|row| Ok(position(row.try_get(0)?))).collect()
}

/// The last position of a stretch in each shard: live delivery sends what lies beyond its cursor.
async fn ends(
    session: &Session,
    known: Known,
    shards: &[ShardId],
    until: Option<Timestamp>,
) -> Result<Vec<Position>> {
    let mut ends = live(session, known, shards).await?;
    if let Some(until) = until {
        for (end, shard) in ends.iter_mut().zip(shards) {
            *end = read::position_at(session, *shard, until).await?.min(*end);
        }
    }
    Ok(ends)
}

async fn create(
    tx: &mut Tx,
    destination: DestinationId,
    stretch: Stretch,
    filter: &Filter,
    actor: &Actor,
) -> Result<Run> {
    let known = destinations::existing(&tx.shared, &tx.session, destination).await?;
    // Locked, so that two that come together get two numbers and are both counted.
    let row = tx
        .session
        .one("UPDATE destination SET runs = runs + 1 WHERE n = $1 RETURNING runs", &[&known.number])
        .await?;
    let number: i32 = row.try_get(0)?;
    let open = tx
        .session
        .one(
            "SELECT count(*) FROM lane WHERE destination = $1 AND run > 0 \
             AND state IN ('running', 'paused')",
            &[&known.number],
        )
        .await?;
    if open.try_get::<_, i64>(0)? >= OPEN_RUNS {
        return Err(Fault::refused(format!(
            "a destination may have {OPEN_RUNS} unfinished replays; cancel one or wait for one"
        )));
    }
    let shards = shards_of(&tx.shared, known);
    let tos = ends(&tx.session, known, &shards, stretch.until).await?;
    let starts = resolve_start(&tx.shared, &tx.session, stretch.from, &shards).await?;
    let froms: Vec<Position> = starts.iter().zip(&tos).map(|(from, to)| *from.min(to)).collect();
    let (from, to) = (froms.first().copied(), tos.first().copied());
    let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
    let all = |positions: &[Position]| -> Option<Vec<i64>> {
        known.global.then(|| positions.iter().map(|position| sql(*position)).collect())
    };
    tx.session
        .execute(
            "INSERT INTO lane (destination, run, shard, cursor, cursors, from_seq, to_seq, froms, \
             tos, filter, created_at) VALUES ($1, $2, $3, $4, $5, $4, $6, $5, $7, $8, $9)",
            &[
                &known.number,
                &number,
                &(!known.global).then(|| i32::from(known.home.0)),
                &sql(from),
                &all(&froms),
                &sql(to),
                &all(&tos),
                &filter_text(filter)?,
                &tx.now.as_millis(),
            ],
        )
        .await?;
    let detail = json!({ "run": number, "from": from.0, "to": to.0 });
    audit(tx, destination, actor, "replay.create", detail).await?;
    Ok(Run {
        lane: LaneId { destination, run: row::small(number) },
        from,
        to,
        filter: filter.clone(),
        cursor: from,
        state: RunState::Running,
        created_at: tx.now,
    })
}

/// Writes the line and tells the node that runs the lane.
pub(super) async fn audit(
    tx: &mut Tx,
    destination: DestinationId,
    actor: &Actor,
    action: &str,
    detail: serde_json::Value,
) -> Result<()> {
    let target = destination.to_string();
    audit_of(tx, destination, actor, (action, &target), detail).await
}

pub(super) async fn audit_of(
    tx: &mut Tx,
    destination: DestinationId,
    actor: &Actor,
    (action, target): (&str, &str),
    detail: serde_json::Value,
) -> Result<()> {
    let row = tx
        .session
        .one("SELECT account FROM destination WHERE id = $1", &[&Fixed(destination.to_bytes())])
        .await?;
    let account = Some(AccountId::from_bytes(fixed(&row, 0)?));
    tx.tell(Change::Destination(destination));
    tx.write_audit(account, actor, action, target, &detail).await
}

async fn set_state(tx: &mut Tx, lane: LaneId, state: RunState, actor: &Actor) -> Result<Run> {
    let known = destinations::existing(&tx.shared, &tx.session, lane.destination).await?;
    let number = int(lane.run);
    let found = tx
        .session
        .first(
            &format!("{RUN} WHERE l.destination = $1 AND l.run = $2 AND l.run > 0 FOR UPDATE"),
            &[&known.number, &number, &0_i32],
        )
        .await?;
    let before = run(&found.ok_or_else(|| Fault::not_found("replay"))?, lane.destination)?;
    if before.state == state {
        return Ok(before);
    }
    if matches!(before.state, RunState::Done | RunState::Cancelled) {
        return Err(Fault::refused("the replay is over"));
    }
    tx.session
        .execute(
            "UPDATE lane SET state = $3 WHERE destination = $1 AND run = $2",
            &[&known.number, &number, &state_text(state)],
        )
        .await?;
    if state == RunState::Cancelled {
        tx.session
            .execute(
                "UPDATE delivery SET status = 4, due = NULL, updated_at = $3 \
                 WHERE destination = $1 AND run = $2 AND status IN (1, 2)",
                &[&known.number, &number, &tx.now.as_millis()],
            )
            .await?;
    }
    let detail = json!({ "run": lane.run, "state": state_text(state) });
    audit(tx, lane.destination, actor, "replay.update", detail).await?;
    Ok(Run { state, ..before })
}

impl Engine {
    pub(crate) async fn create_run(
        &self,
        destination: DestinationId,
        stretch: Stretch,
        filter: &Filter,
        actor: &Actor,
        remember: Option<(Remember, impl Fn(&Run) -> serde_json::Value + Send)>,
    ) -> Result<Run, StoreError> {
        let mut tx = self.begin().await?;
        let done = match create(&mut tx, destination, stretch, filter, actor).await {
            Ok(run) => match remember {
                Some((remember, answer)) => {
                    let remember = Remember { answer: answer(&run), ..remember };
                    super::accounts::keep_answer(&tx, Some(&remember)).await.map(|()| run)
                }
                None => Ok(run),
            },
            Err(fault) => Err(fault),
        };
        tx.finish(done).await
    }

    pub(crate) async fn runs(
        &self,
        destination: DestinationId,
        shard: ShardId,
    ) -> Result<Vec<Run>, StoreError> {
        let session = self.session().await?;
        let known = destinations::existing(&self.shared, &session, destination).await?;
        let rows = session
            .query(
                &format!("{RUN} WHERE l.destination = $1 AND l.run > $2 ORDER BY l.run"),
                &[&known.number, &0_i32, &i32::from(shard.0)],
            )
            .await?;
        Ok(rows.iter().map(|row| run(row, destination)).collect::<Result<_>>()?)
    }

    /// Replays that are to go on when lanes start.
    pub(crate) async fn running(&self) -> Result<Vec<LaneId>, StoreError> {
        let session = self.session().await?;
        let rows = session
            .query(
                "SELECT d.id, l.run FROM lane l JOIN destination d ON d.n = l.destination \
                 WHERE l.run > 0 AND l.state = 'running' AND d.deleted_at IS NULL",
                &[],
            )
            .await?;
        let read = |row: &Row| -> Result<LaneId> {
            let destination = DestinationId::from_bytes(fixed(row, 0)?);
            Ok(LaneId { destination, run: row::small(row.try_get(1)?) })
        };
        Ok(rows.iter().map(read).collect::<Result<_>>()?)
    }

    pub(crate) async fn set_run_state(
        &self,
        lane: LaneId,
        state: RunState,
        actor: &Actor,
    ) -> Result<Run, StoreError> {
        let mut tx = self.begin().await?;
        let done = set_state(&mut tx, lane, state, actor).await;
        tx.finish(done).await
    }

    /// How many events a replay would send. Looks at a bounded number of them.
    pub(crate) async fn count_run(
        &self,
        destination: DestinationId,
        stretch: Stretch,
        filter: &Filter,
    ) -> Result<RunCount, StoreError> {
        let session = self.session().await?;
        Ok(count(&self.shared, &session, destination, stretch, filter).await?)
    }
}

async fn count(
    shared: &Shared,
    session: &Session,
    destination: DestinationId,
    stretch: Stretch,
    filter: &Filter,
) -> Result<RunCount> {
    let known = destinations::existing(shared, session, destination).await?;
    let shards = shards_of(shared, known);
    let tos = ends(session, known, &shards, stretch.until).await?;
    let starts = resolve_start(shared, session, stretch.from, &shards).await?;
    let mut counted = RunCount { complete: true, ..RunCount::default() };
    let mut looked = 0;
    for ((shard, from), to) in shards.iter().zip(starts).zip(tos) {
        for instance in instances_of(shared, session, known.number, *shard).await? {
            let mut at = sql(from);
            loop {
                // In pages, so that no snapshot stands for long.
                let rows = session
                    .query(
                        "SELECT seq, kind, head, received_at FROM journal \
                         WHERE instance = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT 2000",
                        &[&Fixed(instance.to_bytes()), &at, &sql(to)],
                    )
                    .await?;
                for row in &rows {
                    at = row.try_get(0)?;
                    looked += 1;
                    let (kind, facet) = row::kind_and_facet(row, 1, &shared.kinds)?;
                    if filter.matches(kind, facet.as_deref()) {
                        let received: Timestamp = time(row, 3)?;
                        counted.events += 1;
                        counted.first =
                            Some(counted.first.map_or(received, |first| first.min(received)));
                        counted.last = counted.last.max(Some(received));
                    }
                }
                if rows.is_empty() {
                    break;
                }
                if looked >= COUNTED {
                    counted.complete = false;
                    return Ok(counted);
                }
            }
        }
    }
    Ok(counted)
}
