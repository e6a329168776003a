//! Calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{closed::closed, shape::Address};

closed! {
    /// How far a call has come.
    CallState {
        /// Somebody calls.
        Offer = "offer",
        /// A group call was announced.
        Notice = "notice",
        Ringing = "ringing",
        Accepted = "accepted",
        Rejected = "rejected",
        Terminated = "terminated",
        Missed = "missed",
        /// Taken on another device.
        EndedElsewhere = "ended_elsewhere",
        /// Something inside the call; worth little after seconds.
        Signal = "signal",
    }
}

closed! {
    /// Who called.
    CallDirection {
        /// Somebody called this account.
        In = "in",
        /// This account called.
        Out = "out",
    }
}

/// The state of a call changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallUpdated {
    /// The call.
    pub call_id: String,
    /// How far it has come.
    pub state: CallState,
    /// Who called.
    pub direction: CallDirection,
    /// The caller.
    pub from: Address,
    /// Who was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Address>,
    /// The chat it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Address>,
    /// With pictures.
    #[serde(default)]
    pub is_video: bool,
    /// With more than two.
    #[serde(default)]
    pub is_group: bool,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Address>,
    /// How long it took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<u64>,
    /// Why it ended, in the upstream's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What kind of signal: `latency`, `transport`, `video`…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
}

impl CallUpdated {
    /// A one-to-one voice call, of which nothing more is known yet.
    pub fn new(
        call_id: impl Into<String>,
        state: CallState,
        direction: CallDirection,
        from: Address,
    ) -> Self {
        Self {
            call_id: call_id.into(),
            state,
            direction,
            from,
            to: None,
            chat: None,
            is_video: false,
            is_group: false,
            group: None,
            duration_s: None,
            reason: None,
            signal: None,
        }
    }
}
