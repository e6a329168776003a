//! What the stories about the API share: callers with other tokens than the admin's.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::server::{Gateway, expect_json};

/// A caller with a token of its own.
pub(crate) struct Caller<'a> {
    gateway: &'a Gateway,
    pub(crate) token: String,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(gateway: &'a Gateway, token: impl Into<String>) -> Self {
        Self { gateway, token: token.into() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.gateway.url);
        self.gateway.client.request(method, url).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Response {
        self.request(method, path).json(body).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.send(Method::POST, path, body).await
    }

    /// `POST` that must be answered with this status.
    pub(crate) async fn made(&self, path: &str, body: &Value, status: u16) -> Value {
        expect_json(self.post(path, body).await, status).await
    }
}

/// An account with a credential for all of it, an instance, and a destination of each kind.
pub(crate) struct Tenant<'a> {
    pub(crate) account: String,
    pub(crate) caller: Caller<'a>,
    pub(crate) credential: String,
    pub(crate) instance: String,
    pub(crate) instance_token: String,
    pub(crate) destination: String,
    pub(crate) global: String,
}

impl<'a> Tenant<'a> {
    pub(crate) async fn create(gateway: &'a Gateway, name: &str, hook: &str) -> Self {
        let account = make(gateway, "/v1/accounts", json!({ "name": name })).await;
        let account = text(&account, "id");
        let path = format!("/v1/accounts/{account}/credentials");
        let credential = make(gateway, &path, json!({ "name": "all of it" })).await;
        let caller = Caller::new(gateway, text(&credential, "secret"));
        let instance = caller.made("/v1/instances", &json!({ "name": "shop" }), 201).await;
        let body = json!({ "channel": { "type": "webhook", "url": hook } });
        let path = format!("/v1/instances/{}/destinations", text(&instance, "id"));
        let destination = caller.made(&path, &body, 201).await;
        let global = caller.made("/v1/destinations", &body, 201).await;
        Self {
            account,
            credential: text(&credential, "id"),
            instance: text(&instance, "id"),
            instance_token: text(&instance, "token"),
            destination: text(&destination, "id"),
            global: text(&global, "id"),
            caller,
        }
    }
}

async fn make(gateway: &Gateway, path: &str, body: Value) -> Value {
    expect_json(gateway.post(path, &body).await, 201).await
}

/// A member that must be text.
pub(crate) fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}")).to_owned()
}

/// The problem an answer must be: its status, media type and code.
pub(crate) async fn expect_problem(response: Response, status: u16, code: &str) -> Value {
    let kind = response.headers().get("content-type").cloned();
    let retry_after = response.headers().contains_key("retry-after");
    let problem = expect_json(response, status).await;
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(kind.unwrap(), "application/problem+json", "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["type"], format!("urn:zapbus:problem:{code}"));
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    assert_eq!(retry_after, status == 503, "{problem}");
    problem
}

/// The problem, and that one of its faults is at `path` and says `words`.
pub(crate) async fn expect_fault(
    response: Response,
    status: u16,
    code: &str,
    path: &str,
    words: &str,
) {
    let problem = expect_problem(response, status, code).await;
    let faults = problem["errors"].as_array().unwrap_or_else(|| panic!("{problem}"));
    let found = faults.iter().any(|fault| {
        fault["path"] == path && fault["message"].as_str().is_some_and(|it| it.contains(words))
    });
    assert!(found, "no fault at {path:?} with {words:?} in {problem}");
}
