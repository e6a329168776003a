//! Sends spans to a collector, beside everything else: what goes wrong here is counted and told
//! once, and nobody waits for it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{BUFFERED, Config, Counts, Span, Tracer, otlp};

/// Spans of one request, and how long they may wait for others.
const BATCH: usize = 512;
const GATHER: Duration = Duration::from_secs(1);

/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pauses before a batch is sent again that the collector could not take.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// How long the last spans may take when the gateway stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Bytes of a collector's answer that are read.
const ANSWER: usize = 16 << 10;

/// Sends what a [`Tracer`] records.
#[derive(Debug)]
pub(crate) struct Exporter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Link {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    target: Url,
    headers: HeaderMap,
    service_name: String,
    counts: Arc<Counts>,
    stop: CancellationToken,
    /// That the collector takes nothing has been told.
    troubled: bool,
}

/// Why a batch was not taken.
struct Failure {
    reason: String,
    /// The same batch may be taken later.
    passing: bool,
}

impl Exporter {
    /// Starts sending; `None` when no collector is configured.
    ///
    /// # Errors
    ///
    /// When the configuration, which was checked before, cannot be used.
    pub(crate) fn start(
        config: &Config,
        counts: &Arc<Counts>,
    ) -> Result<Option<(Tracer, Self)>, String> {
        let Some(target) = config.target()? else { return Ok(None) };
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| format!("no trusted certificates: {error}"))?
            .https_or_http()
            .enable_http1()
            .build();
        let mut headers = config.header_map()?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (sender, spans) = mpsc::channel(BUFFERED);
        let stop = CancellationToken::new();
        let link = Link {
            client: Client::builder(TokioExecutor::new()).build(connector),
            target,
            headers,
            service_name: config.service_name.clone(),
            counts: Arc::clone(counts),
            stop: stop.clone(),
            troubled: false,
        };
        let tracer = Tracer::new(sender, config.sample_ratio, Arc::clone(counts));
        Ok(Some((tracer, Self { stop, task: tokio::spawn(link.run(spans)) })))
    }

    /// Sends what there is, for a moment, and ends.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if timeout(FAREWELL, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Link {
    async fn run(mut self, mut spans: mpsc::Receiver<Span>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let stopping = self.stop.is_cancelled();
            if stopping {
                while batch.len() < BATCH
                    && let Ok(span) = spans.try_recv()
                {
                    batch.push(span);
                }
                if batch.is_empty() {
                    return;
                }
            } else {
                tokio::select! {
                    received = spans.recv_many(&mut batch, BATCH) => {
                        if received == 0 {
                            return;
                        }
                    }
                    () = self.stop.cancelled() => continue,
                }
                self.gather(&mut spans, &mut batch).await;
            }
            self.deliver(&batch).await;
            batch.clear();
        }
    }

    /// Waits a little for more spans to share the request.
    async fn gather(&self, spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                received = timeout_at(until, spans.recv_many(batch, room)) => {
                    if !received.is_ok_and(|received| received > 0) {
                        return;
                    }
                }
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn deliver(&mut self, batch: &[Span]) {
        let body = Bytes::from(otlp::request(&self.service_name, batch).to_string());
        let mut pauses = PAUSES.iter();
        let spans = batch.len() as u64;
        let failure = loop {
            let Err(failure) = self.post(body.clone()).await else {
                self.counts.exported.fetch_add(spans, Ordering::Relaxed);
                if std::mem::take(&mut self.troubled) {
                    tracing::info!(
                        event = "traces.export_resumed",
                        "the collector takes spans again"
                    );
                }
                return;
            };
            let pause = pauses.next().filter(|_| failure.passing && !self.stop.is_cancelled());
            let Some(pause) = pause else { break failure };
            tokio::select! {
                () = sleep(*pause) => {}
                () = self.stop.cancelled() => {}
            }
        };
        self.counts.dropped.fetch_add(spans, Ordering::Relaxed);
        if !std::mem::replace(&mut self.troubled, true) {
            tracing::warn!(
                event = "traces.export_failed",
                error = failure.reason,
                spans,
                "the collector takes no spans: they are dropped until it does; see traces.endpoint"
            );
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), Failure> {
        let passing = |reason: String| Failure { reason, passing: true };
        let mut request = Request::post(self.target.as_str())
            .body(Full::new(body))
            .map_err(|error| Failure { reason: error.to_string(), passing: false })?;
        *request.headers_mut() = self.headers.clone();
        let exchange = async {
            let response =
                self.client.request(request).await.map_err(|error| passing(error.to_string()))?;
            let status = response.status();
            // Read to its end, so that the connection can be used again.
            let read = Limited::new(response.into_body(), ANSWER).collect().await;
            read.map_err(|error| passing(error.to_string()))?;
            Ok(status)
        };
        let status = timeout(PATIENCE, exchange)
            .await
            .unwrap_or_else(|_| Err(passing(format!("no answer within {PATIENCE:?}"))))?;
        if status.is_success() {
            return Ok(());
        }
        let again = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        Err(Failure { reason: format!("answered {status}"), passing: again.contains(&status) })
    }
}
