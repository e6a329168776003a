//! What carries the packets of a session: requests of HTTP that wait, or a WebSocket.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::{sync::oneshot, time::Instant};

use super::super::packet;

/// How long the last frame may take.
const LAST_WORD: Duration = Duration::from_secs(1);

pub(super) enum Transport {
    /// Long polling, with the poll that waits.
    Polls(Option<oneshot::Sender<Bytes>>),
    Socket(Box<WebSocket>),
}

/// What a WebSocket has to say.
pub(super) enum Talked {
    /// Everything is written.
    Written,
    Packet(Utf8Bytes),
    Alive,
    Gone,
}

impl Transport {
    pub(super) fn polls(&self) -> bool {
        matches!(self, Self::Polls(_))
    }

    /// Waits for the WebSocket: it writes and reads at once.
    pub(super) async fn talk(&mut self, is_writing: bool) -> Talked {
        let Self::Socket(socket) = self else { return pending().await };
        poll_fn(|cx| {
            if is_writing && let Poll::Ready(written) = Pin::new(&mut **socket).poll_flush(cx) {
                return Poll::Ready(if written.is_ok() { Talked::Written } else { Talked::Gone });
            }
            Pin::new(&mut **socket).poll_next(cx).map(|heard| match heard {
                Some(Ok(Message::Text(text))) => Talked::Packet(text),
                // Bytes belong to events of the client's own.
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => Talked::Alive,
                Some(Ok(Message::Close(_)) | Err(_)) | None => Talked::Gone,
            })
        })
        .await
    }

    /// Ends it. What still waits goes before, where there is somebody to take it; without a code
    /// the client has ended it.
    pub(super) async fn close(self, code: Option<u16>, reason: &'static str, rest: Vec<Bytes>) {
        match self {
            Self::Polls(waiting) => {
                let Some(poll) = waiting else { return };
                let mut frames = rest;
                frames.push(Bytes::from_static(packet::CLOSE.as_bytes()));
                let _ = poll.send(body(&frames));
            }
            Self::Socket(mut socket) => {
                let goodbye = async {
                    match code {
                        Some(code) => {
                            feed(&mut socket, rest);
                            let reason = Utf8Bytes::from_static(reason);
                            let close = Message::Close(Some(CloseFrame { code, reason }));
                            let _ = socket.send(close).await;
                        }
                        // The answer that the protocol asks for.
                        None => {
                            let _ = poll_fn(|cx| Pin::new(&mut *socket).poll_flush(cx)).await;
                        }
                    }
                };
                let _ = tokio::time::timeout(LAST_WORD, goodbye).await;
            }
        }
    }
}

/// Gives frames to a socket, to be flushed. False: it is broken.
pub(super) fn feed(socket: &mut WebSocket, frames: Vec<Bytes>) -> bool {
    frames.into_iter().all(|frame| match Utf8Bytes::try_from(frame) {
        Ok(text) => Pin::new(&mut *socket).start_send(Message::Text(text)).is_ok(),
        // Packets are made of texts.
        Err(_) => true,
    })
}

/// Packets as the body of an answer.
pub(super) fn body(frames: &[Bytes]) -> Bytes {
    let (first, others) = match frames {
        [] => return Bytes::from_static(packet::NOOP.as_bytes()),
        [only] => return only.clone(),
        [first, others @ ..] => (first, others),
    };
    let size: usize = others.iter().map(|frame| frame.len() + 1).sum();
    let mut body = Vec::with_capacity(first.len() + size);
    body.extend_from_slice(first);
    for frame in others {
        body.extend_from_slice(packet::SEPARATOR.encode_utf8(&mut [0; 4]).as_bytes());
        body.extend_from_slice(frame);
    }
    body.into()
}

/// A WebSocket that wants to take over from long polling.
pub(super) struct Probe {
    socket: Box<WebSocket>,
    since: Instant,
    answered: bool,
}

/// What it has to say.
pub(super) enum Probed {
    /// It asks whether it may.
    Asked,
    /// It does.
    TakesOver,
    Nothing,
    Gone,
}

impl Probe {
    pub(super) fn new(socket: Box<WebSocket>) -> Self {
        Self { socket, since: Instant::now(), answered: false }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether it may take over.
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    pub(super) fn into_socket(self) -> Box<WebSocket> {
        self.socket
    }

    /// Waits for it, if there is one.
    pub(super) async fn talk(probe: &mut Option<Self>) -> Probed {
        let Some(probe) = probe else { return pending().await };
        let heard = poll_fn(|cx| Pin::new(&mut *probe.socket).poll_next(cx)).await;
        match heard {
            Some(Ok(Message::Text(text))) => match packet::read(&text) {
                Ok(packet::Packet::Ping("probe")) => Probed::Asked,
                Ok(packet::Packet::Upgrade) if probe.answered => Probed::TakesOver,
                _ => Probed::Nothing,
            },
            Some(Ok(Message::Close(_)) | Err(_)) | None => Probed::Gone,
            Some(Ok(_)) => Probed::Nothing,
        }
    }

    /// Says that it may take over. False: it is gone.
    pub(super) async fn answer(&mut self) -> bool {
        let yes = Message::Text(Utf8Bytes::from_static(packet::PONG_OF_PROBE));
        let sent = tokio::time::timeout(LAST_WORD, self.socket.send(yes)).await;
        self.answered = sent.is_ok_and(|sent| sent.is_ok());
        self.answered
    }
}
