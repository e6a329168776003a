//! What becomes of a row on its way into the target.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Row, types::ValueRef};

use super::wire::{
    Rows,
    Type::{self, Bigint, Bigints, Bool, Bytes, Int, Text},
};
use crate::{
    ShardId,
    blob::Blobs,
    encoding::is_ephemeral,
    fault::{Fault, Result},
    postgres::spread,
    seal::{Place, Sealer},
    subscriber::{OpenEvent, Progress},
};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
pub(super) const WEEK_MS: i64 = 7 * DAY_MS;

/// The partitions that some rows need, by number.
#[derive(Debug, Default)]
pub(super) struct Periods {
    pub(super) days: BTreeSet<i64>,
    pub(super) hours: BTreeSet<i64>,
    pub(super) weeks: BTreeSet<i64>,
}

impl Periods {
    /// Of an event, or of what hangs on one.
    fn add(&mut self, class: i64, at: i64) {
        if class == 0 {
            self.days.insert(at.div_euclid(DAY_MS));
        } else {
            self.hours.insert(at.div_euclid(HOUR_MS));
        }
    }
}

/// What is different in the target.
pub(super) struct Mapping {
    pub(super) shards: u16,
    /// Numbers of event types there, by those here.
    pub(super) kinds: HashMap<i64, i32>,
    pub(super) opens: Sealer,
    pub(super) seals: Sealer,
    pub(super) blobs: Blobs,
}

impl Mapping {
    pub(super) fn shard(&self, id: &[u8]) -> Result<ShardId> {
        let id: [u8; 16] =
            id.try_into().map_err(|_| Fault::malformed(format!("an id of {} bytes", id.len())))?;
        Ok(spread(id, self.shards))
    }

    /// Encrypted for the target. What nobody can read stays what it is: nobody can there either.
    fn reseal(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>> {
        if sealed.starts_with(&self.seals.tag()) {
            return Ok(sealed.to_vec());
        }
        match self.opens.open(place, sealed) {
            Ok(plain) => Ok(self.seals.seal(place, &plain)?),
            Err(_) => Ok(sealed.to_vec()),
        }
    }

    /// The shard of something that a destination did with an event: of one instance's the instance's;
    /// of a global one the event's, and without an event its own.
    fn shard_of_delivery(&self, row: &Row<'_>, at: usize) -> Result<ShardId> {
        let (id, own, of_event) = (bytes(row, at)?, bytes(row, at + 1)?, bytes(row, at + 2)?);
        match (own, of_event) {
            (Some(own), _) if !own.is_empty() => self.shard(own),
            (_, Some(of_event)) => self.shard(of_event),
            _ => self.shard(id.ok_or_else(|| Fault::malformed("a delivery of no destination"))?),
        }
    }

    /// One position in each shard.
    fn everywhere(&self, position: Option<i64>) -> Option<Vec<i64>> {
        position.map(|position| vec![position; usize::from(self.shards)])
    }
}

pub(super) fn bytes<'a>(row: &'a Row<'_>, column: usize) -> Result<Option<&'a [u8]>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(value) | ValueRef::Text(value) => Ok(Some(value)),
        other => Err(Fault::malformed(format!("{} in column {column}", other.data_type()))),
    }
}

pub(super) fn number(row: &Row<'_>, column: usize) -> Result<Option<i64>> {
    Ok(row.get(column)?)
}

pub(super) fn must(row: &Row<'_>, column: usize) -> Result<i64> {
    Ok(row.get(column)?)
}

/// Columns as they are, in the types of the target, from the first on.
pub(super) fn plain(row: &Row<'_>, columns: &[(&str, Type)], rows: &mut Rows) -> Result<()> {
    for (column, (_, kind)) in columns.iter().enumerate() {
        match kind {
            Int => rows.int(number(row, column)?),
            Bigint => rows.bigint(number(row, column)?),
            Bool => rows.bool(must(row, column)? != 0),
            Bytes => rows.bytes(bytes(row, column)?),
            Text => rows.text(bytes(row, column)?),
            Bigints => return Err(Fault::malformed("a list")),
        }
    }
    Ok(())
}

/// A subscriber: of one instance it reads one shard, of an account all. Positions are what they
/// were, so a place where no event of it is does no harm.
pub(super) fn put_subscriber(
    row: &Row<'_>,
    mapping: &Mapping,
    rows: &mut Rows,
    _: &mut Periods,
) -> Result<()> {
    let shards = match bytes(row, 2)? {
        Some(instance) => vec![mapping.shard(instance)?],
        None => (0..mapping.shards).map(ShardId).collect(),
    };
    let here: Progress = serde_json::from_slice(bytes(row, 7)?.unwrap_or_default())?;
    let sent = here.sent_in(ShardId::default());
    let open = |shard: ShardId| here.open.iter().map(move |event| OpenEvent { shard, ..*event });
    let there = Progress {
        open: shards.iter().copied().flat_map(open).collect(),
        ..Progress::at(shards.iter().map(|shard| (*shard, sent)))
    };
    for column in 0..=2 {
        rows.bytes(bytes(row, column)?);
    }
    for column in 3..=6 {
        rows.text(bytes(row, column)?);
    }
    rows.bytes(Some(&serde_json::to_vec(&there)?));
    rows.bigint(Some(0));
    rows.bigint(number(row, 8)?);
    rows.bigint(number(row, 9)?);
    Ok(())
}

/// An encrypted column, or nothing.
pub(super) fn sealed(
    row: &Row<'_>,
    column: usize,
    place: Place<'_>,
    mapping: &Mapping,
    rows: &mut Rows,
) -> Result<()> {
    match bytes(row, column)? {
        Some(value) => rows.bytes(Some(&mapping.reseal(place, value)?)),
        None => rows.null(),
    }
    Ok(())
}

/// A lane of a global destination gets its one cursor in every shard: below it there is nothing left
/// to send in any.
pub(super) fn put_lane(
    row: &Row<'_>,
    mapping: &Mapping,
    rows: &mut Rows,
    _: &mut Periods,
) -> Result<()> {
    let run = must(row, 1)?;
    let instance = bytes(row, 11)?.filter(|instance| !instance.is_empty());
    let everywhere = |position: Option<i64>| match instance {
        Some(_) => None,
        None => mapping.everywhere(position),
    };
    let (cursor, from, to) = (number(row, 2)?, number(row, 7)?, number(row, 8)?);
    rows.bigint(number(row, 0)?);
    rows.int(Some(run));
    let home = instance.map(|instance| mapping.shard(instance)).transpose()?;
    rows.int(home.map(|home| home.0.into()));
    rows.bigint(cursor);
    rows.bigints(everywhere(cursor).as_deref());
    rows.bigint(number(row, 3)?);
    rows.int(number(row, 4)?);
    rows.bigint(number(row, 5)?);
    rows.text(bytes(row, 6)?);
    rows.bigint(from);
    rows.bigint(to);
    // Live delivery has no stretch.
    rows.bigints(everywhere(from.filter(|_| run > 0)).as_deref());
    rows.bigints(everywhere(to.filter(|_| run > 0)).as_deref());
    rows.text(bytes(row, 9)?);
    rows.bigint(number(row, 10)?);
    Ok(())
}

fn class(flags: Option<i64>) -> i64 {
    i64::from(is_ephemeral(flags.unwrap_or_default()))
}

pub(super) fn put_event(
    row: &Row<'_>,
    mapping: &Mapping,
    rows: &mut Rows,
    periods: &mut Periods,
) -> Result<()> {
    let instance = bytes(row, 5)?.unwrap_or_default();
    let (at, kind, flags) = (must(row, 1)?, must(row, 2)?, must(row, 3)?);
    let class = class(Some(flags));
    periods.add(class, at);
    let kind = mapping
        .kinds
        .get(&kind)
        .ok_or_else(|| Fault::malformed(format!("no event type has the number {kind}")))?;
    rows.int(Some(mapping.shard(instance)?.0.into()));
    rows.int(Some(class));
    rows.bigint(number(row, 0)?);
    rows.bigint(Some(at));
    rows.int(Some((*kind).into()));
    rows.int(Some(flags));
    rows.bytes(bytes(row, 4)?);
    rows.bytes(Some(instance));
    for column in 6..9 {
        rows.bytes(bytes(row, column)?);
    }
    Ok(())
}

/// A line of the log lies where its event does; without an event, by when it was written.
pub(super) fn put_delivery(
    row: &Row<'_>,
    mapping: &Mapping,
    rows: &mut Rows,
    periods: &mut Periods,
) -> Result<()> {
    let shard = mapping.shard_of_delivery(row, 20)?;
    let (at, class) = match number(row, 23)? {
        Some(received_at) => (received_at, class(number(row, 24)?)),
        None => (must(row, 5)?, 0),
    };
    periods.add(class, at);
    rows.bigint(number(row, 0)?);
    rows.int(number(row, 1)?);
    rows.int(Some(shard.0.into()));
    rows.bigint(number(row, 2)?);
    rows.int(Some(class));
    rows.bigint(Some(at));
    for column in 3..12 {
        rows.bigint(number(row, column)?);
    }
    for column in 12..17 {
        rows.int(number(row, column)?);
    }
    rows.bool(must(row, 17)? != 0);
    rows.text(bytes(row, 18)?);
    rows.bytes(bytes(row, 19)?);
    Ok(())
}

pub(super) fn put_attempt(
    row: &Row<'_>,
    mapping: &Mapping,
    rows: &mut Rows,
    periods: &mut Periods,
) -> Result<()> {
    let shard = mapping.shard_of_delivery(row, 11)?;
    let (at, class) = match (number(row, 14)?, number(row, 16)?) {
        (Some(received_at), _) => (received_at, class(number(row, 15)?)),
        (None, Some(written)) => (written, 0),
        (None, None) => (must(row, 4)?, 0),
    };
    periods.add(class, at);
    rows.bigint(number(row, 0)?);
    rows.int(number(row, 1)?);
    rows.int(Some(shard.0.into()));
    rows.bigint(number(row, 2)?);
    rows.int(number(row, 3)?);
    rows.int(Some(class));
    rows.bigint(Some(at));
    rows.bigint(number(row, 4)?);
    rows.bigint(number(row, 5)?);
    rows.int(number(row, 6)?);
    rows.text(bytes(row, 7)?);
    rows.bytes(bytes(row, 8)?);
    rows.text(bytes(row, 9)?);
    rows.text(bytes(row, 10)?);
    Ok(())
}
