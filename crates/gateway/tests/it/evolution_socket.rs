//! Evolution's sockets: Socket.IO with the client that everybody uses and on the wire, and the plain
//! form.

mod client;
mod clients;
mod plain;
mod wire;

use serde_json::{Value, json};
use zapbus_gateway::config::Config;
use zapbus_store::{Actor, InstancePatch};

use crate::server::{Gateway, text_message};

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

/// Says which events an instance's sockets get, as `/websocket/set` does.
async fn set(gateway: &Gateway, instance: &str, websocket: Value) {
    let app = &gateway.app;
    let found = app.store.instances_named(instance).await.unwrap().remove(0);
    let settings = json!({ "evolution": { "websocket": websocket } });
    let patch = InstancePatch { settings: Some(settings), ..InstancePatch::default() };
    let actor = Actor("admin".to_owned());
    app.store.update_instance(found.id, patch, &actor).await.unwrap();
    app.directory.forget_instance(&found);
}

/// What a body says.
fn text_of(body: &Value) -> &str {
    body["data"]["message"]["conversation"].as_str().unwrap_or_else(|| panic!("{body}"))
}
