//! `zapbus listen`: brings events to a server on this machine, without a public address.

use std::{
    collections::{HashSet, VecDeque},
    future::Future,
    io::Write,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use zapbus_channel::signature::{Secret, Signer, sign};

use super::{
    Exit, Failure,
    client::{Call, Connection},
    instance::text_or_file,
    live::{Backoff, Heard, Live},
    signals::Signals,
};

/// How long the local server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Flags of `listen`.
#[derive(Debug, Args)]
pub(super) struct Listen {
    /// The instance, by id or name [default: all that the token reaches].
    instance: Option<String>,
    /// Where to post events, for example http://localhost:3000/hook.
    #[arg(long, value_name = "URL")]
    forward_to: url::Url,
    /// Only these types, for example message.* [default: all].
    #[arg(long, value_delimiter = ',', value_name = "TYPES")]
    types: Vec<String>,
    /// The name under which the gateway remembers what was brought: after a pause it goes on there.
    #[arg(long, value_name = "NAME", default_value = "zapbus-listen")]
    name: String,
    /// For a name that is new: from after this event id or cursor, or a time [default: from now on].
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    /// Sign as a webhook is signed, with this whsec_… secret, or @FILE that holds it.
    #[arg(long, value_name = "SECRET", value_parser = text_or_file)]
    secret: Option<String>,
    /// Stop after so many events were taken.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// An event on its way to the local server.
struct Event {
    id: String,
    kind: String,
    body: Bytes,
}

/// What the local server said.
enum Answer {
    Status(StatusCode),
    /// It is not there.
    Away(String),
}

/// An event on its way, what became of it, and how long that took.
type Sending = Pin<Box<dyn Future<Output = (Event, Answer, Duration)> + Send>>;

type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

impl Listen {
    pub(super) fn run(
        self,
        connection: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let wrong = |message: String| Failure::new(Exit::Usage, message);
        if !matches!(self.forward_to.scheme(), "http" | "https") {
            return Err(wrong("--forward-to: expected http:// or https://".to_owned()));
        }
        let signer = match &self.secret {
            Some(text) => {
                let secret: Secret =
                    text.trim().parse().map_err(|error| wrong(format!("--secret: {error}")))?;
                Some(secret.signer())
            }
            None => None,
        };
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| wrong(format!("no trusted certificates: {error}")))?
            .https_or_http()
            .enable_http1()
            .build();
        let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
        let mut forward =
            Forward { target: self.forward_to.clone(), client, signer, left: self.count };
        super::runtime()?.block_on(self.follow(connection, &mut forward, out, err))
    }

    async fn follow(
        &self,
        connection: &Connection,
        forward: &mut Forward,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let signals = Signals::watch()?;
        let mut backoff = Backoff::new();
        let mut connected = false;
        loop {
            let opened = tokio::select! {
                opened = Live::open(connection, self.call()) => opened,
                () = signals.first.cancelled() => return Ok(()),
            };
            let ended = match opened {
                Ok(mut live) => {
                    if !connected {
                        writeln!(err, "forwarding to {}: Ctrl-C ends it", self.forward_to)?;
                    }
                    connected = true;
                    backoff.reset();
                    let ended = tokio::select! {
                        ended = forward.pump(&mut live, out, err) => ended?,
                        () = signals.first.cancelled() => None,
                    };
                    let Some(reason) = ended else {
                        live.close().await;
                        return Ok(());
                    };
                    reason
                }
                // Only what was reached once is waited for.
                Err(failure) if connected && failure.exit == Exit::Unreachable => failure.message,
                Err(failure) => return Err(failure),
            };
            writeln!(err, "zapbus: {ended}; connecting again")?;
            tokio::select! {
                () = backoff.wait() => {}
                () = signals.first.cancelled() => return Ok(()),
            }
        }
    }

    fn call(&self) -> Call {
        let path: &[&str] = match &self.instance {
            Some(instance) => &["v1", "instances", instance, "stream"],
            None => &["v1", "stream"],
        };
        let mut call = Call::get(path).query("subscriber", &*self.name).query("ack", "explicit");
        if !self.types.is_empty() {
            call = call.query("types", self.types.join(","));
        }
        if let Some(after) = &self.after {
            call = call.query("after", after.as_str());
        }
        call
    }
}

/// Brings events to the local server, one after the other.
struct Forward {
    target: url::Url,
    client: Client,
    signer: Option<Signer>,
    left: Option<u64>,
}

impl Forward {
    /// Until the connection ends (why), or all that was asked for is done (nothing).
    async fn pump(
        &mut self,
        live: &mut Live,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Option<String>, Failure> {
        let mut waiting: VecDeque<Event> = VecDeque::new();
        // The gateway sends again what takes long; it is here already.
        let mut known: HashSet<String> = HashSet::new();
        let mut sending: Option<Sending> = None;
        let mut away = Backoff::new();
        let mut complained = false;
        loop {
            if sending.is_none()
                && let Some(event) = waiting.pop_front()
            {
                sending = Some(Box::pin(self.post(event)));
            }
            let done = async {
                match &mut sending {
                    Some(sending) => sending.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = live.next() => match heard {
                    Heard::Ended(reason) => return Ok(Some(reason)),
                    Heard::Document(text, document) => {
                        let name = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
                        let (id, kind) = (name("id"), name("type"));
                        if kind == "stream.dead" {
                            writeln!(err, "zapbus: {id} was refused too often and is not sent again")?;
                        }
                        if !kind.starts_with("stream.") && known.insert(id.clone()) {
                            waiting.push_back(Event { id, kind, body: text.into() });
                        }
                    }
                },
                (event, answer, took) = done => {
                    sending = None;
                    match answer {
                        Answer::Away(reason) => {
                            if !complained {
                                writeln!(err, "zapbus: {}: {reason}; trying again", self.target)?;
                            }
                            complained = true;
                            waiting.push_front(event);
                            // Nothing is lost meanwhile: events wait at the gateway.
                            away.wait().await;
                        }
                        Answer::Status(status) => {
                            complained = false;
                            away.reset();
                            known.remove(&event.id);
                            writeln!(out, "{}  {:<24}  {}  {} ms", status.as_u16(), event.kind, event.id, took.as_millis())?;
                            out.flush()?;
                            if status.is_success() {
                                live.acknowledge(&event.id).await;
                                self.left = self.left.map(|left| left.saturating_sub(1));
                            }
                            if self.left == Some(0) {
                                return Ok(None);
                            }
                        }
                    }
                }
            }
        }
    }

    fn post(&self, event: Event) -> impl Future<Output = (Event, Answer, Duration)> + Send + use<> {
        let now = crate::clock::system()().as_secs();
        let mut request = Request::new(Full::from(event.body.clone()));
        *request.method_mut() = Method::POST;
        // A URL is a URI: both are ASCII by now.
        if let Ok(uri) = self.target.as_str().parse() {
            *request.uri_mut() = uri;
        }
        let at = now.to_string();
        let signature = self
            .signer
            .as_ref()
            .map(|signer| sign([signer], event.id.as_bytes(), at.as_bytes(), &event.body));
        let agent = concat!("zapbus-cli/", env!("CARGO_PKG_VERSION")).to_owned();
        for (name, value) in [
            (header::CONTENT_TYPE, Some("application/json".to_owned())),
            (header::USER_AGENT, Some(agent)),
            (header::HeaderName::from_static("webhook-id"), Some(event.id.clone())),
            (header::HeaderName::from_static("webhook-timestamp"), Some(at)),
            (header::HeaderName::from_static("webhook-signature"), signature),
        ] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                request.headers_mut().insert(name, value);
            }
        }
        let client = self.client.clone();
        async move {
            let began = Instant::now();
            let answer = tokio::time::timeout(PATIENCE, async {
                let response = client.request(request).await.map_err(|error| reason(&error))?;
                let status = response.status();
                // Read, so that the connection can be used again; what it says is of no use here.
                let _ = response.into_body().collect().await;
                Ok::<_, String>(status)
            });
            let answer = match answer.await {
                Ok(Ok(status)) => Answer::Status(status),
                Ok(Err(reason)) => Answer::Away(reason),
                Err(_) => Answer::Away("no answer within half a minute".to_owned()),
            };
            (event, answer, began.elapsed())
        }
    }
}

/// The innermost cause says what a person needs to know.
fn reason(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
