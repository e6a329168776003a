//! The delivery log.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};

use super::{Ages, Left, Progress};
use crate::{
    retention::Pruned,
    sqlite::{Tx, fault::Result, row::limit},
};

/// Deleted destinations that go in one step.
const FORGOTTEN: i64 = 20;

/// Walks through the log, oldest rows first.
pub(super) fn by_age(
    tx: &mut Tx<'_>,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let young = ages.before(ages.policy.log);
    let dead_young = ages.before(ages.policy.dead.max(ages.policy.log));
    let mut cursors = HashMap::new();
    loop {
        let wanted = left.page();
        let mut page = lines(tx, wanted)?;
        page.truncate(page.partition_point(|line| line.created_at < young));
        left.spend(page.len());
        for line in &page {
            tx.memory.pruner.log_at = line.n;
            let old = match line.status {
                0 | 4 | 5 => line.updated_at < young,
                // A dead letter is kept as long as its event.
                3 => line.updated_at < dead_young,
                _ => false,
            };
            if !old {
                continue;
            }
            // Beyond the cursor a row is what keeps its event from being sent again.
            let cursor = match cursors.get(&(line.destination, line.run)) {
                Some(cursor) => *cursor,
                None => {
                    let cursor = cursor(tx, line.destination, line.run)?;
                    cursors.insert((line.destination, line.run), cursor);
                    cursor
                }
            };
            if line.seq <= cursor {
                delete(tx, line)?;
                pruned.deliveries += 1;
            }
        }
        if page.len() < wanted {
            tx.memory.pruner.log_at = 0;
            return Ok(Progress::Round);
        }
        if left.is_used_up() {
            return Ok(Progress::Going);
        }
    }
}

fn lines(tx: &Tx<'_>, wanted: usize) -> Result<Vec<Line>> {
    let mut statement = tx.conn.prepare_cached(
        "SELECT n, destination, run, seq, status, created_at, updated_at FROM delivery \
         WHERE n > ?1 ORDER BY n LIMIT ?2",
    )?;
    let rows = statement.query_map(params![tx.memory.pruner.log_at, limit(wanted)], |row| {
        Ok(Line {
            n: row.get(0)?,
            destination: row.get(1)?,
            run: row.get(2)?,
            seq: row.get(3)?,
            status: row.get(4)?,
            created_at: row.get(5)?,
            updated_at: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

struct Line {
    n: i64,
    destination: i64,
    run: i64,
    seq: i64,
    status: i64,
    created_at: i64,
    updated_at: i64,
}

/// A lane's cursor; beyond all when the lane is gone for good.
fn cursor(tx: &Tx<'_>, destination: i64, run: i64) -> Result<i64> {
    let cursor = tx
        .conn
        .prepare_cached(
            "SELECT iif(d.deleted_at IS NULL AND l.state IN ('running', 'paused'), l.cursor, NULL) \
             FROM lane l JOIN destination d ON d.n = l.destination \
             WHERE l.destination = ?1 AND l.run = ?2",
        )?
        .query_row([destination, run], |row| row.get::<_, Option<i64>>(0))
        .optional()?
        .flatten();
    Ok(cursor.unwrap_or(i64::MAX))
}

fn delete(tx: &Tx<'_>, line: &Line) -> Result<()> {
    tx.conn.prepare_cached("DELETE FROM delivery WHERE n = ?1")?.execute([line.n])?;
    tx.conn
        .prepare_cached("DELETE FROM attempt WHERE destination = ?1 AND run = ?2 AND seq = ?3")?
        .execute([line.destination, line.run, line.seq])?;
    Ok(())
}

/// Forgets deleted destinations whose rows have left the log. True when there may be more.
pub(super) fn forget_destinations(tx: &mut Tx<'_>, ages: &Ages<'_>) -> Result<bool> {
    let gone: Vec<i64> = tx
        .conn
        .prepare_cached(
            "SELECT n FROM destination d WHERE deleted_at IS NOT NULL AND deleted_at < ?1 \
             AND NOT EXISTS (SELECT 1 FROM delivery WHERE destination = d.n) LIMIT ?2",
        )?
        .query_map([ages.before(ages.policy.log), FORGOTTEN], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for n in &gone {
        for query in [
            "DELETE FROM lane WHERE destination = ?1",
            "DELETE FROM attempt WHERE destination = ?1",
            "DELETE FROM destination_spec WHERE n = ?1",
            "DELETE FROM destination WHERE n = ?1",
        ] {
            tx.conn.prepare_cached(query)?.execute([n])?;
        }
    }
    Ok(i64::try_from(gone.len()).is_ok_and(|gone| gone == FORGOTTEN))
}
