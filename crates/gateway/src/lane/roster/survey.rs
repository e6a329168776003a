//! One look at every destination, for those who watch.

use std::collections::BinaryHeap;

use zapbus_event::{DestinationId, Position};
use zapbus_store::{Health, Reader};

use super::{Mode, Roster};

/// How a destination stands: those that ought to deliver come before those a person stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    Flowing,
    Probing,
    Stopped,
}

impl Standing {
    pub(crate) const ALL: [Self; 3] = [Self::Flowing, Self::Probing, Self::Stopped];

    /// Its name as a label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Flowing => "flowing",
            Self::Probing => "probing",
            Self::Stopped => "stopped",
        }
    }
}

/// A destination that may have something unsettled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Laggard {
    pub(crate) standing: Standing,
    pub(crate) cursor: Position,
    pub(crate) id: DestinationId,
    pub(crate) reader: Reader,
}

impl Laggard {
    fn rank(&self) -> (bool, Position, DestinationId) {
        (self.standing == Standing::Stopped, self.cursor, self.id)
    }
}

/// The one to be dropped first is the greatest.
impl Ord for Laggard {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Laggard {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Laggard {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Laggard {}

/// See [`Roster::survey`].
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// By [`Standing`].
    pub(crate) lanes: [u64; 3],
    /// Lanes that have a task.
    pub(crate) awake: u64,
    pub(crate) laggards: BinaryHeap<Laggard>,
}

impl Roster {
    /// Looks at every destination once: how many there are by health, and the `most` of them that
    /// may have something unsettled and whose cursors are furthest behind.
    pub(crate) fn survey(&self, most: usize) -> Survey {
        let mut survey = Survey::default();
        for (id, entry) in &self.entries {
            let resting = entry.rest.as_ref().map(|rest| rest.memory.health);
            let (cursor, probing, awake) = match &entry.mode {
                Mode::Running(mail) => {
                    let (cursor, probing) = mail.shown();
                    (cursor, probing, true)
                }
                _ => (entry.cursor, matches!(resting, Some(Health::Probing { .. })), false),
            };
            let standing = match (entry.head.active, probing) {
                (false, _) => Standing::Stopped,
                (true, true) => Standing::Probing,
                (true, false) => Standing::Flowing,
            };
            survey.lanes[standing as usize] += 1;
            survey.awake += u64::from(awake);
            // At the head with nothing to come back to.
            let settled = matches!(entry.mode, Mode::Resting) && entry.wake_at.is_none();
            let unknown = matches!(entry.mode, Mode::Unasked) && entry.head.active;
            if unknown || (settled && entry.head.active) {
                continue;
            }
            survey.laggards.push(Laggard { standing, cursor, id: *id, reader: entry.reader() });
            if survey.laggards.len() > most {
                survey.laggards.pop();
            }
        }
        survey
    }
}
