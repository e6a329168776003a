//! What waits for a shard: all that has gathered while its last call ran is the next one.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{Shared, fault::Result};
use crate::{
    AppendError, Settlement, StoreError,
    blob::Sha,
    delivery::Urgency,
    journal::{Appended, Limit},
    postgres::destinations::Known,
    prepared::{Prepared, counted},
};

/// Settlements and their rows in one call.
const SETTLED: usize = 4_000;

/// The part of a request that concerns one shard.
pub(crate) struct AppendJob {
    pub(crate) events: Vec<Prepared>,
    /// What was taken out of the events.
    pub(crate) contents: Vec<(Sha, Bytes)>,
    pub(crate) body: Option<(Sha, Bytes)>,
    pub(crate) weight: usize,
    pub(crate) answer: oneshot::Sender<Result<Vec<Appended>, AppendError>>,
    /// What it takes of the node's memory, with the other parts of its request.
    pub(crate) _room: Arc<Room>,
}

/// What some lanes of one home have to say.
pub(crate) struct SettleJob {
    pub(crate) settlements: Vec<(Known, Settlement)>,
    pub(crate) urgency: Urgency,
    pub(crate) arrived: Instant,
    pub(crate) answer: oneshot::Sender<Result<(), StoreError>>,
}

impl SettleJob {
    /// Whether it comes from a lane that was started under another lease than the one of `epoch`.
    pub(crate) fn is_older_than(&self, epoch: u64) -> bool {
        let mut of_lanes = self.settlements.iter().filter_map(|(_, it)| it.epoch);
        of_lanes.any(|own| own != epoch)
    }
}

#[derive(Default)]
pub(crate) struct AppendQueue {
    jobs: VecDeque<AppendJob>,
    running: bool,
}

impl AppendQueue {
    /// True when nobody is at work: the caller has to see to it.
    pub(crate) fn push(&mut self, job: AppendJob) -> bool {
        self.jobs.push_back(job);
        !std::mem::replace(&mut self.running, true)
    }

    /// The next call's jobs; at least one, or nothing more is to be done.
    pub(crate) fn take(&mut self, limit: Limit) -> Vec<AppendJob> {
        let (mut events, mut bytes) = (0, 0);
        let mut taken: Vec<AppendJob> = Vec::new();
        while let Some(next) = self.jobs.front() {
            events += next.events.len();
            bytes += next.weight;
            if !taken.is_empty() && (events > limit.events || bytes > limit.bytes) {
                break;
            }
            taken.extend(self.jobs.pop_front());
        }
        self.running = !taken.is_empty();
        taken
    }
}

#[derive(Default)]
pub(crate) struct SettleQueue {
    jobs: Vec<SettleJob>,
    running: bool,
}

impl SettleQueue {
    pub(crate) fn push(&mut self, job: SettleJob) -> bool {
        self.jobs.push(job);
        !std::mem::replace(&mut self.running, true)
    }

    /// Whether nothing waits, or when the first that waits has come, if none of them is in a hurry.
    pub(crate) fn patient_since(&self) -> Option<Instant> {
        if self.jobs.iter().any(|job| job.urgency == Urgency::Now) {
            return None;
        }
        self.jobs.first().map(|first| first.arrived)
    }

    /// The next call's jobs, as many as the server does well within its time limit; at least one, or
    /// nothing more is to be done.
    pub(crate) fn take(&mut self) -> Vec<SettleJob> {
        let mut rows = 0;
        let fit = self.jobs.iter().take_while(|job| {
            let first = rows == 0;
            rows += job.settlements.iter().map(|(_, it)| 1 + it.rows.len()).sum::<usize>().max(1);
            first || rows <= SETTLED
        });
        let fit = fit.count();
        let taken: Vec<SettleJob> = self.jobs.drain(..fit).collect();
        self.running = !taken.is_empty();
        taken
    }
}

/// Room for an append in memory. Given back when it is dropped.
pub(crate) struct Room {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Room {
    pub(crate) fn reserve(shared: &Arc<Shared>, bytes: usize) -> Result<Self, AppendError> {
        let bound = shared.queue_bound;
        let bytes = counted(bytes, bound);
        let taken = shared.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
            (queued == 0 || queued + bytes <= bound).then_some(queued + bytes)
        });
        match taken {
            Ok(queued) => {
                shared.metrics.queue_bytes.set((queued + bytes) as u64);
                Ok(Self { shared: Arc::clone(shared), bytes })
            }
            Err(queued_bytes) => {
                shared.metrics.busy.add(1);
                Err(AppendError::Busy { queued_bytes })
            }
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let queued = self.shared.queued.fetch_sub(self.bytes, Ordering::Relaxed);
        self.shared.metrics.queue_bytes.set(queued.saturating_sub(self.bytes) as u64);
    }
}
