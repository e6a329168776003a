//! How far lanes are behind, as those who watch see it.

use zapbus_store::{Reader, Start, State};

use crate::engine::*;

#[tokio::test]
async fn a_lane_is_as_far_behind_as_its_oldest_unsettled_event() {
    let engine = Engine::start().await;
    let (shop, other) = (engine.instance("shop").await, engine.instance("other").await);
    let lane = engine.lane(shop, Start::Now).await;
    let head = *engine.store().head().borrow();
    let behind = engine.store().behind(lane, head).await.unwrap();
    assert_eq!((behind.oldest, behind.held), (None, 0), "nothing waits");

    engine.say(other, "not for this lane").await;
    engine.advance(MINUTE);
    let first = engine.say(shop, "first").await;
    engine.advance(MINUTE);
    let second = engine.say(shop, "second").await;
    let behind = engine.store().behind(lane, head).await.unwrap();
    assert_eq!(behind.oldest, Some(first.received_at));
    let behind = engine.store().behind(lane, first.seq).await.unwrap();
    assert_eq!(behind.oldest, Some(second.received_at), "the cursor given, not the stored one");

    // Held in a row behind the cursor: it is unsettled all the same.
    let due = engine.now() + HOUR;
    let row = row(first.seq, State::Retrying { due });
    engine.settle(lane, Some(second.seq), vec![row]).await;
    let behind = engine.store().behind(lane, second.seq).await.unwrap();
    assert_eq!((behind.oldest, behind.held), (Some(first.received_at), 1));
    let holdings = engine.store().holdings().await.unwrap();
    assert_eq!((holdings.held, holdings.dead), (1, 0));
    assert!(holdings.oldest_event.is_some());
}

#[tokio::test]
async fn counting_goes_on_where_it_stopped() {
    let engine = Engine::start().await;
    let (shop, other) = (engine.instance("shop").await, engine.instance("other").await);
    let from = *engine.store().head().borrow();
    for n in 0..30 {
        engine.say(if n % 3 == 0 { other } else { shop }, "x").await;
    }
    let head = *engine.store().head().borrow();
    let reader = Reader::Instance(shop);
    let all = engine.store().count_between(reader, from, head, 1_000).await.unwrap();
    assert_eq!((all.events, all.upto), (20, head));
    let (mut at, mut events, mut rounds) = (from, 0, 0);
    while at < head {
        let step = engine.store().count_between(reader, at, head, 7).await.unwrap();
        assert!(step.upto > at && step.events <= 7);
        (at, events, rounds) = (step.upto, events + step.events, rounds + 1);
    }
    assert_eq!((events, rounds), (20, 3));
    let none = engine.store().count_between(reader, head, head, 7).await.unwrap();
    assert_eq!((none.events, none.upto), (0, head));

    let account = engine.account().await.id;
    let whole = engine.store().count_between(Reader::Account(account), from, head, 7).await;
    assert_eq!(whole.unwrap().events, head.0 - from.0, "positions, for a whole account");
}
