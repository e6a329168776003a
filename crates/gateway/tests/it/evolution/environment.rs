//! What Evolution's variables do: told by `check-config`, and seen by a receiver.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, members, start_with};
use crate::{
    binary::{self, Served},
    receiver::Receiver,
    server::{ADMIN_TOKEN, Gateway, expect_json, text_message},
};

const KEY: &str = "a-key-of-the-operator";

#[tokio::test]
async fn check_config_tells_how_each_variable_was_understood() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary::command(folder.path());
    command
        .arg("check-config")
        .env("AUTHENTICATION_API_KEY", KEY)
        .env("WEBHOOK_GLOBAL_ENABLED", "true")
        .env("WEBHOOK_GLOBAL_URL", "https://example.com/hook?token=hunter2")
        .env("WEBHOOK_EVENTS_MESSAGES_UPSERT", "true")
        .env("WEBHOOK_EVENTS_CALL", "false")
        .env("WEBHOOK_RETRY_MAX_ATTEMPTS", "4")
        .env("KAFKA_ENABLED", "true")
        .env("SERVER_PORT", "8080");
    let said = binary::run(command).await;
    assert_eq!(said.code, 0, "{said:?}");
    let line = |part: &str| {
        let found = said.stdout.lines().find(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("{part}: {}", said.stdout)).to_owned()
    };
    assert!(line("evolution.api_key").ends_with("\"***\"  <- AUTHENTICATION_API_KEY"));
    assert!(line("evolution.webhook.url").ends_with("<- WEBHOOK_GLOBAL_URL"));
    let events = line("evolution.webhook.events");
    assert!(events.ends_with("[\"MESSAGES_UPSERT\"]  <- WEBHOOK_EVENTS_*"), "{events}");
    assert!(line("webhook.max_attempts").ends_with("4  <- WEBHOOK_RETRY_MAX_ATTEMPTS"));
    assert!(line("note: KAFKA_ENABLED").contains("is ignored: there is no Kafka channel"));
    assert!(line("note: SERVER_PORT").contains("the port is set by listen"));
    assert!(!said.stdout.contains(KEY) && !said.stdout.contains("hunter2"), "{}", said.stdout);
}

/// `zapbus serve` with Evolution's variables, and nothing else that it knows of a webhook.
async fn serve(folder: &std::path::Path, variables: &[(&str, &str)]) -> Served {
    Served::start(folder, |command| {
        command
            .env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("AUTHENTICATION_API_KEY", KEY)
            .envs(variables.iter().copied());
    })
    .await
}

async fn send(served: &Served, method: Method, path: &str, body: &Value, status: u16) -> Value {
    let url = format!("{}{path}", served.url);
    let request = reqwest::Client::new().request(method, url).json(body);
    let request = match path.starts_with("/v1/") {
        true => request.bearer_auth(ADMIN_TOKEN),
        false => request.header("apikey", KEY),
    };
    expect_json(request.send().await.unwrap(), status).await
}

async fn say(served: &Served, id: &str) {
    let message = text_message("5511999990001", id, id);
    send(served, Method::POST, "/v1/instances/shop/events", &message, 200).await;
}

async fn destination(served: &Served) -> Value {
    let page = send(served, Method::GET, "/v1/destinations?global=true", &json!(null), 200).await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1, "{page}");
    page["data"][0].clone()
}

#[tokio::test]
async fn the_global_webhook_of_the_environment_gets_the_events_of_all_instances() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let url = receiver.url("/all");
    let variables = [
        ("WEBHOOK_GLOBAL_ENABLED", "true"),
        ("WEBHOOK_GLOBAL_URL", url.as_str()),
        ("WEBHOOK_GLOBAL_WEBHOOK_BY_EVENTS", "true"),
        ("WEBHOOK_EVENTS_MESSAGES_UPSERT", "true"),
        ("WEBHOOK_EVENTS_INSTANCE_CREATE", "true"),
        ("WEBHOOK_EVENTS_CONNECTION_UPDATE", "false"),
        // Guarded, as everybody else's targets are: the environment's is not.
        ("ZAPBUS_EGRESS_ALLOW", "198.51.100.1"),
    ];
    let served = serve(folder.path(), &variables).await;
    let made = destination(&served).await;
    assert_eq!(made["label"], "env/webhook");
    assert_eq!((&made["dialect"], &made["state"]), (&json!("evolution"), &json!("active")));
    let id = made["id"].as_str().unwrap().to_owned();
    // It is changed where it comes from.
    let path = format!("/v1/destinations/{id}");
    let said = send(&served, Method::PATCH, &path, &json!({ "max_in_flight": 1 }), 409).await;
    assert_eq!(said["code"], "managed_by_environment");

    let body = json!({ "instanceName": "shop" });
    send(&served, Method::POST, "/instance/create", &body, 201).await;
    say(&served, "one").await;
    let mut got = receiver.wait_for(2).await;
    // They do not concern one chat: either may come first.
    got.sort_by(|one, other| one.path.cmp(&other.path));
    assert_eq!(got[0].path, "/all/instance-create");
    assert_eq!(got[1].path, "/all/messages-upsert");
    let body = got[1].json();
    assert_eq!(
        members(&body),
        ["event", "instance", "data", "destination", "date_time", "server_url", "apikey"]
    );
    assert_eq!(body["destination"], format!("{url}/messages-upsert"));
    assert_eq!(body["server_url"], served.url.as_str());
    // Upstream says these only to the webhooks of instances.
    assert!(got[1].header("x-instance-name").is_none());
    assert!(got[1].header("user-agent").unwrap().starts_with("zapbus/"));
    assert!(got[1].header("webhook-signature").is_some());
    served.kill().await;

    // Gone from the environment it stands still, and goes on from there when it is back.
    let served = serve(folder.path(), &[]).await;
    let resting = destination(&served).await;
    assert_eq!((&resting["id"], &resting["state"]), (&json!(id), &json!("paused")));
    assert!(resting["reason"].as_str().unwrap().contains("environment"), "{resting}");
    say(&served, "two").await;
    served.kill().await;
    let plain: Vec<_> =
        variables.iter().copied().filter(|(name, _)| !name.contains("BY_EVENTS")).collect();
    let served = serve(folder.path(), &plain).await;
    let again = destination(&served).await;
    assert_eq!((&again["id"], &again["state"]), (&json!(id), &json!("active")));
    let got = receiver.wait_until("what was said meanwhile", |all| {
        all.iter().any(|it| it.json()["data"]["key"]["id"] == "two")
    });
    let two = got.await.into_iter().find(|it| it.json()["data"]["key"]["id"] == "two").unwrap();
    assert_eq!(two.path, "/all", "the new settings");
    // The body names where each event would go even so, as upstream has it.
    assert_eq!(two.json()["destination"], format!("{url}/messages-upsert"));
    served.kill().await;
}

#[tokio::test]
async fn the_body_for_all_names_the_instances_own_webhook() {
    let receiver = Receiver::start().await;
    let url = receiver.url("/all");
    let gateway = start_with(|config| {
        let webhook = &mut config.evolution.webhook;
        webhook.enabled = true;
        webhook.url = Some(url.clone());
        webhook.events = vec!["MESSAGES_UPSERT".to_owned()];
    })
    .await;
    let client = Client::of(&gateway);
    let hook = json!({ "enabled": false, "url": "http://127.0.0.1:9/own" });
    client.create("shop", json!({ "webhook": hook })).await;
    gateway.post_event("shop", &text_message("5511999990001", "one", "1")).await;
    let body = receiver.wait_for(1).await[0].json();
    assert_eq!(body["destination"], "http://127.0.0.1:9/own");
    gateway.stop().await;
}

#[tokio::test]
async fn failed_requests_are_told_to_the_error_webhook_without_the_key() {
    let receiver = Receiver::start().await;
    let url = receiver.url("/errors");
    let gateway: Gateway =
        start_with(|config| config.evolution.webhook.errors_url = Some(url)).await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    client.refused(Method::GET, "/webhook/find/nobody", None, 404).await;
    let received = receiver.wait_for(1).await.remove(0);
    let body = received.json();
    assert_eq!(members(&body), ["event", "data", "date_time", "api_key", "server_url"]);
    let said = json!(["The \"nobody\" instance does not exist"]);
    assert_eq!(
        body["data"],
        json!({
            "error": "Not Found", "message": said, "status": 404,
            "response": { "message": said },
        })
    );
    assert_eq!((&body["event"], &body["api_key"]), (&json!("error"), &Value::Null));
    assert!(!String::from_utf8_lossy(&received.body).contains(super::KEY));
    receiver.stays_at(1).await;
    gateway.stop().await;
}
