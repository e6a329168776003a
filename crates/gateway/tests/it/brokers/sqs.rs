//! A stand-in for SQS that its users test with (moto), and boto3.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};
use tokio::process::Child;

use super::{create, peers::Python, post};
use crate::{engine::skips_on_postgres, packages::free_port, server::Gateway};

/// How long moto may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// Moto, ready, and where it is. It ends when it is dropped.
pub(super) async fn moto(python: &Python) -> (Child, String) {
    let port = free_port();
    let moto = python.start("serve_sqs.py", &[("PORT", &port.to_string())]).await;
    let endpoint = format!("http://127.0.0.1:{port}");
    let client = reqwest::Client::new();
    let ready = async {
        let ask = || client.get(format!("{endpoint}/moto-api/data.json")).send();
        while ask().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("moto starts");
    (moto, endpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_gets_what_was_sent_in_form_and_order() {
    if skips_on_postgres("what is shown is on the queue's side") {
        return;
    }
    let Some(python) = Python::find().await else { return };
    let (_moto, endpoint) = moto(&python).await;
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;

    let channel = json!({
        "type": "sqs", "region": "us-east-1", "endpoint": endpoint, "access_key_id": "AKIAEXAMPLE",
        "secret_access_key": "secret",
    });
    let made = create(&gateway, &channel, &json!({ "label": "standard" })).await;
    assert_eq!(made["channel"]["secret_access_key"], "***");
    let mut fifo = channel.clone();
    fifo["preset"] = json!("evolution_instance");
    create(&gateway, &fifo, &json!({ "label": "fifo" })).await;

    let ids = post(&gateway, 0, 40).await;
    for (queue, is_fifo) in [("shop-message_received", false), ("shop_message_received.fifo", true)]
    {
        let env = [("ENDPOINT", endpoint.as_str()), ("QUEUE", queue), ("COUNT", "40")];
        let messages = python.run("consume_sqs.py", &env).await;
        let arrived: HashSet<&str> = messages.iter().map(|it| it["id"].as_str().unwrap()).collect();
        assert!(ids.iter().all(|id| arrived.contains(id.as_str())), "{queue}");
        let message = messages.iter().find(|message| message["id"] == ids[7]).unwrap();
        assert_eq!(message["body"]["id"], ids[7]);
        assert_eq!(message["attributes"]["event"], "message.received");
        assert_eq!(message["attributes"]["instance"], "shop");
        if is_fifo {
            assert_eq!(message["deduplication"], ids[7]);
            let places: Vec<(&str, usize)> = messages
                .iter()
                .map(|message| {
                    let place = ids.iter().position(|id| message["id"] == id.as_str()).unwrap();
                    (message["group"].as_str().unwrap(), place)
                })
                .collect();
            let groups: HashSet<&str> = places.iter().map(|(group, _)| *group).collect();
            assert_eq!(groups.len(), 10, "a group for each chat");
            for group in groups {
                let of_group = places.iter().filter(|(it, _)| *it == group).map(|(_, place)| place);
                assert!(of_group.is_sorted(), "{group}");
            }
        } else {
            assert_eq!(message["group"], Value::Null);
        }
    }
    gateway.stop().await;
}
