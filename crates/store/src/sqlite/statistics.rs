//! Figures by slots of five minutes.

use std::ops::RangeInclusive;

use rusqlite::{OptionalExtension, Row, params};
use zapbus_event::{DestinationId, InstanceId, Timestamp};

use super::{
    Engine, Tx, View,
    fault::{Fault, Result},
    row::count,
};
use crate::{
    StoreError,
    statistics::{Figures, Key, Latencies, Slot, Stored, Subject},
};

/// Old rows that one step forgets.
const FORGOTTEN: usize = 2_000;

/// Rows of the log that are looked at for the last delivery.
const LOOKED_AT: usize = 200;

/// A destination of an instance.
struct Own {
    number: i64,
    id: DestinationId,
}

const FIGURES: &str = "accepted, failed, dead, expired, last_delivered, latencies";

/// The columns [`FIGURES`] at `at`.
fn figures(row: &Row<'_>, at: usize) -> Result<Figures> {
    let last: Option<i64> = row.get(at + 4)?;
    let latencies: Vec<u8> = row.get(at + 5)?;
    Ok(Figures {
        events: 0,
        accepted: count(row.get(at)?),
        failed: count(row.get(at + 1)?),
        dead: count(row.get(at + 2)?),
        expired: count(row.get(at + 3)?),
        last_delivered: last.map(Timestamp::from_millis),
        latencies: Latencies::from_bytes(&latencies)
            .ok_or_else(|| Fault::malformed("latencies of a destination"))?,
    })
}

/// What is stored of a subject in these slots.
pub(crate) async fn stored(
    engine: &Engine,
    of: Subject,
    slots: RangeInclusive<i64>,
) -> Result<Stored, StoreError> {
    match of {
        Subject::Destination(id) => {
            let found = move |view: View<'_>| {
                Ok(Stored {
                    slots: of_destination(view, id, slots)?,
                    last_event_at: last_delivered(view, id)?,
                    destinations: Vec::new(),
                })
            };
            engine.read(found).await
        }
        Subject::Instance(id) => {
            let own = engine.read(move |view| destinations_of(view, id)).await?;
            let events_in = slots.clone();
            let events = move |view: View<'_>| {
                Ok(Stored {
                    slots: events_of(view, id, events_in)?,
                    last_event_at: last_event_at(view, id)?,
                    destinations: Vec::new(),
                })
            };
            let mut found = engine.read(events).await?;
            // Each in a read of its own: nobody waits for an instance with a thousand.
            for destination in &own {
                let (number, slots) = (destination.number, slots.clone());
                found.slots.extend(engine.read(move |view| of_number(view, number, slots)).await?);
            }
            found.destinations = own.iter().map(|own| own.id).collect();
            Ok(found)
        }
    }
}

/// Adds figures to those that are there.
pub(crate) fn add(tx: &mut Tx<'_>, rows: &[(Key, Slot, Figures)]) -> Result<()> {
    for (key, slot, new) in rows {
        match key {
            Key::Instance(instance) => {
                tx.conn
                    .prepare_cached(
                        "INSERT INTO event_slot (slot, instance, events) VALUES (?1, ?2, ?3) \
                         ON CONFLICT (slot, instance) DO UPDATE SET events = events + excluded.events",
                    )?
                    .execute(params![slot.0, instance.to_bytes(), sql_count(new.events)])?;
            }
            Key::Destination(id) => {
                // Deleted meanwhile: nobody asks any more.
                let Some(number) = tx.destination_number(*id)? else { continue };
                let mut sum = new.clone();
                let mut known = tx.conn.prepare_cached(&format!(
                    "SELECT {FIGURES} FROM delivery_slot WHERE slot = ?1 AND destination = ?2"
                ))?;
                let mut known = known.query([slot.0, number])?;
                if let Some(row) = known.next()? {
                    sum.merge(&figures(row, 0)?);
                }
                tx.conn
                    .prepare_cached(&format!(
                        "INSERT OR REPLACE INTO delivery_slot (slot, destination, {FIGURES}) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                    ))?
                    .execute(params![
                        slot.0,
                        number,
                        sql_count(sum.accepted),
                        sql_count(sum.failed),
                        sql_count(sum.dead),
                        sql_count(sum.expired),
                        sum.last_delivered.map(Timestamp::as_millis),
                        sum.latencies.to_bytes(),
                    ])?;
            }
        }
    }
    Ok(())
}

fn sql_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Forgets some of what lies before a slot. True when there may be more.
pub(crate) fn forget(tx: &mut Tx<'_>, before: Slot) -> Result<bool> {
    let limit = super::row::limit(FORGOTTEN);
    let mut more = false;
    for query in [
        "DELETE FROM delivery_slot WHERE (slot, destination) IN \
         (SELECT slot, destination FROM delivery_slot WHERE slot < ?1 LIMIT ?2)",
        "DELETE FROM event_slot WHERE (slot, instance) IN \
         (SELECT slot, instance FROM event_slot WHERE slot < ?1 LIMIT ?2)",
    ] {
        more |= tx.conn.prepare_cached(query)?.execute([before.0, limit])? == FORGOTTEN;
    }
    Ok(more)
}

/// Figures of a destination, in these slots. A deleted one has none.
fn of_destination(
    view: View<'_>,
    id: DestinationId,
    slots: RangeInclusive<i64>,
) -> Result<Vec<(Slot, Figures)>> {
    match super::settle::destination_number(view.conn, id)? {
        Some(number) => of_number(view, number, slots),
        None => Ok(Vec::new()),
    }
}

/// Slot by slot: each is one look-up.
fn of_number(
    view: View<'_>,
    number: i64,
    slots: RangeInclusive<i64>,
) -> Result<Vec<(Slot, Figures)>> {
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {FIGURES} FROM delivery_slot WHERE slot = ?1 AND destination = ?2"
    ))?;
    let mut found = Vec::new();
    for slot in slots {
        let mut rows = statement.query([slot, number])?;
        if let Some(row) = rows.next()? {
            found.push((Slot(slot), figures(row, 0)?));
        }
    }
    Ok(found)
}

/// Events of an instance, in these slots.
fn events_of(
    view: View<'_>,
    instance: InstanceId,
    slots: RangeInclusive<i64>,
) -> Result<Vec<(Slot, Figures)>> {
    let mut statement = view
        .conn
        .prepare_cached("SELECT events FROM event_slot WHERE slot = ?1 AND instance = ?2")?;
    let mut found = Vec::new();
    for slot in slots {
        let events: Option<i64> =
            statement.query_row(params![slot, instance.to_bytes()], |row| row.get(0)).optional()?;
        if let Some(events) = events {
            found.push((Slot(slot), Figures { events: count(events), ..Figures::default() }));
        }
    }
    Ok(found)
}

/// The destinations that are an instance's own.
fn destinations_of(view: View<'_>, instance: InstanceId) -> Result<Vec<Own>> {
    let account = view.shared.directory().account_of(instance);
    let Some(account) = account else { return Ok(Vec::new()) };
    let mut statement = view.conn.prepare_cached(
        "SELECT n, id FROM destination WHERE account = ?1 AND instance = ?2 AND deleted_at IS NULL",
    )?;
    let mut rows = statement.query(params![account.to_bytes(), instance.to_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: [u8; 16] = row.get(1)?;
        found.push(Own { number: row.get(0)?, id: DestinationId::from_bytes(id) });
    }
    Ok(found)
}

/// When a destination last accepted something, as its newest rows tell.
fn last_delivered(view: View<'_>, id: DestinationId) -> Result<Option<Timestamp>> {
    let Some(number) = super::settle::destination_number(view.conn, id)? else { return Ok(None) };
    let last: Option<i64> = view
        .conn
        .prepare_cached(
            "SELECT max(attempted_at) FROM (SELECT attempted_at, status FROM delivery \
             WHERE destination = ?1 AND run = 0 ORDER BY seq DESC LIMIT ?2) WHERE status = 0",
        )?
        .query_row([number, super::row::limit(LOOKED_AT)], |row| row.get(0))?;
    Ok(last.map(Timestamp::from_millis))
}

/// When the newest stored event of an instance was accepted.
fn last_event_at(view: View<'_>, instance: InstanceId) -> Result<Option<Timestamp>> {
    let last: Option<i64> = view
        .conn
        .prepare_cached(
            "SELECT received_at FROM journal WHERE instance = ?1 ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([instance.to_bytes()], |row| row.get(0))
        .optional()?;
    Ok(last.map(Timestamp::from_millis))
}
