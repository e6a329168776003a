//! Traces: one event from its source to every destination, sent to a collector by OTLP over HTTP.
//!
//! Nothing about a trace is stored. Its id is the event's id, and the ids of its spans follow from
//! that, so that a retry days later, on a gateway that was restarted since, is in the trace of its
//! event. Whether an event is traced follows from its id too.
//!
//! Off by default, and then nothing here is called on the way of an event.

mod config;
mod export;
mod otlp;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use zapbus_channel::{Outcome, Report};
use zapbus_event::{DestinationId, EventId, Kind, SourceKind, Timestamp};

pub use self::config::Config;
pub(crate) use self::export::Exporter;

/// Spans that wait to be sent; further ones are dropped.
const BUFFERED: usize = 4_096;

/// What became of spans, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counts {
    /// Taken by the collector.
    pub exported: AtomicU64,
    /// Lost: the buffer was full, or the collector did not take them.
    pub dropped: AtomicU64,
}

/// Records spans of those events that are traced. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracer {
    spans: mpsc::Sender<Span>,
    threshold: u64,
    counts: Arc<Counts>,
}

/// A trace's id: the event's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId([u8; 16]);

/// Of one span of a trace. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanId([u8; 8]);

/// The parts of an event's way that have a span of their own.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// From the request to its answer.
    Ingest,
    /// Reading what the source sent.
    Decode,
    /// Until it is on disk.
    Append,
}

/// The value of an attribute.
#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Number(i64),
}

/// What OTLP calls the kind of a span.
#[derive(Debug, Clone, Copy)]
enum Role {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// One finished span.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    trace: TraceId,
    id: SpanId,
    parent: Option<SpanId>,
    name: &'static str,
    role: Role,
    started: Timestamp,
    took: Duration,
    attributes: Vec<(&'static str, Value)>,
    error: Option<String>,
}

/// An event that was accepted, as its trace shows it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) id: EventId,
    pub(crate) kind: Kind,
    pub(crate) source: SourceKind,
}

/// When what happened on an event's way into the journal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// The request was there, whole.
    pub(crate) began: Instant,
    /// It was offered to the journal.
    pub(crate) offered: Instant,
    /// It was on disk.
    pub(crate) durable: Instant,
}

/// One attempt, as its trace shows it.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) event: EventId,
    pub(crate) kind: Kind,
    pub(crate) destination: DestinationId,
    pub(crate) dialect: &'static str,
    pub(crate) channel: &'static str,
    pub(crate) run: u32,
    pub(crate) number: u32,
    pub(crate) probe: bool,
    pub(crate) started: Timestamp,
    pub(crate) took: Duration,
    /// `Err`: it was not sent, for this reason.
    pub(crate) result: Result<&'a Report, &'a str>,
}

/// The span of an attempt that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Underway {
    trace: TraceId,
    id: SpanId,
}

impl Underway {
    /// The header that tells the receiver where its own spans belong.
    pub(crate) fn traceparent(self) -> String {
        format!("00-{}-{}-01", hex::encode(self.trace.0), hex::encode(self.id.0))
    }
}

impl Tracer {
    fn new(spans: mpsc::Sender<Span>, ratio: f64, counts: Arc<Counts>) -> Self {
        // The low 56 bits of a trace id are random, and others who sample by them agree with us.
        let threshold = (ratio * (1_u64 << 56) as f64) as u64;
        Self { spans, threshold, counts }
    }

    /// Whether this event is traced.
    pub(crate) fn traces(&self, event: EventId) -> bool {
        let [.., a, b, c, d, e, f, g] = event.to_bytes();
        u64::from_be_bytes([0, a, b, c, d, e, f, g]) < self.threshold
    }

    /// Records how an event came in. `now` is the time of `course.durable`.
    pub(crate) fn accepted(&self, event: &Accepted, course: Course, now: Timestamp) {
        let trace = TraceId(event.id.to_bytes());
        let root = SpanId::of(event.id, Step::Ingest as u64, 0);
        let at = |instant: Instant| now - course.durable.saturating_duration_since(instant);
        let child = |step: Step, name, from: Instant, to: Instant| Span {
            trace,
            id: SpanId::of(event.id, step as u64, 0),
            parent: Some(root),
            name,
            role: Role::Internal,
            started: at(from),
            took: to.saturating_duration_since(from),
            attributes: Vec::new(),
            error: None,
        };
        self.record(Span {
            trace,
            id: root,
            parent: None,
            name: "zapbus.ingest",
            role: Role::Server,
            started: at(course.began),
            took: course.durable.saturating_duration_since(course.began),
            attributes: vec![
                ("zapbus.event.id", Value::Text(event.id.to_string())),
                ("zapbus.event.type", Value::Text(event.kind.to_string())),
                ("zapbus.source", Value::Text(event.source.as_str().to_owned())),
            ],
            error: None,
        });
        if course.offered > course.began {
            self.record(child(Step::Decode, "zapbus.decode", course.began, course.offered));
        }
        self.record(child(Step::Append, "zapbus.append", course.offered, course.durable));
    }

    /// The span of an attempt that begins, if its event is traced.
    pub(crate) fn begin(
        &self,
        event: EventId,
        destination: DestinationId,
        run: u32,
        started: Timestamp,
    ) -> Option<Underway> {
        // An attempt is told from others of its event by where it goes and when it starts.
        let to = u128::from_be_bytes(destination.to_bytes());
        let salt = mix((to >> 64) as u64) ^ mix(to as u64).rotate_left(1) ^ u64::from(run);
        self.traces(event).then(|| Underway {
            trace: TraceId(event.to_bytes()),
            id: SpanId::of(event, salt, started.as_millis().cast_unsigned()),
        })
    }

    /// Records an attempt that has finished.
    pub(crate) fn end(&self, span: Underway, attempt: &Attempt<'_>) {
        let mut attributes = vec![
            ("zapbus.event.id", Value::Text(attempt.event.to_string())),
            ("zapbus.event.type", Value::Text(attempt.kind.to_string())),
            ("zapbus.destination.id", Value::Text(attempt.destination.to_string())),
            ("zapbus.dialect", Value::Text(attempt.dialect.to_owned())),
            ("zapbus.channel", Value::Text(attempt.channel.to_owned())),
            ("zapbus.run", Value::Number(attempt.run.into())),
            ("zapbus.attempt", Value::Number(attempt.number.into())),
        ];
        if attempt.probe {
            attributes.push(("zapbus.probe", Value::Number(1)));
        }
        let (outcome, error) = match attempt.result {
            Ok(report) => {
                if let Some(status) = report.status {
                    attributes.push(("http.response.status_code", Value::Number(status.into())));
                }
                let outcome = match report.outcome {
                    Outcome::Accepted => "accepted",
                    Outcome::Retry { .. } => "retry",
                    Outcome::Refused => "refused",
                    Outcome::Gone => "gone",
                    Outcome::Withheld => "not_sent",
                };
                let failed = report.outcome != Outcome::Accepted;
                (outcome, failed.then(|| report.error.clone().unwrap_or_default()))
            }
            Err(reason) => ("not_sent", Some(reason.to_owned())),
        };
        attributes.push(("zapbus.outcome", Value::Text(outcome.to_owned())));
        self.record(Span {
            trace: span.trace,
            id: span.id,
            parent: Some(SpanId::of(attempt.event, Step::Ingest as u64, 0)),
            name: "zapbus.deliver",
            role: Role::Client,
            started: attempt.started,
            took: attempt.took,
            attributes,
            error,
        });
    }

    /// A span that finds no room is lost, and counted: nobody waits for a collector.
    fn record(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SpanId {
    fn of(event: EventId, what: u64, when: u64) -> Self {
        let id = u128::from_be_bytes(event.to_bytes());
        let mixed = mix(mix(mix(id as u64) ^ (id >> 64) as u64 ^ what) ^ when);
        Self(mixed.max(1).to_be_bytes())
    }
}

/// Spreads a number over all of its bits (the last step of SplitMix64).
const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn tracer(ratio: f64) -> Tracer {
        Tracer::new(mpsc::channel(1).0, ratio, Arc::default())
    }

    fn event(n: u64) -> EventId {
        let random = u128::from(mix(n)) << 40 | u128::from(mix(!n) >> 24);
        EventId::new(Timestamp::from_millis(1_767_225_601_000), random)
    }

    #[test]
    fn the_ratio_is_kept_and_everybody_decides_alike() {
        for (ratio, least, most) in [(0.0, 0, 0), (0.25, 2_300, 2_700), (1.0, 10_000, 10_000)] {
            let tracer = tracer(ratio);
            let traced = (0..10_000).filter(|n| tracer.traces(event(*n))).count();
            assert!((least..=most).contains(&traced), "{ratio}: {traced}");
        }
        let (few, many) = (tracer(0.1), tracer(0.5));
        assert!((0..1_000).all(|n| !few.traces(event(n)) || many.traces(event(n))));
    }

    #[test]
    fn spans_of_a_trace_have_ids_of_their_own_that_can_be_found_again() {
        let at = Timestamp::from_millis(1_767_225_602_000);
        let tracer = tracer(1.0);
        let mut seen = HashSet::new();
        for step in [Step::Ingest, Step::Decode, Step::Append] {
            assert!(seen.insert(SpanId::of(event(1), step as u64, 0).0));
        }
        for destination in 0..20 {
            let to = DestinationId::new(at, destination);
            for (run, later) in [(0, 0), (0, 5), (1, 0)] {
                let at = at + Duration::from_secs(later);
                let span = tracer.begin(event(1), to, run, at).unwrap();
                assert!(seen.insert(span.id.0));
                assert_eq!(tracer.begin(event(1), to, run, at).unwrap().id, span.id);
                assert_eq!(span.trace.0, event(1).to_bytes());
                assert_eq!(span.traceparent().len(), 55);
            }
        }
    }
}
