//! What is pruned, what is kept, and that nobody waits for it.

use std::sync::Arc;

use serde_json::json;
use zapbus_event::{Draft, Kind, Position};
use zapbus_store::{
    AppendError, Appends, Budget, DeadReason, DeliveryId, DeliveryQuery, InstancePatch, Reader,
    RetentionPolicy, Start, State, Status, WhenFull,
};

use zapbus_store::ShardId;

use crate::engine::*;

fn policy() -> RetentionPolicy {
    RetentionPolicy::default()
}

async fn stored(engine: &Engine) -> usize {
    engine.read_all(Reader::All, Position::START).await.len()
}

#[tokio::test]
async fn what_nobody_is_owed_goes_with_age() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let old = engine.say_many(instance, 700).await;
    engine.advance(6 * DAY);
    let young = engine.say_many(instance, 10).await;
    engine.advance(2 * DAY);
    let pruned = engine.prune(&policy()).await;
    assert_eq!(pruned.events, 701, "its creation too");
    let left = engine.read_all(Reader::All, Position::START).await;
    assert_eq!(positions(&left), young.iter().map(|said| said.seq.0).collect::<Vec<_>>());
    let floor = engine.store().first_position().await.unwrap();
    assert_eq!(floor, old[699].seq);
    assert!(engine.store().event(old[3].id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_lane_is_owed_stays_longer_and_goes_with_a_gap() {
    let engine = Engine::start().await;
    let (a, b) = (engine.instance("a").await, engine.instance("b").await);
    let lane = engine.lane(a, Start::Now).await;
    let owed = engine.say_many(a, 50).await;
    engine.say_many(b, 50).await;
    engine.settle(lane, Some(owed[9].seq), Vec::new()).await;
    engine.advance(8 * DAY);
    engine.prune(&policy()).await;
    let left = engine.read_all(Reader::All, Position::START).await;
    assert_eq!(left.len(), 40, "only what the lane has not passed");
    assert_eq!(left[0].seq, owed[10].seq);

    engine.advance(23 * DAY);
    let pruned = engine.prune(&policy()).await;
    assert_eq!((pruned.events, pruned.gaps), (40, 1));
    let cursor = engine.store().lane(lane).await.unwrap().unwrap().cursor;
    assert!(cursor >= owed[49].seq);
    let events = engine.read_all(Reader::Instance(a), Position::START).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind, Kind::DestinationGap);
    let data: serde_json::Value = serde_json::from_slice(&events[0].data).unwrap();
    assert_eq!(data["count"], 40);
    assert_eq!(data["from"], owed[10].seq.0);
    let query = DeliveryQuery { status: vec![Status::Expired], ..DeliveryQuery::default() };
    let rows = engine.store().search(query, None, 10).await.unwrap().deliveries;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].id.seq, owed[10].seq);
    assert!(matches!(rows[0].state, State::Expired { count: 40, .. }));
}

#[tokio::test]
async fn a_lane_that_is_not_interested_loses_nothing() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let account = engine.account().await.id;
    let mut calls = new_destination(account, Some(instance), "calls");
    calls.filter = filter(&["call.*"]);
    let lane = zapbus_store::LaneId { destination: calls.id, run: 0 };
    engine.store().create_destination(calls, Start::Now, &actor(), None).await.unwrap();
    let said = engine.say_many(instance, 20).await;
    engine.advance(31 * DAY);
    let pruned = engine.prune(&policy()).await;
    assert_eq!((pruned.events, pruned.gaps), (21, 0));
    assert!(engine.store().lane(lane).await.unwrap().unwrap().cursor >= said[19].seq);
}

#[tokio::test]
async fn a_global_destination_is_owed_every_instances_events() {
    let engine = Engine::start().await;
    let account = engine.account().await.id;
    let global = new_destination(account, None, "all");
    let lane = zapbus_store::LaneId { destination: global.id, run: 0 };
    engine.store().create_destination(global, Start::Now, &actor(), None).await.unwrap();
    let (a, b) = (engine.instance("a").await, engine.instance("b").await);
    engine.say_many(a, 5).await;
    let said = engine.say_many(b, 5).await;
    engine.advance(8 * DAY);
    assert_eq!(engine.prune(&policy()).await.events, 0);
    engine.settle(lane, Some(said[4].seq), Vec::new()).await;
    assert_eq!(engine.prune(&policy()).await.events, 12);
    let late = engine.say(a, "late").await;
    engine.advance(31 * DAY);
    assert_eq!(engine.prune(&policy()).await.gaps, 1);
    let reserved = engine.store().instances_named("_account").await.unwrap();
    let told = engine.read_all(Reader::Instance(reserved[0].id), late.seq).await;
    assert_eq!(told[0].kind, Kind::DestinationGap);
}

#[tokio::test]
async fn rows_and_dead_letters_keep_their_event() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 4).await;
    let rows = vec![
        row(said[0].seq, State::Retrying { due: engine.now() }),
        row(said[1].seq, State::Dead { reason: DeadReason::Attempts }),
        delivered(said[2].seq, engine.now()),
        row(said[3].seq, State::Waiting),
    ];
    engine.settle(lane, Some(said[3].seq), rows).await;
    engine.advance(8 * DAY);
    engine.prune(&policy()).await;
    let left = engine.read_all(Reader::All, Position::START).await;
    assert_eq!(positions(&left), [said[0].seq.0, said[1].seq.0, said[3].seq.0]);
    let dead = DeliveryId { lane, shard: ShardId::default(), seq: said[1].seq };
    engine.store().redeliver(dead, engine.now(), &actor()).await.unwrap();
    assert_eq!(engine.store().due(lane, engine.now(), 10).await.unwrap().len(), 2);
    assert!(
        engine
            .store()
            .delivery(DeliveryId { lane, shard: ShardId::default(), seq: said[2].seq })
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn ephemeral_events_go_after_an_hour_and_make_no_gap() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.lane(instance, Start::Now).await;
    for _ in 0..30 {
        engine.append(instance, typing()).await;
        engine.say(instance, "x").await;
    }
    engine.advance(2 * HOUR);
    let pruned = engine.prune(&policy()).await;
    assert_eq!((pruned.events, pruned.gaps), (30, 0));
    assert_eq!(stored(&engine).await, 31);
    assert_eq!(engine.store().first_position().await.unwrap(), Position::START);
}

#[tokio::test]
async fn an_instance_may_keep_its_events_for_another_time() {
    let engine = Engine::start().await;
    let (short, long, usual) = (
        engine.instance("short").await,
        engine.instance("long").await,
        engine.instance("usual").await,
    );
    let patch = InstancePatch {
        settings: Some(json!({ "retention_s": 3600 })),
        ..InstancePatch::default()
    };
    engine.store().update_instance(short, patch, &actor()).await.unwrap();
    let mut policy = policy();
    policy.overrides.insert(long, 60 * DAY);
    for instance in [short, long, usual] {
        engine.say_many(instance, 150).await;
    }
    engine.advance(2 * HOUR);
    assert_eq!(engine.prune(&policy).await.events, 151);
    let own = engine.store().first_position_of(Reader::Instance(usual)).await.unwrap();
    assert_eq!(own, Position::START, "no false alarm for the others");
    engine.advance(8 * DAY);
    assert_eq!(engine.prune(&policy).await.events, 151);
    engine.advance(40 * DAY);
    engine.prune(&policy).await;
    assert_eq!(engine.read_all(Reader::Instance(long), Position::START).await.len(), 151);
    engine.advance(20 * DAY);
    engine.prune(&policy).await;
    assert_eq!(stored(&engine).await, 0);
}

fn heavy(n: usize) -> Draft {
    message(&format!("{n} {}", "x".repeat(2_000)))
}

async fn fill(engine: &Engine, instance: zapbus_event::InstanceId, count: usize) -> Vec<Position> {
    let mut seqs = Vec::new();
    for start in (0..count).step_by(200) {
        let events = (start..count.min(start + 200))
            .map(|n| zapbus_store::NewEvent { instance, draft: heavy(n) })
            .collect();
        let appended =
            engine.store().append(zapbus_store::Append { events, body: None }).await.unwrap();
        seqs.extend(appended.iter().map(|appended| appended.seq));
    }
    seqs
}

#[tokio::test]
async fn size_wins_over_what_is_owed_and_says_so() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let seqs = fill(&engine, instance, 2_000).await;
    let policy = RetentionPolicy { max_bytes: 2 << 20, ..policy() };
    let pruned = engine.prune(&policy).await;
    assert!(pruned.events > 500, "{pruned:?}");
    assert!(pruned.gaps >= 1 && pruned.gaps <= 4, "few large gaps: {pruned:?}");
    let cursor = engine.store().lane(lane).await.unwrap().unwrap().cursor;
    assert!(cursor > seqs[500]);
    let sizes = engine.store().sizes().await.unwrap();
    assert!(sizes.used <= 2 << 20, "{sizes:?}");
    let left = engine.read_all(Reader::Instance(instance), Position::START).await;
    assert!(left[0].seq > seqs[500]);
    let gaps = left.iter().filter(|event| event.kind == Kind::DestinationGap).count();
    assert_eq!(gaps as u64, pruned.gaps);
    assert!(engine.store().first_position().await.unwrap() > seqs[500]);
    // What is left still goes out in order, and the next gap continues where this one ended.
    let beyond = engine.read_all(Reader::Instance(instance), cursor).await;
    assert!(!beyond.is_empty());
}

#[tokio::test]
async fn refusing_keeps_what_is_owed_and_turns_new_events_away() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let seqs = fill(&engine, instance, 2_000).await;
    let policy = RetentionPolicy { max_bytes: 2 << 20, when_full: WhenFull::Refuse, ..policy() };
    let pruned = engine.prune(&policy).await;
    assert_eq!((pruned.events, pruned.gaps), (1, 0), "its creation came before the lane");
    let refused = engine.try_append(instance, message("x")).await;
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    assert_ne!(engine.store().health().borrow().appends, Appends::Ok);
    engine.settle(lane, Some(seqs[1_999]), Vec::new()).await;
    let pruned = engine.prune(&policy).await;
    assert!(pruned.events > 500, "{pruned:?}");
    engine.say(instance, "there is room again").await;
}

#[tokio::test]
async fn the_log_goes_with_age_but_never_before_the_cursor() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 10).await;
    let now = engine.now();
    let rows = said[4..].iter().map(|said| delivered(said.seq, now)).collect();
    engine.settle(lane, Some(said[3].seq), rows).await;
    engine.advance(8 * DAY);
    engine.prune(&policy()).await;
    engine.reopen().await;
    let start = engine.store().lane(lane).await.unwrap().unwrap();
    assert_eq!(start.beyond.len(), 6, "or they would be sent again");
    engine.settle(lane, Some(said[9].seq), Vec::new()).await;
    engine.prune(&policy()).await;
    let page = engine.store().search(DeliveryQuery::default(), None, 10).await.unwrap();
    assert!(page.deliveries.is_empty());
}

#[tokio::test]
async fn answers_bodies_and_the_audit_log_go_too() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let body = bytes::Bytes::from_static(b"not understood");
    let events = vec![zapbus_store::NewEvent { instance, draft: message("x") }];
    let append = zapbus_store::Append { events, body: Some(body.clone()) };
    engine.store().append(append).await.unwrap();
    engine.advance(8 * DAY);
    engine.prune(&policy()).await;
    let sha: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&body).into();
    assert!(engine.store().body(sha).await.unwrap().is_none());
    assert!(!engine.store().audit(None, None, 10).await.unwrap().is_empty());
    engine.advance(400 * DAY);
    engine.prune(&policy()).await;
    assert!(engine.store().audit(None, None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deleted_destination_is_forgotten_with_its_log() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say(instance, "x").await;
    engine.settle(lane, Some(said.seq), vec![delivered(said.seq, engine.now())]).await;
    engine.store().delete_destination(lane.destination, &actor()).await.unwrap();
    engine.advance(9 * DAY);
    engine.prune(&policy()).await;
    let query = DeliveryQuery { destination: Some(lane.destination), ..DeliveryQuery::default() };
    assert!(engine.store().search(query, None, 10).await.unwrap().deliveries.is_empty());
}

/// While many events go, others are appended as if nothing happened: each waits for a small part of
/// the pruning, however slow the machine is.
#[tokio::test]
async fn pruning_stalls_nobody() {
    let engine = Arc::new(Engine::start().await);
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let count = engine.many(50_000);
    let said = engine.say_many(instance, count).await;
    let now = engine.now();
    for chunk in said.chunks(5_000) {
        let rows = chunk.iter().map(|said| delivered(said.seq, now)).collect();
        engine.settle(lane, Some(chunk[chunk.len() - 1].seq), rows).await;
    }
    engine.advance(8 * DAY);
    // On a server the new day gets its tables with this one: that takes longer than any append.
    engine.say(instance, "the first of the day").await;

    let append = || {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { engine.say(instance, "meanwhile").await })
    };
    let mut waiting = append();
    let (mut pruned, mut appended) = (0, 0);
    // Events that went while one append waited: those of the last one, and the most.
    let (mut since, mut longest) = (0, 0);
    loop {
        let step = engine.store().prune(&policy(), Budget::default()).await.unwrap();
        pruned += step.events;
        if waiting.is_finished() {
            longest = longest.max(pruned - since);
            (since, appended) = (pruned, appended + 1);
            waiting = append();
        }
        if !step.more {
            break;
        }
    }
    longest = longest.max(pruned - since);
    waiting.await.unwrap();
    assert_eq!(pruned, count as u64 + 1);
    let bound = pruned / 10 + Budget::default().rows as u64;
    assert!(longest <= bound, "{longest} of {pruned} went during one append");
    assert!(appended >= 10, "{appended} appends");
}
