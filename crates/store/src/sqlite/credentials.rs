//! Credentials. Secrets are here only as hashes.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::json;
use zapbus_event::{AccountId, CredentialId, InstanceId, Timestamp};

use super::{
    Tx, View,
    accounts::{keep_answer, write_audit},
    fault::{Fault, Result},
};
use crate::{
    StoreError,
    registry::{Actor, Credential, Remember, Role},
};

const CREDENTIAL: &str =
    "c.id, c.role, c.account, c.instance, c.name, c.public_id, c.created_at, c.expires_at";

fn role_text(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Account => "account",
        Role::Instance => "instance",
    }
}

fn credential(row: &Row<'_>) -> Result<Credential> {
    let role: String = row.get(1)?;
    Ok(Credential {
        id: CredentialId::from_bytes(row.get(0)?),
        role: match role.as_str() {
            "admin" => Role::Admin,
            "account" => Role::Account,
            "instance" => Role::Instance,
            other => return Err(Fault::malformed(format!("role {other:?} of a credential"))),
        },
        account: row.get::<_, Option<[u8; 16]>>(2)?.map(AccountId::from_bytes),
        instance: row.get::<_, Option<[u8; 16]>>(3)?.map(InstanceId::from_bytes),
        name: row.get(4)?,
        public_id: row.get(5)?,
        created_at: Timestamp::from_millis(row.get(6)?),
        expires_at: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_millis),
    })
}

pub(crate) fn create(
    tx: &mut Tx<'_>,
    new: &Credential,
    hash: [u8; 32],
    actor: &Actor,
    remember: Option<&Remember>,
) -> Result<()> {
    if let Some(public_id) = &new.public_id {
        let taken: bool = tx.conn.query_row(
            "SELECT EXISTS (SELECT 1 FROM credential WHERE public_id = ?1)",
            [public_id],
            |row| row.get(0),
        )?;
        if taken {
            return Err(Fault::exists("credential", public_id));
        }
    }
    tx.conn.execute(
        "INSERT INTO credential (id, role, account, instance, name, public_id, created_at, \
         expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            new.id.to_bytes(),
            role_text(new.role),
            new.account.map(AccountId::to_bytes),
            new.instance.map(InstanceId::to_bytes),
            new.name,
            new.public_id,
            new.created_at.as_millis(),
            new.expires_at.map(Timestamp::as_millis)
        ],
    )?;
    add_secret(tx, new.id, hash)?;
    let detail = json!({ "name": new.name, "role": new.role });
    write_audit(tx, new.account, actor, "credential.create", &new.id.to_string(), &detail)?;
    keep_answer(tx, remember)
}

fn add_secret(tx: &mut Tx<'_>, id: CredentialId, hash: [u8; 32]) -> Result<()> {
    free_token(tx, hash, id.to_bytes())?;
    tx.conn.execute(
        "INSERT OR REPLACE INTO credential_secret (hash, credential) VALUES (?1, ?2)",
        params![hash, id.to_bytes()],
    )?;
    Ok(())
}

/// Refuses a token or secret by which another than `own` (an instance or a credential) is known:
/// one token must never stand for two.
pub(super) fn free_token(tx: &Tx<'_>, hash: [u8; 32], own: [u8; 16]) -> Result<()> {
    let taken: bool = tx.conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM instance \
         WHERE token_hash = ?1 AND deleted_at IS NULL AND id <> ?2) \
         OR EXISTS (SELECT 1 FROM credential_secret WHERE hash = ?1 AND credential <> ?2)",
        params![hash, own],
        |row| row.get(0),
    )?;
    if taken { Err(Fault::Store(StoreError::TokenTaken)) } else { Ok(()) }
}

pub(crate) fn credentials(view: View<'_>, account: Option<AccountId>) -> Result<Vec<Credential>> {
    let of = if account.is_some() { "c.account = ?1" } else { "?1 IS NULL" };
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {CREDENTIAL} FROM credential c WHERE {of} ORDER BY c.id"
    ))?;
    let mut rows = statement.query([account.map(AccountId::to_bytes)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(credential(row)?);
    }
    Ok(found)
}

/// The credential with this secret, if both are still valid. It expires when the first of them
/// does, so that whoever keeps it in memory knows until when.
pub(crate) fn by_hash(
    view: View<'_>,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Option<Credential>> {
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {CREDENTIAL}, s.expires_at \
         FROM credential_secret s JOIN credential c ON c.id = s.credential \
         WHERE s.hash = ?1 AND ifnull(s.expires_at > ?2, 1) AND ifnull(c.expires_at > ?2, 1)"
    ))?;
    let mut rows = statement.query(params![hash, now.as_millis()])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let mut found = credential(row)?;
    let secret_expires = row.get::<_, Option<i64>>(8)?.map(Timestamp::from_millis);
    found.expires_at = [found.expires_at, secret_expires].into_iter().flatten().min();
    Ok(Some(found))
}

/// The credential with this public id and the hashes of its secrets that are still valid.
pub(crate) fn by_public_id(
    view: View<'_>,
    public_id: &str,
    now: Timestamp,
) -> Result<Option<(Credential, Vec<[u8; 32]>)>> {
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {CREDENTIAL} FROM credential c \
         WHERE c.public_id = ?1 AND ifnull(c.expires_at > ?2, 1)"
    ))?;
    let mut rows = statement.query(params![public_id, now.as_millis()])?;
    let Some(found) = rows.next()?.map(credential).transpose()? else {
        return Ok(None);
    };
    let mut statement = view.conn.prepare_cached(
        "SELECT hash FROM credential_secret \
         WHERE credential = ?1 AND ifnull(expires_at > ?2, 1)",
    )?;
    let hashes = statement
        .query_map(params![found.id.to_bytes(), now.as_millis()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(Some((found, hashes)))
}

fn account_of(tx: &Tx<'_>, id: CredentialId) -> Result<Option<AccountId>> {
    let account: Option<Option<[u8; 16]>> = tx
        .conn
        .query_row("SELECT account FROM credential WHERE id = ?1", [id.to_bytes()], |row| {
            row.get(0)
        })
        .optional()?;
    match account {
        Some(account) => Ok(account.map(AccountId::from_bytes)),
        None => Err(Fault::not_found("credential")),
    }
}

/// Gives a credential a new secret; those it has go on working until `old_expires_at`.
pub(crate) fn rotate(
    tx: &mut Tx<'_>,
    id: CredentialId,
    hash: [u8; 32],
    old_expires_at: Timestamp,
    actor: &Actor,
) -> Result<()> {
    let account = account_of(tx, id)?;
    let expires = old_expires_at.as_millis();
    tx.conn.execute(
        "UPDATE credential_secret SET expires_at = min(ifnull(expires_at, ?2), ?2) \
         WHERE credential = ?1",
        params![id.to_bytes(), expires],
    )?;
    add_secret(tx, id, hash)?;
    let detail = json!({ "old_expires_at": old_expires_at });
    write_audit(tx, account, actor, "credential.rotate", &id.to_string(), &detail)
}

pub(crate) fn expire(
    tx: &mut Tx<'_>,
    id: CredentialId,
    at: Timestamp,
    actor: &Actor,
) -> Result<()> {
    let account = account_of(tx, id)?;
    tx.conn.execute(
        "UPDATE credential SET expires_at = ?2 WHERE id = ?1",
        params![id.to_bytes(), at.as_millis()],
    )?;
    let detail = json!({ "expires_at": at });
    write_audit(tx, account, actor, "credential.expire", &id.to_string(), &detail)
}

pub(crate) fn revoke(tx: &mut Tx<'_>, id: CredentialId, actor: &Actor) -> Result<()> {
    let account = account_of(tx, id)?;
    tx.conn.execute("DELETE FROM credential_secret WHERE credential = ?1", [id.to_bytes()])?;
    tx.conn.execute("DELETE FROM credential WHERE id = ?1", [id.to_bytes()])?;
    write_audit(tx, account, actor, "credential.revoke", &id.to_string(), &json!({}))
}
