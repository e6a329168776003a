//! Taking events out of the journal, with what goes with them.

use std::collections::HashMap;

use zapbus_event::{Position, Timestamp};

use crate::{
    ShardId,
    elsewhere::GRACE_MS,
    fault::Result,
    postgres::{
        Tx,
        pool::Session,
        row::{Fixed, Head, count, has_blobs, is_ephemeral, position},
    },
    pruning::Doomed,
    retention::Pruned,
};

/// Deletes events, with their settled rows. Rows that were still to be sent become `expired`. Gives
/// the positions that went.
pub(super) async fn delete_events(
    tx: &mut Tx,
    shard: ShardId,
    doomed: &[Doomed],
    pruned: &mut Pruned,
) -> Result<Vec<Position>> {
    let (seqs, times): (Vec<i64>, Vec<i64>) =
        doomed.iter().map(|event| (event.seq, event.received_at)).unzip();
    let session = &tx.session;
    let (number, now) = (i32::from(shard.0), tx.now.as_millis());
    let gone = session
            .one(
                "WITH doomed AS (SELECT * FROM unnest($2::bigint[], $3::bigint[]) AS u(seq, at)), \
                 expired AS (UPDATE delivery d SET status = 5, due = NULL, upto = d.seq, lost = 1, \
                     updated_at = $4 FROM doomed g WHERE d.shard = $1 AND d.seq = g.seq \
                     AND d.status IN (1, 2) RETURNING 1), \
                 logged AS (DELETE FROM delivery d USING doomed g WHERE d.shard = $1 \
                     AND d.seq = g.seq AND d.event_at = g.at AND d.status IN (0, 3, 4) RETURNING 1), \
                 attempts AS (DELETE FROM attempt a USING doomed g WHERE a.shard = $1 \
                     AND a.seq = g.seq AND a.event_at = g.at AND NOT EXISTS (SELECT 1 \
                     FROM delivery d WHERE d.destination = a.destination AND d.run = a.run \
                     AND d.shard = a.shard AND d.seq = a.seq AND d.status IN (1, 2, 5))) \
                 SELECT count(*) FROM logged",
                &[&number, &seqs, &times, &now],
            )
            .await?;
    pruned.deliveries += count(gone.try_get(0)?);
    let full = doomed.iter().filter(|event| !is_ephemeral(event.flags));
    for event in full {
        tx.noted.pruned(shard, event);
    }
    let (removed, _) = remove_events(tx, shard, doomed).await?;
    pruned.events += doomed.len() as u64;
    Ok(removed)
}

/// Removes events from the journal, and the binaries only they refer to.
pub(in crate::postgres) async fn remove_events(
    tx: &mut Tx,
    shard: ShardId,
    doomed: &[Doomed],
) -> Result<(Vec<Position>, u64)> {
    let blobs = release_blobs(tx, shard, doomed).await?;
    let (seqs, times): (Vec<i64>, Vec<i64>) =
        doomed.iter().map(|event| (event.seq, event.received_at)).unzip();
    tx.session
        .execute(
            "DELETE FROM journal j USING unnest($2::bigint[], $3::bigint[]) AS g(seq, at) \
             WHERE j.shard = $1 AND j.seq = g.seq AND j.received_at = g.at",
            &[&i32::from(shard.0), &seqs, &times],
        )
        .await?;
    for event in doomed {
        tx.noted.removed(shard, event);
    }
    Ok((seqs.into_iter().map(position).collect(), blobs))
}

/// Counts down what events refer to. Gives how many binaries went.
async fn release_blobs(tx: &Tx, shard: ShardId, doomed: &[Doomed]) -> Result<u64> {
    let seqs: Vec<i64> =
        doomed.iter().filter(|event| has_blobs(event.flags)).map(|event| event.seq).collect();
    if seqs.is_empty() {
        return Ok(0);
    }
    let rows = tx
        .session
        .query(
            "SELECT head FROM journal WHERE shard = $1 AND seq = ANY ($2)",
            &[&i32::from(shard.0), &seqs],
        )
        .await?;
    let mut fewer = HashMap::<[u8; 32], i64>::new();
    for row in &rows {
        for reference in Head::parse(row.try_get(0)?)?.blobs {
            *fewer.entry(reference.sha).or_default() += 1;
        }
    }
    let (shas, counts): (Vec<Fixed<32>>, Vec<i64>) =
        fewer.into_iter().map(|(sha, count)| (Fixed(sha), count)).unzip();
    count_down(&tx.session, &shas, &counts, tx.now).await
}

/// The share of events in the binaries they refer to, by their place in the page.
pub(super) async fn binaries_of(
    tx: &Tx,
    shard: ShardId,
    page: &[Doomed],
) -> Result<Vec<(usize, u64)>> {
    let mut shares = Vec::new();
    for (at, event) in page.iter().enumerate().filter(|(_, event)| has_blobs(event.flags)) {
        let row = tx
            .session
            .one(
                "SELECT head FROM journal WHERE shard = $1 AND seq = $2 AND received_at = $3",
                &[&i32::from(shard.0), &event.seq, &event.received_at],
            )
            .await?;
        let shas: Vec<Fixed<32>> = Head::parse(row.try_get(0)?)?
            .blobs
            .iter()
            .map(|reference| Fixed(reference.sha))
            .collect();
        let row = tx
            .session
            .one(
                "SELECT coalesce(sum(bytes / greatest(refs, 1)), 0)::bigint FROM blob \
                 WHERE sha256 = ANY ($1)",
                &[&shas],
            )
            .await?;
        shares.push((at, count(row.try_get(0)?)));
    }
    Ok(shares)
}

/// Takes away references. Gives how many binaries went.
pub(in crate::postgres) async fn count_down(
    session: &Session,
    shas: &[Fixed<32>],
    counts: &[i64],
    now: Timestamp,
) -> Result<u64> {
    session
        .execute(
            "UPDATE blob b SET refs = refs - u.fewer \
             FROM unnest($1::bytea[], $2::bigint[]) AS u(sha, fewer) WHERE b.sha256 = u.sha",
            &[&shas, &counts],
        )
        .await?;
    // The others stay until they were deleted where they lie, or nobody is about to refer to them.
    let row = session
        .one(
            "WITH gone AS (SELECT sha256, object IS NULL AND touched < $2 AS at_once FROM blob \
             WHERE sha256 = ANY ($1) AND refs <= 0), \
             deleted AS (DELETE FROM blob b USING gone g WHERE b.sha256 = g.sha256 AND g.at_once) \
             SELECT count(*) FROM gone",
            &[&shas, &(now.as_millis() - GRACE_MS)],
        )
        .await?;
    Ok(count(row.try_get(0)?))
}
