//! What happened in the last hour and day, per instance and destination.
//!
//! Figures gather in memory, beside what is settled and appended, and are added to the store's in
//! slots of five minutes by [`Store::write_statistics`]. The delivery log is the truth: what was
//! not written when a process is killed is missing here and nowhere else.

mod latency;
mod tally;

use zapbus_event::{DestinationId, InstanceId, Timestamp};

pub use self::latency::Latencies;
pub(crate) use self::tally::{Key, Tally};
use crate::boxed::boxed;
use crate::{Engine, Result, Store, sqlite::statistics};

/// Milliseconds of a slot.
const SLOT_MS: i64 = 300_000;
const SLOTS_PER_HOUR: i64 = 12;
const SLOTS_PER_DAY: i64 = 288;

/// Rows written in one commit.
const WRITTEN_AT_ONCE: usize = 500;

/// A stretch of five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) i64);

impl Slot {
    fn of(at: Timestamp) -> Self {
        Self(at.as_millis().div_euclid(SLOT_MS))
    }

    fn begin(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_mul(SLOT_MS))
    }
}

/// Whose figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// What became of the deliveries of a destination.
    Destination(DestinationId),
    /// The events of an instance, and what became of the deliveries of the destinations that are
    /// its own (not of those of the whole account).
    Instance(InstanceId),
}

/// Figures of a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events accepted from sources; counted for instances only.
    pub events: u64,
    /// Attempts that the destination accepted.
    pub accepted: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries given up.
    pub dead: u64,
    /// Deliveries whose time had passed.
    pub expired: u64,
    /// When a delivery was last accepted.
    pub last_delivered: Option<Timestamp>,
    /// How long attempts took, whatever came of them.
    pub latencies: Latencies,
}

impl Figures {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.events += other.events;
        self.accepted += other.accepted;
        self.failed += other.failed;
        self.dead += other.dead;
        self.expired += other.expired;
        self.last_delivered = self.last_delivered.max(other.last_delivered);
        self.latencies.merge(&other.latencies);
    }

    /// The share of attempts that were accepted; `None` when there were none.
    pub fn success_rate(&self) -> Option<f64> {
        let attempts = self.accepted + self.failed;
        (attempts > 0).then(|| self.accepted as f64 / attempts as f64)
    }
}

/// Figures since a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// They begin here: a round five minutes, up to five minutes before the hour or day.
    pub from: Timestamp,
    /// What was counted.
    pub figures: Figures,
}

/// The last hour and day of a [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// The last hour.
    pub hour: Window,
    /// The last day.
    pub day: Window,
    /// For an instance, when its newest stored event was accepted. For a destination, when it last
    /// accepted one, as far as figures or log reach back.
    pub last_event_at: Option<Timestamp>,
}

/// What an engine has of a [`Subject`].
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Figures that were written.
    pub(crate) slots: Vec<(Slot, Figures)>,
    /// See [`Statistics::last_event_at`].
    pub(crate) last_event_at: Option<Timestamp>,
    /// An instance's own destinations, whose figures count for it.
    pub(crate) destinations: Vec<DestinationId>,
}

impl Store {
    /// The last hour and day, up to this moment; of other nodes, up to what they have written.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn statistics(&self, of: Subject) -> Result<Statistics> {
        let now = Slot::of(self.now());
        let (hour, day) = (Slot(now.0 - SLOTS_PER_HOUR), Slot(now.0 - SLOTS_PER_DAY));
        // The clock may have been set back a little.
        let slots = day.0..=now.0 + 1;
        // What is on its way into the store would be counted neither here nor there.
        let _whole = self.tally.writing.lock().await;
        let found = match &self.engine {
            Engine::Sqlite(engine) => statistics::stored(engine, of, slots).await?,
            Engine::Postgres(engine) => boxed(engine.stored_statistics(of, slots)).await?,
        };
        let Stored { slots: mut stored, last_event_at, destinations } = found;
        if !destinations.is_empty() {
            stored.extend(self.tally.find(|key| match key {
                Key::Destination(id) => destinations.contains(id),
                Key::Instance(_) => false,
            }));
        }
        let recent = self.tally.find(|key| match of {
            Subject::Destination(id) => *key == Key::Destination(id),
            Subject::Instance(id) => *key == Key::Instance(id),
        });
        let (mut in_hour, mut in_day) = (Figures::default(), Figures::default());
        for (slot, figures) in stored.iter().chain(&recent).filter(|(slot, _)| *slot >= day) {
            in_day.merge(figures);
            if *slot >= hour {
                in_hour.merge(figures);
            }
        }
        Ok(Statistics {
            last_event_at: match of {
                Subject::Destination(_) => last_event_at.max(in_day.last_delivered),
                Subject::Instance(_) => last_event_at,
            },
            hour: Window { from: hour.begin(), figures: in_hour },
            day: Window { from: day.begin(), figures: in_day },
        })
    }

    /// Adds what has gathered to what is stored, and forgets what is older than a day. To be called
    /// every few seconds; [`Store::close`] calls it too.
    ///
    /// # Errors
    /// When the store cannot write; what was not written is kept.
    pub async fn write_statistics(&self) -> Result<()> {
        let _whole = self.tally.writing.lock().await;
        let mut rows = self.tally.take();
        // Neighbours in the tables are written together.
        rows.sort_unstable_by_key(|(key, slot, _)| (*slot, *key));
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let (step, after) = rest.split_at(rest.len().min(WRITTEN_AT_ONCE));
            let written = match &self.engine {
                Engine::Sqlite(engine) => {
                    let step: std::sync::Arc<[_]> = step.into();
                    engine.write_step(move |tx| statistics::add(tx, &step)).await
                }
                Engine::Postgres(engine) => boxed(engine.add_statistics(step)).await,
            };
            if let Err(error) = written {
                self.tally.put_back(rest);
                return Err(error);
            }
            rest = after;
        }
        let oldest = Slot(Slot::of(self.now()).0 - SLOTS_PER_DAY);
        if rows.is_empty() {
            return Ok(());
        }
        while match &self.engine {
            Engine::Sqlite(engine) => {
                engine.write_step(move |tx| statistics::forget(tx, oldest)).await?
            }
            Engine::Postgres(engine) => boxed(engine.forget_statistics(oldest)).await?,
        } {}
        Ok(())
    }
}
