//! The door to the journal for everything that brings events.

mod ignored;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use zapbus_event::{Kind, Raw, SourceKind, Timestamp};
use zapbus_store::{Append, AppendError, Appended, Clock, NewEvent, Store};

pub use self::ignored::Ignored;
use crate::{
    directory::Directory,
    media::Fetcher,
    telemetry::{Ingested, Telemetry},
    traces::{Accepted, Course, Tracer},
};

/// Appends events and counts what became of them. Group commit and its bounds are the store's.
#[derive(Clone)]
pub struct Ingest {
    store: Store,
    telemetry: Arc<Telemetry>,
    tracer: Option<(Tracer, Clock)>,
    /// Knows what instances do not take.
    directory: Option<Directory>,
    /// Fetches what events only name.
    fetcher: Option<Fetcher>,
    /// Bytes of events that wait to be durable, and what the store lets wait.
    waiting: Arc<AtomicUsize>,
    bound: usize,
}

impl Ingest {
    /// In front of `store`, which lets so many bytes wait for the disk.
    pub fn new(store: Store, telemetry: Arc<Telemetry>, bound: usize) -> Self {
        let waiting = Arc::default();
        let (tracer, directory, fetcher) = (None, None, None);
        Self { store, telemetry, tracer, directory, fetcher, waiting, bound }
    }

    /// Leaves out what instances do not take.
    pub fn heeding(mut self, directory: Directory) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Notes which files are to be fetched.
    pub fn fetching(mut self, fetcher: Fetcher) -> Self {
        self.fetcher = Some(fetcher);
        self
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

    /// Returns once the events are durable that their instances take; whoever brought them may be
    /// answered then, and not before. There are no results for the others.
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
        let append = self.taken(append).await;
        self.append_all_since(began, append).await
    }

    /// What is left of it.
    async fn taken(&self, append: Append) -> Append {
        let Some(directory) = &self.directory else { return append };
        let mut last = None;
        let mut events = Vec::with_capacity(append.events.len());
        for event in append.events {
            let ignored = match last {
                Some((instance, ignored)) if instance == event.instance => ignored,
                _ => match directory.instance(event.instance).await {
                    Ok(Some(known)) => known.ignored,
                    // What is wrong then, the append says.
                    Ok(None) | Err(_) => Ignored::default(),
                },
            };
            last = Some((event.instance, ignored));
            if ignored.takes(&event.draft) {
                events.push(event);
            } else {
                self.telemetry.ingested(event.draft.source.kind, Ingested::Ignored, 1);
            }
        }
        Append { events, ..append }
    }

    /// [`Self::append_since`] for who has asked already what its instance takes: a result for each
    /// event.
    ///
    /// # Errors
    ///
    /// Those of [`Self::append`].
    pub async fn append_all_since(
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
        let result = self.store_all(append).await;
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

impl Ingest {
    /// Appends, and notes what is to be fetched for it. Whoever brought it may go away meanwhile:
    /// where there is something to fetch, that ends nothing.
    async fn store_all(&self, append: Append) -> Result<Vec<Appended>, AppendError> {
        let Some(fetcher) = &self.fetcher else { return self.store.append(append).await };
        let wanted = fetcher.wanted(&append).await;
        if wanted.is_empty() {
            return self.store.append(append).await;
        }
        let (store, fetcher) = (self.store.clone(), fetcher.clone());
        let stored = tokio::spawn(async move {
            let instances: Vec<_> = append.events.iter().map(|event| event.instance).collect();
            let appended = store.append(append).await?;
            fetcher.note(&wanted, &instances, &appended).await?;
            Ok(appended)
        });
        stored.await.unwrap_or_else(|error| {
            Err(AppendError::Unavailable { reason: format!("storing it failed: {error}") })
        })
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
