//! What is neither event nor delivery: whole bodies, deduplication keys, answers, the audit log,
//! files nobody refers to.

use std::time::Duration;

use zapbus_event::{AuditId, Timestamp};

use super::{Ages, Left, Progress, log};
use crate::{
    retention::Pruned,
    sqlite::{
        Tx,
        fault::Result,
        row::{self, limit},
    },
};

/// How often the folders of blobs are looked through.
const SWEEP: Duration = Duration::from_secs(24 * 3600);
const SHELVES: u16 = 256;

/// Where these passes stand.
#[derive(Clone, Default)]
pub(crate) struct Others {
    /// The time and row of the last body that was looked at.
    body_at: (i64, i64),
    /// The next of the folders of blobs that a crash may have left something in.
    shelf: u16,
    /// When the last of them was looked through.
    swept_at: Option<Timestamp>,
}

/// Whole bodies are kept as long as the events of their instance.
pub(super) fn bodies(
    tx: &mut Tx<'_>,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let young = ages.before(ages.shortest());
    loop {
        let wanted = left.page();
        let (time, row) = tx.memory.pruner.others.body_at;
        let page = tx
            .conn
            .prepare_cached(
                "SELECT rowid, instance, received_at FROM body \
                 WHERE (received_at, rowid) > (?1, ?2) AND received_at < ?3 \
                 ORDER BY received_at, rowid LIMIT ?4",
            )?
            .query_map([time, row, young, limit(wanted)], |row| {
                Ok((row.get::<_, i64>(0)?, row::instance_id(row, 1), row.get::<_, i64>(2)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        left.spend(page.len());
        let ended = page.len() < wanted;
        for (row, instance, received_at) in page {
            tx.memory.pruner.others.body_at = (received_at, row);
            if received_at < ages.before(ages.of(instance?)) {
                tx.conn.prepare_cached("DELETE FROM body WHERE rowid = ?1")?.execute([row])?;
                pruned.others += 1;
            }
        }
        if ended {
            tx.memory.pruner.others.body_at = (0, 0);
            return Ok(Progress::Round);
        }
        if left.is_used_up() {
            return Ok(Progress::Going);
        }
    }
}

/// Deduplication keys, answers, the audit log, secrets and destinations deleted long ago.
pub(super) fn small_things(
    tx: &mut Tx<'_>,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let window = tx.shared.dedup_window;
    let mut more = tx.memory.dedup.expire(tx.conn, &mut tx.pending.dedup, ages.now - window)?;
    let (now, rows) = (tx.now, left.page());
    more |= tx.memory.dedup.tend(tx.conn, &mut tx.pending.dedup, now, rows)?;

    let policy = ages.policy;
    let mut delete = |query: &str, before: &dyn rusqlite::ToSql| -> Result<bool> {
        let rows = left.page();
        let before = rusqlite::params![before, limit(rows)];
        let gone = tx.conn.prepare_cached(query)?.execute(before)?;
        left.spend(gone);
        pruned.others += gone as u64;
        Ok(gone == rows)
    };
    more |= delete(
        "DELETE FROM answer WHERE (caller, key) IN (SELECT caller, key FROM answer \
         WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)",
        &ages.before(policy.answers),
    )?;
    // Its ids are in order of time.
    let first_kept = AuditId::new(ages.now - policy.audit, 0);
    more |= delete(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < ?1 ORDER BY id LIMIT ?2)",
        &first_kept.to_bytes(),
    )?;
    more |= delete(
        "DELETE FROM credential_secret WHERE hash IN (SELECT hash FROM credential_secret \
         WHERE expires_at < ?1 LIMIT ?2)",
        &ages.before(policy.audit),
    )?;
    more |= log::forget_destinations(tx, ages)?;
    Ok(if more { Progress::Going } else { Progress::Round })
}

/// Files of the blob folder that no event refers to: one folder in a turn, each once a day.
pub(super) fn leftovers(
    tx: &mut Tx<'_>,
    _: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let others = &mut tx.memory.pruner.others;
    let Ok(shelf) = u8::try_from(others.shelf) else {
        if others.swept_at.is_none_or(|last| tx.now.since(last) >= SWEEP) {
            others.shelf = 0;
            return Ok(Progress::Going);
        }
        return Ok(Progress::Round);
    };
    others.shelf += 1;
    if others.shelf == SHELVES {
        others.swept_at = Some(tx.now);
    }
    let referenced = |sha: &crate::blob::Sha| {
        tx.conn
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM blob WHERE sha256 = ?1)")
            .and_then(|mut statement| statement.query_row([sha], |row| row.get(0)))
            // In doubt a file stays.
            .unwrap_or(true)
    };
    match tx.shared.blobs.sweep(shelf, referenced) {
        Ok(removed) => {
            pruned.others += removed;
            left.spend(usize::try_from(removed).unwrap_or(usize::MAX));
        }
        Err(error) => {
            tracing::warn!(event = "blob.not_swept", %error, "the blob folder could not be swept")
        }
    }
    Ok(if tx.memory.pruner.others.shelf < SHELVES { Progress::Going } else { Progress::Round })
}
