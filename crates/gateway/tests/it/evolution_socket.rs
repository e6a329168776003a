//! Evolution's sockets: Socket.IO with the client that everybody uses and on the wire, and the plain
//! form.

mod client;
mod clients;
mod ends;
mod plain;
mod wire;

use serde_json::{Value, json};
use zapbus_gateway::config::Config;

use crate::server::{Gateway, expect_json, text_message};

/// A gateway with an instance `shop`, and the token of that.
async fn start(configure: impl FnOnce(&mut Config)) -> (Gateway, String) {
    let gateway = Gateway::start(configure).await;
    let made = gateway.create_instance("shop").await;
    let token = made["token"].as_str().unwrap().to_owned();
    (gateway, token)
}

/// A message in a chat; the event's id.
async fn say(gateway: &Gateway, instance: &str, text: &str) -> String {
    let said = gateway.post_event(instance, &text_message("5511999990001", text, text)).await;
    said["id"].as_str().unwrap().to_owned()
}

/// Says which events an instance's sockets get.
async fn set(gateway: &Gateway, instance: &str, websocket: Value) {
    let url = format!("{}/websocket/set/{instance}", gateway.url);
    let request = gateway.client.post(url).header("apikey", gateway.token());
    let answer = request.json(&json!({ "websocket": websocket })).send().await.unwrap();
    expect_json(answer, 201).await;
}

/// What a body says.
fn text_of(body: &Value) -> &str {
    body["data"]["message"]["conversation"].as_str().unwrap_or_else(|| panic!("{body}"))
}
