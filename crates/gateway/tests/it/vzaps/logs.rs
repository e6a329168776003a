//! The delivery log under VZaps's names.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, data, expect_failure, start};
use crate::server::{Gateway, Receiver, Reply, eventually, text_message};

async fn search(client: &Client<'_>, instance: &str, body: &Value) -> Value {
    let path = format!("/instances/{instance}/webhook/logs/search");
    data(&client.post(&path, body).await).clone()
}

/// Waits until a search finds so many.
async fn found(client: &Client<'_>, instance: &str, body: Value, total: u64) -> Value {
    eventually("the log has it", || async {
        let found = search(client, instance, &body).await;
        (found["total"] == total).then_some(found)
    })
    .await
}

async fn say(gateway: &Gateway, id: &str) -> String {
    let result = gateway.post_event("shop", &text_message(id, id, "Olá")).await;
    result["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn deliveries_are_found_shown_and_sent_again() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|received| {
        let refused = received.json()["event"]["info"]["id"] == "bad" && received.index < 2;
        if refused { Reply::status(422).body("no such order") } else { Reply::ok().body("thanks") }
    })
    .await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({ "webhook": receiver.url("/hook") })).await;
    let id = made["id"].as_str().unwrap();
    let good = say(&gateway, "good").await;
    receiver.wait_for(1).await;
    let bad = say(&gateway, "bad").await;

    let pending = found(&client, id, json!({ "status": "pending" }), 1).await;
    let line = &pending["content"][0];
    assert_eq!((&line["event_id"], &line["status"]), (&json!(bad), &json!("pending")));
    assert_eq!((&line["http_status"], &line["attempts"]), (&json!(422), &json!(1)));
    assert_eq!(
        (&line["max_attempts"], &line["response_body"]),
        (&json!(10), &json!("no such order"))
    );
    assert_eq!((&line["event"], &line["type"]), (&json!("Message"), &json!("Message")));
    assert_eq!((&line["instance_id"], &line["url"]), (&json!(id), &json!(receiver.url("/hook"))));
    assert!(line["next_attempt_at"].is_string() && line["delivered_at"].is_null());
    assert!(line["error"].is_string() && line.get("payload").is_none(), "{line}");

    let log = line["id"].as_str().unwrap();
    let path = format!("/instances/{id}/webhook/logs/{log}");
    let shown = client.read(&path).await;
    assert_eq!(data(&shown)["payload"]["event"]["info"]["id"], "bad");
    assert_eq!(data(&shown)["payload"]["id"], bad);

    let again = client.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!((&data(&again)["id"], &data(&again)["status"]), (&json!(log), &json!("pending")));
    let both = found(&client, id, json!({ "status": ["success"] }), 2).await;
    assert_eq!(
        (&both["page"], &both["size"], &both["total_pages"]),
        (&json!(1), &json!(20), &json!(1))
    );
    let line = data(&client.read(&path).await).clone();
    // Its own schedule may have been as quick as the person.
    assert_eq!(line["status"], "success");
    assert!(line["attempts"].as_u64().unwrap() >= 2, "{line}");
    assert!(line["delivered_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(receiver.wait_for(3).await[2].id(), bad);

    for (body, total) in [
        (json!({}), 2),
        (json!({ "event_id": good }), 1),
        (json!({ "event_id": "evt_nobody" }), 0),
        (json!({ "event": "Message" }), 2),
        (json!({ "filter": { "type": ["ReadReceipt"] } }), 0),
        (json!({ "status": "failed" }), 0),
        (json!({ "status": "processing" }), 0),
        (json!({ "http_status": 200 }), 2),
        (json!({ "url": "/hook" }), 2),
        (json!({ "url": "elsewhere" }), 0),
        (json!({ "query": bad.to_uppercase() }), 1),
        (json!({ "from": "2020-01-01", "to": "2021-01-01T00:00:00Z" }), 0),
        (json!({ "from": "2020-01-01" }), 2),
        (json!({ "page": 2, "size": 1 }), 2),
    ] {
        assert_eq!(search(&client, id, &body).await["total"], total, "{body}");
    }
    let asked = json!({ "page": 2, "size": 1, "sort": "created_at", "sort_desc": false, "include_payload": true });
    let page = search(&client, id, &asked).await;
    assert_eq!(page["content"].as_array().unwrap().len(), 1);
    assert_eq!(page["content"][0]["event_id"], bad);
    assert_eq!(page["content"][0]["payload"]["type"], "Message");
    gateway.stop().await;
}

#[tokio::test]
async fn a_search_without_a_body_finds_everything_and_a_malformed_one_nothing() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({})).await;
    let id = made["id"].as_str().unwrap();
    let path = format!("/instances/{id}/webhook/logs/search");
    // As Python and PHP ask: no body, no Content-Type.
    let answer = client.request(Method::POST, &path).send().await.unwrap();
    let answer = crate::server::expect_json(answer, 200).await;
    let expected = json!({ "content": [], "page": 1, "size": 20, "total": 0, "total_pages": 0 });
    assert_eq!(data(&answer), &expected);
    for body in
        [json!({ "status": "lost" }), json!({ "size": 101 }), json!({ "from": "yesterday" })]
    {
        let answer = client.send(Method::POST, &path, &body).await;
        expect_failure(answer, 400, "invalid").await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_log_of_another_instance_is_not_found() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({ "webhook": receiver.url("/") })).await;
    let other = client.instance("other", json!({ "webhook": receiver.url("/") })).await;
    say(&gateway, "one").await;
    let shop = made["id"].as_str().unwrap();
    let log = found(&client, shop, json!({}), 1).await["content"][0]["id"].clone();
    let log = log.as_str().unwrap();
    for (instance, log) in [
        (other["id"].as_str().unwrap(), log),
        (shop, "log_123"),
        (shop, "log_a%2Fb"),
        (shop, "log_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17"),
    ] {
        let path = format!("/instances/{instance}/webhook/logs/{log}");
        expect_failure(client.get(&path).await, 404, "log_not_found").await;
        let retry = client.send(Method::POST, &format!("{path}/retry"), &json!({})).await;
        expect_failure(retry, 404, "log_not_found").await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_being_sent_cannot_be_sent_again() {
    let gateway = start().await;
    let receiver =
        Receiver::scripted(
            |received| {
                if received.index == 0 { Reply::status(422) } else { Reply::hang() }
            },
        )
        .await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({ "webhook": receiver.url("/") })).await;
    let id = made["id"].as_str().unwrap();
    say(&gateway, "one").await;
    let line = found(&client, id, json!({ "status": "pending" }), 1).await["content"][0].clone();
    let path = format!("/instances/{id}/webhook/logs/{}", line["id"].as_str().unwrap());
    client.post(&format!("{path}/retry"), &json!({})).await;
    receiver.wait_for(2).await;
    let busy = client.send(Method::POST, &format!("{path}/retry"), &json!({})).await;
    expect_failure(busy, 409, "log_in_flight").await;
    assert_eq!(data(&client.read(&path).await)["status"], "processing");
    assert_eq!(search(&client, id, &json!({ "status": "processing" })).await["total"], 1);
    gateway.stop().await;
}
