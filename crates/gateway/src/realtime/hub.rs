//! Who waits for which events, and is woken when one is committed. One per node.
//!
//! A bell is a hint; the journal is the truth. Whoever rings in vain costs a look.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zapbus_event::{AccountId, Event, Filter, InstanceId, Position};
use zapbus_store::{Limit, Reader, ShardId, Store};

use crate::directory::Directory;

/// What is looked at in one go.
const LOOK: Limit = Limit { events: 4_096, bytes: 16 << 20 };

/// What a subscription wants to be woken for.
#[derive(Debug, Clone)]
pub(crate) struct Wants {
    pub(crate) filter: Filter,
    pub(crate) exclude_ephemeral: bool,
}

impl Wants {
    pub(crate) fn matches(&self, event: &Event) -> bool {
        !(self.exclude_ephemeral && event.ephemeral)
            && self.filter.matches(event.kind, event.facet.as_deref())
    }
}

/// Wakes one subscription.
pub(super) struct Bell {
    wants: Wants,
    rings: Mutex<Rings>,
    notify: Notify,
}

#[derive(Default)]
struct Rings {
    rung: bool,
    /// Nothing that is wanted was committed up to here since the bell was last looked at.
    quiet: Vec<(ShardId, Position)>,
}

impl Bell {
    fn rings(&self) -> MutexGuard<'_, Rings> {
        // Nothing panics while holding it.
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits, whatever there is.
    pub(super) fn ring(&self) {
        self.rings().rung = true;
        self.notify.notify_one();
    }

    /// Waits until it is rung.
    pub(super) async fn rung(&self) {
        self.notify.notified().await;
    }

    /// Whether it was rung, and what was quiet until then. Whoever has read everything before may
    /// take it as read up to there.
    pub(super) fn take(&self) -> (bool, Vec<(ShardId, Position)>) {
        let mut rings = self.rings();
        (std::mem::take(&mut rings.rung), std::mem::take(&mut rings.quiet))
    }

    fn tell(&self, shard: ShardId, events: &[&Arc<Event>], upto: Position) {
        let mut rings = self.rings();
        if rings.rung {
            return;
        }
        let wanted = events.iter().find(|event| self.wants.matches(event));
        let quiet = wanted.map_or(upto, |event| Position(event.seq.0.saturating_sub(1)));
        match rings.quiet.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, position)) => *position = quiet.max(*position),
            None => rings.quiet.push((shard, quiet)),
        }
        rings.rung = wanted.is_some();
        drop(rings);
        if wanted.is_some() {
            self.notify.notify_one();
        }
    }
}

type Room = Vec<Arc<Bell>>;

#[derive(Default)]
struct Rooms {
    instances: BTreeMap<InstanceId, Room>,
    accounts: BTreeMap<AccountId, Room>,
    everybody: Room,
}

impl Rooms {
    fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.accounts.is_empty() && self.everybody.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Bell>> {
        let rooms = self.instances.values().chain(self.accounts.values());
        rooms.flatten().chain(&self.everybody)
    }
}

/// All bells of a node.
#[derive(Default)]
pub(super) struct Hub {
    rooms: Mutex<Rooms>,
}

/// A bell that is hung up for as long as this is kept.
pub(super) struct Hung {
    hub: Arc<Hub>,
    reader: Reader,
    pub(super) bell: Arc<Bell>,
}

impl Hub {
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        // Nothing panics while holding it.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hangs up a bell. What was committed before, its owner must read by himself.
    pub(super) fn hang(self: &Arc<Self>, reader: Reader, wants: Wants) -> Hung {
        let bell = Arc::new(Bell { wants, rings: Mutex::default(), notify: Notify::new() });
        let mut rooms = self.rooms();
        let room = match reader {
            Reader::Instance(id) => rooms.instances.entry(id).or_default(),
            Reader::Account(id) => rooms.accounts.entry(id).or_default(),
            Reader::All => &mut rooms.everybody,
        };
        room.push(Arc::clone(&bell));
        drop(rooms);
        Hung { hub: Arc::clone(self), reader, bell }
    }

    fn take_down(&self, reader: Reader, bell: &Arc<Bell>) {
        let leave = |room: &mut Room| {
            if let Some(at) = room.iter().position(|known| Arc::ptr_eq(known, bell)) {
                room.swap_remove(at);
            }
            room.is_empty()
        };
        let mut rooms = self.rooms();
        match reader {
            Reader::Instance(id) => {
                if rooms.instances.get_mut(&id).is_some_and(leave) {
                    rooms.instances.remove(&id);
                }
            }
            Reader::Account(id) => {
                if rooms.accounts.get_mut(&id).is_some_and(leave) {
                    rooms.accounts.remove(&id);
                }
            }
            Reader::All => {
                leave(&mut rooms.everybody);
            }
        }
    }

    pub(super) fn ring_all(&self) {
        self.rooms().all().for_each(|bell| bell.ring());
    }

    /// Tells everybody what concerns him of a stretch of a shard.
    fn dispatch(
        &self,
        shard: ShardId,
        events: &[Arc<Event>],
        upto: Position,
        accounts: &HashMap<InstanceId, AccountId>,
    ) {
        // In an order of their own: who is woken first may decide what is read first.
        let mut by_instance: BTreeMap<InstanceId, Vec<&Arc<Event>>> = BTreeMap::new();
        let mut by_account: BTreeMap<AccountId, Vec<&Arc<Event>>> = BTreeMap::new();
        for event in events {
            by_instance.entry(event.instance).or_default().push(event);
            if let Some(account) = accounts.get(&event.instance) {
                by_account.entry(*account).or_default().push(event);
            }
        }
        let rooms = self.rooms();
        for (instance, events) in &by_instance {
            for bell in rooms.instances.get(instance).into_iter().flatten() {
                bell.tell(shard, events, upto);
            }
            // Whose an instance is that is on its way out, nobody remembers: they look.
            if !accounts.contains_key(instance) {
                rooms.accounts.values().flatten().for_each(|bell| bell.ring());
            }
        }
        for (account, events) in &by_account {
            for bell in rooms.accounts.get(account).into_iter().flatten() {
                bell.tell(shard, events, upto);
            }
        }
        let all: Vec<&Arc<Event>> = events.iter().collect();
        rooms.everybody.iter().for_each(|bell| bell.tell(shard, &all, upto));
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.hub.take_down(self.reader, &self.bell);
    }
}

/// Follows a shard while somebody waits for something, until `stop`.
pub(super) async fn follow(
    hub: Arc<Hub>,
    store: Store,
    directory: Directory,
    shard: ShardId,
    stop: CancellationToken,
) {
    let mut head = store.head_in(shard);
    let mut at = *head.borrow_and_update();
    loop {
        tokio::select! {
            biased;
            changed = head.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
        let end = *head.borrow_and_update();
        if hub.rooms().is_empty() {
            // Whoever comes from here on reads what is committed by now by himself.
            at = end.max(at);
            continue;
        }
        let for_accounts = !hub.rooms().accounts.is_empty();
        loop {
            let Some(page) = store.tail_after_in(shard, Reader::All, at, LOOK) else {
                // More has come than memory holds.
                at = end.max(at);
                hub.ring_all();
                break;
            };
            let accounts = match for_accounts {
                true => accounts_of(&directory, &page.events).await,
                false => HashMap::new(),
            };
            hub.dispatch(shard, &page.events, page.upto, &accounts);
            at = page.upto.max(at);
            if page.at_head {
                break;
            }
        }
    }
}

async fn accounts_of(
    directory: &Directory,
    events: &[Arc<Event>],
) -> HashMap<InstanceId, AccountId> {
    let mut accounts = HashMap::new();
    for event in events {
        if accounts.contains_key(&event.instance) {
            continue;
        }
        // It is cached; what cannot be found out makes somebody look in vain.
        if let Ok(Some(known)) = directory.instance(event.instance).await {
            accounts.insert(event.instance, known.instance.account);
        }
    }
    accounts
}
