//! What a message says: one body of a known kind, and what any body may carry.

mod body;

pub use body::{
    Body, CalendarEvent, Choice, ContactCard, ContactPhone, Contacts, ContentKind, GroupInvite,
    Interactive, InteractiveKind, InteractiveReply, Location, MediaContent, Order, OrderItem,
    Place, Poll, Product, ReplyKind, System, Text, Unsupported,
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

use super::{MessageRef, is_false};
use crate::fault::{Fault, read};

/// The content of a message. On the wire one object: `kind`, the members of that kind, and the
/// shared ones.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Content {
    /// The kind and its own members.
    #[serde(flatten)]
    pub body: Body,
    /// The message it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quoted: Option<Quoted>,
    /// The product of a catalog that it asks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referred_product: Option<ReferredProduct>,
    /// Set when it was forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Forwarded>,
    /// May be opened once.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(with = "Option<bool>")]
    pub view_once: bool,
    /// Seconds until it disappears.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_expires_s: Option<u64>,
    /// The advertisement that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ad_referral: Option<Box<AdReferral>>,
}

/// The members that do not depend on the kind.
#[derive(Deserialize)]
struct Shared {
    kind: ContentKind,
    quoted: Option<Quoted>,
    referred_product: Option<ReferredProduct>,
    forwarded: Option<Forwarded>,
    view_once: Option<bool>,
    ephemeral_expires_s: Option<u64>,
    ad_referral: Option<Box<AdReferral>>,
}

impl Content {
    /// A body with nothing beside it.
    pub fn new(body: Body) -> Self {
        Self {
            body,
            quoted: None,
            referred_product: None,
            forwarded: None,
            view_once: false,
            ephemeral_expires_s: None,
            ad_referral: None,
        }
    }

    /// A plain text.
    pub fn text(body: impl Into<String>) -> Self {
        Self::new(Body::Text(Text { body: body.into(), preview_url: None, mentions: Vec::new() }))
    }

    /// Its kind, which is also the facet of `message.received`.
    pub fn kind(&self) -> ContentKind {
        self.body.kind()
    }

    fn read(text: &str) -> Result<Self, Fault> {
        let shared: Shared = read(text.as_bytes())?;
        Ok(Self {
            body: Body::read(shared.kind, text.as_bytes())?,
            quoted: shared.quoted,
            referred_product: shared.referred_product,
            forwarded: shared.forwarded,
            view_once: shared.view_once.unwrap_or(false),
            ephemeral_expires_s: shared.ephemeral_expires_s,
            ad_referral: shared.ad_referral,
        })
    }
}

/// Reads `kind` first and then that kind's shape, so that a fault names its own place and not
/// just "content" (what serde's tagged enums would do).
impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::read(raw.get()).map_err(de::Error::custom)
    }
}

/// The message that another one answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quoted {
    /// Which one.
    pub message: MessageRef,
    /// What it said, when the upstream repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// A product in a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReferredProduct {
    /// The catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_id: Option<String>,
    /// The seller's id of the product.
    pub product_id: String,
}

/// How a message was forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forwarded {
    /// How often, when the upstream counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Marked as forwarded many times.
    #[serde(default)]
    pub many: bool,
}

/// The advertisement or post through which a person came to the chat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdReferral {
    /// Where the advertisement is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_url: Option<String>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// `ad`, `post` or what else the upstream says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_type: Option<String>,
    /// Its headline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// `image` or `video`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// Its video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_url: Option<String>,
    /// A small preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail_url: Option<String>,
    /// The click's id, for conversion reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctwa_clid: Option<String>,
    /// The greeting it showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub welcome_message: Option<String>,
}
