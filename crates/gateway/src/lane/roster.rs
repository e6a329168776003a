//! Every destination of the node in a few bytes each, and which of them is awake.
//!
//! A lane that rests has no task and no timer of its own: an entry here, and at most one place in
//! the node's heap of times.

mod survey;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, mpsc, oneshot};
use zapbus_event::{AccountId, DestinationId, Event, InstanceId, Position, Timestamp};
use zapbus_store::{DestinationHead, Health, LaneId, Reader};

pub(crate) use self::survey::{Laggard, Standing};
use super::{LaneStatus, announce::Voice, gate::Memory};

/// Skipped events after which a resting lane's cursor is written.
const FLUSH_AFTER: u32 = 10_000;

/// What a running lane is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send nothing new; say where the live run's cursor truly is.
    Hold(oneshot::Sender<Position>),
    /// Read the destination again and go on as it says. `resumed`: it had been stopped.
    Reload { resumed: bool },
    /// Due rows were written for this run, or the run itself changed.
    LookAt(u32),
    /// Say how you are.
    Status(oneshot::Sender<LaneStatus>),
    /// Finish what is in flight, write it, end.
    Stop,
}

/// The way to a running lane.
#[derive(Debug)]
pub(crate) struct Mail {
    commands: mpsc::UnboundedSender<Command>,
    committed: AtomicBool,
    bell: Notify,
    /// Where the live run is, and whether it is probing: for whoever watches.
    cursor: AtomicU64,
    probing: AtomicBool,
}

impl Mail {
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let mail = Self {
            commands,
            committed: AtomicBool::new(false),
            bell: Notify::new(),
            cursor: AtomicU64::new(0),
            probing: AtomicBool::new(false),
        };
        (Arc::new(mail), receiver)
    }

    /// Shows how the lane is to whoever watches, who asks nobody.
    pub(crate) fn show(&self, cursor: Position, probing: bool) {
        self.cursor.store(cursor.0, Ordering::Relaxed);
        self.probing.store(probing, Ordering::Relaxed);
    }

    /// What was shown last.
    pub(crate) fn shown(&self) -> (Position, bool) {
        (Position(self.cursor.load(Ordering::Relaxed)), self.probing.load(Ordering::Relaxed))
    }

    /// Events that may concern the lane were committed.
    pub(crate) fn ring(&self) {
        // Only the first of many rings needs to wake anybody.
        if !self.committed.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }

    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Whether it was rung since the last call.
    pub(crate) fn take_ring(&self) -> bool {
        self.committed.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn tell(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }
}

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

/// What a lane leaves behind when it rests.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    pub(crate) memory: Memory,
    pub(crate) voice: Voice,
    pub(crate) last_error: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) head: DestinationHead,
    pub(crate) mode: Mode,
    /// Everything at or below is settled, skipped or held in rows.
    pub(crate) cursor: Position,
    /// The cursor as the store has it.
    pub(crate) stored: Position,
    skipped: u32,
    /// Boxed: most destinations have nothing to remember.
    pub(crate) rest: Option<Box<Rest>>,
    /// Finished runs that still have rows to retry.
    #[expect(clippy::box_collection, reason = "a word instead of three, on every destination")]
    pub(crate) runs: Option<Box<BTreeSet<u32>>>,
    wake_at: Option<Timestamp>,
}

impl Entry {
    pub(crate) fn reader(&self) -> Reader {
        reader_of(&self.head)
    }
}

/// Whose events a destination gets.
pub(crate) fn reader_of(head: &DestinationHead) -> Reader {
    head.instance.map_or(Reader::Account(head.account), Reader::Instance)
}

/// What a batch of committed events calls for.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Lanes to start.
    pub(crate) wake: Vec<DestinationId>,
    /// A resting lane has skipped so much that its cursor should be written.
    pub(crate) flush: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Roster {
    entries: HashMap<DestinationId, Entry>,
    of_instance: HashMap<InstanceId, Vec<DestinationId>>,
    of_account: HashMap<AccountId, Vec<DestinationId>>,
    times: BTreeSet<(Timestamp, DestinationId)>,
}

impl Roster {
    /// Puts a destination on the roster, or takes its new head; an entry that is there keeps its
    /// mode and cursor.
    pub(crate) fn put(&mut self, head: DestinationHead, cursor: Position, health: Health) {
        let id = head.id;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.head = head;
            return;
        }
        match head.instance {
            Some(instance) => self.of_instance.entry(instance).or_default().push(id),
            None => self.of_account.entry(head.account).or_default().push(id),
        }
        let rest = Rest::stored(health, head.active).map(Box::new);
        let entry = Entry {
            head,
            mode: Mode::Unasked,
            cursor,
            stored: cursor,
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

    /// Asks the filters of everybody whom one committed event may concern.
    pub(crate) fn dispatch(
        &mut self,
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
                Mode::Running(mail) => mail.ring(),
                Mode::Resting | Mode::Unasked
                    if entry.head.filter.matches(event.kind, event.facet.as_deref()) =>
                {
                    // From here on it has a backlog: what follows in the same batch must not move
                    // its cursor.
                    entry.mode = Mode::Waiting;
                    calls.wake.push(*id);
                }
                Mode::Resting => {
                    entry.cursor = entry.cursor.max(event.seq);
                    entry.skipped = entry.skipped.saturating_add(1);
                    calls.flush |= entry.skipped >= FLUSH_AFTER;
                }
                Mode::Unasked | Mode::Waiting | Mode::Held => {}
            }
        }
    }

    /// Resting lanes whose cursor moved past what the store knows.
    pub(crate) fn unwritten(&self) -> Vec<(LaneId, Position)> {
        self.entries
            .iter()
            .filter(|(_, entry)| matches!(entry.mode, Mode::Resting) && entry.cursor > entry.stored)
            .map(|(id, entry)| (live(*id), entry.cursor))
            .collect()
    }

    /// Those cursors are in the store now.
    pub(crate) fn written(&mut self, cursors: &[(LaneId, Position)]) {
        for (lane, cursor) in cursors {
            if let Some(entry) = self.entries.get_mut(&lane.destination) {
                entry.stored = entry.stored.max(*cursor);
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
    use zapbus_event::{EventId, Filter, Kind, Raw, Source, SourceKind};

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
        roster.put(head, Position(10), Health::Flowing);
        roster.get_mut(id).unwrap().mode = Mode::Resting;
        let mut calls = Calls::default();
        for (seq, kind) in
            [(11, Kind::ContactUpdated), (12, Kind::MessageReceived), (13, Kind::ContactUpdated)]
        {
            roster.dispatch(&event(seq, instance, kind), None, &mut calls);
        }
        assert_eq!(calls.wake, [id]);
        assert_eq!(roster.get(id).unwrap().cursor, Position(11));
    }
}
