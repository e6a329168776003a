//! What the process says about itself: logs, metrics, health and readiness.
//!
//! The registry belongs to one gateway, not to the process: two gateways run in one test process.

mod lanes;
pub mod logs;
pub mod readiness;
pub mod routes;
mod store;

use std::time::Duration;

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

use self::store::StoreCollector;

/// What became of an event at a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ingested {
    /// In the journal.
    Accepted,
    /// Known already.
    Duplicate,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    outcome: &'static str,
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

/// The metrics of one gateway.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    ingested: Family<IngestLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    attempt_seconds: Histogram,
    /// Deliveries given up.
    pub dead: Counter,
    /// Events a filter or dialect left out, or that were too old to matter.
    pub skipped: Counter,
    lanes: Family<HealthLabels, Gauge>,
    /// Sends whose settlement is not durable yet.
    pub in_flight: Gauge,
    /// Connections open on the listener.
    pub connections: Gauge,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    disk: DiskGauges,
}

#[derive(Debug, Default)]
struct DiskGauges {
    database: Gauge,
    wal: Gauge,
    blobs: Gauge,
    free: Gauge,
}

/// From a quarter of a millisecond, doubling, to 65 s.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 19))
}

impl Telemetry {
    /// Metrics of a gateway on `store`.
    pub fn new(store: &Store) -> Self {
        let mut registry = Registry::with_prefix("zapbus");
        let ingested = Family::default();
        registry.register(
            "ingest_events",
            "Events offered to sources, by result",
            ingested.clone(),
        );
        let attempts = Family::default();
        registry.register("attempts", "Delivery attempts finished, by outcome", attempts.clone());
        let attempt_seconds = latency_histogram();
        registry.register(
            "attempt_seconds",
            "Seconds from the first byte sent to the last byte read",
            attempt_seconds.clone(),
        );
        let dead = Counter::default();
        registry.register("dead_letters", "Deliveries given up", dead.clone());
        let skipped = Counter::default();
        registry.register("skipped_events", "Events passed over by lanes", skipped.clone());
        let lanes = Family::default();
        registry.register("lanes", "Lanes by health", lanes.clone());
        let in_flight = Gauge::default();
        registry.register(
            "in_flight",
            "Sends whose settlement is not durable yet",
            in_flight.clone(),
        );
        let connections = Gauge::default();
        registry.register("http_connections", "Open inbound connections", connections.clone());
        let requests = Family::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        let request_seconds: Family<RouteLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(latency_histogram);
        registry.register(
            "http_request_seconds",
            "Seconds until the answer's headers were ready",
            request_seconds.clone(),
        );
        let disk = DiskGauges::default();
        registry.register("store_database_bytes", "Size of the database", disk.database.clone());
        registry.register("store_wal_bytes", "Size of the write-ahead log", disk.wal.clone());
        registry.register("store_blob_bytes", "Size of the blob folder", disk.blobs.clone());
        registry.register(
            "store_disk_free_bytes",
            "Free disk of the data folder",
            disk.free.clone(),
        );
        registry.register_collector(Box::new(StoreCollector::new(store.metrics())));
        Self {
            registry,
            ingested,
            attempts,
            attempt_seconds,
            dead,
            skipped,
            lanes,
            in_flight,
            connections,
            requests,
            request_seconds,
            disk,
        }
    }

    /// Counts events of one source.
    pub fn ingested(&self, source: SourceKind, result: Ingested, events: u64) {
        let labels = IngestLabels { source: source.as_str(), result: result.as_str() };
        self.ingested.get_or_create(&labels).inc_by(events);
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
            (&self.disk.wal, sizes.wal),
            (&self.disk.blobs, sizes.blobs),
            (&self.disk.free, sizes.free),
        ] {
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Everything, in OpenMetrics text.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
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
