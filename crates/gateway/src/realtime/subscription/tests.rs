use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use zapbus_event::{EventId, Position, Timestamp};
use zapbus_store::{OpenEvent, Place, ShardId};

use super::{Acks, Subscription, Window};

const WINDOW: Window = Window {
    max_unacked: 4,
    max_unacked_bytes: 1_000,
    ack_wait: Duration::from_secs(30),
    max_deliveries: 3,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

fn place(seq: u64) -> Place {
    (ShardId(0), Position(seq))
}

fn id(seq: u64) -> EventId {
    EventId::new(at(0), seq.into())
}

fn new(acks: Acks) -> Subscription {
    Subscription::new(acks, WINDOW, [])
}

fn offer(subscription: &mut Subscription, seq: u64, second: i64) {
    subscription.offer(place(seq), id(seq), 10, true, at(second));
}

fn open(seq: u64, deliveries: u32) -> OpenEvent {
    let (shard, seq) = place(seq);
    OpenEvent { shard, seq, deliveries, sent_at: at(0), parked: false, round: 0 }
}

#[test]
fn a_full_window_waits_for_an_ack() {
    let mut subscription = new(Acks::Explicit);
    for seq in 1..=4 {
        assert!(subscription.takes());
        offer(&mut subscription, seq, 0);
    }
    assert!(!subscription.takes());
    assert!(subscription.acknowledge(id(3)));
    assert!(subscription.takes());
    // Repeated, unknown, late: nothing happens.
    assert!(!subscription.acknowledge(id(3)));
    assert!(!subscription.acknowledge(id(99)));
    assert_eq!(subscription.unacked(), 3);
    assert_eq!(subscription.take_changes().done, [place(3)]);
}

#[test]
fn a_client_says_when_an_event_comes_again_or_that_it_does_not() {
    let mut subscription = new(Acks::Explicit);
    for seq in 1..=3 {
        offer(&mut subscription, seq, 0);
    }
    subscription.take_changes();
    // Sooner than by itself, later than by itself, never.
    assert!(subscription.postpone(id(1), Duration::from_secs(5), at(1)));
    subscription.pass(at(5));
    assert_eq!(subscription.next_again(), None);
    subscription.pass(at(6));
    assert_eq!(subscription.next_again(), Some(place(1)));
    assert!(subscription.keep(id(2), at(20)));
    subscription.pass(at(49));
    offer(&mut subscription, 1, 49);
    assert_eq!(subscription.next_again(), Some(place(3)));
    offer(&mut subscription, 3, 49);
    subscription.pass(at(50));
    assert_eq!(subscription.next_again(), Some(place(2)));
    assert!(subscription.reject(id(2)));
    assert_eq!((subscription.next_again(), subscription.unacked()), (None, 2));
    let dead = subscription.take_changes().dead;
    assert_eq!(
        dead.iter().map(|(event, id)| (event.seq, *id)).collect::<Vec<_>>(),
        [(Position(2), Some(id(2)))]
    );
    assert!(dead[0].0.parked);
    // Of nothing.
    assert!(!subscription.reject(id(2)) && !subscription.keep(id(2), at(50)));
}

#[test]
fn bytes_fill_a_window_too() {
    let mut subscription = new(Acks::Explicit);
    subscription.offer(place(1), id(1), 5_000, true, at(0));
    assert!(!subscription.takes());
    subscription.acknowledge(id(1));
    assert!(subscription.takes());
}

#[test]
fn what_is_not_acknowledged_comes_again_and_then_dies() {
    let mut subscription = new(Acks::Explicit);
    offer(&mut subscription, 1, 0);
    offer(&mut subscription, 2, 10);
    assert_eq!(subscription.due(), Some(at(30)));
    subscription.pass(at(29));
    assert_eq!(subscription.next_again(), None);
    subscription.pass(at(30));
    assert_eq!(subscription.next_again(), Some(place(1)));
    assert!(!subscription.takes(), "what comes again comes first");
    offer(&mut subscription, 1, 30);
    subscription.acknowledge(id(2));
    subscription.pass(at(60));
    offer(&mut subscription, 1, 60);
    assert!(subscription.take_changes().dead.is_empty());
    subscription.pass(at(90));
    let changes = subscription.take_changes();
    assert_eq!(changes.dead.len(), 1);
    let (dead, of) = changes.dead[0];
    assert_eq!((dead.place(), dead.deliveries, dead.parked, of), (place(1), 3, true, Some(id(1))));
    assert_eq!((subscription.unacked(), subscription.due()), (0, None));
}

#[test]
fn what_an_earlier_connection_left_comes_first() {
    let parked = OpenEvent { parked: true, ..open(1, 3) };
    let left = [parked, open(2, 3), open(3, 2), open(4, 1)];
    let mut subscription = Subscription::new(Acks::Explicit, WINDOW, left);
    let dead = subscription.take_changes().dead;
    assert_eq!(dead.iter().map(|(event, _)| event.place()).collect::<Vec<_>>(), [place(2)]);
    assert_eq!(subscription.next_again(), Some(place(3)));
    offer(&mut subscription, 3, 100);
    offer(&mut subscription, 4, 100);
    assert!(subscription.takes());
    let opened: Vec<u32> =
        subscription.take_changes().opened.iter().map(|event| event.deliveries).collect();
    assert_eq!(opened, [3, 2]);
}

#[test]
fn what_is_revived_comes_once_more_as_if_for_the_first_time() {
    let mut subscription = new(Acks::Explicit);
    let again = open(1, 3).revived();
    subscription.revive([again]);
    assert_eq!(subscription.next_again(), Some(place(1)));
    offer(&mut subscription, 1, 100);
    let opened = subscription.take_changes().opened[0];
    assert_eq!((opened.deliveries, opened.round), (1, 1));
    // Said once more, it is on its way already.
    subscription.revive([again]);
    assert_eq!(subscription.next_again(), None);
    for second in [130, 160] {
        subscription.pass(at(second));
        offer(&mut subscription, 1, second);
    }
    subscription.pass(at(190));
    let (dead, _) = subscription.take_changes().dead[0];
    assert_eq!((dead.deliveries, dead.round, dead.parked), (3, 1, true));
}

#[test]
fn without_acks_what_is_written_is_done() {
    let mut subscription = Subscription::new(Acks::Auto, WINDOW, [open(1, 1), open(2, 1)]);
    offer(&mut subscription, 1, 1);
    subscription.written();
    assert_eq!(subscription.take_changes().done, [place(1)]);
    offer(&mut subscription, 2, 1);
    subscription.written();
    assert_eq!(subscription.take_changes().done, [place(2)]);
    for seq in 3..100 {
        assert!(subscription.takes());
        offer(&mut subscription, seq, 1);
    }
    assert_eq!((subscription.unacked(), subscription.due()), (0, None));
}

#[test]
fn whoever_never_acknowledges_is_not_made_to() {
    let mut subscription = new(Acks::Trial);
    for seq in 1..=4 {
        offer(&mut subscription, seq, 0);
    }
    assert!(subscription.takes());
    assert_eq!(subscription.acks(), Acks::Auto);
    assert_eq!(subscription.take_changes().done.len(), 4);

    let mut subscription = new(Acks::Trial);
    for seq in 1..=4 {
        offer(&mut subscription, seq, 0);
    }
    subscription.acknowledge(id(1));
    offer(&mut subscription, 5, 0);
    assert!(!subscription.takes());
    assert_eq!(subscription.acks(), Acks::Trial);
}

#[test]
fn what_another_connection_settled_is_forgotten() {
    let mut subscription = new(Acks::Explicit);
    for seq in 1..=4 {
        offer(&mut subscription, seq, 0);
    }
    subscription.keep_open(|place| place.1.0 % 2 == 0);
    assert_eq!(subscription.unacked(), 2);
    assert!(subscription.take_changes().done.is_empty(), "it was done by somebody else");
    // And what was settled before it came here does not wait.
    subscription.offer(place(5), id(5), 10, false, at(0));
    assert_eq!(subscription.unacked(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Send,
    Ack(u64),
    Wait(i64),
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Send),
        3 => (0..40_u64).prop_map(Step::Ack),
        2 => (1..40_i64).prop_map(Step::Wait),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    /// Whatever happens in whatever order: an event is done exactly when it was acknowledged, dead
    /// exactly when it was sent as often as it may be, and open otherwise; the window holds; what is
    /// acknowledged or dead does not come again.
    #[test]
    fn nothing_is_lost_and_nothing_settled_comes_again(
        steps in proptest::collection::vec(step(), 0..200)
    ) {
        let mut subscription = new(Acks::Explicit);
        let (mut now, mut next) = (0, 1);
        let mut sent: BTreeMap<u64, u32> = BTreeMap::new();
        let mut open: BTreeMap<Place, OpenEvent> = BTreeMap::new();
        let (mut done, mut dead) = (BTreeSet::new(), BTreeSet::new());
        let (mut acked, mut reconnects) = (BTreeSet::new(), 0_usize);
        for step in steps {
            match step {
                Step::Send => {
                    if let Some(place) = subscription.next_again() {
                        let seq = place.1.0;
                        prop_assert!(!acked.contains(&seq) && !dead.contains(&place));
                        *sent.get_mut(&seq).unwrap() += 1;
                        offer(&mut subscription, seq, now);
                    } else if subscription.takes() {
                        sent.insert(next, 1);
                        offer(&mut subscription, next, now);
                        next += 1;
                    }
                }
                Step::Ack(seq) => {
                    if subscription.acknowledge(id(seq)) {
                        prop_assert!(acked.insert(seq));
                    }
                }
                Step::Wait(seconds) => {
                    now += seconds;
                    subscription.pass(at(now));
                }
                Step::Reconnect => {
                    reconnects += 1;
                    subscription =
                        Subscription::new(Acks::Explicit, WINDOW, open.values().copied());
                }
            }
            let changes = subscription.take_changes();
            for event in changes.opened {
                open.insert(event.place(), event);
            }
            for place in changes.done {
                open.remove(&place);
                done.insert(place.1.0);
            }
            for (event, _) in changes.dead {
                open.remove(&event.place());
                prop_assert_eq!(sent[&event.seq.0], WINDOW.max_deliveries);
                dead.insert(event.place());
            }
            prop_assert!(subscription.unacked() <= WINDOW.max_unacked as usize);
            prop_assert_eq!(subscription.unacked(), open.len());
            prop_assert!(sent.values().all(|times| *times <= WINDOW.max_deliveries));
        }
        prop_assert_eq!(&done, &acked);
        prop_assert_eq!(done.len() + dead.len() + open.len(), sent.len(), "{} reconnects", reconnects);
    }
}
