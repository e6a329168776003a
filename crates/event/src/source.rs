//! What upstreams say: one decoder per product, from the exact bytes it posted to drafts.
//!
//! A decoder cannot fail and drops nothing: what it does not understand becomes `event.unknown`,
//! and every body yields at least one draft.

mod again;
pub mod cloud_api;
mod compound;
mod delivery;
pub mod evolution;
mod members;
mod people;
mod placed;
mod scalar;
pub mod signature;
pub mod waha;
mod web_message;
pub mod wuzapi;

use serde_json::value::RawValue;

pub use self::again::again;
pub(crate) use self::members::Members;
use crate::{Draft, SourceKind};

/// What an upstream's body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The events in the order in which they stand in the body; never empty.
    pub events: Vec<Routed>,
    /// SHA-256 of the body, when the whole of it must be kept: some part was not understood, and
    /// its `body_ref` (`sha256:<hex>`) points there.
    pub keep_body: Option<[u8; 32]>,
}

/// A draft with what the body says about whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// Cloud API: the number it concerns; absent for changes of a whole business account.
    pub phone_number_id: Option<String>,
    /// Cloud API: the WhatsApp Business Account.
    pub waba_id: Option<String>,
    /// The event.
    pub draft: Draft,
}

/// What decrypts the file of a message, taken from the upstream's element: pairs of a member's
/// name, as Baileys has it, and its value. Empty where the upstream hands on no such keys.
pub(crate) fn media_keys(kind: SourceKind, raw: &[u8]) -> Vec<(&'static str, String)> {
    let path: &[&str] = match kind {
        SourceKind::Wuzapi => &["event", "Message"],
        SourceKind::Waha => &["payload", "_data", "message"],
        _ => return Vec::new(),
    };
    let whole = serde_json::from_slice::<&RawValue>(raw).ok().and_then(Members::of);
    let Some(whole) = whole else { return Vec::new() };
    let message = path.iter().try_fold(whole, |at, name| at.object(name));
    message.map(|message| web_message::media_keys(&message)).unwrap_or_default()
}
