//! What can go wrong, and whether asking again may help.

use std::{fmt, time::Duration};

use serde::Deserialize;
use serde_json::Value;

/// Why something was not done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server has answered, and refuses.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// Nothing answers there, or the connection broke.
    #[error("cannot reach {server}: {reason}")]
    Unreachable {
        /// Scheme, host and port.
        server: String,
        /// What happened.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer from {server} within {after:?}")]
    Timeout {
        /// Scheme, host and port.
        server: String,
        /// How long was waited.
        after: Duration,
    },
    /// The answer, or a frame, is not one that this client understands.
    #[error("{0}")]
    Unreadable(String),
    /// What the caller gave cannot be used.
    #[error("{0}")]
    Usage(String),
    /// The server has closed the connection.
    #[error("the server has closed the connection ({code}): {reason}")]
    Closed {
        /// The WebSocket's close code.
        code: u16,
        /// What the server says about it; empty when it says nothing.
        reason: String,
    },
    /// An event is larger than the client may read.
    #[error(
        "an event is larger than {limit} bytes: raise max_frame_bytes of the client, or ask for \
         events without include_raw and inline_media"
    )]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The subscription is closed, so nothing can be said about its events any more.
    #[error("the subscription is closed: the event comes again to whoever subscribes next")]
    SubscriptionClosed,
    /// Connecting failed as often as it may.
    #[error("gave up after {attempts} attempts: {last}")]
    GaveUp {
        /// How many.
        attempts: u32,
        /// The last failure.
        last: Box<Error>,
    },
}

impl Error {
    /// The answer's HTTP status, if the server has answered.
    pub fn status(&self) -> Option<u16> {
        self.problem().map(|problem| problem.status)
    }

    /// The stable code of the problem, if the server has named one.
    pub fn code(&self) -> Option<&str> {
        self.problem().and_then(|problem| problem.code.as_deref())
    }

    /// What the server has answered, if it has.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::GaveUp { last, .. } => last.problem(),
            _ => None,
        }
    }

    /// Whether the credentials are wrong or do not reach that far.
    pub fn is_authentication(&self) -> bool {
        matches!(self.status(), Some(401 | 403))
    }

    /// Whether the same request may succeed later, without a change by anybody.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(problem) => {
                matches!(problem.status, 408 | 425 | 429) || problem.status >= 500
            }
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            // 1008: by policy; the next attempt to connect says what it is about.
            Self::Closed { .. } => true,
            Self::Unreadable(_)
            | Self::Usage(_)
            | Self::TooLarge { .. }
            | Self::SubscriptionClosed
            | Self::GaveUp { .. } => false,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Fault {
    /// Where: a path into the body, or the name of a parameter.
    pub path: String,
    /// What is wrong with it and what was expected.
    pub message: String,
}

/// What a server says when it refuses.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A stable code, for programs.
    pub code: Option<String>,
    /// What is wrong, for people.
    pub detail: String,
    /// What is wrong with which part of the request.
    pub faults: Vec<Fault>,
    /// When to ask again, if the server says so.
    pub retry_after: Option<Duration>,
    /// The answer's `X-Request-Id`.
    pub request_id: Option<String>,
    /// The whole answer; a string if it is no JSON.
    pub body: Value,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        for fault in &self.faults {
            write!(f, "; {}: {}", fault.path, fault.message)?;
        }
        match &self.code {
            Some(code) => write!(f, " ({}, {code})", self.status),
            None => write!(f, " ({})", self.status),
        }
    }
}

/// The longest `Retry-After` that is obeyed.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

impl Problem {
    /// Reads an answer: problem details as Zapbus gives them, and what VZaps's API gives.
    pub(crate) fn read(status: http::StatusCode, headers: &http::HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let body = serde_json::from_slice(body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()));
        let text = |name: &str| {
            body.get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let detail = text("detail")
            .or_else(|| text("error"))
            .or_else(|| text("message"))
            .or_else(|| text("title"))
            .unwrap_or_else(|| {
                let reason = status.canonical_reason().unwrap_or("refused");
                format!("the server answered {} {reason}", status.as_u16())
            });
        let faults = body.get("errors").cloned().unwrap_or_default();
        let retry_after = header("retry-after").and_then(|value| value.trim().parse().ok());
        Self {
            status: status.as_u16(),
            code: text("code"),
            detail,
            faults: serde_json::from_value(faults).unwrap_or_default(),
            retry_after: retry_after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE)),
            request_id: header("x-request-id").map(str::to_owned),
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn read(body: &str) -> Problem {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "2".parse().unwrap());
        Problem::read(StatusCode::UNPROCESSABLE_ENTITY, &headers, body.as_bytes())
    }

    #[test]
    fn a_problem_says_what_and_where() {
        let problem = read(
            r#"{"title":"Invalid","detail":"The body is wrong.","code":"invalid","errors":[{"path":"a.b","message":"expected c"}]}"#,
        );
        assert_eq!(problem.to_string(), "The body is wrong.; a.b: expected c (422, invalid)");
        assert_eq!(problem.retry_after, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_other_servers_answer_is_read_too() {
        let problem = read(r#"{"success":false,"code":"x","error":"no","message":"no"}"#);
        assert_eq!((problem.detail.as_str(), problem.code.as_deref()), ("no", Some("x")));
        let problem = read("<html>");
        assert_eq!(problem.detail, "the server answered 422 Unprocessable Entity");
        assert_eq!(problem.body, Value::String("<html>".to_owned()));
    }
}
