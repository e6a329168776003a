//! Setting and reading an instance's webhooks.

use serde_json::{Value, json};

use super::{Client, HOOK, done, refused, start, start_with};
use crate::server::Receiver;

const SET: &str = "/api/events/webhook/shop";
const GET: &str = "/api/events/getWebhook/shop";

fn all() -> Value {
    json!([
        "message.exchange",
        "message.status",
        "call.update",
        "group.flow",
        "instance.state",
        "label.update",
    ])
}

#[tokio::test]
async fn a_webhook_is_set_as_a_whole_and_read_back() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("shop", json!({})).await;
    let whole = json!({
        "label": "default", "enabled": true, "url": HOOK, "authorization": "Bearer abc",
        "byEvents": true, "events": all(), "mediaBase64": true,
    });
    let set = own.set(SET, &whole).await;
    assert_eq!(set, json!({ "success": true, "message": "Webhook configured", "webhook": whole }));
    // The order of members, for whoever compares texts.
    let members: Vec<_> = set["webhook"].as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        ["label", "enabled", "url", "authorization", "byEvents", "events", "mediaBase64"]
    );
    for path in [format!("{GET}?label=default"), format!("{GET}?label="), format!("{SET}?label=")] {
        let read = own.read(&path).await;
        let expected = json!({ "success": true, "message": "Webhook retrieved", "webhook": whole });
        assert_eq!(read, expected, "{path}");
    }
    // What a request leaves out is as it is by default, not as it was.
    let bare = json!({
        "label": "default", "enabled": true, "url": HOOK, "authorization": "", "byEvents": false,
        "events": [], "mediaBase64": false,
    });
    for body in [
        json!({ "url": HOOK }),
        json!({ "url": HOOK, "enabled": true, "label": "", "authorization": null, "events": null }),
        json!({ "url": format!(" {HOOK} "), "events": [], "unknown": [1] }),
    ] {
        own.set(SET, &whole).await;
        assert_eq!(own.set(SET, &body).await["webhook"], bare, "{body}");
    }
    // Another label is another webhook; they are listed by label, on or off.
    own.set(SET, &json!({ "label": "zeta", "url": HOOK, "events": ["group.flow"] })).await;
    own.set(SET, &json!({ "label": "Alpha", "enabled": false })).await;
    let read = own.read(GET).await;
    assert_eq!(read["message"], "Webhooks retrieved");
    let labels: Vec<_> =
        read["webhooks"].as_array().unwrap().iter().map(|it| &it["label"]).collect();
    assert_eq!(labels, ["Alpha", "default", "zeta"]);
    assert_eq!(read["webhooks"][2]["events"], json!(["group.flow"]));
    assert_eq!(refused(own.get(&format!("{GET}?label=no")).await, 404).await, "Webhook not found");
    let token = own.token.clone();
    let gateway = gateway.restart().await;
    let own = Client::with(&gateway, &token);
    assert_eq!(own.read(GET).await, read);
    gateway.stop().await;
}

#[tokio::test]
async fn switching_off_clears_what_was_set_and_keeps_the_row() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let whole = json!({
        "url": "http://127.0.0.1:9/secret-path", "authorization": "Bearer very-secret",
        "byEvents": true, "events": ["call.update"], "mediaBase64": true,
    });
    client.set(SET, &whole).await;
    let off = json!({
        "label": "default", "enabled": false, "url": "", "authorization": "", "byEvents": true,
        "events": [], "mediaBase64": false,
    });
    let body = json!({ "enabled": false, "url": "http://127.0.0.1:9/ignored", "events": [] });
    assert_eq!(client.set(SET, &body).await["webhook"], off);
    assert_eq!(client.read(GET).await["webhooks"], json!([off]));
    // It is gone, not only hidden.
    let natively = gateway.read("/v1/instances/shop/destinations").await.to_string();
    assert!(!natively.contains("secret-path") && natively.contains("disabled.invalid"));
    let set = client.set(SET, &json!({ "url": HOOK })).await;
    assert_eq!(
        (&set["webhook"]["enabled"], &set["webhook"]["authorization"]),
        (&json!(true), &json!(""))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_and_changes_nothing() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let before = client.set(SET, &json!({ "url": HOOK, "authorization": "x" })).await;
    for (body, message) in [
        (json!({}), "url is required, or enabled: false"),
        (json!({ "enabled": true }), "url is required when enabled is true"),
        (json!({ "enabled": true, "url": "" }), "url is required when enabled is true"),
        (json!({ "url": HOOK, "events": ["nope"] }), "Invalid event: nope"),
        (json!({ "url": HOOK, "events": ["message.received"] }), "Invalid event: message.received"),
        (json!({ "url": HOOK, "events": ["Message.Exchange"] }), "Invalid event: Message.Exchange"),
        (json!({ "enabled": false, "events": ["nope"] }), "Invalid event: nope"),
        (json!({ "url": HOOK, "events": "message.exchange" }), "Invalid request body: events"),
        (json!({ "url": HOOK, "events": [7] }), "Invalid request body: events"),
        (json!({ "url": HOOK, "enabled": "yes" }), "Invalid request body: enabled"),
        (json!({ "url": HOOK, "byEvents": 1 }), "Invalid request body: byEvents"),
        (json!({ "url": HOOK, "mediaBase64": "no" }), "Invalid request body: mediaBase64"),
        (json!({ "url": HOOK, "authorization": {} }), "Invalid request body: authorization"),
        (json!({ "url": HOOK, "authorization": ["a"] }), "Invalid request body: authorization"),
        (json!({ "url": HOOK, "authorization": 7 }), "Invalid request body: authorization"),
        (json!({ "url": HOOK, "authorization": "a\nb" }), "authorization"),
        (json!({ "url": HOOK, "label": 7 }), "Invalid request body: label"),
        (json!({ "url": HOOK, "label": "a\u{0}b" }), "Invalid request body: label"),
        (json!({ "url": HOOK, "label": "x".repeat(121) }), "Invalid request body: label"),
        (json!({ "url": 7 }), "Invalid request body: url"),
        (json!({ "url": "nowhere" }), "url: "),
        (json!({ "url": "/hook" }), "url: "),
        (json!({ "url": "ftp://example.com/" }), "url"),
        (json!({ "url": "http://10.0.0.1/hook" }), "url"),
        (json!({ "url": "https://user:hunter2@example.com/" }), "url"),
        (json!({ "url": HOOK, "messageContent": "both" }), "Invalid request body: messageContent"),
        (json!({ "url": HOOK, "blankToken": "yes" }), "Invalid request body: blankToken"),
    ] {
        let found = refused(client.post(SET, &body).await, 400).await;
        assert!(found.starts_with(message), "{body}: {found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
    for body in ["", "{", "[]", "null", "7"] {
        let answer = client.request(reqwest::Method::POST, SET).body(body).send().await.unwrap();
        assert_eq!(refused(answer, 400).await, "Invalid request body", "{body}");
    }
    let large = client.request(reqwest::Method::POST, SET).body("x".repeat(2 << 20)).send().await;
    refused(large.unwrap(), 413).await;
    assert_eq!(client.read(GET).await["webhooks"], json!([before["webhook"]]));
    gateway.stop().await;
}

#[tokio::test]
async fn names_that_nobody_knows_may_be_passed_over() {
    let gateway = start_with(|config| config.ryze.lenient_events = true).await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let set = client.set(SET, &json!({ "url": HOOK, "events": ["new.one", "call.update"] })).await;
    assert_eq!(set["webhook"]["events"], json!(["call.update"]));
    // Nothing left is not everything.
    let answer = client.post(SET, &json!({ "url": HOOK, "events": ["new.one"] })).await;
    assert_eq!(refused(answer, 400).await, "Invalid event: new.one");
    gateway.stop().await;
}

#[tokio::test]
async fn three_are_on_at_a_time_however_many_ask_at_once() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    const FULL: &str = "Maximum of 3 enabled webhooks per instance reached";
    let asked = (0..8).map(|n| {
        let body = json!({ "label": format!("l{n}"), "url": HOOK });
        let client = &client;
        async move { client.post(SET, &body).await }
    });
    let mut on = 0;
    for answer in futures_util::future::join_all(asked).await {
        if answer.status() == 200 {
            on += 1;
        } else {
            assert_eq!(refused(answer, 400).await, FULL);
        }
    }
    assert_eq!(on, 3);
    let listed = client.read(GET).await["webhooks"].clone();
    let labels: Vec<_> = listed.as_array().unwrap().iter().map(|it| it["label"].clone()).collect();
    assert_eq!(labels.len(), 3, "{listed}");
    // One of them may be changed, and one that is off takes no place.
    client.set(SET, &json!({ "label": labels[0], "url": HOOK, "events": ["call.update"] })).await;
    client.set(SET, &json!({ "label": "off", "enabled": false })).await;
    let fourth = json!({ "label": "fourth", "url": HOOK });
    assert_eq!(refused(client.post(SET, &fourth).await, 400).await, FULL);
    client.set(SET, &json!({ "label": labels[0], "enabled": false })).await;
    client.set(SET, &fourth).await;
    let back = json!({ "label": labels[0], "url": HOOK });
    assert_eq!(refused(client.post(SET, &back).await, 400).await, FULL);
    // The first request for a label makes it, others at the same time change it.
    let same = (0..6).map(|_| client.post(SET, &fourth));
    for answer in futures_util::future::join_all(same).await {
        done(answer, 200).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn fifty_labels_are_enough() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    for n in 0..50 {
        client.set(SET, &json!({ "label": format!("l{n}"), "enabled": false })).await;
    }
    let more = client.post(SET, &json!({ "label": "more", "enabled": false })).await;
    assert_eq!(refused(more, 400).await, "Maximum of 50 webhooks per instance reached");
    // Webhooks of our own API are others, also of the same label.
    gateway.create_webhook("shop", HOOK, json!({ "label": "default" })).await;
    client.set(SET, &json!({ "label": "l7", "url": HOOK })).await;
    assert_eq!(client.read(GET).await["webhooks"].as_array().unwrap().len(), 50);
    gateway.stop().await;
}

#[tokio::test]
async fn what_only_our_own_api_knows_of_stays() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let own = json!({
        "url": HOOK, "blankToken": true, "extendedEnvelope": true, "messageContent": "object",
    });
    let set = client.set(SET, &own).await["webhook"].clone();
    assert_eq!(set["blankToken"], true);
    assert_eq!(set["extendedEnvelope"], true);
    assert_eq!(set["messageContent"], "object");
    let listed = gateway.read("/v1/instances/shop/destinations").await["data"][0].clone();
    assert_eq!(listed["label"], "ryze/default");
    assert_eq!((&listed["dialect"], &listed["retry"]["preset"]), (&json!("ryze"), &json!("ryze")));
    let path = format!("/v1/destinations/{}", listed["id"].as_str().unwrap());
    let patch = json!({ "channel": { "headers": { "x-mine": "1" } }, "max_in_flight": 7 });
    let changed = gateway.request(reqwest::Method::PATCH, &path).json(&patch).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    // A client that sets its webhook at each start, and has never heard of any of this.
    assert_eq!(client.set(SET, &json!({ "url": HOOK })).await["webhook"], set);
    let after = gateway.read(&path).await;
    assert_eq!(
        (&after["max_in_flight"], &after["channel"]["headers"]["x-mine"]),
        (&json!(7), &json!("1"))
    );
    let plain = json!({
        "url": HOOK, "blankToken": false, "extendedEnvelope": false, "messageContent": "text",
    });
    let set = client.set(SET, &plain).await;
    assert!(set["webhook"].get("blankToken").is_none(), "{set}");
    gateway.stop().await;
}

#[tokio::test]
async fn the_shorter_schedule_is_for_whoever_wants_it() {
    let gateway =
        start_with(|config| config.ryze.retry = zapbus_gateway::api::ryze::Waits::X2).await;
    let receiver = Receiver::start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    client.set(SET, &json!({ "url": receiver.url("/") })).await;
    let made = gateway.read("/v1/instances/shop/destinations").await["data"][0].clone();
    assert_eq!(made["retry"], json!({ "preset": "ryze", "waits_s": [1.0, 2.0, 4.0, 8.0] }));
    gateway.stop().await;
}
