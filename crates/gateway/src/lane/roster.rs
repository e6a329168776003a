//! Every destination of the node in a few bytes each, and which of them is awake.
//!
//! A lane that rests has no task and no timer of its own: an entry here, and at most one place in
//! the node's heap of times.

mod cursors;
mod mail;
mod survey;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use zapbus_event::{AccountId, DestinationId, Event, Filter, InstanceId, Position, Timestamp};
use zapbus_store::{DestinationHead, Health, LaneId, Reader, ShardId};

pub(crate) use self::{
    cursors::Cursors,
    mail::{Command, Mail, Ring},
    survey::{Laggard, Standing},
};
use super::{announce::Voice, gate::Memory};

/// Skipped events after which a resting lane's cursor is written.
const FLUSH_AFTER: u32 = 10_000;

/// How far a lane is from being able to send.
#[derive(Debug, Clone)]
pub(crate) enum Mode {
    /// Just loaded: nobody has looked yet whether anything lies beyond its cursor.
    Unasked,
    /// At the head of the journal: nothing to do until something that matches is committed, or
    /// its time comes.
    Resting,
    /// There is something to do, but only its time wakes it (probing).
    Waiting,
    /// It has a task.
    Running(Arc<Mail>),
    /// Its configuration is being changed; it must not wake up.
    Held,
}

impl Mode {
    /// The way to the lane, if it runs.
    pub(crate) fn into_mail(self) -> Option<Arc<Mail>> {
        match self {
            Self::Running(mail) => Some(mail),
            Self::Unasked | Self::Resting | Self::Waiting | Self::Held => None,
        }
    }
}

/// What a lane leaves behind when it rests.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    pub(crate) memory: Memory,
    pub(crate) voice: Voice,
    pub(crate) last_error: Option<String>,
    /// When the configuration that it knew was written, if it knew one.
    pub(crate) configured_at: Option<Timestamp>,
}

/// What a roster must know of a destination to tell whom an event concerns.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) account: AccountId,
    /// `None`: it gets the events of the whole account.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) filter: Filter,
    /// It is neither paused nor disabled.
    pub(crate) active: bool,
}

impl From<DestinationHead> for Head {
    fn from(head: DestinationHead) -> Self {
        let DestinationHead { account, instance, filter, active, .. } = head;
        Self { account, instance, filter, active }
    }
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) head: Head,
    pub(crate) mode: Mode,
    /// Whose holder runs its lane.
    pub(crate) home: ShardId,
    skipped: u32,
    pub(crate) cursors: Cursors,
    /// Boxed: most destinations have nothing to remember.
    pub(crate) rest: Option<Box<Rest>>,
    /// Finished runs that still have rows to retry.
    #[expect(clippy::box_collection, reason = "a word instead of three, on every destination")]
    pub(crate) runs: Option<Box<BTreeSet<u32>>>,
    wake_at: Option<Timestamp>,
}

impl Entry {
    /// These runs have rows to send; the live one needs no note.
    pub(crate) fn owe(&mut self, runs: &[u32]) {
        for run in runs.iter().filter(|run| **run != zapbus_store::LIVE) {
            self.runs.get_or_insert_default().insert(*run);
        }
    }

    /// Its lane runs, and this is the way to it.
    pub(crate) fn leads_to(&self, mail: &Arc<Mail>) -> bool {
        matches!(&self.mode, Mode::Running(running) if Arc::ptr_eq(running, mail))
    }

    pub(crate) fn reader(&self) -> Reader {
        reader_of(self.head.account, self.head.instance)
    }
}

/// Whose events a destination gets.
pub(crate) fn reader_of(account: AccountId, instance: Option<InstanceId>) -> Reader {
    instance.map_or(Reader::Account(account), Reader::Instance)
}

/// Under which a lane runs: the right to run those of its home shard, from one node to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tenure {
    pub(crate) home: ShardId,
    /// Grows each time the shard changes hands.
    pub(crate) epoch: u64,
}

/// A shard whose lanes are on this roster.
#[derive(Debug, Clone, Copy)]
struct Holding {
    epoch: u64,
    /// Its lanes are about to run on another node: none is started any more.
    leaving: bool,
}

/// A cursor that the store does not have yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unwritten {
    pub(crate) id: DestinationId,
    /// Under which this node knows that it stands there.
    pub(crate) tenure: Tenure,
    pub(crate) shard: ShardId,
    pub(crate) at: Position,
}

/// What a batch of committed events calls for.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Lanes to start.
    pub(crate) wake: Vec<DestinationId>,
    /// A resting lane has skipped so much that its cursor should be written.
    pub(crate) flush: bool,
}

/// The destinations whose home shard this node holds.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    held: BTreeMap<ShardId, Holding>,
    entries: HashMap<DestinationId, Entry>,
    of_instance: HashMap<InstanceId, Vec<DestinationId>>,
    of_account: HashMap<AccountId, Vec<DestinationId>>,
    times: BTreeSet<(Timestamp, DestinationId)>,
}

impl Roster {
    /// Takes a shard: its destinations may be put on the roster from now on.
    pub(crate) fn hold(&mut self, tenure: Tenure) {
        self.held.insert(tenure.home, Holding { epoch: tenure.epoch, leaving: false });
    }

    /// Gives a shard up. Returns the lanes of it that run.
    pub(crate) fn give_up(&mut self, shard: ShardId) -> Vec<Arc<Mail>> {
        self.held.remove(&shard);
        let ids: Vec<_> = self.ids_of(shard).collect();
        let gone = ids.into_iter().filter_map(|id| self.remove(id));
        gone.filter_map(|entry| entry.mode.into_mail()).collect()
    }

    /// Whether a shard is about to be given to another node: nothing of it is started then.
    pub(crate) fn set_leaving(&mut self, shard: ShardId, leaving: bool) {
        if let Some(holding) = self.held.get_mut(&shard) {
            holding.leaving = leaving;
        }
    }

    pub(crate) fn is_leaving(&self, shard: ShardId) -> bool {
        self.held.get(&shard).is_some_and(|holding| holding.leaving)
    }

    pub(crate) fn holds(&self, shard: ShardId) -> bool {
        self.held.contains_key(&shard)
    }

    /// Under which the lane of a destination runs here, even if it is about to leave.
    pub(crate) fn tenure_of(&self, id: DestinationId) -> Option<Tenure> {
        let home = self.get(id)?.home;
        self.held.get(&home).map(|holding| Tenure { home, epoch: holding.epoch })
    }

    /// What is held, by shard.
    pub(crate) fn tenures(&self) -> impl Iterator<Item = Tenure> + '_ {
        self.held.iter().map(|(home, holding)| Tenure { home: *home, epoch: holding.epoch })
    }

    /// Under which a lane of this shard may be started now.
    pub(crate) fn tenure(&self, home: ShardId) -> Option<Tenure> {
        let holding = self.held.get(&home).filter(|holding| !holding.leaving)?;
        Some(Tenure { home, epoch: holding.epoch })
    }

    /// Somebody here waits for what is committed in this shard.
    pub(crate) fn follows(&self, shard: ShardId) -> bool {
        self.holds(shard) || self.has_global()
    }

    /// The destinations of a shard, in no order.
    pub(crate) fn ids_of(&self, home: ShardId) -> impl Iterator<Item = DestinationId> + '_ {
        let own = self.entries.iter().filter(move |(_, entry)| entry.home == home);
        own.map(|(id, _)| *id)
    }

    /// Puts a destination on the roster, or takes its new head; an entry that is there keeps its
    /// mode and cursor. Not if its home shard is another node's.
    pub(crate) fn put(
        &mut self,
        head: DestinationHead,
        home: ShardId,
        cursors: &[(ShardId, Position)],
        health: Health,
    ) {
        let id = head.id;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.head = head.into();
            return;
        }
        if !self.holds(home) {
            return;
        }
        match head.instance {
            Some(instance) => self.of_instance.entry(instance).or_default().push(id),
            None => self.of_account.entry(head.account).or_default().push(id),
        }
        let rest = Rest::stored(health, head.active).map(Box::new);
        let entry = Entry {
            head: head.into(),
            mode: Mode::Unasked,
            home,
            cursors: Cursors::new(cursors),
            skipped: 0,
            rest,
            runs: None,
            wake_at: None,
        };
        self.entries.insert(id, entry);
    }

    pub(crate) fn remove(&mut self, id: DestinationId) -> Option<Entry> {
        self.set_wake(id, None);
        let entry = self.entries.remove(&id)?;
        match entry.head.instance {
            Some(instance) => take_out(&mut self.of_instance, instance, id),
            None => take_out(&mut self.of_account, entry.head.account, id),
        }
        Some(entry)
    }

    pub(crate) fn get(&self, id: DestinationId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: DestinationId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DestinationId, &Entry)> {
        self.entries.iter()
    }

    /// Some destinations take events of whole accounts.
    pub(crate) fn has_global(&self) -> bool {
        !self.of_account.is_empty()
    }

    /// Several destinations may get the events of this instance.
    pub(crate) fn is_shared(&self, instance: InstanceId) -> bool {
        let own = self.of_instance.get(&instance).map_or(0, Vec::len);
        own > 1 || self.has_global()
    }

    /// Asks the filters of everybody whom one committed event of a shard may concern.
    pub(crate) fn dispatch(
        &mut self,
        shard: ShardId,
        event: &Event,
        account: Option<AccountId>,
        calls: &mut Calls,
    ) {
        let Self { entries, of_instance, of_account, .. } = self;
        let own = of_instance.get(&event.instance).map(Vec::as_slice).unwrap_or_default();
        let global = account
            .and_then(|account| of_account.get(&account))
            .map(Vec::as_slice)
            .unwrap_or_default();
        for id in own.iter().chain(global) {
            let Some(entry) = entries.get_mut(id).filter(|entry| entry.head.active) else {
                continue;
            };
            match &entry.mode {
                Mode::Running(mail) => mail.ring(Ring::of(shard)),
                Mode::Resting | Mode::Unasked
                    if entry.head.filter.matches(event.kind, event.facet.as_deref()) =>
                {
                    // From here on it has a backlog: what follows in the same batch must not move
                    // its cursor.
                    entry.mode = Mode::Waiting;
                    calls.wake.push(*id);
                }
                Mode::Resting => {
                    entry.cursors.pass(shard, event.seq);
                    entry.skipped = entry.skipped.saturating_add(1);
                    calls.flush |= entry.skipped >= FLUSH_AFTER;
                }
                Mode::Unasked | Mode::Waiting | Mode::Held => {}
            }
        }
    }

    /// Resting lanes whose cursors moved past what the store knows; of one shard, or of all.
    pub(crate) fn unwritten(&self, home: Option<ShardId>) -> Vec<Unwritten> {
        let wanted = |entry: &Entry| {
            matches!(entry.mode, Mode::Resting) && home.is_none_or(|home| entry.home == home)
        };
        let mut unwritten = Vec::new();
        for (id, entry) in self.entries.iter().filter(|(_, entry)| wanted(entry)) {
            let Some(Holding { epoch, .. }) = self.held.get(&entry.home) else { continue };
            let tenure = Tenure { home: entry.home, epoch: *epoch };
            let cursors = entry.cursors.unwritten();
            unwritten.extend(cursors.map(|(shard, at)| Unwritten { id: *id, tenure, shard, at }));
        }
        unwritten
    }

    /// Those cursors are in the store now.
    pub(crate) fn written(&mut self, cursors: &[Unwritten]) {
        for Unwritten { id, shard, at, .. } in cursors {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.cursors.written(*shard, *at);
                entry.skipped = 0;
            }
        }
    }

    /// Sets when a resting lane must be woken; `None`: by events only.
    pub(crate) fn set_wake(&mut self, id: DestinationId, at: Option<Timestamp>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Some(old) = entry.wake_at.take() {
            self.times.remove(&(old, id));
        }
        if let Some(at) = at {
            entry.wake_at = Some(at);
            self.times.insert((at, id));
        }
    }

    /// Wakes a resting lane at `at` unless it wakes sooner.
    pub(crate) fn set_wake_earlier(&mut self, id: DestinationId, at: Timestamp) {
        let sooner = self.get(id).and_then(|entry| entry.wake_at).is_some_and(|old| old <= at);
        if !sooner {
            self.set_wake(id, Some(at));
        }
    }

    pub(crate) fn next_time(&self) -> Option<Timestamp> {
        self.times.first().map(|(at, _)| *at)
    }

    /// Lanes whose time has come.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<DestinationId> {
        let mut due = Vec::new();
        while let Some((at, id)) = self.times.first().copied()
            && at <= now
        {
            self.times.pop_first();
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.wake_at = None;
            }
            due.push(id);
        }
        due
    }
}

/// Takes a destination out of a list, and an empty list out of the map.
fn take_out<K: Eq + std::hash::Hash>(
    lists: &mut HashMap<K, Vec<DestinationId>>,
    key: K,
    id: DestinationId,
) {
    if let Some(list) = lists.get_mut(&key) {
        list.retain(|other| *other != id);
        if list.is_empty() {
            lists.remove(&key);
        }
    }
}

/// The live lane of a destination.
pub(crate) fn live(destination: DestinationId) -> LaneId {
    LaneId { destination, run: zapbus_store::LIVE }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use zapbus_event::{EventId, Kind, Raw, Source, SourceKind};

    use super::*;

    fn event(seq: u64, instance: InstanceId, kind: Kind) -> Event {
        let at = Timestamp::from_millis(1_767_225_600_000);
        let source = Source {
            kind: SourceKind::Native,
            event: kind.as_str().to_owned(),
            version: None,
            delivery_id: None,
            index: 0,
        };
        Event {
            id: EventId::new(at, u128::from(seq)),
            seq: Position(seq),
            instance,
            kind,
            facet: None,
            occurred_at: at,
            occurred_at_estimated: false,
            received_at: at,
            source,
            dedup_key: None,
            partition: "chat".to_owned(),
            history: false,
            ephemeral: false,
            client_id: None,
            hops: 0,
            data: Bytes::from_static(b"{}"),
            raw: Raw::Data,
        }
    }

    #[test]
    fn what_follows_a_match_in_one_batch_does_not_move_a_resting_cursor() {
        let now = Timestamp::from_millis(1_767_225_600_000);
        let (id, instance) = (DestinationId::new(now, 1), InstanceId::new(now, 2));
        let head = DestinationHead {
            id,
            account: AccountId::new(now, 3),
            instance: Some(instance),
            filter: Filter::parse(&["message.received"]).unwrap(),
            exclude_ephemeral: false,
            active: true,
        };
        let mut roster = Roster::default();
        let shard = ShardId::default();
        roster.hold(Tenure { home: shard, epoch: 0 });
        roster.put(head, shard, &[(shard, Position(10))], Health::Flowing);
        roster.get_mut(id).unwrap().mode = Mode::Resting;
        let mut calls = Calls::default();
        for (seq, kind) in
            [(11, Kind::ContactUpdated), (12, Kind::MessageReceived), (13, Kind::ContactUpdated)]
        {
            roster.dispatch(shard, &event(seq, instance, kind), None, &mut calls);
        }
        assert_eq!(calls.wake, [id]);
        assert_eq!(roster.get(id).unwrap().cursors.positions(), [(shard, Position(11))]);
    }

    #[test]
    fn a_destination_that_rests_costs_less_than_two_hundred_bytes() {
        let bytes = size_of::<(DestinationId, Entry)>();
        assert!(bytes <= 192, "{bytes} bytes");
    }

    #[test]
    fn a_shard_that_is_given_up_takes_its_destinations_along() {
        let now = Timestamp::from_millis(1_767_225_600_000);
        let (kept, left) = (ShardId(3), ShardId(5));
        let mut roster = Roster::default();
        for shard in [kept, left] {
            roster.hold(Tenure { home: shard, epoch: 1 });
        }
        let head = |n| DestinationHead {
            id: DestinationId::new(now, n),
            account: AccountId::new(now, 3),
            instance: Some(InstanceId::new(now, n)),
            filter: Filter::default(),
            exclude_ephemeral: false,
            active: true,
        };
        for (n, home) in [(1, kept), (2, left), (3, left), (4, ShardId(7))] {
            roster.put(head(n), home, &[(home, Position(1))], Health::Flowing);
        }
        roster.set_wake(DestinationId::new(now, 2), Some(now));
        assert_eq!(roster.ids_of(left).count(), 2);
        assert!(roster.get(DestinationId::new(now, 4)).is_none(), "another node's");
        roster.set_leaving(left, true);
        assert_eq!(roster.tenure(left), None);
        assert_eq!(roster.give_up(left).len(), 0);
        assert_eq!((roster.ids_of(left).count(), roster.ids_of(kept).count()), (0, 1));
        assert!(!roster.follows(left) && roster.follows(kept));
        assert_eq!(roster.next_time(), None);
        assert!(!roster.is_shared(InstanceId::new(now, 2)));
    }
}
