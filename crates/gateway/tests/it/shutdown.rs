//! Going down in good order: nothing more is taken, what is in flight finishes, nothing is sent
//! twice.

use std::time::Duration;

use serde_json::json;

use crate::{
    binary::Served,
    server::{Gateway, Receiver, Reply, eventually, expect_json, text_message},
};

#[tokio::test]
async fn what_is_in_flight_finishes_and_nothing_more_is_taken() {
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(1_000))).await;
    gateway.create_instance("shop").await;
    gateway.create_webhook("shop", &receiver.url("/"), json!({ "events": ["message.*"] })).await;
    gateway.post_event("shop", &text_message("5511999990001", "m1", "hello")).await;
    receiver.wait_for(1).await;

    let mut gateway = gateway;
    let stopping = gateway.begin_stop();
    let reason = eventually("readyz says draining", async || {
        let response = gateway.client.get(format!("{}/readyz", gateway.url)).send().await.ok()?;
        let answer: serde_json::Value = response.json().await.ok()?;
        answer["reason"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(reason, "draining");
    let refused =
        gateway.post("/v1/instances/shop/events", &text_message("5511999990001", "m2", "x")).await;
    assert_eq!(refused.headers()["connection"], "close");
    assert_eq!(refused.headers()["retry-after"], "1");
    let problem = expect_json(refused, 503).await;
    assert_eq!(problem["code"], "draining");
    assert_eq!(problem["type"], "urn:zapbus:problem:draining");
    let health = gateway.client.get(format!("{}/healthz", gateway.url)).send().await.unwrap();
    assert_eq!(health.status(), 200, "the process is alive");
    stopping.await.unwrap().unwrap();

    // The answer that came during the drain was written down.
    let gateway = gateway.restart_stopped().await;
    receiver.stays_at(1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_that_was_being_answered_is_answered() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut gateway = gateway;
    let mut posts = Vec::new();
    for number in 0..50 {
        let request = gateway
            .request(reqwest::Method::POST, "/v1/instances/shop/events")
            .json(&text_message("5511999990001", &format!("m{number}"), "hello"));
        posts.push(tokio::spawn(request.send()));
    }
    tokio::task::yield_now().await;
    let stopping = gateway.begin_stop();
    let mut taken = 0;
    for post in posts {
        // Either taken, or refused as a whole, or not connected any more: never half.
        if let Ok(response) = post.await.unwrap() {
            match response.status().as_u16() {
                200 => taken += 1,
                status => assert_eq!(status, 503),
            }
        }
    }
    stopping.await.unwrap().unwrap();
    let gateway = gateway.restart_stopped().await;
    let page = gateway.read("/v1/instances/shop/events?types=message.*&limit=100").await;
    assert!(page["data"].as_array().unwrap().len() >= taken, "{taken} were acknowledged");
    gateway.stop().await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_does_not_hold_up_the_stop() {
    let gateway = Gateway::start(|config| config.shutdown.deadline_s = 1).await;
    let receiver = Receiver::scripted(|_| Reply::hang()).await;
    gateway.create_instance("shop").await;
    gateway.create_webhook("shop", &receiver.url("/"), json!({ "events": ["message.*"] })).await;
    gateway.post_event("shop", &text_message("5511999990001", "m1", "hello")).await;
    receiver.wait_for(1).await;
    let mut gateway = gateway;
    let begun = std::time::Instant::now();
    gateway.begin_stop().await.unwrap().unwrap();
    // Sooner than the destination's own patience of 15 s ends.
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    let gateway = gateway.restart_stopped().await;
    // What was cut off is sent again.
    receiver.wait_for(2).await;
    gateway.stop().await;
}

#[tokio::test]
async fn signals_stop_the_binary() {
    let folder = tempfile::tempdir().unwrap();
    for signal in ["TERM", "INT"] {
        let mut served = Served::start(folder.path(), |_| {}).await;
        served.signal(signal).await;
        assert_eq!(served.ended().await.code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path(), |command| {
        command.env("ZAPBUS_ADMIN_TOKEN", crate::server::ADMIN_TOKEN);
    })
    .await;
    let receiver = Receiver::scripted(|_| Reply::hang()).await;
    let client = reqwest::Client::new();
    for (path, body) in [
        ("/v1/instances", json!({ "name": "shop" })),
        (
            "/v1/instances/shop/destinations",
            json!({ "channel": { "type": "webhook", "url": receiver.url("/") } }),
        ),
        ("/v1/instances/shop/events", text_message("5511999990001", "m1", "hello")),
    ] {
        let request = client
            .post(format!("{}{path}", served.url))
            .bearer_auth(crate::server::ADMIN_TOKEN)
            .json(&body);
        assert!(request.send().await.unwrap().status().is_success(), "{path}");
    }
    receiver.wait_for(1).await;
    served.signal("TERM").await;
    eventually("it drains", async || {
        let response = client.get(format!("{}/readyz", served.url)).send().await.ok()?;
        (response.status() == 503).then_some(())
    })
    .await;
    served.signal("TERM").await;
    assert_eq!(served.ended().await.code(), Some(1));
}
