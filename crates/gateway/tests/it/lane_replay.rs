//! The past again, beside what comes; and what a restart leaves as it was.

use std::time::Duration;

use serde_json::{Value, json};
use zapbus_store::{LIVE, LaneId};

use crate::{
    api::text,
    lane::{
        act, arrivals, change, client_id, deliveries, expect_chats_in_order, has, hook, ids,
        impatient, is, post, post_many, redeliver, sample, shows, start,
    },
    receiver::{Received, Receiver, Reply},
    server::{Gateway, eventually, expect_json},
};

/// Starts a replay from the beginning, as soon as `events` have been passed by the live run.
async fn replay(gateway: &Gateway, id: &str, events: usize) -> Value {
    let path = format!("/v1/destinations/{id}/replay");
    eventually("the live cursor has passed them", async || {
        let dry = json!({ "from": "beginning", "dry_run": true });
        let count = expect_json(gateway.post(&path, &dry).await, 200).await;
        (count["events"] == events).then_some(())
    })
    .await;
    expect_json(gateway.post(&path, &json!({ "from": "beginning" })).await, 201).await
}

/// Waits until a run is in this state.
async fn run_is(gateway: &Gateway, id: &str, run: u64, state: &str) -> Value {
    eventually(&format!("run {run} is {state}"), async || {
        let runs = gateway.read(&format!("/v1/destinations/{id}/runs")).await;
        let found = runs["data"].as_array().unwrap().iter().find(|it| it["run"] == run).cloned();
        found.filter(|it| it["state"] == state)
    })
    .await
}

fn replayed(received: &[Received]) -> Vec<Received> {
    received.iter().filter(|it| it.header("zapbus-replay").is_some()).cloned().collect()
}

fn slow(millis: u64) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    move |_| Reply::ok().after(Duration::from_millis(millis))
}

#[tokio::test]
async fn the_past_comes_again_with_the_same_ids_and_says_so() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    post_many(&gateway, 5, 50).await;
    let live = receiver.wait_for(50).await;
    assert!(replayed(&live).is_empty());
    let run = replay(&gateway, &id, 50).await;
    assert_eq!((&run["run"], &run["state"]), (&json!(1), &json!("running")));
    // What comes now belongs to the live run only.
    post(&gateway, &[("9", "9-0000"), ("9", "9-0001")]).await;
    let received = receiver.wait_for(102).await;
    let again = replayed(&received);
    assert_eq!(again.len(), 50);
    assert!(again.iter().all(|it| it.header("zapbus-replay") == Some("1")));
    expect_chats_in_order(&again, 5, 10);
    let sorted = |list: &[Received]| {
        let mut ids: Vec<String> = list.iter().map(|it| it.id().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(sorted(&live), sorted(&again), "the ids stay");
    run_is(&gateway, &id, 1, "done").await;
    receiver.stays_at(102).await;

    let log = deliveries(&gateway, &format!("destination={id}&status=delivered")).await;
    assert_eq!(log.iter().filter(|it| it["run"] == 1).count(), 50);
    assert_eq!(log.iter().filter(|it| it["run"].is_null()).count(), 52);
}

#[tokio::test]
async fn live_events_go_first_and_the_replay_gets_its_tenth() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 1 })).await;
    post_many(&gateway, 10, 60).await;
    receiver.wait_for(60).await;
    receiver.script(slow(50));
    replay(&gateway, &id, 60).await;
    receiver.wait_for(62).await;
    let news: Vec<String> = (0..40).map(|n| format!("new{n}")).collect();
    let batch: Vec<(&str, &str)> = news.iter().map(|it| (it.as_str(), it.as_str())).collect();
    post(&gateway, &batch).await;
    let received = receiver.wait_for(160).await;
    let is_new: Vec<bool> =
        received[60..].iter().map(|it| client_id(it).starts_with("new")).collect();
    let first = is_new.iter().position(|new| *new).unwrap();
    let last = is_new.iter().rposition(|new| *new).unwrap();
    let between = is_new[first..last].iter().filter(|new| !**new).count();
    assert!((3..=8).contains(&between), "{between} replayed among 40 live ones");
    run_is(&gateway, &id, 1, "done").await;
}

#[tokio::test]
async fn a_replay_retries_what_fails_before_it_is_done() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "ordering": "strict" })).await;
    post_many(&gateway, 3, 30).await;
    has(&gateway, &id, "delivered", 30).await;
    receiver.script(|request| match request.index % 4 {
        0 => Reply::status(400),
        _ => Reply::ok(),
    });
    replay(&gateway, &id, 30).await;
    run_is(&gateway, &id, 1, "done").await;
    has(&gateway, &id, "delivered", 60).await;
    let again = replayed(&receiver.received());
    assert!(again.len() > 30, "some failed");
    expect_chats_in_order(&again, 3, 10);
}

#[tokio::test]
async fn a_replay_survives_a_restart_and_repeats_nothing() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 2 })).await;
    post_many(&gateway, 4, 60).await;
    receiver.wait_for(60).await;
    receiver.script(slow(60));
    replay(&gateway, &id, 60).await;
    receiver.wait_for(70).await;
    let gateway = gateway.restart().await;
    run_is(&gateway, &id, 1, "done").await;
    let again = replayed(&receiver.received());
    assert_eq!(again.len(), 60);
    expect_chats_in_order(&again, 4, 15);
    receiver.stays_at(120).await;
}

#[tokio::test]
async fn a_paused_replay_stays_paused_and_a_cancelled_one_is_over() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 1 })).await;
    post_many(&gateway, 4, 40).await;
    receiver.wait_for(40).await;
    receiver.script(slow(60));
    replay(&gateway, &id, 40).await;
    receiver.wait_for(43).await;
    act(&gateway, &id, "runs/1/pause", json!({})).await;
    let gateway = gateway.restart().await;
    run_is(&gateway, &id, 1, "paused").await;
    let so_far = receiver.received().len();
    // The live run is not concerned.
    post(&gateway, &[("9", "live")]).await;
    receiver.wait_for(so_far + 1).await;
    receiver.stays_at(so_far + 1).await;
    act(&gateway, &id, "runs/1/resume", json!({})).await;
    receiver.wait_for(so_far + 3).await;
    act(&gateway, &id, "runs/1/cancel", json!({})).await;
    let gateway = gateway.restart().await;
    run_is(&gateway, &id, 1, "cancelled").await;
    let so_far = receiver.received().len();
    receiver.stays_at(so_far).await;
    assert!(so_far < 81, "{so_far}");
    assert!(arrivals(&replayed(&receiver.received())).values().all(|times| *times == 1));
}

#[tokio::test]
async fn a_replay_that_was_paused_for_a_moment_goes_on() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 1 })).await;
    post_many(&gateway, 2, 10).await;
    receiver.wait_for(10).await;
    receiver.script(|request| match request.index {
        10 => Reply::ok().after(Duration::from_millis(500)),
        _ => Reply::ok(),
    });
    replay(&gateway, &id, 10).await;
    receiver.wait_for(11).await;
    // Both while the first of it is under way.
    act(&gateway, &id, "runs/1/pause", json!({})).await;
    act(&gateway, &id, "runs/1/resume", json!({})).await;
    run_is(&gateway, &id, 1, "done").await;
    assert_eq!(arrivals(&replayed(&receiver.received())).len(), 10);
}

#[tokio::test]
async fn a_replay_waits_for_its_destination() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    post_many(&gateway, 2, 10).await;
    receiver.wait_for(10).await;
    act(&gateway, &id, "pause", json!({})).await;
    replay(&gateway, &id, 10).await;
    receiver.stays_at(10).await;
    act(&gateway, &id, "resume", json!({})).await;
    receiver.wait_for(20).await;
    run_is(&gateway, &id, 1, "done").await;

    // Down: the second replay is probed with, and goes on by itself.
    receiver.script(|_| Reply::status(503));
    replay(&gateway, &id, 10).await;
    is(&gateway, &id, "probing").await;
    receiver.script(|_| Reply::ok());
    run_is(&gateway, &id, 2, "done").await;
    let second = replayed(&receiver.received());
    let second: Vec<Received> =
        second.into_iter().filter(|it| it.header("zapbus-replay") == Some("2")).collect();
    assert_eq!(arrivals(&second).len(), 10);
    has(&gateway, &id, "delivered", 30).await;
}

#[tokio::test]
async fn a_delivery_of_an_ended_replay_can_be_sent_again() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, &[("1", "a")]).await;
    receiver.wait_for(1).await;
    replay(&gateway, &id, 1).await;
    run_is(&gateway, &id, 1, "done").await;
    for n in 0..2 {
        let log = has(&gateway, &id, "delivered", 2).await;
        let of_run = log.iter().find(|it| it["run"] == 1).unwrap();
        redeliver(&gateway, of_run).await;
        let received = receiver.wait_for(3 + n).await;
        assert_eq!(received[2 + n].header("zapbus-replay"), Some("1"));
        has(&gateway, &id, "delivered", 2).await;
    }
    run_is(&gateway, &id, 1, "done").await;
}

#[tokio::test]
async fn a_graceful_restart_repeats_nothing() {
    let gateway = start().await;
    // One chat is behind the others: a good deal beyond the cursor is delivered already.
    let receiver = Receiver::scripted(|request| {
        let slow = client_id(request).starts_with("0-");
        Reply::ok().after(Duration::from_millis(if slow { 300 } else { 20 }))
    })
    .await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 8 })).await;
    post_many(&gateway, 20, 200).await;
    receiver.wait_for(10).await;
    // Twice in the middle of it.
    let gateway = gateway.restart().await;
    receiver.wait_for(100).await;
    let gateway = gateway.restart().await;
    has(&gateway, &id, "delivered", 200).await;
    let received = receiver.received();
    expect_chats_in_order(&received, 20, 10);
    assert!(arrivals(&received).values().all(|times| *times == 1));
    let gateway = gateway.restart().await;
    receiver.stays_at(200).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_became_due_while_it_was_down_is_retried_after_the_start() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|_| Reply::status(400)).await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "retry": { "waits_s": [3600] } })).await;
    post(&gateway, &[("1", "a"), ("2", "b")]).await;
    has(&gateway, &id, "retrying", 2).await;
    let gateway = gateway.restart().await;
    receiver.stays_at(2).await;
    receiver.script(|_| Reply::ok());
    gateway.clock.advance(Duration::from_secs(2 * 3600));
    let gateway = gateway.restart().await;
    let delivered = has(&gateway, &id, "delivered", 2).await;
    assert!(delivered.iter().all(|it| it["attempts"] == 2));
}

#[tokio::test]
async fn what_was_skipped_stays_skipped_after_a_restart() {
    let gateway = Gateway::start(|config| {
        impatient(config);
        // It rests as soon as it can: then the skipped stretch is in memory only.
        config.lanes.linger_s = 0.0;
    })
    .await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, &[("1", "a")]).await;
    has(&gateway, &id, "delivered", 1).await;
    let group = sample(&gateway, "group.updated").await;
    let mut last = 0;
    for _ in 0..5 {
        last = gateway.post_event("shop", &group).await["seq"].as_u64().unwrap();
    }
    let passed = |it: &Value| it["status"]["cursor"].as_u64().unwrap() >= last;
    shows(&gateway, &id, "they are passed", passed).await;
    let gateway = gateway.restart().await;
    let lane = LaneId { destination: id.parse().unwrap(), run: LIVE };
    let stored = gateway.app.store.lane_stats(lane).await.unwrap().cursor;
    assert!(stored.0 >= last, "{stored} was written at the stop, not {last}");
    change(&gateway, &id, json!({ "events": ["*"] })).await;
    post(&gateway, &[("1", "b")]).await;
    let received =
        receiver.wait_until("the new one", |all| all.iter().any(|it| client_id(it) == "b")).await;
    let kinds: Vec<String> = received.iter().map(|it| text(&it.json(), "type")).collect();
    assert!(!kinds.contains(&"group.updated".to_owned()), "{kinds:?}");
    assert_eq!(ids(&received).iter().filter(|it| *it == "a").count(), 1);
}

#[tokio::test]
async fn a_replay_has_what_the_live_run_has_only_just_skipped() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "events": ["call.*"] })).await;
    post(&gateway, &[("1", "a"), ("1", "b")]).await;
    let all = json!({ "from": "beginning", "types": ["message.*"] });
    let path = format!("/v1/destinations/{id}/replay");
    // The lane looks at them a moment after they were answered.
    eventually("the live run has passed them", async || {
        let mut dry = all.clone();
        dry["dry_run"] = json!(true);
        let count = expect_json(gateway.post(&path, &dry).await, 200).await;
        (count["events"] == 2).then_some(())
    })
    .await;
    expect_json(gateway.post(&path, &all).await, 201).await;
    assert_eq!(ids(&receiver.wait_for(2).await), ["a", "b"]);
}
