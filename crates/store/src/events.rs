//! The journal's part of the handle.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use zapbus_event::{Event, EventId, InstanceId, Position, Timestamp};

use crate::{
    AppendError, Engine, Result, Store,
    boxed::boxed,
    journal::{Append, Appended, Limit, Page, Reader},
    shard::ShardId,
    sqlite::read,
    statistics::Tally,
};

impl Store {
    /// Appends events; all of the request or nothing (of several shards: all of each, in order).
    /// Answered when they are on disk.
    ///
    /// # Errors
    /// Nothing of it is stored, except that [`AppendError::Unavailable`] may leave that open: a
    /// repeat is then recognised by its keys.
    pub async fn append(&self, append: Append) -> std::result::Result<Vec<Appended>, AppendError> {
        let owners = Tally::owners(&append);
        let appended = match &self.engine {
            Engine::Sqlite(engine) => engine.append(append).await?,
            Engine::Postgres(engine) => boxed(engine.append(append)).await?,
        };
        self.tally.appended(&owners, &appended, self.now());
        Ok(appended)
    }

    /// The end of the journal in the first shard: a hint that something was committed. The journal
    /// is the truth.
    pub fn head(&self) -> watch::Receiver<Position> {
        self.head_in(ShardId::default())
    }

    /// [`Store::head`] of any shard.
    pub fn head_in(&self, shard: ShardId) -> watch::Receiver<Position> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.head(),
            Engine::Postgres(engine) => engine.head(shard),
        }
    }

    /// What comes after a position, from memory. `None` when that no longer reaches back so far, or
    /// nobody said which of several shards is meant.
    pub fn tail_after(&self, of: Reader, after: Position, limit: Limit) -> Option<Page> {
        self.tail_after_in(self.shard_read(of).ok()?, of, after, limit)
    }

    /// [`Store::tail_after`] in one shard.
    pub fn tail_after_in(
        &self,
        shard: ShardId,
        of: Reader,
        after: Position,
        limit: Limit,
    ) -> Option<Page> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.tail_after(of, after, limit),
            Engine::Postgres(engine) => engine.tail_after(of, shard, after, limit),
        }
    }

    /// What comes after a position. Looks at a bounded number of rows, so that a page may be empty
    /// and yet not at the head: go on from its `upto`.
    ///
    /// # Errors
    /// When the database cannot be read; of more than one instance, when there are several shards.
    pub async fn read_after(&self, of: Reader, after: Position, limit: Limit) -> Result<Page> {
        self.read_after_in(self.shard_read(of)?, of, after, limit).await
    }

    /// [`Store::read_after`] in one shard: what an account has there, or everybody.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read_after_in(
        &self,
        shard: ShardId,
        of: Reader,
        after: Position,
        limit: Limit,
    ) -> Result<Page> {
        let engine = match &self.engine {
            Engine::Sqlite(engine) => engine,
            Engine::Postgres(engine) => {
                return boxed(engine.read_after(of, shard, after, limit)).await;
            }
        };
        let metrics = &engine.shared.metrics;
        if let Some(page) = engine.tail_after(of, after, limit) {
            metrics.tail_hits.add(1);
            return Ok(page);
        }
        metrics.tail_misses.add(1);
        engine.read(move |view| read::after(view, of, after, limit)).await
    }

    /// What comes before a position, newest first. `upto` of the page is what the next call passes
    /// as `before`; `at_head` says that nothing older is stored.
    ///
    /// # Errors
    /// When the database cannot be read; of more than one instance, when there are several shards.
    pub async fn read_before(&self, of: Reader, before: Position, limit: Limit) -> Result<Page> {
        self.read_before_in(self.shard_read(of)?, of, before, limit).await
    }

    /// [`Store::read_before`] in one shard.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read_before_in(
        &self,
        shard: ShardId,
        of: Reader,
        before: Position,
        limit: Limit,
    ) -> Result<Page> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| read::before(view, of, before, limit)).await
            }
            Engine::Postgres(engine) => boxed(engine.read_before(of, shard, before, limit)).await,
        }
    }

    /// The event with this id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn event(&self, id: EventId) -> Result<Option<Arc<Event>>> {
        let engine = match &self.engine {
            Engine::Sqlite(engine) => engine,
            Engine::Postgres(engine) => return boxed(engine.event(id)).await,
        };
        let known = engine.shared.tail().event(id);
        match known {
            Some(event) => Ok(Some(event)),
            None => engine.read(move |view| read::event(view, id)).await,
        }
    }

    /// Where the event with this id is, if it is stored.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn locate(&self, id: EventId) -> Result<Option<(ShardId, Position)>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let found = engine.read(move |view| read::seq_of(view, id)).await?;
                Ok(found.map(|seq| (ShardId::default(), seq)))
            }
            Engine::Postgres(engine) => boxed(engine.locate(id)).await,
        }
    }

    /// The event at this position.
    ///
    /// # Errors
    /// When the database cannot be read, or there are several shards.
    pub async fn event_at(&self, seq: Position) -> Result<Option<Arc<Event>>> {
        self.event_at_in(self.single_shard()?, seq).await
    }

    /// The event at this position of a shard.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn event_at_in(&self, shard: ShardId, seq: Position) -> Result<Option<Arc<Event>>> {
        let engine = match &self.engine {
            Engine::Sqlite(engine) => engine,
            Engine::Postgres(engine) => return boxed(engine.event_at(shard, seq)).await,
        };
        let known = engine.shared.tail().event_at(seq);
        match known {
            Some(event) => Ok(Some(event)),
            None => engine.read(move |view| read::event_at(view, seq)).await,
        }
    }

    /// The last position before the first event received at or after `time`.
    ///
    /// # Errors
    /// When the database cannot be read, or there are several shards.
    pub async fn position_at(&self, time: Timestamp) -> Result<Position> {
        self.position_at_in(self.single_shard()?, time).await
    }

    /// [`Store::position_at`] in one shard.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn position_at_in(&self, shard: ShardId, time: Timestamp) -> Result<Position> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| read::position_at(view, time)).await,
            Engine::Postgres(engine) => boxed(engine.position_at(shard, time)).await,
        }
    }

    /// Where a reader goes on that has seen this event. When it is no longer stored: before the
    /// first event of its millisecond, so that some may come again and none is missed. When it
    /// belongs to what a restored store has lost: at a position with [`Store::gap_after`].
    ///
    /// # Errors
    /// When the database cannot be read, or there are several shards.
    pub async fn resolve_after(&self, id: EventId) -> Result<Position> {
        self.resolve_after_in(self.single_shard()?, id).await
    }

    /// [`Store::resolve_after`] in one shard: where a reader of that shard goes on, wherever the
    /// event was.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn resolve_after_in(&self, shard: ShardId, id: EventId) -> Result<Position> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| read::resolve_after(view, id)).await,
            Engine::Postgres(engine) => boxed(engine.resolve_after(shard, id)).await,
        }
    }

    /// A reader that stands below this position has missed events that were pruned (ephemeral ones
    /// do not count).
    ///
    /// # Errors
    /// When the database cannot be read, or there are several shards.
    pub async fn first_position(&self) -> Result<Position> {
        self.first_position_of(Reader::All).await
    }

    /// [`Store::first_position`] for one reader: the shorter retention of another instance makes
    /// no false alarm for this one.
    ///
    /// # Errors
    /// When the database cannot be read; of more than one instance, when there are several shards.
    pub async fn first_position_of(&self, of: Reader) -> Result<Position> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| read::pruned_upto(view, of)).await,
            Engine::Postgres(engine) => {
                boxed(engine.first_position(of, self.shard_read(of)?)).await
            }
        }
    }

    /// [`Store::first_position_of`] in one shard: also of what an account has there.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn first_position_in(&self, shard: ShardId, of: Reader) -> Result<Position> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| read::pruned_upto(view, of)).await,
            Engine::Postgres(engine) => boxed(engine.first_position(of, shard)).await,
        }
    }

    /// Whether a reader that has seen everything up to this position goes on with a gap: events
    /// with full retention were pruned after it, or it has the position from a store of which this
    /// one is a copy, restored since. Never for [`Position::START`].
    ///
    /// # Errors
    /// When the database cannot be read; of more than one instance, when there are several shards.
    pub async fn gap_after(&self, of: Reader, after: Position) -> Result<bool> {
        self.gap_after_in(self.shard_read(of)?, of, after).await
    }

    /// [`Store::gap_after`] in one shard.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn gap_after_in(&self, shard: ShardId, of: Reader, after: Position) -> Result<bool> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| read::gap_after(view, of, after)).await
            }
            Engine::Postgres(engine) => boxed(engine.gap_after(of, shard, after)).await,
        }
    }

    /// A whole upstream body that was kept because some of it was not understood.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn body(&self, sha256: [u8; 32]) -> Result<Option<Bytes>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| read::body(view, sha256)).await,
            Engine::Postgres(engine) => boxed(engine.body(sha256)).await,
        }
    }

    /// The other addresses of the person with this one, as far as the instance's events have shown
    /// them together.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn aliases(&self, instance: InstanceId, address: &str) -> Result<Vec<String>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let address = address.to_owned();
                engine.read(move |view| read::aliases(view, instance, &address)).await
            }
            Engine::Postgres(engine) => boxed(engine.aliases(instance, address)).await,
        }
    }
}
