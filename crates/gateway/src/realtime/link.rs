//! A connection that shares its transport with others: what it sends goes to whoever owns the
//! transport, a batch at a time, and nothing more is sent before that is written.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::PollSender;

/// Messages of a client that wait to be read.
const HEARD: usize = 4;
/// How long whoever owns the transport may take to hear of an end.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The connection's end.
pub(super) struct Link {
    number: u64,
    sender: PollSender<FromLink>,
    heard: mpsc::Receiver<Utf8Bytes>,
    pending: Vec<Bytes>,
    writing: Option<oneshot::Receiver<()>>,
}

/// The end of whoever owns the transport. Dropped, it ends the connection.
#[derive(Debug)]
pub(crate) struct LinkEnd {
    heard: mpsc::Sender<Utf8Bytes>,
}

/// What a connection says.
#[derive(Debug)]
pub(crate) struct FromLink {
    /// Which.
    pub(crate) number: u64,
    /// What.
    pub(crate) told: Told,
}

/// What a connection says.
#[derive(Debug)]
pub(crate) enum Told {
    /// These frames go out, in this order.
    Frames(Vec<Bytes>, Written),
    /// It has ended, with the code and the reason that a WebSocket would be closed with.
    Ended(u16, &'static str),
}

/// To be told when frames are written; dropped untold, the connection ends.
#[derive(Debug)]
pub(crate) struct Written(oneshot::Sender<()>);

impl Written {
    /// They are.
    pub(crate) fn done(self) {
        // Whoever waited for it may have gone.
        let _ = self.0.send(());
    }
}

impl LinkEnd {
    /// Passes a message of the client on. False: the connection has ended.
    pub(crate) async fn hear(&self, message: Utf8Bytes) -> bool {
        self.heard.send(message).await.is_ok()
    }
}

impl Link {
    /// Both ends of one.
    pub(super) fn new(number: u64, sender: mpsc::Sender<FromLink>) -> (Self, LinkEnd) {
        let (end, heard) = mpsc::channel(HEARD);
        let sender = PollSender::new(sender);
        let link = Self { number, sender, heard, pending: Vec::new(), writing: None };
        (link, LinkEnd { heard: end })
    }

    pub(super) fn push(&mut self, frame: Bytes) {
        self.pending.push(frame);
    }

    /// Waits until what was pushed is written. `Ready(false)`: nobody writes it any more.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if let Some(writing) = &mut self.writing {
                let Poll::Ready(written) = Pin::new(writing).poll(cx) else {
                    return Poll::Pending;
                };
                self.writing = None;
                if written.is_err() {
                    self.pending.clear();
                    return Poll::Ready(false);
                }
            }
            if self.pending.is_empty() {
                return Poll::Ready(true);
            }
            match self.sender.poll_reserve(cx) {
                Poll::Ready(Ok(())) => {
                    let (written, writing) = oneshot::channel();
                    let frames = std::mem::take(&mut self.pending);
                    let told = Told::Frames(frames, Written(written));
                    if self.sender.send_item(FromLink { number: self.number, told }).is_err() {
                        return Poll::Ready(false);
                    }
                    self.writing = Some(writing);
                }
                Poll::Ready(Err(_)) => {
                    self.pending.clear();
                    return Poll::Ready(false);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Option<Utf8Bytes>> {
        self.heard.poll_recv(cx)
    }

    /// Says that it has ended.
    pub(super) async fn close(mut self, code: u16, reason: &'static str) {
        self.sender.abort_send();
        let Some(sender) = self.sender.get_ref() else { return };
        let ended = FromLink { number: self.number, told: Told::Ended(code, reason) };
        let _ = tokio::time::timeout(LAST_WORD, sender.send(ended)).await;
    }
}
