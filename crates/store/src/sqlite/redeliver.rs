//! Sending again by hand.

use rusqlite::params;
use serde_json::json;
use zapbus_event::Timestamp;

use super::{
    Tx,
    accounts::write_audit,
    fault::{Fault, Result},
    row::sql,
};
use crate::{
    StoreError,
    delivery::{DeliveryId, Redelivery},
    registry::Actor,
};

pub(crate) fn redeliver(
    tx: &mut Tx<'_>,
    id: DeliveryId,
    now: Timestamp,
    actor: &Actor,
) -> Result<()> {
    match make_due(tx, id, now)? {
        Redelivery::Due => audit(tx, id, actor, 1),
        Redelivery::Expired => Err(Fault::Store(StoreError::EventExpired)),
        Redelivery::CalledOff => Err(Fault::refused(
            "its replay was cancelled: send the event again from its live delivery, or replay anew",
        )),
        Redelivery::None => Err(Fault::not_found("delivery")),
    }
}

/// A small number of deliveries in one commit.
pub(crate) fn redeliver_some(
    tx: &mut Tx<'_>,
    ids: &[DeliveryId],
    now: Timestamp,
    actor: &Actor,
) -> Result<Vec<Redelivery>> {
    let mut outcomes = Vec::with_capacity(ids.len());
    for id in ids {
        outcomes.push(make_due(tx, *id, now)?);
    }
    let due = outcomes.iter().filter(|outcome| **outcome == Redelivery::Due).count();
    if let Some(first) = ids.first().filter(|_| due > 0) {
        audit(tx, *first, actor, due)?;
    }
    Ok(outcomes)
}

fn make_due(tx: &mut Tx<'_>, id: DeliveryId, now: Timestamp) -> Result<Redelivery> {
    let Some(number) = tx.destination_number(id.lane.destination)? else {
        return Ok(Redelivery::None);
    };
    let called_off: bool = tx
        .conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM lane \
             WHERE destination = ?1 AND run = ?2 AND state = 'cancelled')",
        )?
        .query_row(params![number, id.lane.run], |row| row.get(0))?;
    if called_off {
        return Ok(Redelivery::CalledOff);
    }
    let stored: bool = tx
        .conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM journal WHERE seq = ?1)")?
        .query_row([sql(id.seq)], |row| row.get(0))?;
    // A row that is to be retried anyway keeps its place in the order; others are outside of it.
    let changed = if stored {
        tx.conn
            .prepare_cached(
                "UPDATE delivery SET manual = iif(status = 1, manual, 1), \
                 parts_done = iif(status = 0, 0, parts_done), reason = NULL, upto = NULL, \
                 lost = NULL, status = 1, due = ?4, updated_at = ?5 \
                 WHERE destination = ?1 AND run = ?2 AND seq = ?3 AND status != 5",
            )?
            .execute(params![
                number,
                id.lane.run,
                sql(id.seq),
                now.as_millis(),
                tx.now.as_millis()
            ])?
    } else {
        0
    };
    if changed > 0 {
        return Ok(Redelivery::Due);
    }
    let known: bool = tx
        .conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM delivery \
             WHERE destination = ?1 AND run = ?2 AND seq = ?3)",
        )?
        .query_row(params![number, id.lane.run, sql(id.seq)], |row| row.get(0))?;
    Ok(if known { Redelivery::Expired } else { Redelivery::None })
}

fn audit(tx: &mut Tx<'_>, id: DeliveryId, actor: &Actor, deliveries: usize) -> Result<()> {
    let account: [u8; 16] = tx.conn.query_row(
        "SELECT account FROM destination WHERE id = ?1",
        [id.lane.destination.to_bytes()],
        |row| row.get(0),
    )?;
    let account = zapbus_event::AccountId::from_bytes(account);
    let detail = json!({ "deliveries": deliveries });
    write_audit(tx, Some(account), actor, "delivery.retry", &id.to_string(), &detail)
}
