//! The last hour and day of instances and destinations.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Gateway, Receiver, Reply, eventually, expect_json, text_message};

async fn statistics(gateway: &Gateway, path: &str) -> Value {
    expect_json(gateway.get(&format!("/v1/{path}/statistics")).await, 200).await
}

#[tokio::test]
async fn statistics_tell_what_became_of_the_last_hour_and_day() {
    let gateway = Gateway::start(|_| {}).await;
    // With this preset, 410 is a dead letter at once.
    let receiver = Receiver::start().await;
    receiver.script(|request| {
        let refused = request.json()["data"]["content"]["body"] == "bad";
        Reply::status(if refused { 410 } else { 200 })
    });
    gateway.create_instance("shop").await;
    let destination = gateway
        .create_webhook(
            "shop",
            &receiver.url("/"),
            json!({ "events": ["message.*"], "retry": { "preset": "ryze" } }),
        )
        .await;
    let id = destination["id"].as_str().unwrap().to_owned();
    let path = format!("destinations/{id}");

    let empty = statistics(&gateway, &path).await;
    assert_eq!(empty["destination_id"], json!(id));
    assert_eq!(empty["last_hour"]["deliveries"]["attempts"], 0);
    assert_eq!(empty["last_hour"]["deliveries"]["success_rate"], Value::Null);
    assert_eq!(empty["seconds_since_last_event"], Value::Null);

    for n in 0..6 {
        let text = if n % 3 == 0 { "bad" } else { "good" };
        let chat = format!("551199999000{n}");
        gateway.post_event("shop", &text_message(&chat, &format!("m{n}"), text)).await;
    }
    let found = eventually("six attempts are counted", async || {
        let found = statistics(&gateway, &path).await;
        (found["last_hour"]["deliveries"]["attempts"] == 6).then_some(found)
    })
    .await;
    let hour = &found["last_hour"]["deliveries"];
    assert_eq!((&hour["accepted"], &hour["failed"]), (&json!(4), &json!(2)));
    assert_eq!(hour["dead"], 2);
    assert!((hour["success_rate"].as_f64().unwrap() - 4.0 / 6.0).abs() < 1e-9);
    assert!(hour["latency_p50_ms"].as_u64() <= hour["latency_p99_ms"].as_u64());
    assert!(found["last_event_at"].is_string());

    gateway.clock.advance(Duration::from_secs(2 * 3_600));
    let found = statistics(&gateway, &path).await;
    assert_eq!(found["last_hour"]["deliveries"]["attempts"], 0);
    assert_eq!(found["last_day"]["deliveries"]["attempts"], 6);
    assert!(found["seconds_since_last_event"].as_f64().unwrap() >= 7_200.0);

    // What was not written yet is written when the gateway stops.
    let gateway = gateway.restart().await;
    assert_eq!(statistics(&gateway, &path).await["last_day"], found["last_day"], "after a restart");
    let whole = statistics(&gateway, "instances/shop").await;
    assert_eq!(whole["last_day"]["deliveries"]["attempts"], 6);
    // Its creation is no event of its source.
    assert_eq!(whole["last_day"]["events"], 6);
    assert!(whole["seconds_since_last_event"].as_f64().unwrap() >= 7_200.0);
    gateway.stop().await;
}

#[tokio::test]
async fn statistics_are_for_those_who_may_see_their_subject() {
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    let mine = gateway.create_instance("mine").await;
    gateway.create_instance("other").await;
    let destination = gateway.create_webhook("other", &receiver.url("/"), json!({})).await;
    let token = mine["token"].as_str().unwrap();
    let ask = |path: String| {
        let request = gateway.client.get(format!("{}/v1/{path}/statistics", gateway.url));
        request.bearer_auth(token).send()
    };
    let id = destination["id"].as_str().unwrap();
    expect_json(ask("instances/mine".to_owned()).await.unwrap(), 200).await;
    expect_json(ask("instances/other".to_owned()).await.unwrap(), 404).await;
    expect_json(ask(format!("destinations/{id}")).await.unwrap(), 404).await;
    let without = gateway.client.get(format!("{}/v1/instances/mine/statistics", gateway.url));
    expect_json(without.send().await.unwrap(), 401).await;
    gateway.stop().await;
}
