//! Pusher destinations in a gateway, against a receiver that stands in for its API.

use serde_json::{Value, json};

use super::{create, post};
use crate::server::{Gateway, Receiver, Reply, eventually, expect_json};

#[tokio::test]
async fn an_app_is_triggered_tested_and_never_shown_its_secret_again() {
    let receiver = Receiver::start().await;
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let url = receiver.url("");
    let port: u16 = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let channel = json!({
        "type": "pusher", "app_id": "1234", "key": "key1", "secret": "hunter2", "host": "127.0.0.1",
        "port": port, "tls": false,
    });
    let made = create(&gateway, &channel, &json!({ "label": "screens" })).await;
    assert_eq!(made["channel"]["secret"], "***");
    let destination = format!("/v1/destinations/{}", made["id"].as_str().unwrap());

    let ids = post(&gateway, 0, 20).await;
    let triggered = || -> Vec<Value> {
        let requests = receiver.received();
        let events = requests.iter().flat_map(|request| {
            let body = request.json();
            match body["batch"].as_array() {
                Some(batch) => batch.clone(),
                None => vec![body],
            }
        });
        events.collect()
    };
    eventually("all have come", async || (triggered().len() >= 20).then_some(())).await;
    let data: Vec<Value> = triggered()
        .iter()
        .map(|event| {
            assert_eq!(
                (&event["channel"], &event["name"]),
                (&json!("shop"), &json!("message.received"))
            );
            serde_json::from_str(event["data"].as_str().unwrap()).unwrap()
        })
        .collect();
    assert!(ids.iter().all(|id| data.iter().any(|event| event["id"] == id.as_str())));

    // What is shown can be sent back, and the secret stays.
    let change = gateway.request(reqwest::Method::PATCH, &destination);
    let body = json!({ "channel": { "secret": "***", "channel": "wa-{instance}" } });
    let changed = expect_json(change.json(&body).send().await.unwrap(), 200).await;
    assert_eq!(changed["channel"]["channel"], "wa-{instance}");
    let tested = gateway.post(&format!("{destination}/test"), &json!({})).await;
    let tested = expect_json(tested, 200).await;
    assert_eq!(tested["ok"], true, "{tested}");
    assert_eq!(triggered().last().unwrap()["channel"], "wa-shop");
    // Another server does not get it without being told.
    let change = gateway.request(reqwest::Method::PATCH, &destination);
    let body = json!({ "channel": { "host": "other.example.com" } });
    let refused = expect_json(change.json(&body).send().await.unwrap(), 422).await;
    assert!(refused.to_string().contains("channel.secret"), "{refused}");

    // Nothing signs here, so there is nothing to rotate.
    let rotated = gateway.post(&format!("{destination}/rotate-secret"), &json!({})).await;
    assert_eq!(rotated.status(), 409);
    gateway.stop().await;
}

#[tokio::test]
async fn a_wrong_key_makes_the_lane_probe_and_nothing_dies() {
    let receiver = Receiver::start().await;
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let url = receiver.url("");
    let port: u16 = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    receiver.script(|_| Reply::status(401));
    let channel = json!({
        "type": "pusher", "app_id": "1234", "key": "wrong", "secret": "hunter2", "host": "127.0.0.1",
        "port": port, "tls": false,
    });
    let made = create(&gateway, &channel, &json!({ "label": "screens" })).await;
    let destination = format!("/v1/destinations/{}", made["id"].as_str().unwrap());
    post(&gateway, 0, 50).await;
    let status = eventually("it is probed", async || {
        let shown = gateway.read(&destination).await;
        (shown["status"]["health"] == "probing").then(|| shown["status"].clone())
    })
    .await;
    let reason = status["last_error"].as_str().unwrap();
    assert!(reason.contains("check `key` and `secret`"), "{reason}");
    let dead = gateway.read("/v1/deliveries?status=dead").await;
    assert_eq!(dead["data"], json!([]));
    gateway.stop().await;
}
