//! Messages and what happens to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    closed::closed,
    shape::{Address, Content, MessageRef, UpstreamError},
};

/// A message from someone else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageReceived {
    /// Which message.
    pub message: MessageRef,
    /// The chat it belongs to.
    pub chat: Address,
    /// Who sent it.
    pub sender: Address,
    /// What it says.
    pub content: Content,
    /// It had been edited before it arrived.
    #[serde(default)]
    pub edited: bool,
    /// Data of the business that travels with the conversation, unread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business_opaque: Option<String>,
    /// Seconds until it disappears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_expires_s: Option<u64>,
}

closed! {
    /// What sent a message of this account.
    Origin {
        /// A call of an API.
        Api = "api",
        /// The phone or a linked device.
        Device = "device",
        Unknown = "unknown",
    }
}

/// A message from this account, whatever device or API sent it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageSent {
    /// Which message.
    pub message: MessageRef,
    /// The chat it belongs to.
    pub chat: Address,
    /// Who sent it.
    pub sender: Address,
    /// What it says.
    pub content: Content,
    /// It had been edited before it arrived.
    #[serde(default)]
    pub edited: bool,
    /// Data of the business that travels with the conversation, unread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business_opaque: Option<String>,
    /// Seconds until it disappears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_expires_s: Option<u64>,
    /// What sent it.
    pub origin: Origin,
    /// What the caller of the API attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ref: Option<String>,
    /// How far it had come.
    pub status: Status,
}

/// Content of an earlier message replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageEdited {
    /// Which message.
    pub message: MessageRef,
    /// The chat it belongs to.
    pub chat: Address,
    /// Who sent it.
    pub sender: Address,
    /// What it says now.
    pub content: Content,
    /// Id of the message that carried the edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit_message_id: Option<String>,
    /// What edited it, when this account did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What it said before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<Content>>,
}

closed! {
    /// For whom a message is gone.
    DeletionScope {
        Everyone = "everyone",
        /// This account only.
        Me = "me",
    }
}

closed! {
    /// Why a message is gone.
    DeletionReason {
        /// Its sender revoked it.
        Sender = "sender",
        /// An administrator of the group revoked it.
        Admin = "admin",
        Expired = "expired",
        Unknown = "unknown",
    }
}

/// A message revoked for all, or removed for this account only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageDeleted {
    /// Which message.
    pub message: MessageRef,
    /// The chat it belongs to.
    pub chat: Address,
    /// Who sent it.
    pub sender: Address,
    /// For whom it is gone.
    pub scope: DeletionScope,
    /// Who deleted it.
    pub deleted_by: Address,
    /// Id of the message that carried the deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier_message_id: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeletionReason>,
}

/// An emoji set or removed on a message. `message` is the reaction itself, `sender` who reacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageReaction {
    /// Which message.
    pub message: MessageRef,
    /// The chat it belongs to.
    pub chat: Address,
    /// Who sent it.
    pub sender: Address,
    /// The message reacted to.
    pub target: MessageRef,
    /// The emoji; absent when it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
    /// The reaction was taken back.
    #[serde(default)]
    pub removed: bool,
    /// The upstream's id of the reaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction_id: Option<String>,
}

closed! {
    /// What was voted on.
    VoteTarget { Poll = "poll", Event = "event" }
}

/// Answer to a poll or a calendar event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageVote {
    /// Which message.
    pub message: MessageRef,
    /// The chat it belongs to.
    pub chat: Address,
    /// Who sent it.
    pub sender: Address,
    /// The poll or event.
    pub target: MessageRef,
    /// Which of the two.
    pub target_kind: VoteTarget,
    /// Names or ids of the options chosen; empty when the vote was taken back.
    #[serde(default)]
    pub selected: Vec<String>,
    /// All votes so far, when the upstream counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Vec<OptionVotes>>,
    /// The vote could not be read.
    #[serde(default)]
    pub decrypt_failed: bool,
}

/// Who chose one option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OptionVotes {
    /// The option's name or id.
    pub option: String,
    /// Address ids.
    #[serde(default)]
    pub voters: Vec<String>,
}

closed! {
    /// Delivery state of a message.
    Status {
        /// Not yet with the server.
        Pending = "pending",
        /// The server has it.
        Sent = "sent",
        Delivered = "delivered",
        Read = "read",
        Played = "played",
        Failed = "failed",
        /// The recipient asked for it again.
        Retry = "retry",
        Inactive = "inactive",
        Deleted = "deleted",
        /// Seen by another device of the sender.
        Sender = "sender",
        /// Read on another device of this account.
        ReadSelf = "read_self",
        /// Played on another device of this account.
        PlayedSelf = "played_self",
        Warning = "warning",
    }
}

impl Status {
    /// Its place in `pending` 0, `sent` 1, `delivered` 2, `read` 3, `played` 4; `None` for states
    /// beside that line. Upstreams promise no order: consumers take the greatest.
    pub const fn rank(self) -> Option<u8> {
        match self {
            Self::Pending => Some(0),
            Self::Sent => Some(1),
            Self::Delivered => Some(2),
            Self::Read => Some(3),
            Self::Played => Some(4),
            _ => None,
        }
    }
}

/// Delivery state of one message for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageStatus {
    /// Which message.
    pub message: MessageRef,
    /// The chat it belongs to.
    pub chat: Address,
    /// Who sent it.
    pub sender: Address,
    /// The state.
    pub status: Status,
    /// Its place in `pending` 0, `sent` 1, `delivered` 2, `read` 3, `played` 4; absent for states
    /// beside that line. Upstreams promise no order: take the greatest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u8>,
    /// For whom.
    pub recipient: Address,
    /// The group or list through which it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_chat: Option<Address>,
    /// Why it failed.
    #[serde(default)]
    pub errors: Vec<UpstreamError>,
    /// The billing window it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Conversation>,
    /// What it costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// What the caller of the API attached to the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ref: Option<String>,
}

/// A billing window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conversation {
    /// Its id.
    pub id: String,
    /// What opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// When it closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// What a message costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pricing {
    /// Whether it is billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billable: Option<bool>,
    /// The pricing model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The rate's category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Regular or free, and why.
    #[serde(rename = "type")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

closed! {
    /// Why a message has no content.
    UndecryptableReason {
        NoSession = "no_session",
        ViewOnce = "view_once",
        Hosted = "hosted",
        Bot = "bot",
        Fanout = "fanout",
        Unknown = "unknown",
    }
}

/// A message exists but its content could not be obtained (yet).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageUndecryptable {
    /// Which message.
    pub message: MessageRef,
    /// The chat it belongs to.
    pub chat: Address,
    /// Who sent it.
    pub sender: Address,
    /// Why.
    pub reason: UndecryptableReason,
    /// The content may still come.
    #[serde(default)]
    pub recoverable: bool,
}

closed! {
    /// What was toggled.
    Flag { Star = "star", Pin = "pin", Keep = "keep" }
}

/// Star, pin or keep toggled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageFlagged {
    /// Which message.
    pub message: MessageRef,
    /// The chat it belongs to.
    pub chat: Address,
    /// Who sent it.
    pub sender: Address,
    /// Which.
    pub flag: Flag,
    /// Set or taken off.
    #[serde(default)]
    pub value: bool,
    /// Seconds until it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
}
