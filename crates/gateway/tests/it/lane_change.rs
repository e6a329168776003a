//! Changes of a destination: what is in flight, what waits, what comes.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api::{expect_problem, text},
    lane::{
        act, arrivals, change, client_id, deliveries, has, hook, ids, impatient, is, post,
        post_many, sample, shown, shows, start,
    },
    receiver::{Received, Receiver, Reply},
    server::{Gateway, eventually, expect_json},
};

fn at_path(received: &[Received], path: &str) -> Vec<String> {
    let own: Vec<Received> = received.iter().filter(|it| it.path == path).cloned().collect();
    ids(&own)
}

/// A receiver whose first answer takes a while.
async fn slow_at_first() -> Receiver {
    Receiver::replying([Reply::ok().after(Duration::from_secs(4)), Reply::ok()]).await
}

#[tokio::test]
async fn a_pause_lets_what_is_in_flight_finish_and_holds_the_rest() {
    let gateway = start().await;
    let receiver = slow_at_first().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 1 })).await;
    post(&gateway, &[("1", "a"), ("1", "b"), ("2", "c")]).await;
    receiver.wait_for(1).await;
    let paused = act(&gateway, &id, "pause", json!({ "reason": "maintenance" })).await;
    assert_eq!((&paused["state"], &paused["reason"]), (&json!("paused"), &json!("maintenance")));
    has(&gateway, &id, "delivered", 1).await;
    post(&gateway, &[("1", "d")]).await;
    receiver.stays_at(1).await;
    let gateway = gateway.restart().await;
    receiver.stays_at(1).await;
    act(&gateway, &id, "resume", json!({})).await;
    has(&gateway, &id, "delivered", 4).await;
    assert!(arrivals(&receiver.received()).values().all(|times| *times == 1));
}

#[tokio::test]
async fn a_pause_holds_retries_too() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|_| Reply::status(400)).await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "retry": { "waits_s": [0.1] } })).await;
    post(&gateway, &[("1", "a")]).await;
    has(&gateway, &id, "retrying", 1).await;
    act(&gateway, &id, "pause", json!({})).await;
    shows(&gateway, &id, "at rest", |it| it["status"]["in_flight"] == 0).await;
    let so_far = receiver.received().len();
    receiver.stays_at(so_far).await;
    receiver.script(|_| Reply::ok());
    act(&gateway, &id, "resume", json!({})).await;
    has(&gateway, &id, "delivered", 1).await;
}

#[tokio::test]
async fn resume_from_now_leaves_out_what_waited() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|request| match client_id(request).as_str() {
        "failed" => Reply::status(400),
        _ => Reply::ok(),
    })
    .await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "retry": { "waits_s": [3600] } })).await;
    post(&gateway, &[("1", "failed")]).await;
    has(&gateway, &id, "retrying", 1).await;
    act(&gateway, &id, "pause", json!({})).await;
    post(&gateway, &[("1", "missed"), ("2", "missed too")]).await;
    act(&gateway, &id, "resume", json!({ "from": "now" })).await;
    has(&gateway, &id, "cancelled", 1).await;
    post(&gateway, &[("1", "after")]).await;
    let received = receiver.wait_for(2).await;
    assert_eq!(ids(&received), ["failed", "after"]);
    receiver.stays_at(2).await;
    let gateway = gateway.restart().await;
    post(&gateway, &[("1", "later")]).await;
    assert_eq!(ids(&receiver.wait_for(3).await)[2], "later");
}

#[tokio::test]
async fn another_url_is_where_the_backlog_goes() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/old" => Reply::status(503),
        _ => Reply::ok(),
    })
    .await;
    let id = hook(&gateway, &receiver.url("/old"), json!({})).await;
    post_many(&gateway, 5, 50).await;
    is(&gateway, &id, "probing").await;
    change(&gateway, &id, json!({ "channel": { "url": receiver.url("/new") } })).await;
    has(&gateway, &id, "delivered", 50).await;
    let received = receiver.received();
    let mut new = at_path(&received, "/new");
    new.sort();
    new.dedup();
    assert_eq!(new.len(), 50, "what was retrying goes to the new one, too");
}

#[tokio::test]
async fn a_narrower_filter_holds_for_the_backlog_and_a_wider_one_does_not_look_back() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "events": ["message.*", "call.*"] })).await;
    let call = sample(&gateway, "call.updated").await;
    let group = sample(&gateway, "group.updated").await;
    act(&gateway, &id, "pause", json!({})).await;
    gateway.post_event("shop", &call).await;
    gateway.post_event("shop", &group).await;
    post(&gateway, &[("1", "a")]).await;
    change(&gateway, &id, json!({ "events": ["message.*"] })).await;
    act(&gateway, &id, "resume", json!({})).await;
    assert_eq!(ids(&receiver.wait_for(1).await), ["a"]);
    has(&gateway, &id, "delivered", 1).await;
    gateway.post_event("shop", &group).await;
    // Behind the group's event lies one that was taken: the lane has looked at both.
    post(&gateway, &[("1", "b")]).await;
    has(&gateway, &id, "delivered", 2).await;
    change(&gateway, &id, json!({ "events": ["message.*", "group.*"] })).await;
    let gateway = gateway.restart().await;
    receiver.stays_at(2).await;
    gateway.post_event("shop", &group).await;
    let received = receiver.wait_for(3).await;
    assert_eq!(text(&received[2].json(), "type"), "group.updated");
    receiver.stays_at(3).await;
}

#[tokio::test]
async fn a_resting_lane_that_skipped_does_not_look_back_either() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, &[("1", "a")]).await;
    receiver.wait_for(1).await;
    let group = sample(&gateway, "group.updated").await;
    for _ in 0..5 {
        gateway.post_event("shop", &group).await;
    }
    // The cursor has passed them in memory only; a change writes it.
    let head = gateway.read("/v1/instances/shop/events?limit=1000").await;
    let last = head["data"].as_array().unwrap().last().unwrap()["seq"].as_u64().unwrap();
    eventually("they are passed", async || {
        let shown = shown(&gateway, &id).await;
        (shown["status"]["cursor"].as_u64().unwrap() >= last).then_some(())
    })
    .await;
    change(&gateway, &id, json!({ "events": ["*"] })).await;
    receiver.stays_at(1).await;
    let gateway = gateway.restart().await;
    gateway.post_event("shop", &group).await;
    let groups = receiver.wait_until("the new one", |all| {
        all.iter().any(|it| text(&it.json(), "type") == "group.updated")
    });
    let groups = groups.await;
    let groups = groups.iter().filter(|it| text(&it.json(), "type") == "group.updated").count();
    assert_eq!(groups, 1);
}

#[tokio::test]
async fn what_is_retrying_goes_on_with_the_new_settings() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/old" => Reply::status(400),
        _ => Reply::ok(),
    })
    .await;
    let slow = json!({ "retry": { "waits_s": [1] } });
    let id = hook(&gateway, &receiver.url("/old"), slow).await;
    post(&gateway, &[("1", "a")]).await;
    has(&gateway, &id, "retrying", 1).await;
    let other = json!({ "channel": { "url": receiver.url("/new") }, "events": ["call.*"] });
    change(&gateway, &id, other).await;
    // The new filter would skip it; it was taken by the old one.
    let received = receiver.wait_until("the new url", |all| all.iter().any(|it| it.path == "/new"));
    assert_eq!(at_path(&received.await, "/new"), ["a"]);
    has(&gateway, &id, "delivered", 1).await;
}

#[tokio::test]
async fn a_change_in_mid_flight_neither_loses_nor_repeats() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(5))).await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 4 })).await;
    for round in 0..10 {
        let chats: Vec<String> = (0..20).map(|n| format!("{round}-{n}")).collect();
        let batch: Vec<(&str, &str)> = chats.iter().map(|it| (it.as_str(), it.as_str())).collect();
        post(&gateway, &batch).await;
        let window = json!({ "max_in_flight": 1 + round, "label": format!("round {round}") });
        change(&gateway, &id, window).await;
        if round % 3 == 0 {
            act(&gateway, &id, "pause", json!({})).await;
            act(&gateway, &id, "resume", json!({})).await;
        }
    }
    has(&gateway, &id, "delivered", 200).await;
    assert!(arrivals(&receiver.received()).values().all(|times| *times == 1));
    receiver.stays_at(200).await;
}

#[tokio::test]
async fn deleting_calls_off_what_waits_and_keeps_the_log() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|request| match client_id(request).as_str() {
        "bad" => Reply::status(400),
        _ => Reply::ok(),
    })
    .await;
    let strict = json!({ "label": "mine", "ordering": "strict", "retry": { "waits_s": [3600] } });
    let id = hook(&gateway, &receiver.url("/"), strict).await;
    post(&gateway, &[("1", "good"), ("2", "bad"), ("2", "behind")]).await;
    has(&gateway, &id, "waiting", 1).await;
    has(&gateway, &id, "delivered", 1).await;
    let gone = gateway.request(Method::DELETE, &format!("/v1/destinations/{id}")).send().await;
    assert_eq!(gone.unwrap().status(), 204);
    let log = deliveries(&gateway, "instance=shop").await;
    let statuses = |status: &str| log.iter().filter(|it| it["status"] == status).count();
    assert_eq!((statuses("cancelled"), statuses("delivered")), (2, 1), "{log:#?}");
    post(&gateway, &[("1", "unheard")]).await;

    // The same label is another destination, with its own start.
    let again = hook(&gateway, &receiver.url("/again"), json!({ "label": "mine" })).await;
    assert_ne!(again, id);
    post(&gateway, &[("1", "heard")]).await;
    let received = receiver.wait_for(3).await;
    assert_eq!(at_path(&received, "/again"), ["heard"]);
    let gateway = gateway.restart().await;
    assert_eq!(deliveries(&gateway, "instance=shop").await.len(), 4);
    receiver.stays_at(3).await;
}

#[tokio::test]
async fn deleting_while_something_is_in_flight() {
    let gateway = start().await;
    let receiver = slow_at_first().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 1 })).await;
    post(&gateway, &[("1", "a"), ("2", "b")]).await;
    receiver.wait_for(1).await;
    let gone = gateway.request(Method::DELETE, &format!("/v1/destinations/{id}")).send().await;
    assert_eq!(gone.unwrap().status(), 204);
    // Its answer comes and finds nobody; nothing else is sent, and stopping does not hang.
    receiver.stays_at(1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_deleted_instance_drains_first() {
    let gateway = Gateway::start(|config| {
        impatient(config);
        config.retention.every_s = 1;
    })
    .await;
    gateway.create_instance("shop").await;
    let mut receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "events": ["*"] })).await;
    receiver.go_down();
    post_many(&gateway, 5, 20).await;
    is(&gateway, &id, "probing").await;
    let gone = gateway.request(Method::DELETE, "/v1/instances/shop").send().await.unwrap();
    assert_eq!(gone.status(), 204);
    let refused = gateway.post("/v1/instances/shop/events", &json!([])).await;
    expect_problem(refused, 404, "instance_not_found").await;
    receiver.come_back().await;
    let received = receiver.wait_for(21).await;
    let last = received.iter().find(|it| text(&it.json(), "type") == "instance.lifecycle");
    assert_eq!(last.unwrap().json()["data"]["action"], "deleted");
    eventually("the destination is put away", async || {
        let found = gateway.get(&format!("/v1/destinations/{id}")).await;
        (found.status() == 404).then_some(())
    })
    .await;
    receiver.stays_at(21).await;
}

#[tokio::test]
async fn what_is_erased_while_it_waits_for_its_turn_is_not_sent() {
    let gateway = start().await;
    let receiver = slow_at_first().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 1 })).await;
    post(&gateway, &[("1", "a"), ("1", "b"), ("2", "c")]).await;
    receiver.wait_for(1).await;
    let all = json!({ "type": "instance", "instance": "shop" });
    expect_json(gateway.post("/v1/erasures", &all).await, 200).await;
    post(&gateway, &[("2", "d")]).await;
    receiver.wait_for(2).await;
    shows(&gateway, &id, "everything is settled", |it| it["status"]["in_flight"] == 0).await;
    assert_eq!(ids(&receiver.received()), ["a", "d"]);
}

#[tokio::test]
async fn what_comes_between_two_erasures_is_sent() {
    let gateway = start().await;
    let receiver = slow_at_first().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 1 })).await;
    post(&gateway, &[("1", "a"), ("1", "b")]).await;
    receiver.wait_for(1).await;
    let chat = |chat: &str| json!({ "type": "chat", "instance": "shop", "chat": chat });
    for n in 0..5 {
        expect_json(gateway.post("/v1/erasures", &chat("1")).await, 200).await;
        post(&gateway, &[("2", &format!("c{n}"))]).await;
    }
    expect_json(gateway.post("/v1/erasures", &chat("1")).await, 200).await;
    receiver.wait_for(6).await;
    shows(&gateway, &id, "everything is settled", |it| it["status"]["in_flight"] == 0).await;
    assert_eq!(ids(&receiver.received()), ["a", "c0", "c1", "c2", "c3", "c4"]);
}

#[tokio::test]
async fn the_destinations_of_a_deleted_account_are_not_sent_to() {
    let gateway = start().await;
    let mut receiver = Receiver::start().await;
    expect_json(gateway.post("/v1/accounts", &json!({ "name": "acme" })).await, 201).await;
    let ask = async |method: Method, path: &str, body: Value| {
        let request = gateway.request(method, path).header("zapbus-account", "acme").json(&body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        assert!(status < 300, "{path}: {status}");
        response
    };
    let make = async |label: &str, events: &str| {
        let body = json!({
            "label": label,
            "channel": { "type": "webhook", "url": receiver.url("/") },
            "events": [events],
            "retry": { "waits_s": [0.2], "max_attempts": 50 },
        });
        let made = ask(Method::POST, "/v1/destinations", body).await;
        text(&made.json::<Value>().await.unwrap(), "id")
    };
    let watching = make("watching", "destination.*").await;
    let other = make("other", "message.*").await;
    receiver.go_down();
    // The account's own events have no instance that anybody could delete first.
    ask(Method::POST, &format!("/v1/destinations/{other}/pause"), json!({})).await;
    is(&gateway, &watching, "probing").await;
    let gone = gateway.request(Method::DELETE, "/v1/accounts/acme").send().await.unwrap();
    assert_eq!(gone.status(), 204);
    receiver.come_back().await;
    receiver.stays_at(0).await;
    gateway.stop().await;
}
