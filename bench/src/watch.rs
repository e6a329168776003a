//! The runs whose arrivals are entered, known to the thread that receives and to those that wait.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{
    event,
    ledger::{Run, Sighting},
};

/// Runs by their number.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    runs: Mutex<HashMap<u32, Arc<Run>>>,
    /// Counts changes of `runs`, so that the receiving thread locks only when there is one.
    changes: AtomicU64,
}

impl Watched {
    /// Enters arrivals of this run from now on.
    pub(crate) fn expect(&self, run: &Arc<Run>) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(run.number, Arc::clone(run));
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Frees what is known about a run.
    pub(crate) fn forget(&self, run: &Run) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.remove(&run.number);
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// What the receiving thread knows of them.
#[derive(Debug, Default)]
pub(crate) struct View {
    runs: HashMap<u32, Arc<Run>>,
    change: u64,
}

impl View {
    /// Looks again, if there is something new.
    pub(crate) fn refresh(&mut self, watched: &Watched) {
        let change = watched.changes.load(Ordering::Acquire);
        if change != self.change {
            self.change = change;
            self.runs = watched.runs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
    }

    /// Enters the event in `body`, which came to `destination` at `at`, if its run is known.
    pub(crate) fn enter(&self, destination: usize, at: Instant, accepted: bool, body: &[u8]) {
        let Some((run, number)) = event::read_id(body) else {
            return;
        };
        if let Some(run) = self.runs.get(&run) {
            let sighting = Sighting { at, position: event::position(body), accepted };
            run.arrive(destination, number, sighting);
        }
    }
}
