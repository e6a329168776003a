//! What is set for an instance's WebSocket.

use serde_json::json;

use super::{Client, refused, start};

const SET: &str = "/api/events/websocket/shop";
const GET: &str = "/api/events/getWebsocket/shop";

#[tokio::test]
async fn it_is_set_as_a_whole_and_read_back() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("shop", json!({})).await;
    assert_eq!(
        refused(own.get(GET).await, 404).await,
        "WebSocket not configured for this instance"
    );
    let row = json!({
        "enabled": true, "events": ["message.exchange", "call.update"], "mediaBase64": true,
    });
    let set = own.set(SET, &row).await;
    assert_eq!(
        set,
        json!({ "success": true, "message": "WebSocket configured", "websocket": row })
    );
    for path in [GET, SET, "/api/events/getWebSocket/shop"] {
        assert_eq!(
            client.read(path).await,
            json!({
                "success": true, "message": "WebSocket configuration retrieved", "websocket": row,
            })
        );
    }
    // What is left out is as it is by default.
    let all = json!({ "enabled": true, "events": [], "mediaBase64": false });
    assert_eq!(own.set(SET, &json!({ "enabled": true })).await["websocket"], all);
    own.set(SET, &row).await;
    let off = json!({ "enabled": false, "events": [], "mediaBase64": false });
    let body = json!({ "enabled": false, "events": ["call.update"], "mediaBase64": true });
    assert_eq!(own.set(SET, &body).await["websocket"], off);
    assert_eq!(own.read(GET).await["websocket"], off);
    // Ours, which nobody takes back who has not heard of it.
    let blank = own.set(SET, &json!({ "enabled": true, "blankToken": true })).await;
    assert_eq!(blank["websocket"]["blankToken"], true);
    own.set(SET, &json!({ "enabled": true })).await;
    let token = own.token.clone();
    let gateway = gateway.restart().await;
    let own = Client::with(&gateway, &token);
    assert_eq!(own.read(GET).await["websocket"], blank["websocket"]);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_and_changes_nothing() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let before = client.set(SET, &json!({ "enabled": true, "events": ["group.flow"] })).await;
    for (body, message) in [
        (json!({}), "Invalid request body: enabled"),
        (json!({ "enabled": "true" }), "Invalid request body: enabled"),
        (json!({ "enabled": true, "events": {} }), "Invalid request body: events"),
        (json!({ "enabled": true, "events": ["x"] }), "Invalid event: x"),
        (json!({ "enabled": true, "mediaBase64": 1 }), "Invalid request body: mediaBase64"),
    ] {
        let found = refused(client.post(SET, &body).await, 400).await;
        assert!(found.starts_with(message), "{body}: {found}");
    }
    let answer = client.request(reqwest::Method::POST, SET).body("{").send().await.unwrap();
    assert_eq!(refused(answer, 400).await, "Invalid request body");
    assert_eq!(client.read(GET).await["websocket"], before["websocket"]);
    gateway.stop().await;
}
