//! What a subscription, its deliveries and its connection have in common.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::ledger::Ledger;
use crate::Error;

/// How a subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It is connecting.
    Connecting,
    /// Events arrive.
    Open,
    /// The connection broke, or could not be made: it is tried again.
    Waiting {
        /// Attempts in a row that failed.
        attempts: u32,
        /// How long it waits before the next.
        pause: Duration,
    },
    /// It has ended.
    Closed,
}

/// What is said about an event, or about the subscription.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// It is done.
    Ack(Arc<str>),
    /// It could not be done: again after this pause, or when the server sees fit.
    Nack(Arc<str>, Option<Duration>),
    /// Somebody still works on it.
    Progress(Arc<str>),
    /// It is not to come again.
    Reject(Arc<str>),
    /// Nothing more is wanted.
    Close,
}

/// Shared by all of them.
#[derive(Debug)]
pub(crate) struct Shared {
    ledger: Mutex<Ledger>,
    commands: mpsc::UnboundedSender<Command>,
    state: watch::Sender<State>,
    clock: Mutex<Clock>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Clock {
    /// The server's clock less ours, in seconds.
    offset: f64,
    /// When the last event was stored, by the server's clock.
    stored: Option<Timestamp>,
}

impl Shared {
    pub(crate) fn new(ledger: Ledger) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let (commands, heard) = mpsc::unbounded_channel();
        let shared = Self {
            ledger: Mutex::new(ledger),
            commands,
            state: watch::Sender::new(State::Connecting),
            clock: Mutex::default(),
        };
        (Arc::new(shared), heard)
    }

    /// A lock is held for a few lines that cannot panic half way.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.send_replace(state);
    }

    pub(crate) fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).map_err(|_| Error::SubscriptionClosed)
    }

    /// The server's `Date` at this moment.
    pub(crate) fn server_time(&self, now: Timestamp, server: Timestamp) {
        self.clock().offset = (server - now).total(jiff::Unit::Second).unwrap_or_default();
    }

    pub(crate) fn stored_at(&self, stored: Timestamp) {
        let mut clock = self.clock();
        clock.stored = clock.stored.max(Some(stored));
    }

    /// By how much the last event was late.
    pub(crate) fn lag(&self, now: Timestamp) -> Option<Duration> {
        let clock = *self.clock();
        let late = (now - clock.stored?).total(jiff::Unit::Second).ok()? + clock.offset;
        // The header has whole seconds.
        Some(Duration::try_from_secs_f64(late.max(0.0)).unwrap_or_default())
    }
}
