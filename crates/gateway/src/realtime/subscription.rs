//! One live consumer: what it has been sent and has not acknowledged, what comes again and when, and
//! what is given up. Pure: it is told the time and does no I/O.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use zapbus_event::{EventId, Timestamp};
use zapbus_store::{OpenEvent, Place};

/// Who says that an event is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    /// Nobody: it is when it is written to the connection.
    Auto,
    /// The client, for each event.
    Explicit,
    /// The client if it can: one that has never acknowledged anything when its window first fills is
    /// [`Acks::Auto`] from then on.
    Trial,
}

/// How much a subscription may have unacknowledged, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    /// Events.
    pub(crate) max_unacked: u32,
    /// Bytes of them; one event may go beyond it.
    pub(crate) max_unacked_bytes: u64,
    /// After that an event comes again.
    pub(crate) ack_wait: Duration,
    /// After so many times it does not.
    pub(crate) max_deliveries: u32,
}

/// The state of a subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    acks: Acks,
    window: Window,
    /// It has acknowledged something.
    heard: bool,
    unacked: BTreeMap<Place, Unacked>,
    bytes: u64,
    /// Of the unacknowledged, those that are to be sent again.
    again: BTreeSet<Place>,
    /// Not later than the first of them comes again.
    due: Option<Timestamp>,
    changes: Changes,
}

#[derive(Debug, Clone, Copy)]
struct Unacked {
    /// Known from the first time it is sent here.
    id: Option<EventId>,
    bytes: u32,
    deliveries: u32,
    sent_at: Timestamp,
    /// When it comes again.
    due: Timestamp,
    /// How often somebody had it sent again after it was dead.
    round: u32,
}

/// What has happened since somebody last asked.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Sent, and waiting to be acknowledged.
    pub(super) opened: Vec<OpenEvent>,
    /// Acknowledged, or no longer stored.
    pub(super) done: Vec<Place>,
    /// Sent as often as may be.
    pub(super) dead: Vec<(OpenEvent, Option<EventId>)>,
}

impl Subscription {
    /// A new one. `open` is what it was sent before and has not acknowledged.
    pub(super) fn new(
        acks: Acks,
        window: Window,
        open: impl IntoIterator<Item = OpenEvent>,
    ) -> Self {
        let mut this = Self {
            acks,
            window,
            heard: false,
            unacked: BTreeMap::new(),
            bytes: 0,
            again: BTreeSet::new(),
            due: None,
            changes: Changes::default(),
        };
        for event in open.into_iter().filter(|event| !event.parked) {
            if event.deliveries >= window.max_deliveries {
                this.changes.dead.push((OpenEvent { parked: true, ..event }, None));
                continue;
            }
            this.reopen(event);
        }
        this
    }

    fn reopen(&mut self, event: OpenEvent) {
        let OpenEvent { deliveries, sent_at, round, .. } = event;
        let unacked = Unacked { id: None, bytes: 0, deliveries, sent_at, due: sent_at, round };
        self.unacked.insert(event.place(), unacked);
        self.again.insert(event.place());
    }

    /// Somebody has these sent again, of which some are on their way already.
    pub(super) fn revive(&mut self, events: impl IntoIterator<Item = OpenEvent>) {
        for event in events {
            let known = self.unacked.get(&event.place());
            if known.is_none_or(|known| known.round < event.round) {
                self.forget(event.place());
                self.reopen(event);
            }
        }
    }

    /// Who acknowledges, as it is by now.
    pub(super) fn acks(&self) -> Acks {
        self.acks
    }

    /// Events that are not acknowledged.
    pub(super) fn unacked(&self) -> usize {
        self.unacked.len()
    }

    /// What is to be sent again next.
    pub(super) fn next_again(&self) -> Option<Place> {
        self.again.first().copied()
    }

    /// Whether there is room for an event that was not sent before. What comes again comes first.
    pub(super) fn takes(&mut self) -> bool {
        if !self.again.is_empty() {
            return false;
        }
        let full = self.unacked.len() >= self.window.max_unacked as usize
            || self.bytes >= self.window.max_unacked_bytes;
        match self.acks {
            Acks::Auto => true,
            Acks::Explicit => !full,
            Acks::Trial if full && !self.heard => {
                self.acks = Acks::Auto;
                self.written();
                true
            }
            Acks::Trial => !full,
        }
    }

    /// An event is being sent, for the first time or again. `waits`: it counts until it is
    /// acknowledged; without, somebody else has acknowledged it already.
    pub(super) fn offer(
        &mut self,
        place: Place,
        id: EventId,
        bytes: usize,
        waits: bool,
        now: Timestamp,
    ) {
        let again = self.again.remove(&place);
        if (self.acks == Acks::Auto && !again) || !waits {
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = self.unacked.get(&place).copied();
        let deliveries = before.map_or(0, |before| before.deliveries) + 1;
        self.bytes -= before.map_or(0, |before| u64::from(before.bytes));
        self.bytes += u64::from(bytes);
        let due = now + self.window.ack_wait;
        let round = before.map_or(0, |before| before.round);
        let unacked = Unacked { id: Some(id), bytes, deliveries, sent_at: now, due, round };
        self.unacked.insert(place, unacked);
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
        self.changes.opened.push(unacked.at(place));
    }

    /// What was offered is written: where nobody acknowledges, that is all there is to it.
    pub(super) fn written(&mut self) {
        if self.acks != Acks::Auto {
            return;
        }
        // What still has to come again was not written.
        let again = &self.again;
        let bytes = &mut self.bytes;
        let done = &mut self.changes.done;
        self.unacked.retain(|place, unacked| {
            let stays = again.contains(place);
            if !stays {
                *bytes -= u64::from(unacked.bytes);
                done.push(*place);
            }
            stays
        });
    }

    /// The client has acknowledged an event. Whether that was news.
    pub(super) fn acknowledge(&mut self, id: EventId) -> bool {
        self.heard = true;
        let Some(place) = self.place_of(id) else { return false };
        self.forget(place);
        self.changes.done.push(place);
        true
    }

    fn place_of(&self, id: EventId) -> Option<Place> {
        let known = self.unacked.iter().find(|(_, unacked)| unacked.id == Some(id));
        known.map(|(place, _)| *place)
    }

    /// An event comes again after `pause`, whether that is sooner than it would or later: the client
    /// could not do it, or is still at it. Whether that was news.
    pub(super) fn postpone(&mut self, id: EventId, pause: Duration, now: Timestamp) -> bool {
        self.heard = true;
        let Some(place) = self.place_of(id) else { return false };
        let Some(unacked) = self.unacked.get_mut(&place) else { return false };
        let due = now + pause;
        unacked.due = due;
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
        true
    }

    /// [`Subscription::postpone`] for as long as any event waits.
    pub(super) fn keep(&mut self, id: EventId, now: Timestamp) -> bool {
        self.postpone(id, self.window.ack_wait, now)
    }

    /// The client does not want an event again: it is dead. Whether that was news.
    pub(super) fn reject(&mut self, id: EventId) -> bool {
        self.heard = true;
        let Some(place) = self.place_of(id) else { return false };
        let Some(unacked) = self.unacked.get(&place).copied() else { return false };
        self.forget(place);
        self.changes.dead.push((OpenEvent { parked: true, ..unacked.at(place) }, Some(id)));
        true
    }

    /// An event that should come again is not stored any more.
    pub(super) fn gone(&mut self, place: Place) {
        self.forget(place);
        self.changes.done.push(place);
    }

    /// Forgets what was settled on another connection.
    pub(super) fn keep_open(&mut self, is_open: impl Fn(Place) -> bool) {
        let settled: Vec<Place> =
            self.unacked.keys().copied().filter(|place| !is_open(*place)).collect();
        for place in settled {
            self.forget(place);
        }
    }

    fn forget(&mut self, place: Place) {
        if let Some(unacked) = self.unacked.remove(&place) {
            self.bytes -= u64::from(unacked.bytes);
        }
        self.again.remove(&place);
    }

    /// What has waited for too long comes again, or is dead.
    pub(super) fn pass(&mut self, now: Timestamp) {
        if self.due.is_none_or(|due| due > now) || self.acks == Acks::Auto {
            return;
        }
        let most = self.window.max_deliveries;
        let late: Vec<(Place, Unacked)> = self
            .unacked
            .iter()
            .filter(|(place, it)| it.due <= now && !self.again.contains(place))
            .map(|(place, it)| (*place, *it))
            .collect();
        for (place, unacked) in late {
            if unacked.deliveries < most {
                self.again.insert(place);
                continue;
            }
            self.forget(place);
            self.changes.dead.push((OpenEvent { parked: true, ..unacked.at(place) }, unacked.id));
        }
        let waiting = self.unacked.iter().filter(|(place, _)| !self.again.contains(place));
        self.due = waiting.map(|(_, unacked)| unacked.due).min();
    }

    /// When [`Subscription::pass`] may have something to do.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.acks == Acks::Auto { None } else { self.due }
    }

    /// What has happened since this was last asked.
    pub(super) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }
}

impl Unacked {
    fn at(&self, (shard, seq): Place) -> OpenEvent {
        let Self { deliveries, sent_at, round, .. } = *self;
        OpenEvent { shard, seq, deliveries, sent_at, parked: false, round }
    }
}
