//! The way to a running lane: what it is told, and what it shows of itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{Notify, mpsc, oneshot};
use zapbus_event::Position;
use zapbus_store::{DeliveryId, ShardId};

use super::Cursors;
use crate::lane::{LaneStatus, track::Reach};

/// What a running lane is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send nothing new; say where the live run truly is, in each shard.
    Hold(oneshot::Sender<Vec<(ShardId, Position)>>),
    /// Read the destination again and go on as it says. `resumed`: it had been stopped.
    Reload { resumed: bool },
    /// Another node may have changed the destination, one of its runs, or rows of these `runs`.
    Refresh { resumed: bool, runs: Vec<u32> },
    /// Due rows were written for this run, or the run itself changed.
    LookAt(u32),
    /// What was read but not sent may be gone from the journal: read it again.
    Forget,
    /// Say how you are.
    Status(oneshot::Sender<LaneStatus>),
    /// Say whether this delivery is being sent.
    IsSending(DeliveryId, oneshot::Sender<bool>),
    /// Finish what is in flight, write it, end.
    Stop,
    /// Another node runs the lane: end at once, and write nothing.
    Lost,
}

/// In which shards something was committed. A set of bits: shards beyond the 64th share theirs, and
/// one that is rung by mistake finds nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ring(u64);

impl Ring {
    pub(crate) const ALL: Self = Self(u64::MAX);

    pub(crate) fn of(shard: ShardId) -> Self {
        Self(1 << (shard.0 % 64))
    }

    pub(crate) fn concerns(self, shard: ShardId) -> bool {
        self.0 & Self::of(shard).0 != 0
    }
}

/// The way to a running lane.
#[derive(Debug)]
pub(crate) struct Mail {
    commands: mpsc::UnboundedSender<Command>,
    committed: AtomicU64,
    bell: Notify,
    /// Where the live run is in each shard, and whether it is probing: for whoever watches.
    cursors: Box<[(ShardId, AtomicU64)]>,
    probing: AtomicBool,
}

impl Mail {
    pub(crate) fn new(
        cursors: &Cursors,
        probing: bool,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let cursors = cursors.iter().map(|(shard, cursor)| (shard, AtomicU64::new(cursor.at.0)));
        let mail = Self {
            commands,
            committed: AtomicU64::new(0),
            bell: Notify::new(),
            cursors: cursors.collect(),
            probing: AtomicBool::new(probing),
        };
        (Arc::new(mail), receiver)
    }

    /// Shows how the lane is to whoever watches, who asks nobody.
    pub(crate) fn show(&self, reaches: &[Reach], probing: bool) {
        for ((_, shown), reach) in self.cursors.iter().zip(reaches) {
            shown.store(reach.cursor().0, Ordering::Relaxed);
        }
        self.probing.store(probing, Ordering::Relaxed);
    }

    /// What was shown last: where it is in each shard.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (ShardId, Position)> + '_ {
        let shown = self.cursors.iter();
        shown.map(|(shard, at)| (*shard, Position(at.load(Ordering::Relaxed))))
    }

    /// Whether it is probing.
    pub(crate) fn is_probing(&self) -> bool {
        self.probing.load(Ordering::Relaxed)
    }

    /// Events that may concern the lane were committed.
    pub(crate) fn ring(&self, ring: Ring) {
        // Only the first of many rings needs to wake anybody.
        if self.committed.fetch_or(ring.0, Ordering::AcqRel) == 0 {
            self.bell.notify_one();
        }
    }

    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Where it was rung since the last call.
    pub(crate) fn take_ring(&self) -> Option<Ring> {
        let ring = self.committed.swap(0, Ordering::AcqRel);
        (ring != 0).then_some(Ring(ring))
    }

    pub(crate) fn tell(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// Returns when the lane has ended.
    pub(crate) async fn ended(&self) {
        self.commands.closed().await;
    }
}
