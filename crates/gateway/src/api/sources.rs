//! Where upstreams post to: one file for Meta, one for all products that are bridged.

mod bridge;
pub(super) mod cloud_api;
mod door;
mod refusals;

use axum::routing::post;
pub use cloud_api::Guesses;
pub use refusals::Refusals;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

/// Every route under `/sources`.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(cloud_api::verify_callback, cloud_api::receive_changes))
        .routes(routes!(cloud_api::verify_app_callback, cloud_api::receive_app_changes))
        .routes(routes!(bridge::receive_evolution))
        .route("/sources/evolution/{instance}/{event}", post(bridge::receive_evolution))
        .routes(routes!(bridge::receive_wuzapi))
        .routes(routes!(bridge::receive_waha))
}
