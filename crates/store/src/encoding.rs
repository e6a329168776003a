//! How an event is put into columns: the same in each engine.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zapbus_event::{
    Event, EventId, Filter, InstanceId, Kind, Position, Raw, Source, SourceKind, Timestamp,
};

use crate::{
    blob::BlobRef,
    fault::{Fault, Result},
    prepared::Prepared,
};

const HISTORY: i64 = 1;
const EPHEMERAL: i64 = 2;
const ESTIMATED: i64 = 4;
const BLOBS: i64 = 8;

/// What of an event has no column of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(rename = "f", borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) facet: Option<Cow<'a, str>>,
    #[serde(rename = "o")]
    pub(crate) occurred_at: i64,
    #[serde(rename = "k")]
    pub(crate) source: SourceKind,
    #[serde(rename = "e", borrow)]
    pub(crate) event: Cow<'a, str>,
    #[serde(rename = "v", borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<Cow<'a, str>>,
    #[serde(rename = "d", borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) delivery_id: Option<Cow<'a, str>>,
    #[serde(rename = "i", default, skip_serializing_if = "is_zero")]
    pub(crate) index: u32,
    #[serde(rename = "y", borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) dedup_key: Option<Cow<'a, str>>,
    #[serde(rename = "p", borrow)]
    pub(crate) partition: Cow<'a, str>,
    #[serde(rename = "c", borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<Cow<'a, str>>,
    #[serde(rename = "h", default, skip_serializing_if = "is_zero")]
    pub(crate) hops: u32,
    #[serde(rename = "b", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) blobs: Vec<BlobRef>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl<'a> Head<'a> {
    /// Of an event that was received at `received_at`.
    pub(crate) fn of(prepared: &'a Prepared, received_at: Timestamp) -> Self {
        let draft = &prepared.draft;
        let borrowed = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        Self {
            facet: borrowed(&draft.facet),
            occurred_at: draft.occurred_at.unwrap_or(received_at).as_millis(),
            source: draft.source.kind,
            event: Cow::Borrowed(&draft.source.event),
            version: borrowed(&draft.source.version),
            delivery_id: borrowed(&draft.source.delivery_id),
            index: draft.source.index,
            dedup_key: draft.dedup_key().map(Cow::Borrowed),
            partition: Cow::Borrowed(&draft.partition),
            client_id: borrowed(&draft.client_id),
            hops: u32::from(draft.hops),
            // A handful at most, and hardly ever one.
            blobs: prepared.blobs.clone(),
        }
    }

    pub(crate) fn parse(stored: &'a [u8]) -> Result<Self> {
        Ok(serde_json::from_slice(stored)?)
    }
}

/// The column `flags`.
pub(crate) fn flags(prepared: &Prepared) -> i64 {
    let draft = &prepared.draft;
    let flag = |set: bool, bit: i64| if set { bit } else { 0 };
    flag(draft.history, HISTORY)
        | flag(draft.ephemeral, EPHEMERAL)
        | flag(draft.occurred_at.is_none(), ESTIMATED)
        | flag(!prepared.blobs.is_empty(), BLOBS)
}

pub(crate) fn is_history(flags: i64) -> bool {
    flags & HISTORY != 0
}

pub(crate) fn is_estimated(flags: i64) -> bool {
    flags & ESTIMATED != 0
}

pub(crate) fn is_ephemeral(flags: i64) -> bool {
    flags & EPHEMERAL != 0
}

pub(crate) fn has_blobs(flags: i64) -> bool {
    flags & BLOBS != 0
}

/// The event that a committed draft has become.
pub(crate) fn event_of(
    prepared: Prepared,
    id: EventId,
    seq: Position,
    received_at: Timestamp,
) -> Event {
    let Prepared { instance, draft, .. } = prepared;
    let dedup_key = draft.dedup_key().map(str::to_owned);
    Event {
        id,
        seq,
        instance,
        kind: draft.kind,
        facet: draft.facet,
        occurred_at: draft.occurred_at.unwrap_or(received_at),
        occurred_at_estimated: draft.occurred_at.is_none(),
        received_at,
        source: draft.source,
        dedup_key,
        partition: draft.partition,
        history: draft.history,
        ephemeral: draft.ephemeral,
        client_id: draft.client_id,
        hops: draft.hops,
        data: draft.data,
        raw: draft.raw,
    }
}

/// The facet of what is not understood because it cannot be read.
pub(crate) const UNREADABLE: &str = "schema_mismatch";

/// What is made of an event whose head cannot be read (a bad disk, a meddling hand): something that
/// was not understood, with its payload kept whole. Readers go past it, and nobody else waits.
pub(crate) fn unreadable(
    id: EventId,
    seq: Position,
    instance: InstanceId,
    received_at: Timestamp,
    flags: i64,
    data: &[u8],
) -> Event {
    Event {
        id,
        seq,
        instance,
        kind: Kind::EventUnknown,
        facet: Some(UNREADABLE.to_owned()),
        occurred_at: received_at,
        occurred_at_estimated: true,
        received_at,
        source: Source {
            kind: SourceKind::Gateway,
            event: String::new(),
            version: None,
            delivery_id: None,
            index: 0,
        },
        dedup_key: None,
        partition: String::new(),
        history: is_history(flags),
        ephemeral: is_ephemeral(flags),
        client_id: None,
        hops: 0,
        data: Bytes::from_static(br#"{"upstream_event":"","reason":"schema_mismatch"}"#),
        raw: Raw::Bytes(Bytes::copy_from_slice(data)),
    }
}

/// How a filter is stored.
pub(crate) fn filter_text(filter: &Filter) -> Result<String> {
    Ok(serde_json::to_string(&filter.patterns())?)
}

/// The filter that was stored.
pub(crate) fn filter_of(stored: &str) -> Result<Filter> {
    let patterns: Vec<String> = serde_json::from_str(stored)?;
    Filter::parse(&patterns).map_err(|error| Fault::malformed(error.to_string()))
}
