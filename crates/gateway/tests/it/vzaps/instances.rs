//! Instances under VZaps's names.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, data, expect_failure, start};
use crate::server::expect_json;

#[tokio::test]
async fn an_instance_is_made_shown_changed_and_deleted() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let made = client
        .instance(
            "shop",
            json!({
                "webhook": "http://127.0.0.1:9/hook",
                "events_subscribe": "Message,read_receipt",
                "reject_calls": false,
            }),
        )
        .await;
    let members: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "id",
            "name",
            "token",
            "url",
            "webhook",
            "events_subscribe",
            "status",
            "created_at",
            "updated_at",
        ]
    );
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("VZ") && id.len() == 28, "{id}");
    assert_eq!(made["webhook"], "http://127.0.0.1:9/hook");
    assert_eq!(made["events_subscribe"], json!(["Message", "ReadReceipt"]));
    assert_eq!(made["status"], "created");
    assert_eq!(client.read(&format!("/instances/{id}")).await, made);
    assert_eq!(client.post("/instances/get", &json!({ "id": id })).await, made);

    let changed = client
        .send(
            Method::PATCH,
            &format!("/instances/{id}"),
            &json!({ "name": "store", "webhook": "" }),
        )
        .await;
    let changed = expect_json(changed, 200).await;
    assert_eq!((&changed["name"], &changed["webhook"]), (&json!("store"), &json!("")));
    assert_eq!(changed["events_subscribe"], made["events_subscribe"]);
    assert_eq!(changed["token"], made["token"]);

    let restarted = client.post(&format!("/instances/{id}/restart"), &json!({})).await;
    assert_eq!((&restarted["instance_id"], &restarted["status"]), (&json!(id), &json!("created")));

    let gone = client.request(Method::DELETE, &format!("/instances/{id}")).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    let answer = client.get(&format!("/instances/{id}")).await;
    expect_failure(answer, 404, "instance_not_found").await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_makes_nothing() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    for (body, status, code) in [
        (json!({}), 400, "invalid"),
        (json!({ "name": "" }), 400, "invalid"),
        (json!({ "name": 7 }), 400, "invalid"),
        (json!({ "name": "a/b" }), 400, "invalid"),
        (json!({ "name": "x".repeat(121) }), 400, "invalid"),
        (json!({ "name": "x", "webhook": "nowhere" }), 400, "webhook_url_invalid"),
        (json!({ "name": "x", "events_subscribe": ["Receipt"] }), 400, "unknown_event"),
        (json!({ "name": "x", "reject_calls": true }), 501, "not_offered"),
        (json!({ "name": "x", "auto_read_messages": true }), 501, "not_offered"),
    ] {
        let answer = client.send(Method::PUT, "/instances/create", &body).await;
        expect_failure(answer, status, code).await;
    }
    let listed = client.post("/instances/list", &json!({})).await;
    assert_eq!((&listed["total"], &listed["content"]), (&json!(0), &json!([])));
    client.instance("x", json!({})).await;
    let twice = client.send(Method::PUT, "/instances/provision", &json!({ "name": "x" })).await;
    expect_failure(twice, 409, "already_exists").await;
    gateway.stop().await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    for name in ["alpha", "beta", "gamma", "delta", "shop-1"] {
        client.instance(name, json!({})).await;
    }
    let names = |answer: &Value| -> Vec<String> {
        let content = answer["content"].as_array().unwrap();
        content.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    // As the Python SDK asks without arguments.
    let all = client
        .post("/instances/list", &json!({ "page": 1, "size": 20, "filter": {}, "sort": null }))
        .await;
    assert_eq!((&all["page"], &all["size"], &all["total"]), (&json!(1), &json!(20), &json!(5)));
    assert_eq!((&all["total_pages"], &all["summary"]["total"]), (&json!(1), &json!(5)));
    assert_eq!(names(&all).len(), 5);
    let page =
        client.post("/instances/list", &json!({ "page": 2, "size": 2, "sort": "name" })).await;
    assert_eq!(names(&page), ["delta", "gamma"]);
    assert_eq!(page["total_pages"], 3);
    let down = json!({ "page_size": "2", "sort": "name", "sortDesc": true });
    assert_eq!(names(&client.post("/instances/search", &down).await), ["shop-1", "gamma"]);
    for body in [json!({ "filter": { "query": "SHOP" } }), json!({ "search": "shop" })] {
        assert_eq!(names(&client.post("/instances/list", &body).await), ["shop-1"]);
    }
    for body in [json!({ "size": 101 }), json!({ "page": 0 }), json!({ "sort": "colour" })] {
        let answer = client.send(Method::POST, "/instances/list", &body).await;
        expect_failure(answer, 400, "invalid").await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_an_event_bus_does_not_do_says_so() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({})).await;
    let id = made["id"].as_str().unwrap();
    for (method, path) in [
        (Method::POST, "chat/send/text"),
        (Method::DELETE, "chat/messages/3EB0"),
        (Method::POST, "subscribe"),
        (Method::PUT, "cancel"),
        (Method::DELETE, "cancel"),
        (Method::POST, "resume-subscription"),
        (Method::GET, "group/list"),
        (Method::POST, "typebots/sessions/x/close"),
        (Method::GET, "queue/messages"),
    ] {
        let answer = client.send(method, &format!("/instances/{id}/{path}"), &json!({})).await;
        let message = expect_failure(answer, 501, "not_offered").await;
        assert!(message.contains("Zapbus delivers events"), "{message}");
    }
    // Who may not ask does not learn even that.
    let url = format!("{}/instances/{id}/chat/send/text", gateway.url);
    expect_failure(gateway.client.post(url).send().await.unwrap(), 401, "unauthorized").await;
    // And nothing of it is in the way of the webhook.
    assert_eq!(data(&client.read(&format!("/instances/{id}/webhook")).await)["webhook"], "");
    gateway.stop().await;
}
