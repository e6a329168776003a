//! The account and its templates, chatbots, process starts, and what nobody understood.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    closed::closed,
    shape::{Address, Json},
};

/// Own profile, privacy, business account, phone number quality or limits changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountUpdated {
    /// The upstream's field, or `push_name`, `privacy`, `blocklist`, `business_profile`.
    pub topic: String,
    /// The upstream's name for what happened within the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What the upstream says, in its own shape.
    pub details: Json,
}

closed! {
    /// What of a template changed.
    TemplateAspect {
        Status = "status",
        Quality = "quality",
        Category = "category",
        Components = "components",
    }
}

/// A message template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Template {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its language, for example `pt_BR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// Status, quality, category or content of a message template changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateUpdated {
    /// Which template.
    pub template: Template,
    /// What changed.
    pub aspect: TemplateAspect,
    /// What it was: text, or for `components` an object of the upstream's shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Json>,
    /// What it is now: text, or for `components` an object of the upstream's shape.
    pub new: Json,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

closed! {
    /// How far a chatbot session has come.
    BotState {
        Started = "started",
        Opened = "opened",
        Paused = "paused",
        Closed = "closed",
        Unknown = "unknown",
    }
}

/// A chatbot session (Typebot and alike) started or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BotSession {
    /// Which chatbot.
    pub bot: String,
    /// With whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Address>,
    /// How far it has come.
    pub state: BotState,
    /// The session's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The chatbot's variables, in its own shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables: Option<Json>,
}

/// An upstream or gateway process started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemStarted {
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_url: Option<String>,
}

closed! {
    /// Why an upstream event was not understood.
    UnknownReason {
        /// Its name has no rule.
        UnmappedName = "unmapped_name",
        /// Its name has one, its shape is another.
        SchemaMismatch = "schema_mismatch",
        NotJson = "not_json",
        /// Meant for another product.
        WrongObject = "wrong_object",
    }
}

/// Something that was not understood; it is kept whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventUnknown {
    /// The upstream's name for it.
    pub upstream_event: String,
    /// Why it was not understood.
    pub reason: UnknownReason,
    /// Where the whole upstream body is kept (`sha256:<hex>`); absent when `raw` is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_ref: Option<String>,
}
