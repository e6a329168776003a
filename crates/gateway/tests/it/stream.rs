//! Events as they happen: WebSocket, server-sent events, long poll.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    api::{Tenant, expect_fault, text},
    server::{Gateway, expect_json, text_message},
    socket::{Events, Socket},
};

pub(crate) async fn say(gateway: &Gateway, instance: &str, id: &str) -> String {
    text(&gateway.post_event(instance, &text_message("1", id, "x")).await, "id")
}

pub(crate) async fn say_many(gateway: &Gateway, instance: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for index in 0..count {
        ids.push(say(gateway, instance, &format!("m{index}-{instance}-{count}")).await);
    }
    ids
}

const PATH: &str = "/v1/instances/shop/stream";

#[tokio::test]
async fn events_come_as_they_are_committed() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    say(&gateway, "shop", "before").await;
    let mut socket = Socket::open(&gateway, PATH).await;
    let opened = socket.document().await;
    assert_eq!((&opened["type"], &opened["ack"]), (&json!("stream.opened"), &json!("auto")));
    for index in 0..3 {
        let id = say(&gateway, "shop", &format!("m{index}")).await;
        let event = socket.event().await;
        assert_eq!(event["id"], *id);
        // The same document that the list has.
        assert_eq!(event, gateway.read(&format!("/v1/events/{id}")).await.without_raw());
    }
    socket.say(&json!({ "type": "ping" })).await;
    assert_eq!(socket.document().await["type"], "stream.pong");
    socket.close().await;
    gateway.stop().await;
}

trait WithoutRaw {
    fn without_raw(self) -> Self;
}

impl WithoutRaw for Value {
    fn without_raw(mut self) -> Self {
        self.as_object_mut().unwrap().remove("raw");
        self
    }
}

#[tokio::test]
async fn a_stream_begins_after_an_id_a_position_a_time_or_a_cursor() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut posted = Vec::new();
    for index in 0..4 {
        gateway.clock.advance(Duration::from_secs(10));
        let event = text_message("1", &format!("m{index}"), "x");
        posted.push(gateway.post_event("shop", &event).await);
    }
    let third = gateway.read(&format!("/v1/events/{}", text(&posted[2], "id"))).await;
    let expected: Vec<String> = posted[2..].iter().map(|result| text(result, "id")).collect();
    let (id, seq) = (text(&posted[1], "id"), posted[1]["seq"].to_string());
    for after in [id, seq.clone(), text(&third, "received_at"), format!("pos_{seq}")] {
        let mut socket = Socket::open(&gateway, &format!("{PATH}?after={after}")).await;
        assert_eq!(socket.events(2).await, expected, "after {after}");
    }
    let wrong = gateway.request(reqwest::Method::GET, &format!("{PATH}?after=yesterday"));
    let wrong = wrong.header("accept", "text/event-stream").send().await.unwrap();
    expect_fault(wrong, 400, "invalid_query", "after", "RFC 3339").await;
}

#[tokio::test]
async fn only_what_is_asked_for_comes() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let path = format!("{PATH}?types=instance.*,message.received:image&include_raw=true");
    let mut socket = Socket::open(&gateway, &path).await;
    let mut calm = Socket::open(&gateway, &format!("{PATH}?exclude_ephemeral=true")).await;
    assert_eq!(calm.document().await["type"], "stream.opened");
    say_many(&gateway, "shop", 3).await;
    let typing = json!({ "type": "presence.chat", "data": {
        "chat": { "id": "1@s.whatsapp.net", "kind": "user" }, "state": "typing",
        "participant": { "id": "1@s.whatsapp.net", "kind": "user" } } });
    gateway.post_event("shop", &typing).await;
    let wanted = json!({ "type": "instance.connecting", "data": { "note": 1 } });
    gateway.post_event("shop", &wanted).await;
    let event = socket.event().await;
    assert_eq!((&event["type"], &event["raw"]), (&json!("instance.connecting"), &wanted["data"]));
    socket.stays_quiet().await;
    assert_eq!(calm.events(3).await.len(), 3);
    assert_eq!(calm.event().await["type"], "instance.connecting");
    for (query, path, message) in [
        ("types=mesage.*", "types[0]", "message"),
        ("dialect=klingon", "dialect", "native"),
        ("ack=explicit", "ack", "WebSocket"),
        ("max_unacked=0", "max_unacked", "1 to 4096"),
        ("ack_wait=0", "ack_wait", "seconds"),
        ("subscriber=%00", "subscriber", "control"),
        ("colour=green", "colour", "unknown field"),
    ] {
        let request = gateway.request(reqwest::Method::GET, &format!("{PATH}?{query}"));
        let wrong = request.header("accept", "text/event-stream").send().await.unwrap();
        expect_fault(wrong, 400, "invalid_query", path, message).await;
    }
    let plain = expect_json(gateway.get(PATH).await, 426).await;
    assert_eq!(plain["code"], "upgrade_required");
}

#[tokio::test]
async fn an_account_is_one_stream() {
    let gateway = Gateway::start(|_| {}).await;
    for name in ["shop", "help", "bar"] {
        gateway.create_instance(name).await;
    }
    let mut socket = Socket::open(&gateway, "/v1/stream?types=message.*").await;
    assert_eq!(socket.document().await["type"], "stream.opened");
    let mut expected = Vec::new();
    for index in 0..5 {
        for name in ["shop", "help", "bar"] {
            expected.push(say(&gateway, name, &format!("m{index}")).await);
        }
    }
    let mut found = socket.events(15).await;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    // What was read last is where it goes on; some may come again, and none is missing.
    let after = expected.last().unwrap();
    let next = say(&gateway, "bar", "next").await;
    let path = format!("/v1/stream?types=message.*&after={after}");
    let mut socket = Socket::open(&gateway, &path).await;
    while socket.event().await["id"] != *next {}
}

#[tokio::test]
async fn server_sent_events_go_on_where_they_broke_off() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut events = Events::open(&gateway, PATH, None).await;
    let opened = events.next().await.unwrap();
    assert_eq!((opened.id, opened.event.as_str()), (None, "stream.opened"));
    let posted = say_many(&gateway, "shop", 3).await;
    let first = events.next().await.unwrap();
    assert_eq!((first.id.as_ref(), first.event.as_str()), (Some(&posted[0]), "message.received"));
    let document: Value = serde_json::from_str(&first.data).unwrap();
    assert_eq!(document["id"], *posted[0]);
    drop(events);
    let mut events = Events::open(&gateway, PATH, Some(&posted[0])).await;
    assert_eq!(events.events(2).await, posted[1..]);
    // What comes by the header is newer than what stands in the URL.
    let path = format!("{PATH}?after={}", posted[0]);
    let mut events = Events::open(&gateway, &path, Some(&posted[1])).await;
    assert_eq!(events.events(1).await, posted[2..]);
    // Also for a name that was sent more than its client has seen.
    let path = format!("{PATH}?subscriber=page&after={}", posted[0]);
    let mut events = Events::open(&gateway, &path, None).await;
    assert_eq!(events.events(2).await, posted[1..]);
    drop(events);
    let mut events = Events::open(&gateway, &path, Some(&posted[1])).await;
    assert_eq!(events.events(1).await, posted[2..]);
}

#[tokio::test]
async fn a_long_poll_is_answered_when_something_comes() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let list = "/v1/instances/shop/events?types=message.*";
    let empty = gateway.read(&format!("{list}&wait=1")).await;
    assert_eq!(empty["data"], json!([]));
    let path = format!("{list}&wait=30&after={}", text(&empty, "cursor"));
    let poll = tokio::spawn(gateway.request(reqwest::Method::GET, &path).send());
    // What is not asked for does not end it.
    gateway.post_event("shop", &json!({ "type": "instance.connecting", "data": {} })).await;
    let id = say(&gateway, "shop", "m").await;
    let page = expect_json(poll.await.unwrap().unwrap(), 200).await;
    assert_eq!(page["data"][0]["id"], *id);
    // And what is there already is not waited for.
    let page = gateway.read(&format!("{list}&wait=30")).await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    let wrong = gateway.get(&format!("{list}&wait=61")).await;
    expect_fault(wrong, 400, "invalid_query", "wait", "60 seconds").await;
    // Nobody waits for a gateway that goes.
    let path = format!("{list}&wait=30&after={}", text(&page, "cursor"));
    let poll = tokio::spawn(gateway.request(reqwest::Method::GET, &path).send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    gateway.stop().await;
    assert_eq!(expect_json(poll.await.unwrap().unwrap(), 200).await["data"], json!([]));
}

#[tokio::test]
async fn an_account_is_polled_over_all_its_instances() {
    let gateway = Gateway::start(|_| {}).await;
    for name in ["bar", "help"] {
        gateway.create_instance(name).await;
    }
    let list = "/v1/events?types=message.*";
    let page = gateway.read(&format!("{list}&wait=1")).await;
    assert_eq!(page["data"], json!([]));
    let mut cursor = text(&page, "cursor");
    for (round, name) in ["help", "bar", "help"].into_iter().enumerate() {
        let path = format!("{list}&wait=30&after={cursor}");
        let poll = tokio::spawn(gateway.request(reqwest::Method::GET, &path).send());
        // What is not asked for does not end it.
        gateway.post_event(name, &json!({ "type": "instance.connecting", "data": {} })).await;
        let id = say(&gateway, name, &format!("m{round}")).await;
        let page = expect_json(poll.await.unwrap().unwrap(), 200).await;
        assert_eq!(crate::cluster::ids(&page), [id], "round {round}");
        cursor = text(&page, "cursor");
    }
    // Another account waits for its own.
    let other = Tenant::create(&gateway, "acme", "http://127.0.0.1:9/").await;
    let page = expect_json(other.caller.get(&format!("{list}&wait=1")).await, 200).await;
    assert_eq!(page["data"], json!([]));
    let path = format!("{}{list}&wait=30&after={}", gateway.url, text(&page, "cursor"));
    let poll = gateway.client.get(path).bearer_auth(&other.caller.token);
    let poll = tokio::spawn(poll.send());
    say(&gateway, "bar", "theirs").await;
    let own = say(&gateway, &other.instance, "own").await;
    let page = expect_json(poll.await.unwrap().unwrap(), 200).await;
    assert_eq!(crate::cluster::ids(&page), [own]);
    let wrong = gateway.get(&format!("{list}&wait=61")).await;
    expect_fault(wrong, 400, "invalid_query", "wait", "60 seconds").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_backlog_comes_in_order_and_large_events_with_it() {
    let gateway = Gateway::start(|config| config.store.tail_bytes = 1 << 20).await;
    gateway.create_instance("shop").await;
    let mut expected = Vec::new();
    for batch in 0..4 {
        let events: Vec<Value> = (0..500)
            .map(|index| text_message("1", &format!("m{batch}-{index}"), &"x".repeat(400)))
            .collect();
        let answer = gateway.post("/v1/instances/shop/events", &json!(events)).await;
        let answer = expect_json(answer, 200).await;
        expected.extend(answer["results"].as_array().unwrap().iter().map(|it| text(it, "id")));
    }
    let large = text_message("1", "large", &"y".repeat(2 << 20));
    expected.push(text(&gateway.post_event("shop", &large).await, "id"));
    let mut socket = Socket::open(&gateway, &format!("{PATH}?after=0&types=message.*")).await;
    assert_eq!(socket.events(expected.len()).await, expected);
    let mut events = Events::open(&gateway, &format!("{PATH}?after=0&types=message.*"), None).await;
    assert_eq!(events.events(expected.len()).await, expected);
}

#[tokio::test]
async fn a_slow_client_only_lags() {
    let gateway = Gateway::start(|config| config.store.tail_bytes = 1 << 20).await;
    gateway.create_instance("shop").await;
    let mut slow = Socket::open(&gateway, &format!("{PATH}?types=message.*")).await;
    let mut quick = Socket::open(&gateway, &format!("{PATH}?types=message.*")).await;
    assert_eq!(slow.document().await["type"], "stream.opened");
    assert_eq!(quick.document().await["type"], "stream.opened");
    // More than sockets of this machine hold, and than memory holds: 16 MB.
    let mut expected = Vec::new();
    for batch in 0..40 {
        let events: Vec<Value> = (0..20)
            .map(|index| text_message("1", &format!("m{batch}-{index}"), &"z".repeat(20_000)))
            .collect();
        let answer = gateway.post("/v1/instances/shop/events", &json!(events)).await;
        let answer = expect_json(answer, 200).await;
        let ids: Vec<String> =
            answer["results"].as_array().unwrap().iter().map(|it| text(it, "id")).collect();
        assert_eq!(quick.events(20).await, ids, "the other one does not wait");
        expected.extend(ids);
    }
    let metrics = gateway.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("zapbus_realtime_behind{protocol=\"websocket\"} 1"), "{metrics}");
    assert_eq!(slow.events(expected.len()).await, expected);
}

#[tokio::test]
async fn what_is_past_its_retention_is_a_gap_that_is_told() {
    let gateway = Gateway::start(|config| {
        config.store.tail_bytes = 0;
        config.retention.journal_s = 3_600;
    })
    .await;
    gateway.create_instance("shop").await;
    let old = say(&gateway, "shop", "old").await;
    let mut named = Socket::open(&gateway, &format!("{PATH}?subscriber=crm")).await;
    assert_eq!(named.document().await["type"], "stream.opened");
    named.close().await;
    say(&gateway, "shop", "older").await;
    gateway.clock.advance(Duration::from_secs(7_200));
    let kept = say(&gateway, "shop", "kept").await;
    let policy = gateway.config.retention.policy();
    let pruned = crate::server::eventually("two events are pruned", async || {
        let pruned = gateway.app.store.prune(&policy, zapbus_store::Budget::default()).await;
        let page = gateway.read("/v1/instances/shop/events?types=message.*").await;
        drop(pruned);
        (page["data"].as_array().unwrap().len() == 1).then_some(())
    });
    pruned.await;
    let first = gateway.read(&format!("/v1/events/{kept}")).await["seq"].clone();
    for path in [format!("{PATH}?after={old}"), format!("{PATH}?subscriber=crm")] {
        let mut socket = Socket::open(&gateway, &path).await;
        assert_eq!(socket.document().await["type"], "stream.opened");
        let gap = socket.document().await;
        assert_eq!((&gap["type"], &gap["first"]), (&json!("stream.gap"), &first), "{path}: {gap}");
        assert_eq!(socket.events(1).await, [kept.as_str()]);
        // Once.
        let next = say(&gateway, "shop", &format!("next {path}")).await;
        loop {
            let document = socket.document().await;
            assert_ne!(document["type"], "stream.gap");
            if document["id"] == *next {
                break;
            }
        }
    }
}
