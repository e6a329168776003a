//! What the process says about itself: logs, metrics, health and readiness.
//!
//! The registry belongs to one gateway, not to the process: two gateways run in one test process.

mod cluster;
mod config;
pub mod exposition;
pub mod lag;
mod lanes;
pub mod logs;
mod process;
pub mod readiness;
mod realtime;
pub mod routes;
mod spans;
mod store;

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use zapbus_event::SourceKind;
use zapbus_store::{Sizes, Store};

use self::{
    cluster::ClusterCollector, lag::Board, process::Process, spans::Spans, store::StoreCollector,
};
pub use self::{config::Config, lanes::Meter, realtime::Realtime};

use crate::traces::Counts;

/// What became of an event at a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ingested {
    /// In the journal.
    Accepted,
    /// Known already.
    Duplicate,
    /// Of a sort that its instance does not take.
    Ignored,
    /// Wrong in itself (bad signature, malformed, too large).
    Refused,
    /// Not taken: the append queue is full.
    Busy,
    /// Not taken: the store cannot write.
    Unavailable,
}

impl Ingested {
    /// Its name as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IngestLabels {
    source: &'static str,
    result: &'static str,
}

/// What became of a try to fetch a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FetchResult {
    /// It is here.
    Fetched,
    /// It is tried again.
    Failed,
    /// It is not tried again.
    GivenUp,
}

impl FetchResult {
    /// All of them.
    const ALL: [Self; 3] = [Self::Fetched, Self::Failed, Self::GivenUp];

    /// Its name as a label.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    channel: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelLabels {
    channel: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabels {
    protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealthLabels {
    health: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

/// A histogram for each set of labels.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of one gateway.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    /// Those whose names are not ours.
    common: Registry,
    ingested: Family<IngestLabels, Counter>,
    fetched: Family<FetchLabels, Counter>,
    append_seconds: Histogram,
    attempts: Family<AttemptLabels, Counter>,
    attempt_seconds: Histograms<ChannelLabels>,
    delivery_seconds: Histograms<ChannelLabels>,
    /// Deliveries given up.
    pub dead: Counter,
    /// Events for which a dialect had no word.
    pub skipped: Counter,
    board: Board,
    /// Sends whose settlement is not durable yet.
    pub in_flight: Gauge,
    /// Bytes of events that lanes have read and not sent yet.
    pub read_ahead: Gauge,
    /// Connections open on the listener.
    pub connections: Gauge,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histograms<RouteLabels>,
    realtime: RealtimeFamilies,
    disk: DiskGauges,
    ready: Gauge,
    /// What became of spans.
    pub spans: Arc<Counts>,
}

/// Of live connections, by protocol.
#[derive(Debug, Default)]
struct RealtimeFamilies {
    connections: Family<ProtocolLabels, Gauge>,
    frames: Family<ProtocolLabels, Counter>,
    unacked: Family<ProtocolLabels, Gauge>,
    behind: Family<ProtocolLabels, Gauge>,
    redelivered: Family<ProtocolLabels, Counter>,
    dead: Family<ProtocolLabels, Counter>,
    gaps: Family<ProtocolLabels, Counter>,
    ignored: Family<ProtocolLabels, Counter>,
    unknown_cursors: Family<ProtocolLabels, Counter>,
}

#[derive(Debug, Default)]
struct DiskGauges {
    database: Gauge,
    used: Gauge,
    wal: Gauge,
    blobs: Gauge,
    free: Gauge,
}

/// From a quarter of a millisecond, doubling, to 65 s.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 19))
}

/// From a millisecond, doubling, to a little more than two hours.
fn delivery_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 24))
}

impl Telemetry {
    /// Metrics of a gateway on `store`.
    pub fn new(store: &Store) -> Self {
        let telemetry = Self {
            registry: Registry::with_prefix("zapbus"),
            common: Registry::default(),
            ingested: Family::default(),
            fetched: Family::default(),
            append_seconds: latency_histogram(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(latency_histogram),
            delivery_seconds: Family::new_with_constructor(delivery_histogram),
            dead: Counter::default(),
            skipped: Counter::default(),
            board: Board::default(),
            in_flight: Gauge::default(),
            read_ahead: Gauge::default(),
            connections: Gauge::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(latency_histogram),
            realtime: RealtimeFamilies::default(),
            disk: DiskGauges::default(),
            ready: Gauge::default(),
            spans: Arc::default(),
        };
        telemetry.registered(store)
    }

    fn registered(mut self, store: &Store) -> Self {
        let all = &mut self.registry;
        let build: Family<BuildLabels, Gauge> = Family::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        all.register("build_info", "The version that runs; always 1", build);
        all.register("ready", "1 when traffic is taken, as /readyz says", self.ready.clone());
        all.register(
            "ingest_events",
            "Events offered to sources, by result",
            self.ingested.clone(),
        );
        for result in FetchResult::ALL {
            drop(self.fetched.get_or_create(&FetchLabels { result: result.as_str() }));
        }
        all.register(
            "media_fetches",
            "Tries to fetch files that events only name, by result",
            self.fetched.clone(),
        );
        all.register(
            "append_seconds",
            "Seconds from offering events to the journal until they are durable",
            self.append_seconds.clone(),
        );
        all.register("attempts", "Delivery attempts finished, by outcome", self.attempts.clone());
        all.register(
            "attempt_seconds",
            "Seconds from the first byte sent to the last byte read",
            self.attempt_seconds.clone(),
        );
        all.register(
            "delivery_seconds",
            "Seconds from an event's acceptance to its live delivery, retries included",
            self.delivery_seconds.clone(),
        );
        all.register("dead_letters", "Deliveries given up", self.dead.clone());
        all.register(
            "skipped_events",
            "Events passed over because a dialect has no word for them",
            self.skipped.clone(),
        );
        all.register(
            "in_flight",
            "Sends whose settlement is not durable yet",
            self.in_flight.clone(),
        );
        all.register(
            "read_ahead_used_bytes",
            "Bytes of events that lanes have read and not sent",
            self.read_ahead.clone(),
        );
        all.register("http_connections", "Open inbound connections", self.connections.clone());
        all.register("http_requests", "Requests answered", self.requests.clone());
        all.register(
            "http_request_seconds",
            "Seconds until the answer's headers were ready",
            self.request_seconds.clone(),
        );
        for protocol in ["websocket", "sse"] {
            self.figures_of(protocol);
        }
        // Nobody else lets in whoever shows such a one.
        drop(self.realtime.unknown_cursors.get_or_create(&ProtocolLabels { protocol: "vzaps" }));
        let all = &mut self.registry;
        let realtime = &self.realtime;
        for (name, help, gauge) in [
            ("realtime_connections", "Live connections open", &realtime.connections),
            (
                "realtime_unacked",
                "Events sent to live connections and not acknowledged",
                &realtime.unacked,
            ),
            (
                "realtime_behind",
                "Live connections that have not been sent all there is",
                &realtime.behind,
            ),
        ] {
            all.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            ("realtime_frames", "Frames sent to live connections", &realtime.frames),
            (
                "realtime_redelivered",
                "Events sent again because they were not acknowledged",
                &realtime.redelivered,
            ),
            (
                "realtime_dead",
                "Events given up for a subscriber, however often they were sent",
                &realtime.dead,
            ),
            (
                "realtime_gaps",
                "Times that a subscription had missed events past their retention",
                &realtime.gaps,
            ),
            (
                "realtime_ignored_messages",
                "Messages of clients that changed nothing",
                &realtime.ignored,
            ),
            (
                "realtime_unknown_cursors",
                "Connections begun with a cursor that leads to no stored event",
                &realtime.unknown_cursors,
            ),
        ] {
            all.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            ("store_database_bytes", "Size of the database file", &self.disk.database),
            ("store_used_bytes", "What of the database file holds data", &self.disk.used),
            ("store_wal_bytes", "Size of the write-ahead log", &self.disk.wal),
            ("store_blob_bytes", "Size of the blob folder", &self.disk.blobs),
            ("store_disk_free_bytes", "Free disk of the data folder", &self.disk.free),
        ] {
            all.register(name, help, gauge.clone());
        }
        all.register_collector(Box::new(self.board.clone()));
        all.register_collector(Box::new(StoreCollector::new(store.metrics())));
        all.register_collector(Box::new(ClusterCollector::new(store.clone())));
        all.register_collector(Box::new(Spans(Arc::clone(&self.spans))));
        self.common.register_collector(Box::new(Process::new()));
        self
    }

    /// Counts events of one source.
    pub fn ingested(&self, source: SourceKind, result: Ingested, events: u64) {
        let labels = IngestLabels { source: source.as_str(), result: result.as_str() };
        self.ingested.get_or_create(&labels).inc_by(events);
    }

    /// Counts a try to fetch a file.
    pub fn fetched(&self, result: FetchResult) {
        self.fetched.get_or_create(&FetchLabels { result: result.as_str() }).inc();
    }

    /// Takes how long an append took to be durable.
    pub fn appended(&self, took: Duration) {
        self.append_seconds.observe(took.as_secs_f64());
    }

    /// Counts a request; `route` is the template, never the path.
    pub fn answered(&self, method: &http::Method, route: &str, status: u16, took: Duration) {
        let method = method_label(method);
        let route = route.to_owned();
        self.request_seconds
            .get_or_create(&RouteLabels { method, route: route.clone() })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    }

    /// Takes the latest sizes of the data folder.
    pub fn measured(&self, sizes: &Sizes) {
        for (gauge, bytes) in [
            (&self.disk.database, sizes.database),
            (&self.disk.used, sizes.used),
            (&self.disk.wal, sizes.wal),
            (&self.disk.blobs, sizes.blobs),
            (&self.disk.free, sizes.free),
        ] {
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// How old the oldest event is that destinations of this node still have to get, when it was
    /// last measured.
    pub fn worst_lag(&self) -> Option<Duration> {
        self.board.worst()
    }

    /// Takes what readiness says.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    /// Everything, in OpenMetrics text.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        text::encode_registry(&mut text, &self.common)?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }
}

/// Methods are a closed set here, so that a caller cannot make series.
fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
