//! A scripted HTTP receiver: records what it gets and answers as it is told, badly too.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test says that it never happened.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One request as it arrived.
#[derive(Clone)]
pub(crate) struct Received {
    /// The how-manieth it was, from 0, over all connections.
    pub(crate) index: usize,
    /// The how-manieth connection brought it, from 0.
    pub(crate) connection: usize,
    /// When its last byte was read.
    pub(crate) at: Instant,
    /// `POST`, mostly.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Names in lower case, in the order of arrival.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, dechunked.
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// `webhook-id`: the event's id (with `.n` for further parts).
    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id").unwrap_or_default()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        let start: String = body.chars().take(200).collect();
        write!(
            f,
            "#{} on connection {}: {} {} {} {start}",
            self.index,
            self.connection,
            self.method,
            self.path,
            self.id()
        )
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    delay: Duration,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Answer { status: u16, headers: Vec<(String, String)>, body: Vec<u8>, every: Option<Duration> },
    Bytes(Vec<u8>),
    Close,
    Reset(Vec<u8>),
    Hang,
}

impl Reply {
    /// An answer with an empty body.
    pub(crate) fn status(status: u16) -> Self {
        let form = Form::Answer { status, headers: Vec::new(), body: Vec::new(), every: None };
        Self { delay: Duration::ZERO, form }
    }

    /// 200.
    pub(crate) fn ok() -> Self {
        Self::status(200)
    }

    /// Bytes that are no HTTP, then the end.
    pub(crate) fn garbage() -> Self {
        Self {
            delay: Duration::ZERO,
            form: Form::Bytes(b"\x16\x03\x01 no http here\r\n\r\n".into()),
        }
    }

    /// Half of an answer, then the end.
    pub(crate) fn cut() -> Self {
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nso far so go";
        Self { delay: Duration::ZERO, form: Form::Bytes(half.into()) }
    }

    /// The connection ends without an answer.
    pub(crate) fn close() -> Self {
        Self { delay: Duration::ZERO, form: Form::Close }
    }

    /// The connection is reset without an answer.
    pub(crate) fn reset() -> Self {
        Self { delay: Duration::ZERO, form: Form::Reset(Vec::new()) }
    }

    /// The connection is reset in the middle of an answer's body.
    pub(crate) fn reset_in_body() -> Self {
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nso far so go";
        Self { delay: Duration::ZERO, form: Form::Reset(half.into()) }
    }

    /// No answer, and the connection stays open.
    pub(crate) fn hang() -> Self {
        Self { delay: Duration::ZERO, form: Form::Hang }
    }

    /// Whether whoever gets it may take it for success: the head of a 2xx, within a second. What
    /// becomes of the body after it does not matter.
    pub(crate) fn is_good(&self) -> bool {
        let answers = match &self.form {
            Form::Answer { status, every, .. } => (200..300).contains(status) && every.is_none(),
            Form::Bytes(bytes) | Form::Reset(bytes) => bytes.starts_with(b"HTTP/1.1 2"),
            Form::Close | Form::Hang => false,
        };
        answers && self.delay < Duration::from_secs(1)
    }

    /// With a header more.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let Form::Answer { headers, .. } = &mut self.form {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// With a body.
    pub(crate) fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Form::Answer { body, .. } = &mut self.form {
            *body = bytes.into();
        }
        self
    }

    /// After a while.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// One byte of the answer at a time.
    pub(crate) fn drip(mut self, pause: Duration) -> Self {
        if let Form::Answer { every, .. } = &mut self.form {
            *every = Some(pause);
        }
        self
    }
}

type Script = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// The receiver. Stops when dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    open: Option<CancellationToken>,
}

struct State {
    script: Mutex<Script>,
    received: watch::Sender<Vec<Received>>,
    /// Requests are kept in `received`, not only counted.
    keeps: bool,
    requests: AtomicUsize,
    connections: AtomicUsize,
}

impl Receiver {
    /// Answers 200 to everything.
    pub(crate) async fn start() -> Self {
        Self::scripted(|_| Reply::ok()).await
    }

    /// Answers what `script` says; [`Received::index`] counts the requests.
    pub(crate) async fn scripted(
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::begin(script, true).await
    }

    /// Keeps nothing: for more requests than memory is worth. What matters is for the script.
    pub(crate) async fn forgetful(
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::begin(script, false).await
    }

    async fn begin(
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
        keeps: bool,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut receiver = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(State {
                script: Mutex::new(Arc::new(script)),
                received: watch::Sender::new(Vec::new()),
                keeps,
                requests: AtomicUsize::new(0),
                connections: AtomicUsize::new(0),
            }),
            open: None,
        };
        receiver.listen(listener);
        receiver
    }

    /// Answers these, one after another; the last one repeats.
    pub(crate) async fn replying(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
        Self::scripted(move |_| {
            let mut replies = replies.lock().unwrap();
            if replies.len() > 1 { replies.pop_front().unwrap() } else { replies[0].clone() }
        })
        .await
    }

    /// `http://127.0.0.1:<port><path>`
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers something else from now on.
    pub(crate) fn script(&self, script: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *self.state.script.lock().unwrap() = Arc::new(script);
    }

    /// Closes the port and every connection: a receiver that is down.
    pub(crate) fn go_down(&mut self) {
        if let Some(open) = self.open.take() {
            open.cancel();
        }
    }

    /// Listens on the same port again.
    pub(crate) async fn come_back(&mut self) {
        self.go_down();
        // The old listener is dropped by its task, which may take a moment.
        let deadline = Instant::now() + PATIENCE;
        let listener = loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            match socket.bind(self.address).and_then(|()| socket.listen(1024)) {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", self.address),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        self.listen(listener);
    }

    /// Everything so far, in the order of arrival.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.borrow().clone()
    }

    /// Waits for `n` requests and returns everything so far.
    pub(crate) async fn wait_for(&self, n: usize) -> Vec<Received> {
        self.wait_until(&format!("{n} requests"), |received| received.len() >= n).await
    }

    /// Waits until `done`; `what` is said when it takes too long.
    pub(crate) async fn wait_until(
        &self,
        what: &str,
        mut done: impl FnMut(&[Received]) -> bool,
    ) -> Vec<Received> {
        let mut changes = self.state.received.subscribe();
        let waited = tokio::time::timeout(PATIENCE, changes.wait_for(|all| done(all))).await;
        if let Ok(Ok(all)) = waited {
            return all.clone();
        }
        let all = self.received();
        let last: Vec<_> = all.iter().rev().take(10).rev().collect();
        panic!(
            "waited {PATIENCE:?} in vain for {what}; {} requests arrived, the last of them: {last:#?}",
            all.len()
        );
    }

    /// Waits a little and fails if more than `n` requests have arrived by then.
    pub(crate) async fn stays_at(&self, n: usize) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let all = self.received();
        assert_eq!(all.len(), n, "{all:#?}");
    }

    fn listen(&mut self, listener: TcpListener) {
        let open = CancellationToken::new();
        self.open = Some(open.clone());
        let state = self.state.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.expect("it can accept"),
                    () = open.cancelled() => return,
                };
                let connection = state.connections.fetch_add(1, Ordering::SeqCst);
                let (state, open) = (state.clone(), open.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, connection, &state) => {}
                        () = open.cancelled() => {}
                    }
                });
            }
        });
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.go_down();
    }
}

async fn serve(stream: TcpStream, connection: usize, state: &State) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream, connection).await {
        let mut request = request;
        if state.keeps {
            state.received.send_modify(|all| {
                request.index = all.len();
                all.push(request.clone());
            });
        } else {
            request.index = state.requests.fetch_add(1, Ordering::SeqCst);
        }
        let script = state.script.lock().unwrap().clone();
        if !answer(&mut stream, script(&request)).await {
            return;
        }
    }
}

/// `None` at the end of the connection.
async fn read_request(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Received> {
    let start = read_line(stream).await?;
    let mut words = start.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header =
        |name: &str| headers.iter().find(|(header, _)| header == name).map(|(_, value)| value);
    let body = if let Some(length) = header("content-length") {
        let mut body = vec![0; length.parse().ok()?];
        stream.read_exact(&mut body).await.ok()?;
        body
    } else if header("transfer-encoding").is_some() {
        read_chunks(stream).await?
    } else {
        Vec::new()
    };
    Some(Received { index: 0, connection, at: Instant::now(), method, path, headers, body })
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

async fn read_chunks(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(read_line(stream).await?.split(';').next()?, 16).ok()?;
        let mut chunk = vec![0; size];
        stream.read_exact(&mut chunk).await.ok()?;
        body.extend(chunk);
        read_line(stream).await?;
        if size == 0 {
            return Some(body);
        }
    }
}

/// Whether the connection goes on.
async fn answer(stream: &mut BufReader<TcpStream>, reply: Reply) -> bool {
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    let stream = stream.get_mut();
    match reply.form {
        Form::Answer { status, headers, body, every } => {
            let mut head =
                format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in &headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            let closes =
                headers.iter().any(|(name, value)| name == "connection" && value == "close");
            let bytes = [head.into_bytes(), body].concat();
            match every {
                None => stream.write_all(&bytes).await.is_ok() && !closes,
                Some(pause) => {
                    for byte in bytes {
                        if stream.write_all(&[byte]).await.is_err() {
                            return false;
                        }
                        tokio::time::sleep(pause).await;
                    }
                    true
                }
            }
        }
        Form::Bytes(bytes) => {
            // The peer may have gone; there is nothing more to say to it anyway.
            let _ = stream.write_all(&bytes).await;
            false
        }
        Form::Close => false,
        Form::Reset(bytes) => {
            // The peer may have gone already.
            let _ = stream.write_all(&bytes).await;
            // Unsent data and no lingering: the peer gets RST.
            stream.set_zero_linger().expect("a socket can be reset");
            false
        }
        Form::Hang => std::future::pending().await,
    }
}
