//! Taking events out of the journal, with what goes with them.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, params};
use zapbus_event::InstanceId;

use crate::{
    blob::Sha,
    elsewhere::GRACE_MS,
    pruning::Doomed,
    retention::Pruned,
    sqlite::{
        Tx,
        fault::Result,
        row::{self, Head, position},
        search::lanes_of,
    },
};

/// Deletes events, with their settled rows and the files only they refer to. Rows that were still
/// to be sent become `expired`.
pub(super) fn delete_events(tx: &mut Tx<'_>, doomed: &[Doomed], pruned: &mut Pruned) -> Result<()> {
    let (Some(first), Some(last)) = (doomed.first(), doomed.last()) else {
        return Ok(());
    };
    expire_rows(tx, doomed, first.seq, last.seq)?;
    pruned.deliveries += delete_log_of(tx, doomed)?;
    let mut full_retention = HashMap::<InstanceId, i64>::new();
    for event in doomed.iter().filter(|event| !row::is_ephemeral(event.flags)) {
        let upto = full_retention.entry(event.instance).or_default();
        *upto = event.seq.max(*upto);
    }
    for (instance, upto) in &full_retention {
        tx.conn
            .prepare_cached(
                "INSERT INTO instance_state (instance, pruned_upto) VALUES (?1, ?2) \
                 ON CONFLICT (instance) DO UPDATE SET \
                 pruned_upto = max(pruned_upto, excluded.pruned_upto)",
            )?
            .execute(params![instance.to_bytes(), upto])?;
    }
    if let Some(upto) = full_retention.values().max() {
        raise_meta(tx, "pruned_upto", *upto)?;
    }
    remove_events(tx, doomed)?;
    pruned.events += doomed.len() as u64;
    Ok(())
}

/// Removes events from the journal, and the files only they refer to.
pub(crate) fn remove_events(tx: &mut Tx<'_>, doomed: &[Doomed]) -> Result<()> {
    let mut newest = HashMap::<InstanceId, i64>::new();
    for event in doomed {
        if row::has_blobs(event.flags) {
            release_blobs(tx, event.seq)?;
        }
        tx.conn.prepare_cached("DELETE FROM journal WHERE seq = ?1")?.execute([event.seq])?;
        tx.pending.gone_events.push(position(event.seq));
        let last = newest.entry(event.instance).or_default();
        *last = event.received_at.max(*last);
    }
    for (instance, last_event_at) in newest {
        tx.conn
            .prepare_cached(
                "INSERT INTO instance_state (instance, last_event_at) VALUES (?1, ?2) \
                 ON CONFLICT (instance) DO UPDATE SET \
                 last_event_at = max(ifnull(last_event_at, 0), excluded.last_event_at)",
            )?
            .execute(params![instance.to_bytes(), last_event_at])?;
    }
    // The numbers go on from here even if the journal is empty at the next start.
    raise_meta(tx, "head", row::sql(tx.head()))?;
    raise_meta(tx, "received_at", tx.now.as_millis())
}

fn raise_meta(tx: &Tx<'_>, name: &str, value: i64) -> Result<()> {
    tx.conn
        .prepare_cached("UPDATE meta SET value = max(value, ?2) WHERE name = ?1")?
        .execute(params![name, value])?;
    Ok(())
}

fn expire_rows(tx: &mut Tx<'_>, doomed: &[Doomed], first: i64, last: i64) -> Result<()> {
    let gone: HashSet<i64> = doomed.iter().map(|event| event.seq).collect();
    let open: Vec<(i64, i64)> = tx
        .conn
        .prepare_cached(
            "SELECT n, seq FROM delivery INDEXED BY delivery_open \
             WHERE status BETWEEN 1 AND 3 AND seq BETWEEN ?1 AND ?2 AND status != 3",
        )?
        .query_map([first, last], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (n, _) in open.iter().filter(|(_, seq)| gone.contains(seq)) {
        tx.conn
            .prepare_cached(
                "UPDATE delivery SET status = 5, due = NULL, upto = seq, lost = 1, \
                 updated_at = ?2 WHERE n = ?1",
            )?
            .execute([*n, tx.now.as_millis()])?;
    }
    Ok(())
}

/// The log is kept no longer than its event, except for what says that something was lost.
fn delete_log_of(tx: &mut Tx<'_>, doomed: &[Doomed]) -> Result<u64> {
    let mut by_instance = HashMap::<InstanceId, Vec<i64>>::new();
    for event in doomed {
        by_instance.entry(event.instance).or_default().push(event.seq);
    }
    let mut deleted = 0;
    for (instance, seqs) in by_instance {
        let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else {
            continue;
        };
        for (destination, run) in lanes_of(tx.view(), instance)? {
            let settled: Vec<(i64, i64)> = tx
                .conn
                .prepare_cached(
                    "SELECT n, seq FROM delivery WHERE destination = ?1 AND run = ?2 \
                     AND seq BETWEEN ?3 AND ?4 AND status IN (0, 3, 4)",
                )?
                .query_map(params![destination, run, first, last], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect::<Result<_, _>>()?;
            for (n, seq) in settled {
                if seqs.binary_search(&seq).is_err() {
                    continue;
                }
                tx.conn.prepare_cached("DELETE FROM delivery WHERE n = ?1")?.execute([n])?;
                tx.conn
                    .prepare_cached(
                        "DELETE FROM attempt WHERE destination = ?1 AND run = ?2 AND seq = ?3",
                    )?
                    .execute(params![destination, run, seq])?;
                deleted += 1;
            }
        }
    }
    Ok(deleted)
}

/// Counts down the files an event refers to; those nothing refers to any more go after the commit.
fn release_blobs(tx: &mut Tx<'_>, seq: i64) -> Result<()> {
    let head: Vec<u8> = tx
        .conn
        .prepare_cached("SELECT head FROM journal WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))?;
    for blob in Head::parse(&head)?.blobs {
        release_blob(tx, blob.sha)?;
    }
    Ok(())
}

/// Counts down one file.
pub(crate) fn release_blob(tx: &mut Tx<'_>, sha: Sha) -> Result<()> {
    let left: Option<(i64, i64, bool, i64)> = tx
        .conn
        .prepare_cached(
            "UPDATE blob SET refs = refs - 1 WHERE sha256 = ?1 \
             RETURNING refs, bytes, object IS NULL, touched",
        )?
        .query_row([sha], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((..=0, bytes, is_here, touched)) = left else { return Ok(()) };
    if !is_here {
        // Its row stays until it was deleted where it lies.
        tx.pending.gone_objects += 1;
        return Ok(());
    }
    tx.pending.blob_bytes -= bytes;
    // Else somebody is about to refer to it.
    if touched < tx.now.as_millis() - GRACE_MS {
        tx.conn.prepare_cached("DELETE FROM blob WHERE sha256 = ?1")?.execute([sha])?;
        tx.pending.gone_blobs.push(sha);
    }
    Ok(())
}
