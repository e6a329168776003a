//! Files that messages carry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{is_false, or_null};
use crate::{Timestamp, closed::closed};

closed! {
    /// What sort of file it is.
    MediaKind {
        Image = "image",
        Video = "video",
        Audio = "audio",
        Document = "document",
        Sticker = "sticker",
    }
}

closed! {
    /// How the file can be had.
    MediaState {
        /// Its bytes are in `base64`.
        Inline = "inline",
        /// At `url`, readable as it is.
        Url = "url",
        /// Only with the upstream's token: by asking for `media_id`, or at `url` while that lasts.
        IdOnly = "id_only",
        /// At `url`, encrypted; the key is in `raw`.
        EncryptedUrl = "encrypted_url",
        /// Being fetched.
        Pending = "pending",
        /// Not at all.
        Unavailable = "unavailable",
    }
}

/// A file: what it is and how to get it. Keys that decrypt it are never here, only in `raw`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Media {
    /// What sort of file it is.
    pub kind: MediaKind,
    /// Media type, with parameters as upstream gives them.
    pub mime: String,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// SHA-256 of the file, base64 as upstream gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The sender's name for the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width_px: Option<u32>,
    /// Height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height_px: Option<u32>,
    /// Playing time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<u32>,
    /// Recorded as a voice note; a video, as a video note.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "or_null")]
    #[schemars(with = "Option<bool>")]
    pub voice: bool,
    /// A moving sticker or image.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "or_null")]
    #[schemars(with = "Option<bool>")]
    pub animated: bool,
    /// Number of pages of a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<u32>,
    /// The upstream's id for the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_id: Option<String>,
    /// Where to get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When `url` stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_expires_at: Option<Timestamp>,
    /// The file itself, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// A small preview (JPEG), base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail_base64: Option<String>,
    /// How the file can be had.
    pub state: MediaState,
    /// Why it cannot be had, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable_reason: Option<String>,
}

impl Media {
    /// A file of which only this much is known.
    pub fn new(kind: MediaKind, mime: impl Into<String>, state: MediaState) -> Self {
        Self {
            kind,
            mime: mime.into(),
            size_bytes: None,
            sha256: None,
            file_name: None,
            width_px: None,
            height_px: None,
            duration_s: None,
            voice: false,
            animated: false,
            pages: None,
            media_id: None,
            url: None,
            url_expires_at: None,
            base64: None,
            thumbnail_base64: None,
            state,
            unavailable_reason: None,
        }
    }
}
