//! Chats, presence, contacts and labels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    closed::closed,
    shape::{Address, MessageRef, or_null},
};

closed! {
    /// Whether a person is there.
    PresenceState { Online = "online", Offline = "offline" }
}

/// A user went online or offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresenceUser {
    /// Who.
    pub user: Address,
    /// Whether they are there.
    pub state: PresenceState,
    /// When they were last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
}

closed! {
    /// What a person is doing in a chat.
    TypingState { Typing = "typing", Recording = "recording", Paused = "paused" }
}

/// Typing, recording or paused in a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresenceChat {
    /// Where.
    pub chat: Address,
    /// Who.
    pub participant: Address,
    /// What they are doing.
    pub state: TypingState,
}

/// A chat was created or its properties changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatUpdated {
    /// Which chat.
    pub chat: Address,
    /// Names of the members below that changed; empty when the upstream names none.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Moved to the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Pinned to the top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
    /// Silent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<Timestamp>,
    /// Messages not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_count: Option<u32>,
    /// Marked as read (or unread).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<bool>,
    /// Seconds after which messages disappear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_expires_s: Option<u64>,
}

closed! {
    /// How a chat was removed.
    ChatRemoval {
        Delete = "delete",
        /// Emptied, but kept.
        Clear = "clear",
    }
}

/// A chat was deleted or cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatDeleted {
    /// Which chat.
    pub chat: Address,
    /// How.
    pub mode: ChatRemoval,
    /// Its files went too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_media: Option<bool>,
    /// Starred messages stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_starred: Option<bool>,
}

/// A contact was created or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContactUpdated {
    /// Who, as known now.
    pub contact: Address,
    /// What changed: `name`, `picture`, `about`, `number`, `block`, `business`, `identity`,
    /// `devices`, `preferences`, `user_id`, `removed`.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Full name in the address book.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// First name in the address book.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// The name they gave themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_name: Option<String>,
    /// The name that was verified for a business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_name: Option<String>,
    /// Their picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<Picture>,
    /// Their status text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Blocked by this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
    /// The number they had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_number: Option<Address>,
    /// Their encryption identity is a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_changed: Option<bool>,
    /// Numbers of their devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    #[schemars(with = "Option<Vec<u32>>")]
    pub devices: Vec<u32>,
    /// What they want to receive from this business.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    #[schemars(with = "Option<Vec<ContactPreference>>")]
    pub preferences: Vec<ContactPreference>,
}

/// A picture of a contact or group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Picture {
    /// The upstream's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where to get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// There is none any more.
    #[serde(default)]
    pub removed: bool,
}

/// What a contact wants to receive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContactPreference {
    /// Of what, for example `marketing_messages`.
    pub category: String,
    /// The choice, for example `stop` or `resume`.
    pub value: String,
    /// The upstream's sentence about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Label {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Index of its colour in WhatsApp's palette.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<u32>,
    /// Its colour, `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color_hex: Option<String>,
    /// Id of the predefined label it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predefined_id: Option<String>,
}

closed! {
    /// What happened to a label.
    LabelAction {
        /// Created or changed.
        Upserted = "upserted",
        Deleted = "deleted",
    }
}

/// A label was created, changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelUpdated {
    /// The label.
    pub label: Label,
    /// What happened to it.
    pub action: LabelAction,
}

closed! {
    /// On or off.
    Toggled { Added = "added", Removed = "removed" }
}

closed! {
    /// What can bear a label.
    LabelTarget { Chat = "chat", Message = "message" }
}

/// A label was put on or taken off a chat or message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelAssociation {
    /// The label.
    pub label_id: String,
    /// On or off.
    pub action: Toggled,
    /// What bears it.
    pub target: LabelTarget,
    /// The chat, also when a message bears it.
    pub chat: Address,
    /// The message that bears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageRef>,
}

impl ChatUpdated {
    /// A change of this chat of which nothing more is known yet.
    pub fn new(chat: Address) -> Self {
        Self {
            chat,
            changed: Vec::new(),
            name: None,
            archived: None,
            pinned: None,
            muted_until: None,
            unread_count: None,
            read: None,
            ephemeral_expires_s: None,
        }
    }
}

impl ContactUpdated {
    /// A change of this contact, named as in `changed`.
    pub fn new(contact: Address, changed: &str) -> Self {
        Self {
            contact,
            changed: vec![changed.to_owned()],
            full_name: None,
            first_name: None,
            push_name: None,
            verified_name: None,
            picture: None,
            about: None,
            blocked: None,
            old_number: None,
            identity_changed: None,
            devices: Vec::new(),
            preferences: Vec::new(),
        }
    }
}
