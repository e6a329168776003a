//! `Idempotency-Key`: the answer to a create is kept for 24 hours in the commit that creates,
//! so that whoever lost the answer gets it again instead of a second thing.

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts, uri::PathAndQuery,
};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zapbus_store::{Remember, StoreError};

use super::{auth::Caller, error::ApiError};
use crate::app::App;

/// The header with the key.
pub const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// Marks an answer that was given before.
const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The longest key.
const MAX_KEY: usize = 255;

/// What the key is for: same path, same query, same account, same body, same answer.
#[derive(Debug, Clone)]
pub struct Once {
    key: Option<String>,
    target: String,
}

impl FromRequestParts<App> for Once {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        Ok(Self {
            key: key(&parts.headers)?.map(str::to_owned),
            // Over HTTP/2 a URI has a host too, which may be another way to the same gateway.
            target: format!(
                "{} {}",
                parts.method,
                parts.uri.path_and_query().map_or("/", PathAndQuery::as_str)
            ),
        })
    }
}

/// The key of a request, if it has one.
pub fn key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(&KEY_HEADER) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if (1..=MAX_KEY).contains(&key.len()) => Ok(Some(key)),
        _ => Err(ApiError::invalid(
            "Idempotency-Key",
            format!("expected 1 to {MAX_KEY} visible ASCII characters"),
        )),
    }
}

/// A create under way.
#[derive(Debug)]
pub struct Creation {
    caller: String,
    key: Option<String>,
    request: [u8; 32],
}

impl Once {
    /// The answer that was given before to this very request, or leave to go on.
    pub async fn begin(
        self,
        app: &App,
        caller: &Caller,
        body: &[u8],
    ) -> Result<Result<Creation, Response>, ApiError> {
        let mut hash = Sha256::new();
        hash.update(self.target.as_bytes());
        hash.update([0]);
        if let Some(account) = caller.account {
            hash.update(account.to_bytes());
        }
        hash.update([0]);
        hash.update(body);
        let creation =
            Creation { caller: caller.actor().0, key: self.key, request: hash.finalize().into() };
        Ok(match creation.answered(app).await? {
            Some(answer) => Err(answer),
            None => Ok(creation),
        })
    }
}

impl Creation {
    /// What the store keeps with the thing that is created.
    pub fn remember<T: Serialize>(
        &self,
        status: StatusCode,
        answer: &T,
    ) -> Result<Option<Remember>, ApiError> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let body = serde_json::to_value(answer).map_err(ApiError::internal)?;
        Ok(Some(Remember {
            caller: self.caller.clone(),
            key: key.clone(),
            request: self.request,
            answer: kept(status, body),
        }))
    }

    /// When creating failed because something exists, it may be what this very request created
    /// when it ran for the first time, at the same moment.
    pub async fn resolve(&self, app: &App, error: StoreError) -> Result<Response, ApiError> {
        if matches!(error, StoreError::Exists { .. })
            && let Some(answer) = self.answered(app).await?
        {
            return Ok(answer);
        }
        Err(error.into())
    }

    async fn answered(&self, app: &App) -> Result<Option<Response>, ApiError> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let now = (app.clock)();
        let Some(remembered) = app.store.remembered(&self.caller, key, now).await? else {
            return Ok(None);
        };
        if remembered.request != self.request {
            return Err(ApiError::IdempotencyKeyReused);
        }
        replay(&remembered.answer).map(Some)
    }
}

/// An answer as it is kept.
pub fn kept(status: StatusCode, body: Value) -> Value {
    json!({ "status": status.as_u16(), "body": body })
}

fn replay(answer: &Value) -> Result<Response, ApiError> {
    let status = answer["status"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok())
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| ApiError::internal("a remembered answer has no status"))?;
    let body = serde_json::to_vec(&answer["body"]).map_err(ApiError::internal)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (REPLAYED_HEADER, HeaderValue::from_static("true")),
    ];
    Ok((status, headers, body).into_response())
}
