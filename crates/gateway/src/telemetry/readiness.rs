//! Whether this gateway may be sent traffic.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use serde::Serialize;
use tokio::sync::watch;
use zapbus_store::{Appends, StoreHealth};

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Where the gateway is in its life, and whether its store can write.
#[derive(Debug, Clone)]
pub struct Readiness {
    phase: Arc<AtomicU8>,
    store: watch::Receiver<StoreHealth>,
}

/// Why there is no traffic to be sent now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotReady {
    /// Stable: `starting`, `draining`, `busy` or `store_unavailable`.
    pub reason: &'static str,
    /// The same for people.
    pub detail: String,
}

impl Readiness {
    /// Not ready yet.
    pub fn starting(store: watch::Receiver<StoreHealth>) -> Self {
        Self { phase: Arc::new(AtomicU8::new(STARTING)), store }
    }

    /// Everything is up.
    pub fn set_ready(&self) {
        self.phase.store(READY, Ordering::Release);
    }

    /// The gateway is going down: nothing more is taken.
    pub fn set_draining(&self) {
        self.phase.store(DRAINING, Ordering::Release);
    }

    /// The gateway is going down.
    pub fn is_draining(&self) -> bool {
        self.phase.load(Ordering::Acquire) == DRAINING
    }

    /// `Ok` when events would be taken now.
    pub fn check(&self) -> Result<(), NotReady> {
        match self.phase.load(Ordering::Acquire) {
            STARTING => {
                return Err(NotReady {
                    reason: "starting",
                    detail: "the gateway is starting".to_owned(),
                });
            }
            DRAINING => {
                return Err(NotReady {
                    reason: "draining",
                    detail: "the gateway is shutting down; send to another one or try again soon"
                        .to_owned(),
                });
            }
            _ => {}
        }
        let health = self.store.borrow();
        let reason = match &health.appends {
            Appends::Stopped { reason } => Some(reason),
            Appends::Ok => health.unready.as_ref(),
        };
        match reason {
            None => Ok(()),
            Some(reason) => Err(NotReady { reason: "store_unavailable", detail: reason.clone() }),
        }
    }
}
