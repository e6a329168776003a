//! What the stories about lanes share: impatient lanes, many events, looking at a destination.

use std::{collections::HashMap, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use zapbus_gateway::config::Config;

use crate::{
    api::text,
    receiver::Received,
    server::{Gateway, eventually, expect_json, merge, text_message},
};

/// Probes after milliseconds, and lanes that rest soon: what a story waits for takes no minutes.
pub(crate) fn impatient(config: &mut Config) {
    config.lanes.probe_first_s = 0.05;
    config.lanes.probe_max_s = 0.2;
    config.lanes.linger_s = 0.05;
}

/// A gateway with impatient lanes and the instance `shop`.
pub(crate) async fn start() -> Gateway {
    let gateway = Gateway::start(impatient).await;
    gateway.create_instance("shop").await;
    gateway
}

/// A webhook of `shop` that takes messages and retries after 50 ms, thirty times; `more` is merged
/// into it. Returns its id.
pub(crate) async fn hook(gateway: &Gateway, url: &str, more: Value) -> String {
    let mut body = json!({
        "events": ["message.*"],
        "retry": { "waits_s": [0.05], "max_attempts": 30 },
    });
    merge(&mut body, more);
    text(&gateway.create_webhook("shop", url, body).await, "id")
}

/// Posts messages to `shop` in one request: `(chat, id)`. Returns their results.
pub(crate) async fn post(gateway: &Gateway, messages: &[(&str, &str)]) -> Vec<Value> {
    let batch: Vec<Value> = messages.iter().map(|(chat, id)| text_message(chat, id, "x")).collect();
    let path = "/v1/instances/shop/events";
    let answer = expect_json(gateway.post(path, &json!(batch)).await, 200).await;
    answer["results"].as_array().unwrap().clone()
}

/// Posts `count` messages over `chats` chats in turn; ids are `<chat>-<number>`, counted per chat.
pub(crate) async fn post_many(gateway: &Gateway, chats: usize, count: usize) {
    let ids: Vec<(String, String)> = (0..count)
        .map(|n| (format!("{}", n % chats), format!("{}-{:04}", n % chats, n / chats)))
        .collect();
    let messages: Vec<(&str, &str)> = ids.iter().map(|(c, id)| (c.as_str(), id.as_str())).collect();
    post(gateway, &messages).await;
}

/// The ids that the events were posted with, in the order of arrival.
pub(crate) fn ids(received: &[Received]) -> Vec<String> {
    received.iter().map(client_id).collect()
}

/// The id that an event was posted with.
pub(crate) fn client_id(received: &Received) -> String {
    received.json()["client_id"].as_str().unwrap_or_default().to_owned()
}

/// The ids of one chat in the order in which each of them came first.
pub(crate) fn first_arrivals(received: &[Received], chat: &str) -> Vec<String> {
    let mut first = Vec::new();
    for id in ids(received) {
        if id.split('-').next() == Some(chat) && !first.contains(&id) {
            first.push(id);
        }
    }
    first
}

/// Fails unless each of `chats` chats brought `each` different messages, first arrivals in order.
pub(crate) fn expect_chats_in_order(received: &[Received], chats: usize, each: usize) {
    for chat in 0..chats {
        let expected: Vec<String> = (0..each).map(|n| format!("{chat}-{n:04}")).collect();
        assert_eq!(first_arrivals(received, &chat.to_string()), expected);
    }
}

/// How often each id arrived.
pub(crate) fn arrivals(received: &[Received]) -> HashMap<String, usize> {
    let mut count = HashMap::new();
    for id in ids(received) {
        *count.entry(id).or_default() += 1;
    }
    count
}

/// The most requests that were under way at one time, if each was answered `after` it had arrived.
pub(crate) fn most_at_once(received: &[Received], after: Duration) -> usize {
    let under_way = |at| received.iter().filter(|it| it.at <= at && at < it.at + after).count();
    received.iter().map(|it| under_way(it.at)).max().unwrap_or(0)
}

/// `GET` of a destination.
pub(crate) async fn shown(gateway: &Gateway, id: &str) -> Value {
    gateway.read(&format!("/v1/destinations/{id}")).await
}

/// Waits until a destination is shown as `done` wants it.
pub(crate) async fn shows(
    gateway: &Gateway,
    id: &str,
    what: &str,
    done: impl Fn(&Value) -> bool,
) -> Value {
    eventually(what, async || {
        let shown = shown(gateway, id).await;
        done(&shown).then_some(shown)
    })
    .await
}

/// Waits until a destination probes, or flows again.
pub(crate) async fn is(gateway: &Gateway, id: &str, health: &str) -> Value {
    shows(gateway, id, health, |it| it["status"]["health"] == health).await
}

/// Waits until `count` deliveries of a destination have the status.
pub(crate) async fn has(gateway: &Gateway, id: &str, status: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} {status}"), async || {
        let found = deliveries(gateway, &format!("destination={id}&status={status}")).await;
        (found.len() == count).then_some(found)
    })
    .await
}

/// The deliveries that match, up to a thousand.
pub(crate) async fn deliveries(gateway: &Gateway, query: &str) -> Vec<Value> {
    let page = gateway.read(&format!("/v1/deliveries?{query}&limit=1000")).await;
    page["data"].as_array().unwrap().clone()
}

/// `POST /v1/destinations/{id}/{verb}`, which must succeed.
pub(crate) async fn act(gateway: &Gateway, id: &str, verb: &str, body: Value) -> Value {
    expect_json(gateway.post(&format!("/v1/destinations/{id}/{verb}"), &body).await, 200).await
}

/// `PATCH /v1/destinations/{id}`, which must succeed.
pub(crate) async fn change(gateway: &Gateway, id: &str, body: Value) -> Value {
    let request = gateway.request(Method::PATCH, &format!("/v1/destinations/{id}"));
    expect_json(request.json(&body).send().await.unwrap(), 200).await
}

/// Sends one delivery again by hand.
pub(crate) async fn redeliver(gateway: &Gateway, delivery: &Value) {
    let path = format!("/v1/deliveries/{}/retry", text(delivery, "id"));
    expect_json(gateway.post(&path, &json!({})).await, 202).await;
}

/// An event of this type with the data of the catalog's sample.
pub(crate) async fn sample(gateway: &Gateway, kind: &str) -> Value {
    let types = gateway.read("/v1/event-types").await;
    let types = types["data"].as_array().unwrap();
    let found = types.iter().find(|it| it["type"] == kind).unwrap();
    json!({ "type": kind, "data": found["samples"]["native"][0]["body"]["data"] })
}
