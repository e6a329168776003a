//! `/`: a small page for people, Evolution's small JSON for programs.

use axum::{
    Extension, Json, Router,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::{Html, IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, Uri, header};
use serde_json::json;

use super::evolution::socket::{self, plain};
use crate::{app::App, server::proxy::Peer};

/// What is at the root.
pub(super) fn router() -> Router<App> {
    Router::new().route("/", get(show_root))
}

const PAGE: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>Zapbus</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}</style>
<h1>Zapbus</h1>
<p>A durable event bus for WhatsApp. It runs.</p>
<ul>
<li><a href=\"/docs\">The API, to browse and try</a></li>
<li><a href=\"/openapi.json\">The API as OpenAPI 3.1</a></li>
<li><a href=\"/readyz\">Is it ready?</a></li>
</ul>
</html>
";

async fn show_root(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if let Ok(upgrade) = upgrade
        && socket::is_served(&app)
    {
        return plain::serve(&app, peer.map(|peer| peer.0), &headers, &uri, upgrade).await;
    }
    let browser = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let mut response = if browser {
        Html(PAGE).into_response()
    } else {
        // The form Evolution's clients probe for.
        Json(json!({
            "status": 200,
            "message": "Welcome to Zapbus, it is working!",
            "version": env!("CARGO_PKG_VERSION"),
            "clientName": "zapbus",
            "manager": format!("{}/docs", app.public_url),
            "documentation": format!("{}/docs", app.public_url),
            "whatsappWebVersion": null,
        }))
        .into_response()
    };
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("accept"));
    response
}
