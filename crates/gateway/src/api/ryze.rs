//! `RyzeAPI`'s API, as far as it has to do with events: webhooks by label, the WebSocket, and the
//! instances that they belong to.
//!
//! A webhook is a destination of its instance whose label begins with `ryze/`; what is set for the
//! WebSocket stands in the instance's settings. Errors are `{success, error{message}}`, and every
//! answer says what its token has left of its minute. What sends messages or manages chats is not
//! offered: it is answered 501, with a message that says so.

mod access;
mod answer;
mod around;
mod body;
mod hook;
mod instances;
mod limits;
mod not_offered;
mod options;
mod row;
mod session;
mod settings;
mod socket;
mod webhook;
mod websocket;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{any, delete, get, post},
};
use serde::{Deserialize, Serialize};

use self::{answer::Failure, limits::Limits};
use super::error::ApiError;
use crate::app::App;

/// Reads a message of a client of the WebSocket.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_message(message: &str) -> crate::realtime::Said {
    socket::read(message)
}

/// Reads the bodies of all requests, as far as that needs no gateway. What is taken is taken again.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_body(bytes: &[u8]) {
    let Ok(members) = body::Unread::from(bytes::Bytes::copy_from_slice(bytes)).read() else {
        return;
    };
    if let Ok(label) = hook::label(members.text("label").ok().flatten().unwrap_or_default()) {
        assert!(!label.is_empty());
        assert_eq!(hook::label(&label).ok().as_ref(), Some(&label));
    }
    if let Ok(name) = instances::checked_name(&members) {
        assert!(!name.is_empty() && name.is_ascii());
    }
    drop(settings::read(&members, crate::ingest::Ignored::default()));
    for lenient_events in [false, true] {
        let config = Config { lenient_events, ..Config::default() };
        for names in [["enabled", "events", "mediaBase64"], instances::SOCKET] {
            if let Ok(Some(wanted)) = websocket::Wanted::read(&config, &members, names) {
                assert!(wanted.over(None).stored().is_ok());
            }
        }
    }
}

/// `[ryze]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the API of `RyzeAPI` is served.
    pub enabled: bool,
    /// Requests of one token in a minute, divided among the nodes; 0: any number.
    pub requests_per_minute: u32,
    /// Instances that one token may make in a minute, divided among the nodes; 0: any number.
    pub creations_per_minute: u32,
    /// Instances of one account; 0: any number.
    pub max_instances: u32,
    /// Names of events that nobody knows are passed over instead of refused.
    pub lenient_events: bool,
    /// When webhooks that are made here are tried again.
    pub retry: Waits,
    /// Seconds between two pings on a WebSocket.
    pub ping_every_s: f64,
    /// Seconds after a sign of life within which the next one has to come.
    pub pong_within_s: f64,
}

/// Both of these are exponential, and have five attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Waits {
    /// 1 s, 15 s, 4 min, 1 h: both published ends.
    #[default]
    Hour,
    /// 1, 2, 4, 8 s.
    X2,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            requests_per_minute: 100,
            creations_per_minute: 20,
            max_instances: 0,
            lenient_events: false,
            retry: Waits::default(),
            ping_every_s: 54.0,
            pong_within_s: 60.0,
        }
    }
}

/// An hour.
const MOST_S: f64 = 3_600.0;

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        // No number is an answer too: TOML has `nan` and `inf`.
        if !(0.05..=MOST_S).contains(&self.ping_every_s) {
            let found = self.ping_every_s;
            wrong.push(("ping_every_s", format!("found {found}, expected 0.05 to {MOST_S}")));
        }
        let (pong, ping) = (self.pong_within_s, self.ping_every_s);
        if !(0.05..=2.0 * MOST_S).contains(&pong) || pong <= ping {
            let expected = format!("found {pong}, expected more than ping_every_s ({ping})");
            wrong.push(("pong_within_s", expected));
        }
        wrong
    }

    fn ping_every(&self) -> Duration {
        Duration::from_secs_f64(self.ping_every_s)
    }

    /// How long after a ping its answer may come, whoever has answered the one before at once.
    fn pong_after_ping(&self) -> Duration {
        Duration::from_secs_f64(self.pong_within_s - self.ping_every_s)
    }
}

/// Every route of `RyzeAPI`.
pub(super) fn router(app: App) -> Router<App> {
    let limits = Arc::new(Limits::new(&app.config.ryze));
    Router::new()
        .route("/api/events/webhook/{instance}", get(webhook::show).post(webhook::set))
        .route("/api/events/getWebhook/{instance}", get(webhook::show))
        .route("/api/events/websocket/{instance}", get(websocket::show).post(websocket::set))
        .route("/api/events/getWebsocket/{instance}", get(websocket::show))
        .route("/api/events/getWebSocket/{instance}", get(websocket::show))
        .route("/api/instance/new", post(instances::create))
        .route("/api/instance/list", get(instances::list))
        .route("/api/instance/connect/{instance}", get(session::connect))
        .route("/api/instance/reconnect/{instance}", post(session::reconnect))
        .route("/api/instance/logout/{instance}", delete(session::logout))
        .route("/api/instance/delete/{instance}", delete(instances::delete))
        .route("/api/instance/settings/{instance}", get(settings::show).post(settings::set))
        .route("/api/instance/getSettings/{instance}", get(settings::show))
        .route("/ws/{instance}", get(socket::open))
        // Whatever else there is at RyzeAPI.
        .route("/api/{*operation}", any(not_offered::refuse))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state((app, limits), around::surround))
}

/// Whether a path is of this API, so that even what is refused before any route is refused in its
/// words.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/api/") || is_socket(path)
}

/// Only there a token may stand in the query.
fn is_socket(path: &str) -> bool {
    path.starts_with("/ws/")
}

/// An error in the words of this API.
pub(crate) fn refusal(error: ApiError) -> Response {
    Failure::from(error).into_response()
}

async fn wrong_method() -> Failure {
    ApiError::MethodNotAllowed.into()
}
