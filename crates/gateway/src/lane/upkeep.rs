//! What goes on beside deliveries: times, cursors of resting lanes, commits that failed.

use std::sync::Arc;
use std::time::Duration;

use zapbus_event::Timestamp;
use zapbus_store::{Settlement, ShardId, StoreError, Urgency};

use super::loading::Known;
use super::roster::{Unwritten, live};
use super::{CATCH_UP_EVERY, FLUSH_EVERY, FLUSH_STEP, Shared};

impl Shared {
    /// After a commit of which nobody knew whether it was made: whoever asked for it was refused, and
    /// told no lane. Takes up destinations, rows and replays that are in the store all the same.
    async fn catch_up(self: &Arc<Self>) -> Result<(), StoreError> {
        let held = self.roster().tenures().map(|tenure| tenure.home).collect();
        self.load(&held, Known::Stay).await?;
        self.ask_all().await;
        Ok(())
    }

    /// Writes the cursors of resting lanes: of one shard's, or of all.
    pub(super) async fn write_cursors(&self, home: Option<ShardId>) -> Result<(), StoreError> {
        let mut unwritten = self.roster().unwritten(home);
        // A commit is of one home: what another node runs by now keeps nobody else from writing.
        unwritten.sort_unstable_by_key(|cursor| (cursor.tenure.home, cursor.id, cursor.shard));
        for of_home in unwritten.chunk_by(|one, next| one.tenure == next.tenure) {
            for step in of_home.chunks(FLUSH_STEP) {
                let settlements = step.iter().map(|cursor| settlement_of(*cursor)).collect();
                match self.store.settle(settlements, Urgency::CanRide).await {
                    Ok(()) => self.roster().written(step),
                    Err(StoreError::LeaseLost { .. }) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn settlement_of(Unwritten { id, tenure, shard, at }: Unwritten) -> Settlement {
    Settlement {
        lane: live(id),
        epoch: Some(tenure.epoch),
        shard,
        cursor: Some(at),
        health: None,
        rows: Vec::new(),
        events: Vec::new(),
    }
}

/// Wakes lanes whose retry or probe is due.
pub(super) async fn keep_time(shared: Arc<Shared>) {
    // No sleep is longer: the wall clock may jump.
    const LONGEST: Duration = Duration::from_secs(30);
    // Beyond this, the clock was set back: what looked far away may be due.
    const BACK: Duration = Duration::from_secs(60);
    let mut before = (shared.clock)();
    loop {
        let now = (shared.clock)();
        let until = if now + BACK < before { Timestamp::from_millis(i64::MAX) } else { now };
        before = now;
        // Not in the loop's head: the lock would be held all through it.
        let due = shared.roster().take_due(until);
        for id in due {
            shared.wake(id);
            // Telling needs the store; nobody's retry waits for it.
            let telling = Arc::clone(&shared);
            shared.tasks.spawn(async move { telling.announce_due(id, now).await });
        }
        let next = shared.roster().next_time();
        // Rounded up: wall-clock times have steps of a millisecond.
        let sleep =
            next.map_or(LONGEST, |at| (at.since(now) + Duration::from_millis(1)).min(LONGEST));
        tokio::select! {
            biased;
            () = shared.timer.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Writes the cursors of resting lanes, lazily.
pub(super) async fn keep_cursors(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            biased;
            () = shared.flush.notified() => {}
            () = tokio::time::sleep(FLUSH_EVERY) => {}
        }
        if let Err(error) = shared.write_cursors(None).await {
            tracing::debug!(event = "lane.cursors", %error, "cursors of resting lanes were not written");
        }
    }
}

/// Looks whether commits have failed.
pub(super) async fn keep_up(shared: Arc<Shared>) {
    let metrics = shared.store.metrics();
    let mut failed = metrics.failed_commits.get();
    loop {
        let failed_by_now = metrics.failed_commits.get();
        if failed != failed_by_now && shared.catch_up().await.is_ok() {
            failed = failed_by_now;
        }
        tokio::time::sleep(CATCH_UP_EVERY).await;
    }
}
