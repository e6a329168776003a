//! Events.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Whose an event is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct EventInstance {
    /// The instance's id.
    pub id: String,
    /// The instance's name.
    pub name: String,
}

/// An event in the native dialect. What later versions add to it is in `other`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// Its id, to deduplicate by.
    pub id: String,
    /// Its type, for example `message.received`; it may be one that this version has never heard of.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version of `data`.
    pub v: u32,
    /// Whose it is.
    pub instance: EventInstance,
    /// Its position: increasing per instance, with holes.
    pub seq: i64,
    /// When it happened, in RFC 3339.
    pub occurred_at: String,
    /// When the gateway stored it, in RFC 3339.
    pub received_at: String,
    /// What its order is kept by: usually its chat.
    pub ordering_key: String,
    /// It happened before the source was connected.
    #[serde(default)]
    pub history: bool,
    /// What happened; its shape depends on the type.
    pub data: Value,
    /// Where it came from.
    #[serde(default)]
    pub source: Value,
    /// The upstream's own element, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An event to publish.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct NewEvent {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened.
    pub data: Value,
    /// An id of your own; a second event with it is a duplicate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it happened, in RFC 3339; now, if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<String>,
    /// What duplicates are recognised by; `id`, if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup_key: Option<String>,
    /// What its order is kept by; its chat, if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<String>,
    /// It is of the past.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
    /// The upstream's own element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<Value>,
}

impl NewEvent {
    /// An event of a type.
    pub fn new(kind: impl Into<String>, data: Value) -> Self {
        Self { kind: kind.into(), data, ..Self::default() }
    }
}
