//! The life of instances.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, members, start, start_with, with_brokers};
use crate::server::{Gateway, Receiver, expect_json};

const HOOK: &str = "http://127.0.0.1:9/hook";

#[tokio::test]
async fn an_instance_is_made_with_its_channels() {
    let gateway = start_with(with_brokers).await;
    let client = Client::of(&gateway);
    let made = client
        .create(
            "shop",
            json!({
                "qrcode": true, "rejectCall": true,
                "webhook": {
                    "url": HOOK, "byEvents": true, "headers": { "Authorization": "Bearer mine" },
                    "events": ["MESSAGES_UPSERT"],
                },
                "websocket": { "enabled": true, "events": ["CALL"] },
                "rabbitmq": { "events": ["CALL"] },
                "nats": { "enabled": true, "events": ["CALL"] },
            }),
        )
        .await;
    assert_eq!(
        members(&made),
        [
            "instance",
            "hash",
            "webhook",
            "websocket",
            "rabbitmq",
            "nats",
            "sqs",
            "settings",
            "qrcode"
        ]
    );
    assert_eq!(
        members(&made["instance"]),
        [
            "instanceName",
            "instanceId",
            "integration",
            "webhookWaBusiness",
            "accessTokenWaBusiness",
            "status"
        ]
    );
    assert_eq!(made["instance"]["instanceName"], "shop");
    assert_eq!(made["instance"]["status"], "close");
    let hash = made["hash"].as_str().unwrap();
    assert_eq!((hash.len(), hash.to_uppercase().as_str()), (36, hash));
    assert_eq!(
        made["webhook"],
        json!({
            "webhookUrl": HOOK, "webhookHeaders": { "Authorization": "Bearer mine" },
            "webhookByEvents": true, "webhookBase64": false,
        })
    );
    assert_eq!(
        (&made["websocket"], &made["rabbitmq"], &made["nats"], &made["sqs"]),
        (&json!({ "enabled": true }), &json!({ "enabled": true }), &json!({}), &json!({}))
    );
    assert_eq!(made["settings"]["rejectCall"], false, "there is no session that would do it");
    assert_eq!(made["qrcode"]["base64"], Value::Null);
    assert_eq!(client.get("/webhook/find/shop").await["events"], json!(["MESSAGES_UPSERT"]));
    assert_eq!(client.get("/websocket/find/shop").await["events"], json!(["CALL"]));
    assert_eq!(client.get("/rabbitmq/find/shop").await["events"], json!(["CALL"]));
    // The token of the answer is the instance's key.
    Client::with(&gateway, hash).get("/webhook/find/shop").await;
    gateway.stop().await;
}

#[tokio::test]
async fn bodies_of_every_age_make_an_instance() {
    let gateway = start_with(with_brokers).await;
    let client = Client::of(&gateway);
    // The first version's, flat.
    let flat = json!({
        "instanceName": "old", "webhook": HOOK, "webhook_by_events": true,
        "events": ["CALL"], "websocket_enabled": true, "websocket_events": ["CALL"],
        "rabbitmq_enabled": false, "sqs_enabled": true,
    });
    let made = client.post("/instance/create", &flat).await;
    assert_eq!(made["instance"]["integration"], "WHATSAPP-BAILEYS");
    assert_eq!(made["webhook"]["webhookUrl"], HOOK);
    let row = client.get("/webhook/find/old").await;
    assert_eq!((&row["events"], &row["webhookByEvents"]), (&json!(["CALL"]), &json!(true)));
    assert_eq!(client.get("/websocket/find/old").await["enabled"], true);
    assert_eq!(client.get("/rabbitmq/find/old").await, Value::Null);
    assert_eq!(client.get("/sqs/find/old").await["enabled"], true);
    // A block without events means all, and one that says no is heeded.
    let body = json!({
        "instanceName": "new",
        "webhook": { "enabled": false, "url": HOOK },
        "websocket": {},
    });
    client.post("/instance/create", &body).await;
    let row = client.get("/webhook/find/new").await;
    assert_eq!((&row["enabled"], &row["url"]), (&json!(false), &json!(HOOK)));
    // Headers that were not given are not there.
    let body = json!({ "instanceName": "plain", "webhook": { "url": HOOK, "events": ["CALL"] } });
    let made = client.post("/instance/create", &body).await;
    assert_eq!(members(&made["webhook"]), ["webhookUrl", "webhookByEvents", "webhookBase64"]);
    let row = client.get("/websocket/find/new").await;
    assert!(row["events"].as_array().unwrap().len() > 30, "{row}");
    // An empty URL is none.
    client.post("/instance/create", &json!({ "instanceName": "none", "webhook": "" })).await;
    assert_eq!(client.get("/webhook/find/none").await, Value::Null);
    gateway.stop().await;
}

#[tokio::test]
async fn what_cannot_be_made_leaves_nothing_behind() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    client.create("shop", json!({ "token": "taken-token" })).await;
    let create = async |body: Value, status: u16| {
        client.refused(Method::POST, "/instance/create", Some(&body), status).await
    };
    let said = create(json!({ "instanceName": "shop" }), 403).await;
    assert_eq!(said, json!(["This name \"shop\" is already in use."]));
    let said = create(json!({}), 400).await;
    assert_eq!(said, json!([["instance requires property \"instanceName\""]]));
    let said = create(json!({ "instanceName": "x", "integration": "TELEGRAM" }), 400).await;
    assert_eq!(said, json!(["Invalid integration"]));
    for body in [
        json!({ "instanceName": "x", "token": "taken-token" }),
        json!({ "instanceName": "x", "token": "a b" }),
        json!({ "instanceName": "a/b" }),
        json!({ "instanceName": "x", "webhook": { "events": ["CALL"] } }),
        json!({ "instanceName": "x", "webhook": { "url": "nowhere" } }),
        json!({ "instanceName": "x", "webhook": HOOK, "events": ["NOPE"] }),
        json!({ "instanceName": "x", "websocket": { "events": ["NOPE"] } }),
        json!({ "instanceName": "x", "sqs_enabled": true, "sqs_events": ["NOPE"] }),
        json!({ "instanceName": "x", "pusher": { "enabled": true } }),
        // This server has no broker.
        json!({ "instanceName": "x", "rabbitmq": { "enabled": true, "events": ["CALL"] } }),
        json!({ "instanceName": "x", "sqs_enabled": true }),
        json!({ "instanceName": ["x"] }),
    ] {
        create(body, 400).await;
    }
    let rows = client.get("/instance/fetchInstances").await;
    let names: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["shop"]);
    gateway.stop().await;
}

#[tokio::test]
async fn lists_show_what_events_have_told() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    let made = client.create("shop", json!({ "number": "5511999990000" })).await;
    client.create("other", json!({ "websocket": { "events": ["CALL"] } })).await;
    gateway
        .post_event(
            "shop",
            &json!({
                "type": "instance.connected",
                "data": { "account": {
                    "address": { "id": "5511999990000@s.whatsapp.net", "kind": "user" },
                    "name": "Shop",
                } },
            }),
        )
        .await;
    let rows = client.get("/instance/fetchInstances").await;
    let row = &rows[0];
    let shown = members(row);
    assert_eq!(
        shown[..16],
        [
            "id",
            "name",
            "connectionStatus",
            "ownerJid",
            "profileName",
            "profilePicUrl",
            "integration",
            "number",
            "businessId",
            "token",
            "clientName",
            "disconnectionReasonCode",
            "disconnectionObject",
            "disconnectionAt",
            "createdAt",
            "updatedAt"
        ]
    );
    assert_eq!((&row["name"], &row["connectionStatus"]), (&json!("shop"), &json!("open")));
    assert_eq!(row["ownerJid"], "5511999990000@s.whatsapp.net");
    assert_eq!((&row["token"], &row["number"]), (&made["hash"], &json!("5511999990000")));
    assert_eq!(row["id"], made["instance"]["instanceId"]);
    assert_eq!(rows[1]["Websocket"]["events"], json!(["CALL"]));

    for query in ["instanceName=shop", "number=5511999990000"] {
        let found = client.get(&format!("/instance/fetchInstances?{query}")).await;
        assert_eq!(found, json!([row]), "{query}");
    }
    let id = row["id"].as_str().unwrap();
    let found = client.get(&format!("/instance/fetchInstances?instanceId={id}")).await;
    assert_eq!(found, json!([row]));
    let none = client.get("/instance/fetchInstances?number=1").await;
    assert_eq!(none, json!([]));
    gateway.stop().await;

    // Whoever wants no tokens shown sees none; a token shows its own instance.
    let gateway = start_with(|config| config.evolution.expose_api_key = Some(false)).await;
    let client = Client::of(&gateway);
    let made = client.create("shop", json!({})).await;
    assert_eq!(client.get("/instance/fetchInstances").await[0]["token"], Value::Null);
    let own = Client::with(&gateway, made["hash"].as_str().unwrap());
    assert_eq!(own.get("/instance/fetchInstances").await[0]["token"], made["hash"]);
    gateway.stop().await;
}

#[tokio::test]
async fn the_session_is_told_as_its_events_told_it() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    let state = |name: &str| json!({ "instance": { "instanceName": "shop", "state": name } });
    assert_eq!(client.get("/instance/connectionState/shop").await, state("close"));
    let none = json!({ "pairingCode": null, "code": null, "base64": null, "count": 0 });
    assert_eq!(client.get("/instance/connect/shop").await, none);
    let done = expect_json(client.send(Method::DELETE, "/instance/logout/shop", None).await, 200);
    assert_eq!(done.await["response"]["message"], "Instance already disconnected");

    gateway.post_event("shop", &json!({ "type": "instance.connecting", "data": {} })).await;
    let qr = json!({ "type": "instance.qr", "data": { "code": "2@x", "fetch": "inline" } });
    gateway.post_event("shop", &qr).await;
    assert_eq!(client.get("/instance/connectionState/shop").await, state("connecting"));
    let code = client.get("/instance/connect/shop").await;
    assert_eq!((&code["code"], &code["count"]), (&json!("2@x"), &json!(1)));
    assert!(code["base64"].as_str().unwrap().starts_with("data:image/"), "{code}");

    gateway.post_event("shop", &json!({ "type": "instance.connected", "data": {} })).await;
    for path in ["/instance/connectionState/shop", "/instance/connect/shop"] {
        assert_eq!(client.get(path).await, state("open"), "{path}");
    }
    for method in [Method::POST, Method::PUT] {
        let sent = client.send(method, "/instance/restart/shop", None).await;
        assert_eq!(expect_json(sent, 200).await, state("open"));
    }
    let said = client.refused(Method::DELETE, "/instance/logout/shop", None, 501).await;
    assert!(said[0].as_str().unwrap().contains("does not hold the session"), "{said}");
    gateway.stop().await;
}

async fn names_of(receiver: &Receiver, count: usize) -> Vec<Value> {
    receiver.wait_for(count).await.iter().map(|it| it.json()["event"].clone()).collect()
}

#[tokio::test]
async fn an_instance_tells_its_own_webhook_of_its_beginning_and_its_end() {
    let gateway: Gateway = start().await;
    let client = Client::of(&gateway);
    let receiver = Receiver::start().await;
    let hook = json!({
        "url": receiver.url("/"),
        "events": ["INSTANCE_CREATE", "INSTANCE_DELETE", "REMOVE_INSTANCE"],
    });
    let made = client.create("shop", json!({ "webhook": hook })).await;
    assert_eq!(names_of(&receiver, 1).await, ["instance.create"]);
    let gone = client.send(Method::DELETE, "/instance/delete/shop", None).await;
    assert_eq!(
        expect_json(gone, 200).await,
        json!({
            "status": "SUCCESS", "error": false, "response": { "message": "Instance deleted" },
        })
    );
    let names = names_of(&receiver, 3).await;
    assert_eq!(names, ["instance.create", "instance.delete", "remove.instance"]);
    let id = &made["instance"]["instanceId"];
    assert_eq!(
        receiver.received()[1].json()["data"],
        json!({ "instanceName": "shop", "instanceId": id })
    );
    assert_eq!(receiver.received()[2].json()["data"], Value::Null);
    let said = client.refused(Method::GET, "/webhook/find/shop", None, 404).await;
    assert_eq!(said, json!(["The \"shop\" instance does not exist"]));
    gateway.stop().await;
}
