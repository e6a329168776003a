//! The VZaps API: what its SDKs ask of a server, as far as an event bus can answer.
//!
//! One file per resource. Bodies are snake case, errors are `{success, code, error, message}`, and
//! every answer has an `X-Request-Id`. What sends messages or manages chats is not offered: it is
//! answered 501 with a message that says so.

mod access;
mod answer;
mod around;
mod body;
mod events;
mod instances;
mod jwt;
mod logs;
mod not_offered;
mod session;
mod subscription;
mod token;
mod webhook;

pub use jwt::MIN_LIFETIME_S;

use axum::{
    Router,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{any, get, patch, post, put},
};
use serde::{Deserialize, Serialize};

use self::answer::Failure;
use super::error::ApiError;
use crate::app::App;

/// Reads the query of a connection.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_query(query: &str) {
    events::read_query(query);
}

/// Reads a message of a client.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_message(message: &str) -> crate::realtime::Said {
    events::read(message)
}

/// Reads what a search of the log asks for.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_search(bytes: &[u8]) {
    if let Ok(members) = body::Members::read(None, bytes) {
        logs::read_search(&members);
    }
}

/// `[vzaps]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the API of VZaps is served.
    pub enabled: bool,
    /// Seconds for which an access token is valid.
    pub token_ttl_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, token_ttl_s: 3_600 }
    }
}

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let found = self.token_ttl_s;
        // SDKs read it as a signed 32-bit number, and ask a minute before it is over.
        if found < MIN_LIFETIME_S || i32::try_from(found).is_err() {
            let expected = format!("found {found}, expected {MIN_LIFETIME_S} to {}", i32::MAX);
            return vec![("token_ttl_s", expected)];
        }
        Vec::new()
    }
}

/// Every route of VZaps.
pub(super) fn router(app: App) -> Router<App> {
    Router::new()
        .route("/token", post(token::give))
        .route("/auth/token", post(token::give))
        .route("/instances/create", put(instances::create))
        .route("/instances/provision", put(instances::create))
        .route("/instances/list", post(instances::list))
        .route("/instances/search", post(instances::list))
        .route("/instances/get", post(instances::get_by_body))
        .route(
            "/instances/{instance}",
            patch(instances::update).get(instances::show).delete(instances::delete),
        )
        .route("/instances/{instance}/restart", post(instances::restart))
        .route("/instances/{instance}/session/status", get(session::status))
        .route("/instances/{instance}/session/qr", get(session::qr))
        .route("/instances/{instance}/session/paircode/{phone}", get(session::pair_code))
        .route("/instances/{instance}/session/disconnect", post(session::disconnect))
        .route("/instances/{instance}/webhook", get(webhook::show).post(webhook::set))
        .route("/instances/{instance}/webhook/logs/search", post(logs::search))
        .route("/instances/{instance}/webhook/logs/{log}", get(logs::show))
        .route("/instances/{instance}/webhook/logs/{log}/retry", post(logs::retry))
        .route("/events/ws", get(events::open))
        // Whatever else the SDKs have for an instance.
        .route("/instances/{instance}/{*operation}", any(not_offered::refuse))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app, around::surround))
}

/// Whether a path is of this API, so that even what is refused before any route is refused in its
/// words.
pub(crate) fn is_path(path: &str) -> bool {
    matches!(path, "/token" | "/auth/token" | "/events/ws") || path.starts_with("/instances/")
}

/// An error in the words of this API.
pub(crate) fn refusal(error: ApiError) -> Response {
    let mut response = Failure::from(error).into_response();
    around::put(&mut response, None);
    response
}

async fn wrong_method() -> Failure {
    ApiError::MethodNotAllowed.into()
}
