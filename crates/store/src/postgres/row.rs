//! Between rows and values. Numbers are checked: nothing stored may make us panic.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use tokio_postgres::{
    Row,
    types::{IsNull, ToSql, Type},
};
use zapbus_event::{Event, EventId, InstanceId, Kind, Position, Raw, Source, Timestamp};

use super::fault::{Fault, Result};
pub(crate) use crate::encoding::{Head, has_blobs, is_ephemeral};
use crate::{
    encoding::{UNREADABLE, is_estimated, is_history, unreadable},
    kinds::Kinds,
};

/// The columns [`event`] expects, in its order.
pub(crate) const EVENT: &str =
    "j.seq, j.id, j.instance, j.received_at, j.kind, j.flags, j.head, j.data, j.raw";

/// A position as the database has it. One beyond every stored one stays beyond.
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

/// A limit as the database has it.
pub(crate) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A small number that cannot be negative.
pub(crate) fn small(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or(0)
}

/// A small number as the database has it.
pub(crate) fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// 16 or 32 bytes in a column.
pub(crate) fn fixed<const N: usize>(row: &Row, column: usize) -> Result<[u8; N]> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes
        .try_into()
        .map_err(|_| Fault::malformed(format!("{} bytes where {N} must be", bytes.len())))
}

/// The same where there may be none.
pub(crate) fn maybe_fixed<const N: usize>(row: &Row, column: usize) -> Result<Option<[u8; N]>> {
    match row.try_get::<_, Option<&[u8]>>(column)? {
        None => Ok(None),
        Some(_) => fixed(row, column).map(Some),
    }
}

pub(crate) fn instance_id(row: &Row, column: usize) -> Result<InstanceId> {
    Ok(InstanceId::from_bytes(fixed(row, column)?))
}

pub(crate) fn time(row: &Row, column: usize) -> Result<Timestamp> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

pub(crate) fn maybe_time(row: &Row, column: usize) -> Result<Option<Timestamp>> {
    Ok(row.try_get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// The event in a row of [`EVENT`], which starts at column `at`.
pub(crate) fn event(row: &Row, at: usize, kinds: &Kinds) -> Result<Arc<Event>> {
    let flags = i64::from(row.try_get::<_, i32>(at + 5)?);
    let received_at = time(row, at + 3)?;
    let head = match Head::parse(row.try_get(at + 6)?) {
        Ok(head) => head,
        Err(fault) => {
            let (id, seq) = (EventId::from_bytes(fixed(row, at + 1)?), position(row.try_get(at)?));
            kinds.unreadable.found(id, seq, &fault);
            let (instance, data) = (instance_id(row, at + 2)?, row.try_get(at + 7)?);
            return Ok(Arc::new(unreadable(id, seq, instance, received_at, flags, data)));
        }
    };
    let raw: Option<&[u8]> = row.try_get(at + 8)?;
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    let estimated = is_estimated(flags);
    Ok(Arc::new(Event {
        id: EventId::from_bytes(fixed(row, at + 1)?),
        seq: position(row.try_get(at)?),
        instance: instance_id(row, at + 2)?,
        kind: kinds.kind(i64::from(row.try_get::<_, i32>(at + 4)?)),
        facet: owned(head.facet),
        // Its head was written before anybody knew when it would be received.
        occurred_at: if estimated { received_at } else { Timestamp::from_millis(head.occurred_at) },
        occurred_at_estimated: estimated,
        received_at,
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
        data: Bytes::copy_from_slice(row.try_get(at + 7)?),
        raw: raw.map_or(Raw::Data, |raw| Raw::Bytes(Bytes::copy_from_slice(raw))),
    }))
}

/// Kind and facet alone, for filters: columns `kind` and `head` at `at`.
pub(crate) fn kind_and_facet<'a>(
    row: &'a Row,
    at: usize,
    kinds: &Kinds,
) -> Result<(Kind, Option<Cow<'a, str>>)> {
    Ok(match Head::parse(row.try_get(at + 1)?) {
        Ok(head) => (kinds.kind(i64::from(row.try_get::<_, i32>(at)?)), head.facet),
        Err(_) => (Kind::EventUnknown, Some(UNREADABLE.into())),
    })
}

/// PostgreSQL has no text with a NUL in it.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Bytes of a known number, as a parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> ToSql for Fixed<N> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        (&self.0[..]).to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <&[u8] as ToSql>::accepts(ty)
    }

    tokio_postgres::types::to_sql_checked!();
}
