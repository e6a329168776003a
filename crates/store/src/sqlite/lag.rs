//! How far lanes are behind. Nothing here looks at more rows than it was told to.

use rusqlite::{OptionalExtension, params};
use zapbus_event::{Position, Timestamp};

use super::{
    View,
    fault::Result,
    lanes,
    row::{count, limit as sql_limit, position, sql},
};
use crate::{
    LaneId, LaneStats, Reader,
    lag::{Behind, Counted, Holdings},
};

/// For an account with more instances than this, everybody's events count.
const MERGED_INSTANCES: usize = 16;

const HELD_BY: &str = "SELECT seq FROM delivery INDEXED BY delivery_held \
     WHERE destination = ?1 AND run = ?2 AND status IN (1, 2)";

const HELD: &str = "SELECT 1 FROM delivery INDEXED BY delivery_held WHERE status IN (1, 2)";

const DEAD: &str = "SELECT 1 FROM delivery INDEXED BY delivery_dead WHERE status = 3";

/// See [`crate::Store::behind`].
pub(crate) fn behind(view: View<'_>, lane: LaneId, cursor: Position) -> Result<Behind> {
    let number = lanes::number(view, lane)?;
    let cap = i64::try_from(LaneStats::CAP).unwrap_or(i64::MAX);
    let (held, first_held): (i64, Option<i64>) = view
        .conn
        .prepare_cached(&format!("SELECT count(*), min(seq) FROM ({HELD_BY} LIMIT ?3)"))?
        .query_row(params![number, lane.run, cap], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let ahead = if lanes::instances_of(view, number)?.len() > MERGED_INSTANCES {
        view.conn
            .prepare_cached("SELECT seq FROM journal WHERE seq > ?1 ORDER BY seq LIMIT 1")?
            .query_row([sql(cursor)], |row| row.get(0))
            .optional()?
    } else {
        lanes::first_ahead(view, number, cursor)?
    };
    let mut oldest: Option<i64> = None;
    for seq in [first_held, ahead].into_iter().flatten() {
        let received_at: Option<i64> = view
            .conn
            .prepare_cached("SELECT received_at FROM journal WHERE seq = ?1")?
            .query_row([seq], |row| row.get(0))
            .optional()?;
        oldest = match (oldest, received_at) {
            (Some(oldest), Some(received_at)) => Some(oldest.min(received_at)),
            (oldest, received_at) => oldest.or(received_at),
        };
    }
    Ok(Behind { oldest: oldest.map(Timestamp::from_millis), held: count(held) })
}

/// See [`crate::Store::count_between`].
pub(crate) fn count_between(
    view: View<'_>,
    of: Reader,
    after: Position,
    upto: Position,
    limit: usize,
) -> Result<Counted> {
    let Reader::Instance(instance) = of else {
        return Ok(Counted { events: upto.0.saturating_sub(after.0), upto: upto.max(after) });
    };
    let (events, last): (i64, Option<i64>) = view
        .conn
        .prepare_cached(
            "SELECT count(*), max(seq) FROM (SELECT seq FROM journal INDEXED BY journal_instance \
             WHERE instance = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4)",
        )?
        .query_row(
            params![instance.to_bytes(), sql(after), sql(upto), sql_limit(limit)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
    let events = count(events);
    let complete = usize::try_from(events).is_ok_and(|events| events < limit);
    let upto = if complete { upto.max(after) } else { last.map_or(after, position) };
    Ok(Counted { events, upto })
}

/// See [`crate::Store::holdings`].
pub(crate) fn holdings(view: View<'_>) -> Result<Holdings> {
    let cap = i64::try_from(Holdings::CAP).unwrap_or(i64::MAX);
    let capped = |query: &str| -> Result<u64> {
        let found = view
            .conn
            .prepare_cached(&format!("SELECT count(*) FROM ({query} LIMIT ?1)"))?
            .query_row([cap], |row| row.get(0))?;
        Ok(count(found))
    };
    let oldest: Option<i64> = view
        .conn
        .prepare_cached("SELECT received_at FROM journal ORDER BY seq LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(Holdings {
        oldest_event: oldest.map(Timestamp::from_millis),
        held: capped(HELD)?,
        dead: capped(DEAD)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema::plan_of;

    #[test]
    fn watching_reads_indexes_only() {
        for query in [HELD, DEAD, HELD_BY] {
            let plan = plan_of(query);
            assert!(plan.contains("USING COVERING INDEX"), "{query}: {plan}");
        }
    }
}
