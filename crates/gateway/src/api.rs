//! The HTTP API: the native one, the inbound sources, and its own description.

pub mod auth;
pub mod body;
pub mod error;
pub mod evolution;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod idempotency;
mod native;
mod openapi;
pub mod page;
mod qr;
mod root;
mod sources;
pub mod token;
pub mod vzaps;

pub(crate) use auth::Standing;
pub use native::Recent;
pub use openapi::document;
pub use sources::{Guesses, Refusals};

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use self::error::{ApiError, What};
use crate::app::App;

/// Everything that is served but operations.
pub fn router(app: App) -> Router {
    let (mut router, _) = routes().split_for_parts();
    if app.config.vzaps.enabled {
        router = router.merge(vzaps::router(app.clone()));
    }
    if app.config.evolution.enabled {
        router = router.merge(evolution::router(app.clone()));
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
    OpenApiRouter::with_openapi(openapi::frame()).merge(native::router()).merge(sources::router())
}

async fn no_route() -> ApiError {
    ApiError::NotFound(What::Route)
}

async fn wrong_method() -> ApiError {
    ApiError::MethodNotAllowed
}
