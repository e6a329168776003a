//! Shapes that the payloads of several types share.

mod address;
mod content;
mod json;
mod media;

pub(crate) use address::is_bsuid;
pub use address::{Address, AddressKind};
pub use content::{
    AdReferral, Body, CalendarEvent, Choice, ContactCard, ContactPhone, Contacts, Content,
    ContentKind, Forwarded, GroupInvite, Interactive, InteractiveKind, InteractiveReply, Location,
    MediaContent, Order, OrderItem, Place, Poll, Product, Quoted, ReferredProduct, ReplyKind,
    System, Text, Unsupported,
};
pub use json::Json;
pub use media::{Media, MediaKind, MediaState};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// Which message is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageRef {
    /// The message's id, opaque.
    pub id: String,
    /// The id of its chat's address.
    pub chat: String,
    /// Whether this account sent it; absent when the upstream does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_me: Option<bool>,
    /// In a group, the id of its sender's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
}

/// One failure as the upstream reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpstreamError {
    /// The upstream's number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// A short name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// More about this occurrence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// For `skip_serializing_if`: flags that are absent when not set.
pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// For `deserialize_with`: a member that may be absent may also be `null`.
pub(crate) fn or_null<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
