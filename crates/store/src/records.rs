//! The registry's part of the handle. Every change writes its line of the audit log in its commit.

use std::sync::Arc;

use serde_json::Value;
use zapbus_event::{
    AccountId, AuditId, CredentialId, DestinationId, Draft, InstanceId, Position, Timestamp,
};

use crate::{
    Account, Activity, Actor, Audit, Credential, Destination, DestinationHead, DestinationScope,
    Health, Instance, InstancePatch, InstanceStatus, Remember, Result, Start, Store,
    sqlite::{accounts, credentials, destinations, erase, instances},
};

/// # Accounts
impl Store {
    /// All accounts. One whose source cannot be decrypted is listed without it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn accounts(&self) -> Result<Vec<Account>> {
        self.engine.read(accounts::accounts).await
    }

    /// The account with this id.
    ///
    /// # Errors
    /// When its source cannot be decrypted.
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>> {
        self.engine.read(move |view| accounts::account_by_id(view, id)).await
    }

    /// The account with this name.
    ///
    /// # Errors
    /// When its source cannot be decrypted.
    pub async fn account_by_name(&self, name: &str) -> Result<Option<Account>> {
        let name = name.to_owned();
        self.engine.read(move |view| accounts::account_by_name(view, &name)).await
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
        let actor = actor.clone();
        self.engine
            .write(move |tx| accounts::create_account(tx, &account, &actor, remember.as_ref()))
            .await
    }

    /// Gives an account another name.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the name is taken.
    pub async fn rename_account(&self, id: AccountId, name: &str, actor: &Actor) -> Result<()> {
        let (name, actor) = (name.to_owned(), actor.clone());
        self.engine.write(move |tx| accounts::rename_account(tx, id, &name, &actor)).await
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
        let actor = actor.clone();
        self.engine
            .write(move |tx| accounts::set_account_source(tx, id, source.as_ref(), &actor))
            .await
    }

    /// Deletes an account with its destinations and credentials.
    ///
    /// # Errors
    /// Refused while it has instances besides the reserved one.
    pub async fn delete_account(&self, id: AccountId, actor: &Actor) -> Result<()> {
        let actor = actor.clone();
        self.engine.write(move |tx| accounts::delete_account(tx, id, &actor)).await
    }
}

/// # Instances
impl Store {
    /// Makes an instance; `lifecycle` is its first event.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the name or the route is taken in the account.
    pub async fn create_instance(
        &self,
        instance: Instance,
        lifecycle: Draft,
        actor: &Actor,
        remember: Option<Remember>,
    ) -> Result<()> {
        let actor = actor.clone();
        self.engine
            .write(move |tx| {
                instances::create(tx, &instance, &lifecycle, &actor, remember.as_ref())
            })
            .await
    }

    /// The instance with this id, also while it is being deleted.
    ///
    /// # Errors
    /// When its secrets cannot be decrypted.
    pub async fn instance(&self, id: InstanceId) -> Result<Option<Instance>> {
        self.engine.read(move |view| instances::by_id(view, id)).await
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
        self.engine.read(move |view| instances::instances(view, account, after, limit)).await
    }

    /// The instances with this name, of all accounts.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn instances_named(&self, name: &str) -> Result<Vec<Instance>> {
        let name = name.to_owned();
        self.engine.read(move |view| instances::named(view, &name)).await
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
        let route = route.to_owned();
        self.engine.read(move |view| instances::by_route(view, account, &route)).await
    }

    /// The instance whose token has this SHA-256.
    ///
    /// # Errors
    /// When its secrets cannot be decrypted.
    pub async fn instance_by_token_hash(&self, hash: [u8; 32]) -> Result<Option<Instance>> {
        self.engine.read(move |view| instances::by_token_hash(view, hash)).await
    }

    /// Changes an instance and gives it as it is then.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the name or the route is taken in the account.
    pub async fn update_instance(
        &self,
        id: InstanceId,
        patch: InstancePatch,
        actor: &Actor,
    ) -> Result<Instance> {
        let actor = actor.clone();
        self.engine.write(move |tx| instances::update(tx, id, &patch, &actor)).await
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
        let actor = actor.clone();
        self.engine.write(move |tx| instances::mark_deleted(tx, id, &lifecycle, &actor)).await
    }

    /// Instances that are being deleted, the longest so first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn deleted_instances(&self) -> Result<Vec<Instance>> {
        self.engine.read(instances::deleted).await
    }

    /// Removes everything of an instance that is marked as deleted. In steps.
    ///
    /// # Errors
    /// When it is not marked; when the store cannot write (call again then).
    pub async fn drop_instance(&self, id: InstanceId) -> Result<()> {
        erase::drop_instance(&self.engine, id).await
    }

    /// What an instance's events say about it.
    ///
    /// # Errors
    /// When there is no such instance.
    pub async fn instance_status(&self, id: InstanceId) -> Result<InstanceStatus> {
        self.engine.read(move |view| instances::status(view, id)).await
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
        let actor = actor.clone();
        self.engine
            .write(move |tx| {
                destinations::create(tx, &destination, start, &actor, remember.as_ref())
            })
            .await
    }

    /// The destination with this id.
    ///
    /// # Errors
    /// [`crate::StoreError::Sealed`] when its spec cannot be decrypted.
    pub async fn destination(&self, id: DestinationId) -> Result<Option<Destination>> {
        self.engine.read(move |view| destinations::by_id(view, id)).await
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
        self.engine
            .read(move |view| destinations::destinations(view, account, scope, after, limit))
            .await
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
        let label = label.to_owned();
        self.engine.read(move |view| destinations::by_label(view, account, instance, &label)).await
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
        let (id, actor) = (destination.id, actor.clone());
        let destination = Arc::new(destination);
        let more = self
            .engine
            .write(move |tx| destinations::update(tx, &destination, cursor, cancel_rows, &actor))
            .await?;
        self.cancel_rest(id, more).await
    }

    /// Deletes a destination. Its rows are called off and stay in the log.
    ///
    /// # Errors
    /// When there is no such destination.
    pub async fn delete_destination(&self, id: DestinationId, actor: &Actor) -> Result<()> {
        let actor = actor.clone();
        let more =
            self.engine.write(move |tx| destinations::delete_destination(tx, id, &actor)).await?;
        self.cancel_rest(id, more).await
    }

    async fn cancel_rest(&self, id: DestinationId, mut more: bool) -> Result<()> {
        while more {
            more = self.engine.write_step(move |tx| destinations::cancel_more(tx, id)).await?;
        }
        Ok(())
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
        let (activity, actor) = (activity.clone(), actor.clone());
        self.engine.write(move |tx| destinations::set_activity(tx, id, &activity, &actor)).await
    }

    /// [`Store::destination_heads`] for one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn destination_head(
        &self,
        id: DestinationId,
    ) -> Result<Option<(DestinationHead, Position, Health)>> {
        self.engine.read(move |view| destinations::head(view, id)).await
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
        self.engine.read(move |view| destinations::heads(view, after, limit)).await
    }
}

/// # Credentials
impl Store {
    /// Makes a credential. `secret_hash` is the SHA-256 of its secret.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when its public id is taken.
    pub async fn create_credential(
        &self,
        credential: Credential,
        secret_hash: [u8; 32],
        actor: &Actor,
        remember: Option<Remember>,
    ) -> Result<()> {
        let actor = actor.clone();
        self.engine
            .write(move |tx| {
                credentials::create(tx, &credential, secret_hash, &actor, remember.as_ref())
            })
            .await
    }

    /// Credentials by id, expired ones included.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credentials(&self, account: Option<AccountId>) -> Result<Vec<Credential>> {
        self.engine.read(move |view| credentials::credentials(view, account)).await
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
        self.engine.read(move |view| credentials::by_hash(view, hash, now)).await
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
        let public_id = public_id.to_owned();
        let now = (self.engine.shared.clock)();
        self.engine.read(move |view| credentials::by_public_id(view, &public_id, now)).await
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
        let actor = actor.clone();
        self.engine
            .write(move |tx| credentials::rotate(tx, id, new_hash, old_expires_at, &actor))
            .await
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
        let actor = actor.clone();
        self.engine.write(move |tx| credentials::expire(tx, id, at, &actor)).await
    }

    /// Removes a credential.
    ///
    /// # Errors
    /// When there is no such credential.
    pub async fn revoke_credential(&self, id: CredentialId, actor: &Actor) -> Result<()> {
        let actor = actor.clone();
        self.engine.write(move |tx| credentials::revoke(tx, id, &actor)).await
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
        self.engine.read(move |view| accounts::audit(view, account, after, limit)).await
    }

    /// Writes a line of the audit log that belongs to no change of the store's.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_audit(&self, audit: Audit) -> Result<()> {
        self.engine.write(move |tx| accounts::record_audit(tx, &audit)).await
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
        let (caller, key) = (caller.to_owned(), key.to_owned());
        self.engine.read(move |view| accounts::remembered(view, &caller, &key, now)).await
    }

    /// A small fact of the gateway's.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn setting(&self, name: &str) -> Result<Option<Value>> {
        let name = name.to_owned();
        self.engine.read(move |view| accounts::setting(view, &name)).await
    }

    /// Keeps a small fact of the gateway's.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn set_setting(&self, name: &str, value: Value) -> Result<()> {
        let name = name.to_owned();
        self.engine.write(move |tx| accounts::set_setting(tx, &name, &value)).await
    }
}
