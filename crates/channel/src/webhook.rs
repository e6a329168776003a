//! Posts to a user's URL, signed as Standard Webhooks describes.

mod bearer;
mod config;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header, uri::PathAndQuery};
use http_body_util::Full;
use zapbus_event::Timestamp;

pub use config::{Config, Http2, PreviousSecret};

pub use crate::fields::ClientCertificate;

#[cfg(debug_assertions)]
use crate::Warrant;
use crate::{
    Fault, Hidden, MASK, Message, Opening, Outcome, Report, Scope,
    exchange::{Body, Call, Failure, Stage, Target},
    pool::{Form, Pool, Route},
    signature::{self, Signer},
};

/// The longest wait that a receiver may ask for.
pub const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(60 * 60);

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const EVENT: HeaderName = HeaderName::from_static("zapbus-event");
const HOPS: HeaderName = HeaderName::from_static("zapbus-hops");
const REPLAY: HeaderName = HeaderName::from_static("zapbus-replay");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Under whose lease a test's gateway sends.
#[cfg(debug_assertions)]
const TEST_LEASE: HeaderName = HeaderName::from_static("zapbus-test-lease");

/// A webhook ready to be posted to. Holds no connection of its own.
#[derive(Debug)]
pub struct Webhook {
    pool: Arc<Pool>,
    target: Target,
    path: String,
    query: Option<String>,
    /// The two together, unless the event's name comes between them.
    path_and_query: Option<PathAndQuery>,
    /// All headers of a request, with room for the values that differ.
    headers: HeaderMap,
    jwt_key: Option<Hidden>,
    signer: Signer,
    previous: Vec<(Signer, Timestamp)>,
    timeout: Duration,
    connect_timeout: Duration,
}

impl Webhook {
    /// Prepares everything that is the same for each message.
    pub(crate) fn open(config: &Config, opening: &Opening) -> Result<Self, Vec<Fault>> {
        let faults = config.form_faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let one = |path: &str, message: String| vec![Fault::new(path, message)];
        let secret = config.secret.as_ref().ok_or_else(|| {
            one("secret", "is missing; leave it out when creating to have one made".into())
        })?;
        let url = &config.url;
        let https = url.scheme() == "https";
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(one("url", "has no host".into()));
        };
        let unwritable = |error: &dyn std::fmt::Display| {
            one("url", format!("cannot be written in a request: {error}"))
        };
        let target = Target::of(url).map_err(|error| unwritable(&error))?;
        let path_and_query = match config.by_events {
            true => None,
            false => Some(
                path_and_query(url.path(), None, url.query())
                    .map_err(|error| unwritable(&error))?,
            ),
        };

        let connecting = config.connecting();
        let route = Route {
            guard: Arc::clone(&opening.guard),
            https,
            host: host.to_owned(),
            port,
            http2: config.http2,
            identity: connecting.identity().map_err(|fault| vec![fault])?,
            proxy: config.proxy().map_err(|fault| vec![fault])?,
        };
        Ok(Self {
            pool: opening.pools.pool(route),
            headers: template(config, opening, target.host().clone()),
            jwt_key: config.jwt_key.clone(),
            target,
            path: url.path().to_owned(),
            query: url.query().map(str::to_owned),
            path_and_query,
            signer: secret.signer(),
            previous: config
                .previous_secrets
                .iter()
                .map(|previous| (previous.secret.signer(), previous.expires_at))
                .collect(),
            timeout: connecting.timeout().unwrap_or(opening.timeout),
            connect_timeout: connecting.connect_timeout(),
        })
    }

    /// Sends the messages one after another.
    pub(crate) async fn send(&self, batch: &[Message]) -> Vec<Report> {
        let mut reports = Vec::with_capacity(batch.len());
        for message in batch {
            reports.push(self.send_one(message).await);
        }
        reports
    }

    async fn send_one(&self, message: &Message) -> Report {
        let call = Call {
            pool: &self.pool,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            body: Body::Excerpt,
        };
        let answer = call.send(|| message.may_go(), |form| self.request(message, form)).await;
        let (outcome, error) = match answer.result {
            Ok(status) => {
                let retry_after = answer.headers.get(header::RETRY_AFTER);
                let outcome = classify(status, retry_after, message.timestamp + answer.until_head);
                let error = (outcome != Outcome::Accepted).then(|| answer_error(status));
                (outcome, error)
            }
            Err(failure) => (failure.outcome(), Some(failure_error(&failure))),
        };
        let (request_headers, response_headers) = match outcome {
            Outcome::Accepted => (Vec::new(), Vec::new()),
            _ => (self.shown_request_headers(message), shown_headers(&answer.headers)),
        };
        Report {
            outcome,
            status: answer.status.map(|status| status.as_u16()),
            latency: answer.latency,
            error,
            request_headers,
            response_headers,
            excerpt: answer.body.into(),
        }
    }

    fn request(
        &self,
        message: &Message,
        form: &Form<'_>,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let path = match &self.path_and_query {
            Some(fixed) => fixed.clone(),
            None => {
                let segment = message.segment.as_ref().unwrap_or(&message.event_name);
                path_and_query(&self.path, Some(segment), self.query.as_deref())?
            }
        };
        let headers = self.request_headers(message)?;
        #[cfg_attr(not(debug_assertions), expect(unused_mut, reason = "tests add to it"))]
        let mut request = self.target.post(form, path, headers, message.body.clone())?;
        // Before the look at the right to send: what is shown as looked at by then was not yet
        // lost by then.
        #[cfg(debug_assertions)]
        if let Some(lease) = message.warrant.as_ref().and_then(Warrant::shown_now) {
            request.headers_mut().insert(TEST_LEASE, HeaderValue::try_from(lease)?);
        }
        Ok(request)
    }

    fn request_headers(&self, message: &Message) -> Result<HeaderMap, http::Error> {
        // The template has a place for each of these: nothing grows.
        let mut headers = self.headers.clone();
        let timestamp = HeaderValue::from(message.timestamp.as_secs());
        let previous = self.previous.iter().filter(|(_, until)| *until > message.timestamp);
        let signers = std::iter::once(&self.signer).chain(previous.map(|(signer, _)| signer));
        let signature =
            signature::sign(signers, message.id.as_bytes(), timestamp.as_bytes(), &message.body);
        for (name, value) in &message.headers {
            if message.headers_win || !headers.contains_key(name) {
                headers.insert(name, HeaderValue::try_from(value)?);
            }
        }
        if let Some(key) = &self.jwt_key
            && let Some(bearer) = bearer::bearer(key.expose(), message.timestamp)
        {
            headers.insert(header::AUTHORIZATION, bearer);
        }
        headers.insert(ID, HeaderValue::try_from(&message.id)?);
        headers.insert(TIMESTAMP, timestamp);
        headers.insert(SIGNATURE, HeaderValue::try_from(signature)?);
        headers.insert(EVENT, HeaderValue::try_from(&message.event_name)?);
        headers.insert(HOPS, HeaderValue::from(u16::from(message.hops)));
        if let Some(replay) = &message.replay {
            headers.insert(REPLAY, HeaderValue::try_from(replay)?);
        }
        if let Some(traceparent) = &message.traceparent {
            headers.insert(TRACEPARENT, HeaderValue::try_from(traceparent)?);
        }
        Ok(headers)
    }

    fn shown_request_headers(&self, message: &Message) -> Vec<(String, String)> {
        self.request_headers(message).map(|headers| shown_headers(&headers)).unwrap_or_default()
    }
}

/// What an answer means.
///
/// - 2xx: accepted. 410: gone.
/// - 401, 403, 404, 407, 429 and 5xx but 500 speak of the destination as a whole: a rotated
///   secret, a workflow that is switched off, a proxy without its server.
/// - Everything else speaks of this event; redirects are not followed.
///
/// `Retry-After` counts with every outcome that is a retry, see [`retry_after`].
pub fn classify(
    status: StatusCode,
    retry_after_header: Option<&HeaderValue>,
    now: Timestamp,
) -> Outcome {
    let scope = match status.as_u16() {
        200..=299 => return Outcome::Accepted,
        410 => return Outcome::Gone,
        500 => Scope::Event,
        401 | 403 | 404 | 407 | 429 | 501..=599 => Scope::Destination,
        _ => Scope::Event,
    };
    Outcome::Retry { after: retry_after_header.and_then(|value| retry_after(value, now)), scope }
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds or an HTTP date; at most
/// [`RETRY_AFTER_LIMIT`]. A date that has passed is zero; what is neither is `None`.
pub fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are more than the limit.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        let now = Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
        date.duration_since(SystemTime::UNIX_EPOCH).ok()?.saturating_sub(now)
    };
    Some(wait.min(RETRY_AFTER_LIMIT))
}

/// Everything that goes out with each request, and an empty place for what differs.
fn template(config: &Config, opening: &Opening, host: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12 + config.headers.len());
    headers.insert(header::HOST, host);
    headers.insert(header::USER_AGENT, opening.user_agent.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for name in [ID, TIMESTAMP, SIGNATURE, EVENT, HOPS] {
        headers.insert(name, HeaderValue::from_static(""));
    }
    if let Some(authorization) = &config.authorization
        && let Ok(mut value) = HeaderValue::try_from(authorization.expose())
    {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    for (name, value) in config::custom_headers(&config.headers) {
        headers.insert(name, value);
    }
    headers
}

/// The target of a request line. `event` is appended as one segment, whatever stands in it.
fn path_and_query(
    path: &str,
    event: Option<&str>,
    query: Option<&str>,
) -> Result<PathAndQuery, http::Error> {
    let mut text = String::with_capacity(path.len() + 64);
    text.push_str(path);
    if let Some(event) = event {
        if !text.ends_with('/') {
            text.push('/');
        }
        for byte in event.bytes() {
            // RFC 3986 §2.3: what needs no encoding anywhere.
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push('%');
                for digit in [byte >> 4, byte & 15] {
                    text.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    Ok(PathAndQuery::try_from(text)?)
}

/// Headers for the log, secrets masked.
pub(crate) fn shown_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let shown = if value.is_sensitive() || config::is_secret(name.as_str()) {
                MASK.to_owned()
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            (name.as_str().to_owned(), shown)
        })
        .collect()
}

/// Why there is no answer, for the destination's owner.
fn failure_error(failure: &Failure) -> String {
    match failure {
        Failure::Timeout { stage: Stage::Waiting, .. } => {
            format!("{failure}; answer first and work on the event afterwards")
        }
        _ => failure.to_string(),
    }
}

/// What an answer that is no success means for the destination's owner.
fn answer_error(status: StatusCode) -> String {
    let advice = match status.as_u16() {
        300..=399 => "redirects are not followed; set the URL it leads to",
        401 | 403 => "check `authorization`, the headers and the signing secret",
        404 => "check the URL, and that the receiver is switched on",
        410 => "the receiver wants no more events",
        413 => "the event is too large for the receiver",
        429 => "the receiver gets more than it wants",
        _ => "expected 2xx",
    };
    format!("the receiver answered {status}; {advice}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exchange::{IDLE_LIMIT, idle_time};

    /// 2026-01-01T00:00:00Z.
    const NOW: i64 = 1_767_225_600_000;

    fn classified(status: u16, header: Option<&str>) -> Outcome {
        let header = header.map(|text| HeaderValue::from_str(text).unwrap());
        classify(
            StatusCode::from_u16(status).unwrap(),
            header.as_ref(),
            Timestamp::from_millis(NOW),
        )
    }

    #[test]
    fn every_status_has_its_outcome() {
        for status in [200, 201, 202, 204, 206, 299] {
            assert_eq!(classified(status, None), Outcome::Accepted, "{status}");
        }
        assert_eq!(classified(410, None), Outcome::Gone);
        for status in [401, 403, 404, 407, 429, 501, 502, 503, 504, 520, 530, 599] {
            let outcome = Outcome::Retry { after: None, scope: Scope::Destination };
            assert_eq!(classified(status, None), outcome, "{status}");
        }
        for status in [
            300, 301, 302, 303, 304, 307, 308, 400, 402, 405, 408, 409, 411, 413, 415, 418, 422,
            423, 500, 600, 999,
        ] {
            let outcome = Outcome::Retry { after: None, scope: Scope::Event };
            assert_eq!(classified(status, None), outcome, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_limit() {
        let table = [
            ("0", Some(0)),
            ("1", Some(1)),
            (" 120 ", Some(120)),
            ("3600", Some(3600)),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            // All three forms of RFC 9110 §5.6.7.
            ("Thu, 01 Jan 2026 00:00:30 GMT", Some(30)),
            ("Thursday, 01-Jan-26 00:00:30 GMT", Some(30)),
            ("Thu Jan  1 00:00:30 2026", Some(30)),
            ("Fri, 02 Jan 2026 00:00:00 GMT", Some(3600)),
            ("Wed, 31 Dec 2025 23:59:59 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Thu, 32 Jan 2026 00:00:30 GMT", None),
        ];
        for (text, seconds) in table {
            let value = HeaderValue::from_str(text).unwrap();
            let found = retry_after(&value, Timestamp::from_millis(NOW));
            assert_eq!(found, seconds.map(Duration::from_secs), "{text}");
        }
        let outcome = Outcome::Retry { after: Some(Duration::from_secs(7)), scope: Scope::Event };
        assert_eq!(classified(500, Some("7")), outcome);
        assert_eq!(classified(200, Some("7")), Outcome::Accepted);
        assert_eq!(classified(410, Some("7")), Outcome::Gone);
    }

    #[test]
    fn the_name_of_the_event_is_one_segment_before_the_query() {
        let table = [
            ("/", "message.received", None, "/message.received"),
            ("/hook", "MESSAGES_UPSERT", Some("a=b&c"), "/hook/MESSAGES_UPSERT?a=b&c"),
            ("/hook/", "a/b?c#d e%", None, "/hook/a%2Fb%3Fc%23d%20e%25"),
            ("/hook", "é", None, "/hook/%C3%A9"),
        ];
        for (path, event, query, expected) in table {
            let found = path_and_query(path, Some(event), query).unwrap();
            assert_eq!(found.as_str(), expected);
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(
            status in 100..1000_u16,
            bytes in proptest::collection::vec(0x20..=0xff_u8, 0..60),
            millis in any::<i64>(),
        ) {
            // 127 is the only byte above the control characters that a header may not hold.
            let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 127).collect();
            let value = HeaderValue::from_bytes(&bytes).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            let outcome = classify(status, Some(&value), Timestamp::from_millis(millis));
            if let Outcome::Retry { after: Some(after), .. } = outcome {
                prop_assert!(after <= RETRY_AFTER_LIMIT);
            }
            prop_assert!(idle_time(Some(&value)) <= IDLE_LIMIT);
        }

        #[test]
        fn any_event_name_makes_a_path(event in ".{0,40}") {
            let path = path_and_query("/hook", Some(&event), Some("a=b")).unwrap();
            prop_assert_eq!(path.path().matches('/').count(), 2);
            prop_assert_eq!(path.query(), Some("a=b"));
        }
    }
}
