//! What a run has of rows of the store: those at hand, those that hold a chat, and when to look for
//! more.

use std::collections::{BTreeMap, HashMap};

use zapbus_event::Timestamp;
use zapbus_store::{DueRow, HeldKey, ShardStart};

use super::{Origin, Place, Reach, Track, held_in, holds::Holds, origin_of_due};
use crate::spec::Ordering;

/// Due rows to have at hand; small, because each may carry a large event.
const DUE_ROWS: usize = 16;

#[derive(Debug)]
pub(super) struct Rows {
    pub(super) holds: Holds,
    /// What is held must be read from the store again.
    pub(super) recount: bool,
    /// Rows that may be sent now, and what they are: a row may be `retrying` without an attempt
    /// that counts, so that its number of attempts does not tell.
    pub(super) retries: BTreeMap<Place, (DueRow, Origin)>,
    /// When to look for due rows next.
    pub(super) look_at: Option<Timestamp>,
    /// While the store is being asked for rows: what became durable since, with its key. The
    /// answer may not know of it.
    meanwhile: Option<HashMap<Place, u64>>,
}

impl Rows {
    pub(super) fn new(held: &[HeldKey], ordering: Ordering, look_at: Option<Timestamp>) -> Self {
        Self {
            holds: Holds::new(held, ordering),
            recount: false,
            retries: BTreeMap::new(),
            look_at,
            meanwhile: None,
        }
    }

    /// Takes what the store holds.
    pub(super) fn hold(&mut self, held: &[HeldKey], ordering: Ordering) {
        self.holds = Holds::new(held, ordering);
    }

    /// The store is asked for rows.
    pub(super) fn ask(&mut self) {
        self.meanwhile = Some(HashMap::new());
    }

    /// The store has answered; returns what it may not have known.
    pub(super) fn answered(&mut self) -> HashMap<Place, u64> {
        self.meanwhile.take().unwrap_or_default()
    }

    /// There may be due rows from `at` on.
    pub(super) fn look_again(&mut self, at: Timestamp) {
        self.look_at = Some(self.look_at.map_or(at, |look_at| look_at.min(at)));
    }

    /// Rows may be looked for: those at hand are on their way, and some may be due.
    pub(super) fn wants_look(&self, now: Timestamp) -> bool {
        self.retries.is_empty() && self.look_at.is_some_and(|at| at <= now)
    }

    /// A row is durable.
    pub(super) fn written(&mut self, place: Place, key: u64, due: Option<Timestamp>) {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.insert(place, key);
        }
        if let Some(due) = due {
            self.look_again(due);
        }
    }

    /// Forgets what is at hand: it will be looked for again.
    pub(super) fn give_back(&mut self) {
        for (row, _) in std::mem::take(&mut self.retries).into_values() {
            self.look_again(row.due);
        }
        self.holds.recall();
    }
}

/// What a run asks of rows, and what it makes of the answers.
impl Track {
    /// A look for due rows starts; what becomes known meanwhile is not forgotten by its result.
    /// Returns how many rows to ask for: more than can be busy, so that each look finds new ones.
    pub(crate) fn begin_look(&mut self) -> usize {
        self.rows.look_at = None;
        self.ask();
        DUE_ROWS + self.reaches.iter().map(Reach::busy).sum::<usize>()
    }

    /// The store is asked for rows; one question at a time.
    pub(crate) fn ask(&mut self) {
        self.rows.ask();
    }

    /// The store has answered. Whether something became durable meanwhile: the answer may not know
    /// of it.
    pub(crate) fn answered(&mut self) -> bool {
        !self.rows.answered().is_empty()
    }

    /// Takes rows from the store, by due time; those after `now` only set the next look.
    /// `complete`: there are no others.
    pub(crate) fn offer_due(&mut self, rows: Vec<DueRow>, complete: bool, now: Timestamp) {
        let meanwhile = self.rows.answered();
        if self.stopped {
            return;
        }
        // Rows come by due time: if the last one is not due yet, all that are have been seen.
        let saw_all = complete || rows.last().is_some_and(|row| row.due > now);
        if complete && self.misses_rows(|key| rows.iter().any(|row| row.key == key)) {
            // Of a chat that something was settled of meanwhile these rows tell nothing.
            let is_known = |key| meanwhile.values().any(|it| *it == key);
            let known = |key| is_known(key) || rows.iter().any(|row| row.key == key);
            match self.misses_rows(known) {
                true => self.rows.recount = true,
                false => self.look_again(now),
            }
        }
        for row in rows {
            let place = self.place_of(&row);
            if meanwhile.contains_key(&place) {
                // It was settled meanwhile; if it is to be retried, its time is known.
            } else if row.due > now {
                self.look_again(row.due);
            } else if !self.is_busy(place) {
                let origin = origin_of_due(&row);
                self.rows.retries.insert(place, (row, origin));
            }
        }
        if !saw_all {
            self.look_again(now);
        }
    }

    /// A key is held by a row that is not there any more: somebody called it off, or erased its
    /// event.
    fn misses_rows(&self, is_there: impl Fn(u64) -> bool) -> bool {
        let is_missing = |key: u64| !self.is_unwritten(key) && !is_there(key);
        self.selection.ordering == Ordering::Strict && self.rows.holds.blocked().any(is_missing)
    }

    /// There may be due rows from `at` on.
    pub(crate) fn look_again(&mut self, at: Timestamp) {
        self.rows.look_again(at);
    }

    /// Takes the next waiting row of a key that [`Self::wants_waiting`] named.
    pub(crate) fn offer_waiting(&mut self, key: u64, row: Option<DueRow>) {
        let meanwhile = self.rows.answered();
        if self.stopped {
            return;
        }
        match row.map(|row| (self.place_of(&row), row)) {
            // It is on its way, or has come back meanwhile.
            Some((place, _)) if self.is_busy(place) || meanwhile.contains_key(&place) => {}
            Some((place, row)) => {
                self.rows.holds.fetched(key);
                self.rows.retries.insert(place, (row, Origin::Waited));
            }
            // None left: the key is free, unless some came up while we looked.
            None if !self.is_unwritten(key) && !meanwhile.values().any(|it| *it == key) => {
                self.rows.holds.let_go(key);
            }
            None => {}
        }
    }

    /// Rows may be looked for now.
    pub(crate) fn wants_due(&self, now: Timestamp) -> bool {
        !self.stopped && self.rows.wants_look(now)
    }

    /// What is held should be read from the store now.
    pub(crate) fn wants_recount(&self) -> bool {
        self.rows.recount && self.is_still()
    }

    /// Until what is held was read again, nothing of the run may be sent, nor probed with.
    pub(crate) fn is_recounting(&self) -> bool {
        self.rows.recount
    }

    /// Takes what the store holds in rows.
    pub(crate) fn recount(&mut self, starts: &[ShardStart]) {
        // Counted before something else was sent or written: once more, later.
        self.rows.recount = !self.rows.answered().is_empty() || !self.is_still();
        if !self.rows.recount {
            self.rows.hold(&held_in(starts), self.selection.ordering);
            // What was read before that was known has its turn by what was believed then: an event
            // whose chat turns out to be held must wait in a row.
            self.rewind();
        }
    }

    /// A key whose next waiting row should be fetched now.
    pub(crate) fn wants_waiting(&self) -> Option<u64> {
        if self.stopped || self.rows.recount {
            return None;
        }
        let at_hand = |key| self.rows.retries.values().any(|(row, _)| row.key == key);
        self.rows.holds.next_free(|key| !self.is_unwritten(key) && !at_hand(key))
    }
}
