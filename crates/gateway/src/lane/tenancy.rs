//! Which lanes are this node's: shards are gained and lost with their leases, and what other nodes
//! change is taken in.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::{broadcast, watch};
use zapbus_store::{Change, Leases, ShardId};

use super::loading::Known;
use super::roster::{Command, Mode, Tenure};
use super::{STORE_PAUSE, Shared};

impl Shared {
    /// Whether lanes go on when their lease has ended: never, unless a test of a debug build wants it.
    pub(super) fn is_blind(&self) -> bool {
        #[cfg(debug_assertions)]
        return self.is_blind;
        #[cfg(not(debug_assertions))]
        false
    }

    /// Brings the roster in line with what this node holds. Returns the shards whose destinations
    /// have to be read.
    pub(super) fn adopt(self: &Arc<Self>, leases: &Leases) -> BTreeSet<ShardId> {
        let mut unread = BTreeSet::new();
        let mut lost = Vec::new();
        let mut leaving = Vec::new();
        {
            let mut roster = self.roster();
            let before: Vec<Tenure> = roster.tenures().collect();
            for Tenure { home, epoch } in before {
                let is_lost = leases.get(&home).map_or(!self.is_blind(), |it| it.epoch != epoch);
                if is_lost {
                    lost.extend(roster.give_up(home));
                }
            }
            for (home, lease) in leases {
                let tenure = Tenure { home: *home, epoch: lease.epoch };
                if !roster.holds(*home) {
                    roster.hold(tenure);
                    unread.insert(*home);
                }
                match (roster.is_leaving(*home), lease.leaving) {
                    (false, true) => leaving.push(tenure),
                    // It stays after all: its lanes have stopped, or are about to.
                    (true, false) => {
                        unread.insert(*home);
                    }
                    _ => {}
                }
                roster.set_leaving(*home, lease.leaving);
            }
        }
        for mail in lost {
            mail.tell(Command::Lost);
        }
        for tenure in leaving {
            let shared = Arc::clone(self);
            self.spawn(async move { shared.hand_over(tenure).await });
        }
        unread
    }

    /// Lets the lanes of a shard come to their end, and gives it away before its time is over.
    async fn hand_over(&self, tenure: Tenure) {
        let home = tenure.home;
        let mails: Vec<_> = {
            let roster = self.roster();
            let modes = roster.ids_of(home).filter_map(|id| roster.get(id)).map(|it| &it.mode);
            modes.cloned().filter_map(Mode::into_mail).collect()
        };
        for mail in &mails {
            mail.tell(Command::Stop);
        }
        for mail in &mails {
            mail.ended().await;
        }
        // Not told to anybody: what is not written is looked at once more by whoever comes.
        let written = self.write_cursors(Some(home)).await;
        let still_leaves = {
            let roster = self.roster();
            roster.is_leaving(home) && roster.tenures().any(|held| held == tenure)
        };
        if !still_leaves {
            return;
        }
        let released = self.store.release(home).await;
        if let Err(error) = written.and(released) {
            tracing::debug!(event = "lane.handover", shard = home.0, %error, "a shard goes to another node when its time is over");
        }
    }

    /// Anything may have changed: every destination is read again.
    async fn refresh_all(self: &Arc<Self>) {
        self.rendering.forget_all();
        loop {
            let held = self.roster().tenures().map(|tenure| tenure.home).collect();
            match self.load(&held, Known::Refresh).await {
                Ok(()) => break,
                Err(_) if self.is_closing() => return,
                Err(_) => tokio::time::sleep(STORE_PAUSE).await,
            }
        }
        self.ask_all().await;
    }
}

/// Takes up the lanes of shards that this node gets, and lets go of those that it loses.
pub(super) async fn keep_leases(shared: Arc<Shared>, mut leases: watch::Receiver<Leases>) {
    let mut unread = BTreeSet::new();
    loop {
        let now = leases.borrow_and_update().clone();
        unread.extend(shared.adopt(&now));
        unread.retain(|shard| shared.roster().holds(*shard));
        if !unread.is_empty() && shared.load(&unread, Known::Refresh).await.is_ok() {
            unread.clear();
            let asking = Arc::clone(&shared);
            shared.spawn(async move { asking.ask_all().await });
        }
        tokio::select! {
            biased;
            changed = leases.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(STORE_PAUSE), if !unread.is_empty() => {}
        }
    }
}

/// Takes in what other nodes change.
pub(super) async fn heed_changes(shared: Arc<Shared>, mut changes: broadcast::Receiver<Change>) {
    loop {
        match changes.recv().await {
            Ok(Change::Destination(id)) => shared.refresh(id).await,
            Ok(Change::Instance(id)) => shared.rendering.forget(id),
            Ok(Change::Erased(id)) => {
                shared.rendering.forget(id);
                shared.forget_read(Some(id));
            }
            Ok(Change::Account(_) | Change::Credential(_)) => {}
            Ok(Change::Everything) | Err(broadcast::error::RecvError::Lagged(_)) => {
                shared.refresh_all().await;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
