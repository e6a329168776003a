//! `POST /token`: an id and a secret for an access token.

use axum::{Json, extract::State};
use serde::Serialize;
use subtle::ConstantTimeEq;
use zapbus_store::Role;

use super::{answer::Failure, body::OfStranger, jwt};
use crate::{api::error::ApiError, app::App, directory::token_hash};

/// An access token. No envelope: every SDK reads these members at the top.
#[derive(Serialize)]
pub(super) struct AccessToken {
    access_token: String,
    expires_in: u32,
    token_type: &'static str,
}

/// Gives a token for a credential of an account.
pub(super) async fn give(
    State(app): State<App>,
    OfStranger(body): OfStranger,
) -> Result<Json<AccessToken>, Failure> {
    let client_token = body.text(&["client_token", "clientToken"])?;
    let client_secret = body.text(&["client_secret", "clientSecret"])?;
    let (Some(client_token), Some(client_secret)) = (client_token, client_secret) else {
        return Err(Failure::bad(
            "invalid",
            "client_token and client_secret: expected both, as texts.",
        ));
    };
    let wrong = || Failure::unauthorized("The client token or the client secret is not valid.");
    let found = app.store.credential_by_public_id(client_token).await?;
    let (credential, hashes) = found.ok_or_else(wrong)?;
    let given = token_hash(client_secret);
    let matches = hashes.iter().fold(false, |any, hash| any | bool::from(hash.ct_eq(&given)));
    let account = credential.account.filter(|_| matches && credential.role == Role::Account);
    let account = account.ok_or_else(wrong)?;
    let now = (app.clock)().as_secs();
    let expires_in = app.config.vzaps.token_ttl_s;
    let claims = jwt::Claims {
        sub: account,
        cid: credential.id,
        client_token: client_token.to_owned(),
        iat: now,
        exp: now.saturating_add(i64::from(expires_in)),
    };
    let access_token = jwt::sign(&app.store, &claims)
        .ok_or_else(|| ApiError::internal("an access token cannot be signed"))?;
    Ok(Json(AccessToken { access_token, expires_in, token_type: "Bearer" }))
}
