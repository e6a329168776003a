//! What an instance does not take.

use serde_json::{Value, json};

use super::{Client, refused, start};
use crate::server::{Receiver, expect_json, text_message};

const SETTINGS: &str = "/api/instance/settings/shop";

/// A message in a chat of this sort.
fn message(kind: &str, id: &str) -> Value {
    let mut event = text_message("5511999990001", id, "x");
    event["data"]["chat"]["kind"] = kind.into();
    event
}

fn history(id: &str) -> Value {
    let mut event = text_message("5511999990001", id, "x");
    event["history"] = true.into();
    event
}

#[tokio::test]
async fn what_is_not_taken_is_neither_stored_nor_delivered() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let client = Client::of(&gateway).await;
    let wanted = json!({ "webhookURL": receiver.url("/"), "ignoreGroupMessages": true });
    let (_, own) = client.instance("shop", wanted).await;
    let post = async |event: &Value| gateway.post_event("shop", event).await;
    assert_eq!(post(&message("group", "g1")).await, json!({ "ignored": true }));
    assert!(post(&message("status", "s1")).await["id"].is_string());
    assert!(post(&history("h1")).await["id"].is_string());

    let read = own.read(SETTINGS).await["settings"].clone();
    assert_eq!(
        (&read["ignoreGroupMessages"], &read["ignoreStatus"]),
        (&json!(true), &json!(false))
    );
    // What is left out stays.
    let set = own.set(SETTINGS, &json!({ "ignoreStatus": true, "disableHistorySync": true })).await;
    assert_eq!(set["settings"], own.read("/api/instance/getSettings/shop").await["settings"]);
    assert_eq!(set["settings"]["ignoreGroupMessages"], true);
    // Each of a batch has its own result.
    let batch = json!([
        message("user", "u1"), message("group", "g2"), message("status", "s2"), history("h2"),
        { "type": "history.sync", "data": { "sync_type": "recent" } }, { "type": "nonsense" },
        message("user", "u2"),
    ]);
    let path = "/v1/instances/shop/events";
    let answer = expect_json(gateway.post(path, &batch).await, 200).await;
    let results: Vec<&str> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let has = |name: &&str| it.get(*name).is_some();
            ["id", "ignored", "error"].into_iter().find(has).unwrap()
        })
        .collect();
    assert_eq!(results, ["id", "ignored", "ignored", "ignored", "ignored", "error", "id"]);
    own.set(SETTINGS, &json!({ "ignoreGroupMessages": false })).await;
    assert!(post(&message("group", "g3")).await["id"].is_string());

    let ids: Vec<String> = receiver
        .wait_until("the last one", |all| all.iter().any(|it| it.json()["data"]["id"] == "g3"))
        .await
        .iter()
        .map(|it| it.json()["data"]["id"].as_str().unwrap().to_owned())
        .collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["g3", "h1", "s1", "u1", "u2"]);
    let metrics = gateway.get("/metrics").await.text().await.unwrap();
    let counted = "zapbus_ingest_events_total{source=\"native\",result=\"ignored\"} 5";
    assert!(metrics.contains(counted), "{metrics}");
    gateway.stop().await;
}

#[tokio::test]
async fn settings_of_a_session_are_not_offered() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    for body in [json!({ "autoReadMessages": true }), json!({ "callRejectMessage": "busy" })] {
        assert!(refused(client.post(SETTINGS, &body).await, 501).await.contains("session"));
    }
    let answer = client.post(SETTINGS, &json!({ "ignoreStatus": 1 })).await;
    assert!(refused(answer, 400).await.starts_with("Invalid request body: ignoreStatus"));
    client.set(SETTINGS, &json!({ "autoReadMessages": false, "callRejectMessage": "" })).await;
    gateway.stop().await;
}
