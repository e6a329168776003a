//! Files that events name and do not bring: what is to be fetched, and what became of it.
//!
//! Events are never changed, so a file that comes later is noted beside its event. A note goes with
//! its event, a little later than that; until then its file stays.

use tokio::io::AsyncRead;
use zapbus_event::{EventId, InstanceId, Position, Timestamp};
use zapbus_media::Bucket;

use crate::{
    Engine, Result, Store, StoreError,
    blob::Sha,
    boxed::boxed,
    elsewhere::{Claim, Names},
    spool::Spool,
    stored_file::StoredFile,
};

/// Notes looked at in one step.
pub(crate) const PAGE: usize = 500;

/// A file that is to be fetched for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// The event that names it.
    pub event: EventId,
    /// Whose.
    pub instance: InstanceId,
    /// Where the event is.
    pub seq: Position,
    /// How often it was tried, this time included.
    pub attempts: u32,
}

/// How it stands with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchState {
    /// It is still to be fetched.
    Pending,
    /// It is here.
    Here,
    /// It was given up.
    Failed {
        /// Why, for people.
        problem: String,
    },
}

/// What is known of a file that was to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// How it stands.
    pub state: FetchState,
    /// Its bytes, once it is here.
    pub bytes: u64,
    /// What the place it was fetched from called its type.
    pub mime: Option<String>,
}

/// How many files there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchCounts {
    /// Still to be fetched.
    pub pending: u64,
    /// Given up in the last day.
    pub failed: u64,
}

/// What the row of a file says.
pub(crate) struct Noted {
    pub(crate) state: i64,
    pub(crate) problem: Option<String>,
    pub(crate) sha: Option<Sha>,
    pub(crate) bytes: u64,
    pub(crate) mime: Option<String>,
    pub(crate) object: Option<String>,
}

/// Numbers of states in the table.
pub(crate) const PENDING: i64 = 0;
pub(crate) const HERE: i64 = 1;
pub(crate) const FAILED: i64 = 2;

/// A finished file with what its place called it.
pub(crate) struct Arrived {
    pub(crate) event: EventId,
    pub(crate) sha: Sha,
    pub(crate) bytes: u64,
    pub(crate) mime: Option<String>,
}

impl Store {
    /// Notes that files are to be fetched, from now on. Those that are noted stay as they are.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn want_files(&self, wanted: Vec<Fetch>) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        match &self.engine {
            Engine::Sqlite(engine) => engine.want_files(wanted).await,
            Engine::Postgres(engine) => boxed(engine.want_files(wanted)).await,
        }
    }

    /// Files that are due, the longest first. They are somebody else's again at `until`, if nothing
    /// is said of them before that.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn take_fetches(&self, until: Timestamp, limit: usize) -> Result<Vec<Fetch>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.take_fetches(until, limit).await,
            Engine::Postgres(engine) => boxed(engine.take_fetches(until, limit)).await,
        }
    }

    /// A file could not be fetched. `due`: when to try again; `None`: never.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn fetch_failed(
        &self,
        event: EventId,
        problem: &str,
        due: Option<Timestamp>,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.fetch_failed(event, problem, due).await,
            Engine::Postgres(engine) => boxed(engine.fetch_failed(event, problem, due)).await,
        }
    }

    /// Gives a file that was given up another try.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn fetch_again(&self, wanted: Fetch) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.fetch_again(wanted).await,
            Engine::Postgres(engine) => boxed(engine.fetch_again(wanted)).await,
        }
    }

    /// What is known of the file that was to be fetched for an event; `None` when there is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn fetched(&self, event: EventId) -> Result<Option<Fetched>> {
        Ok(self.noted(event).await?.map(|noted| Fetched {
            state: match noted.state {
                HERE => FetchState::Here,
                FAILED => FetchState::Failed { problem: noted.problem.unwrap_or_default() },
                _ => FetchState::Pending,
            },
            bytes: noted.bytes,
            mime: noted.mime,
        }))
    }

    /// The file that was fetched for an event.
    ///
    /// # Errors
    /// When the database or the file cannot be read.
    pub async fn fetched_file(&self, event: EventId) -> Result<Option<StoredFile>> {
        let Some(noted) = self.noted(event).await? else { return Ok(None) };
        let Some(sha) = noted.sha.filter(|_| noted.state == HERE) else { return Ok(None) };
        self.open_at(&sha, noted.bytes, noted.object.as_deref()).await.map(Some)
    }

    async fn noted(&self, event: EventId) -> Result<Option<Noted>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.noted(event).await,
            Engine::Postgres(engine) => boxed(engine.noted(event)).await,
        }
    }

    /// How many there are.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn fetch_counts(&self) -> Result<FetchCounts> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.fetch_counts().await,
            Engine::Postgres(engine) => boxed(engine.fetch_counts()).await,
        }
    }

    /// A file to write to, piece by piece.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn spool(&self) -> std::io::Result<Spool> {
        match &self.engine {
            // It becomes one of the folder.
            Engine::Sqlite(engine) => {
                Spool::new(&engine.shared.spool, engine.shared.bucket.is_none())
            }
            Engine::Postgres(_) => Spool::new(&std::env::temp_dir(), false),
        }
    }

    /// The file of an event is here. When it returns, it is as durable as the event.
    ///
    /// # Errors
    /// When the store, the disk or the bucket does not take it.
    pub async fn fetch_done(
        &self,
        event: EventId,
        mut spool: Spool,
        mime: Option<String>,
    ) -> Result<()> {
        let unavailable = |error: std::io::Error| StoreError::Unavailable {
            reason: format!("the file cannot be kept: {error}"),
        };
        let arrived = Arrived { event, sha: spool.sha(), bytes: spool.bytes(), mime };
        let file = spool.finished().await.map_err(unavailable)?;
        match &self.engine {
            Engine::Sqlite(engine) => match &engine.shared.bucket {
                Some(bucket) => {
                    boxed(put(engine.as_ref(), bucket, &arrived, file)).await?;
                    engine.note_arrived(arrived, None).await
                }
                None => {
                    let path = spool.path().map(std::path::Path::to_owned);
                    engine.note_arrived(arrived, path).await
                }
            },
            Engine::Postgres(engine) => {
                match &engine.shared.bucket {
                    Some(bucket) => boxed(put(engine.as_ref(), bucket, &arrived, file)).await?,
                    None => boxed(engine.put_pieces(&arrived, file)).await?,
                }
                boxed(engine.note_arrived(arrived)).await
            }
        }
    }

    /// Forgets files whose events are gone. Goes through all of them, in small steps.
    ///
    /// # Errors
    /// When the store cannot write; the rest is for the next time.
    pub async fn forget_fetches(&self) -> Result<u64> {
        let (mut after, mut gone) = (None, 0);
        loop {
            let (last, count) = match &self.engine {
                Engine::Sqlite(engine) => engine.forget_fetches(after).await?,
                Engine::Postgres(engine) => boxed(engine.forget_fetches(after)).await?,
            };
            gone += count;
            if last.is_none() {
                return Ok(gone);
            }
            after = last;
        }
    }
}

/// Puts a file into the bucket, unless it is there.
async fn put(
    names: &impl Names,
    bucket: &Bucket,
    arrived: &Arrived,
    file: impl AsyncRead + Unpin + Send,
) -> Result<()> {
    let claim = Claim::new(arrived.sha, arrived.bytes, true)?;
    let Some(named) = names.claim(vec![claim]).await?.pop().filter(|named| !named.there) else {
        return Ok(());
    };
    bucket
        .put_all(&named.object, file)
        .await
        .map_err(|trouble| StoreError::Unavailable { reason: trouble.to_string() })?;
    names.confirm(vec![named]).await
}
