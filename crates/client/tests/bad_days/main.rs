//! What a subscription does when things go wrong. docs/clients/README.md says the same in words.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod server;
mod vzaps;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use zapbus_client::{Client, Delivery, Error, Item, Lease, State, Subscribe, Subscription};

use self::server::{PATIENCE, Server, Step, event, opened};

/// A subscription that is quick to come back.
fn subscribe(server: &Server) -> Subscribe {
    let client = Client::builder(server.url()).token("t").build().unwrap();
    quick(client.subscribe("shop"))
}

fn quick(subscribe: Subscribe) -> Subscribe {
    subscribe.retry_pauses(Duration::from_millis(1), Duration::from_millis(5))
}

async fn next(subscription: &mut Subscription) -> Item {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    next.expect("something comes").expect("it goes on").unwrap()
}

async fn delivery(subscription: &mut Subscription) -> Delivery {
    match next(subscription).await {
        Item::Delivery(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

async fn end(subscription: &mut Subscription) -> Error {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    let error = next.expect("it ends").expect("it says why").unwrap_err();
    assert!(subscription.next().await.is_none());
    assert_eq!(subscription.state(), State::Closed);
    error
}

#[tokio::test]
async fn a_wrong_token_is_said_at_once() {
    let server = Server::start([vec![Step::Refuse(401)]]).await;
    let error = subscribe(&server).open().await.unwrap_err();
    assert!(error.is_authentication(), "{error}");
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Some("refused"), "not you (401, refused)")
    );
    assert_eq!(server.log.lock().unwrap().urls.len(), 1);
}

#[tokio::test]
async fn a_token_that_runs_out_in_mid_stream_is_asked_for_again() {
    let first = vec![opened(), event("evt_1"), Step::Hear("ack"), Step::Close(1008)];
    let script = [first, vec![Step::Refuse(401)], vec![opened(), event("evt_2"), Step::Hold]];
    let server = Server::start(script).await;
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let ask = move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move { Ok(Lease { token: format!("t{number}"), lasts: None }) }
    };
    let client = Client::builder(server.url()).token_from(ask).build().unwrap();
    let mut subscription = quick(client.subscribe("shop")).open().await.unwrap();
    delivery(&mut subscription).await.ack().unwrap();
    assert_eq!(delivery(&mut subscription).await.id(), Some("evt_2"));
    let log = server.log.lock().unwrap();
    assert_eq!(log.tokens, ["Bearer t0", "Bearer t0", "Bearer t1"]);
    assert!(
        !log.urls[0].contains("after=") && log.urls[2].ends_with("after=evt_1"),
        "{:?}",
        log.urls
    );
    assert!(log.urls.iter().all(|url| !url.contains("t0")), "credentials are not in the URL");
}

#[tokio::test]
async fn a_revoked_token_ends_it() {
    let script = [vec![opened(), event("evt_1"), Step::Close(1008)], vec![Step::Refuse(401)]];
    let server = Server::start(script).await;
    let mut subscription = subscribe(&server).open().await.unwrap();
    let _held = delivery(&mut subscription).await;
    assert_eq!(end(&mut subscription).await.status(), Some(401));
}

#[tokio::test]
async fn a_server_that_is_gone_is_waited_for() {
    let server = Server::start([vec![opened(), event("evt_1"), Step::Hear("ack")]]).await;
    let address = server.address;
    let mut subscription = subscribe(&server).open().await.unwrap();
    delivery(&mut subscription).await.ack().unwrap();
    server.until("it is acknowledged", |log| !log.said.is_empty()).await;
    drop(server);
    let mut state = subscription.watch_state();
    let several = |state: &State| matches!(state, State::Waiting { attempts, .. } if *attempts > 3);
    tokio::time::timeout(PATIENCE, state.wait_for(several)).await.unwrap().unwrap();
    let script = [vec![opened(), event("evt_2"), Step::Hold]];
    let server = Server::start_at(address, script, 0).await;
    assert_eq!(delivery(&mut subscription).await.id(), Some("evt_2"));
    assert!(server.log.lock().unwrap().urls[0].ends_with("after=evt_1"));
}

#[tokio::test]
async fn one_that_was_never_there_is_waited_for_only_if_asked() {
    let server = Server::start([]).await;
    let address = server.address;
    let wanted = subscribe(&server);
    drop(server);
    // The port may be free a moment later.
    let error = loop {
        match wanted.clone().open().await {
            Err(error) => break error,
            Ok(_) => tokio::task::yield_now().await,
        }
    };
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let waiting = tokio::spawn(wanted.patient(true).open());
    let _server = Server::start_at(address, [vec![opened(), event("evt_1"), Step::Hold]], 0).await;
    let mut subscription = waiting.await.unwrap().unwrap();
    assert_eq!(delivery(&mut subscription).await.id(), Some("evt_1"));
}

#[tokio::test]
async fn a_half_open_connection_is_noticed() {
    let script = [
        vec![opened(), event("evt_1"), Step::Freeze],
        vec![opened(), event("evt_1"), event("evt_2"), Step::Hold],
    ];
    let server = Server::start(script).await;
    let wanted = subscribe(&server).keep_alive(Duration::from_millis(30));
    let mut subscription = wanted.open().await.unwrap();
    let held = delivery(&mut subscription).await;
    // Somebody has the first one still: it is not handed out twice.
    assert_eq!(delivery(&mut subscription).await.id(), Some("evt_2"));
    assert_eq!(subscription.unsettled(), 1);
    held.ack().unwrap();
    server.until("it is acknowledged", |log| !log.said.is_empty()).await;
    assert_eq!(server.told("ack"), ["evt_1"]);
}

#[tokio::test]
async fn an_event_that_is_too_large_ends_it_and_says_what_to_do() {
    let large = json!({ "id": "evt_1", "type": "x", "data": "x".repeat(2_000) });
    let server = Server::start([vec![opened(), Step::Say(large), Step::Hold]]).await;
    let mut subscription = subscribe(&server).max_frame_bytes(1_000).open().await.unwrap();
    let error = end(&mut subscription).await;
    assert!(matches!(error, Error::TooLarge { limit: 1_000 }), "{error:?}");
    assert!(error.to_string().contains("max_frame_bytes"), "{error}");
}

#[tokio::test]
async fn what_is_unknown_is_passed_on_and_what_is_no_event_does_no_harm() {
    let unknown = json!({ "id": "evt_1", "type": "weather.changed", "data": { "rain": true } });
    let script = vec![
        opened(),
        Step::Say(unknown.clone()),
        Step::Say(json!({ "type": "stream.of_the_future" })),
        Step::Babble("{"),
        Step::Say(json!({ "type": "message.received" })),
        Step::Say(json!({ "type": "stream.error", "message": "what?" })),
        Step::Say(
            json!({ "type": "stream.gap", "after": "pos_1", "first": 40, "cursor": "pos_39" }),
        ),
        Step::Say(json!({ "type": "stream.dead", "id": "evt_0", "deliveries": 5 })),
        Step::Hold,
    ];
    let server = Server::start([script]).await;
    let mut subscription = subscribe(&server).open().await.unwrap();
    let first = delivery(&mut subscription).await;
    assert_eq!((first.kind(), first.id()), ("weather.changed", Some("evt_1")));
    assert_eq!(first.read::<serde_json::Value>().unwrap(), unknown);
    assert!(first.event().is_err(), "it lacks what every event has");
    for expected in ["EOF", "has no id", "what?"] {
        match next(&mut subscription).await {
            Item::Trouble(error) => assert!(error.to_string().contains(expected), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    match next(&mut subscription).await {
        Item::Gap(gap) => {
            assert_eq!((gap.first, gap.cursor.as_deref()), (Some(40), Some("pos_39")))
        }
        other => panic!("{other:?}"),
    }
    match next(&mut subscription).await {
        Item::Dead(dead) => assert_eq!((dead.id.as_deref(), dead.deliveries), (Some("evt_0"), 5)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn it_goes_on_after_the_last_event_up_to_which_all_are_settled() {
    let all = || ["evt_1", "evt_2", "evt_3"].map(event);
    let again: Vec<Step> = [opened()].into_iter().chain(all()).chain([Step::Hold]).collect();
    let mut first: Vec<Step> = [opened()].into_iter().chain(all()).collect();
    first.extend([Step::Hear("ack"), Step::Close(1001)]);
    let server = Server::start([first, again]).await;
    let mut subscription = subscribe(&server).open().await.unwrap();
    let one = delivery(&mut subscription).await;
    drop(delivery(&mut subscription).await);
    let three = delivery(&mut subscription).await;
    one.ack().unwrap();
    three.ack().unwrap();
    let two = delivery(&mut subscription).await;
    assert_eq!((two.id(), two.is_again()), (Some("evt_2"), true));
    server.until("what it had not heard is said again", |log| log.said.len() > 1).await;
    let urls = server.log.lock().unwrap().urls.clone();
    assert!(urls[1].ends_with("after=evt_1"), "{urls:?}");
    assert!(server.told("ack").contains(&"evt_3".to_owned()));
    assert_eq!(subscription.cursor().as_deref(), Some("evt_1"));
    two.ack().unwrap();
    assert_eq!(subscription.cursor().as_deref(), Some("evt_3"));
    subscription.close().await;
    server.until("goodbye waits for acks", |log| log.said.len() > 2).await;
}

#[tokio::test]
async fn events_are_handed_back_kept_or_rejected() {
    let script = vec![opened(), event("evt_1"), event("evt_2"), event("evt_3"), Step::Hold];
    let server = Server::start([script]).await;
    let mut subscription = subscribe(&server).open().await.unwrap();
    delivery(&mut subscription).await.nack(Some(Duration::from_millis(1_500))).unwrap();
    delivery(&mut subscription).await.reject().unwrap();
    let kept = delivery(&mut subscription).await;
    kept.in_progress().unwrap();
    server.until("all is said", |log| log.said.len() == 3).await;
    let said = server.log.lock().unwrap().said.clone();
    assert!(said.contains(&json!({ "type": "nack", "id": "evt_1", "after": 1.5 })), "{said:?}");
    assert_eq!(
        (server.told("reject"), server.told("in_progress")),
        (vec!["evt_2".to_owned()], vec!["evt_3".to_owned()])
    );
    subscription.close().await;
    assert!(matches!(kept.ack(), Err(Error::SubscriptionClosed)));
}

#[tokio::test]
async fn a_limit_on_attempts_ends_it_and_each_connection_may_be_the_only_one() {
    let script =
        [vec![opened(), Step::Close(1011)], vec![Step::Refuse(503)], vec![Step::Refuse(503)]];
    let server = Server::start(script.clone()).await;
    let mut subscription = subscribe(&server).max_retries(2).open().await.unwrap();
    match end(&mut subscription).await {
        Error::GaveUp { attempts: 3, last } => assert_eq!(last.status(), Some(503)),
        other => panic!("{other:?}"),
    }
    let server = Server::start(script).await;
    let mut subscription = subscribe(&server).reconnect(false).open().await.unwrap();
    assert!(matches!(end(&mut subscription).await, Error::Closed { code: 1011, .. }));
}

#[tokio::test]
async fn lag_is_told_by_the_servers_clock() {
    // An hour ahead of ours.
    let stored = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3_600 - 5);
    let late = json!({ "id": "evt_1", "type": "x", "received_at": stored.to_string() });
    let script = [vec![opened(), Step::Say(late), Step::Hold]];
    let server = Server::start_at("127.0.0.1:0".parse().unwrap(), script, 3_600).await;
    let mut subscription = subscribe(&server).open().await.unwrap();
    let _held = delivery(&mut subscription).await;
    let lag = subscription.lag().unwrap();
    assert!((3..60).contains(&lag.as_secs()), "{lag:?}");
}

#[tokio::test]
async fn dialects_without_ids_tell_of_what_may_be_lost() {
    let said = json!({ "event": "messages.upsert", "type": 7, "data": {} });
    let script = [
        vec![opened(), Step::Say(said.clone()), Step::Close(1001)],
        vec![opened(), Step::Say(said), Step::Hold],
    ];
    let server = Server::start(script).await;
    let mut subscription = subscribe(&server).dialect("evolution").open().await.unwrap();
    let first = delivery(&mut subscription).await;
    assert_eq!(first.id(), None);
    first.ack().unwrap();
    assert!(matches!(next(&mut subscription).await, Item::Gap(_)));
    delivery(&mut subscription).await;
    assert!(server.log.lock().unwrap().urls[0].contains("ack=auto"));
}

#[tokio::test]
async fn a_consumer_hands_back_what_failed_and_keeps_the_order_of_chats() {
    let mut script = vec![opened()];
    for (id, chat) in [("evt_1", "a"), ("evt_2", "a"), ("evt_3", "b"), ("evt_4", "a")] {
        script.push(Step::Say(json!({ "id": id, "type": "x", "ordering_key": chat })));
    }
    script.push(Step::Hold);
    let server = Server::start([script]).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let (order, told) = (seen.clone(), failures.clone());
    let consumer = subscribe(&server)
        .ack_wait(Duration::from_millis(300))
        .consume()
        .concurrency(4)
        .on_failure(move |id, failed| told.lock().unwrap().push(format!("{id}: {failed}")));
    let handler = move |received: zapbus_client::Received| {
        let order = order.clone();
        async move {
            let id = received.id().unwrap().to_owned();
            // The first of the chat is slow: what is behind it waits, the other chat does not.
            if id == "evt_1" {
                tokio::time::sleep(Duration::from_millis(350)).await;
            }
            order.lock().unwrap().push(id.clone());
            match id.as_str() {
                "evt_2" => Err("no"),
                "evt_3" => panic!("oh"),
                _ => Ok(()),
            }
        }
    };
    let until = server.until("all were handled", |log| {
        log.said.iter().filter(|said| said["type"] == "ack" || said["type"] == "nack").count() >= 4
    });
    let done = consumer.run(handler, until).await.unwrap();
    assert_eq!((done.done, done.failed), (2, 2));
    assert_eq!(*seen.lock().unwrap(), ["evt_3", "evt_1", "evt_2", "evt_4"]);
    assert_eq!(*failures.lock().unwrap(), ["evt_3: the handler has panicked: oh", "evt_2: no"]);
    assert_eq!(server.told("nack"), ["evt_3", "evt_2"]);
    let kept = server.told("in_progress");
    assert!(kept.contains(&"evt_1".to_owned()) && kept.contains(&"evt_4".to_owned()), "{kept:?}");
}
