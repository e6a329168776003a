//! Setting and reading an instance's webhook, in every spelling.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, data, expect_failure, start};
use crate::server::Receiver;

const HOOK: &str = "http://127.0.0.1:9/hook";

#[tokio::test]
async fn a_webhook_is_set_and_read() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({})).await;
    let path = format!("/instances/{}/webhook", made["id"].as_str().unwrap());
    // Nothing was set but what creating means.
    let before = client.read(&path).await;
    assert_eq!(data(&before), &json!({ "webhook": "", "subscribe": ["All"] }));

    // As the REST documentation has it.
    let set =
        client.post(&path, &json!({ "webhookURL": HOOK, "events": "Message,ReadReceipt" })).await;
    assert_eq!(
        data(&set),
        &json!({
            "webhook": HOOK, "events": "Message,ReadReceipt", "subscribe": ["Message", "ReadReceipt"],
        })
    );
    let read = client.read(&path).await;
    assert_eq!(data(&read), &json!({ "webhook": HOOK, "subscribe": ["Message", "ReadReceipt"] }));

    // Leaving events out, or giving none, keeps them.
    for body in [json!({ "url": HOOK }), json!({ "url": HOOK, "events": [] })] {
        assert_eq!(data(&client.post(&path, &body).await)["events"], "Message,ReadReceipt");
    }
    // Events alone can be changed.
    let set = client.post(&path, &json!({ "events": ["message", "connected"] })).await;
    assert_eq!(data(&set)["events"], "Message,Connected");
    assert_eq!(data(&set)["webhook"], HOOK);
    let set = client.post(&path, &json!({ "events": ["All", "Message"] })).await;
    assert_eq!(data(&set)["events"], "All");
    gateway.stop().await;
}

#[tokio::test]
async fn the_url_may_be_spelled_as_every_sdk_spells_it() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({})).await;
    let path = format!("/instances/{}/webhook", made["id"].as_str().unwrap());
    let keys = ["webhook_url", "webhookURL", "webhook_u_r_l", "webhookUrl", "url", "webhook"];
    for (index, key) in keys.iter().enumerate() {
        let url = format!("{HOOK}/{index}");
        let set = client.post(&path, &json!({ (*key): format!(" {url} "), "enabled": true })).await;
        assert_eq!(data(&set)["webhook"], url, "{key}");
    }
    // The first in that order that says something.
    let set = client
        .post(&path, &json!({ "url": format!("{HOOK}/b"), "webhook_url": "", "webhookURL": format!("{HOOK}/a") }))
        .await;
    assert_eq!(data(&set)["webhook"], format!("{HOOK}/a"));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_changes_nothing() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({ "webhook": HOOK })).await;
    let path = format!("/instances/{}/webhook", made["id"].as_str().unwrap());
    for (body, code) in [
        (json!({ "webhook_url": "nowhere" }), "webhook_url_invalid"),
        (json!({ "webhook_url": "ftp://example.com/x" }), "webhook_url_invalid"),
        (json!({ "webhook_url": "/relative" }), "webhook_url_invalid"),
        (json!({ "webhook_url": "http://10.0.0.1/x" }), "webhook_url_invalid"),
        (json!({ "webhook_url": 7 }), "invalid"),
        (json!({ "webhook_url": "http://127.0.0.1:9/b", "events": ["Receipt"] }), "unknown_event"),
        (json!({ "events": "MessageDelivered" }), "unknown_event"),
        (json!({ "events": "MessageRead,Message" }), "unknown_event"),
        (json!({ "events": 7 }), "invalid"),
        (json!({ "enabled": "perhaps" }), "invalid"),
        (json!({}), "invalid"),
    ] {
        let answer = client.send(Method::POST, &path, &body).await;
        let message = expect_failure(answer, 400, code).await;
        assert!(!message.contains("shop"), "{message}");
    }
    let read = client.read(&path).await;
    assert_eq!(data(&read), &json!({ "webhook": HOOK, "subscribe": ["All"] }));
    gateway.stop().await;
}

#[tokio::test]
async fn what_happens_while_it_is_off_is_not_sent_later() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({ "webhook": receiver.url("/hook") })).await;
    let path = format!("/instances/{}/webhook", made["id"].as_str().unwrap());
    let say = |id: &'static str| {
        let message = crate::server::text_message("5511999990001", id, id);
        let gateway = &gateway;
        async move { gateway.post_event("shop", &message).await }
    };
    say("one").await;
    receiver.wait_for(1).await;
    for off in [json!({ "webhook_url": "" }), json!({ "url": HOOK, "enabled": false })] {
        let set = client.post(&path, &off).await;
        assert_eq!(data(&set)["webhook"], "");
        assert_eq!(
            data(&client.read(&path).await),
            &json!({ "webhook": "", "subscribe": ["All"] })
        );
        say("unheard").await;
        let set = client.post(&path, &json!({ "url": receiver.url("/hook") })).await;
        assert_eq!(data(&set)["webhook"], receiver.url("/hook"));
    }
    say("two").await;
    let got = receiver.wait_for(2).await;
    let id = |body: &Value| body["event"]["info"]["id"].as_str().unwrap().to_owned();
    assert_eq!(got.iter().map(|it| id(&it.json())).collect::<Vec<_>>(), ["one", "two"]);
    gateway.stop().await;
}

#[tokio::test]
async fn events_are_kept_until_there_is_a_webhook() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({ "events_subscribe": ["Presence"] })).await;
    assert_eq!(made["events_subscribe"], json!(["Presence"]));
    let path = format!("/instances/{}/webhook", made["id"].as_str().unwrap());
    let set = client.post(&path, &json!({ "events": "Connected" })).await;
    assert_eq!(
        data(&set),
        &json!({ "webhook": "", "events": "Connected", "subscribe": ["Connected"] })
    );
    let set = client.post(&path, &json!({ "url": HOOK })).await;
    assert_eq!(data(&set)["events"], "Connected");
    let gateway = gateway.restart().await;
    let client = Client::of(&gateway).await;
    assert_eq!(data(&client.read(&path).await)["webhook"], HOOK);

    // Never touched through this API: nothing is subscribed to.
    gateway.create_instance("other").await;
    let read = client.read("/instances/other/webhook").await;
    assert_eq!(data(&read), &json!({ "webhook": "", "subscribe": [] }));
    gateway.stop().await;
}
