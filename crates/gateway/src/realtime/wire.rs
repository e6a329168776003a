//! The transports of a live connection: a WebSocket, a response that never ends, and a share of what
//! somebody else owns.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite;
use tokio_util::sync::PollSender;

use super::link::Link;

/// How long the last frame may take: whoever does not read it notices the end all the same.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What comes from the other side.
pub(super) enum Heard {
    /// A message.
    Message(Utf8Bytes),
    /// A sign of life.
    Alive,
    /// A message that is longer than any may be.
    TooLong,
    /// The end.
    Closed,
}

/// A connection that frames go out on.
pub(super) enum Wire {
    /// Frames both ways.
    Socket(Box<WebSocket>),
    /// Only out; the other end is the body of a response.
    Events {
        sender: PollSender<Bytes>,
        pending: Vec<u8>,
        gone: Pin<Box<dyn Future<Output = ()> + Send>>,
    },
    /// Both ways, on a transport that belongs to somebody else.
    Link(Box<Link>),
}

impl Wire {
    /// A response's body, and the wire to it.
    pub(super) fn events() -> (Self, mpsc::Receiver<Bytes>) {
        // One chunk waits while the one before is written: a client that does not read stops us.
        let (sender, receiver) = mpsc::channel::<Bytes>(1);
        let watched = sender.clone();
        let gone = Box::pin(async move { watched.closed().await });
        (Self::Events { sender: PollSender::new(sender), pending: Vec::new(), gone }, receiver)
    }

    /// Puts a frame behind those that wait to be written. False: the connection is broken.
    pub(super) fn push(&mut self, frame: Bytes) -> bool {
        match self {
            Self::Socket(socket) => {
                let Ok(text) = Utf8Bytes::try_from(frame) else {
                    // Frames are JSON that was checked when it came in.
                    tracing::error!(
                        event = "realtime.not_text",
                        "a frame was no UTF-8 and was left out"
                    );
                    return true;
                };
                Pin::new(&mut **socket).start_send(Message::Text(text)).is_ok()
            }
            Self::Events { pending, .. } => {
                pending.extend_from_slice(&frame);
                true
            }
            Self::Link(link) => {
                link.push(frame);
                true
            }
        }
    }

    /// Puts a ping behind them. False: there is no such thing, or the connection is broken.
    pub(super) fn ping(&mut self) -> bool {
        match self {
            Self::Socket(socket) => {
                Pin::new(&mut **socket).start_send(Message::Ping(Bytes::new())).is_ok()
            }
            // Whose the transport is, he pings.
            Self::Events { .. } | Self::Link(_) => false,
        }
    }

    /// Whether the other side answers pings.
    pub(super) fn answers(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// Writes what waits. `Ready(false)`: the connection is broken.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match self {
            Self::Socket(socket) => {
                Pin::new(&mut **socket).poll_flush(cx).map(|written| written.is_ok())
            }
            Self::Events { sender, pending, .. } => {
                if pending.is_empty() {
                    return Poll::Ready(true);
                }
                match sender.poll_reserve(cx) {
                    Poll::Ready(Ok(())) => {
                        let chunk = Bytes::from(std::mem::take(pending));
                        Poll::Ready(sender.send_item(chunk).is_ok())
                    }
                    Poll::Ready(Err(_)) => Poll::Ready(false),
                    Poll::Pending => Poll::Pending,
                }
            }
            Self::Link(link) => link.poll_flush(cx),
        }
    }

    /// Waits for something from the other side.
    pub(super) fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        match self {
            Self::Socket(socket) => match Pin::new(&mut **socket).poll_next(cx) {
                Poll::Ready(Some(Ok(Message::Text(text)))) => Poll::Ready(Heard::Message(text)),
                Poll::Ready(Some(Ok(Message::Binary(bytes)))) => {
                    Poll::Ready(Utf8Bytes::try_from(bytes).map_or(Heard::Alive, Heard::Message))
                }
                Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {
                    Poll::Ready(Heard::Alive)
                }
                Poll::Ready(Some(Err(error))) if is_too_long(&error) => Poll::Ready(Heard::TooLong),
                Poll::Ready(Some(Ok(Message::Close(_)) | Err(_)) | None) => {
                    Poll::Ready(Heard::Closed)
                }
                Poll::Pending => Poll::Pending,
            },
            Self::Events { gone, .. } => gone.as_mut().poll(cx).map(|()| Heard::Closed),
            Self::Link(link) => {
                link.poll_heard(cx).map(|heard| heard.map_or(Heard::Closed, Heard::Message))
            }
        }
    }

    /// The other side has ended it: it gets the answer that the protocol asks for.
    pub(super) async fn echo_close(mut self) {
        let answer = std::future::poll_fn(|cx| self.poll_flush(cx));
        let _ = tokio::time::timeout(LAST_WORD, answer).await;
    }

    /// Ends it, with a code and a reason where the transport has them.
    pub(super) async fn close(self, code: u16, reason: &'static str) {
        match self {
            Self::Socket(mut socket) => {
                let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
                let close = socket.send(Message::Close(Some(frame)));
                let _ = tokio::time::timeout(LAST_WORD, close).await;
            }
            Self::Link(link) => link.close(code, reason).await,
            Self::Events { .. } => {}
        }
    }
}

/// Whether a client has sent more than is read. The connection is whole all the same.
fn is_too_long(error: &axum::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|it| it.downcast_ref());
    matches!(cause, Some(tungstenite::Error::Capacity(_)))
}
