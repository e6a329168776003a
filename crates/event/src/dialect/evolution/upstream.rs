//! What came from an Evolution API and goes out as it came.

use serde_json::{Value, value::RawValue};

use super::{Name, Options, Payload, Told, failed};
use crate::{
    Event, Kind, Raw, SourceKind, dialect::RenderError, shape::MediaState, source::Members,
};

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
    let whole = serde_json::from_slice(raw).map_err(|error| failed(event, &error.to_string()))?;
    let posted = Members::of(whole).ok_or_else(|| failed(event, "raw is no object"))?;
    let name = posted.text("event").unwrap_or_else(|| {
        // It stood in the URL, in the form of URLs.
        let name = Name::find(&event.source.event);
        name.map_or_else(|| event.source.event.clone(), |name| name.wire().to_owned())
    });
    let data = posted.given("data").unwrap_or(RawValue::NULL);
    let link = link_instead(event, data);
    let data = match (options.media_key, link) {
        (true, None) => Payload::Verbatim(data.to_owned()),
        (with_keys, link) => {
            let mut data = serde_json::from_str(data.get())
                .map_err(|error| failed(event, &error.to_string()))?;
            if !with_keys {
                remove_keys(&mut data);
            }
            if let Some(link) = link {
                put_link(&mut data, link);
            }
            Payload::Told(data)
        }
    };
    let verbatim = |name| posted.given(name).map(|raw| Payload::Verbatim(raw.to_owned()));
    let mut told = Told::named(name, data);
    if !options.lite {
        let more = ["isLatest", "progress"];
        told.before = more.into_iter().filter_map(|name| Some((name, verbatim(name)?))).collect();
    }
    told.upstream = Some((verbatim("date_time"), verbatim("sender")));
    Ok(Passed::Whole(Box::new(told)))
}

/// Where the file of a message is that came in the upstream's body and is not to go on in one.
fn link_instead(event: &Event, posted: &RawValue) -> Option<String> {
    memchr::memmem::find(posted.get().as_bytes(), b"\"base64\"")?;
    let data: Value = serde_json::from_slice(&event.data).ok()?;
    let media = data.get("content")?.get("media")?;
    let is_link = media.get("base64").is_none() && media.get("state")? == MediaState::Url.as_str();
    media.get("url")?.as_str().filter(|_| is_link).map(str::to_owned)
}

/// As upstream writes a message whose file lies in its storage.
fn put_link(data: &mut Value, link: String) {
    let Some(message) = data.get_mut("message").and_then(Value::as_object_mut) else { return };
    if message.shift_remove("base64").is_some() {
        message.insert("mediaUrl".to_owned(), Value::from(link));
    }
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
