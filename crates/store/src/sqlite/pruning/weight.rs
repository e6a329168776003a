//! What events weigh: about how much space is free again when they are gone.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};
use zapbus_event::InstanceId;

use crate::pruning::Doomed;
use crate::sqlite::{
    Tx,
    fault::Result,
    row::{self, Head, count},
    search::lanes_of,
};

/// Bytes of a page, and those of it that hold rows.
const PAGE: u64 = 4096;
const USABLE: u64 = PAGE - 12;
/// The rest of a journal row, and its entry in the index.
const EVENT: u64 = 64;
const EVENT_INDEX: u64 = 36;
/// A row of the delivery log with its index entries, apart from what the receiver answered.
const DELIVERY: u64 = 160;
const ATTEMPT: u64 = 60;

/// The space a row takes: rows share a page only if they fit, and what does not fit has its own.
fn space(row: u64) -> u64 {
    // A row that is too large keeps about a tenth to an eighth of a page at its place.
    let (here, elsewhere) =
        if row > USABLE { (PAGE / 8, row.div_ceil(PAGE) * PAGE) } else { (row, 0) };
    PAGE / (USABLE / here.max(1)).max(1) + elsewhere
}

/// The weights of a page of events.
pub(super) fn weigh(tx: &Tx<'_>, page: &[Doomed]) -> Result<Vec<u64>> {
    let logs = log_of(tx, page)?;
    let mut weights = Vec::with_capacity(page.len());
    for event in page {
        let row: i64 = tx
            .conn
            .prepare_cached(
                "SELECT length(head) + length(data) + ifnull(length(raw), 0) FROM journal \
                 WHERE seq = ?1",
            )?
            .query_row([event.seq], |row| row.get(0))?;
        let mut weight = space(count(row) + EVENT) + EVENT_INDEX;
        weight += logs.get(&event.seq).copied().unwrap_or_default();
        if row::has_blobs(event.flags) {
            weight += files_of(tx, event.seq)?;
        }
        weights.push(weight);
    }
    Ok(weights)
}

/// The share of an event in the files it refers to.
fn files_of(tx: &Tx<'_>, seq: i64) -> Result<u64> {
    let head: Vec<u8> = tx
        .conn
        .prepare_cached("SELECT head FROM journal WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))?;
    let mut bytes = 0;
    for blob in Head::parse(&head)?.blobs {
        let share: Option<i64> = tx
            .conn
            .prepare_cached("SELECT bytes / max(refs, 1) FROM blob WHERE sha256 = ?1")?
            .query_row([blob.sha], |row| row.get(0))
            .optional()?;
        bytes += count(share.unwrap_or_default());
    }
    Ok(bytes)
}

/// What the delivery log has of each event.
fn log_of(tx: &Tx<'_>, page: &[Doomed]) -> Result<HashMap<i64, u64>> {
    let mut weights = HashMap::<i64, u64>::new();
    let (Some(first), Some(last)) = (page.first(), page.last()) else {
        return Ok(weights);
    };
    let mut instances: Vec<InstanceId> = page.iter().map(|event| event.instance).collect();
    instances.sort_unstable();
    instances.dedup();
    let mut lanes = Vec::new();
    for instance in instances {
        lanes.extend(lanes_of(tx.view(), instance)?);
    }
    // A global destination's are there once for each instance.
    lanes.sort_unstable();
    lanes.dedup();
    let mut deliveries = tx.conn.prepare_cached(
        "SELECT seq, ifnull(length(excerpt), 0) + ifnull(length(error), 0), attempts FROM delivery \
         WHERE destination = ?1 AND run = ?2 AND seq BETWEEN ?3 AND ?4",
    )?;
    let mut attempts = tx.conn.prepare_cached(
        "SELECT sum(length(excerpt) + length(request_headers) + length(response_headers) \
         + ifnull(length(error), 0) + ?4) FROM attempt \
         WHERE destination = ?1 AND run = ?2 AND seq = ?3",
    )?;
    for (destination, run) in lanes {
        let mut rows = deliveries.query(params![destination, run, first.seq, last.seq])?;
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            let weight = weights.entry(seq).or_default();
            *weight += DELIVERY + count(row.get(1)?);
            if row.get::<_, i64>(2)? > 0 {
                let failed: Option<i64> = attempts
                    .query_row(params![destination, run, seq, count_sql(ATTEMPT)], |row| {
                        row.get(0)
                    })?;
                *weight += count(failed.unwrap_or_default());
            }
        }
    }
    Ok(weights)
}

fn count_sql(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_share_pages_as_far_as_they_fit() {
        assert!(space(100) < 110);
        assert_eq!(space(2_100), PAGE, "two of them need two pages");
        assert_eq!(space(1_900), PAGE / 2);
        assert!((100_000..110_000).contains(&space(100_000)));
    }
}
