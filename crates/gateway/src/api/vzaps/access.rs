//! Who asks, and what they reach: an access token, or an instance's token with its owner's client
//! token.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, StatusCode, header, request::Parts};
use zapbus_event::InstanceId;
use zapbus_store::{RESERVED_INSTANCE, Role};

use super::{answer::Failure, jwt};
use crate::{
    api::{
        Standing,
        auth::{Caller, bearer},
        error::{ApiError, What},
    },
    app::App,
    directory::{Known, token_hash},
};

const CLIENT_TOKEN: HeaderName = HeaderName::from_static("x-client-token");
const INSTANCE_TOKEN: HeaderName = HeaderName::from_static("x-instance-token");

/// The credentials of a request, as they came.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Of `Authorization: Bearer`.
    pub(super) bearer: Option<String>,
    pub(super) client_token: Option<String>,
    pub(super) instance_token: Option<String>,
}

impl Given {
    /// What the headers hold.
    pub(super) fn of_headers(headers: &HeaderMap) -> Result<Self, Failure> {
        let text = |name: &HeaderName| match headers.get(name).map(http::HeaderValue::to_str) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Err(_)) => Err(Failure::unauthorized(format!("{name} is not a text."))),
        };
        let bearer = match headers.contains_key(header::AUTHORIZATION) {
            true => Some(bearer(headers)?.to_owned()),
            false => None,
        };
        Ok(Self {
            bearer,
            client_token: text(&CLIENT_TOKEN)?,
            instance_token: text(&INSTANCE_TOKEN)?,
        })
    }
}

/// Whoever asks, with the instance's token if one was given.
#[derive(Debug)]
pub(super) struct Access {
    /// With an instance's token alone: of that instance.
    pub(super) caller: Caller,
    /// Whose acknowledgements these are: the credential that the client token names.
    pub(super) client: String,
    /// The public id of that credential, if a client token was given or stands in the access token.
    client_token: Option<String>,
    /// What the given instance token is found by.
    token: Option<[u8; 32]>,
    /// The instance that it belongs to.
    token_of: Option<InstanceId>,
}

impl FromRequestParts<App> for Access {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        Self::of(app, Given::of_headers(&parts.headers)?, &parts.headers).await
    }
}

impl Access {
    /// Who these credentials belong to.
    pub(super) async fn of(app: &App, given: Given, headers: &HeaderMap) -> Result<Self, Failure> {
        let now = (app.clock)();
        // A wrong token of an instance says nothing about which it would be: whoever names an
        // instance learns that they do not fit.
        let token = given.instance_token.as_deref().map(token_hash);
        let holder = match token {
            Some(token) => {
                let holder = app.directory.holder(token, now).await?;
                let holder = holder.filter(|holder| holder.role == Role::Instance);
                Some(holder.ok_or_else(wrong_instance_token)?)
            }
            None => None,
        };
        let token_of = holder.as_ref().and_then(|holder| holder.instance);
        let (caller, client, client_token) = match &given.bearer {
            Some(bearer) => {
                let (caller, client_token) = of_bearer(app, bearer, &given, headers).await?;
                caller.need_account().map_err(|_| {
                    Failure::unauthorized("An instance's token goes in X-Instance-Token.")
                })?;
                let client = caller.actor().0;
                (caller, client, client_token)
            }
            None => {
                let (Some(client_token), Some(holder), Some(token)) =
                    (&given.client_token, &holder, token)
                else {
                    return Err(Failure::unauthorized(
                        "Send Authorization: Bearer <access token>, or X-Client-Token with \
                         X-Instance-Token.",
                    ));
                };
                let found = app.store.credential_by_public_id(client_token).await?;
                let credential = found
                    .map(|(credential, _)| credential)
                    .filter(|it| it.account.is_some() && it.account == holder.account)
                    .ok_or_else(|| {
                        Failure::unauthorized(
                            "X-Client-Token and X-Instance-Token do not belong together.",
                        )
                    })?;
                let caller = Caller::holding(holder, token);
                (caller, credential.id.to_string(), credential.public_id)
            }
        };
        Ok(Self { caller, client, client_token, token, token_of })
    }

    /// What decides whether a connection to an instance may stay: all that it was let in with.
    pub(super) fn standing(&self, instance: InstanceId) -> Standing {
        let mut standing = self.caller.standing(Some(instance));
        let others = self.token.filter(|token| !standing.tokens.contains(token));
        standing.tokens.extend(others);
        Standing { client: self.client_token.clone(), ..standing }
    }

    /// Refuses whoever has only an instance's token.
    pub(super) fn need_account(&self) -> Result<(), Failure> {
        match self.caller.role {
            Role::Admin | Role::Account => Ok(()),
            Role::Instance => Err(Failure::unauthorized(
                "This needs Authorization: Bearer <access token>; an instance's token is not \
                 enough.",
            )),
        }
    }

    /// The instance with this id, in any form, or with this name.
    pub(super) async fn instance(&self, app: &App, text: &str) -> Result<Arc<Known>, Failure> {
        let known = self.find(app, text).await?;
        if self.caller.role == Role::Instance {
            return known
                .filter(|known| self.token_of == Some(known.instance.id))
                .ok_or_else(wrong_instance_token);
        }
        let Some(known) = known else {
            return Err(ApiError::NotFound(What::Instance).into());
        };
        if !self.caller.sees(known.instance.account, Some(known.instance.id)) {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "This instance belongs to another account.",
            ));
        }
        if self.token_of.is_some_and(|token_of| token_of != known.instance.id) {
            return Err(wrong_instance_token());
        }
        Ok(known)
    }

    async fn find(&self, app: &App, text: &str) -> Result<Option<Arc<Known>>, Failure> {
        let by_id = match text.parse::<InstanceId>() {
            Ok(id) => app.directory.instance(id).await?,
            Err(_) => None,
        };
        let found = match by_id {
            Some(known) => Some(known),
            // An instance that moved here from VZaps may be called by the id it had there.
            None => {
                let account = self.caller.acting_account(app).await?;
                app.directory.instance_named(account, text).await?
            }
        };
        Ok(found.filter(|known| known.instance.name != RESERVED_INSTANCE))
    }
}

fn wrong_instance_token() -> Failure {
    Failure::unauthorized("X-Instance-Token is not that of this instance.")
}

/// Of an access token, or of a token of our own API; with the client token that goes with it.
async fn of_bearer(
    app: &App,
    token: &str,
    given: &Given,
    headers: &HeaderMap,
) -> Result<(Caller, Option<String>), Failure> {
    let invalid = || Failure::unauthorized("The access token is not valid, or has expired.");
    if !jwt::has_form(token) {
        let caller = Caller::of_token(app, token, headers).await.map_err(|error| match error {
            ApiError::Unauthenticated { .. } => invalid(),
            error => error.into(),
        })?;
        if let Some(client_token) = &given.client_token {
            let found = app.store.credential_by_public_id(client_token).await?;
            let account = found.and_then(|(credential, _)| credential.account);
            if account.is_none() || caller.account.is_some_and(|own| Some(own) != account) {
                return Err(wrong_client_token());
            }
        }
        return Ok((caller, given.client_token.clone()));
    }
    let claims = jwt::verify(&app.store, token, (app.clock)()).ok_or_else(invalid)?;
    // Revoked or expired credentials take their tokens with them.
    let found = app.store.credential_by_public_id(&claims.client_token).await?;
    let credential = found
        .map(|(credential, _)| credential)
        .filter(|credential| credential.id == claims.cid && credential.account == Some(claims.sub));
    let credential = credential.ok_or_else(invalid)?;
    if given.client_token.as_ref().is_some_and(|given| *given != claims.client_token) {
        return Err(wrong_client_token());
    }
    Ok((Caller::using(&credential), Some(claims.client_token)))
}

fn wrong_client_token() -> Failure {
    Failure::unauthorized("X-Client-Token is not that of the access token.")
}
