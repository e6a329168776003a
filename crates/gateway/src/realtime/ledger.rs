//! Named subscribers of this node: what their connections have sent and heard, written to the store
//! at most once a second, together, and when a connection ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::Notify;
use zapbus_event::SubscriberId;
use zapbus_store::{Advance, OpenEvent, Place, Progress, Store, StoreError, Subscriber};

use super::hub::Bell;

/// How often it is written.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// Subscribers written in one commit.
const AT_ONCE: usize = 200;

/// A named subscriber, shared by all its connections on this node.
pub(super) struct Ledger {
    pub(super) id: SubscriberId,
    entry: Mutex<Entry>,
}

struct Entry {
    progress: Progress,
    /// Settled since it was last written.
    done: Vec<Place>,
    dirty: bool,
    /// Somebody has deleted it.
    gone: bool,
    /// Those of its connections, to be told of what is settled elsewhere.
    bells: Vec<Weak<Bell>>,
    /// Counts what was settled by anybody.
    settled: u64,
}

impl Ledger {
    fn new(subscriber: Subscriber) -> Self {
        Self {
            id: subscriber.id,
            entry: Mutex::new(Entry {
                progress: subscriber.progress,
                done: Vec::new(),
                dirty: false,
                gone: false,
                bells: Vec::new(),
                settled: 0,
            }),
        }
    }

    fn entry(&self) -> MutexGuard<'_, Entry> {
        // Nothing panics while holding it.
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection joins: where it begins, and what is open.
    pub(super) fn join(&self, bell: &Arc<Bell>) -> Progress {
        let mut entry = self.entry();
        entry.bells.retain(|bell| bell.strong_count() > 0);
        entry.bells.push(Arc::downgrade(bell));
        entry.progress.clone()
    }

    /// What is known of an event: open, or, with `None`, not offered by anybody or done.
    pub(super) fn open(&self, place: Place) -> Option<OpenEvent> {
        let entry = self.entry();
        let at = entry.progress.open.binary_search_by_key(&place, OpenEvent::place).ok()?;
        Some(entry.progress.open[at])
    }

    /// Whether an event was offered by some connection, and settled.
    pub(super) fn is_settled(&self, place: Place) -> bool {
        let entry = self.entry();
        place.1 <= entry.progress.sent_in(place.0)
            && entry.progress.open.binary_search_by_key(&place, OpenEvent::place).is_err()
    }

    /// Takes in what the connection with the bell `own` has sent and heard. `sent`: it has come this
    /// far.
    pub(super) fn note(
        &self,
        opened: &[OpenEvent],
        parked: impl IntoIterator<Item = OpenEvent>,
        done: &[Place],
        sent: &[Place],
        own: &Arc<Bell>,
    ) {
        let mut entry = self.entry();
        let Entry { progress, .. } = &mut *entry;
        let mut changed = false;
        for event in opened.iter().copied().chain(parked) {
            match progress.open.binary_search_by_key(&event.place(), OpenEvent::place) {
                Ok(at) => progress.open[at].take_in(&event),
                Err(at) => progress.open.insert(at, event),
            }
            changed = true;
        }
        for place in done {
            if let Ok(at) = progress.open.binary_search_by_key(place, OpenEvent::place) {
                progress.open.remove(at);
            }
        }
        for (shard, position) in sent {
            let known = progress.sent.entry(*shard).or_default();
            changed |= *position > *known;
            *known = (*known).max(*position);
        }
        entry.done.extend_from_slice(done);
        entry.dirty |= changed || !done.is_empty();
        if !done.is_empty() {
            entry.settled += 1;
            entry.tell(Some(own));
        }
    }

    /// What somebody had sent again, and is not done.
    pub(super) fn revived(&self) -> Vec<OpenEvent> {
        let is_revived = |event: &&OpenEvent| event.round > 0 && !event.parked;
        self.entry().progress.open.iter().filter(is_revived).copied().collect()
    }

    /// Changes whenever something is settled, or is to be sent again.
    pub(super) fn settled(&self) -> u64 {
        self.entry().settled
    }

    /// Whether it was deleted.
    pub(super) fn is_gone(&self) -> bool {
        self.entry().gone
    }

    fn is_dirty(&self) -> bool {
        self.entry().dirty
    }

    /// Something that another node may hear of first.
    fn has_open(&self) -> bool {
        !self.entry().progress.open.is_empty()
    }

    fn take(&self) -> Advance {
        let mut entry = self.entry();
        entry.dirty = false;
        Advance { progress: entry.progress.clone(), done: std::mem::take(&mut entry.done) }
    }

    fn put_back(&self, done: Vec<Place>) {
        let mut entry = self.entry();
        entry.dirty = true;
        entry.done.extend(done);
    }

    /// It was written, and this is what is stored by now.
    fn written(&self, stored: Option<Progress>) {
        let mut entry = self.entry();
        let Some(mut stored) = stored else {
            entry.gone = true;
            entry.tell(None);
            return;
        };
        // What happened meanwhile.
        let since = Advance { progress: entry.progress.clone(), done: entry.done.clone() };
        stored.merge(&since);
        let is_same = |event: &OpenEvent| {
            let at = stored.open.binary_search_by_key(&event.place(), OpenEvent::place);
            at.is_ok_and(|at| stored.open[at].round == event.round)
        };
        // Settled on another node, or to be sent again. How many there are says nothing: it may have
        // opened others.
        if !entry.progress.open.iter().all(is_same) {
            entry.settled += 1;
            entry.tell(None);
        }
        entry.progress = stored;
    }
}

impl Entry {
    /// Windows of connections but `own` may have room again.
    fn tell(&self, own: Option<&Arc<Bell>>) {
        let others = self.bells.iter().filter_map(Weak::upgrade);
        others
            .filter(|bell| own.is_none_or(|own| !Arc::ptr_eq(own, bell)))
            .for_each(|bell| bell.ring());
    }
}

/// All ledgers of a node.
pub(super) struct Ledgers {
    store: Store,
    /// Several nodes write about the same subscribers.
    shared: bool,
    known: Mutex<HashMap<SubscriberId, Weak<Ledger>>>,
    /// Of connections that have ended, until they are written.
    last: Mutex<Vec<Arc<Ledger>>>,
    hurry: Notify,
    writing: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledgers {
    pub(super) fn new(store: Store) -> Self {
        Self {
            shared: store.is_on_server(),
            store,
            known: Mutex::default(),
            last: Mutex::default(),
            hurry: Notify::new(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// The ledger of a subscriber; `new` says how it begins if nobody knows it.
    pub(super) async fn open(&self, new: Subscriber) -> Result<Arc<Ledger>, StoreError> {
        let id = new.id;
        if let Some(ledger) = self.find(id) {
            return Ok(ledger);
        }
        let found = self.store.open_subscriber(new).await?;
        let mut known = lock(&self.known);
        // Somebody may have been faster.
        if let Some(ledger) = known.get(&id).and_then(Weak::upgrade)
            && !ledger.is_gone()
        {
            return Ok(ledger);
        }
        let ledger = Arc::new(Ledger::new(found));
        known.insert(id, Arc::downgrade(&ledger));
        self.hurry.notify_one();
        Ok(ledger)
    }

    fn find(&self, id: SubscriberId) -> Option<Arc<Ledger>> {
        let ledger = lock(&self.known).get(&id).and_then(Weak::upgrade)?;
        (!ledger.is_gone()).then_some(ledger)
    }

    /// It was deleted here: its connections end.
    pub(super) fn forget(&self, id: SubscriberId) {
        if let Some(ledger) = self.find(id) {
            ledger.written(None);
        }
    }

    /// Makes what is dead for a subscriber open again, and tells its connections. How much of it
    /// was dead still.
    pub(super) async fn revive(
        &self,
        id: SubscriberId,
        dead: Vec<OpenEvent>,
    ) -> Result<usize, StoreError> {
        let open: Vec<_> = dead.into_iter().map(OpenEvent::revived).collect();
        let progress = Progress { open: open.clone(), ..Progress::default() };
        let advance = Advance { progress, done: Vec::new() };
        // Not between the two halves of a write.
        let _one_at_a_time = self.writing.lock().await;
        let stored = self.store.advance_subscribers(vec![(id, advance)]).await?;
        let Some(stored) = stored.into_iter().next().flatten() else { return Ok(0) };
        let revived = open.iter().filter(|event| stored.open.contains(event)).count();
        if let Some(ledger) = self.find(id) {
            ledger.written(Some(stored));
        }
        Ok(revived)
    }

    /// A connection has ended: what it leaves is written soon.
    pub(super) fn leave(&self, ledger: Arc<Ledger>) {
        lock(&self.last).push(ledger);
        self.hurry.notify_one();
    }

    /// Writes what there is to write; what fails waits for the next time.
    pub(super) async fn write(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.writing.lock().await;
        let last = std::mem::take(&mut *lock(&self.last));
        let mut ledgers: Vec<Arc<Ledger>> = Vec::new();
        lock(&self.known).retain(|_, ledger| match ledger.upgrade() {
            Some(ledger) => {
                ledgers.push(ledger);
                true
            }
            None => false,
        });
        ledgers.retain(|ledger| ledger.is_dirty() || (self.shared && ledger.has_open()));
        for step in ledgers.chunks(AT_ONCE) {
            let advances: Vec<_> = step.iter().map(|ledger| (ledger.id, ledger.take())).collect();
            match self.store.advance_subscribers(advances.clone()).await {
                Ok(stored) => {
                    step.iter().zip(stored).for_each(|(ledger, stored)| ledger.written(stored));
                }
                Err(error) => {
                    for (ledger, (_, advance)) in step.iter().zip(advances) {
                        ledger.put_back(advance.done);
                    }
                    // They must not be forgotten before they are written.
                    lock(&self.last).extend(last);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Writes every now and then, for as long as it runs.
    pub(super) async fn keep(&self) {
        let mut failing = false;
        loop {
            let is_idle = lock(&self.known).is_empty();
            tokio::select! {
                biased;
                () = tokio::time::sleep(EVERY), if !is_idle => {}
                () = self.hurry.notified() => {}
            }
            match self.write().await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(event = "realtime.unwritten", %error, "cursors of subscribers are not written at the moment: after a crash they would see events again");
                    }
                    failing = true;
                    tokio::time::sleep(EVERY).await;
                }
            }
        }
    }
}
