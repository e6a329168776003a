//! What is stored and cannot be read: told in one way, whatever the engine.

use zapbus_event::{DestinationId, InstanceId};

use crate::{StoreError, fault::Fault};

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
