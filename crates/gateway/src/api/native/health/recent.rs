//! What went wrong of late: counters only grow, and a fault of last month is no reason for alarm.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use zapbus_event::Timestamp;
use zapbus_store::Metrics;

/// What counts as of late.
const LATE: Duration = Duration::from_secs(3_600);

/// How far apart counters are looked at.
const APART: Duration = Duration::from_secs(300);

/// Faults counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Commits that failed.
    pub(super) failed_commits: u64,
    /// Appends refused because too much was waiting for the disk.
    pub(super) busy: u64,
}

impl Faults {
    fn of(metrics: &Metrics) -> Self {
        Self { failed_commits: metrics.failed_commits.get(), busy: metrics.busy.get() }
    }
}

/// What the counters were during the last hour.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<(Timestamp, Faults)>>);

impl Recent {
    /// Looks at the counters, now and then.
    pub fn look(&self, metrics: &Metrics, now: Timestamp) {
        self.note(Faults::of(metrics), now);
    }

    fn note(&self, faults: Faults, now: Timestamp) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.back().is_some_and(|(at, _)| now.since(*at) < APART) {
            return;
        }
        looks.push_back((now, faults));
        // The last one before the hour stays: it is what the hour began with.
        while looks.get(1).is_some_and(|(at, _)| now.since(*at) >= LATE) {
            looks.pop_front();
        }
    }

    /// What has been counted in the last hour, give or take a few minutes.
    pub(super) fn faults(&self, metrics: &Metrics, now: Timestamp) -> Faults {
        self.since_an_hour(Faults::of(metrics), now)
    }

    fn since_an_hour(&self, faults: Faults, now: Timestamp) -> Faults {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = looks.iter().rev().find(|(at, _)| now.since(*at) >= LATE);
        // Not so long ago, everything since the start is of late.
        let before = before.map(|(_, faults)| *faults).unwrap_or_default();
        Faults {
            failed_commits: faults.failed_commits.saturating_sub(before.failed_commits),
            busy: faults.busy.saturating_sub(before.busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_forgotten_after_an_hour() {
        let recent = Recent::default();
        let start = Timestamp::from_millis(1_700_000_000_000);
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let faults = |busy| Faults { failed_commits: 1, busy };
        assert_eq!(recent.since_an_hour(faults(3), at(0)), faults(3), "also before any look");
        for minute in 0..=70 {
            recent.note(faults(if minute < 30 { 3 } else { 5 }), at(minute));
        }
        let of_late = |busy, failed_commits| Faults { failed_commits, busy };
        assert_eq!(recent.since_an_hour(faults(5), at(70)), of_late(2, 0));
        assert_eq!(recent.since_an_hour(faults(5), at(100)), of_late(0, 0));
        for minute in 71..10_000 {
            recent.note(faults(5), at(minute));
        }
        assert!(recent.0.lock().unwrap().len() <= 14, "it does not grow");
        assert_eq!(recent.since_an_hour(faults(6), at(10_000)), of_late(1, 0));
    }
}
