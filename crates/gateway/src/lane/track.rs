//! One run's way along the journal: its cursors, what lies open beyond them, whose turn it is.
//! Pure: the lane feeds it pages and results and asks it what to send and what to write.
//!
//! What comes from the journal is a [`Reach`] in each shard that the run reads; what comes from rows
//! of the store is the run's as a whole ([`Rows`]), as the store is asked for it.

mod holds;
mod reach;
mod rows;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use zapbus_event::{DestinationId, Event, Filter, Position, Timestamp};
use zapbus_store::{DueRow, HeldKey, LaneId, Page, Row, ShardId, ShardStart, State};

pub(crate) use self::reach::Reach;
use self::rows::Rows;
use super::verdict::EPHEMERAL_LIFE;
use crate::spec::Ordering;

/// Where an event is. Ordered by position first: those of several shards cannot be compared, but
/// all of them grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) seq: Position,
    pub(crate) shard: ShardId,
}

/// What decides which events a run takes.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) filter: Filter,
    pub(crate) exclude_ephemeral: bool,
    pub(crate) ordering: Ordering,
}

impl Selection {
    /// The same events in another order.
    pub(crate) fn reordered(&self, ordering: Ordering) -> Self {
        Self { ordering, ..self.clone() }
    }

    /// Whether a lane wants this event now.
    fn takes(&self, lane: LaneId, event: &Event, now: Timestamp) -> bool {
        let own = event.kind.is_operational() && event.partition == partition_of(lane.destination);
        let stale = event.ephemeral
            && (self.exclude_ephemeral || now.since(event.received_at) > EPHEMERAL_LIFE);
        !own && !stale && self.filter.matches(event.kind, event.facet.as_deref())
    }
}

/// Something to send.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) event: Arc<Event>,
    pub(crate) place: Place,
    /// Attempts counted so far.
    pub(crate) attempts: u32,
    /// Parts accepted already.
    pub(crate) parts_done: u16,
    /// When its own schedule wanted it; `None` for a first attempt.
    pub(crate) due: Option<Timestamp>,
    /// How it came to be sent.
    pub(crate) origin: Origin,
}

/// How an attempt came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From the journal: the event's first attempt, in turn.
    First,
    /// From a `retrying` row.
    Retry,
    /// From a `waiting` row: a first attempt that had to wait.
    Waited,
    /// From a row somebody wrote by hand: outside every order.
    Manual,
}

/// Something to send, or a row whose event is gone.
#[derive(Debug)]
pub(crate) enum Sending {
    Task(Task),
    Lost { place: Place, key: u64, attempts: u32, origin: Origin },
}

#[derive(Debug)]
pub(crate) struct Track {
    lane: LaneId,
    selection: Selection,
    /// One in each shard that the run reads, by shard.
    reaches: Vec<Reach>,
    /// From which of them a first attempt was taken last: they take turns.
    turn: usize,
    rows: Rows,
    /// Nothing more is to be sent: its run was paused or called off.
    stopped: bool,
}

/// Ordering keys are compared as 64-bit hashes: a collision only makes two chats share a turn.
pub(crate) fn key_of(event: &Event) -> u64 {
    // FNV-1a: stable across versions, because rows carry it.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in event.instance.to_bytes().iter().chain(event.partition.as_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

impl Track {
    /// A run as the store says, or further on where it had come further: `upto`, by shard.
    pub(crate) fn new(
        lane: LaneId,
        selection: Selection,
        starts: &[ShardStart],
        upto: &[(ShardId, Position)],
    ) -> Self {
        let upto = |shard: ShardId| {
            let known = upto.iter().find(|(known, _)| *known == shard);
            known.map_or(Position::START, |(_, position)| *position)
        };
        let next_due = starts.iter().filter_map(|start| start.start.next_due).min();
        Self {
            lane,
            rows: Rows::new(&held_in(starts), selection.ordering, next_due),
            selection,
            reaches: starts.iter().map(|start| Reach::new(start, upto(start.shard))).collect(),
            turn: 0,
            stopped: false,
        }
    }

    pub(crate) fn lane(&self) -> LaneId {
        self.lane
    }

    pub(crate) fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Its way in each shard.
    pub(crate) fn reaches(&self) -> &[Reach] {
        &self.reaches
    }

    /// The same, to be asked for pages and for what there is to write.
    pub(crate) fn reaches_mut(&mut self) -> &mut [Reach] {
        &mut self.reaches
    }

    /// Where it stands in each shard.
    pub(crate) fn cursors(&self) -> Vec<(ShardId, Position)> {
        self.reaches.iter().map(|reach| (reach.shard(), reach.cursor())).collect()
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.reaches.iter().map(Reach::queued_bytes).sum()
    }

    pub(crate) fn look_at(&self) -> Option<Timestamp> {
        self.rows.look_at
    }

    /// More was committed in the shards that `concerns` names.
    pub(crate) fn wake(&mut self, concerns: impl Fn(ShardId) -> bool) {
        for reach in self.reaches.iter_mut().filter(|reach| concerns(reach.shard())) {
            reach.wake();
            if self.stopped {
                reach.stand_still();
            }
        }
    }

    /// A page of some shard would be of use.
    pub(crate) fn wants_page(&self) -> bool {
        !self.stopped && self.reaches.iter().any(Reach::wants_page)
    }

    /// Takes a page of a shard that was read after `after`, unless it is of no use any more.
    pub(crate) fn offer_after(
        &mut self,
        shard: ShardId,
        after: Position,
        page: &Page,
        now: Timestamp,
    ) {
        if self.reach(shard).is_some_and(|reach| reach.expects(after)) {
            self.offer(shard, page, now);
        }
    }

    /// Takes a page that was read after what was scanned so far of a shard.
    pub(crate) fn offer(&mut self, shard: ShardId, page: &Page, now: Timestamp) {
        if self.stopped {
            return;
        }
        let Self { lane, selection, reaches, rows, .. } = self;
        if let Some(reach) = find(reaches, shard) {
            let takes = |event: &Event| selection.takes(*lane, event, now);
            reach.offer(page, takes, &mut rows.holds, selection.ordering);
        }
    }

    fn is_unwritten(&self, key: u64) -> bool {
        self.reaches.iter().any(|reach| reach.is_unwritten(key))
    }

    /// Whether an event, by the place that ids of deliveries give it, is being sent.
    pub(crate) fn is_sending(&self, seq: Position, shard: ShardId) -> bool {
        self.is_busy(self.place(seq, shard))
    }

    /// It is being sent, or what came of it is being written.
    fn is_busy(&self, place: Place) -> bool {
        self.reach(place.shard).is_some_and(|reach| reach.is_busy(place.seq))
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.rows.recount
            && (!self.rows.retries.is_empty() || self.reaches.iter().any(Reach::has_ready))
    }

    /// The next thing to send: due rows first, by position, then first attempts, of the shards in
    /// turn.
    pub(crate) fn next(&mut self) -> Option<Sending> {
        if self.rows.recount {
            return None;
        }
        if let Some((place, (row, origin))) = self.rows.retries.pop_first() {
            return Some(self.start_row(place, row, origin));
        }
        let count = self.reaches.len();
        for step in 1..=count {
            let index = (self.turn + step) % count;
            let reach = &mut self.reaches[index];
            if let Some(event) = reach.start_next() {
                self.turn = index;
                return Some(Sending::Task(first_attempt(reach.shard(), event)));
            }
        }
        None
    }

    fn start_row(&mut self, place: Place, row: DueRow, origin: Origin) -> Sending {
        if let Some(reach) = find(&mut self.reaches, place.shard) {
            reach.set_busy(place.seq);
        }
        if !row.manual {
            self.rows.holds.sent(row.key);
        }
        match row.event {
            Some(event) => Sending::Task(Task {
                event,
                place,
                attempts: row.attempts,
                parts_done: row.parts_done,
                due: (origin != Origin::Waited).then_some(row.due),
                origin,
            }),
            None => Sending::Lost { place, key: row.key, attempts: row.attempts, origin },
        }
    }

    /// The oldest unsettled event of each of the `keys` oldest keys: what probes take in turn.
    /// `rows` are retrying rows of the store, due or not.
    pub(crate) fn probe_candidates(&self, rows: &[DueRow], keys: usize) -> Vec<Place> {
        let mut oldest = BTreeMap::new();
        let at_hand = self.rows.retries.values().map(|(row, _)| row);
        for row in rows.iter().chain(at_hand) {
            let place = self.place_of(row);
            if !self.is_busy(place) {
                oldest.insert(place, row.key);
            }
        }
        for reach in &self.reaches {
            let shard = reach.shard();
            oldest.extend(reach.ready().map(|(seq, key)| (Place { seq, shard }, key)));
        }
        let mut seen = HashSet::new();
        oldest
            .into_iter()
            .filter(|(_, key)| seen.insert(*key))
            .map(|(place, _)| place)
            .take(keys)
            .collect()
    }

    /// Starts the chosen probe.
    pub(crate) fn probe(&mut self, place: Place, rows: Vec<DueRow>) -> Option<Sending> {
        let reach = find(&mut self.reaches, place.shard)?;
        if let Some(event) = reach.start_ready(place.seq) {
            return Some(Sending::Task(first_attempt(place.shard, event)));
        }
        if let Some((row, origin)) = self.rows.retries.remove(&place) {
            return Some(self.start_row(place, row, origin));
        }
        let row = rows.into_iter().find(|row| self.place_of(row) == place)?;
        let origin = origin_of_due(&row);
        Some(self.start_row(place, row, origin))
    }

    /// It was not sent after all, and nothing was learned of it: as if it had never been taken.
    pub(crate) fn recall(&mut self, task: Task, now: Timestamp) {
        let Task { event, place, origin, .. } = task;
        let key = key_of(&event);
        let Some(reach) = find(&mut self.reaches, place.shard) else { return };
        if origin == Origin::First {
            reach.recall(event);
        } else {
            reach.unset_busy(place.seq);
            if origin != Origin::Manual {
                self.rows.holds.recalled(key);
            }
            self.look_again(now);
        }
        if self.stopped {
            self.stop();
        }
    }

    /// What was sent has an outcome: `row` is what the store will say of it.
    pub(crate) fn closed(&mut self, shard: ShardId, row: Row, origin: Origin) {
        let (seq, key) = (row.seq, row.key);
        let retrying = matches!(row.state, State::Retrying { .. });
        let strict = self.selection.ordering == Ordering::Strict;
        let Some(reach) = find(&mut self.reaches, shard) else { return };
        reach.close(row);
        match origin {
            // By hand a row may be taken out of the order, or put into it: count again.
            Origin::Manual => self.rows.recount = strict,
            Origin::First if retrying && strict => {
                let waiting = reach.hold_back(key, seq);
                self.rows.holds.block(key, waiting);
            }
            Origin::First => reach.pass_turn(key, seq),
            Origin::Retry | Origin::Waited => {
                let waited = origin == Origin::Waited;
                self.rows.holds.tried(key, waited, retrying, self.selection.ordering);
            }
        }
    }

    /// Nothing was sent and nothing is to be written: the dialect has no word for this event.
    pub(crate) fn passed_over(&mut self, place: Place, key: u64) {
        if let Some(reach) = find(&mut self.reaches, place.shard) {
            reach.pass_over(place.seq, key);
        }
    }

    /// The store's cursors were moved on purpose (`resume` from now).
    pub(crate) fn move_to(&mut self, starts: &[ShardStart]) {
        for start in starts {
            if let Some(reach) = find(&mut self.reaches, start.shard) {
                reach.move_to(start.start.cursor);
            }
        }
    }

    /// There is something to write.
    pub(crate) fn is_dirty(&self) -> bool {
        self.reaches.iter().any(Reach::is_dirty)
    }

    /// What was taken of a reach's outbox is durable; returns how many sends it settled.
    pub(crate) fn written(&mut self, shard: ShardId, cursor: Option<Position>) -> u32 {
        let Some(reach) = find(&mut self.reaches, shard) else { return 0 };
        let mut settled = 0;
        reach.written(cursor, |row, was_sent| {
            settled += u32::from(was_sent);
            self.rows.written(Place { seq: row.seq, shard }, row.key, row.due);
        });
        settled
    }

    /// The write failed: its rows are to be written again, before the later ones.
    pub(crate) fn not_written(&mut self, shard: ShardId, rows: Vec<Row>) {
        if let Some(reach) = find(&mut self.reaches, shard) {
            reach.not_written(rows);
        }
    }

    /// Forgets what was read ahead but not sent: the memory is needed elsewhere, or the filter
    /// has changed. It will be read again from the cursor.
    pub(crate) fn rewind(&mut self) {
        self.rows.give_back();
        for reach in &mut self.reaches {
            reach.rewind();
            if self.stopped {
                reach.stand_still();
            }
        }
    }

    /// Takes a new selection; call [`Self::rewind`] with it.
    pub(crate) fn select(&mut self, selection: Selection, starts: &[ShardStart]) {
        // Or will turn out to have been, when that was to be counted anyway.
        let held_before = self.rows.recount || !self.rows.holds.is_empty();
        self.rows.hold(&held_in(starts), selection.ordering);
        // What is on its way now may still change what is held: rows that were not in the store yet
        // when it was asked, whichever of the two orders they are of.
        let strict = [self.selection.ordering, selection.ordering].contains(&Ordering::Strict);
        let holds = strict || held_before || !self.rows.holds.is_empty();
        self.rows.recount = holds && !self.is_still();
        self.selection = selection;
    }

    /// Nothing is open, on its way, or unread.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.rows.recount
            && self.rows.retries.is_empty()
            && self.reaches.iter().all(Reach::is_quiet)
    }

    /// Nothing is on its way to the destination or into the store.
    pub(crate) fn is_still(&self) -> bool {
        self.reaches.iter().all(Reach::is_still)
    }

    /// Sends nothing more; what is on its way is still settled.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.rewind();
        self.rows.look_at = None;
    }

    /// Sends again if it was stopped and has not come to its end.
    pub(crate) fn go_on(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.stopped) {
            self.reaches.iter_mut().for_each(Reach::go_on);
            self.look_again(now);
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// A replay has nothing left to do.
    pub(crate) fn is_over(&self) -> bool {
        let ended = self.reaches.iter().all(Reach::is_at_end) && self.look_at().is_none();
        // Rows that wait for their turn are still to come.
        (self.stopped || (ended && self.rows.holds.is_empty())) && self.is_quiet()
    }

    fn reach(&self, shard: ShardId) -> Option<&Reach> {
        self.reaches.iter().find(|reach| reach.shard() == shard)
    }

    fn place_of(&self, row: &DueRow) -> Place {
        self.place(row.seq, row.shard)
    }

    /// Where an event is: of a destination of one instance, rows and ids do not say in which shard.
    fn place(&self, seq: Position, shard: ShardId) -> Place {
        let shard = match self.reaches.as_slice() {
            [only] => only.shard(),
            _ => shard,
        };
        Place { seq, shard }
    }
}

fn find(reaches: &mut [Reach], shard: ShardId) -> Option<&mut Reach> {
    reaches.iter_mut().find(|reach| reach.shard() == shard)
}

fn held_in(starts: &[ShardStart]) -> Vec<HeldKey> {
    starts.iter().flat_map(|start| &start.start.held).copied().collect()
}

fn first_attempt(shard: ShardId, event: Arc<Event>) -> Task {
    let place = Place { seq: event.seq, shard };
    Task { event, place, attempts: 0, parts_done: 0, due: None, origin: Origin::First }
}

/// What a row is that the store says is due.
fn origin_of_due(row: &DueRow) -> Origin {
    if row.manual { Origin::Manual } else { Origin::Retry }
}

/// The ordering partition of events about a destination.
pub(crate) fn partition_of(destination: DestinationId) -> String {
    format!("_destination/{destination}")
}

#[cfg(test)]
mod tests;
