//! Moving lanes past events that go although they are owed. Never silently: each lane that loses
//! something gets one `expired` row for what it had not read yet (each row that was to be sent
//! becomes one by itself) and one `destination.gap` event, in the commit that moves it.
//!
//! How much a lane loses is counted exactly as far as [`COUNTED`] events after the first. Beyond, the
//! number is an estimate: as many for each position as there were so far. That there is a loss at
//! all, and where it begins, is never estimated: a lane whose filter wants none of it loses nothing.

use zapbus_event::{Data, Draft, Position, data::DestinationGap};

use super::{
    Glimpse, Ground, Lane, Left,
    ground::{count, position, sql},
};
use crate::{
    delivery::{Row, State},
    fault::Result,
    journal::NewEvent,
    retention::Pruned,
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

impl Lanes {
    /// Moves lanes. True when all are.
    pub(super) fn move_on(
        &mut self,
        tx: &mut dyn Ground,
        to: Position,
        reason: &str,
        left: &mut Left,
        pruned: &mut Pruned,
    ) -> Result<bool> {
        loop {
            let keys = tx.lane_keys(self.after, left.rows.clamp(1, LANES))?;
            if keys.is_empty() {
                return Ok(true);
            }
            for key in keys {
                if let Some(lane) = tx.lane(key, sql(to))? {
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
}

/// Goes on looking at what a lane loses. True when that is known.
///
/// A turn may end in the middle, and the lane may get on before the next. So events come first and
/// rows after: what is sent in between and fails is found as a row.
fn look_on(
    tx: &mut dyn Ground,
    lane: &Lane,
    look: &mut Look,
    to: i64,
    left: &mut Left,
) -> Result<bool> {
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
        if first > lane.cursor && !tx.has_row(lane, first)? {
            return Ok(true);
        }
        // It got on beyond the first: what is left begins at another, and is an estimate.
        let (at, before) = (lane.cursor.max(first), Some(look.share()));
        *look = Look { at, before, first: None, matched: 0, counted: false, ..*look };
    }
}

fn look_at_events(
    tx: &mut dyn Ground,
    lane: &Lane,
    look: &mut Look,
    left: &mut Left,
) -> Result<bool> {
    if look.first.is_none() && look.at < lane.cursor {
        look.at = lane.cursor;
    }
    loop {
        let wanted = left.page();
        let page = tx.glimpses(lane, look.at, lane.upto, wanted)?;
        let ended = page.len() < wanted;
        for event in page {
            if wants(tx, lane, &event) && !tx.has_row(lane, event.seq)? {
                look.matched += 1;
                look.first.get_or_insert(event.seq);
            }
            look.at = event.seq;
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
        if ended {
            break;
        }
    }
    look.at = look.at.max(lane.upto);
    look.counted = true;
    Ok(true)
}

fn wants(tx: &mut dyn Ground, lane: &Lane, event: &Glimpse) -> bool {
    let its_own = lane.instance.is_some() || tx.account_of(event.instance) == Some(lane.account);
    its_own && !event.ephemeral && lane.filter.matches(event.kind, event.facet.as_deref())
}

fn look_at_rows(
    tx: &mut dyn Ground,
    lane: &Lane,
    look: &mut Look,
    to: i64,
    left: &mut Left,
) -> Result<bool> {
    if let Some(mut at) = look.rows_at {
        loop {
            let wanted = left.page();
            let page = tx.rows(lane, at, to, wanted)?;
            let ended = page.len() < wanted;
            for (seq, open) in page {
                at = seq;
                if open {
                    look.hold(at);
                }
                look.rows_at = Some(at);
                left.spend(1);
                if left.is_used_up() {
                    return Ok(false);
                }
            }
            if ended {
                break;
            }
        }
        look.rows_at = None;
    }
    // What it has passed since then may be held in rows now: at most a few windows.
    if look.passed < lane.cursor {
        let upto = lane.cursor.min(to);
        for (seq, open) in tx.rows(lane, look.passed, upto, usize::MAX)? {
            if open {
                look.hold(seq);
            }
        }
        look.passed = lane.cursor;
    }
    Ok(true)
}

/// Moves one lane. True when it lost something.
fn move_lane(
    tx: &mut dyn Ground,
    lane: &Lane,
    look: &Look,
    to: Position,
    reason: &str,
) -> Result<bool> {
    tx.move_cursor(lane)?;
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
        tx.write_row(lane, &row)?;
    }
    let held = look.first_held.map(|first| (position(first), look.held));
    let (from, count) = match (unread, held) {
        (None, None) => return Ok(false),
        (Some(lost), None) | (None, Some(lost)) => lost,
        (Some(unread), Some(held)) => (unread.0.min(held.0), unread.1.saturating_add(held.1)),
    };
    let instance = match lane.instance {
        Some(instance) => Some(instance),
        None => tx.reserved_instance(lane.account)?,
    };
    if let Some(instance) = instance.filter(|instance| tx.takes(*instance)) {
        let data = Data::DestinationGap(DestinationGap {
            destination: lane.id,
            label: lane.label.clone(),
            reason: Some(reason.to_owned()),
            from,
            to: unread.map_or(to, |_| position(lane.upto)),
            count,
        });
        let draft = Draft::of_gateway(&data, tx.now());
        tx.append_own(NewEvent { instance, draft })?;
    }
    Ok(true)
}
