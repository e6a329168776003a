//! Sockets of Evolution: Socket.IO at `/socket.io`, and the plain form of its documentation.
//!
//! Both are subscriptions like all others ([`crate::realtime`]); what is here is how they are asked
//! for and what their frames look like. [`packet`] knows the bytes of Socket.IO, a [`session`] is a
//! connection of Engine.IO with its transports, a [`namespace`] what is joined on it, and [`plain`]
//! needs none of that.

mod access;
mod names;
mod namespace;
mod packet;
pub(crate) mod plain;
mod session;
mod sessions;

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{
        Request, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::{IntoResponse, Response},
    routing::any,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use serde_json::json;
use tokio::sync::oneshot;

use self::{
    access::{Refused, Visitor},
    session::{Beginning, Command, Session},
    sessions::Sessions,
};
use crate::{api::error::ApiError, app::App, realtime::Full, server::proxy::Peer};

/// Where Socket.IO is, as clients know it.
const PATHS: [&str; 2] = ["/socket.io", "/socket.io/"];

/// Whether there are any sockets.
pub(crate) fn is_served(app: &App) -> bool {
    app.config.evolution.enabled && app.config.evolution.websocket.enabled
}

/// The routes.
pub(crate) fn router() -> Router<App> {
    let mut router = Router::new();
    for path in PATHS {
        router = router.route(path, any(serve));
    }
    router.layer(Extension(Sessions::default()))
}

/// Whatever a client sends is packets or none, and a namespace is one that can be answered.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_packets(text: &str) {
    use packet::{Message, Packet};
    for packet in text.split(packet::SEPARATOR).map(packet::read) {
        let Ok(Packet::Message(message)) = packet else { continue };
        let (Message::Connect { namespace, .. }
        | Message::Disconnect { namespace }
        | Message::Ack { namespace, .. }
        | Message::Event { namespace }) = message;
        assert!(namespace.starts_with('/') && !namespace.contains(','), "{namespace}");
    }
    let _ = access::Wishes::of_query(text);
}

/// What is answered to a request that is none, as clients of Engine.IO know it.
enum Rejection {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest,
    Forbidden(String),
    OldProtocol,
    Failed(ApiError),
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Failed(error) => Self::Failed(error),
            refused => Self::Forbidden(refused.message()),
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Self::UnknownTransport => (0, "Transport unknown".to_owned()),
            Self::UnknownSession => (1, "Session ID unknown".to_owned()),
            Self::BadMethod => (2, "Bad handshake method".to_owned()),
            Self::BadRequest => (3, "Bad request".to_owned()),
            Self::Forbidden(message) => (4, message),
            Self::OldProtocol => (5, "Unsupported protocol version".to_owned()),
            Self::Failed(error) => return error.into_response(),
        };
        let status = if code == 4 { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
        (status, Json(json!({ "code": code, "message": message }))).into_response()
    }
}

/// What the query says of the connection itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    version: Option<String>,
    transport: Option<String>,
    sid: Option<String>,
}

impl Asked {
    fn read(query: &str) -> Self {
        let mut asked = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = Some(value.into_owned()).filter(|value| !value.is_empty());
            match &*name {
                "EIO" => asked.version = value,
                "transport" => asked.transport = value,
                "sid" => asked.sid = value,
                _ => {}
            }
        }
        asked
    }
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

async fn serve(
    State(app): State<App>,
    Extension(sessions): Extension<Sessions>,
    peer: Option<Extension<Peer>>,
    upgrade: Upgrade,
    request: Request,
) -> Result<Response, Rejection> {
    let (Parts { method, uri, headers, .. }, body) = request.into_parts();
    let query = uri.query().unwrap_or_default();
    let asked = Asked::read(query);
    let is_socket = match asked.transport.as_deref() {
        Some("polling") => false,
        Some("websocket") => true,
        _ => return Err(Rejection::UnknownTransport),
    };
    let upgrade = match (is_socket, upgrade) {
        (true, Ok(upgrade)) => Some(upgrade),
        (true, Err(_)) => return Err(Rejection::BadRequest),
        (false, _) => None,
    };
    match (asked.sid, upgrade) {
        (Some(sid), Some(upgrade)) => take_over(&app, &sessions, &sid, upgrade),
        (Some(sid), None) => match method {
            Method::GET => poll(&sessions, &sid).await,
            Method::POST => post(&app, &sessions, &sid, body).await,
            _ => Err(Rejection::BadRequest),
        },
        (None, None) if method != Method::GET => Err(Rejection::BadMethod),
        (None, upgrade) => {
            if asked.version.as_deref() != Some("4") {
                return Err(Rejection::OldProtocol);
            }
            let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
            if !app.realtime.config().admits(origin) {
                return Err(Rejection::Forbidden("Forbidden".to_owned()));
            }
            let peer = peer.map(|Extension(peer)| peer);
            let visitor = Visitor::of(&app, peer, &headers, query).await?;
            begin(&app, &sessions, visitor, upgrade)
        }
    }
}

/// Begins a session.
fn begin(
    app: &App,
    sessions: &Sessions,
    visitor: Visitor,
    upgrade: Option<WebSocketUpgrade>,
) -> Result<Response, Rejection> {
    let slot = match visitor.is_stranger() {
        true => app.realtime.admit_stranger(),
        false => app.realtime.admit(None),
    };
    let slot = slot.map_err(|full| {
        Rejection::Failed(ApiError::TooManyConnections { of_account: full == Full::Account })
    })?;
    let sid = namespace::new_id()?;
    let pings = session::ping(app);
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let open = |upgrades: &[&str]| {
        let pings = (millis(pings.every), millis(pings.within));
        packet::open(&sid, upgrades, pings, app.realtime.config().max_message_bytes)
    };
    let beginning = Beginning { app: app.clone(), visitor, slot };
    let Some(upgrade) = upgrade else {
        let open = open(&["websocket"]);
        let (registered, commands) = sessions.register(sid);
        app.realtime.spawn(Session::on_polls(beginning, registered, commands).run());
        return Ok(packets(open));
    };
    let open = open(&[]);
    let realtime = app.realtime.clone();
    Ok(app.realtime.upgrade(upgrade).on_upgrade(async move |socket| {
        realtime.spawn(Session::on_socket(beginning, socket, open).run());
    }))
}

/// A WebSocket for a session that polls.
fn take_over(
    app: &App,
    sessions: &Sessions,
    sid: &str,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Rejection> {
    let session = sessions.find(sid).ok_or(Rejection::UnknownSession)?;
    Ok(app.realtime.upgrade(upgrade).on_upgrade(async move |socket| {
        // A session that has ended lets go of it, which closes it.
        let _ = session.send(Command::Upgrade(Box::new(socket))).await;
    }))
}

/// Waits for packets.
async fn poll(sessions: &Sessions, sid: &str) -> Result<Response, Rejection> {
    let session = sessions.find(sid).ok_or(Rejection::UnknownSession)?;
    let (poll, answer) = oneshot::channel();
    session.send(Command::Poll(poll)).await.map_err(|_| Rejection::UnknownSession)?;
    // The session's end is what it does not answer.
    drop(session);
    answer.await.map(packets).map_err(|_| Rejection::BadRequest)
}

/// Brings packets.
async fn post(
    app: &App,
    sessions: &Sessions,
    sid: &str,
    body: Body,
) -> Result<Response, Rejection> {
    let session = sessions.find(sid).ok_or(Rejection::UnknownSession)?;
    let most = app.realtime.config().max_message_bytes;
    let read = app.bodies.read(Request::new(body), most, "The body").await;
    let read = read.map_err(Rejection::Failed)?;
    let text = String::from_utf8(read.bytes.to_vec()).map_err(|_| Rejection::BadRequest)?;
    session.send(Command::Post(text)).await.map_err(|_| Rejection::UnknownSession)?;
    Ok(([(header::CONTENT_TYPE, "text/html"), (header::CACHE_CONTROL, "no-store")], "ok")
        .into_response())
}

/// Packets as an answer that nobody keeps.
fn packets(body: bytes::Bytes) -> Response {
    let mut response = body.into_response();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=UTF-8"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx keeps back what it takes for a page.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_clients_write_it() {
        let asked = Asked::read("EIO=4&transport=polling&t=Nxyz&sid=");
        assert_eq!(asked.version.as_deref(), Some("4"));
        assert_eq!(asked.transport.as_deref(), Some("polling"));
        assert_eq!(asked.sid, None);
    }
}
