//! Gives up a connection whose other side takes nothing of what is written to it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::response::Response;
use http::{StatusCode, header};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Whether a connection may stand still: a subscriber that reads nothing for a while lags, and is
/// not thrown out. What is kept for it is bounded by whoever serves it.
#[derive(Debug, Clone, Default)]
pub(super) struct Lenience(Arc<AtomicBool>);

impl Lenience {
    /// From now on the connection carries this answer.
    pub(super) fn answering(&self, response: &Response) {
        let is_stream = response.status() == StatusCode::SWITCHING_PROTOCOLS
            || response
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        self.0.store(is_stream, Ordering::Relaxed);
    }
}

/// A socket that fails when a write makes no headway for as long as `patience`. It stands below
/// TLS, whose own buffers say nothing of what has left.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    patience: Duration,
    lenience: Lenience,
    /// Runs while a write waits; nothing is set up for one that does not.
    still: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, patience: Duration, lenience: Lenience) -> Self {
        Self { stream, patience, lenience, still: None }
    }

    fn watched<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.still = None;
            return written;
        }
        let patience = self.patience;
        let still = self.still.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(still.as_mut().poll(context));
        if self.lenience.0.load(Ordering::Relaxed) {
            // Looked at again when there is something else to do.
            return Poll::Pending;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was taken in time")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
