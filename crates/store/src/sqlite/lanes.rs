//! What lanes ask: where they stand, what is due.

use rusqlite::{OptionalExtension, Params, params};
use zapbus_event::{DestinationId, Position, Timestamp};

use super::{
    View,
    fault::{Fault, Result},
    row::{self, EVENT, count, limit, position, sql},
    settle,
};
use crate::{
    ShardId,
    delivery::{DueRow, HeldKey, LaneId, LaneStart, LaneStats, ShardStart},
};

/// The columns [`due_rows`] reads.
const DUE: &str = "d.seq, ifnull(d.due, d.created_at), d.attempts, d.parts_done, d.key, d.manual";

/// A lane's dead letters.
const DEAD: &str = "SELECT 1 FROM delivery INDEXED BY delivery_dead \
     WHERE destination = ?1 AND run = ?2 AND status = 3";

/// The number of a lane's destination, or `NotFound`.
pub(crate) fn number(view: View<'_>, lane: LaneId) -> Result<i64> {
    settle::destination_number(view.conn, lane.destination)?
        .ok_or_else(|| Fault::not_found("destination"))
}

/// What a lane needs to start, in one snapshot.
pub(crate) fn lane(view: View<'_>, lane: LaneId) -> Result<Option<LaneStart>> {
    let snapshot = view.conn.unchecked_transaction()?;
    let Some(number) = settle::destination_number(view.conn, lane.destination)? else {
        return Ok(None);
    };
    let mut statement = view.conn.prepare_cached(
        "SELECT cursor, probing_since, probes, next_probe FROM lane \
         WHERE destination = ?1 AND run = ?2",
    )?;
    let mut rows = statement.query(params![number, lane.run])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let cursor = position(row.get(0)?);
    let health = settle::health(row, 1)?;
    drop(rows);

    let mut statement = view.conn.prepare_cached(
        "SELECT seq FROM delivery WHERE destination = ?1 AND run = ?2 AND seq > ?3 ORDER BY seq",
    )?;
    let beyond = statement
        .query_map(params![number, lane.run, sql(cursor)], |row| row.get(0).map(position))?
        .collect::<Result<_, _>>()?;

    let mut statement = view.conn.prepare_cached(
        "SELECT key, min(seq), count(*), sum(status = 2) FROM delivery INDEXED BY delivery_held \
         WHERE destination = ?1 AND run = ?2 AND status IN (1, 2) AND manual = 0 \
         GROUP BY key",
    )?;
    let held = statement
        .query_map(params![number, lane.run], |row| {
            Ok(HeldKey {
                key: row.get::<_, i64>(0)?.cast_unsigned(),
                first: position(row.get(1)?),
                rows: count(row.get(2)?),
                waiting: count(row.get(3)?),
            })
        })?
        .collect::<Result<_, _>>()?;
    let next_due = next_due_of(view, number, lane.run)?;
    snapshot.finish()?;
    Ok(Some(LaneStart { cursor, health, beyond, held, next_due }))
}

/// The same, for whoever reads shard by shard: here there is one.
pub(crate) fn starts(view: View<'_>, id: LaneId) -> Result<Option<Vec<ShardStart>>> {
    let Some(start) = lane(view, id)? else {
        return Ok(None);
    };
    // A run never ends elsewhere than where it was made to end.
    let end: Option<i64> = view
        .conn
        .prepare_cached("SELECT to_seq FROM lane WHERE destination = ?1 AND run = ?2")?
        .query_row(params![number(view, id)?, id.run], |row| row.get(0))
        .optional()?
        .flatten();
    Ok(Some(vec![ShardStart { shard: ShardId::default(), end: end.map(position), start }]))
}

/// Where a lane stands.
pub(crate) fn cursors(view: View<'_>, lane: LaneId) -> Result<Vec<(ShardId, Position)>> {
    let Some(number) = settle::destination_number(view.conn, lane.destination)? else {
        return Ok(Vec::new());
    };
    let cursor: Option<i64> = view
        .conn
        .prepare_cached("SELECT cursor FROM lane WHERE destination = ?1 AND run = ?2")?
        .query_row(params![number, lane.run], |row| row.get(0))
        .optional()?;
    Ok(cursor.map(|cursor| (ShardId::default(), position(cursor))).into_iter().collect())
}

/// Runs that have something to send besides the journal.
pub(crate) fn runs_with_rows(view: View<'_>, destination: DestinationId) -> Result<Vec<u32>> {
    let Some(number) = settle::destination_number(view.conn, destination)? else {
        return Ok(Vec::new());
    };
    let mut statement = view.conn.prepare_cached(
        "SELECT DISTINCT run FROM delivery INDEXED BY delivery_held \
         WHERE destination = ?1 AND status IN (1, 2)",
    )?;
    Ok(statement.query_map([number], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn next_due_of(view: View<'_>, number: i64, run: u32) -> Result<Option<Timestamp>> {
    let due: Option<i64> = view
        .conn
        .prepare_cached(
            "SELECT due FROM delivery INDEXED BY delivery_due \
             WHERE destination = ?1 AND run = ?2 AND status = 1 ORDER BY due LIMIT 1",
        )?
        .query_row(params![number, run], |row| row.get(0))
        .optional()?;
    Ok(due.map(Timestamp::from_millis))
}

/// The earliest due time of a lane's retrying rows.
pub(crate) fn next_due(view: View<'_>, lane: LaneId) -> Result<Option<Timestamp>> {
    next_due_of(view, number(view, lane)?, lane.run)
}

/// Retrying rows whose time has come, by time, then position.
pub(crate) fn due(
    view: View<'_>,
    lane: LaneId,
    until: Timestamp,
    rows: usize,
) -> Result<Vec<DueRow>> {
    let number = number(view, lane)?;
    due_rows(
        view,
        &format!(
            "SELECT {DUE}, {EVENT} FROM delivery d INDEXED BY delivery_due \
             LEFT JOIN journal j ON j.seq = d.seq \
             WHERE d.destination = ?1 AND d.run = ?2 AND d.status = 1 AND d.due <= ?3 \
             ORDER BY d.due, d.seq LIMIT ?4"
        ),
        params![number, lane.run, until.as_millis(), limit(rows)],
    )
}

/// Waiting rows of one ordering key, by position.
pub(crate) fn waiting(view: View<'_>, lane: LaneId, key: u64, rows: usize) -> Result<Vec<DueRow>> {
    let number = number(view, lane)?;
    due_rows(
        view,
        &format!(
            "SELECT {DUE}, {EVENT} FROM delivery d INDEXED BY delivery_held \
             LEFT JOIN journal j ON j.seq = d.seq \
             WHERE d.destination = ?1 AND d.run = ?2 AND d.key = ?3 AND d.status IN (1, 2) \
             AND d.status = 2 ORDER BY d.seq LIMIT ?4"
        ),
        params![number, lane.run, key.cast_signed(), limit(rows)],
    )
}

fn due_rows(view: View<'_>, query: &str, params: impl Params) -> Result<Vec<DueRow>> {
    let mut statement = view.conn.prepare_cached(query)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let stored: Option<i64> = row.get(6)?;
        found.push(DueRow {
            event: stored.map(|_| row::event(row, 6, &view.shared.kinds)).transpose()?,
            shard: ShardId::default(),
            seq: position(row.get(0)?),
            due: Timestamp::from_millis(row.get(1)?),
            attempts: row.get(2)?,
            parts_done: row.get(3)?,
            key: row.get::<_, i64>(4)?.cast_unsigned(),
            manual: row.get(5)?,
        });
    }
    Ok(found)
}

/// Each lane with retrying rows and when the first of them is due; those with waiting rows are due
/// at once. Steps from lane to lane through
/// the index, so that 200,000 rows of one cost no more than one row.
pub(crate) fn lanes_due(view: View<'_>) -> Result<Vec<(LaneId, Timestamp)>> {
    let mut found = Vec::new();
    let mut last = (-1_i64, 0_i64);
    let mut next = view.conn.prepare(
        "SELECT destination, run, due FROM delivery INDEXED BY delivery_due \
         WHERE status = 1 AND (destination, run) > (?1, ?2) \
         ORDER BY destination, run, due LIMIT 1",
    )?;
    let mut id =
        view.conn.prepare("SELECT id FROM destination WHERE n = ?1 AND deleted_at IS NULL")?;
    loop {
        let step: Option<(i64, i64, i64)> = next
            .query_row([last.0, last.1], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((number, run, due)) = step else {
            break;
        };
        last = (number, run);
        let destination: Option<[u8; 16]> = id.query_row([number], |row| row.get(0)).optional()?;
        if let (Some(destination), Ok(run)) = (destination, u32::try_from(run)) {
            let destination = DestinationId::from_bytes(destination);
            found.push((LaneId { destination, run }, Timestamp::from_millis(due)));
        }
    }
    // Rows that wait for their turn have no time of their own: if nothing of their key is being
    // retried, it is their turn at once.
    let mut waiting = view.conn.prepare(
        "SELECT DISTINCT destination, run FROM delivery INDEXED BY delivery_held \
         WHERE status IN (1, 2) AND status = 2",
    )?;
    let mut rows = waiting.query([])?;
    while let Some(row) = rows.next()? {
        let (number, run): (i64, i64) = (row.get(0)?, row.get(1)?);
        let destination: Option<[u8; 16]> = id.query_row([number], |row| row.get(0)).optional()?;
        if let (Some(destination), Ok(run)) = (destination, u32::try_from(run)) {
            let destination = DestinationId::from_bytes(destination);
            found.push((LaneId { destination, run }, Timestamp::default()));
        }
    }
    Ok(found)
}

/// Where a lane stands, in numbers.
pub(crate) fn lane_stats(view: View<'_>, lane: LaneId) -> Result<LaneStats> {
    let number = number(view, lane)?;
    let snapshot = view.conn.unchecked_transaction()?;
    let cursor: i64 = view
        .conn
        .prepare_cached("SELECT cursor FROM lane WHERE destination = ?1 AND run = ?2")?
        .query_row(params![number, lane.run], |row| row.get(0))
        .optional()?
        .ok_or_else(|| Fault::not_found("run"))?;
    let capped = |query: &str| -> Result<u64> {
        let cap = i64::try_from(LaneStats::CAP).unwrap_or(i64::MAX);
        let found = view
            .conn
            .prepare_cached(&format!("SELECT count(*) FROM ({query} LIMIT ?3)"))?
            .query_row(params![number, lane.run, cap], |row| row.get(0))?;
        Ok(count(found))
    };
    let retrying = capped(
        "SELECT 1 FROM delivery INDEXED BY delivery_due \
         WHERE destination = ?1 AND run = ?2 AND status = 1",
    )?;
    let waiting = capped(
        "SELECT 1 FROM delivery INDEXED BY delivery_held \
         WHERE destination = ?1 AND run = ?2 AND status IN (1, 2) AND status = 2",
    )?;
    let dead = capped(DEAD)?;

    let held: Option<i64> = view
        .conn
        .prepare_cached(
            "SELECT min(seq) FROM delivery INDEXED BY delivery_held \
             WHERE destination = ?1 AND run = ?2 AND status IN (1, 2)",
        )?
        .query_row(params![number, lane.run], |row| row.get(0))?;
    let ahead = first_ahead(view, number, position(cursor))?;
    let received_at = |seq: i64| -> Result<Option<i64>> {
        Ok(view
            .conn
            .prepare_cached("SELECT received_at FROM journal WHERE seq = ?1")?
            .query_row([seq], |row| row.get(0))
            .optional()?)
    };
    let held = held.map(received_at).transpose()?.flatten();
    let ahead = ahead.map(received_at).transpose()?.flatten();
    let oldest_unsettled = match (held, ahead) {
        (Some(held), Some(ahead)) => Some(held.min(ahead)),
        (held, ahead) => held.or(ahead),
    };
    snapshot.finish()?;
    Ok(LaneStats {
        cursor: position(cursor),
        retrying,
        waiting,
        dead,
        oldest_unsettled: oldest_unsettled.map(Timestamp::from_millis),
    })
}

/// The first stored event beyond a cursor that belongs to the destination's instance or account
/// (whether its filter wants it or not).
pub(crate) fn first_ahead(view: View<'_>, number: i64, cursor: Position) -> Result<Option<i64>> {
    let mut first = None;
    for instance in instances_of(view, number)? {
        let found: Option<i64> = view
            .conn
            .prepare_cached(
                "SELECT seq FROM journal WHERE instance = ?1 AND seq > ?2 ORDER BY seq LIMIT 1",
            )?
            .query_row(params![instance.to_bytes(), sql(cursor)], |row| row.get(0))
            .optional()?;
        first = match (first, found) {
            (Some(first), Some(found)) => Some(i64::min(first, found)),
            (first, found) => first.or(found),
        };
    }
    Ok(first)
}

/// The instances whose events a destination sees.
pub(crate) fn instances_of(view: View<'_>, number: i64) -> Result<Vec<zapbus_event::InstanceId>> {
    let owner: Option<([u8; 16], Vec<u8>)> = view
        .conn
        .prepare_cached("SELECT account, instance FROM destination WHERE n = ?1")?
        .query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((account, instance)) = owner else {
        return Ok(Vec::new());
    };
    Ok(match <[u8; 16]>::try_from(instance) {
        Ok(instance) => vec![zapbus_event::InstanceId::from_bytes(instance)],
        Err(_) => {
            let account = zapbus_event::AccountId::from_bytes(account);
            view.shared.directory().of_account(account).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema::plan_of;

    #[test]
    fn counting_dead_letters_looks_at_no_other_lane() {
        let plan = plan_of(DEAD);
        assert!(
            plan.ends_with("INDEX delivery_dead (destination=? AND run=?)")
                && plan.starts_with("SEARCH"),
            "{plan}"
        );
    }
}
