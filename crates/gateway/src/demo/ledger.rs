//! The demo's book-keeping: what was accepted, what arrived where, and what is still owed.

use std::collections::HashSet;

use zapbus_event::{Filter, traffic::Simulated};

/// Every event accepted and everything that arrived.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    known: HashSet<String>,
    books: Vec<Book>,
    /// Events that were answered, each once.
    pub(super) accepted: u64,
}

/// One destination's.
#[derive(Debug)]
struct Book {
    filter: Filter,
    /// Accepted and not arrived yet. Ephemeral events are not owed: they may be skipped.
    owed: HashSet<String>,
    arrived: HashSet<String>,
    matched: u64,
    duplicates: u64,
}

/// The figures of one destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Accepted events that arrived.
    pub(super) arrived: u64,
    /// Accepted events that have not.
    pub(super) owed: u64,
    /// Arrivals beyond the first.
    pub(super) duplicates: u64,
}

impl Ledger {
    /// With a book for each filter.
    pub(super) fn new(filters: impl IntoIterator<Item = Filter>) -> Self {
        let book = |filter| Book {
            filter,
            owed: HashSet::new(),
            arrived: HashSet::new(),
            matched: 0,
            duplicates: 0,
        };
        Self { books: filters.into_iter().map(book).collect(), ..Self::default() }
    }

    /// The gateway answered that this event is in the journal under `id`.
    pub(super) fn accepted(&mut self, event: &Simulated, id: &str) {
        if !self.known.insert(id.to_owned()) {
            return;
        }
        self.accepted += 1;
        let (kind, facet) = (event.kind(), event.data.facet());
        for book in &mut self.books {
            if !book.filter.matches(kind, facet) {
                continue;
            }
            if book.arrived.contains(id) {
                book.matched += 1;
            } else if !kind.is_ephemeral(facet) {
                book.owed.insert(id.to_owned());
            }
        }
    }

    /// A receiver took the event with this id.
    pub(super) fn arrived(&mut self, destination: usize, id: &str) {
        let Some(book) = self.books.get_mut(destination) else { return };
        if !book.arrived.insert(id.to_owned()) {
            book.duplicates += 1;
        } else if book.owed.remove(id) || self.known.contains(id) {
            book.matched += 1;
        }
    }

    /// How one destination stands.
    pub(super) fn figures(&self, destination: usize) -> Figures {
        self.books.get(destination).map_or(Figures::default(), |book| Figures {
            arrived: book.matched,
            owed: book.owed.len() as u64,
            duplicates: book.duplicates,
        })
    }

    /// How all of them stand.
    pub(super) fn totals(&self) -> Figures {
        (0..self.books.len()).map(|at| self.figures(at)).fold(Figures::default(), |sum, one| {
            Figures {
                arrived: sum.arrived + one.arrived,
                owed: sum.owed + one.owed,
                duplicates: sum.duplicates + one.duplicates,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use zapbus_event::{
        Kind,
        traffic::{Plan, Traffic},
    };

    use super::*;

    fn event(kind: Kind) -> Simulated {
        Traffic::new(&Plan::default()).find(|event| event.kind() == kind).unwrap()
    }

    fn ledger() -> Ledger {
        Ledger::new([Filter::default(), Filter::parse(&["message.*"]).unwrap()])
    }

    #[test]
    fn what_is_owed_goes_when_it_arrives_whichever_is_heard_of_first() {
        let mut ledger = ledger();
        let message = event(Kind::MessageReceived);
        ledger.accepted(&message, "evt_a");
        // An answer that was lost and asked for again counts once.
        ledger.accepted(&message, "evt_a");
        assert_eq!((ledger.accepted, ledger.totals().owed), (1, 2));
        ledger.arrived(0, "evt_a");
        ledger.arrived(1, "evt_a");
        ledger.arrived(1, "evt_a");
        assert_eq!(ledger.totals(), Figures { arrived: 2, owed: 0, duplicates: 1 });

        ledger.arrived(0, "evt_b");
        ledger.accepted(&message, "evt_b");
        assert_eq!(ledger.figures(0), Figures { arrived: 2, owed: 0, duplicates: 0 });
        assert_eq!(ledger.figures(1).owed, 1);
    }

    #[test]
    fn only_what_a_destination_asked_for_is_owed_and_nothing_ephemeral() {
        let mut ledger = ledger();
        ledger.accepted(&event(Kind::ContactUpdated), "evt_a");
        ledger.accepted(&event(Kind::PresenceChat), "evt_b");
        assert_eq!((ledger.figures(0).owed, ledger.figures(1).owed), (1, 0));
        ledger.arrived(0, "evt_b");
        assert_eq!(ledger.figures(0).arrived, 1);
        // The gateway's own events were never accepted from anybody.
        ledger.arrived(0, "evt_of_the_gateway");
        assert_eq!(ledger.figures(0).arrived, 1);
    }
}
