//! The door to the journal for everything that brings events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use zapbus_event::{Kind, Raw, SourceKind, Timestamp};
use zapbus_store::{Append, AppendError, Appended, Clock, NewEvent, Store};

use crate::{
    telemetry::{Ingested, Telemetry},
    traces::{Accepted, Course, Tracer},
};

/// Appends events and counts what became of them. Group commit and its bounds are the store's.
#[derive(Clone)]
pub struct Ingest {
    store: Store,
    telemetry: Arc<Telemetry>,
    tracer: Option<(Tracer, Clock)>,
    /// Bytes of events that wait to be durable, and what the store lets wait.
    waiting: Arc<AtomicUsize>,
    bound: usize,
}

impl Ingest {
    /// In front of `store`, which lets so many bytes wait for the disk.
    pub fn new(store: Store, telemetry: Arc<Telemetry>, bound: usize) -> Self {
        Self { store, telemetry, tracer: None, waiting: Arc::default(), bound }
    }

    /// Records spans of what is appended.
    pub fn traced(mut self, tracer: Tracer, clock: Clock) -> Self {
        self.tracer = Some((tracer, clock));
        self
    }

    /// So much waits for the disk that hardly anything more is taken.
    pub fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > self.bound / 8 * 7
    }

    /// Returns once the events are durable; whoever brought them may be answered then, and not
    /// before.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]; nothing of the append is stored then.
    pub async fn append(&self, append: Append) -> Result<Vec<Appended>, AppendError> {
        self.append_since(Instant::now(), append).await
    }

    /// [`Self::append`] of what was there, whole but not yet decoded, at `began`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::append`].
    pub async fn append_since(
        &self,
        began: Instant,
        append: Append,
    ) -> Result<Vec<Appended>, AppendError> {
        let Some(source) = append.events.first().map(|event| event.draft.source.kind) else {
            return Ok(Vec::new());
        };
        let count = append.events.len() as u64;
        let waits = Waits::new(&self.waiting, &append);
        let kinds = self.tracer.as_ref().map(|_| kinds(&append));
        let offered = Instant::now();
        let result = self.store.append(append).await;
        drop(waits);
        match &result {
            Ok(appended) => {
                let durable = Instant::now();
                self.telemetry.appended(durable.duration_since(offered));
                if let Some(((tracer, clock), kinds)) = self.tracer.as_ref().zip(kinds) {
                    let course = Course { began, offered, durable };
                    record(tracer, course, clock(), source, &kinds, appended);
                }
                let duplicates = appended.iter().filter(|event| event.duplicate).count() as u64;
                self.telemetry.ingested(source, Ingested::Accepted, count - duplicates);
                if duplicates > 0 {
                    self.telemetry.ingested(source, Ingested::Duplicate, duplicates);
                }
            }
            Err(error) => {
                let outcome = match error {
                    AppendError::Busy { .. } => Ingested::Busy,
                    AppendError::Unavailable { .. } => Ingested::Unavailable,
                    AppendError::UnknownInstance { .. } | AppendError::Data { .. } => {
                        Ingested::Refused
                    }
                };
                self.telemetry.ingested(source, outcome, count);
            }
        }
        result
    }
}

fn kinds(append: &Append) -> Vec<Kind> {
    append.events.iter().map(|event| event.draft.kind).collect()
}

/// A repeat is not another event: its trace is the first one's.
fn record(
    tracer: &Tracer,
    course: Course,
    now: Timestamp,
    source: SourceKind,
    kinds: &[Kind],
    appended: &[Appended],
) {
    for (event, kind) in appended.iter().zip(kinds) {
        if !event.duplicate && tracer.traces(event.id) {
            tracer.accepted(&Accepted { id: event.id, kind: *kind, source }, course, now);
        }
    }
}

/// Bytes that wait to be durable, for as long as whoever brought them waits too.
struct Waits<'a> {
    waiting: &'a AtomicUsize,
    bytes: usize,
}

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize, append: &Append) -> Self {
        let weight = |event: &NewEvent| match &event.draft.raw {
            Raw::Data => event.draft.data.len(),
            Raw::Bytes(raw) => event.draft.data.len() + raw.len(),
        };
        let bytes = append.events.iter().map(weight).sum();
        waiting.fetch_add(bytes, Ordering::Relaxed);
        Self { waiting, bytes }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
