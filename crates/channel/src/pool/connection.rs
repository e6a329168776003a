//! One connection to one receiver, in either version of HTTP.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, uri::Authority};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// The most that the head of an answer may take, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;
/// What a receiver may send ahead on one HTTP/2 stream and connection, in bytes.
const WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes to and from the receiver.
pub(crate) enum Wire {
    Plain(TcpStream, #[expect(dead_code, reason = "held, not read")] Open),
    Tls(Box<TlsStream<TcpStream>>, #[expect(dead_code, reason = "held, not read")] Open),
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(..) => "Wire::Plain",
            Self::Tls(..) => "Wire::Tls",
        })
    }
}

/// Counts a connection for as long as it is open.
pub(crate) struct Open(Arc<AtomicUsize>);

impl Open {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A [`Wire`] that remembers whether something has come in.
struct Watched {
    wire: Wire,
    received: Arc<AtomicBool>,
}

impl Wire {
    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self {
            Self::Plain(stream, _) => Pin::new(stream),
            Self::Tls(stream, _) => Pin::new(&mut **stream),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream, _) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream, _) => stream.is_write_vectored(),
            Self::Tls(stream, _) => stream.is_write_vectored(),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.wire).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.received.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }
}

/// How a proxy that forwards requests wants them.
#[derive(Debug, Clone)]
pub(super) struct Forward {
    /// The checked address of the target.
    pub(super) authority: Authority,
    pub(super) authorization: Option<HeaderValue>,
}

/// An HTTP/1.1 connection: one request at a time.
///
/// It has no task of its own. Whoever waits for an answer also moves the bytes: this saves two
/// wake-ups across tasks for each request, and an idle connection costs nothing.
pub(super) struct One {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    connection: Option<http1::Connection<TokioIo<Watched>, Full<Bytes>>>,
    received: Arc<AtomicBool>,
    pub(super) forward: Option<Forward>,
    /// See [`crate::egress::Guard::generation`].
    pub(super) generation: u64,
}

impl One {
    pub(super) async fn open(
        wire: Wire,
        forward: Option<Forward>,
        generation: u64,
    ) -> hyper::Result<Self> {
        let received = Arc::new(AtomicBool::new(false));
        let watched = Watched { wire, received: Arc::clone(&received) };
        let (sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_LIMIT).handshake(TokioIo::new(watched)).await?;
        Ok(Self { sender, connection: Some(connection), received, forward, generation })
    }

    /// Moves bytes as far as it goes without waiting.
    fn advance(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            // What went wrong, if anything, is told to whoever waits for the answer.
            self.connection = None;
        }
    }

    /// Whether it can take another request. Notices that the receiver has closed it meanwhile,
    /// without a system call when nothing has come in.
    pub(super) async fn is_usable(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            self.advance(cx);
            Poll::Ready(
                self.connection.is_some()
                    && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(()))),
            )
        })
        .await
    }

    /// Waits for something while moving bytes.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            self.advance(cx);
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// An HTTP/2 connection: many requests at a time. A task of its own moves the bytes.
pub(super) struct Many {
    sender: http2::SendRequest<Full<Bytes>>,
    pub(super) generation: u64,
}

impl Many {
    pub(super) async fn open(wire: Wire, generation: u64) -> hyper::Result<Self> {
        let watched = Watched { wire, received: Arc::default() };
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_LIMIT as u32)
            .handshake(TokioIo::new(watched))
            .await?;
        // Ends when the last sender is dropped or the receiver hangs up; what went wrong is told
        // to those who wait for answers.
        tokio::spawn(connection);
        Ok(Self { sender, generation })
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// A connection in use.
pub(crate) struct Lent {
    pub(super) connection: Connection,
    /// Whether it has been used before. Only then may a failure mean nothing but that the
    /// receiver had hung up.
    reused: bool,
}

pub(super) enum Connection {
    One(Box<One>),
    Many(Arc<Many>),
}

/// How the request line names the target.
pub(crate) enum Form<'a> {
    /// Path and query; the host stands in `Host`.
    Origin,
    /// For a proxy that forwards: also the target's checked address.
    Absolute(&'a Authority, Option<&'a HeaderValue>),
    /// HTTP/2: scheme and authority have fields of their own, and there is no `Host`.
    Http2,
}

impl Lent {
    pub(super) fn new(connection: Connection, reused: bool) -> Self {
        Self { connection, reused }
    }

    pub(crate) fn form(&self) -> Form<'_> {
        match &self.connection {
            Connection::One(one) => match &one.forward {
                Some(forward) => Form::Absolute(&forward.authority, forward.authorization.as_ref()),
                None => Form::Origin,
            },
            Connection::Many(_) => Form::Http2,
        }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.connection {
            Connection::One(one) => {
                one.received.store(false, Ordering::Relaxed);
                let answer = one.sender.send_request(request);
                one.drive(answer).await
            }
            Connection::Many(many) => many.sender.clone().send_request(request).await,
        }
    }

    /// Whether a request that failed in [`Self::send`] should be sent again on a fresh
    /// connection: this one had been used before and not a byte of an answer has come.
    ///
    /// On HTTP/2 a stream that the receiver has reset counts too: nothing tells it from one
    /// that was swept away with its connection, and the receiver knows the request by its id.
    pub(crate) fn is_stale(&self) -> bool {
        self.reused
            && match &self.connection {
                Connection::One(one) => !one.received.load(Ordering::Relaxed),
                Connection::Many(_) => true,
            }
    }

    /// The next piece of an answer's body.
    pub(crate) async fn frame(
        &mut self,
        body: &mut Incoming,
    ) -> Option<hyper::Result<Frame<Bytes>>> {
        match &mut self.connection {
            Connection::One(one) => one.drive(body.frame()).await,
            Connection::Many(_) => body.frame().await,
        }
    }
}
