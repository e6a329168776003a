//! How far destinations are behind, for those who watch: cheap enough to be asked all the time.

use zapbus_event::{Position, Timestamp};

use crate::boxed::boxed;
use crate::{Engine, LaneId, Reader, Result, ShardId, Store, sqlite::lag};

/// How far a lane is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// When the oldest event was received that is neither settled nor skipped.
    pub oldest: Option<Timestamp>,
    /// Rows that hold an event (`retrying` or `waiting`), counted up to [`crate::LaneStats::CAP`].
    pub held: u64,
}

/// Events of a reader up to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How many; for an account, all positions in the stretch count.
    pub events: u64,
    /// Counted so far: less than what was asked for when the limit was reached.
    pub upto: Position,
}

/// What the store holds, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// When the oldest event was received that is still stored.
    pub oldest_event: Option<Timestamp>,
    /// Rows `retrying` or `waiting`, counted up to [`Holdings::CAP`].
    pub held: u64,
    /// Dead letters, counted up to [`Holdings::CAP`].
    pub dead: u64,
}

impl Holdings {
    /// Where counting stops.
    pub const CAP: u64 = 100_000;
}

impl Store {
    /// How far a lane is behind whose cursor is truly at `cursor` (what the store has of it may be
    /// older). Costs a few look-ups, however much is waiting.
    ///
    /// # Errors
    /// When the database cannot be read or the destination is gone.
    pub async fn behind(&self, lane: LaneId, cursor: Position) -> Result<Behind> {
        self.behind_in(lane, ShardId::default(), cursor).await
    }

    /// [`Store::behind`] in one shard, for a destination of a whole account.
    ///
    /// # Errors
    /// When the database cannot be read or the destination is gone.
    pub async fn behind_in(
        &self,
        lane: LaneId,
        shard: ShardId,
        cursor: Position,
    ) -> Result<Behind> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| lag::behind(view, lane, cursor)).await
            }
            Engine::Postgres(engine) => boxed(engine.behind(lane, shard, cursor)).await,
        }
    }

    /// Events after `after` and up to `upto`, whether a filter wants them or not. Looks at `limit`
    /// at most.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_between(
        &self,
        of: Reader,
        after: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Counted> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| lag::count_between(view, of, after, upto, limit)).await
            }
            Engine::Postgres(engine) => boxed(engine.count_between(of, after, upto, limit)).await,
        }
    }

    /// What there is, in numbers.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn holdings(&self) -> Result<Holdings> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(lag::holdings).await,
            Engine::Postgres(engine) => boxed(engine.holdings()).await,
        }
    }
}
