//! Setting and reading sockets and brokers.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, members, start};

const CHANNELS: [&str; 3] = ["websocket", "rabbitmq", "sqs"];

#[tokio::test]
async fn sockets_and_queues_are_set_in_both_forms_and_read_back() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    for channel in CHANNELS {
        let (set, find) = (format!("/{channel}/set/shop"), format!("/{channel}/find/shop"));
        assert_eq!(client.get(&find).await, Value::Null, "{channel}");
        let block = json!({ "enabled": true, "events": ["SEND_MESSAGE", "messages.upsert"] });
        let nested = client.post(&set, &json!({ (channel): block })).await;
        assert_eq!(
            members(&nested),
            ["id", "enabled", "events", "createdAt", "updatedAt", "instanceId"],
        );
        assert_eq!(nested["events"], json!(["MESSAGES_UPSERT", "SEND_MESSAGE"]));
        assert_eq!(client.get(&find).await, nested);
        let flat = client.post(&set, &block).await;
        for kept in ["id", "enabled", "events", "createdAt", "instanceId"] {
            assert_eq!(flat[kept], nested[kept], "{channel}: {kept}");
        }
        let all = client.post(&set, &json!({ (channel): { "enabled": true } })).await;
        assert!(all["events"].as_array().unwrap().len() > 30, "{all}");
        let off = client.post(&set, &json!({ "enabled": false, "events": ["CALL"] })).await;
        assert_eq!((&off["enabled"], &off["events"]), (&json!(false), &json!([])));
    }
    // One does not take the other away.
    for channel in CHANNELS {
        assert_eq!(client.get(&format!("/{channel}/find/shop")).await["enabled"], false);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_and_changes_nothing() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    for channel in CHANNELS {
        let set = format!("/{channel}/set/shop");
        let requires = format!("instance requires property \"{channel}\"");
        let enabled = format!("{channel} requires property \"enabled\"");
        let boolean = format!("{channel}.enabled is not of a type(s) boolean");
        for (body, said) in [
            (json!({}), requires),
            (json!({ (channel): {} }), enabled),
            (json!({ (channel): { "enabled": "so" } }), boolean),
        ] {
            let found = client.refused(Method::POST, &set, Some(&body), 400).await;
            assert_eq!(found, json!([[said]]), "{body}");
        }
        let body = json!({ (channel): { "enabled": true, "events": ["NOPE"] } });
        let found = client.refused(Method::POST, &set, Some(&body), 400).await;
        let start = format!("{channel}.events[0] is not one of enum values: ");
        assert!(found[0][0].as_str().unwrap().starts_with(&start), "{found}");
        assert_eq!(client.get(&format!("/{channel}/find/shop")).await, Value::Null);
    }
    let body = json!({ "pusher": { "enabled": true, "appId": "1" } });
    let found = client.refused(Method::POST, "/pusher/set/shop", Some(&body), 400).await;
    let missing = |name: &str| format!("pusher requires property \"{name}\"");
    assert_eq!(found, json!([[missing("key"), missing("secret"), missing("cluster")]]));
    gateway.stop().await;
}

#[tokio::test]
async fn changes_at_the_same_time_do_not_undo_each_other() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    let block = json!({ "enabled": true, "events": ["CALL"] });
    let set = async |channel: &str| client.post(&format!("/{channel}/set/shop"), &block).await;
    for _ in 0..5 {
        tokio::join!(set("websocket"), set("rabbitmq"), set("sqs"));
        for channel in CHANNELS {
            let row = client.get(&format!("/{channel}/find/shop")).await;
            assert_eq!(row["events"], json!(["CALL"]), "{channel}");
            client.post(&format!("/{channel}/set/shop"), &json!({ "enabled": false })).await;
        }
    }
    gateway.stop().await;
}
