//! What only webhooks do, against receivers on raw sockets.

mod answers;
mod connections;
mod ways;

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use zapbus_channel::{
    Channel, Config, MASK, Message, Opening, Outcome, Scope, Warrant,
    egress::{Allow, Guard, Resolver, Resolving},
};
use zapbus_event::Timestamp;

use crate::{
    proxy::TunnelProxy,
    receiver::{Authority, Receiver, Reply},
    rig::{Behaviour, Rig, assert_destination, message, now, send},
};

pub(crate) struct WebhookRig {
    receiver: Receiver,
    opening: Opening,
}

impl Rig for WebhookRig {
    async fn start() -> Self {
        Self { receiver: Receiver::start([]).await, opening: at_home() }
    }

    fn config(&self) -> Config {
        config(
            &self.receiver.url("/hook"),
            json!({"authorization": "Bearer hunter2", "timeout_s": 0.3}),
        )
    }

    fn open(&self) -> Channel {
        Channel::open(&self.config(), &self.opening).unwrap()
    }

    fn next(&self, behaviour: Behaviour) {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";
        let begun = "HTTP/1.1 200 OK\r\ncontent-le";
        self.receiver.next(match behaviour {
            Behaviour::Accept => Reply::status("204 No Content"),
            Behaviour::Refuse => Reply::status("422 Unprocessable Content"),
            Behaviour::Throttle => Reply::status("429 Too Many Requests"),
            Behaviour::Hang => Reply::Silence,
            Behaviour::BreakOff => Reply::WriteAndReset(begun.to_owned()),
            Behaviour::Deny => Reply::status("401 Unauthorized"),
            Behaviour::Flood => Reply::Flood(format!("{head}{}", "x".repeat(100_000))),
        });
    }

    fn ids(&self) -> Vec<String> {
        ids(&self.receiver)
    }

    async fn stop(&mut self) {
        self.receiver.stop().await;
    }

    async fn resume(&mut self) {
        self.receiver.resume().await;
    }
}

fn ids(receiver: &Receiver) -> Vec<String> {
    let received = receiver.received();
    received.iter().map(|request| request.header("webhook-id").to_owned()).collect()
}

/// Loopback is allowed.
fn at_home() -> Opening {
    Opening::new(Arc::new(Guard::new(Allow::default().with_loopback(true))))
}

fn config(url: &str, more: Value) -> Config {
    let mut config = json!({"type": "webhook", "url": url, "timeout_s": 5});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::read(config).unwrap().with_defaults()
}

fn open(url: &str, more: Value) -> Channel {
    Channel::open(&config(url, more), &at_home()).unwrap()
}

fn retry(scope: Scope) -> Outcome {
    Outcome::Retry { after: None, scope }
}

/// Names lead to 127.0.0.1, or in turn to what is listed.
#[derive(Clone, Default)]
struct Names {
    asked: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        self.asked.lock().unwrap().push(name.to_owned());
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or("127.0.0.1");
        Box::pin(async { Ok::<Vec<IpAddr>, io::Error>(vec![answer.parse().unwrap()]) })
    }
}

impl Names {
    fn opening(&self, allow: &str) -> Opening {
        Opening::new(Arc::new(Guard::with_resolver(allow.parse().unwrap(), self.clone())))
    }
}

#[tokio::test]
async fn a_request_is_what_the_documents_say() {
    let receiver = Receiver::start([]).await;
    let channel = open(
        &receiver.url("/hook?a=b"),
        json!({"headers": {"X-Tenant": "acme"}, "authorization": "Bearer t"}),
    );
    let mut message = message("evt_1.2");
    message.replay = Some("run_7".to_owned());
    let report = channel.send(std::slice::from_ref(&message)).await.remove(0);
    assert_eq!(report.outcome, Outcome::Accepted);
    assert_eq!(report.status, Some(204));
    assert!(report.request_headers.is_empty() && report.response_headers.is_empty());

    let [request] = receiver.received().try_into().unwrap();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/hook?a=b"));
    assert_eq!(request.body, message.body);
    let expected = [
        ("host", receiver.address.to_string()),
        ("content-type", "application/json".to_owned()),
        ("user-agent", format!("zapbus/{}", env!("CARGO_PKG_VERSION"))),
        ("webhook-id", "evt_1.2".to_owned()),
        ("webhook-timestamp", message.timestamp.as_secs().to_string()),
        ("zapbus-event", "message.received".to_owned()),
        ("zapbus-hops", "1".to_owned()),
        ("zapbus-replay", "run_7".to_owned()),
        ("x-tenant", "acme".to_owned()),
        ("authorization", "Bearer t".to_owned()),
        ("content-length", message.body.len().to_string()),
    ];
    for (name, value) in &expected {
        assert_eq!(request.header(name), value, "{name}");
    }
    // And `webhook-signature`; a message that is no replay does not say so.
    assert_eq!(request.headers.len(), expected.len() + 1, "{:?}", request.headers);
    send(&channel, "evt_2").await;
    assert!(!receiver.received()[1].headers.contains_key("zapbus-replay"));
}

#[tokio::test]
async fn a_header_may_replace_the_content_type() {
    let receiver = Receiver::start([]).await;
    let channel =
        open(&receiver.url("/"), json!({"headers": {"Content-Type": "application/x-acme+json"}}));
    send(&channel, "evt_1").await;
    let request = receiver.received().remove(0);
    assert_eq!(request.headers.get_all("content-type").iter().count(), 1);
    assert_eq!(request.header("content-type"), "application/x-acme+json");
}

#[tokio::test]
async fn the_official_library_takes_the_signature() {
    let receiver = Receiver::start([]).await;
    let config = config(&receiver.url("/"), json!({}));
    let channel = Channel::open(&config, &at_home()).unwrap();
    send(&channel, "evt_1").await;
    let request = receiver.received().remove(0);
    let official = Webhook::new(&config.signing_secret().unwrap()).unwrap();
    official.verify(&request.body, &request.headers).unwrap();
    assert!(official.verify(b"{}", &request.headers).is_err());
}

#[tokio::test]
async fn both_secrets_sign_while_they_overlap() {
    let receiver = Receiver::start([]).await;
    let mut config = config(&receiver.url("/"), json!({}));
    let old = config.signing_secret().unwrap();
    let new = config.rotate_secret(now(), Duration::from_secs(3600)).unwrap();
    assert_ne!(old, new);
    let channel = Channel::open(&config, &at_home()).unwrap();
    send(&channel, "evt_1").await;
    let request = receiver.received().remove(0);
    assert_eq!(request.header("webhook-signature").split(' ').count(), 2);
    for secret in [&old, &new] {
        Webhook::new(secret).unwrap().verify(&request.body, &request.headers).unwrap();
    }

    // An hour later the old one signs no more.
    let mut later = message("evt_2");
    later.timestamp = Timestamp::from_millis(now().as_millis() + 3_601_000);
    channel.send(&[later]).await;
    let signature = receiver.received()[1].header("webhook-signature").to_owned();
    assert_eq!(signature.split(' ').count(), 1);
}

#[tokio::test]
async fn what_may_not_be_sent_any_more_is_not() {
    let receiver = Receiver::start([]).await;
    let channel = open(&receiver.url("/"), json!({}));
    let (asked, holds) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let warrant = {
        let (asked, holds) = (asked.clone(), holds.clone());
        Warrant::new(move || {
            asked.fetch_add(1, Ordering::SeqCst);
            holds.load(Ordering::SeqCst)
        })
    };
    let warranted = |id| Message { warrant: Some(warrant.clone()), ..message(id) };
    let report = channel.send(&[warranted("evt_1")]).await.remove(0);
    assert_eq!((report.outcome, asked.load(Ordering::SeqCst)), (Outcome::Accepted, 1));
    holds.store(false, Ordering::SeqCst);
    let report = channel.send(&[warranted("evt_2")]).await.remove(0);
    assert_eq!(report.outcome, Outcome::Withheld);
    assert!(report.error.unwrap().contains("not sent"));

    // Nor is it repeated on a fresh connection, when the one at hand dies without an answer.
    holds.store(true, Ordering::SeqCst);
    channel.send(&[warranted("evt_3")]).await;
    receiver.next(Reply::WriteAndReset(String::new()));
    let last = Warrant::new({
        let times = AtomicUsize::new(0);
        move || times.fetch_add(1, Ordering::SeqCst) == 0
    });
    let report = channel.send(&[Message { warrant: Some(last), ..message("evt_4") }]).await;
    assert_eq!(report[0].outcome, Outcome::Withheld, "{report:?}");
    assert_eq!(ids(&receiver), ["evt_1", "evt_3", "evt_4"], "it was sent once");
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_test_sees_by_what_right_it_is_sent_to() {
    let receiver = Receiver::start([]).await;
    let channel = open(&receiver.url("/"), json!({}));
    let warrant = Warrant::new(|| true).shown_as("3/7/ab12");
    channel.send(&[Message { warrant: Some(warrant), ..message("evt_1") }]).await;
    channel.send(&[message("evt_2")]).await;
    let received = receiver.received();
    let shown = received[0].header("zapbus-test-lease");
    let (right, looked_at) = shown.rsplit_once('/').unwrap();
    assert_eq!(right, "3/7/ab12");
    assert!(looked_at.parse::<u64>().unwrap() > 0, "{shown}");
    assert!(!received[1].headers.contains_key("zapbus-test-lease"));
}

#[tokio::test]
async fn the_name_of_the_event_stands_before_the_query() {
    let receiver = Receiver::start([]).await;
    let channel = open(&receiver.url("/hook?key=1"), json!({"by_events": true}));
    let mut message = message("evt_1");
    send(&channel, "evt_1").await;
    message.event_name = "messages/upsert".to_owned();
    channel.send(&[message]).await;
    let targets: Vec<String> =
        receiver.received().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/hook/message.received?key=1", "/hook/messages%2Fupsert?key=1"]);
}

#[tokio::test]
async fn the_log_shows_no_secret() {
    let reply = Reply::with(
        "500 Internal Server Error",
        "set-cookie: sid=hunter2\r\nx-request-id: r1\r\n",
        "oops",
    );
    let receiver = Receiver::start([reply]).await;
    let channel = open(
        &receiver.url("/"),
        json!({
            "authorization": "Bearer hunter2",
            "headers": {
                "apikey": "hunter2", "Token": "hunter2", "Cookie": "hunter2", "X-Api-Key": "hunter2",
                "X-Client-Secret": "hunter2", "X-Auth": "hunter2", "X-Password": "hunter2",
                "X-Tenant": "acme",
            },
        }),
    );
    let report = send(&channel, "evt_1").await;
    assert_eq!(receiver.received()[0].header("x-api-key"), "hunter2");
    assert!(!format!("{report:?}").contains("hunter2"), "{report:?}");
    let shown = |name: &str| {
        let headers = report.request_headers.iter().chain(&report.response_headers);
        headers.clone().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    };
    for name in ["authorization", "apikey", "token", "cookie", "x-auth", "set-cookie"] {
        assert_eq!(shown(name), Some(MASK), "{name}");
    }
    assert_eq!(shown("x-tenant"), Some("acme"));
    assert_eq!(shown("x-request-id"), Some("r1"));
    assert!(shown("webhook-signature").unwrap().starts_with("v1,"));
    assert_eq!(report.excerpt, "oops");
}

#[tokio::test]
async fn what_http_cannot_carry_is_refused() {
    let receiver = Receiver::start([]).await;
    let channel = open(&receiver.url("/"), json!({}));
    let mut message = message("evt_1");
    message.event_name = "two\r\nlines".to_owned();
    let report = channel.send(&[message]).await.remove(0);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.error.unwrap().contains("cannot be written"));
    assert!(receiver.received().is_empty());
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
}

#[tokio::test]
async fn a_config_with_faults_is_not_opened() {
    let without_secret = Config::read(json!({"type": "webhook", "url": "https://e.com"})).unwrap();
    let error = Channel::open(&without_secret, &at_home()).unwrap_err();
    assert_eq!(error.faults[0].path, "secret");
    let wrong = config("https://e.com", json!({"headers": {"host": "x"}, "timeout_s": 0}));
    let error = Channel::open(&wrong, &at_home()).unwrap_err();
    assert_eq!(error.faults.len(), 2, "{error}");
}
