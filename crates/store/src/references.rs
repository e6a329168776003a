//! What stands in the place of files in an event, and putting it back.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    sync::Arc,
};

use bytes::Bytes;
use zapbus_event::{Event, Raw};

use crate::{
    Engine, Result, Store, StoreError,
    blob::{self, BlobRef, Sha},
    boxed::boxed,
    elsewhere::{PIECES, no_bucket},
    fault::Fault,
    sqlite::read,
    stored_file::StoredFile,
};

/// The files that an event refers to, and what those are called that lie elsewhere.
pub(crate) struct References {
    pub(crate) refs: Vec<BlobRef>,
    pub(crate) objects: HashMap<Sha, String>,
}

impl Store {
    /// The event's `data` and `raw` as they came in: binaries that were moved out of the journal are
    /// put back byte for byte.
    ///
    /// # Errors
    /// [`StoreError::EventExpired`] when that needs binaries and the event is gone.
    pub async fn restore_raw(&self, event: &Event) -> Result<(Bytes, Bytes)> {
        let whole = self.restored(event).await?;
        let whole = whole.as_ref().unwrap_or(event);
        Ok((whole.data.clone(), whole.raw_bytes().clone()))
    }

    /// The event with its binaries put back, or `None` when it is whole as it is: hardly any event
    /// needs it.
    ///
    /// # Errors
    /// [`StoreError::EventExpired`] when that needs binaries and the event is gone.
    pub async fn restored(&self, event: &Event) -> Result<Option<Event>> {
        self.restored_in(event, true, true).await
    }

    /// [`Store::restored`] only in `data`, or only in a `raw` of its own.
    ///
    /// # Errors
    /// Those of [`Store::restored`].
    pub async fn restored_in(&self, event: &Event, data: bool, raw: bool) -> Result<Option<Event>> {
        let in_data = data && blob::may_refer(&event.data);
        let in_raw = match &event.raw {
            Raw::Data => false,
            Raw::Bytes(bytes) => raw && blob::may_refer(bytes),
        };
        if !in_data && !in_raw {
            return Ok(None);
        }
        let found = self.references(event).await?.ok_or(StoreError::EventExpired)?;
        let wanted = |found: &&BlobRef| if found.in_raw { in_raw } else { in_data };
        let mut contents = HashMap::new();
        for wanted in found.refs.iter().filter(wanted) {
            if let Entry::Vacant(place) = contents.entry(wanted.sha) {
                let file = self.open_file(&wanted.sha, wanted.bytes, &found).await;
                let read = match file {
                    Ok(file) => file.whole().await,
                    Err(error) => return Err(error),
                };
                place.insert(read.map_err(|error| unread(event, &error))?);
            }
        }
        let fetch = |sha: &Sha| {
            contents.get(sha).cloned().ok_or_else(|| io::Error::other("it is not stored"))
        };
        let restore = |text: &Bytes, is_raw: bool| {
            blob::restore(text, &found.refs, is_raw, &fetch).map_err(|error| unread(event, &error))
        };
        let data = if in_data { restore(&event.data, false)? } else { event.data.clone() };
        let raw = match &event.raw {
            Raw::Bytes(bytes) if in_raw => Raw::Bytes(restore(bytes, true)?),
            other => other.clone(),
        };
        Ok(Some(Event { data, raw, ..event.clone() }))
    }

    /// The file that was moved out of a member of the event's `data`, of which this is what is left:
    /// to be read piece by piece. `None` when the member is what it is.
    ///
    /// # Errors
    /// When the database or the file cannot be read.
    pub async fn file(&self, event: &Event, member: &str) -> Result<Option<StoredFile>> {
        if read::is_whole(event) {
            return Ok(None);
        }
        let Some(found) = self.references(event).await? else { return Ok(None) };
        let Some(wanted) = blob::referred(&found.refs, member) else { return Ok(None) };
        self.open_file(&wanted.sha, wanted.bytes, &found).await.map(Some)
    }

    async fn references(&self, event: &Event) -> Result<Option<References>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let (seq, id) = (event.seq, event.id);
                engine.read(move |view| read::references(view, seq, id)).await
            }
            Engine::Postgres(engine) => boxed(engine.references(event)).await,
        }
    }

    async fn open_file(&self, sha: &Sha, bytes: u64, found: &References) -> Result<StoredFile> {
        self.open_at(sha, bytes, found.objects.get(sha).map(String::as_str)).await
    }

    /// Opens a file where it lies.
    pub(crate) async fn open_at(
        &self,
        sha: &Sha,
        bytes: u64,
        object: Option<&str>,
    ) -> Result<StoredFile> {
        match (&self.engine, object) {
            (Engine::Sqlite(engine), None) => engine.open_file(*sha, bytes).await,
            (Engine::Sqlite(engine), Some(object)) => match &engine.shared.bucket {
                Some(bucket) => Ok(StoredFile::in_bucket(bucket.clone(), object.to_owned(), bytes)),
                None => Err(no_bucket(object).into()),
            },
            (Engine::Postgres(engine), None) => {
                Ok(StoredFile::in_row(Arc::clone(engine), *sha, bytes))
            }
            (Engine::Postgres(engine), Some(object)) if object.starts_with(PIECES) => {
                Ok(StoredFile::in_pieces(Arc::clone(engine), object.to_owned(), bytes))
            }
            (Engine::Postgres(engine), Some(object)) => match &engine.shared.bucket {
                Some(bucket) => Ok(StoredFile::in_bucket(bucket.clone(), object.to_owned(), bytes)),
                None => Err(no_bucket(object).into()),
            },
        }
    }
}

/// What is lost is lost; a service that cannot be reached answers again.
fn unread(event: &Event, error: &io::Error) -> StoreError {
    let is_lost = matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    );
    let reason = format!("a blob of {}: {error}", event.id);
    if is_lost { Fault::malformed(reason).into() } else { StoreError::Unavailable { reason } }
}
