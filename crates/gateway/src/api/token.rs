//! Tokens and ids: made at random, shown once.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::error::ApiError;

/// What tokens begin with, so that people and leak scanners recognise them.
pub const PREFIX: &str = "zb_";

/// What the operator's begins with.
pub const ADMIN_PREFIX: &str = "zb_admin_";

/// A new token for a caller of the API.
pub fn generate() -> Result<String, ApiError> {
    make(PREFIX).map_err(ApiError::internal)
}

/// A new token: 256 random bits behind a prefix.
pub fn make(prefix: &str) -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// Random bits for a new id.
pub fn random() -> Result<u128, ApiError> {
    zapbus_store::random_bits().map_err(ApiError::internal)
}
