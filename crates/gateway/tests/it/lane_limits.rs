//! How much at a time, and that nobody is held up by somebody else.

use std::time::Duration;

use serde_json::json;
use zapbus_store::{Actor, Destination};

use crate::{
    api::text,
    lane::{
        act, expect_chats_in_order, has, hook, ids, impatient, most_at_once, post, post_many,
        shown, shows, start,
    },
    receiver::{Received, Receiver, Reply},
    server::{Gateway, text_message},
};

const A_WHILE: Duration = Duration::from_millis(100);

fn at_path(received: &[Received], path: &str) -> Vec<Received> {
    received.iter().filter(|it| it.path == path).cloned().collect()
}

#[tokio::test]
async fn no_more_are_in_flight_than_the_destination_allows() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(A_WHILE)).await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 3 })).await;
    post_many(&gateway, 30, 30).await;
    let received = receiver.wait_for(30).await;
    assert_eq!(most_at_once(&received, A_WHILE), 3);
    let status = shown(&gateway, &id).await;
    assert!(status["status"]["in_flight"].as_u64().unwrap() <= 3, "{status}");
    has(&gateway, &id, "delivered", 30).await;
}

#[tokio::test]
async fn a_rate_limit_spaces_sends() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    hook(&gateway, &receiver.url("/"), json!({ "rate_limit_per_s": 20 })).await;
    post_many(&gateway, 21, 21).await;
    let received = receiver.wait_for(21).await;
    let elapsed = received[20].at - received[0].at;
    // Twenty gaps of 50 ms; a first arrival that is late shortens them by as much.
    assert!(elapsed >= Duration::from_millis(500), "{elapsed:?}");
}

#[tokio::test]
async fn all_destinations_share_the_cap_of_the_node() {
    let gateway = Gateway::start(|config| {
        impatient(config);
        config.lanes.max_in_flight = 2;
    })
    .await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(A_WHILE)).await;
    for label in ["a", "b", "c", "d"] {
        hook(&gateway, &receiver.url(&format!("/{label}")), json!({ "label": label })).await;
    }
    post_many(&gateway, 10, 10).await;
    let received = receiver.wait_for(40).await;
    assert_eq!(most_at_once(&received, A_WHILE), 2);
    receiver.stays_at(40).await;
}

#[tokio::test]
async fn idle_and_probing_lanes_keep_nothing_of_the_cap() {
    let gateway = Gateway::start(|config| {
        impatient(config);
        config.lanes.max_in_flight = 1;
        // Lanes stay awake with nothing to do.
        config.lanes.linger_s = 3_600.0;
    })
    .await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/away" => Reply::status(503),
        _ => Reply::ok(),
    })
    .await;
    for label in ["a", "b", "away", "c"] {
        hook(&gateway, &receiver.url(&format!("/{label}")), json!({ "label": label })).await;
    }
    for n in 0..10 {
        post(&gateway, &[("1", &format!("{n}"))]).await;
        receiver
            .wait_until("all that are there got it", |all| {
                ["/a", "/b", "/c"].iter().all(|path| at_path(all, path).len() == n + 1)
            })
            .await;
    }
}

#[tokio::test]
async fn a_slow_destination_delays_nobody() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/slow" => Reply::hang(),
        _ => Reply::ok(),
    })
    .await;
    let patient = json!({ "label": "slow", "retry": { "timeout_s": 120 } });
    let slow = hook(&gateway, &receiver.url("/slow"), patient).await;
    hook(&gateway, &receiver.url("/fast"), json!({ "label": "fast" })).await;
    post_many(&gateway, 200, 400).await;
    receiver.wait_until("the fast one has all", |all| at_path(all, "/fast").len() == 400).await;
    let sent = at_path(&receiver.received(), "/slow").len();
    assert!(sent <= 64, "{sent}");
    assert_eq!(shown(&gateway, &slow).await["status"]["health"], "flowing");
}

#[tokio::test]
async fn a_chat_that_hangs_does_not_hold_up_another() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|request| match request.json()["client_id"].as_str() {
        Some("0-0000") => Reply::hang(),
        _ => Reply::ok(),
    })
    .await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "retry": { "timeout_s": 120 } })).await;
    post_many(&gateway, 10, 100).await;
    let received = receiver.wait_for(91).await;
    let stuck: Vec<String> = ids(&received).into_iter().filter(|id| id.starts_with("0-")).collect();
    assert_eq!(stuck, ["0-0000"], "its own chat waits for it");
    has(&gateway, &id, "delivered", 90).await;
}

#[tokio::test]
async fn an_outage_of_one_endpoint_is_not_felt_by_its_neighbours() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/away" => Reply::status(503),
        _ => Reply::ok(),
    })
    .await;
    let away = hook(&gateway, &receiver.url("/away"), json!({ "label": "away" })).await;
    let there = hook(&gateway, &receiver.url("/there"), json!({ "label": "there" })).await;
    for _ in 0..5 {
        post_many(&gateway, 10, 40).await;
    }
    // The same ids again are the same events.
    receiver.wait_until("all forty", |all| at_path(all, "/there").len() == 40).await;
    has(&gateway, &there, "delivered", 40).await;
    assert_eq!(shown(&gateway, &there).await["status"]["health"], "flowing");
    shows(&gateway, &away, "probing", |it| it["status"]["health"] == "probing").await;
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_pauses_its_destination() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let broken = hook(&gateway, &receiver.url("/broken"), json!({ "label": "broken" })).await;
    hook(&gateway, &receiver.url("/good"), json!({ "label": "good" })).await;
    act(&gateway, &broken, "pause", json!({})).await;
    let store = &gateway.app.store;
    let stored = store.destination(broken.parse().unwrap()).await.unwrap().unwrap();
    let mut spec = stored.spec.clone();
    spec["channel"]["ca_pem"] = json!("no certificate at all");
    let destination = Destination { spec, ..stored.clone() };
    let actor = Actor("test".to_owned());
    store.update_destination(destination, None, false, &actor).await.unwrap();

    act(&gateway, &broken, "resume", json!({})).await;
    post(&gateway, &[("1", "m")]).await;
    let paused = shows(&gateway, &broken, "paused", |it| it["state"] == "paused").await;
    assert!(text(&paused, "reason").contains("ca_pem"), "{paused}");
    receiver.wait_for(1).await;
    receiver.stays_at(1).await;

    // Put right and resumed, it goes on where it stood.
    store.update_destination(stored, None, false, &actor).await.unwrap();
    act(&gateway, &broken, "resume", json!({})).await;
    let received = receiver.wait_for(2).await;
    assert_eq!(received[1].path, "/broken");
    assert_eq!(shown(&gateway, &broken).await["state"], "active");
}

#[tokio::test]
async fn no_wake_up_is_lost_between_resting_and_waking() {
    let gateway = Gateway::start(|config| {
        impatient(config);
        config.lanes.linger_s = 0.0;
    })
    .await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    for n in 0..100 {
        post(&gateway, &[("1", &format!("{n}"))]).await;
        if n % 3 != 0 {
            receiver.wait_for(n + 1).await;
        }
    }
    has(&gateway, &id, "delivered", 100).await;
    assert_eq!(receiver.received().len(), 100);
}

#[tokio::test]
async fn lanes_that_may_read_little_ahead_deliver_large_events_all_the_same() {
    let gateway = Gateway::start(|config| {
        impatient(config);
        config.lanes.read_ahead_bytes = 1 << 10;
    })
    .await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::start().await;
    for label in ["a", "b", "c"] {
        hook(&gateway, &receiver.url(&format!("/{label}")), json!({ "label": label })).await;
    }
    let large = "x".repeat(200 << 10);
    for n in 0..10 {
        let event = text_message(&format!("{}", n % 3), &format!("{}-{n}", n % 3), &large);
        gateway.post_event("shop", &event).await;
    }
    let received = receiver.wait_for(30).await;
    assert!(received.iter().all(|it| it.body.len() > large.len()));
    receiver.stays_at(30).await;
}

#[tokio::test]
async fn a_long_past_comes_page_after_page_in_order() {
    let gateway = start().await;
    for round in 0..5 {
        let ids: Vec<(String, String)> = (0..500)
            .map(|n| (format!("{}", n % 25), format!("{}-{:04}", n % 25, round * 20 + n / 25)))
            .collect();
        let batch: Vec<(&str, &str)> =
            ids.iter().map(|(c, id)| (c.as_str(), id.as_str())).collect();
        post(&gateway, &batch).await;
    }
    let receiver = Receiver::start().await;
    let past = json!({ "start": "beginning" });
    let id = hook(&gateway, &receiver.url("/"), past).await;
    let received = receiver.wait_for(2_500).await;
    expect_chats_in_order(&received, 25, 100);
    shows(&gateway, &id, "all settled", |it| it["status"]["oldest_unsettled_at"].is_null()).await;
    receiver.stays_at(2_500).await;
}
