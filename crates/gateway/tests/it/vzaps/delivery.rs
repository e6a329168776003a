//! What arrives at a webhook.

use serde_json::json;

use super::{Client, start};
use crate::server::{Receiver, Reply, text_message};

#[tokio::test]
async fn a_webhook_gets_bodies_and_headers_of_vzaps() {
    let gateway = start().await;
    let receiver = Receiver::replying([Reply::status(500), Reply::ok(), Reply::ok()]).await;
    let client = Client::of(&gateway).await;
    let hook = json!({ "webhook": receiver.url("/hook?key=1"), "events_subscribe": ["Message", "ReadReceipt"] });
    let made = client.instance("shop", hook).await;
    let id = made["id"].as_str().unwrap();
    let posted = gateway.post_event("shop", &text_message("5511999990001", "3EB0", "Olá")).await;
    // Not subscribed to, and without a name in this dialect.
    gateway.post_event("shop", &json!({ "type": "instance.connected", "data": {} })).await;
    let got = receiver.wait_for(2).await;
    for (attempt, received) in got.iter().enumerate() {
        assert_eq!(received.path, "/hook?key=1");
        let body = received.json();
        let event = posted["id"].as_str().unwrap();
        for (name, value) in [
            ("content-type", "application/json"),
            ("x-instance-id", id),
            ("x-event-id", event),
            ("x-event-type", "Message"),
            ("x-delivery-attempt", &(attempt + 1).to_string()),
        ] {
            assert_eq!(received.header(name), Some(value), "{name}");
        }
        assert_eq!((&body["id"], &body["type"]), (&json!(event), &json!("Message")));
        assert_eq!(body["instance_id"], id);
        assert_eq!(body["event"]["message"]["conversation"], "Olá");
        assert_eq!(body["data"]["event"], body["event"]);
        assert_eq!(body["data"]["type"], "Message");
        // Signed besides, for whoever looks.
        assert!(received.header("webhook-signature").is_some());
    }
    gateway.post_event("shop", &json!({
        "type": "message.status",
        "data": {
            "message": { "id": "3EB0", "chat": "5511999990001@s.whatsapp.net", "from_me": true },
            "chat": { "id": "5511999990001@s.whatsapp.net", "kind": "user" },
            "sender": { "id": "5511999990000@s.whatsapp.net", "kind": "user" },
            "recipient": { "id": "5511999990001@s.whatsapp.net", "kind": "user" },
            "status": "read",
        },
    })).await;
    let read = receiver.wait_for(3).await[2].json();
    assert_eq!((&read["type"], &read["state"]), (&json!("ReadReceipt"), &json!("Read")));
    assert_eq!(read["event"]["message_i_ds"], json!(["3EB0"]));
    receiver.stays_at(3).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_destination_of_our_own_api_may_speak_it_too() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    let more = json!({
        "dialect": "vzaps", "fallback": "extended",
        "channel": { "headers": { "X-Instance-Id": "mine" } },
    });
    let made = gateway.create_webhook("shop", &receiver.url("/"), more).await;
    assert_eq!((&made["retry"]["preset"], &made["media_key"]), (&json!("vzaps"), &json!(true)));
    gateway
        .post_event(
            "shop",
            &json!({
                "type": "chat.deleted",
                "data": { "chat": { "id": "1@s.whatsapp.net", "kind": "user" }, "mode": "clear" },
            }),
        )
        .await;
    let got = receiver.wait_for(1).await;
    let body = got[0].json();
    assert_eq!((&body["type"], &body["event"]["mode"]), (&json!("ChatDeleted"), &json!("clear")));
    // What a destination sets itself stays.
    assert_eq!(got[0].header("x-instance-id"), Some("mine"));
    gateway.stop().await;
}
