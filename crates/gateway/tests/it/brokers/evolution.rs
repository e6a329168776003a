//! What Evolution's API sets, at real peers: the server's RabbitMQ and SQS, of an instance and of all.

use serde_json::{Value, json};
use zapbus_gateway::config::Secret;

use super::{node::Node, peers::Python, post, sqs};
use crate::{
    engine::skips_on_postgres,
    server::{Gateway, expect_json},
};

/// The members of a queue's body, in their order.
const MEMBERS: [&str; 6] = ["event", "instance", "data", "server_url", "date_time", "apikey"];

async fn ask(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let request = gateway.client.post(format!("{}{path}", gateway.url)).json(body);
    expect_json(request.header("apikey", gateway.token()).send().await.unwrap(), 201).await
}

fn members(body: &Value) -> Vec<&str> {
    body.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_gets_the_topology_that_evolutions_consumers_know() {
    if skips_on_postgres("what is shown is on the broker's side") {
        return;
    }
    let (Some(python), Some(node)) = (Python::find().await, Node::start().await) else { return };
    let gateway = Gateway::start(|config| {
        let rabbitmq = &mut config.evolution.rabbitmq;
        rabbitmq.uri = Some(Secret::new(node.uri()));
        rabbitmq.exchange = "evolution".to_owned();
        rabbitmq.prefix = Some("acme".to_owned());
        rabbitmq.global = true;
        rabbitmq.events = vec!["MESSAGES_UPSERT".to_owned()];
    })
    .await;
    let block = json!({ "enabled": true, "events": ["MESSAGES_UPSERT"] });
    let made = json!({ "instanceName": "shop", "rabbitmq": block });
    assert_eq!(ask(&gateway, "/instance/create", &made).await["rabbitmq"]["enabled"], true);
    let uri = node.uri();
    // Consumers may start before anything is published.
    for queue in ["shop.messages.upsert", "acme.messages.upsert"] {
        let env = [("AMQP_URI", uri.as_str()), ("QUEUE", queue)];
        python.run("wait_rabbitmq.py", &env).await;
    }
    let ids = post(&gateway, 0, 30).await;
    for (queue, exchange) in
        [("shop.messages.upsert", "shop"), ("acme.messages.upsert", "evolution")]
    {
        let count = ids.len().to_string();
        let env = [("AMQP_URI", uri.as_str()), ("QUEUE", queue), ("COUNT", &count)];
        let messages = python.run("consume_rabbitmq.py", &env).await;
        let message = messages.iter().find(|message| message["id"] == ids[7]).unwrap();
        assert_eq!(message["exchange"], exchange);
        assert_eq!(message["routing_key"], "messages.upsert");
        assert_eq!(
            (&message["delivery_mode"], &message["type"]),
            (&json!(2), &json!("messages.upsert"))
        );
        let body = &message["body"];
        assert_eq!(members(body), MEMBERS, "{queue}");
        assert_eq!(body["data"]["message"]["conversation"], "7");
        assert_eq!((&body["instance"], &body["apikey"]), (&json!("shop"), &Value::Null));
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqs_gets_the_queues_that_evolutions_consumers_know() {
    if skips_on_postgres("what is shown is on the queue's side") {
        return;
    }
    let Some(python) = Python::find().await else { return };
    let (_moto, endpoint) = sqs::moto(&python).await;
    for (global, queue) in [(false, "shop_messages_upsert.fifo"), (true, "all_singlequeue.fifo")] {
        let gateway = Gateway::start(|config| {
            let sqs = &mut config.evolution.sqs;
            sqs.region = Some("us-east-1".to_owned());
            sqs.endpoint = Some(endpoint.clone());
            sqs.access_key_id = Some("AKIAEXAMPLE".to_owned());
            sqs.secret_access_key = Some(Secret::new("secret"));
            sqs.global = global;
            sqs.single_queue = true;
            sqs.prefix = "all".to_owned();
            sqs.events = vec!["MESSAGES_UPSERT".to_owned()];
        })
        .await;
        ask(&gateway, "/instance/create", &json!({ "instanceName": "shop" })).await;
        let block = json!({ "sqs": { "enabled": !global, "events": ["MESSAGES_UPSERT"] } });
        ask(&gateway, "/sqs/set/shop", &block).await;
        // Consumers may start before anything is sent.
        let env = [("ENDPOINT", endpoint.as_str()), ("QUEUE", queue), ("COUNT", "0")];
        assert!(python.run("consume_sqs.py", &env).await.is_empty());
        let ids = post(&gateway, 0, 20).await;
        let env = [("ENDPOINT", endpoint.as_str()), ("QUEUE", queue), ("COUNT", "20")];
        let messages = python.run("consume_sqs.py", &env).await;
        let message = messages.iter().find(|message| message["id"] == ids[7]).unwrap();
        let body = &message["body"];
        assert_eq!((&body["dataType"], &body["server"]), (&json!("json"), &json!("evolution")));
        assert_eq!(body["data"]["message"]["conversation"], "7");
        assert_eq!(
            members(body)[..5],
            ["event", "instance", "dataType", "data", "server"],
            "{queue}"
        );
        assert_eq!(message["deduplication"], ids[7]);
        gateway.stop().await;
    }
}
