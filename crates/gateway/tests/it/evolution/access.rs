//! Keys, and what is said of what is not there.

use reqwest::Method;
use serde_json::json;
use zapbus_gateway::config::Config;

use super::{Client, KEY, message, start, start_with};
use crate::server::{ADMIN_TOKEN, expect_json};

#[tokio::test]
async fn the_operators_key_reaches_the_default_account_and_an_instances_token_itself() {
    let gateway = start().await;
    let operator = Client::of(&gateway);
    let shop = operator.create("shop", json!({ "token": "shops-own-token" })).await;
    operator.create("other", json!({})).await;
    assert_eq!(shop["hash"], "shops-own-token");

    let own = Client::with(&gateway, "shops-own-token");
    for path in ["/webhook/find/shop", "/websocket/find/shop", "/instance/connectionState/shop"] {
        own.get(path).await;
    }
    // Not another's, and not whether there is one.
    for path in ["/webhook/find/other", "/webhook/find/nobody", "/instance/connect/other"] {
        let said = own.refused(Method::GET, path, None, 401).await;
        assert_eq!(said, json!("Unauthorized"), "{path}");
    }
    let body = json!({ "instanceName": "third", "integration": "WHATSAPP-BAILEYS" });
    let said = own.refused(Method::POST, "/instance/create", Some(&body), 401).await;
    assert_eq!(said, json!("Unauthorized"));
    let rows = own.get("/instance/fetchInstances").await;
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["name"], "shop");

    // Our own tokens are keys too.
    Client::with(&gateway, ADMIN_TOKEN).get("/webhook/find/shop").await;
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_key_nobody_learns_anything() {
    let gateway = start().await;
    Client::of(&gateway).create("shop", json!({})).await;
    for key in ["", "wrong", &KEY.to_lowercase()] {
        for (method, path) in [
            (Method::GET, "/webhook/find/shop"),
            (Method::GET, "/webhook/find/nobody"),
            (Method::POST, "/webhook/set/nobody"),
            (Method::GET, "/instance/fetchInstances"),
            (Method::POST, "/instance/create"),
            (Method::DELETE, "/instance/delete/shop"),
        ] {
            let said = Client::with(&gateway, key).refused(method, path, None, 401).await;
            assert_eq!(said, json!("Unauthorized"), "{path}");
        }
    }
    // The key stands in one place: not as a bearer token, and not in the query.
    let url = format!("{}/webhook/find/shop?apikey={KEY}", gateway.url);
    let sent = gateway.client.get(url).bearer_auth(KEY).send().await.unwrap();
    assert_eq!(message(sent, 401).await, json!("Unauthorized"));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_said_as_upstream_says_it() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    for (method, path, said) in [
        (Method::GET, "/webhook/find/nobody", "The \"nobody\" instance does not exist"),
        (Method::GET, "/rabbitmq/find/_account", "The \"_account\" instance does not exist"),
        (Method::GET, "/instance/fetchInstances?instanceName=x", "Instance \"x\" not found"),
        (Method::POST, "/nats/set/shop", "Cannot POST /nats/set/shop"),
        (Method::GET, "/kafka/find/shop", "Cannot GET /kafka/find/shop"),
        (Method::GET, "/webhook/instance?a=b", "Cannot GET /webhook/instance?a=b"),
        (Method::PUT, "/webhook/set/shop", "Cannot PUT /webhook/set/shop"),
        (Method::POST, "/webhook/meta", "Cannot POST /webhook/meta"),
    ] {
        assert_eq!(client.refused(method, path, None, 404).await, json!([said]), "{path}");
    }
    // What sends messages is another's business, and says so.
    for path in ["/message/sendText/shop", "/chat/findChats/shop", "/instance/setPresence/shop"] {
        let said = client.refused(Method::POST, path, Some(&json!({})), 501).await;
        assert!(said[0].as_str().unwrap().contains("Zapbus delivers events"), "{said}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_root_answers_those_who_ask_whether_it_is_evolution() {
    let gateway = start().await;
    let said = expect_json(gateway.client.get(&gateway.url).send().await.unwrap(), 200).await;
    assert_eq!(said["status"], 200);
    for member in
        ["message", "version", "clientName", "manager", "documentation", "whatsappWebVersion"]
    {
        assert!(said.get(member).is_some(), "{member}: {said}");
    }
    assert!(said["documentation"].as_str().unwrap().starts_with(&gateway.url), "{said}");
    gateway.stop().await;
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let off = |config: &mut Config| config.evolution.enabled = false;
    let gateway = start_with(off).await;
    let sent = Client::of(&gateway).send(Method::GET, "/webhook/find/shop", None).await;
    assert_eq!(expect_json(sent, 404).await["code"], "route_not_found");
    gateway.stop().await;
}
