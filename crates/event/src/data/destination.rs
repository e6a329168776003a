//! The gateway's own operational events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DestinationId, Position, Timestamp};

/// A destination's lane changed its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationChange {
    /// Which destination.
    pub destination: DestinationId,
    /// Its label.
    pub label: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it has been so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until when it will be so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Events owed to a destination were pruned for want of space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationGap {
    /// Which destination.
    pub destination: DestinationId,
    /// Its label.
    pub label: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The first position lost.
    pub from: Position,
    /// The last position lost.
    pub to: Position,
    /// How many events matched and are lost.
    pub count: u64,
}
