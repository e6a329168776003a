//! Destinations.

mod change;

use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;
use zapbus_event::{AccountId, DestinationId, Filter, InstanceId, Position, Timestamp};

pub(crate) use self::change::{
    cancel_more, create, delete_destination, drop_rows_of_instance, ids_of_instance, set_activity,
    update,
};
use super::{
    View,
    accounts::unseal,
    fault::{Fault, Result},
    row::{limit, position},
    settle,
};
pub(crate) use crate::encoding::{filter_of, filter_text};
use crate::{
    StoreError,
    delivery::Health,
    registry::{Activity, Destination, DestinationHead, DestinationScope},
    seal::Place,
    unreadable,
};

const DESTINATION: &str = "d.id, d.account, d.instance, d.label, d.filter, d.exclude_ephemeral, \
     d.activity, d.created_at, d.updated_at, s.spec";
const TABLES: &str = "destination d LEFT JOIN destination_spec s ON s.n = d.n";

fn place(id: &[u8]) -> Place<'_> {
    Place { table: "destination", id, column: "spec" }
}

fn instance_column(instance: Option<InstanceId>) -> Vec<u8> {
    instance.map_or_else(Vec::new, |instance| instance.to_bytes().to_vec())
}

fn instance_of(stored: &[u8]) -> Option<InstanceId> {
    stored.try_into().ok().map(InstanceId::from_bytes)
}

/// One whose spec cannot be decrypted is given as paused, with the reason.
fn listed(row: &Row<'_>, view: View<'_>) -> Result<Destination> {
    destination(row, view).or_else(|fault| match fault {
        Fault::Store(error) => {
            let bare = without_spec(row)?;
            let activity = Activity::Paused { reason: error.to_string(), since: bare.updated_at };
            Ok(Destination { activity, ..bare })
        }
        other => Err(other),
    })
}

fn destination(row: &Row<'_>, view: View<'_>) -> Result<Destination> {
    let id: [u8; 16] = row.get(0)?;
    let sealed: Vec<u8> = row.get::<_, Option<Vec<u8>>>(9)?.unwrap_or_default();
    let spec = unseal(&view.shared.sealer, place(&id), &sealed)?;
    without_spec(row).map(|bare| Destination { spec, ..bare })
}

fn without_spec(row: &Row<'_>) -> Result<Destination> {
    Ok(Destination {
        id: DestinationId::from_bytes(row.get(0)?),
        account: AccountId::from_bytes(row.get(1)?),
        instance: instance_of(&row.get::<_, Vec<u8>>(2)?),
        label: row.get(3)?,
        filter: filter_of(&row.get::<_, String>(4)?)?,
        exclude_ephemeral: row.get(5)?,
        activity: serde_json::from_str(&row.get::<_, String>(6)?)?,
        spec: Value::Null,
        created_at: Timestamp::from_millis(row.get(7)?),
        updated_at: Timestamp::from_millis(row.get(8)?),
    })
}

pub(crate) fn by_id(view: View<'_>, id: DestinationId) -> Result<Option<Destination>> {
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {DESTINATION} FROM {TABLES} WHERE d.id = ?1 AND d.deleted_at IS NULL"
    ))?;
    let mut rows = statement.query([id.to_bytes()])?;
    rows.next()?.map(|row| destination(row, view)).transpose()
}

/// As it is, without its spec where that cannot be decrypted.
pub(crate) fn to_replace(view: View<'_>, id: DestinationId) -> Result<Option<Destination>> {
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {DESTINATION} FROM {TABLES} WHERE d.id = ?1 AND d.deleted_at IS NULL"
    ))?;
    let mut rows = statement.query([id.to_bytes()])?;
    let read = |row: &Row<'_>| {
        destination(row, view).or_else(|fault| match fault {
            Fault::Store(StoreError::Sealed { .. }) => without_spec(row),
            other => Err(other),
        })
    };
    rows.next()?.map(read).transpose()
}

pub(crate) fn id_by_label(
    view: View<'_>,
    account: AccountId,
    instance: Option<InstanceId>,
    label: &str,
) -> Result<Option<DestinationId>> {
    let found: Option<[u8; 16]> = view
        .conn
        .prepare_cached(
            "SELECT id FROM destination \
             WHERE account = ?1 AND instance = ?2 AND label = ?3 AND deleted_at IS NULL",
        )?
        .query_row(params![account.to_bytes(), instance_column(instance), label], |row| row.get(0))
        .optional()?;
    Ok(found.map(DestinationId::from_bytes))
}

pub(crate) fn by_label(
    view: View<'_>,
    account: AccountId,
    instance: Option<InstanceId>,
    label: &str,
) -> Result<Option<Destination>> {
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {DESTINATION} FROM {TABLES} \
         WHERE d.account = ?1 AND d.instance = ?2 AND d.label = ?3 AND d.deleted_at IS NULL"
    ))?;
    let mut rows =
        statement.query(params![account.to_bytes(), instance_column(instance), label])?;
    rows.next()?.map(|row| destination(row, view)).transpose()
}

/// By id. One whose spec cannot be decrypted is listed as paused, with the reason.
pub(crate) fn destinations(
    view: View<'_>,
    account: Option<AccountId>,
    scope: DestinationScope,
    after: Option<DestinationId>,
    rows: usize,
) -> Result<Vec<Destination>> {
    let of_account = if account.is_some() { "d.account = ?1" } else { "?1 IS NULL" };
    let (of_instance, instance) = match scope {
        DestinationScope::All => ("?2 IS NULL", None),
        DestinationScope::Instance(instance) => {
            ("d.instance = ?2", Some(instance.to_bytes().to_vec()))
        }
        DestinationScope::Global => ("d.instance = ?2", Some(Vec::new())),
    };
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {DESTINATION} FROM {TABLES} WHERE {of_account} AND {of_instance} \
         AND d.id > ?3 AND d.deleted_at IS NULL ORDER BY d.id LIMIT ?4"
    ))?;
    let after = after.map_or([0; 16], DestinationId::to_bytes);
    let mut rows =
        statement.query(params![account.map(AccountId::to_bytes), instance, after, limit(rows)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(listed(row, view)?);
    }
    Ok(found)
}

/// Those of an account's instances with this label.
pub(crate) fn labelled(
    view: View<'_>,
    account: AccountId,
    label: &str,
) -> Result<Vec<Destination>> {
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {DESTINATION} FROM {TABLES} \
         WHERE d.account = ?1 AND d.label = ?2 AND d.deleted_at IS NULL"
    ))?;
    let mut rows = statement.query(params![account.to_bytes(), label])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(listed(row, view)?);
    }
    found.retain(|destination| destination.instance.is_some());
    Ok(found)
}

const HEAD: &str = "SELECT d.id, d.account, d.instance, d.filter, d.exclude_ephemeral, d.active, \
     l.cursor, l.probing_since, l.probes, l.next_probe \
     FROM destination d JOIN lane l ON l.destination = d.n AND l.run = 0";

/// Compiled filters by their text: thousands of destinations share a few.
type Filters = std::collections::HashMap<String, Filter>;

fn read_head(row: &Row<'_>, filters: &mut Filters) -> Result<(DestinationHead, Position, Health)> {
    let text = row.get_ref(3)?.as_str().map_err(|error| Fault::malformed(error.to_string()))?;
    let id = DestinationId::from_bytes(row.get(0)?);
    let known = filters.get(text).cloned();
    let filter = match known.map_or_else(|| filter_of(text), Ok) {
        Ok(filter) => Some(filters.entry(text.to_owned()).or_insert(filter).clone()),
        Err(fault) => {
            unreadable::filter(id, &fault);
            None
        }
    };
    let head = DestinationHead {
        id,
        account: AccountId::from_bytes(row.get(1)?),
        instance: instance_of(super::row::bytes(row, 2)?),
        active: filter.is_some() && row.get(5)?,
        filter: filter.unwrap_or_default(),
        exclude_ephemeral: row.get(4)?,
    };
    Ok((head, position(row.get(6)?), settle::health(row, 7)?))
}

/// What is kept in memory of each destination, with where its live lane stands.
pub(crate) fn heads(
    view: View<'_>,
    after: Option<DestinationId>,
    rows: usize,
) -> Result<Vec<(DestinationHead, Position, Health)>> {
    let mut statement = view.conn.prepare_cached(&format!(
        "{HEAD} WHERE d.id > ?1 AND d.deleted_at IS NULL ORDER BY d.id LIMIT ?2"
    ))?;
    let after = after.map_or([0; 16], DestinationId::to_bytes);
    let mut rows = statement.query(params![after, limit(rows)])?;
    let mut filters = Filters::new();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read_head(row, &mut filters)?);
    }
    Ok(found)
}

/// The same of one destination.
pub(crate) fn head(
    view: View<'_>,
    id: DestinationId,
) -> Result<Option<(DestinationHead, Position, Health)>> {
    let mut statement =
        view.conn.prepare_cached(&format!("{HEAD} WHERE d.id = ?1 AND d.deleted_at IS NULL"))?;
    let mut rows = statement.query([id.to_bytes()])?;
    rows.next()?.map(|row| read_head(row, &mut Filters::new())).transpose()
}
