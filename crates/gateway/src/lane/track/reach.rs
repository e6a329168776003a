//! What lies open beyond a run's cursor in one shard, and whose turn it is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use zapbus_event::{Event, Position, Timestamp};
use zapbus_store::{Page, Row, ShardId, ShardStart, State};

use super::{holds::Holds, key_of};
use crate::spec::Ordering;

/// A run may hold this many matching events of a shard beyond its cursor.
pub(crate) const MAX_BEYOND: usize = 1_000;

/// What lies beyond the cursor.
#[derive(Debug)]
enum Slot {
    /// Matches, not sent yet.
    Queued(Arc<Event>),
    /// On its way.
    Sent,
    /// Its row waits to be written, or is being written.
    Closing,
    /// Its row is durable.
    Closed,
}

/// A row on its way into the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing {
    pub(super) seq: Position,
    pub(super) key: u64,
    pub(super) due: Option<Timestamp>,
}

/// A write on its way into the store.
#[derive(Debug, Default)]
struct Underway {
    rows: Vec<Writing>,
    cursor: Option<Position>,
}

/// One run's way along the journal of one shard.
#[derive(Debug)]
pub(crate) struct Reach {
    shard: ShardId,
    /// Replays end here.
    end: Option<Position>,
    /// Everything at or below is settled, skipped, or held in a durable row.
    cursor: Position,
    /// The cursor as the store has it.
    stored: Position,
    /// Everything at or below has been looked at.
    scanned: Position,
    at_head: bool,
    /// More was committed since a page was last asked for: it may not be in it.
    more: bool,
    skipped: u64,
    slots: BTreeMap<Position, Slot>,
    queued_bytes: usize,
    /// Rows beyond the cursor that stood in the store when the lane started.
    beyond: BTreeSet<Position>,
    /// Queued first attempts by key; the front one has the turn (queued in `ready`, or sent).
    turns: HashMap<u64, VecDeque<Position>>,
    ready: BTreeSet<Position>,
    /// Sent, or sent and not yet durably settled; whatever their kind.
    busy: HashSet<Position>,
    outbox: Vec<Row>,
    /// Writes under way, in their order.
    writing: VecDeque<Underway>,
    /// The last write carried a cursor that stops short of what it settles.
    lags: bool,
}

impl Reach {
    /// As the store says, or further on where the lane that rested had come further: `upto`.
    pub(super) fn new(start: &ShardStart, upto: Position) -> Self {
        let cursor = start.start.cursor.max(upto);
        Self {
            shard: start.shard,
            end: start.end,
            cursor,
            stored: start.start.cursor,
            scanned: cursor,
            at_head: false,
            more: false,
            skipped: 0,
            slots: BTreeMap::new(),
            queued_bytes: 0,
            beyond: start.start.beyond.iter().copied().collect(),
            turns: HashMap::new(),
            ready: BTreeSet::new(),
            busy: HashSet::new(),
            outbox: Vec::new(),
            writing: VecDeque::new(),
            lags: false,
        }
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    pub(crate) fn cursor(&self) -> Position {
        self.cursor
    }

    pub(crate) fn stored(&self) -> Position {
        self.stored
    }

    #[cfg(test)]
    pub(super) fn scanned(&self) -> Position {
        self.scanned
    }

    #[cfg(test)]
    pub(super) fn outbox(&self) -> &[Row] {
        &self.outbox
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// More was committed.
    pub(super) fn wake(&mut self) {
        self.more = true;
        // A replay that has passed its end has nothing to expect.
        self.at_head = self.has_ended();
    }

    /// Nothing more is to be looked at for now.
    pub(super) fn stand_still(&mut self) {
        self.at_head = true;
    }

    pub(super) fn go_on(&mut self) {
        self.at_head = false;
    }

    fn has_ended(&self) -> bool {
        self.end.is_some_and(|end| self.scanned >= end)
    }

    /// A replay has come to its end here.
    pub(super) fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.cursor >= end)
    }

    /// A page of the journal would be of use.
    pub(crate) fn wants_page(&self) -> bool {
        !self.at_head && self.ready.is_empty() && self.slots.len() < MAX_BEYOND
    }

    /// How many more events may be taken.
    pub(crate) fn page_room(&self) -> usize {
        MAX_BEYOND.saturating_sub(self.slots.len())
    }

    /// A page is asked for; returns after which position.
    pub(crate) fn ask_page(&mut self) -> Position {
        self.more = false;
        self.scanned
    }

    /// Whether a page that was read after `after` is still of use: what was read ahead may have been
    /// forgotten meanwhile, and the page would leave a hole.
    pub(super) fn expects(&self, after: Position) -> bool {
        after == self.scanned
    }

    /// Takes a page that was read after what was scanned so far: of its events those that `takes`
    /// agrees to.
    pub(super) fn offer(
        &mut self,
        page: &Page,
        takes: impl Fn(&Event) -> bool,
        holds: &mut Holds,
        ordering: Ordering,
    ) {
        for event in &page.events {
            if event.seq <= self.scanned || self.end.is_some_and(|end| event.seq > end) {
                continue;
            }
            self.scanned = event.seq;
            if self.beyond.remove(&event.seq) {
                self.slots.insert(event.seq, Slot::Closed);
            }
            if self.slots.contains_key(&event.seq) {
                continue;
            }
            if takes(event) {
                self.queue(event, holds, ordering);
            } else {
                self.skipped += 1;
            }
        }
        let upto = self.end.map_or(page.upto, |end| page.upto.min(end));
        self.scanned = self.scanned.max(upto);
        self.at_head = (page.at_head && !self.more) || self.has_ended();
        self.advance();
    }

    fn queue(&mut self, event: &Arc<Event>, holds: &mut Holds, ordering: Ordering) {
        let seq = event.seq;
        let key = key_of(event);
        if holds.join(key) {
            self.slots.insert(seq, Slot::Closing);
            self.outbox.push(waiting_row(seq, key));
            return;
        }
        self.queued_bytes += event.weight();
        self.slots.insert(seq, Slot::Queued(Arc::clone(event)));
        match ordering {
            Ordering::None => {
                self.ready.insert(seq);
            }
            Ordering::Key | Ordering::Strict => {
                let turn = self.turns.entry(key).or_default();
                if turn.is_empty() {
                    self.ready.insert(seq);
                }
                turn.push_back(seq);
            }
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// First attempts whose turn it is, with their keys.
    pub(super) fn ready(&self) -> impl Iterator<Item = (Position, u64)> + '_ {
        self.ready.iter().filter_map(|seq| match self.slots.get(seq) {
            Some(Slot::Queued(event)) => Some((*seq, key_of(event))),
            _ => None,
        })
    }

    /// Takes the next first attempt.
    pub(super) fn start_next(&mut self) -> Option<Arc<Event>> {
        let seq = self.ready.pop_first()?;
        self.start(seq)
    }

    /// Takes this first attempt, if it is its turn.
    pub(super) fn start_ready(&mut self, seq: Position) -> Option<Arc<Event>> {
        if !self.ready.remove(&seq) {
            return None;
        }
        self.start(seq)
    }

    fn start(&mut self, seq: Position) -> Option<Arc<Event>> {
        let slot = self.slots.get_mut(&seq)?;
        let Slot::Queued(event) = std::mem::replace(slot, Slot::Sent) else {
            return None;
        };
        self.queued_bytes = self.queued_bytes.saturating_sub(event.weight());
        self.busy.insert(seq);
        Some(event)
    }

    /// A first attempt was not made after all: it is still its turn.
    pub(super) fn recall(&mut self, event: Arc<Event>) {
        let seq = event.seq;
        self.busy.remove(&seq);
        // What was read ahead may have been forgotten, but never what was sent.
        self.queued_bytes += event.weight();
        self.slots.insert(seq, Slot::Queued(event));
        self.ready.insert(seq);
    }

    /// A row is sent.
    pub(super) fn set_busy(&mut self, seq: Position) {
        self.busy.insert(seq);
    }

    /// A row was not sent after all.
    pub(super) fn unset_busy(&mut self, seq: Position) {
        self.busy.remove(&seq);
    }

    pub(super) fn is_busy(&self, seq: Position) -> bool {
        self.busy.contains(&seq)
    }

    pub(super) fn busy(&self) -> usize {
        self.busy.len()
    }

    /// What was sent has an outcome, which is to be written.
    pub(super) fn close(&mut self, row: Row) {
        if let Some(slot) = self.slots.get_mut(&row.seq) {
            *slot = Slot::Closing;
        }
        self.outbox.push(row);
    }

    /// The next first attempt of the key may go.
    pub(super) fn pass_turn(&mut self, key: u64, seq: Position) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        if turn.front() == Some(&seq) {
            turn.pop_front();
        }
        match turn.front() {
            Some(next) => {
                self.ready.insert(*next);
            }
            None => {
                self.turns.remove(&key);
            }
        }
    }

    /// `strict`: `seq` will be retried; what is queued behind it waits in rows, so that the
    /// cursor can go on. Returns how many those are.
    pub(super) fn hold_back(&mut self, key: u64, seq: Position) -> u64 {
        let queued = self.turns.remove(&key).unwrap_or_default();
        let mut waiting = 0;
        for behind in queued.into_iter().filter(|behind| *behind != seq) {
            if let Some(slot) = self.slots.get_mut(&behind)
                && let Slot::Queued(event) = std::mem::replace(slot, Slot::Closing)
            {
                self.queued_bytes = self.queued_bytes.saturating_sub(event.weight());
                self.outbox.push(waiting_row(behind, key));
                waiting += 1;
            }
        }
        waiting
    }

    /// Nothing was sent and nothing is to be written: the dialect has no word for this event.
    pub(super) fn pass_over(&mut self, seq: Position, key: u64) {
        self.busy.remove(&seq);
        if let Some(slot) = self.slots.get_mut(&seq) {
            *slot = Slot::Closed;
        }
        self.pass_turn(key, seq);
        self.skipped += 1;
        self.advance();
    }

    /// The store's cursor was moved on purpose (`resume` from now).
    pub(super) fn move_to(&mut self, cursor: Position) {
        self.stored = self.stored.max(cursor);
        self.cursor = self.cursor.max(cursor);
    }

    /// There is something to write.
    pub(crate) fn is_dirty(&self) -> bool {
        let lags = self.lags && self.writing.is_empty() && self.cursor > self.stored;
        !self.outbox.is_empty() || lags
    }

    /// How many rows wait to be written.
    pub(crate) fn unwritten_rows(&self) -> usize {
        self.outbox.len()
    }

    /// Matching or not, how much has been passed since the cursor was last written.
    pub(crate) fn unwritten_skips(&self) -> u64 {
        if self.cursor > self.stored { self.skipped } else { 0 }
    }

    /// A row of this key is not in the store yet.
    pub(super) fn is_unwritten(&self, key: u64) -> bool {
        self.outbox.iter().any(|row| row.key == key)
            || self.writing.iter().flat_map(|write| &write.rows).any(|row| row.key == key)
    }

    /// The rows to write now and the cursor once they are durable. Each write is followed by
    /// [`Self::written`] or [`Self::not_written`], in the order of the writes.
    pub(crate) fn take_outbox(&mut self) -> (Vec<Row>, Option<Position>) {
        let rows = std::mem::take(&mut self.outbox);
        // An earlier write may fail although this one does not: then the cursor passes only what
        // is durable already. Else every closing slot is in this write, the outbox being taken
        // whole.
        self.lags = !self.writing.is_empty();
        let cursor = if self.lags {
            self.cursor
        } else {
            let mut slots = self.slots.iter();
            let open = slots.find(|(_, slot)| matches!(slot, Slot::Queued(_) | Slot::Sent));
            let open = open.map_or(self.scanned, |(seq, _)| before(*seq));
            open.min(self.scanned).max(self.cursor)
        };
        let writing = rows.iter().map(|row| Writing {
            seq: row.seq,
            key: row.key,
            due: match row.state {
                State::Retrying { due } => Some(due),
                _ => None,
            },
        });
        let writing = writing.collect();
        let carried = self.writing.iter().filter_map(|write| write.cursor).max();
        let cursor = (Some(cursor) > carried.max(Some(self.stored))).then_some(cursor);
        self.writing.push_back(Underway { rows: writing, cursor });
        (rows, cursor)
    }

    /// The oldest write is durable. `each` is told its rows, and whether a row settles something that was
    /// sent.
    pub(super) fn written(
        &mut self,
        cursor: Option<Position>,
        mut each: impl FnMut(Writing, bool),
    ) {
        for row in self.writing.pop_front().unwrap_or_default().rows {
            each(row, self.busy.remove(&row.seq));
            // A row redelivered by hand may have left and come back as the same slot.
            if let Some(slot) = self.slots.get_mut(&row.seq)
                && matches!(slot, Slot::Closing)
            {
                *slot = Slot::Closed;
            }
        }
        if let Some(cursor) = cursor {
            self.stored = self.stored.max(cursor);
            self.skipped = 0;
        }
        self.advance();
    }

    /// The oldest write failed: its rows are to be written again, before the later ones.
    pub(super) fn not_written(&mut self, mut rows: Vec<Row>) {
        self.writing.pop_front();
        self.lags = true;
        rows.append(&mut self.outbox);
        self.outbox = rows;
    }

    fn advance(&mut self) {
        // After a rewind, slots beyond what was scanned again stay: between them may lie others.
        while let Some(entry) = self.slots.first_entry()
            && matches!(entry.get(), Slot::Closed)
            && *entry.key() <= self.scanned
        {
            entry.remove();
        }
        let open = self.slots.keys().next().map_or(self.scanned, |seq| before(*seq));
        self.cursor = self.cursor.max(open.min(self.scanned));
    }

    /// Forgets what was read ahead but not sent. It will be read again from the cursor.
    pub(super) fn rewind(&mut self) {
        self.slots.retain(|_, slot| !matches!(slot, Slot::Queued(_)));
        self.queued_bytes = 0;
        self.ready.clear();
        // What was sent keeps its turn, so that nothing of its key overtakes it.
        let slots = &self.slots;
        self.turns.retain(|_, turn| {
            turn.retain(|seq| matches!(slots.get(seq), Some(Slot::Sent)));
            !turn.is_empty()
        });
        self.scanned = self.cursor;
        self.at_head = false;
    }

    /// Nothing is open, on its way, or unread.
    pub(super) fn is_quiet(&self) -> bool {
        self.at_head && self.is_still() && self.ready.is_empty()
    }

    /// Nothing is on its way to the destination or into the store.
    pub(super) fn is_still(&self) -> bool {
        self.busy.is_empty() && self.outbox.is_empty() && self.writing.is_empty()
    }
}

fn before(seq: Position) -> Position {
    Position(seq.0.saturating_sub(1))
}

fn waiting_row(seq: Position, key: u64) -> Row {
    Row {
        seq,
        state: State::Waiting,
        attempts: 0,
        parts_done: 0,
        key,
        manual: false,
        attempt: None,
    }
}
