//! What decrypts a media file, found in the upstream's own element.
//!
//! Our payloads do not hold it, so that it does not spread; users of this dialect expect it inside
//! the message.

use serde_json::{Map, Value};

use super::snake::snake;
use crate::Event;

/// How deep an element is searched.
const DEPTH: u8 = 8;

/// Members of a media message that our payload leaves out.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) media_key: Option<String>,
    pub(super) file_enc_sha256: Option<String>,
    pub(super) direct_path: Option<String>,
    pub(super) url: Option<String>,
}

/// What the upstream's element says.
pub(super) fn of(event: &Event) -> Keys {
    let bytes = event.raw_bytes();
    // Not worth reading otherwise: every upstream that has one calls it so.
    if !contains(bytes, b"ediaKey") && !contains(bytes, b"media_key") {
        return Keys::default();
    }
    let Ok(raw) = serde_json::from_slice::<Value>(bytes) else {
        return Keys::default();
    };
    find(&raw, DEPTH).unwrap_or_default()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn find(value: &Value, depth: u8) -> Option<Keys> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::Object(members) => {
            let of = |name: &str| {
                let found = members.iter().find(|(key, _)| snake(key) == name)?;
                found.1.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
            };
            if let Some(media_key) = of("media_key") {
                return Some(Keys {
                    media_key: Some(media_key),
                    file_enc_sha256: of("file_enc_sha256"),
                    direct_path: of("direct_path"),
                    url: of("url"),
                });
            }
            members.values().find_map(|value| find(value, depth))
        }
        Value::Array(items) => items.iter().find_map(|value| find(value, depth)),
        _ => None,
    }
}

/// Takes keys out of a message that is passed on as it came.
pub(super) fn remove(members: &mut Map<String, Value>) {
    for name in ["media_key", "direct_path"] {
        members.shift_remove(name);
    }
    for value in members.values_mut() {
        match value {
            Value::Object(members) => remove(members),
            Value::Array(items) => {
                for item in items {
                    if let Value::Object(members) = item {
                        remove(members);
                    }
                }
            }
            _ => {}
        }
    }
}
