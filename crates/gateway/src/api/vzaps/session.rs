//! The session behind an instance, as far as its events have told of it. The gateway holds no
//! session: it can say what it knows, and nothing more.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::{Value, json};
use zapbus_event::{Connection, InstanceState};

use super::{
    access::Access,
    answer::{Failure, enveloped},
    body::Path,
};
use crate::{api::qr::data_url, app::App};

/// What VZaps calls a state.
pub(super) fn status_name(connection: Connection) -> &'static str {
    match connection {
        Connection::Connected => "connected",
        Connection::Connecting => "connecting",
        Connection::Disconnected | Connection::LoggedOut | Connection::Banned => "disconnected",
        Connection::Unknown => "created",
    }
}

async fn state(app: &App, access: &Access, instance: &str) -> Result<InstanceState, Failure> {
    let known = access.instance(app, instance).await?;
    Ok(app.store.instance_status(known.instance.id).await?.state)
}

/// Whether it is connected, and as whom.
pub(super) async fn status(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let state = state(&app, &access, &instance).await?;
    if state.connection != Connection::Connected {
        return enveloped(json!({ "connected": false }));
    }
    let mut data = json!({ "connected": true });
    for (name, value) in [
        ("phone", state.phone),
        ("whatsapp_jid", state.address),
        ("push_name", state.name),
        ("business_name", state.business_name),
        ("profile_picture_url", state.picture_url),
    ] {
        if let Some(value) = value {
            data[name] = Value::from(value);
        }
    }
    enveloped(data)
}

/// The QR code that waits to be scanned, as a picture.
pub(super) async fn qr(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let state = state(&app, &access, &instance).await?;
    let now = (app.clock)();
    let qr = state.qr.filter(|qr| qr.expires_at.is_none_or(|at| at > now));
    let picture = match &qr {
        Some(qr) => match (&qr.image, &qr.code) {
            (Some(image), _) => image.clone(),
            (None, Some(code)) => data_url(code).unwrap_or_default(),
            (None, None) => String::new(),
        },
        None => String::new(),
    };
    let pairing = match (state.connection, picture.is_empty()) {
        (Connection::Connected, _) => "connected",
        (_, false) => "qr_ready",
        (_, true) => "waiting",
    };
    enveloped(json!({
        "qr_code": picture,
        "QRCode": picture,
        "pairing_status": pairing,
        "expires_at": qr.and_then(|qr| qr.expires_at),
    }))
}

/// The pairing code that waits to be typed.
pub(super) async fn pair_code(
    State(app): State<App>,
    access: Access,
    Path((instance, phone)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let state = state(&app, &access, &instance).await?;
    let now = (app.clock)();
    let known = state.pair_code.filter(|code| code.expires_at.is_none_or(|at| at > now));
    let Some(known) = known else {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "no_pair_code",
            "No pairing code is known. Zapbus cannot ask WhatsApp for one: ask the product that \
             holds the session, and it will be here as soon as its event is.",
        ));
    };
    enveloped(json!({
        "LinkingCode": known.code,
        "linking_code": known.code,
        "phone": phone,
        "expires_at": known.expires_at,
    }))
}

/// Says so if it is disconnected already.
pub(super) async fn disconnect(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let state = state(&app, &access, &instance).await?;
    match state.connection {
        Connection::Connected | Connection::Connecting => {
            Err(Failure::not_offered("it does not hold the session and cannot end it"))
        }
        Connection::Disconnected
        | Connection::LoggedOut
        | Connection::Banned
        | Connection::Unknown => {
            enveloped(json!({ "connected": false, "details": "The session is not connected." }))
        }
    }
}
