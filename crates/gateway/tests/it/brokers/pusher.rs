//! Pusher destinations in a gateway: what pages get from servers, and what a receiver gets that stands
//! in for the API.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{create, numbers_of, peers::Page, post, pusher_server::Server};
use crate::{
    engine::skips_on_postgres,
    server::{Gateway, Receiver, Reply, eventually, expect_json, text_message},
};

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

#[tokio::test(flavor = "multi_thread")]
async fn pusher_js_gets_what_was_sent_in_form_and_order() {
    if skips_on_postgres("what is shown is on the page's side") {
        return;
    }
    listens_to(Server::stand_in().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pusher_js_gets_the_same_from_sockudo() {
    if skips_on_postgres("what is shown is on the page's side") {
        return;
    }
    if let Some(server) = Server::sockudo().await {
        listens_to(server).await;
    }
}

/// A page that listens to an instance gets everything, of each chat in order, and finds what is too
/// large where it is told.
async fn listens_to(server: Server) {
    let name = server.name;
    let Some(mut page) = Page::open(server.port, "shop").await else { return };
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let made = create(&gateway, &server.channel(), &json!({ "label": "screens" })).await;

    let ids = post(&gateway, 0, 200).await;
    let mut events = Vec::new();
    while events.len() < 200 {
        let event = page.next().await;
        assert_eq!(event["name"], "message.received", "{name}: {event}");
        events.push(json!({ "id": event["data"]["id"], "body": event["data"] }));
    }
    let arrived: HashSet<&str> = events.iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert!(ids.iter().all(|id| arrived.contains(id.as_str())), "{name}");
    for chat in 0..10 {
        let numbers = numbers_of(&events, chat);
        assert!(numbers.len() == 20 && numbers.is_sorted(), "{name}, chat {chat}: {numbers:?}");
    }

    let text = "é".repeat(8000);
    let large = gateway.post_event("shop", &text_message("5511999990000", "large", &text)).await;
    let pointer = page.next().await;
    assert_eq!(pointer["name"], "message.received", "{name}: {pointer}");
    assert_eq!(pointer["data"]["pointer"], true, "{name}: {pointer}");
    assert_eq!(pointer["data"]["event_id"], large["id"], "{name}: {pointer}");
    let url = pointer["data"]["url"].as_str().unwrap();
    assert_eq!(gateway.client.get(url).send().await.unwrap().status(), 401, "{name}");
    let found = gateway.client.get(url).bearer_auth(gateway.token()).send().await.unwrap();
    let found = expect_json(found, 200).await;
    assert_eq!(found["id"], large["id"], "{name}");
    assert_eq!(found["data"]["content"]["body"], text.as_str(), "{name}");

    // With a wrong secret nothing dies: what waits comes once it is right again.
    let destination = format!("/v1/destinations/{}", made["id"].as_str().unwrap());
    let set_secret = async |secret: &str| {
        let change = gateway.request(reqwest::Method::PATCH, &destination);
        let body = json!({ "channel": { "secret": secret } });
        expect_json(change.json(&body).send().await.unwrap(), 200).await;
    };
    set_secret("wrong").await;
    let ids: HashSet<String> = post(&gateway, 200, 230).await.into_iter().collect();
    eventually("the lane probes", async || {
        let shown = gateway.read(&destination).await;
        (shown["status"]["health"] == "probing").then_some(())
    })
    .await;
    set_secret("hunter2").await;
    let mut late = HashSet::new();
    while late.len() < ids.len() {
        late.insert(page.next().await["data"]["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(late, ids, "{name}");
    let dead = gateway.read("/v1/deliveries?status=dead").await;
    assert_eq!(dead["data"], json!([]), "{name}");
    gateway.stop().await;
}
