//! Who asks, and what they reach.
//!
//! A caller sees its own account (an instance token: its own instance), an admin sees all. What
//! a caller does not see answers exactly as what does not exist.

use std::{str::FromStr, sync::Arc};

use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zapbus_event::{AccountId, CredentialId, DestinationId, InstanceId};
use zapbus_store::{Account, Actor, Credential, DEFAULT_ACCOUNT, Destination, Instance, Role};

use super::error::{ApiError, What};
use crate::{
    app::App,
    directory::{Holder, Known, Named, token_hash},
    server::proxy::Peer,
};

/// Names the account an admin acts in: an id or a name.
pub const ACCOUNT_HEADER: &str = "zapbus-account";

/// Whoever asks, with what its token reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// What it may do.
    pub role: Role,
    /// The account it acts in; none for an admin who names none.
    pub account: Option<AccountId>,
    /// The one instance it reaches, for [`Role::Instance`].
    pub instance: Option<InstanceId>,
    /// Its credential, unless the token is the operator's or an instance's own.
    credential: Option<CredentialId>,
    /// What its token is found by; none for the operator's, which nobody revokes.
    token: Option<[u8; 32]>,
}

/// What decides whether somebody who was let in may stay.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// What each of its tokens is found by, but for the operator's.
    pub(crate) tokens: Vec<[u8; 32]>,
    /// The public id of the credential that it named, where that counts.
    pub(crate) client: Option<String>,
    /// The instance that it is all about, if it is one.
    pub(crate) instance: Option<InstanceId>,
}

/// What a ticket lets its bearer do: what whoever asked for it may, in one instance or all.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pass {
    role: Role,
    account: Option<AccountId>,
    instance: Option<InstanceId>,
    credential: Option<CredentialId>,
    token: Option<[u8; 32]>,
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Self::identify(app, &parts.headers).await
    }
}

impl Caller {
    /// Who these headers belong to.
    pub async fn identify(app: &App, headers: &HeaderMap) -> Result<Self, ApiError> {
        Self::of_token(app, bearer(headers)?, headers).await
    }

    /// Who this token belongs to, with the account that the headers name.
    pub(crate) async fn of_token(
        app: &App,
        token: &str,
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        let hash = token_hash(token);
        let mut caller = if bool::from(hash.ct_eq(&app.admin_token_hash)) {
            Self { role: Role::Admin, account: None, instance: None, credential: None, token: None }
        } else {
            let holder = app
                .directory
                .holder(hash, (app.clock)())
                .await?
                .ok_or(ApiError::Unauthenticated { reason: "The token is not known" })?;
            Self::holding(&holder, hash)
        };
        if let Some(account) = headers.get(ACCOUNT_HEADER) {
            let account = account.to_str().map_err(|_| ApiError::NotFound(What::Account))?;
            let account = find_account(app, account).await?;
            match caller.role {
                Role::Admin => caller.account = Some(account.id),
                Role::Account | Role::Instance if caller.account == Some(account.id) => {}
                Role::Account | Role::Instance => return Err(ApiError::NotFound(What::Account)),
            }
        }
        Ok(caller)
    }

    /// Whoever holds the token with this hash.
    pub(super) fn holding(holder: &Holder, token: [u8; 32]) -> Self {
        Self {
            role: holder.role,
            account: holder.account,
            instance: holder.instance,
            credential: holder.credential,
            token: Some(token),
        }
    }

    /// The operator with a key that means this account and nothing else.
    pub(super) fn of_account(account: AccountId) -> Self {
        Self {
            role: Role::Account,
            account: Some(account),
            instance: None,
            credential: None,
            token: None,
        }
    }

    /// Whoever shows something that was given for this credential.
    pub(super) fn using(credential: &Credential) -> Self {
        Self {
            role: credential.role,
            account: credential.account,
            instance: credential.instance,
            credential: Some(credential.id),
            token: None,
        }
    }

    /// Whose name stands in the audit log, and whose idempotency keys these are.
    pub fn actor(&self) -> Actor {
        Actor(match (self.role, self.credential, self.instance) {
            (_, Some(credential), _) => credential.to_string(),
            (Role::Instance, None, Some(instance)) => instance.to_string(),
            _ => "admin".to_owned(),
        })
    }

    /// What decides whether it may stay connected to what it reads.
    pub(crate) fn standing(&self, instance: Option<InstanceId>) -> Standing {
        Standing { tokens: self.token.into_iter().collect(), client: None, instance }
    }

    /// What a ticket of this caller lets its bearer do.
    pub(crate) fn pass(&self, instance: Option<&Instance>) -> Pass {
        let Self { role, account, credential, token, .. } = *self;
        match instance {
            Some(of) => Pass {
                role: Role::Instance,
                account: Some(of.account),
                instance: Some(of.id),
                credential,
                token,
            },
            None => Pass { role, account, instance: self.instance, credential, token },
        }
    }

    /// The bearer of a ticket. In a moment the token that it came from may be revoked: it is looked
    /// at as with the token itself.
    pub(crate) async fn of_pass(app: &App, pass: Pass) -> Result<Self, ApiError> {
        let Pass { role, account, instance, credential, token } = pass;
        if let Some(hash) = token
            && app.directory.holder(hash, (app.clock)()).await?.is_none()
        {
            return Err(ApiError::Unauthenticated { reason: "The token is not known" });
        }
        Ok(Self { role, account, instance, credential, token })
    }

    /// The same caller, acting in this account.
    pub fn within(self, account: AccountId) -> Self {
        Self { account: Some(account), ..self }
    }

    /// Refuses instance tokens.
    pub fn need_account(&self) -> Result<(), ApiError> {
        match self.role {
            Role::Admin | Role::Account => Ok(()),
            Role::Instance => Err(ApiError::Forbidden { needs: "an account or admin token" }),
        }
    }

    /// Refuses everyone but the operator.
    pub fn need_admin(&self) -> Result<(), ApiError> {
        match self.role {
            Role::Admin => Ok(()),
            Role::Account | Role::Instance => Err(ApiError::Forbidden { needs: "the admin token" }),
        }
    }

    /// The account it acts in; an admin who names none acts in the default account.
    pub async fn acting_account(&self, app: &App) -> Result<AccountId, ApiError> {
        match self.account {
            Some(account) => Ok(account),
            None => Ok(find_account(app, DEFAULT_ACCOUNT).await?.id),
        }
    }

    /// Whether it may see what belongs to this account, and there to this instance.
    pub fn sees(&self, account: AccountId, instance: Option<InstanceId>) -> bool {
        self.account.is_none_or(|own| own == account)
            && self.instance.is_none_or(|own| Some(own) == instance)
    }

    /// The account an id or a name stands for.
    pub async fn account(&self, app: &App, text: &str) -> Result<Account, ApiError> {
        let account = find_account(app, text).await?;
        if self.sees(account.id, self.instance) {
            Ok(account)
        } else {
            Err(ApiError::NotFound(What::Account))
        }
    }

    /// The instance that an id in any form, or a name, stands for.
    pub async fn instance(&self, app: &App, text: &str) -> Result<Arc<Known>, ApiError> {
        // A name may look like an id, even like one of another account.
        if let Ok(id) = InstanceId::from_str(text)
            && let Some(known) = app.directory.instance(id).await?
            && self.sees(known.instance.account, Some(id))
        {
            return Ok(known);
        }
        let found = match self.account {
            Some(account) => app.directory.instance_named(account, text).await?,
            None => match app.directory.only_instance_named(text).await? {
                Named::One(known) => Some(known),
                Named::Nobody => None,
                Named::Several => {
                    return Err(ApiError::AmbiguousInstance { name: text.to_owned() });
                }
            },
        };
        found
            .filter(|known| self.sees(known.instance.account, Some(known.instance.id)))
            .ok_or(ApiError::NotFound(What::Instance))
    }

    /// The destination with this id.
    pub async fn destination(&self, app: &App, text: &str) -> Result<Destination, ApiError> {
        let unknown = ApiError::NotFound(What::Destination);
        let Ok(id) = DestinationId::from_str(text) else {
            return Err(unknown);
        };
        match app.store.destination(id).await? {
            Some(found) if self.sees(found.account, found.instance) => Ok(found),
            _ => Err(unknown),
        }
    }
}

/// The account that an id or a name stands for, whoever asks.
pub async fn find_account(app: &App, text: &str) -> Result<Account, ApiError> {
    if let Ok(id) = AccountId::from_str(text)
        && let Some(account) = app.store.account(id).await?
    {
        return Ok(account);
    }
    app.store.account_by_name(text).await?.ok_or(ApiError::NotFound(What::Account))
}

/// Whether nobody else sees a URL that comes from there: client and gateway are on one machine.
pub(super) fn is_near(app: &App, peer: Option<Peer>) -> bool {
    app.config.listen.ip().is_loopback() && peer.is_none_or(|peer| peer.address.is_loopback())
}

/// The token of `Authorization: Bearer <token>`.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let refuse = |reason| ApiError::Unauthenticated { reason };
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| refuse("The request has no Authorization header"))?;
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(|| refuse("The Authorization header is not `Bearer <token>`"))?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(refuse("The Authorization header is not `Bearer <token>`"));
    }
    Ok(token.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn token(value: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
        bearer(&headers).ok().map(str::to_owned)
    }

    #[test]
    fn only_a_bearer_token_is_a_token() {
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer  abc ").as_deref(), Some("abc"));
        for other in ["abc", "Basic abc", "Bearer ", "Bearer"] {
            assert_eq!(token(other), None, "{other}");
        }
        assert!(bearer(&HeaderMap::new()).is_err());
    }
}
