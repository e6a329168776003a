//! The API of Evolution, as its clients ask for it.

mod access;
mod channels;
mod delivery;
mod environment;
mod instances;
mod sdk;
mod webhook;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use zapbus_gateway::config::{Config, Secret};

use crate::server::{Gateway, expect_json, merge};

/// The operator's key.
const KEY: &str = "429683C4C977415CAAFCCE10F7D57E12";

async fn start() -> Gateway {
    start_with(|_| {}).await
}

async fn start_with(configure: impl FnOnce(&mut Config)) -> Gateway {
    Gateway::start(|config| {
        config.evolution.api_key = Some(Secret::new(KEY));
        configure(config);
    })
    .await
}

/// With brokers that nobody answers for.
fn with_brokers(config: &mut Config) {
    let evolution = &mut config.evolution;
    evolution.rabbitmq.uri = Some(Secret::new("amqp://me:hush@127.0.0.1:9/v"));
    let sqs = &mut evolution.sqs;
    sqs.region = Some("sa-east-1".to_owned());
    sqs.endpoint = Some("http://127.0.0.1:9".to_owned());
    sqs.access_key_id = Some("AKIAEXAMPLE".to_owned());
    sqs.secret_access_key = Some(Secret::new("hush"));
}

/// Somebody with a key.
struct Client<'a> {
    gateway: &'a Gateway,
    key: String,
}

impl<'a> Client<'a> {
    /// The operator.
    fn of(gateway: &'a Gateway) -> Self {
        Self::with(gateway, KEY)
    }

    fn with(gateway: &'a Gateway, key: &str) -> Self {
        Self { gateway, key: key.to_owned() }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let url = format!("{}{path}", self.gateway.url);
        let mut request = self.gateway.client.request(method, url).header("apikey", &self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        expect_json(self.send(Method::GET, path, None).await, 200).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        expect_json(self.send(Method::POST, path, Some(body)).await, 201).await
    }

    /// A new instance; `more` is merged into the body.
    async fn create(&self, name: &str, more: Value) -> Value {
        let mut body = json!({ "instanceName": name, "integration": "WHATSAPP-BAILEYS" });
        merge(&mut body, more);
        self.post("/instance/create", &body).await
    }

    /// What a request that fails is told.
    async fn refused(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        status: u16,
    ) -> Value {
        message(self.send(method, path, body).await, status).await
    }
}

/// The member `message` of an error in Evolution's form.
async fn message(response: Response, status: u16) -> Value {
    let reason = response.status().canonical_reason().unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = expect_json(response, status).await;
    let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["status", "error", "response"], "{body}");
    assert_eq!((&body["status"], &body["error"]), (&json!(status), &json!(reason)), "{body}");
    body["response"]["message"].clone()
}

/// The names of an object's members, in their order.
fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect()
}
