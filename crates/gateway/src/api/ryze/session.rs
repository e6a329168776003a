//! The session behind an instance, as far as its events have told of it. The gateway holds no
//! session: it can say what it knows, and nothing more.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::{Value, json};
use zapbus_event::{Connection, InstanceState};

use super::{
    access::Access,
    answer::{Failure, done},
    body::Path,
};
use crate::{api::qr::data_url, app::App};

/// What `RyzeAPI` calls a state.
pub(super) fn status_name(connection: Connection) -> &'static str {
    match connection {
        Connection::Connected => "connected",
        Connection::Connecting => "connecting",
        Connection::Disconnected | Connection::Banned | Connection::Unknown => "disconnected",
        Connection::LoggedOut => "loggedout",
    }
}

/// What waits to be scanned or typed.
pub(super) async fn connect(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let InstanceState { connection, qr, pair_code, .. } =
        app.store.instance_status(known.instance.id).await?.state;
    let now = (app.clock)();
    let qr = qr.filter(|qr| qr.expires_at.is_none_or(|at| at > now));
    let pair_code = pair_code.filter(|code| code.expires_at.is_none_or(|at| at > now));
    let code = qr.as_ref().and_then(|qr| qr.code.clone());
    let picture = qr
        .as_ref()
        .and_then(|qr| qr.image.clone().or_else(|| qr.code.as_deref().and_then(data_url)));
    let message = match (connection, qr.is_some() || pair_code.is_some()) {
        (Connection::Connected, _) => "Instance is connected",
        (_, true) => "Scan the QR code or type the pairing code",
        (_, false) => {
            "Zapbus holds no session: a code is here as soon as the product that does tells of one"
        }
    };
    let data = json!({
        "qrCode": code,
        "qrCodeBase64": picture,
        "pairingCode": pair_code.map(|code| code.code),
        "status": status_name(connection),
    });
    let members = ["qrCode", "qrCodeBase64", "pairingCode", "status"];
    let mut answer = members.map(|name| (name, data[name].clone())).to_vec();
    answer.push(("data", data));
    Ok(said(message, answer))
}

/// Says how it is: there is no session here to connect again.
pub(super) async fn reconnect(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let state = app.store.instance_status(known.instance.id).await?.state;
    let status = status_name(state.connection);
    let shown = json!({ "name": known.instance.name, "status": status });
    let message = "Zapbus holds no session: this is what its events last said";
    Ok(said(message, vec![("status", status.into()), ("instance", shown)]))
}

/// Says so if it is logged out, or at least not connected, already.
pub(super) async fn logout(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let state = app.store.instance_status(known.instance.id).await?.state;
    match state.connection {
        Connection::Connected | Connection::Connecting => {
            Err(Failure::not_offered("it does not hold the session and cannot end it"))
        }
        Connection::Disconnected
        | Connection::LoggedOut
        | Connection::Banned
        | Connection::Unknown => {
            let shown = json!({ "name": known.instance.name, "status": "loggedout" });
            Ok(said("Instance logged out", vec![("instance", shown)]))
        }
    }
}

fn said(message: &str, members: Vec<(&str, Value)>) -> Response {
    done(StatusCode::OK, message, members)
}
