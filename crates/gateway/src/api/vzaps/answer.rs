//! Envelopes and errors as VZaps's SDKs read them.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use zapbus_store::StoreError;

use crate::api::error::ApiError;

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Where it came from, for its log line and headers.
    cause: Option<ApiError>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), cause: None }
    }

    /// A request that reads well and asks for something wrong.
    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The same with another status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Credentials that are missing or wrong.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// What this gateway does not do.
    pub(super) fn not_offered(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "not_offered",
            format!("Zapbus delivers events; {what}. Ask the product that holds the session."),
        )
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let problem = error.problem();
        // VZaps has one status for every request that asks for something impossible.
        let status = match error.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Self { status, code: problem.code, message: problem.detail, cause: Some(error) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    success: bool,
    code: &'a str,
    error: &'a str,
    message: &'a str,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body =
            Body { success: false, code: self.code, error: &self.message, message: &self.message };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        // Logs what is for the operator, and says when to come back.
        let mut headers = match self.cause {
            Some(cause) => cause.into_response().headers().clone(),
            None => http::HeaderMap::new(),
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.remove(header::CONTENT_LENGTH);
        (self.status, headers, body).into_response()
    }
}

/// `{"code": 200, "success": true, "data": …}`.
pub(super) fn enveloped(data: impl Serialize) -> Result<Response, Failure> {
    let data = serde_json::to_value(data).map_err(ApiError::internal)?;
    Ok(Json(json!({ "code": 200, "success": true, "data": data })).into_response())
}
