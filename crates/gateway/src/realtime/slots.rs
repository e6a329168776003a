//! How many live connections there may be.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use zapbus_event::AccountId;

/// Connections whose owner has shown no key yet: they take no place of those who have.
const STRANGERS: usize = 256;

/// Counts connections of the node and of each account.
#[derive(Default)]
pub(super) struct Slots {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_account: HashMap<AccountId, usize>,
    strangers: usize,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The node's.
    Node,
    /// The account's.
    Account,
}

/// A place for one connection, for as long as it is kept.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    place: Place,
}

/// What a slot counts for.
enum Place {
    /// The node.
    Node,
    /// The node and an account.
    Account(AccountId),
    /// Nobody yet.
    Stranger,
}

impl Slot {
    /// Whether it is one of whoever has shown no key yet.
    pub(crate) fn is_strangers(&self) -> bool {
        matches!(self.place, Place::Stranger)
    }
}

impl Slots {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics while holding it.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, unless there is none. The operator's own connections count for the node only.
    pub(super) fn take(
        self: &Arc<Self>,
        account: Option<AccountId>,
        (of_node, of_account): (usize, usize),
    ) -> Result<Slot, Full> {
        let mut taken = self.taken();
        if taken.all >= of_node {
            return Err(Full::Node);
        }
        if let Some(account) = account {
            let own = taken.by_account.entry(account).or_default();
            if *own >= of_account {
                return Err(Full::Account);
            }
            *own += 1;
        }
        taken.all += 1;
        drop(taken);
        let place = account.map_or(Place::Node, Place::Account);
        Ok(Slot { slots: Arc::clone(self), place })
    }

    /// A place for a connection whose owner has shown no key yet.
    pub(super) fn take_strangers(self: &Arc<Self>) -> Result<Slot, Full> {
        let mut taken = self.taken();
        if taken.strangers >= STRANGERS {
            return Err(Full::Node);
        }
        taken.strangers += 1;
        drop(taken);
        Ok(Slot { slots: Arc::clone(self), place: Place::Stranger })
    }

    /// Connections there are.
    pub(super) fn open(&self) -> usize {
        self.taken().all
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        let account = match self.place {
            Place::Stranger => {
                taken.strangers -= 1;
                return;
            }
            Place::Node => None,
            Place::Account(account) => Some(account),
        };
        taken.all -= 1;
        if let Some(account) = account
            && let Some(own) = taken.by_account.get_mut(&account)
        {
            *own -= 1;
            if *own == 0 {
                taken.by_account.remove(&account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_have_places_of_their_own_and_give_them_back() {
        let slots = Arc::new(Slots::default());
        let mut strangers: Vec<_> =
            (0..STRANGERS).map(|_| slots.take_strangers().ok().unwrap()).collect();
        assert!(slots.take_strangers().is_err());
        assert_eq!(slots.open(), 0);
        let known = slots.take(None, (1, 1)).ok().unwrap();
        assert!(!known.is_strangers() && strangers[0].is_strangers());
        strangers.pop();
        assert!(slots.take_strangers().is_ok());
    }
}
