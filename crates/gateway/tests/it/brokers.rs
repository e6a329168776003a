//! Destinations that are no webhooks, with real peers and with what their users read from them.

#[path = "../../../channel/tests/contract/broker.rs"]
#[expect(dead_code, reason = "the channels' own tests need more of it")]
mod broker;
mod every_channel;
mod evolution;
mod guarded;
mod node;
pub(crate) mod peers;
mod pusher;
mod pusher_server;
mod rabbitmq;
mod sqs;

use serde_json::{Value, json};

use crate::server::{Gateway, expect_json, text_message};

/// Creates a destination of the instance `shop`.
async fn create(gateway: &Gateway, channel: &Value, more: &Value) -> Value {
    let mut body = json!({ "channel": channel });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    expect_json(gateway.post("/v1/instances/shop/destinations", &body).await, 201).await
}

/// Posts messages `from..to` of ten chats, in one request: their ids.
async fn post(gateway: &Gateway, from: usize, to: usize) -> Vec<String> {
    let events: Vec<Value> = (from..to)
        .map(|number| {
            let chat = format!("55119999900{:02}", number % 10);
            text_message(&chat, &format!("m{number:06}"), &number.to_string())
        })
        .collect();
    let answer = gateway.post("/v1/instances/shop/events", &json!(events)).await;
    let answer = expect_json(answer, 200).await;
    let results = answer["results"].as_array().unwrap();
    results.iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect()
}

/// The numbers in the messages of a chat, in the order of arrival. Each message has the event as its
/// `body`.
fn numbers_of(messages: &[Value], chat: usize) -> Vec<u64> {
    let of_chat = |message: &&Value| {
        message["body"]["data"]["chat"]["id"].to_string().contains(&format!("55119999900{chat:02}"))
    };
    let number =
        |message: &Value| message["body"]["data"]["content"]["body"].as_str()?.parse().ok();
    messages.iter().filter(of_chat).filter_map(number).collect()
}
