//! Files that lie neither in the folder nor in a row: in a bucket, or on PostgreSQL in pieces.
//!
//! A name is given before anything is put there, in a row that nothing refers to yet, so that a
//! crash leaves nothing behind that nobody knows of. For an hour after somebody was about to refer
//! to a file its row stays; then, if nothing does, the row goes and the name is noted as to be
//! deleted. A name is never given twice: what is deleted late is nobody else's.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use zapbus_event::Timestamp;
use zapbus_media::Bucket;

use crate::{Engine, Result, Store, StoreError, blob::Sha, boxed::boxed, fault::Fault};

/// How long a file stays that somebody was about to refer to, in milliseconds.
pub(crate) const GRACE_MS: i64 = 3_600_000;

/// Files put at one time for one request.
const AT_A_TIME: usize = 4;

/// Names deleted in one round.
pub(crate) const STRAYS: usize = 200;

/// What the names of pieces in the database begin with; those in a bucket begin with two letters of
/// their sum.
pub(crate) const PIECES: &str = "pieces/";

/// A name for a file, and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) sha: Sha,
    pub(crate) object: String,
    /// All of it is there already.
    pub(crate) there: bool,
}

/// A file that is about to be referred to.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) sha: Sha,
    pub(crate) bytes: u64,
    /// What it is called if nobody has it yet.
    pub(crate) fresh: String,
}

impl Claim {
    /// Of a file for the bucket; or, without one, for pieces in the database.
    pub(crate) fn new(sha: Sha, bytes: u64, in_bucket: bool) -> Result<Self> {
        let mut own = [0; 8];
        getrandom::fill(&mut own).map_err(|error| StoreError::Unavailable {
            reason: format!("no random numbers: {error}"),
        })?;
        let (sum, own) = (hex::encode(sha), hex::encode(own));
        let folder = if in_bucket { format!("{}/", &sum[..2]) } else { PIECES.to_owned() };
        Ok(Self { sha, bytes, fresh: format!("{folder}{sum}-{own}") })
    }
}

/// What the engine is asked to do for it.
pub(crate) trait Names {
    /// Gives names, in the order of the claims.
    async fn claim(&self, claims: Vec<Claim>) -> Result<Vec<Named>>;
    /// All of them are there.
    async fn confirm(&self, named: Vec<Named>) -> Result<()>;
}

/// Sees to it that all of these are in the bucket and have rows that what refers to them finds.
pub(crate) async fn keep(
    names: &impl Names,
    bucket: &Bucket,
    contents: &[(Sha, Bytes)],
) -> Result<()> {
    let mut claims = Vec::with_capacity(contents.len());
    for (at, (sha, content)) in contents.iter().enumerate() {
        if !contents[..at].iter().any(|(known, _)| known == sha) {
            claims.push(Claim::new(*sha, content.len() as u64, true)?);
        }
    }
    let named = names.claim(claims).await?;
    let missing: Vec<Named> = named.into_iter().filter(|named| !named.there).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut puts = Vec::with_capacity(missing.len());
    for named in &missing {
        if let Some((_, content)) = contents.iter().find(|(sha, _)| *sha == named.sha) {
            puts.push(bucket.put(&named.object, content.clone()));
        }
    }
    let put: std::result::Result<Vec<()>, _> =
        stream::iter(puts).buffer_unordered(AT_A_TIME).try_collect().await;
    put.map_err(|trouble| StoreError::Unavailable { reason: trouble.to_string() })?;
    names.confirm(missing).await
}

impl Store {
    /// Whether the bucket takes files, if there is one: tries it.
    ///
    /// # Errors
    /// What does not work.
    pub async fn check_bucket(&self) -> Result<()> {
        let bucket = match &self.engine {
            Engine::Sqlite(engine) => engine.shared.bucket.as_ref(),
            Engine::Postgres(engine) => engine.shared.bucket.as_ref(),
        };
        let Some(bucket) = bucket else { return Ok(()) };
        let claim = Claim::new(Sha::default(), 0, true)?;
        let checked = boxed(bucket.check(&claim.fresh)).await;
        checked.map_err(|trouble| StoreError::Unavailable { reason: trouble.to_string() })
    }

    /// Deletes files that nothing has referred to for a while. Gives how many went. Called now and
    /// then; more of them wait for the next call.
    ///
    /// # Errors
    /// When the store cannot write. What the bucket does not delete is tried again.
    pub async fn tidy_files(&self) -> Result<u64> {
        let before = Timestamp::from_millis(self.now().as_millis() - GRACE_MS);
        let (strays, bucket) = match &self.engine {
            Engine::Sqlite(engine) => (engine.strays(before).await?, engine.shared.bucket.as_ref()),
            Engine::Postgres(engine) => {
                (boxed(engine.strays(before)).await?, engine.shared.bucket.as_ref())
            }
        };
        let mut gone = Vec::new();
        for object in strays {
            match (object.starts_with(PIECES), bucket) {
                (true, _) => gone.push(object),
                (false, Some(bucket)) => match boxed(bucket.delete(&object)).await {
                    Ok(()) => gone.push(object),
                    Err(error) => {
                        tracing::warn!(event = "bucket.not_deleted", path = object, %error, "a file could not be deleted in the bucket");
                        break;
                    }
                },
                // It waits for a start with the bucket.
                (false, None) => {}
            }
        }
        let count = gone.len() as u64;
        if count > 0 {
            match &self.engine {
                Engine::Sqlite(engine) => engine.forget_strays(gone).await?,
                Engine::Postgres(engine) => boxed(engine.forget_strays(gone)).await?,
            }
        }
        Ok(count)
    }
}

/// Why a file cannot be read that lies in a bucket.
pub(crate) fn no_bucket(object: &str) -> Fault {
    Fault::Store(StoreError::Unavailable {
        reason: format!("{object} is in a bucket, and none is set: see [media.s3]"),
    })
}
