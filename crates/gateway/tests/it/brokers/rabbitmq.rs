//! A real RabbitMQ, and pika.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};

use super::{create, node::Node, numbers_of, peers::Python, post};
use crate::{
    engine::skips_on_postgres,
    server::{Gateway, Receiver, eventually},
};

/// Probes come soon enough for a test.
async fn gateway() -> Gateway {
    Gateway::start(|config| {
        config.lanes.probe_first_s = 0.2;
        config.lanes.probe_max_s = 0.5;
    })
    .await
}

async fn consume(python: &Python, node: &Node, queue: &str, count: usize) -> Vec<Value> {
    let (uri, count) = (node.uri(), count.to_string());
    let env = [("AMQP_URI", uri.as_str()), ("QUEUE", queue), ("COUNT", &count)];
    python.run("consume_rabbitmq.py", &env).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pika_gets_what_was_sent_in_form_and_order() {
    if skips_on_postgres("what is shown is on the broker's side") {
        return;
    }
    let (Some(python), Some(node)) = (Python::find().await, Node::start().await) else { return };
    let gateway = gateway().await;
    gateway.create_instance("shop").await;
    let channel = json!({ "type": "rabbitmq", "uri": node.uri(), "preset": "evolution_instance" });
    let made = create(&gateway, &channel, &json!({ "label": "events" })).await;
    assert_eq!(made["channel"]["uri"], node.uri().replace(":guest@", ":***@"));

    let test = format!("/v1/destinations/{}/test", made["id"].as_str().unwrap());
    let tested = gateway.post(&test, &json!({})).await;
    let tested: Value = tested.json().await.unwrap();
    assert_eq!(tested["ok"], true, "{tested}");

    let ids = post(&gateway, 0, 300).await;
    // The sample of the test is there too.
    let messages = consume(&python, &node, "shop.message.received", 301).await;
    let arrived: HashSet<&str> =
        messages.iter().map(|message| message["id"].as_str().unwrap()).collect();
    assert!(ids.iter().all(|id| arrived.contains(id.as_str())));
    let message = messages.iter().find(|message| message["id"] == ids[7]).unwrap();
    assert_eq!(message["exchange"], "shop");
    assert_eq!(message["routing_key"], "message.received");
    assert_eq!(message["type"], "message.received");
    assert_eq!(message["content_type"], "application/json");
    assert_eq!(message["delivery_mode"], 2);
    assert_eq!(message["body"]["id"], ids[7]);
    assert_eq!(message["headers"]["zapbus-instance"], "shop");
    for chat in 0..10 {
        let numbers = numbers_of(&messages, chat);
        assert!(numbers.is_sorted(), "chat {chat}: {numbers:?}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_in_the_middle_of_ten_thousand_loses_none() {
    if skips_on_postgres("what is shown is on the broker's side") {
        return;
    }
    let (Some(python), Some(mut node)) = (Python::find().await, Node::start().await) else {
        return;
    };
    let gateway = gateway().await;
    gateway.create_instance("shop").await;
    // Another lane, which goes on meanwhile.
    let receiver = Receiver::start().await;
    gateway.create_webhook("shop", &receiver.url("/hook"), json!({ "label": "hook" })).await;
    let channel = json!({
        "type": "rabbitmq", "uri": node.uri(), "exchange": "shop", "queue": "all",
        "queue_type": "classic", "routing_key": "{event}", "timeout_s": 5,
    });
    let made = create(&gateway, &channel, &json!({ "label": "events" })).await;
    let destination = format!("/v1/destinations/{}", made["id"].as_str().unwrap());

    let mut ids = Vec::new();
    for from in (0..5_000).step_by(500) {
        ids.extend(post(&gateway, from, from + 500).await);
    }
    // It is at it, and has not come to the end.
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.kill().await;
    for from in (5_000..10_000).step_by(500) {
        ids.extend(post(&gateway, from, from + 500).await);
    }
    eventually("the lane probes", async || {
        let shown = gateway.read(&destination).await;
        (shown["status"]["health"] == "probing").then_some(())
    })
    .await;
    // However slow the machine is: as long as it goes on.
    for count in (500..=10_000).step_by(500) {
        eventually("the other lane goes on to its end", async || {
            (receiver.received().len() >= count).then_some(())
        })
        .await;
    }
    node.resume().await;

    let messages = consume(&python, &node, "all", 10_000).await;
    let arrived: HashSet<&str> =
        messages.iter().map(|message| message["id"].as_str().unwrap()).collect();
    let lost = ids.iter().filter(|id| !arrived.contains(id.as_str())).count();
    assert_eq!(lost, 0, "of {}", ids.len());
    let found = gateway.read("/v1/deliveries?status=dead").await;
    assert_eq!(found["data"], json!([]), "nothing is dead");
    gateway.stop().await;
}
