//! What pruning asks of an engine: one transaction, over one shard.

use std::{sync::Arc, time::Duration};

use zapbus_event::{AccountId, DestinationId, Filter, InstanceId, Kind, Position, Timestamp};

use super::{Ages, Left, Pruner, Reach};
use crate::{delivery::Row, fault::Result, journal::NewEvent, metrics::Metrics, retention::Pruned};

/// A position as databases have it. One beyond every stored one stays beyond.
pub(super) fn sql(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

/// The inverse of [`sql`].
pub(super) fn position(stored: i64) -> Position {
    Position(u64::try_from(stored).unwrap_or(0))
}

/// A count that cannot be negative.
pub(super) fn count(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// An event that goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doomed {
    pub(crate) seq: i64,
    pub(crate) instance: InstanceId,
    pub(crate) received_at: i64,
    pub(crate) flags: i64,
}

/// A row that is to be sent, or a dead letter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenRow {
    pub(crate) seq: i64,
    pub(crate) dead: bool,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) manual: bool,
}

/// Enough of an event to ask a filter.
#[derive(Debug, Clone)]
pub(crate) struct Glimpse {
    pub(crate) seq: i64,
    pub(crate) instance: InstanceId,
    pub(crate) kind: Kind,
    pub(crate) facet: Option<String>,
    pub(crate) ephemeral: bool,
}

/// A line of the delivery log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) n: i64,
    pub(crate) destination: i64,
    pub(crate) run: i64,
    pub(crate) seq: i64,
    pub(crate) status: i64,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

/// A lane that may lose something.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) number: i64,
    pub(crate) run: u32,
    pub(crate) id: DestinationId,
    pub(crate) account: AccountId,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) label: String,
    /// One that cannot be read wants everything: rather a gap too many than one too few.
    pub(crate) filter: Filter,
    pub(crate) cursor: i64,
    /// The last position it is moved to. At its cursor or before, it is not moved.
    pub(crate) upto: i64,
}

/// See the module. Positions are those of its shard.
pub(crate) trait Ground {
    fn pruner(&mut self) -> &mut Pruner;
    fn metrics(&self) -> Arc<Metrics>;
    /// The time of the transaction.
    fn now(&self) -> Timestamp;
    /// The time by the clock.
    fn clock(&self) -> Timestamp;
    /// How far what gives way to size may go; `None`: it is not this step's business.
    fn reach(&self) -> Option<Reach>;
    /// The end of the journal.
    fn head(&mut self) -> Position;
    /// Instances with a retention of their own.
    fn retentions(&self) -> Vec<(InstanceId, Duration)>;
    fn account_of(&self, instance: InstanceId) -> Option<AccountId>;
    /// Whether an instance takes events.
    fn takes(&self, instance: InstanceId) -> bool;

    /// The last position before the first event at or after a time.
    fn position_at(&mut self, time: Timestamp) -> Result<Position>;
    /// The oldest position that is stored; beyond all when there is none.
    fn oldest(&mut self) -> Result<i64>;
    /// The next events, of one instance or of all, after a position and up to another.
    fn next_events(
        &mut self,
        of: Option<InstanceId>,
        at: i64,
        upto: i64,
        wanted: usize,
    ) -> Result<Vec<Doomed>>;
    /// Open rows of the positions between the two.
    fn open_rows(&mut self, first: i64, last: i64) -> Result<Vec<OpenRow>>;
    /// From where to where lanes and replays have still to read of an instance's events.
    fn owed_stretches(&mut self, instance: InstanceId) -> Result<Vec<(i64, i64)>>;
    /// About how many bytes are free again when each of these is gone.
    fn weigh(&mut self, page: &[Doomed]) -> Result<Vec<u64>>;
    /// Deletes events, with their settled rows and the files only they refer to. Rows that were
    /// still to be sent become `expired`.
    fn delete_events(&mut self, doomed: &[Doomed], pruned: &mut Pruned) -> Result<()>;
    /// Bytes that hold data, blobs included, as of now in this transaction. Where it is not more than
    /// `bound`, any number up to that will do.
    fn used_bytes(&mut self, bound: u64) -> Result<u64>;

    /// Deletes the oldest whole body that came at this time or before, if there is one.
    fn free_body(&mut self, upto: i64) -> Result<bool>;
    /// Whole bodies after a time and number, older than another time: number, instance, time.
    fn bodies(
        &mut self,
        after: (i64, i64),
        before: i64,
        wanted: usize,
    ) -> Result<Vec<(i64, InstanceId, i64)>>;
    fn delete_body(&mut self, number: i64) -> Result<()>;

    /// Lines of the log after one.
    fn lines(&mut self, after: i64, wanted: usize) -> Result<Vec<Line>>;
    /// A lane's cursor; beyond all when the lane is gone for good.
    fn cursor(&mut self, destination: i64, run: i64) -> Result<i64>;
    fn delete_line(&mut self, line: &Line) -> Result<()>;

    /// Deduplication keys, answers, the audit log, secrets and destinations deleted long ago. True
    /// when there is more.
    fn small_things(
        &mut self,
        ages: &Ages<'_>,
        left: &mut Left,
        pruned: &mut Pruned,
    ) -> Result<bool>;
    /// Removes what a crash left behind in one of 256 parts of what is kept beside the database.
    fn sweep(&mut self, shelf: u8) -> Result<u64>;

    /// Lanes, in order, after one.
    fn lane_keys(&mut self, after: (i64, i64), wanted: usize) -> Result<Vec<(i64, i64)>>;
    /// One that is before `to` or has rows there, and is neither cancelled nor deleted.
    fn lane(&mut self, key: (i64, i64), to: i64) -> Result<Option<Lane>>;
    /// Events of a lane's instance (or of all) after a position and up to another.
    fn glimpses(&mut self, lane: &Lane, at: i64, upto: i64, wanted: usize) -> Result<Vec<Glimpse>>;
    fn has_row(&mut self, lane: &Lane, seq: i64) -> Result<bool>;
    /// A lane's rows after a position and up to another, and whether each is still to be sent.
    fn rows(
        &mut self,
        lane: &Lane,
        after: i64,
        upto: i64,
        wanted: usize,
    ) -> Result<Vec<(i64, bool)>>;
    /// Moves a lane to where it is to be moved.
    fn move_cursor(&mut self, lane: &Lane) -> Result<()>;
    fn write_row(&mut self, lane: &Lane, row: &Row) -> Result<()>;
    /// Appends an event about the loss, with the same commit.
    fn append_own(&mut self, event: NewEvent) -> Result<()>;
    /// The instance of an account for events of no number.
    fn reserved_instance(&mut self, account: AccountId) -> Result<Option<InstanceId>>;
}
