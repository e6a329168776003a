//! What goes wrong, when, and for how long: all of it rolled before it begins.

use std::{fmt, time::Duration};

use crate::{load::Dice, proxy::Link};

pub(crate) const NODES: usize = 3;

/// Something that goes wrong and is put right again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `SIGKILL` to a node; then it is started again.
    Kill(usize),
    /// `SIGSTOP` to a node, then `SIGCONT`.
    Freeze(usize),
    /// A node is asked to stop, does, and is started again.
    Restart(usize),
    /// The way between a node and the database.
    Link(usize, Link),
    /// The database is stopped in good order and started again.
    DatabaseRestart,
    /// `SIGKILL` to the database; then it is started again.
    DatabaseKill,
}

impl Fault {
    /// Its place in the report, where faults of a kind are together.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Kill(_) => "node killed",
            Self::Freeze(_) => "node frozen",
            Self::Restart(_) => "node restarted",
            Self::Link(_, Link::Slow(_)) => "link slow",
            Self::Link(_, Link::Stalled) => "link stalled",
            Self::Link(_, Link::Mute) => "link mute",
            Self::Link(_, Link::Cut) => "link cut",
            Self::Link(_, Link::Refusing) => "link refusing",
            Self::Link(_, Link::Good) => "link good",
            Self::DatabaseRestart => "database restarted",
            Self::DatabaseKill => "database killed",
        }
    }

    /// The node it concerns; the database concerns all.
    pub(crate) fn node(self) -> Option<usize> {
        match self {
            Self::Kill(node) | Self::Freeze(node) | Self::Restart(node) | Self::Link(node, _) => {
                Some(node)
            }
            Self::DatabaseRestart | Self::DatabaseKill => None,
        }
    }

    /// How long it lasts, in milliseconds: with the lease of 3 s well beyond it where a takeover is
    /// what it is about.
    fn range(self, form: Form) -> (u64, u64) {
        match (self, form) {
            (Self::Kill(_), _) => (6_000, 8_000),
            (Self::Freeze(_), Form::Short) => (7_000, 9_000),
            (Self::Freeze(_), Form::Long) => (500, 30_000),
            (Self::Restart(_), _) => (500, 3_000),
            (Self::Link(_, Link::Slow(_)), _) => (4_000, 6_000),
            (Self::Link(..), Form::Short) => (6_000, 7_000),
            (Self::Link(..), Form::Long) => (500, 15_000),
            (Self::DatabaseRestart, _) => (0, 2_000),
            (Self::DatabaseKill, Form::Short) => (0, 2_000),
            (Self::DatabaseKill, Form::Long) => (0, 10_000),
        }
    }
}

/// Everything once, or for as long as one likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Each kind of fault once, one at a time.
    Short,
    /// Longer ones, and at times two at once.
    Long,
}

/// Faults that begin together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Of good weather before.
    pub(crate) calm: Duration,
    /// One, or two that concern different things.
    pub(crate) faults: Vec<Fault>,
    pub(crate) lasts: Duration,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calm for {:?}, then {:?} for {:?}", self.calm, self.faults, self.lasts)
    }
}

/// The next round: each kind of fault once, in an order of its own.
pub(crate) fn round(dice: &mut Dice, form: Form) -> Vec<Step> {
    let late = Duration::from_millis(dice.between(20, 120));
    let mut node = || dice.between(0, NODES as u64) as usize;
    let mut faults = vec![
        Fault::Kill(node()),
        Fault::Freeze(node()),
        Fault::Restart(node()),
        Fault::Link(node(), Link::Slow(late)),
        Fault::Link(node(), Link::Stalled),
        Fault::Link(node(), Link::Mute),
        Fault::Link(node(), Link::Cut),
        Fault::Link(node(), Link::Refusing),
        Fault::DatabaseRestart,
        Fault::DatabaseKill,
    ];
    for last in (1..faults.len()).rev() {
        faults.swap(last, dice.between(0, last as u64 + 1) as usize);
    }
    let mut steps = Vec::new();
    while let Some(fault) = faults.pop() {
        let mut step = Step {
            calm: Duration::from_millis(dice.between(3_000, 4_000)),
            faults: vec![fault],
            lasts: Duration::ZERO,
        };
        let apart = |other: &Fault| other.node() != fault.node();
        if form == Form::Long && dice.between(0, 3) == 0 && faults.last().is_some_and(apart) {
            step.faults.extend(faults.pop());
        }
        let (low, high) = fault.range(form);
        step.lasts = Duration::from_millis(dice.between(low, high));
        steps.push(step);
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_is_a_schedule() {
        let [first, again, other] =
            [7, 7, 8].map(|seed| [(); 5].map(|()| round(&mut Dice(seed), Form::Long)));
        assert_eq!(first, again);
        assert_ne!(first, other);
    }

    #[test]
    fn every_round_has_every_kind_of_fault_and_the_short_one_is_short() {
        for seed in 0..100 {
            for form in [Form::Short, Form::Long] {
                let steps = round(&mut Dice(seed), form);
                let all: Vec<Fault> = steps.iter().flat_map(|step| step.faults.clone()).collect();
                let kinds: BTreeSet<_> = all.iter().map(|fault| fault.kind()).collect();
                assert_eq!((kinds.len(), all.len()), (10, 10), "{all:?}");
            }
            let steps = round(&mut Dice(seed), Form::Short);
            assert!(steps.iter().all(|step| step.faults.len() == 1));
            let lasts: Duration = steps.iter().map(|step| step.calm + step.lasts).sum();
            assert!(lasts < Duration::from_secs(100), "{lasts:?}");
        }
    }

    #[test]
    fn two_at_once_never_concern_the_same_node_and_leave_one_alone() {
        let mut pairs = 0;
        for seed in 0..100 {
            for step in round(&mut Dice(seed), Form::Long) {
                if let [one, other] = step.faults[..] {
                    assert_ne!(one.node(), other.node());
                    pairs += 1;
                }
            }
        }
        assert!(pairs > 50, "{pairs}");
    }
}
