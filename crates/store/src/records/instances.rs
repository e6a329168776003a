//! Instances.

use zapbus_event::{AccountId, Draft, InstanceId};

use crate::{
    Actor, Engine, Instance, InstancePatch, InstanceStatus, Remember, Result, Store,
    boxed::boxed,
    sqlite::{erase, instances},
};

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
                boxed(engine.create_instance(&instance, &lifecycle, actor, remember.as_ref())).await
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
            Engine::Postgres(engine) => boxed(engine.instance(id)).await,
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
            Engine::Postgres(engine) => boxed(engine.instances(account, after, limit)).await,
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
            Engine::Postgres(engine) => boxed(engine.instances_named(name)).await,
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
            Engine::Postgres(engine) => boxed(engine.instance_by_route(account, route)).await,
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
            Engine::Postgres(engine) => boxed(engine.instance_by_token_hash(hash)).await,
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
            Engine::Postgres(engine) => boxed(engine.update_instance(id, &patch, actor)).await,
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
            Engine::Postgres(engine) => {
                boxed(engine.mark_instance_deleted(id, &lifecycle, actor)).await
            }
        }
    }

    /// Instances that are being deleted, the longest so first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn deleted_instances(&self) -> Result<Vec<Instance>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(instances::deleted).await,
            Engine::Postgres(engine) => boxed(engine.deleted_instances()).await,
        }
    }

    /// Removes everything of an instance that is marked as deleted. In steps.
    ///
    /// # Errors
    /// When it is not marked; when the store cannot write (call again then).
    pub async fn drop_instance(&self, id: InstanceId) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => erase::drop_instance(engine, id).await,
            Engine::Postgres(engine) => boxed(engine.drop_instance(id)).await,
        }
    }

    /// What an instance's events say about it.
    ///
    /// # Errors
    /// When there is no such instance.
    pub async fn instance_status(&self, id: InstanceId) -> Result<InstanceStatus> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| instances::status(view, id)).await,
            Engine::Postgres(engine) => boxed(engine.instance_status(id)).await,
        }
    }
}
