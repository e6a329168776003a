//! The audit log, answers that are kept for whoever asks again, and settings.

use serde_json::Value;
use zapbus_event::{AccountId, AuditId, Timestamp};

use crate::boxed::boxed;
use crate::{Audit, Engine, Remember, Result, Store, sqlite::accounts};

/// # Audit, answers, settings
impl Store {
    /// Lines of the audit log, newest first; `after` is the last one of the page before.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn audit(
        &self,
        account: Option<AccountId>,
        after: Option<AuditId>,
        limit: usize,
    ) -> Result<Vec<Audit>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| accounts::audit(view, account, after, limit)).await
            }
            Engine::Postgres(engine) => boxed(engine.audit(account, after, limit)).await,
        }
    }

    /// Writes a line of the audit log that belongs to no change of the store's.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_audit(&self, audit: Audit) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.write(move |tx| accounts::record_audit(tx, &audit)).await
            }
            Engine::Postgres(engine) => boxed(engine.record_audit(&audit)).await,
        }
    }

    /// The answer kept for a caller's `Idempotency-Key` in the last 24 hours.
    ///
    /// # Errors
    /// When it cannot be decrypted.
    pub async fn remembered(
        &self,
        caller: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Remember>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let (caller, key) = (caller.to_owned(), key.to_owned());
                engine.read(move |view| accounts::remembered(view, &caller, &key, now)).await
            }
            Engine::Postgres(engine) => boxed(engine.remembered(caller, key, now)).await,
        }
    }

    /// A small fact of the gateway's.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn setting(&self, name: &str) -> Result<Option<Value>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let name = name.to_owned();
                engine.read(move |view| accounts::setting(view, &name)).await
            }
            Engine::Postgres(engine) => boxed(engine.setting(name)).await,
        }
    }

    /// Keeps a small fact of the gateway's.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn set_setting(&self, name: &str, value: Value) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let name = name.to_owned();
                engine.write(move |tx| accounts::set_setting(tx, &name, &value)).await
            }
            Engine::Postgres(engine) => boxed(engine.set_setting(name, &value)).await,
        }
    }

    /// Keeps a small fact unless one of that name is there already, and answers with the one that is
    /// kept: of several nodes that start at the same time one decides.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn set_setting_once(&self, name: &str, value: Value) -> Result<Value> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let name = name.to_owned();
                engine.write(move |tx| accounts::set_setting_once(tx, &name, &value)).await
            }
            Engine::Postgres(engine) => boxed(engine.set_setting_once(name, &value)).await,
        }
    }
}
