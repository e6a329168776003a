//! Files that events only name: fetched, held for, given up; and where they lie.

mod bucket;
mod graph;
mod holding;
mod large;

use serde_json::{Value, json};

use self::graph::Graph;
use crate::{
    api::{expect_fault, text},
    api_cloud_api::put,
    command_line::asked,
    receiver::{Receiver, Reply},
    server::{Gateway, eventually, expect_json},
};

/// The media of what a receiver got, in our own form.
fn media(body: &Value) -> &Value {
    &body["data"]["content"]["media"]
}

/// An event of native ingest with its file at a URL.
fn with_url(chat: &str, id: &str, url: &str) -> Value {
    let mut event = crate::server::text_message(chat, id, "");
    event["data"]["content"] = json!({
        "kind": "image",
        "media": { "kind": "image", "mime": "image/png", "state": "url", "url": url },
    });
    event
}

async fn choose(gateway: &Gateway, instance: &str, media: Value) -> Value {
    let path = format!("/v1/instances/{instance}");
    let request = gateway.request(reqwest::Method::PATCH, &path);
    expect_json(request.json(&json!({ "media": media })).send().await.unwrap(), 200).await
}

/// What the store knows of the file of an event, once it knows it.
async fn settled(gateway: &Gateway, event: &str) -> zapbus_store::Fetched {
    eventually("the file is here or given up", async || {
        let fetched = gateway.app.store.fetched(event.parse().unwrap()).await.unwrap()?;
        (fetched.state != zapbus_store::FetchState::Pending).then_some(fetched)
    })
    .await
}

#[tokio::test]
async fn what_cloud_api_names_by_an_id_is_fetched_with_the_token() {
    let graph = Graph::start(b"a picture".to_vec()).await;
    let gateway = Gateway::start(|config| config.media.fetch.graph_url = graph.url()).await;
    let receiver = Receiver::start().await;
    let id = graph.connect(&gateway, "shop").await;
    choose(&gateway, "shop", json!({ "wait_for_media_s": 60 })).await;
    let more = json!({ "events": ["message.*"], "inline_media": true });
    gateway.create_webhook("shop", &receiver.url("/hook"), more).await;
    assert_eq!(graph.post(&gateway, &id).await["stored"], 1);

    let got = receiver.wait_for(1).await;
    let body = got[0].json();
    let media = media(&body);
    assert_eq!(media["state"], "inline", "{media}");
    assert_eq!(media["base64"], "YSBwaWN0dXJl");
    assert_eq!(media["size_bytes"], 9);
    let link = text(media, "url");
    let fetched = gateway.client.get(&link).send().await.unwrap();
    assert_eq!(fetched.headers()["content-type"], "image/jpeg");
    assert_eq!(fetched.bytes().await.unwrap(), "a picture");
    // Two requests, each with the token; and the event is what it was.
    let asked = graph.asked();
    assert_eq!(asked, [("/v23.0/800000000000003", true), ("/files/800000000000003", true)]);
    let page = gateway.read("/v1/instances/shop/events?types=message.*").await;
    assert_eq!(page["data"][0]["data"]["content"]["media"]["state"], "id_only");
    // A repeat is neither stored nor fetched.
    assert_eq!(graph.post(&gateway, &id).await["stored"], 0);
    assert_eq!(graph.asked().len(), 2);
    let health = gateway.read("/v1/health").await;
    assert_eq!(health["media"], json!({ "bucket": null, "pending": 0, "failed_last_day": 0 }));
}

#[tokio::test]
async fn a_token_stays_secret_and_what_is_left_out_stays() {
    let gateway = Gateway::start(|_| {}).await;
    let made = gateway.create_instance("shop").await;
    let path = format!("/v1/instances/{}/source", text(&made, "id"));
    let first = json!({
        "type": "cloud-api", "app_secret": "app-secret", "verify_token": "verify-me",
        "phone_number_id": "1", "access_token": "EAAG-hush",
    });
    let set = expect_json(put(&gateway, &path, &first).await, 200).await;
    assert_eq!(set["has_access_token"], true);
    assert!(!set.to_string().contains("EAAG-hush"), "{set}");
    let later = json!({ "type": "cloud-api", "phone_number_id": "1" });
    let set = expect_json(put(&gateway, &path, &later).await, 200).await;
    assert_eq!(
        (&set["has_access_token"], &set["paste"]["verify_token"]),
        (&json!(true), &json!("verify-me"))
    );
    let without = json!({ "type": "cloud-api", "phone_number_id": "1", "access_token": null });
    let set = expect_json(put(&gateway, &path, &without).await, 200).await;
    assert_eq!(set["has_access_token"], false);
    let odd = json!({ "type": "cloud-api", "access_token": "a b" });
    expect_fault(put(&gateway, &path, &odd).await, 422, "invalid", "access_token", "ASCII").await;

    // Of a bridge too.
    let set = expect_json(put(&gateway, &path, &json!({ "type": "waha" })).await, 200).await;
    let again = expect_json(put(&gateway, &path, &json!({ "type": "waha" })).await, 200).await;
    assert_eq!(set["paste"], again["paste"]);
    let other = expect_json(put(&gateway, &path, &json!({ "type": "evolution" })).await, 200).await;
    assert_ne!(set["paste"], other["paste"]);
}

#[tokio::test]
async fn an_instance_says_which_files_are_fetched() {
    let files =
        Receiver::scripted(|_| Reply::ok().header("content-type", "image/png").body("png")).await;
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    let more = json!({ "events": ["message.*"], "inline_media": true, "wait_for_media_s": 30 });
    let made = gateway.create_webhook("shop", &receiver.url("/hook"), more).await;
    assert_eq!(made["wait_for_media_s"], 30);
    let url = files.url("/a.png");
    gateway.post_event("shop", &with_url("5511999990001", "A", &url)).await;
    let got = receiver.wait_for(1).await;
    assert_eq!(media(&got[0].json())["url"], url.as_str(), "nobody asked for it");
    assert_eq!(files.received().len(), 0);

    let answer = choose(&gateway, "shop", json!({ "fetch": "all" })).await;
    assert_eq!(answer["media"], json!({ "fetch": "all", "wait_for_media_s": 0 }));
    gateway.post_event("shop", &with_url("5511999990001", "B", &url)).await;
    let got = receiver.wait_for(2).await;
    assert_eq!(media(&got[1].json())["base64"], "cG5n");
    assert_eq!(files.received()[0].header("authorization"), None);

    let said = asked(&gateway, &["instance", "update", "shop", "--fetch-media", "none"]).await;
    assert_eq!(said["media"]["fetch"], "none");
    gateway.post_event("shop", &with_url("5511999990001", "C", &url)).await;
    receiver.wait_for(3).await;
    assert_eq!(files.received().len(), 1);
    let path = "/v1/instances/shop";
    let wrong = gateway.request(reqwest::Method::PATCH, path);
    let wrong = wrong.json(&json!({ "media": { "wait_for_media_s": 301 } })).send().await.unwrap();
    expect_fault(wrong, 422, "invalid", "media.wait_for_media_s", "0 to 300").await;
}

#[tokio::test]
async fn what_cannot_be_fetched_is_said_with_the_reason() {
    let graph = Graph::start(Vec::new()).await;
    graph.answer(|_| Reply::status(404));
    let gateway = Gateway::start(|config| config.media.fetch.graph_url = graph.url()).await;
    let receiver = Receiver::start().await;
    let id = graph.connect(&gateway, "shop").await;
    let more = json!({ "events": ["message.*"], "wait_for_media_s": 60 });
    gateway.create_webhook("shop", &receiver.url("/hook"), more).await;
    graph.post(&gateway, &id).await;
    let got = receiver.wait_for(1).await;
    let body = got[0].json();
    assert_eq!(media(&body)["state"], "unavailable", "{body}");
    assert!(text(media(&body), "unavailable_reason").starts_with("404"), "{body}");
    let health = gateway.read("/v1/health").await;
    assert_eq!(health["media"]["failed_last_day"], 1);
    let metrics = gateway.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("zapbus_media_fetches_total{result=\"given_up\"} 1"), "{metrics}");
}

#[tokio::test]
async fn what_fails_for_the_moment_is_tried_again_also_after_a_restart() {
    let graph = Graph::start(b"late".to_vec()).await;
    graph.answer(|_| Reply::status(503));
    let gateway = Gateway::start(|config| config.media.fetch.graph_url = graph.url()).await;
    let receiver = Receiver::start().await;
    let id = graph.connect(&gateway, "shop").await;
    gateway
        .create_webhook("shop", &receiver.url("/hook"), json!({ "events": ["message.*"] }))
        .await;
    graph.post(&gateway, &id).await;
    // Nobody waits for it: it is delivered at once, and says that it comes.
    let got = receiver.wait_for(1).await;
    let event = got[0].json();
    assert!(["pending", "id_only"].contains(&media(&event)["state"].as_str().unwrap()), "{event}");
    eventually("it was tried", async || (!graph.asked().is_empty()).then_some(())).await;
    let gateway = gateway.restart().await;
    graph.recover();
    gateway.clock.advance(std::time::Duration::from_secs(600));
    let fetched = settled(&gateway, &text(&event, "id")).await;
    assert_eq!(fetched.bytes, 4);
}

#[tokio::test]
async fn private_places_and_large_files_are_refused() {
    let files = Receiver::scripted(|_| Reply::ok().body(vec![0; 2_000])).await;
    let gateway = Gateway::start(|config| {
        config.media.fetch.max_bytes = 1_000;
        config.egress.allow = vec!["127.0.0.0/8".to_owned()];
    })
    .await;
    gateway.create_instance("shop").await;
    choose(&gateway, "shop", json!({ "fetch": "all" })).await;
    for (id, url, reason) in [
        ("A", files.url("/large"), "max_bytes allows 1000"),
        ("B", "http://10.0.0.1/".to_owned(), "10.0.0.1"),
        ("C", "http://169.254.169.254/latest".to_owned(), "169.254.169.254"),
        ("D", "file:///etc/passwd".to_owned(), "no http:// or https://"),
    ] {
        let posted = gateway.post_event("shop", &with_url("5511999990001", id, &url)).await;
        let fetched = settled(&gateway, &text(&posted, "id")).await;
        let zapbus_store::FetchState::Failed { problem } = fetched.state else { panic!("{id}") };
        assert!(problem.contains(reason), "{id}: {problem}");
    }
}
