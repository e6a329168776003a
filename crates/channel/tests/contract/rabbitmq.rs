//! What only RabbitMQ destinations do, against a broker that does as it is told.

use std::{sync::Arc, time::Duration};

use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use zapbus_channel::{
    Channel, Config, Opening, Outcome, Report, Scope, Warrant,
    egress::{Allow, Guard},
};

use crate::{
    broker::{Broker, Reply},
    receiver::Authority,
    rig::{Behaviour, Rig, assert_destination, message, send},
};

pub(crate) struct RabbitmqRig {
    broker: Broker,
    opening: Opening,
}

impl Rig for RabbitmqRig {
    async fn start() -> Self {
        Self { broker: Broker::start().await, opening: at_home() }
    }

    fn config(&self) -> Config {
        config(&self.broker, json!({"timeout_s": 0.8}))
    }

    fn open(&self) -> Channel {
        Channel::open(&self.config(), &self.opening).unwrap()
    }

    fn next(&self, behaviour: Behaviour) {
        self.broker.next(match behaviour {
            Behaviour::Accept => Reply::Ack,
            Behaviour::Refuse => Reply::Return(10),
            Behaviour::Throttle => Reply::Nack,
            Behaviour::Hang => Reply::Silence,
            Behaviour::BreakOff => Reply::Reset,
            Behaviour::Deny => Reply::CloseChannel(403, "ACCESS_REFUSED - write access refused"),
            Behaviour::Flood => Reply::Return(1 << 20),
        });
    }

    fn ids(&self) -> Vec<String> {
        self.broker.published().into_iter().map(|message| message.message_id).collect()
    }

    async fn stop(&mut self) {
        self.broker.stop().await;
    }

    async fn resume(&mut self) {
        self.broker.resume().await;
    }
}

/// Loopback is allowed.
fn at_home() -> Opening {
    Opening::new(Arc::new(Guard::new(Allow::default().with_loopback(true))))
}

fn config(broker: &Broker, more: Value) -> Config {
    let mut config = json!({"type": "rabbitmq", "uri": broker.uri(), "timeout_s": 5});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::read(config).unwrap()
}

fn open(broker: &Broker, more: Value) -> Channel {
    Channel::open(&config(broker, more), &at_home()).unwrap()
}

fn retry(scope: Scope) -> Outcome {
    Outcome::Retry { after: None, scope }
}

fn error(report: &Report) -> &str {
    report.error.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn a_message_is_what_the_documents_say() {
    let broker = Broker::start().await;
    let channel = open(&broker, json!({}));
    let mut message = message("evt_1.2");
    message.replay = Some("7".to_owned());
    message.traceparent =
        Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    message.body = "x".repeat(20_000).into();
    let report = channel.send(std::slice::from_ref(&message)).await.remove(0);
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert!(report.latency > Duration::ZERO);

    let [published] = broker.published().try_into().unwrap();
    assert_eq!(published.exchange, "zapbus");
    assert_eq!(published.routing_key, "shop.message.received");
    assert!(published.mandatory);
    assert_eq!(published.body, message.body);
    assert_eq!(published.content_type, "application/json");
    assert_eq!(published.delivery_mode, 2, "persistent");
    assert_eq!(published.message_id, "evt_1.2");
    assert_eq!(published.timestamp, u64::try_from(message.timestamp.as_secs()).unwrap());
    assert_eq!(published.kind, "message.received");
    assert_eq!(published.app_id, "zapbus");
    let mut headers: Vec<(&str, &str)> =
        published.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    headers.sort_unstable();
    let expected = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("zapbus-event", "message.received"),
        ("zapbus-hops", "1"),
        ("zapbus-instance", "shop"),
        ("zapbus-replay", "7"),
    ];
    assert_eq!(headers, expected);
    assert_eq!(broker.declared(), ["exchange zapbus topic"]);
}

#[tokio::test]
async fn names_follow_the_preset() {
    let cases = [
        (
            json!({"preset": "evolution_instance"}),
            ("shop", "messages.upsert"),
            vec![
                "exchange shop topic",
                "queue shop.messages.upsert quorum",
                "bind shop.messages.upsert shop messages.upsert",
            ],
        ),
        (
            json!({"preset": "evolution_global", "prefix": "acme", "queue_type": "classic"}),
            ("evolution_exchange", "messages.upsert"),
            vec![
                "exchange evolution_exchange topic",
                "queue acme.messages.upsert classic",
                "bind acme.messages.upsert evolution_exchange messages.upsert",
            ],
        ),
        (
            json!({"preset": "evolution_topic"}),
            ("evolution_exchange", "shop.messages.upsert"),
            vec!["exchange evolution_exchange topic"],
        ),
        (
            json!({"exchange": "x", "exchange_type": "fanout", "routing_key": "k", "mandatory": false,
                "transient": true}),
            ("x", "k"),
            vec!["exchange x fanout"],
        ),
        (json!({"exchange": "", "routing_key": "{event}"}), ("", "messages.upsert"), vec![]),
        (json!({"declare": false}), ("zapbus", "shop.messages.upsert"), vec![]),
    ];
    for (more, (exchange, routing_key), declared) in cases {
        let broker = Broker::start().await;
        let channel = open(&broker, more.clone());
        for id in ["evt_1", "evt_2"] {
            let mut message = message(id);
            message.event_name = "messages.upsert".to_owned();
            let report = channel.send(&[message]).await.remove(0);
            assert_eq!(report.outcome, Outcome::Accepted, "{more}: {report:?}");
        }
        // What has been declared once is not declared again.
        assert_eq!(broker.declared(), declared, "{more}");
        let published = broker.published().remove(0);
        assert_eq!(published.exchange, exchange, "{more}");
        assert_eq!(published.routing_key, routing_key, "{more}");
        assert_eq!(published.mandatory, more["mandatory"] != false, "{more}");
        assert_eq!(published.delivery_mode, if more["transient"] == true { 1 } else { 2 });
    }
}

#[tokio::test]
async fn every_answer_has_its_outcome() {
    let table = [
        (Reply::Return(3), retry(Scope::Event), "no queue takes it"),
        (Reply::Nack, retry(Scope::Destination), "nack"),
        (
            Reply::CloseChannel(404, "NOT_FOUND - no exchange 'zapbus' in vhost '/'"),
            retry(Scope::Destination),
            "no exchange 'zapbus'",
        ),
        (
            Reply::CloseChannel(
                406,
                "PRECONDITION_FAILED - message size 99 is larger than configured max size 9",
            ),
            Outcome::Refused,
            "the broker takes 9",
        ),
        (
            Reply::CloseChannel(
                406,
                "PRECONDITION_FAILED - message size 9999 is larger than configured max size 999",
            ),
            // It was a neighbour that was too large.
            retry(Scope::Destination),
            "larger than",
        ),
        (
            Reply::CloseConnection(320, "CONNECTION_FORCED - broker forced connection closure"),
            retry(Scope::Destination),
            "CONNECTION_FORCED",
        ),
        (Reply::Reset, retry(Scope::Destination), "is lost"),
    ];
    let broker = Broker::start().await;
    let channel = open(&broker, json!({}));
    for (reply, outcome, words) in table {
        broker.next(reply.clone());
        let report = send(&channel, "evt_1").await;
        assert_eq!(report.outcome, outcome, "{reply:?}: {report:?}");
        assert!(error(&report).contains(words), "{reply:?}: {report:?}");
        // Whatever it was, the next one goes.
        let report = send(&channel, "evt_2").await;
        assert_eq!(report.outcome, Outcome::Accepted, "after {reply:?}: {report:?}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_said_so() {
    let broker = Broker::start().await;
    let uri = broker.uri().replace("hunter2", "hunter3");
    let report = send(&open(&broker, json!({"uri": uri})), "evt_1").await;
    assert_destination(&report);
    assert!(error(&report).contains("ACCESS_REFUSED - Login was refused"), "{report:?}");
    assert!(!error(&report).contains("hunter"), "{report:?}");
}

#[tokio::test]
async fn what_may_not_be_declared_stops_the_destination_and_no_other() {
    let broker = Broker::start().await;
    let opening = at_home();
    let open = |more: Value| Channel::open(&config(&broker, more), &opening).unwrap();
    let (good, bad) = (open(json!({})), open(json!({"exchange": "taken"})));
    assert_eq!(send(&good, "evt_1").await.outcome, Outcome::Accepted);
    broker.refuse_declaration(406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange");
    let report = send(&bad, "evt_2").await;
    assert_destination(&report);
    assert!(error(&report).contains("inequivalent arg 'type'"), "{report:?}");
    assert!(error(&report).contains("set `declare` to false"), "{report:?}");
    assert_eq!(send(&good, "evt_3").await.outcome, Outcome::Accepted);
    // Once it is mended, the destination goes on.
    assert_eq!(send(&bad, "evt_4").await.outcome, Outcome::Accepted);
    assert_eq!(broker.connections(), 1);
}

#[tokio::test]
async fn a_declaration_that_takes_its_time_holds_up_nobody_else() {
    let broker = Broker::start().await;
    broker.hold_declarations_of("slow");
    let opening = at_home();
    let open = |more: Value| Channel::open(&config(&broker, more), &opening).unwrap();
    let (slow, quick) = (open(json!({"exchange": "slow"})), open(json!({})));
    assert_eq!(send(&quick, "evt_1").await.outcome, Outcome::Accepted);
    let waiting = tokio::spawn(async move { send(&slow, "evt_2").await });
    let same_broker = open(json!({"exchange": "other"}));
    for number in 3..20 {
        let channel = [&quick, &same_broker][number % 2];
        let report = send(channel, &format!("evt_{number}")).await;
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
        assert!(report.latency < Duration::from_secs(2), "{report:?}");
    }
    assert!(!waiting.is_finished());
    assert_eq!(broker.connections(), 1);
    waiting.abort();
}

#[tokio::test]
async fn a_peer_that_says_nothing_leaves_nothing_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut silent = Vec::new();
        loop {
            silent.push(listener.accept().await.unwrap());
        }
    });
    let broker = Broker::start().await;
    let opening = at_home();
    let silent = json!({"uri": format!("amqp://127.0.0.1:{port}"), "connect_timeout_s": 0.2});
    let silent = Channel::open(&config(&broker, silent), &opening).unwrap();
    for number in 0..3 {
        let report = send(&silent, &format!("evt_{number}")).await;
        assert_destination(&report);
        assert!(error(&report).contains("within 0.2 s"), "{report:?}");
    }
    none_is_open(&opening).await;

    // Nor one that falls silent later, and that asks for no signs of life.
    let channel = json!({"uri": format!("{}?heartbeat=0", broker.uri()), "timeout_s": 0.2});
    let channel = Channel::open(&config(&broker, channel), &opening).unwrap();
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    assert_eq!(opening.connections().0, 1);
    broker.fall_silent();
    assert_destination(&send(&channel, "evt_2").await);
    none_is_open(&opening).await;
}

/// The thread of a connection holds it until it ends.
async fn none_is_open(opening: &Opening) {
    let closed = async {
        while opening.connections().0 > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("all of them are closed");
}

#[tokio::test]
async fn who_waits_longer_for_a_connection_has_one_of_their_own() {
    let broker = Broker::start().await;
    let opening = at_home();
    let open = |more: Value| Channel::open(&config(&broker, more), &opening).unwrap();
    let patient = open(json!({"connect_timeout_s": 9}));
    let hasty = open(json!({"connect_timeout_s": 0.5}));
    let usual = [open(json!({})), open(json!({"connect_timeout_s": 10}))];
    for channel in [&patient, &hasty, &usual[0], &usual[1]] {
        assert_eq!(send(channel, "evt_1").await.outcome, Outcome::Accepted);
    }
    assert_eq!(broker.connections(), 3);
}

#[tokio::test]
async fn a_broker_that_returns_what_it_never_got_is_left() {
    let broker = Broker::start().await;
    let channel = open(&broker, json!({}));
    broker.next(Reply::Returns(1_000_000));
    let report = send(&channel, "evt_1").await;
    assert_destination(&report);
    assert!(error(&report).contains("returns more messages than it was sent"), "{report:?}");
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
    assert_eq!(broker.connections(), 2);
}

#[tokio::test]
async fn what_is_gone_is_declared_again() {
    let broker = Broker::start().await;
    let channel = open(&broker, json!({"preset": "evolution_instance"}));
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    assert_eq!(broker.declared().len(), 3);
    // Somebody has deleted the queue.
    broker.next(Reply::Return(0));
    assert_eq!(send(&channel, "evt_2").await.outcome, retry(Scope::Event));
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
    assert_eq!(broker.declared().len(), 6);
    assert_eq!(send(&channel, "evt_3").await.outcome, Outcome::Accepted);
    assert_eq!(broker.declared().len(), 6);
}

#[tokio::test]
async fn confirms_are_awaited_together_over_one_connection() {
    let broker = Broker::start().await;
    let opening = at_home();
    let channels: Vec<Arc<Channel>> = (0..4)
        .map(|_| Arc::new(Channel::open(&config(&broker, json!({})), &opening).unwrap()))
        .collect();
    // The first of all gets no answer for now; nobody waits for it.
    broker.next(Reply::Silence);
    let mut sends = JoinSet::new();
    for number in 0..200 {
        let channel = Arc::clone(&channels[number % 4]);
        sends.spawn(async move { send(&channel, &format!("evt_{number}")).await });
    }
    let mut accepted = 0;
    while accepted < 199 {
        let report = sends.join_next().await.unwrap().unwrap();
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
        accepted += 1;
    }
    sends.abort_all();
    assert_eq!(broker.connections(), 1);
    let mut lines: Vec<u16> = broker.published().iter().map(|message| message.channel).collect();
    lines.sort_unstable();
    lines.dedup();
    assert!(lines.len() > 8, "what is on its way at the same time has its own AMQP channel");
    let report = send(&channels[0], "evt_again").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    let last = broker.published().last().unwrap().channel;
    assert!(lines.contains(&last), "what was confirmed leaves its AMQP channel to the next");
}

#[tokio::test]
async fn a_broker_that_blocks_is_not_given_more() {
    let broker = Broker::start().await;
    let channel = open(&broker, json!({"timeout_s": 0.5}));
    broker.next(Reply::Block);
    let report = send(&channel, "evt_1").await;
    assert_destination(&report);
    assert!(error(&report).contains("memory or disk"), "{report:?}");
    let report = send(&channel, "evt_2").await;
    assert_destination(&report);
    assert!(report.latency < Duration::from_millis(400), "it is known by now: {report:?}");
    assert_eq!(broker.published().len(), 1);
}

#[tokio::test]
async fn nothing_goes_without_the_right_to_send() {
    let broker = Broker::start().await;
    let channel = open(&broker, json!({}));
    let mut message = message("evt_1");
    message.warrant = Some(Warrant::new(|| false));
    let report = channel.send(&[message]).await.remove(0);
    assert_eq!(report.outcome, Outcome::Withheld);
    assert!(broker.published().is_empty());
}

#[tokio::test]
async fn the_guard_is_asked_at_every_connection() {
    let broker = Broker::start().await;
    let guard = Arc::new(Guard::new("127.0.0.1".parse().unwrap()));
    let opening = Opening::new(Arc::clone(&guard));
    let channel = Channel::open(&config(&broker, json!({})), &opening).unwrap();
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    assert_eq!(opening.connections().0, 1);
    guard.replace(Allow::default());
    let report = send(&channel, "evt_2").await;
    assert_destination(&report);
    assert!(error(&report).ends_with("ZAPBUS_EGRESS_ALLOW=127.0.0.1/32"), "{report:?}");
    let refused = config(&broker, json!({})).validate(&guard).unwrap_err();
    assert_eq!(refused[0].path, "uri");
    assert_eq!(broker.published().len(), 1);
}

#[tokio::test]
async fn what_amqp_cannot_carry_is_refused() {
    let broker = Broker::start().await;
    let channel = open(&broker, json!({}));
    let mut long = message("evt_1");
    long.event_name = "x".repeat(300);
    let report = channel.send(&[long]).await.remove(0);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(error(&report).contains("routing key"), "{report:?}");
    assert!(broker.published().is_empty());
    assert_eq!(broker.connections(), 0);
}

/// Takes TLS off and passes on what is below it, until the tasks are dropped.
async fn tls_in_front(broker: &Broker, config: ServerConfig) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (acceptor, broker) = (TlsAcceptor::from(Arc::new(config)), broker.address);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut below = TcpStream::connect(broker).await.unwrap();
                tokio::io::copy_bidirectional(&mut stream, &mut below).await.ok();
            });
        }
    });
    (port, tasks)
}

#[tokio::test]
async fn tls_trusts_only_whom_it_should() {
    let broker = Broker::start().await;
    let authority = Authority::new();
    let server = authority.server("127.0.0.1", &[], true);
    let (port, _tasks) = tls_in_front(&broker, server).await;
    let uri = broker.uri().replace("amqp:", "amqps:");
    let uri = uri.replace(&broker.address.port().to_string(), &port.to_string());
    let (cert_pem, key_pem) = authority.issue("client.example");
    let certificate = json!({"cert_pem": cert_pem, "key_pem": key_pem});
    let more = json!({"uri": uri, "ca_pem": authority.pem, "client_certificate": certificate});
    let report = send(&open(&broker, more), "evt_1").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    for more in [
        json!({"uri": uri, "ca_pem": authority.pem}),
        json!({"uri": uri, "ca_pem": Authority::new().pem, "client_certificate": certificate}),
    ] {
        assert_destination(&send(&open(&broker, more), "evt_2").await);
    }
    assert_eq!(broker.published().len(), 1);
}
