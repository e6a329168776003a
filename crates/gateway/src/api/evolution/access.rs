//! Who asks: the header `apikey` with the operator's key, a token of ours, or an instance's token.
//!
//! The key is looked at before anything else: whoever has none learns nothing about which instances
//! there are.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{HeaderName, request::Parts};
use subtle::ConstantTimeEq;
use zapbus_event::{AccountId, InstanceId};
use zapbus_store::{DEFAULT_ACCOUNT, RESERVED_INSTANCE, Role};

use super::answer::Failure;
use crate::{
    api::auth::{Caller, find_account},
    app::App,
    directory::{Known, token_hash},
};

const APIKEY: HeaderName = HeaderName::from_static("apikey");

/// Whoever asks, in the account that it asks about.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) caller: Caller,
    pub(super) account: AccountId,
}

impl FromRequestParts<App> for Access {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let key = parts.headers.get(APIKEY).and_then(|key| key.to_str().ok()).map(str::trim);
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            return Err(Failure::unauthorized());
        };
        if is_operators(app, key) {
            let account = find_account(app, DEFAULT_ACCOUNT).await?.id;
            return Ok(Self { caller: Caller::of_account(account), account });
        }
        let caller = Caller::of_token(app, key, &parts.headers).await?;
        let account = caller.acting_account(app).await?;
        Ok(Self { caller: caller.within(account), account })
    }
}

/// Whether this is the operator's key of Evolution, which means the default account.
pub(crate) fn is_operators(app: &App, key: &str) -> bool {
    let Some(configured) = &app.config.evolution.api_key else {
        return false;
    };
    token_hash(configured.expose()).ct_eq(&token_hash(key)).into()
}

impl Access {
    /// The instance with this name, or, where no name is meant, with this id.
    pub(super) async fn instance(&self, app: &App, name: &str) -> Result<Arc<Known>, Failure> {
        let known = self.find(app, name).await?;
        match (self.caller.role, known) {
            (_, Some(known)) if self.sees(&known) => Ok(known),
            // Whether there is such an instance is nothing for the holder of another one's key.
            (Role::Instance, _) => Err(Failure::unauthorized()),
            (Role::Admin | Role::Account, _) => Err(Failure::no_instance(name)),
        }
    }

    async fn find(&self, app: &App, name: &str) -> Result<Option<Arc<Known>>, Failure> {
        let named = app.directory.instance_named(self.account, name).await?;
        let found = match (named, name.parse::<InstanceId>()) {
            (None, Ok(id)) => app.directory.instance(id).await?,
            (named, _) => named,
        };
        Ok(found.filter(|known| known.instance.name != RESERVED_INSTANCE))
    }

    fn sees(&self, known: &Known) -> bool {
        self.caller.sees(known.instance.account, Some(known.instance.id))
    }

    /// Refuses whoever has only an instance's key.
    pub(super) fn need_account(&self) -> Result<(), Failure> {
        match self.caller.role {
            Role::Admin | Role::Account => Ok(()),
            Role::Instance => Err(Failure::unauthorized()),
        }
    }
}
