//! What an instance chooses about files, and which its events only name.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use zapbus_event::{Kind, shape::MediaState};

/// Where it stands in an instance's settings.
const MEMBER: &str = "media";

/// The longest that events may be held for their files, in seconds.
pub(crate) const LONGEST_WAIT_S: u32 = 300;

/// Which files are fetched that events only name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Files {
    /// None.
    None,
    /// Those that nobody else can fetch: by Cloud API's ids, where the source has an access token.
    #[default]
    Ids,
    /// Those at plain URLs too.
    All,
}

/// What an instance chooses about files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = InstanceMedia)]
pub struct Choice {
    /// Which files are fetched that events only name: `none`, `ids` (of Cloud API; needs the
    /// source's `access_token`) or `all` (those at plain URLs too).
    pub fetch: Files,
    /// Seconds that an event, and its chat, is held for its file: 0 to 300. A destination may say
    /// otherwise.
    pub wait_for_media_s: u32,
}

impl Choice {
    /// What the settings of an instance say. Those that cannot be read say nothing.
    pub fn of(settings: &Value) -> Self {
        settings.get(MEMBER).and_then(|it| Self::deserialize(it).ok()).unwrap_or_default()
    }

    /// As a part of an instance's settings.
    pub fn settings(self) -> Value {
        json!({ MEMBER: self })
    }

    /// How long events are held.
    pub(crate) fn wait(self) -> Duration {
        Duration::from_secs(self.wait_for_media_s.min(LONGEST_WAIT_S).into())
    }

    /// Whether a file is fetched that can be had like this.
    pub(crate) fn takes(self, named: &Named) -> bool {
        match named {
            Named::Id(_) => self.fetch != Files::None,
            Named::Url(_) => self.fetch == Files::All,
        }
    }
}

/// A file that an event names and does not bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// By Meta's id.
    Id(String),
    /// At a URL, readable as it is.
    Url(String),
}

impl Named {
    /// The file that a payload names, if it does. Hardly any does, and that is seen at once.
    pub(crate) fn of(kind: Kind, data: &[u8]) -> Option<Self> {
        if kind.family() != "message" {
            return None;
        }
        memchr::memmem::find(data, b"\"media\"")?;
        serde_json::from_slice::<Payload>(data).ok()?.content.media.named()
    }
}

#[derive(Deserialize)]
struct Payload {
    content: Content,
}

#[derive(Deserialize)]
struct Content {
    media: Media,
}

#[derive(Deserialize)]
struct Media {
    state: MediaState,
    #[serde(default)]
    media_id: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    base64: Option<serde::de::IgnoredAny>,
}

impl Media {
    fn named(self) -> Option<Named> {
        match (self.state, self.base64) {
            (MediaState::IdOnly, None) => self.media_id.map(Named::Id),
            (MediaState::Url, None) => self.url.map(Named::Url),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(media: Value) -> Option<Named> {
        let data = json!({ "content": { "kind": "image", "media": media } });
        Named::of(Kind::MessageReceived, data.to_string().as_bytes())
    }

    #[test]
    fn only_what_is_not_here_is_fetched() {
        let id = Some(Named::Id("7".to_owned()));
        assert_eq!(named(json!({ "state": "id_only", "media_id": "7", "url": "https://x" })), id);
        let url = Some(Named::Url("https://x".to_owned()));
        assert_eq!(named(json!({ "state": "url", "url": "https://x" })), url);
        for other in [
            json!({ "state": "inline", "base64": "AA==" }),
            json!({ "state": "encrypted_url", "url": "https://x" }),
            json!({ "state": "id_only" }),
            json!({ "state": "url", "url": "https://x", "base64": "AA==" }),
        ] {
            assert_eq!(named(other), None);
        }
        let data = br#"{"content":{"media":{"state":"url","url":"https://x"}}}"#;
        assert_eq!(Named::of(Kind::CallUpdated, data), None);
    }

    #[test]
    fn an_instance_fetches_what_it_says() {
        let (id, url) = (Named::Id("7".to_owned()), Named::Url("u".to_owned()));
        let usual = Choice::of(&json!({}));
        assert!(usual.takes(&id) && !usual.takes(&url));
        let all = Choice { fetch: Files::All, wait_for_media_s: 20 };
        assert_eq!(Choice::of(&all.settings()), all);
        assert!(all.takes(&id) && all.takes(&url));
        let none = Choice::of(&json!({ "media": { "fetch": "none" } }));
        assert!(!none.takes(&id) && !none.takes(&url));
    }
}
