//! Who asks, and what they reach: an account's token everything of it, an instance's token that
//! instance.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{HeaderName, StatusCode, header, request::Parts};
use zapbus_event::InstanceId;
use zapbus_store::{RESERVED_INSTANCE, Role};

use super::{answer::Failure, is_socket, limits::Allowance};
use crate::{
    api::{
        Standing,
        auth::{Caller, bearer, is_near},
        error::ApiError,
    },
    app::App,
    directory::Known,
    server::proxy::Peer,
};

const TOKEN: HeaderName = HeaderName::from_static("token");

/// A token as it came.
pub(super) struct Given {
    pub(super) text: String,
    /// In the query, where everybody logs it.
    in_query: bool,
}

impl Given {
    /// `token`, else `Authorization: Bearer`, else, on a WebSocket, `?token=`.
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        let header = parts.headers.get(&TOKEN).map(|value| value.to_str().unwrap_or("\u{fffd}"));
        let header = header.map(str::trim).filter(|text| !text.is_empty());
        let bearer = || match parts.headers.contains_key(header::AUTHORIZATION) {
            true => bearer(&parts.headers).ok(),
            false => None,
        };
        if let Some(text) = header.or_else(bearer) {
            return Some(Self { text: text.to_owned(), in_query: false });
        }
        let query = parts.uri.query().filter(|_| is_socket(parts.uri.path()))?;
        let found = url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, value)| name == "token" && !value.trim().is_empty());
        found.map(|(_, value)| Self { text: value.trim().to_owned(), in_query: true })
    }
}

/// Whoever asks.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) caller: Caller,
    /// What its token has left, if it is limited.
    allowance: Option<Allowance>,
}

impl FromRequestParts<App> for Access {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let Some(given) = Given::of(parts) else {
            return Err(Failure::unauthorized(match is_socket(parts.uri.path()) {
                true => "Missing token in header, Authorization header, or query parameter",
                false => "Missing token in header",
            }));
        };
        let caller = Caller::of_token(app, &given.text, &parts.headers).await?;
        let peer = parts.extensions.get::<Peer>().copied();
        if given.in_query && caller.role == Role::Admin && !is_near(app, peer) {
            return Err(Failure::unauthorized(
                "Invalid token: the admin token is not taken from a URL",
            ));
        }
        Ok(Self { caller, allowance: parts.extensions.get().copied() })
    }
}

impl Access {
    /// Refuses instance tokens, and whoever has asked too often.
    pub(super) fn need_account(&self) -> Result<(), Failure> {
        match self.caller.role {
            Role::Admin | Role::Account => self.need_allowance(),
            Role::Instance => Err(Failure::invalid_token()),
        }
    }

    /// Refuses whoever has asked too often.
    pub(super) fn need_allowance(&self) -> Result<(), Failure> {
        match self.allowance.is_some_and(|allowance| allowance.is_over) {
            true => Err(Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Rate limit exceeded. Try again later.",
            )),
            false => Ok(()),
        }
    }

    /// What decides whether a connection to an instance may stay.
    pub(super) fn standing(&self, instance: InstanceId) -> Standing {
        self.caller.standing(Some(instance))
    }

    /// The instance with this name, or with this id in any form.
    pub(super) async fn instance(&self, app: &App, text: &str) -> Result<Arc<Known>, Failure> {
        let failed = |error| Failure::while_doing(error, "Failed to get instance");
        let known = self.find(app, text).await.map_err(failed)?;
        let known = known
            .filter(|known| known.instance.name != RESERVED_INSTANCE)
            .ok_or_else(Failure::no_instance)?;
        if self.caller.instance.is_some_and(|own| own != known.instance.id) {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "Instance token does not match this instance",
            ));
        }
        self.need_allowance()?;
        Ok(known)
    }

    async fn find(&self, app: &App, text: &str) -> Result<Option<Arc<Known>>, ApiError> {
        let account = self.caller.acting_account(app).await?;
        if let Some(known) = app.directory.instance_named(account, text).await? {
            return Ok(Some(known));
        }
        let Ok(id) = text.parse::<InstanceId>() else { return Ok(None) };
        let known = app.directory.instance(id).await?;
        let own = self.caller.account;
        Ok(known.filter(|known| own.is_none_or(|own| own == known.instance.account)))
    }
}
