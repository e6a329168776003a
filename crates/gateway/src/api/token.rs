//! Tokens and ids: made at random, shown once.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::error::ApiError;

/// What tokens begin with, so that people and leak scanners recognise them.
pub const PREFIX: &str = "zb_";

/// A new token: 256 random bits.
pub fn generate() -> Result<String, ApiError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(ApiError::internal)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// Random bits for a new id.
pub fn random() -> Result<u128, ApiError> {
    zapbus_store::random_bits().map_err(ApiError::internal)
}
