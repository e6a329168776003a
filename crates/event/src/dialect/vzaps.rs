//! The vocabulary of VZaps: nine event names, bodies in the shape of whatsmeow's events with
//! snake-case keys.
//!
//! A live connection gets `{id, type, instance_id, created_at, data}`; a webhook the same with the
//! members of `data` at the top besides, where its consumers look for them. Names and envelope are
//! documented by VZaps; the inside of `data` is what was seen in use, and otherwise follows the
//! structs of whatsmeow, which the documented shapes descend from.

mod content;
mod history;
mod keys;
mod message;
pub mod names;
mod naming;
mod object;
mod payload;
mod size;
mod snake;

use serde_json::{Map, Value};

use self::object::Object;
use super::{Context, Fallback, Options, Part, RenderError, native};
use crate::{Data, Event};

/// The name under which a native envelope travels whole.
const NATIVE: &str = "GatewayNative";

/// Writes the message for one event; none when it has no name and is to be skipped.
///
/// # Errors
/// When the stored payload is not what its type demands.
pub fn encode(
    event: &Event,
    context: &Context<'_>,
    options: &Options,
) -> Result<Option<Part>, RenderError> {
    let documented = naming::documented(event.kind, event.facet.as_deref());
    if documented.is_none() && options.fallback == Fallback::Skip {
        return Ok(None);
    }
    let wrong = |message: String| RenderError { event: event.id.to_string(), message };
    let (name, payload) = if documented.is_none() && options.fallback == Fallback::Native {
        let native = native::envelope(event, context, options);
        let native = serde_json::from_slice(&native).map_err(|error| wrong(error.to_string()))?;
        (NATIVE.into(), native)
    } else {
        let data =
            Data::parse(event.kind, &event.data).map_err(|error| wrong(error.to_string()))?;
        let name = naming::name(&data, documented, options.fallback);
        let mut payload = payload::payload(event, &data, &name, options);
        if options.include_raw {
            payload.insert("raw".to_owned(), raw(event));
        }
        (name, payload)
    };
    let body = match options.live {
        true => size::within(event, &name, payload),
        false => posted(event, &name, payload),
    };
    Ok(Some(Part { name: name.into_owned(), body: body.into() }))
}

/// The four members that every message begins with.
fn envelope(event: &Event, name: &str) -> Object {
    Object::new()
        .put("id", event.id.to_string())
        .put("type", name)
        .put("instance_id", event.instance.to_vzaps())
        .put("created_at", event.received_at.to_string())
}

/// What a live connection gets: the payload under `data`, and nothing beside it, as some SDKs
/// refuse members they do not know.
fn frame(event: &Event, name: &str, payload: Map<String, Value>) -> Vec<u8> {
    envelope(event, name).put("data", payload).into_bytes()
}

/// What is posted: the payload's own members at the top, and all of it under `data` again.
fn posted(event: &Event, name: &str, payload: Map<String, Value>) -> Vec<u8> {
    let mut body = envelope(event, name).done();
    if name != NATIVE {
        for (member, value) in payload.iter().filter(|(member, _)| *member != "type") {
            body.insert(member.clone(), value.clone());
        }
    }
    body.insert("data".to_owned(), payload.into());
    Object::from(body).into_bytes()
}

fn raw(event: &Event) -> Value {
    let bytes = event.raw_bytes();
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}
