//! A WebSocket server on the gateway's own library that knows no store, no tokens and no cursors:
//! what it reaches is what the library and the kernel allow.
//!
//! It runs in a process of its own, so that its memory and CPU time can be told from ours.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use axum::{
    Router,
    extract::{
        State,
        ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::{get, post},
    serve::ListenerExt,
};
use futures_util::SinkExt;
use tokio::{net::TcpListener, sync::broadcast};

use crate::{
    Failure,
    process::{self, Memory},
};

/// The same buffers as the gateway's.
const READ_BUFFER: usize = 2 << 10;
const WRITE_BUFFER: usize = 16 << 10;

/// Events that may wait for a connection: more than one measurement has.
const WAITING: usize = 1 << 16;

/// Frames that are written together.
const BATCH: usize = 64;

/// What every connection begins with, as long as the gateway's.
const OPENED: &str = r#"{"type":"stream.opened","cursor":"pos_1","ack":"auto"}"#;

/// A bare server in a process of its own. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Bare {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Bare {
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--bare-server")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the bare server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| "the bare server did not start")?;
        Ok(Self { child, address })
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64, Failure> {
        process::cpu_seconds(self.child.id())
    }

    pub(crate) fn memory(&self) -> Result<Memory, Failure> {
        process::memory(self.child.id())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

type Events = broadcast::Sender<Utf8Bytes>;

/// Is that server, until it is killed.
pub(crate) fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        let routes = Router::new()
            .route("/stream", get(stream))
            .route("/events", post(publish))
            .with_state(broadcast::channel(WAITING).0);
        let listener = listener.tap_io(|stream| {
            // Without it frames are only later, and the figure says so.
            let _ = stream.set_nodelay(true);
        });
        Ok(axum::serve(listener, routes).await?)
    })
}

async fn publish(State(events): State<Events>, event: String) {
    // Nobody may be there yet.
    let _ = events.send(Utf8Bytes::from(event));
}

async fn stream(State(events): State<Events>, upgrade: WebSocketUpgrade) -> Response {
    let events = events.subscribe();
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .on_upgrade(|socket| forward(socket, events))
}

async fn forward(mut socket: WebSocket, mut events: broadcast::Receiver<Utf8Bytes>) {
    let opened = Message::Text(Utf8Bytes::from_static(OPENED));
    if socket.send(opened).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            event = events.recv() => {
                // Whoever missed something is cut off: the client takes that for a failure.
                let Ok(event) = event else { return };
                if write(&mut socket, event, &mut events).await.is_err() {
                    return;
                }
            }
            heard = socket.recv() => {
                if !matches!(heard, Some(Ok(_))) {
                    return;
                }
            }
        }
    }
}

/// Writes an event, and with it those that wait already.
async fn write(
    socket: &mut WebSocket,
    event: Utf8Bytes,
    events: &mut broadcast::Receiver<Utf8Bytes>,
) -> Result<(), axum::Error> {
    socket.feed(Message::Text(event)).await?;
    for _ in 1..BATCH {
        let Ok(event) = events.try_recv() else { break };
        socket.feed(Message::Text(event)).await?;
    }
    socket.flush().await
}
