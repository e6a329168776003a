//! The subscribers' and tickets' part of the handle.

use zapbus_event::{SubscriberId, Timestamp};

use crate::{
    Engine, Result, Store,
    boxed::boxed,
    sqlite::subscribers,
    subscriber::{Advance, Progress, Subscriber, SubscriberQuery},
};

impl Store {
    /// Finds the subscriber with the id of `new`, or makes it as `new` says. Of an instance (or a
    /// whole account) that has too many, those unused for longest go.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn open_subscriber(&self, new: Subscriber) -> Result<Subscriber> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.write(move |tx| subscribers::open(tx, &new)).await,
            Engine::Postgres(engine) => boxed(engine.open_subscriber(&new)).await,
        }
    }

    /// Puts together what is stored of some subscribers with what this node has to add, and answers
    /// with the result, `None` for one that is gone. All in one commit; on PostgreSQL others may
    /// write in between, and nothing of theirs is lost. What adds nothing writes nothing.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn advance_subscribers(
        &self,
        advances: Vec<(SubscriberId, Advance)>,
    ) -> Result<Vec<Option<Progress>>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.write(move |tx| subscribers::advance(tx, &advances)).await
            }
            Engine::Postgres(engine) => boxed(engine.advance_subscribers(&advances)).await,
        }
    }

    /// Subscribers, in order of ids.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn subscribers(&self, query: SubscriberQuery) -> Result<Vec<Subscriber>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| subscribers::list(view, query)).await,
            Engine::Postgres(engine) => boxed(engine.subscribers(query)).await,
        }
    }

    /// The subscriber with this id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn subscriber(&self, id: SubscriberId) -> Result<Option<Subscriber>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| subscribers::find(view, id)).await,
            Engine::Postgres(engine) => boxed(engine.subscriber(id)).await,
        }
    }

    /// Forgets a subscriber: who connects with its name next begins anew. Whether there was one.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn delete_subscriber(&self, id: SubscriberId) -> Result<bool> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.write(move |tx| subscribers::delete(tx, id)).await,
            Engine::Postgres(engine) => boxed(engine.delete_subscriber(id)).await,
        }
    }

    /// Keeps what a ticket lets its bearer do, found by a hash of it, until it expires.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn keep_ticket(
        &self,
        hash: [u8; 32],
        pass: Vec<u8>,
        expires_at: Timestamp,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.write(move |tx| subscribers::keep_ticket(tx, hash, &pass, expires_at)).await
            }
            Engine::Postgres(engine) => boxed(engine.keep_ticket(hash, &pass, expires_at)).await,
        }
    }

    /// Takes a ticket: what it lets its bearer do, once, on whichever node, and not when it has
    /// expired by `now`.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn take_ticket(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<Vec<u8>>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.write(move |tx| subscribers::take_ticket(tx, hash, now)).await
            }
            Engine::Postgres(engine) => boxed(engine.take_ticket(hash, now)).await,
        }
    }
}
