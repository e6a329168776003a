//! The listener: accepts connections, secures them, hands requests to the router, drains.

pub mod answers;
pub mod cors;
mod pace;
pub mod proxy;
pub mod tls;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, MatchedPath, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use self::{
    answers::Answers,
    pace::{Lenience, Paced},
    proxy::{Peer, peer_of},
    tls::Tls,
};
use crate::{
    api::{body::Patience, error::ApiError, evolution, ryze, vzaps},
    telemetry::{Telemetry, readiness::Readiness},
};

/// How long a connection that was taken may bring its first request when nobody is to be refused.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Connections open at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// Seconds a connection may take to bring a request's header; also how long it may be idle.
    pub header_timeout_s: u64,
    /// Seconds without a byte of a request's body after which it is given up.
    pub body_idle_s: u64,
    /// Seconds a request's body may take in all.
    pub body_timeout_s: u64,
    /// Seconds in which nothing of an answer is taken, after which it is given up.
    pub answer_idle_s: u64,
    /// Bytes of a request's line and headers.
    pub max_header_bytes: usize,
    /// Requests at once on one HTTP/2 connection.
    pub http2_max_streams: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_timeout_s: 60,
            body_idle_s: 10,
            body_timeout_s: 30,
            answer_idle_s: 60,
            max_header_bytes: 64 << 10,
            http2_max_streams: 256,
        }
    }
}

impl Config {
    /// How long bodies are waited for.
    pub fn body_patience(&self) -> Patience {
        Patience {
            idle: Duration::from_secs(self.body_idle_s),
            total: Duration::from_secs(self.body_timeout_s),
        }
    }

    /// How long answers may stand still.
    pub fn answer_patience(&self) -> Duration {
        Duration::from_secs(self.answer_idle_s)
    }

    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.max_connections == 0 || self.max_connections > Semaphore::MAX_PERMITS {
            wrong.push(("max_connections", "expected at least 1".to_owned()));
        }
        for (key, seconds) in [
            ("header_timeout_s", self.header_timeout_s),
            ("body_idle_s", self.body_idle_s),
            ("body_timeout_s", self.body_timeout_s),
            ("answer_idle_s", self.answer_idle_s),
        ] {
            if seconds == 0 {
                wrong.push((key, "found 0, expected at least 1 second".to_owned()));
            }
        }
        // hyper refuses to work with less.
        if self.max_header_bytes < 8_192 || u32::try_from(self.max_header_bytes).is_err() {
            let found = self.max_header_bytes;
            wrong.push(("max_header_bytes", format!("found {found}, expected at least 8192")));
        }
        if self.http2_max_streams == 0 {
            wrong.push(("http2_max_streams", "found 0, expected at least 1".to_owned()));
        }
        wrong
    }
}

/// What stands before the router.
#[derive(Clone)]
pub struct Front {
    /// Where requests go.
    pub router: Router,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Decides whether requests are taken at all.
    pub readiness: Readiness,
    /// Whether requests that come while we drain are refused. Where the listener stays open, only
    /// those come that were on their way, and they are answered.
    pub refuses: bool,
    /// Counts connections.
    pub telemetry: Arc<Telemetry>,
}

/// A running listener.
pub struct Server {
    closing: CancellationToken,
    connections: TaskTracker,
    requests: TaskTracker,
}

impl Server {
    /// Serves `front` on `listener` until [`Self::close`].
    pub fn start(listener: TcpListener, front: Front, config: &Config, tls: Option<Tls>) -> Self {
        let server = Self {
            closing: CancellationToken::new(),
            connections: TaskTracker::new(),
            requests: TaskTracker::new(),
        };
        let acceptor = Acceptor {
            front,
            builder: Arc::new(connection_builder(config)),
            patience: Duration::from_secs(config.header_timeout_s),
            answer_patience: config.answer_patience(),
            slots: Arc::new(Semaphore::new(config.max_connections)),
            closing: server.closing.clone(),
            connections: server.connections.clone(),
            requests: server.requests.clone(),
        };
        if let Some(tls) = tls.clone() {
            server.connections.spawn(tls.watch(server.closing.clone()));
        }
        server.connections.spawn(acceptor.accept(listener, tls));
        server
    }

    /// Waits until the requests that were being answered are answered. New ones are refused
    /// meanwhile, if the readiness says that we drain.
    pub async fn finish_requests(&self, deadline: Instant) -> bool {
        self.requests.close();
        tokio::time::timeout_at(deadline.into(), self.requests.wait()).await.is_ok()
    }

    /// Closes the listener, then every connection after the answer it is writing.
    pub fn close(&self) {
        self.closing.cancel();
        self.connections.close();
    }

    /// Waits for them.
    pub async fn closed(&self, deadline: Instant) -> bool {
        tokio::time::timeout_at(deadline.into(), self.connections.wait()).await.is_ok()
    }
}

fn connection_builder(config: &Config) -> auto::Builder<TokioExecutor> {
    let patience = Duration::from_secs(config.header_timeout_s);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(config.max_header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.http2_max_streams)
        .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(patience)
        .keep_alive_timeout(patience);
    builder
}

#[derive(Clone)]
struct Acceptor {
    front: Front,
    builder: Arc<auto::Builder<TokioExecutor>>,
    patience: Duration,
    answer_patience: Duration,
    slots: Arc<Semaphore>,
    closing: CancellationToken,
    connections: TaskTracker,
    requests: TaskTracker,
}

impl Acceptor {
    async fn accept(self, listener: TcpListener, tls: Option<Tls>) {
        loop {
            // A full house waits in the kernel's queue: nobody is turned away for it.
            let slot = tokio::select! {
                slot = self.slots.clone().acquire_owned() => slot,
                () = self.closing.cancelled() => return,
            };
            let Ok(slot) = slot else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.closing.cancelled() => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    let connection = self.clone().serve(stream, address, tls.clone(), slot);
                    self.connections.spawn(connection);
                }
                Err(error) => {
                    // Out of file descriptors, mostly: it passes when connections close.
                    tracing::warn!(event = "http.accept_failed", %error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(
        self,
        stream: TcpStream,
        address: SocketAddr,
        tls: Option<Tls>,
        slot: OwnedSemaphorePermit,
    ) {
        let open = self.front.telemetry.connections.clone();
        open.inc();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(event = "http.nodelay_failed", %error, %address, "answers may wait");
        }
        let lenience = Lenience::default();
        let stream = Paced::new(stream, self.answer_patience, lenience.clone());
        match tls {
            None => self.serve_stream(stream, lenience, address, false).await,
            Some(tls) => {
                let handshake = tokio::time::timeout(self.patience, tls.acceptor().accept(stream));
                match handshake.await {
                    Ok(Ok(stream)) => self.serve_stream(stream, lenience, address, true).await,
                    Ok(Err(error)) => {
                        tracing::debug!(event = "tls.handshake_failed", %error, %address, "no TLS");
                    }
                    Err(_) => {
                        tracing::debug!(event = "tls.handshake_slow", %address, "no TLS in time");
                    }
                }
            }
        }
        open.dec();
        drop(slot);
    }

    async fn serve_stream<S>(self, stream: S, lenience: Lenience, address: SocketAddr, secure: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let asked = AtomicBool::new(false);
        let first = Notify::new();
        // Where nobody is to be refused, a connection that was taken is owed an answer.
        let mut owed = (!self.front.refuses).then(|| self.requests.token());
        let service = service_fn(|request| {
            if !asked.swap(true, Ordering::Relaxed) {
                first.notify_one();
            }
            let answer = self.front.clone().answer(request, address, secure, self.requests.clone());
            let lenience = lenience.clone();
            async move { answer.await.inspect(|response| lenience.answering(response)) }
        });
        let connection = self.builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // hyper's own patience begins with the first byte it can tell the version from.
        let mut silence = pin!(tokio::time::sleep(self.patience));
        let mut listening = true;
        let mut closing = false;
        let mut grace = pin!(tokio::time::sleep(FIRST_REQUEST));
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(event = "http.connection_failed", %error, %address, "closed");
                    }
                    return;
                }
                () = silence.as_mut(), if listening => {
                    if !asked.load(Ordering::Relaxed) {
                        tracing::debug!(event = "http.silent", %address, "no request in time");
                        return;
                    }
                    listening = false;
                }
                () = first.notified(), if owed.is_some() => {
                    // The request counts by itself from here on.
                    owed = None;
                    if closing {
                        connection.as_mut().graceful_shutdown();
                    }
                }
                () = self.closing.cancelled(), if !closing => {
                    closing = true;
                    if owed.is_none() {
                        connection.as_mut().graceful_shutdown();
                    }
                    grace.as_mut().reset(tokio::time::Instant::now() + FIRST_REQUEST);
                }
                () = grace.as_mut(), if closing && owed.is_some() => {
                    owed = None;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

impl Front {
    async fn answer(
        mut self,
        request: hyper::Request<Incoming>,
        address: SocketAddr,
        secure: bool,
        requests: TaskTracker,
    ) -> Result<Response, Infallible> {
        let mut request = request.map(Body::new);
        if !is_operational(request.uri().path()) {
            // Counted before the question, so that a drain either waits for it or refuses it.
            let counted = requests.token();
            if self.refuses && self.readiness.is_draining() {
                return Ok(draining(request.version(), request.uri().path()));
            }
            self.place(&mut request, address, secure);
            let response = self.router.call(request).await;
            drop(counted);
            return response;
        }
        self.place(&mut request, address, secure);
        self.router.call(request).await
    }

    fn place(&self, request: &mut Request, address: SocketAddr, secure: bool) {
        let peer = peer_of(address.ip(), secure, request.headers(), &self.trusted_proxies);
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(address));
        extensions.insert(peer);
    }
}

/// Answered during a drain too.
fn is_operational(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

fn draining(version: Version, path: &str) -> Response {
    let error = ApiError::Draining;
    let mut response = match path {
        path if vzaps::is_path(path) => vzaps::refusal(error),
        path if ryze::is_path(path) => ryze::refusal(error),
        path if evolution::is_path(path) => evolution::refusal(error),
        _ => error.into_response(),
    };
    // HTTP/2 has no such header; its connections get GOAWAY.
    if version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Counts every answer of `router` under its route's template, and holds room for the large ones.
pub fn counted(router: Router, telemetry: Arc<Telemetry>, answers: Answers) -> Router {
    router.layer(from_fn_with_state((telemetry, answers), count))
}

async fn count(
    State((telemetry, answers)): State<(Arc<Telemetry>, Answers)>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<Peer>().copied();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let response = answers.hold(route, response);
    let took = started.elapsed();
    let status = response.status().as_u16();
    telemetry.answered(&method, route, status, took);
    tracing::debug!(
        event = "http.request",
        %method,
        route,
        status,
        took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        peer = peer.map(|peer| tracing::field::display(peer.address)),
        https = peer.is_some_and(|peer| peer.https),
        "answered"
    );
    response
}
