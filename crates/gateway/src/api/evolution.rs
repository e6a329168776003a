//! Evolution API, as far as an event bus can answer: what clients ask to set up events, and the life
//! of instances.
//!
//! One file per resource. The key stands in the header `apikey`, instances are named in the path,
//! errors are `{status, error, response: {message}}`. What sends messages or manages chats is not
//! offered: it is answered 501 with a message that says so.

mod access;
mod answer;
mod around;
mod block;
mod blocks;
mod body;
mod brokers;
pub mod config;
mod destination;
mod errors;
mod instances;
pub(crate) mod metrics;
mod names;
mod not_offered;
mod session;
mod settings;
pub(crate) mod socket;
mod sockets;
mod webhook;

pub(crate) use brokers::prepare;
pub use config::Config;
pub(crate) use errors::Reporter;

use axum::{
    Router,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{any, delete, get, post},
};
use http::{Method, Uri};

use self::answer::Failure;
use super::error::ApiError;
use crate::app::App;

/// What the routes of one gateway share.
#[derive(Debug, Default)]
pub struct State {
    /// One change of what an instance keeps of its channels at a time: each writes the whole.
    changing: tokio::sync::Mutex<()>,
    /// Where requests that failed are told.
    errors: Option<Reporter>,
}

impl State {
    pub(crate) fn new(errors: Option<Reporter>) -> Self {
        Self { errors, ..Self::default() }
    }
}

/// The first segments of paths that are of this API alone.
const ROOTS: [&str; 8] =
    ["instance", "webhook", "websocket", "rabbitmq", "sqs", "pusher", "nats", "kafka"];

/// Every route of Evolution.
pub(super) fn router(app: App) -> Router<App> {
    let mut router = Router::new()
        .route("/instance/create", post(instances::create))
        .route("/instance/fetchInstances", get(instances::fetch))
        .route("/instance/delete/{instance}", delete(instances::delete))
        .route("/instance/connectionState/{instance}", get(session::state))
        .route("/instance/connect/{instance}", get(session::connect))
        .route("/instance/restart/{instance}", post(session::restart).put(session::restart))
        .route("/instance/logout/{instance}", delete(session::logout))
        .route("/webhook/set/{instance}", post(webhook::set))
        .route("/webhook/find/{instance}", get(webhook::find))
        .route("/websocket/set/{instance}", post(sockets::set_websocket))
        .route("/websocket/find/{instance}", get(sockets::find_websocket))
        .route("/rabbitmq/set/{instance}", post(brokers::set_rabbitmq))
        .route("/rabbitmq/find/{instance}", get(brokers::find_rabbitmq))
        .route("/sqs/set/{instance}", post(brokers::set_sqs))
        .route("/sqs/find/{instance}", get(brokers::find_sqs))
        .route("/pusher/set/{instance}", post(brokers::set_pusher))
        .route("/pusher/find/{instance}", get(brokers::find_pusher));
    for path in not_offered::PATHS {
        router = router.route(path, any(not_offered::refuse));
    }
    for root in ROOTS {
        router = router.route(&format!("/{root}/{{*rest}}"), any(no_route));
    }
    router.method_not_allowed_fallback(no_route).layer(from_fn_with_state(app, around::surround))
}

/// Whether a path is of this API, so that even what is refused before any route is refused in its
/// words.
pub(crate) fn is_path(path: &str) -> bool {
    let root = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    path.starts_with('/') && ROOTS.contains(&root)
}

/// An error in the words of this API.
pub(crate) fn refusal(error: ApiError) -> Response {
    Failure::from(error).into_response()
}

/// What upstream's router says of a path or a method that it does not have.
async fn no_route(method: Method, uri: Uri) -> Failure {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Failure::not_found(format!("Cannot {method} {path}"))
}
