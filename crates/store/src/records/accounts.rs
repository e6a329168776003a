//! Accounts.

use serde_json::Value;
use zapbus_event::AccountId;

use crate::boxed::boxed;
use crate::{Account, Actor, Engine, Remember, Result, Store, sqlite::accounts};

/// # Accounts
impl Store {
    /// All accounts. One whose source cannot be decrypted is listed without it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn accounts(&self) -> Result<Vec<Account>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(accounts::accounts).await,
            Engine::Postgres(engine) => boxed(engine.accounts()).await,
        }
    }

    /// The account with this id.
    ///
    /// # Errors
    /// When its source cannot be decrypted.
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| accounts::account_by_id(view, id)).await
            }
            Engine::Postgres(engine) => boxed(engine.account(id)).await,
        }
    }

    /// The account with this name.
    ///
    /// # Errors
    /// When its source cannot be decrypted.
    pub async fn account_by_name(&self, name: &str) -> Result<Option<Account>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let name = name.to_owned();
                engine.read(move |view| accounts::account_by_name(view, &name)).await
            }
            Engine::Postgres(engine) => boxed(engine.account_by_name(name)).await,
        }
    }

    /// Makes an account, with its reserved instance.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the name is taken.
    pub async fn create_account(
        &self,
        account: Account,
        actor: &Actor,
        remember: Option<Remember>,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write(move |tx| {
                        accounts::create_account(tx, &account, &actor, remember.as_ref())
                    })
                    .await
            }
            Engine::Postgres(engine) => {
                boxed(engine.create_account(&account, actor, remember.as_ref())).await
            }
        }
    }

    /// Gives an account another name.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the name is taken.
    pub async fn rename_account(&self, id: AccountId, name: &str, actor: &Actor) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let (name, actor) = (name.to_owned(), actor.clone());
                engine.write(move |tx| accounts::rename_account(tx, id, &name, &actor)).await
            }
            Engine::Postgres(engine) => boxed(engine.rename_account(id, name, actor)).await,
        }
    }

    /// Sets, or with `None` takes away, an account's app-level source.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn set_account_source(
        &self,
        id: AccountId,
        source: Option<Value>,
        actor: &Actor,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write(move |tx| accounts::set_account_source(tx, id, source.as_ref(), &actor))
                    .await
            }
            Engine::Postgres(engine) => {
                boxed(engine.set_account_source(id, source.as_ref(), actor)).await
            }
        }
    }

    /// Deletes an account with its destinations and credentials.
    ///
    /// # Errors
    /// Refused while it has instances besides the reserved one.
    pub async fn delete_account(&self, id: AccountId, actor: &Actor) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine.write(move |tx| accounts::delete_account(tx, id, &actor)).await
            }
            Engine::Postgres(engine) => boxed(engine.delete_account(id, actor)).await,
        }
    }
}
