//! Lanes among several nodes on one database: who runs them, takeovers, and changes that are made on
//! a node that does not run the lane.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use zapbus_gateway::config::Config;
use zapbus_store::ShardId;

use crate::{
    api::text,
    cluster::Delays,
    engine::needs_postgres,
    lane::{act, arrivals, change, first_arrivals, has, impatient, is, redeliver, shows},
    receiver::{Received, Receiver, Reply},
    server::{Gateway, eventually, expect_json, merge, text_message},
};

/// Enough that each node runs lanes of some.
const SHOPS: usize = 12;
const A_WHILE: Duration = Duration::from_millis(20);
/// What an event takes at most from node to node to receiver, also on a busy machine.
const UNHEARD: Duration = Duration::from_millis(1_500);

fn quick(config: &mut Config) {
    impatient(config);
    config.cluster.lease_s = 1.5;
    config.cluster.handover_s = 0.5;
}

fn held(gateway: &Gateway) -> BTreeSet<ShardId> {
    let leases = gateway.app.store.leases();
    let leases = leases.borrow();
    leases.iter().filter(|(_, lease)| !lease.leaving).map(|(shard, _)| *shard).collect()
}

/// Waits until each of these nodes has its share of the shards, and together they have all.
async fn settled(nodes: &[&Gateway]) {
    eventually("every node has its share", async || {
        let shards = usize::from(nodes[0].app.store.shards());
        let share = shards / nodes.len();
        let held: Vec<_> = nodes.iter().map(|node| held(node)).collect();
        let all: BTreeSet<_> = held.iter().flatten().collect();
        (all.len() == shards && held.iter().all(|own| own.len() >= share)).then_some(())
    })
    .await;
}

/// Two nodes with half of the shards each, and many instances.
async fn start() -> (Gateway, Gateway) {
    let first = Gateway::start(quick).await;
    for shop in 0..SHOPS {
        first.create_instance(&format!("shop-{shop}")).await;
    }
    let second = first.start_node(|_| {}).await;
    settled(&[&first, &second]).await;
    (first, second)
}

/// The shop whose lanes this node runs.
async fn shop_of(node: &Gateway) -> String {
    let own = held(node);
    for shop in 0..SHOPS {
        let name = format!("shop-{shop}");
        let id = text(&node.read(&format!("/v1/instances/{name}")).await, "id");
        if own.contains(&node.app.store.shard_of(id.parse().unwrap())) {
            return name;
        }
    }
    panic!("{own:?}: none of the shops is there");
}

fn hook_body(url: &str, more: Value) -> Value {
    let mut body = json!({
        "channel": { "type": "webhook", "url": url },
        "events": ["message.*"],
        "retry": { "waits_s": [0.05], "max_attempts": 30 },
    });
    merge(&mut body, more);
    body
}

async fn hook(node: &Gateway, shop: &str, url: &str, more: Value) -> String {
    let path = format!("/v1/instances/{shop}/destinations");
    text(&expect_json(node.post(&path, &hook_body(url, more)).await, 201).await, "id")
}

/// Posts messages `from..to` of a shop, in one chat.
async fn post(node: &Gateway, shop: &str, from: usize, to: usize) {
    let chat = shop.trim_start_matches("shop-");
    let batch: Vec<Value> =
        (from..to).map(|n| text_message(chat, &format!("{chat}-{n:04}"), "x")).collect();
    let path = format!("/v1/instances/{shop}/events");
    expect_json(node.post(&path, &json!(batch)).await, 200).await;
}

fn expect_order(received: &[Received], shop: &str, to: usize) {
    let chat = shop.trim_start_matches("shop-");
    let expected: Vec<String> = (0..to).map(|n| format!("{chat}-{n:04}")).collect();
    assert_eq!(first_arrivals(received, chat), expected);
}

#[tokio::test]
async fn lanes_go_from_node_to_node_without_a_gap_and_nothing_comes_twice() {
    needs_postgres!();
    let first = Gateway::start(quick).await;
    let each = Receiver::start().await;
    let whole = Receiver::start().await;
    for shop in 0..SHOPS {
        first.create_instance(&format!("shop-{shop}")).await;
        hook(&first, &format!("shop-{shop}"), &each.url("/"), json!({})).await;
    }
    let body = hook_body(&whole.url("/"), json!({}));
    expect_json(first.post("/v1/destinations", &body).await, 201).await;
    let mut second = None;
    for n in 0..60 {
        for shop in 0..SHOPS {
            let node = second.as_ref().filter(|_| n % 2 == 0).unwrap_or(&first);
            post(node, &format!("shop-{shop}"), n, n + 1).await;
        }
        match n {
            // One comes while events do, and goes again.
            15 => second = Some(first.start_node(|_| {}).await),
            30 => settled(&[&first, second.as_ref().unwrap()]).await,
            45 => second.take().unwrap().stop().await,
            _ => {}
        }
    }
    for receiver in [&each, &whole] {
        let all = |received: &[Received]| arrivals(received).len() == SHOPS * 60;
        let received = receiver.wait_until("everything arrives", all).await;
        for shop in 0..SHOPS {
            expect_order(&received, &format!("shop-{shop}"), 60);
        }
        receiver.stays_at(SHOPS * 60).await;
    }
    first.stop().await;
}

#[tokio::test]
async fn a_node_that_is_robbed_of_its_shards_sends_nothing_more_and_nothing_is_lost() {
    needs_postgres!();
    let (first, second) = start().await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(A_WHILE)).await;
    for shop in 0..SHOPS {
        hook(&first, &format!("shop-{shop}"), &receiver.url("/"), json!({ "max_in_flight": 1 }))
            .await;
    }
    for shop in 0..SHOPS {
        post(&first, &format!("shop-{shop}"), 0, 12).await;
    }
    receiver.wait_for(SHOPS).await;
    // As if the first node had been frozen for so long that the second took what it had.
    let thief = second.app.store.node().to_string();
    let (client, connection) =
        tokio_postgres::connect(&first.database().url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let robbery = format!("UPDATE lease SET owner = decode('{thief}', 'hex'), epoch = epoch + 1");
    client.batch_execute(&robbery).await.unwrap();
    let all = |received: &[Received]| arrivals(received).len() == SHOPS * 12;
    let received = receiver.wait_until("everything arrives", all).await;
    for shop in 0..SHOPS {
        expect_order(&received, &format!("shop-{shop}"), 12);
    }
    // One for each lane that had something under way, as windows are of one event.
    let twice: usize = arrivals(&received).values().map(|times| times - 1).sum();
    assert!(twice <= 2 * SHOPS, "{twice} came twice");
    settled(&[&first, &second]).await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn what_is_changed_on_another_node_reaches_the_lane() {
    needs_postgres!();
    let (first, second) = start().await;
    let receiver = Receiver::start().await;
    let shop = shop_of(&second).await;
    // All of it through the node that does not run the lane.
    let id = hook(&first, &shop, &receiver.url("/"), json!({})).await;
    post(&first, &shop, 0, 2).await;
    receiver.wait_for(2).await;

    act(&first, &id, "pause", json!({})).await;
    shows(&second, &id, "the pause is known", |it| it["state"] == "paused").await;
    eventually("the lane stands still", async || {
        post_one(&first, &shop).await;
        let before = receiver.received().len();
        tokio::time::sleep(UNHEARD).await;
        (receiver.received().len() == before).then_some(())
    })
    .await;
    let before = receiver.received().len();
    receiver.stays_at(before).await;
    act(&first, &id, "resume", json!({ "from": "now" })).await;
    post(&first, &shop, 2, 3).await;
    receiver.wait_until("what came after it went on", |all| has_id(all, &shop, 2)).await;

    change(&first, &id, json!({ "channel": { "url": receiver.url("/elsewhere") } })).await;
    eventually("the other path is used", async || {
        post_one(&first, &shop).await;
        receiver.received().last().filter(|it| it.path == "/elsewhere").map(drop)
    })
    .await;

    let deleted = first.request(Method::DELETE, &format!("/v1/destinations/{id}"));
    assert_eq!(deleted.send().await.unwrap().status(), 204);
    let told = Instant::now();
    while told.elapsed() < UNHEARD {
        post_one(&first, &shop).await;
        tokio::time::sleep(A_WHILE).await;
    }
    let last = receiver.received().last().map(|it| it.at).unwrap();
    let mut delays = Delays::default();
    delays.push(last.saturating_duration_since(told));
    delays.expect_soon();
    eventually("nothing is sent any more", async || {
        post_one(&first, &shop).await;
        let before = receiver.received().len();
        tokio::time::sleep(UNHEARD).await;
        (receiver.received().len() == before).then_some(())
    })
    .await;
    second.stop().await;
    first.stop().await;
}

/// An event that was not there before, of no particular number.
async fn post_one(node: &Gateway, shop: &str) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let id = format!("any-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    node.post_event(shop, &text_message("any", &id, "x")).await;
}

fn has_id(received: &[Received], shop: &str, n: usize) -> bool {
    let chat = shop.trim_start_matches("shop-");
    crate::lane::ids(received).contains(&format!("{chat}-{n:04}"))
}

#[tokio::test]
async fn a_cure_on_another_node_is_tried_at_once_and_its_state_is_shown_everywhere() {
    needs_postgres!();
    let first = Gateway::start(|config| {
        quick(config);
        // No probe comes by itself while the story lasts.
        config.lanes.probe_first_s = 600.0;
        config.lanes.probe_max_s = 600.0;
    })
    .await;
    for shop in 0..SHOPS {
        first.create_instance(&format!("shop-{shop}")).await;
    }
    let second = first.start_node(|_| {}).await;
    settled(&[&first, &second]).await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/wrong" => Reply::status(404),
        _ => Reply::ok(),
    })
    .await;
    let shop = shop_of(&second).await;
    let patient = json!({ "retry": { "waits_s": [600.0] } });
    let id = hook(&first, &shop, &receiver.url("/wrong"), patient).await;
    for n in 0..6 {
        post(&first, &shop, n, n + 1).await;
    }
    for node in [&second, &first] {
        let shown = is(node, &id, "probing").await;
        assert!(shown["status"]["next_probe_at"].is_string(), "{shown}");
    }
    change(&first, &id, json!({ "channel": { "url": receiver.url("/right") } })).await;
    is(&second, &id, "flowing").await;
    is(&first, &id, "flowing").await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn deliveries_and_replays_can_be_asked_for_on_any_node() {
    needs_postgres!();
    let (first, second) = start().await;
    let receiver = Receiver::start().await;
    let shop = shop_of(&second).await;
    let id = hook(&first, &shop, &receiver.url("/"), json!({})).await;
    post(&first, &shop, 0, 5).await;
    let log = has(&first, &id, "delivered", 5).await;
    redeliver(&first, &log[0]).await;
    receiver.wait_for(6).await;
    has(&first, &id, "delivered", 5).await;

    let path = format!("/v1/destinations/{id}/replay");
    eventually("the live cursor has passed them", async || {
        let dry = json!({ "from": "beginning", "dry_run": true });
        let count = expect_json(first.post(&path, &dry).await, 200).await;
        (count["events"] == 5).then_some(())
    })
    .await;
    expect_json(first.post(&path, &json!({ "from": "beginning" })).await, 201).await;
    receiver.wait_for(11).await;
    let runs = format!("/v1/destinations/{id}/runs");
    eventually("the replay is done", async || {
        (first.read(&runs).await["data"][0]["state"] == "done").then_some(())
    })
    .await;
    // A delivery of a replay that is over.
    let log = first.read(&format!("/v1/deliveries?destination={id}&status=delivered")).await;
    let log = log["data"].as_array().unwrap();
    let replayed = log.iter().find(|it| it["run"] == 1).unwrap();
    redeliver(&first, replayed).await;
    receiver.wait_for(12).await;
    receiver.stays_at(12).await;

    // One that is called off on the other node, with much of it left.
    receiver.script(|_| Reply::ok());
    post(&first, &shop, 5, 45).await;
    receiver.wait_for(52).await;
    receiver.script(|_| Reply::ok().after(Duration::from_millis(300)));
    change(&first, &id, json!({ "max_in_flight": 1 })).await;
    expect_json(first.post(&path, &json!({ "from": "beginning" })).await, 201).await;
    receiver.wait_for(53).await;
    expect_json(first.post(&format!("{runs}/2/cancel"), &json!({})).await, 200).await;
    eventually("nothing more of it comes", async || {
        let before = receiver.received().len();
        tokio::time::sleep(UNHEARD).await;
        (receiver.received().len() == before).then_some(())
    })
    .await;
    assert!(receiver.received().len() < 52 + 45, "it was called off");
    second.stop().await;
    first.stop().await;
}
