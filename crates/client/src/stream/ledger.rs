//! Which events a subscription was sent and what became of them: what is settled, from where a new
//! connection goes on, and what somebody still works on. Pure.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Settled events that are remembered behind the cursor: a server may send them again when it has
/// not heard of it.
const REMEMBERED: usize = 8_192;

/// Events in front of the cursor. A subscription that holds one event for so long that this many
/// came after it reads no further until it is settled.
const AHEAD: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Somebody has it.
    Held,
    /// Nobody has it, and it is not settled: it is to come again.
    Dropped,
    /// It is done with.
    Settled,
}

/// What to do with an event that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// It is new.
    New,
    /// It was here before, and comes again because nobody settled it.
    Again,
    /// Somebody still works on it: nothing is to be done.
    Held,
    /// It was settled, and the server does not know.
    Settled,
}

/// The ledger of one subscription.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    states: HashMap<Arc<str>, State>,
    /// In the order of their first arrival; the first is not settled.
    ahead: VecDeque<Arc<str>>,
    /// Settled, behind the cursor.
    behind: VecDeque<Arc<str>>,
    cursor: Option<Arc<str>>,
    held: usize,
}

impl Ledger {
    /// One that begins after a place.
    pub(crate) fn after(cursor: Option<&str>) -> Self {
        Self { cursor: cursor.map(Arc::from), ..Self::default() }
    }

    /// Everything up to it is settled: an event id, or a cursor of the server.
    pub(crate) fn cursor(&self) -> Option<&Arc<str>> {
        self.cursor.as_ref()
    }

    /// The server says where it begins; it counts if nothing better is known.
    pub(crate) fn begin(&mut self, cursor: &str) {
        if self.cursor.is_none() {
            self.cursor = Some(cursor.into());
        }
    }

    /// Events that somebody has.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Whether no more may be read now.
    pub(crate) fn is_full(&self) -> bool {
        self.ahead.len() >= AHEAD
    }

    /// An event has arrived.
    pub(crate) fn arrive(&mut self, id: &Arc<str>) -> Arrived {
        let arrived = match self.states.get(id) {
            Some(State::Held) => return Arrived::Held,
            Some(State::Settled) => return Arrived::Settled,
            Some(State::Dropped) => Arrived::Again,
            None => {
                self.ahead.push_back(id.clone());
                Arrived::New
            }
        };
        self.states.insert(id.clone(), State::Held);
        self.held += 1;
        arrived
    }

    /// An event is done with. Whether that was news.
    pub(crate) fn settle(&mut self, id: &str) -> bool {
        let Some(state) = self.states.get_mut(id) else { return false };
        if *state == State::Settled {
            return false;
        }
        if *state == State::Held {
            self.held -= 1;
        }
        *state = State::Settled;
        while let Some(first) = self.ahead.front()
            && self.states.get(first) == Some(&State::Settled)
        {
            if let Some(first) = self.ahead.pop_front() {
                self.cursor = Some(first.clone());
                self.behind.push_back(first);
            }
        }
        while self.behind.len() > REMEMBERED {
            if let Some(oldest) = self.behind.pop_front() {
                self.states.remove(&oldest);
            }
        }
        true
    }

    /// Whoever had it has given it back.
    pub(crate) fn give_back(&mut self, id: &str) {
        if let Some(state) = self.states.get_mut(id)
            && *state == State::Held
        {
            *state = State::Dropped;
            self.held -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<const N: usize>() -> [Arc<str>; N] {
        std::array::from_fn(|number| Arc::from(format!("evt_{number}")))
    }

    fn cursor(ledger: &Ledger) -> Option<&str> {
        ledger.cursor().map(|cursor| &**cursor)
    }

    #[test]
    fn the_cursor_stands_before_the_first_that_is_not_settled() {
        let [a, b, c] = ids();
        let mut ledger = Ledger::after(None);
        ledger.begin("pos_7");
        ledger.begin("pos_9");
        for id in [&a, &b, &c] {
            assert_eq!(ledger.arrive(id), Arrived::New);
        }
        assert!(ledger.settle(&b));
        assert!(!ledger.settle(&b));
        assert_eq!((cursor(&ledger), ledger.held()), (Some("pos_7"), 2));
        ledger.settle(&a);
        assert_eq!(cursor(&ledger), Some("evt_1"));
        ledger.settle(&c);
        assert_eq!((cursor(&ledger), ledger.held()), (Some("evt_2"), 0));
    }

    #[test]
    fn what_comes_again_is_told_apart() {
        let [a, b] = ids();
        let mut ledger = Ledger::after(Some("evt_x"));
        ledger.arrive(&a);
        ledger.arrive(&b);
        assert_eq!(ledger.arrive(&a), Arrived::Held);
        ledger.give_back(&a);
        assert_eq!(ledger.held(), 1);
        assert_eq!(ledger.arrive(&a), Arrived::Again);
        ledger.settle(&a);
        assert_eq!(ledger.arrive(&a), Arrived::Settled);
        // Too late to give it back.
        ledger.give_back(&a);
        assert_eq!(ledger.arrive(&a), Arrived::Settled);
        assert!(!ledger.settle("evt_of_somebody_else"));
    }

    #[test]
    fn it_does_not_grow() {
        let mut ledger = Ledger::after(None);
        for number in 0..3 * REMEMBERED {
            let id: Arc<str> = format!("evt_{number}").into();
            ledger.arrive(&id);
            ledger.settle(&id);
        }
        assert_eq!((ledger.states.len(), ledger.ahead.len()), (REMEMBERED, 0));
        let stuck: Arc<str> = "evt_stuck".into();
        ledger.arrive(&stuck);
        for number in 1..AHEAD {
            assert!(!ledger.is_full());
            let id: Arc<str> = format!("evt_more_{number}").into();
            ledger.arrive(&id);
            ledger.settle(&id);
        }
        assert!(ledger.is_full());
        ledger.settle(&stuck);
        assert!(!ledger.is_full());
        assert_eq!(ledger.states.len(), REMEMBERED);
    }
}
