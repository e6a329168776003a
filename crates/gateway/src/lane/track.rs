//! One run's way along the journal: its cursor, what lies open beyond it, whose turn it is.
//! Pure: the lane feeds it pages and results and asks it what to send and what to write.

mod holds;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use zapbus_event::{DestinationId, Event, Filter, Position, Timestamp};
use zapbus_store::{DueRow, HeldKey, LaneId, Row, State};

use self::holds::Holds;
use super::verdict::EPHEMERAL_LIFE;
use crate::spec::Ordering;

/// A run may hold this many matching events beyond its cursor.
pub(crate) const MAX_BEYOND: usize = 1_000;

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
}

/// Something to send.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) event: Arc<Event>,
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

/// A write on its way into the store.
#[derive(Debug, Default)]
struct Underway {
    rows: Vec<Writing>,
    cursor: Option<Position>,
}

/// A row on its way into the store.
#[derive(Debug, Clone, Copy)]
struct Writing {
    seq: Position,
    key: u64,
    due: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) struct Track {
    lane: LaneId,
    selection: Selection,
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
    /// Nothing more is to be sent: its run was paused or called off.
    stopped: bool,
    skipped: u64,
    slots: BTreeMap<Position, Slot>,
    queued_bytes: usize,
    /// Rows beyond the cursor that stood in the store when the lane started.
    beyond: BTreeSet<Position>,
    /// Queued first attempts by key; the front one has the turn (queued in `ready`, or sent).
    turns: HashMap<u64, VecDeque<Position>>,
    ready: BTreeSet<Position>,
    holds: Holds,
    /// What is held must be read from the store again.
    recount: bool,
    /// Rows that may be sent now, and what they are: a row may be `retrying` without an attempt
    /// that counts, so that its number of attempts does not tell.
    retries: BTreeMap<Position, (DueRow, Origin)>,
    /// Sent, or sent and not yet durably settled; whatever their kind.
    busy: HashSet<Position>,
    outbox: Vec<Row>,
    /// Writes under way, in their order.
    writing: VecDeque<Underway>,
    /// The last write carried a cursor that stops short of what it settles.
    lags: bool,
    /// When to look for due rows next.
    look_at: Option<Timestamp>,
    /// While the store is being asked for rows: what became durable since, with its key. The
    /// answer may not know of it.
    meanwhile: Option<HashMap<Position, u64>>,
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
    pub(crate) fn new(
        lane: LaneId,
        selection: Selection,
        end: Option<Position>,
        start: &zapbus_store::LaneStart,
        scanned: Position,
    ) -> Self {
        Self {
            lane,
            holds: Holds::new(&start.held, selection.ordering),
            selection,
            end,
            cursor: start.cursor.max(scanned),
            stored: start.cursor,
            scanned: start.cursor.max(scanned),
            at_head: false,
            more: false,
            stopped: false,
            skipped: 0,
            slots: BTreeMap::new(),
            queued_bytes: 0,
            beyond: start.beyond.iter().copied().collect(),
            turns: HashMap::new(),
            ready: BTreeSet::new(),
            recount: false,
            retries: BTreeMap::new(),
            busy: HashSet::new(),
            outbox: Vec::new(),
            writing: VecDeque::new(),
            lags: false,
            look_at: start.next_due,
            meanwhile: None,
        }
    }

    pub(crate) fn lane(&self) -> LaneId {
        self.lane
    }

    pub(crate) fn selection(&self) -> &Selection {
        &self.selection
    }

    pub(crate) fn cursor(&self) -> Position {
        self.cursor
    }

    pub(crate) fn stored(&self) -> Position {
        self.stored
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(crate) fn look_at(&self) -> Option<Timestamp> {
        self.look_at
    }

    /// More was committed.
    pub(crate) fn wake(&mut self) {
        self.more = true;
        // A replay that has passed its end has nothing to expect.
        self.at_head = self.stopped || self.end.is_some_and(|end| self.scanned >= end);
    }

    /// A page of the journal would be of use.
    pub(crate) fn wants_page(&self) -> bool {
        !self.stopped && !self.at_head && self.ready.is_empty() && self.slots.len() < MAX_BEYOND
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

    /// Takes a page that was read after `after`, unless it is of no use any more: what was read
    /// ahead was forgotten meanwhile, and the page would leave a hole.
    pub(crate) fn offer_after(
        &mut self,
        after: Position,
        page: &zapbus_store::Page,
        now: Timestamp,
    ) {
        if after == self.scanned && !self.stopped {
            self.offer(page, now);
        }
    }

    /// Takes a page that was read after what was scanned so far.
    pub(crate) fn offer(&mut self, page: &zapbus_store::Page, now: Timestamp) {
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
            if self.takes(event, now) {
                self.queue(event);
            } else {
                self.skipped += 1;
            }
        }
        let upto = self.end.map_or(page.upto, |end| page.upto.min(end));
        self.scanned = self.scanned.max(upto);
        self.at_head =
            (page.at_head && !self.more) || self.end.is_some_and(|end| self.scanned >= end);
        self.advance();
    }

    fn takes(&self, event: &Event, now: Timestamp) -> bool {
        let own = event.kind.is_operational() && event.partition == own_partition(self.lane);
        let stale = event.ephemeral
            && (self.selection.exclude_ephemeral || now.since(event.received_at) > EPHEMERAL_LIFE);
        !own && !stale && self.selection.filter.matches(event.kind, event.facet.as_deref())
    }

    fn queue(&mut self, event: &Arc<Event>) {
        let seq = event.seq;
        let key = key_of(event);
        if self.holds.join(key) {
            self.slots.insert(seq, Slot::Closing);
            self.outbox.push(waiting_row(seq, key));
            return;
        }
        self.queued_bytes += event.weight();
        self.slots.insert(seq, Slot::Queued(Arc::clone(event)));
        match self.selection.ordering {
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

    /// A look for due rows starts; what becomes known meanwhile is not forgotten by its result.
    /// Returns how many rows to ask for: more than can be busy, so that each look finds new ones.
    pub(crate) fn begin_look(&mut self) -> usize {
        self.look_at = None;
        self.ask();
        DUE_ROWS + self.busy.len()
    }

    /// The store is asked for rows; one question at a time.
    pub(crate) fn ask(&mut self) {
        self.meanwhile = Some(HashMap::new());
    }

    /// The store has answered; returns what it may not have known.
    pub(crate) fn answered(&mut self) -> HashMap<Position, u64> {
        self.meanwhile.take().unwrap_or_default()
    }

    /// Takes rows from the store, by due time; those after `now` only set the next look.
    /// `complete`: there are no others.
    pub(crate) fn offer_due(&mut self, rows: Vec<DueRow>, complete: bool, now: Timestamp) {
        let meanwhile = self.answered();
        if self.stopped {
            return;
        }
        // Rows come by due time: if the last one is not due yet, all that are have been seen.
        let saw_all = complete || rows.last().is_some_and(|row| row.due > now);
        if complete && meanwhile.is_empty() && self.misses_rows(&rows) {
            self.recount = true;
        }
        for row in rows {
            if meanwhile.contains_key(&row.seq) {
                // It was settled meanwhile; if it is to be retried, its time is known.
            } else if row.due > now {
                self.look_again(row.due);
            } else if !self.busy.contains(&row.seq) {
                let origin = origin_of_due(&row);
                self.retries.insert(row.seq, (row, origin));
            }
        }
        if !saw_all {
            self.look_again(now);
        }
    }

    /// A key is held by a row that is not there any more: somebody called it off, or erased its
    /// event.
    fn misses_rows(&self, rows: &[DueRow]) -> bool {
        let is_missing =
            |key: u64| !self.is_unwritten(key) && !rows.iter().any(|row| row.key == key);
        self.selection.ordering == Ordering::Strict && self.holds.blocked().any(is_missing)
    }

    /// There may be due rows from `at` on.
    pub(crate) fn look_again(&mut self, at: Timestamp) {
        self.look_at = Some(self.look_at.map_or(at, |look_at| look_at.min(at)));
    }

    /// Takes the next waiting row of a key that [`Self::wants_waiting`] named.
    pub(crate) fn offer_waiting(&mut self, key: u64, row: Option<DueRow>) {
        let meanwhile = self.answered();
        if self.stopped {
            return;
        }
        match row {
            // It is on its way, or has come back meanwhile.
            Some(row) if self.busy.contains(&row.seq) || meanwhile.contains_key(&row.seq) => {}
            Some(row) => {
                self.holds.fetched(key);
                self.retries.insert(row.seq, (row, Origin::Waited));
            }
            // None left: the key is free, unless some came up while we looked.
            None if !self.is_unwritten(key) && !meanwhile.values().any(|it| *it == key) => {
                self.holds.let_go(key);
            }
            None => {}
        }
    }

    fn is_unwritten(&self, key: u64) -> bool {
        self.outbox.iter().any(|row| row.key == key)
            || self.writing.iter().flat_map(|write| &write.rows).any(|row| row.key == key)
    }

    /// Rows may be looked for now.
    pub(crate) fn wants_due(&self, now: Timestamp) -> bool {
        !self.stopped && self.retries.is_empty() && self.look_at.is_some_and(|at| at <= now)
    }

    /// What is held should be read from the store now.
    pub(crate) fn wants_recount(&self) -> bool {
        self.recount && self.is_still()
    }

    /// Takes what the store holds in rows.
    pub(crate) fn recount(&mut self, held: &[HeldKey]) {
        // Counted before something else was sent or written: once more, later.
        self.recount = !self.answered().is_empty() || !self.is_still();
        if self.recount {
            return;
        }
        self.holds = Holds::new(held, self.selection.ordering);
    }

    /// A key whose next waiting row should be fetched now.
    pub(crate) fn wants_waiting(&self) -> Option<u64> {
        if self.stopped || self.recount {
            return None;
        }
        self.holds.next_free(|key| {
            !self.is_unwritten(key) && !self.retries.values().any(|(row, _)| row.key == key)
        })
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.recount && (!self.retries.is_empty() || !self.ready.is_empty())
    }

    /// The next thing to send: due rows first, by position, then first attempts.
    pub(crate) fn next(&mut self) -> Option<Sending> {
        if self.recount {
            return None;
        }
        if let Some((_, (row, origin))) = self.retries.pop_first() {
            return Some(self.start_row(row, origin));
        }
        let seq = self.ready.pop_first()?;
        self.start(seq).map(Sending::Task)
    }

    fn start_row(&mut self, row: DueRow, origin: Origin) -> Sending {
        self.busy.insert(row.seq);
        self.retries.remove(&row.seq);
        if !row.manual {
            self.holds.sent(row.key);
        }
        match row.event {
            Some(event) => Sending::Task(Task {
                event,
                attempts: row.attempts,
                parts_done: row.parts_done,
                due: (origin != Origin::Waited).then_some(row.due),
                origin,
            }),
            None => Sending::Lost { seq: row.seq, key: row.key, attempts: row.attempts, origin },
        }
    }

    fn start(&mut self, seq: Position) -> Option<Task> {
        let slot = self.slots.get_mut(&seq)?;
        let Slot::Queued(event) = std::mem::replace(slot, Slot::Sent) else {
            return None;
        };
        self.queued_bytes = self.queued_bytes.saturating_sub(event.weight());
        self.busy.insert(seq);
        Some(Task { event, attempts: 0, parts_done: 0, due: None, origin: Origin::First })
    }

    /// The oldest unsettled event of each of the `keys` oldest keys: what probes take in turn.
    /// `rows` are retrying rows of the store, due or not.
    pub(crate) fn probe_candidates(&self, rows: &[DueRow], keys: usize) -> Vec<Position> {
        let mut oldest = BTreeMap::new();
        let at_hand = self.retries.values().map(|(row, _)| row);
        for row in rows.iter().chain(at_hand).filter(|row| !self.busy.contains(&row.seq)) {
            oldest.insert(row.seq, row.key);
        }
        for seq in &self.ready {
            if let Some(Slot::Queued(event)) = self.slots.get(seq) {
                oldest.insert(*seq, key_of(event));
            }
        }
        let mut seen = HashSet::new();
        oldest
            .into_iter()
            .filter(|(_, key)| seen.insert(*key))
            .map(|(seq, _)| seq)
            .take(keys)
            .collect()
    }

    /// Starts the chosen probe.
    pub(crate) fn probe(&mut self, seq: Position, rows: Vec<DueRow>) -> Option<Sending> {
        if self.ready.remove(&seq) {
            return self.start(seq).map(Sending::Task);
        }
        if let Some((row, origin)) = self.retries.remove(&seq) {
            return Some(self.start_row(row, origin));
        }
        let row = rows.into_iter().find(|row| row.seq == seq)?;
        let origin = origin_of_due(&row);
        Some(self.start_row(row, origin))
    }

    /// What was sent has an outcome: `row` is what the store will say of it.
    pub(crate) fn closed(&mut self, row: Row, origin: Origin) {
        let (seq, key) = (row.seq, row.key);
        let retrying = matches!(row.state, State::Retrying { .. });
        if let Some(slot) = self.slots.get_mut(&seq) {
            *slot = Slot::Closing;
        }
        self.outbox.push(row);
        match origin {
            // By hand a row may be taken out of the order, or put into it: count again.
            Origin::Manual => self.recount = self.selection.ordering == Ordering::Strict,
            Origin::First if retrying && self.selection.ordering == Ordering::Strict => {
                self.hold_back(key, seq);
            }
            Origin::First => self.pass_turn(key, seq),
            Origin::Retry | Origin::Waited => {
                let waited = origin == Origin::Waited;
                self.holds.tried(key, waited, retrying, self.selection.ordering);
            }
        }
    }

    fn pass_turn(&mut self, key: u64, seq: Position) {
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
    /// cursor can go on.
    fn hold_back(&mut self, key: u64, seq: Position) {
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
        self.holds.block(key, waiting);
    }

    /// Nothing was sent and nothing is to be written: the dialect has no word for this event.
    pub(crate) fn passed_over(&mut self, seq: Position, key: u64) {
        self.busy.remove(&seq);
        if let Some(slot) = self.slots.get_mut(&seq) {
            *slot = Slot::Closed;
        }
        self.pass_turn(key, seq);
        self.skipped += 1;
        self.advance();
    }

    /// The store's cursor was moved on purpose (`resume` from now).
    pub(crate) fn move_to(&mut self, cursor: Position) {
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

    /// The oldest write is durable; returns how many sends it settled.
    pub(crate) fn written(&mut self, cursor: Option<Position>) -> u32 {
        let mut settled = 0;
        for row in self.writing.pop_front().unwrap_or_default().rows {
            settled += u32::from(self.busy.remove(&row.seq));
            if let Some(meanwhile) = &mut self.meanwhile {
                meanwhile.insert(row.seq, row.key);
            }
            if let Some(due) = row.due {
                self.look_again(due);
            }
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
        settled
    }

    /// The oldest write failed: its rows are to be written again, before the later ones.
    pub(crate) fn not_written(&mut self, mut rows: Vec<Row>) {
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

    /// Forgets what was read ahead but not sent: the memory is needed elsewhere, or the filter
    /// has changed. It will be read again from the cursor.
    pub(crate) fn rewind(&mut self) {
        self.slots.retain(|_, slot| !matches!(slot, Slot::Queued(_)));
        self.queued_bytes = 0;
        self.ready.clear();
        for (row, _) in std::mem::take(&mut self.retries).into_values() {
            self.look_again(row.due);
        }
        // What was sent keeps its turn, so that nothing of its key overtakes it.
        let sent: HashSet<Position> = self
            .slots
            .iter()
            .filter(|(_, slot)| matches!(slot, Slot::Sent))
            .map(|(seq, _)| *seq)
            .collect();
        self.turns.retain(|_, turn| {
            turn.retain(|seq| sent.contains(seq));
            !turn.is_empty()
        });
        self.holds.recall();
        self.scanned = self.cursor;
        self.at_head = self.stopped;
    }

    /// Takes a new selection; call [`Self::rewind`] with it.
    pub(crate) fn select(&mut self, selection: Selection, held: &[HeldKey]) {
        self.holds = Holds::new(held, selection.ordering);
        // What is on its way now may still change what is held.
        let holds = selection.ordering == Ordering::Strict || !self.holds.is_empty();
        self.recount = holds && !self.is_still();
        self.selection = selection;
    }

    /// Nothing is open, on its way, or unread.
    pub(crate) fn is_quiet(&self) -> bool {
        self.at_head
            && !self.recount
            && self.is_still()
            && self.ready.is_empty()
            && self.retries.is_empty()
    }

    /// Nothing is on its way to the destination or into the store.
    pub(crate) fn is_still(&self) -> bool {
        self.busy.is_empty() && self.outbox.is_empty() && self.writing.is_empty()
    }

    /// Sends nothing more; what is on its way is still settled.
    pub(crate) fn stop(&mut self) {
        self.rewind();
        self.stopped = true;
        self.at_head = true;
        self.look_at = None;
    }

    /// Sends again if it was stopped and has not come to its end.
    pub(crate) fn go_on(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.stopped) {
            self.at_head = false;
            self.look_again(now);
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// A replay has nothing left to do.
    pub(crate) fn is_over(&self) -> bool {
        let ended = self.end.is_some_and(|end| self.cursor >= end) && self.look_at.is_none();
        // Rows that wait for their turn are still to come.
        (self.stopped || (ended && self.holds.is_empty())) && self.is_quiet()
    }
}

/// Something to send, or a row whose event is gone.
#[derive(Debug)]
pub(crate) enum Sending {
    Task(Task),
    Lost { seq: Position, key: u64, attempts: u32, origin: Origin },
}

/// Due rows to have at hand; small, because each may carry a large event.
const DUE_ROWS: usize = 16;

/// What a row is that the store says is due.
fn origin_of_due(row: &DueRow) -> Origin {
    if row.manual { Origin::Manual } else { Origin::Retry }
}

fn before(seq: Position) -> Position {
    Position(seq.0.saturating_sub(1))
}

fn own_partition(lane: LaneId) -> String {
    partition_of(lane.destination)
}

/// The ordering partition of events about a destination.
pub(crate) fn partition_of(destination: DestinationId) -> String {
    format!("_destination/{destination}")
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

#[cfg(test)]
mod tests;
