//! One destination is away with a backlog behind it; twenty others do not notice.
//!
//! `ZAPBUS_OUTAGE_EVENTS` (5,000) is the length of the backlog.

use std::time::Instant;

use reqwest::Method;
use serde_json::json;

use crate::{
    load::{Api, Target, from_environment, receiver::Reply, start, writers::message},
    others::{self, Others},
};

const EVENTS: usize = 5_000;
const CHATS: usize = 100;
const BATCH: usize = 250;

#[tokio::test(flavor = "multi_thread")]
async fn the_others_keep_their_latency_while_one_is_away() {
    let events = from_environment("ZAPBUS_OUTAGE_EVENTS").map_or(EVENTS, |n| n as usize);
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path()).await;
    let api = Api::new(&gateway.url);
    let others = Others::start(&api).await;

    // Retries as everybody has them: the outage must cost none of them its life.
    let away =
        Target::with("away", "key", json!({ "max_in_flight": 64 }), |_, _| Reply::status(503));
    let away = away.await;
    api.call(Method::POST, "/v1/instances", json!({ "name": "dark" })).await;
    let path = "/v1/instances/dark/destinations";
    let made = api.call(Method::POST, path, away.destination()).await;
    let id = made["id"].as_str().unwrap();

    let healthy = others.median(&api, 0).await;
    let acknowledged = fill(&api, events).await;
    let during = others.median(&api, 1).await;
    let shown = api.read(&format!("/v1/destinations/{id}")).await;
    assert_eq!(shown["status"]["health"], "probing", "{shown}");

    away.script(|_, _| Reply::ok());
    let began = Instant::now();
    let draining = others.median(&api, 2).await;
    away.expect_all(&acknowledged).await;
    println!(
        "{events} events behind an outage, drained in {:?}; median latency of the others: \
         {healthy:?} before, {during:?} during, {draining:?} while it drains",
        began.elapsed()
    );
    away.expect_order(0);
    let dead = api.read("/v1/deliveries?status=dead&limit=10").await;
    assert_eq!(dead["data"], json!([]));
    others::expect_unharmed(
        healthy,
        [("during the outage", during), ("while it drains", draining)],
    );
    gateway.kill().await;
}

/// The destination's backlog, chat by chat in turn.
async fn fill(api: &Api, events: usize) -> Vec<String> {
    let ids: Vec<String> = (0..events).map(|n| format!("c{}-{}", n % CHATS, n / CHATS)).collect();
    for (batch, ids) in ids.chunks(BATCH).enumerate() {
        let events: Vec<_> = ids
            .iter()
            .enumerate()
            .map(|(n, id)| message((batch * BATCH + n) % CHATS, id, 100))
            .collect();
        let answer = api.call(Method::POST, "/v1/instances/dark/events", json!(events)).await;
        let results = answer["results"].as_array().unwrap();
        assert!(results.iter().all(|result| result["seq"].is_u64()), "{answer}");
    }
    ids
}
