//! Webhooks of this API beside our own API, which sees them as destinations.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{Client, HOOK, refused, start};
use crate::server::{Gateway, Receiver, expect_json, text_message};

const SET: &str = "/api/events/webhook/shop";
const GET: &str = "/api/events/getWebhook/shop";

/// The only destination of the instance.
async fn path_of(gateway: &Gateway) -> String {
    let listed = gateway.read("/v1/instances/shop/destinations").await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    format!("/v1/destinations/{}", listed["data"][0]["id"].as_str().unwrap())
}

async fn patch(gateway: &Gateway, path: &str, body: Value) -> Response {
    gateway.request(Method::PATCH, path).json(&body).send().await.unwrap()
}

#[tokio::test]
async fn what_was_switched_off_here_is_switched_on_here() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    client.set(SET, &json!({ "url": HOOK })).await;
    let path = path_of(&gateway).await;
    client.set(SET, &json!({ "enabled": false })).await;
    for from in ["cursor", "now"] {
        let body = json!({ "from": from });
        let answer = gateway.post(&format!("{path}/resume"), &body).await;
        let problem = expect_json(answer, 409).await;
        assert_eq!(problem["code"], "switched_off", "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("/api/events/webhook/"), "{problem}");
    }
    // To pause what is off changes nothing: it would look as if it were on.
    let answer = gateway.post(&format!("{path}/pause"), &json!({ "reason": "holidays" })).await;
    let paused = expect_json(answer, 200).await;
    assert_eq!(paused["state"], "paused");
    assert!(paused["reason"].as_str().unwrap().starts_with("switched off"), "{paused}");
    assert_eq!(client.read(GET).await["webhooks"][0]["enabled"], false);
    assert_eq!(client.set(SET, &json!({ "url": HOOK })).await["webhook"]["enabled"], true);
    assert_eq!(gateway.read(&path).await["state"], "active");
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_person_has_paused_stays_so_when_a_client_sets_it_at_its_start() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let receiver = Receiver::start().await;
    let on = json!({ "url": receiver.url("/") });
    client.set(SET, &on).await;
    let path = path_of(&gateway).await;
    expect_json(gateway.post(&format!("{path}/pause"), &json!({})).await, 200).await;
    client.set(SET, &on).await;
    assert_eq!(gateway.read(&path).await["state"], "paused");
    gateway.post_event("shop", &text_message("5511999990001", "waits", "Olá")).await;
    receiver.stays_at(0).await;
    expect_json(gateway.post(&format!("{path}/resume"), &json!({})).await, 200).await;
    let got = receiver.wait_for(1).await;
    assert_eq!(got[0].json()["data"]["id"], "waits");
    gateway.stop().await;
}

/// Stops the gateway, makes every stored spec impossible to decrypt, and starts it again.
async fn with_spoilt_secrets(gateway: Gateway) -> Gateway {
    let gateway = {
        let mut gateway = gateway;
        gateway.begin_stop().await.unwrap().unwrap();
        gateway
    };
    if crate::engine::is_postgres() {
        let database = gateway.database().connect().await;
        let last = "length(spec) - 1";
        let spoil = format!(
            "UPDATE destination_spec SET spec = set_byte(spec, {last}, get_byte(spec, {last}) # 1)"
        );
        database.batch_execute(&spoil).await.unwrap();
    } else {
        let files = std::fs::read_dir(&gateway.config.data_dir).unwrap();
        let database = files
            .map(|file| file.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "db"))
            .expect("there is a database");
        let database = rusqlite::Connection::open(database).unwrap();
        let spoil = "UPDATE destination_spec \
                     SET spec = CAST(substr(spec, 1, length(spec) - 1) || x'00' AS BLOB)";
        database.execute(spoil, []).unwrap();
    }
    gateway.restart_stopped().await
}

#[tokio::test]
async fn one_that_cannot_be_decrypted_is_shown_without_and_set_anew() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let receiver = Receiver::start().await;
    client.set(SET, &json!({ "url": HOOK, "authorization": "lost" })).await;
    let token = client.token.clone();
    let gateway = with_spoilt_secrets(gateway).await;
    let client = Client::with(&gateway, &token);
    let shown = client.read(&format!("{GET}?label=default")).await["webhook"].clone();
    assert_eq!((&shown["url"], &shown["authorization"]), (&json!(""), &json!("")), "{shown}");
    assert_eq!(client.read(GET).await["webhooks"], json!([shown]));
    // What happens meanwhile waits, as for any other that cannot be reached.
    gateway.post_event("shop", &text_message("5511999990001", "meanwhile", "Olá")).await;
    let whole = json!({ "url": receiver.url("/"), "authorization": "new" });
    let set = client.set(SET, &whole).await["webhook"].clone();
    assert_eq!((&set["enabled"], &set["authorization"]), (&json!(true), &json!("new")));
    let got = receiver.wait_for(1).await;
    assert_eq!(got[0].json()["data"]["id"], "meanwhile");
    assert_eq!(got[0].header("authorization"), Some("new"));
    gateway.stop().await;
}

#[tokio::test]
async fn what_only_this_form_lets_one_choose_is_set_natively_too() {
    let gateway = start().await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::start().await;
    let choices = json!({
        "names": ["message.exchange"], "message_content": "object", "blank_token": true,
        "extended_envelope": true,
    });
    let more = json!({ "dialect": "ryze", "ryze": choices, "inline_media": true });
    let made = gateway.create_webhook("shop", &receiver.url("/"), more).await;
    assert_eq!((&made["ryze"], &made["inline_media"]), (&choices, &json!(true)));
    assert!(made.get("evolution").is_none(), "{made}");
    gateway.post_event("shop", &crate::lane::sample(&gateway, "label.updated").await).await;
    gateway.post_event("shop", &text_message("5511999990001", "one", "Olá")).await;
    let body = receiver.wait_for(1).await[0].json();
    assert_eq!(body["event"], "message.exchange");
    assert_eq!(body["data"]["message"]["content"], json!({ "text": "Olá" }));
    assert_eq!(body["instanceData"]["token"], "");
    assert!(body["id"].as_str().unwrap().starts_with("evt_"), "{body}");

    // What a change leaves out stays as it is.
    let path = format!("/v1/destinations/{}", made["id"].as_str().unwrap());
    let change = json!({ "ryze": { "names": [], "message_content": "text" } });
    let changed = expect_json(patch(&gateway, &path, change).await, 200).await;
    assert_eq!(changed["ryze"]["names"].as_array().unwrap().len(), 6);
    assert_eq!(changed["ryze"]["blank_token"], true);
    assert_eq!(changed["ryze"]["message_content"], "text");

    let evolution = json!({
        "evolution": { "names": ["MESSAGES_UPSERT"], "lite": true, "show_key": true },
    });
    for (body, path_of_fault) in [
        (json!({ "ryze": { "names": ["messages.upsert"] } }), "ryze.names"),
        (evolution.clone(), "evolution"),
        (json!({ "dialect": "native", "ryze": {} }), "ryze"),
    ] {
        let problem = expect_json(patch(&gateway, &path, body.clone()).await, 422).await;
        assert_eq!(problem["errors"][0]["path"], path_of_fault, "{body}: {problem}");
    }
    let mut body = evolution.clone();
    body["dialect"] = json!("evolution");
    let changed = expect_json(patch(&gateway, &path, body).await, 200).await;
    assert_eq!(changed["evolution"], evolution["evolution"]);
    assert!(changed.get("ryze").is_none(), "{changed}");
    let wrong = json!({ "evolution": { "names": ["MESSAGES_UPSERT", "NOPE"] } });
    let problem = expect_json(patch(&gateway, &path, wrong).await, 422).await;
    assert_eq!(problem["errors"][0]["path"], "evolution.names[1]");
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_chosen_natively_for_a_webhook_is_what_this_api_shows() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    client.set(SET, &json!({ "url": HOOK })).await;
    let path = path_of(&gateway).await;
    let change = json!({ "ryze": { "names": ["call.update"], "blank_token": true } });
    expect_json(patch(&gateway, &path, change).await, 200).await;
    let shown = client.read(&format!("{GET}?label=")).await["webhook"].clone();
    assert_eq!((&shown["events"], &shown["blankToken"]), (&json!(["call.update"]), &json!(true)));
    // Deleted natively, it is gone here.
    let gone = gateway.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(refused(client.get(&format!("{GET}?label=")).await, 404).await, "Webhook not found");
    gateway.stop().await;
}
