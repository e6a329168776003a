//! Moving lanes past events that go although they are owed. Never silently: each lane that loses
//! something gets one `expired` row for what it had not read yet (each row that was to be sent
//! becomes one by itself) and one `destination.gap` event, in the commit that moves it.
//!
//! How much a lane loses is counted exactly as far as [`COUNTED`] events after the first. Beyond, the
//! number is an estimate: as many for each position as there were so far. That there is a loss at
//! all, and where it begins, is never estimated: a lane whose filter wants none of it loses nothing.

use rusqlite::{OptionalExtension, params};
use zapbus_event::{
    AccountId, Data, DestinationId, Draft, Filter, InstanceId, Position, data::DestinationGap,
};

use super::Left;
use crate::{
    delivery::{Row, State},
    journal::NewEvent,
    registry::RESERVED_INSTANCE,
    retention::Pruned,
    sqlite::{
        Tx,
        destinations::filter_of,
        fault::Result,
        row::{self, count, limit, position, sql},
    },
};

/// Lanes taken at a time; most need nothing but a look at their cursor.
const LANES: usize = 100;
/// Events of a lane that are looked at one by one after the first that it loses.
const COUNTED: u64 = 2_000;

/// The lanes, one after the other.
#[derive(Clone, Default)]
pub(super) struct Lanes {
    /// The last one that is done.
    after: (i64, i64),
    /// What is known of the next one, when that took more than one turn.
    look: Option<Look>,
}

/// How far it is known what a lane loses.
#[derive(Clone, Copy)]
struct Look {
    /// Of this lane.
    lane: (i64, i64),
    /// The last event that was looked at.
    at: i64,
    /// Events it wants that have no row: the first, how many, out of how many since the first.
    first: Option<i64>,
    matched: u64,
    looked: u64,
    /// How many it wanted, and of how many positions, before it got on in the middle of a look.
    before: Option<(u64, u64)>,
    /// All events have been looked at, or as many as are counted.
    counted: bool,
    /// The last of its rows that was looked at, until all are.
    rows_at: Option<i64>,
    /// Rows to be sent.
    held: u64,
    first_held: Option<i64>,
    /// Where it stood when its rows were looked at.
    passed: i64,
}

impl Look {
    fn at(lane: &Lane) -> Self {
        Self {
            lane: (lane.number, i64::from(lane.run)),
            at: lane.cursor,
            first: None,
            matched: 0,
            looked: 0,
            before: None,
            counted: false,
            rows_at: Some(0),
            held: 0,
            first_held: None,
            passed: lane.cursor,
        }
    }

    /// How many it wanted, and of how many positions.
    fn share(&self) -> (u64, u64) {
        let positions = self.first.map_or(0, |first| count(self.at - first) + 1);
        self.before.unwrap_or((self.matched, positions))
    }

    /// How many events without a row are lost.
    fn lost(&self, upto: i64) -> u64 {
        let (matched, positions) = self.share();
        let unknown = u128::from(count(upto - self.at));
        let more = u128::from(matched) * unknown / u128::from(positions.max(1));
        self.matched.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
    }

    fn hold(&mut self, seq: i64) {
        self.held += 1;
        self.first_held = Some(self.first_held.map_or(seq, |first| first.min(seq)));
    }
}

struct Lane {
    number: i64,
    run: u32,
    id: DestinationId,
    account: AccountId,
    instance: Option<InstanceId>,
    label: String,
    filter: Filter,
    cursor: i64,
    /// The last position it is moved to. At its cursor or before, it is not moved.
    upto: i64,
}

impl Lanes {
    /// Moves lanes. True when all are.
    pub(super) fn move_on(
        &mut self,
        tx: &mut Tx<'_>,
        to: Position,
        reason: &str,
        left: &mut Left,
        pruned: &mut Pruned,
    ) -> Result<bool> {
        loop {
            let keys = self.next_keys(tx, left.rows.clamp(1, LANES))?;
            if keys.is_empty() {
                return Ok(true);
            }
            for key in keys {
                if let Some(lane) = lane(tx, key, sql(to))? {
                    let known = self.look.take().filter(|look| look.lane == key);
                    let mut look = known.unwrap_or_else(|| Look::at(&lane));
                    if !look_on(tx, &lane, &mut look, sql(to), left)? {
                        self.look = Some(look);
                        return Ok(false);
                    }
                    if move_lane(tx, &lane, &look, to, reason)? {
                        pruned.gaps += 1;
                    }
                }
                self.after = key;
                left.spend(1);
                if left.is_used_up() {
                    return Ok(false);
                }
            }
        }
    }

    fn next_keys(&self, tx: &Tx<'_>, wanted: usize) -> Result<Vec<(i64, i64)>> {
        let mut statement = tx.conn.prepare_cached(
            "SELECT destination, run FROM lane WHERE (destination, run) > (?1, ?2) \
             ORDER BY destination, run LIMIT ?3",
        )?;
        let keys = statement
            .query_map(params![self.after.0, self.after.1, limit(wanted)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        Ok(keys)
    }
}

/// A lane that may lose something.
fn lane(tx: &Tx<'_>, (number, run): (i64, i64), to: i64) -> Result<Option<Lane>> {
    let mut statement = tx.conn.prepare_cached(
        "SELECT l.run, d.id, d.account, d.instance, d.label, ifnull(l.filter, d.filter), \
         l.cursor, l.to_seq, l.state FROM lane l JOIN destination d ON d.n = l.destination \
         WHERE l.destination = ?1 AND l.run = ?2 AND d.deleted_at IS NULL \
         AND l.state != 'cancelled' AND (l.cursor < ?3 OR EXISTS (SELECT 1 FROM delivery \
         WHERE destination = ?1 AND run = ?2 AND seq <= ?3))",
    )?;
    let mut rows = statement.query([number, run, to])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let end: Option<i64> = row.get(7)?;
    let over = row.get_ref(8)?.as_str().is_ok_and(|state| state == "done");
    let cursor = row.get(6)?;
    Ok(Some(Lane {
        number,
        run: row.get(0)?,
        id: DestinationId::from_bytes(row.get(1)?),
        account: AccountId::from_bytes(row.get(2)?),
        instance: row::bytes(row, 3)?.try_into().ok().map(InstanceId::from_bytes),
        label: row.get(4)?,
        // One that cannot be read wants everything: rather a gap too many than one too few.
        filter: filter_of(&row.get::<_, String>(5)?).unwrap_or_default(),
        cursor,
        // A replay reads no further than its end.
        upto: if over { cursor } else { end.map_or(to, |end| end.min(to)) },
    }))
}

/// Goes on looking at what a lane loses. True when that is known.
///
/// A turn may end in the middle, and the lane may get on before the next. So events come first and
/// rows after: what is sent in between and fails is found as a row.
fn look_on(tx: &Tx<'_>, lane: &Lane, look: &mut Look, to: i64, left: &mut Left) -> Result<bool> {
    loop {
        if !look.counted && !look_at_events(tx, lane, look, left)? {
            return Ok(false);
        }
        if !look_at_rows(tx, lane, look, to, left)? {
            return Ok(false);
        }
        let Some(first) = look.first else {
            return Ok(true);
        };
        if first > lane.cursor && !has_row(tx, lane, first)? {
            return Ok(true);
        }
        // It got on beyond the first: what is left begins at another, and is an estimate.
        let (at, before) = (lane.cursor.max(first), Some(look.share()));
        *look = Look { at, before, first: None, matched: 0, counted: false, ..*look };
    }
}

fn look_at_events(tx: &Tx<'_>, lane: &Lane, look: &mut Look, left: &mut Left) -> Result<bool> {
    if look.first.is_none() && look.at < lane.cursor {
        look.at = lane.cursor;
    }
    let narrow = match lane.instance {
        Some(_) => "instance = ?3 AND",
        // Of all instances: one walk through the journal is cheaper than one for each of them.
        None => "?3 IS NOT NULL AND",
    };
    let mut statement = tx.conn.prepare_cached(&format!(
        "SELECT seq, instance, kind, head, flags FROM journal \
         WHERE {narrow} seq > ?1 AND seq <= ?2 ORDER BY seq"
    ))?;
    let instance = lane.instance.map_or_else(Vec::new, |instance| instance.to_bytes().to_vec());
    let mut rows = statement.query(params![look.at, lane.upto, instance])?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        if wants(tx, lane, row)? && !has_row(tx, lane, seq)? {
            look.matched += 1;
            look.first.get_or_insert(seq);
        }
        look.at = seq;
        left.spend(1);
        if look.first.is_some() {
            look.looked += 1;
            if look.looked >= COUNTED || look.before.is_some() {
                look.counted = true;
                return Ok(true);
            }
        }
        if left.is_used_up() {
            return Ok(false);
        }
    }
    look.at = look.at.max(lane.upto);
    look.counted = true;
    Ok(true)
}

fn wants(tx: &Tx<'_>, lane: &Lane, row: &rusqlite::Row<'_>) -> Result<bool> {
    if row::is_ephemeral(row.get(4)?) {
        return Ok(false);
    }
    if lane.instance.is_none() {
        let account = tx.shared.directory().account_of(row::instance_id(row, 1)?);
        if account != Some(lane.account) {
            return Ok(false);
        }
    }
    let (kind, facet) = row::kind_and_facet(row, 2, &tx.shared.kinds)?;
    Ok(lane.filter.matches(kind, facet.as_deref()))
}

fn has_row(tx: &Tx<'_>, lane: &Lane, seq: i64) -> Result<bool> {
    Ok(tx
        .conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM delivery \
             WHERE destination = ?1 AND run = ?2 AND seq = ?3)",
        )?
        .query_row(params![lane.number, lane.run, seq], |row| row.get(0))?)
}

fn look_at_rows(
    tx: &Tx<'_>,
    lane: &Lane,
    look: &mut Look,
    to: i64,
    left: &mut Left,
) -> Result<bool> {
    let mut statement = tx.conn.prepare_cached(
        "SELECT seq, status IN (1, 2) FROM delivery \
         WHERE destination = ?1 AND run = ?2 AND seq > ?3 AND seq <= ?4 ORDER BY seq",
    )?;
    if let Some(mut at) = look.rows_at {
        let mut rows = statement.query(params![lane.number, lane.run, at, to])?;
        while let Some(row) = rows.next()? {
            at = row.get(0)?;
            if row.get(1)? {
                look.hold(at);
            }
            look.rows_at = Some(at);
            left.spend(1);
            if left.is_used_up() {
                return Ok(false);
            }
        }
        look.rows_at = None;
    }
    // What it has passed since then may be held in rows now: at most a few windows.
    if look.passed < lane.cursor {
        let upto = lane.cursor.min(to);
        let mut rows = statement.query(params![lane.number, lane.run, look.passed, upto])?;
        while let Some(row) = rows.next()? {
            if row.get(1)? {
                look.hold(row.get(0)?);
            }
        }
        look.passed = lane.cursor;
    }
    Ok(true)
}

/// Moves one lane. True when it lost something.
fn move_lane(
    tx: &mut Tx<'_>,
    lane: &Lane,
    look: &Look,
    to: Position,
    reason: &str,
) -> Result<bool> {
    tx.conn
        .prepare_cached(
            "UPDATE lane SET cursor = ?3 WHERE destination = ?1 AND run = ?2 AND cursor < ?3",
        )?
        .execute(params![lane.number, lane.run, lane.upto])?;
    let unread = look.first.map(|first| (position(first), look.lost(lane.upto)));
    if let Some((first, count)) = unread {
        let state = State::Expired { to: position(lane.upto), count };
        let row = Row {
            seq: first,
            state,
            attempts: 0,
            parts_done: 0,
            key: 0,
            manual: false,
            attempt: None,
        };
        tx.write_row(lane.number, lane.run, &row)?;
    }
    let held = look.first_held.map(|first| (position(first), look.held));
    let (from, count) = match (unread, held) {
        (None, None) => return Ok(false),
        (Some(lost), None) | (None, Some(lost)) => lost,
        (Some(unread), Some(held)) => (unread.0.min(held.0), unread.1.saturating_add(held.1)),
    };
    let instance = match lane.instance {
        Some(instance) => Some(instance),
        None => reserved_instance(tx, lane.account)?,
    };
    if let Some(instance) = instance.filter(|instance| tx.shared.directory().takes(*instance)) {
        let data = Data::DestinationGap(DestinationGap {
            destination: lane.id,
            label: lane.label.clone(),
            reason: Some(reason.to_owned()),
            from,
            to: unread.map_or(to, |_| position(lane.upto)),
            count,
        });
        tx.append_own(NewEvent { instance, draft: Draft::of_gateway(&data, tx.now) })?;
    }
    Ok(true)
}

fn reserved_instance(tx: &Tx<'_>, account: AccountId) -> Result<Option<InstanceId>> {
    let found: Option<[u8; 16]> = tx
        .conn
        .prepare_cached("SELECT id FROM instance WHERE account = ?1 AND name = ?2")?
        .query_row(params![account.to_bytes(), RESERVED_INSTANCE], |row| row.get(0))
        .optional()?;
    Ok(found.map(InstanceId::from_bytes))
}
