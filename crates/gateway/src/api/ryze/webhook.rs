//! An instance's webhooks.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::Value;

use super::{
    access::Access,
    answer::{Failure, done},
    body::{Path, Query, Unread},
    hook::{self, OF_WEBHOOK, Wanted},
    row,
};
use crate::app::App;

/// Shows all of them, or the one with a label.
pub(super) async fn show(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
    query: Query,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let Some(label) = query.get("label") else {
        let all = row::all(&app, &known.instance).await?;
        let all = all.iter().map(row::shown).collect::<Result<Vec<Value>, _>>()?;
        return Ok(done(StatusCode::OK, "Webhooks retrieved", [("webhooks", all.into())]));
    };
    let label = if label.is_empty() { row::DEFAULT } else { label };
    let found = row::find(&app, &known.instance, label).await?;
    let found = found.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "Webhook not found"))?;
    Ok(done(StatusCode::OK, "Webhook retrieved", [("webhook", row::shown(&found)?)]))
}

/// Sets the one with a label, as a whole.
pub(super) async fn set(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
    body: Unread,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let wanted = Wanted::read(&app, &body.read()?, &OF_WEBHOOK)?;
    let webhook = hook::set(&app, &access.caller, &known.instance, wanted).await?;
    Ok(done(StatusCode::OK, "Webhook configured", [("webhook", webhook)]))
}
