//! Replays.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::json;
use zapbus_event::{DestinationId, Filter, Position, Timestamp};

use super::{
    Tx, View,
    accounts::write_audit,
    destinations::{filter_of, filter_text},
    fault::{Fault, Result},
    lanes::instances_of,
    read,
    row::{self, position, sql},
    settle,
};
use crate::{
    delivery::{LIVE, LaneId, Run, RunCount, RunState, Stretch},
    registry::{Actor, Start},
};

/// How many events a dry run looks at.
const COUNTED: usize = 200_000;
/// Runs of one destination that may be unfinished at a time.
const OPEN_RUNS: i64 = 16;

const RUN: &str = "l.run, l.from_seq, l.to_seq, l.filter, l.cursor, l.state, l.created_at";

fn state_text(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Paused => "paused",
        RunState::Done => "done",
        RunState::Cancelled => "cancelled",
    }
}

fn run(row: &Row<'_>, destination: DestinationId) -> Result<Run> {
    let state: String = row.get(5)?;
    let filter: Option<String> = row.get(3)?;
    Ok(Run {
        lane: LaneId { destination, run: row.get(0)? },
        from: position(row.get(1)?),
        to: position(row.get::<_, Option<i64>>(2)?.unwrap_or(0)),
        filter: filter_of(filter.as_deref().unwrap_or("[]"))?,
        cursor: position(row.get(4)?),
        state: match state.as_str() {
            "running" => RunState::Running,
            "paused" => RunState::Paused,
            "done" => RunState::Done,
            "cancelled" => RunState::Cancelled,
            other => return Err(Fault::malformed(format!("state {other:?} of a run"))),
        },
        created_at: Timestamp::from_millis(row.get(6)?),
    })
}

/// Where something starts, as a position.
pub(crate) fn resolve_start(view: View<'_>, start: Start, head: Position) -> Result<Position> {
    Ok(match start {
        Start::Now => head,
        Start::Beginning => {
            let first: Option<i64> = view
                .conn
                .query_row("SELECT seq FROM journal ORDER BY seq LIMIT 1", [], |row| row.get(0))
                .optional()?;
            first.map_or(head, |first| position(first - 1))
        }
        Start::Time(time) => read::position_at(view, time)?.min(head),
        Start::After(after) => after.min(head),
    })
}

/// The last position of a stretch: live delivery sends what lies beyond its cursor.
fn end_of(view: View<'_>, stretch: Stretch, live: Position) -> Result<Position> {
    Ok(match stretch.until {
        Some(until) => read::position_at(view, until)?.min(live),
        None => live,
    })
}

pub(crate) fn create_run(
    tx: &mut Tx<'_>,
    destination: DestinationId,
    stretch: Stretch,
    filter: &Filter,
    actor: &Actor,
) -> Result<Run> {
    let lane = LaneId { destination, run: LIVE };
    let number = tx.existing_lane(lane)?;
    let open: i64 = tx.conn.query_row(
        "SELECT count(*) FROM lane WHERE destination = ?1 AND run > 0 \
         AND state IN ('running', 'paused')",
        [number],
        |row| row.get(0),
    )?;
    if open >= OPEN_RUNS {
        return Err(Fault::refused(format!(
            "a destination may have {OPEN_RUNS} unfinished replays; cancel one or wait for one"
        )));
    }
    let live: i64 = tx.conn.query_row(
        "SELECT cursor FROM lane WHERE destination = ?1 AND run = 0",
        [number],
        |row| row.get(0),
    )?;
    let to = end_of(tx.view(), stretch, position(live))?;
    let from = resolve_start(tx.view(), stretch.from, tx.head())?.min(to);
    let run: u32 = tx.conn.query_row(
        "UPDATE destination SET runs = runs + 1 WHERE n = ?1 RETURNING runs",
        [number],
        |row| row.get(0),
    )?;
    tx.conn.execute(
        "INSERT INTO lane (destination, run, cursor, from_seq, to_seq, filter, created_at) \
         VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6)",
        params![number, run, sql(from), sql(to), filter_text(filter)?, tx.now.as_millis()],
    )?;
    let detail = json!({ "run": run, "from": from.0, "to": to.0 });
    audit(tx, destination, actor, "replay.create", detail)?;
    Ok(Run {
        lane: LaneId { destination, run },
        from,
        to,
        filter: filter.clone(),
        cursor: from,
        state: RunState::Running,
        created_at: tx.now,
    })
}

fn audit(
    tx: &mut Tx<'_>,
    destination: DestinationId,
    actor: &Actor,
    action: &str,
    detail: serde_json::Value,
) -> Result<()> {
    let account: [u8; 16] = tx.conn.query_row(
        "SELECT account FROM destination WHERE id = ?1",
        [destination.to_bytes()],
        |row| row.get(0),
    )?;
    let account = zapbus_event::AccountId::from_bytes(account);
    write_audit(tx, Some(account), actor, action, &destination.to_string(), &detail)
}

pub(crate) fn runs(view: View<'_>, destination: DestinationId) -> Result<Vec<Run>> {
    let number = settle::destination_number(view.conn, destination)?
        .ok_or_else(|| Fault::not_found("destination"))?;
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {RUN} FROM lane l WHERE l.destination = ?1 AND l.run > 0 ORDER BY l.run"
    ))?;
    let mut rows = statement.query([number])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(run(row, destination)?);
    }
    Ok(found)
}

/// Replays that are to go on when the process starts.
pub(crate) fn running(view: View<'_>) -> Result<Vec<LaneId>> {
    let mut statement = view.conn.prepare(
        "SELECT d.id, l.run FROM lane l INDEXED BY lane_replay \
         JOIN destination d ON d.n = l.destination \
         WHERE l.run > 0 AND l.state = 'running' AND d.deleted_at IS NULL",
    )?;
    let found = statement.query_map([], |row| {
        Ok(LaneId { destination: DestinationId::from_bytes(row.get(0)?), run: row.get(1)? })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

pub(crate) fn set_run_state(
    tx: &mut Tx<'_>,
    lane: LaneId,
    state: RunState,
    actor: &Actor,
) -> Result<Run> {
    let number = tx.existing_lane(lane)?;
    let before = one(tx.view(), number, lane)?;
    if before.state == state {
        return Ok(before);
    }
    if matches!(before.state, RunState::Done | RunState::Cancelled) {
        return Err(Fault::refused("the replay is over"));
    }
    tx.conn.execute(
        "UPDATE lane SET state = ?3 WHERE destination = ?1 AND run = ?2",
        params![number, lane.run, state_text(state)],
    )?;
    if state == RunState::Cancelled {
        tx.conn.execute(
            "UPDATE delivery SET status = 4, due = NULL, updated_at = ?3 \
             WHERE destination = ?1 AND run = ?2 AND status IN (1, 2)",
            params![number, lane.run, tx.now.as_millis()],
        )?;
    }
    let detail = json!({ "run": lane.run, "state": state_text(state) });
    audit(tx, lane.destination, actor, "replay.update", detail)?;
    Ok(Run { state, ..before })
}

fn one(view: View<'_>, number: i64, lane: LaneId) -> Result<Run> {
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {RUN} FROM lane l WHERE l.destination = ?1 AND l.run = ?2 AND l.run > 0"
    ))?;
    let mut rows = statement.query(params![number, lane.run])?;
    match rows.next()? {
        Some(row) => run(row, lane.destination),
        None => Err(Fault::not_found("replay")),
    }
}

/// How many events a replay would send. Looks at a bounded number of them.
pub(crate) fn count_run(
    view: View<'_>,
    destination: DestinationId,
    stretch: Stretch,
    filter: &Filter,
) -> Result<RunCount> {
    let number = settle::destination_number(view.conn, destination)?
        .ok_or_else(|| Fault::not_found("destination"))?;
    let live: i64 = view.conn.query_row(
        "SELECT cursor FROM lane WHERE destination = ?1 AND run = 0",
        [number],
        |row| row.get(0),
    )?;
    let live = sql(end_of(view, stretch, position(live))?);
    let from = resolve_start(view, stretch.from, view.shared.head())?;
    let mut counted = RunCount { complete: true, ..RunCount::default() };
    let mut looked = 0;
    for instance in instances_of(view, number)? {
        let mut at = sql(from);
        loop {
            // In pages, so that no snapshot stands for long.
            let mut statement = view.conn.prepare_cached(
                "SELECT seq, kind, head, received_at FROM journal \
                 WHERE instance = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT 2000",
            )?;
            let mut rows = statement.query(params![instance.to_bytes(), at, live])?;
            let before = at;
            while let Some(row) = rows.next()? {
                at = row.get(0)?;
                looked += 1;
                let (kind, facet) = row::kind_and_facet(row, 1, &view.shared.kinds)?;
                if filter.matches(kind, facet.as_deref()) {
                    let received = Timestamp::from_millis(row.get(3)?);
                    counted.events += 1;
                    counted.first =
                        Some(counted.first.map_or(received, |first| first.min(received)));
                    counted.last = counted.last.max(Some(received));
                }
            }
            if at == before {
                break;
            }
            if looked >= COUNTED {
                counted.complete = false;
                return Ok(counted);
            }
        }
    }
    Ok(counted)
}
