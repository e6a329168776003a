//! What waits for the writer.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{fault::Result, writer::Tx};
pub(crate) use crate::prepared::{KeyHash, Prepared};
use crate::{
    AppendError, StoreError,
    blob::Sha,
    delivery::{Settlement, Urgency},
    journal::{Appended, Limit},
    prepared::counted,
};

#[derive(Debug)]
pub(crate) struct AppendJob {
    pub(crate) events: Vec<Prepared>,
    pub(crate) body: Option<(Sha, Bytes)>,
    pub(crate) weight: usize,
    pub(crate) answer: oneshot::Sender<Result<Vec<Appended>, AppendError>>,
    /// Set while the transaction runs, sent after it.
    pub(crate) outcome: Option<Result<Vec<Appended>, AppendError>>,
}

#[derive(Debug)]
pub(crate) struct SettleJob {
    pub(crate) settlements: Vec<Settlement>,
    pub(crate) urgency: Urgency,
    pub(crate) arrived: Instant,
    pub(crate) answer: oneshot::Sender<Result<(), StoreError>>,
    pub(crate) refused: Option<StoreError>,
}

/// A change that is neither an append nor a settlement. Runs again when its transaction has to.
pub(crate) trait Command: Send {
    /// Does it, inside a savepoint, and keeps the result.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()>;
    /// Takes the failure that [`Command::run`] came back with.
    fn refuse(&mut self, error: StoreError);
    /// Sends the result, or `unavailable` in its place.
    fn answer(self: Box<Self>, unavailable: Option<StoreError>);
}

/// What one commit takes.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) settles: Vec<SettleJob>,
    pub(crate) commands: Vec<Box<dyn Command>>,
    pub(crate) appends: Vec<AppendJob>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.settles.is_empty() && self.commands.is_empty() && self.appends.is_empty()
    }

    pub(crate) fn weight(&self) -> usize {
        self.appends.iter().map(|job| job.weight).sum()
    }
}

/// The writer's inbox: bounded in bytes, taken from in whole batches.
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    bound: usize,
    ride: Duration,
    /// Wakes a writer that is a task.
    #[cfg(feature = "simulation")]
    bell: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    settles: Vec<SettleJob>,
    urgent: bool,
    appends: VecDeque<AppendJob>,
    /// Of appends that wait or are being written.
    bytes: usize,
    commands: VecDeque<Box<dyn Command>>,
    /// Pruning and erasing, one step per commit.
    upkeep: VecDeque<Box<dyn Command>>,
    waiting: bool,
    closed: bool,
}

impl State {
    fn has_work(&self) -> bool {
        self.urgent
            || !self.appends.is_empty()
            || !self.commands.is_empty()
            || !self.upkeep.is_empty()
            || (self.closed && !self.settles.is_empty())
    }
}

impl Queue {
    pub(crate) fn new(bound: usize, ride: Duration) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            bound,
            ride,
            #[cfg(feature = "simulation")]
            bell: tokio::sync::Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let waiting = state.waiting;
        drop(state);
        if waiting {
            self.wake.notify_one();
        }
        #[cfg(feature = "simulation")]
        self.bell.notify_one();
    }

    /// What an append of so many bytes takes of the bound: a very large one not all of it, or it
    /// would never find that nothing else waits.
    pub(crate) fn counted(&self, bytes: usize) -> usize {
        counted(bytes, self.bound)
    }

    /// Bytes of appends that wait or are being written.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(crate) fn append(&self, job: AppendJob) -> Result<(), AppendError> {
        let mut state = self.lock();
        self.admit(&mut state, job.weight)?;
        state.appends.push_back(job);
        self.wake(state);
        Ok(())
    }

    /// Takes room for an append that has still to be made ready. [`Queue::release`] gives it back.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), AppendError> {
        self.admit(&mut self.lock(), bytes)
    }

    /// [`Queue::append`] with room that was reserved; what of it is not needed is given back.
    pub(crate) fn append_reserved(
        &self,
        job: AppendJob,
        reserved: usize,
    ) -> Result<(), AppendError> {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(reserved);
        if state.closed {
            return Err(AppendError::Unavailable { reason: "it is closed".to_owned() });
        }
        state.bytes += job.weight;
        state.appends.push_back(job);
        self.wake(state);
        Ok(())
    }

    fn admit(&self, state: &mut State, bytes: usize) -> Result<(), AppendError> {
        if state.closed {
            return Err(AppendError::Unavailable { reason: "it is closed".to_owned() });
        }
        if state.bytes > 0 && state.bytes + bytes > self.bound {
            return Err(AppendError::Busy { queued_bytes: state.bytes });
        }
        state.bytes += bytes;
        Ok(())
    }

    pub(crate) fn settle(&self, job: SettleJob) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        state.urgent |= job.urgency == Urgency::Now;
        // The writer must be woken for the first one, to count its ride; later ones ride along.
        let wake = state.urgent || state.settles.is_empty();
        state.settles.push(job);
        if wake {
            self.wake(state);
        }
        Ok(())
    }

    pub(crate) fn command(&self, command: Box<dyn Command>) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        state.commands.push_back(command);
        self.wake(state);
        Ok(())
    }

    pub(crate) fn upkeep(&self, command: Box<dyn Command>) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        state.upkeep.push_back(command);
        self.wake(state);
        Ok(())
    }

    /// Takes nothing more. What waits is still written.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        drop(state);
        self.wake.notify_all();
        #[cfg(feature = "simulation")]
        self.bell.notify_one();
    }

    /// Takes nothing more, and drops what waits: its callers are told that it was closed.
    pub(crate) fn abandon(&self) {
        *self.lock() = State { closed: true, ..State::default() };
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until there is something to write and takes it: all settlements and commands, appends
    /// up to `limit`, one step of upkeep. An empty batch after `idle`; `None` when the queue is
    /// closed and empty.
    pub(crate) fn take(&self, limit: Limit, idle: Option<Duration>) -> Option<Batch> {
        let mut state = self.lock();
        let idle_until = idle.map(|idle| Instant::now() + idle);
        while !state.has_work() {
            let until = self.looks_again(&state, idle_until);
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                break;
            }
            if state.closed {
                return None;
            }
            state.waiting = true;
            state = match until {
                Some(until) => {
                    let waited = self.wake.wait_timeout(state, until - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.waiting = false;
        }
        Some(take_batch(&mut state, limit, true))
    }

    /// When there is something to take although nothing has come.
    fn looks_again(&self, state: &State, idle_until: Option<Instant>) -> Option<Instant> {
        let ride_until = state.settles.first().map(|first| first.arrived + self.ride);
        [ride_until, idle_until].into_iter().flatten().min()
    }

    /// [`Self::take`] for a writer that is a task.
    #[cfg(feature = "simulation")]
    pub(crate) async fn take_simulated(
        &self,
        limit: Limit,
        idle: Option<Duration>,
    ) -> Option<Batch> {
        let idle_until = idle.map(|idle| Instant::now() + idle);
        loop {
            let until = {
                let mut state = self.lock();
                let until = self.looks_again(&state, idle_until);
                if state.has_work() || until.is_some_and(|until| until <= Instant::now()) {
                    return Some(take_batch(&mut state, limit, true));
                }
                if state.closed {
                    return None;
                }
                until
            };
            match until {
                // Which of the two it was shows above.
                Some(until) => drop(tokio::time::timeout_at(until, self.bell.notified()).await),
                None => self.bell.notified().await,
            }
        }
    }

    /// What waits now, without upkeep; possibly nothing.
    pub(crate) fn take_now(&self, limit: Limit) -> Batch {
        take_batch(&mut self.lock(), limit, false)
    }

    /// Gives back the room that written (or refused) appends took.
    pub(crate) fn release(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }
}

fn take_batch(state: &mut State, limit: Limit, with_upkeep: bool) -> Batch {
    let mut batch = Batch {
        settles: std::mem::take(&mut state.settles),
        commands: state.commands.drain(..).collect(),
        appends: Vec::with_capacity(state.appends.len().min(limit.events)),
    };
    state.urgent = false;
    let (mut events, mut bytes) = (0, 0);
    while let Some(next) = state.appends.front() {
        let full = events + next.events.len() > limit.events || bytes + next.weight > limit.bytes;
        if full && !batch.appends.is_empty() {
            break;
        }
        if let Some(job) = state.appends.pop_front() {
            events += job.events.len();
            bytes += job.weight;
            batch.appends.push(job);
        }
    }
    if with_upkeep {
        batch.commands.extend(state.upkeep.pop_front());
    }
    batch
}

pub(crate) fn closed() -> StoreError {
    StoreError::Unavailable { reason: "it is closed".to_owned() }
}
