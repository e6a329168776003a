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

async fn make_due(tx: &Tx, id: DeliveryId, now: Timestamp) -> Result<Redelivery> {
    let known = destinations::known(&tx.shared, &tx.session, id.lane.destination).await?;
    let Some(known) = known else {
        return Ok(Redelivery::None);
    };
    if id.lane.run != LIVE {
        // Kept as it is to the end of the transaction: nobody cancels it meanwhile.
        let state = tx
            .session
            .first(
                "SELECT state FROM lane WHERE destination = $1 AND run = $2 FOR SHARE",
                &[&known.number, &int(id.lane.run)],
            )
            .await?;
        if let Some(row) = state
            && row.try_get::<_, &str>(0)? == "cancelled"
        {
            return Ok(Redelivery::CalledOff);
        }
    }
    let shard = i32::from(known.shard(id.shard).0);
    // A row that is to be retried anyway keeps its place in the order; others are outside of it.
    let row = tx
        .session
        .one(
            "WITH stored AS (SELECT EXISTS (SELECT 1 FROM journal \
                 WHERE shard = $3 AND seq = $4) AS there), \
             known AS (SELECT status FROM delivery \
                 WHERE destination = $1 AND run = $2 AND shard = $3 AND seq = $4), \
             changed AS (UPDATE delivery SET \
                 manual = CASE WHEN status = 1 THEN manual ELSE true END, \
                 parts_done = CASE WHEN status = 0 THEN 0 ELSE parts_done END, \
                 reason = NULL, upto = NULL, lost = NULL, status = 1, due = $5, updated_at = $6 \
                 WHERE destination = $1 AND run = $2 AND shard = $3 AND seq = $4 AND status <> 5 \
                 AND (SELECT there FROM stored) RETURNING 1) \
             SELECT (SELECT count(*) FROM changed), (SELECT count(*) FROM known)",
            &[
                &known.number,
                &int(id.lane.run),
                &shard,
                &sql(id.seq),
                &now.as_millis(),
                &tx.now.as_millis(),
            ],
        )
        .await?;
    let (changed, there): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match (changed, there) {
        (0, 0) => Redelivery::None,
        (0, _) => Redelivery::Expired,
        _ => Redelivery::Due,
    })
}

async fn redeliver(tx: &mut Tx, id: DeliveryId, now: Timestamp, actor: &Actor) -> Result<()> {
    match make_due(tx, id, now).await? {
        Redelivery::Due => audit(tx, id, actor, 1).await,
        Redelivery::Expired => Err(Fault::Store(StoreError::EventExpired)),
        Redelivery::CalledOff => Err(Fault::refused(
            "its replay was cancelled: send the event again from its live delivery, or replay anew",
        )),
        Redelivery::None => Err(Fault::not_found("delivery")),
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
    let mut outcomes = Vec::with_capacity(ids.len());
    for id in ids {
        let outcome = make_due(tx, *id, now).await?;
        if outcome == Redelivery::Due {
            tx.tell(crate::Change::Destination(id.lane.destination));
        }
        outcomes.push(outcome);
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
        let mut tx = self.begin().await?;
        let done = redeliver_some(&mut tx, ids, now, actor).await;
        tx.finish(done).await
    }
}
