//! Where upstreams post to: one file per product.

pub(super) mod cloud_api;

pub use cloud_api::{Guesses, Refusals};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

/// Every route under `/sources`.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(cloud_api::verify_callback, cloud_api::receive_changes))
        .routes(routes!(cloud_api::verify_app_callback, cloud_api::receive_app_changes))
}
