//! One request over a pool's connections, and its answer: what every channel over HTTP does.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;
use url::Url;

use crate::{
    Outcome, Scope,
    pool::{ConnectError, Form, IDLE, Lent, Pool, with_sources},
};

/// What is kept of an answer's body, in bytes.
const EXCERPT: usize = 4 * 1024;
/// The same when the message was accepted.
const EXCERPT_ACCEPTED: usize = 256;
/// How much of a body is read to be able to use the connection again, in bytes; beyond it a new
/// connection is cheaper.
const DRAIN: usize = 64 * 1024;
/// How long the rest of an answer is waited for once its head has said that the message was
/// accepted: it is only for the log, and for the connection to be used again.
const ACCEPTED_BODY: Duration = Duration::from_secs(1);
/// How long before a receiver says that it closes idle connections we do.
const IDLE_MARGIN: Duration = Duration::from_secs(1);
/// The longest that an idle connection is kept, whatever the receiver says.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(5 * 60);

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Whom requests name, in whichever form the connection wants it.
#[derive(Debug)]
pub(crate) struct Target {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
}

impl Target {
    /// Of a URL's scheme, host and port.
    pub(crate) fn of(url: &Url) -> Result<Self, http::Error> {
        let host = url.host_str().unwrap_or_default();
        let authority: Authority = match url.port() {
            Some(port) => format!("{host}:{port}").parse()?,
            None => host.parse()?,
        };
        Ok(Self {
            scheme: if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP },
            host: HeaderValue::try_from(authority.as_str())?,
            authority,
        })
    }

    /// The value of `Host`.
    pub(crate) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// A request by `POST`; see [`Self::request`].
    pub(crate) fn post(
        &self,
        form: &Form<'_>,
        path: PathAndQuery,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        self.request(form, Method::POST, path, headers, body)
    }

    /// A request. `headers` hold `Host`, which is taken out where the form has none.
    pub(crate) fn request(
        &self,
        form: &Form<'_>,
        method: Method,
        path: PathAndQuery,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(path);
        match form {
            Form::Origin => {}
            Form::Absolute(authority, authorization) => {
                parts.scheme = Some(self.scheme.clone());
                parts.authority = Some(Authority::clone(authority));
                if let Some(authorization) = authorization {
                    request
                        .headers_mut()
                        .insert(header::PROXY_AUTHORIZATION, HeaderValue::clone(authorization));
                }
            }
            Form::Http2 => {
                parts.scheme = Some(self.scheme.clone());
                parts.authority = Some(self.authority.clone());
                *request.version_mut() = Version::HTTP_2;
                request.headers_mut().remove(header::HOST);
            }
        }
        *request.uri_mut() = Uri::from_parts(parts)?;
        Ok(request)
    }
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is no connection yet.
    Connecting,
    /// The request is on its way, the answer has not begun.
    Waiting,
    /// The answer has begun.
    Reading,
}

/// Why an exchange has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The answer never began, or is no HTTP.
    #[error("no answer that can be understood: {}", with_sources(.0))]
    Answer(hyper::Error),
    /// The answer began, but did not end as it should.
    #[error("the answer broke off after {status}: {}", with_sources(.source))]
    Body { status: StatusCode, source: hyper::Error },
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
    /// It may not be sent any more.
    #[error("not sent: the right to send it has ended")]
    Withheld,
    /// It took too long.
    #[error("{} within {} s", .stage.missing(), .after.as_secs_f64())]
    Timeout { stage: Stage, after: Duration },
}

impl Stage {
    fn missing(self) -> &'static str {
        match self {
            Self::Connecting => "no connection",
            Self::Waiting => "no answer",
            Self::Reading => "the answer did not end",
        }
    }
}

impl Failure {
    /// What it means for a message.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Request(_) => Outcome::Refused,
            Self::Withheld => Outcome::Withheld,
            _ => Outcome::Retry { after: None, scope: Scope::Destination },
        }
    }
}

/// How much of an answer's body is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// Its beginning, for the log. A 2xx counts even if its body breaks off.
    Excerpt,
    /// All of it, up to so many bytes.
    Whole(usize),
}

/// What came of an exchange.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status, if there was a whole answer (or as much of it as is wanted).
    pub(crate) result: Result<StatusCode, Failure>,
    /// The status, if there was one at all.
    pub(crate) status: Option<StatusCode>,
    /// Headers of the answer.
    pub(crate) headers: HeaderMap,
    /// What is kept of its body.
    pub(crate) body: Vec<u8>,
    /// From the first byte sent to the last byte read.
    pub(crate) latency: Duration,
    /// From the very beginning to the head of the answer.
    pub(crate) until_head: Duration,
}

/// What is known so far; outlives the time-out that ends the exchange.
struct Progress {
    lent: Option<Lent>,
    stage: Stage,
    began: Instant,
    started: Instant,
    until_head: Duration,
    status: Option<StatusCode>,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// How to ask.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) pool: &'a Arc<Pool>,
    /// For the whole exchange.
    pub(crate) timeout: Duration,
    /// For the connection, if one has to be made.
    pub(crate) connect_timeout: Duration,
    pub(crate) body: Body,
}

impl Call<'_> {
    /// One attempt, on a connection that was idle or a fresh one. `request` writes it for the form
    /// of that connection; `may_go` is asked immediately before it is sent.
    pub(crate) async fn send(
        &self,
        may_go: impl Fn() -> bool,
        request: impl Fn(&Form<'_>) -> Result<Request<Full<Bytes>>, http::Error>,
    ) -> Answer {
        let began = Instant::now();
        let mut progress = Progress {
            lent: None,
            stage: Stage::Connecting,
            began,
            started: began,
            until_head: Duration::ZERO,
            status: None,
            headers: HeaderMap::new(),
            body: Vec::new(),
        };
        let exchange = self.exchange(&may_go, &request, &mut progress);
        let ended = tokio::time::timeout(self.timeout, exchange).await;
        let latency = progress.started.elapsed();
        let result = ended.unwrap_or_else(|_| {
            // It may be dead without anybody having said so.
            if let Some(lent) = &progress.lent {
                self.pool.retire(lent);
            }
            match progress.status {
                // The receiver has said that it has the message.
                Some(status) if status.is_success() && self.body == Body::Excerpt => Ok(status),
                _ => Err(Failure::Timeout { stage: progress.stage, after: self.timeout }),
            }
        });
        let Progress { status, headers, body, until_head, .. } = progress;
        Answer { result, status, headers, body, latency, until_head }
    }

    async fn exchange(
        &self,
        may_go: &impl Fn() -> bool,
        request: &impl Fn(&Form<'_>) -> Result<Request<Full<Bytes>>, http::Error>,
        progress: &mut Progress,
    ) -> Result<StatusCode, Failure> {
        let lent = match self.pool.take().await {
            Some(lent) => lent,
            None => self.pool.connect(None, self.connect_timeout).await?,
        };
        let mut lent = progress.lent.insert(lent);
        let mut repeated = false;
        let answer = loop {
            let request = request(&lent.form())?;
            if !may_go() {
                return Err(Failure::Withheld);
            }
            progress.stage = Stage::Waiting;
            progress.started = Instant::now();
            match lent.send(request).await {
                Ok(answer) => break answer,
                Err(_) if !repeated && lent.is_stale() => {
                    repeated = true;
                    progress.stage = Stage::Connecting;
                    let stale = progress.lent.take();
                    let fresh = self.pool.connect(stale, self.connect_timeout).await?;
                    lent = progress.lent.insert(fresh);
                }
                Err(error) => return Err(Failure::Answer(error)),
            }
        };
        let (head, body) = answer.into_parts();
        let status = head.status;
        progress.stage = Stage::Reading;
        progress.status = Some(status);
        progress.until_head = progress.began.elapsed();
        let idle = idle_time(head.headers.get(KEEP_ALIVE));
        progress.headers = head.headers;
        let want = match self.body {
            Body::Excerpt if status.is_success() => EXCERPT_ACCEPTED,
            Body::Excerpt => EXCERPT,
            Body::Whole(limit) => limit,
        };
        let reading = read(lent, body, want, &mut progress.body);
        let whole = if status.is_success() && self.body == Body::Excerpt {
            // It has the message whatever becomes of the rest of its answer. One that breaks off
            // or takes its time costs the connection, and nobody waits for it.
            match tokio::time::timeout(ACCEPTED_BODY, reading).await {
                Ok(Ok(whole)) => whole,
                Ok(Err(_)) | Err(_) => {
                    self.pool.retire(lent);
                    false
                }
            }
        } else {
            reading.await.map_err(|source| Failure::Body { status, source })?
        };
        if let (true, Some(lent)) = (whole, progress.lent.take()) {
            self.pool.give_back(lent, idle).await;
        }
        Ok(status)
    }
}

/// Reads a body: keeps the beginning and drops the rest. Whether all of it has been read, so that
/// the connection can be used again.
async fn read(
    lent: &mut Lent,
    mut body: Incoming,
    want: usize,
    kept: &mut Vec<u8>,
) -> hyper::Result<bool> {
    let mut total = 0;
    // A body that says that it is too long for the connection to be kept is read no further
    // than it is wanted.
    let limit = if body.size_hint().lower() > DRAIN as u64 { want } else { DRAIN.max(want) };
    while !body.is_end_stream() {
        let Some(frame) = lent.frame(&mut body).await else {
            break;
        };
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let room = want.saturating_sub(kept.len()).min(data.len());
        kept.extend_from_slice(&data[..room]);
        total += data.len();
        if total > limit {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How long a connection may be idle: [`IDLE`], or what `Keep-Alive: timeout=` says (RFC 2068
/// §19.7.1.1, seconds) less [`IDLE_MARGIN`]. Zero: not at all.
pub(crate) fn idle_time(keep_alive: Option<&HeaderValue>) -> Duration {
    let Some(text) = keep_alive.and_then(|value| value.to_str().ok()) else {
        return IDLE;
    };
    let mut idle = IDLE;
    for parameter in text.split(',') {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        let Ok(value) = value.trim().parse::<u32>() else {
            continue;
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "timeout" => {
                let said = Duration::from_secs(value.into());
                idle = said.saturating_sub(IDLE_MARGIN).max(said / 2).min(IDLE_LIMIT);
            }
            "max" if value == 0 => return Duration::ZERO,
            _ => {}
        }
    }
    idle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_given_up_before_the_receiver_does() {
        let table = [
            (None, 4000),
            (Some("timeout=5"), 4000),
            (Some("timeout=5, max=1000"), 4000),
            (Some("max=3, Timeout = 75"), 74_000),
            (Some("timeout=2"), 1000),
            (Some("timeout=1"), 500),
            (Some("timeout=0"), 0),
            (Some("timeout=5, max=0"), 0),
            (Some("timeout=4294967295"), 300_000),
            (Some("timeout=99999999999"), 4000),
            (Some("timeout=x, , =, max"), 4000),
        ];
        for (text, millis) in table {
            let value = text.map(|text| HeaderValue::from_str(text).unwrap());
            assert_eq!(idle_time(value.as_ref()), Duration::from_millis(millis), "{text:?}");
        }
    }

    #[test]
    fn a_target_is_named_as_the_connection_wants_it() {
        let target = Target::of(&Url::parse("https://example.com:8443/a").unwrap()).unwrap();
        let path = || PathAndQuery::from_static("/b?c");
        let headers = || {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, target.host().clone());
            headers
        };
        let post = |form: &Form<'_>| target.post(form, path(), headers(), Bytes::new()).unwrap();
        let request = post(&Form::Origin);
        assert_eq!(request.uri(), "/b?c");
        assert_eq!(request.headers()[header::HOST], "example.com:8443");
        let request = post(&Form::Http2);
        assert_eq!(request.uri(), "https://example.com:8443/b?c");
        assert!(!request.headers().contains_key(header::HOST));
        let checked: Authority = "192.0.2.1:8443".parse().unwrap();
        let secret = HeaderValue::from_static("Basic eDp5");
        let request = post(&Form::Absolute(&checked, Some(&secret)));
        assert_eq!(request.uri(), "https://192.0.2.1:8443/b?c");
        assert_eq!(request.headers()[header::PROXY_AUTHORIZATION], secret);
    }
}
