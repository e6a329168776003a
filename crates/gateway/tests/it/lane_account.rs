//! Destinations of a whole account: one lane, whatever instances and shards its events come from.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::{
    api::text,
    lane::{
        act, arrivals, change, client_id, deliveries, first_arrivals, has, impatient, is,
        most_at_once, redeliver, shows,
    },
    receiver::{Received, Receiver, Reply},
    server::{Gateway, eventually, expect_json, merge, text_message},
};

/// Enough that on PostgreSQL they are in many shards.
const SHOPS: usize = 12;
const A_WHILE: Duration = Duration::from_millis(100);

/// A gateway with impatient lanes and many instances.
async fn start() -> Gateway {
    let gateway = Gateway::start(impatient).await;
    open_shops(&gateway).await;
    gateway
}

async fn open_shops(gateway: &Gateway) {
    let mut shards = BTreeSet::new();
    for shop in 0..SHOPS {
        let made = gateway.create_instance(&format!("shop-{shop}")).await;
        shards.insert(gateway.app.store.shard_of(text(&made, "id").parse().unwrap()));
    }
    let all = usize::from(gateway.app.store.shards());
    assert!(all == 1 || shards.len() > 3, "{shards:?}");
}

/// A webhook of the whole account that takes messages and retries soon.
async fn account_hook(gateway: &Gateway, url: &str, more: Value) -> String {
    let mut body = json!({
        "channel": { "type": "webhook", "url": url },
        "events": ["message.*"],
        "retry": { "waits_s": [0.05], "max_attempts": 30 },
    });
    merge(&mut body, more);
    text(&expect_json(gateway.post("/v1/destinations", &body).await, 201).await, "id")
}

/// Posts messages `from..to` of each shop, all in one chat of its own (`<shop>-<number>`).
async fn post(gateway: &Gateway, from: usize, to: usize) {
    for shop in 0..SHOPS {
        let chat = shop.to_string();
        let batch: Vec<Value> =
            (from..to).map(|n| text_message(&chat, &format!("{shop}-{n:04}"), "x")).collect();
        let path = format!("/v1/instances/shop-{shop}/events");
        expect_json(gateway.post(&path, &json!(batch)).await, 200).await;
    }
}

/// Fails unless each shop's first arrivals are `from..to`, in order.
fn expect_shops_in_order(received: &[Received], from: usize, to: usize) {
    for shop in 0..SHOPS {
        let expected: Vec<String> = (from..to).map(|n| format!("{shop}-{n:04}")).collect();
        assert_eq!(first_arrivals(received, &shop.to_string()), expected);
    }
}

#[tokio::test]
async fn events_of_all_instances_come_in_the_order_of_their_chats_and_once() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = account_hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, 0, 10).await;
    post(&gateway, 10, 20).await;
    let received = receiver.wait_for(SHOPS * 20).await;
    expect_shops_in_order(&received, 0, 20);
    assert!(arrivals(&received).values().all(|times| *times == 1));
    has(&gateway, &id, "delivered", SHOPS * 20).await;
    receiver.stays_at(SHOPS * 20).await;
}

#[tokio::test]
async fn its_window_is_one_for_all_shards() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(A_WHILE)).await;
    account_hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 3 })).await;
    post(&gateway, 0, 5).await;
    let received = receiver.wait_for(SHOPS * 5).await;
    assert_eq!(most_at_once(&received, A_WHILE), 3);
    expect_shops_in_order(&received, 0, 5);
}

#[tokio::test]
async fn a_shop_with_a_long_backlog_does_not_keep_the_others_waiting() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let more = json!({ "max_in_flight": 1, "ordering": "none" });
    let id = account_hook(&gateway, &receiver.url("/"), more).await;
    act(&gateway, &id, "pause", json!({})).await;
    let batch: Vec<Value> = (0..300).map(|n| text_message("0", &format!("big-{n}"), "x")).collect();
    expect_json(gateway.post("/v1/instances/shop-0/events", &json!(batch)).await, 200).await;
    post(&gateway, 0, 1).await;
    act(&gateway, &id, "resume", json!({})).await;
    let received = receiver.wait_for(300 + SHOPS).await;
    let shard = async |shop: usize| {
        let shown = gateway.read(&format!("/v1/instances/shop-{shop}")).await;
        gateway.app.store.shard_of(text(&shown, "id").parse().unwrap())
    };
    let own = shard(0).await;
    for shop in 1..SHOPS {
        if shard(shop).await != own {
            let message = format!("{shop}-0000");
            let place = received.iter().position(|it| client_id(it) == message).unwrap();
            assert!(place < 200, "{message} came as number {place}");
        }
    }
}

#[tokio::test]
async fn pause_and_resume_hold_for_all_shards() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = account_hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, 0, 2).await;
    receiver.wait_for(SHOPS * 2).await;
    act(&gateway, &id, "pause", json!({})).await;
    post(&gateway, 2, 4).await;
    receiver.stays_at(SHOPS * 2).await;
    act(&gateway, &id, "resume", json!({})).await;
    let received = receiver.wait_for(SHOPS * 4).await;
    expect_shops_in_order(&received, 0, 4);

    // What waits is not sent when it is to go on from now.
    act(&gateway, &id, "pause", json!({})).await;
    post(&gateway, 4, 6).await;
    act(&gateway, &id, "resume", json!({ "from": "now" })).await;
    post(&gateway, 6, 8).await;
    let received = receiver.wait_for(SHOPS * 6).await;
    expect_shops_in_order(&received[SHOPS * 4..], 6, 8);
    receiver.stays_at(SHOPS * 6).await;
}

#[tokio::test]
async fn another_filter_holds_for_what_waits_and_does_not_look_back() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = account_hook(&gateway, &receiver.url("/"), json!({})).await;
    act(&gateway, &id, "pause", json!({})).await;
    post(&gateway, 0, 2).await;
    change(&gateway, &id, json!({ "events": ["call.*"] })).await;
    act(&gateway, &id, "resume", json!({})).await;
    receiver.stays_at(0).await;
    eventually("what it does not want is behind it", async || {
        let status = gateway.app.lanes.status(id.parse().unwrap()).await?;
        let at = |shard| *gateway.app.store.head_in(shard).borrow();
        status.cursors.iter().all(|(shard, cursor)| *cursor >= at(*shard)).then_some(())
    })
    .await;
    change(&gateway, &id, json!({ "events": ["message.*"] })).await;
    post(&gateway, 2, 4).await;
    let received = receiver.wait_for(SHOPS * 2).await;
    expect_shops_in_order(&received, 2, 4);
    receiver.stays_at(SHOPS * 2).await;
}

#[tokio::test]
async fn an_outage_is_probed_by_one_clock_and_nothing_is_lost_in_any_shard() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|_| Reply::status(503)).await;
    let id = account_hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, 0, 3).await;
    is(&gateway, &id, "probing").await;
    post(&gateway, 3, 5).await;
    let before = receiver.received().len();
    receiver.script(|_| Reply::ok());
    let all = |received: &[Received]| arrivals(&received[before..]).len() == SHOPS * 5;
    receiver.wait_until("everything arrives", all).await;
    is(&gateway, &id, "flowing").await;
    has(&gateway, &id, "delivered", SHOPS * 5).await;
    assert!(deliveries(&gateway, &format!("destination={id}&status=dead")).await.is_empty());
}

#[tokio::test]
async fn strict_holds_a_chat_in_one_shard_while_the_others_go_on() {
    let gateway = start().await;
    let refused = |request: &Received| match client_id(request).as_str() {
        "3-0000" => Reply::status(400),
        _ => Reply::ok(),
    };
    let receiver = Receiver::scripted(refused).await;
    let id = account_hook(&gateway, &receiver.url("/"), json!({ "ordering": "strict" })).await;
    post(&gateway, 0, 3).await;
    has(&gateway, &id, "delivered", (SHOPS - 1) * 3).await;
    has(&gateway, &id, "waiting", 2).await;
    receiver.script(|_| Reply::ok());
    has(&gateway, &id, "delivered", SHOPS * 3).await;
    expect_shops_in_order(&receiver.received(), 0, 3);
}

#[tokio::test]
async fn the_past_comes_again_from_all_shards() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = account_hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, 0, 5).await;
    has(&gateway, &id, "delivered", SHOPS * 5).await;
    let path = format!("/v1/destinations/{id}/replay");
    let dry = json!({ "from": "beginning", "dry_run": true });
    eventually("the live cursor has passed them", async || {
        let count = expect_json(gateway.post(&path, &dry).await, 200).await;
        (count["events"] == SHOPS * 5).then_some(())
    })
    .await;
    expect_json(gateway.post(&path, &json!({ "from": "beginning" })).await, 201).await;
    post(&gateway, 5, 6).await;
    let received = receiver.wait_for(SHOPS * 11).await;
    let (again, live): (Vec<Received>, Vec<Received>) =
        received.into_iter().partition(|it| it.header("zapbus-replay").is_some());
    expect_shops_in_order(&again, 0, 5);
    expect_shops_in_order(&live, 0, 6);
    let runs = format!("/v1/destinations/{id}/runs");
    eventually("the replay is done", async || {
        (gateway.read(&runs).await["data"][0]["state"] == "done").then_some(())
    })
    .await;

    // Once more, paused and called off.
    receiver.script(|_| Reply::ok().after(A_WHILE));
    change(&gateway, &id, json!({ "max_in_flight": 1 })).await;
    expect_json(gateway.post(&path, &json!({ "from": "beginning" })).await, 201).await;
    receiver.wait_for(SHOPS * 11 + 3).await;
    let set = async |verb: &str, state: &str| {
        let answer = gateway.post(&format!("{runs}/2/{verb}"), &json!({})).await;
        assert_eq!(expect_json(answer, 200).await["state"], state);
    };
    set("pause", "paused").await;
    shows(&gateway, &id, "what was under way is done", |it| it["status"]["in_flight"] == 0).await;
    let paused = receiver.received().len();
    receiver.stays_at(paused).await;
    set("resume", "running").await;
    receiver.wait_for(paused + 3).await;
    set("cancel", "cancelled").await;
    shows(&gateway, &id, "what was under way is done", |it| it["status"]["in_flight"] == 0).await;
    let cancelled = receiver.received().len();
    assert!(cancelled < SHOPS * 17, "it was called off");
    receiver.stays_at(cancelled).await;
}

#[tokio::test]
async fn deliveries_of_any_shard_can_be_sent_again() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = account_hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, 0, 1).await;
    let log = has(&gateway, &id, "delivered", SHOPS).await;
    for delivery in &log {
        redeliver(&gateway, delivery).await;
    }
    let received = receiver.wait_for(SHOPS * 2).await;
    assert!(arrivals(&received).values().all(|times| *times == 2), "{:?}", arrivals(&received));
    has(&gateway, &id, "delivered", SHOPS).await;
    let body = json!({ "destination": id, "status": ["delivered"] });
    expect_json(gateway.post("/v1/deliveries/retry", &body).await, 200).await;
    let received = receiver.wait_for(SHOPS * 3).await;
    assert!(arrivals(&received).values().all(|times| *times == 3), "{:?}", arrivals(&received));
}

#[tokio::test]
async fn a_restart_leaves_it_where_it_stood_in_every_shard() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = account_hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, 0, 3).await;
    receiver.wait_for(SHOPS * 3).await;
    act(&gateway, &id, "pause", json!({})).await;
    post(&gateway, 3, 4).await;
    let gateway = gateway.restart().await;
    shows(&gateway, &id, "it is still paused", |it| it["state"] == "paused").await;
    receiver.stays_at(SHOPS * 3).await;
    act(&gateway, &id, "resume", json!({})).await;
    let received = receiver.wait_for(SHOPS * 4).await;
    expect_shops_in_order(&received, 0, 4);
    receiver.stays_at(SHOPS * 4).await;
}

#[tokio::test]
async fn it_is_told_of_its_own_changes_nowhere_but_others_are() {
    let gateway = start().await;
    let own = Receiver::start().await;
    let others = Receiver::start().await;
    let kinds = json!({ "events": ["destination.*"] });
    let id = account_hook(&gateway, &own.url("/"), kinds.clone()).await;
    let mut watcher = kinds;
    merge(&mut watcher, json!({ "label": "watcher" }));
    account_hook(&gateway, &others.url("/"), watcher).await;
    act(&gateway, &id, "pause", json!({})).await;
    let told = others.wait_for(1).await;
    assert_eq!(told[0].json()["type"], "destination.paused");
    assert_eq!(told[0].json()["data"]["destination"], id);
    act(&gateway, &id, "resume", json!({})).await;
    own.stays_at(0).await;
}
