//! One look at every destination, for those who watch.

use std::{cmp::Reverse, collections::BinaryHeap};

use zapbus_event::{DestinationId, Position};
use zapbus_store::{Health, Reader, ShardId};

use super::{Entry, Mode, Roster};

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
#[derive(Debug, Clone)]
pub(crate) struct Laggard {
    pub(crate) standing: Standing,
    pub(crate) id: DestinationId,
    pub(crate) reader: Reader,
    /// How far it has come in each shard.
    pub(crate) cursors: Vec<(ShardId, Position)>,
}

/// In which order they are looked at: the one to be dropped first is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    stopped: bool,
    /// Positions between its cursors and the ends of the journal.
    behind: Reverse<u64>,
    id: DestinationId,
}

/// See [`Roster::survey`].
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// By [`Standing`].
    pub(crate) lanes: [u64; 3],
    /// Lanes that have a task.
    pub(crate) awake: u64,
    /// Those furthest behind first.
    pub(crate) laggards: Vec<Laggard>,
}

impl Roster {
    /// Looks at every destination once: how many there are by health, and the `most` of them that
    /// may have something unsettled and whose cursors are furthest behind. `heads` are the ends of
    /// the journal, by shard.
    pub(crate) fn survey(&self, most: usize, heads: &[Position]) -> Survey {
        let mut survey = Survey::default();
        let mut ranks = BinaryHeap::new();
        for (id, entry) in &self.entries {
            let standing = entry.standing();
            survey.lanes[standing as usize] += 1;
            survey.awake += u64::from(matches!(entry.mode, Mode::Running(_)));
            // At the head with nothing to come back to.
            let settled = matches!(entry.mode, Mode::Resting) && entry.wake_at.is_none();
            let unknown = matches!(entry.mode, Mode::Unasked) && entry.head.active;
            if unknown || (settled && entry.head.active) {
                continue;
            }
            let behind = Reverse(entry.behind(heads));
            ranks.push(Rank { stopped: standing == Standing::Stopped, behind, id: *id });
            if ranks.len() > most {
                ranks.pop();
            }
        }
        let ranked = ranks.into_sorted_vec().into_iter();
        survey.laggards = ranked.filter_map(|rank| self.laggard(rank.id)).collect();
        survey
    }

    fn laggard(&self, id: DestinationId) -> Option<Laggard> {
        let entry = self.get(id)?;
        let cursors = match &entry.mode {
            Mode::Running(mail) => mail.shown().collect(),
            _ => entry.cursors.positions(),
        };
        Some(Laggard { standing: entry.standing(), id, reader: entry.reader(), cursors })
    }
}

impl Entry {
    fn standing(&self) -> Standing {
        let probing = match (&self.mode, &self.rest) {
            (Mode::Running(mail), _) => mail.is_probing(),
            (_, Some(rest)) => matches!(rest.memory.health, Health::Probing { .. }),
            (_, None) => false,
        };
        match (self.head.active, probing) {
            (false, _) => Standing::Stopped,
            (true, true) => Standing::Probing,
            (true, false) => Standing::Flowing,
        }
    }

    /// Positions between its cursors and the ends of the journal.
    fn behind(&self, heads: &[Position]) -> u64 {
        let behind = |(shard, at): (ShardId, Position)| {
            let head = heads.get(usize::from(shard.0)).copied().unwrap_or_default();
            head.0.saturating_sub(at.0)
        };
        match &self.mode {
            Mode::Running(mail) => mail.shown().map(behind).sum(),
            _ => self.cursors.iter().map(|(shard, cursor)| behind((shard, cursor.at))).sum(),
        }
    }
}
