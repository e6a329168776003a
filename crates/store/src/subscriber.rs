//! Where named subscribers stand, and how what several connections and nodes know of one is put
//! together.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use zapbus_event::{AccountId, Filter, InstanceId, Position, SubscriberId, Timestamp};

use crate::shard::ShardId;

/// Events that stay parked for one subscriber at most; beyond it the oldest are given up.
pub const PARKED: usize = 100;

/// Subscribers that one instance (or the whole of an account) may have; beyond it those unused for
/// longest go.
pub const SUBSCRIBERS: usize = 1_000;

/// How long a subscriber that nobody uses is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

/// A place in the journal of several shards.
pub type Place = (ShardId, Position);

/// A named subscriber: a cursor that the gateway keeps for a consumer that comes and goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscriber {
    /// Made of the five below.
    pub id: SubscriberId,
    /// Whose events; none: everybody's.
    pub account: Option<AccountId>,
    /// Of which instance; none: of all of the account.
    pub instance: Option<InstanceId>,
    /// With whose token it was made: opaque here.
    pub owner: String,
    /// What its user calls it.
    pub name: String,
    /// The dialect it reads.
    pub dialect: String,
    /// What it asks for.
    pub filter: Filter,
    /// How far it is.
    pub progress: Progress,
    /// When it first connected.
    pub created_at: Timestamp,
    /// When it was last connected.
    pub used_at: Timestamp,
}

/// How far a subscriber is: whatever matches up to `sent` and is not in `open` is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The highest position that was offered, by shard.
    pub sent: BTreeMap<ShardId, Position>,
    /// What was offered and is not done, in order.
    pub open: Vec<OpenEvent>,
}

/// An event that was offered to a subscriber and that it has not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenEvent {
    /// Where it is.
    pub shard: ShardId,
    /// Its position there.
    pub seq: Position,
    /// How often it was sent.
    pub deliveries: u32,
    /// When it was last sent.
    pub sent_at: Timestamp,
    /// It was sent as often as it may be: it is dead for this subscriber.
    pub parked: bool,
    /// How often somebody had it sent again after that: what is known of an earlier round is no
    /// news.
    #[serde(default, skip_serializing_if = "is_first")]
    pub round: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_first(round: &u32) -> bool {
    *round == 0
}

impl OpenEvent {
    /// Where it is.
    pub fn place(&self) -> Place {
        (self.shard, self.seq)
    }

    /// The same once more from the beginning.
    pub fn revived(self) -> Self {
        Self { deliveries: 0, parked: false, round: self.round + 1, ..self }
    }

    /// Puts together what two know of the same event: of one round both count, else the later.
    pub fn take_in(&mut self, other: &Self) {
        if other.round > self.round {
            *self = *other;
        } else if other.round == self.round {
            self.deliveries = self.deliveries.max(other.deliveries);
            self.sent_at = self.sent_at.max(other.sent_at);
            self.parked |= other.parked;
        }
    }
}

/// Which subscribers to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct SubscriberQuery {
    /// Of this account; of all when left out.
    pub account: Option<AccountId>,
    /// Of this instance only.
    pub instance: Option<InstanceId>,
    /// Beyond this one, in order of ids.
    pub after: Option<SubscriberId>,
    /// So many at most.
    pub limit: usize,
}

/// What one node has to add to what is known of a subscriber.
#[derive(Debug, Clone, Default)]
pub struct Advance {
    /// How far it has come here.
    pub progress: Progress,
    /// What is done since the last time, acknowledged or given up.
    pub done: Vec<Place>,
}

impl Progress {
    /// At these places, with nothing open.
    pub fn at(places: impl IntoIterator<Item = Place>) -> Self {
        Self { sent: places.into_iter().collect(), open: Vec::new() }
    }

    /// How far it is in a shard.
    pub fn sent_in(&self, shard: ShardId) -> Position {
        self.sent.get(&shard).copied().unwrap_or(Position::START)
    }

    /// Puts together what is known here with what a node says. The order in which nodes say so, and
    /// saying it twice, make no difference to what is done: an event is open only while nobody has
    /// said that it is done.
    pub fn merge(&mut self, advance: &Advance) {
        let news = &advance.progress;
        let done: BTreeSet<Place> = advance.done.iter().copied().collect();
        let mut open: BTreeMap<Place, OpenEvent> = BTreeMap::new();
        for event in &self.open {
            if !done.contains(&event.place()) {
                open.insert(event.place(), *event);
            }
        }
        for event in &news.open {
            let place = event.place();
            match open.get_mut(&place) {
                Some(known) => known.take_in(event),
                // What was offered before and is not open any more, somebody has settled.
                None if event.seq <= self.sent_in(event.shard) || done.contains(&place) => {}
                None => {
                    open.insert(place, *event);
                }
            }
        }
        for (shard, position) in &news.sent {
            let known = self.sent.entry(*shard).or_insert(Position::START);
            *known = (*known).max(*position);
        }
        let parked = open.values().filter(|event| event.parked).count();
        let mut surplus = parked.saturating_sub(PARKED);
        self.open = open
            .into_values()
            .filter(|event| {
                let goes = event.parked && surplus > 0;
                surplus -= usize::from(goes);
                !goes
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHARD: ShardId = ShardId(0);

    fn open(seq: u64) -> OpenEvent {
        OpenEvent {
            shard: SHARD,
            seq: Position(seq),
            deliveries: 1,
            sent_at: Timestamp::from_millis(1),
            parked: false,
            round: 0,
        }
    }

    fn advance(sent: u64, opened: &[u64], done: &[u64]) -> Advance {
        Advance {
            progress: Progress {
                sent: [(SHARD, Position(sent))].into(),
                open: opened.iter().copied().map(open).collect(),
            },
            done: done.iter().map(|seq| (SHARD, Position(*seq))).collect(),
        }
    }

    fn places(progress: &Progress) -> Vec<u64> {
        progress.open.iter().map(|event| event.seq.0).collect()
    }

    #[test]
    fn what_one_node_settled_another_does_not_open_again() {
        let mut progress = Progress::default();
        progress.merge(&advance(5, &[3, 4, 5], &[1, 2]));
        progress.merge(&advance(4, &[1, 2, 4], &[3]));
        assert_eq!(places(&progress), [4, 5]);
        assert_eq!(progress.sent_in(SHARD), Position(5));
        progress.merge(&advance(7, &[4, 5, 7], &[6]));
        progress.merge(&advance(6, &[4, 5, 6], &[]));
        assert_eq!(places(&progress), [4, 5, 7]);
    }

    #[test]
    fn what_is_sent_again_is_open_whatever_is_still_said_of_before() {
        let dead = OpenEvent { parked: true, deliveries: 5, ..open(3) };
        let mut news = advance(5, &[], &[]);
        news.progress.open = vec![dead];
        let mut progress = Progress::default();
        progress.merge(&news);
        assert!(progress.open[0].parked);
        let again = Advance {
            progress: Progress { open: vec![dead.revived()], ..Progress::default() },
            done: Vec::new(),
        };
        progress.merge(&again);
        // A node that has not heard of it yet.
        progress.merge(&news);
        assert_eq!(progress.open, [OpenEvent { round: 1, deliveries: 0, ..open(3) }]);
        // What was settled meanwhile stays so.
        progress.merge(&advance(5, &[], &[3]));
        progress.merge(&again);
        assert!(progress.open.is_empty());
    }

    #[test]
    fn only_so_many_stay_parked() {
        let mut news = advance(300, &[], &[]);
        news.progress.open = (1..=150).map(|seq| OpenEvent { parked: true, ..open(seq) }).collect();
        let mut progress = Progress::default();
        progress.merge(&news);
        assert_eq!(progress.open.len(), PARKED);
        assert_eq!(progress.open[0].seq, Position(51));
    }

    proptest! {
        /// Two nodes that each offer everything in order and hear some acknowledgements: whatever
        /// the order in which they write, an event is open in the end exactly if neither of them
        /// has heard of it and it was offered.
        #[test]
        fn the_order_of_writing_makes_no_difference(
            acks in proptest::collection::vec((any::<bool>(), 0..12_u64), 0..24),
            writes in proptest::collection::vec((any::<bool>(), 0..12_u64), 0..24),
        ) {
            let mut record = Progress::default();
            let mut heard = [BTreeSet::new(), BTreeSet::new()];
            let mut offered = [0_u64; 2];
            let mut acks = acks.into_iter();
            let write = |node: usize, heard: &[BTreeSet<u64>; 2],
                             offered: &[u64; 2], record: &mut Progress| {
                let opened: Vec<u64> =
                    (1..=offered[node]).filter(|seq| !heard[node].contains(seq)).collect();
                let done: Vec<u64> = heard[node].iter().copied().collect();
                record.merge(&advance(offered[node], &opened, &done));
            };
            for (second, upto) in writes {
                let node = usize::from(second);
                offered[node] = offered[node].max(upto);
                if let Some((second, seq)) = acks.next() {
                    let hearer = usize::from(second);
                    if seq >= 1 && seq <= offered[hearer] {
                        heard[hearer].insert(seq);
                    }
                }
                write(node, &heard, &offered, &mut record);
            }
            for node in [0, 1] {
                write(node, &heard, &offered, &mut record);
            }
            let last = offered[0].max(offered[1]);
            let expected: Vec<u64> = (1..=last)
                .filter(|seq| !heard[0].contains(seq) && !heard[1].contains(seq))
                .collect();
            prop_assert_eq!(places(&record), expected);
            prop_assert_eq!(record.sent_in(SHARD), Position(last));
        }
    }
}
