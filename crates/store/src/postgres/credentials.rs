//! Credentials. Secrets are here only as hashes.

use serde_json::json;
use tokio_postgres::Row;
use zapbus_event::{AccountId, CredentialId, InstanceId, Timestamp};

use super::{
    Engine, Tx,
    accounts::{keep_answer, or_exists},
    row::{Fixed, fixed, maybe_fixed, maybe_time, text, time},
};
use crate::{
    Change, StoreError,
    fault::{Fault, Result},
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

fn credential(row: &Row) -> Result<Credential> {
    let role: &str = row.try_get(1)?;
    Ok(Credential {
        id: CredentialId::from_bytes(fixed(row, 0)?),
        role: match role {
            "admin" => Role::Admin,
            "account" => Role::Account,
            "instance" => Role::Instance,
            other => return Err(Fault::malformed(format!("role {other:?} of a credential"))),
        },
        account: maybe_fixed(row, 2)?.map(AccountId::from_bytes),
        instance: maybe_fixed(row, 3)?.map(InstanceId::from_bytes),
        name: row.try_get(4)?,
        public_id: row.try_get(5)?,
        created_at: time(row, 6)?,
        expires_at: maybe_time(row, 7)?,
    })
}

async fn create(
    tx: &mut Tx,
    new: &Credential,
    hash: [u8; 32],
    actor: &Actor,
    remember: Option<&Remember>,
) -> Result<()> {
    let made = tx
        .session
        .execute(
            "INSERT INTO credential (id, role, account, instance, name, public_id, created_at, \
             expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                &Fixed(new.id.to_bytes()),
                &role_text(new.role),
                &new.account.map(|account| Fixed(account.to_bytes())),
                &new.instance.map(|instance| Fixed(instance.to_bytes())),
                &text(&new.name),
                &new.public_id.as_deref().map(text),
                &new.created_at.as_millis(),
                &new.expires_at.map(Timestamp::as_millis),
            ],
        )
        .await;
    or_exists(made, "credential", new.public_id.as_deref().unwrap_or(&new.name))?;
    add_secret(tx, new.id, hash).await?;
    tx.tell(Change::Credential(new.id));
    let detail = json!({ "name": new.name, "role": new.role });
    let target = new.id.to_string();
    tx.write_audit(new.account, actor, "credential.create", &target, &detail).await?;
    keep_answer(tx, remember).await
}

async fn add_secret(tx: &Tx, id: CredentialId, hash: [u8; 32]) -> Result<()> {
    free_token(tx, hash, id.to_bytes()).await?;
    tx.session
        .execute(
            "INSERT INTO credential_secret (hash, credential) VALUES ($1, $2) \
             ON CONFLICT (hash) DO UPDATE SET expires_at = NULL",
            &[&Fixed(hash), &Fixed(id.to_bytes())],
        )
        .await?;
    Ok(())
}

/// Refuses a token or secret by which another than `own` (an instance or a credential) is known:
/// one token must never stand for two.
///
/// Two tables hold tokens, so that no unique index can say it. Whoever gives out this token at the
/// same time waits for the lock until this transaction has ended; the look is a statement of its
/// own, and sees what that one has committed.
pub(super) async fn free_token(tx: &Tx, hash: [u8; 32], own: [u8; 16]) -> Result<()> {
    let [a, b, c, d, ..] = hash;
    let lock = i32::from_be_bytes([a, b, c, d]);
    tx.session.one("SELECT pg_advisory_xact_lock(2053206393, $1)", &[&lock]).await?;
    let row = tx
        .session
        .one(
            "SELECT EXISTS (SELECT 1 FROM instance \
             WHERE token_hash = $1 AND deleted_at IS NULL AND id <> $2) \
             OR EXISTS (SELECT 1 FROM credential_secret WHERE hash = $1 AND credential <> $2)",
            &[&Fixed(hash), &Fixed(own)],
        )
        .await?;
    if row.try_get(0)? { Err(Fault::Store(StoreError::TokenTaken)) } else { Ok(()) }
}

async fn account_of(tx: &Tx, id: CredentialId) -> Result<Option<AccountId>> {
    let found = tx
        .session
        .first("SELECT account FROM credential WHERE id = $1 FOR UPDATE", &[&Fixed(id.to_bytes())])
        .await?;
    let row = found.ok_or_else(|| Fault::not_found("credential"))?;
    Ok(maybe_fixed(&row, 0)?.map(AccountId::from_bytes))
}

async fn rotate(
    tx: &mut Tx,
    id: CredentialId,
    hash: [u8; 32],
    old_expires_at: Timestamp,
    actor: &Actor,
) -> Result<()> {
    let account = account_of(tx, id).await?;
    tx.session
        .execute(
            "UPDATE credential_secret SET expires_at = least(coalesce(expires_at, $2), $2) \
             WHERE credential = $1",
            &[&Fixed(id.to_bytes()), &old_expires_at.as_millis()],
        )
        .await?;
    add_secret(tx, id, hash).await?;
    tx.tell(Change::Credential(id));
    let detail = json!({ "old_expires_at": old_expires_at });
    tx.write_audit(account, actor, "credential.rotate", &id.to_string(), &detail).await
}

async fn expire(tx: &mut Tx, id: CredentialId, at: Timestamp, actor: &Actor) -> Result<()> {
    let account = account_of(tx, id).await?;
    tx.session
        .execute(
            "UPDATE credential SET expires_at = $2 WHERE id = $1",
            &[&Fixed(id.to_bytes()), &at.as_millis()],
        )
        .await?;
    tx.tell(Change::Credential(id));
    let detail = json!({ "expires_at": at });
    tx.write_audit(account, actor, "credential.expire", &id.to_string(), &detail).await
}

async fn revoke(tx: &mut Tx, id: CredentialId, actor: &Actor) -> Result<()> {
    let account = account_of(tx, id).await?;
    let key = Fixed(id.to_bytes());
    tx.session.execute("DELETE FROM credential_secret WHERE credential = $1", &[&key]).await?;
    tx.session.execute("DELETE FROM credential WHERE id = $1", &[&key]).await?;
    tx.tell(Change::Credential(id));
    tx.write_audit(account, actor, "credential.revoke", &id.to_string(), &json!({})).await
}

impl Engine {
    pub(crate) async fn create_credential(
        &self,
        new: &Credential,
        hash: [u8; 32],
        actor: &Actor,
        remember: Option<&Remember>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = create(&mut tx, new, hash, actor, remember).await;
        tx.finish(done).await
    }

    pub(crate) async fn credentials(
        &self,
        account: Option<AccountId>,
    ) -> Result<Vec<Credential>, StoreError> {
        let of = if account.is_some() { "c.account = $1" } else { "$1::bytea IS NULL" };
        let session = self.session().await?;
        let rows = session
            .query(
                &format!("SELECT {CREDENTIAL} FROM credential c WHERE {of} ORDER BY c.id"),
                &[&account.map(|account| Fixed(account.to_bytes()))],
            )
            .await?;
        Ok(rows.iter().map(credential).collect::<Result<_>>()?)
    }

    pub(crate) async fn credential_by_hash(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Credential>, StoreError> {
        let session = self.session().await?;
        let found = session
            .first(
                &format!(
                    "SELECT {CREDENTIAL}, s.expires_at \
                     FROM credential_secret s JOIN credential c ON c.id = s.credential \
                     WHERE s.hash = $1 AND coalesce(s.expires_at > $2, true) \
                     AND coalesce(c.expires_at > $2, true)"
                ),
                &[&Fixed(hash), &now.as_millis()],
            )
            .await?;
        let read = |row: Row| -> Result<Credential> {
            let mut found = credential(&row)?;
            let secret_expires = maybe_time(&row, 8)?;
            found.expires_at = [found.expires_at, secret_expires].into_iter().flatten().min();
            Ok(found)
        };
        Ok(found.map(read).transpose()?)
    }

    pub(crate) async fn credential_by_public_id(
        &self,
        public_id: &str,
    ) -> Result<Option<(Credential, Vec<[u8; 32]>)>, StoreError> {
        let now = self.shared.now().as_millis();
        let session = self.session().await?;
        let found = session
            .first(
                &format!(
                    "SELECT {CREDENTIAL} FROM credential c \
                     WHERE c.public_id = $1 AND coalesce(c.expires_at > $2, true)"
                ),
                &[&text(public_id), &now],
            )
            .await?;
        let Some(row) = found else {
            return Ok(None);
        };
        let found = credential(&row)?;
        let rows = session
            .query(
                "SELECT hash FROM credential_secret \
                 WHERE credential = $1 AND coalesce(expires_at > $2, true)",
                &[&Fixed(found.id.to_bytes()), &now],
            )
            .await?;
        let hashes = rows.iter().map(|row| fixed(row, 0)).collect::<Result<_>>()?;
        Ok(Some((found, hashes)))
    }

    pub(crate) async fn rotate_credential(
        &self,
        id: CredentialId,
        hash: [u8; 32],
        old_expires_at: Timestamp,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = rotate(&mut tx, id, hash, old_expires_at, actor).await;
        tx.finish(done).await
    }

    pub(crate) async fn expire_credential(
        &self,
        id: CredentialId,
        at: Timestamp,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = expire(&mut tx, id, at, actor).await;
        tx.finish(done).await
    }

    pub(crate) async fn revoke_credential(
        &self,
        id: CredentialId,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = revoke(&mut tx, id, actor).await;
        tx.finish(done).await
    }
}
