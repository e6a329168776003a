//! From the store to the roster: destinations of the shards that this node holds, and what waits
//! for them.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use zapbus_event::{DestinationId, Position};
use zapbus_store::{DestinationHead, Health, LaneId, Limit, Reader, ShardId, StoreError};

use super::roster::{Command, Mode, Rest, Roster, live};
use super::{ASK_AT_ONCE, STORE_PAUSE, Shared};

/// Destinations read at a time.
const HEADS: usize = 10_000;

/// A destination as the store has it, as far as the roster needs to know.
pub(super) struct Stored {
    pub(super) head: DestinationHead,
    pub(super) home: ShardId,
    /// Where its live run stands in each shard it reads.
    pub(super) cursors: Vec<(ShardId, Position)>,
    pub(super) health: Health,
}

/// What becomes of destinations that are on the roster already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    Stay,
    /// They are told that they may have been changed.
    Refresh,
}

/// What is known of a change.
#[derive(Debug, Clone)]
pub(super) enum News {
    /// It was made here, to the destination itself.
    Changed,
    /// Some node may have made one: to the destination, to one of its runs, or to rows of these.
    Rumour(Vec<u32>),
}

impl Shared {
    /// Reads the destinations of some shards, and when their lanes have something to do.
    pub(super) async fn load(
        self: &Arc<Self>,
        shards: &BTreeSet<ShardId>,
        known: Known,
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.changing.lock().await;
        let mut gone: HashSet<DestinationId> = match known {
            Known::Stay => HashSet::new(),
            Known::Refresh => {
                let roster = self.roster();
                shards.iter().flat_map(|shard| roster.ids_of(*shard)).collect()
            }
        };
        let mut changed = Vec::new();
        let mut after = None;
        loop {
            let heads = self.store.destination_heads(after, HEADS).await?;
            let Some((last, ..)) = heads.last() else { break };
            after = Some(last.id);
            let mut found = Vec::with_capacity(heads.len());
            for (head, cursor, health) in heads {
                if shards.contains(&self.store.home_of(head.id, head.instance)) {
                    gone.remove(&head.id);
                    found.push(self.stored(head, cursor, health).await?);
                }
            }
            let mut roster = self.roster();
            for stored in found {
                let id = stored.head.id;
                if known == Known::Refresh || roster.get(id).is_none() {
                    let news = News::Rumour(Vec::new());
                    if self.take_in(&mut roster, stored, news) {
                        changed.push(id);
                    }
                }
            }
        }
        gone.into_iter().for_each(|id| self.drop_lane(id));
        let due = self.store.lanes_due().await?;
        let running = self.store.running().await?;
        let now = (self.clock)();
        for (lane, at) in due.into_iter().chain(running.into_iter().map(|lane| (lane, now))) {
            self.expect(lane, at);
        }
        self.timer.notify_one();
        for id in changed {
            self.announce_activity(id).await;
        }
        Ok(())
    }

    /// A lane has something to do at a time.
    fn expect(&self, lane: LaneId, at: zapbus_event::Timestamp) {
        let mut roster = self.roster();
        let Some(entry) = roster.get_mut(lane.destination) else { return };
        if let Mode::Running(mail) = &entry.mode
            && mail.tell(Command::LookAt(lane.run))
        {
            return;
        }
        entry.owe(&[lane.run]);
        // A lane that probes is woken for its next probe, where it finds its rows.
        let at = match entry.rest.as_ref().map(|rest| rest.memory.health) {
            Some(Health::Probing { next, .. }) => next,
            _ => at,
        };
        if entry.head.active && !matches!(entry.mode, Mode::Waiting) {
            roster.set_wake_earlier(lane.destination, at);
        }
    }

    /// Puts a destination on the roster, or takes what is new of it. Whether one that was there has
    /// been stopped or resumed since.
    pub(super) fn take_in(&self, roster: &mut Roster, stored: Stored, news: News) -> bool {
        let Stored { head, home, cursors, health } = stored;
        let (id, active) = (head.id, head.active);
        let was_active = roster.get(id).map(|entry| entry.head.active);
        roster.put(head, home, &cursors, health);
        let Some(entry) = roster.get_mut(id) else { return false };
        entry.cursors.adopt(&cursors);
        let resumed = active && was_active == Some(false);
        if resumed {
            let rest = entry.rest.get_or_insert_with(|| Box::new(Rest::new(Health::Flowing)));
            rest.memory = rest.memory.resumed();
        } else if let (News::Changed, Some(rest)) = (&news, &mut entry.rest) {
            rest.memory.hurry((self.clock)());
        }
        let command = match news {
            News::Changed => Command::Reload { resumed },
            News::Rumour(runs) => {
                entry.owe(&runs);
                Command::Refresh { resumed, runs }
            }
        };
        let told = matches!(&entry.mode, Mode::Running(mail) if mail.tell(command));
        if !told {
            entry.mode = Mode::Unasked;
        }
        was_active.is_some_and(|was_active| active != was_active)
    }

    /// A destination is gone: what is under way is finished.
    pub(super) fn drop_lane(&self, id: DestinationId) {
        if let Some(entry) = self.roster().remove(id)
            && let Some(mail) = entry.mode.into_mail()
        {
            mail.tell(Command::Stop);
        }
    }

    /// What the roster needs to know of a destination, if there is such a one.
    pub(super) async fn stored_now(&self, id: DestinationId) -> Result<Option<Stored>, StoreError> {
        let Some((head, cursor, health)) = self.store.destination_head(id).await? else {
            return Ok(None);
        };
        self.stored(head, cursor, health).await.map(Some)
    }

    async fn stored(
        &self,
        head: DestinationHead,
        cursor: Position,
        health: Health,
    ) -> Result<Stored, StoreError> {
        let home = self.store.home_of(head.id, head.instance);
        let cursors = if head.instance.is_none() && self.store.shards() > 1 {
            self.store.cursors(live(head.id)).await?
        } else {
            vec![(home, cursor)]
        };
        Ok(Stored { head, home, cursors, health })
    }

    /// Finds out, once, which of the lanes that nobody has asked have something behind them.
    pub(super) async fn ask_all(self: &Arc<Self>) {
        use futures_util::StreamExt;

        let mut unasked: Vec<_> = self
            .roster()
            .iter()
            .filter(|(_, entry)| entry.head.active && matches!(entry.mode, Mode::Unasked))
            .map(|(id, entry)| (*id, entry.reader(), entry.cursors.positions()))
            .collect();
        // In the order in which they were made, not in that of a hash.
        unasked.sort_unstable_by_key(|(id, ..)| *id);
        futures_util::stream::iter(unasked)
            .for_each_concurrent(ASK_AT_ONCE, |(id, reader, cursors)| async move {
                self.ask(id, reader, cursors).await;
            })
            .await;
    }

    async fn ask(
        self: &Arc<Self>,
        id: DestinationId,
        reader: Reader,
        mut cursors: Vec<(ShardId, Position)>,
    ) {
        let one = Limit { events: 1, bytes: 1 };
        for (shard, at) in &mut cursors {
            let page = loop {
                match self.store.read_after_in(*shard, reader, *at, one).await {
                    Ok(page) => break page,
                    Err(_) => tokio::time::sleep(STORE_PAUSE).await,
                }
            };
            if !page.events.is_empty() || !page.at_head {
                self.wake(id);
                return;
            }
            *at = page.upto;
        }
        let mut roster = self.roster();
        if let Some(entry) = roster.get_mut(id)
            && matches!(entry.mode, Mode::Unasked)
        {
            entry.mode = Mode::Resting;
            for (shard, at) in cursors {
                entry.cursors.pass(shard, at);
            }
        }
    }
}
