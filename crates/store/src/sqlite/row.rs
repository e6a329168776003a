//! Between rows and values. Numbers are checked: nothing stored may make us panic.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use rusqlite::{Row, types::ValueRef};
use serde::{Deserialize, Serialize};
use zapbus_event::{
    Event, EventId, InstanceId, Kind, Position, Raw, Source, SourceKind, Timestamp,
};

use super::{
    fault::{Fault, Result},
    kinds::Kinds,
    queue::Prepared,
};
use crate::blob::BlobRef;

const HISTORY: i64 = 1;
const EPHEMERAL: i64 = 2;
const ESTIMATED: i64 = 4;
const BLOBS: i64 = 8;

/// The columns [`event`] expects, in its order.
pub(crate) const EVENT: &str =
    "j.seq, j.id, j.instance, j.received_at, j.kind, j.flags, j.head, j.data, j.raw";

/// A position as SQLite has it. One beyond every stored one stays beyond.
pub(crate) fn sql(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

/// The inverse of [`sql`].
pub(crate) fn position(stored: i64) -> Position {
    Position(u64::try_from(stored).unwrap_or(0))
}

/// A count that cannot be negative.
pub(crate) fn count(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// A limit as SQLite has it.
pub(crate) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// What of an event has no column of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(rename = "f", borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) facet: Option<Cow<'a, str>>,
    #[serde(rename = "o")]
    occurred_at: i64,
    #[serde(rename = "k")]
    source: SourceKind,
    #[serde(rename = "e", borrow)]
    event: Cow<'a, str>,
    #[serde(rename = "v", borrow, default, skip_serializing_if = "Option::is_none")]
    version: Option<Cow<'a, str>>,
    #[serde(rename = "d", borrow, default, skip_serializing_if = "Option::is_none")]
    delivery_id: Option<Cow<'a, str>>,
    #[serde(rename = "i", default, skip_serializing_if = "is_zero")]
    index: u32,
    #[serde(rename = "y", borrow, default, skip_serializing_if = "Option::is_none")]
    dedup_key: Option<Cow<'a, str>>,
    #[serde(rename = "p", borrow)]
    pub(crate) partition: Cow<'a, str>,
    #[serde(rename = "c", borrow, default, skip_serializing_if = "Option::is_none")]
    client_id: Option<Cow<'a, str>>,
    #[serde(rename = "h", default, skip_serializing_if = "is_zero")]
    hops: u32,
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

/// A blob column, borrowed.
pub(crate) fn bytes<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8]> {
    row.get_ref(column)?.as_blob().map_err(|error| Fault::malformed(error.to_string()))
}

/// The instance in a column.
pub(crate) fn instance_id(row: &Row<'_>, column: usize) -> Result<InstanceId> {
    Ok(InstanceId::from_bytes(row.get(column)?))
}

/// The event in a row of [`EVENT`], which starts at column `at`.
pub(crate) fn event(row: &Row<'_>, at: usize, kinds: &Kinds) -> Result<Arc<Event>> {
    let seq = position(row.get(at)?);
    let head = Head::parse(bytes(row, at + 6)?)?;
    let flags: i64 = row.get(at + 5)?;
    let raw = match row.get_ref(at + 8)? {
        ValueRef::Null => Raw::Data,
        ValueRef::Blob(raw) => Raw::Bytes(Bytes::copy_from_slice(raw)),
        other => {
            return Err(Fault::malformed(format!("raw of {seq} is {}", other.data_type())));
        }
    };
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    Ok(Arc::new(Event {
        id: EventId::from_bytes(row.get(at + 1)?),
        seq,
        instance: instance_id(row, at + 2)?,
        kind: kinds.kind(row.get(at + 4)?)?,
        facet: owned(head.facet),
        occurred_at: Timestamp::from_millis(head.occurred_at),
        occurred_at_estimated: flags & ESTIMATED != 0,
        received_at: Timestamp::from_millis(row.get(at + 3)?),
        source: Source {
            kind: head.source,
            event: head.event.into_owned(),
            version: owned(head.version),
            delivery_id: owned(head.delivery_id),
            index: head.index,
        },
        dedup_key: owned(head.dedup_key),
        partition: head.partition.into_owned(),
        history: flags & HISTORY != 0,
        ephemeral: is_ephemeral(flags),
        client_id: owned(head.client_id),
        hops: u8::try_from(head.hops).unwrap_or(u8::MAX),
        data: Bytes::copy_from_slice(bytes(row, at + 7)?),
        raw,
    }))
}

/// Kind and facet alone, for filters: columns `kind` and `head` at `at`.
pub(crate) fn kind_and_facet<'a>(
    row: &'a Row<'_>,
    at: usize,
    kinds: &Kinds,
) -> Result<(Kind, Option<Cow<'a, str>>)> {
    Ok((kinds.kind(row.get(at)?)?, Head::parse(bytes(row, at + 1)?)?.facet))
}
