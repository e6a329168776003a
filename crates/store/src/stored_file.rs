//! Files as they are read: a piece at a time, wherever they lie.

use std::{fmt, io, io::SeekFrom, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use zapbus_media::Bucket;

use crate::{blob::Sha, boxed::boxed, postgres};

/// Bytes of a file that are in memory at a time.
const CHUNK: u64 = 64 << 10;

/// The same where each piece is a question to a server. Those that stand in rows of their own have
/// this size.
pub(crate) const PIECE: u64 = 512 << 10;

/// A file that is kept with an event.
pub struct StoredFile {
    length: u64,
    place: Place,
}

enum Place {
    Folder(std::fs::File),
    Memory(Bytes),
    Bucket { bucket: Bucket, object: String },
    Row { engine: Arc<postgres::Engine>, sha: Sha },
    Pieces { engine: Arc<postgres::Engine>, object: String },
}

impl fmt::Debug for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredFile").field("length", &self.length).finish_non_exhaustive()
    }
}

impl StoredFile {
    /// One that is in memory anyway.
    pub fn in_memory(bytes: Bytes) -> Self {
        Self { length: bytes.len() as u64, place: Place::Memory(bytes) }
    }

    pub(crate) fn in_folder(file: std::fs::File, length: u64) -> Self {
        Self { length, place: Place::Folder(file) }
    }

    pub(crate) fn in_bucket(bucket: Bucket, object: String, length: u64) -> Self {
        Self { length, place: Place::Bucket { bucket, object } }
    }

    pub(crate) fn in_row(engine: Arc<postgres::Engine>, sha: Sha, length: u64) -> Self {
        Self { length, place: Place::Row { engine, sha } }
    }

    pub(crate) fn in_pieces(engine: Arc<postgres::Engine>, object: String, length: u64) -> Self {
        Self { length, place: Place::Pieces { engine, object } }
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// A stretch of it, piece by piece as they are asked for.
    ///
    /// # Errors
    /// When it cannot be read. The stream ends with an error where it cannot be read any further.
    pub async fn read(
        self,
        range: Range<u64>,
    ) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
        let range = range.start.min(self.length)..range.end.min(self.length);
        match self.place {
            Place::Memory(bytes) => {
                let whole = bytes.slice(at(range.start)?..at(range.end)?);
                Ok(stream::iter([Ok(whole)]).boxed())
            }
            Place::Folder(file) => {
                let mut file = tokio::fs::File::from_std(file);
                file.seek(SeekFrom::Start(range.start)).await?;
                let rest = file.take(range.end - range.start);
                Ok(stream::try_unfold(rest, |mut rest| async move {
                    let mut chunk = vec![0; at(CHUNK)?];
                    let count = rest.read(&mut chunk).await?;
                    chunk.truncate(count);
                    Ok((count > 0).then(|| (Bytes::from(chunk), rest)))
                })
                .boxed())
            }
            Place::Bucket { bucket, object } => Ok(boxed(bucket.get(&object, range)).await?),
            Place::Row { engine, sha } => Ok(pieces(range, move |from, upto| {
                let engine = Arc::clone(&engine);
                async move { engine.stretch(&sha, from, upto - from).await }
            })),
            Place::Pieces { engine, object } => Ok(pieces(range, move |from, upto| {
                let (engine, object) = (Arc::clone(&engine), object.clone());
                async move { engine.piece(&object, from, upto).await }
            })),
        }
    }

    /// All of it. For what is known not to be large.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn whole(self) -> io::Result<Bytes> {
        if let Place::Memory(bytes) = self.place {
            return Ok(bytes);
        }
        let length = self.length;
        let mut whole = Vec::with_capacity(at(length)?);
        let mut pieces = self.read(0..length).await?;
        while let Some(piece) = pieces.try_next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.into())
    }
}

fn at(position: u64) -> io::Result<usize> {
    usize::try_from(position).map_err(io::Error::other)
}

/// A stretch in pieces that do not go beyond a multiple of [`PIECE`].
fn pieces<F, R>(range: Range<u64>, ask: F) -> BoxStream<'static, io::Result<Bytes>>
where
    F: Fn(u64, u64) -> R + Send + 'static,
    R: Future<Output = crate::Result<Bytes>> + Send + 'static,
{
    let end = range.end;
    stream::try_unfold((range.start, ask), move |(from, ask)| async move {
        if from >= end {
            return Ok(None);
        }
        let upto = ((from / PIECE + 1) * PIECE).min(end);
        let piece = ask(from, upto).await.map_err(io::Error::other)?;
        if piece.len() as u64 != upto - from {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends early"));
        }
        Ok(Some((piece, (upto, ask))))
    })
    .boxed()
}
