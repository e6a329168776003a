//! Keys whose events wait in rows: under `strict` those with an unsettled event; else those that
//! still have `waiting` rows from a time when the destination was `strict`.

use std::collections::{BTreeSet, HashMap};

use zapbus_store::HeldKey;

use crate::spec::Ordering;

/// The rows of one key that stand in the store or are on their way there.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    retrying: u64,
    waiting: u64,
    /// Rows of the key that are on their way to the destination.
    out: u64,
}

impl Held {
    /// Its next waiting row may be fetched.
    fn may_go_on(&self) -> bool {
        self.retrying == 0 && self.out == 0
    }
}

#[derive(Debug, Default)]
pub(super) struct Holds {
    keys: HashMap<u64, Held>,
    /// Keys with nothing retrying and nothing out: their next waiting row may be fetched.
    free: BTreeSet<u64>,
}

impl Holds {
    /// From what the store holds in rows.
    pub(super) fn new(keys: &[HeldKey], ordering: Ordering) -> Self {
        let keys = keys
            .iter()
            .filter(|key| ordering == Ordering::Strict || key.waiting > 0)
            .map(|key| {
                let retrying = match ordering {
                    Ordering::Strict => key.rows.saturating_sub(key.waiting),
                    Ordering::None | Ordering::Key => 0,
                };
                (key.key, Held { retrying, waiting: key.waiting, out: 0 })
            })
            .collect();
        let mut holds = Self { keys, free: BTreeSet::new() };
        holds.recall();
        holds
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Rows that were fetched but not sent are given back: they may be fetched again.
    pub(super) fn recall(&mut self) {
        let free = self.keys.iter().filter(|(_, held)| held.may_go_on());
        self.free = free.map(|(key, _)| *key).collect();
    }

    /// Whether a new event of the key must wait in a row; it is counted if so.
    pub(super) fn join(&mut self, key: u64) -> bool {
        match self.keys.get_mut(&key) {
            Some(held) => {
                held.waiting += 1;
                true
            }
            None => false,
        }
    }

    /// An event of the key will be retried, and `behind` others wait in rows for it.
    pub(super) fn block(&mut self, key: u64, behind: u64) {
        let held = self.keys.entry(key).or_default();
        held.retrying += 1;
        held.waiting += behind;
        self.free.remove(&key);
    }

    /// A row of the key is sent.
    pub(super) fn sent(&mut self, key: u64) {
        if let Some(held) = self.keys.get_mut(&key) {
            held.out += 1;
        }
    }

    /// A row of the key was not sent after all: it may be fetched again.
    pub(super) fn recalled(&mut self, key: u64) {
        let Some(held) = self.keys.get_mut(&key) else { return };
        held.out = held.out.saturating_sub(1);
        if held.may_go_on() {
            self.free.insert(key);
        }
    }

    /// A row of the key was tried: if nothing of it is being retried, the next one may come.
    pub(super) fn tried(&mut self, key: u64, waited: bool, retrying: bool, ordering: Ordering) {
        let Some(held) = self.keys.get_mut(&key) else { return };
        let from = if waited { &mut held.waiting } else { &mut held.retrying };
        *from = from.saturating_sub(1);
        held.retrying += u64::from(retrying);
        held.out = held.out.saturating_sub(1);
        if ordering != Ordering::Strict {
            // Left over from a time when it was strict: nothing holds them but their turn.
            held.retrying = 0;
        }
        if held.may_go_on() {
            self.free.insert(key);
        } else {
            self.free.remove(&key);
        }
    }

    /// A key whose next waiting row may be fetched, if `ready` agrees.
    pub(super) fn next_free(&self, ready: impl Fn(u64) -> bool) -> Option<u64> {
        self.free.iter().copied().find(|key| !self.is_out(*key) && ready(*key))
    }

    /// The next waiting row of the key was fetched.
    pub(super) fn fetched(&mut self, key: u64) {
        self.free.remove(&key);
    }

    /// Nothing of the key waits any more.
    pub(super) fn let_go(&mut self, key: u64) {
        self.free.remove(&key);
        self.keys.remove(&key);
    }

    fn is_out(&self, key: u64) -> bool {
        self.keys.get(&key).is_some_and(|held| held.out > 0)
    }

    /// Keys that are blocked by a row in the store, not by one that is on its way.
    pub(super) fn blocked(&self) -> impl Iterator<Item = u64> + '_ {
        let blocked = self.keys.iter().filter(|(_, held)| held.retrying > 0 && held.out == 0);
        blocked.map(|(key, _)| *key)
    }
}
