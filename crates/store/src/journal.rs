//! What goes into the journal and what is read back.

use std::sync::Arc;

use bytes::Bytes;
use zapbus_event::{AccountId, Draft, Event, EventId, InstanceId, Position, Timestamp};

/// One event for the journal.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// Everything the source knows of it.
    pub draft: Draft,
}

/// What one request brings. All of it is committed together, in this order, or nothing is.
#[derive(Debug, Clone, Default)]
pub struct Append {
    /// The events, in the order they get their positions.
    pub events: Vec<NewEvent>,
    /// The whole upstream body, kept once under its SHA-256, when some of it was not understood.
    pub body: Option<Bytes>,
}

/// What became of one event of an [`Append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its id, or that of the first event with one of its keys.
    pub id: EventId,
    /// Its position, or the first one's.
    pub seq: Position,
    /// When it, or the first one, was accepted.
    pub received_at: Timestamp,
    /// The event was known already; nothing was written.
    pub duplicate: bool,
}

/// Whose events to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reader {
    /// One instance's.
    Instance(InstanceId),
    /// Those of all instances of an account, its reserved instance included.
    Account(AccountId),
    /// Everybody's.
    All,
}

/// How much to read at most. At least one event is returned if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Number of events.
    pub events: usize,
    /// Bytes, as [`Event::weight`] counts them.
    pub bytes: usize,
}

impl Default for Limit {
    /// As much as a lane may read past its cursor: 1,000 events, 4 MiB.
    fn default() -> Self {
        Self { events: 1_000, bytes: 4 << 20 }
    }
}

/// A stretch of the journal.
#[derive(Debug, Clone)]
pub struct Page {
    /// The reader's events, by position.
    pub events: Vec<Arc<Event>>,
    /// Nothing of the reader's at or below this position is missing from `events` (or was pruned);
    /// the next page starts after it.
    pub upto: Position,
    /// `upto` is the end of the journal.
    pub at_head: bool,
}
