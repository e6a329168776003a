//! Files that come later than their events.

use zapbus_store::{Appended, Erase, Fetch, FetchState};

use crate::engine::*;

fn fetch(instance: zapbus_event::InstanceId, of: &Appended) -> Fetch {
    Fetch { event: of.id, instance, seq: of.seq, attempts: 0 }
}

/// Bytes that repeat nowhere at the distance of a piece.
fn film(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ (at / 65_536) as u8).collect()
}

async fn keep(engine: &Engine, of: &Appended, content: &[u8]) {
    let mut spool = engine.store().spool().unwrap();
    for piece in content.chunks(100_000) {
        spool.write(piece).await.unwrap();
    }
    assert_eq!(spool.bytes(), content.len() as u64);
    engine.store().fetch_done(of.id, spool, Some("video/mp4".to_owned())).await.unwrap();
}

#[tokio::test]
async fn what_is_to_be_fetched_is_somebodys_for_a_while() {
    let engine = Engine::start().await;
    let (store, instance) = (engine.store(), engine.instance("shop").await);
    let said = engine.say(instance, "x").await;
    assert_eq!(store.fetched(said.id).await.unwrap(), None);
    for _ in 0..2 {
        store.want_files(vec![fetch(instance, &said)]).await.unwrap();
    }
    assert_eq!(store.fetch_counts().await.unwrap().pending, 1);
    let until = || engine.now() + MINUTE;
    let taken = store.take_fetches(until(), 10).await.unwrap();
    assert_eq!(taken, [Fetch { attempts: 1, ..fetch(instance, &said) }]);
    assert_eq!(store.take_fetches(until(), 10).await.unwrap(), []);
    // Whoever had it did not come back.
    engine.advance(2 * MINUTE);
    assert_eq!(store.take_fetches(until(), 10).await.unwrap()[0].attempts, 2);
    store.fetch_failed(said.id, "not now", Some(engine.now() + HOUR)).await.unwrap();
    engine.advance(2 * MINUTE);
    assert_eq!(store.take_fetches(until(), 10).await.unwrap(), []);
    assert_eq!(store.fetched(said.id).await.unwrap().unwrap().state, FetchState::Pending);
    store.fetch_failed(said.id, "never", None).await.unwrap();
    let state = store.fetched(said.id).await.unwrap().unwrap().state;
    assert_eq!(state, FetchState::Failed { problem: "never".to_owned() });
    let counts = store.fetch_counts().await.unwrap();
    assert_eq!((counts.pending, counts.failed), (0, 1));
    store.fetch_again(fetch(instance, &said)).await.unwrap();
    assert_eq!(store.take_fetches(until(), 10).await.unwrap()[0].attempts, 1);
}

#[tokio::test]
async fn a_file_that_comes_later_is_kept_as_long_as_its_event() {
    let engine = Engine::start().await;
    let (store, instance) = (engine.store(), engine.instance("shop").await);
    let content = film(1_400_000);
    let said = engine.say_many(instance, 2).await;
    for said in &said {
        store.want_files(vec![fetch(instance, said)]).await.unwrap();
        keep(&engine, said, &content).await;
        // Once more changes nothing.
        keep(&engine, said, &content).await;
        let fetched = store.fetched(said.id).await.unwrap().unwrap();
        assert_eq!((fetched.state, fetched.bytes), (FetchState::Here, content.len() as u64));
        assert_eq!(fetched.mime.as_deref(), Some("video/mp4"));
        let file = store.fetched_file(said.id).await.unwrap().unwrap();
        assert!(file.whole().await.unwrap() == content);
    }
    assert_eq!(store.sizes().await.unwrap().blobs, content.len() as u64, "it is there once");
    store.tidy_files().await.unwrap();
    store.forget_fetches().await.unwrap();
    let file = store.fetched_file(said[1].id).await.unwrap().unwrap();
    assert_eq!(file.length(), content.len() as u64);

    store.erase(Erase::Instance(instance), &actor()).await.unwrap();
    assert_eq!(store.fetched(said[0].id).await.unwrap(), None);
    engine.advance(2 * HOUR);
    store.tidy_files().await.unwrap();
    assert_eq!(store.sizes().await.unwrap().blobs, 0);
    // Nobody asked for it any more: nothing of it stays.
    keep(&engine, &said[0], &content).await;
    engine.say(instance, "the writer has looked").await;
    engine.advance(2 * HOUR);
    store.tidy_files().await.unwrap();
    assert_eq!(store.sizes().await.unwrap().blobs, 0);
}
