//! Files of messages: where they can be fetched, and how an event says so.
//!
//! A file that came with its event is kept with it, and one that is only named may be fetched (see
//! `docs/design/media.md`). What is delivered names a URL of this gateway in its place, signed and
//! for a time; the event itself is never changed. The key of the signatures is derived from the
//! store's, so that every node of a database honours the links of the others.

mod config;
mod download;
mod fetching;
mod fields;
mod graph;
mod instance;
mod shown;

use std::{borrow::Cow, time::Duration};

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;
use zapbus_event::{EventId, Timestamp};
use zapbus_store::Store;

pub use self::{
    config::{Config, Fetching, S3},
    fetching::{Arrivals, Fetcher, Parts},
    instance::{Choice, Files},
};
pub(crate) use self::{
    fetching::wait_of,
    instance::{LONGEST_WAIT_S, Named},
};

/// What the key is derived for.
const PURPOSE: &str = "links to media";

/// Links end on the minute, so that those of one moment are alike.
const GRAIN_S: i64 = 60;

/// Makes and checks links to files.
pub struct Links {
    key: [u8; 32],
    /// How clients reach us, without a slash at the end.
    base: Box<str>,
    config: Config,
}

/// Why a link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// We did not make it.
    Forged,
    /// It has ended.
    Expired,
}

impl Links {
    /// Links of this store's gateway, which is reached at `public_url`.
    pub fn new(store: &Store, public_url: &str, config: Config) -> Self {
        let base = public_url.trim_end_matches('/').into();
        Self { key: store.derive_key(PURPOSE), base, config }
    }

    fn mac(&self, event: EventId, expires: i64) -> Option<Hmac<Sha256>> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        Some(mac.chain_update(format!("{event}\n{expires}")))
    }

    /// A link to the file of an event, and when it ends.
    pub(crate) fn make(
        &self,
        event: EventId,
        mime: &str,
        now: Timestamp,
    ) -> Option<(String, Timestamp)> {
        let ttl = Duration::from_secs(u64::from(self.config.link_ttl_s));
        let end = (now + ttl).as_secs();
        let expires = end.div_euclid(GRAIN_S).saturating_add(1).saturating_mul(GRAIN_S);
        let signature = hex::encode(self.mac(event, expires)?.finalize().into_bytes());
        let Self { base, .. } = self;
        let name = name_of(mime);
        let url = format!("{base}/media/{event}/{name}?expires={expires}&signature={signature}");
        Some((url, Timestamp::from_millis(expires.saturating_mul(1_000))))
    }

    /// Whether we made this link, and it has not ended.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        event: EventId,
        expires: i64,
        signature: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let claimed = hex::decode(signature).map_err(|_| Refusal::Forged)?;
        let mac = self.mac(event, expires).ok_or(Refusal::Forged)?;
        mac.verify_slice(&claimed).map_err(|_| Refusal::Forged)?;
        if expires > now.as_secs() { Ok(()) } else { Err(Refusal::Expired) }
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("base", &self.base).finish_non_exhaustive()
    }
}

/// The payload, if it may have a file in it: hardly any has.
fn with_file(data: &[u8]) -> Option<Value> {
    let found = memchr::memmem::find(data, b"\"media\"");
    found.and_then(|_| serde_json::from_slice(data).ok())
}

/// The file of a message.
fn media_of(data: &mut Value) -> Option<&mut Value> {
    data.get_mut("content")?.get_mut("media")
}

/// What a payload says of its file.
#[derive(Debug, Deserialize)]
pub(crate) struct Kept {
    /// Its bytes, or what the store has put in their place, if it came with the event.
    #[serde(default)]
    pub(crate) base64: Option<String>,
    /// Its media type, as the upstream has it.
    #[serde(default)]
    pub(crate) mime: String,
    /// The sender's name for it.
    #[serde(default)]
    pub(crate) file_name: Option<String>,
}

impl Kept {
    /// The file of an event, if it has one.
    pub(crate) fn of(data: &[u8]) -> Option<Self> {
        let mut data = with_file(data)?;
        serde_json::from_value(media_of(&mut data)?.take()).ok()
    }

    /// Its bytes, where they are here.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        decode(self.base64.as_deref()?)
    }
}

/// Base64 as the upstreams write it: either alphabet, padded or not, on one line or several, alone
/// or in a `data:` URL.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let text = match text.split_once(";base64,") {
        Some((_, text)) => text,
        None => text,
    };
    let text = match text.contains(|letter: char| letter.is_ascii_whitespace()) {
        true => Cow::from(text.split_ascii_whitespace().collect::<String>()),
        false => Cow::from(text),
    };
    [STANDARD, URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, LENIENT).decode(text.as_ref()).ok())
}

/// The type without its parameters, in small letters.
pub(crate) fn family(mime: &str) -> String {
    mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A name with the ending that programs know the type by.
fn name_of(mime: &str) -> String {
    let family = family(mime);
    let ending = match family.as_str() {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/webp" => "webp",
        "image/gif" => "gif",
        "video/mp4" => "mp4",
        "video/3gpp" => "3gp",
        "audio/ogg" => "ogg",
        "audio/mpeg" => "mp3",
        "audio/mp4" => "m4a",
        "audio/aac" => "aac",
        "audio/amr" => "amr",
        "application/pdf" => "pdf",
        "text/plain" => "txt",
        "text/csv" => "csv",
        "application/zip" => "zip",
        "application/msword" => "doc",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        _ => "bin",
    };
    format!("file.{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_however_it_is_written() {
        for text in ["-_8=", "+/8=", "+/8", "data:image/png;base64,+/8=", " +/\n8=\r\n"] {
            assert_eq!(decode(text).as_deref(), Some(&[0xfb, 0xff][..]), "{text:?}");
        }
        assert_eq!(decode("no base64!"), None);
    }
}
