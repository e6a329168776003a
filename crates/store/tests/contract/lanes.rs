//! Cursors, rows, settlement.

use std::time::{Duration, Instant};

use zapbus_event::{DestinationId, Kind, Position, Timestamp};
use zapbus_store::{
    DeadReason, Health, HeldKey, LIVE, LaneId, NewEvent, Reader, Row, Settlement, Start, State,
    Urgency,
};

use zapbus_store::ShardId;

use crate::engine::*;

fn settlement(lane: LaneId, cursor: u64) -> Settlement {
    Settlement {
        lane,
        epoch: None,
        shard: ShardId::default(),
        cursor: Some(Position(cursor)),
        health: None,
        rows: Vec::new(),
        events: Vec::new(),
    }
}

#[tokio::test]
async fn a_cursor_never_goes_back() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Beginning).await;
    let said = engine.say_many(instance, 10).await;
    engine.settle(lane, Some(said[7].seq), Vec::new()).await;
    engine.settle(lane, Some(said[2].seq), Vec::new()).await;
    engine.reopen().await;
    assert_eq!(engine.store().lane(lane).await.unwrap().unwrap().cursor, said[7].seq);
}

#[tokio::test]
async fn a_lane_of_one_instance_starts_in_its_one_shard() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Beginning).await;
    let said = engine.say_many(instance, 5).await;
    let due = Timestamp::from_millis(engine.now().as_millis() + 1);
    let rows = vec![row(said[1].seq, State::Retrying { due }), row(said[3].seq, State::Delivered)];
    engine.settle(lane, Some(said[1].seq), rows).await;
    let store = engine.store();
    let home = store.shard_of(instance);
    let [start] = &store.lane_starts(lane).await.unwrap().unwrap()[..] else {
        panic!("there is one shard")
    };
    assert_eq!((start.shard, start.end, start.start.cursor), (home, None, said[1].seq));
    assert_eq!(start.start.beyond, [said[3].seq]);
    assert_eq!((start.start.held.len(), start.start.next_due), (1, Some(due)));
    assert_eq!(store.cursors(lane).await.unwrap(), [(home, said[1].seq)]);
    assert_eq!(store.runs_with_rows(lane.destination).await.unwrap(), [LIVE]);

    let unknown = LaneId { run: 7, ..lane };
    assert!(store.lane_starts(unknown).await.unwrap().is_none());
    assert!(store.cursors(unknown).await.unwrap().is_empty());
    let filter = filter(&["*"]);
    let run = store.create_run(lane.destination, Start::Beginning, filter, &actor()).await.unwrap();
    let starts = store.lane_starts(run.lane).await.unwrap().unwrap();
    assert_eq!(starts[0].end, Some(said[1].seq));
    assert_eq!(starts[0].start.cursor, run.from);
    store.delete_destination(lane.destination, &actor()).await.unwrap();
    assert!(store.lane_starts(lane).await.unwrap().is_none());
    assert!(store.runs_with_rows(lane.destination).await.unwrap().is_empty());
}

#[tokio::test]
async fn start_now_gets_what_is_answered_after_and_nothing_answered_before() {
    let engine = std::sync::Arc::new(Engine::start().await);
    let instance = engine.instance("shop").await;
    let mut writers = tokio::task::JoinSet::new();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for _ in 0..8 {
        let (engine, stop) = (engine.clone(), stop.clone());
        writers.spawn(async move {
            let mut answered = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let seq = engine.say(instance, "x").await.seq;
                answered.push((Instant::now(), seq));
            }
            answered
        });
    }
    let mut created = Vec::new();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let asked = Instant::now();
        let lane = engine.lane(instance, Start::Now).await;
        let cursor = engine.store().lane(lane).await.unwrap().unwrap().cursor;
        created.push((asked, Instant::now(), cursor));
        engine.say(instance, "after the answer").await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let answered: Vec<_> = writers.join_all().await.concat();
    for (asked, _, cursor) in created {
        for (at, seq) in &answered {
            assert!(*at > asked || *seq <= cursor, "{seq} was answered before the request");
        }
    }
}

#[tokio::test]
async fn starts_are_where_they_say() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.advance(HOUR);
    let said = engine.say_many(instance, 5).await;
    engine.advance(HOUR);
    engine.say(instance, "late").await;
    let head = *engine.store().head().borrow();
    for (start, expected) in [
        (Start::Now, head),
        (Start::Beginning, Position::START),
        (Start::Time(said[0].received_at), Position(said[0].seq.0 - 1)),
        (Start::After(said[3].seq), said[3].seq),
        (Start::After(Position(u64::MAX)), head),
    ] {
        let lane = engine.lane(instance, start).await;
        let found = engine.store().lane(lane).await.unwrap().unwrap();
        assert_eq!(found.cursor, expected, "{start:?}");
        assert_eq!(found.health, Health::Flowing);
    }
}

#[tokio::test]
async fn rows_beyond_the_cursor_are_there_after_a_restart() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 6).await;
    let now = engine.now();
    let rows = vec![
        delivered(said[1].seq, now),
        row(said[3].seq, State::Retrying { due: now + MINUTE }),
        row(said[5].seq, State::Dead { reason: DeadReason::Refused }),
    ];
    engine.settle(lane, Some(said[0].seq), rows).await;
    engine.reopen().await;
    let start = engine.store().lane(lane).await.unwrap().unwrap();
    assert_eq!(start.cursor, said[0].seq);
    assert_eq!(start.beyond, [said[1].seq, said[3].seq, said[5].seq]);
    assert_eq!(start.next_due, Some(now + MINUTE));
    assert_eq!(start.held, [HeldKey { key: 7, first: said[3].seq, rows: 1, waiting: 0 }]);
}

#[tokio::test]
async fn health_and_its_clock_survive() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let now = engine.now();
    for health in [
        Health::Probing { since: now, probes: 3, next: now + MINUTE },
        Health::Probing { since: now, probes: 4, next: now + 2 * MINUTE },
        Health::Flowing,
    ] {
        let settlement = Settlement {
            lane,
            epoch: None,
            shard: ShardId::default(),
            cursor: None,
            health: Some(health),
            rows: Vec::new(),
            events: Vec::new(),
        };
        engine.store().settle(vec![settlement], Urgency::CanRide).await.unwrap();
        engine.reopen().await;
        let store = engine.store();
        assert_eq!(store.lane(lane).await.unwrap().unwrap().health, health);
        let heads = store.destination_heads(None, 10).await.unwrap();
        assert_eq!(heads[0].2, health);
    }
}

#[tokio::test]
async fn due_rows_come_by_time_then_position() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 6).await;
    let now = engine.now();
    let due = [3, 1, 2, 1, 9, 3];
    let rows = said
        .iter()
        .zip(due)
        .map(|(said, minutes)| row(said.seq, State::Retrying { due: now + minutes * MINUTE }))
        .collect();
    engine.settle(lane, Some(said[5].seq), rows).await;
    let found = engine.store().due(lane, now + 3 * MINUTE, 10).await.unwrap();
    let order: Vec<Position> = found.iter().map(|row| row.seq).collect();
    assert_eq!(order, [1, 3, 2, 0, 5].map(|n: usize| said[n].seq));
    assert_eq!(found[0].event.as_ref().unwrap().id, said[1].id);
    assert_eq!(found[0].due, now + MINUTE);
    assert_eq!(engine.store().due(lane, now + 3 * MINUTE, 2).await.unwrap().len(), 2);
    assert!(engine.store().due(lane, now, 10).await.unwrap().is_empty());
    assert_eq!(engine.store().next_due(lane).await.unwrap(), Some(now + MINUTE));
}

#[tokio::test]
async fn strict_keys_wait_in_order() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 6).await;
    let due = State::Retrying { due: engine.now() + MINUTE };
    let of_key = |n: usize, state, key| Row { key, attempts: 0, ..row(said[n].seq, state) };
    let rows = vec![
        of_key(0, due, u64::MAX),
        of_key(4, State::Waiting, u64::MAX),
        of_key(1, State::Waiting, u64::MAX),
        of_key(2, State::Waiting, 5),
        Row { manual: true, ..of_key(3, due, 5) },
    ];
    engine.settle(lane, Some(said[5].seq), rows).await;
    let waiting = engine.store().waiting(lane, u64::MAX, 10).await.unwrap();
    let order: Vec<Position> = waiting.iter().map(|row| row.seq).collect();
    assert_eq!(order, [said[1].seq, said[4].seq]);
    assert_eq!(engine.store().waiting(lane, u64::MAX, 1).await.unwrap().len(), 1);
    let mut held = engine.store().lane(lane).await.unwrap().unwrap().held;
    held.sort_by_key(|held| held.key);
    assert_eq!(
        held,
        [
            HeldKey { key: 5, first: said[2].seq, rows: 1, waiting: 1 },
            HeldKey { key: u64::MAX, first: said[0].seq, rows: 3, waiting: 2 },
        ],
        "what a person sends again is outside of every order"
    );
    // Its turn has come: it becomes an ordinary row.
    engine.settle(lane, None, vec![of_key(1, due, u64::MAX)]).await;
    assert_eq!(engine.store().waiting(lane, u64::MAX, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn lanes_with_due_rows_are_found_at_a_start() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let mut expected = Vec::new();
    for n in 0..4_u32 {
        let lane = engine.lane(instance, Start::Now).await;
        let said = engine.say_many(instance, 3).await;
        let due = engine.now() + (n + 1) * MINUTE;
        let rows = said
            .iter()
            .map(|said| row(said.seq, State::Retrying { due: due + MINUTE }))
            .chain([row(said[0].seq, State::Retrying { due })])
            .collect();
        engine.settle(lane, None, rows).await;
        if n == 2 {
            engine.store().delete_destination(lane.destination, &actor()).await.unwrap();
        } else {
            expected.push((lane, due));
        }
    }
    engine.reopen().await;
    let mut found = engine.store().lanes_due().await.unwrap();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_settlement_carries_events_of_its_own() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let before = *engine.store().head().borrow();
    let event = NewEvent { instance, draft: draft(Kind::DestinationProbing, "{}") };
    let settlement = Settlement { events: vec![event], ..settlement(lane, before.0) };
    engine.store().settle(vec![settlement], Urgency::Now).await.unwrap();
    let found = engine.read_all(Reader::Instance(instance), before).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, Kind::DestinationProbing);
}

#[tokio::test]
async fn a_deleted_destination_is_passed_over_in_silence() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let (gone, kept) = (
        engine.lane(instance, Start::Beginning).await,
        engine.lane(instance, Start::Beginning).await,
    );
    let nobody = LaneId { destination: DestinationId::new(engine.now(), 1), run: LIVE };
    engine.store().delete_destination(gone.destination, &actor()).await.unwrap();
    let all = [gone, nobody, kept].map(|lane| settlement(lane, 1)).into();
    engine.store().settle(all, Urgency::Now).await.unwrap();
    assert_eq!(engine.store().lane(kept).await.unwrap().unwrap().cursor, Position(1));
    assert!(engine.store().lane(gone).await.unwrap().is_none());
    assert!(engine.store().lane(nobody).await.unwrap().is_none());
}

#[tokio::test]
async fn a_settlement_waits_for_company_but_not_for_long() {
    let engine = Engine::with(|options| options.ride = Duration::from_millis(60)).await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Beginning).await;
    let store = engine.store();

    let started = Instant::now();
    store.settle(vec![settlement(lane, 1)], Urgency::Now).await.unwrap();
    let at_once = started.elapsed();
    let started = Instant::now();
    store.settle(vec![settlement(lane, 1)], Urgency::CanRide).await.unwrap();
    let alone = started.elapsed();
    assert!(alone >= Duration::from_millis(60), "{alone:?}");
    assert!(at_once < alone, "{at_once:?}");

    let commits = store.metrics().commits.get();
    let (settled, _) = tokio::join!(
        store.settle(vec![settlement(lane, 1)], Urgency::CanRide),
        engine.say(instance, "company"),
    );
    settled.unwrap();
    assert!(store.metrics().commits.get() <= commits + 2);
}

#[tokio::test]
async fn numbers_tell_how_far_behind_a_lane_is() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let stats = engine.store().lane_stats(lane).await.unwrap();
    assert_eq!((stats.retrying, stats.oldest_unsettled), (0, None));
    let first = engine.say(instance, "x").await;
    engine.advance(HOUR);
    let rest = engine.say_many(instance, 3).await;
    let stats = engine.store().lane_stats(lane).await.unwrap();
    assert_eq!(stats.oldest_unsettled, Some(first.received_at));
    let rows = vec![
        row(rest[0].seq, State::Retrying { due: Timestamp::from_millis(BEGIN) }),
        row(rest[1].seq, State::Waiting),
        row(rest[2].seq, State::Dead { reason: DeadReason::Attempts }),
    ];
    engine.settle(lane, Some(rest[2].seq), rows).await;
    let stats = engine.store().lane_stats(lane).await.unwrap();
    assert_eq!((stats.retrying, stats.waiting, stats.dead), (1, 1, 1));
    assert_eq!(stats.cursor, rest[2].seq);
    assert_eq!(stats.oldest_unsettled, Some(rest[0].received_at));
}

#[tokio::test]
async fn dead_letters_of_one_destination_are_found_among_many_deliveries() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let (noisy, quiet) =
        (engine.lane(instance, Start::Now).await, engine.lane(instance, Start::Now).await);
    let said = engine.say_many(instance, 12_000).await;
    let now = engine.now();
    for chunk in said.chunks(3_000) {
        let rows = chunk.iter().map(|said| delivered(said.seq, now)).collect();
        engine.settle(noisy, Some(chunk[2_999].seq), rows).await;
    }
    let dead = State::Dead { reason: DeadReason::Attempts };
    for lane in [noisy, quiet] {
        engine.settle(lane, None, vec![row(said[5].seq, dead)]).await;
    }
    let query = zapbus_store::DeliveryQuery {
        destination: Some(noisy.destination),
        status: vec![zapbus_store::Status::Dead],
        ..zapbus_store::DeliveryQuery::default()
    };
    let page = engine.store().search(query, None, 10).await.unwrap();
    assert_eq!(page.deliveries.len(), 1, "on the first page");
    assert_eq!(page.deliveries[0].id.lane, noisy);
    assert_eq!(engine.store().lane_stats(quiet).await.unwrap().dead, 1);
}
