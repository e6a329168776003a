//! Access tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256, under a key derived from the
//! store's.
//!
//! Only the one header that we write is read: a token cannot choose how it is checked.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zapbus_event::{AccountId, CredentialId, Timestamp};
use zapbus_store::Store;

/// The shortest life of a token: SDKs fetch another a minute before it is over.
pub const MIN_LIFETIME_S: u32 = 120;

/// What the key is derived for.
const PURPOSE: &str = "vzaps access tokens";

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// The longest token that is looked at.
const MAX: usize = 2_048;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// The account.
    pub(super) sub: AccountId,
    /// The credential it was given for.
    pub(super) cid: CredentialId,
    /// That credential's public id.
    pub(super) client_token: String,
    /// When it was given, in seconds.
    pub(super) iat: i64,
    /// When it is over, in seconds.
    pub(super) exp: i64,
}

fn mac(store: &Store, signed: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&store.derive_key(PURPOSE)).ok()?;
    mac.update(signed.as_bytes());
    Some(mac)
}

/// A token that says so; `None` never happens, as any key will do for the algorithm.
pub(super) fn sign(store: &Store, claims: &Claims) -> Option<String> {
    let claims = serde_json::to_vec(claims).ok()?;
    let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = mac(store, &signed)?.finalize().into_bytes();
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Whether a bearer token has the form of a JSON Web Token at all.
pub(super) fn has_form(token: &str) -> bool {
    token.split('.').count() == 3
}

/// What a token says, if we signed it and it is not over.
pub(super) fn verify(store: &Store, token: &str, now: Timestamp) -> Option<Claims> {
    if token.len() > MAX {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    // Compares in constant time.
    mac(store, signed)?.verify_slice(&signature).ok()?;
    if header != HEADER {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    (claims.exp > now.as_secs()).then_some(claims)
}
