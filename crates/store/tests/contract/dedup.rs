//! What is known already is not stored again.

use zapbus_event::{Position, Raw};
use zapbus_store::{Append, NewEvent, Reader, RetentionPolicy};

use crate::engine::*;

#[tokio::test]
async fn the_first_wins_in_one_request() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let events =
        ["first", "second"].map(|text| NewEvent { instance, draft: keyed(text, &["k"]) }).into();
    let appended = engine.store().append(Append { events, body: None }).await.unwrap();
    assert!(!appended[0].duplicate);
    assert!(appended[1].duplicate);
    assert_eq!((appended[0].id, appended[0].seq), (appended[1].id, appended[1].seq));
    assert_eq!(appended[0].received_at, appended[1].received_at);
    let stored = engine.store().event(appended[0].id).await.unwrap().unwrap();
    assert!(stored.data.windows(5).any(|window| window == b"first"));
}

#[tokio::test]
async fn of_many_at_the_same_time_one_is_stored() {
    let engine = std::sync::Arc::new(Engine::start().await);
    let instance = engine.instance("shop").await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..50 {
        let engine = engine.clone();
        all.spawn(async move { engine.append(instance, keyed(&n.to_string(), &["k"])).await });
    }
    let answers = all.join_all().await;
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
    assert!(answers.iter().all(|answer| answer.id == answers[0].id));
    assert_eq!(engine.store().metrics().duplicates.get(), 49);
}

#[tokio::test]
async fn a_key_is_known_after_a_restart_and_after_its_event_is_pruned() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let first = engine.append(instance, keyed("x", &["k"])).await;
    engine.reopen().await;
    let again = engine.append(instance, keyed("other body", &["k"])).await;
    assert!(again.duplicate);
    engine.advance(8 * DAY);
    engine.prune(&RetentionPolicy::default()).await;
    assert!(engine.store().event(first.id).await.unwrap().is_none());
    let late = engine.append(instance, keyed("day 8", &["k"])).await;
    assert!(late.duplicate);
    assert_eq!((late.id, late.seq), (first.id, first.seq));
}

#[tokio::test]
async fn any_of_several_keys_makes_a_duplicate() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let first = engine.append(instance, keyed("x", &["a", "b", "a"])).await;
    for keys in [&["b"][..], &["c", "a"], &["a", "b"]] {
        let again = engine.append(instance, keyed("y", keys)).await;
        assert!(again.duplicate, "{keys:?}");
        assert_eq!(again.id, first.id);
    }
    assert!(!engine.append(instance, keyed("z", &["c"])).await.duplicate);
}

#[tokio::test]
async fn keys_belong_to_their_instance_and_no_key_is_always_new() {
    let engine = Engine::start().await;
    let (a, b) = (engine.instance("a").await, engine.instance("b").await);
    assert!(!engine.append(a, keyed("x", &["k"])).await.duplicate);
    assert!(!engine.append(b, keyed("x", &["k"])).await.duplicate);
    assert!(!engine.append(a, message("x")).await.duplicate);
    assert!(!engine.append(a, message("x")).await.duplicate);
}

#[tokio::test]
async fn a_refused_request_leaves_no_key() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let mut wrong = keyed("x", &["k"]);
    wrong.partition = "p".repeat(2 << 20);
    assert!(engine.try_append(instance, wrong).await.is_err());
    assert!(!engine.append(instance, keyed("x", &["k"])).await.duplicate);
}

#[tokio::test]
async fn keys_are_known_in_older_segments_and_forgotten_after_the_window() {
    let mut engine = Engine::with(|options| options.dedup_window = 10 * DAY).await;
    let instance = engine.instance("shop").await;
    let first = engine.append(instance, keyed("x", &["old"])).await;
    for day in 0..5 {
        engine.advance(DAY + HOUR);
        // Enough of them for the older ones to be moved on.
        for n in 0..3 {
            engine.append(instance, keyed("x", &[&format!("{day}/{n}")])).await;
        }
        engine.prune(&RetentionPolicy::default()).await;
        if day == 2 {
            engine.reopen().await;
        }
        let again = engine.append(instance, keyed("x", &["old"])).await;
        assert_eq!((again.duplicate, again.id), (true, first.id), "day {day}");
    }
    engine.advance(8 * DAY);
    engine.prune(&RetentionPolicy::default()).await;
    assert!(!engine.append(instance, keyed("x", &["old"])).await.duplicate);
    assert!(engine.append(instance, keyed("x", &["4/2"])).await.duplicate);
}

#[tokio::test]
async fn a_duplicate_takes_no_position() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.append(instance, keyed("x", &["k"])).await;
    let head = *engine.store().head().borrow();
    let mut again = keyed("y", &["k"]);
    again.raw = Raw::Bytes("whatever".into());
    engine.append(instance, again).await;
    assert_eq!(*engine.store().head().borrow(), head);
    assert_eq!(engine.read_all(Reader::Instance(instance), Position::START).await.len(), 2);
}

#[tokio::test]
async fn old_keys_may_go_in_the_commit_that_asks_for_one_of_them() {
    let engine = Engine::with(|options| options.dedup_window = 3 * DAY).await;
    if engine.skips("one writer that everybody waits for") {
        return;
    }
    let instance = engine.instance("shop").await;
    engine.append(instance, keyed("x", &["old"])).await;
    let policy = RetentionPolicy { journal: 100 * DAY, ..RetentionPolicy::default() };
    for n in 0..3 {
        engine.advance(DAY + HOUR);
        for m in 0..3 {
            engine.append(instance, keyed("x", &[&format!("{n}/{m}")])).await;
        }
        engine.prune(&policy).await;
    }
    engine.advance(4 * DAY);

    // Somebody else holds the database while the two come together behind a first request.
    let intruder = rusqlite::Connection::open(engine.data_dir().join("zapbus.db")).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let pause = std::time::Duration::from_millis(100);
    let store = engine.store();
    let (_, (pruned, appended), ()) = tokio::join!(
        engine.say(instance, "first"),
        async {
            tokio::time::sleep(pause).await;
            tokio::join!(
                store.prune(&policy, zapbus_store::Budget::default()),
                engine.try_append(instance, keyed("again", &["old"])),
            )
        },
        async {
            tokio::time::sleep(2 * pause).await;
            intruder.execute_batch("ROLLBACK").unwrap();
        }
    );
    pruned.unwrap();
    assert!(!appended.unwrap().duplicate);
    assert_eq!(store.metrics().failed_commits.get(), 0);
}
