//! How pruning goes on: no pass waits for another, no lane loses more than it must, or silently.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use zapbus_event::{Filter, InstanceId, Kind, Position};
use zapbus_store::{
    Append, AppendError, Budget, DeadReason, DeliveryId, DeliveryQuery, InstancePatch, LaneId,
    NewEvent, Pruned, Reader, RetentionPolicy, Start, State, Status, WhenFull,
};

use zapbus_store::ShardId;

use crate::engine::*;

fn policy() -> RetentionPolicy {
    RetentionPolicy::default()
}

/// A step that time does not cut short.
fn rows(rows: usize) -> Budget {
    Budget { rows, time: Duration::from_secs(60) }
}

async fn lane_of(engine: &Engine, instance: Option<InstanceId>, patterns: &[&str]) -> LaneId {
    let account = engine.account().await.id;
    let mut destination = new_destination(account, instance, &format!("d{}", unique()));
    destination.filter = filter(patterns);
    let lane = LaneId { destination: destination.id, run: 0 };
    engine.store().create_destination(destination, Start::Now, &actor(), None).await.unwrap();
    lane
}

/// From, to and count of each gap that was told.
async fn gaps(engine: &Engine) -> Vec<(u64, u64, u64)> {
    let events = engine.read_all(Reader::All, Position::START).await;
    let gaps = events.iter().filter(|event| event.kind == Kind::DestinationGap);
    gaps.map(|event| {
        let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        let number = |name: &str| data[name].as_u64().unwrap();
        (number("from"), number("to"), number("count"))
    })
    .collect()
}

async fn stored(engine: &Engine) -> usize {
    engine.read_all(Reader::All, Position::START).await.len()
}

#[tokio::test]
async fn a_match_far_behind_others_is_not_lost_in_silence() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = lane_of(&engine, Some(instance), &["call.*"]).await;
    let global = lane_of(&engine, None, &["call.*"]).await;
    let none = lane_of(&engine, Some(instance), &["group.*"]).await;
    engine.say_many(instance, 2_500).await;
    let mut calls = Vec::new();
    for _ in 0..5 {
        calls.push(engine.append(instance, draft(Kind::CallUpdated, "{}")).await.seq);
    }
    engine.advance(31 * DAY);
    let pruned = engine.prune(&policy()).await;
    assert_eq!(pruned.gaps, 2);
    let expected = (calls[0].0, calls[4].0, 5);
    assert_eq!(gaps(&engine).await, [expected, expected]);
    for lane in [lane, global] {
        let row = engine
            .store()
            .delivery(DeliveryId { lane, shard: ShardId::default(), seq: calls[0] })
            .await
            .unwrap();
        assert_eq!(row.unwrap().0.state, State::Expired { to: calls[4], count: 5 });
    }
    assert!(engine.store().lane(none).await.unwrap().unwrap().cursor >= calls[4]);
}

#[tokio::test]
async fn beyond_what_is_counted_a_gap_is_an_estimate() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 6_000).await;
    engine.advance(31 * DAY);
    engine.prune(&policy()).await;
    let told = gaps(&engine).await;
    assert_eq!(told, [(said[0].seq.0, said[5_999].seq.0, 6_000)], "they lie close together");
}

#[tokio::test]
async fn no_more_is_given_up_than_is_too_much() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let mut seqs = Vec::new();
    for n in 0..60_u64 {
        // Base64 of its own for each, or they would share a file.
        let media = format!("{n:08}{}", "AbCd".repeat(32_500));
        seqs.push(engine.append(instance, message(&media)).await.seq);
    }
    let policy = RetentionPolicy { max_bytes: 5 << 20, ..policy() };
    let before = engine.store().sizes().await.unwrap();
    let pruned = engine.prune(&policy).await;
    let after = engine.store().sizes().await.unwrap();
    let too_much = before.used + before.blobs - policy.max_bytes + policy.max_bytes / 20;
    let must = too_much / (97_500) + 1;
    assert!(pruned.events <= must + 3, "{pruned:?}, {must} had to go: {before:?} {after:?}");
    assert!(after.used + after.blobs <= policy.max_bytes);
    assert!((1..=2).contains(&pruned.gaps), "{pruned:?}");
    // The lane goes on right behind what is gone.
    let cursor = engine.store().lane(lane).await.unwrap().unwrap().cursor;
    let left = engine.read_all(Reader::Instance(instance), Position::START).await;
    assert!(left[0].seq > cursor, "nothing was skipped that is still there");
    assert_eq!(
        left.iter().filter(|event| event.seq <= seqs[59]).count() as u64,
        61 - pruned.events
    );
}

#[tokio::test]
async fn what_nobody_is_owed_goes_first_wherever_it_is() {
    let engine = Engine::start().await;
    let (owed, free) = (engine.instance("owed").await, engine.instance("free").await);
    engine.lane(owed, Start::Now).await;
    let kept: Vec<u64> = heavy(&engine, owed, 300).await.iter().map(|seq| seq.0).collect();
    heavy(&engine, free, 1_500).await;
    for when_full in [WhenFull::Refuse, WhenFull::Gap] {
        let policy = RetentionPolicy { max_bytes: 3 << 20, when_full, ..policy() };
        engine.prune(&policy).await;
        engine.say(free, "there is room").await;
        let left = engine.read_all(Reader::Instance(owed), Position::START).await;
        let left: Vec<u64> =
            positions(&left).into_iter().filter(|seq| kept.contains(seq)).collect();
        assert_eq!(left, kept, "{when_full:?}");
        assert!(gaps(&engine).await.is_empty());
        heavy(&engine, free, 1_500).await;
    }
    // With nothing else left, it is refused or goes.
    let refuse = WhenFull::Refuse;
    // A page holds more of these rows there.
    let max_bytes = if crate::POSTGRES { 512 << 10 } else { 1 << 20 };
    let policy = RetentionPolicy { max_bytes, when_full: refuse, ..policy() };
    engine.prune(&policy).await;
    let refused = engine.try_append(free, message("x")).await;
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    let left = engine.read_all(Reader::All, Position::START).await;
    assert_eq!(positions(&left), kept);
    let policy = RetentionPolicy { when_full: WhenFull::Gap, ..policy };
    assert!(engine.prune(&policy).await.gaps > 0);
    engine.say(free, "there is room again").await;
}

async fn heavy(engine: &Engine, instance: InstanceId, count: usize) -> Vec<Position> {
    let mut seqs = Vec::new();
    for start in (0..count).step_by(200) {
        let events = (start..count.min(start + 200))
            .map(|n| NewEvent { instance, draft: message(&format!("{n} {}", "x".repeat(2_000))) })
            .collect();
        let appended = engine.store().append(Append { events, body: None }).await.unwrap();
        seqs.extend(appended.iter().map(|appended| appended.seq));
    }
    seqs
}

#[tokio::test]
async fn a_replay_made_meanwhile_does_not_stop_size() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let seqs = heavy(&engine, instance, 1_500).await;
    let policy = RetentionPolicy { max_bytes: 2 << 20, ..policy() };
    let mut seen = Pruned::default();
    while seen.gaps == 0 {
        seen = engine.store().prune(&policy, rows(20)).await.unwrap();
        assert!(seen.more);
    }
    // The lane has been moved, and nothing is deleted yet: now somebody wants it all again.
    let everything = Filter::default();
    engine.settle(lane, Some(seqs[1_499]), Vec::new()).await;
    let store = engine.store();
    store.create_run(lane.destination, Start::Beginning, everything, &actor()).await.unwrap();
    engine.prune(&policy).await;
    engine.prune(&policy).await;
    let sizes = engine.store().sizes().await.unwrap();
    assert!(sizes.used + sizes.blobs <= policy.max_bytes, "{sizes:?}");
    assert!(gaps(&engine).await.len() >= 2, "the replay lost something too");
}

#[tokio::test]
async fn an_owed_backlog_of_a_short_retention_keeps_nobody_waiting() {
    let engine = Engine::start().await;
    let (short, other) = (engine.instance("short").await, engine.instance("other").await);
    let patch = InstancePatch {
        settings: Some(json!({ "retention_s": 3600 })),
        ..InstancePatch::default()
    };
    engine.store().update_instance(short, patch, &actor()).await.unwrap();
    engine.lane(short, Start::Now).await;
    let busy = engine.lane(other, Start::Now).await;
    let said = engine.say_many(other, 100).await;
    let (last, now) = (said[99].seq, engine.now());
    engine.settle(busy, Some(last), said.iter().map(|it| delivered(it.seq, now)).collect()).await;
    engine.say_many(short, 1_500).await;
    engine.advance(8 * DAY);
    let pruned = engine.prune(&policy()).await;
    assert_eq!((pruned.events, pruned.deliveries), (102, 100), "{pruned:?}");
    assert_eq!(stored(&engine).await, 1_500);
}

#[tokio::test]
async fn no_pass_starves_another() {
    let engine = Engine::start().await;
    let (owed, other) = (engine.instance("owed").await, engine.instance("other").await);
    engine.lane(owed, Start::Now).await;
    let busy = engine.lane(other, Start::Now).await;
    engine.say_many(owed, 8_000).await;
    let said = engine.say_many(other, 1_000).await;
    let (last, now) = (said[999].seq, engine.now());
    engine.settle(busy, Some(last), said.iter().map(|it| delivered(it.seq, now)).collect()).await;
    engine.advance(8 * DAY);
    let (mut gone, mut steps) = (0, 0);
    while gone < 1_000 {
        let pruned = engine.store().prune(&policy(), rows(100)).await.unwrap();
        gone += pruned.deliveries;
        steps += 1;
        assert!(pruned.more || gone >= 1_000);
        assert!(steps <= 60, "{gone} of 1,000 rows in {steps} steps");
    }
}

#[tokio::test]
async fn lanes_are_moved_a_few_at_a_time() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    for _ in 0..150 {
        engine.lane(instance, Start::Now).await;
    }
    engine.say_many(instance, 40).await;
    engine.advance(31 * DAY);
    let mut total = 0;
    loop {
        // 25 rows a turn: less than what one lane has to look at.
        let step = engine.store().prune(&policy(), rows(100)).await.unwrap();
        assert!(step.gaps <= 8, "{step:?}");
        total += step.gaps;
        if !step.more {
            break;
        }
    }
    assert_eq!(total, 150);
    // Time bounds a step too.
    engine.say_many(instance, 10).await;
    engine.advance(31 * DAY);
    let none = Budget { rows: 10_000, time: Duration::ZERO };
    for _ in 0..50_000 {
        let step = engine.store().prune(&policy(), none).await.unwrap();
        assert!(step.gaps <= 1 && step.events <= 32, "{step:?}");
        if !step.more {
            assert_eq!(gaps(&engine).await.len(), 150);
            return;
        }
    }
    panic!("pruning does not end");
}

#[tokio::test]
async fn rows_that_were_to_be_sent_make_a_gap_too() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 5).await;
    let held = vec![
        row(said[1].seq, State::Retrying { due: engine.now() }),
        row(said[2].seq, State::Waiting),
        row(said[3].seq, State::Dead { reason: DeadReason::Attempts }),
    ];
    engine.settle(lane, Some(said[4].seq), held).await;
    engine.advance(31 * DAY);
    assert_eq!(engine.prune(&policy()).await.gaps, 1);
    assert_eq!(gaps(&engine).await, [(said[1].seq.0, said[4].seq.0, 2)]);
    let query = DeliveryQuery { status: vec![Status::Expired], ..DeliveryQuery::default() };
    let expired = engine.store().search(query, None, 10).await.unwrap().deliveries;
    assert_eq!(expired.len(), 2);
}

#[tokio::test]
async fn what_expired_stays_expired() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 5).await;
    engine.advance(31 * DAY);
    engine.prune(&policy()).await;
    // It was in flight all the time, and its outcome comes now.
    engine.settle(lane, Some(said[0].seq), vec![delivered(said[0].seq, engine.now())]).await;
    let id = DeliveryId { lane, shard: ShardId::default(), seq: said[0].seq };
    let row = engine.store().delivery(id).await.unwrap().unwrap();
    assert_eq!(row.0.state, State::Expired { to: said[4].seq, count: 5 });
}

#[tokio::test]
async fn bodies_are_kept_as_long_as_their_instances_events() {
    let engine = Engine::start().await;
    let (short, long) = (engine.instance("short").await, engine.instance("long").await);
    let mut policy = policy();
    policy.overrides = [(short, HOUR), (long, 60 * DAY)].into();
    let mut shas = Vec::new();
    for instance in [short, long] {
        let body = Bytes::from(format!("body of {instance}"));
        shas.push(<[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(&body)));
        let events = vec![NewEvent { instance, draft: message("x") }];
        engine.store().append(Append { events, body: Some(body) }).await.unwrap();
    }
    engine.advance(2 * HOUR);
    engine.prune(&policy).await;
    assert!(engine.store().body(shas[0]).await.unwrap().is_none());
    assert!(engine.store().body(shas[1]).await.unwrap().is_some());
    engine.advance(59 * DAY);
    engine.prune(&policy).await;
    assert!(engine.store().body(shas[1]).await.unwrap().is_some());
    engine.advance(2 * DAY);
    engine.prune(&policy).await;
    assert!(engine.store().body(shas[1]).await.unwrap().is_none());
}

#[tokio::test]
async fn bodies_give_way_to_what_is_owed() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.lane(instance, Start::Now).await;
    for n in 0..40 {
        let events = vec![NewEvent { instance, draft: message("x") }];
        let body = Some(Bytes::from(format!("{n} {}", "x".repeat(100_000))));
        engine.store().append(Append { events, body }).await.unwrap();
    }
    let policy = RetentionPolicy { max_bytes: 2 << 20, ..policy() };
    let pruned = engine.prune(&policy).await;
    assert_eq!((pruned.events, pruned.gaps), (0, 0), "{pruned:?}");
    assert!((20..35).contains(&pruned.others), "{pruned:?}");
    assert!(engine.store().sizes().await.unwrap().used <= 2 << 20);
}

#[tokio::test]
async fn a_clock_that_ran_ahead_costs_no_events() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.say_many(instance, 10).await;
    engine.advance(365 * DAY);
    engine.say(instance, "from next year").await;
    engine.set_back(365 * DAY);
    engine.advance(DAY);
    engine.reopen().await;
    engine.say(instance, "today").await;
    assert_eq!(engine.prune(&policy()).await.events, 0);
    engine.advance(7 * DAY);
    assert_eq!(engine.prune(&policy()).await.events, 11, "by the clock, those are old");
    assert_eq!(stored(&engine).await, 2);
}

#[tokio::test]
async fn a_row_made_behind_the_jump_is_told_as_well() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = lane_of(&engine, Some(instance), &["call.*"]).await;
    let said = engine.say_many(instance, 200).await;
    engine.advance(31 * DAY);
    while engine.store().lane(lane).await.unwrap().unwrap().cursor < said[199].seq {
        assert!(engine.store().prune(&policy(), rows(20)).await.unwrap().more);
    }
    // Sent while its filter was another one, and failed.
    let retry = row(said[150].seq, State::Retrying { due: engine.now() });
    engine.settle(lane, None, vec![retry]).await;
    engine.prune(&policy()).await;
    assert_eq!(positions(&engine.read_all(Reader::All, Position::START).await), [said[150].seq.0]);
    engine.advance(HOUR);
    assert_eq!(engine.prune(&policy()).await.gaps, 1);
}

/// A store whose events lie in four parts, where it has parts.
async fn in_shards() -> Engine {
    Engine::with(|options| {
        if let Some(postgres) = &mut options.postgres {
            postgres.shards = 4;
        }
    })
    .await
}

/// Instances of two shards, where there are several.
async fn apart(engine: &Engine) -> (InstanceId, InstanceId) {
    let first = engine.instance("first").await;
    for n in 0..64 {
        let other = engine.instance(&format!("other{n}")).await;
        if !crate::POSTGRES || engine.store().shard_of(other) != engine.store().shard_of(first) {
            return (first, other);
        }
    }
    panic!("64 instances are in one of four shards");
}

#[tokio::test]
async fn a_quiet_part_of_the_journal_does_not_pay_for_a_loud_one() {
    let engine = in_shards().await;
    let (quiet, loud) = apart(&engine).await;
    let lane = engine.lane(quiet, Start::Now).await;
    let owed = heavy(&engine, quiet, 100).await;
    engine.advance(HOUR);
    heavy(&engine, loud, 1_500).await;
    engine.advance(HOUR);
    // Nobody is owed these, and they are the newest of all.
    let account = engine.account().await.id;
    let fresh = engine.instance_of(account, "fresh").await;
    let kept = heavy(&engine, fresh, 100).await;
    let policy = RetentionPolicy { max_bytes: 2 << 20, ..policy() };
    let pruned = engine.prune(&policy).await;
    assert!(pruned.events > 500 && pruned.gaps == 0, "{pruned:?}");
    let sizes = engine.store().sizes().await.unwrap();
    assert!(sizes.used + sizes.blobs <= policy.max_bytes, "{sizes:?}");
    for (instance, all) in [(quiet, &owed), (fresh, &kept)] {
        let left = engine.read_all(Reader::Instance(instance), Position::START).await;
        let left: Vec<Position> =
            left.iter().map(|event| event.seq).filter(|seq| all.contains(seq)).collect();
        assert_eq!(&left, all);
    }
    assert!(engine.store().lane(lane).await.unwrap().unwrap().cursor < owed[0]);
    // What is owed goes when there is nothing else, of whatever part: the oldest first.
    let of_loud = engine.lane(loud, Start::Beginning).await;
    let of_fresh = engine.lane(fresh, Start::Beginning).await;
    let policy = RetentionPolicy { max_bytes: 3 << 19, ..policy };
    let pruned = engine.prune(&policy).await;
    assert!(pruned.gaps >= 2, "{pruned:?}");
    assert!(engine.store().lane(lane).await.unwrap().unwrap().cursor >= owed[99]);
    let cursor = engine.store().lane(of_fresh).await.unwrap().unwrap().cursor;
    assert!(cursor < kept[0], "it is the newest, and enough else was there");
    let left = engine.read_all(Reader::Instance(fresh), Position::START).await;
    assert!(left.len() >= 100);
    let _ = of_loud;
}

#[tokio::test]
async fn one_part_that_is_full_refuses_for_all_until_there_is_room() {
    let engine = in_shards().await;
    let (full, other) = apart(&engine).await;
    let lane = engine.lane(full, Start::Now).await;
    let owed = heavy(&engine, full, 1_500).await;
    let policy = RetentionPolicy { max_bytes: 1 << 20, when_full: WhenFull::Refuse, ..policy() };
    for _ in 0..3 {
        assert_eq!(engine.prune(&policy).await.gaps, 0);
        for instance in [full, other] {
            let refused = engine.try_append(instance, message("x")).await;
            assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
        }
    }
    engine.settle(lane, Some(owed[1_499]), Vec::new()).await;
    engine.prune(&policy).await;
    for instance in [full, other] {
        engine.say(instance, "there is room").await;
    }
}

#[tokio::test]
async fn a_large_day_goes_at_once() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let other = engine.instance("other").await;
    let mut last = engine.say(other, "first").await;
    // Of some size, and not base64: it stays in the journal.
    let large = "a word and ".repeat(60_000);
    for n in 0..30 {
        last = engine.append(instance, message(&format!("{n} {large}"))).await;
    }
    let media = format!("{:08}{}", 7, "AbCd".repeat(32_500));
    engine.append(instance, message(&media)).await;
    assert_eq!(engine.binaries().await, 1);
    engine.advance(9 * DAY);
    let young = engine.say(instance, "young").await;
    let step = engine.store().prune(&policy(), rows(1)).await.unwrap();
    if crate::POSTGRES {
        assert!(step.events >= 33, "as a whole, and not row by row: {step:?}");
        let day = BEGIN / 86_400_000;
        engine
            .tamper(&format!(
                "DO $$ BEGIN IF to_regclass('journal_full_{day}') IS NOT NULL OR EXISTS \
                 (SELECT 1 FROM meta WHERE name LIKE '%journal%') \
                 THEN RAISE EXCEPTION 'it is there'; END IF; END $$"
            ))
            .await;
    }
    engine.prune(&policy()).await;
    let left = engine.read_all(Reader::All, Position::START).await;
    assert_eq!(positions(&left), [young.seq.0]);
    assert_eq!(engine.binaries().await, 0);
    assert!(engine.store().first_position().await.unwrap() >= last.seq);
    for instance in [instance, other] {
        let of = Reader::Instance(instance);
        assert!(engine.store().gap_after(of, Position(1)).await.unwrap(), "it is told");
    }
}

#[tokio::test]
async fn a_table_that_was_taken_apart_is_not_forgotten() {
    let engine = Engine::start().await;
    if !crate::POSTGRES {
        return;
    }
    let instance = engine.instance("shop").await;
    engine.say(instance, "x").await;
    // Whoever did this ended before it was dropped; and somebody keeps one of their own.
    engine
        .tamper(
            "CREATE TABLE journal_full_1 (LIKE journal); CREATE TABLE journal_full_2 (LIKE journal); \
             INSERT INTO meta VALUES ('going:journal_full_1', 1)",
        )
        .await;
    engine.prune(&policy()).await;
    engine
        .tamper(
            "DO $$ BEGIN IF to_regclass('journal_full_1') IS NOT NULL \
             OR to_regclass('journal_full_2') IS NULL \
             OR EXISTS (SELECT 1 FROM meta WHERE name LIKE 'going:%') \
             THEN RAISE EXCEPTION 'one too many or too few'; END IF; END $$",
        )
        .await;
}
