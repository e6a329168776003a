//! Reading the journal.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};
use zapbus_event::{AccountId, Event, EventId, InstanceId, Position, Raw, Timestamp};

use super::{
    View,
    fault::Result,
    generation,
    row::{self, EVENT, Head, position, sql},
};
use crate::{
    blob::{self, Sha},
    journal::{Limit, Page, Reader},
    references::References,
};

/// How many rows one call looks at.
const SCAN: usize = 5_000;
/// An account with more instances than this is read by looking at everybody's events.
const MERGED_INSTANCES: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Back,
}

/// Collects a page within its limits.
struct Collector {
    limit: Limit,
    bytes: usize,
    events: Vec<Arc<Event>>,
}

impl Collector {
    fn new(limit: Limit) -> Self {
        Self { limit, bytes: 0, events: Vec::new() }
    }

    /// Takes the event, or says that the page is full.
    fn take(&mut self, event: Arc<Event>) -> bool {
        self.bytes += event.weight();
        let full = self.events.len() >= self.limit.events || self.bytes > self.limit.bytes;
        if full && !self.events.is_empty() {
            return false;
        }
        self.events.push(event);
        true
    }
}

/// What comes after a position, up to the head as others know it. `upto` is exact: the database is
/// read in one snapshot.
pub(crate) fn after(view: View<'_>, of: Reader, after: Position, limit: Limit) -> Result<Page> {
    // Read before the snapshot is: at least so much of the journal is in it. What was committed
    // since is nobody's yet: who follows the head would be told of it while the tail, and whoever
    // reads there, still ends before it, and rests.
    let head = view.shared.head();
    let mut page = Collector::new(limit);
    let stopped_at = collect(view, of, after, Direction::Forward, &mut page)?;
    page.events.retain(|event| event.seq <= head);
    let last = page.events.last().map_or(after, |event| event.seq);
    let (upto, at_head) = match stopped_at {
        Some(stopped) if stopped < head => (stopped.max(last), false),
        Some(_) | None => (head, true),
    };
    Ok(Page { events: page.events, upto: upto.max(after), at_head })
}

/// What comes before a position, newest first.
pub(crate) fn before(view: View<'_>, of: Reader, before: Position, limit: Limit) -> Result<Page> {
    let mut page = Collector::new(limit);
    let stopped_at = collect(view, of, before, Direction::Back, &mut page)?;
    let last = page.events.last().map_or(before, |event| event.seq);
    Ok(Page {
        events: page.events,
        upto: stopped_at.map_or(Position::START, |stopped| stopped.min(last)),
        at_head: stopped_at.is_none(),
    })
}

/// Collects the reader's events. Gives the last position that was looked at, if there may be more.
fn collect(
    view: View<'_>,
    of: Reader,
    from: Position,
    direction: Direction,
    page: &mut Collector,
) -> Result<Option<Position>> {
    match of {
        Reader::Instance(instance) => of_instances(view, &[instance], from, direction, page),
        Reader::All => scan(view, None, from, direction, page),
        Reader::Account(account) => {
            let instances: Vec<InstanceId> =
                view.shared.directory().of_account(account).take(MERGED_INSTANCES + 1).collect();
            if instances.len() <= MERGED_INSTANCES {
                of_instances(view, &instances, from, direction, page)
            } else {
                scan(view, Some(account), from, direction, page)
            }
        }
    }
}

/// Through the index of each instance; pages of several are merged.
fn of_instances(
    view: View<'_>,
    instances: &[InstanceId],
    from: Position,
    direction: Direction,
    page: &mut Collector,
) -> Result<Option<Position>> {
    let (compare, order) = match direction {
        Direction::Forward => (">", "ASC"),
        Direction::Back => ("<", "DESC"),
    };
    let snapshot = view.conn.unchecked_transaction()?;
    let mut positions = Vec::new();
    let wanted = page.limit.events.clamp(1, SCAN);
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT seq FROM journal WHERE instance = ?1 AND seq {compare} ?2 \
         ORDER BY seq {order} LIMIT ?3"
    ))?;
    let mut more = false;
    for instance in instances {
        let mut rows =
            statement.query(params![instance.to_bytes(), sql(from), row::limit(wanted + 1)])?;
        let mut found = 0;
        while let Some(row) = rows.next()? {
            positions.push(position(row.get(0)?));
            found += 1;
        }
        more |= found > wanted;
    }
    match direction {
        Direction::Forward => positions.sort_unstable(),
        Direction::Back => positions.sort_unstable_by(|a, b| b.cmp(a)),
    }
    more |= positions.len() > wanted;
    positions.truncate(wanted);
    let mut stopped = more.then(|| positions.last().copied().unwrap_or(from));
    for seq in positions {
        // It cannot have been pruned: this is one snapshot.
        let Some(event) = event_at(view, seq)? else {
            continue;
        };
        let before = page.events.last().map_or(from, |event| event.seq);
        if !page.take(event) {
            stopped = Some(before);
            break;
        }
    }
    snapshot.finish()?;
    Ok(stopped)
}

/// Through everybody's events, a bounded number of them.
fn scan(
    view: View<'_>,
    account: Option<AccountId>,
    from: Position,
    direction: Direction,
    page: &mut Collector,
) -> Result<Option<Position>> {
    let (compare, order) = match direction {
        Direction::Forward => (">", "ASC"),
        Direction::Back => ("<", "DESC"),
    };
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {EVENT} FROM journal j WHERE j.seq {compare} ?1 ORDER BY j.seq {order} LIMIT ?2"
    ))?;
    let mut rows = statement.query(params![sql(from), row::limit(SCAN + 1)])?;
    let mut last = from;
    let mut looked = 0;
    while let Some(row) = rows.next()? {
        if looked == SCAN {
            return Ok(Some(last));
        }
        looked += 1;
        let wanted = match account {
            None => true,
            Some(account) => {
                let instance = row::instance_id(row, 2)?;
                view.shared.directory().account_of(instance) == Some(account)
            }
        };
        if wanted && !page.take(row::event(row, 0, &view.shared.kinds)?) {
            return Ok(Some(last));
        }
        last = position(row.get(0)?);
    }
    Ok(None)
}

/// The event at a position.
pub(crate) fn event_at(view: View<'_>, seq: Position) -> Result<Option<Arc<Event>>> {
    let mut statement =
        view.conn.prepare_cached(&format!("SELECT {EVENT} FROM journal j WHERE j.seq = ?1"))?;
    let mut rows = statement.query([sql(seq)])?;
    match rows.next()? {
        Some(row) => Ok(Some(row::event(row, 0, &view.shared.kinds)?)),
        None => Ok(None),
    }
}

/// The event with this id: by the time in it, then among those of that millisecond.
pub(crate) fn event(view: View<'_>, id: EventId) -> Result<Option<Arc<Event>>> {
    match seq_of(view, id)? {
        Some(seq) => event_at(view, seq),
        None => Ok(None),
    }
}

/// The position of a stored event.
pub(crate) fn seq_of(view: View<'_>, id: EventId) -> Result<Option<Position>> {
    let at = id.timestamp();
    let before = position_at(view, at)?;
    let mut statement = view
        .conn
        .prepare_cached("SELECT seq, received_at, id FROM journal WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = statement.query([sql(before)])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? != at.as_millis() {
            return Ok(None);
        }
        if row.get::<_, [u8; 16]>(2)? == id.to_bytes() {
            return Ok(Some(position(row.get(0)?)));
        }
    }
    Ok(None)
}

/// The last position before the first event that was received at or after `time`: a search on the
/// primary key, since times never decrease along it.
pub(crate) fn position_at(view: View<'_>, time: Timestamp) -> Result<Position> {
    let edge = |order: &str| -> Result<Option<i64>> {
        Ok(view
            .conn
            .prepare_cached(&format!("SELECT seq FROM journal ORDER BY seq {order} LIMIT 1"))?
            .query_row([], |row| row.get(0))
            .optional()?)
    };
    let (Some(mut low), Some(last)) = (edge("ASC")?, edge("DESC")?) else {
        return Ok(view.shared.head());
    };
    let mut probe = view.conn.prepare_cached(
        "SELECT seq, received_at FROM journal WHERE seq >= ?1 ORDER BY seq LIMIT 1",
    )?;
    let mut at_or_after = |seq: i64| -> Result<Option<(i64, bool)>> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)? >= time.as_millis()));
        Ok(probe.query_row([seq], read).optional()?)
    };
    // Invariant: what is below `low` was received before; what is at or above `high`, after.
    let mut high = last + 1;
    while low < high {
        let middle = low + (high - low) / 2;
        match at_or_after(middle)? {
            Some((_, true)) | None => high = middle,
            Some((seq, false)) => low = seq + 1,
        }
    }
    if low > last {
        return Ok(view.shared.head().max(position(last)));
    }
    Ok(position(low - 1))
}

/// Where a reader goes on that has seen `id`: there, or, when it is no longer stored, before the
/// first event of its millisecond. It may see some again and misses none.
pub(crate) fn resolve_after(view: View<'_>, id: EventId) -> Result<Position> {
    match seq_of(view, id)? {
        Some(seq) => Ok(seq),
        None => match generation::lost_at(view, id.timestamp())? {
            Some(lost) => Ok(lost),
            None => position_at(view, id.timestamp()),
        },
    }
}

/// Whether a reader that has come to `after` has missed something of what it reads.
pub(crate) fn gap_after(view: View<'_>, of: Reader, after: Position) -> Result<bool> {
    let begins = after == Position::START;
    Ok(!begins && (after < pruned_upto(view, of)? || generation::is_lost(view, after)?))
}

/// The highest position of an event with full retention that was pruned.
pub(crate) fn pruned_upto(view: View<'_>, of: Reader) -> Result<Position> {
    let found: Option<i64> = match of {
        Reader::Instance(instance) => view
            .conn
            .prepare_cached("SELECT pruned_upto FROM instance_state WHERE instance = ?1")?
            .query_row([instance.to_bytes()], |row| row.get(0))
            .optional()?,
        Reader::Account(_) | Reader::All => view
            .conn
            .prepare_cached("SELECT value FROM meta WHERE name = 'pruned_upto'")?
            .query_row([], |row| row.get(0))
            .optional()?,
    };
    Ok(position(found.unwrap_or(0)))
}

/// What an event refers to; `None` when it is gone.
pub(crate) fn references(view: View<'_>, seq: Position, id: EventId) -> Result<Option<References>> {
    let head: Option<Vec<u8>> = view
        .conn
        .prepare_cached("SELECT head FROM journal WHERE seq = ?1 AND id = ?2")?
        .query_row(params![sql(seq), id.to_bytes()], |row| row.get(0))
        .optional()?;
    let Some(head) = head else { return Ok(None) };
    let refs = Head::parse(&head)?.blobs;
    let mut objects = HashMap::new();
    for found in &refs {
        if let Some(object) = object(view, &found.sha)? {
            objects.insert(found.sha, object);
        }
    }
    Ok(Some(References { refs, objects }))
}

/// What a file is called that does not lie in the folder.
pub(crate) fn object(view: View<'_>, sha: &Sha) -> Result<Option<String>> {
    let found: Option<Option<String>> = view
        .conn
        .prepare_cached("SELECT object FROM blob WHERE sha256 = ?1")?
        .query_row([sha], |row| row.get(0))
        .optional()?;
    Ok(found.flatten())
}

/// Whether there is nothing to put back.
pub(crate) fn is_whole(event: &Event) -> bool {
    let raw_is_whole = match &event.raw {
        Raw::Data => true,
        Raw::Bytes(raw) => !blob::may_refer(raw),
    };
    raw_is_whole && !blob::may_refer(&event.data)
}

/// A whole upstream body.
pub(crate) fn body(view: View<'_>, sha256: [u8; 32]) -> Result<Option<Bytes>> {
    let body: Option<Vec<u8>> = view
        .conn
        .prepare_cached("SELECT body FROM body WHERE sha256 = ?1")?
        .query_row([sha256], |row| row.get(0))
        .optional()?;
    Ok(body.map(Bytes::from))
}

/// The other addresses of a person, as far as they were seen together.
pub(crate) fn aliases(view: View<'_>, instance: InstanceId, address: &str) -> Result<Vec<String>> {
    let mut statement = view.conn.prepare_cached(
        "SELECT phone FROM address_alias WHERE instance = ?1 AND lid = ?2 \
         UNION SELECT lid FROM address_alias WHERE instance = ?1 AND phone = ?2",
    )?;
    let found = statement.query_map(params![instance.to_bytes(), address], |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}
