//! `destination.*`: what a lane says about itself, at most once a minute.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use zapbus_event::{Data, DestinationId, Draft, Kind, Timestamp, data::DestinationChange};

/// At most one change per destination and minute is written; the last state wins.
const QUIET: Duration = Duration::from_secs(60);

/// A destination's states as others see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// One of the `destination.*` types.
    pub(crate) kind: Kind,
    pub(crate) reason: Option<String>,
    pub(crate) since: Timestamp,
}

/// One destination's [`Announcer`], shared by its lane and by whoever stops the lane: two memories
/// would say one thing twice, or nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Voice(Arc<Mutex<Announcer>>);

impl Voice {
    /// Of a destination whose state was told before the gateway started.
    pub(crate) fn known(kind: Kind, since: Timestamp) -> Self {
        let announcer = Announcer { said: Some((kind, since)), ..Announcer::default() };
        Self(Arc::new(Mutex::new(announcer)))
    }

    pub(crate) fn changed(&self, change: Change) {
        self.announcer().pending = Some(change);
    }

    /// When there is something to say.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.announcer().due()
    }

    /// What to say now, if anything.
    pub(crate) fn take(&self, now: Timestamp) -> Option<Change> {
        self.announcer().take(now)
    }

    /// What was taken could not be written: nobody was told.
    pub(crate) fn unsaid(&self, change: Change) {
        let mut announcer = self.announcer();
        announcer.said = announcer.before;
        announcer.pending.get_or_insert(change);
    }

    fn announcer(&self) -> MutexGuard<'_, Announcer> {
        // Every change of it is one assignment: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was said last and what is still to be said.
#[derive(Debug, Default)]
struct Announcer {
    said: Option<(Kind, Timestamp)>,
    /// What had been said before that.
    before: Option<(Kind, Timestamp)>,
    pending: Option<Change>,
}

impl Announcer {
    fn due(&self) -> Option<Timestamp> {
        self.pending.as_ref()?;
        // A clock that went back must not silence the lane for longer than the quiet time.
        Some(self.said.map_or(Timestamp::default(), |(_, at)| at + QUIET))
    }

    fn take(&mut self, now: Timestamp) -> Option<Change> {
        if self.due()? > now {
            return None;
        }
        let change = self.pending.take()?;
        // It came back to where it was before anybody was told.
        let known = self.said.map_or(Kind::DestinationFlowing, |(kind, _)| kind);
        if known == change.kind {
            return None;
        }
        self.before = self.said.replace((change.kind, now));
        Some(change)
    }
}

/// The event that tells of a change.
pub(crate) fn draft(destination: DestinationId, label: &str, change: Change) -> Draft {
    let data = DestinationChange {
        destination,
        label: label.to_owned(),
        reason: change.reason,
        since: Some(change.since),
        until: None,
    };
    let data = match change.kind {
        Kind::DestinationProbing => Data::DestinationProbing(data),
        Kind::DestinationPaused => Data::DestinationPaused(data),
        Kind::DestinationDisabled => Data::DestinationDisabled(data),
        _ => Data::DestinationFlowing(data),
    };
    Draft::of_gateway(&data, change.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000 + seconds * 1000)
    }

    fn change(kind: Kind, seconds: i64) -> Change {
        Change { kind, reason: None, since: at(seconds) }
    }

    #[test]
    fn one_change_a_minute_and_the_last_state_wins() {
        let announcer = Voice::default();
        announcer.changed(change(Kind::DestinationProbing, 0));
        assert_eq!(announcer.take(at(0)), Some(change(Kind::DestinationProbing, 0)));
        announcer.changed(change(Kind::DestinationFlowing, 5));
        assert_eq!(announcer.take(at(5)), None);
        announcer.changed(change(Kind::DestinationProbing, 10));
        assert_eq!(announcer.take(at(60)), None, "it is where it was");
        announcer.changed(change(Kind::DestinationFlowing, 61));
        assert_eq!(announcer.take(at(61)), Some(change(Kind::DestinationFlowing, 61)));
    }

    #[test]
    fn a_lane_that_only_ever_flowed_says_nothing() {
        let announcer = Voice::default();
        announcer.changed(change(Kind::DestinationFlowing, 0));
        assert_eq!(announcer.take(at(0)), None);
    }
}
