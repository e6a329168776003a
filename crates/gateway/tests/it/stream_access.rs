//! Who may connect, from where, and how many.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api::{Tenant, text},
    server::{Gateway, eventually, expect_json},
    socket::{Events, Socket},
    stream::say,
};

const PATH: &str = "/v1/instances/shop/stream";

async fn refusal(
    gateway: &Gateway,
    path: &str,
    headers: &[(&'static str, String)],
) -> (u16, Value) {
    match Socket::connect(&gateway.url, path, headers).await {
        Ok(_) => panic!("{path} was let in"),
        Err(refused) => refused,
    }
}

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

#[tokio::test]
async fn a_token_stands_in_a_header_or_for_browsers_in_the_url() {
    let gateway = Gateway::start(|_| {}).await;
    let tenant = Tenant::create(&gateway, "acme", "http://127.0.0.1:9/").await;
    let path = format!("/v1/instances/{}/stream", tenant.instance);
    for (path, headers) in [
        (path.clone(), vec![bearer(&tenant.caller.token)]),
        (path.clone(), vec![bearer(&tenant.instance_token)]),
        (format!("{path}?token={}", tenant.instance_token), vec![]),
        (format!("/v1/stream?token={}", tenant.caller.token), vec![]),
        // On this machine even the operator's.
        (format!("{path}?token={}", gateway.token()), vec![]),
    ] {
        let opened = Socket::connect(&gateway.url, &path, &headers).await;
        let mut socket = opened.unwrap_or_else(|refused| panic!("{path}: {refused:?}"));
        assert_eq!(socket.document().await["type"], "stream.opened");
    }
    assert_eq!(refusal(&gateway, &path, &[]).await.0, 401);
    assert_eq!(refusal(&gateway, &path, &[bearer("zb_wrong")]).await.0, 401);
    assert_eq!(refusal(&gateway, &format!("{path}?token=zb_wrong"), &[]).await.0, 401);
    let other = Tenant::create(&gateway, "other", "http://127.0.0.1:9/").await;
    let (status, problem) = refusal(&gateway, &path, &[bearer(&other.caller.token)]).await;
    assert_eq!((status, &problem["code"]), (404, &json!("instance_not_found")));
    // An account's stream is its own.
    let mut mine = Socket::connect(&gateway.url, "/v1/stream", &[bearer(&other.caller.token)])
        .await
        .ok()
        .unwrap();
    assert_eq!(mine.document().await["type"], "stream.opened");
    say(&gateway, &tenant.instance, "theirs").await;
    let own = say(&gateway, &other.instance, "own").await;
    assert_eq!(mine.event().await["id"], *own);
}

#[tokio::test]
async fn the_operators_token_is_not_taken_from_a_url_that_others_reach() {
    let gateway = Gateway::start(|config| config.listen = "0.0.0.0:0".parse().unwrap()).await;
    gateway.create_instance("shop").await;
    let url = gateway.url.replace("0.0.0.0", "127.0.0.1");
    let path = format!("{PATH}?token={}", gateway.token());
    let refused = Socket::connect(&url, &path, &[]).await.err().unwrap();
    assert_eq!(refused.0, 401);
    assert!(Socket::connect(&url, PATH, &[bearer(gateway.token())]).await.is_ok());
}

#[tokio::test]
async fn a_ticket_opens_one_connection_soon() {
    let gateway = Gateway::start(|_| {}).await;
    let tenant = Tenant::create(&gateway, "acme", "http://127.0.0.1:9/").await;
    let of_instance = json!({ "instance": tenant.instance });
    let ticket =
        async |body: &Value| text(&tenant.caller.made("/v1/tickets", body, 201).await, "ticket");
    let narrow = ticket(&of_instance).await;
    let path = format!("/v1/instances/{}/stream?ticket={narrow}", tenant.instance);
    let mut socket = Socket::connect(&gateway.url, &path, &[]).await.ok().unwrap();
    assert_eq!(socket.document().await["type"], "stream.opened");
    let (status, problem) = refusal(&gateway, &path, &[]).await;
    assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")));
    // It reaches what it was made for, and no further.
    let narrow = ticket(&of_instance).await;
    let mut socket = Socket::connect(&gateway.url, &format!("/v1/stream?ticket={narrow}"), &[])
        .await
        .ok()
        .unwrap();
    assert_eq!(socket.document().await["type"], "stream.opened");
    let second = tenant.caller.made("/v1/instances", &json!({ "name": "second" }), 201).await;
    say(&gateway, &text(&second, "id"), "x").await;
    let own = say(&gateway, &tenant.instance, "y").await;
    assert_eq!(socket.event().await["id"], *own);
    let late = ticket(&json!({})).await;
    gateway.clock.advance(Duration::from_secs(61));
    assert_eq!(refusal(&gateway, &format!("/v1/stream?ticket={late}"), &[]).await.0, 401);
    // A ticket is no token.
    let fresh = ticket(&json!({})).await;
    let used = gateway.client.get(format!("{}/v1/events", gateway.url)).bearer_auth(&fresh);
    assert_eq!(used.send().await.unwrap().status(), 401);
    let revoke = format!("/v1/accounts/{}/credentials/{}", tenant.account, tenant.credential);
    let revoked = gateway.request(Method::DELETE, &revoke).send().await.unwrap();
    assert!(revoked.status().is_success());
    assert_eq!(refusal(&gateway, &format!("/v1/stream?ticket={fresh}"), &[]).await.0, 401);
}

#[tokio::test]
async fn pages_of_other_origins_are_kept_out_where_that_is_asked_for() {
    let gateway = Gateway::start(|config| {
        config.realtime.origins = vec!["https://app.example.com".to_owned()];
    })
    .await;
    gateway.create_instance("shop").await;
    let from = |origin: &str| vec![bearer(gateway.token()), ("origin", origin.to_owned())];
    let wrong = refusal(&gateway, PATH, &from("https://evil.example.com")).await;
    assert_eq!((wrong.0, &wrong.1["code"]), (403, &json!("forbidden")));
    for headers in [from("https://app.example.com"), vec![bearer(gateway.token())]] {
        assert!(Socket::connect(&gateway.url, PATH, &headers).await.is_ok());
    }
}

#[tokio::test]
async fn there_are_as_many_connections_as_there_may_be() {
    let gateway = Gateway::start(|config| {
        config.realtime.max_connections = 3;
        config.realtime.max_connections_per_account = 2;
    })
    .await;
    let tenant = Tenant::create(&gateway, "acme", "http://127.0.0.1:9/").await;
    let other = Tenant::create(&gateway, "other", "http://127.0.0.1:9/").await;
    let (mine, theirs) = ([bearer(&tenant.caller.token)], [bearer(&other.caller.token)]);
    let one = Socket::connect(&gateway.url, "/v1/stream", &mine).await.ok().unwrap();
    let _two = Socket::connect(&gateway.url, "/v1/stream", &mine).await.ok().unwrap();
    let (status, problem) = refusal(&gateway, "/v1/stream", &mine).await;
    assert_eq!((status, &problem["code"]), (429, &json!("too_many_connections")));
    let _three = Socket::connect(&gateway.url, "/v1/stream", &theirs).await.ok().unwrap();
    assert_eq!(refusal(&gateway, "/v1/stream", &theirs).await.0, 503);
    let metrics = gateway.get("/metrics").await.text().await.unwrap();
    let shown = "zapbus_realtime_connections{protocol=\"websocket\"} 3";
    assert!(metrics.contains(shown), "{metrics}");
    one.close().await;
    eventually("a place is free", async || {
        Socket::connect(&gateway.url, "/v1/stream", &mine).await.ok()
    })
    .await;
}

#[tokio::test]
async fn whoever_does_not_answer_or_may_no_longer_be_there_is_let_go() {
    let gateway = Gateway::start(|config| {
        config.realtime.ping_every_s = 0.3;
        config.realtime.pong_within_s = 0.3;
        config.realtime.max_message_bytes = 1_024;
    })
    .await;
    let tenant = Tenant::create(&gateway, "acme", "http://127.0.0.1:9/").await;
    let headers = [bearer(&tenant.caller.token)];
    // A client that reads answers pings by itself.
    let mut alive = Socket::connect(&gateway.url, "/v1/stream", &headers).await.ok().unwrap();
    assert_eq!(alive.document().await["type"], "stream.opened");
    let silent = Socket::connect(&gateway.url, "/v1/stream", &headers).await.ok().unwrap();
    let reading = tokio::spawn(async move { alive.closed().await });
    eventually("the silent one is gone", async || {
        let metrics = gateway.get("/metrics").await.text().await.unwrap();
        metrics.contains("zapbus_realtime_connections{protocol=\"websocket\"} 1").then_some(())
    })
    .await;
    drop(silent);
    let mut loud = Socket::connect(&gateway.url, "/v1/stream", &headers).await.ok().unwrap();
    loud.say(&json!({ "type": "ack", "id": "x".repeat(2_000) })).await;
    loud.closed().await;
    // A stream without pings shows that it lives.
    let mut events = Events::open(&gateway, "/v1/stream", None).await;
    assert_eq!(events.next().await.unwrap().event, "stream.opened");
    assert!(!reading.is_finished());
    let revoke = format!("/v1/accounts/{}/credentials/{}", tenant.account, tenant.credential);
    let revoked = gateway.request(Method::DELETE, &revoke).send().await.unwrap();
    assert!(revoked.status().is_success());
    let (code, reason) = reading.await.unwrap();
    assert_eq!((code, reason.as_str()), (1008, "the token is not valid any more"));
}

#[tokio::test]
async fn nonsense_is_answered_until_it_is_too_much() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut socket = Socket::open(&gateway, PATH).await;
    assert_eq!(socket.document().await["type"], "stream.opened");
    socket.say(&json!({ "type": "subscribe" })).await;
    assert_eq!(socket.document().await["type"], "stream.error");
    for _ in 0..101 {
        socket.say(&json!("nonsense")).await;
    }
    assert_eq!(socket.closed().await.0, 1008);
    let page = expect_json(gateway.get("/v1/subscribers/sub_nothing").await, 404).await;
    assert_eq!(page["code"], "subscriber_not_found");
}
