//! Instances: made with everything that belongs to them, listed, deleted.

use serde_json::{Value, json};

use super::{Client, HOOK, done, refused, start, start_with};

#[tokio::test]
async fn an_instance_is_made_with_its_webhook_and_its_websocket() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (made, own) = client
        .instance(
            "shop-1.a_B",
            json!({
                "token": "a-token-of-their-own",
                "webhookEnabled": true, "webhookURL": HOOK, "webhookAuthorization": "Bearer abc",
                "webhookByEvents": true, "webhookEvents": ["message.exchange"],
                "webhookMediaBase64": true,
                "websocketEnabled": true, "websocketEvents": ["call.update"],
                "websocketMediaBase64": true,
                "ignoreGroupMessages": true, "disableHistorySync": true,
                "autoReadMessages": false, "proxyEnabled": false, "proxyHost": "",
            }),
        )
        .await;
    assert_eq!(made["message"], "Instance created");
    assert_eq!(made["data"]["token"], "a-token-of-their-own");
    assert_eq!(own.token, "a-token-of-their-own");
    assert!(made.get("warnings").is_none(), "{made}");
    let webhook = json!({
        "label": "default", "enabled": true, "url": HOOK, "authorization": "Bearer abc",
        "byEvents": true, "events": ["message.exchange"], "mediaBase64": true,
    });
    let websocket = json!({ "enabled": true, "events": ["call.update"], "mediaBase64": true });
    let read = own.read("/api/events/getWebhook/shop-1.a_B").await;
    assert_eq!(read["webhooks"], json!([webhook]));
    let listed = own.read("/api/instance/list").await;
    assert_eq!(listed["message"], "1 Instance found");
    let item = &listed["instances"][0];
    for shown in [item, &made["instance"]] {
        assert_eq!(
            (&shown["name"], &shown["status"]),
            (&json!("shop-1.a_B"), &json!("disconnected"))
        );
        assert_eq!((&shown["webhook"], &shown["websocket"]), (&webhook, &websocket));
        assert_eq!(shown["connection"]["state"], "disconnected");
        assert_eq!(shown["settings"]["ignoreGroupMessages"], true);
        assert_eq!(shown["settings"]["ignoreStatus"], false);
        assert_eq!(shown["settings"]["disableHistorySync"], true);
    }
    assert!(item.get("token").is_none(), "a token is shown once");
    let members: Vec<_> = item.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "name",
            "status",
            "connection",
            "profile",
            "webhook",
            "websocket",
            "chatwoot",
            "proxy",
            "settings",
            "s3",
        ]
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_part_that_is_wrong_does_not_stand_in_the_way() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (made, own) = client
        .instance(
            "shop",
            json!({
                "webhookEnabled": true, "webhookURL": "nowhere",
                "websocketEnabled": true, "websocketEvents": ["nope"],
                "autoRejectCalls": true, "s3Bucket": "b", "chatwootToken": "secret",
            }),
        )
        .await;
    let warnings: Vec<_> = made["warnings"].as_array().unwrap().to_vec();
    let begin = |beginning: &str| {
        warnings.iter().filter(|it| it.as_str().unwrap().starts_with(beginning)).count()
    };
    for (beginning, count) in [
        ("webhook: webhookURL", 1),
        ("websocket: Invalid event: nope", 1),
        ("autoRejectCalls", 1),
        ("s3Bucket", 1),
        ("chatwootToken", 1),
    ] {
        assert_eq!(begin(beginning), count, "{beginning}: {warnings:?}");
    }
    assert!(!made.to_string().contains("secret"));
    assert_eq!(own.read("/api/events/getWebhook/shop").await["webhooks"], json!([]));
    refused(own.get("/api/events/getWebsocket/shop").await, 404).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_off_from_the_beginning_has_no_row() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let off = json!({ "webhookEnabled": false, "webhookURL": "", "websocketEnabled": false });
    let (made, own) = client.instance("shop", off).await;
    assert!(made.get("warnings").is_none(), "{made}");
    assert_eq!(own.read("/api/events/getWebhook/shop").await["webhooks"], json!([]));
    refused(own.get("/api/events/getWebsocket/shop").await, 404).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_instance_itself_makes_none() {
    let gateway = start_with(|config| config.ryze.max_instances = 2).await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("shop", json!({})).await;
    let own_token = own.token.as_str();
    for (body, status, message) in [
        (json!({}), 400, "name is required"),
        (json!({ "name": "" }), 400, "name is required"),
        (json!({ "name": 7 }), 400, "Invalid request body: name"),
        (json!({ "name": "a b" }), 400, "Invalid instance name"),
        (json!({ "name": "é" }), 400, "Invalid instance name"),
        (json!({ "name": "a/b" }), 400, "Invalid instance name"),
        (json!({ "name": "x".repeat(65) }), 400, "Invalid instance name"),
        (json!({ "name": "_account" }), 400, "Invalid instance name"),
        (json!({ "name": "new", "token": "short" }), 400, "token: "),
        (json!({ "name": "new", "token": own_token }), 409, "This token"),
        (json!({ "name": "new", "ignoreStatus": "x" }), 400, "Invalid request body: ignoreStatus"),
        (json!({ "name": "shop" }), 409, "Instance already exists"),
    ] {
        let found = refused(client.post("/api/instance/new", &body).await, status).await;
        assert!(found.starts_with(message), "{body}: {found}");
    }
    let answer = client.request(reqwest::Method::POST, "/api/instance/new").body("{");
    assert_eq!(refused(answer.send().await.unwrap(), 400).await, "Invalid request body");
    client.instance("second", json!({})).await;
    let third = client.post("/api/instance/new", &json!({ "name": "third" })).await;
    assert_eq!(refused(third, 403).await, "Account instance quota exceeded");
    let listed = client.read("/api/instance/list").await;
    assert_eq!(names(&listed), ["second", "shop"]);
    gateway.stop().await;
}

fn names(listed: &Value) -> Vec<String> {
    let instances = listed["instances"].as_array().unwrap();
    instances.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn instances_are_listed_by_name_and_a_token_sees_its_own() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let empty = client.read("/api/instance/list").await;
    assert_eq!((&empty["message"], &empty["instances"]), (&json!("0 Instances found"), &json!([])));
    let (_, own) = client.instance("b", json!({})).await;
    client.instance("a", json!({})).await;
    client.instance("c", json!({})).await;
    let list = async |client: &Client<'_>, query: &str| {
        names(&client.read(&format!("/api/instance/list{query}")).await)
    };
    assert_eq!(list(&client, "").await, ["a", "b", "c"]);
    assert_eq!(list(&client, "?instanceName=c,%20a,,nobody").await, ["a", "c"]);
    assert_eq!(list(&client, "?instanceName=").await.len(), 3);
    assert_eq!(list(&own, "").await, ["b"]);
    assert_eq!(list(&own, "?instanceName=b").await, ["b"]);
    for (client, name) in [(&client, "nobody"), (&own, "a")] {
        let answer = client.get(&format!("/api/instance/list?instanceName={name}")).await;
        assert_eq!(refused(answer, 404).await, "Instance not found");
    }
    let read = client.read("/api/instance/list").await;
    assert_eq!(read["message"], "3 Instances found");
    let none = json!({
        "label": "default", "enabled": false, "url": "", "authorization": "", "byEvents": false,
        "events": [], "mediaBase64": false,
    });
    assert_eq!(read["instances"][0]["webhook"], none);
    gateway.stop().await;
}

#[tokio::test]
async fn an_instance_is_deleted_with_the_accounts_token() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("shop", json!({ "webhookURL": HOOK })).await;
    let refusal = refused(own.delete("/api/instance/delete/shop").await, 401).await;
    assert_eq!(refusal, "Invalid token");
    let gone = done(client.delete("/api/instance/delete/shop").await, 200).await;
    assert_eq!(gone["message"], "Instance deleted");
    assert_eq!(gone["instance"], json!({ "name": "shop", "status": "deleted" }));
    refused(client.delete("/api/instance/delete/shop").await, 404).await;
    // Its token has gone with it.
    refused(own.get("/api/instance/list").await, 401).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_is_what_its_events_say() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let connect = async || client.read("/api/instance/connect/shop?number=5511999990001").await;
    let before = connect().await;
    assert_eq!((&before["status"], &before["qrCode"]), (&json!("disconnected"), &Value::Null));
    let qr = json!({ "type": "instance.qr", "data": { "code": "2@abc,def", "fetch": "inline" } });
    gateway.post_event("shop", &qr).await;
    gateway
        .post_event(
            "shop",
            &json!({ "type": "instance.pair_code", "data": { "code": "ABCD-1234", "state": "issued" } }),
        )
        .await;
    let shown = connect().await;
    for place in [&shown, &shown["data"]] {
        assert_eq!(place["qrCode"], "2@abc,def", "{shown}");
        assert_eq!(place["pairingCode"], "ABCD-1234");
        assert!(place["qrCodeBase64"].as_str().unwrap().starts_with("data:image/"));
        assert_eq!(place["status"], "connecting");
    }
    let out = client.delete("/api/instance/logout/shop").await;
    assert!(refused(out, 501).await.contains("does not hold the session"));
    let connected = json!({
        "type": "instance.connected",
        "data": { "account": { "address": { "id": "5511999990000@s.whatsapp.net", "kind": "user" }, "name": "Shop" } },
    });
    gateway.post_event("shop", &connected).await;
    assert_eq!(connect().await["status"], "connected");
    let again = done(client.post("/api/instance/reconnect/shop", &json!({})).await, 200).await;
    assert_eq!(again["instance"], json!({ "name": "shop", "status": "connected" }));
    let item = client.read("/api/instance/list").await["instances"][0].clone();
    assert_eq!(item["connection"]["state"], "connected");
    assert_eq!(item["connection"]["numberJid"], "5511999990000@s.whatsapp.net", "{item}");
    assert_eq!(item["profile"]["name"], "Shop");
    let out = json!({ "type": "instance.logged_out", "data": { "reason": "unlinked" } });
    gateway.post_event("shop", &out).await;
    let out = done(client.delete("/api/instance/logout/shop").await, 200).await;
    assert_eq!(out["message"], "Instance logged out");
    assert_eq!(out["instance"], json!({ "name": "shop", "status": "loggedout" }));
    gateway.stop().await;
}
