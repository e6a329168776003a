//! Fetching files that events only name: in the background, again and again until they are here or
//! given up.
//!
//! What is to be fetched is noted before the source is answered, so that a restart goes on with it.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zapbus_channel::egress::Guard;
use zapbus_event::{EventId, Timestamp};
use zapbus_store::{
    Append, AppendError, Appended, Appends, Clock, Fetch, FetchState, Store, StoreError,
};

use super::{
    Choice, Fetching, Files, Named,
    download::{Download, Failure},
    graph,
};
use crate::{
    directory::Directory,
    source::Source,
    telemetry::{FetchResult, Telemetry},
};

/// How long to wait after each try that failed: the last one is the last.
const WAITS_S: [u64; 8] = [2, 10, 30, 120, 600, 1_800, 3_600, 7_200];

/// How often it is looked for what other nodes have noted, or a crash has left.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long whoever waits for a file goes without looking.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// How long after its acceptance it may not be noted yet that a file is to be fetched.
const NOTING: Duration = Duration::from_secs(2);

/// How much longer than a try may take a file is nobody else's.
const MARGIN: Duration = Duration::from_secs(60);

/// The longest that another side may ask to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Tells those who wait that files have come, or were given up.
#[derive(Debug, Default)]
pub struct Arrivals(watch::Sender<()>);

impl Arrivals {
    fn tell(&self) {
        self.0.send_replace(());
    }

    /// Waits until an event's file is here, given up, or `wait` after its acceptance over. At once
    /// for events whose instance fetches no such file.
    pub(crate) async fn wait(
        &self,
        store: &Store,
        clock: &Clock,
        event: (EventId, Timestamp),
        wait: Duration,
    ) {
        let (id, received_at) = event;
        let mut news = self.0.subscribe();
        loop {
            let waited = clock().since(received_at);
            let Some(left) = wait.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return;
            };
            match store.fetched(id).await {
                Ok(Some(fetched)) if fetched.state != FetchState::Pending => return,
                Ok(None) if waited >= NOTING => return,
                Ok(_) | Err(_) => {}
            }
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep(left.min(WATCH_EVERY)) => {}
            }
        }
    }
}

/// Fetches files. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    directory: Directory,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    config: Fetching,
    download: Download,
    arrivals: Arc<Arrivals>,
    /// Something is due.
    due: Notify,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

/// What a fetcher is built from.
pub struct Parts {
    /// Where files and what is to be fetched are kept.
    pub store: Store,
    /// Knows what instances choose.
    pub directory: Directory,
    /// Figures.
    pub telemetry: Arc<Telemetry>,
    /// When things are due.
    pub clock: Clock,
    /// Bounds.
    pub config: Fetching,
    /// What may be reached.
    pub guard: Arc<Guard>,
    /// Who waits for files.
    pub arrivals: Arc<Arrivals>,
}

impl Fetcher {
    /// # Errors
    /// When this machine has no certificates to trust.
    pub fn new(parts: Parts) -> Result<Self, std::io::Error> {
        let Parts { store, directory, telemetry, clock, config, guard, arrivals } = parts;
        let download = Download::new(&guard)?;
        let inner = Inner {
            store,
            directory,
            telemetry,
            clock,
            config,
            download,
            arrivals,
            due: Notify::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Which events of an append have files that are to be fetched, by their place in it.
    pub(crate) async fn wanted(&self, append: &Append) -> Vec<usize> {
        let mut wanted = Vec::new();
        for (index, event) in append.events.iter().enumerate() {
            let Some(named) = Named::of(event.draft.kind, &event.draft.data) else { continue };
            // What is wrong where there is no such instance, the append says.
            let Ok(Some(known)) = self.inner.directory.instance(event.instance).await else {
                continue;
            };
            let is_reachable = match &named {
                Named::Id(_) => self.token(&known.source, known.instance.account).await.is_some(),
                Named::Url(_) => true,
            };
            if is_reachable && Choice::of(&known.instance.settings).takes(&named) {
                wanted.push(index);
            }
        }
        wanted
    }

    /// Notes what is to be fetched for events that were appended; before whoever brought them is
    /// answered.
    ///
    /// # Errors
    /// When the store does not take it: the events are there, and a repeat is recognised.
    pub(crate) async fn note(
        &self,
        wanted: &[usize],
        instances: &[zapbus_event::InstanceId],
        appended: &[Appended],
    ) -> Result<(), AppendError> {
        let fetches = wanted.iter().filter_map(|index| {
            let appended = appended.get(*index)?;
            Some(Fetch {
                event: appended.id,
                instance: *instances.get(*index)?,
                seq: appended.seq,
                attempts: 0,
            })
        });
        let noted = self.inner.store.want_files(fetches.collect()).await;
        self.inner.due.notify_one();
        noted.map_err(|error| AppendError::Unavailable { reason: error.to_string() })
    }

    /// What Meta wants to see of an instance: its own token, or that of its account's app.
    async fn token(&self, source: &Source, account: zapbus_event::AccountId) -> Option<String> {
        let Source::CloudApi(own) = source else { return None };
        if own.access_token.is_some() {
            return own.access_token.clone();
        }
        let apps = self.inner.directory.app_sources().await.ok()?;
        let app = apps.iter().find(|app| app.account == account)?;
        app.cloud_api.access_token.clone()
    }

    /// Fetches what is due until `stop`. What is under way then is fetched again later.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let places = Arc::new(tokio::sync::Semaphore::new(self.inner.config.at_once));
        loop {
            let room = places.available_permits();
            let taken = if room == 0 { Ok(Vec::new()) } else { self.take(room).await };
            match taken {
                Ok(taken) => {
                    for fetch in taken {
                        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                        let (this, stop) = (self.clone(), stop.clone());
                        tasks.spawn(async move {
                            tokio::select! {
                                () = this.fetch(fetch) => {}
                                () = stop.cancelled() => {}
                            }
                            drop(place);
                            this.inner.due.notify_one();
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(event = "media.waits", %error, "files are fetched later");
                }
            }
            tokio::select! {
                () = self.inner.due.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => break,
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn take(&self, room: usize) -> Result<Vec<Fetch>, StoreError> {
        let lease = Duration::from_secs(self.inner.config.timeout_s) + MARGIN;
        self.inner.store.take_fetches((self.inner.clock)() + lease, room).await
    }

    async fn fetch(&self, fetch: Fetch) {
        let inner = &self.inner;
        let limit = Duration::from_secs(inner.config.timeout_s);
        let tried = match tokio::time::timeout(limit, self.try_once(fetch)).await {
            Ok(tried) => tried,
            Err(_) => Err(Failure::passing(format!("not all of it within {} s", limit.as_secs()))),
        };
        let noted = match &tried {
            Ok(()) => {
                inner.telemetry.fetched(FetchResult::Fetched);
                Ok(())
            }
            Err(failure) => self.note_failure(fetch, failure).await,
        };
        if let Err(error) = noted {
            // It comes due again by itself.
            tracing::warn!(event = "media.unnoted", %error, "a file is fetched once more");
        }
        inner.arrivals.tell();
    }

    async fn try_once(&self, fetch: Fetch) -> Result<(), Failure> {
        let inner = &self.inner;
        let unread = |error: StoreError| Failure::passing(error.to_string());
        let gone = || Failure::Final("its event is gone".to_owned());
        let event = inner.store.event(fetch.event).await.map_err(unread)?.ok_or_else(gone)?;
        let named = Named::of(event.kind, &event.data);
        let named = named.ok_or_else(|| Failure::Final("it names no file".to_owned()))?;
        let known = inner.directory.instance(fetch.instance).await.map_err(unread)?;
        let known = known.ok_or_else(|| Failure::Final("its instance is gone".to_owned()))?;
        let (answer, mime) = match &named {
            Named::Url(url) => {
                let url = url
                    .parse()
                    .map_err(|_| Failure::Final("the event's URL cannot be read".to_owned()))?;
                let answer = inner.download.ask(&url, None).await?;
                let mime = answer.mime();
                (answer, mime)
            }
            Named::Id(id) => {
                let token = self.token(&known.source, known.instance.account).await;
                let token = token.ok_or_else(|| {
                    Failure::passing("the instance's source has no access_token (any more)")
                })?;
                graph::open(&inner.download, &inner.config.graph_url, id, &token).await?
            }
        };
        if let Appends::Stopped { reason } = &inner.store.health().borrow().appends {
            return Err(Failure::passing(format!("it cannot be kept: {reason}")));
        }
        let mut spool = inner
            .store
            .spool()
            .map_err(|error| Failure::passing(format!("it cannot be kept: {error}")))?;
        answer.write_to(&mut spool, inner.config.max_bytes).await?;
        inner.store.fetch_done(fetch.event, spool, mime).await.map_err(unread)
    }

    async fn note_failure(&self, fetch: Fetch, failure: &Failure) -> Result<(), StoreError> {
        let inner = &self.inner;
        let wait = match failure {
            Failure::Final(_) => None,
            Failure::Passing { after, .. } => {
                let own = WAITS_S.get(fetch.attempts.saturating_sub(1) as usize);
                own.map(|own| {
                    after.unwrap_or_default().min(LONGEST_WAIT).max(Duration::from_secs(*own))
                })
            }
        };
        let problem = failure.to_string();
        let Some(wait) = wait else {
            inner.telemetry.fetched(FetchResult::GivenUp);
            tracing::warn!(
                event = "media.given_up",
                instance = %fetch.instance,
                event_id = %fetch.event,
                attempts = fetch.attempts,
                problem,
                "the file of a message cannot be fetched"
            );
            return inner.store.fetch_failed(fetch.event, &problem, None).await;
        };
        inner.telemetry.fetched(FetchResult::Failed);
        tracing::debug!(
            event = "media.failed",
            instance = %fetch.instance,
            event_id = %fetch.event,
            attempts = fetch.attempts,
            problem,
            "the file of a message is fetched later"
        );
        let due = (inner.clock)() + wait;
        inner.store.fetch_failed(fetch.event, &problem, Some(due)).await
    }
}

/// How long an event is held for its file: what its destination says, or its instance.
pub(crate) fn wait_of(choice: Choice, named: &Named, own: Option<u32>) -> Duration {
    if choice.fetch == Files::None || !choice.takes(named) {
        return Duration::ZERO;
    }
    match own {
        Some(wait_s) => Choice { wait_for_media_s: wait_s, ..choice }.wait(),
        None => choice.wait(),
    }
}
