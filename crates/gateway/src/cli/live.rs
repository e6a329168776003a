//! A live connection to a running gateway, for commands that follow events.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, StatusCode, header};
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message, Utf8Bytes, handshake::client::generate_key, protocol::WebSocketConfig,
    },
};
use tower::ServiceExt as _;

use super::{
    Exit, Failure,
    client::{Call, Connection, refusal},
};

/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A connection without a sign of life for so long is taken for dead: the gateway pings more often.
const SILENCE: Duration = Duration::from_secs(90);
/// An event may have some megabytes.
const LARGEST: usize = 64 << 20;

type Socket = WebSocketStream<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>;

/// What the gateway says.
pub(super) enum Heard {
    /// An event, or a message about the stream, whose type begins with `stream.`.
    Document(Utf8Bytes, Value),
    /// The connection has ended.
    Ended(String),
}

/// An open connection.
pub(super) struct Live(Socket);

impl Live {
    /// Opens one. What the gateway refuses is a failure with its words.
    pub(super) async fn open(connection: &Connection, call: Call) -> Result<Self, Failure> {
        let open = tokio::time::timeout(PATIENCE, connect(connection, call));
        open.await.map_err(|_| connection.unreachable("no answer within half a minute"))?
    }

    /// Waits for the next document.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            match tokio::time::timeout(SILENCE, self.0.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    if let Ok(document) = serde_json::from_str(&text) {
                        return Heard::Document(text, document);
                    }
                }
                Ok(Some(Ok(Message::Close(Some(frame))))) => {
                    return Heard::Ended(frame.reason.to_string());
                }
                Ok(Some(Ok(Message::Close(None))) | None) => {
                    return Heard::Ended("the gateway has gone".to_owned());
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Heard::Ended(error.to_string()),
                Err(_) => return Heard::Ended("the gateway is silent".to_owned()),
            }
        }
    }

    /// Says that an event is done. A connection that has broken shows it when it is read.
    pub(super) async fn acknowledge(&mut self, id: &str) {
        let ack = json!({ "type": "ack", "id": id }).to_string();
        let _ = self.0.send(Message::Text(ack.into())).await;
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.0.close(None)).await;
    }
}

async fn connect(connection: &Connection, call: Call) -> Result<Live, Failure> {
    let request = connection.request(call)?.map(drop);
    let uri = request.uri().clone();
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| connection.unreachable(&format!("no trusted certificates: {error}")))?
        .https_or_http()
        .enable_http1()
        .build();
    let stream = connector.oneshot(uri).await;
    let stream = stream.map_err(|error| connection.unreachable(&error.to_string()))?;
    let config =
        WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let request = upgrade(request)?;
    match client_async_with_config(request, TokioIo::new(stream), Some(config)).await {
        Ok((socket, _)) => Ok(Live(socket)),
        Err(Error::Http(response)) => {
            let status = response.status();
            let problem = response.body().as_deref().unwrap_or_default();
            let problem: Value = serde_json::from_slice(problem).unwrap_or_default();
            if status == StatusCode::SERVICE_UNAVAILABLE {
                let reason = problem["detail"].as_str().unwrap_or("it is busy").to_owned();
                return Err(connection.unreachable(&reason));
            }
            Err(refusal(status, &problem))
        }
        Err(error) => Err(connection.unreachable(&error.to_string())),
    }
}

/// The request with what asks for a WebSocket.
fn upgrade(mut request: Request<()>) -> Result<Request<()>, Failure> {
    let wrong = |_| Failure::new(Exit::Usage, "--url: expected a URL with a host");
    let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let host = HeaderValue::from_str(&authority).map_err(wrong)?;
    let key = HeaderValue::from_str(&generate_key()).map_err(wrong)?;
    // The library wants to know it for a WebSocket's.
    let scheme = if request.uri().scheme_str() == Some("https") { "wss" } else { "ws" };
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = scheme.parse().ok();
    if let Ok(uri) = http::Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    let headers = request.headers_mut();
    headers.insert(header::HOST, host);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(header::SEC_WEBSOCKET_KEY, key);
    Ok(request)
}

/// Waits longer after each failure in a row: from half a second to ten.
pub(super) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(10);

    pub(super) fn new() -> Self {
        Self(Self::FIRST)
    }

    pub(super) fn reset(&mut self) {
        self.0 = Self::FIRST;
    }

    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}
