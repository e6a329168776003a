//! What goes on beside deliveries: loading the roster, times, cursors of resting lanes, figures.

use std::sync::Arc;
use std::time::Duration;

use zapbus_event::{DestinationId, Position, Timestamp};
use zapbus_store::{Health, Limit, Reader, Settlement, StoreError, Urgency};

use super::roster::{Command, Mode};
use super::{ASK_AT_ONCE, CATCH_UP_EVERY, FLUSH_EVERY, FLUSH_STEP, STORE_PAUSE, Shared};

impl Shared {
    pub(super) async fn load(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let heads = self.store.destination_heads(after, 10_000).await?;
            let Some((last, ..)) = heads.last() else { break };
            after = Some(last.id);
            let mut roster = self.roster();
            for (head, cursor, health) in heads {
                roster.put(head, cursor, health);
            }
        }
        let due = self.store.lanes_due().await?;
        let running = self.store.running().await?;
        let mut roster = self.roster();
        let now = (self.clock)();
        for (lane, at) in due.into_iter().chain(running.into_iter().map(|lane| (lane, now))) {
            let id = lane.destination;
            let Some(entry) = roster.get_mut(id) else { continue };
            if lane.run != zapbus_store::LIVE {
                entry.runs.get_or_insert_default().insert(lane.run);
            }
            if !entry.head.active {
                continue;
            }
            // A lane that probes is woken for its next probe, not for its rows.
            let at = match entry.rest.as_ref().map(|rest| rest.memory.health) {
                Some(Health::Probing { next, .. }) => next,
                _ => at,
            };
            roster.set_wake_earlier(id, at);
        }
        Ok(())
    }

    /// After a commit of which nobody knew whether it was made: whoever asked for it was refused, and
    /// told no lane. Takes up destinations, rows and replays that are in the store all the same.
    pub(super) async fn catch_up(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let heads = self.store.destination_heads(after, 10_000).await?;
            let Some((last, ..)) = heads.last() else { break };
            after = Some(last.id);
            for (head, cursor, health) in heads {
                let id = head.id;
                {
                    let mut roster = self.roster();
                    if roster.get(id).is_some() {
                        continue;
                    }
                    roster.put(head, cursor, health);
                }
                self.wake(id);
            }
        }
        let due = self.store.lanes_due().await?;
        let running = self.store.running().await?;
        let now = (self.clock)();
        let mut roster = self.roster();
        for (lane, at) in due.into_iter().chain(running.into_iter().map(|lane| (lane, now))) {
            let id = lane.destination;
            let Some(entry) = roster.get_mut(id).filter(|entry| entry.head.active) else {
                continue;
            };
            if let Mode::Running(mail) = &entry.mode {
                mail.tell(Command::LookAt(lane.run));
                continue;
            }
            if lane.run != zapbus_store::LIVE {
                entry.runs.get_or_insert_default().insert(lane.run);
            }
            // A lane that probes finds its rows with its next probe.
            if !matches!(entry.mode, Mode::Waiting) {
                roster.set_wake_earlier(id, at);
            }
        }
        drop(roster);
        self.timer.notify_one();
        Ok(())
    }

    pub(super) async fn write_cursors(&self) -> Result<(), StoreError> {
        let unwritten = self.roster().unwritten();
        for step in unwritten.chunks(FLUSH_STEP) {
            let settlements = step
                .iter()
                .map(|(lane, cursor)| Settlement {
                    lane: *lane,
                    shard: zapbus_store::ShardId::default(),
                    cursor: Some(*cursor),
                    health: None,
                    rows: Vec::new(),
                    events: Vec::new(),
                })
                .collect();
            self.store.settle(settlements, Urgency::CanRide).await?;
            self.roster().written(step);
        }
        Ok(())
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
        if let Err(error) = shared.write_cursors().await {
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

/// Finds out, once, which lanes have something behind them.
pub(super) async fn ask_all(shared: Arc<Shared>) {
    use futures_util::StreamExt;

    let mut unasked: Vec<(DestinationId, Reader, Position)> = shared
        .roster()
        .iter()
        .filter(|(_, entry)| entry.head.active)
        .map(|(id, entry)| (*id, entry.reader(), entry.cursor))
        .collect();
    // In the order in which they were made, not in that of a hash.
    unasked.sort_unstable_by_key(|(id, ..)| *id);
    futures_util::stream::iter(unasked)
        .for_each_concurrent(ASK_AT_ONCE, |(id, reader, cursor)| {
            let shared = Arc::clone(&shared);
            async move {
                let one = Limit { events: 1, bytes: 1 };
                let page = loop {
                    match shared.store.read_after(reader, cursor, one).await {
                        Ok(page) => break page,
                        Err(_) => tokio::time::sleep(STORE_PAUSE).await,
                    }
                };
                if !page.events.is_empty() || !page.at_head {
                    shared.wake(id);
                    return;
                }
                let mut roster = shared.roster();
                if let Some(entry) = roster.get_mut(id)
                    && matches!(entry.mode, Mode::Unasked)
                {
                    entry.mode = Mode::Resting;
                    entry.cursor = entry.cursor.max(page.upto);
                }
            }
        })
        .await;
}
