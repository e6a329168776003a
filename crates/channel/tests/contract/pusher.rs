//! What only Pusher destinations do, against a server that checks signatures as the official server
//! libraries make them.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::task::JoinSet;
use zapbus_channel::{
    Channel, Config, Message, Opening, Outcome, Report, Scope, Warrant,
    egress::{Allow, Guard},
};

use crate::{
    receiver::{Received, Receiver, Reply},
    rig::{Behaviour, Rig, assert_destination, message, now, send},
};

const SECRET: &str = "hunter2";

pub(crate) struct PusherRig {
    receiver: Receiver,
    opening: Opening,
}

impl Rig for PusherRig {
    async fn start() -> Self {
        Self { receiver: Receiver::start([]).await, opening: at_home() }
    }

    fn config(&self) -> Config {
        config(&self.receiver, json!({"timeout_s": 0.3}))
    }

    fn open(&self) -> Channel {
        Channel::open(&self.config(), &self.opening).unwrap()
    }

    fn next(&self, behaviour: Behaviour) {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";
        let begun = "HTTP/1.1 200 OK\r\ncontent-le";
        self.receiver.next(match behaviour {
            Behaviour::Accept => Reply::with("200 OK", "", "{}"),
            Behaviour::Refuse => Reply::status("400 Bad Request"),
            Behaviour::Throttle => Reply::status("429 Too Many Requests"),
            Behaviour::Hang => Reply::Silence,
            Behaviour::BreakOff => Reply::WriteAndReset(begun.to_owned()),
            Behaviour::Deny => Reply::status("401 Unauthorized"),
            Behaviour::Flood => Reply::Flood(format!("{head}{}", "x".repeat(100_000))),
        });
    }

    fn ids(&self) -> Vec<String> {
        triggered(&self.receiver).iter().map(Trigger::id).collect()
    }

    async fn stop(&mut self) {
        self.receiver.stop().await;
    }

    async fn resume(&mut self) {
        self.receiver.resume().await;
    }
}

/// An event as it was triggered.
#[derive(Debug, Clone)]
struct Trigger {
    channel: String,
    name: String,
    data: String,
}

impl Trigger {
    fn of(event: &Value) -> Self {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        Self { channel: text("channel"), name: text("name"), data: text("data") }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }

    fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }
}

/// Checks a request as a server does, and reads what it triggers.
fn read(request: &Received) -> Result<Vec<Trigger>, &'static str> {
    let (path, query) = request.target.split_once('?').ok_or("no query")?;
    let mut parameters: Vec<(&str, &str)> =
        query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let at = parameters.iter().position(|(name, _)| *name == "auth_signature");
    let (_, signature) = parameters.remove(at.ok_or("no signature")?);
    parameters.sort_unstable();
    let sorted: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{}\n{path}\n{}", request.method, sorted.join("&")).as_bytes());
    if hex::encode(mac.finalize().into_bytes()) != signature {
        return Err("the signature is wrong");
    }
    let of = |name: &str| parameters.iter().find(|(it, _)| *it == name).map(|(_, value)| *value);
    if of("auth_key") != Some("key1") || of("auth_version") != Some("1.0") {
        return Err("the key or the version is wrong");
    }
    if of("body_md5") != Some(hex::encode(Md5::digest(&request.body)).as_str()) {
        return Err("the digest of the body is wrong");
    }
    let sent_at: i64 = of("auth_timestamp").ok_or("no time")?.parse().map_err(|_| "no time")?;
    if (now().as_secs() - sent_at).abs() > 600 {
        return Err("the time is wrong");
    }
    let body: Value = serde_json::from_slice(&request.body).map_err(|_| "no JSON")?;
    match path {
        "/apps/1234/events" => Ok(vec![Trigger::of(&body)]),
        "/apps/1234/batch_events" => {
            let batch = body["batch"].as_array().ok_or("no batch")?;
            if batch.len() > 10 {
                return Err("more than ten events");
            }
            Ok(batch.iter().map(Trigger::of).collect())
        }
        _ => Err("no such path"),
    }
}

fn triggered(receiver: &Receiver) -> Vec<Trigger> {
    receiver.received().iter().flat_map(|request| read(request).unwrap()).collect()
}

/// Loopback is allowed.
fn at_home() -> Opening {
    Opening::new(Arc::new(Guard::new(Allow::default().with_loopback(true))))
        .with_public_url("https://bus.example.com")
}

fn config(receiver: &Receiver, more: Value) -> Config {
    let mut config = json!({
        "type": "pusher", "app_id": "1234", "key": "key1", "secret": SECRET, "timeout_s": 5,
        "host": "127.0.0.1", "port": receiver.address.port(), "tls": false,
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::read(config).unwrap()
}

fn open(receiver: &Receiver, more: Value) -> Channel {
    Channel::open(&config(receiver, more), &at_home()).unwrap()
}

fn large(id: &str, bytes: usize) -> Message {
    let mut message = message(id);
    message.body = json!({"id": id, "text": "é".repeat(bytes / 2)}).to_string().into();
    message
}

fn error(report: &Report) -> &str {
    report.error.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn an_event_is_what_the_documents_say() {
    let receiver = Receiver::start([]).await;
    let channel = open(&receiver, json!({}));
    let message = message("evt_1");
    let report = channel.send(std::slice::from_ref(&message)).await.remove(0);
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert_eq!(report.status, Some(204));
    let request = receiver.received().remove(0);
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("host"), receiver.address.to_string());
    let [event] = read(&request).unwrap().try_into().unwrap();
    assert_eq!((event.channel.as_str(), event.name.as_str()), ("shop", "message.received"));
    assert_eq!(event.data.as_bytes(), message.body);
}

#[tokio::test]
async fn a_wrong_secret_makes_a_wrong_signature() {
    let receiver = Receiver::start([]).await;
    send(&open(&receiver, json!({"secret": "hunter3"})), "evt_1").await;
    assert_eq!(read(&receiver.received()[0]).unwrap_err(), "the signature is wrong");
}

#[tokio::test]
async fn names_follow_the_templates_and_the_rules_of_pusher() {
    let receiver = Receiver::start([]).await;
    let more = json!({"channel": "private-{instance}", "event": "wa:{event_words}"});
    let channel = open(&receiver, more);
    let mut odd = message("evt_1");
    odd.instance_name = "Loja São Paulo #1".into();
    let mut long = message("evt_2");
    long.instance_name = "x".repeat(300).into();
    for message in [odd, long] {
        assert_eq!(channel.send(&[message]).await[0].outcome, Outcome::Accepted);
    }
    let events = triggered(&receiver);
    assert_eq!(events[0].channel, "private-Loja_S_o_Paulo__1");
    assert_eq!(events[0].name, "wa:message_received");
    assert_eq!(events[1].channel.len(), 164);
}

#[tokio::test]
async fn what_is_sent_at_the_same_time_goes_together() {
    let receiver = Receiver::start([]).await;
    let channel = Arc::new(open(&receiver, json!({})));
    let mut sends = JoinSet::new();
    for number in 0..100 {
        let channel = Arc::clone(&channel);
        sends.spawn(async move { send(&channel, &format!("evt_{number}")).await });
    }
    while let Some(report) = sends.join_next().await {
        assert_eq!(report.unwrap().outcome, Outcome::Accepted);
    }
    assert!(receiver.received().len() < 50, "{} requests", receiver.received().len());
    let mut ids: Vec<String> = triggered(&receiver).iter().map(Trigger::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 100);
}

#[tokio::test]
async fn one_that_is_refused_in_a_batch_is_found() {
    let receiver = Receiver::start_answering(|request| {
        match request.body.windows(6).any(|bytes| bytes == b"evt_13") {
            true => Reply::status("413 Payload Too Large"),
            false => Reply::status("200 OK"),
        }
    })
    .await;
    let channel = Arc::new(open(&receiver, json!({})));
    let mut sends = JoinSet::new();
    for number in 10..50 {
        let channel = Arc::clone(&channel);
        let id = format!("evt_{number}");
        sends.spawn(async move { (send(&channel, &id).await, id) });
    }
    while let Some(sent) = sends.join_next().await {
        let (report, id) = sent.unwrap();
        match id.as_str() {
            "evt_13" => assert_eq!(report.outcome, Outcome::Refused),
            _ => assert_eq!(report.outcome, Outcome::Accepted, "{id}: {report:?}"),
        }
    }
    let requests = receiver.received();
    let holds_it =
        |request: &&Received| read(request).unwrap().iter().any(|it| it.id() == "evt_13");
    let asked: Vec<usize> =
        requests.iter().filter(holds_it).map(|request| read(request).unwrap().len()).collect();
    assert_eq!(asked.last(), Some(&1), "by itself in the end: {asked:?}");
    assert!(requests.len() < 40, "{} requests", requests.len());
}

#[tokio::test]
async fn a_pointer_goes_in_place_of_what_is_too_large() {
    let receiver = Receiver::start([]).await;
    let channel = open(&receiver, json!({}));
    let fits = large("evt_1", 10_000);
    let over = large("evt_2.1", 10_300);
    for message in [&fits, &over] {
        let report = channel.send(std::slice::from_ref(message)).await.remove(0);
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    }
    let events = triggered(&receiver);
    assert_eq!(events[0].data.as_bytes(), fits.body);
    assert_eq!((events[1].channel.as_str(), events[1].name.as_str()), ("shop", "message.received"));
    let expected = json!({
        "pointer": true, "event": "message.received", "instance": "shop", "event_id": "evt_2",
        "url": "https://bus.example.com/v1/events/evt_2", "bytes": over.body.len(),
    });
    assert_eq!(events[1].json(), expected);

    // A server of one's own may take more, and an event may be refused instead.
    let more = json!({"max_bytes": 20_000});
    let report = open(&receiver, more).send(std::slice::from_ref(&over)).await.remove(0);
    assert_eq!(report.outcome, Outcome::Accepted);
    assert_eq!(triggered(&receiver)[2].data.as_bytes(), over.body);
    let refusing = open(&receiver, json!({"oversize": "refuse"}));
    let report = refusing.send(&[over]).await.remove(0);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(error(&report).contains("the app takes 10240"), "{report:?}");
    assert_eq!(receiver.received().len(), 3);
}

#[tokio::test]
async fn what_concerns_the_app_and_what_concerns_the_event_are_told_apart() {
    let receiver = Receiver::start([]).await;
    let channel = open(&receiver, json!({}));
    for (status, outcome, words) in [
        ("401 Unauthorized", Outcome::Retry { after: None, scope: Scope::Destination }, "`secret`"),
        ("403 Forbidden", Outcome::Retry { after: None, scope: Scope::Destination }, "quota"),
        ("404 Not Found", Outcome::Retry { after: None, scope: Scope::Destination }, "`app_id`"),
        (
            "405 Method Not Allowed",
            Outcome::Retry { after: None, scope: Scope::Destination },
            "`path`",
        ),
        ("410 Gone", Outcome::Retry { after: None, scope: Scope::Destination }, "`app_id`"),
        ("418 I'm a teapot", Outcome::Retry { after: None, scope: Scope::Destination }, "2xx"),
        ("302 Found", Outcome::Retry { after: None, scope: Scope::Destination }, "redirects"),
        ("413 Payload Too Large", Outcome::Refused, "`max_bytes`"),
        ("400 Bad Request", Outcome::Refused, "does not take"),
    ] {
        receiver.next(Reply::status(status));
        let report = send(&channel, "evt_1").await;
        assert_eq!(report.outcome, outcome, "{status}");
        assert!(error(&report).contains(words), "{report:?}");
        assert!(!format!("{report:?}").contains("auth_signature"), "{report:?}");
    }
    receiver.next(Reply::with("429 Too Many Requests", "retry-after: 7\r\n", ""));
    let report = send(&channel, "evt_1").await;
    let after = Some(std::time::Duration::from_secs(7));
    assert_eq!(report.outcome, Outcome::Retry { after, scope: Scope::Destination });
}

#[tokio::test]
async fn nothing_goes_without_the_right_to_send() {
    let receiver = Receiver::start([]).await;
    let channel = open(&receiver, json!({}));
    let mut message = message("evt_1");
    message.warrant = Some(Warrant::new(|| false));
    assert_eq!(channel.send(&[message]).await[0].outcome, Outcome::Withheld);
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn the_guard_is_asked_at_every_connection() {
    let receiver = Receiver::start([]).await;
    let guard = Arc::new(Guard::new(Allow::default()));
    let channel =
        Channel::open(&config(&receiver, json!({})), &Opening::new(Arc::clone(&guard))).unwrap();
    let report = send(&channel, "evt_1").await;
    assert_destination(&report);
    assert!(error(&report).ends_with("ZAPBUS_EGRESS_ALLOW=127.0.0.1/32"), "{report:?}");
    assert_eq!(receiver.connections(), 0);
}
