//! A server that does as it is told, one connection after the other.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::{CloseFrame, frame::Utf8Bytes},
    },
};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What it does with a connection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Answers so instead of opening a WebSocket.
    Refuse(u16),
    /// Sends a frame.
    Say(Value),
    /// Sends a frame that is no JSON.
    Babble(&'static str),
    /// Waits for a message that has this type.
    Hear(&'static str),
    /// Closes with a code.
    Close(u16),
    /// Neither reads nor writes any more.
    Freeze,
    /// Reads and answers pings until the client goes.
    Hold,
}

/// What came in.
#[derive(Default)]
pub(crate) struct Log {
    /// Path and query of each connection.
    pub(crate) urls: Vec<String>,
    /// Its `Authorization`.
    pub(crate) tokens: Vec<String>,
    /// Messages of the client.
    pub(crate) said: Vec<Value>,
    /// Tokens of VZaps that were given out.
    pub(crate) granted: u32,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Serves these connections, then holds every further one.
    pub(crate) async fn start(script: impl IntoIterator<Item = Vec<Step>>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script, 0).await
    }

    /// At an address, with a clock that is off by so many seconds.
    pub(crate) async fn start_at(
        address: SocketAddr,
        script: impl IntoIterator<Item = Vec<Step>>,
        clock_off: i64,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let (kept, mut script) = (log.clone(), script.into_iter().collect::<Vec<_>>().into_iter());
        let task = tokio::spawn(async move {
            // They end with the server.
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                if is_token(&stream).await {
                    connections.spawn(grant(stream, kept.clone()));
                    continue;
                }
                let steps = script.next().unwrap_or_else(|| vec![Step::Hold]);
                // One after the other, but whoever is frozen or held stops nobody.
                let stays = matches!(steps.last(), Some(Step::Hold | Step::Freeze));
                let serving = serve(stream, steps, kept.clone(), clock_off);
                if stays {
                    connections.spawn(serving);
                } else {
                    serving.await;
                }
            }
        });
        Self { address, log, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until the log is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Log) -> bool) {
        let waiting = async {
            while !is_so(&self.log.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// The ids of one kind of message.
    pub(crate) fn told(&self, kind: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let told = log.said.iter().filter(|message| message["type"] == kind);
        told.flat_map(|message| {
            let many = message["ids"].as_array().into_iter().flatten();
            let one = [&message["id"], &message["event_id"]];
            many.chain(one).filter_map(|id| id.as_str().map(str::to_owned)).collect::<Vec<_>>()
        })
        .collect()
    }
}

pub(crate) fn opened() -> Step {
    Step::Say(json!({ "type": "stream.opened", "cursor": "pos_1", "ack": "explicit" }))
}

pub(crate) fn event(id: &str) -> Step {
    Step::Say(json!({ "id": id, "type": "message.received", "ordering_key": id, "data": {} }))
}

async fn is_token(stream: &TcpStream) -> bool {
    let mut start = [0; 11];
    while stream.peek(&mut start).await.is_ok_and(|count| (1..start.len()).contains(&count)) {
        tokio::task::yield_now().await;
    }
    start.starts_with(b"POST /token")
}

/// A token that lasts as long as the server says; each is another.
async fn grant(mut stream: TcpStream, log: Arc<Mutex<Log>>) {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await;
    let number = {
        let mut log = log.lock().unwrap();
        log.granted += 1;
        log.granted
    };
    let body = json!({ "access_token": format!("jwt{number}"), "expires_in": 3600 }).to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = stream.write_all(answer.as_bytes()).await;
}

async fn serve(stream: TcpStream, steps: Vec<Step>, log: Arc<Mutex<Log>>, clock_off: i64) {
    let refusal = steps.iter().find_map(|step| match step {
        Step::Refuse(status) => Some(*status),
        _ => None,
    });
    let kept = log.clone();
    #[expect(clippy::result_large_err, reason = "the library wants it so")]
    let look = move |request: &Request, mut response: Response| -> Result<_, ErrorResponse> {
        let mut log = kept.lock().unwrap();
        log.urls.push(request.uri().to_string());
        let token = request.headers().get("authorization").map(|value| value.to_str().unwrap());
        log.tokens.push(token.unwrap_or_default().to_owned());
        if let Some(status) = refusal {
            let body = json!({ "code": "refused", "detail": "not you" }).to_string();
            let mut refused = ErrorResponse::new(Some(body));
            *refused.status_mut() = status.try_into().unwrap();
            return Err(refused);
        }
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(clock_off);
        let now = httpdate::fmt_http_date(now.into());
        response.headers_mut().insert("date", now.parse().unwrap());
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, look).await else { return };
    for step in steps {
        match step {
            Step::Refuse(_) => return,
            Step::Say(document) => {
                let _ = socket.send(Message::Text(document.to_string().into())).await;
            }
            Step::Babble(text) => {
                let _ = socket.send(Message::Text(text.into())).await;
            }
            Step::Hear(kind) => loop {
                let Some(Ok(message)) = socket.next().await else { return };
                if let Message::Text(text) = message {
                    let said: Value = serde_json::from_str(&text).unwrap();
                    let is_it = said["type"] == kind;
                    log.lock().unwrap().said.push(said);
                    if is_it {
                        break;
                    }
                }
            },
            Step::Close(code) => {
                let reason = Utf8Bytes::from_static("as told");
                let _ = socket.close(Some(CloseFrame { code: code.into(), reason })).await;
                while let Some(Ok(_)) = socket.next().await {}
                return;
            }
            Step::Freeze => std::future::pending().await,
            Step::Hold => {
                while let Some(Ok(message)) = socket.next().await {
                    if let Message::Text(text) = message {
                        log.lock().unwrap().said.push(serde_json::from_str(&text).unwrap());
                    }
                }
                return;
            }
        }
    }
}
