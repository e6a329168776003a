//! Instances.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Value, json};
use zapbus_event::{AccountId, Draft, InstanceId, Timestamp};

use super::{
    Tx, View,
    accounts::{keep_answer, seal, unseal, write_audit},
    append,
    credentials::free_token,
    directory::{self, Entry},
    fault::{Fault, Result},
    row::{bytes, instance_id, limit},
    sha256,
};
use crate::{
    StoreError,
    journal::NewEvent,
    registry::{Actor, Instance, InstancePatch, InstanceStatus, RESERVED_INSTANCE, Remember},
    seal::{Place, Sealer},
    unreadable,
};

const INSTANCE: &str = "id, account, name, token, source, route, CAST(settings AS BLOB), \
     created_at, deleted_at";

/// Those with a name, in whatever account.
const NAMED: &str = "name = ?1 AND deleted_at IS NULL ORDER BY id";

fn place<'a>(id: &'a [u8], column: &'static str) -> Place<'a> {
    Place { table: "instance", id, column }
}

fn instance(row: &Row<'_>, sealer: &Sealer) -> Result<Instance> {
    let id: [u8; 16] = row.get(0)?;
    let token = sealer.open(place(&id, "token"), &row.get::<_, Vec<u8>>(3)?)?;
    let token = String::from_utf8(token)
        .map_err(|error| Fault::malformed(format!("token of an instance: {error}")))?;
    let source: Option<Vec<u8>> = row.get(4)?;
    let source = source.map(|sealed| unseal(sealer, place(&id, "source"), &sealed)).transpose()?;
    without_secrets(row).map(|bare| Instance { token, source, ..bare })
}

fn without_secrets(row: &Row<'_>) -> Result<Instance> {
    let id = InstanceId::from_bytes(row.get(0)?);
    Ok(Instance {
        id,
        account: AccountId::from_bytes(row.get(1)?),
        name: row.get(2)?,
        token: String::new(),
        source: None,
        route: row.get(5)?,
        settings: directory::read_settings(id, bytes(row, 6)?),
        created_at: Timestamp::from_millis(row.get(7)?),
        deleted_at: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_millis),
    })
}

fn list(view: View<'_>, condition: &str, params: impl rusqlite::Params) -> Result<Vec<Instance>> {
    let mut statement =
        view.conn.prepare_cached(&format!("SELECT {INSTANCE} FROM instance WHERE {condition}"))?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // One unreadable secret must not hide everybody else.
        found.push(instance(row, &view.shared.sealer).or_else(|fault| match fault {
            Fault::Store(error) => {
                unreadable::secrets_of_instance(&error);
                without_secrets(row)
            }
            other => Err(other),
        })?);
    }
    Ok(found)
}

fn one(view: View<'_>, condition: &str, params: impl rusqlite::Params) -> Result<Option<Instance>> {
    let mut statement =
        view.conn.prepare_cached(&format!("SELECT {INSTANCE} FROM instance WHERE {condition}"))?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(|row| instance(row, &view.shared.sealer)).transpose()
}

pub(crate) fn by_id(view: View<'_>, id: InstanceId) -> Result<Option<Instance>> {
    one(view, "id = ?1", [id.to_bytes()])
}

/// Those that are not being deleted, by id.
pub(crate) fn instances(
    view: View<'_>,
    account: Option<AccountId>,
    after: Option<InstanceId>,
    rows: usize,
) -> Result<Vec<Instance>> {
    let after = after.map_or([0; 16], InstanceId::to_bytes);
    let of = if account.is_some() { "account = ?1" } else { "?1 IS NULL" };
    list(
        view,
        &format!("{of} AND id > ?2 AND deleted_at IS NULL ORDER BY id LIMIT ?3"),
        params![account.map(AccountId::to_bytes), after, limit(rows)],
    )
}

pub(crate) fn named(view: View<'_>, name: &str) -> Result<Vec<Instance>> {
    list(view, NAMED, [name])
}

pub(crate) fn by_route(
    view: View<'_>,
    account: Option<AccountId>,
    route: &str,
) -> Result<Option<Instance>> {
    match account {
        Some(account) => one(
            view,
            "account = ?1 AND route = ?2 AND deleted_at IS NULL",
            params![account.to_bytes(), route],
        ),
        None => one(view, "route = ?1 AND deleted_at IS NULL ORDER BY id LIMIT 1", [route]),
    }
}

pub(crate) fn by_token_hash(view: View<'_>, hash: [u8; 32]) -> Result<Option<Instance>> {
    one(view, "token_hash = ?1 AND deleted_at IS NULL ORDER BY id LIMIT 1", [hash])
}

pub(crate) fn deleted(view: View<'_>) -> Result<Vec<Instance>> {
    list(view, "deleted_at IS NOT NULL ORDER BY deleted_at", [])
}

/// What its events say of an instance.
pub(crate) fn status(view: View<'_>, id: InstanceId) -> Result<InstanceStatus> {
    if view.shared.directory().get(id).is_none() {
        return Err(Fault::not_found("instance"));
    }
    status_of(view, id)
}

/// The same of several, in their order; of one that there is not, nothing.
pub(crate) fn statuses(view: View<'_>, ids: &[InstanceId]) -> Result<Vec<InstanceStatus>> {
    ids.iter().map(|id| status_of(view, *id)).collect()
}

fn status_of(view: View<'_>, id: InstanceId) -> Result<InstanceStatus> {
    let stored: Option<i64> = view
        .conn
        .prepare_cached("SELECT last_event_at FROM instance_state WHERE instance = ?1")?
        .query_row([id.to_bytes()], |row| row.get(0))
        .optional()?
        .flatten();
    let newest: Option<i64> = view
        .conn
        .prepare_cached(
            "SELECT received_at FROM journal WHERE instance = ?1 ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([id.to_bytes()], |row| row.get(0))
        .optional()?;
    Ok(InstanceStatus {
        state: append::instance_state(view.conn, id)?,
        last_event_at: newest.max(stored).map(Timestamp::from_millis),
    })
}

/// Whether a name or route is free, or its holder is `own`.
fn free(
    tx: &Tx<'_>,
    account: AccountId,
    column: &str,
    value: &str,
    own: Option<InstanceId>,
) -> Result<()> {
    let taken: Option<[u8; 16]> = tx
        .conn
        .query_row(
            &format!(
                "SELECT id FROM instance \
                 WHERE account = ?1 AND {column} = ?2 AND deleted_at IS NULL"
            ),
            params![account.to_bytes(), value],
            |row| row.get(0),
        )
        .optional()?;
    match taken {
        Some(id) if Some(InstanceId::from_bytes(id)) != own => Err(match column {
            "route" => StoreError::RouteTaken { route: value.to_owned() }.into(),
            _ => Fault::exists("instance", value),
        }),
        _ => Ok(()),
    }
}

/// Whether an account that may have `most` instances has a place for another. The writer is alone:
/// nobody takes it meanwhile.
fn admit(tx: &Tx<'_>, account: AccountId, most: Option<usize>) -> Result<()> {
    let Some(most) = most else { return Ok(()) };
    let has: i64 = tx.conn.query_row(
        "SELECT count(*) FROM instance WHERE account = ?1 AND name <> ?2 AND deleted_at IS NULL",
        params![account.to_bytes(), RESERVED_INSTANCE],
        |row| row.get(0),
    )?;
    match usize::try_from(has).is_ok_and(|has| has < most) {
        true => Ok(()),
        false => Err(StoreError::TooManyInstances { most }.into()),
    }
}

/// Makes an instance, if the account has fewer than `most`; `lifecycle` is its first event, in the
/// same commit.
pub(crate) fn create(
    tx: &mut Tx<'_>,
    new: &Instance,
    lifecycle: &Draft,
    actor: &Actor,
    remember: Option<&Remember>,
    most: Option<usize>,
) -> Result<()> {
    let account: bool = tx.conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM account WHERE id = ?1)",
        [new.account.to_bytes()],
        |row| row.get(0),
    )?;
    if !account {
        return Err(Fault::not_found("account"));
    }
    free(tx, new.account, "name", &new.name, None)?;
    admit(tx, new.account, most)?;
    if let Some(route) = &new.route {
        free(tx, new.account, "route", route, None)?;
    }
    let id = new.id.to_bytes();
    let token_hash = sha256(new.token.as_bytes());
    free_token(tx, token_hash, id)?;
    let sealer = &tx.shared.sealer;
    let source = new.source.as_ref();
    let source = source.map(|source| seal(sealer, place(&id, "source"), source)).transpose()?;
    tx.conn.execute(
        "INSERT INTO instance (id, account, name, token, token_hash, source, route, settings, \
         created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            id,
            new.account.to_bytes(),
            new.name,
            sealer.seal(place(&id, "token"), new.token.as_bytes())?,
            token_hash,
            source,
            new.route,
            new.settings.to_string(),
            new.created_at.as_millis()
        ],
    )?;
    let entry = Entry {
        account: new.account,
        deleted: false,
        retention: directory::retention(&new.settings),
    };
    let instance = new.id;
    tx.pending.directory.push(Box::new(move |directory| directory.insert(instance, entry)));
    tx.append_own(NewEvent { instance, draft: lifecycle.clone() })?;
    let detail = json!({ "name": new.name });
    write_audit(tx, Some(new.account), actor, "instance.create", &instance.to_string(), &detail)?;
    keep_answer(tx, remember)
}

pub(crate) fn update(
    tx: &mut Tx<'_>,
    id: InstanceId,
    patch: &InstancePatch,
    actor: &Actor,
) -> Result<Instance> {
    let key = id.to_bytes();
    let account: Option<([u8; 16], String)> = tx
        .conn
        .query_row(
            "SELECT account, name FROM instance WHERE id = ?1 AND deleted_at IS NULL",
            [key],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((account, old_name)) = account else {
        return Err(Fault::not_found("instance"));
    };
    let account = AccountId::from_bytes(account);
    let sealer = &tx.shared.sealer;
    let mut changed = Vec::new();
    if let Some(name) = &patch.name {
        if old_name == RESERVED_INSTANCE {
            return Err(Fault::refused("the reserved instance keeps its name"));
        }
        free(tx, account, "name", name, Some(id))?;
        tx.conn.execute("UPDATE instance SET name = ?2 WHERE id = ?1", params![key, name])?;
        changed.push("name");
    }
    if let Some(token) = &patch.token {
        let hash = sha256(token.as_bytes());
        free_token(tx, hash, key)?;
        tx.conn.execute(
            "UPDATE instance SET token = ?2, token_hash = ?3 WHERE id = ?1",
            params![key, sealer.seal(place(&key, "token"), token.as_bytes())?, hash],
        )?;
        changed.push("token");
    }
    if let Some(source) = &patch.source {
        let sealed: Option<Vec<u8>> = source
            .as_ref()
            .map(|source: &Value| seal(sealer, place(&key, "source"), source))
            .transpose()?;
        tx.conn.execute("UPDATE instance SET source = ?2 WHERE id = ?1", params![key, sealed])?;
        changed.push("source");
    }
    if let Some(route) = &patch.route {
        if let Some(route) = route {
            free(tx, account, "route", route, Some(id))?;
        }
        tx.conn.execute("UPDATE instance SET route = ?2 WHERE id = ?1", params![key, route])?;
        changed.push("route");
    }
    let mut stored = Value::Null;
    if patch.merge_settings.is_some() {
        stored = by_id(tx.view(), id)?.map(|it| it.settings).unwrap_or_default();
    }
    if let Some(settings) = &patch.settings_of(|| stored) {
        tx.conn.execute(
            "UPDATE instance SET settings = ?2 WHERE id = ?1",
            params![key, settings.to_string()],
        )?;
        let retention = directory::retention(settings);
        tx.pending.directory.push(Box::new(move |directory| {
            directory.change(id, |entry| entry.retention = retention);
        }));
        changed.push("settings");
    }
    let detail = json!({ "changed": changed });
    write_audit(tx, Some(account), actor, "instance.update", &id.to_string(), &detail)?;
    by_id(tx.view(), id)?.ok_or_else(|| Fault::not_found("instance"))
}

/// From now on it takes no events; `lifecycle` is its last one.
pub(crate) fn mark_deleted(
    tx: &mut Tx<'_>,
    id: InstanceId,
    lifecycle: &Draft,
    actor: &Actor,
) -> Result<()> {
    let owner: Option<([u8; 16], String)> = tx
        .conn
        .query_row(
            "SELECT account, name FROM instance WHERE id = ?1 AND deleted_at IS NULL",
            [id.to_bytes()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((account, name)) = owner else {
        return Err(Fault::not_found("instance"));
    };
    if name == RESERVED_INSTANCE {
        return Err(Fault::refused("the reserved instance stays as long as its account"));
    }
    tx.append_own(NewEvent { instance: id, draft: lifecycle.clone() })?;
    tx.conn.execute(
        "UPDATE instance SET deleted_at = ?2 WHERE id = ?1",
        params![id.to_bytes(), tx.now.as_millis()],
    )?;
    tx.pending.directory.push(Box::new(move |directory| {
        directory.change(id, |entry| entry.deleted = true);
    }));
    let account = Some(AccountId::from_bytes(account));
    write_audit(tx, account, actor, "instance.delete", &id.to_string(), &json!({ "name": name }))
}

/// All instances, for memory.
pub(super) fn directory(conn: &rusqlite::Connection) -> Result<directory::Directory> {
    let mut statement = conn.prepare(
        "SELECT id, account, deleted_at IS NOT NULL, CAST(settings AS BLOB) FROM instance",
    )?;
    let mut rows = statement.query([])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let instance = instance_id(row, 0)?;
        let entry = Entry {
            account: AccountId::from_bytes(row.get(1)?),
            deleted: row.get(2)?,
            retention: directory::retention(&directory::read_settings(instance, bytes(row, 3)?)),
        };
        entries.push((instance, entry));
    }
    Ok(directory::Directory::of(entries))
}

/// The last step of dropping an instance: its own rows, once its events and destinations are gone.
pub(crate) fn forget(tx: &mut Tx<'_>, id: InstanceId) -> Result<()> {
    let key = id.to_bytes();
    tx.conn.execute(
        "DELETE FROM credential_secret WHERE credential IN \
         (SELECT id FROM credential WHERE instance = ?1)",
        [key],
    )?;
    for table in ["credential", "address_alias", "instance_state", "subscriber"] {
        tx.conn.execute(&format!("DELETE FROM {table} WHERE instance = ?1"), [key])?;
    }
    tx.conn.execute("DELETE FROM instance WHERE id = ?1", [key])?;
    tx.memory.aliases.forget();
    tx.pending.directory.push(Box::new(move |directory| directory.remove(id)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema::plan_of;

    #[test]
    fn a_name_is_found_without_its_account() {
        let plan = plan_of(&format!("SELECT {INSTANCE} FROM instance WHERE {NAMED}"));
        assert!(plan.starts_with("SEARCH instance USING INDEX instance_named (name=?)"), "{plan}");
    }
}
