//! An instance's webhook: where to, and which events.

use axum::{extract::State, response::Response};
use serde_json::json;

use super::{
    access::Access,
    answer::{Failure, enveloped},
    body::{Members, Path},
    subscription::{Wanted, Webhook},
};
use crate::app::App;

/// Shows it.
pub(super) async fn show(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let webhook = Webhook::of(&app, &known.instance).await?;
    enveloped(json!({ "webhook": webhook.url, "subscribe": webhook.subscribe }))
}

/// Sets it. An empty URL, or `enabled: false`, switches it off.
pub(super) async fn set(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
    body: Members,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let wanted = Wanted::of_webhook(&app, &body)?;
    let webhook = Webhook::of(&app, &known.instance).await?;
    let webhook = webhook.set(&app, &access.caller, &known.instance, wanted).await?;
    // One text, as VZaps documents it, and the list that reading gives.
    let events = webhook.subscribe.join(",");
    enveloped(json!({
        "webhook": webhook.url,
        "events": events,
        "subscribe": webhook.subscribe,
    }))
}
