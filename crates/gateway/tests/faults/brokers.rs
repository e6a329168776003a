//! A RabbitMQ is killed under load and stays away for a while: nothing is lost, and the lanes beside it
//! do not notice.
//!
//! `ZAPBUS_BROKERS_SECONDS` (3) is how long it is away.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    load::{Api, Target, from_environment, receiver::Reply, start, writers::message},
    node::Node,
    others::{self, Others},
    peers::Python,
};

const AWAY_SECONDS: u64 = 3;
const CHATS: usize = 50;
const BATCH: usize = 20;
/// Between two batches.
const PACE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_under_load_loses_nothing_and_harms_nobody() {
    let away = from_environment("ZAPBUS_BROKERS_SECONDS").unwrap_or(AWAY_SECONDS);
    let away = Duration::from_secs(away);
    let Some(python) = Python::find().await else { return };
    let Some(mut node) = Node::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path()).await;
    let api = Api::new(&gateway.url);
    let others = Others::start(&api).await;

    api.call(Method::POST, "/v1/instances", json!({ "name": "busy" })).await;
    let path = "/v1/instances/busy/destinations";
    let channel = json!({
        "type": "rabbitmq", "uri": node.uri(), "exchange": "busy", "routing_key": "{event}",
        "queue": "all", "queue_type": "classic", "timeout_s": 5,
    });
    let body = json!({ "label": "broker", "channel": channel, "events": ["message.*"] });
    let made = api.call(Method::POST, path, body).await;
    let destination = format!("/v1/destinations/{}", made["id"].as_str().unwrap());
    // The same events, to somebody who is there.
    let neighbour = Target::with("neighbour", "key", json!({}), |_, _| Reply::ok()).await;
    api.call(Method::POST, path, neighbour.destination()).await;

    let load = Load::begin(&gateway.url);
    let healthy = others.median(&api, 0).await;
    let killed = Instant::now();
    node.kill().await;
    health(&api, &destination, "probing").await;
    let during = others.median(&api, 1).await;
    tokio::time::sleep(away.saturating_sub(killed.elapsed())).await;
    node.resume().await;
    let gone = killed.elapsed();
    health(&api, &destination, "flowing").await;
    let draining = others.median(&api, 2).await;
    let acknowledged = load.end().await;

    neighbour.expect_all(&acknowledged).await;
    neighbour.expect_order(0);
    let count = acknowledged.len().to_string();
    let env = [("AMQP_URI", &*node.uri()), ("QUEUE", "all"), ("COUNT", &count)];
    let messages = python.run("consume_rabbitmq.py", &env).await;
    let arrived: HashSet<&str> = messages.iter().filter_map(id_of).collect();
    let lost = acknowledged.iter().filter(|id| !arrived.contains(id.as_str())).count();
    assert_eq!(lost, 0, "of {count}");
    let dead = api.read("/v1/deliveries?status=dead&limit=10").await;
    assert_eq!(dead["data"], json!([]));
    println!(
        "{count} events around a broker that was away for {gone:?}; median latency of the others: \
         {healthy:?} before, {during:?} during, {draining:?} after"
    );
    others::expect_unharmed(healthy, [("while it was away", during), ("afterwards", draining)]);
    gateway.kill().await;
}

/// The id that whoever posted it gave.
fn id_of(message: &Value) -> Option<&str> {
    message["body"]["data"]["message"]["id"].as_str()
}

async fn health(api: &Api, destination: &str, wanted: &str) {
    let started = Instant::now();
    loop {
        let shown = api.read(destination).await;
        if shown["status"]["health"] == wanted {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "not {wanted}: {shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Events that are posted all the time.
struct Load {
    ends: Arc<AtomicBool>,
    task: JoinHandle<Vec<String>>,
}

impl Load {
    fn begin(url: &str) -> Self {
        let (api, ends) = (Api::new(url), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&ends);
        let task = tokio::spawn(async move {
            let mut ids: Vec<String> = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let first = ids.len();
                let numbers = first..first + BATCH;
                ids.extend(numbers.map(|n| format!("c{}-{}", n % CHATS, n / CHATS)));
                let events: Vec<Value> = ids[first..]
                    .iter()
                    .enumerate()
                    .map(|(n, id)| message((first + n) % CHATS, id, 100))
                    .collect();
                let path = "/v1/instances/busy/events";
                let answer = api.call(Method::POST, path, json!(events)).await;
                let results = answer["results"].as_array().unwrap();
                assert!(results.iter().all(|result| result["seq"].is_u64()), "{answer}");
                tokio::time::sleep(PACE).await;
            }
            ids
        });
        Self { ends, task }
    }

    /// All ids, now that there will be no more.
    async fn end(self) -> Vec<String> {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
