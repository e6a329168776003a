//! Figures by slots of five minutes. Every node adds its own to the same rows.

use std::ops::RangeInclusive;

use tokio_postgres::Row;
use zapbus_event::{DestinationId, InstanceId, Timestamp};

use super::{
    Engine, Tx, destinations,
    pool::Session,
    row::{Fixed, count, fixed, limit, maybe_time},
};
use crate::{
    ShardId, StoreError,
    fault::{Fault, Result},
    statistics::{Figures, Key, Latencies, Slot, Stored, Subject},
};

/// Old rows that one step forgets.
const FORGOTTEN: usize = 2_000;

/// Rows of the log that are looked at for the last delivery, in all shards together.
const LOOKED_AT: usize = 200;

const FIGURES: &str = "accepted, failed, dead, expired, last_delivered, latencies";

/// The columns [`FIGURES`] at `at`.
fn figures(row: &Row, at: usize) -> Result<Figures> {
    let latencies: &[u8] = row.try_get(at + 5)?;
    let number = |at: usize| -> Result<u64> { Ok(count(row.try_get(at)?)) };
    Ok(Figures {
        events: 0,
        accepted: number(at)?,
        failed: number(at + 1)?,
        dead: number(at + 2)?,
        expired: number(at + 3)?,
        last_delivered: maybe_time(row, at + 4)?,
        latencies: Latencies::from_bytes(latencies)
            .ok_or_else(|| Fault::malformed("latencies of a destination"))?,
    })
}

fn sql_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Adds figures to those that are there.
async fn add(tx: &Tx, rows: &[(Key, Slot, Figures)]) -> Result<()> {
    let mut events: Vec<(i64, InstanceId, i64)> = Vec::new();
    let mut outcomes: Vec<(i64, i64, Figures)> = Vec::new();
    for (key, slot, new) in rows {
        match key {
            Key::Instance(instance) => events.push((slot.0, *instance, sql_count(new.events))),
            Key::Destination(id) => {
                // Deleted meanwhile: nobody asks any more.
                if let Some(known) = destinations::known(&tx.shared, &tx.session, *id).await? {
                    outcomes.push((slot.0, known.number, new.clone()));
                }
            }
        }
    }
    // Every node takes the rows in one order, and outcomes first.
    outcomes.sort_by_key(|(slot, number, _)| (*slot, *number));
    add_outcomes(tx, outcomes).await?;
    events.sort_by_key(|(slot, instance, _)| (*slot, *instance));
    let slots: Vec<i64> = events.iter().map(|(slot, ..)| *slot).collect();
    let instances: Vec<_> = events.iter().map(|(_, id, _)| Fixed(id.to_bytes())).collect();
    let counts: Vec<i64> = events.iter().map(|(.., count)| *count).collect();
    tx.session
        .execute(
            "INSERT INTO figures_event (slot, instance, events) \
             SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[]) \
             ON CONFLICT (instance, slot) DO UPDATE SET \
             events = figures_event.events + excluded.events",
            &[&slots, &instances, &counts],
        )
        .await?;
    Ok(())
}

/// `rows` are slot, destination and what is new, each once.
async fn add_outcomes(tx: &Tx, mut rows: Vec<(i64, i64, Figures)>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let slots: Vec<i64> = rows.iter().map(|(slot, ..)| *slot).collect();
    let numbers: Vec<i64> = rows.iter().map(|(_, number, _)| *number).collect();
    tx.session
        .execute(
            "INSERT INTO figures_delivery (slot, destination) \
             SELECT * FROM unnest($1::bigint[], $2::bigint[]) \
             ON CONFLICT (destination, slot) DO NOTHING",
            &[&slots, &numbers],
        )
        .await?;
    let known = tx
        .session
        .query(
            &format!(
                "SELECT slot, destination, {FIGURES} FROM figures_delivery \
                 WHERE (destination, slot) IN (SELECT n, s \
                 FROM unnest($1::bigint[], $2::bigint[]) AS u(s, n)) \
                 ORDER BY slot, destination FOR UPDATE"
            ),
            &[&slots, &numbers],
        )
        .await?;
    for row in &known {
        let place: (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if let Ok(at) = rows.binary_search_by_key(&place, |(slot, number, _)| (*slot, *number)) {
            rows[at].2.merge(&figures(row, 2)?);
        }
    }
    let column = |of: fn(&Figures) -> u64| -> Vec<i64> {
        rows.iter().map(|(.., sum)| sql_count(of(sum))).collect()
    };
    let (accepted, failed) = (column(|sum| sum.accepted), column(|sum| sum.failed));
    let (dead, expired) = (column(|sum| sum.dead), column(|sum| sum.expired));
    let last: Vec<Option<i64>> =
        rows.iter().map(|(.., sum)| sum.last_delivered.map(Timestamp::as_millis)).collect();
    let latencies: Vec<Vec<u8>> = rows.iter().map(|(.., sum)| sum.latencies.to_bytes()).collect();
    tx.session
        .execute(
            "UPDATE figures_delivery d SET accepted = u.accepted, failed = u.failed, dead = u.dead, \
             expired = u.expired, last_delivered = u.last, latencies = u.latencies \
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
             $6::bigint[], $7::bigint[], $8::bytea[]) \
             AS u(slot, destination, accepted, failed, dead, expired, last, latencies) \
             WHERE d.destination = u.destination AND d.slot = u.slot",
            &[&slots, &numbers, &accepted, &failed, &dead, &expired, &last, &latencies],
        )
        .await?;
    Ok(())
}

/// Forgets some of what lies before a slot. True when there may be more.
async fn forget(tx: &Tx, before: Slot) -> Result<bool> {
    let mut more = false;
    for (table, key) in [("figures_delivery", "destination"), ("figures_event", "instance")] {
        let gone = tx
            .session
            .execute(
                &format!(
                    "DELETE FROM {table} WHERE ({key}, slot) IN (SELECT {key}, slot FROM {table} \
                     WHERE slot < $1 ORDER BY slot LIMIT $2 FOR UPDATE SKIP LOCKED)"
                ),
                &[&before.0, &limit(FORGOTTEN)],
            )
            .await?;
        more |= gone == FORGOTTEN as u64;
    }
    Ok(more)
}

/// Figures of some destinations, in these slots.
async fn of_numbers(
    session: &Session,
    numbers: &[i64],
    slots: &RangeInclusive<i64>,
) -> Result<Vec<(Slot, Figures)>> {
    let rows = session
        .query(
            &format!(
                "SELECT slot, {FIGURES} FROM figures_delivery \
                 WHERE destination = ANY ($1) AND slot BETWEEN $2 AND $3"
            ),
            &[&numbers, slots.start(), slots.end()],
        )
        .await?;
    rows.iter().map(|row| Ok((Slot(row.try_get(0)?), figures(row, 1)?))).collect()
}

impl Engine {
    /// Figures of a destination, and when it last accepted something, as its newest rows tell. A
    /// deleted one has none.
    async fn of_destination(
        &self,
        session: &Session,
        id: DestinationId,
        slots: &RangeInclusive<i64>,
    ) -> Result<Stored> {
        let Some(known) = destinations::known(&self.shared, session, id).await? else {
            return Ok(Stored::default());
        };
        let shards: Vec<ShardId> =
            if known.global { self.shared.all().collect() } else { vec![known.home] };
        let numbers: Vec<i32> = shards.iter().map(|shard| i32::from(shard.0)).collect();
        let each = (LOOKED_AT / numbers.len().max(1)).max(4);
        let last = session
            .one(
                "SELECT max(d.attempted_at) FROM unnest($2::int[]) AS s(shard) \
                 CROSS JOIN LATERAL (SELECT attempted_at, status FROM delivery \
                     WHERE destination = $1 AND run = 0 AND shard = s.shard \
                     ORDER BY seq DESC LIMIT $3) d WHERE d.status = 0",
                &[&known.number, &numbers, &limit(each)],
            )
            .await?;
        Ok(Stored {
            slots: of_numbers(session, &[known.number], slots).await?,
            last_event_at: maybe_time(&last, 0)?,
            destinations: Vec::new(),
        })
    }

    /// Events of an instance, figures of the destinations that are its own, and when its newest
    /// stored event was accepted.
    async fn of_instance(
        &self,
        session: &Session,
        instance: InstanceId,
        slots: &RangeInclusive<i64>,
    ) -> Result<Stored> {
        let id = Fixed(instance.to_bytes());
        let account = self.shared.directory().account_of(instance);
        let mut found = Stored::default();
        let mut numbers = Vec::new();
        if let Some(account) = account {
            let rows = session
                .query(
                    "SELECT n, id FROM destination WHERE account = $1 AND instance = $2 \
                     AND deleted_at IS NULL",
                    &[&Fixed(account.to_bytes()), &id],
                )
                .await?;
            for row in &rows {
                numbers.push(row.try_get(0)?);
                found.destinations.push(DestinationId::from_bytes(fixed(row, 1)?));
            }
        }
        found.slots = of_numbers(session, &numbers, slots).await?;
        let rows = session
            .query(
                "SELECT slot, events FROM figures_event WHERE instance = $1 \
                 AND slot BETWEEN $2 AND $3",
                &[&id, slots.start(), slots.end()],
            )
            .await?;
        for row in &rows {
            let events = Figures { events: count(row.try_get(1)?), ..Figures::default() };
            found.slots.push((Slot(row.try_get(0)?), events));
        }
        let last = session
            .first(
                "SELECT received_at FROM journal WHERE instance = $1 ORDER BY seq DESC LIMIT 1",
                &[&id],
            )
            .await?;
        found.last_event_at = last.map(|row| maybe_time(&row, 0)).transpose()?.flatten();
        Ok(found)
    }

    /// What is stored of a subject in these slots. What other nodes have not written yet is missing.
    pub(crate) async fn stored_statistics(
        &self,
        of: Subject,
        slots: RangeInclusive<i64>,
    ) -> Result<Stored, StoreError> {
        let session = self.session().await?;
        Ok(match of {
            Subject::Destination(id) => self.of_destination(&session, id, &slots).await?,
            Subject::Instance(id) => self.of_instance(&session, id, &slots).await?,
        })
    }

    pub(crate) async fn add_statistics(
        &self,
        rows: &[(Key, Slot, Figures)],
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        let done = add(&tx, rows).await;
        tx.finish(done).await
    }

    /// True when there may be more.
    pub(crate) async fn forget_statistics(&self, before: Slot) -> Result<bool, StoreError> {
        let tx = self.begin().await?;
        let done = forget(&tx, before).await;
        tx.finish(done).await
    }
}
