//! `/healthz`, `/readyz`, `/metrics`: for operators, without credentials.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use super::{
    exposition::{OPENMETRICS, PLAIN, to_plain},
    readiness::NotReady,
};
use crate::{api::evolution, app::App};

/// What a scrape waits for sizes: a database that is away must not take the rest with it.
const MEASURING: Duration = Duration::from_secs(2);

/// The three routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
        .route("/metrics", get(show_metrics))
        .with_state(app)
}

/// The process is alive and answers.
async fn show_health() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

async fn show_readiness(State(app): State<App>) -> Response {
    match readiness(&app) {
        Ok(()) => Json(json!({ "status": "ready" })).into_response(),
        Err(why) => {
            let body = json!({ "status": "not_ready", "reason": why.reason, "detail": why.detail });
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], Json(body))
                .into_response()
        }
    }
}

fn readiness(app: &App) -> Result<(), NotReady> {
    app.readiness.check().and_then(|()| has_room(app))
}

/// Whether an event of the largest size would be taken now, not answered 503.
fn has_room(app: &App) -> Result<(), NotReady> {
    let busy = |detail: &str| Err(NotReady { reason: "busy", detail: detail.to_owned() });
    if app.ingest.is_full() {
        return busy("more events wait for the disk than the gateway takes");
    }
    if app.bodies.lacks_room_for(app.config.ingest.max_event_bytes) {
        return busy("more large requests are being read than there is room for");
    }
    Ok(())
}

/// OpenMetrics for those who ask for it, else the text that every scraper reads.
async fn show_metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    app.telemetry.set_ready(readiness(&app).is_ok());
    // The gauges keep their last values when nobody answers; the rest is still worth scraping.
    let unknown = match tokio::time::timeout(MEASURING, app.store.sizes()).await {
        Ok(Ok(sizes)) => {
            app.telemetry.measured(&sizes);
            None
        }
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the database does not answer".to_owned()),
    };
    if let Some(error) = unknown {
        tracing::warn!(event = "metrics.sizes_unknown", error, "cannot measure the store");
    }
    let mut rendered = app.telemetry.render();
    if let (Ok(text), true) = (&mut rendered, evolution::metrics::are_shown(&app)) {
        add_instances(&app, text).await;
    }
    match rendered {
        Ok(text) if wants_openmetrics(&headers) => {
            ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response()
        }
        Ok(text) => ([(header::CONTENT_TYPE, PLAIN)], to_plain(&text)).into_response(),
        Err(error) => {
            tracing::error!(event = "metrics.failed", %error, "cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Puts Evolution's series before the end mark.
async fn add_instances(app: &App, text: &mut String) {
    let unknown = match tokio::time::timeout(MEASURING, evolution::metrics::families(app)).await {
        Ok(Ok(families)) => {
            let end = text.rfind("# EOF").unwrap_or(text.len());
            text.insert_str(end, &families);
            return;
        }
        Ok(Err(error)) => error.problem().detail,
        Err(_) => "the store takes too long to say how they are".to_owned(),
    };
    tracing::warn!(
        event = "metrics.instances_unknown",
        error = unknown,
        "Evolution's series of instances are left out of the metrics"
    );
}

fn wants_openmetrics(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains("application/openmetrics-text"))
}
