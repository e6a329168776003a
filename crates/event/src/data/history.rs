//! Chunks of the past.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Status;
use crate::{
    Timestamp,
    closed::closed,
    shape::{Address, Content, MessageRef, or_null},
};

closed! {
    /// Which part of the past a chunk belongs to.
    SyncType {
        Initial = "initial",
        Recent = "recent",
        Full = "full",
        PushName = "push_name",
        OnDemand = "on_demand",
        NonBlocking = "non_blocking",
        Status = "status",
        Chats = "chats",
        Contacts = "contacts",
        Messages = "messages",
        Unknown = "unknown",
    }
}

/// One chunk of past chats, messages and contacts. Small chunks list what they hold; of large
/// ones the counts say how much is in `items_ref` or `raw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistorySync {
    /// Which part of the past.
    pub sync_type: SyncType,
    /// The chunk's number, as the upstream counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u64>,
    /// How much is done, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_pct: Option<u8>,
    /// How much it holds.
    #[serde(default)]
    pub counts: HistoryCounts,
    /// Where the items are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_ref: Option<String>,
    /// The chats.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    #[schemars(with = "Option<Vec<Address>>")]
    pub chats: Vec<Address>,
    /// The contacts.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    #[schemars(with = "Option<Vec<Address>>")]
    pub contacts: Vec<Address>,
    /// The messages, of both sides.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    #[schemars(with = "Option<Vec<HistoryMessage>>")]
    pub messages: Vec<HistoryMessage>,
}

/// How much a chunk holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryCounts {
    /// Chats.
    #[serde(default)]
    pub chats: u64,
    /// Contacts.
    #[serde(default)]
    pub contacts: u64,
    /// Messages.
    #[serde(default)]
    pub messages: u64,
}

/// A message of the past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryMessage {
    /// Which message.
    pub message: MessageRef,
    /// The chat it belongs to.
    pub chat: Address,
    /// Who sent it.
    pub sender: Address,
    /// What it says.
    pub content: Content,
    /// When it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// How far it had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}
