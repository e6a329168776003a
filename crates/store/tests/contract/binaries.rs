//! Large binaries in events.

use bytes::Bytes;
use zapbus_event::{Draft, Event, Kind, Raw};
use zapbus_store::{Erase, RetentionPolicy};

use crate::engine::*;

fn with_media(seed: &str, raw: bool) -> Draft {
    let long = seed.repeat(100_000 / seed.len() / 4 * 4);
    let data = format!(r#"{{"a":"zapbus-blob:not one","media":{{"base64":"{long}"}},"z":1}}"#);
    let mut draft = draft(Kind::MessageReceived, &data);
    if raw {
        draft.raw = Raw::Bytes(Bytes::from(format!("[\"{long}\", \"{long}\", \"short\"]")));
    }
    draft
}

async fn whole(engine: &Engine, event: &Event, draft: &Draft) {
    let (data, raw) = engine.store().restore_raw(event).await.unwrap();
    assert!(data == draft.data, "data comes back byte for byte");
    let expected = match &draft.raw {
        Raw::Data => &draft.data,
        Raw::Bytes(raw) => raw,
    };
    assert!(raw == expected, "raw comes back byte for byte");
}

async fn files(engine: &Engine) -> usize {
    engine.binaries().await
}

#[tokio::test]
async fn a_long_base64_string_leaves_the_row_and_comes_back() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let mut kept = Vec::new();
    for (seed, raw) in [("QUJD", false), ("AbC4", true), ("_-_-", true)] {
        let draft = with_media(seed, raw);
        let appended = engine.append(instance, draft.clone()).await;
        let event = engine.store().event(appended.id).await.unwrap().unwrap();
        assert!(event.weight() < 3_000, "{}", event.weight());
        assert!(serde_json::from_slice::<serde_json::Value>(&event.data).is_ok());
        whole(&engine, &event, &draft).await;
        let restored = engine.store().restored(&event).await.unwrap().unwrap();
        assert_eq!(restored.data, draft.data);
        kept.push((appended, draft));
    }
    assert_eq!(files(&engine).await, 3, "each content once");
    engine.reopen().await;
    for (appended, draft) in kept {
        let event = engine.store().event(appended.id).await.unwrap().unwrap();
        whole(&engine, &event, &draft).await;
    }
    assert!(engine.store().sizes().await.unwrap().blobs > 100_000);
}

#[tokio::test]
async fn what_looks_like_a_reference_is_the_users_own() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let text = format!(r#"{{"body":"zapbus-blob:{}"}}"#, "ab".repeat(32));
    let appended = engine.append(instance, draft(Kind::MessageReceived, &text)).await;
    let event = engine.store().event(appended.id).await.unwrap().unwrap();
    let (data, raw) = engine.store().restore_raw(&event).await.unwrap();
    assert_eq!((&data[..], &raw[..]), (text.as_bytes(), text.as_bytes()));
}

#[tokio::test]
async fn short_or_other_strings_stay_in_the_row() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let prose = "many words, ".repeat(10_000);
    for text in [prose.as_str(), &"QUJD".repeat(1_000)] {
        let appended = engine.say(instance, text).await;
        let event = engine.store().event(appended.id).await.unwrap().unwrap();
        assert!(event.data.len() > text.len());
        assert!(engine.store().restored(&event).await.unwrap().is_none());
    }
    assert_eq!(files(&engine).await, 0);
}

#[tokio::test]
async fn a_file_goes_with_the_last_event_that_refers_to_it() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.append(instance, with_media("QUJD", true)).await;
    engine.advance(4 * DAY);
    let second = with_media("QUJD", false);
    let kept = engine.append(instance, second.clone()).await;
    engine.append(instance, with_media("AbC4", false)).await;
    assert_eq!(files(&engine).await, 2);
    engine.advance(4 * DAY);
    engine.prune(&RetentionPolicy::default()).await;
    let event = engine.store().event(kept.id).await.unwrap().unwrap();
    whole(&engine, &event, &second).await;
    assert_eq!(files(&engine).await, 2);
    let erased = engine.store().erase(Erase::Instance(instance), &actor()).await.unwrap();
    assert_eq!((erased.events, erased.blobs), (2, 2));
    assert_eq!(files(&engine).await, 0);
    assert_eq!(engine.store().sizes().await.unwrap().blobs, 0);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_swept() {
    let engine = Engine::start().await;
    if engine.skips("a folder of files") {
        return;
    }
    let instance = engine.instance("shop").await;
    engine.append(instance, with_media("QUJD", true)).await;
    let shelf = engine.data_dir().join("blobs/7f");
    std::fs::create_dir_all(&shelf).unwrap();
    let orphans = [shelf.join(format!("7f{}", "0".repeat(62))), shelf.join(".half")];
    for orphan in &orphans {
        std::fs::write(orphan, b"orphan").unwrap();
        let file = std::fs::File::options().write(true).open(orphan).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * HOUR).unwrap();
    }
    engine.prune(&RetentionPolicy::default()).await;
    assert!(orphans.iter().all(|orphan| !orphan.exists()));
    assert_eq!(files(&engine).await, 1);
}

#[tokio::test]
async fn what_is_not_taken_leaves_no_file() {
    let engine = Engine::with(|options| options.queue_bytes = 300_000).await;
    if engine.skips("a folder of files") {
        return;
    }
    let instance = engine.instance("shop").await;
    let media = |n: u8| with_media(&format!("AbC{n}"), true);
    let settled = || async { engine.say(instance, "the writer has looked").await };

    // Of an instance that is not there; refused for its data; known already.
    let nobody = new_instance(engine.account().await.id, "nobody").id;
    assert!(engine.try_append(nobody, media(1)).await.is_err());
    let mut wrong = media(2);
    wrong.partition = "p".repeat(2 << 20);
    assert!(engine.try_append(instance, wrong).await.is_err());
    let known = Draft { keys: vec!["k".to_owned()], ..media(3) };
    engine.append(instance, known.clone()).await;
    let again = Draft { keys: vec!["k".to_owned()], ..media(4) };
    assert!(engine.append(instance, again).await.duplicate);
    settled().await;
    settled().await;
    assert_eq!(files(&engine).await, 1);
    // The one that another append of the same content counts on stays.
    assert!(engine.append(instance, known).await.duplicate);
    settled().await;
    settled().await;
    assert_eq!(files(&engine).await, 1);

    // While the queue is full, nothing is written at all.
    let intruder = rusqlite::Connection::open(engine.data_dir().join("zapbus.db")).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (first, busy, ()) = tokio::join!(
        engine.try_append(instance, message(&"words ".repeat(20_000))),
        async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let busy = engine.try_append(instance, media(5)).await;
            assert_eq!(files(&engine).await, 1);
            busy
        },
        async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            intruder.execute_batch("ROLLBACK").unwrap();
        }
    );
    first.unwrap();
    assert!(matches!(busy, Err(zapbus_store::AppendError::Busy { .. })), "{busy:?}");

    // And while the store takes nothing.
    engine.store().set_min_free_bytes(u64::MAX);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    for n in 6..9 {
        assert!(engine.try_append(instance, media(n)).await.is_err());
    }
    engine.store().set_min_free_bytes(0);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    settled().await;
    assert_eq!(files(&engine).await, 1);
    // Nothing of it is held against the queue.
    engine.append(instance, media(9)).await;
    assert_eq!(files(&engine).await, 2);
}
