//! How many live connections there may be.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use zapbus_event::AccountId;

/// Counts connections of the node and of each account.
#[derive(Default)]
pub(super) struct Slots {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_account: HashMap<AccountId, usize>,
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
    account: Option<AccountId>,
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
        Ok(Slot { slots: Arc::clone(self), account })
    }

    /// Connections there are.
    pub(super) fn open(&self) -> usize {
        self.taken().all
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.all -= 1;
        if let Some(account) = self.account
            && let Some(own) = taken.by_account.get_mut(&account)
        {
            *own -= 1;
            if *own == 0 {
                taken.by_account.remove(&account);
            }
        }
    }
}
