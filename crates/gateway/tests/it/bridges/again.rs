//! Decoding again what an older version did not understand.

use bytes::Bytes;
use serde_json::{Value, json};
use zapbus_event::{
    Data, Draft, InstanceId, Raw, Source, SourceKind,
    data::{EventUnknown, UnknownReason},
};
use zapbus_store::{Append, NewEvent};

use super::products::{EVOLUTION, Post, WAHA, connect};
use crate::{
    api::{Caller, expect_fault, expect_problem, text},
    api_cloud_api::types,
    command_line::{asked, zapbus},
    server::{Gateway, expect_json},
};

/// Stores a body as a version did that had no rule for its name.
async fn store_unknown(gateway: &Gateway, id: &str, kind: SourceKind, name: &str, post: &Post) {
    let data = Data::EventUnknown(EventUnknown {
        upstream_event: name.to_owned(),
        reason: UnknownReason::UnmappedName,
        body_ref: None,
    });
    let event = name.to_owned();
    let source = Source { kind, event, version: None, delivery_id: None, index: 0 };
    let mut draft = Draft::from_data(&data, source);
    draft.raw = Raw::Bytes(Bytes::from(post.body.clone()));
    let instance: InstanceId = id.parse().unwrap();
    let append = Append { events: vec![NewEvent { instance, draft }], body: None };
    gateway.app.ingest.append(append).await.unwrap();
}

#[tokio::test]
async fn what_is_understood_by_now_is_stored_once() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, EVOLUTION, "shop").await;
    let post = EVOLUTION.post("messages-upsert-text.json");
    store_unknown(&gateway, &id, SourceKind::Evolution, "messages.upsert", &post).await;
    // One that nobody understands today either.
    let strange = EVOLUTION.post("unknown-event.json");
    expect_json(strange.send(&gateway, &id).await, 200).await;

    let counted = asked(&gateway, &["redecode", "--dry-run"]).await;
    let expected = json!({
        "dry_run": true, "looked_at": 2, "understood": 1, "events": { "message.received": 1 },
        "stored": 0, "known": 0, "ignored": 0, "failed": 0, "failures": [],
    });
    assert_eq!(counted, expected);
    assert_eq!(types(&gateway, "shop").await, ["event.unknown"; 2]);

    let said = zapbus(&gateway, &["redecode", "shop", "--source", "evolution", "--json"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("2 events were not understood; 1 of them"), "{said:?}");
    let done: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&done["stored"], &done["known"]), (&json!(1), &json!(0)), "{done}");
    let page = gateway.read("/v1/instances/shop/events?types=message.*").await;
    let event = &page["data"][0];
    assert_eq!(event["history"], true);
    assert_eq!(event["data"]["content"]["kind"], "text");

    // Again, and from upstream: known.
    let again = asked(&gateway, &["redecode", "shop"]).await;
    assert_eq!((&again["stored"], &again["known"]), (&json!(0), &json!(1)), "{again}");
    assert_eq!(expect_json(post.send(&gateway, &id).await, 200).await["stored"], 0);
}

#[tokio::test]
async fn only_what_is_asked_for_is_looked_at() {
    let gateway = Gateway::start(|_| {}).await;
    let shop = connect(&gateway, EVOLUTION, "shop").await;
    let other = connect(&gateway, WAHA, "other").await;
    let post = EVOLUTION.post("messages-upsert-text.json");
    store_unknown(&gateway, &shop, SourceKind::Evolution, "messages.upsert", &post).await;
    store_unknown(&gateway, &other, SourceKind::Waha, "message", &WAHA.post("message-text.json"))
        .await;
    let ask = async |body: Value| {
        let mut body = body;
        body["dry_run"] = json!(true);
        let answer = expect_json(gateway.post("/v1/redecode", &body).await, 200).await;
        answer["looked_at"].as_u64().unwrap()
    };
    assert_eq!(ask(json!({})).await, 2);
    assert_eq!(ask(json!({ "instance": "other" })).await, 1);
    assert_eq!(ask(json!({ "source": "evolution" })).await, 1);
    assert_eq!(ask(json!({ "reason": "unmapped_name" })).await, 2);
    assert_eq!(ask(json!({ "reason": "not_json" })).await, 0);
    assert_eq!(ask(json!({ "until": "2020-01-01T00:00:00Z" })).await, 0);
    assert_eq!(ask(json!({ "after": "2020-01-01T00:00:00Z" })).await, 2);
    for (body, at) in [
        (json!({ "reason": "x" }), "reason"),
        (json!({ "source": "x" }), "source"),
        (json!({ "until": "x" }), "until"),
    ] {
        let answer = gateway.post("/v1/redecode", &body).await;
        expect_fault(answer, 422, "invalid", at, "expected").await;
    }
    // An instance's own token does not rewrite its history.
    let made = gateway.create_instance("own").await;
    let own = Caller::new(&gateway, text(&made, "token"));
    expect_problem(own.post("/v1/redecode", &json!({})).await, 403, "forbidden").await;
}

#[tokio::test]
async fn a_part_of_a_body_is_decoded_with_the_rest_of_it() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, EVOLUTION, "shop").await;
    let body = json!({
        "event": "contacts.upsert", "instance": "x", "date_time": "2026-01-01T09:00:00.000Z",
        "data": [{ "remoteJid": "5511999990001@s.whatsapp.net", "pushName": "Ana" }, 5],
    });
    let post = EVOLUTION.post("contacts-upsert.json").with_body(&body);
    assert_eq!(expect_json(post.send(&gateway, &id).await, 200).await["stored"], 2);
    // The number is still none today, and its neighbour is not stored again.
    let done = asked(&gateway, &["redecode"]).await;
    assert_eq!((&done["looked_at"], &done["understood"]), (&json!(1), &json!(0)), "{done}");
    let page = gateway.read("/v1/instances/shop/events?types=event.unknown").await;
    let reference = text(&page["data"][0]["data"], "body_ref");
    let mut digest = [0; 32];
    hex::decode_to_slice(reference.trim_start_matches("sha256:"), &mut digest).unwrap();
    let kept = gateway.app.store.body(digest).await.unwrap().unwrap();
    assert_eq!(kept, post.body);
}
