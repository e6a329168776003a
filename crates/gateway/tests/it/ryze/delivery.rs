//! What arrives at webhooks.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, start};
use crate::{
    lane::{has, is},
    server::{Gateway, Receiver, Reply, text_message},
};

const SET: &str = "/api/events/webhook/shop";

async fn say(gateway: &Gateway, id: &str) -> String {
    let said = gateway.post_event("shop", &text_message("5511999990001", id, "Olá")).await;
    said["id"].as_str().unwrap().to_owned()
}

async fn read(gateway: &Gateway, id: &str) {
    let event = json!({
        "type": "message.status",
        "data": {
            "message": { "id": id, "chat": "5511999990001@s.whatsapp.net", "from_me": true },
            "chat": { "id": "5511999990001@s.whatsapp.net", "kind": "user" },
            "sender": { "id": "5511999990000@s.whatsapp.net", "kind": "user" },
            "recipient": { "id": "5511999990001@s.whatsapp.net", "kind": "user" },
            "status": "read",
        },
    });
    gateway.post_event("shop", &event).await;
}

/// The destination that is the webhook with this label.
async fn id_of(gateway: &Gateway, label: &str) -> String {
    let listed = gateway.read("/v1/instances/shop/destinations").await;
    let listed = listed["data"].as_array().unwrap().clone();
    let found = listed.iter().find(|it| it["label"] == format!("ryze/{label}")).unwrap();
    found["id"].as_str().unwrap().to_owned()
}

fn ids(received: &[crate::receiver::Received]) -> Vec<String> {
    received.iter().map(|it| it.json()["data"]["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn three_webhooks_get_each_their_own_and_none_waits_for_another() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("shop", json!({})).await;
    let main = Receiver::start().await;
    let analytics = Receiver::start().await;
    let mut mirror = Receiver::start().await;
    own.set(SET, &json!({
        "url": main.url("/hook/?key=1"), "authorization": "Bearer main secret", "byEvents": true,
    }))
    .await;
    own.set(
        SET,
        &json!({
            "label": "analytics-pipeline", "url": analytics.url("/"), "events": ["message.status"],
            "authorization": "bare-secret", "blankToken": true,
        }),
    )
    .await;
    own.set(
        SET,
        &json!({
            "label": "staging mirror", "url": mirror.url("/m"), "events": ["message.exchange"],
            "extendedEnvelope": true,
        }),
    )
    .await;
    mirror.go_down();
    let mut told = Vec::new();
    for n in 0..5 {
        told.push(say(&gateway, &format!("m{n}")).await);
        read(&gateway, &format!("m{n}")).await;
    }
    let connected = json!({ "type": "instance.connected", "data": {} });
    gateway.post_event("shop", &connected).await;
    // Without a name here.
    let typing = crate::lane::sample(&gateway, "presence.chat").await;
    gateway.post_event("shop", &typing).await;

    let got = main.wait_for(11).await;
    for received in &got {
        assert_eq!(received.method, "POST");
        assert_eq!(received.header("authorization"), Some("Bearer main secret"));
        assert_eq!(received.header("content-type"), Some("application/json"));
        let body = received.json();
        let name = body["event"].as_str().unwrap();
        assert_eq!(received.path, format!("/hook/{name}?key=1"));
        let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["event", "data", "instanceData"]);
        let from = json!({ "baseUrl": gateway.url, "instance": "shop", "token": own.token });
        assert_eq!(body["instanceData"], from);
        assert_eq!(received.header("x-event-type"), Some(name));
        assert_eq!(received.header("x-instance"), Some("shop"));
        assert_eq!(received.header("x-delivery-attempt"), Some("1"));
        assert_eq!(received.header("x-event-id"), Some(received.id()));
        assert!(received.header("webhook-signature").is_some());
    }
    let first = got.iter().find(|it| it.header("x-event-id") == Some(&told[0])).unwrap().json();
    assert_eq!(first["event"], "message.exchange");
    assert_eq!(first["data"]["message"]["content"], "Olá");
    assert_eq!(first["data"]["message"]["id"], "m0");

    let got = analytics.wait_for(5).await;
    for received in &got {
        assert_eq!(received.path, "/");
        assert_eq!(received.header("authorization"), Some("bare-secret"));
        let body = received.json();
        assert_eq!(
            (&body["event"], &body["data"]["status"]),
            (&json!("message.status"), &json!("read"))
        );
        assert_eq!(body["instanceData"]["token"], "", "it is blanked for this one");
    }

    is(&gateway, &id_of(&gateway, "staging mirror").await, "probing").await;
    mirror.come_back().await;
    let got = mirror.wait_for(5).await;
    let mut all = ids(&got);
    all.sort_unstable();
    assert_eq!(all, ["m0", "m1", "m2", "m3", "m4"], "nothing is lost");
    for received in &got {
        assert_eq!(received.header("authorization"), None);
        let body = received.json();
        assert_eq!(body["id"], received.header("x-event-id").unwrap());
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(body["instanceData"]["token"], own.token);
    }
    for (receiver, count) in [(&main, 11), (&analytics, 5), (&mirror, 5)] {
        receiver.stays_at(count).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn five_attempts_from_a_second_to_an_hour_and_then_it_is_a_dead_letter() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    // Its neighbours succeed: that one event is the matter, not the receiver.
    let receiver = Receiver::scripted(|received| match received.json()["data"]["id"] == "bad" {
        true => Reply::status(500),
        false => Reply::ok(),
    })
    .await;
    client.set(SET, &json!({ "url": receiver.url("/") })).await;
    let id = id_of(&gateway, "default").await;
    let bad = say(&gateway, "bad").await;
    let attempts = |all: &[crate::receiver::Received]| {
        all.iter().filter(|it| it.header("x-event-id") == Some(&bad)).count()
    };
    for (expected, wait) in (1..).zip([1, 15, 240, 3_600]) {
        receiver.wait_until("an attempt", |all| attempts(all) >= expected).await;
        has(&gateway, &id, "retrying", 1).await;
        let good = say(&gateway, &format!("good{wait}")).await;
        let came = |it: &crate::receiver::Received| it.header("x-event-id") == Some(&good);
        receiver.wait_until("its neighbour", |all| all.iter().any(came)).await;
        // A fifth less at the least, a fifth more at the most.
        gateway.clock.advance(Duration::from_millis(wait * 700));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(attempts(&receiver.received()), expected, "too early after {wait} s");
        gateway.clock.advance(Duration::from_millis(wait * 500));
    }
    let got = receiver.wait_until("the last one", |all| attempts(all) >= 5).await;
    let of_it = got.iter().filter(|it| it.header("x-event-id") == Some(&bad));
    let numbers: Vec<_> = of_it.map(|it| it.header("x-delivery-attempt").unwrap()).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5"]);
    let dead = has(&gateway, &id, "dead", 1).await;
    assert_eq!(dead[0]["event_id"], bad, "{dead:?}");
    // It is sent again through our own API.
    receiver.script(|_| Reply::ok());
    let path = format!("/v1/deliveries/{}/retry", dead[0]["id"].as_str().unwrap());
    assert!(gateway.post(&path, &json!({})).await.status().is_success());
    has(&gateway, &id, "dead", 0).await;
    gateway.stop().await;
}

#[tokio::test]
async fn gone_is_a_dead_letter_at_once_and_the_webhook_stays_on() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let receiver = Receiver::replying([Reply::status(410), Reply::ok()]).await;
    client.set(SET, &json!({ "url": receiver.url("/") })).await;
    let id = id_of(&gateway, "default").await;
    say(&gateway, "gone").await;
    has(&gateway, &id, "dead", 1).await;
    say(&gateway, "next").await;
    has(&gateway, &id, "delivered", 1).await;
    assert_eq!(client.read("/api/events/getWebhook/shop?label=").await["webhook"]["enabled"], true);
    gateway.stop().await;
}

#[tokio::test]
async fn what_happens_while_it_is_off_is_not_sent_later() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let receiver = Receiver::replying([Reply::status(500), Reply::ok()]).await;
    let on = json!({ "url": receiver.url("/") });
    client.set(SET, &on).await;
    let id = id_of(&gateway, "default").await;
    say(&gateway, "waits").await;
    has(&gateway, &id, "retrying", 1).await;
    client.set(SET, &json!({ "enabled": false })).await;
    // What waited is called off, and stays in the log.
    has(&gateway, &id, "cancelled", 1).await;
    say(&gateway, "unheard").await;
    gateway.clock.advance(Duration::from_secs(7_200));
    client.set(SET, &on).await;
    say(&gateway, "after").await;
    let got = receiver.wait_for(2).await;
    assert_eq!(ids(&got), ["waits", "after"]);
    receiver.stays_at(2).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_change_is_for_what_waits_too() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let old = Receiver::scripted(|_| Reply::status(500)).await;
    let new = Receiver::start().await;
    client.set(SET, &json!({ "url": old.url("/"), "authorization": "old" })).await;
    let id = id_of(&gateway, "default").await;
    say(&gateway, "waits").await;
    has(&gateway, &id, "retrying", 1).await;
    client.set(SET, &json!({ "url": new.url("/"), "authorization": "new" })).await;
    gateway.clock.advance(Duration::from_secs(2));
    let got = new.wait_for(1).await;
    assert_eq!(
        (ids(&got), got[0].header("authorization")),
        (vec!["waits".to_owned()], Some("new"))
    );
    gateway.stop().await;
}

fn picture(id: &str) -> Value {
    let mut event = text_message("5511999990001", id, "");
    event["data"]["content"] = json!({
        "kind": "image", "caption": "see this",
        "media": {
            "kind": "image", "mime": "image/jpeg", "file_name": "x.jpg", "state": "inline",
            "base64": "aGVsbG8=",
        },
    });
    event
}

#[tokio::test]
async fn a_file_that_came_with_its_event_goes_to_whoever_wants_it() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({ "websocketEnabled": true })).await;
    let [with, without] = [Receiver::start().await, Receiver::start().await];
    client.set(SET, &json!({ "label": "with", "url": with.url("/"), "mediaBase64": true })).await;
    client.set(SET, &json!({ "label": "without", "url": without.url("/") })).await;
    let mut socket = client.socket("/ws/shop").await;
    gateway.post_event("shop", &picture("one")).await;
    let media = |body: Value| body["data"]["message"]["media"].clone();
    let inline = media(with.wait_for(1).await[0].json());
    assert_eq!(inline["base64"], "aGVsbG8=", "{inline}");
    let without = media(without.wait_for(1).await[0].json());
    assert!(without.get("base64").is_none() && without["fileName"] == "x.jpg", "{without}");
    assert!(media(socket.document().await).get("base64").is_none());
    let wanted = json!({ "enabled": true, "mediaBase64": true });
    client.set("/api/events/websocket/shop", &wanted).await;
    gateway.post_event("shop", &picture("two")).await;
    assert_eq!(media(socket.document().await)["base64"], "aGVsbG8=");
    gateway.stop().await;
}
