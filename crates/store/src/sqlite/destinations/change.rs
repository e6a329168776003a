//! Changes of destinations.

use rusqlite::{OptionalExtension, params};
use serde_json::json;
use zapbus_event::{AccountId, DestinationId, InstanceId, Position};

use super::{filter_text, instance_column, place};
use crate::{
    registry::{Activity, Actor, Destination, Quota, Remember, Start},
    sqlite::{
        Tx, View,
        accounts::{keep_answer, seal, write_audit},
        fault::{Fault, Result},
        row::sql,
        runs::resolve_start,
    },
};

/// Rows of a deleted destination that are called off in one step.
const CANCELLED_AT_ONCE: i64 = 500;

fn free_label(tx: &Tx<'_>, destination: &Destination) -> Result<()> {
    let taken: Option<[u8; 16]> = tx
        .conn
        .query_row(
            "SELECT id FROM destination \
             WHERE account = ?1 AND instance = ?2 AND label = ?3 AND deleted_at IS NULL",
            params![
                destination.account.to_bytes(),
                instance_column(destination.instance),
                destination.label
            ],
            |row| row.get(0),
        )
        .optional()?;
    match taken {
        Some(id) if DestinationId::from_bytes(id) != destination.id => {
            Err(Fault::exists("destination", &destination.label))
        }
        _ => Ok(()),
    }
}

/// Whether there is a place for it. The writer is alone: nobody takes it meanwhile.
fn admit(tx: &Tx<'_>, quota: Option<&Quota>, new: &Destination) -> Result<()> {
    let Some(quota) = quota else { return Ok(()) };
    let mut statement = tx.conn.prepare_cached(
        "SELECT id, label, activity FROM destination \
         WHERE account = ?1 AND instance = ?2 AND deleted_at IS NULL",
    )?;
    let mut rows =
        statement.query(params![new.account.to_bytes(), instance_column(new.instance)])?;
    let mut others = Vec::new();
    while let Some(row) = rows.next()? {
        let activity = serde_json::from_str(&row.get::<_, String>(2)?)?;
        others.push((DestinationId::from_bytes(row.get(0)?), row.get(1)?, activity));
    }
    Ok(quota.admit(new, others)?)
}

/// Makes a destination. With `Start::Now` its cursor is the head in this very commit: it gets
/// every event that is answered after its creation, and none that was answered before.
pub(crate) fn create(
    tx: &mut Tx<'_>,
    new: &Destination,
    start: Start,
    actor: &Actor,
    remember: Option<&Remember>,
    quota: Option<&Quota>,
) -> Result<Position> {
    let account: bool = tx.conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM account WHERE id = ?1)",
        [new.account.to_bytes()],
        |row| row.get(0),
    )?;
    if !account {
        return Err(Fault::not_found("account"));
    }
    if let Some(instance) = new.instance {
        let known: bool = tx.conn.query_row(
            "SELECT EXISTS (SELECT 1 FROM instance \
             WHERE id = ?1 AND account = ?2 AND deleted_at IS NULL)",
            params![instance.to_bytes(), new.account.to_bytes()],
            |row| row.get(0),
        )?;
        if !known {
            return Err(Fault::not_found("instance"));
        }
    }
    free_label(tx, new)?;
    admit(tx, quota, new)?;
    let cursor = resolve_start(tx.view(), start, tx.head())?;
    let id = new.id.to_bytes();
    tx.conn
        .prepare_cached(
            "INSERT INTO destination (id, account, instance, label, filter, exclude_ephemeral, \
             activity, active, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id,
            new.account.to_bytes(),
            instance_column(new.instance),
            new.label,
            filter_text(&new.filter)?,
            new.exclude_ephemeral,
            serde_json::to_string(&new.activity)?,
            new.activity == Activity::Active,
            new.created_at.as_millis(),
            new.updated_at.as_millis()
        ])?;
    let number = tx.conn.last_insert_rowid();
    tx.conn
        .prepare_cached("INSERT INTO destination_spec (n, spec) VALUES (?1, ?2)")?
        .execute(params![number, seal(&tx.shared.sealer, place(&id), &new.spec)?])?;
    tx.conn
        .prepare_cached(
            "INSERT INTO lane (destination, run, cursor, created_at) VALUES (?1, 0, ?2, ?3)",
        )?
        .execute(params![number, sql(cursor), tx.now.as_millis()])?;
    let detail = json!({ "label": new.label });
    let target = new.id.to_string();
    write_audit(tx, Some(new.account), actor, "destination.create", &target, &detail)?;
    keep_answer(tx, remember)?;
    Ok(cursor)
}

/// Replaces a destination as a whole, with its true cursor if the caller knows it better.
/// `cancel_rows` calls off its rows, a step at a time: true when there are more.
pub(crate) fn update(
    tx: &mut Tx<'_>,
    new: &Destination,
    cursor: Option<Position>,
    cancel_rows: bool,
    actor: &Actor,
    quota: Option<&Quota>,
) -> Result<bool> {
    let number = tx.destination_number(new.id)?.ok_or_else(|| Fault::not_found("destination"))?;
    free_label(tx, new)?;
    admit(tx, quota, new)?;
    let id = new.id.to_bytes();
    // Account and instance never change: positions and rows hang on them.
    tx.conn.execute(
        "UPDATE destination SET label = ?2, filter = ?3, exclude_ephemeral = ?4, activity = ?5, \
         active = ?6, updated_at = ?7 WHERE n = ?1",
        params![
            number,
            new.label,
            filter_text(&new.filter)?,
            new.exclude_ephemeral,
            serde_json::to_string(&new.activity)?,
            new.activity == Activity::Active,
            new.updated_at.as_millis()
        ],
    )?;
    tx.conn.execute(
        "INSERT OR REPLACE INTO destination_spec (n, spec) VALUES (?1, ?2)",
        params![number, seal(&tx.shared.sealer, place(&id), &new.spec)?],
    )?;
    if let Some(cursor) = cursor {
        tx.conn.execute(
            "UPDATE lane SET cursor = ?2 WHERE destination = ?1 AND run = 0 AND cursor < ?2",
            params![number, sql(cursor.min(tx.head()))],
        )?;
    }
    let more = cancel_rows && cancel_some(tx, number)?;
    let detail = json!({ "label": new.label, "activity": new.activity });
    let target = new.id.to_string();
    write_audit(tx, Some(new.account), actor, "destination.update", &target, &detail)?;
    Ok(more)
}

/// Changes whether a destination delivers, and nothing else of it.
pub(crate) fn set_activity(
    tx: &mut Tx<'_>,
    id: DestinationId,
    activity: &Activity,
    actor: &Actor,
) -> Result<()> {
    let account: Option<[u8; 16]> = tx
        .conn
        .query_row(
            "UPDATE destination SET activity = ?2, active = ?3, updated_at = ?4 \
             WHERE id = ?1 AND deleted_at IS NULL RETURNING account",
            params![
                id.to_bytes(),
                serde_json::to_string(activity)?,
                *activity == Activity::Active,
                tx.now.as_millis()
            ],
            |row| row.get(0),
        )
        .optional()?;
    let account = account.ok_or_else(|| Fault::not_found("destination"))?;
    let account = Some(AccountId::from_bytes(account));
    let detail = json!({ "activity": activity });
    write_audit(tx, account, actor, "destination.update", &id.to_string(), &detail)
}

/// Deletes a destination. Its label is free at once; its rows stay in the log and are called off in
/// steps: true when there are more.
pub(crate) fn delete_destination(
    tx: &mut Tx<'_>,
    id: DestinationId,
    actor: &Actor,
) -> Result<bool> {
    let number = tx.destination_number(id)?.ok_or_else(|| Fault::not_found("destination"))?;
    let (account, label): ([u8; 16], String) = tx.conn.query_row(
        "SELECT account, label FROM destination WHERE n = ?1",
        [number],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    tx.conn.execute(
        "UPDATE destination SET deleted_at = ?2 WHERE n = ?1",
        params![number, tx.now.as_millis()],
    )?;
    tx.conn.execute("DELETE FROM destination_spec WHERE n = ?1", [number])?;
    tx.conn.execute(
        "UPDATE lane SET state = 'cancelled' WHERE destination = ?1 AND run > 0",
        [number],
    )?;
    tx.memory.destinations.remove(&id);
    let more = cancel_some(tx, number)?;
    let account = Some(AccountId::from_bytes(account));
    let detail = json!({ "label": label });
    write_audit(tx, account, actor, "destination.delete", &id.to_string(), &detail)?;
    Ok(more)
}

/// Calls off some of a destination's open rows. True when there are more.
fn cancel_some(tx: &mut Tx<'_>, number: i64) -> Result<bool> {
    let cancelled = tx.conn.execute(
        "UPDATE delivery SET status = 4, due = NULL, updated_at = ?2 WHERE n IN \
         (SELECT n FROM delivery INDEXED BY delivery_held \
          WHERE destination = ?1 AND status IN (1, 2) LIMIT ?3)",
        params![number, tx.now.as_millis(), CANCELLED_AT_ONCE],
    )?;
    Ok(i64::try_from(cancelled).is_ok_and(|cancelled| cancelled == CANCELLED_AT_ONCE))
}

/// [`cancel_some`] by id, for a destination that may be deleted by now.
pub(crate) fn cancel_more(tx: &mut Tx<'_>, id: DestinationId) -> Result<bool> {
    let number: Option<i64> = tx
        .conn
        .query_row("SELECT n FROM destination WHERE id = ?1", [id.to_bytes()], |row| row.get(0))
        .optional()?;
    number.map_or(Ok(false), |number| cancel_some(tx, number))
}

/// Destinations of an instance that are not deleted.
pub(crate) fn ids_of_instance(view: View<'_>, instance: InstanceId) -> Result<Vec<DestinationId>> {
    let Some(account) = view.shared.directory().account_of(instance) else {
        return Ok(Vec::new());
    };
    let mut statement = view.conn.prepare_cached(
        "SELECT id FROM destination WHERE account = ?1 AND instance = ?2 AND deleted_at IS NULL",
    )?;
    let found = statement.query_map(params![account.to_bytes(), instance.to_bytes()], |row| {
        row.get(0).map(DestinationId::from_bytes)
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Deletes some rows of an instance's deleted destinations, and the destinations when they have
/// none left. True when there may be more.
pub(crate) fn drop_rows_of_instance(tx: &mut Tx<'_>, instance: InstanceId) -> Result<bool> {
    let Some(account) = tx.shared.directory().account_of(instance) else {
        return Ok(false);
    };
    let number: Option<i64> = tx
        .conn
        .query_row(
            "SELECT n FROM destination \
             WHERE account = ?1 AND instance = ?2 AND deleted_at IS NOT NULL LIMIT 1",
            params![account.to_bytes(), instance.to_bytes()],
            |row| row.get(0),
        )
        .optional()?;
    let Some(number) = number else {
        return Ok(false);
    };
    let gone = tx.conn.execute(
        "DELETE FROM delivery WHERE n IN (SELECT n FROM delivery WHERE destination = ?1 LIMIT ?2)",
        [number, CANCELLED_AT_ONCE],
    )?;
    if gone == 0 {
        for query in [
            "DELETE FROM attempt WHERE destination = ?1",
            "DELETE FROM lane WHERE destination = ?1",
            "DELETE FROM destination WHERE n = ?1",
        ] {
            tx.conn.execute(query, [number])?;
        }
    }
    Ok(true)
}
