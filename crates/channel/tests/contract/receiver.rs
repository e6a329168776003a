//! Receivers that do what a script says, on 127.0.0.1 and a port of the system's choice.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// Which connection, counted from 0.
    pub(crate) connection: usize,
    /// What stands between method and version.
    pub(crate) target: String,
    pub(crate) method: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Subject of the certificate shown, in DER, if any.
    pub(crate) client_certificate: Option<Vec<u8>>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These bytes; the connection stays.
    Write(String),
    /// These bytes, then hang up in order (FIN).
    WriteAndClose(String),
    /// These bytes, then hang up at once (RST).
    WriteAndReset(String),
    /// These bytes, then one more every few milliseconds until the sender has enough.
    Drip(String),
    /// These bytes again and again until the sender has enough.
    Flood(String),
    /// Nothing at all.
    Silence,
}

impl Reply {
    pub(crate) fn status(status: &str) -> Self {
        Self::with(status, "", "")
    }

    /// `headers` each with CR and LF at its end.
    pub(crate) fn with(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Write(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}"))
    }
}

/// Answers a request by what stands in it.
type Answering = Box<dyn Fn(&Received) -> Reply + Send + Sync>;

#[derive(Default)]
struct Log {
    answering: Option<Answering>,
    script: Mutex<VecDeque<Reply>>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    closed: watch::Sender<usize>,
}

impl Log {
    fn record(&self, received: Received) -> Reply {
        let reply = self.answering.as_ref().map(|answer| answer(&received));
        self.received.lock().unwrap().push(received);
        if let Some(reply) = reply {
            return reply;
        }
        self.script.lock().unwrap().pop_front().unwrap_or_else(|| Reply::status("204 No Content"))
    }
}

/// How connections begin.
#[derive(Clone)]
enum Security {
    Plain,
    Tls(TlsAcceptor),
}

/// Listens and answers until it is dropped. Without a script, everything is answered 204.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    security: Security,
    http2: bool,
    /// Aborts everything when dropped.
    tasks: JoinSet<()>,
}

impl Receiver {
    /// HTTP/1.1 on a raw socket.
    pub(crate) async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::launch(Security::Plain, false, script).await
    }

    /// The same, with answers that follow from the requests.
    pub(crate) async fn start_answering(
        answering: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let log = Log { answering: Some(Box::new(answering)), ..Log::default() };
        Self::begin(log, Security::Plain, false).await
    }

    /// HTTP/1.1 behind TLS.
    pub(crate) async fn start_tls(config: ServerConfig) -> Self {
        Self::launch(Security::Tls(TlsAcceptor::from(Arc::new(config))), false, []).await
    }

    /// HTTP/2, with TLS if there is a config. It obeys the status of a script's replies.
    pub(crate) async fn start_http2(
        config: Option<ServerConfig>,
        script: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let security = match config {
            Some(config) => Security::Tls(TlsAcceptor::from(Arc::new(config))),
            None => Security::Plain,
        };
        Self::launch(security, true, script).await
    }

    async fn launch(
        security: Security,
        http2: bool,
        script: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let log = Log::default();
        log.script.lock().unwrap().extend(script);
        Self::begin(log, security, http2).await
    }

    async fn begin(log: Log, security: Security, http2: bool) -> Self {
        let log = Arc::new(log);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut receiver = Self { address, log, security, http2, tasks: JoinSet::new() };
        receiver.listen(listener);
        receiver
    }

    fn listen(&mut self, listener: TcpListener) {
        let (log, security, http2) = (Arc::clone(&self.log), self.security.clone(), self.http2);
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, security.clone(), http2, Arc::clone(&log)));
            }
        });
    }

    /// Goes away, with all connections.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Comes back at the same address.
    pub(crate) async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.listen(listener);
    }

    pub(crate) fn next(&self, reply: Reply) {
        self.log.script.lock().unwrap().push_back(reply);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.log.received.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many connections have ended.
    pub(crate) async fn closed(&self, count: usize) {
        let mut closed = self.log.closed.subscribe();
        closed.wait_for(|closed| *closed >= count).await.unwrap();
    }
}

async fn serve(stream: TcpStream, security: Security, http2: bool, log: Arc<Log>) {
    let connection = log.connections.fetch_add(1, Ordering::SeqCst);
    match security {
        Security::Plain if http2 => serve_http2(stream, connection, &log, None).await,
        Security::Plain => serve_http1(stream, connection, &log, None).await,
        Security::Tls(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                let session = stream.get_ref().1;
                let shown = session.peer_certificates().map(|chain| chain[0].to_vec());
                if session.alpn_protocol() == Some(b"h2") {
                    serve_http2(stream, connection, &log, shown).await;
                } else {
                    serve_http1(stream, connection, &log, shown).await;
                }
            }
        }
    }
    log.closed.send_modify(|closed| *closed += 1);
}

/// Connections that can be ended without a word.
trait Reset: AsyncRead + AsyncWrite + Unpin {
    /// Has RST sent instead of FIN when it is dropped.
    fn reset(&self);
}

impl Reset for TcpStream {
    fn reset(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Reset for TlsStream<TcpStream> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

/// Reads one request; `None` at the end of the connection.
async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<(String, String, HeaderMap, Bytes)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let mut lines = head.split("\r\n");
            let mut start = lines.next().unwrap().split(' ');
            let (method, target) = (start.next().unwrap(), start.next().unwrap());
            let headers: HeaderMap = lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect::<Vec<(http::HeaderName, http::HeaderValue)>>()
                .into_iter()
                .collect();
            let length = headers
                .get("content-length")
                .map_or(0, |value| value.to_str().unwrap().parse::<usize>().unwrap());
            if buffer.len() >= end + 4 + length {
                let body = Bytes::copy_from_slice(&buffer[end + 4..end + 4 + length]);
                buffer.drain(..end + 4 + length);
                return Some((method.to_owned(), target.to_owned(), headers, body));
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn serve_http1(
    mut stream: impl Reset,
    connection: usize,
    log: &Log,
    client_certificate: Option<Vec<u8>>,
) {
    let mut buffer = Vec::new();
    while let Some((method, target, headers, body)) = read_request(&mut stream, &mut buffer).await {
        let client_certificate = client_certificate.clone();
        let received = Received { connection, target, method, headers, body, client_certificate };
        // The sender may have had enough at any time.
        match log.record(received) {
            Reply::Write(text) => {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::WriteAndClose(text) => {
                stream.write_all(text.as_bytes()).await.ok();
                stream.shutdown().await.ok();
                return;
            }
            Reply::WriteAndReset(text) => {
                stream.write_all(text.as_bytes()).await.ok();
                stream.reset();
                return;
            }
            Reply::Drip(text) => {
                let mut bytes = text.into_bytes();
                let mut tick = tokio::time::interval(Duration::from_millis(5));
                while stream.write_all(&bytes).await.is_ok() {
                    bytes = b"x".to_vec();
                    tick.tick().await;
                }
                return;
            }
            Reply::Flood(text) => {
                while stream.write_all(text.as_bytes()).await.is_ok() {}
                return;
            }
            Reply::Silence => {
                // Until the sender hangs up.
                while matches!(stream.read_buf(&mut buffer).await, Ok(read) if read > 0) {}
                return;
            }
        }
    }
}

async fn serve_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: usize,
    log: &Arc<Log>,
    client_certificate: Option<Vec<u8>>,
) {
    let answer = service_fn(|request: http::Request<Incoming>| {
        let (log, client_certificate) = (Arc::clone(log), client_certificate.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let received = Received {
                connection,
                target: head.uri.to_string(),
                method: head.method.to_string(),
                headers: head.headers,
                body,
                client_certificate,
            };
            match log.record(received) {
                Reply::Write(text) => {
                    let status = text.split(' ').nth(1).unwrap().parse::<u16>().unwrap();
                    let mut answer = http::Response::new(Full::<Bytes>::default());
                    *answer.status_mut() = status.try_into().unwrap();
                    Ok(answer)
                }
                Reply::Silence => std::future::pending().await,
                // hyper ends the stream with an error, and we the connection.
                _ => Err("hang up"),
            }
        }
    });
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), answer);
    serving.await.ok();
}

/// An authority that hands out certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key in PEM.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// For a receiver of that name, which asks for our certificates if `mutual`.
    pub(crate) fn server(&self, name: &str, alpn: &[&str], mutual: bool) -> ServerConfig {
        use rustls_pki_types::pem::PemObject;
        let (certificate, key) = self.issue(name);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(self.der.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}
