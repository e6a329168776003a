//! Events as they are delivered: with a link to their file in its place, or with the file itself.
//!
//! What the store has taken out of an event is read only where the body needs it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zapbus_event::{Dialect, Event, SourceKind, Timestamp, dialect::Options, shape::MediaState};
use zapbus_store::{FetchState, Store, StoreError, StoredFile};

use super::{Links, Named, fields::Fields};

/// What the store leaves in the place of a file begins like this.
const LEFT: &str = "zapbus-blob:";

/// An event as it is to be written.
pub(crate) struct Shown {
    /// `None`: as it is stored.
    pub(crate) event: Option<Event>,
    /// It will be another one at another time: a link ends, a file arrives.
    pub(crate) passes: bool,
}

impl Links {
    /// The event as a body with these options needs it.
    pub(crate) async fn shown(
        &self,
        store: &Store,
        event: &Event,
        dialect: Dialect,
        options: &Options,
        now: Timestamp,
    ) -> Result<Shown, StoreError> {
        let raw = needs_raw(event, dialect, options);
        let whole = store.restored_in(event, false, raw).await?;
        let place = Place { store, event, links: self, dialect, options, now };
        let Some((text, passes)) = place.told(&event.data).await? else {
            let restored = store.restored_in(whole.as_ref().unwrap_or(event), true, false).await?;
            return Ok(Shown { event: restored.or(whole), passes: false });
        };
        let mut data = text;
        // The file was dealt with; something else may have been taken out too.
        if memchr::memmem::find(&data, LEFT.as_bytes()).is_some()
            && let Some(restored) = store.restored_in(event, true, false).await?
            && let Some((text, _)) = place.told(&restored.data).await?
        {
            data = text;
        }
        let event = Event { data: data.into(), ..whole.unwrap_or_else(|| event.clone()) };
        Ok(Shown { event: Some(event), passes })
    }
}

/// Whether the untouched upstream element goes into the body with all that belongs in it. Others
/// that look into it look for names and keys, which nothing was taken out of.
fn needs_raw(event: &Event, dialect: Dialect, options: &Options) -> bool {
    options.include_raw
        || match dialect {
            Dialect::Native | Dialect::Ryze => false,
            Dialect::Vzaps => true,
            Dialect::Evolution => event.source.kind == SourceKind::Evolution,
        }
}

/// A file's place in a body.
struct Place<'a> {
    store: &'a Store,
    event: &'a Event,
    links: &'a Links,
    dialect: Dialect,
    options: &'a Options,
    now: Timestamp,
}

impl Place<'_> {
    /// A payload that says where its file is, and whether it will say otherwise at another time;
    /// `None` when there is no file in it.
    async fn told(&self, data: &[u8]) -> Result<Option<(Vec<u8>, bool)>, StoreError> {
        let may_have = self.event.kind.family() == "message"
            && memchr::memmem::find(data, b"\"media\"").is_some();
        let Some(mut data) = Some(data).filter(|_| may_have).and_then(Fields::read) else {
            return Ok(None);
        };
        let Some(mut content) = data.object("content") else { return Ok(None) };
        let Some(mut media) = content.object("media") else { return Ok(None) };
        let passes = self.fill(&mut media).await?;
        let written = content
            .nest("media", &media)
            .and_then(|()| data.nest("content", &content))
            .and_then(|()| serde_json::to_vec(&data));
        Ok(Some((written.map_err(|error| self.unwritten(&error))?, passes)))
    }

    fn unwritten(&self, error: &serde_json::Error) -> StoreError {
        StoreError::Corrupt { reason: format!("{} cannot be written: {error}", self.event.id) }
    }

    /// Says where the file is, and puts it in where that is wanted. Gives whether it will be said
    /// otherwise at another time.
    async fn fill(&self, media: &mut Fields) -> Result<bool, StoreError> {
        if let Some(text) = media.text("base64") {
            let file = self.store.file(self.event, &text).await?;
            let length = file.as_ref().map_or(text.len() as u64 / 4 * 3, StoredFile::length);
            let is_here = file.is_none() && !text.contains(LEFT);
            let inline = match (self.wants(length), file) {
                (false, _) => None,
                (true, Some(file)) => Some(self.read(file).await?),
                (true, None) => Some(text),
            };
            // What the upstream wrote in a way of its own is put back with everything else.
            if inline.is_some() || is_here || !self.wants(length) {
                self.say(media, inline).map_err(|error| self.unwritten(&error))?;
            }
            return Ok(true);
        }
        let Some(named) = Named::of(self.event.kind, &self.event.data) else { return Ok(false) };
        let Some(fetched) = self.store.fetched(self.event.id).await? else { return Ok(true) };
        let said = match (fetched.state, named) {
            (FetchState::Here, _) => {
                let inline = match self.wants(fetched.bytes) {
                    false => None,
                    true => match self.store.fetched_file(self.event.id).await? {
                        Some(file) => Some(self.read(file).await?),
                        None => None,
                    },
                };
                media.set("size_bytes", fetched.bytes).and_then(|()| self.say(media, inline))
            }
            (FetchState::Pending, Named::Id(_)) => set_state(media, MediaState::Pending),
            (FetchState::Failed { problem }, Named::Id(_)) => {
                set_state(media, MediaState::Unavailable)
                    .and_then(|()| media.set("unavailable_reason", problem))
            }
            // Whoever gets it may have more luck with it.
            (FetchState::Pending | FetchState::Failed { .. }, Named::Url(_)) => Ok(()),
        };
        said.map_err(|error| self.unwritten(&error))?;
        Ok(true)
    }

    /// Whether a file of so many bytes goes into the body.
    fn wants(&self, bytes: u64) -> bool {
        // VZaps's users expect it.
        let asked = self.dialect == Dialect::Vzaps || self.options.inline_media;
        asked && bytes <= self.links.config.max_inline_bytes as u64
    }

    async fn read(&self, file: StoredFile) -> Result<String, StoreError> {
        let content = file.whole().await.map_err(|error| StoreError::Unavailable {
            reason: format!("the file of {} cannot be read: {error}", self.event.id),
        })?;
        Ok(STANDARD.encode(content))
    }

    fn say(&self, media: &mut Fields, inline: Option<String>) -> serde_json::Result<()> {
        let mime = media.text("mime").unwrap_or_default();
        let Some((url, end)) = self.links.make(self.event.id, &mime, self.now) else {
            return Ok(());
        };
        media.set("url", url)?;
        media.set("url_expires_at", end.to_string())?;
        let is_inline = inline.is_some();
        match inline {
            Some(base64) => media.set("base64", base64)?,
            None => media.remove("base64"),
        }
        // The other dialects say one thing by this: whether there is a link.
        let inlined = is_inline && self.dialect == Dialect::Native;
        set_state(media, if inlined { MediaState::Inline } else { MediaState::Url })
    }
}

fn set_state(media: &mut Fields, state: MediaState) -> serde_json::Result<()> {
    media.set("state", state.as_str())
}
