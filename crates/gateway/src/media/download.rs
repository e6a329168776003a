//! Files over HTTP: from places that users name, so only through the egress guard; no more of them
//! than is allowed, and no longer.

use std::{error::Error as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use url::Url;
use zapbus_channel::egress::{Connector, Error as EgressError, Guard};
use zapbus_store::Spool;

/// How long it may take to be connected.
const CONNECTING: Duration = Duration::from_secs(10);

/// How long nothing may come.
const STALL: Duration = Duration::from_secs(30);

/// Redirects that are followed: stores answer with one to where the file lies.
const REDIRECTS: usize = 4;

/// Bytes of an answer that is read whole.
const ANSWER: usize = 64 << 10;

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Trying again does not help.
    #[error("{0}")]
    Final(String),
    /// It may be there later.
    #[error("{reason}")]
    Passing {
        /// What happened.
        reason: String,
        /// When to come again, says the other side.
        after: Option<Duration>,
    },
}

impl Failure {
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self::Passing { reason: reason.into(), after: None }
    }
}

/// Fetches.
#[derive(Debug, Clone)]
pub(super) struct Download {
    client: Client<HttpsConnector<Connector>, Empty<Bytes>>,
}

/// An answer whose body is still to come.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    body: Incoming,
}

impl Download {
    /// # Errors
    /// When this machine has no certificates to trust.
    pub(super) fn new(guard: &Arc<Guard>) -> Result<Self, std::io::Error> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .wrap_connector(guard.connector(CONNECTING));
        // A guard may say otherwise a moment later: no connection is kept.
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client })
    }

    /// The answer to a question, if it is a success. The token goes to the host of `url` alone.
    pub(super) async fn ask(&self, url: &Url, token: Option<&str>) -> Result<Answer, Failure> {
        let mut place = url.clone();
        for _ in 0..=REDIRECTS {
            let shown = token.filter(|_| place.origin() == url.origin());
            let answer = self.ask_once(&place, shown).await?;
            let (head, body) = answer.into_parts();
            if head.status.is_success() {
                return Ok(Answer { headers: head.headers, body });
            }
            if !head.status.is_redirection() {
                return Err(refusal(head.status, &head.headers));
            }
            let target = head.headers.get(header::LOCATION).and_then(|it| it.to_str().ok());
            place = target.and_then(|target| place.join(target).ok()).ok_or_else(|| {
                Failure::Final(format!("{} without a place to go to", head.status))
            })?;
        }
        Err(Failure::Final(format!("more than {REDIRECTS} redirects")))
    }

    async fn ask_once(
        &self,
        url: &Url,
        token: Option<&str>,
    ) -> Result<http::Response<Incoming>, Failure> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failure::Final(format!("{} is no http:// or https:// URL", url.scheme())));
        }
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(url.as_str())
            // Meta refuses who does not say who asks.
            .header(header::USER_AGENT, concat!("zapbus/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| Failure::Final(format!("the URL cannot be asked: {error}")))?;
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value =
                value.map_err(|_| Failure::Final("the access token cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let answer = tokio::time::timeout(STALL, self.client.request(request)).await;
        let answer = answer.map_err(|_| Failure::passing(no_answer()))?;
        answer.map_err(|error| {
            let mut source = error.source();
            while let Some(cause) = source {
                if let Some(error @ EgressError::Refused(_)) = cause.downcast_ref::<EgressError>() {
                    return Failure::Final(error.to_string());
                }
                source = cause.source();
            }
            Failure::passing(with_sources(&error))
        })
    }
}

impl Answer {
    /// All of it, as text. For answers that are short.
    pub(super) async fn text(self) -> Result<Bytes, Failure> {
        let body = Limited::new(self.body, ANSWER).collect();
        let body = tokio::time::timeout(STALL, body).await;
        let body = body.map_err(|_| Failure::passing(no_answer()))?;
        body.map(|body| body.to_bytes())
            .map_err(|error| Failure::passing(format!("the answer broke off: {error}")))
    }

    /// The type it claims to be of.
    pub(super) fn mime(&self) -> Option<String> {
        let value = self.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        (!value.is_empty() && value.len() <= 255).then(|| value.to_owned())
    }

    /// Writes all of it to a file, piece by piece.
    pub(super) async fn write_to(mut self, spool: &mut Spool, most: u64) -> Result<(), Failure> {
        let too_large = |bytes: u64| {
            Failure::Final(format!(
                "it has {bytes} bytes or more, and media.fetch.max_bytes allows {most}"
            ))
        };
        let said = self.headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok());
        let said: Option<u64> = said.and_then(|it| it.parse().ok());
        if let Some(bytes) = said.filter(|bytes| *bytes > most) {
            return Err(too_large(bytes));
        }
        loop {
            let frame = tokio::time::timeout(STALL, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| Failure::passing(no_answer()))? else { break };
            let frame =
                frame.map_err(|error| Failure::passing(format!("it broke off: {error}")))?;
            let Ok(piece) = frame.into_data() else { continue };
            if spool.bytes() + piece.len() as u64 > most {
                return Err(too_large(spool.bytes() + piece.len() as u64));
            }
            let written = spool.write(&piece).await;
            written.map_err(|error| Failure::passing(format!("it cannot be kept: {error}")))?;
        }
        if said.is_some_and(|said| said != spool.bytes()) {
            return Err(Failure::passing("it broke off"));
        }
        Ok(())
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", STALL.as_secs())
}

/// What an answer that is no success means.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Failure {
    if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
        return Failure::Final(format!("{status}: it is not there, or no longer"));
    }
    let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": is the access token still good?",
        _ => "",
    };
    Failure::Passing { reason: format!("{status}{hint}"), after }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}
