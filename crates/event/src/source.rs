//! What upstreams say: one decoder per product, from the exact bytes it posted to drafts.
//!
//! A decoder cannot fail and drops nothing: what it does not understand becomes `event.unknown`,
//! and every body yields at least one draft.

pub mod cloud_api;
mod compound;
mod delivery;
mod scalar;

use crate::Draft;

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
