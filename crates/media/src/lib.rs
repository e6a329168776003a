//! A bucket of S3, or of what speaks like it: where files lie that no node of ours keeps.
//!
//! A small face before `object_store`: a file goes in and comes out in pieces, so that its size
//! costs no memory. Who refers to which file, and when one may go, is the store's business. Names
//! are given by whoever puts a file there and never used twice: nothing here overwrites.

mod client;
mod place;

use std::{fmt, io, ops::Range, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, aws::AmazonS3,
    path::Path as ObjectPath, signer::Signer,
};
use tokio::io::{AsyncRead, AsyncReadExt};

pub use self::place::{Credentials, Place, PlaceError};

/// Bytes of a file that are in memory at a time on its way in. S3 takes no smaller parts than
/// 5 MiB, and 10,000 of them.
const PART: usize = 8 << 20;

/// How long a piece of a file may take to come.
const NO_ANSWER: Duration = Duration::from_secs(60);

/// A bucket. Clones share its connections.
#[derive(Clone)]
pub struct Bucket {
    inner: Arc<AmazonS3>,
    /// What stands before each name, with a slash at its end; or nothing.
    prefix: Arc<str>,
    shown: Arc<str>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.shown).finish()
    }
}

/// Why a bucket did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no such file.
    #[error("{name} is not in {bucket}")]
    Missing {
        /// The file's name.
        name: String,
        /// Where it was looked for.
        bucket: Arc<str>,
    },
    /// The service refused, or could not be reached.
    #[error("{bucket}: {source}")]
    Service {
        /// Which bucket.
        bucket: Arc<str>,
        /// What it said.
        source: object_store::Error,
    },
    /// The file could not be read on its way there.
    #[error("reading the file: {0}")]
    File(#[from] io::Error),
}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::File(error) => error,
            Trouble::Missing { .. } => Self::new(io::ErrorKind::NotFound, trouble),
            Trouble::Service { .. } => Self::other(trouble),
        }
    }
}

impl Bucket {
    /// The bucket at a place. Asks nobody yet.
    ///
    /// # Errors
    /// When the place cannot be used as it is written.
    pub fn open(place: &Place) -> Result<Self, PlaceError> {
        let inner = Arc::new(place.connect()?);
        Ok(Self { inner, prefix: place.prefix().into(), shown: place.to_string().into() })
    }

    /// Which bucket it is, for people: without its credentials.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    fn path(&self, name: &str) -> ObjectPath {
        ObjectPath::from(format!("{}{name}", self.prefix))
    }

    fn trouble(&self, name: &str, source: object_store::Error) -> Trouble {
        let bucket = Arc::clone(&self.shown);
        match source {
            object_store::Error::NotFound { .. } => {
                Trouble::Missing { name: name.to_owned(), bucket }
            }
            source => Trouble::Service { bucket, source },
        }
    }

    /// Puts a file that is in memory.
    ///
    /// # Errors
    /// When the service does not confirm it; it may be there all the same.
    pub async fn put(&self, name: &str, content: Bytes) -> Result<(), Trouble> {
        let put = self.inner.put(&self.path(name), PutPayload::from_bytes(content)).await;
        put.map(drop).map_err(|source| self.trouble(name, source))
    }

    /// Puts what a reader has until its end, [`PART`] bytes at a time. Gives how many it were.
    ///
    /// # Errors
    /// When it cannot be read, or the service does not confirm it; what was sent is taken back.
    pub async fn put_all(
        &self,
        name: &str,
        mut from: impl AsyncRead + Unpin + Send,
    ) -> Result<u64, Trouble> {
        let first = part(&mut from).await?;
        let mut bytes = first.len() as u64;
        if first.len() < PART {
            self.put(name, first).await?;
            return Ok(bytes);
        }
        let path = self.path(name);
        let upload = self.inner.put_multipart(&path).await;
        let mut upload = upload.map_err(|source| self.trouble(name, source))?;
        let sent = async {
            let mut next = first;
            while !next.is_empty() {
                let put = upload.put_part(PutPayload::from_bytes(next)).await;
                put.map_err(|source| self.trouble(name, source))?;
                next = part(&mut from).await?;
                bytes += next.len() as u64;
            }
            upload.complete().await.map_err(|source| self.trouble(name, source))
        };
        match sent.await {
            Ok(_) => Ok(bytes),
            Err(trouble) => {
                // Best effort: a bucket drops unfinished uploads by a rule of its own.
                let _ = upload.abort().await;
                Err(trouble)
            }
        }
    }

    /// Puts a file of this machine.
    ///
    /// # Errors
    /// Those of [`Bucket::put_all`].
    pub async fn put_file(&self, name: &str, file: &Path) -> Result<u64, Trouble> {
        self.put_all(name, tokio::fs::File::open(file).await?).await
    }

    /// A stretch of a file, piece by piece as it comes.
    ///
    /// # Errors
    /// When there is no such file, or the service does not answer. A stream ends with an error when
    /// nothing comes for a minute.
    pub async fn get(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, Trouble> {
        if range.is_empty() {
            return Ok(futures_util::stream::empty().boxed());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let got = self.inner.get_opts(&self.path(name), options).await;
        let got = got.map_err(|source| self.trouble(name, source))?;
        Ok(in_time(got.into_stream().map_err(io::Error::other)).boxed())
    }

    /// A whole file.
    ///
    /// # Errors
    /// Those of [`Bucket::get`].
    pub async fn read(&self, name: &str) -> Result<Bytes, Trouble> {
        let got = self.inner.get(&self.path(name)).await;
        let got = got.map_err(|source| self.trouble(name, source))?;
        got.bytes().await.map_err(|source| self.trouble(name, source))
    }

    /// Takes a file away. None to take away is no error.
    ///
    /// # Errors
    /// When the service does not confirm it.
    pub async fn delete(&self, name: &str) -> Result<(), Trouble> {
        match self.inner.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.trouble(name, source)),
        }
    }

    /// A URL of the service itself at which whoever has it can fetch the file, for `life`.
    ///
    /// # Errors
    /// When there are no credentials to sign with.
    pub async fn link(&self, name: &str, life: Duration) -> Result<url::Url, Trouble> {
        let signed = self.inner.signed_url(http::Method::GET, &self.path(name), life).await;
        signed.map_err(|source| self.trouble(name, source))
    }

    /// Whether files can be put there, read and taken away again: tries it with one of this name.
    ///
    /// # Errors
    /// What does not work.
    pub async fn check(&self, name: &str) -> Result<(), Trouble> {
        self.put(name, Bytes::from_static(b"zapbus")).await?;
        self.read(name).await?;
        self.delete(name).await
    }
}

/// The next [`PART`] bytes, or what is left.
async fn part(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut part = Vec::new();
    from.take(PART as u64).read_to_end(&mut part).await?;
    Ok(part.into())
}

/// The same, ended with an error where nothing comes for [`NO_ANSWER`].
fn in_time(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::try_unfold(pieces, |mut pieces| async move {
        let next = tokio::time::timeout(NO_ANSWER, pieces.try_next()).await;
        let next = next.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(next.map(|piece| (piece, pieces)))
    })
}
