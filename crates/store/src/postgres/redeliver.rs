//! Sending again by hand. Any node may write such a row; the one that runs the lane is told.

use serde_json::json;
use zapbus_event::Timestamp;

use super::{
    Engine, Tx, destinations,
    row::{int, sql},
    runs,
};
use crate::{
    StoreError,
    delivery::{DeliveryId, LIVE, Redelivery},
    fault::{Fault, Result},
    registry::Actor,
};

/// How often the same deliveries are tried.
const TRIES: usize = 4;

/// Makes deliveries due, in one call: nobody waits for us between two of them. Rows are locked in one
/// order, whatever order they are asked for in.
async fn make_due(tx: &Tx, ids: &[DeliveryId], now: Timestamp) -> Result<Vec<Redelivery>> {
    let mut wanted = Vec::with_capacity(ids.len());
    for (ordinal, id) in ids.iter().enumerate() {
        let known = destinations::known(&tx.shared, &tx.session, id.lane.destination).await?;
        if let Some(known) = known {
            let shard = i32::from(known.shard(id.shard).0);
            wanted.push((known.number, int(id.lane.run), shard, sql(id.seq), ordinal as i64));
        }
    }
    wanted.sort_unstable();
    let destinations: Vec<i64> = wanted.iter().map(|row| row.0).collect();
    let runs: Vec<i32> = wanted.iter().map(|row| row.1).collect();
    let shards: Vec<i32> = wanted.iter().map(|row| row.2).collect();
    let positions: Vec<i64> = wanted.iter().map(|row| row.3).collect();
    let ordinals: Vec<i64> = wanted.iter().map(|row| row.4).collect();
    // A replay is kept as it is to the end of the transaction: nobody cancels it meanwhile.
    let of_replays = ids.iter().any(|id| id.lane.run != LIVE);
    let keep = if of_replays { "FOR SHARE" } else { "" };
    // A row that is to be retried anyway keeps its place in the order; others are outside of it.
    let rows = tx
        .session
        .query(
            &format!(
                "WITH wanted AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::int[], \
                     $4::int[], $5::bigint[]) AS w(ord, destination, run, shard, seq)), \
                 known AS (SELECT w.ord, w.run > 0 AND l.state = 'cancelled' AS called_off, \
                     d.destination, d.run, d.shard, d.seq, d.class, d.event_at, \
                     EXISTS (SELECT 1 FROM journal j WHERE j.shard = d.shard AND j.seq = d.seq \
                         AND j.class = d.class AND j.received_at = d.event_at) AS there \
                     FROM wanted w \
                     CROSS JOIN LATERAL (SELECT l.state FROM lane l \
                         WHERE l.destination = w.destination AND l.run = w.run {keep}) l \
                     CROSS JOIN LATERAL (SELECT * FROM delivery d \
                         WHERE d.destination = w.destination AND d.run = w.run \
                         AND d.shard = w.shard AND d.seq = w.seq LIMIT 1 FOR UPDATE) d), \
                 changed AS (UPDATE delivery d SET \
                     manual = CASE WHEN d.status = 1 THEN d.manual ELSE true END, \
                     parts_done = CASE WHEN d.status = 0 THEN 0 ELSE d.parts_done END, \
                     reason = NULL, upto = NULL, lost = NULL, status = 1, due = $6, \
                     updated_at = $7 \
                     FROM known k WHERE d.destination = k.destination AND d.run = k.run \
                     AND d.shard = k.shard AND d.seq = k.seq AND d.class = k.class \
                     AND d.event_at = k.event_at AND d.status <> 5 AND k.there \
                     AND NOT k.called_off RETURNING k.ord) \
                 SELECT k.ord, k.called_off, c.ord IS NOT NULL FROM known k \
                 LEFT JOIN changed c ON c.ord = k.ord"
            ),
            &[
                &ordinals,
                &destinations,
                &runs,
                &shards,
                &positions,
                &now.as_millis(),
                &tx.now.as_millis(),
            ],
        )
        .await?;
    let mut outcomes = vec![Redelivery::None; ids.len()];
    for row in &rows {
        let ordinal: i64 = row.try_get(0)?;
        let outcome = usize::try_from(ordinal).ok().and_then(|at| outcomes.get_mut(at));
        let Some(outcome) = outcome else { continue };
        *outcome = match (row.try_get(1)?, row.try_get(2)?) {
            (true, _) => Redelivery::CalledOff,
            (false, true) => Redelivery::Due,
            (false, false) => Redelivery::Expired,
        };
    }
    Ok(outcomes)
}

async fn redeliver(tx: &mut Tx, id: DeliveryId, now: Timestamp, actor: &Actor) -> Result<()> {
    match make_due(tx, &[id], now).await?.first() {
        Some(Redelivery::Due) => audit(tx, id, actor, 1).await,
        Some(Redelivery::Expired) => Err(Fault::Store(StoreError::EventExpired)),
        Some(Redelivery::CalledOff) => Err(Fault::refused(
            "its replay was cancelled: send the event again from its live delivery, or replay anew",
        )),
        Some(Redelivery::None) | None => Err(Fault::not_found("delivery")),
    }
}

async fn audit(tx: &mut Tx, id: DeliveryId, actor: &Actor, deliveries: usize) -> Result<()> {
    let detail = json!({ "deliveries": deliveries });
    let target = id.to_string();
    runs::audit_of(tx, id.lane.destination, actor, ("delivery.retry", &target), detail).await
}

async fn redeliver_some(
    tx: &mut Tx,
    ids: &[DeliveryId],
    now: Timestamp,
    actor: &Actor,
) -> Result<Vec<Redelivery>> {
    let outcomes = make_due(tx, ids, now).await?;
    for (id, outcome) in ids.iter().zip(&outcomes) {
        if *outcome == Redelivery::Due {
            tx.tell(crate::Change::Destination(id.lane.destination));
        }
    }
    let due = outcomes.iter().filter(|outcome| **outcome == Redelivery::Due).count();
    if let Some(first) = ids.first().filter(|_| due > 0) {
        audit(tx, *first, actor, due).await?;
    }
    Ok(outcomes)
}

impl Engine {
    pub(crate) async fn redeliver(
        &self,
        id: DeliveryId,
        now: Timestamp,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = redeliver(&mut tx, id, now, actor).await;
        tx.finish(done).await
    }

    /// A small number of deliveries in one commit.
    pub(crate) async fn redeliver_some(
        &self,
        ids: &[DeliveryId],
        now: Timestamp,
        actor: &Actor,
    ) -> Result<Vec<Redelivery>, StoreError> {
        let mut tries = 0;
        loop {
            let mut tx = self.begin().await?;
            let done = redeliver_some(&mut tx, ids, now, actor).await;
            tries += 1;
            // It had to give way to a settlement of the same rows.
            let again =
                matches!(done, Err(Fault::Conflict(_) | Fault::Contended(_))) && tries < TRIES;
            let done = tx.finish(done).await;
            if !again {
                return done;
            }
        }
    }
}
