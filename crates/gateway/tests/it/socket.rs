//! A WebSocket client, and a reader of server-sent events, as users have them.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::server::Gateway;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An open socket.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

/// What a socket brings.
#[derive(Debug)]
pub(crate) enum Frame {
    Document(Value),
    Closed(u16, String),
    Gone,
}

impl Socket {
    /// Connects with the admin token, which must be let in.
    pub(crate) async fn open(gateway: &Gateway, path: &str) -> Self {
        let headers = [("authorization", format!("Bearer {}", gateway.token()))];
        match Self::connect(&gateway.url, path, &headers).await {
            Ok(socket) => socket,
            Err((status, body)) => panic!("{path}: {status}: {body}"),
        }
    }

    /// Connects; else the status and body of the refusal.
    pub(crate) async fn connect(
        url: &str,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Self, (u16, Value)> {
        let address = url.trim_start_matches("http://");
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(_) => return Err((0, Value::Null)),
        };
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                let body = serde_json::from_slice(body).unwrap_or_default();
                Err((response.status().as_u16(), body))
            }
            Err(_) => Err((0, Value::Null)),
        }
    }

    /// The next document, or the end.
    pub(crate) async fn next(&mut self) -> Frame {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Frame::Document(serde_json::from_str(&text).unwrap());
                    }
                    Some(Ok(Message::Close(Some(frame)))) => {
                        return Frame::Closed(frame.code.into(), frame.reason.to_string());
                    }
                    Some(Ok(Message::Close(None)) | Err(_)) | None => return Frame::Gone,
                    Some(Ok(_)) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a frame in time")
    }

    /// The next document.
    pub(crate) async fn document(&mut self) -> Value {
        match self.next().await {
            Frame::Document(document) => document,
            other => panic!("expected a document, found {other:?}"),
        }
    }

    /// The next event, past messages about the stream.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            let document = self.document().await;
            if !document["type"].as_str().unwrap().starts_with("stream.") {
                return document;
            }
        }
    }

    /// The ids of the next events.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.push(self.event().await["id"].as_str().unwrap().to_owned());
        }
        ids
    }

    /// How it ends, past documents.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Frame::Document(_) => {}
                Frame::Closed(code, reason) => return (code, reason),
                Frame::Gone => return (1006, String::new()),
            }
        }
    }

    /// That nothing comes for a moment.
    pub(crate) async fn stays_quiet(&mut self) {
        let quiet = tokio::time::timeout(Duration::from_millis(300), self.0.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.0.send(Message::Text(message.to_string().into())).await.unwrap();
    }

    pub(crate) async fn ack(&mut self, id: &str) {
        self.say(&json!({ "type": "ack", "id": id })).await;
    }

    /// Ends it as a client that crashes does.
    pub(crate) fn cut(self) {
        drop(self.0);
    }

    /// Ends it in good order.
    pub(crate) async fn close(mut self) {
        self.0.close(None).await.unwrap();
        while self.0.next().await.is_some_and(|it| it.is_ok()) {}
    }
}

/// Server-sent events of a response.
pub(crate) struct Events {
    response: reqwest::Response,
    pending: String,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerEvent {
    pub(crate) id: Option<String>,
    pub(crate) event: String,
    pub(crate) data: String,
}

impl Events {
    /// Asks for them with the admin token.
    pub(crate) async fn open(gateway: &Gateway, path: &str, last_id: Option<&str>) -> Self {
        // Without a limit on how long the answer takes.
        let client = reqwest::Client::new();
        let mut request = client
            .get(format!("{}{path}", gateway.url))
            .bearer_auth(gateway.token())
            .header("accept", "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, pending: String::new() }
    }

    /// The next one, past comments; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<ServerEvent> {
        loop {
            while let Some((block, rest)) = self.pending.split_once("\n\n") {
                let block = block.to_owned();
                self.pending = rest.to_owned();
                let field = |name: &str| {
                    let found = block.lines().find_map(|line| line.strip_prefix(name));
                    found.map(|value| value.trim_start_matches(": ").to_owned())
                };
                if let Some(data) = field("data") {
                    let event = field("event").unwrap();
                    return Some(ServerEvent { id: field("id"), event, data });
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk());
            let chunk = chunk.await.expect("a chunk in time").ok()??;
            self.pending.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The ids of the next events, past messages about the stream.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let next = self.next().await.expect("it goes on");
            if !next.event.starts_with("stream.") {
                ids.push(next.id.unwrap());
            }
        }
        ids
    }
}
