//! What every destination has, whatever its channel: a test, health, the log, metrics, retry, replay, and
//! secrets that nobody sees again.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::broker::Broker;
use crate::{
    binary::Served,
    engine::skips_on_postgres,
    server::{ADMIN_TOKEN, Receiver, Reply, eventually, text_message},
};

/// A peer that is there or not, and writes down what comes.
enum Peer {
    Webhook(Receiver),
    Rabbitmq(Broker),
    Sqs(Receiver),
    Pusher(Receiver),
}

impl Peer {
    async fn start(kind: &str) -> Self {
        match kind {
            "webhook" => Self::Webhook(Receiver::start().await),
            "rabbitmq" => Self::Rabbitmq(Broker::start().await),
            "sqs" => Self::Sqs(Receiver::scripted(|request| queue_service(&request.json())).await),
            "pusher" => Self::Pusher(Receiver::start().await),
            other => panic!("{other} is no channel"),
        }
    }

    fn channel(&self) -> Value {
        match self {
            Self::Webhook(receiver) => json!({
                "type": "webhook", "url": receiver.url("/hook"), "authorization": "hunter2",
            }),
            Self::Rabbitmq(broker) => json!({ "type": "rabbitmq", "uri": broker.uri() }),
            Self::Sqs(receiver) => json!({
                "type": "sqs", "region": "us-east-1", "endpoint": receiver.url(""),
                "access_key_id": "AKIAEXAMPLE", "secret_access_key": "hunter2",
            }),
            Self::Pusher(receiver) => {
                let url = receiver.url("");
                let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
                json!({
                    "type": "pusher", "app_id": "1234", "key": "key1", "secret": "hunter2",
                    "host": "127.0.0.1", "port": port, "tls": false,
                })
            }
        }
    }

    /// The bodies of the events that have come, in order.
    fn bodies(&self) -> Vec<Value> {
        let read = |text: &Value| serde_json::from_str(text.as_str().unwrap()).unwrap();
        match self {
            Self::Webhook(receiver) => {
                receiver.received().iter().map(|request| request.json()).collect()
            }
            Self::Rabbitmq(broker) => broker
                .published()
                .iter()
                .map(|message| serde_json::from_slice(&message.body).unwrap())
                .collect(),
            Self::Sqs(receiver) => receiver
                .received()
                .iter()
                .map(|request| request.json())
                .filter_map(|body| body["Entries"].as_array().cloned())
                .flatten()
                .map(|entry| read(&entry["MessageBody"]))
                .collect(),
            Self::Pusher(receiver) => receiver
                .received()
                .iter()
                .map(|request| request.json())
                .flat_map(|body| match body["batch"].as_array() {
                    Some(batch) => batch.clone(),
                    None => vec![body],
                })
                .map(|event| read(&event["data"]))
                .collect(),
        }
    }

    /// How often an event has come.
    fn times(&self, id: &str) -> usize {
        self.bodies().iter().filter(|body| body["id"] == id).count()
    }

    async fn go_away(&mut self) {
        match self {
            Self::Webhook(receiver) | Self::Sqs(receiver) | Self::Pusher(receiver) => {
                receiver.go_down();
            }
            Self::Rabbitmq(broker) => broker.stop().await,
        }
    }

    async fn come_back(&mut self) {
        match self {
            Self::Webhook(receiver) | Self::Sqs(receiver) | Self::Pusher(receiver) => {
                receiver.come_back().await;
            }
            Self::Rabbitmq(broker) => broker.resume().await,
        }
    }
}

/// SQS, as far as senders need it.
fn queue_service(body: &Value) -> Reply {
    let answer = match body["Entries"].as_array() {
        Some(entries) => {
            let taken = |entry: &Value| json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "x" });
            let taken: Vec<Value> = entries.iter().map(taken).collect();
            json!({ "Successful": taken, "Failed": [] })
        }
        None if body["AttributeNames"].is_array() => {
            json!({ "Attributes": { "MaximumMessageSize": "262144" } })
        }
        None => json!({ "QueueUrl": "http://queues.example/1/queue" }),
    };
    let reply = Reply::ok().header("content-type", "application/x-amz-json-1.0");
    reply.body(answer.to_string())
}

/// A gateway as a process of its own, so that its log can be read.
struct Process {
    served: Served,
    folder: tempfile::TempDir,
    client: Client,
}

impl Process {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let served = Served::start(folder.path(), |command| {
            command
                .env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN)
                .env("ZAPBUS_LANES_PROBE_FIRST_S", "0.2")
                .env("ZAPBUS_LANES_PROBE_MAX_S", "0.5");
        })
        .await;
        Self { served, folder, client: Client::new() }
    }

    /// A call that must succeed.
    async fn call(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = self.client.request(method, format!("{}{path}", self.served.url));
        let answer = request.bearer_auth(ADMIN_TOKEN).json(body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    async fn read(&self, path: &str) -> Value {
        self.call(Method::GET, path, &Value::Null).await
    }

    /// Posts events of five chats: their ids.
    async fn post(&self, numbers: std::ops::Range<usize>) -> Vec<String> {
        let events: Vec<Value> = numbers
            .map(|n| text_message(&format!("551199999000{}", n % 5), &format!("m{n}"), "hello"))
            .collect();
        let path = "/v1/instances/shop/events";
        let answer = self.call(Method::POST, path, &json!(events)).await;
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr.log")).unwrap()
    }

    async fn metrics(&self) -> String {
        let request = self.client.get(format!("{}/metrics", self.served.url));
        request.bearer_auth(ADMIN_TOKEN).send().await.unwrap().text().await.unwrap()
    }
}

async fn has_everything(kind: &str) {
    if skips_on_postgres("the gateway is a process of its own") {
        return;
    }
    let mut peer = Peer::start(kind).await;
    let gateway = Process::start().await;
    gateway.call(Method::POST, "/v1/instances", &json!({ "name": "shop" })).await;
    let body = json!({ "label": "all", "channel": peer.channel(), "events": ["message.*"] });
    let made = gateway.call(Method::POST, "/v1/instances/shop/destinations", &body).await;
    assert_eq!(made["channel"]["type"], kind);
    assert!(!made.to_string().contains("hunter2"), "{made}");
    let id = made["id"].as_str().unwrap().to_owned();
    let destination = format!("/v1/destinations/{id}");

    // A test.
    let test = format!("{destination}/test");
    let tested = gateway.call(Method::POST, &test, &json!({})).await;
    assert_eq!(tested["ok"], true, "{tested}");
    assert_eq!(peer.bodies().len(), 1, "the sample has come");

    // The log of deliveries.
    let first = gateway.post(0..5).await;
    let delivered = format!("/v1/deliveries?destination={id}&status=delivered&limit=100");
    let log = eventually("all are delivered", async || {
        let log = gateway.read(&delivered).await["data"].clone();
        (log.as_array().unwrap().len() == 5).then_some(log)
    })
    .await;
    assert!(first.iter().all(|id| peer.times(id) == 1));

    // Health: an outage is told, and nothing dies of it.
    peer.go_away().await;
    let during = gateway.post(5..20).await;
    let status = eventually("it is probed", async || {
        let status = gateway.read(&destination).await["status"].clone();
        (status["health"] == "probing").then_some(status)
    })
    .await;
    assert!(!status["last_error"].as_str().unwrap().is_empty(), "{status}");
    let tested = gateway.call(Method::POST, &test, &json!({})).await;
    assert_eq!(tested["ok"], false, "{tested}");
    peer.come_back().await;
    eventually("it flows again", async || {
        let status = gateway.read(&destination).await["status"].clone();
        (status["health"] == "flowing").then_some(())
    })
    .await;
    eventually("all are delivered in the end", async || {
        let log = gateway.read(&delivered).await;
        (log["data"].as_array().unwrap().len() == 20).then_some(())
    })
    .await;
    assert!(during.iter().all(|id| peer.times(id) >= 1));
    assert_eq!(gateway.read("/v1/deliveries?status=dead").await["data"], json!([]));

    // Retry of one, and replay of all.
    let one = &log[0];
    let (delivery, event) = (one["id"].as_str().unwrap(), one["event_id"].as_str().unwrap());
    let before = peer.times(event);
    gateway.call(Method::POST, &format!("/v1/deliveries/{delivery}/retry"), &json!({})).await;
    eventually("it comes once more", async || (peer.times(event) > before).then_some(())).await;
    let replay = json!({ "from": "beginning", "types": ["message.received"] });
    let run = gateway.call(Method::POST, &format!("{destination}/replay"), &replay).await;
    assert_eq!(run["run"], 1, "{run}");
    eventually("all come once more", async || {
        first.iter().chain(&during).all(|id| peer.times(id) >= 2).then_some(())
    })
    .await;

    // Figures and lines.
    eventually("the figures tell all of it", async || {
        let metrics = gateway.metrics().await;
        let attempts = |outcome: &str| -> Option<f64> {
            let name =
                format!("zapbus_attempts_total{{channel=\"{kind}\",outcome=\"{outcome}\"}} ");
            metrics.lines().find_map(|line| line.strip_prefix(&name))?.parse().ok()
        };
        // Each once, one of them again, all of them again; and five failures until it is probed.
        (attempts("accepted")? >= 41.0 && attempts("retry")? >= 5.0).then_some(())
    })
    .await;
    let lines = gateway.log();
    for event in ["lane.probing", "lane.flowing"] {
        let told = lines.lines().any(|line| line.contains(event) && line.contains(&id));
        assert!(told, "{event}: {lines}");
    }
    for secret in ["hunter2", "hello"] {
        assert!(!lines.contains(secret), "{secret}: {lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_has_everything() {
    has_everything("webhook").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_destination_has_everything() {
    has_everything("rabbitmq").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqs_destination_has_everything() {
    has_everything("sqs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pusher_destination_has_everything() {
    has_everything("pusher").await;
}
