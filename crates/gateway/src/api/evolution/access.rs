//! Who asks.

use subtle::ConstantTimeEq;

use crate::{app::App, directory::token_hash};

/// Whether this is the operator's key of Evolution, which means the default account.
pub(crate) fn is_operators(app: &App, key: &str) -> bool {
    let Some(configured) = &app.config.evolution.api_key else {
        return false;
    };
    token_hash(configured.expose()).ct_eq(&token_hash(key)).into()
}
