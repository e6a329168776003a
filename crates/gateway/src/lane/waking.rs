//! Who wakes a lane: the journal, by way of the router.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use zapbus_event::{AccountId, DestinationId, Event, InstanceId, Position, Timestamp};
use zapbus_store::{Activity, Health, Limit, Reader, ShardId, StoreError};

use super::roster::{Calls, Command, Mail, Mode, Rest, Ring, Tenure};
use super::runner::Lane;
use super::{STORE_PAUSE, Shared};

/// What a lane is woken with.
pub(super) struct Waking {
    pub(super) id: DestinationId,
    pub(super) tenure: Tenure,
    /// Where the live run had come to, by shard.
    pub(super) cursors: Vec<(ShardId, Position)>,
    pub(super) rest: Rest,
    /// Ended runs that still have rows to send.
    pub(super) runs: HashSet<u32>,
    pub(super) mail: Arc<Mail>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
}

impl Shared {
    /// Starts the lane of `id` unless it runs already, is held, must not send, or is about to run on
    /// another node.
    pub(super) fn wake(self: &Arc<Self>, id: DestinationId) {
        let mut roster = self.roster();
        if self.is_closing() {
            return;
        }
        let Some(home) = roster.get(id).map(|entry| entry.home) else { return };
        let tenure = roster.tenure(home);
        let Some(entry) = roster.get_mut(id).filter(|entry| entry.head.active) else { return };
        match &entry.mode {
            Mode::Running(mail) => return mail.ring(Ring::ALL),
            Mode::Held => return,
            Mode::Unasked | Mode::Resting | Mode::Waiting => {}
        }
        let Some(tenure) = tenure else {
            entry.mode = Mode::Waiting;
            return;
        };
        // The lane and whoever stops it speak with one voice.
        let rest = entry.rest.get_or_insert_with(|| Box::new(Rest::new(Health::Flowing)));
        let rest = rest.as_ref().clone();
        let probing = matches!(rest.memory.health, Health::Probing { .. });
        let (mail, commands) = Mail::new(&entry.cursors, probing);
        entry.mode = Mode::Running(Arc::clone(&mail));
        let cursors = entry.cursors.positions();
        let runs =
            entry.runs.as_deref().map(|runs| runs.iter().copied().collect()).unwrap_or_default();
        roster.set_wake(id, None);
        drop(roster);

        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let waking =
                Waking { id, tenure, cursors, rest, runs, mail: Arc::clone(&mail), commands };
            match shared.prepare(waking).await {
                Ok(Some(lane)) => lane.run().await,
                Ok(None) => shared.put_to_rest(id, &mail, None),
                Err(error) => {
                    tracing::warn!(event = "lane.unreadable", destination = %id, %error, "a lane could not be read; trying again");
                    let again = (shared.clock)() + STORE_PAUSE;
                    shared.put_to_rest(id, &mail, Some(again));
                }
            }
        });
    }

    async fn prepare(self: &Arc<Self>, waking: Waking) -> Result<Option<Lane>, StoreError> {
        let Some(opened) = self.open(waking.id, waking.tenure).await? else { return Ok(None) };
        if opened.destination.activity != Activity::Active {
            return Ok(None);
        }
        Lane::wake(Arc::clone(self), opened, waking).await
    }

    /// The lane that `mail` led to could not begin.
    fn put_to_rest(&self, id: DestinationId, mail: &Arc<Mail>, wake_at: Option<Timestamp>) {
        let mut roster = self.roster();
        let Some(entry) = roster.get_mut(id) else { return };
        // Unless somebody holds it by now, or has let it go on already.
        if !entry.leads_to(mail) {
            return;
        }
        entry.mode = Mode::Waiting;
        let wake_at = wake_at.filter(|_| entry.head.active);
        let said_at = entry.rest.as_ref().and_then(|rest| rest.voice.due());
        roster.set_wake(id, [wake_at, said_at].into_iter().flatten().min());
        drop(roster);
        self.timer.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }
}

/// Follows the journal of a shard from `at` on, while somebody here waits for what is committed
/// there, and wakes whom its events concern.
pub(super) async fn route(shared: Arc<Shared>, shard: ShardId, mut at: Position) {
    let mut head = shared.store.head_in(shard);
    let is_only = shared.store.shards() == 1;
    let mut accounts = HashMap::new();
    let limit = Limit { events: 4_096, bytes: 16 << 20 };
    loop {
        // Known before it is asked whether anybody waits: whoever does from then on looks at the
        // journal by himself, and up to here at least.
        let end = *head.borrow_and_update();
        if is_only || shared.roster().follows(shard) {
            while !follow(&shared, shard, &mut at, limit, &mut accounts).await {}
        } else {
            at = end.max(at);
        }
        if head.changed().await.is_err() {
            return;
        }
    }
}

/// Takes one page; whether that was the end of the journal.
async fn follow(
    shared: &Arc<Shared>,
    shard: ShardId,
    at: &mut Position,
    limit: Limit,
    accounts: &mut HashMap<InstanceId, AccountId>,
) -> bool {
    let page = match shared.store.tail_after_in(shard, Reader::All, *at, limit) {
        Some(page) => page,
        None => match shared.store.read_after_in(shard, Reader::All, *at, limit).await {
            Ok(page) => page,
            Err(_) => {
                tokio::time::sleep(STORE_PAUSE).await;
                return false;
            }
        },
    };
    let global = shared.roster().has_global();
    if global {
        learn_accounts(shared, &page.events, accounts).await;
    }
    let mut calls = Calls::default();
    {
        let mut roster = shared.roster();
        for event in &page.events {
            let account = accounts.get(&event.instance).copied();
            roster.dispatch(shard, event, account, &mut calls);
        }
    }
    *at = page.upto.max(*at);
    for id in calls.wake {
        shared.wake(id);
    }
    if calls.flush {
        shared.flush.notify_one();
    }
    page.at_head
}

/// An instance never changes its account, so what was once read holds.
pub(super) async fn learn_accounts(
    shared: &Shared,
    events: &[Arc<Event>],
    accounts: &mut HashMap<InstanceId, AccountId>,
) {
    for event in events {
        while !accounts.contains_key(&event.instance) {
            match shared.store.instance(event.instance).await {
                Ok(Some(instance)) => {
                    accounts.insert(event.instance, instance.account);
                }
                Ok(None) => break,
                Err(_) => tokio::time::sleep(STORE_PAUSE).await,
            }
        }
    }
}
