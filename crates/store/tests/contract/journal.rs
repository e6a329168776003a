//! Positions, ids, time, reading.

use std::sync::Arc;

use zapbus_event::{EventId, Kind, Position, Raw, Timestamp};
use zapbus_store::{Append, AppendError, Limit, NewEvent, Reader, StoreError};

use crate::engine::*;

const ONE: Limit = Limit { events: 1, bytes: 1 << 20 };

#[tokio::test]
async fn an_event_comes_back_as_it_went_in() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let mut draft = keyed("hello", &["k1", "k2"]);
    draft.raw = Raw::Bytes(bytes::Bytes::from_static(b"{\"upstream\": 1}"));
    draft.occurred_at = Some(Timestamp::from_millis(BEGIN - 5_000));
    draft.source.version = Some("2.3".to_owned());
    draft.source.delivery_id = Some("d1".to_owned());
    draft.source.index = 3;
    draft.history = true;
    draft.client_id = Some("mine".to_owned());
    draft.hops = 2;
    let appended = engine.append(instance, draft.clone()).await;

    let from_memory = engine.store().event(appended.id).await.unwrap().unwrap();
    engine.reopen().await;
    let from_disk = engine.store().event(appended.id).await.unwrap().unwrap();
    assert_eq!(from_memory, from_disk);
    assert_eq!(from_disk.id, appended.id);
    assert_eq!(from_disk.seq, appended.seq);
    assert_eq!(from_disk.instance, instance);
    assert_eq!(from_disk.received_at, appended.received_at);
    assert_eq!(from_disk.data, draft.data);
    assert_eq!(from_disk.raw, draft.raw);
    assert_eq!(from_disk.facet, draft.facet);
    assert_eq!(from_disk.source, draft.source);
    assert_eq!(from_disk.dedup_key.as_deref(), Some("k1"));
    assert_eq!(from_disk.client_id, draft.client_id);
    assert_eq!(from_disk.occurred_at, draft.occurred_at.unwrap());
    assert!(!from_disk.occurred_at_estimated);
    assert!(from_disk.history);
    assert_eq!(from_disk.hops, 2);
}

#[tokio::test]
async fn every_type_comes_back_as_itself() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    for kind in Kind::ALL {
        engine.append(instance, draft(*kind, "{}")).await;
    }
    engine.reopen().await;
    let events = engine.read_all(Reader::Instance(instance), Position::START).await;
    let kinds: Vec<Kind> = events.iter().skip(1).map(|event| event.kind).collect();
    assert_eq!(kinds, Kind::ALL);
}

#[tokio::test]
async fn positions_grow_in_order_of_acceptance() {
    let engine = Engine::start().await;
    let (a, b) = (engine.instance("a").await, engine.instance("b").await);
    let mut last = Position::START;
    for n in 0..20 {
        let appended = engine.say(if n % 3 == 0 { a } else { b }, "x").await;
        assert!(appended.seq > last);
        assert!(appended.seq.0 < 1 << 53);
        last = appended.seq;
    }
    assert_eq!(*engine.store().head().borrow(), last);
}

#[tokio::test]
async fn numbers_go_on_after_a_restart_even_when_everything_is_pruned() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let last = engine.say(instance, "x").await;
    engine.advance(40 * DAY);
    engine.prune(&zapbus_store::RetentionPolicy::default()).await;
    assert!(engine.read_all(Reader::All, Position::START).await.is_empty());
    engine.reopen().await;
    engine.set_back(40 * DAY);
    let next = engine.say(instance, "y").await;
    assert!(next.seq > last.seq);
    assert!(next.received_at >= last.received_at + 40 * DAY);
}

#[tokio::test]
async fn received_at_never_decreases_when_the_clock_does() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let first = engine.say(instance, "before").await;
    engine.set_back(HOUR);
    let second = engine.say(instance, "after").await;
    engine.reopen().await;
    let third = engine.say(instance, "after a restart").await;
    assert!(second.received_at >= first.received_at);
    assert!(third.received_at >= second.received_at);
    for appended in [first, second, third] {
        assert_eq!(appended.id.timestamp(), appended.received_at);
    }
}

#[tokio::test]
async fn a_request_is_stored_as_a_whole_or_not_at_all() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let nobody = new_instance(engine.account().await.id, "nobody").id;
    let events = vec![
        NewEvent { instance, draft: message("known") },
        NewEvent { instance: nobody, draft: message("unknown") },
    ];
    let refused = engine.store().append(Append { events, body: None }).await;
    assert!(matches!(refused, Err(AppendError::UnknownInstance { index: 1 })));
    let stored = engine.read_all(Reader::Instance(instance), Position::START).await;
    assert_eq!(stored.len(), 1, "only its creation");
}

#[tokio::test]
async fn readers_see_their_own_in_order_from_memory_and_from_disk() {
    let mut engine = Engine::start().await;
    let other_account = zapbus_store::Account {
        id: zapbus_event::AccountId::new(engine.now(), 9),
        name: "other".to_owned(),
        source: None,
        created_at: engine.now(),
    };
    let other = other_account.id;
    engine.store().create_account(other_account, &actor(), None).await.unwrap();
    let mine = engine.account().await.id;
    let a = engine.instance("a").await;
    let b = engine.instance("b").await;
    let c = engine.instance_of(other, "c").await;
    let start = *engine.store().head().borrow();
    let mut expected = [Vec::new(), Vec::new(), Vec::new()];
    for n in 0..300 {
        let instance = [a, b, c][n % 3];
        let seq = engine.say(instance, "x").await.seq.0;
        expected[n % 3].push(seq);
    }
    for _ in 0..2 {
        for (instance, expected) in [a, b, c].into_iter().zip(&expected) {
            let found = engine.read_all(Reader::Instance(instance), start).await;
            assert_eq!(&positions(&found), expected);
        }
        let mut both = [expected[0].clone(), expected[1].clone()].concat();
        both.sort_unstable();
        assert_eq!(positions(&engine.read_all(Reader::Account(mine), start).await), both);
        assert_eq!(positions(&engine.read_all(Reader::Account(other), start).await), expected[2]);
        assert_eq!(engine.read_all(Reader::All, start).await.len(), 300);
        engine.reopen().await;
        assert!(
            engine.store().tail_after(Reader::All, start, Limit::default()).is_none(),
            "memory reaches back to the restart only"
        );
    }
}

#[tokio::test]
async fn an_account_of_many_instances_is_read_page_by_page() {
    let mut engine = Engine::start().await;
    let account = engine.account().await.id;
    let mut instances = Vec::new();
    for n in 0..20 {
        instances.push(engine.instance(&format!("i{n}")).await);
    }
    for n in 0..6_000_usize {
        if n % 1_000 == 0 {
            engine.say_many(instances[n % 20], 1_000).await;
        }
    }
    engine.reopen().await;
    let found = engine.read_all(Reader::Account(account), Position::START).await;
    assert_eq!(found.len(), 6_020);
    assert!(found.is_sorted_by_key(|event| event.seq));
}

#[tokio::test]
async fn a_page_holds_at_least_one_event_and_no_more_than_asked_for() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.say_many(instance, 10).await;
    for _ in 0..2 {
        let tiny = Limit { events: 5, bytes: 1 };
        for of in [Reader::Instance(instance), Reader::All] {
            let page = engine.store().read_after(of, Position::START, tiny).await;
            // Before the restart this reaches back to the first event of all.
            let page = page.unwrap();
            assert_eq!(page.events.len(), 1);
            assert!(!page.at_head);
            assert_eq!(page.upto, page.events[0].seq);
        }
        engine.reopen().await;
    }
}

#[tokio::test]
async fn reading_back_gives_the_newest_first() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let said = engine.say_many(instance, 30).await;
    let mut before = Position(u64::MAX);
    let mut found = Vec::new();
    loop {
        let limit = Limit { events: 7, bytes: 1 << 20 };
        let page =
            engine.store().read_before(Reader::Instance(instance), before, limit).await.unwrap();
        found.extend(positions(&page.events));
        before = page.upto;
        if page.at_head {
            break;
        }
    }
    let mut expected: Vec<u64> = said.iter().map(|appended| appended.seq.0).collect();
    expected.insert(0, expected[0] - 1);
    expected.reverse();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_time_is_found_among_many() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let mut said = Vec::new();
    for _ in 0..50 {
        engine.advance(MINUTE);
        said.extend(engine.say_many(instance, 3).await);
    }
    engine.reopen().await;
    let store = engine.store();
    for group in said.chunks(3) {
        let at = group[0].received_at;
        let exact = store.position_at(at).await.unwrap();
        assert_eq!(exact, Position(group[0].seq.0 - 1));
        let just_after = store.position_at(Timestamp::from_millis(at.as_millis() + 1)).await;
        assert_eq!(just_after.unwrap(), group[2].seq);
        for one in group {
            assert_eq!(store.event(one.id).await.unwrap().unwrap().seq, one.seq);
        }
    }
    let future = engine.now() + DAY;
    assert_eq!(store.position_at(future).await.unwrap(), said.last().unwrap().seq);
    assert_eq!(store.position_at(Timestamp::from_millis(0)).await.unwrap(), Position(0));
}

#[tokio::test]
async fn a_reader_that_has_seen_a_pruned_event_goes_on_without_missing_any() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.advance(MINUTE);
    let gone = engine.append(instance, typing()).await;
    let kept = engine.say(instance, "same millisecond").await;
    engine.advance(MINUTE);
    engine.say(instance, "later").await;
    assert_eq!(engine.store().resolve_after(kept.id).await.unwrap(), kept.seq);
    engine.advance(2 * HOUR);
    engine.prune(&zapbus_store::RetentionPolicy::default()).await;
    assert!(engine.store().event(gone.id).await.unwrap().is_none());
    let from = engine.store().resolve_after(gone.id).await.unwrap();
    assert!(from < kept.seq, "it may see some again, and misses none");
    assert_eq!(
        engine.store().first_position().await.unwrap(),
        Position::START,
        "a pruned typing signal makes no false alarm"
    );
}

#[tokio::test]
async fn an_unknown_id_is_no_event() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let said = engine.say(instance, "x").await;
    let twin = EventId::new(said.received_at, 12_345);
    assert!(engine.store().event(twin).await.unwrap().is_none());
    assert!(engine.store().event_at(Position(said.seq.0 + 1)).await.unwrap().is_none());
}

#[tokio::test]
async fn an_answer_comes_after_the_event_is_visible() {
    let engine = Arc::new(Engine::start().await);
    let instance = engine.instance("shop").await;
    let mut head = engine.store().head();
    let appended = engine.say(instance, "x").await;
    assert!(*head.borrow_and_update() >= appended.seq);
    let page = engine
        .store()
        .tail_after(Reader::Instance(instance), Position(appended.seq.0 - 1), ONE)
        .unwrap();
    assert_eq!(page.events[0].id, appended.id);
}

#[tokio::test]
async fn a_small_tail_forgets_the_oldest_and_the_database_has_them() {
    let engine = Engine::with(|options| options.tail_bytes = 20_000).await;
    let instance = engine.instance("shop").await;
    engine.say_many(instance, 500).await;
    assert!(engine.store().metrics().tail_bytes.get() <= 20_000);
    assert_eq!(engine.read_all(Reader::All, Position::START).await.len(), 501);
}

#[tokio::test]
async fn a_body_is_kept_once() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let body = bytes::Bytes::from_static(b"{\"something\": \"nobody understood\"}");
    for _ in 0..2 {
        let events = vec![NewEvent { instance, draft: draft(Kind::EventUnknown, "{}") }];
        let append = Append { events, body: Some(body.clone()) };
        engine.store().append(append).await.unwrap();
    }
    let sha: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(
        <sha2::Sha256 as sha2::Digest>::new(),
        &body,
    ))
    .into();
    assert_eq!(engine.store().body(sha).await.unwrap(), Some(body));
    assert_eq!(engine.store().body([0; 32]).await.unwrap(), None);
}

#[tokio::test]
async fn address_pairs_are_found_from_either_side() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let (lid, phone) = ("77@lid", "5511@s.whatsapp.net");
    let alias = zapbus_event::Alias { lid: lid.to_owned(), phone: phone.to_owned() };
    for _ in 0..2 {
        let draft = zapbus_event::Draft { aliases: vec![alias.clone()], ..message("x") };
        engine.append(instance, draft).await;
    }
    assert_eq!(engine.store().aliases(instance, lid).await.unwrap(), [phone]);
    assert_eq!(engine.store().aliases(instance, phone).await.unwrap(), [lid]);
    assert!(engine.store().aliases(instance, "other").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_closed_store_takes_nothing() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let store = engine.store().clone();
    store.close().await;
    store.close().await;
    let refused = engine.try_append(instance, message("x")).await;
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })));
    assert!(matches!(store.accounts().await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn two_requests_with_the_same_body_are_both_kept() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let body = bytes::Bytes::from_static(b"the same to the letter");
    let mut asking = Vec::new();
    for n in 0..20 {
        // Without a key of its own it is no repeat.
        let events = vec![NewEvent { instance, draft: message(&n.to_string()) }];
        asking.push(engine.store().append(Append { events, body: Some(body.clone()) }));
    }
    let appended = futures_util::future::join_all(asking).await;
    assert!(appended.iter().all(Result::is_ok), "{appended:?}");
    let events = engine.read_all(Reader::Instance(instance), Position::START).await;
    assert_eq!(events.len(), 21);
}

#[tokio::test]
async fn a_type_that_a_newer_version_has_brought_stops_nobody() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let newer = engine.say(instance, "of a type to come").await;
    let after = engine.say(instance, "after").await;
    engine.tamper(&format!("UPDATE journal SET kind = 9999 WHERE seq = {}", newer.seq.0)).await;
    engine.reopen().await;
    let events = engine.read_all(Reader::Instance(instance), Position::START).await;
    assert_eq!(events.len(), 3);
    assert_eq!((events[1].id, events[1].kind), (newer.id, Kind::EventUnknown));
    assert_eq!(events[2].id, after.id);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_stops_nobody() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let said = engine.say_many(instance, 3).await;
    engine.stop().await;
    let broken = if crate::POSTGRES { "'\\x7b'::bytea" } else { "x'7b'" };
    let spoil = format!("UPDATE journal SET head = {broken} WHERE seq = {}", said[1].seq.0);
    engine.tamper(&spoil).await;
    engine.reopen().await;
    let read = engine.read_all(Reader::Instance(instance), Position::START).await;
    let of: Vec<_> = said.iter().map(|said| read.iter().find(|it| it.id == said.id)).collect();
    let [Some(first), Some(second), Some(third)] = of[..] else { panic!("{read:?}") };
    assert_eq!((first.kind, third.kind), (Kind::MessageReceived, Kind::MessageReceived));
    assert_eq!((second.kind, second.seq), (Kind::EventUnknown, said[1].seq));
    assert_eq!(second.facet.as_deref(), Some("schema_mismatch"));
    // What was posted is there still.
    assert_eq!(second.raw, Raw::Bytes(message("message 1").data));
    assert_eq!(engine.store().unreadable_events(), 1);
    assert!(engine.store().event(said[1].id).await.unwrap().is_some());
    assert_eq!(engine.store().unreadable_events(), 1, "each counts once");
}
