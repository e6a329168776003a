//! What is stored and cannot be read: told in one way, whatever the engine.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use zapbus_event::{DestinationId, EventId, InstanceId, Position};

use crate::{StoreError, fault::Fault};

/// Events that are told of one by one at most.
const TOLD: usize = 1_000;

/// Events whose head cannot be read, each told of once.
#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<HashSet<EventId>>);

impl Heads {
    fn known(&self) -> MutexGuard<'_, HashSet<EventId>> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One was read that cannot be.
    pub(crate) fn found(&self, event: EventId, position: Position, fault: &Fault) {
        let mut known = self.known();
        if known.len() < TOLD && known.insert(event) {
            tracing::error!(
                event = "event.unreadable",
                id = %event,
                %position,
                reason = %fault.reason(),
                "an event's head cannot be read: it is passed on as one that was not understood"
            );
        }
    }

    /// How many were found since this process began, up to [`TOLD`].
    pub(crate) fn count(&self) -> usize {
        self.known().len()
    }
}

/// An account's source. It must not hide the others.
pub(crate) fn source_of_account(error: &StoreError) {
    tracing::warn!(
        event = "account.source_unreadable",
        %error,
        "an account is listed without its source"
    );
}

/// Token and source of an instance. They must not hide the others.
pub(crate) fn secrets_of_instance(error: &StoreError) {
    tracing::warn!(
        event = "instance.secrets_unreadable",
        %error,
        "an instance is listed without its secrets"
    );
}

/// The state of an instance. It is only derived from events and must not keep new ones out.
pub(crate) fn state(instance: InstanceId, error: &serde_json::Error) {
    tracing::warn!(
        event = "instance.state_unreadable",
        %instance,
        %error,
        "the state of an instance cannot be read and starts anew"
    );
}

/// The filter of a destination. It must not keep the others from starting.
pub(crate) fn filter(destination: DestinationId, fault: &Fault) {
    tracing::error!(
        event = "destination.filter_unreadable",
        %destination,
        reason = %fault.reason(),
        "its filter cannot be read"
    );
}
