//! How long what is kept.

use std::{collections::HashMap, time::Duration};

use zapbus_event::{InstanceId, Timestamp};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long what is kept, and what happens when the disk's share is used up.
#[derive(Debug, Clone)]
pub struct RetentionPolicy {
    /// Events that nobody is owed.
    pub journal: Duration,
    /// The same for single instances. An instance's own `settings.retention_s` comes before.
    pub overrides: HashMap<InstanceId, Duration>,
    /// Events that a lane, a run, or a `retrying` or `waiting` row still owes. Where some instance
    /// keeps its events for longer than this, that time counts for all.
    pub owed: Duration,
    /// Dead letters, with their events.
    pub dead: Duration,
    /// Ephemeral events.
    pub ephemeral: Duration,
    /// The delivery log.
    pub log: Duration,
    /// Answers kept for an `Idempotency-Key`.
    pub answers: Duration,
    /// The audit log.
    pub audit: Duration,
    /// Bytes that database and blobs may use together. Wins over all of the above: first what
    /// nobody is owed goes, oldest first, young or not; then it is as `when_full` says.
    pub max_bytes: u64,
    /// What happens when only events that somebody is owed could make room.
    pub when_full: WhenFull,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self {
            journal: 7 * DAY,
            overrides: HashMap::new(),
            owed: 30 * DAY,
            dead: 30 * DAY,
            ephemeral: Duration::from_secs(3600),
            log: 7 * DAY,
            answers: DAY,
            audit: 365 * DAY,
            max_bytes: 50 << 30,
            when_full: WhenFull::Gap,
        }
    }
}

/// What gives way when the space is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest events go, and each lane that was owed some gets a gap.
    Gap,
    /// What is owed stays, and appends are refused.
    Refuse,
}

/// How much one step may do.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Rows to look at.
    pub rows: usize,
    /// Time to take.
    pub time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { rows: 500, time: Duration::from_millis(3) }
    }
}

/// What one step of pruning did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events that went.
    pub events: u64,
    /// Delivery rows that went.
    pub deliveries: u64,
    /// Whole bodies, blobs, answers and lines of the audit log that went.
    pub others: u64,
    /// Lanes that lost events.
    pub gaps: u64,
    /// There is more to do now: call again.
    pub more: bool,
    /// When the next thing that is only a matter of time comes due, if that is known.
    pub next: Option<Timestamp>,
}
