//! What only webhooks do, against receivers on raw sockets.

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
async fn every_answer_has_its_outcome() {
    let soon = httpdate(now().as_secs() + 100);
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let after = |after, scope| Outcome::Retry { after, scope };
    let table = [
        (Reply::with("200 OK", "", "thanks"), Outcome::Accepted),
        (Reply::status("204 No Content"), Outcome::Accepted),
        (Reply::status("500 Internal Server Error"), retry(Scope::Event)),
        (
            Reply::with("503 Service Unavailable", "retry-after: 7\r\n", ""),
            after(seconds(7), Scope::Destination),
        ),
        (
            Reply::with("429 Too Many Requests", "retry-after: 86400\r\n", ""),
            after(seconds(3600), Scope::Destination),
        ),
        (Reply::status("410 Gone"), Outcome::Gone),
        (Reply::status("404 Not Found"), retry(Scope::Destination)),
        (Reply::status("400 Bad Request"), retry(Scope::Event)),
        // The receiver answers before the body is complete.
        (
            Reply::Write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()),
            Outcome::Accepted,
        ),
        (
            Reply::Write("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".into()),
            Outcome::Accepted,
        ),
    ];
    let receiver = Receiver::start(table.iter().map(|(reply, _)| reply.clone())).await;
    let channel = open(&receiver.url("/"), json!({}));
    for (reply, outcome) in table {
        let report = send(&channel, "evt_1").await;
        assert_eq!(report.outcome, outcome, "{reply:?}: {report:?}");
        assert_eq!(report.error.is_none(), outcome == Outcome::Accepted, "{report:?}");
    }
    assert_eq!(receiver.connections(), 1, "all of them leave the connection in order");

    receiver.next(Reply::with("503 Service Unavailable", &format!("retry-after: {soon}\r\n"), ""));
    let Outcome::Retry { after: Some(after), .. } = send(&channel, "evt_1").await.outcome else {
        panic!("a date counts")
    };
    assert!((95..=100).contains(&after.as_secs()), "{after:?}");
}

fn httpdate(seconds: i64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
    httpdate::fmt_http_date(time)
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start([]).await;
    for status in
        ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        // Also not to an address that the guard would refuse.
        for location in [elsewhere.url("/"), "http://169.254.169.254/".to_owned()] {
            let reply = Reply::with(status, &format!("location: {location}\r\n"), "");
            let receiver = Receiver::start([reply]).await;
            let report = send(&open(&receiver.url("/"), json!({})), "evt_1").await;
            assert_eq!(report.outcome, retry(Scope::Event));
            assert!(report.error.unwrap().contains("redirects are not followed"));
            assert_eq!(receiver.received().len(), 1);
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn what_is_no_http_is_an_error_and_no_panic() {
    let many = "x-a: b\r\n".repeat(200);
    let long = format!("x-a: {}\r\n", "b".repeat(300_000));
    for text in [
        "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
        "\0\0\0\0\u{1}\u{2}\u{3}".to_owned(),
        "HTTP/1.1 abc OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(),
        "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        "HTTP/1.1 500 No\r\ncontent-length: 10\r\n\r\nabc".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n".to_owned(),
        "HTTP/1.1 200".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
        format!("HTTP/1.1 200 OK\r\n{long}\r\n"),
    ] {
        let receiver = Receiver::start([Reply::WriteAndClose(text.clone())]).await;
        let channel = open(&receiver.url("/"), json!({}));
        let report = send(&channel, "evt_1").await;
        let start = text.get(..80).unwrap_or(&text);
        assert_ne!(report.outcome, Outcome::Accepted, "{start:?}");
        assert_destination(&report);
        assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted, "{start:?}");
        assert_eq!(ids(&receiver), ["evt_1", "evt_2"], "a fresh connection is not repeated on");
    }
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
async fn an_error_that_breaks_off_is_one_of_the_destination() {
    let head = "HTTP/1.1 500 No\r\ncontent-length: 10\r\n\r\nabc".to_owned();
    let receiver = Receiver::start([Reply::WriteAndReset(head)]).await;
    let report = send(&open(&receiver.url("/"), json!({})), "evt_1").await;
    assert_destination(&report);
    assert_eq!(report.status, Some(500));
    assert!(report.error.unwrap().starts_with("the answer broke off after 500"));
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn what_was_accepted_stays_so_whatever_becomes_of_the_rest_of_the_answer() {
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}");
    for reply in [
        // Its `content-length` is wrong.
        Reply::WriteAndClose(head("content-length: 10\r\n\r\nabc")),
        Reply::WriteAndReset(head("content-length: 10\r\n\r\n")),
        Reply::WriteAndClose(head("transfer-encoding: chunked\r\n\r\nzz\r\n")),
        // It holds its answer open.
        Reply::Write(head("content-length: 10\r\n\r\nabc")),
        Reply::Drip(head("content-length: 60000\r\n\r\n")),
        Reply::Drip(head("transfer-encoding: chunked\r\n\r\n")),
    ] {
        // Once within the time-out, once beyond it.
        for (timeout_s, most) in [(10.0, 5), (0.2, 1)] {
            let receiver = Receiver::start([reply.clone()]).await;
            let channel = open(&receiver.url("/"), json!({"timeout_s": timeout_s}));
            let report = send(&channel, "evt_1").await;
            assert_eq!(report.outcome, Outcome::Accepted, "{reply:?}: {report:?}");
            assert_eq!((report.status, report.error), (Some(200), None), "{reply:?}");
            assert!(report.latency < Duration::from_secs(most), "{reply:?}: nobody waits for it");
            // The connection is not used again, so that the receiver notices.
            assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted, "{reply:?}");
            assert_eq!(ids(&receiver), ["evt_1", "evt_2"], "{reply:?}");
            assert_eq!(receiver.connections(), 2, "{reply:?}");
            receiver.closed(1).await;
        }
    }
}

#[tokio::test]
async fn the_time_out_covers_the_whole_answer() {
    let silent = Reply::Silence;
    let dripping_head = Reply::Drip("HTTP/1.1 200 OK\r\nx-slow: ".to_owned());
    let dripping_body = Reply::Drip("HTTP/1.1 500 No\r\ncontent-length: 60000\r\n\r\n".to_owned());
    for (reply, status, error) in [
        (silent, None, "no answer within 0.2 s"),
        (dripping_head, None, "no answer within 0.2 s"),
        (dripping_body, Some(500), "the answer did not end within 0.2 s"),
    ] {
        let receiver = Receiver::start([reply]).await;
        let report = send(&open(&receiver.url("/"), json!({"timeout_s": 0.2})), "evt_1").await;
        assert_destination(&report);
        assert_eq!(report.status, status);
        assert!(report.error.as_ref().unwrap().starts_with(error), "{report:?}");
        // We hang up, so that the receiver notices.
        receiver.closed(1).await;
    }
}

#[tokio::test]
async fn the_default_time_out_is_the_openings() {
    let receiver = Receiver::start([Reply::Silence]).await;
    let config = json!({"type": "webhook", "url": receiver.url("/")});
    let config = Config::read(config).unwrap().with_defaults();
    let opening = at_home().with_timeout(Duration::from_millis(100));
    let channel = Channel::open(&config, &opening).unwrap();
    let report = send(&channel, "evt_1").await;
    assert!(report.error.unwrap().starts_with("no answer within 0.1 s"));
}

#[tokio::test]
async fn a_huge_body_is_read_only_in_part() {
    let body = "0123456789".repeat(20_000);
    let accepted = Reply::with("200 OK", "", &body);
    let failed = Reply::with("500 Internal Server Error", "", &body);
    let drained = Reply::with("500 Internal Server Error", "", &body[..60_000]);
    let receiver = Receiver::start([accepted, failed, drained]).await;
    let channel = open(&receiver.url("/"), json!({}));
    let report = send(&channel, "evt_1").await;
    assert_eq!((report.outcome, report.excerpt.len()), (Outcome::Accepted, 256));
    let report = send(&channel, "evt_2").await;
    assert_eq!((report.outcome, report.excerpt.len()), (retry(Scope::Event), 4096));
    assert_eq!(report.excerpt, &body.as_bytes()[..4096]);
    // What is short enough is read to its end, and the connection used again.
    assert_eq!(send(&channel, "evt_3").await.excerpt.len(), 4096);
    send(&channel, "evt_4").await;
    let connections: Vec<usize> =
        receiver.received().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 1, 2, 2]);
}

#[tokio::test]
async fn connections_are_used_again() {
    let receiver = Receiver::start([]).await;
    let opening = at_home();
    let channel =
        |path: &str| Channel::open(&config(&receiver.url(path), json!({})), &opening).unwrap();
    // Two destinations at one host share them.
    let (a, b) = (channel("/a"), channel("/b"));
    for round in 0..5 {
        send(&a, &format!("evt_a{round}")).await;
        send(&b, &format!("evt_b{round}")).await;
    }
    assert_eq!(receiver.received().len(), 10);
    assert_eq!(receiver.connections(), 1);
    // At the same time, each has its own; both stay.
    tokio::join!(send(&a, "evt_c"), send(&b, "evt_d"));
    tokio::join!(send(&a, "evt_e"), send(&b, "evt_f"));
    assert_eq!(receiver.connections(), 2);
    // Other identities do not share.
    let other = config(&receiver.url("/"), json!({"ca_pem": Authority::new().pem}));
    send(&Channel::open(&other, &opening).unwrap(), "evt_g").await;
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn an_idle_connection_is_given_up_when_the_receiver_says_so() {
    let reply = Reply::with("200 OK", "keep-alive: timeout=1\r\n", "");
    let receiver = Receiver::start([reply]).await;
    let channel = open(&receiver.url("/"), json!({}));
    send(&channel, "evt_1").await;
    receiver.closed(1).await;
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_the_receiver_closes_is_not_used_again() {
    let reply = Reply::with("200 OK", "connection: close\r\n", "");
    let receiver = Receiver::start([reply]).await;
    let channel = open(&receiver.url("/"), json!({}));
    send(&channel, "evt_1").await;
    receiver.closed(1).await;
    send(&channel, "evt_2").await;
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_request_on_a_closed_connection_is_repeated_as_the_same_attempt() {
    let hang_ups: [fn(String) -> Reply; 2] = [Reply::WriteAndClose, Reply::WriteAndReset];
    for hang_up in hang_ups {
        // While idle: after an answer that promised more.
        let promise = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned();
        let receiver = Receiver::start([hang_up(promise)]).await;
        let channel = open(&receiver.url("/"), json!({}));
        assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
        receiver.closed(1).await;
        assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
        assert_eq!(ids(&receiver), ["evt_1", "evt_2"]);

        // At the moment when the next request arrives.
        let receiver = Receiver::start([Reply::status("200 OK"), hang_up(String::new())]).await;
        let channel = open(&receiver.url("/"), json!({}));
        assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
        let report = send(&channel, "evt_2").await;
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
        assert_eq!(send(&channel, "evt_3").await.outcome, Outcome::Accepted);
        assert_eq!(ids(&receiver), ["evt_1", "evt_2", "evt_2", "evt_3"]);
        let signatures: Vec<String> = receiver.received()[1..3]
            .iter()
            .map(|request| request.header("webhook-signature").to_owned())
            .collect();
        assert_eq!(signatures[0], signatures[1], "the same attempt");
        assert_eq!(receiver.connections(), 2);

        // Once, not for ever.
        let script = [Reply::status("200 OK"), hang_up(String::new()), hang_up(String::new())];
        let receiver = Receiver::start(script).await;
        let channel = open(&receiver.url("/"), json!({}));
        send(&channel, "evt_1").await;
        assert_destination(&send(&channel, "evt_2").await);
        assert_eq!(ids(&receiver), ["evt_1", "evt_2", "evt_2"]);
    }
}

#[tokio::test]
async fn nothing_is_repeated_after_a_byte_of_the_answer() {
    // With FIN: a RST may overtake the byte, and then nobody has received it.
    let script = [Reply::status("200 OK"), Reply::WriteAndClose("H".to_owned())];
    let receiver = Receiver::start(script).await;
    let channel = open(&receiver.url("/"), json!({}));
    send(&channel, "evt_1").await;
    assert_destination(&send(&channel, "evt_2").await);
    assert_eq!(ids(&receiver), ["evt_1", "evt_2"]);
}

#[tokio::test]
async fn a_time_out_on_a_used_connection_is_not_repeated() {
    let receiver = Receiver::start([Reply::status("200 OK"), Reply::Silence]).await;
    let channel = open(&receiver.url("/"), json!({"timeout_s": 0.2}));
    send(&channel, "evt_1").await;
    assert_destination(&send(&channel, "evt_2").await);
    assert_eq!(ids(&receiver), ["evt_1", "evt_2"]);
    assert_eq!(send(&channel, "evt_3").await.outcome, Outcome::Accepted);
    assert_eq!(receiver.connections(), 2);
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
async fn http2_without_tls() {
    let receiver = Receiver::start_http2(None, []).await;
    let channel = open(&receiver.url("/hook?a"), json!({"http2": "prior_knowledge"}));
    tokio::join!(send(&channel, "evt_1"), send(&channel, "evt_2"), send(&channel, "evt_3"));
    let report = send(&channel, "evt_4").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert_eq!(receiver.connections(), 1);
    let request = receiver.received().remove(0);
    assert_eq!(request.target, receiver.url("/hook?a"));
    assert!(!request.headers.contains_key("host"));

    receiver.next(Reply::status("503 Service Unavailable"));
    assert_eq!(send(&channel, "evt_5").await.outcome, retry(Scope::Destination));
}

#[tokio::test]
async fn http2_comes_back_after_its_peer() {
    let mut receiver = Receiver::start_http2(None, []).await;
    let channel = open(&receiver.url("/"), json!({"http2": "prior_knowledge", "timeout_s": 0.3}));
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    receiver.stop().await;
    receiver.resume().await;
    // The connection is dead: the same attempt goes on with a fresh one.
    let report = send(&channel, "evt_2").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert_eq!(receiver.connections(), 2);
    // One that hangs is not used by others either.
    receiver.next(Reply::Silence);
    assert_destination(&send(&channel, "evt_3").await);
    assert_eq!(send(&channel, "evt_4").await.outcome, Outcome::Accepted);
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn tls_takes_what_both_speak() {
    let authority = Authority::new();
    let names = Names::default();
    let opening = names.opening("127.0.0.0/8");
    for (alpn, http2, expected) in [
        (&["h2", "http/1.1"][..], "auto", Ok(true)),
        (&["http/1.1"], "auto", Ok(false)),
        (&[], "auto", Ok(false)),
        (&["h2", "http/1.1"], "never", Ok(false)),
        (&["h2"], "prior_knowledge", Ok(true)),
        (&["http/1.1"], "prior_knowledge", Err(())),
    ] {
        let server = authority.server("hook.example", alpn, false);
        let receiver = Receiver::start_tls(server).await;
        let url = format!("https://hook.example:{}/", receiver.address.port());
        let config = config(&url, json!({"http2": http2, "ca_pem": authority.pem}));
        let channel = Channel::open(&config, &opening).unwrap();
        let (first, _) = tokio::join!(send(&channel, "evt_1"), send(&channel, "evt_2"));
        match expected {
            Ok(two) => {
                assert_eq!(first.outcome, Outcome::Accepted, "{alpn:?} {http2} {first:?}");
                send(&channel, "evt_3").await;
                let request = receiver.received().remove(0);
                assert_eq!(request.headers.contains_key("host"), !two, "{alpn:?} {http2}");
                if two {
                    assert_eq!(receiver.connections(), 1, "{alpn:?} {http2}");
                }
            }
            Err(()) => assert_destination(&first),
        }
    }
}

#[tokio::test]
async fn tls_trusts_only_whom_it_should() {
    let authority = Authority::new();
    let names = Names::default();
    let opening = names.opening("127.0.0.0/8");
    let receiver = Receiver::start_tls(authority.server("hook.example", &[], false)).await;
    let port = receiver.address.port();
    for (host, more, accepted) in [
        ("hook.example", json!({"ca_pem": authority.pem}), true),
        ("hook.example.", json!({"ca_pem": authority.pem}), true),
        ("hook.example", json!({}), false),
        ("hook.example", json!({"ca_pem": Authority::new().pem}), false),
        ("other.example", json!({"ca_pem": authority.pem}), false),
        ("127.0.0.1", json!({"ca_pem": authority.pem}), false),
    ] {
        let config = config(&format!("https://{host}:{port}/"), more);
        let channel = Channel::open(&config, &opening).unwrap();
        let report = send(&channel, "evt_1").await;
        assert_eq!(report.outcome == Outcome::Accepted, accepted, "{host}: {report:?}");
        if !accepted {
            assert_destination(&report);
            // A machine without authorities says that instead.
            let error = report.error.unwrap();
            assert!(
                error.ends_with("from one in `ca_pem`") || error.contains("ca-certificates"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks() {
    let authority = Authority::new();
    let opening = Names::default().opening("127.0.0.0/8");
    let receiver = Receiver::start_tls(authority.server("hook.example", &[], true)).await;
    let url = format!("https://hook.example:{}/", receiver.address.port());
    let (cert_pem, key_pem) = authority.issue("client.example");
    let certificate = json!({"cert_pem": cert_pem, "key_pem": key_pem});
    let more = json!({"ca_pem": authority.pem, "client_certificate": certificate});
    let channel = Channel::open(&config(&url, more), &opening).unwrap();
    let report = send(&channel, "evt_1").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    let shown = receiver.received().remove(0).client_certificate.unwrap();
    assert!(shown.windows(14).any(|window| window == b"client.example"));

    // Who has none does not get in, not even over the connection of who has.
    let channel = Channel::open(&config(&url, json!({"ca_pem": authority.pem})), &opening).unwrap();
    assert_destination(&send(&channel, "evt_2").await);
    assert_eq!(receiver.received().len(), 1);

    // A key that belongs to another certificate is a fault.
    let (_, other_key) = authority.issue("client.example");
    let wrong = json!({"client_certificate": {"cert_pem": cert_pem, "key_pem": other_key}});
    let faults = config(&url, wrong).validate(opening.guard()).unwrap_err();
    assert_eq!(faults[0].path, "client_certificate.key_pem");
}

#[tokio::test]
async fn a_proxy_gets_the_checked_address_and_the_target_its_name() {
    let names = Names::default();
    let opening = names.opening("127.0.0.0/8");
    // http: absolute-form.
    let forwarding = Receiver::start([]).await;
    let proxy = format!("http://me:hunter2@{}", forwarding.address);
    let more = json!({"proxy": proxy});
    let channel =
        Channel::open(&config("http://hook.example/hook?a", more.clone()), &opening).unwrap();
    for id in ["evt_1", "evt_2"] {
        assert_eq!(send(&channel, id).await.outcome, Outcome::Accepted);
    }
    let request = forwarding.received().remove(0);
    assert_eq!(request.target, "http://127.0.0.1:80/hook?a");
    assert_eq!(request.header("host"), "hook.example");
    assert_eq!(request.header("proxy-authorization"), "Basic bWU6aHVudGVyMg==");
    assert_eq!(forwarding.connections(), 1);
    forwarding.next(Reply::status("407 Proxy Authentication Required"));
    assert_destination(&send(&channel, "evt_3").await);

    // https: CONNECT, with the name in SNI.
    let authority = Authority::new();
    let receiver = Receiver::start_tls(authority.server("hook.example", &[], false)).await;
    let tunnel = TunnelProxy::start_http().await;
    let url = format!("https://hook.example:{}/", receiver.address.port());
    let more =
        json!({"proxy": format!("http://me:hunter2@{}", tunnel.address), "ca_pem": authority.pem});
    let channel = Channel::open(&config(&url, more), &opening).unwrap();
    let report = send(&channel, "evt_4").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert_eq!(
        receiver.received()[0].header("host"),
        url.trim_start_matches("https://").trim_end_matches('/')
    );
    let asked = tunnel.asked().remove(0);
    assert!(asked.starts_with(&format!("connect {} http/1.1\r\n", receiver.address)), "{asked}");
    assert!(asked.contains("proxy-authorization: basic bwu6ahvudgvymg=="), "{asked}");

    // SOCKS5.
    let receiver = Receiver::start([]).await;
    let tunnel = TunnelProxy::start_socks5().await;
    let url = format!("http://hook.example:{}/", receiver.address.port());
    let more = json!({"proxy": format!("socks5://me:hunter2@{}", tunnel.address)});
    let channel = Channel::open(&config(&url, more), &opening).unwrap();
    let report = send(&channel, "evt_5").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert_eq!(tunnel.asked(), [format!("me:hunter2 {}", receiver.address)]);
    assert_eq!(receiver.received()[0].target, "/");
}

#[tokio::test]
async fn a_proxy_does_not_help_around_the_guard() {
    let proxy = Receiver::start([]).await;
    let names = Names::default();
    let more = json!({"proxy": format!("http://{}", proxy.address)});
    // The target is refused.
    names.answers.lock().unwrap().push_back("10.0.0.5");
    let target = config("http://db.example/", more.clone());
    let channel = Channel::open(&target, &names.opening("127.0.0.0/8")).unwrap();
    let report = send(&channel, "evt_1").await;
    assert_destination(&report);
    assert!(report.error.unwrap().ends_with("ZAPBUS_EGRESS_ALLOW=db.example"));
    // The proxy itself is refused.
    let target = config("http://1.1.1.1/", more);
    let channel = Channel::open(&target, &names.opening("")).unwrap();
    let report = send(&channel, "evt_2").await;
    assert_destination(&report);
    assert!(report.error.unwrap().ends_with("ZAPBUS_EGRESS_ALLOW=127.0.0.1/32"));
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn only_the_checked_address_is_connected_to() {
    let receiver = Receiver::start([Reply::with("200 OK", "connection: close\r\n", "")]).await;
    // An address that the second answer of the name server leads to.
    let port = receiver.address.port();
    let inside = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let names = Names::default();
    names.answers.lock().unwrap().extend(["127.0.0.1", "127.0.0.2"]);
    let opening = names.opening("127.0.0.1");
    let config = config(&format!("http://rebind.example:{port}/"), json!({}));
    let channel = Channel::open(&config, &opening).unwrap();
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    assert_eq!(names.asked.lock().unwrap().len(), 1, "checked and connected by one answer");
    let report = send(&channel, "evt_2").await;
    assert_destination(&report);
    assert!(report.error.unwrap().ends_with("ZAPBUS_EGRESS_ALLOW=rebind.example"));
    assert_eq!(receiver.received().len(), 1);
    // Nobody is waiting at the other address.
    let accepted =
        std::future::poll_fn(|cx| std::task::Poll::Ready(inside.poll_accept(cx).is_ready()));
    assert!(!accepted.await);
}

#[tokio::test]
async fn a_change_of_the_rules_closes_connections() {
    let receiver = Receiver::start([]).await;
    let guard = Arc::new(Guard::new("127.0.0.1".parse().unwrap()));
    let opening = Opening::new(Arc::clone(&guard));
    let config = config(&receiver.url("/"), json!({}));
    let channel = Channel::open(&config, &opening).unwrap();
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    guard.replace(Allow::default());
    let report = send(&channel, "evt_2").await;
    assert_destination(&report);
    assert!(report.error.unwrap().ends_with("ZAPBUS_EGRESS_ALLOW=127.0.0.1/32"));
    guard.replace("127.0.0.0/8".parse().unwrap());
    assert_eq!(send(&channel, "evt_3").await.outcome, Outcome::Accepted);
    assert_eq!(receiver.connections(), 2);

    // The operator's own targets are not guarded, and share nothing with the guarded ones.
    guard.replace(Allow::default());
    let trusted = opening.clone().with_guard(Arc::new(Guard::trusted()));
    let own = Channel::open(&config, &trusted).unwrap();
    assert_eq!(send(&own, "evt_4").await.outcome, Outcome::Accepted);
    assert_destination(&send(&channel, "evt_5").await);
}

/// A name server that does not answer.
struct Mute;

impl Resolver for Mute {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn connecting_has_a_time_out_of_its_own() {
    let more = json!({"connect_timeout_s": 0.1, "timeout_s": 60});
    let mute = Opening::new(Arc::new(Guard::with_resolver(Allow::default(), Mute)));
    let channel = Channel::open(&config("http://hook.example/", more.clone()), &mute).unwrap();
    let report = send(&channel, "evt_1").await;
    assert_destination(&report);
    assert!(report.error.as_ref().unwrap().contains("within 0.1 s"), "{report:?}");

    // Somebody takes the connection and does not shake hands.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let ca_pem = Authority::new().pem;
    let mut more = more;
    more["ca_pem"] = json!(ca_pem);
    let report = send(&open(&url, more), "evt_2").await;
    assert_destination(&report);
    assert!(report.error.as_ref().unwrap().contains("within 0.1 s"), "{report:?}");
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let mut receiver = Receiver::start([]).await;
    receiver.stop().await;
    let report = send(&open(&receiver.url("/"), json!({})), "evt_1").await;
    assert_destination(&report);
    let error = report.error.unwrap();
    assert!(
        error.contains(&format!("could not connect to 127.0.0.1:{}", receiver.address.port())),
        "{error}"
    );
    assert!(error.contains("refused"), "{error}");
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

#[tokio::test]
async fn order_holds_while_a_receiver_closes_connections_all_the_time() {
    // Every third request finds its connection closed.
    let script = (0..60).map(|turn| match turn % 3 {
        2 => Reply::WriteAndClose(String::new()),
        _ => Reply::status("200 OK"),
    });
    let receiver = Receiver::start(script).await;
    let channel = open(&receiver.url("/"), json!({}));
    let mut sent = Vec::new();
    for number in 0..30 {
        let id = format!("evt_{number:02}");
        let report = send(&channel, &id).await;
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
        assert_eq!(report.status, Some(StatusCode::OK.as_u16()));
        sent.push(id);
    }
    let mut arrived = ids(&receiver);
    assert!(arrived.len() > sent.len(), "some were repeated");
    arrived.dedup();
    assert_eq!(arrived, sent);
}
