//! Frames within the size that every SDK takes.

use serde_json::{Map, Value};

use super::{frame, object::Object};
use crate::Event;

/// Bytes of a frame at most. The Python SDK's library closes a connection on more than 1 MiB, and
/// then asks for the same event for ever.
pub(super) const MAX_FRAME: usize = 1_000_000;

/// Bytes of a text that stays when all but the identifiers goes.
const MAX_IDENTIFIER: usize = 1_024;

/// Members that hold a file or a picture of it.
const FILES: [&str; 3] = ["base64", "jpeg_thumbnail", "raw"];

/// The frame with its payload, or with as much of it as fits: first files go, then everything but
/// what says which event it is.
pub(super) fn within(event: &Event, name: &str, mut payload: Map<String, Value>) -> Vec<u8> {
    let whole = frame(event, name, payload.clone());
    if whole.len() <= MAX_FRAME {
        return whole;
    }
    strip(&mut payload);
    payload.insert("truncated".to_owned(), true.into());
    let stripped = frame(event, name, payload.clone());
    if stripped.len() <= MAX_FRAME {
        return stripped;
    }
    let mut kept = identifiers(&payload);
    if let Some(Value::Object(inner)) = payload.get("event") {
        let mut inside = identifiers(inner);
        if let Some(Value::Object(info)) = inner.get("info") {
            inside.insert("info".to_owned(), identifiers(info).into());
        }
        kept.insert("event".to_owned(), inside.into());
    }
    kept.insert("truncated".to_owned(), true.into());
    frame(event, name, kept)
}

fn strip(members: &mut Map<String, Value>) {
    for name in FILES {
        members.shift_remove(name);
    }
    for value in members.values_mut() {
        strip_value(value);
    }
}

fn strip_value(value: &mut Value) {
    match value {
        Value::Object(members) => strip(members),
        Value::Array(items) => items.iter_mut().for_each(strip_value),
        _ => {}
    }
}

/// Members that are numbers, truth values and short texts; at most so many that they fit.
fn identifiers(members: &Map<String, Value>) -> Map<String, Value> {
    let is_short = |value: &Value| match value {
        Value::String(text) => text.len() <= MAX_IDENTIFIER,
        Value::Bool(_) | Value::Number(_) => true,
        _ => false,
    };
    let short = members.iter().filter(|(name, value)| name.len() <= 64 && is_short(value)).take(64);
    let mut kept = Object::new();
    for (name, value) in short {
        kept = kept.put(name, value.clone());
    }
    kept.done()
}
