//! `RyzeAPI`'s API, as its clients ask for it: they are written by hand, so that the JSON matters.

mod access;
mod delivery;
mod instances;
mod limits;
mod natively;
mod races;
mod realtime;
mod settings;
mod webhooks;
mod websocket;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use zapbus_gateway::config::Config;

use crate::{
    lane::impatient,
    server::{Gateway, expect_json},
    socket::Socket,
};

const HOOK: &str = "http://127.0.0.1:9/hook";

async fn start() -> Gateway {
    start_with(|_| {}).await
}

/// One that does not keep its tests waiting, neither with probes nor with a limit that they would
/// reach.
async fn start_with(configure: impl FnOnce(&mut Config)) -> Gateway {
    Gateway::start(|config| {
        impatient(config);
        config.ryze.requests_per_minute = 10_000;
        config.ryze.creations_per_minute = 1_000;
        configure(config);
    })
    .await
}

/// Someone with a token.
struct Client<'a> {
    gateway: &'a Gateway,
    token: String,
}

impl<'a> Client<'a> {
    /// With a token of the default account.
    async fn of(gateway: &'a Gateway) -> Self {
        Self::of_account(gateway, "default").await
    }

    async fn of_account(gateway: &'a Gateway, account: &str) -> Self {
        let path = format!("/v1/accounts/{account}/credentials");
        let body = json!({ "name": "ryze", "role": "account" });
        let made = expect_json(gateway.post(&path, &body).await, 201).await;
        Self::with(gateway, made["secret"].as_str().unwrap())
    }

    fn with(gateway: &'a Gateway, token: &str) -> Self {
        Self { gateway, token: token.to_owned() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.gateway.url);
        self.gateway.client.request(method, url).header("token", &self.token)
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path).send().await.unwrap()
    }

    /// What a successful answer says.
    async fn read(&self, path: &str) -> Value {
        done(self.get(path).await, 200).await
    }

    async fn set(&self, path: &str, body: &Value) -> Value {
        done(self.post(path, body).await, 200).await
    }

    /// A new instance, and a client with its token.
    async fn instance(&self, name: &str, more: Value) -> (Value, Client<'a>) {
        let mut body = json!({ "name": name });
        crate::server::merge(&mut body, more);
        let made = done(self.post("/api/instance/new", &body).await, 201).await;
        let own = Client::with(self.gateway, made["instance"]["token"].as_str().unwrap());
        (made, own)
    }

    /// Connects as servers do, with the token in a header.
    async fn connect(&self, path: &str) -> Result<Socket, (u16, Value)> {
        Socket::connect(&self.gateway.url, path, &[("token", self.token.clone())]).await
    }

    async fn socket(&self, path: &str) -> Socket {
        match self.connect(path).await {
            Ok(socket) => socket,
            Err((status, body)) => panic!("{path}: {status}: {body}"),
        }
    }
}

/// A successful answer.
async fn done(response: Response, status: u16) -> Value {
    let answer = expect_json(response, status).await;
    assert_eq!(answer["success"], true, "{answer}");
    assert!(!answer["message"].as_str().unwrap().is_empty(), "{answer}");
    answer
}

/// A refusal: exactly `{"success":false,"error":{"message":…}}`.
async fn refused(response: Response, status: u16) -> String {
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = expect_json(response, status).await;
    refusal(&body)
}

fn refusal(body: &Value) -> String {
    let message = body["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(*body, json!({ "success": false, "error": { "message": message } }));
    assert!(!message.is_empty());
    message
}
