//! Accounts, the audit log, remembered answers, settings.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Value, json};
use zapbus_event::{AccountId, AuditId, Timestamp};

use super::{
    Tx, View,
    directory::Entry,
    fault::{Fault, Result},
    row::limit,
    schema,
};
pub(crate) use crate::seal::{seal, unseal};
use crate::{
    registry::{Account, Actor, Audit, Remember},
    seal::{Place, Sealer},
    unreadable,
};

/// How long an answer is kept for its `Idempotency-Key`.
const ANSWERS_MS: i64 = 24 * 3600 * 1000;

const ACCOUNT: &str = "id, name, source, created_at";

fn source_place(id: &[u8]) -> Place<'_> {
    Place { table: "account", id, column: "source" }
}

fn account(row: &Row<'_>, sealer: &Sealer) -> Result<Account> {
    let id: [u8; 16] = row.get(0)?;
    let source: Option<Vec<u8>> = row.get(2)?;
    Ok(Account {
        id: AccountId::from_bytes(id),
        name: row.get(1)?,
        source: source.map(|sealed| unseal(sealer, source_place(&id), &sealed)).transpose()?,
        created_at: Timestamp::from_millis(row.get(3)?),
    })
}

/// All accounts. One whose source cannot be decrypted is listed without it.
pub(crate) fn accounts(view: View<'_>) -> Result<Vec<Account>> {
    let mut statement =
        view.conn.prepare_cached(&format!("SELECT {ACCOUNT} FROM account ORDER BY id"))?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(account(row, &view.shared.sealer).or_else(|fault| match fault {
            Fault::Store(error) => {
                unreadable::source_of_account(&error);
                Ok(Account {
                    id: AccountId::from_bytes(row.get(0)?),
                    name: row.get(1)?,
                    source: None,
                    created_at: Timestamp::from_millis(row.get(3)?),
                })
            }
            other => Err(other),
        })?);
    }
    Ok(found)
}

pub(crate) fn account_by_id(view: View<'_>, id: AccountId) -> Result<Option<Account>> {
    let mut statement =
        view.conn.prepare_cached(&format!("SELECT {ACCOUNT} FROM account WHERE id = ?1"))?;
    let mut rows = statement.query([id.to_bytes()])?;
    rows.next()?.map(|row| account(row, &view.shared.sealer)).transpose()
}

pub(crate) fn account_by_name(view: View<'_>, name: &str) -> Result<Option<Account>> {
    let mut statement =
        view.conn.prepare_cached(&format!("SELECT {ACCOUNT} FROM account WHERE name = ?1"))?;
    let mut rows = statement.query([name])?;
    rows.next()?.map(|row| account(row, &view.shared.sealer)).transpose()
}

/// Makes an account and its reserved instance.
pub(crate) fn create_account(
    tx: &mut Tx<'_>,
    account: &Account,
    actor: &Actor,
    remember: Option<&Remember>,
) -> Result<()> {
    free_account_name(tx, &account.name, None)?;
    let id = account.id.to_bytes();
    let sealer = &tx.shared.sealer;
    let source = account.source.as_ref();
    let source = source.map(|source| seal(sealer, source_place(&id), source)).transpose()?;
    tx.conn.execute(
        "INSERT INTO account (id, name, source, created_at) VALUES (?1, ?2, ?3, ?4)",
        params![id, account.name, source, account.created_at.as_millis()],
    )?;
    let reserved = schema::insert_reserved_instance(tx.conn, sealer, account.id, tx.now)?;
    let entry = Entry { account: account.id, deleted: false, retention: None };
    tx.pending.directory.push(Box::new(move |directory| directory.insert(reserved, entry)));
    let detail = json!({ "name": account.name });
    let target = account.id.to_string();
    write_audit(tx, Some(account.id), actor, "account.create", &target, &detail)?;
    keep_answer(tx, remember)
}

fn free_account_name(tx: &Tx<'_>, name: &str, own: Option<AccountId>) -> Result<()> {
    let taken: Option<[u8; 16]> = tx
        .conn
        .query_row("SELECT id FROM account WHERE name = ?1", [name], |row| row.get(0))
        .optional()?;
    match taken {
        Some(id) if Some(AccountId::from_bytes(id)) != own => Err(Fault::exists("account", name)),
        _ => Ok(()),
    }
}

pub(crate) fn rename_account(
    tx: &mut Tx<'_>,
    id: AccountId,
    name: &str,
    actor: &Actor,
) -> Result<()> {
    free_account_name(tx, name, Some(id))?;
    let changed = tx
        .conn
        .execute("UPDATE account SET name = ?2 WHERE id = ?1", params![id.to_bytes(), name])?;
    if changed == 0 {
        return Err(Fault::not_found("account"));
    }
    write_audit(tx, Some(id), actor, "account.rename", &id.to_string(), &json!({ "name": name }))
}

pub(crate) fn set_account_source(
    tx: &mut Tx<'_>,
    id: AccountId,
    source: Option<&Value>,
    actor: &Actor,
) -> Result<()> {
    let place = id.to_bytes();
    let sealed =
        source.map(|source| seal(&tx.shared.sealer, source_place(&place), source)).transpose()?;
    let changed =
        tx.conn.execute("UPDATE account SET source = ?2 WHERE id = ?1", params![place, sealed])?;
    if changed == 0 {
        return Err(Fault::not_found("account"));
    }
    let detail = json!({ "set": source.is_some() });
    write_audit(tx, Some(id), actor, "account.source", &id.to_string(), &detail)
}

/// Deletes an account that has no instances but the reserved one.
pub(crate) fn delete_account(tx: &mut Tx<'_>, id: AccountId, actor: &Actor) -> Result<()> {
    let place = id.to_bytes();
    let name: Option<String> = tx
        .conn
        .query_row("SELECT name FROM account WHERE id = ?1", [place], |row| row.get(0))
        .optional()?;
    let Some(name) = name else {
        return Err(Fault::not_found("account"));
    };
    if name == crate::registry::DEFAULT_ACCOUNT {
        return Err(Fault::refused("the default account stays"));
    }
    let instances: i64 = tx.conn.query_row(
        "SELECT count(*) FROM instance WHERE account = ?1 AND name != ?2",
        params![place, crate::registry::RESERVED_INSTANCE],
        |row| row.get(0),
    )?;
    if instances > 0 {
        return Err(Fault::refused(format!(
            "the account has {instances} instances: delete them first, and wait until they are gone"
        )));
    }
    let destinations: Vec<[u8; 16]> = tx
        .conn
        .prepare("SELECT id FROM destination WHERE account = ?1 AND deleted_at IS NULL")?
        .query_map([place], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for destination in destinations {
        let destination = zapbus_event::DestinationId::from_bytes(destination);
        super::destinations::delete_destination(tx, destination, actor)?;
    }
    tx.conn.execute(
        "DELETE FROM credential_secret WHERE credential IN \
         (SELECT id FROM credential WHERE account = ?1)",
        [place],
    )?;
    tx.conn.execute("DELETE FROM credential WHERE account = ?1", [place])?;
    tx.conn.execute("DELETE FROM subscriber WHERE account = ?1", [place])?;
    let reserved: Vec<[u8; 16]> = tx
        .conn
        .prepare("SELECT id FROM instance WHERE account = ?1")?
        .query_map([place], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    tx.conn.execute("DELETE FROM instance WHERE account = ?1", [place])?;
    tx.conn.execute("DELETE FROM account WHERE id = ?1", [place])?;
    for instance in reserved {
        let instance = zapbus_event::InstanceId::from_bytes(instance);
        tx.pending.directory.push(Box::new(move |directory| directory.remove(instance)));
    }
    write_audit(tx, Some(id), actor, "account.delete", &id.to_string(), &json!({ "name": name }))
}

/// Writes a line of the audit log.
pub(crate) fn write_audit(
    tx: &mut Tx<'_>,
    account: Option<AccountId>,
    actor: &Actor,
    action: &str,
    target: &str,
    detail: &Value,
) -> Result<()> {
    let id = match tx.memory.last_audit {
        Some(last) if last.timestamp() == tx.now => {
            AuditId::from_bytes((u128::from_be_bytes(last.to_bytes()) + 1).to_be_bytes())
        }
        // Room above for a whole millisecond's lines.
        _ => AuditId::new(tx.now, tx.memory.random.next()? >> 49),
    };
    tx.memory.last_audit = Some(id);
    record_audit(
        tx,
        &Audit {
            id,
            at: tx.now,
            account,
            actor: actor.0.clone(),
            action: action.to_owned(),
            target: target.to_owned(),
            detail: detail.clone(),
        },
    )
}

pub(crate) fn record_audit(tx: &mut Tx<'_>, audit: &Audit) -> Result<()> {
    tx.conn
        .prepare_cached(
            "INSERT INTO audit (id, at, account, actor, action, target, detail) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            audit.id.to_bytes(),
            audit.at.as_millis(),
            audit.account.map(AccountId::to_bytes),
            audit.actor,
            audit.action,
            audit.target,
            audit.detail.to_string(),
        ])?;
    Ok(())
}

/// Lines of the audit log, newest first, after (that is: older than) `after`.
pub(crate) fn audit(
    view: View<'_>,
    account: Option<AccountId>,
    after: Option<AuditId>,
    rows: usize,
) -> Result<Vec<Audit>> {
    let of = if account.is_some() { "account = ?1" } else { "?1 IS NULL" };
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT id, at, account, actor, action, target, detail FROM audit \
         WHERE {of} AND id < ?2 ORDER BY id DESC LIMIT ?3"
    ))?;
    let before = after.map_or([0xff; 16], AuditId::to_bytes);
    let mut rows =
        statement.query(params![account.map(AccountId::to_bytes), before, limit(rows)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Audit {
            id: AuditId::from_bytes(row.get(0)?),
            at: Timestamp::from_millis(row.get(1)?),
            account: row.get::<_, Option<[u8; 16]>>(2)?.map(AccountId::from_bytes),
            actor: row.get(3)?,
            action: row.get(4)?,
            target: row.get(5)?,
            detail: serde_json::from_str(&row.get::<_, String>(6)?)?,
        });
    }
    Ok(found)
}

pub(crate) fn answer_place<'a>(id: &'a [u8; 32]) -> Place<'a> {
    Place { table: "answer", id, column: "answer" }
}

pub(crate) fn answer_id(caller: &str, key: &str) -> [u8; 32] {
    super::sha256(format!("{}:{caller}{key}", caller.len()).as_bytes())
}

/// Keeps the answer to a create, in the commit that creates. Fails when there is one already: of
/// two equal requests at the same time one creates, and the other finds its answer.
pub(crate) fn keep_answer(tx: &mut Tx<'_>, remember: Option<&Remember>) -> Result<()> {
    let Some(remember) = remember else {
        return Ok(());
    };
    let fresh: bool = tx.conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM answer WHERE caller = ?1 AND key = ?2 AND created_at > ?3)",
        params![remember.caller, remember.key, tx.now.as_millis() - ANSWERS_MS],
        |row| row.get(0),
    )?;
    if fresh {
        return Err(Fault::exists("idempotency key", &remember.key));
    }
    let id = answer_id(&remember.caller, &remember.key);
    tx.conn.execute(
        "INSERT OR REPLACE INTO answer (caller, key, request, answer, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            remember.caller,
            remember.key,
            remember.request,
            seal(&tx.shared.sealer, answer_place(&id), &remember.answer)?,
            tx.now.as_millis()
        ],
    )?;
    Ok(())
}

pub(crate) fn remembered(
    view: View<'_>,
    caller: &str,
    key: &str,
    now: Timestamp,
) -> Result<Option<Remember>> {
    let found: Option<([u8; 32], Vec<u8>)> = view
        .conn
        .prepare_cached(
            "SELECT request, answer FROM answer WHERE caller = ?1 AND key = ?2 AND created_at > ?3",
        )?
        .query_row(params![caller, key, now.as_millis() - ANSWERS_MS], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((request, sealed)) = found else {
        return Ok(None);
    };
    let answer = unseal(&view.shared.sealer, answer_place(&answer_id(caller, key)), &sealed)?;
    Ok(Some(Remember { caller: caller.to_owned(), key: key.to_owned(), request, answer }))
}

pub(crate) fn setting(view: View<'_>, name: &str) -> Result<Option<Value>> {
    let found: Option<String> = view
        .conn
        .prepare_cached("SELECT value FROM setting WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(found.map(|value| serde_json::from_str(&value)).transpose()?)
}

pub(crate) fn set_setting(tx: &mut Tx<'_>, name: &str, value: &Value) -> Result<()> {
    tx.conn.execute(
        "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)",
        params![name, value.to_string()],
    )?;
    Ok(())
}

/// The one that is kept: there may have been one already.
pub(crate) fn set_setting_once(tx: &mut Tx<'_>, name: &str, value: &Value) -> Result<Value> {
    tx.conn.execute(
        "INSERT OR IGNORE INTO setting (name, value) VALUES (?1, ?2)",
        params![name, value.to_string()],
    )?;
    let kept: String =
        tx.conn.query_row("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))?;
    Ok(serde_json::from_str(&kept)?)
}
