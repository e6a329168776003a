//! Who sent what by which right: what webhook requests of test builds say of the lease they are
//! sent under, and the rules that hold for it.
//!
//! A request says when its sender last looked whether it holds the lease. All processes here share
//! a clock, so "no lane is run by two nodes" can be checked without any tolerance: nobody may have
//! looked, and gone on, after someone with a later epoch had begun. A request that was on its way
//! at a takeover arrives late; it did not look late.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::load::receiver::Received;

/// Names shard, epoch, node and the microsecond in which the lease was looked at.
const HEADER: &str = "zapbus-test-lease";

/// How long a request may take from the look to its arrival, while nobody is frozen.
const PROMPT: Duration = Duration::from_secs(2);

/// Since 1970, by the clock that all processes here share.
pub(crate) type Moment = Duration;

pub(crate) fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

/// A time in which a node did not run.
#[derive(Debug, Clone)]
pub(crate) struct Freeze {
    pub(crate) node: String,
    pub(crate) from: Moment,
    pub(crate) to: Moment,
}

/// What a request says of the lease it is sent under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) shard: u16,
    pub(crate) epoch: u64,
    pub(crate) node: String,
    pub(crate) looked: Moment,
}

impl Claim {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let claim = Self {
            shard: parts.next()?.parse().ok()?,
            epoch: parts.next()?.parse().ok()?,
            node: parts.next()?.to_owned(),
            looked: Duration::from_micros(parts.next()?.parse().ok()?),
        };
        parts.next().is_none().then_some(claim)
    }
}

/// What was sent in one epoch of a shard.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) node: String,
    /// The first and the last look at the lease.
    pub(crate) looked: (Moment, Moment),
    /// The first and the last arrival.
    pub(crate) arrived: (Moment, Moment),
    pub(crate) requests: usize,
    /// Requests that arrived after one of a later epoch.
    pub(crate) stale: usize,
}

/// Everything that was claimed. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Leases(Arc<Mutex<History>>);

/// The same at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// By shard and epoch.
    turns: BTreeMap<u16, BTreeMap<u64, Turn>>,
    /// Where each destination is at home.
    homes: BTreeMap<String, u16>,
    /// Requests that took longer than they should.
    late: Vec<(Claim, Moment)>,
    /// What is wrong already.
    wrong: BTreeSet<String>,
}

impl Leases {
    /// Notes a request to a destination.
    pub(crate) fn note(&self, destination: &str, request: &Received) {
        let mut history = self.0.lock().unwrap();
        match request.header(HEADER).and_then(Claim::parse) {
            Some(claim) => history.note(destination, claim, now()),
            None => {
                let said = request.header(HEADER);
                history.wrong.insert(format!("{destination}: a request with {HEADER}: {said:?}"));
            }
        }
    }

    pub(crate) fn so_far(&self) -> History {
        self.0.lock().unwrap().clone()
    }
}

/// How one shard went from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Takeover {
    pub(crate) shard: u16,
    /// From the fault to the first request of the next owner. `None`: nobody has sent anything.
    pub(crate) after: Option<Duration>,
    /// From the last request of the one to the first of the other.
    pub(crate) gap: Option<Duration>,
}

impl History {
    fn note(&mut self, destination: &str, claim: Claim, at: Moment) {
        let home = *self.homes.entry(destination.to_owned()).or_insert(claim.shard);
        if home != claim.shard {
            self.wrong.insert(format!("{destination} is in shard {home} and in {}", claim.shard));
        }
        if at.saturating_sub(claim.looked) > PROMPT {
            self.late.push((claim.clone(), at));
        }
        let turns = self.turns.entry(claim.shard).or_default();
        let is_stale = turns.keys().next_back().is_some_and(|newest| *newest > claim.epoch);
        let turn = turns.entry(claim.epoch).or_insert_with(|| Turn {
            node: claim.node.clone(),
            looked: (claim.looked, claim.looked),
            arrived: (at, at),
            requests: 0,
            stale: 0,
        });
        if turn.node != claim.node {
            self.wrong.insert(format!(
                "shard {}, epoch {}: two nodes, {} and {}",
                claim.shard, claim.epoch, turn.node, claim.node
            ));
        }
        turn.looked = (turn.looked.0.min(claim.looked), turn.looked.1.max(claim.looked));
        turn.arrived.1 = at;
        turn.requests += 1;
        turn.stale += usize::from(is_stale);
    }

    /// Everything that must not be, in words; `window` is how much each destination may have in
    /// flight.
    pub(crate) fn wrong(&self, freezes: &[Freeze], window: usize) -> Vec<String> {
        let mut wrong: Vec<String> = self.wrong.iter().cloned().collect();
        for (shard, turns) in &self.turns {
            for ((epoch, turn), (later, next)) in turns.iter().zip(turns.iter().skip(1)) {
                if let Some(overlap) = turn.looked.1.checked_sub(next.looked.0) {
                    wrong.push(format!(
                        "shard {shard} was run by two: {} in epoch {epoch} went on for \
                         {overlap:?} after {} had begun in epoch {later}",
                        turn.node, next.node
                    ));
                }
            }
            let lanes = self.homes.values().filter(|home| *home == shard).count();
            for (epoch, turn) in turns {
                if turn.stale > lanes * window {
                    wrong.push(format!(
                        "shard {shard}: {} requests of epoch {epoch} after its end, at most \
                         {lanes} x {window} were on their way",
                        turn.stale
                    ));
                }
            }
        }
        for (claim, at) in &self.late {
            let frozen: Duration = freezes
                .iter()
                .filter(|freeze| freeze.node == claim.node)
                .map(|freeze| freeze.to.min(*at).saturating_sub(freeze.from.max(claim.looked)))
                .sum();
            let late = at.saturating_sub(claim.looked).saturating_sub(frozen);
            if late > PROMPT {
                wrong.push(format!("sent {late:?} after the look at the lease: {claim:?}"));
            }
        }
        wrong
    }

    /// How often the shard of a destination has changed hands.
    pub(crate) fn changes(&self, destination: &str) -> usize {
        let turns = self.homes.get(destination).and_then(|home| self.turns.get(home));
        let first_and_last =
            turns.and_then(|turns| Some((turns.first_key_value()?.0, turns.last_key_value()?.0)));
        first_and_last.map_or(0, |(first, last)| (last - first) as usize)
    }

    /// Who ran the lanes of a destination when, in seconds from a moment.
    pub(crate) fn story(&self, destination: &str, moment: Moment) -> String {
        let turns = self.homes.get(destination).and_then(|home| self.turns.get(home));
        let seconds = |at: Moment| at.as_secs_f64() - moment.as_secs_f64();
        let lines = turns.into_iter().flatten().map(|(epoch, turn)| {
            let (from, to) = (seconds(turn.arrived.0), seconds(turn.arrived.1));
            let (node, requests) = (&turn.node, turn.requests);
            format!("epoch {epoch}, {node}: {requests} requests from {from:.3} to {to:.3} s")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Requests that arrived after one of a later epoch.
    pub(crate) fn stale(&self) -> usize {
        self.turns.values().flat_map(BTreeMap::values).map(|turn| turn.stale).sum()
    }

    /// What became of the shards that `node` had at a moment.
    pub(crate) fn takeovers(&self, node: &str, at: Moment) -> Vec<Takeover> {
        let mut takeovers = Vec::new();
        for (shard, turns) in &self.turns {
            let mut begun = turns.values().enumerate().filter(|(_, turn)| turn.looked.0 < at);
            let Some((index, turn)) = begun.next_back() else { continue };
            if turn.node != node {
                continue;
            }
            let next = turns.values().nth(index + 1);
            takeovers.push(Takeover {
                shard: *shard,
                after: next.map(|next| next.arrived.0.saturating_sub(at)),
                gap: next.map(|next| next.arrived.0.saturating_sub(turn.arrived.1)),
            });
        }
        takeovers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 2;

    fn ms(ms: u64) -> Moment {
        Duration::from_millis(ms)
    }

    /// Requests as destination, shard, epoch, node, look and arrival in milliseconds.
    fn history(requests: &[(&str, u16, u64, &str, u64, u64)]) -> History {
        let mut history = History::default();
        for &(destination, shard, epoch, node, looked, arrived) in requests {
            let claim = Claim { shard, epoch, node: node.to_owned(), looked: ms(looked) };
            history.note(destination, claim, ms(arrived));
        }
        history
    }

    fn only_wrong(history: &History, freezes: &[Freeze]) -> String {
        let mut wrong = history.wrong(freezes, WINDOW);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        wrong.remove(0)
    }

    #[test]
    fn a_claim_is_read_whole_or_not_at_all() {
        let claim = Claim::parse("3/12/ab/1700000000000001").unwrap();
        let looked = Duration::from_micros(1_700_000_000_000_001);
        assert_eq!(claim, Claim { shard: 3, epoch: 12, node: "ab".to_owned(), looked });
        for text in ["", "3", "3/12/ab", "3/x/ab/1", "3/12/ab/1/2"] {
            assert_eq!(Claim::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_on_its_way_at_a_takeover_may_arrive_after_it() {
        let history = history(&[
            ("d", 1, 4, "a", 10, 11),
            ("e", 2, 1, "b", 10, 11),
            ("d", 1, 5, "b", 31, 32),
            ("d", 1, 4, "a", 30, 33),
            ("d", 1, 5, "b", 34, 35),
        ]);
        assert_eq!(history.wrong(&[], WINDOW), [""; 0]);
        assert_eq!((history.stale(), history.changes("d"), history.changes("e")), (1, 1, 0));
    }

    #[test]
    fn whoever_goes_on_after_a_takeover_is_found() {
        let history = history(&[
            ("d", 1, 4, "a", 10, 11),
            ("d", 1, 5, "b", 30, 31),
            ("d", 1, 4, "a", 37, 38),
        ]);
        let wrong = only_wrong(&history, &[]);
        assert!(wrong.contains("run by two: a in epoch 4 went on for 7ms"), "{wrong}");
    }

    #[test]
    fn an_epoch_belongs_to_one_node_and_a_destination_to_one_shard() {
        let two = history(&[("d", 1, 4, "a", 10, 11), ("d", 1, 4, "b", 12, 13)]);
        assert!(only_wrong(&two, &[]).contains("two nodes, a and b"));
        let two = history(&[("d", 1, 4, "a", 10, 11), ("d", 2, 4, "a", 12, 13)]);
        assert!(only_wrong(&two, &[]).contains("d is in shard 1 and in 2"));
    }

    #[test]
    fn no_more_than_the_window_is_on_its_way() {
        let mut requests = vec![("d", 1, 4, "a", 10, 11), ("d", 1, 5, "b", 31, 32)];
        requests.extend([("d", 1, 4, "a", 30, 40); WINDOW]);
        assert_eq!(history(&requests).wrong(&[], WINDOW), [""; 0]);
        requests.push(("d", 1, 4, "a", 30, 40));
        assert!(only_wrong(&history(&requests), &[]).contains("3 requests of epoch 4"));
    }

    #[test]
    fn only_a_frozen_node_may_be_late() {
        let history = history(&[("d", 1, 4, "a", 10, 9_010)]);
        assert!(only_wrong(&history, &[]).contains("sent 9s after the look"));
        let freeze = |node: &str| Freeze { node: node.to_owned(), from: ms(20), to: ms(8_920) };
        assert_eq!(history.wrong(&[freeze("a")], WINDOW), [""; 0]);
        assert!(only_wrong(&history, &[freeze("b")]).contains("sent 9s after the look"));
    }

    #[test]
    fn takeovers_are_measured_to_the_first_request_of_the_next_owner() {
        let history = history(&[
            ("d", 1, 4, "a", 1_000, 1_001),
            ("e", 2, 7, "a", 1_000, 1_002),
            ("f", 3, 2, "b", 1_000, 1_003),
            ("d", 1, 5, "b", 4_000, 4_001),
            ("d", 1, 6, "a", 9_000, 9_001),
        ]);
        let after = |shard, after, gap| Takeover { shard, after, gap };
        assert_eq!(
            history.takeovers("a", ms(1_101)),
            [after(1, Some(ms(2_900)), Some(ms(3_000))), after(2, None, None)]
        );
    }
}
