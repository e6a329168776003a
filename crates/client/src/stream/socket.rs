//! A WebSocket to a server, opened with headers of our own.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, header};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, handshake::client::generate_key, protocol::WebSocketConfig},
};
use tower::ServiceExt as _;
use url::Url;

use crate::{Error, Problem, transport::Transport};

pub(crate) type Socket = WebSocketStream<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>;

/// A connection, and the server's clock when it was made.
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    pub(crate) server_time: Option<Timestamp>,
}

/// Opens a WebSocket at `url`, whose scheme is `http` or `https`.
pub(crate) async fn open(
    transport: &Transport,
    url: &Url,
    headers: HeaderMap,
    max_frame_bytes: usize,
    patience: Duration,
) -> Result<Opened, Error> {
    let opening = connect(transport, url, headers, max_frame_bytes);
    tokio::time::timeout(patience, opening)
        .await
        .unwrap_or_else(|_| Err(Error::Timeout { server: transport.server(), after: patience }))
}

async fn connect(
    transport: &Transport,
    url: &Url,
    headers: HeaderMap,
    max_frame_bytes: usize,
) -> Result<Opened, Error> {
    let uri: http::Uri = url
        .as_str()
        .parse()
        .map_err(|error| Error::usage(format!("the URL of the stream: {error}")))?;
    let stream = transport.connector().oneshot(uri).await;
    let stream = stream.map_err(|error| transport.unreachable(&*error))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(max_frame_bytes))
        .max_frame_size(Some(max_frame_bytes));
    let request = upgrade(url, headers)?;
    match client_async_with_config(request, TokioIo::new(stream), Some(config)).await {
        Ok((socket, response)) => {
            let date = response.headers().get(header::DATE);
            let date = date.and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
            let server_time = date.and_then(|date| Timestamp::try_from(date).ok());
            Ok(Opened { socket, server_time })
        }
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let problem = Problem::read(response.status(), response.headers(), body);
            Err(Error::Refused(Box::new(problem)))
        }
        Err(error) => Err(transport.unreachable(&error)),
    }
}

/// The request with what asks for a WebSocket.
fn upgrade(url: &Url, headers: HeaderMap) -> Result<Request<()>, Error> {
    let mut url = url.clone();
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    // The library wants to know it for a WebSocket's.
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    let changed = url.set_scheme(scheme);
    let wrong =
        |what: &dyn std::fmt::Display| Error::usage(format!("the URL of the stream: {what}"));
    changed.map_err(|()| wrong(&"expected http or https"))?;
    let mut request = Request::get(url.as_str()).body(()).map_err(|error| wrong(&error))?;
    *request.headers_mut() = headers;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| wrong(&error));
    let fields = request.headers_mut();
    fields.remove(header::ACCEPT);
    fields.insert(header::HOST, value(&host)?);
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    fields.insert(header::SEC_WEBSOCKET_KEY, value(&generate_key())?);
    Ok(request)
}
