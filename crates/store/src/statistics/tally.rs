//! Figures that are not written yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use zapbus_event::{DestinationId, InstanceId, Timestamp};

use super::{Figures, Slot};
use crate::{
    delivery::{Settlement, State},
    journal::{Append, Appended},
};

/// Whose figures gather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Destination(DestinationId),
    Instance(InstanceId),
}

/// Figures by whose they are and when.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    gathered: Mutex<HashMap<(Key, Slot), Figures>>,
    /// Held while figures are on their way into the store.
    pub(super) writing: tokio::sync::Mutex<()>,
}

/// What a settlement will add when it is durable.
pub(crate) struct Outcomes(Vec<(DestinationId, Outcome)>);

struct Outcome {
    accepted: Option<bool>,
    latency_ms: u32,
    at: Option<Timestamp>,
    dead: bool,
    expired: u64,
}

/// Whose events an append brings.
pub(crate) enum Owners {
    One(InstanceId),
    Many(Vec<InstanceId>),
}

impl Tally {
    fn gathered(&self) -> MutexGuard<'_, HashMap<(Key, Slot), Figures>> {
        // Figures are no promise: after a panic, those that are there are as good as any.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn outcomes(settlements: &[Settlement]) -> Outcomes {
        let rows = settlements
            .iter()
            .flat_map(|settlement| settlement.rows.iter().map(|row| (settlement.lane, row)));
        let found = rows.filter_map(|(lane, row)| {
            let attempt = row.attempt.as_ref();
            let outcome = Outcome {
                accepted: attempt.map(|attempt| attempt.error.is_none()),
                latency_ms: attempt.map_or(0, |attempt| attempt.latency_ms),
                at: matches!(row.state, State::Delivered)
                    .then(|| attempt.map(|attempt| attempt.at))
                    .flatten(),
                dead: matches!(row.state, State::Dead { .. }),
                expired: match row.state {
                    State::Expired { count, .. } => count,
                    _ => 0,
                },
            };
            let counts = outcome.accepted.is_some() || outcome.dead || outcome.expired > 0;
            counts.then_some((lane.destination, outcome))
        });
        Outcomes(found.collect())
    }

    pub(crate) fn settled(&self, outcomes: &Outcomes, now: Timestamp) {
        if outcomes.0.is_empty() {
            return;
        }
        let slot = Slot::of(now);
        let mut gathered = self.gathered();
        for (destination, outcome) in &outcomes.0 {
            let figures = gathered.entry((Key::Destination(*destination), slot)).or_default();
            if let Some(accepted) = outcome.accepted {
                figures.accepted += u64::from(accepted);
                figures.failed += u64::from(!accepted);
                figures.latencies.observe(outcome.latency_ms);
            }
            figures.dead += u64::from(outcome.dead);
            figures.expired += outcome.expired;
            figures.last_delivered = figures.last_delivered.max(outcome.at);
        }
    }

    pub(crate) fn owners(append: &Append) -> Owners {
        let mut instances = append.events.iter().map(|event| event.instance);
        match instances.next() {
            Some(first) if instances.all(|instance| instance == first) => Owners::One(first),
            _ => Owners::Many(append.events.iter().map(|event| event.instance).collect()),
        }
    }

    pub(crate) fn appended(&self, owners: &Owners, appended: &[Appended], now: Timestamp) {
        let slot = Slot::of(now);
        let add = |instance: InstanceId, events: u64| {
            if events > 0 {
                let mut gathered = self.gathered();
                gathered.entry((Key::Instance(instance), slot)).or_default().events += events;
            }
        };
        match owners {
            Owners::One(instance) => {
                add(*instance, appended.iter().filter(|event| !event.duplicate).count() as u64);
            }
            Owners::Many(instances) => {
                for (instance, event) in instances.iter().zip(appended) {
                    add(*instance, u64::from(!event.duplicate));
                }
            }
        }
    }

    pub(super) fn find(&self, wanted: impl Fn(&Key) -> bool) -> Vec<(Slot, Figures)> {
        let gathered = self.gathered();
        let found = gathered.iter().filter(|((key, _), _)| wanted(key));
        found.map(|((_, slot), figures)| (*slot, figures.clone())).collect()
    }

    pub(super) fn take(&self) -> Vec<(Key, Slot, Figures)> {
        let gathered = std::mem::take(&mut *self.gathered());
        gathered.into_iter().map(|((key, slot), figures)| (key, slot, figures)).collect()
    }

    pub(super) fn put_back(&self, rows: &[(Key, Slot, Figures)]) {
        let mut gathered = self.gathered();
        for (key, slot, figures) in rows {
            gathered.entry((*key, *slot)).or_default().merge(figures);
        }
    }
}
