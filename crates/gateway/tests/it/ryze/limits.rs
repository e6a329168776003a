//! So many requests of a token in a minute of the gateway's clock.

use std::time::Duration;

use reqwest::Response;
use serde_json::json;

use super::{Client, done, refusal, refused};
use crate::server::Gateway;

/// A gateway whose minute has just begun.
async fn start(configure: impl FnOnce(&mut zapbus_gateway::config::Config)) -> Gateway {
    let gateway = Gateway::start(configure).await;
    next_minute(&gateway);
    gateway
}

fn next_minute(gateway: &Gateway) {
    let into = u64::try_from(gateway.clock.now().as_secs().rem_euclid(60)).unwrap();
    gateway.clock.advance(Duration::from_secs(60 - into));
}

/// Limit, what is left, and in how many seconds the minute is over.
fn limit(gateway: &Gateway, response: &Response) -> (i64, i64, i64) {
    let number =
        |name: &str| -> i64 { response.headers()[name].to_str().unwrap().parse().unwrap() };
    let over = number("x-ratelimit-reset") - gateway.clock.now().as_secs();
    (number("x-ratelimit-limit"), number("x-ratelimit-remaining"), over)
}

const LIST: &str = "/api/instance/list";

#[tokio::test]
async fn a_hundred_requests_a_minute_and_then_it_is_refused() {
    let gateway = start(|_| {}).await;
    let client = Client::of(&gateway).await;
    let other = Client::of(&gateway).await;
    next_minute(&gateway);
    for left in (0..100).rev() {
        let answer = client.get(LIST).await;
        let (limit, remaining, over) = limit(&gateway, &answer);
        assert_eq!((limit, remaining), (100, left));
        assert!((1..=60).contains(&over), "{over}");
        done(answer, 200).await;
    }
    let answer = client.get(LIST).await;
    assert_eq!(limit(&gateway, &answer).1, 0);
    let wait: i64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(refused(answer, 429).await, "Rate limit exceeded. Try again later.");
    // Everything of that token, and nothing of another.
    for path in ["/api/events/getWebhook/nobody", "/api/message/sendText/x"] {
        let status = client.get(path).await.status();
        assert!([404, 429].contains(&status.as_u16()), "{path}: {status}");
    }
    assert_eq!(limit(&gateway, &other.get(LIST).await).1, 99);
    // Who is nobody spends nothing, and is told what there would be.
    let nobody = gateway.client.get(format!("{}{LIST}", gateway.url)).send().await.unwrap();
    assert_eq!(limit(&gateway, &nobody).1, 100);
    assert_eq!(refused(nobody, 401).await, "Missing token in header");
    let wrong = Client::with(&gateway, "nobody-has-this").get(LIST).await;
    assert_eq!(limit(&gateway, &wrong).1, 100);

    next_minute(&gateway);
    let answer = client.get(LIST).await;
    assert_eq!(limit(&gateway, &answer).1, 99);
    done(answer, 200).await;
    gateway.stop().await;
}

#[tokio::test]
async fn twenty_instances_a_minute() {
    let gateway = start(|_| {}).await;
    let client = Client::of(&gateway).await;
    next_minute(&gateway);
    for n in 0..20 {
        let answer = client.post("/api/instance/new", &json!({ "name": format!("i{n}") })).await;
        let (limit, remaining, _) = limit(&gateway, &answer);
        assert_eq!((limit, remaining), (20, 19 - n));
        done(answer, 201).await;
    }
    let answer = client.post("/api/instance/new", &json!({ "name": "more" })).await;
    assert_eq!(refused(answer, 429).await, "Rate limit exceeded. Try again later.");
    // They were requests too, and the others are not used up.
    let answer = client.get(LIST).await;
    assert_eq!(limit(&gateway, &answer), (100, 78, limit(&gateway, &answer).2));
    let listed = done(answer, 200).await;
    assert_eq!(listed["instances"].as_array().unwrap().len(), 20, "the last one was not made");
    next_minute(&gateway);
    done(client.post("/api/instance/new", &json!({ "name": "more" })).await, 201).await;
    gateway.stop().await;
}

#[tokio::test]
async fn upgrades_count_and_limits_are_set() {
    let gateway = start(|config| {
        config.ryze.requests_per_minute = 4;
        config.ryze.creations_per_minute = 0;
    })
    .await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("shop", json!({ "websocketEnabled": true })).await;
    next_minute(&gateway);
    for _ in 0..3 {
        own.socket("/ws/shop").await.close().await;
    }
    assert_eq!(limit(&gateway, &own.get("/api/events/getWebsocket/shop").await).1, 0);
    let Err((status, body)) = own.connect("/ws/shop").await else { panic!("it was let in") };
    let message = refusal(&body);
    assert_eq!((status, message.as_str()), (429, "Rate limit exceeded. Try again later."));
    // An open one is not a request.
    next_minute(&gateway);
    let mut socket = own.socket("/ws/shop").await;
    for n in 0..9 {
        let event = crate::server::text_message("5511999990001", &format!("m{n}"), "x");
        gateway.post_event("shop", &event).await;
        assert_eq!(socket.document().await["data"]["id"], format!("m{n}"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn nothing_is_said_of_a_limit_that_there_is_not() {
    let gateway = start(|config| config.ryze.requests_per_minute = 0).await;
    let client = Client::of(&gateway).await;
    for _ in 0..120 {
        let answer = client.get(LIST).await;
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("x-ratelimit-limit"));
    }
    gateway.stop().await;
}
