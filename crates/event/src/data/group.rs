//! Groups and channels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Picture;
use crate::{
    closed::closed,
    shape::{Address, or_null},
};

/// Properties of a group changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupUpdated {
    /// Which group.
    pub group: Address,
    /// Who changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Address>,
    /// Names of the members below that changed.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Only administrators may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce_only: Option<bool>,
    /// Only administrators may change its properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
    /// Seconds after which messages disappear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_expires_s: Option<u64>,
    /// The code of its invitation link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_code: Option<String>,
    /// Administrators approve who joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_approval: Option<bool>,
    /// Who may add members, in the upstream's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_add_mode: Option<String>,
    /// Its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<Picture>,
    /// How members are addressed, in the upstream's words (`pn`, `lid`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addressing_mode: Option<String>,
    /// Of a change made by request: `succeeded`, `partial` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_result: Option<String>,
}

impl GroupUpdated {
    /// A change of this group of which nothing more is known yet.
    pub fn new(group: Address) -> Self {
        Self {
            group,
            actor: None,
            changed: Vec::new(),
            name: None,
            description: None,
            announce_only: None,
            locked: None,
            ephemeral_expires_s: None,
            invite_code: None,
            join_approval: None,
            member_add_mode: None,
            picture: None,
            addressing_mode: None,
            request_result: None,
        }
    }
}

closed! {
    /// What happened to members.
    ParticipantAction {
        Add = "add",
        Remove = "remove",
        Promote = "promote",
        Demote = "demote",
        /// Somebody asked to join.
        RequestCreated = "request_created",
        RequestApproved = "request_approved",
        RequestRejected = "request_rejected",
        RequestRevoked = "request_revoked",
    }
}

/// Members were added, removed, promoted, demoted, or asked to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupParticipants {
    /// Which group.
    pub group: Address,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Address>,
    /// What was done.
    pub action: ParticipantAction,
    /// To whom.
    #[serde(default)]
    pub participants: Vec<Participant>,
    /// How, in the upstream's words (`invite_link`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// This account is among them.
    #[serde(default)]
    pub self_affected: bool,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Participant {
    /// Who.
    pub address: Address,
    /// `member`, `admin` or `superadmin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Why it failed for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

closed! {
    /// What became of a group.
    LifecycleAction {
        Created = "created",
        /// This account joined.
        Joined = "joined",
        /// This account left.
        Left = "left",
        Deleted = "deleted",
        Suspended = "suspended",
        Unsuspended = "unsuspended",
        /// Tied to a community.
        Linked = "linked",
        Unlinked = "unlinked",
    }
}

/// This account joined or left, or the group was created, deleted, suspended, linked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupLifecycle {
    /// Which group.
    pub group: Address,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Address>,
    /// What became of it.
    pub action: LifecycleAction,
    /// What is known of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<GroupMetadata>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is known of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupMetadata {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Address>,
    /// The code of its invitation link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_code: Option<String>,
    /// Administrators approve who joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_approval: Option<bool>,
    /// How many members it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
}

closed! {
    /// What happened to a channel.
    NewsletterAction {
        Joined = "joined",
        Left = "left",
        Muted = "muted",
        Unmuted = "unmuted",
        /// Its counters moved.
        Live = "live",
        Metadata = "metadata",
    }
}

/// A channel was joined, left or muted, or its counters moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewsletterUpdated {
    /// Which channel.
    pub newsletter: Address,
    /// What happened.
    pub action: NewsletterAction,
    /// Messages whose counters moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    #[schemars(with = "Option<Vec<ChannelMessage>>")]
    pub messages: Vec<ChannelMessage>,
}

/// Counters of one message in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelMessage {
    /// The server's number of the message.
    pub server_id: String,
    /// Reactions to it.
    #[serde(default)]
    pub reactions: Vec<ReactionCount>,
}

/// How often an emoji was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReactionCount {
    /// The emoji.
    pub emoji: String,
    /// How often.
    pub count: u64,
}
