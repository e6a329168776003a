//! The session behind an instance, as far as its events have told of it. The gateway holds no
//! session: it can say what it knows, and nothing more.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use zapbus_event::{Connection, InstanceState};

use super::{access::Access, answer::Failure, body::Path};
use crate::{api::qr::data_url, app::App};

/// What Evolution calls a state.
pub(super) fn state_name(connection: Connection) -> &'static str {
    match connection {
        Connection::Connected => "open",
        Connection::Connecting => "connecting",
        Connection::Disconnected
        | Connection::LoggedOut
        | Connection::Banned
        | Connection::Unknown => "close",
    }
}

async fn known(
    app: &App,
    access: &Access,
    instance: &str,
) -> Result<(String, InstanceState), Failure> {
    let known = access.instance(app, instance).await?;
    let state = app.store.instance_status(known.instance.id).await?.state;
    Ok((known.instance.name.clone(), state))
}

fn answer(name: &str, state: &InstanceState) -> Value {
    json!({ "instance": { "instanceName": name, "state": state_name(state.connection) } })
}

/// Whether it is connected.
pub(super) async fn state(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Json<Value>, Failure> {
    let (name, state) = known(&app, &access, &instance).await?;
    Ok(Json(answer(&name, &state)))
}

/// The QR code or pairing code that waits, or the state if it is connected already.
pub(super) async fn connect(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Json<Value>, Failure> {
    let (name, state) = known(&app, &access, &instance).await?;
    if state.connection == Connection::Connected {
        return Ok(Json(answer(&name, &state)));
    }
    Ok(Json(code(&state, (app.clock)())))
}

/// What waits to be scanned or typed. Until an event has told of it there is none.
pub(super) fn code(state: &InstanceState, now: zapbus_event::Timestamp) -> Value {
    let lasts = |until: Option<zapbus_event::Timestamp>| until.is_none_or(|until| until > now);
    let qr = state.qr.as_ref().filter(|qr| lasts(qr.expires_at));
    let pair = state.pair_code.as_ref().filter(|pair| lasts(pair.expires_at));
    let text = qr.and_then(|qr| qr.code.as_deref());
    let image = qr.and_then(|qr| qr.image.clone().or_else(|| data_url(qr.code.as_deref()?)));
    json!({
        "pairingCode": pair.map(|pair| pair.code.as_str()),
        "code": text,
        "base64": image,
        "count": u8::from(qr.is_some() || pair.is_some()),
    })
}

/// Says how the instance is: there is no session here to start again.
pub(super) async fn restart(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Json<Value>, Failure> {
    let (name, state) = known(&app, &access, &instance).await?;
    Ok(Json(answer(&name, &state)))
}

/// Fine when there is nothing to log out; a session that somebody else holds cannot be ended here.
pub(super) async fn logout(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let (_, state) = known(&app, &access, &instance).await?;
    match state.connection {
        Connection::Connected | Connection::Connecting => {
            Err(Failure::not_offered("it does not hold the session and cannot end it"))
        }
        Connection::Disconnected
        | Connection::LoggedOut
        | Connection::Banned
        | Connection::Unknown => Ok(done("Instance already disconnected").into_response()),
    }
}

/// What is said of something that was done.
pub(super) fn done(message: &str) -> Json<Value> {
    Json(json!({ "status": "SUCCESS", "error": false, "response": { "message": message } }))
}
