//! The delivery log, redelivery.

use zapbus_event::{EventId, Kind, Position};
use zapbus_store::{
    DeadReason, DeliveryId, DeliveryQuery, LIVE, LaneId, Row, Start, State, Status, StoreError,
};

use zapbus_store::ShardId;

use crate::engine::*;

async fn find(engine: &Engine, query: DeliveryQuery) -> Vec<u64> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = engine.store().search(query.clone(), after, 7).await.unwrap();
        found.extend(page.deliveries.iter().map(|delivery| delivery.id.seq.0));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn an_accepted_delivery_keeps_little_and_a_failed_attempt_keeps_much() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say(instance, "x").await;
    let id = DeliveryId { lane, shard: ShardId::default(), seq: said.seq };
    assert!(engine.store().delivery(id).await.unwrap().is_none());

    let due = engine.now() + MINUTE;
    let failed = Row {
        attempt: Some(attempt(1, 500, engine.now())),
        ..row(said.seq, State::Retrying { due })
    };
    engine.settle(lane, Some(said.seq), vec![failed]).await;
    let written_at = engine.now();
    engine.advance(MINUTE);
    let accepted = Row {
        attempts: 2,
        attempt: Some(attempt(2, 204, engine.now())),
        ..row(said.seq, State::Delivered)
    };
    engine.settle(lane, None, vec![accepted]).await;

    let (delivery, attempts) = engine.store().delivery(id).await.unwrap().unwrap();
    assert_eq!(delivery.state, State::Delivered);
    assert_eq!((delivery.attempts, delivery.code), (2, Some(204)));
    assert_eq!(delivery.excerpt.len(), 256);
    assert_eq!((delivery.created_at, delivery.updated_at), (written_at, engine.now()));
    let event = delivery.event.unwrap();
    assert_eq!((event.id, event.kind, event.instance), (said.id, Kind::MessageReceived, instance));
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].excerpt.len(), 4096);
    assert_eq!(attempts[0].request_headers, [("a".to_owned(), "b".to_owned())]);
    assert_eq!(attempts[0].error.as_deref(), Some("answered 500"));
    assert_eq!((attempts[1].number, attempts[1].code), (2, Some(204)));
}

#[tokio::test]
async fn the_log_is_searched_by_everything_it_shows() {
    let engine = Engine::start().await;
    let (a, b) = (engine.instance("a").await, engine.instance("b").await);
    let (to_a, to_b) = (engine.lane(a, Start::Now).await, engine.lane(b, Start::Now).await);
    let mut seqs = Vec::new();
    for n in 0..24_u16 {
        engine.advance(MINUTE);
        let (instance, lane) = if n % 2 == 0 { (a, to_a) } else { (b, to_b) };
        let kind = if n % 3 == 0 { Kind::MessageStatus } else { Kind::MessageReceived };
        let seq = engine.append(instance, zapbus_event::Draft { kind, ..message("x") }).await.seq;
        seqs.push(seq.0);
        let state = match n % 4 {
            0 => State::Delivered,
            1 => State::Retrying { due: engine.now() },
            2 => State::Dead { reason: DeadReason::Attempts },
            _ => State::Cancelled,
        };
        let code = if n % 4 == 0 { 200 } else { 503 };
        let row = Row { attempt: Some(attempt(1, code, engine.now())), ..row(seq, state) };
        engine.settle(lane, Some(seq), vec![row]).await;
    }
    let expect = |wanted: fn(usize) -> bool| {
        let mut seqs: Vec<u64> =
            seqs.iter().enumerate().filter(|(n, _)| wanted(*n)).map(|(_, seq)| *seq).collect();
        seqs.reverse();
        seqs
    };
    let all = DeliveryQuery::default;
    let account = engine.account().await.id;
    let time = |n: u32| engine.now() - (24 - n) * MINUTE;
    let cases: Vec<(&str, DeliveryQuery, Vec<u64>)> = vec![
        ("all", all(), expect(|_| true)),
        ("account", DeliveryQuery { account: Some(account), ..all() }, expect(|_| true)),
        ("instance", DeliveryQuery { instance: Some(a), ..all() }, expect(|n| n % 2 == 0)),
        (
            "destination",
            DeliveryQuery { destination: Some(to_b.destination), ..all() },
            expect(|n| n % 2 == 1),
        ),
        ("dead", DeliveryQuery { status: vec![Status::Dead], ..all() }, expect(|n| n % 4 == 2)),
        (
            "open of one",
            DeliveryQuery {
                destination: Some(to_b.destination),
                status: vec![Status::Retrying, Status::Dead],
                ..all()
            },
            expect(|n| n % 4 == 1),
        ),
        (
            "cancelled or delivered",
            DeliveryQuery { status: vec![Status::Cancelled, Status::Delivered], ..all() },
            expect(|n| n % 4 == 0 || n % 4 == 3),
        ),
        ("code", DeliveryQuery { code: Some(200), ..all() }, expect(|n| n % 4 == 0)),
        (
            "types",
            DeliveryQuery { types: Some(filter(&["message.status"])), ..all() },
            expect(|n| n % 3 == 0),
        ),
        (
            "time",
            DeliveryQuery { from: Some(time(5)), to: Some(time(9)), ..all() },
            expect(|n| (4..8).contains(&n)),
        ),
        ("nobody", DeliveryQuery { code: Some(418), ..all() }, Vec::new()),
    ];
    for (name, query, expected) in cases {
        assert_eq!(find(&engine, query).await, expected, "{name}");
    }
    let event = engine.store().event_at(Position(seqs[6])).await.unwrap().unwrap().id;
    assert_eq!(find(&engine, DeliveryQuery { event: Some(event), ..all() }).await, [seqs[6]]);
    let unknown = EventId::new(engine.now(), 1);
    assert!(find(&engine, DeliveryQuery { event: Some(unknown), ..all() }).await.is_empty());
}

#[tokio::test]
async fn a_search_that_finds_little_stops_and_says_where() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 6_000).await;
    let now = engine.now();
    for chunk in said.chunks(1_000) {
        let rows = chunk.iter().map(|said| delivered(said.seq, now)).collect();
        engine.settle(lane, Some(chunk[999].seq), rows).await;
    }
    let query = DeliveryQuery { code: Some(404), ..DeliveryQuery::default() };
    let page = engine.store().search(query.clone(), None, 10).await.unwrap();
    assert!(page.deliveries.is_empty());
    assert!(page.next.is_some());
    assert!(find(&engine, query).await.is_empty());
}

#[tokio::test]
async fn redelivery_is_a_row_that_is_due_now() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say(instance, "x").await;
    let dead = Row { attempts: 11, ..row(said.seq, State::Dead { reason: DeadReason::Attempts }) };
    engine.settle(lane, Some(said.seq), vec![dead]).await;
    let id = DeliveryId { lane, shard: ShardId::default(), seq: said.seq };
    let now = engine.now();
    engine.store().redeliver(id, now, &actor()).await.unwrap();
    let due = engine.store().due(lane, now, 10).await.unwrap();
    assert_eq!(due.len(), 1);
    assert!(due[0].manual);
    assert_eq!(due[0].attempts, 11);
    let unknown = DeliveryId { seq: Position(9_999), ..id };
    let refused = engine.store().redeliver(unknown, now, &actor()).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })));
    let audit = engine.store().audit(None, None, 1).await.unwrap();
    assert_eq!(audit[0].action, "delivery.retry");
}

#[tokio::test]
async fn an_event_that_is_gone_cannot_be_sent_again() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say(instance, "x").await;
    let retrying = row(said.seq, State::Retrying { due: engine.now() });
    engine.settle(lane, Some(said.seq), vec![retrying]).await;
    engine.advance(31 * DAY);
    engine.prune(&zapbus_store::RetentionPolicy::default()).await;
    let id = DeliveryId { lane, shard: ShardId::default(), seq: said.seq };
    let refused = engine.store().redeliver(id, engine.now(), &actor()).await;
    assert!(matches!(refused, Err(StoreError::EventExpired)), "{refused:?}");
    let (delivery, _) = engine.store().delivery(id).await.unwrap().unwrap();
    assert_eq!(delivery.state, State::Expired { to: said.seq, count: 1 });
    assert!(delivery.event.is_none());
}

#[tokio::test]
async fn many_are_sent_again_in_steps_and_counted_first() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lanes = [engine.lane(instance, Start::Now).await, engine.lane(instance, Start::Now).await];
    let said = engine.say_many(instance, 450).await;
    let dead = State::Dead { reason: DeadReason::Attempts };
    for lane in lanes {
        let rows = said.iter().map(|said| row(said.seq, dead)).collect();
        engine.settle(lane, Some(said[449].seq), rows).await;
    }
    let query = DeliveryQuery { status: vec![Status::Dead], ..DeliveryQuery::default() };
    let (store, now) = (engine.store(), engine.now());
    let dry =
        store.redeliver_where(query.clone(), None, 10_000, true, now, &actor()).await.unwrap();
    assert_eq!((dry.matched, dry.redelivered, dry.more), (900, 0, false));
    let (mut counted, mut after) = (0, None);
    loop {
        let page =
            store.redeliver_where(query.clone(), after, 7, true, now, &actor()).await.unwrap();
        assert!(page.matched <= 7);
        counted += page.matched;
        after = page.next;
        if !page.more {
            break;
        }
        assert!(after.is_some());
    }
    assert_eq!(counted, 900, "each once");
    let some = store.redeliver_where(query.clone(), None, 250, false, now, &actor()).await.unwrap();
    assert_eq!((some.matched, some.redelivered, some.more), (250, 250, true));
    let rest =
        store.redeliver_where(query.clone(), None, 10_000, false, now, &actor()).await.unwrap();
    assert_eq!((rest.matched, rest.redelivered, rest.more), (650, 650, false));
    let mut woken = rest.lanes;
    woken.sort();
    let mut expected = lanes.to_vec();
    expected.sort();
    assert_eq!(woken, expected);
    let none = store.redeliver_where(query, None, 10_000, false, now, &actor()).await.unwrap();
    assert_eq!(none.matched, 0);
}

#[tokio::test]
async fn deleting_a_destination_calls_off_its_rows_and_keeps_the_log() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 1_200).await;
    let due = State::Retrying { due: engine.now() };
    let rows = said.iter().map(|said| row(said.seq, due)).collect();
    engine.settle(lane, Some(said[1_199].seq), rows).await;
    engine.store().delete_destination(lane.destination, &actor()).await.unwrap();
    let query = |status| DeliveryQuery {
        destination: Some(lane.destination),
        status: vec![status],
        ..DeliveryQuery::default()
    };
    assert_eq!(find(&engine, query(Status::Cancelled)).await.len(), 1_200);
    assert!(find(&engine, query(Status::Retrying)).await.is_empty());
    assert!(engine.store().destination(lane.destination).await.unwrap().is_none());
    let again = LaneId { destination: lane.destination, run: LIVE };
    assert!(engine.store().due(again, engine.now(), 10).await.is_err());
}
