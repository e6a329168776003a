//! The registry's part of the handle. Every change writes its line of the audit log in its commit.

use std::sync::Arc;

use serde_json::Value;
use zapbus_event::{
    AccountId, AuditId, CredentialId, DestinationId, Draft, InstanceId, Position, Timestamp,
};

use crate::{
    Account, Activity, Actor, Audit, Credential, Destination, DestinationHead, DestinationScope,
    Engine, Health, Instance, InstancePatch, InstanceStatus, Remember, Result, ShardId, Start,
    Store,
    sqlite::{self, accounts, credentials, destinations, erase, instances},
};

/// # Accounts
impl Store {
    /// All accounts. One whose source cannot be decrypted is listed without it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn accounts(&self) -> Result<Vec<Account>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(accounts::accounts).await,
            Engine::Postgres(engine) => engine.accounts().await,
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
            Engine::Postgres(engine) => engine.account(id).await,
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
            Engine::Postgres(engine) => engine.account_by_name(name).await,
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
                engine.create_account(&account, actor, remember.as_ref()).await
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
            Engine::Postgres(engine) => engine.rename_account(id, name, actor).await,
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
            Engine::Postgres(engine) => engine.set_account_source(id, source.as_ref(), actor).await,
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
            Engine::Postgres(engine) => engine.delete_account(id, actor).await,
        }
    }
}

/// # Instances
impl Store {
    /// Makes an instance; `lifecycle` is its first event.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the name or the route is taken in the account,
    /// [`crate::StoreError::TokenTaken`] when the token is somebody's.
    pub async fn create_instance(
        &self,
        instance: Instance,
        lifecycle: Draft,
        actor: &Actor,
        remember: Option<Remember>,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write(move |tx| {
                        instances::create(tx, &instance, &lifecycle, &actor, remember.as_ref())
                    })
                    .await
            }
            Engine::Postgres(engine) => {
                engine.create_instance(&instance, &lifecycle, actor, remember.as_ref()).await
            }
        }
    }

    /// The instance with this id, also while it is being deleted.
    ///
    /// # Errors
    /// When its secrets cannot be decrypted.
    pub async fn instance(&self, id: InstanceId) -> Result<Option<Instance>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| instances::by_id(view, id)).await,
            Engine::Postgres(engine) => engine.instance(id).await,
        }
    }

    /// Instances by id, those being deleted left out.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn instances(
        &self,
        account: Option<AccountId>,
        after: Option<InstanceId>,
        limit: usize,
    ) -> Result<Vec<Instance>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| instances::instances(view, account, after, limit)).await
            }
            Engine::Postgres(engine) => engine.instances(account, after, limit).await,
        }
    }

    /// The instances with this name, of all accounts.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn instances_named(&self, name: &str) -> Result<Vec<Instance>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let name = name.to_owned();
                engine.read(move |view| instances::named(view, &name)).await
            }
            Engine::Postgres(engine) => engine.instances_named(name).await,
        }
    }

    /// The instance with this route, in an account or in any.
    ///
    /// # Errors
    /// When its secrets cannot be decrypted.
    pub async fn instance_by_route(
        &self,
        account: Option<AccountId>,
        route: &str,
    ) -> Result<Option<Instance>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let route = route.to_owned();
                engine.read(move |view| instances::by_route(view, account, &route)).await
            }
            Engine::Postgres(engine) => engine.instance_by_route(account, route).await,
        }
    }

    /// The instance whose token has this SHA-256.
    ///
    /// # Errors
    /// When its secrets cannot be decrypted.
    pub async fn instance_by_token_hash(&self, hash: [u8; 32]) -> Result<Option<Instance>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| instances::by_token_hash(view, hash)).await
            }
            Engine::Postgres(engine) => engine.instance_by_token_hash(hash).await,
        }
    }

    /// Changes an instance and gives it as it is then.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the name or the route is taken in the account,
    /// [`crate::StoreError::TokenTaken`] when the token is somebody's.
    pub async fn update_instance(
        &self,
        id: InstanceId,
        patch: InstancePatch,
        actor: &Actor,
    ) -> Result<Instance> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine.write(move |tx| instances::update(tx, id, &patch, &actor)).await
            }
            Engine::Postgres(engine) => engine.update_instance(id, &patch, actor).await,
        }
    }

    /// Marks an instance as being deleted: it takes no events from now on. `lifecycle` is its last.
    ///
    /// # Errors
    /// When there is no such instance, or it is the reserved one.
    pub async fn mark_instance_deleted(
        &self,
        id: InstanceId,
        lifecycle: Draft,
        actor: &Actor,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine.write(move |tx| instances::mark_deleted(tx, id, &lifecycle, &actor)).await
            }
            Engine::Postgres(engine) => engine.mark_instance_deleted(id, &lifecycle, actor).await,
        }
    }

    /// Instances that are being deleted, the longest so first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn deleted_instances(&self) -> Result<Vec<Instance>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(instances::deleted).await,
            Engine::Postgres(engine) => engine.deleted_instances().await,
        }
    }

    /// Removes everything of an instance that is marked as deleted. In steps.
    ///
    /// # Errors
    /// When it is not marked; when the store cannot write (call again then).
    pub async fn drop_instance(&self, id: InstanceId) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => erase::drop_instance(engine, id).await,
            Engine::Postgres(engine) => engine.drop_instance(id).await,
        }
    }

    /// What an instance's events say about it.
    ///
    /// # Errors
    /// When there is no such instance.
    pub async fn instance_status(&self, id: InstanceId) -> Result<InstanceStatus> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| instances::status(view, id)).await,
            Engine::Postgres(engine) => engine.instance_status(id).await,
        }
    }
}

/// # Destinations
impl Store {
    /// Makes a destination and gives its cursor. With [`Start::Now`] it gets every event answered
    /// after this is, and none answered before it was called.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the label is taken.
    pub async fn create_destination(
        &self,
        destination: Destination,
        start: Start,
        actor: &Actor,
        remember: Option<Remember>,
    ) -> Result<Position> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write(move |tx| {
                        destinations::create(tx, &destination, start, &actor, remember.as_ref())
                    })
                    .await
            }
            Engine::Postgres(engine) => {
                engine.create_destination(&destination, start, actor, remember.as_ref()).await
            }
        }
    }

    /// The destination with this id.
    ///
    /// # Errors
    /// [`crate::StoreError::Sealed`] when its spec cannot be decrypted.
    pub async fn destination(&self, id: DestinationId) -> Result<Option<Destination>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| destinations::by_id(view, id)).await,
            Engine::Postgres(engine) => engine.destination(id).await,
        }
    }

    /// Destinations by id. One whose spec cannot be decrypted is listed as paused, with the reason
    /// and without the spec.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn destinations(
        &self,
        account: Option<AccountId>,
        scope: DestinationScope,
        after: Option<DestinationId>,
        limit: usize,
    ) -> Result<Vec<Destination>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine
                    .read(move |view| {
                        destinations::destinations(view, account, scope, after, limit)
                    })
                    .await
            }
            Engine::Postgres(engine) => engine.destinations(account, scope, after, limit).await,
        }
    }

    /// The destination with this label.
    ///
    /// # Errors
    /// [`crate::StoreError::Sealed`] when its spec cannot be decrypted.
    pub async fn destination_by_label(
        &self,
        account: AccountId,
        instance: Option<InstanceId>,
        label: &str,
    ) -> Result<Option<Destination>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let label = label.to_owned();
                engine
                    .read(move |view| destinations::by_label(view, account, instance, &label))
                    .await
            }
            Engine::Postgres(engine) => engine.destination_by_label(account, instance, label).await,
        }
    }

    /// Replaces a destination as a whole (account and instance stay), with its lane's true cursor
    /// in the same commit. `cancel_rows` calls off its retrying and waiting rows.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the label is taken.
    pub async fn update_destination(
        &self,
        destination: Destination,
        cursor: Option<Position>,
        cancel_rows: bool,
        actor: &Actor,
    ) -> Result<()> {
        let cursors = cursor.map(|cursor| (ShardId::default(), cursor));
        self.update_destination_in(destination, cursors.as_slice(), cancel_rows, actor).await
    }

    /// [`Store::update_destination`] with the cursor in each shard, for a destination of a whole
    /// account. A position beyond the head means the head in the commit; of a destination of one
    /// instance the first is meant.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the label is taken.
    pub async fn update_destination_in(
        &self,
        destination: Destination,
        cursors: &[(ShardId, Position)],
        cancel_rows: bool,
        actor: &Actor,
    ) -> Result<()> {
        let engine = match &self.engine {
            Engine::Sqlite(engine) => engine,
            Engine::Postgres(engine) => {
                return engine.update_destination(&destination, cursors, cancel_rows, actor).await;
            }
        };
        let cursor = cursors.first().map(|(_, cursor)| *cursor);
        let (id, actor) = (destination.id, actor.clone());
        let destination = Arc::new(destination);
        let more = engine
            .write(move |tx| destinations::update(tx, &destination, cursor, cancel_rows, &actor))
            .await?;
        cancel_rest(engine, id, more).await
    }

    /// Deletes a destination. Its rows are called off and stay in the log.
    ///
    /// # Errors
    /// When there is no such destination.
    pub async fn delete_destination(&self, id: DestinationId, actor: &Actor) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                let more = engine
                    .write(move |tx| destinations::delete_destination(tx, id, &actor))
                    .await?;
                cancel_rest(engine, id, more).await
            }
            Engine::Postgres(engine) => engine.delete_destination(id, actor).await,
        }
    }

    /// Changes whether a destination delivers, and nothing else of it.
    ///
    /// # Errors
    /// When there is no such destination.
    pub async fn set_activity(
        &self,
        id: DestinationId,
        activity: &Activity,
        actor: &Actor,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let (activity, actor) = (activity.clone(), actor.clone());
                engine.write(move |tx| destinations::set_activity(tx, id, &activity, &actor)).await
            }
            Engine::Postgres(engine) => engine.set_activity(id, activity, actor).await,
        }
    }

    /// [`Store::destination_heads`] for one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn destination_head(
        &self,
        id: DestinationId,
    ) -> Result<Option<(DestinationHead, Position, Health)>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| destinations::head(view, id)).await,
            Engine::Postgres(engine) => engine.destination_head(id).await,
        }
    }

    /// What is kept in memory of every destination, with where its live lane stands; by id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn destination_heads(
        &self,
        after: Option<DestinationId>,
        limit: usize,
    ) -> Result<Vec<(DestinationHead, Position, Health)>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| destinations::heads(view, after, limit)).await
            }
            Engine::Postgres(engine) => engine.destination_heads(after, limit).await,
        }
    }
}

/// # Credentials
impl Store {
    /// Makes a credential. `secret_hash` is the SHA-256 of its secret.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when its public id is taken,
    /// [`crate::StoreError::TokenTaken`] when the secret is somebody's.
    pub async fn create_credential(
        &self,
        credential: Credential,
        secret_hash: [u8; 32],
        actor: &Actor,
        remember: Option<Remember>,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write(move |tx| {
                        credentials::create(tx, &credential, secret_hash, &actor, remember.as_ref())
                    })
                    .await
            }
            Engine::Postgres(engine) => {
                engine.create_credential(&credential, secret_hash, actor, remember.as_ref()).await
            }
        }
    }

    /// Credentials by id, expired ones included.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credentials(&self, account: Option<AccountId>) -> Result<Vec<Credential>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| credentials::credentials(view, account)).await
            }
            Engine::Postgres(engine) => engine.credentials(account).await,
        }
    }

    /// The credential with this secret, if neither has expired. Its `expires_at` is the earlier
    /// end of the two.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credential_by_hash(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Credential>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| credentials::by_hash(view, hash, now)).await
            }
            Engine::Postgres(engine) => engine.credential_by_hash(hash, now).await,
        }
    }

    /// The credential with this public id, if it has not expired, with the hashes of those of its
    /// secrets that have not either.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credential_by_public_id(
        &self,
        public_id: &str,
    ) -> Result<Option<(Credential, Vec<[u8; 32]>)>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let public_id = public_id.to_owned();
                let now = (engine.shared.clock)();
                engine.read(move |view| credentials::by_public_id(view, &public_id, now)).await
            }
            Engine::Postgres(engine) => engine.credential_by_public_id(public_id).await,
        }
    }

    /// Gives a credential a new secret. Its old ones go on working until `old_expires_at`.
    ///
    /// # Errors
    /// When there is no such credential.
    pub async fn rotate_credential(
        &self,
        id: CredentialId,
        new_hash: [u8; 32],
        old_expires_at: Timestamp,
        actor: &Actor,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write(move |tx| credentials::rotate(tx, id, new_hash, old_expires_at, &actor))
                    .await
            }
            Engine::Postgres(engine) => {
                engine.rotate_credential(id, new_hash, old_expires_at, actor).await
            }
        }
    }

    /// Lets a credential expire.
    ///
    /// # Errors
    /// When there is no such credential.
    pub async fn expire_credential(
        &self,
        id: CredentialId,
        at: Timestamp,
        actor: &Actor,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine.write(move |tx| credentials::expire(tx, id, at, &actor)).await
            }
            Engine::Postgres(engine) => engine.expire_credential(id, at, actor).await,
        }
    }

    /// Removes a credential.
    ///
    /// # Errors
    /// When there is no such credential.
    pub async fn revoke_credential(&self, id: CredentialId, actor: &Actor) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine.write(move |tx| credentials::revoke(tx, id, &actor)).await
            }
            Engine::Postgres(engine) => engine.revoke_credential(id, actor).await,
        }
    }
}

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
            Engine::Postgres(engine) => engine.audit(account, after, limit).await,
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
            Engine::Postgres(engine) => engine.record_audit(&audit).await,
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
            Engine::Postgres(engine) => engine.remembered(caller, key, now).await,
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
            Engine::Postgres(engine) => engine.setting(name).await,
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
            Engine::Postgres(engine) => engine.set_setting(name, &value).await,
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
            Engine::Postgres(engine) => engine.set_setting_once(name, &value).await,
        }
    }
}

async fn cancel_rest(engine: &sqlite::Engine, id: DestinationId, mut more: bool) -> Result<()> {
    while more {
        more = engine.write_step(move |tx| destinations::cancel_more(tx, id)).await?;
    }
    Ok(())
}
