//! The hot tail: the newest committed events, in memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use zapbus_event::{AccountId, Event, EventId, InstanceId, Position};

use crate::journal::{Limit, Page, Reader};

/// How many events one call looks at when it has to look at other people's too.
const SCAN: usize = 5_000;

/// The newest events, bounded in bytes. Holds every event beyond `floor`.
#[derive(Debug)]
pub(crate) struct Tail {
    events: VecDeque<Arc<Event>>,
    by_instance: HashMap<InstanceId, VecDeque<Arc<Event>>>,
    floor: Position,
    head: Position,
    bytes: usize,
    bound: usize,
}

impl Tail {
    pub(crate) fn new(head: Position, bound: usize) -> Self {
        Self {
            events: VecDeque::new(),
            by_instance: HashMap::new(),
            floor: head,
            head,
            bytes: 0,
            bound,
        }
    }

    /// Forgets everything: what is in the journal up to `head` must be read there.
    pub(crate) fn reset(&mut self, head: Position) {
        *self = Self::new(head, self.bound);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The last position that is known of.
    pub(crate) fn head(&self) -> Position {
        self.head
    }

    /// Nothing at or below is here.
    pub(crate) fn floor(&self) -> Position {
        self.floor
    }

    /// Takes in committed events, in order.
    pub(crate) fn extend(&mut self, events: impl IntoIterator<Item = Arc<Event>>) {
        for event in events {
            self.bytes += event.weight();
            self.head = event.seq;
            self.by_instance.entry(event.instance).or_default().push_back(Arc::clone(&event));
            self.events.push_back(event);
        }
        while self.bytes > self.bound {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= oldest.weight();
            self.floor = oldest.seq;
            if let Some(own) = self.by_instance.get_mut(&oldest.instance) {
                own.pop_front();
                if own.is_empty() {
                    self.by_instance.remove(&oldest.instance);
                }
            }
        }
    }

    /// Takes out events that were erased or pruned.
    pub(crate) fn remove(&mut self, gone: impl Fn(&Event) -> bool) {
        let mut freed = 0;
        self.events.retain(|event| {
            let goes = gone(event);
            if goes {
                freed += event.weight();
            }
            !goes
        });
        if freed == 0 {
            return;
        }
        self.bytes -= freed;
        self.by_instance.retain(|_, own| {
            own.retain(|event| !gone(event));
            !own.is_empty()
        });
    }

    /// What comes after `after`, or `None` when the tail does not reach back that far.
    pub(crate) fn after(
        &self,
        of: Reader,
        after: Position,
        limit: Limit,
        account_of: impl Fn(InstanceId) -> Option<AccountId>,
    ) -> Option<Page> {
        if after < self.floor {
            return None;
        }
        if after >= self.head {
            // The caller may know more than we do: nothing is missing up to there.
            return Some(Page { events: Vec::new(), upto: after, at_head: true });
        }
        let empty = VecDeque::new();
        let source = match of {
            Reader::Instance(instance) => self.by_instance.get(&instance).unwrap_or(&empty),
            Reader::Account(_) | Reader::All => &self.events,
        };
        let from = source.partition_point(|event| event.seq <= after);
        let mut page = Page { events: Vec::new(), upto: after, at_head: false };
        let mut bytes = 0;
        for (looked, event) in source.range(from..).enumerate() {
            if page.events.len() >= limit.events || looked >= SCAN {
                return Some(page);
            }
            let wanted = match of {
                Reader::Account(account) => account_of(event.instance) == Some(account),
                Reader::Instance(_) | Reader::All => true,
            };
            if wanted {
                bytes += event.weight();
                if bytes > limit.bytes && !page.events.is_empty() {
                    return Some(page);
                }
                page.events.push(Arc::clone(event));
            }
            page.upto = event.seq;
        }
        page.upto = self.head;
        page.at_head = true;
        Some(page)
    }

    /// The event with this id, if it is here.
    pub(crate) fn event(&self, id: EventId) -> Option<Arc<Event>> {
        let at = id.timestamp();
        let from = self.events.partition_point(|event| event.received_at < at);
        self.events
            .range(from..)
            .take_while(|event| event.received_at == at)
            .find(|event| event.id == id)
            .cloned()
    }

    /// The event at this position, if it is here.
    pub(crate) fn event_at(&self, seq: Position) -> Option<Arc<Event>> {
        self.events
            .binary_search_by_key(&seq, |event| event.seq)
            .ok()
            .map(|at| Arc::clone(&self.events[at]))
    }
}
