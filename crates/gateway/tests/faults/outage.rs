//! One destination is away with a backlog behind it; twenty others do not notice.
//!
//! `ZAPBUS_OUTAGE_EVENTS` (5,000) is the length of the backlog.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::json;

use crate::load::{Api, Target, from_environment, receiver::Reply, start, writers::message};

const EVENTS: usize = 5_000;
const CHATS: usize = 100;
const BATCH: usize = 250;
const OTHERS: usize = 20;

/// Events posted to the others in each phase.
const PROBES: usize = 60;

/// What makes no difference: timers, the scheduler, a disk sync.
const FLOOR: Duration = Duration::from_millis(25);

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
    for (phase, latency) in [("during the outage", during), ("while it drains", draining)] {
        assert!(latency <= healthy.max(FLOOR) * 10, "{latency:?} {phase}, {healthy:?} before it");
    }
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

/// Destinations that take everything, and when they took it.
struct Others {
    targets: Vec<Target>,
    arrived: Arc<Mutex<HashMap<String, Vec<Instant>>>>,
}

impl Others {
    async fn start(api: &Api) -> Self {
        let arrived: Arc<Mutex<HashMap<String, Vec<Instant>>>> = Arc::default();
        let mut targets = Vec::new();
        for n in 0..OTHERS {
            let arrived = arrived.clone();
            let name: &'static str = format!("other{n}").leak();
            let target = Target::with(name, "key", json!({}), move |request, _| {
                let id = request.json()["data"]["message"]["id"].as_str().unwrap().to_owned();
                arrived.lock().unwrap().entry(id).or_default().push(request.at);
                Reply::ok()
            });
            targets.push(target.await);
        }
        api.set_up(&targets).await;
        Self { targets, arrived }
    }

    /// The median time from a post to its arrival, over all of them.
    async fn median(&self, api: &Api, phase: usize) -> Duration {
        let mut posted = Vec::new();
        for n in 0..PROBES {
            let id = format!("c{}-{}", n % 10, phase * PROBES + n / 10);
            let event = message(n % 10, &id, 100);
            posted.push((id, Instant::now()));
            api.call(Method::POST, "/v1/instances/shop/events", event).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ids: Vec<String> = posted.iter().map(|(id, _)| id.clone()).collect();
        for target in &self.targets {
            target.expect_all(&ids).await;
        }
        let arrived = self.arrived.lock().unwrap();
        let mut latencies: Vec<Duration> = posted
            .iter()
            .flat_map(|(id, at)| arrived[id].iter().map(|arrived| arrived.duration_since(*at)))
            .collect();
        assert_eq!(latencies.len(), PROBES * OTHERS, "each arrives once");
        latencies.sort_unstable();
        latencies[latencies.len() / 2]
    }
}
