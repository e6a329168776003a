//! What goes on beside deliveries: loading the roster, times, cursors of resting lanes, figures.

use std::sync::Arc;
use std::time::Duration;

use zapbus_event::{DestinationId, Position, Timestamp};
use zapbus_store::{Health, Limit, Reader, Settlement, StoreError, Urgency};

use super::roster::Mode;
use super::{ASK_AT_ONCE, COUNT_EVERY, FLUSH_EVERY, FLUSH_STEP, STORE_PAUSE, Shared};

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
            () = shared.timer.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Writes the cursors of resting lanes, lazily.
pub(super) async fn keep_cursors(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.flush.notified() => {}
            () = tokio::time::sleep(FLUSH_EVERY) => {}
        }
        if let Err(error) = shared.write_cursors().await {
            tracing::debug!(event = "lane.cursors", %error, "cursors of resting lanes were not written");
        }
    }
}

/// Keeps the number of lanes by health.
pub(super) async fn count(shared: Arc<Shared>) {
    loop {
        {
            let roster = shared.roster();
            let [mut flowing, mut probing, mut stopped] = [0_i64; 3];
            for (_, entry) in roster.iter() {
                match (entry.head.active, entry.rest.as_ref().map(|rest| rest.memory.health)) {
                    (false, _) => stopped += 1,
                    (true, Some(Health::Probing { .. })) => probing += 1,
                    (true, _) => flowing += 1,
                }
            }
            drop(roster);
            shared.telemetry.set_lanes(flowing, probing, stopped);
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

/// Finds out, once, which lanes have something behind them.
pub(super) async fn ask_all(shared: Arc<Shared>) {
    use futures_util::StreamExt;

    let unasked: Vec<(DestinationId, Reader, Position)> = shared
        .roster()
        .iter()
        .filter(|(_, entry)| entry.head.active)
        .map(|(id, entry)| (*id, entry.reader(), entry.cursor))
        .collect();
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
