//! Who wakes a lane: the journal, by way of the router.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use zapbus_event::{AccountId, DestinationId, Event, InstanceId, Position, Timestamp};
use zapbus_store::{Activity, Health, Limit, Reader, StoreError};

use super::roster::{Calls, Command, Mail, Mode, Rest};
use super::runner::Lane;
use super::{STORE_PAUSE, Shared};

impl Shared {
    /// Starts the lane of `id` unless it runs already, is held, or must not send.
    pub(super) fn wake(self: &Arc<Self>, id: DestinationId) {
        let mut roster = self.roster();
        if self.is_closing() {
            return;
        }
        let Some(entry) = roster.get_mut(id).filter(|entry| entry.head.active) else { return };
        let (mail, commands) = match &entry.mode {
            Mode::Running(mail) => return mail.ring(),
            Mode::Held => return,
            Mode::Unasked | Mode::Resting | Mode::Waiting => Mail::new(),
        };
        entry.mode = Mode::Running(Arc::clone(&mail));
        let cursor = entry.cursor;
        // The lane and whoever stops it speak with one voice.
        let rest = entry.rest.get_or_insert_with(|| Box::new(Rest::new(Health::Flowing)));
        let rest = rest.as_ref().clone();
        mail.show(cursor, matches!(rest.memory.health, Health::Probing { .. }));
        let runs: HashSet<u32> =
            entry.runs.as_deref().map(|runs| runs.iter().copied().collect()).unwrap_or_default();
        roster.set_wake(id, None);
        drop(roster);

        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            match shared.prepare(id, cursor, rest, &runs, Arc::clone(&mail), commands).await {
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

    pub(super) async fn prepare(
        self: &Arc<Self>,
        id: DestinationId,
        cursor: Position,
        rest: Rest,
        runs: &HashSet<u32>,
        mail: Arc<Mail>,
        commands: tokio::sync::mpsc::UnboundedReceiver<Command>,
    ) -> Result<Option<Lane>, StoreError> {
        let Some(opened) = self.open(id).await? else { return Ok(None) };
        if opened.destination.activity != Activity::Active {
            return Ok(None);
        }
        Lane::wake(Arc::clone(self), opened, cursor, rest, runs, mail, commands).await
    }

    /// The lane that `mail` led to could not begin.
    fn put_to_rest(&self, id: DestinationId, mail: &Arc<Mail>, wake_at: Option<Timestamp>) {
        let mut roster = self.roster();
        let Some(entry) = roster.get_mut(id) else { return };
        // Unless somebody holds it by now, or has let it go on already.
        if !matches!(&entry.mode, Mode::Running(running) if Arc::ptr_eq(running, mail)) {
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

/// Follows the journal and wakes whom its events concern.
pub(super) async fn route(shared: Arc<Shared>, mut at: Position) {
    let mut head = shared.store.head();
    let mut accounts = HashMap::new();
    let limit = Limit { events: 4_096, bytes: 16 << 20 };
    loop {
        loop {
            let page = match shared.store.tail_after(Reader::All, at, limit) {
                Some(page) => page,
                None => match shared.store.read_after(Reader::All, at, limit).await {
                    Ok(page) => page,
                    Err(_) => {
                        tokio::time::sleep(STORE_PAUSE).await;
                        continue;
                    }
                },
            };
            let global = shared.roster().has_global();
            if global {
                learn_accounts(&shared, &page.events, &mut accounts).await;
            }
            let mut calls = Calls::default();
            {
                let mut roster = shared.roster();
                for event in &page.events {
                    let account = accounts.get(&event.instance).copied();
                    roster.dispatch(event, account, &mut calls);
                }
            }
            at = page.upto.max(at);
            for id in calls.wake {
                shared.wake(id);
            }
            if calls.flush {
                shared.flush.notify_one();
            }
            if page.at_head {
                break;
            }
        }
        if head.changed().await.is_err() {
            return;
        }
    }
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
