//! The canonical envelope: what our own API, SDKs and webhooks carry.

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{Context, Options, Part};
use crate::{
    Data, DataError, Event, EventId, InstanceId, Kind, Position, Raw, Source, SourceKind,
    Timestamp,
    draft::{GIVEN, ID, REQUEST},
};

/// Room for everything in the envelope but payload, raw, names and keys.
const FIXED: usize = 512;

/// Writes the message for one event. Its name is the event's type.
pub fn encode(event: &Event, context: &Context<'_>, options: &Options) -> Part {
    Part { name: event.kind.to_string(), body: envelope(event, context, options).into() }
}

/// The envelope alone, as it also stands in pages of events.
pub fn envelope(event: &Event, context: &Context<'_>, options: &Options) -> Vec<u8> {
    let raw = options.include_raw.then(|| event.raw_bytes().as_ref());
    let mut out = Vec::with_capacity(
        FIXED
            + event.data.len()
            + raw.map_or(0, |raw| raw.len().div_ceil(3) * 4)
            + context.instance_name.len()
            + 2 * event.partition.len()
            + event.dedup_key.as_ref().map_or(0, String::len)
            + event.client_id.as_ref().map_or(0, String::len)
            + event.source.event.len(),
    );
    open(&mut out, "id", &event.id);
    member(&mut out, "type", &event.kind);
    member(&mut out, "v", &event.kind.version());
    out.extend_from_slice(b",\"instance\":");
    open(&mut out, "id", &event.instance);
    member(&mut out, "name", context.instance_name);
    out.push(b'}');
    member(&mut out, "seq", &event.seq);
    member(&mut out, "occurred_at", &event.occurred_at);
    if event.occurred_at_estimated {
        member(&mut out, "occurred_at_estimated", &true);
    }
    member(&mut out, "received_at", &event.received_at);
    member(&mut out, "source", &event.source);
    if let Some(key) = shown_key(event) {
        member(&mut out, "dedup_key", key);
    }
    let ordering_key = format_args!("{}/{}", event.instance, event.partition);
    member(&mut out, "ordering_key", &ordering_key);
    member(&mut out, "history", &event.history);
    if let Some(id) = &event.client_id {
        member(&mut out, "client_id", id);
    }
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(&event.data);
    match raw {
        Some(raw) if is_json(event, raw) => {
            out.extend_from_slice(b",\"raw\":");
            out.extend_from_slice(raw);
        }
        Some(raw) => member(&mut out, "raw_base64", &STANDARD.encode(raw)),
        None => {}
    }
    out.push(b'}');
    out
}

/// The key as whoever made it knows it: callers of ours do not see the namespace of theirs, nor
/// the keys of their requests.
fn shown_key(event: &Event) -> Option<&str> {
    let key = event.dedup_key.as_deref()?;
    match event.source.kind {
        SourceKind::Native if key.starts_with(REQUEST) => None,
        SourceKind::Native => Some(key.strip_prefix(GIVEN).unwrap_or(key)),
        _ => Some(key),
    }
}

/// The reverse of [`shown_key`].
fn stored_key(shown: String, source: SourceKind, client_id: Option<&str>) -> String {
    let is_id = shown.strip_prefix(ID).is_some_and(|id| client_id == Some(id));
    match source {
        SourceKind::Native if !is_id => format!("{GIVEN}{shown}"),
        _ => shown,
    }
}

/// Only what no decoder could read is kept as anything but JSON.
fn is_json(event: &Event, raw: &[u8]) -> bool {
    matches!(event.raw, Raw::Data) || serde_json::from_slice::<&RawValue>(raw).is_ok()
}

fn open<T: Serialize + ?Sized>(out: &mut Vec<u8>, name: &str, value: &T) {
    out.push(b'{');
    pair(out, name, value);
}

fn member<T: Serialize + ?Sized>(out: &mut Vec<u8>, name: &str, value: &T) {
    out.push(b',');
    pair(out, name, value);
}

fn pair<T: Serialize + ?Sized>(out: &mut Vec<u8>, name: &str, value: &T) {
    // Writing to a vector cannot fail, and neither can text, numbers and `Source`.
    let _ = write!(out, "\"{name}\":");
    let _ = serde_json::to_writer(out, value);
}

/// An envelope that is none.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON of the envelope's shape.
    #[error("not a native envelope: {0}")]
    Envelope(#[from] serde_json::Error),
    /// The payload is not what its type demands.
    #[error(transparent)]
    Data(#[from] DataError),
    /// `raw_base64` is not base64.
    #[error("raw_base64 is not base64")]
    Raw,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: EventId,
    #[serde(rename = "type")]
    kind: Kind,
    instance: Instance,
    seq: Position,
    occurred_at: Timestamp,
    #[serde(default)]
    occurred_at_estimated: bool,
    received_at: Timestamp,
    source: Source,
    dedup_key: Option<String>,
    ordering_key: String,
    #[serde(default)]
    history: bool,
    client_id: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "present")]
    raw: Option<&'a RawValue>,
    raw_base64: Option<String>,
}

#[derive(Deserialize)]
struct Instance {
    id: InstanceId,
}

/// Unlike serde's own `Option`, tells a raw element that is `null` from an absent one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads an envelope back. What it does not carry follows from the payload (facet, class) or is
/// unknown: an absent `raw` is taken to be the payload itself, and hops are 0.
///
/// # Errors
/// When the text is no envelope, or its payload not what its type demands.
pub fn parse(body: &[u8]) -> Result<Event, ParseError> {
    let envelope: Envelope<'_> = serde_json::from_slice(body)?;
    let data = Data::parse(envelope.kind, envelope.data.get().as_bytes())?;
    let raw = match (envelope.raw, envelope.raw_base64) {
        (Some(raw), _) if raw.get() == envelope.data.get() => Raw::Data,
        (Some(raw), _) => Raw::Bytes(Bytes::copy_from_slice(raw.get().as_bytes())),
        (None, Some(text)) => {
            Raw::Bytes(STANDARD.decode(text).map_err(|_| ParseError::Raw)?.into())
        }
        (None, None) => Raw::Data,
    };
    let facet = data.facet().map(str::to_owned);
    let instance = envelope.instance.id;
    let partition = match envelope.ordering_key.split_once('/') {
        Some((_, partition)) => partition.to_owned(),
        None => envelope.ordering_key,
    };
    let dedup_key = envelope
        .dedup_key
        .map(|key| stored_key(key, envelope.source.kind, envelope.client_id.as_deref()));
    Ok(Event {
        id: envelope.id,
        seq: envelope.seq,
        instance,
        kind: envelope.kind,
        ephemeral: envelope.kind.is_ephemeral(facet.as_deref()),
        facet,
        occurred_at: envelope.occurred_at,
        occurred_at_estimated: envelope.occurred_at_estimated,
        received_at: envelope.received_at,
        source: envelope.source,
        dedup_key,
        partition,
        history: envelope.history,
        client_id: envelope.client_id,
        hops: 0,
        data: Bytes::copy_from_slice(envelope.data.get().as_bytes()),
        raw,
    })
}
