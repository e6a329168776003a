//! What arrives at a webhook.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use zapbus_event::{Draft, Kind, Source, SourceKind};

use super::{Client, members, start, start_with};
use crate::{
    receiver::{Received, Receiver, Reply},
    server::text_message,
};

/// The claims of a token that is valid, after its signature was checked.
fn claims(received: &Received, key: &str) -> Value {
    let text = received.header("authorization").unwrap();
    let token = text.strip_prefix("Bearer ").unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    let claims = signed.split_once('.').unwrap().1;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[tokio::test]
async fn a_webhook_gets_evolutions_body_and_headers() {
    let gateway = start_with(|config| {
        config.public_url = Some("https://bus.example.com".to_owned());
    })
    .await;
    let client = Client::of(&gateway);
    let receiver = Receiver::start().await;
    let url = receiver.url("/hook?key=1");
    let hook = json!({
        "url": url, "events": ["MESSAGES_UPSERT", "CONNECTION_UPDATE"],
        "headers": {
            "X-Tenant": "acme", "Authorization": "Bearer mine",
            // Upstream's own come first.
            "User-Agent": "mine", "X-Instance-Name": "mine", "X-Event-Type": "mine",
        },
    });
    let made = client.create("shop", json!({ "webhook": hook })).await;
    let posted = gateway.post_event("shop", &text_message("5511999990001", "3EB0", "Olá")).await;
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hook?key=1"));
    let id = made["instance"]["instanceId"].as_str().unwrap();
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", "EvolutionAPI-Webhook/2.3.7"),
        ("x-instance-id", id),
        ("x-instance-name", "shop"),
        ("x-event-type", "messages.upsert"),
        ("x-tenant", "acme"),
        ("authorization", "Bearer mine"),
        // Besides, for whoever looks.
        ("webhook-id", posted["id"].as_str().unwrap()),
        ("zapbus-event", "messages.upsert"),
    ] {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
    assert!(received.header("webhook-signature").unwrap().starts_with("v1,"));
    assert!(received.header("x-timestamp").unwrap().parse::<u64>().unwrap() > 1_700_000_000_000);
    let body = received.json();
    // Before the first connection there is no `sender`.
    assert_eq!(
        members(&body),
        ["event", "instance", "data", "destination", "date_time", "server_url", "apikey"]
    );
    assert_eq!((&body["event"], &body["instance"]), (&json!("messages.upsert"), &json!("shop")));
    assert_eq!(body["data"]["message"]["conversation"], "Olá");
    assert_eq!(body["data"]["key"]["remoteJid"], "5511999990001@s.whatsapp.net");
    assert_eq!(body["destination"], url);
    assert_eq!(body["server_url"], "https://bus.example.com");
    assert_eq!(body["apikey"], Value::Null, "not shown unless the operator says so");
    assert!(body["date_time"].as_str().unwrap().ends_with('Z'));

    let own = json!({ "id": "5511999990000@s.whatsapp.net", "kind": "user" });
    let connected = json!({ "account": { "address": own, "name": "Shop" } });
    let event = json!({ "type": "instance.connected", "data": connected });
    gateway.post_event("shop", &event).await;
    let body = receiver.wait_for(2).await[1].json();
    assert_eq!(body["event"], "connection.update");
    assert_eq!(body["sender"], "5511999990000@s.whatsapp.net");
    // Not subscribed to.
    gateway
        .post_event(
            "shop",
            &json!({
                "type": "chat.deleted",
                "data": { "chat": { "id": "1@s.whatsapp.net", "kind": "user" }, "mode": "delete" },
            }),
        )
        .await;
    receiver.stays_at(2).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_url_is_shown_and_named_as_it_was_written() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    let receiver = Receiver::start().await;
    // Without a path, which is no URL's canonical form.
    let url = receiver.url("").trim_end_matches('/').replace("http://", "HTTP://");
    let hook = json!({ "enabled": true, "url": url, "events": ["MESSAGES_UPSERT"] });
    client.create("shop", json!({ "webhook": hook })).await;
    assert_eq!(client.get("/webhook/find/shop").await["url"], url.as_str());
    gateway.post_event("shop", &text_message("5511999990001", "one", "1")).await;
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!((received.path.as_str(), &received.json()["destination"]), ("/", &json!(url)));
    // It stays so when something else is set.
    let row = client.post("/webhook/set/shop", &json!({ "webhook": { "enabled": false } })).await;
    assert_eq!(row["url"], url.as_str());
    // What our own API puts in its place is shown as that is.
    let page = gateway.read("/v1/instances/shop/destinations").await;
    let path = format!("/v1/destinations/{}", page["data"][0]["id"].as_str().unwrap());
    let change = json!({ "channel": { "url": receiver.url("/new") } });
    let changed = gateway.request(reqwest::Method::PATCH, &path).json(&change).send().await;
    assert_eq!(changed.unwrap().status(), 200);
    assert_eq!(client.get("/webhook/find/shop").await["url"], receiver.url("/new"));
    gateway.stop().await;
}

#[tokio::test]
async fn the_token_is_shown_when_the_operator_says_so() {
    let gateway = start_with(|config| config.evolution.expose_api_key = Some(true)).await;
    let client = Client::of(&gateway);
    let receiver = Receiver::start().await;
    let hook = json!({ "url": receiver.url("/"), "events": ["MESSAGES_UPSERT"] });
    let made = client.create("shop", json!({ "webhook": hook })).await;
    gateway.post_event("shop", &text_message("5511999990001", "3EB0", "Olá")).await;
    let body = receiver.wait_for(1).await[0].json();
    assert_eq!(body["apikey"], made["hash"]);
    gateway.stop().await;
}

#[tokio::test]
async fn by_events_appends_the_segment_before_the_query() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    let receiver = Receiver::start().await;
    let url = receiver.url("/hook/?key=1");
    let hook = json!({ "url": url, "byEvents": true, "events": [] });
    client.create("shop", json!({ "webhook": hook })).await;
    gateway.post_event("shop", &text_message("5511999990001", "3EB0", "Olá")).await;
    let group = json!({ "id": "1203@g.us", "kind": "group" });
    gateway
        .post_event(
            "shop",
            &json!({
                "type": "group.participants",
                "data": {
                    "group": group, "action": "add",
                    "participants": [{ "address": { "id": "5511999990002@s.whatsapp.net", "kind": "user" } }],
                },
            }),
        )
        .await;
    let got = receiver
        .wait_until("all three", |all| {
            // In no order: they do not concern one chat.
            ["participants", "messages-upsert", "instance-create"]
                .iter()
                .all(|name| all.iter().any(|it| it.path.contains(name)))
        })
        .await;
    let paths: Vec<&str> = got.iter().map(|it| it.path.as_str()).collect();
    for path in ["messages-upsert", "group-participants-update", "instance-create"] {
        let path = format!("/hook/{path}?key=1");
        assert!(paths.contains(&path.as_str()), "{path}: {paths:?}");
    }
    // The body names the URL without it.
    assert!(got.iter().all(|it| it.json()["destination"] == url.as_str()));
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_is_signed_anew_for_each_attempt() {
    let gateway = start_with(|config| {
        config.evolution.webhook.initial_delay_s = 0.05;
        config.evolution.webhook.max_delay_s = 0.05;
    })
    .await;
    let client = Client::of(&gateway);
    let clock = gateway.clock.clone();
    let receiver = Receiver::scripted(move |received| match received.index {
        0 => {
            // So late that the first token is over.
            clock.advance(Duration::from_secs(700));
            Reply::status(500)
        }
        _ => Reply::ok(),
    })
    .await;
    let hook = json!({
        "url": receiver.url("/"), "events": ["MESSAGES_UPSERT"],
        "headers": { "jwt_key": "hush", "Authorization": "Bearer mine" },
    });
    client.create("shop", json!({ "webhook": hook })).await;
    gateway.post_event("shop", &text_message("5511999990001", "3EB0", "Olá")).await;
    let got = receiver.wait_for(2).await;
    let (first, second) = (claims(&got[0], "hush"), claims(&got[1], "hush"));
    assert_eq!(members(&first), ["iat", "exp", "app", "action"]);
    assert_eq!((&first["app"], &first["action"]), (&json!("evolution"), &json!("webhook")));
    let second_of = |claims: &Value, name: &str| claims[name].as_i64().unwrap();
    for claims in [&first, &second] {
        assert_eq!(second_of(claims, "exp") - second_of(claims, "iat"), 600);
    }
    assert!(second_of(&second, "iat") - second_of(&first, "iat") >= 700, "{first} {second}");
    assert!(got.iter().all(|it| it.header("jwt_key").is_none()), "the key itself stays here");
    gateway.stop().await;
}

#[tokio::test]
async fn retries_are_as_the_operator_says() {
    let gateway = start_with(|config| {
        let webhook = &mut config.evolution.webhook;
        webhook.initial_delay_s = 0.02;
        webhook.exponential = false;
        webhook.max_attempts = 3;
        webhook.final_statuses = vec![409];
    })
    .await;
    let client = Client::of(&gateway);
    let receiver =
        Receiver::scripted(|received| match received.json()["data"]["key"]["id"].as_str() {
            Some("final") => Reply::status(409),
            Some("often") => Reply::status(500),
            _ => Reply::ok(),
        })
        .await;
    let hook = json!({ "url": receiver.url("/"), "events": ["MESSAGES_UPSERT"] });
    client.create("shop", json!({ "webhook": hook })).await;
    let say = async |id: &'static str| {
        gateway.post_event("shop", &text_message("5511999990001", id, id)).await;
    };
    let times = |all: &[Received], id: &str| {
        all.iter().filter(|it| it.json()["data"]["key"]["id"] == id).count()
    };
    say("good").await;
    receiver.wait_for(1).await;
    say("often").await;
    receiver.wait_until("three attempts", |all| times(all, "often") == 3).await;
    say("good again").await;
    receiver.wait_until("it goes on", |all| times(all, "good again") == 1).await;
    // A final answer ends it at once, while its neighbours are taken.
    say("final").await;
    receiver.wait_until("one attempt", |all| times(all, "final") == 1).await;
    say("last").await;
    let all = receiver.wait_until("the last", |all| times(all, "last") == 1).await;
    assert_eq!((times(&all, "often"), times(&all, "final")), (3, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn a_file_that_came_with_the_event_goes_into_the_body_where_wanted() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    let receiver = Receiver::start().await;
    let hook = |base64: bool| {
        json!({ "webhook": {
            "enabled": true, "url": receiver.url("/"), "base64": base64, "events": ["MESSAGES_UPSERT"],
        } })
    };
    client.create("shop", json!({})).await;
    let chat = json!({ "id": "5511999990001@s.whatsapp.net", "kind": "user" });
    let image = |id: &str| {
        json!({
            "type": "message.received", "id": id,
            "data": {
                "message": { "id": id, "chat": chat["id"], "from_me": false },
                "chat": chat, "sender": chat,
                "content": {
                    "kind": "image",
                    "media": {
                        "kind": "image", "mime": "image/png", "state": "inline", "base64": "iVBORw==",
                    },
                },
            },
        })
    };
    client.post("/webhook/set/shop", &hook(true)).await;
    gateway.post_event("shop", &image("with")).await;
    let body = receiver.wait_for(1).await[0].json();
    assert_eq!(body["data"]["message"]["base64"], "iVBORw==", "{body}");
    client.post("/webhook/set/shop", &hook(false)).await;
    gateway.post_event("shop", &image("without")).await;
    let body = receiver.wait_for(2).await[1].json();
    assert_eq!(body["data"]["key"]["id"], "without");
    assert!(body["data"]["message"].get("base64").is_none(), "{body}");
    gateway.stop().await;
}

/// A sample of a type, as it is posted.
fn sample(kind: Kind) -> Value {
    let source = Source {
        kind: SourceKind::Native,
        event: kind.as_str().to_owned(),
        version: None,
        delivery_id: None,
        index: 0,
    };
    let data = Draft::from_data(&zapbus_event::sample(kind), source).data;
    let data: Value = serde_json::from_slice(&data).unwrap();
    json!({ "type": kind.as_str(), "data": data })
}

#[tokio::test]
async fn names_that_upstream_lists_and_never_sends_are_sent() {
    let all = Receiver::start().await;
    let url = all.url("/all");
    let gateway = start_with(|config| {
        let webhook = &mut config.evolution.webhook;
        webhook.enabled = true;
        webhook.url = Some(url);
        webhook.events = vec!["APPLICATION_STARTUP".to_owned()];
    })
    .await;
    let client = Client::of(&gateway);
    let receiver = Receiver::start().await;
    let events = ["APPLICATION_STARTUP", "GROUP_UPDATE", "CONTACTS_SET", "STATUS_INSTANCE"];
    let hook = json!({ "url": receiver.url("/"), "events": events });
    client.create("shop", json!({ "webhook": hook })).await;
    gateway.post_event("shop", &sample(Kind::GroupUpdated)).await;
    gateway.post_event("shop", &sample(Kind::HistorySync)).await;
    let lost = json!({ "reason": "stopped", "will_reconnect": false });
    let lost = json!({ "type": "instance.disconnected", "data": lost });
    gateway.post_event("shop", &lost).await;
    let got = receiver.wait_for(3).await;
    let mut names: Vec<Value> = got.iter().map(|it| it.json()["event"].clone()).collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, ["contacts.set", "groups.update", "status.instance"]);
    // The server starts, and no instance does: whoever gets the events of all is told.
    assert_eq!(all.wait_for(1).await[0].json()["event"], "application.startup");
    let gateway = gateway.restart().await;
    all.wait_for(2).await;
    receiver.stays_at(3).await;
    gateway.stop().await;
}
