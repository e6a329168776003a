//! Which deduplication keys are known.
//!
//! One big index of random hashes costs a page per key and commit. So the newest keys are written
//! in order of arrival and found through a small map in memory; every [`SEAL_AT`] keys (or once a
//! day) they are copied, sorted, into a table of their own, a few hundred with each commit, and
//! from then on asked only when the segment's filter says that it may hold the key. Whole segments
//! are dropped when the last of their keys has left the window.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    ops::Range,
};

use rusqlite::{Connection, OptionalExtension, params};
use zapbus_event::{EventId, Position, Timestamp};

use super::{
    fault::Result,
    queue::KeyHash,
    row::{position, sql},
};

/// Keys per segment.
const SEAL_AT: usize = 100_000;
/// A segment is sealed at this age, so that a quiet store drops keys too.
const SEAL_AFTER_MS: i64 = 24 * 3600 * 1000;
/// Memory for filters. Segments beyond it are asked directly.
const FILTER_BYTES: usize = 16 << 20;
const BITS_PER_KEY: usize = 10;
const PROBES: u32 = 7;

/// The start of a hash is as good as a hash of it.
#[derive(Default)]
struct Prefix(u64);

impl Hasher for Prefix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        // Only `u64`s are hashed here.
    }

    fn write_u64(&mut self, prefix: u64) {
        self.0 = prefix;
    }
}

type Rows = HashMap<u64, i64, BuildHasherDefault<Prefix>>;

fn prefix(hash: &KeyHash) -> u64 {
    let mut start = [0; 8];
    start.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(start)
}

/// A Bloom filter over the prefixes of hashes.
#[derive(Debug)]
struct Filter(Vec<u8>);

impl Filter {
    fn with_room_for(keys: usize) -> Self {
        Self(vec![0; (keys * BITS_PER_KEY).div_ceil(8).max(8)])
    }

    fn bits(&self, prefix: u64) -> impl Iterator<Item = usize> + use<> {
        let size = self.0.len() as u64 * 8;
        let (low, high) = (prefix & 0xffff_ffff, (prefix >> 32) | 1);
        (0..u64::from(PROBES)).map(move |probe| {
            (low.wrapping_mul(0x9e37_79b9).wrapping_add(probe.wrapping_mul(high)) % size) as usize
        })
    }

    fn insert(&mut self, prefix: u64) {
        for bit in self.bits(prefix) {
            self.0[bit / 8] |= 1 << (bit % 8);
        }
    }

    fn may_hold(&self, prefix: u64) -> bool {
        self.bits(prefix).all(|bit| self.0[bit / 8] & (1 << (bit % 8)) != 0)
    }
}

/// A sealed segment.
#[derive(Debug)]
struct Segment {
    number: i64,
    newest: Timestamp,
    filter: Option<Filter>,
    select: String,
}

impl Segment {
    fn new(number: i64, newest: Timestamp, filter: Option<Filter>) -> Self {
        let select = format!("SELECT id, seq FROM dedup_{number} WHERE hash = ?1");
        Self { number, newest, filter, select }
    }
}

/// A segment on its way from `dedup_recent` to its table.
struct Sealing {
    number: i64,
    newest: Timestamp,
    last_row: i64,
    index: Rows,
    /// By hash.
    sorted: Vec<(u64, i64)>,
    done: usize,
    filter: Filter,
}

/// See the module.
pub(crate) struct Dedup {
    recent: Rows,
    opened_at: Option<Timestamp>,
    next_row: i64,
    sealing: Option<Sealing>,
    /// Newest first.
    segments: Vec<Segment>,
    /// Rows of `dedup_recent` whose keys are in a segment.
    leftover: Range<i64>,
    next_number: i64,
}

/// What a transaction changed; becomes true with its commit.
#[derive(Default)]
pub(crate) struct Change {
    rows: Vec<(KeyHash, i64, EventId, Position)>,
    by_hash: HashMap<KeyHash, usize>,
    copied: usize,
    sealed: bool,
    cleared: i64,
    dropped: Vec<i64>,
    now: Timestamp,
}

/// Where a [`Change`] goes back to.
pub(crate) struct Mark {
    rows: usize,
    copied: usize,
    sealed: bool,
    cleared: i64,
    dropped: usize,
}

impl Change {
    /// For [`Change::back_to`].
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            rows: self.rows.len(),
            copied: self.copied,
            sealed: self.sealed,
            cleared: self.cleared,
            dropped: self.dropped.len(),
        }
    }

    /// Takes back what came after the mark.
    pub(crate) fn back_to(&mut self, mark: &Mark) {
        for (hash, ..) in self.rows.drain(mark.rows..) {
            self.by_hash.remove(&hash);
        }
        self.copied = mark.copied;
        self.sealed = mark.sealed;
        self.cleared = mark.cleared;
        self.dropped.truncate(mark.dropped);
    }
}

impl Dedup {
    pub(crate) fn load(conn: &Connection) -> Result<Self> {
        let mut segments = Vec::new();
        let mut room = FILTER_BYTES;
        let mut last_row = 0;
        let mut known = std::collections::HashSet::new();
        let mut statement = conn.prepare(
            "SELECT number, newest, last_row, length(filter) FROM dedup_segment ORDER BY number DESC",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (number, newest): (i64, i64) = (row.get(0)?, row.get(1)?);
            last_row = last_row.max(row.get(2)?);
            let length = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(usize::MAX);
            let filter = if length <= room && length > 0 {
                room -= length;
                let filter = conn.query_row(
                    "SELECT filter FROM dedup_segment WHERE number = ?1",
                    [number],
                    |row| row.get(0),
                )?;
                Some(Filter(filter))
            } else {
                None
            };
            known.insert(format!("dedup_{number}"));
            segments.push(Segment::new(number, Timestamp::from_millis(newest), filter));
        }
        drop(rows);
        drop(statement);

        // A segment that was being filled when the process ended is filled again.
        let mut names = conn.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'dedup_[0-9]*'",
        )?;
        let names: Vec<String> =
            names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for name in names.iter().filter(|name| !known.contains(*name)) {
            conn.execute_batch(&format!("DROP TABLE {name}"))?;
        }

        let mut recent = Rows::default();
        let mut opened_at = None;
        let mut next_row = last_row + 1;
        let mut statement =
            conn.prepare("SELECT n, hash, id FROM dedup_recent WHERE n > ?1 ORDER BY n")?;
        let mut rows = statement.query([last_row])?;
        while let Some(row) = rows.next()? {
            let n: i64 = row.get(0)?;
            recent.insert(prefix(&row.get(1)?), n);
            opened_at.get_or_insert(EventId::from_bytes(row.get(2)?).timestamp());
            next_row = n + 1;
        }
        drop(rows);
        let first: Option<i64> =
            conn.query_row("SELECT min(n) FROM dedup_recent WHERE n <= ?1", [last_row], |row| {
                row.get(0)
            })?;
        Ok(Self {
            recent,
            opened_at,
            next_row,
            sealing: None,
            next_number: segments.first().map_or(1, |segment| segment.number + 1),
            segments,
            leftover: first.unwrap_or(last_row + 1)..last_row + 1,
        })
    }

    /// The first event with this key, if there is one within the window.
    pub(crate) fn find(
        &self,
        conn: &Connection,
        change: &Change,
        hash: &KeyHash,
    ) -> Result<Option<(EventId, Position)>> {
        if let Some(index) = change.by_hash.get(hash) {
            let (_, _, id, seq) = change.rows[*index];
            return Ok(Some((id, seq)));
        }
        let prefix = prefix(hash);
        let row = self
            .recent
            .get(&prefix)
            .or_else(|| self.sealing.as_ref().and_then(|sealing| sealing.index.get(&prefix)));
        if let Some(n) = row {
            let found = conn
                .prepare_cached("SELECT id, seq FROM dedup_recent WHERE n = ?1 AND hash = ?2")?
                .query_row(params![n, hash], entry)
                .optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        for segment in &self.segments {
            if segment.filter.as_ref().is_some_and(|filter| !filter.may_hold(prefix)) {
                continue;
            }
            // Its table went earlier in this very transaction.
            if change.dropped.contains(&segment.number) {
                continue;
            }
            let found =
                conn.prepare_cached(&segment.select)?.query_row([hash], entry).optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Writes a key that [`Dedup::find`] did not find.
    pub(crate) fn insert(
        &self,
        conn: &Connection,
        change: &mut Change,
        hash: KeyHash,
        id: EventId,
        seq: Position,
    ) -> Result<()> {
        let n = self.next_row + change.rows.len() as i64;
        conn.prepare_cached("INSERT INTO dedup_recent (n, hash, id, seq) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![n, hash, id.to_bytes(), sql(seq)])?;
        change.by_hash.insert(hash, change.rows.len());
        change.rows.push((hash, n, id, seq));
        Ok(())
    }

    /// Does up to `rows` rows of what there is to do in the background. True when there is more.
    pub(crate) fn tend(
        &self,
        conn: &Connection,
        change: &mut Change,
        now: Timestamp,
        rows: usize,
    ) -> Result<bool> {
        change.now = now;
        if let Some(sealing) = &self.sealing {
            if sealing.done == 0 && change.copied == 0 {
                conn.execute_batch(&format!(
                    "CREATE TABLE dedup_{} (hash BLOB PRIMARY KEY NOT NULL, id BLOB NOT NULL, \
                     seq INTEGER NOT NULL) STRICT, WITHOUT ROWID",
                    sealing.number
                ))?;
            }
            let start = sealing.done + change.copied;
            let end = (start + rows).min(sealing.sorted.len());
            let mut copy = conn.prepare_cached(&format!(
                "INSERT OR IGNORE INTO dedup_{} SELECT hash, id, seq FROM dedup_recent WHERE n = ?1",
                sealing.number
            ))?;
            for (_, n) in &sealing.sorted[start..end] {
                copy.execute([n])?;
            }
            change.copied += end - start;
            if end == sealing.sorted.len() && !change.sealed {
                conn.execute(
                    "INSERT INTO dedup_segment (number, newest, last_row, filter) \
                     VALUES (?1, ?2, ?3, ?4)",
                    params![
                        sealing.number,
                        sealing.newest.as_millis(),
                        sealing.last_row,
                        sealing.filter.0
                    ],
                )?;
                change.sealed = true;
            }
            return Ok(true);
        }
        if !self.leftover.is_empty() && change.cleared == 0 {
            let upto = (self.leftover.start + rows as i64).min(self.leftover.end);
            conn.prepare_cached("DELETE FROM dedup_recent WHERE n >= ?1 AND n < ?2")?
                .execute([self.leftover.start, upto])?;
            change.cleared = upto;
            return Ok(true);
        }
        Ok(false)
    }

    /// Drops one segment whose last key came before `before`. True when there is more.
    pub(crate) fn expire(
        &self,
        conn: &Connection,
        change: &mut Change,
        before: Timestamp,
    ) -> Result<bool> {
        let mut old =
            self.segments.iter().rev().filter(|segment| {
                segment.newest < before && !change.dropped.contains(&segment.number)
            });
        let Some(oldest) = old.next() else {
            return Ok(false);
        };
        let more = old.next().is_some();
        conn.execute_batch(&format!("DROP TABLE dedup_{}", oldest.number))?;
        conn.execute("DELETE FROM dedup_segment WHERE number = ?1", [oldest.number])?;
        change.dropped.push(oldest.number);
        Ok(more)
    }

    /// The transaction is committed.
    pub(crate) fn apply(&mut self, change: Change) {
        for (hash, n, id, _) in change.rows {
            self.recent.insert(prefix(&hash), n);
            self.opened_at.get_or_insert(id.timestamp());
            self.next_row = n + 1;
        }
        if change.cleared > 0 {
            self.leftover.start = change.cleared;
        }
        if !change.dropped.is_empty() {
            self.segments.retain(|segment| !change.dropped.contains(&segment.number));
        }
        if let Some(sealing) = &mut self.sealing {
            sealing.done += change.copied;
        }
        if change.sealed
            && let Some(sealing) = self.sealing.take()
        {
            self.leftover = self.leftover.start.min(sealing.last_row + 1)..sealing.last_row + 1;
            let filter = Some(sealing.filter);
            self.segments.insert(0, Segment::new(sealing.number, sealing.newest, filter));
            self.bound_filters();
        }
        let aged = self
            .opened_at
            .is_some_and(|opened| change.now.as_millis() - opened.as_millis() > SEAL_AFTER_MS);
        if self.sealing.is_none() && (self.recent.len() >= SEAL_AT || aged) {
            self.seal(change.now);
        }
    }

    fn seal(&mut self, now: Timestamp) {
        let index = std::mem::take(&mut self.recent);
        let mut sorted: Vec<(u64, i64)> = index.iter().map(|(prefix, n)| (*prefix, *n)).collect();
        sorted.sort_unstable();
        let mut filter = Filter::with_room_for(sorted.len());
        for (prefix, _) in &sorted {
            filter.insert(*prefix);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.opened_at = None;
        self.sealing = Some(Sealing {
            number,
            newest: now,
            last_row: self.next_row - 1,
            index,
            sorted,
            done: 0,
            filter,
        });
    }

    fn bound_filters(&mut self) {
        let mut room = FILTER_BYTES;
        for segment in &mut self.segments {
            match &segment.filter {
                Some(filter) if filter.0.len() <= room => room -= filter.0.len(),
                _ => segment.filter = None,
            }
        }
    }

    /// Bytes of memory in use.
    pub(crate) fn memory(&self) -> usize {
        let entry = size_of::<(u64, i64)>() + 1;
        let sealing = self
            .sealing
            .as_ref()
            .map_or(0, |sealing| sealing.index.capacity() * entry + sealing.sorted.len() * 16);
        let filters: usize = self
            .segments
            .iter()
            .filter_map(|segment| segment.filter.as_ref())
            .map(|f| f.0.len())
            .sum();
        self.recent.capacity() * entry + sealing + filters
    }
}

fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<(EventId, Position)> {
    Ok((EventId::from_bytes(row.get(0)?), position(row.get(1)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> KeyHash {
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        hash[8..].copy_from_slice(&n.to_be_bytes());
        hash
    }

    #[test]
    fn a_filter_knows_its_keys_and_few_others() {
        let mut filter = Filter::with_room_for(10_000);
        (0..10_000).for_each(|n| filter.insert(prefix(&hash(n))));
        assert!((0..10_000).all(|n| filter.may_hold(prefix(&hash(n)))));
        let wrong = (10_000..110_000).filter(|n| filter.may_hold(prefix(&hash(*n)))).count();
        assert!(wrong < 2_500, "{wrong} of 100,000");
    }

    #[test]
    fn a_key_is_found_wherever_it_is_on_its_way() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("../../migrations/sqlite/0001_initial.sql")).unwrap();
        let mut dedup = Dedup::load(&conn).unwrap();
        let now = Timestamp::from_millis(1_000);
        let keys = SEAL_AT as u64 + 50;
        conn.execute_batch("BEGIN").unwrap();
        for n in 0..keys {
            let mut change = Change { now, ..Change::default() };
            let id = EventId::new(now, u128::from(n));
            dedup.insert(&conn, &mut change, hash(n), id, Position(n + 1)).unwrap();
            dedup.apply(change);
        }
        assert!(dedup.sealing.is_some());
        let mut steps = 0;
        loop {
            for n in [0, 7, SEAL_AT as u64 - 1, keys - 1] {
                let found = dedup.find(&conn, &Change::default(), &hash(n)).unwrap();
                assert_eq!(found.map(|(_, seq)| seq), Some(Position(n + 1)), "{n} at step {steps}");
            }
            assert!(dedup.find(&conn, &Change::default(), &hash(keys)).unwrap().is_none());
            let mut change = Change::default();
            if !dedup.tend(&conn, &mut change, now, 30_000).unwrap() {
                break;
            }
            dedup.apply(change);
            steps += 1;
            if steps % 3 == 0 {
                // As after a crash: what was not finished is done again.
                dedup = Dedup::load(&conn).unwrap();
                dedup.apply(Change { now, ..Change::default() });
            }
            assert!(steps < 100);
            if steps == 6 {
                // Let it finish this time.
                while {
                    let mut change = Change::default();
                    let more = dedup.tend(&conn, &mut change, now, 30_000).unwrap();
                    dedup.apply(change);
                    more
                } {}
            }
        }
        assert_eq!(dedup.segments.len(), 1);
        let left: i64 =
            conn.query_row("SELECT count(*) FROM dedup_recent", [], |row| row.get(0)).unwrap();
        assert!(left <= 50, "{left} rows are left of those that moved");
        let mut change = Change::default();
        dedup.expire(&conn, &mut change, now + std::time::Duration::from_millis(1)).unwrap();
        dedup.apply(change);
        assert!(dedup.find(&conn, &Change::default(), &hash(7)).unwrap().is_none());
    }
}
