//! The demo's calls of the gateway's API: the account, its instance and destinations, and how
//! they are.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    DemoError,
    receiver::{PLACES, Place},
};
use crate::simulator::{Entry, Form};

/// The account and the instance of the demo.
const ACCOUNT: &str = "demo";
const INSTANCE: &str = "shop";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The admin's connection to the gateway.
#[derive(Debug, Clone)]
pub(super) struct Api {
    base: String,
    headers: HeaderMap,
    client: legacy::Client<HttpConnector, Full<Bytes>>,
}

/// How a destination is, as the gateway says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Destination {
    /// `active`, `paused` or `disabled`.
    pub(super) state: String,
    /// How delivery goes.
    pub(super) status: Status,
}

/// How delivery goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Status {
    /// `flowing` or `probing`.
    pub(super) health: String,
    /// Deliveries that will be tried again.
    pub(super) retrying: u64,
    /// Deliveries given up.
    pub(super) dead: u64,
    /// The last failure, in words.
    pub(super) last_error: Option<String>,
}

impl Api {
    /// For the gateway at this address, in the demo's account.
    ///
    /// # Errors
    /// When the token cannot be a header's value.
    pub(super) fn new(gateway: SocketAddr, token: &str) -> Result<Self, DemoError> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|error| DemoError::Api(error.to_string()))?;
        bearer.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, bearer);
        Ok(Self {
            base: format!("http://{gateway}"),
            headers,
            client: legacy::Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    /// Where the simulator posts.
    ///
    /// # Errors
    /// Never: the address was made by us.
    pub(super) fn entry(&self) -> Result<Entry, DemoError> {
        let mut headers = self.headers.clone();
        headers.insert("zapbus-account", HeaderValue::from_static(ACCOUNT));
        let uri = self.uri(&format!("/v1/instances/{INSTANCE}/events"))?;
        Ok(Entry { uri, headers, form: Form::Native })
    }

    /// Makes account, instance and destinations. Gives the ids of these, as [`PLACES`] has them.
    ///
    /// # Errors
    /// When the gateway refuses one of them.
    pub(super) async fn set_up(&self, receiver: SocketAddr) -> Result<Vec<String>, DemoError> {
        self.ask(Method::POST, "/v1/accounts", &json!({ "name": ACCOUNT })).await?;
        self.ask(Method::POST, "/v1/instances", &json!({ "name": INSTANCE })).await?;
        let mut ids = Vec::new();
        for place in PLACES {
            let path = format!("/v1/instances/{INSTANCE}/destinations");
            let made = self.ask(Method::POST, &path, &destination(&place, receiver)).await?;
            ids.push(made["id"].as_str().unwrap_or_default().to_owned());
        }
        Ok(ids)
    }

    /// How a destination is.
    ///
    /// # Errors
    /// When the gateway does not answer, or with something else.
    pub(super) async fn destination(&self, id: &str) -> Result<Destination, DemoError> {
        let shown = self.ask(Method::GET, &format!("/v1/destinations/{id}"), &Value::Null).await?;
        Destination::deserialize(&shown).map_err(|error| DemoError::Api(error.to_string()))
    }

    /// Pauses a destination, or lets it go on.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub(super) async fn pause(&self, id: &str, pause: bool) -> Result<(), DemoError> {
        let verb = if pause { "pause" } else { "resume" };
        self.ask(Method::POST, &format!("/v1/destinations/{id}/{verb}"), &json!({})).await?;
        Ok(())
    }

    fn uri(&self, path: &str) -> Result<Uri, DemoError> {
        let uri = format!("{}{path}", self.base);
        uri.parse().map_err(|error| DemoError::Api(format!("{uri}: {error}")))
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, DemoError> {
        let mut request = Request::new(Full::default());
        if !body.is_null() {
            *request.body_mut() = Full::from(body.to_string());
        }
        *request.uri_mut() = self.uri(path)?;
        *request.headers_mut() = self.headers.clone();
        // The account itself is made by the admin, everything else in it.
        if path != "/v1/accounts" {
            request.headers_mut().insert("zapbus-account", HeaderValue::from_static(ACCOUNT));
        }
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        let what = format!("{method} {path}");
        *request.method_mut() = method;
        let (status, answer) = tokio::time::timeout(PATIENCE, self.exchange(request))
            .await
            .map_err(|_| DemoError::Api(format!("{what}: no answer")))?
            .map_err(|error| DemoError::Api(format!("{what}: {error}")))?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if !status.is_success() {
            return Err(DemoError::Api(format!("{what}: {status}: {answer}")));
        }
        Ok(answer)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
        let response = self.client.request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes()))
    }
}

/// Retries soon and often: a demo has no hours. Nothing is given up.
fn destination(place: &Place, receiver: SocketAddr) -> Value {
    json!({
        "label": place.label,
        "channel": { "type": "webhook", "url": format!("http://{receiver}/{}", place.label) },
        "events": place.events,
        "max_in_flight": place.max_in_flight,
        "retry": { "waits_s": [1.0, 2.0, 3.0], "max_attempts": 50, "timeout_s": 5.0 },
    })
}
