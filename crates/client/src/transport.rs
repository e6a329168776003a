//! HTTP: one pool of connections, calls with time limits, and repeats where they are safe.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use url::Url;

use crate::{Error, Problem, backoff::Backoff, bearer::Bearer};

/// Answers beyond it are not read.
const LARGEST_ANSWER: usize = 64 << 20;
/// Servers close idle connections; ours are closed first.
const IDLE: Duration = Duration::from_secs(15);
/// Pauses between repeats of a request.
const PAUSES: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(10) };

pub(crate) type Connector = HttpsConnector<HttpConnector>;

/// When a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Whatever went wrong: a repeat does no harm.
    Harmless,
    /// Only when the server says that it has not begun.
    Unbegun,
}

/// Names and values.
pub(crate) type Query = Vec<(Cow<'static, str>, String)>;

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// In segments, which are escaped.
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    /// JSON.
    pub(crate) body: Option<Bytes>,
    pub(crate) repeat: Repeat,
    /// For this call alone; long polls take longer.
    pub(crate) timeout: Option<Duration>,
}

impl Call {
    pub(crate) fn new(method: Method, path: &[&str]) -> Self {
        let harmless = [Method::GET, Method::PUT].contains(&method);
        Self {
            method,
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: None,
            repeat: if harmless { Repeat::Harmless } else { Repeat::Unbegun },
            timeout: None,
        }
    }

    /// With a JSON body.
    pub(crate) fn json(mut self, body: &impl serde::Serialize) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(body)
            .map_err(|error| Error::usage(format!("the body cannot be written: {error}")))?;
        self.body = Some(bytes.into());
        Ok(self)
    }

    /// With a parameter, if it is given.
    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name.into(), value.to_string())));
        self
    }

    /// With a header.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Result<Self, Error> {
        self.headers.insert(name.clone(), header_value(&name, value)?);
        Ok(self)
    }

    /// Repeats do no harm: the server knows the request by its key.
    pub(crate) fn keyed(mut self, key: Option<&str>) -> Result<Self, Error> {
        let made;
        let key = match key {
            Some(key) => key,
            None => {
                made = random_key();
                &made
            }
        };
        self.repeat = Repeat::Harmless;
        self.header(HeaderName::from_static("idempotency-key"), key)
    }
}

/// A value of a header; a token in it is not shown.
pub(crate) fn header_value(name: &HeaderName, value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Error::usage(format!("{name}: expected visible ASCII characters")))?;
    value.set_sensitive(name != header::USER_AGENT);
    Ok(value)
}

/// A key that nobody has used before.
pub(crate) fn random_key() -> String {
    let mut bytes = [0_u8; 16];
    // A source of random bytes is there on every system that this runs on.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The way to one server.
#[derive(Debug, Clone)]
pub(crate) struct Transport(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: Url,
    http: legacy::Client<Connector, Full<Bytes>>,
    connector: Connector,
    timeout: Duration,
    max_retries: u32,
    user_agent: HeaderValue,
}

/// What every client can be told.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) max_retries: u32,
    pub(crate) user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            max_retries: 2,
            user_agent: concat!("zapbus-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Reads where a server is.
pub(crate) fn server_url(text: &str, schemes: [&str; 2]) -> Result<Url, Error> {
    let [plain, secured] = schemes;
    let wrong = |what: &str| {
        Error::usage(format!("{text:?}: expected {what}, for example {plain}://127.0.0.1:8080"))
    };
    let url: Url = text.trim().parse().map_err(|_| wrong("a URL"))?;
    if ![plain, secured].contains(&url.scheme()) {
        return Err(wrong(&format!("{plain}:// or {secured}://")));
    }
    if url.host().is_none() {
        return Err(wrong("a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a URL without user and password; tokens are given apart"));
    }
    Ok(url)
}

impl Transport {
    pub(crate) fn new(base: Url, settings: &Settings) -> Result<Self, Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .map_err(|error| Error::usage(format!("no trusted certificates: {error}")))?
            .https_or_http()
            .enable_http1()
            .build();
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector.clone());
        Ok(Self(Arc::new(Inner {
            base,
            http,
            connector,
            timeout: settings.timeout,
            max_retries: settings.max_retries,
            user_agent: header_value(&header::USER_AGENT, &settings.user_agent)?,
        })))
    }

    /// The way to another place, with the same connections.
    pub(crate) fn at(&self, base: Url) -> Self {
        let Inner { http, connector, timeout, max_retries, user_agent, .. } = &*self.0;
        Self(Arc::new(Inner {
            base,
            http: http.clone(),
            connector: connector.clone(),
            timeout: *timeout,
            max_retries: *max_retries,
            user_agent: user_agent.clone(),
        }))
    }

    pub(crate) fn connector(&self) -> Connector {
        self.0.connector.clone()
    }

    /// How long one exchange may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// Where a call goes.
    pub(crate) fn url(&self, path: &[String], query: &[(Cow<'static, str>, String)]) -> Url {
        let mut url = self.0.base.clone();
        // Only URLs with a host get here.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Scheme, host and port, for messages.
    pub(crate) fn server(&self) -> String {
        self.0.base.origin().ascii_serialization()
    }

    /// Makes a call; what the server says when it does as it was asked.
    pub(crate) async fn call(&self, call: Call, bearer: Option<&Bearer>) -> Result<Bytes, Error> {
        let mut attempt = 0;
        let mut refreshed = false;
        loop {
            let token = match bearer {
                Some(bearer) => Some(bearer.token().await?),
                None => None,
            };
            let error = match self.once(&call, token.as_deref()).await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            if error.status() == Some(401)
                && !refreshed
                && let (Some(bearer), Some(token)) = (bearer, &token)
                && bearer.refused(token).await
            {
                refreshed = true;
                continue;
            }
            attempt += 1;
            if attempt > self.0.max_retries || !may_repeat(&error, call.repeat) {
                return Err(error);
            }
            let asked = error.problem().and_then(|problem| problem.retry_after);
            let pause = PAUSES.pause(attempt);
            tokio::time::sleep(asked.map_or(pause, |asked| asked.max(pause))).await;
        }
    }

    async fn once(&self, call: &Call, token: Option<&str>) -> Result<Bytes, Error> {
        let after = call.timeout.unwrap_or(self.0.timeout);
        let exchange = tokio::time::timeout(after, self.exchange(call, token));
        exchange.await.unwrap_or_else(|_| Err(Error::Timeout { server: self.server(), after }))
    }

    async fn exchange(&self, call: &Call, token: Option<&str>) -> Result<Bytes, Error> {
        let url = self.url(&call.path, &call.query);
        let mut request = Request::builder().method(call.method.clone()).uri(url.as_str());
        if let Some(headers) = request.headers_mut() {
            *headers = self.headers(token)?;
            headers.extend(call.headers.clone());
            if call.body.is_some() {
                let json = HeaderValue::from_static("application/json");
                headers.insert(header::CONTENT_TYPE, json);
            }
        }
        let body = Full::new(call.body.clone().unwrap_or_default());
        let request = request.body(body).map_err(|error| Error::usage(error.to_string()))?;
        let response =
            self.0.http.request(request).await.map_err(|error| self.unreachable(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| self.unreachable(&*error))?.to_bytes();
        if parts.status.is_success() {
            return Ok(body);
        }
        Err(Error::Refused(Box::new(Problem::read(parts.status, &parts.headers, &body))))
    }

    /// What every request carries.
    pub(crate) fn headers(&self, token: Option<&str>) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, self.0.user_agent.clone());
        if let Some(token) = token {
            let name = header::AUTHORIZATION;
            headers.insert(name.clone(), header_value(&name, &format!("Bearer {token}"))?);
        }
        Ok(headers)
    }

    /// Nothing answers.
    pub(crate) fn unreachable(&self, error: &dyn std::error::Error) -> Error {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !reason.contains(&cause_text) {
                reason.push_str(": ");
                reason.push_str(&cause_text);
            }
            source = cause.source();
        }
        Error::Unreachable { server: self.server(), reason }
    }
}

fn may_repeat(error: &Error, repeat: Repeat) -> bool {
    match repeat {
        Repeat::Harmless => error.is_temporary(),
        // Both statuses say that nothing was begun.
        Repeat::Unbegun => matches!(
            error.status().map(StatusCode::from_u16),
            Some(Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_the_url_stays_and_segments_are_escaped() {
        let base = server_url("http://127.0.0.1:1/bus/", ["http", "https"]).unwrap();
        let transport = Transport::new(base, &Settings::default()).unwrap();
        let path = ["v1".to_owned(), "a/b c".to_owned()];
        let url = transport.url(&path, &[("types".into(), "message.*,x".to_owned())]);
        assert_eq!(url.as_str(), "http://127.0.0.1:1/bus/v1/a%2Fb%20c?types=message.*%2Cx");
    }

    #[test]
    fn a_wrong_url_says_what_was_expected() {
        for text in ["", "localhost:8080", "ftp://x", "http://u:p@host"] {
            let error = server_url(text, ["http", "https"]).unwrap_err();
            assert!(error.to_string().contains("expected"), "{text}: {error}");
        }
    }
}
