//! One event can be followed from its source to every destination, by a collector that the gateway
//! does not depend on.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    receiver::Received,
    server::{Gateway, Receiver, Reply, eventually, text_message},
};

/// Every span that a stand-in for a collector was sent, decoded as OTLP says.
fn spans(requests: &[Received]) -> Vec<Span> {
    let mut found = Vec::new();
    for request in requests {
        assert_eq!(request.header("content-type"), Some("application/json"));
        let body = request.json();
        for resource in body["resourceSpans"].as_array().unwrap() {
            let attributes = attributes(&resource["resource"]["attributes"]);
            assert_eq!(attributes["service.name"], "gateway-of-the-tests");
            for scope in resource["scopeSpans"].as_array().unwrap() {
                assert_eq!(scope["scope"]["name"], "zapbus");
                found.extend(scope["spans"].as_array().unwrap().iter().map(Span::read));
            }
        }
    }
    found
}

#[derive(Debug, Clone)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u64,
    start: u64,
    end: u64,
    attributes: HashMap<String, String>,
    status: Option<(u64, String)>,
}

impl Span {
    fn read(json: &Value) -> Self {
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let time = |key: &str| text(key).parse().unwrap_or_else(|_| panic!("{key}: {json}"));
        let span = Self {
            trace: text("traceId"),
            id: text("spanId"),
            parent: text("parentSpanId"),
            name: text("name"),
            kind: json["kind"].as_u64().unwrap(),
            start: time("startTimeUnixNano"),
            end: time("endTimeUnixNano"),
            attributes: attributes(&json["attributes"]),
            status: json["status"]["code"].as_u64().map(|code| {
                (code, json["status"]["message"].as_str().unwrap_or_default().to_owned())
            }),
        };
        let is_hex =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        assert!(span.trace.len() == 32 && is_hex(&span.trace), "{json}");
        assert!(span.id.len() == 16 && is_hex(&span.id), "{json}");
        assert!(span.start <= span.end, "{json}");
        span
    }
}

fn attributes(list: &Value) -> HashMap<String, String> {
    let value = |value: &Value| {
        let text = value["stringValue"].as_str().or_else(|| value["intValue"].as_str());
        text.unwrap_or_else(|| panic!("{value}")).to_owned()
    };
    let list = list.as_array().unwrap();
    list.iter().map(|one| (one["key"].as_str().unwrap().to_owned(), value(&one["value"]))).collect()
}

async fn traced(collector: &Receiver) -> Gateway {
    let endpoint = collector.url("/v1/traces");
    Gateway::start(|config| {
        config.traces.endpoint = Some(endpoint);
        config.traces.headers = vec![zapbus_gateway::config::Secret::new("x-key=of the tests")];
        config.traces.service_name = "gateway-of-the-tests".to_owned();
    })
    .await
}

fn of_event<'a>(spans: &'a [Span], id: &str) -> Vec<&'a Span> {
    spans
        .iter()
        .filter(|span| span.attributes.get("zapbus.event.id").is_some_and(|event| event == id))
        .collect()
}

#[tokio::test]
async fn an_event_is_followed_to_every_destination_and_over_a_restart() {
    let collector = Receiver::start().await;
    let gateway = traced(&collector).await;
    let (good, bad) = (Receiver::start().await, Receiver::start().await);
    bad.script(|_| Reply::status(500));
    gateway.create_instance("shop").await;
    let mut ids = HashMap::new();
    for (label, receiver) in [("good", &good), ("bad", &bad)] {
        let more = json!({ "label": label, "events": ["message.*"] });
        let made = gateway.create_webhook("shop", &receiver.url("/"), more).await;
        ids.insert(label, made["id"].as_str().unwrap().to_owned());
    }
    let answer = gateway.post_event("shop", &text_message("5511999990001", "m1", "hello")).await;
    let event = answer["id"].as_str().unwrap().to_owned();
    let sent = good.wait_for(1).await.remove(0);
    bad.wait_for(1).await;

    let found = eventually("the event and its attempts are at the collector", async || {
        let found = spans(&collector.received());
        (of_event(&found, &event).len() >= 3).then_some(found)
    })
    .await;
    assert_eq!(collector.received()[0].header("x-key"), Some("of the tests"));
    let own = of_event(&found, &event);
    let root = *own.iter().find(|span| span.name == "zapbus.ingest").expect("the root");
    assert_eq!((root.parent.as_str(), root.kind), ("", 2));
    assert_eq!(root.attributes["zapbus.source"], "native");
    assert_eq!(root.attributes["zapbus.event.type"], "message.received");
    for name in ["zapbus.decode", "zapbus.append"] {
        let step = found
            .iter()
            .find(|span| span.name == name && span.trace == root.trace)
            .unwrap_or_else(|| panic!("{name}"));
        assert_eq!(step.parent, root.id);
    }
    let attempt = |label: &str| {
        let to = &ids[label];
        let mut found = own
            .iter()
            .filter(|span| span.attributes.get("zapbus.destination.id").is_some_and(|id| id == to));
        (*found.next().unwrap_or_else(|| panic!("{label}"))).clone()
    };
    let (to_good, to_bad) = (attempt("good"), attempt("bad"));
    for span in [&to_good, &to_bad] {
        assert_eq!((&span.trace, &span.parent, span.kind), (&root.trace, &root.id, 3));
        assert_eq!(span.attributes["zapbus.dialect"], "native");
        assert_eq!(span.attributes["zapbus.channel"], "webhook");
        assert_eq!(span.attributes["zapbus.attempt"], "1");
    }
    assert_eq!(to_good.attributes["zapbus.outcome"], "accepted");
    assert_eq!(to_good.attributes["http.response.status_code"], "200");
    assert_eq!(to_good.status, None);
    assert_eq!(to_bad.attributes["zapbus.outcome"], "retry");
    assert_eq!(to_bad.status.as_ref().unwrap().0, 2);
    // The receiver can hang its own spans below ours.
    let expected = format!("00-{}-{}-01", root.trace, to_good.id);
    assert_eq!(sent.header("traceparent"), Some(expected.as_str()));

    // Later, after a restart, the retry is in the same trace.
    gateway.clock.advance(Duration::from_secs(60));
    bad.script(|_| Reply::ok());
    let gateway = gateway.restart().await;
    bad.wait_for(2).await;
    gateway.stop().await;
    let found = spans(&collector.received());
    let later: Vec<&Span> = of_event(&found, &event)
        .into_iter()
        .filter(|span| span.attributes.get("zapbus.outcome").is_some_and(|it| it == "accepted"))
        .filter(|span| span.attributes["zapbus.destination.id"] == ids["bad"])
        .collect();
    assert_eq!(later.len(), 1, "sent at the latest when the gateway stopped");
    assert_eq!((&later[0].trace, &later[0].parent), (&root.trace, &root.id));
    assert_ne!(later[0].id, to_bad.id);
    assert_eq!(later[0].attributes["zapbus.attempt"], "2");
    assert!(
        !collector.received().iter().any(|request| request.json().to_string().contains("hello"))
    );
}

#[tokio::test]
async fn a_collector_that_fails_disturbs_nobody() {
    let collector = Receiver::start().await;
    collector.script(|_| Reply::status(400));
    let gateway = traced(&collector).await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    gateway.create_webhook("shop", &receiver.url("/"), json!({ "events": ["message.*"] })).await;
    for n in 0..20 {
        gateway.post_event("shop", &text_message("5511999990001", &format!("m{n}"), "x")).await;
    }
    receiver.wait_for(20).await;
    eventually("lost spans are counted", async || {
        let text = gateway.client.get(format!("{}/metrics", gateway.url)).send().await.ok()?;
        let text = text.text().await.ok()?;
        let line = text.lines().find(|line| line.contains("trace_spans_total{result=\"dropped\"}"));
        let dropped: f64 = line?.rsplit(' ').next()?.parse().ok()?;
        (dropped >= 60.0).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_collector_nothing_is_said_about_traces() {
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    gateway.create_webhook("shop", &receiver.url("/"), json!({ "events": ["message.*"] })).await;
    gateway.post_event("shop", &text_message("5511999990001", "m1", "x")).await;
    let sent = receiver.wait_for(1).await.remove(0);
    assert_eq!(sent.header("traceparent"), None);
    gateway.stop().await;
}
