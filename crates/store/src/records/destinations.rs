//! Destinations.

use std::sync::Arc;

use zapbus_event::{AccountId, DestinationId, InstanceId, Position};

use crate::{
    Activity, Actor, Destination, DestinationHead, DestinationScope, Engine, Health, Quota,
    Remember, Result, ShardId, Start, Store,
    boxed::boxed,
    sqlite::{self, destinations},
};

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
        self.create_destination_within(destination, start, actor, remember, None).await
    }

    /// [`Store::create_destination`] if the instance has a place for it.
    ///
    /// # Errors
    /// [`crate::StoreError::TooMany`] when it has none.
    pub async fn create_destination_within(
        &self,
        destination: Destination,
        start: Start,
        actor: &Actor,
        remember: Option<Remember>,
        quota: Option<Quota>,
    ) -> Result<Position> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write(move |tx| {
                        let (remember, quota) = (remember.as_ref(), quota.as_ref());
                        destinations::create(tx, &destination, start, &actor, remember, quota)
                    })
                    .await
            }
            Engine::Postgres(engine) => {
                let (remember, quota) = (remember.as_ref(), quota.as_ref());
                boxed(engine.create_destination(&destination, start, actor, remember, quota)).await
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
            Engine::Postgres(engine) => boxed(engine.destination(id)).await,
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
            Engine::Postgres(engine) => {
                boxed(engine.destinations(account, scope, after, limit)).await
            }
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
            Engine::Postgres(engine) => {
                boxed(engine.destination_by_label(account, instance, label)).await
            }
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
        self.update_destination_within(destination, cursors, cancel_rows, actor, None).await
    }

    /// [`Store::update_destination_in`] if the instance has a place for what it is then.
    ///
    /// # Errors
    /// [`crate::StoreError::TooMany`] when it has none.
    pub async fn update_destination_within(
        &self,
        destination: Destination,
        cursors: &[(ShardId, Position)],
        cancel_rows: bool,
        actor: &Actor,
        quota: Option<Quota>,
    ) -> Result<()> {
        let engine = match &self.engine {
            Engine::Sqlite(engine) => engine,
            Engine::Postgres(engine) => {
                let quota = quota.as_ref();
                return boxed(engine.update_destination(
                    &destination,
                    cursors,
                    cancel_rows,
                    actor,
                    quota,
                ))
                .await;
            }
        };
        let cursor = cursors.first().map(|(_, cursor)| *cursor);
        let (id, actor) = (destination.id, actor.clone());
        let destination = Arc::new(destination);
        let more = engine
            .write(move |tx| {
                let quota = quota.as_ref();
                destinations::update(tx, &destination, cursor, cancel_rows, &actor, quota)
            })
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
            Engine::Postgres(engine) => boxed(engine.delete_destination(id, actor)).await,
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
            Engine::Postgres(engine) => boxed(engine.set_activity(id, activity, actor)).await,
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
            Engine::Postgres(engine) => boxed(engine.destination_head(id)).await,
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
            Engine::Postgres(engine) => boxed(engine.destination_heads(after, limit)).await,
        }
    }
}

async fn cancel_rest(engine: &sqlite::Engine, id: DestinationId, mut more: bool) -> Result<()> {
    while more {
        more = engine.write_step(move |tx| destinations::cancel_more(tx, id)).await?;
    }
    Ok(())
}
