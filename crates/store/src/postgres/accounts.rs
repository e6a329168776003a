//! Accounts, the audit log, remembered answers, settings.

use serde_json::{Value, json};
use tokio_postgres::Row;
use zapbus_event::{AccountId, AuditId, DestinationId, InstanceId, Timestamp};

use super::{
    Engine, Tx, destinations,
    pool::Session,
    row::{self, Fixed, fixed, limit, text, time},
    schema,
};
use crate::{
    Change, StoreError,
    directory::Entry,
    fault::{Fault, Result},
    prepared::sha256,
    registry::{Account, Actor, Audit, DEFAULT_ACCOUNT, RESERVED_INSTANCE, Remember},
    seal::{Place, Sealer, seal, unseal},
    unreadable,
};

/// How long an answer is kept for its `Idempotency-Key`.
const ANSWERS_MS: i64 = 24 * 3600 * 1000;

const ACCOUNT: &str = "SELECT id, name, source, created_at FROM account";

fn source_place(id: &[u8]) -> Place<'_> {
    Place { table: "account", id, column: "source" }
}

fn account(row: &Row, sealer: &Sealer) -> Result<Account> {
    let source: Option<&[u8]> = row.try_get(2)?;
    let id: [u8; 16] = fixed(row, 0)?;
    let source = source.map(|sealed| unseal(sealer, source_place(&id), sealed)).transpose()?;
    Ok(Account { source, ..without_source(row)? })
}

fn without_source(row: &Row) -> Result<Account> {
    Ok(Account {
        id: AccountId::from_bytes(fixed(row, 0)?),
        name: row.try_get(1)?,
        source: None,
        created_at: time(row, 3)?,
    })
}

/// What is taken by somebody else at the same time says so when it is written.
pub(super) fn or_exists<T>(done: Result<T>, what: &'static str, name: &str) -> Result<T> {
    or_taken(done, || StoreError::Exists { what, name: name.to_owned() })
}

/// The same in the words of the caller.
pub(super) fn or_taken<T>(done: Result<T>, taken: impl FnOnce() -> StoreError) -> Result<T> {
    done.map_err(|fault| match fault {
        Fault::Data(reason) if reason.starts_with("duplicate key") => taken().into(),
        other => other,
    })
}

/// Writes a line of the audit log.
pub(super) async fn insert_audit(session: &Session, audit: &Audit) -> Result<()> {
    session
        .execute(
            "INSERT INTO audit (id, at, account, actor, action, target, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[
                &Fixed(audit.id.to_bytes()),
                &audit.at.as_millis(),
                &audit.account.map(|account| Fixed(account.to_bytes())),
                &text(&audit.actor),
                &text(&audit.action),
                &text(&audit.target),
                &audit.detail.to_string(),
            ],
        )
        .await?;
    Ok(())
}

pub(crate) fn answer_place<'a>(id: &'a [u8; 32]) -> Place<'a> {
    Place { table: "answer", id, column: "answer" }
}

pub(crate) fn answer_id(caller: &str, key: &str) -> [u8; 32] {
    sha256(format!("{}:{caller}{key}", caller.len()).as_bytes())
}

/// Keeps the answer to a create, in the commit that creates. Fails when there is one already.
pub(super) async fn keep_answer(tx: &Tx, remember: Option<&Remember>) -> Result<()> {
    let Some(remember) = remember else {
        return Ok(());
    };
    let id = answer_id(&remember.caller, &remember.key);
    let sealed = seal(&tx.shared.sealer, answer_place(&id), &remember.answer)?;
    let now = tx.now.as_millis();
    let written = tx
        .session
        .execute(
            "INSERT INTO answer (caller, key, request, answer, created_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (caller, key) DO UPDATE SET \
             request = excluded.request, answer = excluded.answer, \
             created_at = excluded.created_at WHERE answer.created_at <= $6",
            &[
                &text(&remember.caller),
                &text(&remember.key),
                &Fixed(remember.request),
                &sealed,
                &now,
                &(now - ANSWERS_MS),
            ],
        )
        .await?;
    if written == 0 {
        return Err(Fault::exists("idempotency key", &remember.key));
    }
    Ok(())
}

async fn create(
    tx: &mut Tx,
    account: &Account,
    actor: &Actor,
    remember: Option<&Remember>,
) -> Result<()> {
    let id = account.id.to_bytes();
    let source = account.source.as_ref();
    let source =
        source.map(|source| seal(&tx.shared.sealer, source_place(&id), source)).transpose()?;
    let made = tx
        .session
        .execute(
            "INSERT INTO account (id, name, source, created_at) VALUES ($1, $2, $3, $4)",
            &[&Fixed(id), &text(&account.name), &source, &account.created_at.as_millis()],
        )
        .await;
    or_exists(made, "account", &account.name)?;
    let reserved =
        schema::insert_reserved_instance(&tx.session, &tx.shared.sealer, account.id, tx.now)
            .await?;
    let entry = Entry { account: account.id, deleted: false, retention: None };
    tx.directory(move |directory| directory.insert(reserved, entry));
    tx.tell(Change::Account(account.id));
    tx.tell(Change::Instance(reserved));
    let detail = json!({ "name": account.name });
    let target = account.id.to_string();
    tx.write_audit(Some(account.id), actor, "account.create", &target, &detail).await?;
    keep_answer(tx, remember).await
}

async fn delete(tx: &mut Tx, id: AccountId, actor: &Actor) -> Result<()> {
    let key = Fixed(id.to_bytes());
    let found =
        tx.session.first("SELECT name FROM account WHERE id = $1 FOR UPDATE", &[&key]).await?;
    let name: String = found.ok_or_else(|| Fault::not_found("account"))?.try_get(0)?;
    if name == DEFAULT_ACCOUNT {
        return Err(Fault::refused("the default account stays"));
    }
    let row = tx
        .session
        .one(
            "SELECT count(*) FROM instance WHERE account = $1 AND name <> $2",
            &[&key, &RESERVED_INSTANCE],
        )
        .await?;
    let instances: i64 = row.try_get(0)?;
    if instances > 0 {
        return Err(Fault::refused(format!(
            "the account has {instances} instances: delete them first, and wait until they are gone"
        )));
    }
    let destinations = tx
        .session
        .query("SELECT id FROM destination WHERE account = $1 AND deleted_at IS NULL", &[&key])
        .await?;
    for row in &destinations {
        destinations::delete(tx, DestinationId::from_bytes(fixed(row, 0)?), actor).await?;
    }
    tx.session
        .execute(
            "WITH gone AS (DELETE FROM credential WHERE account = $1 RETURNING id) \
             DELETE FROM credential_secret s USING gone WHERE s.credential = gone.id",
            &[&key],
        )
        .await?;
    tx.session.execute("DELETE FROM subscriber WHERE account = $1", &[&key]).await?;
    let reserved =
        tx.session.query("DELETE FROM instance WHERE account = $1 RETURNING id", &[&key]).await?;
    tx.session.execute("DELETE FROM account WHERE id = $1", &[&key]).await?;
    for row in &reserved {
        let instance = InstanceId::from_bytes(fixed(row, 0)?);
        tx.directory(move |directory| directory.remove(instance));
        tx.tell(Change::Instance(instance));
    }
    tx.tell(Change::Account(id));
    tx.write_audit(Some(id), actor, "account.delete", &id.to_string(), &json!({ "name": name }))
        .await
}

async fn set(
    tx: &mut Tx,
    id: AccountId,
    query: &str,
    value: super::pool::Param<'_>,
    (action, detail): (&str, Value),
    actor: &Actor,
) -> Result<()> {
    let changed = tx.session.execute(query, &[&Fixed(id.to_bytes()), value]).await?;
    if changed == 0 {
        return Err(Fault::not_found("account"));
    }
    tx.tell(Change::Account(id));
    tx.write_audit(Some(id), actor, action, &id.to_string(), &detail).await
}

/// # Accounts
impl Engine {
    pub(crate) async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        let session = self.session().await?;
        let rows = session.query(&format!("{ACCOUNT} ORDER BY id"), &[]).await?;
        let mut found = Vec::new();
        for row in &rows {
            found.push(account(row, &self.shared.sealer).or_else(|fault| match fault {
                Fault::Store(error) => {
                    unreadable::source_of_account(&error);
                    without_source(row)
                }
                other => Err(other),
            })?);
        }
        Ok(found)
    }

    pub(crate) async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        let session = self.session().await?;
        let found =
            session.first(&format!("{ACCOUNT} WHERE id = $1"), &[&Fixed(id.to_bytes())]).await?;
        Ok(found.map(|row| account(&row, &self.shared.sealer)).transpose()?)
    }

    pub(crate) async fn account_by_name(&self, name: &str) -> Result<Option<Account>, StoreError> {
        let session = self.session().await?;
        let found = session.first(&format!("{ACCOUNT} WHERE name = $1"), &[&text(name)]).await?;
        Ok(found.map(|row| account(&row, &self.shared.sealer)).transpose()?)
    }

    pub(crate) async fn create_account(
        &self,
        account: &Account,
        actor: &Actor,
        remember: Option<&Remember>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = create(&mut tx, account, actor, remember).await;
        tx.finish(done).await
    }

    pub(crate) async fn rename_account(
        &self,
        id: AccountId,
        name: &str,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let query = "UPDATE account SET name = $2 WHERE id = $1";
        let told = ("account.rename", json!({ "name": name }));
        let done = set(&mut tx, id, query, &text(name), told, actor).await;
        tx.finish(or_exists(done, "account", name)).await
    }

    pub(crate) async fn set_account_source(
        &self,
        id: AccountId,
        source: Option<&Value>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let key = id.to_bytes();
        let sealed = source
            .map(|source| seal(&self.shared.sealer, source_place(&key), source))
            .transpose()?;
        let mut tx = self.begin().await?;
        let query = "UPDATE account SET source = $2 WHERE id = $1";
        let told = ("account.source", json!({ "set": source.is_some() }));
        let done = set(&mut tx, id, query, &sealed, told, actor).await;
        tx.finish(done).await
    }

    pub(crate) async fn delete_account(
        &self,
        id: AccountId,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = delete(&mut tx, id, actor).await;
        tx.finish(done).await
    }
}

/// # Audit, answers, settings
impl Engine {
    pub(crate) async fn audit(
        &self,
        account: Option<AccountId>,
        after: Option<AuditId>,
        rows: usize,
    ) -> Result<Vec<Audit>, StoreError> {
        let session = self.session().await?;
        let before = Fixed(after.map_or([0xff; 16], AuditId::to_bytes));
        let of = if account.is_some() { "account = $3" } else { "$3::bytea IS NULL" };
        let rows = session
            .query(
                &format!(
                    "SELECT id, at, account, actor, action, target, detail FROM audit \
                     WHERE id < $1 AND {of} ORDER BY id DESC LIMIT $2"
                ),
                &[&before, &limit(rows), &account.map(|account| Fixed(account.to_bytes()))],
            )
            .await?;
        let read = |row: &Row| -> Result<Audit> {
            Ok(Audit {
                id: AuditId::from_bytes(fixed(row, 0)?),
                at: time(row, 1)?,
                account: row::maybe_fixed(row, 2)?.map(AccountId::from_bytes),
                actor: row.try_get(3)?,
                action: row.try_get(4)?,
                target: row.try_get(5)?,
                detail: serde_json::from_str(row.try_get(6)?)?,
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_>>()?)
    }

    pub(crate) async fn record_audit(&self, audit: &Audit) -> Result<(), StoreError> {
        let session = self.session().await?;
        Ok(insert_audit(&session, audit).await?)
    }

    pub(crate) async fn remembered(
        &self,
        caller: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Remember>, StoreError> {
        let session = self.session().await?;
        let found = session
            .first(
                "SELECT request, answer FROM answer \
                 WHERE caller = $1 AND key = $2 AND created_at > $3",
                &[&text(caller), &text(key), &(now.as_millis() - ANSWERS_MS)],
            )
            .await?;
        let Some(row) = found else {
            return Ok(None);
        };
        let id = answer_id(caller, key);
        let read = || -> Result<Remember> {
            Ok(Remember {
                caller: caller.to_owned(),
                key: key.to_owned(),
                request: fixed(&row, 0)?,
                answer: unseal(&self.shared.sealer, answer_place(&id), row.try_get(1)?)?,
            })
        };
        Ok(Some(read()?))
    }

    pub(crate) async fn setting(&self, name: &str) -> Result<Option<Value>, StoreError> {
        let session = self.session().await?;
        let found =
            session.first("SELECT value FROM setting WHERE name = $1", &[&text(name)]).await?;
        let read = |row: Row| -> Result<Value> { Ok(serde_json::from_str(row.try_get(0)?)?) };
        Ok(found.map(read).transpose()?)
    }

    pub(crate) async fn set_setting(&self, name: &str, value: &Value) -> Result<(), StoreError> {
        let session = self.session().await?;
        session
            .execute(
                "INSERT INTO setting (name, value) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                &[&text(name), &value.to_string()],
            )
            .await?;
        Ok(())
    }
    pub(crate) async fn set_setting_once(
        &self,
        name: &str,
        value: &Value,
    ) -> Result<Value, StoreError> {
        let session = self.session().await?;
        // A row that is there is written as it was, so that it is answered whoever made it.
        let row = session
            .one(
                "INSERT INTO setting AS kept (name, value) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET value = kept.value RETURNING value",
                &[&text(name), &value.to_string()],
            )
            .await?;
        let read = || -> Result<Value> { Ok(serde_json::from_str(row.try_get(0)?)?) };
        Ok(read()?)
    }
}
