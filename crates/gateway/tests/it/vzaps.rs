//! The API of VZaps, as its SDKs ask for it.

mod access;
mod delivery;
mod instances;
mod logs;
mod peers;
mod realtime;
mod realtime_access;
mod sdk;
mod session;
mod webhook;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use zapbus_gateway::config::{Config, Secret};

use crate::server::{Gateway, expect_json};

const CLIENT_TOKEN: &str = "client-of-the-tests";
const CLIENT_SECRET: &str = "secret-of-the-client-of-the-tests";

/// A gateway with a credential of the default account.
async fn start() -> Gateway {
    start_with(|_| {}).await
}

async fn start_with(configure: impl FnOnce(&mut Config)) -> Gateway {
    Gateway::start(|config| {
        config.bootstrap.client_token = Some(CLIENT_TOKEN.to_owned());
        config.bootstrap.client_secret = Some(Secret::new(CLIENT_SECRET));
        configure(config);
    })
    .await
}

/// Someone who has exchanged a credential for an access token.
struct Client<'a> {
    gateway: &'a Gateway,
    jwt: String,
    client_token: String,
}

impl<'a> Client<'a> {
    async fn of(gateway: &'a Gateway) -> Self {
        Self::with(gateway, CLIENT_TOKEN, CLIENT_SECRET).await
    }

    async fn with(gateway: &'a Gateway, client_token: &str, client_secret: &str) -> Self {
        let body = json!({ "client_token": client_token, "client_secret": client_secret });
        let answer = token(gateway, &body).await;
        let answer = expect_json(answer, 200).await;
        Self {
            gateway,
            jwt: answer["access_token"].as_str().unwrap().to_owned(),
            client_token: client_token.to_owned(),
        }
    }

    /// As every SDK asks.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.gateway.url);
        self.gateway
            .client
            .request(method, url)
            .bearer_auth(&self.jwt)
            .header("X-Client-Token", &self.client_token)
            .header("Accept", "application/json")
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn read(&self, path: &str) -> Value {
        expect_json(self.get(path).await, 200).await
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Response {
        self.request(method, path).json(body).send().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        expect_json(self.send(Method::POST, path, body).await, 200).await
    }

    /// A new instance with its token.
    async fn instance(&self, name: &str, more: Value) -> Value {
        let mut body = json!({ "name": name });
        crate::server::merge(&mut body, more);
        expect_json(self.send(Method::PUT, "/instances/create", &body).await, 200).await
    }
}

/// A new credential of an account, with its secret.
async fn credential(gateway: &Gateway, account: &str) -> Value {
    let path = format!("/v1/accounts/{account}/credentials");
    expect_json(gateway.post(&path, &json!({ "name": "app", "role": "account" })).await, 201).await
}

/// `POST /token`.
async fn token(gateway: &Gateway, body: &Value) -> Response {
    gateway.client.post(format!("{}/token", gateway.url)).json(body).send().await.unwrap()
}

/// An error as every SDK can read it.
async fn expect_failure(response: Response, status: u16, code: &str) -> String {
    assert!(response.headers().contains_key("x-request-id"), "{:?}", response.headers());
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = expect_json(response, status).await;
    assert_eq!((&body["success"], &body["code"]), (&json!(false), &json!(code)), "{body}");
    assert_eq!(body["error"], body["message"], "{body}");
    let message = body["message"].as_str().unwrap();
    assert!(!message.is_empty());
    message.to_owned()
}

/// What stands in an envelope.
fn data(answer: &Value) -> &Value {
    assert_eq!((&answer["code"], &answer["success"]), (&json!(200), &json!(true)), "{answer}");
    &answer["data"]
}
