//! Replays.

use zapbus_event::Position;
use zapbus_store::{
    DeliveryId, DeliveryQuery, LaneId, Row, RunState, Start, State, Status, StoreError, Stretch,
};

use zapbus_store::ShardId;

use crate::engine::*;

#[tokio::test]
async fn a_replay_ends_where_live_delivery_stood_when_it_began() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let live = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 10).await;
    engine.settle(live, Some(said[6].seq), Vec::new()).await;
    let run = engine
        .store()
        .create_run(live.destination, Start::Time(said[0].received_at), filter(&["*"]), &actor())
        .await
        .unwrap();
    assert_eq!((run.lane.run, run.to, run.state), (1, said[6].seq, RunState::Running));
    assert!(run.from < said[0].seq);
    engine.settle(live, Some(said[9].seq), Vec::new()).await;
    engine.settle(run.lane, Some(said[3].seq), Vec::new()).await;

    engine.reopen().await;
    let store = engine.store();
    let runs = store.runs(live.destination).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].to, runs[0].cursor), (said[6].seq, said[3].seq));
    assert_eq!(store.running().await.unwrap(), [run.lane]);
    let start = store.lane(run.lane).await.unwrap().unwrap();
    assert_eq!(start.cursor, said[3].seq);
    assert_eq!(store.lane(live).await.unwrap().unwrap().cursor, said[9].seq);
}

#[tokio::test]
async fn a_replay_may_end_before_live_delivery_stands() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let live = engine.lane(instance, Start::Now).await;
    let mut said = Vec::new();
    for text in ["a", "b", "c", "d"] {
        said.push(engine.say(instance, text).await);
        engine.advance(HOUR);
    }
    engine.settle(live, Some(said[2].seq), Vec::new()).await;
    let create = async |until| {
        let stretch = Stretch { from: Start::Beginning, until };
        let everything = filter(&["*"]);
        let store = engine.store();
        let counted = store.count_run(live.destination, stretch, filter(&["message.*"])).await;
        let run = store.create_run(live.destination, stretch, everything, &actor()).await.unwrap();
        (counted.unwrap().events, run.to)
    };
    assert_eq!(create(Some(said[1].received_at)).await, (1, said[0].seq));
    assert_eq!(create(Some(engine.now())).await, (3, said[2].seq));
    assert_eq!(create(None).await, (3, said[2].seq));
}

#[tokio::test]
async fn a_replay_and_live_delivery_have_rows_of_their_own() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let live = engine.lane(instance, Start::Now).await;
    let said = engine.say(instance, "x").await;
    engine.settle(live, Some(said.seq), vec![delivered(said.seq, engine.now())]).await;
    let run = engine
        .store()
        .create_run(live.destination, Start::Beginning, filter(&["message.*"]), &actor())
        .await
        .unwrap();
    let due = State::Retrying { due: engine.now() };
    engine.settle(run.lane, None, vec![row(said.seq, due)]).await;
    assert!(engine.store().due(live, engine.now(), 10).await.unwrap().is_empty());
    assert_eq!(engine.store().due(run.lane, engine.now(), 10).await.unwrap().len(), 1);

    let store = engine.store();
    store.set_run_state(run.lane, RunState::Paused, &actor()).await.unwrap();
    assert!(store.running().await.unwrap().is_empty());
    store.set_run_state(run.lane, RunState::Cancelled, &actor()).await.unwrap();
    assert!(store.due(run.lane, engine.now(), 10).await.unwrap().is_empty());
    let over = store.set_run_state(run.lane, RunState::Running, &actor()).await;
    assert!(matches!(over, Err(StoreError::Refused { .. })));
    let unknown = LaneId { run: 7, ..run.lane };
    assert!(store.set_run_state(unknown, RunState::Paused, &actor()).await.is_err());
}

#[tokio::test]
async fn a_dry_run_counts_what_would_be_sent() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let live = engine.lane(instance, Start::Now).await;
    engine.advance(HOUR);
    let first = engine.say(instance, "x").await;
    engine.advance(HOUR);
    engine.say_many(instance, 5_000).await;
    for _ in 0..3 {
        engine.append(instance, typing()).await;
    }
    let last = *engine.store().head().borrow();
    engine.settle(live, Some(Position(last.0 - 3)), Vec::new()).await;
    let count = engine
        .store()
        .count_run(live.destination, Start::Beginning, filter(&["message.received:text"]))
        .await
        .unwrap();
    assert_eq!(count.events, 5_001);
    assert_eq!((count.first, count.last), (Some(first.received_at), Some(engine.now())));
    assert!(count.complete);
    let presence = engine
        .store()
        .count_run(live.destination, Start::Beginning, filter(&["presence.*"]))
        .await
        .unwrap();
    assert_eq!(presence.events, 0, "live delivery has not been there");
}

#[tokio::test]
async fn what_was_under_way_when_a_replay_was_called_off_is_not_tried_again() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let live = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 3).await;
    engine.settle(live, Some(said[2].seq), Vec::new()).await;
    let run = engine
        .store()
        .create_run(live.destination, Start::Beginning, filter(&["message.*"]), &actor())
        .await
        .unwrap();
    engine.store().set_run_state(run.lane, RunState::Cancelled, &actor()).await.unwrap();
    let failed = Row {
        attempt: Some(attempt(1, 500, engine.now())),
        ..row(said[0].seq, State::Retrying { due: engine.now() })
    };
    let rows = vec![failed, row(said[1].seq, State::Waiting), delivered(said[2].seq, engine.now())];
    engine.settle(run.lane, Some(said[2].seq), rows).await;
    let start = engine.store().lane(run.lane).await.unwrap().unwrap();
    assert_eq!((start.next_due, start.held), (None, Vec::new()));
    for (said, state) in said.iter().zip([State::Cancelled, State::Cancelled, State::Delivered]) {
        let id = DeliveryId { lane: run.lane, shard: ShardId::default(), seq: said.seq };
        assert_eq!(engine.store().delivery(id).await.unwrap().unwrap().0.state, state);
    }
    // Nor if a person asks for it: nothing of this replay is sent any more.
    let again = DeliveryId { lane: run.lane, shard: ShardId::default(), seq: said[0].seq };
    let refused = engine.store().redeliver(again, engine.now(), &actor()).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    let query = DeliveryQuery {
        destination: Some(live.destination),
        status: vec![Status::Cancelled],
        ..DeliveryQuery::default()
    };
    let bulk = engine.store().redeliver_where(query, None, 10, false, engine.now(), &actor()).await;
    let bulk = bulk.unwrap();
    assert_eq!((bulk.matched, bulk.redelivered, bulk.lanes), (2, 0, Vec::new()));
    assert!(engine.store().due(run.lane, engine.now(), 10).await.unwrap().is_empty());
}
