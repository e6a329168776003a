//! One request that brings events, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use sha2::Sha256;
use zapbus_event::traffic::{Simulated, cloud_api_body};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer: 500 results are a tenth of it.
const LONGEST_ANSWER: usize = 4 << 20;

/// What `Retry-After` may ask for at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Where events of one instance are posted, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// `…/v1/instances/{instance}/events`, or `…/sources/cloud-api/{instance}`.
    pub(crate) uri: Uri,
    /// Who posts.
    pub(crate) headers: HeaderMap,
    /// In whose words.
    pub(crate) form: Form,
}

/// How events are written.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// Our own: native ingest.
    Native,
    /// Meta's webhooks.
    CloudApi(Meta),
}

/// What Meta knows of an instance.
#[derive(Clone)]
pub(crate) struct Meta {
    /// Signs the bodies.
    pub(crate) app_secret: String,
    /// The number's id.
    pub(crate) phone_number_id: String,
}

impl std::fmt::Debug for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = &self.phone_number_id;
        f.debug_struct("Meta").field("phone_number_id", id).finish_non_exhaustive()
    }
}

impl Meta {
    /// The body with these events, and its signature.
    fn written(&self, events: &[Simulated]) -> (String, Option<HeaderValue>) {
        let id = &self.phone_number_id;
        let body = cloud_api_body(events.iter().filter_map(|event| event.cloud_api(id)).collect());
        // HMAC takes keys of any length, and hexadecimal digits are fit for a header.
        let signature =
            Hmac::<Sha256>::new_from_slice(self.app_secret.as_bytes()).ok().and_then(|mut mac| {
                mac.update(body.as_bytes());
                let digest = hex::encode(mac.finalize().into_bytes());
                HeaderValue::from_str(&format!("sha256={digest}")).ok()
            });
        (body, signature)
    }
}

/// Where Meta puts its signature.
const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

/// A refusal of the whole request.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The answer's status.
    pub(crate) status: StatusCode,
    /// The problem document.
    pub(crate) problem: serde_json::Value,
}

/// What became of a request.
pub(super) enum Answer {
    /// One result for each event.
    Results(Vec<Item>),
    /// Nothing was stored: again after this.
    Later(Duration),
    /// It will never be taken.
    Refused(Refusal),
    /// Nobody knows whether it was stored.
    Unreachable(String),
}

/// What became of one event.
pub(super) enum Item {
    /// It is in the journal, under this id (empty where the answer has none).
    Stored { id: String, duplicate: bool },
    /// It may be taken later.
    Later,
    /// It will never be taken, and why.
    Refused(String),
}

/// Connections to the gateway.
pub(super) struct Door {
    client: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    entries: Vec<Entry>,
}

impl Door {
    pub(super) fn new(entries: Vec<Entry>) -> Result<Self, String> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| format!("no trusted certificates: {error}"))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self { client: legacy::Client::builder(TokioExecutor::new()).build(connector), entries })
    }

    /// Whether there are words for this event where it goes.
    pub(super) fn takes(&self, event: &Simulated) -> bool {
        match self.entries.get(event.instance).map(|entry| &entry.form) {
            Some(Form::CloudApi(meta)) => event.cloud_api(&meta.phone_number_id).is_some(),
            Some(Form::Native) => true,
            None => false,
        }
    }

    /// Posts events of one instance in one request.
    pub(super) async fn post(&self, events: &[Simulated]) -> Answer {
        let Some(entry) = events.first().and_then(|event| self.entries.get(event.instance)) else {
            return Answer::Results(Vec::new());
        };
        let mut headers = entry.headers.clone();
        let (kind, body) = match (&entry.form, events) {
            (Form::CloudApi(meta), events) => {
                let (body, signature) = meta.written(events);
                headers.extend(signature.map(|signature| (SIGNATURE, signature)));
                ("application/json", body)
            }
            (Form::Native, [event]) => ("application/json", event.native()),
            (Form::Native, events) => {
                let lines: Vec<String> = events.iter().map(Simulated::native).collect();
                ("application/x-ndjson", lines.join("\n"))
            }
        };
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = entry.uri.clone();
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        match tokio::time::timeout(PATIENCE, self.exchange(request)).await {
            Err(_) => Answer::Unreachable("no answer within half a minute".to_owned()),
            Ok(Err(reason)) => Answer::Unreachable(reason),
            Ok(Ok(exchanged)) => understood(exchanged, events.len()),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Exchanged, String> {
        let response = self.client.request(request).await.map_err(|error| chain(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| chain(&*error))?.to_bytes();
        Ok(Exchanged { status: head.status, retry_after: retry_after(&head.headers), body })
    }
}

/// An answer as it came.
struct Exchanged {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

fn understood(answer: Exchanged, events: usize) -> Answer {
    let Exchanged { status, retry_after, body } = answer;
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Answer::Later(retry_after.unwrap_or(Duration::from_secs(1)).min(LONGEST_WAIT));
    }
    if !status.is_success() {
        let problem = serde_json::from_slice(&body).unwrap_or_default();
        // Of one event, the refusal is the answer's status; the next one may be better.
        if status == StatusCode::UNPROCESSABLE_ENTITY && events == 1 {
            return Answer::Results(vec![Item::Refused(detail(&problem))]);
        }
        return Answer::Refused(Refusal { status, problem });
    }
    match serde_json::from_slice::<Results>(&body) {
        Ok(Results { results: Some(results), .. }) if results.len() == events => {
            Answer::Results(results.into_iter().map(Item::from).collect())
        }
        Ok(Results { stored: Some(stored), .. }) if stored <= events => {
            // Meta is told how many were new, not which.
            let item = |nth| Item::Stored { id: String::new(), duplicate: nth >= stored };
            Answer::Results((0..events).map(item).collect())
        }
        _ => Answer::Unreachable("the answer is not one of Zapbus".to_owned()),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[derive(Deserialize)]
struct Results {
    results: Option<Vec<ItemAnswer>>,
    stored: Option<usize>,
}

#[derive(Deserialize)]
struct ItemAnswer {
    id: Option<String>,
    #[serde(default)]
    duplicate: bool,
    error: Option<serde_json::Value>,
}

impl From<ItemAnswer> for Item {
    fn from(answer: ItemAnswer) -> Self {
        match (answer.id, answer.error) {
            (Some(id), None) => Self::Stored { id, duplicate: answer.duplicate },
            (_, Some(error)) if error["status"].as_u64().is_some_and(|status| status >= 500) => {
                Self::Later
            }
            (_, error) => Self::Refused(detail(&error.unwrap_or_default())),
        }
    }
}

fn detail(problem: &serde_json::Value) -> String {
    problem["detail"].as_str().unwrap_or("no reason given").to_owned()
}

/// An error with its causes: the outermost alone says only that connecting failed.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<u64>, body: &str, events: usize) -> Answer {
        let exchanged = Exchanged {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: retry_after.map(Duration::from_secs),
            body: Bytes::from(body.to_owned()),
        };
        understood(exchanged, events)
    }

    #[test]
    fn a_busy_gateway_is_asked_again_when_it_says() {
        for (status, given, waits) in
            [(503, Some(3), 3), (503, None, 1), (429, Some(900), 60), (500, None, 1)]
        {
            let Answer::Later(after) = answer(status, given, "", 2) else {
                panic!("{status} is repeated");
            };
            assert_eq!(after, Duration::from_secs(waits), "{status}");
        }
    }

    #[test]
    fn each_event_has_its_result() {
        let body = r#"{"results":[{"id":"evt_1","seq":1,"duplicate":true},
            {"error":{"status":503,"detail":"full"}},{"error":{"status":422,"detail":"wrong"}}]}"#;
        let Answer::Results(results) = answer(200, None, body, 3) else {
            panic!("these are results");
        };
        assert!(matches!(&results[0], Item::Stored { id, duplicate: true } if id == "evt_1"));
        assert!(matches!(&results[1], Item::Later));
        assert!(matches!(&results[2], Item::Refused(reason) if reason == "wrong"));
    }

    #[test]
    fn meta_is_told_how_many_were_new() {
        let Answer::Results(results) = answer(200, None, r#"{"stored":1}"#, 3) else {
            panic!("these are results");
        };
        let known = |item: &&Item| matches!(item, Item::Stored { duplicate: true, .. });
        assert_eq!((results.len(), results.iter().filter(known).count()), (3, 2));
        assert!(matches!(answer(200, None, r#"{"stored":4}"#, 3), Answer::Unreachable(_)));
    }

    #[test]
    fn what_cannot_be_an_answer_of_ours_settles_nothing() {
        for (body, events) in [("<html>", 1), ("{}", 1), (r#"{"results":[]}"#, 1)] {
            assert!(matches!(answer(200, None, body, events), Answer::Unreachable(_)), "{body}");
        }
    }

    #[test]
    fn a_refusal_of_everything_ends_it_and_of_one_event_does_not() {
        assert!(matches!(answer(401, None, "{}", 1), Answer::Refused(_)));
        assert!(matches!(answer(422, None, r#"{"detail":"x"}"#, 1), Answer::Results(_)));
    }
}
