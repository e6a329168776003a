//! What happens when it cannot be as it should.

use std::{sync::Arc, time::Duration};

use zapbus_event::{Kind, Position};
use zapbus_store::{Append, AppendError, Appends, NewEvent, Reader, Start, State, Store};

use zapbus_store::ShardId;

use crate::engine::*;

#[tokio::test]
async fn one_request_with_bad_data_spoils_nobody_elses() {
    let engine = Arc::new(Engine::start().await);
    let instance = engine.instance("shop").await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..120 {
        let engine = engine.clone();
        all.spawn(async move {
            let mut draft = keyed("x", &[&n.to_string()]);
            if n % 17 == 3 {
                // The database takes no head as large as this.
                draft.partition = "p".repeat(2 << 20);
            }
            // The bad one comes second: what came before it in the same request goes too.
            let events = vec![
                NewEvent { instance, draft: keyed("first", &[&format!("{n}/first")]) },
                NewEvent { instance, draft },
            ];
            (n, engine.store().append(Append { events, body: None }).await)
        });
    }
    for (n, result) in all.join_all().await {
        match result {
            Ok(_) => assert_ne!(n % 17, 3),
            Err(AppendError::Data { reason }) => {
                assert_eq!(n % 17, 3, "{reason}");
                assert!(!reason.is_empty());
            }
            Err(other) => panic!("{other}"),
        }
    }
    let stored = engine.read_all(Reader::Instance(instance), Position::START).await;
    assert_eq!(stored.len(), 1 + 2 * (120 - 7));
    let mut seqs = positions(&stored);
    seqs.dedup();
    assert_eq!(seqs.len(), stored.len());
    let again = engine.append(instance, keyed("x", &["3/first"])).await;
    assert!(!again.duplicate, "nothing of a refused request is known");
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let engine = Arc::new(Engine::with(|options| options.queue_bytes = 100_000).await);
    let instance = engine.instance("shop").await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let engine = engine.clone();
        all.spawn(async move { engine.try_append(instance, message(&"x".repeat(20_000))).await });
    }
    let results = all.join_all().await;
    let busy = results.iter().filter(|result| matches!(result, Err(AppendError::Busy { .. })));
    let busy = busy.count();
    assert!(busy > 0);
    assert_eq!(engine.store().metrics().busy.get(), busy as u64);
    let stored = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(stored + busy, 200);
    assert!(stored > 0);
    // One that is larger than the whole queue passes when it is alone.
    engine.say(instance, &"x".repeat(200_000)).await;
}

#[tokio::test]
async fn appends_stop_while_the_disk_is_short_and_everything_else_goes_on() {
    let mut engine = Engine::with(|options| options.min_free_bytes = 0).await;
    if engine.skips("the disk of this machine") {
        return;
    }
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say(instance, "x").await;
    let store = engine.store().clone();
    let mut health = store.health();
    store.set_min_free_bytes(u64::MAX);
    // The disk is looked at a few times a second.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let refused = engine.try_append(instance, message("y")).await;
    let Err(AppendError::Unavailable { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("free"), "{reason}");
    assert!(matches!(&health.borrow_and_update().appends, Appends::Stopped { .. }));

    engine.settle(lane, Some(said.seq), vec![delivered(said.seq, engine.now())]).await;
    engine.settle(lane, None, vec![row(said.seq, State::Retrying { due: engine.now() })]).await;
    engine.lane(instance, Start::Now).await;
    engine.advance(40 * DAY);
    engine.prune(&zapbus_store::RetentionPolicy::default()).await;

    store.set_min_free_bytes(0);
    tokio::time::timeout(Duration::from_secs(5), health.wait_for(|it| it.appends == Appends::Ok))
        .await
        .expect("it resumes by itself")
        .unwrap();
    engine.say(instance, "z").await;
    engine.reopen().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_harms_nobody() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    for n in 0..20_u64 {
        let append = engine.try_append(instance, message("x"));
        let _ = tokio::time::timeout(Duration::from_micros(n * 20), append).await;
    }
    let before = engine.say(instance, "after").await;
    assert!(engine.store().event(before.id).await.unwrap().is_some());
}

/// The files as they are at any moment, without closing anything, hold every event that was
/// answered until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_in_the_files() {
    let engine = Arc::new(Engine::start().await);
    if engine.skips("files that can be copied") {
        return;
    }
    let instance = engine.instance("shop").await;
    let answered = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut writers = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (engine, answered) = (engine.clone(), answered.clone());
        writers.spawn(async move {
            for n in 0..1_000_000_u64 {
                let key = format!("{task}/{n}");
                let appended = engine.append(instance, keyed("x", &[&key])).await;
                answered.lock().unwrap().push((key, appended));
            }
        });
    }
    for moment in 0..5_u64 {
        tokio::time::sleep(Duration::from_millis(30 + 17 * moment)).await;
        let known = answered.lock().unwrap().clone();
        let copy = engine.beside(&format!("copy{moment}"));
        // The log first: what a checkpoint moves meanwhile is then in both.
        copy_database(engine.data_dir(), &copy);
        let mut options = engine.options();
        options.data_dir = copy;
        let store = Store::open(options).await.unwrap().store;
        assert!(!known.is_empty());
        for (_, appended) in &known {
            let found = store.event_at(appended.seq).await.unwrap();
            assert_eq!(found.map(|event| event.id), Some(appended.id));
        }
        let (key, appended) = known.last().unwrap();
        let events = vec![NewEvent { instance, draft: keyed("again", &[key]) }];
        let again = store.append(Append { events, body: None }).await.unwrap();
        assert_eq!((again[0].duplicate, again[0].id), (true, appended.id));
        store.close().await;
    }
    writers.abort_all();
    while writers.join_next().await.is_some() {}
}

/// Both files at one moment: as a cut of the power would leave them.
fn copy_database(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(from.join("encryption.key"), to.join("encryption.key")).unwrap();
    // Checkpoints change the database behind a copier's back, so it is tried until none did.
    loop {
        let database = from.join("zapbus.db");
        let before = std::fs::metadata(&database).unwrap().modified().unwrap();
        std::fs::copy(&database, to.join("zapbus.db")).unwrap();
        std::fs::copy(from.join("zapbus.db-wal"), to.join("zapbus.db-wal")).unwrap();
        if std::fs::metadata(&database).unwrap().modified().unwrap() == before {
            return;
        }
    }
}

#[tokio::test]
async fn after_a_commit_that_failed_the_database_is_opened_again() {
    let engine = Engine::start().await;
    if engine.skips("one writer that everybody waits for") {
        return;
    }
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let before = engine.append(instance, keyed("before", &["k"])).await;
    // Somebody else holds the database for longer than anybody waits.
    let intruder = rusqlite::Connection::open(engine.data_dir().join("zapbus.db")).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let settlement = zapbus_store::Settlement {
        lane,
        epoch: None,
        shard: ShardId::default(),
        cursor: Some(before.seq),
        health: None,
        rows: vec![delivered(before.seq, engine.now())],
        events: Vec::new(),
    };
    let (appended, settled) = tokio::join!(
        engine.try_append(instance, keyed("x", &["during"])),
        engine.store().settle(vec![settlement.clone()], zapbus_store::Urgency::Now),
    );
    assert!(matches!(appended, Err(AppendError::Unavailable { .. })), "{appended:?}");
    assert!(settled.is_err());
    assert!(engine.store().metrics().failed_commits.get() >= 1);
    intruder.execute_batch("ROLLBACK").unwrap();

    // The same again, as callers do.
    let again = engine.append(instance, keyed("x", &["during"])).await;
    assert!(!again.duplicate);
    assert!(again.seq > before.seq);
    engine.store().settle(vec![settlement], zapbus_store::Urgency::Now).await.unwrap();
    assert!(engine.append(instance, keyed("x", &["k"])).await.duplicate);
    assert_eq!(engine.store().lane(lane).await.unwrap().unwrap().cursor, before.seq);
    let read = engine.read_all(Reader::Instance(instance), before.seq).await;
    assert_eq!(positions(&read), [again.seq.0]);
    assert_eq!(engine.store().health().borrow().appends, Appends::Ok);
}

#[tokio::test]
async fn what_is_only_derived_keeps_nothing_out() {
    let mut engine = Engine::start().await;
    let (shop, other) = (engine.instance("shop").await, engine.instance("other").await);
    engine.append(shop, draft(Kind::InstanceConnected, r#"{"account":{"name":"Shop"}}"#)).await;
    engine.stop().await;
    engine.tamper("UPDATE instance_state SET state = '{\"connection\":['").await;
    engine.tamper("UPDATE instance SET settings = 'no JSON' WHERE name = 'shop'").await;

    engine.reopen().await;
    engine.append(shop, draft(Kind::InstanceConnected, r#"{"account":{"name":"Shop"}}"#)).await;
    engine.say(other, "x").await;
    let status = engine.store().instance_status(shop).await.unwrap();
    assert_eq!(status.state.name.as_deref(), Some("Shop"));
    let listed = engine.store().instances(None, None, 10).await.unwrap();
    let listed = listed.into_iter().find(|instance| instance.id == shop).unwrap();
    assert_eq!(listed.settings, serde_json::json!({}));
}

#[tokio::test]
async fn after_a_failed_commit_nothing_depends_on_the_log_as_it_was() {
    let engine = Engine::start().await;
    if engine.skips("a log file of its own") {
        return;
    }
    let instance = engine.instance("shop").await;
    for _ in 0..20 {
        engine.say(instance, &"x ".repeat(50_000)).await;
    }
    let log = engine.data_dir().join("zapbus.db-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    assert!(length() > 1_000_000, "{}", length());
    let intruder = rusqlite::Connection::open(engine.data_dir().join("zapbus.db")).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(engine.try_append(instance, message("x")).await.is_err());
    intruder.execute_batch("ROLLBACK").unwrap();
    engine.say(instance, "y").await;
    // Who knows what of it reached the disk: all of it is in the database by now.
    assert!(length() < 200_000, "{}", length());
    assert_eq!(engine.read_all(Reader::Instance(instance), Position::START).await.len(), 22);
}
