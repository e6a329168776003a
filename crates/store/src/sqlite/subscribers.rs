//! Named subscribers and tickets.

use rusqlite::{OptionalExtension, Row, ToSql, params};
use zapbus_event::{AccountId, InstanceId, SubscriberId, Timestamp};

use super::{
    Tx, View,
    fault::Result,
    row::{bytes, limit},
};
use crate::{
    encoding::{filter_of, filter_text},
    subscriber::{Advance, Progress, SUBSCRIBERS, Subscriber, SubscriberQuery},
};

const SUBSCRIBER: &str =
    "id, account, instance, owner, name, dialect, filter, progress, created_at, used_at";

fn subscriber(row: &Row<'_>) -> Result<Subscriber> {
    let account: Option<[u8; 16]> = row.get(1)?;
    let instance: Option<[u8; 16]> = row.get(2)?;
    let filter: String = row.get(6)?;
    Ok(Subscriber {
        id: SubscriberId::from_bytes(row.get(0)?),
        account: account.map(AccountId::from_bytes),
        instance: instance.map(InstanceId::from_bytes),
        owner: row.get(3)?,
        name: row.get(4)?,
        dialect: row.get(5)?,
        filter: filter_of(&filter)?,
        progress: serde_json::from_slice(bytes(row, 7)?)?,
        created_at: Timestamp::from_millis(row.get(8)?),
        used_at: Timestamp::from_millis(row.get(9)?),
    })
}

/// Finds or makes it.
pub(crate) fn open(tx: &mut Tx<'_>, new: &Subscriber) -> Result<Subscriber> {
    let id = new.id.to_bytes();
    let made = tx
        .conn
        .prepare_cached(
            "INSERT INTO subscriber (id, account, instance, owner, name, dialect, filter, \
             progress, created_at, used_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9) \
             ON CONFLICT (id) DO UPDATE SET used_at = max(used_at, excluded.used_at) \
             RETURNING created_at = used_at",
        )?
        .query_row(
            params![
                id,
                new.account.map(AccountId::to_bytes),
                new.instance.map(InstanceId::to_bytes),
                new.owner,
                new.name,
                new.dialect,
                filter_text(&new.filter)?,
                serde_json::to_vec(&new.progress)?,
                new.used_at.as_millis(),
            ],
            |row| row.get::<_, bool>(0),
        )?;
    if made {
        tx.conn
            .prepare_cached(
                "DELETE FROM subscriber WHERE id IN (SELECT id FROM subscriber \
                 WHERE account IS ?1 AND instance IS ?2 ORDER BY used_at DESC LIMIT -1 OFFSET ?3)",
            )?
            .execute(params![
                new.account.map(AccountId::to_bytes),
                new.instance.map(InstanceId::to_bytes),
                limit(SUBSCRIBERS),
            ])?;
    }
    let found = find(tx.view(), new.id)?;
    Ok(found.unwrap_or_else(|| new.clone()))
}

pub(crate) fn advance(
    tx: &mut Tx<'_>,
    advances: &[(SubscriberId, Advance)],
) -> Result<Vec<Option<Progress>>> {
    let mut merged = Vec::with_capacity(advances.len());
    for (id, advance) in advances {
        let stored: Option<Vec<u8>> = tx
            .conn
            .prepare_cached("SELECT progress FROM subscriber WHERE id = ?1")?
            .query_row([id.to_bytes()], |row| row.get(0))
            .optional()?;
        let Some(stored) = stored else {
            merged.push(None);
            continue;
        };
        let before: Progress = serde_json::from_slice(&stored)?;
        let mut after = before.clone();
        after.merge(advance);
        if after != before {
            tx.conn
                .prepare_cached("UPDATE subscriber SET progress = ?2, used_at = ?3 WHERE id = ?1")?
                .execute(params![id.to_bytes(), serde_json::to_vec(&after)?, tx.now.as_millis()])?;
        }
        merged.push(Some(after));
    }
    Ok(merged)
}

pub(crate) fn list(view: View<'_>, query: SubscriberQuery) -> Result<Vec<Subscriber>> {
    let after = query.after.map_or([0; 16], SubscriberId::to_bytes);
    let rows = limit(query.limit);
    let account = query.account.map(AccountId::to_bytes);
    let instance = query.instance.map(InstanceId::to_bytes);
    let mut values: Vec<&dyn ToSql> = vec![&after, &rows];
    let mut conditions = String::new();
    for (column, value) in [("account", &account), ("instance", &instance)] {
        if let Some(value) = value {
            values.push(value);
            conditions.push_str(&format!(" AND {column} = ?{}", values.len()));
        }
    }
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {SUBSCRIBER} FROM subscriber WHERE id > ?1{conditions} ORDER BY id LIMIT ?2"
    ))?;
    let mut rows = statement.query(&values[..])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(subscriber(row)?);
    }
    Ok(found)
}

pub(crate) fn find(view: View<'_>, id: SubscriberId) -> Result<Option<Subscriber>> {
    let mut statement =
        view.conn.prepare_cached(&format!("SELECT {SUBSCRIBER} FROM subscriber WHERE id = ?1"))?;
    let mut rows = statement.query([id.to_bytes()])?;
    rows.next()?.map(subscriber).transpose()
}

pub(crate) fn delete(tx: &mut Tx<'_>, id: SubscriberId) -> Result<bool> {
    let gone = tx.conn.execute("DELETE FROM subscriber WHERE id = ?1", [id.to_bytes()])?;
    Ok(gone > 0)
}

pub(crate) fn keep_ticket(
    tx: &mut Tx<'_>,
    hash: [u8; 32],
    pass: &[u8],
    expires_at: Timestamp,
) -> Result<()> {
    tx.conn
        .prepare_cached("INSERT INTO ticket (hash, pass, expires_at) VALUES (?1, ?2, ?3)")?
        .execute(params![hash, pass, expires_at.as_millis()])?;
    Ok(())
}

pub(crate) fn take_ticket(
    tx: &mut Tx<'_>,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Option<Vec<u8>>> {
    let taken = tx
        .conn
        .prepare_cached("DELETE FROM ticket WHERE hash = ?1 RETURNING pass, expires_at")?
        .query_row([hash], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    Ok(taken.and_then(|(pass, expires_at)| (expires_at > now.as_millis()).then_some(pass)))
}
