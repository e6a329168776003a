//! The HTTP API: the native one, the inbound sources, and its own description.

pub mod auth;
pub mod body;
pub mod error;
pub mod evolution;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod idempotency;
mod media;
mod native;
mod openapi;
mod origins;
pub mod page;
mod qr;
mod root;
pub mod ryze;
mod sources;
pub mod token;
pub mod vzaps;

pub(crate) use auth::Standing;
pub use native::Recent;
pub use openapi::document;
pub use sources::{Guesses, Refusals};

use axum::{
    Extension, Router,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Uri};
use utoipa_axum::router::OpenApiRouter;

use self::{
    error::{ApiError, What},
    evolution::socket::{self, plain},
};
use crate::{app::App, server::proxy::Peer};

/// Everything that is served but operations.
pub fn router(app: App) -> Router {
    let (mut router, _) = routes().split_for_parts();
    if app.config.vzaps.enabled {
        router = router.merge(vzaps::router(app.clone()));
    }
    if app.config.ryze.enabled {
        router = router.merge(ryze::router(app.clone()));
    }
    if app.config.evolution.enabled {
        router = router.merge(evolution::router(app.clone()));
    }
    if socket::is_served(&app) {
        router = router.merge(socket::router());
    }
    router
        .merge(openapi::router())
        .merge(root::router())
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// The routes that the description knows.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(native::router())
        .merge(sources::router())
        .merge(media::router())
}

/// The path may be that of an instance's socket: it has no prefix of its own.
async fn no_route(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match upgrade {
        Ok(upgrade) if socket::is_served(&app) && plain::is_path(uri.path()) => {
            plain::serve(&app, peer.map(|peer| peer.0), &headers, &uri, upgrade).await
        }
        _ => ApiError::NotFound(What::Route).into_response(),
    }
}

async fn wrong_method() -> ApiError {
    ApiError::MethodNotAllowed
}
