//! Between rows and values. Numbers are checked: nothing stored may make us panic.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use rusqlite::{Row, types::ValueRef};
use zapbus_event::{Event, EventId, InstanceId, Kind, Position, Raw, Source, Timestamp};

use super::{
    fault::{Fault, Result},
    kinds::Kinds,
};
pub(crate) use crate::encoding::{Head, event_of, flags, has_blobs, is_ephemeral};
use crate::encoding::{UNREADABLE, is_estimated, is_history, unreadable};

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
    let flags: i64 = row.get(at + 5)?;
    let head = match Head::parse(bytes(row, at + 6)?) {
        Ok(head) => head,
        Err(fault) => {
            let (id, instance) = (EventId::from_bytes(row.get(at + 1)?), instance_id(row, at + 2)?);
            kinds.unreadable.found(id, seq, &fault);
            let received_at = Timestamp::from_millis(row.get(at + 3)?);
            let data = bytes(row, at + 7)?;
            return Ok(Arc::new(unreadable(id, seq, instance, received_at, flags, data)));
        }
    };
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
        kind: kinds.kind(row.get(at + 4)?),
        facet: owned(head.facet),
        occurred_at: Timestamp::from_millis(head.occurred_at),
        occurred_at_estimated: is_estimated(flags),
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
        history: is_history(flags),
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
    Ok(match Head::parse(bytes(row, at + 1)?) {
        Ok(head) => (kinds.kind(row.get(at)?), head.facet),
        Err(_) => (Kind::EventUnknown, Some(UNREADABLE.into())),
    })
}
