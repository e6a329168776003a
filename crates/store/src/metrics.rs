//! What the store counts about itself. Plain atomics: whoever exports them reads them.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A number that only grows, or one that is set.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Relaxed);
    }
}

/// How often a value fell into each of a fixed set of ranges.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: [u64; N],
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    const fn new(bounds: [u64; N]) -> Self {
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe(&self, value: u64) {
        self.sum.fetch_add(value, Relaxed);
        match self.bounds.iter().position(|bound| value <= *bound) {
            Some(index) => self.counts[index].fetch_add(1, Relaxed),
            None => self.beyond.fetch_add(1, Relaxed),
        };
    }

    /// Each upper bound with the number of values in its range (not cumulative).
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.bounds.iter().zip(&self.counts).map(|(bound, count)| (*bound, count.load(Relaxed)))
    }

    /// How many values there were, with their sum.
    pub fn total(&self) -> (u64, u64) {
        let counted: u64 = self.counts.iter().map(|count| count.load(Relaxed)).sum();
        (counted + self.beyond.load(Relaxed), self.sum.load(Relaxed))
    }
}

/// Counters of one store.
#[derive(Debug)]
pub struct Metrics {
    /// Commits made.
    pub commits: Count,
    /// Commits that failed and made the store open its database again.
    pub failed_commits: Count,
    /// Events written to the journal.
    pub events: Count,
    /// Events that were known already.
    pub duplicates: Count,
    /// Appends refused because the queue was full.
    pub busy: Count,
    /// Delivery rows written.
    pub rows: Count,
    /// Settlements written.
    pub settlements: Count,
    /// Bytes of appends that wait to be written, now.
    pub queue_bytes: Count,
    /// Bytes of events in memory, now.
    pub tail_bytes: Count,
    /// Events in memory, now.
    pub tail_events: Count,
    /// Bytes of memory used for deduplication, now.
    pub dedup_bytes: Count,
    /// Reads answered from memory.
    pub tail_hits: Count,
    /// Reads that went to the database.
    pub tail_misses: Count,
    /// Events pruned.
    pub pruned_events: Count,
    /// Delivery rows pruned.
    pub pruned_rows: Count,
    /// Lanes that lost events to pruning.
    pub gaps: Count,
    /// Checkpoints made.
    pub checkpoints: Count,
    /// Nodes on the database that were heard of lately, this one too, now; 0 on SQLite.
    pub nodes: Count,
    /// Shards whose lanes this node runs, now; 0 on SQLite.
    pub shards_held: Count,
    /// Leases renewed, one for each shard and time.
    pub lease_renewals: Count,
    /// Shards that this node took because nobody had them (any more).
    pub lease_takeovers: Count,
    /// Shards that this node had and found in other hands.
    pub lease_losses: Count,
    /// Microseconds from the start of a transaction to the end of its sync.
    pub commit_us: Histogram<14>,
    /// Events per commit that appended any.
    pub commit_events: Histogram<11>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            commits: Count::default(),
            failed_commits: Count::default(),
            events: Count::default(),
            duplicates: Count::default(),
            busy: Count::default(),
            rows: Count::default(),
            settlements: Count::default(),
            queue_bytes: Count::default(),
            tail_bytes: Count::default(),
            tail_events: Count::default(),
            dedup_bytes: Count::default(),
            tail_hits: Count::default(),
            tail_misses: Count::default(),
            pruned_events: Count::default(),
            pruned_rows: Count::default(),
            gaps: Count::default(),
            checkpoints: Count::default(),
            nodes: Count::default(),
            shards_held: Count::default(),
            lease_renewals: Count::default(),
            lease_takeovers: Count::default(),
            lease_losses: Count::default(),
            commit_us: Histogram::new([
                100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
                500_000, 1_000_000, 5_000_000,
            ]),
            commit_events: Histogram::new([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024]),
        }
    }

    pub(crate) fn observe_commit(&self, took: Duration, events: usize) {
        self.commits.add(1);
        self.commit_us.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if events > 0 {
            self.commit_events.observe(events as u64);
        }
    }
}
