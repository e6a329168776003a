//! What came from an Evolution API and goes out as it came.

use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use super::{Name, Options, Payload, Told, failed, put};
use crate::{Event, Kind, Raw, SourceKind, dialect::RenderError};

/// The members of a message that decrypt its file.
const KEYS: [&str; 2] = ["mediaKey", "directPath"];

/// What there is of an upstream's body.
pub(super) enum Passed {
    /// All of it: the event is the first of its body.
    Whole(Box<Told>),
    /// The event is in a body that its first one stands for.
    Sibling,
    /// Nothing: it came from elsewhere.
    Not,
}

#[derive(Deserialize)]
struct Posted<'a> {
    event: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    date_time: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    sender: Option<Value>,
    #[serde(rename = "isLatest")]
    is_latest: Option<Value>,
    progress: Option<Value>,
}

/// Tells `null` from a member that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

pub(super) fn passed(event: &Event, options: &Options) -> Result<Passed, RenderError> {
    // What was not understood has no counterpart, whatever its name.
    let is_upstream =
        event.source.kind == SourceKind::Evolution && event.kind != Kind::EventUnknown;
    let Raw::Bytes(raw) = &event.raw else { return Ok(Passed::Not) };
    if !is_upstream {
        return Ok(Passed::Not);
    }
    if event.source.index > 0 {
        return Ok(Passed::Sibling);
    }
    let posted: Posted<'_> =
        serde_json::from_slice(raw).map_err(|error| failed(event, &error.to_string()))?;
    let name = posted.event.unwrap_or_else(|| {
        // It stood in the URL, in the form of URLs.
        let name = Name::find(&event.source.event);
        name.map_or_else(|| event.source.event.clone(), |name| name.wire().to_owned())
    });
    let data = posted.data.unwrap_or(RawValue::NULL);
    let data = match options.media_key {
        true => Payload::Verbatim(data.to_owned()),
        false => {
            let mut data = serde_json::from_str(data.get())
                .map_err(|error| failed(event, &error.to_string()))?;
            remove_keys(&mut data);
            Payload::Told(data)
        }
    };
    let mut told = Told::named(name, data);
    if !options.lite {
        put(&mut told.before, "isLatest", posted.is_latest);
        put(&mut told.before, "progress", posted.progress);
    }
    told.upstream = Some((posted.date_time, posted.sender));
    Ok(Passed::Whole(Box::new(told)))
}

/// Its depth is bounded by the reader that made the value.
fn remove_keys(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !KEYS.contains(&name.as_str()));
            members.values_mut().for_each(remove_keys);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_keys),
        _ => {}
    }
}
