//! Envelopes and errors as `RyzeAPI`'s clients read them.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use zapbus_store::StoreError;

use crate::api::error::{ApiError, What};

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    message: String,
    /// Where it came from, for its log line and headers.
    cause: Option<ApiError>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), cause: None }
    }

    /// A request that asks for something wrong.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A body that is none, or has a member of the wrong type.
    pub(super) fn body(why: Option<String>) -> Self {
        const DOCUMENTED: &str = "Invalid request body";
        Self::bad(match why {
            None => DOCUMENTED.to_owned(),
            Some(why) => format!("{DOCUMENTED}: {why}"),
        })
    }

    /// A token that is missing or wrong.
    pub(super) fn unauthorized(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// A token that nobody has (any more), or that does not reach that far.
    pub(super) fn invalid_token() -> Self {
        Self::unauthorized("Invalid token")
    }

    pub(super) fn no_instance() -> Self {
        ApiError::NotFound(What::Instance).into()
    }

    /// What this gateway does not do.
    pub(super) fn not_offered(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("Zapbus delivers events; {what}. Ask the product that holds the session."),
        )
    }

    /// The same as a fault of ours, in the words that are documented for it.
    pub(super) fn while_doing(error: ApiError, message: impl Into<String>) -> Self {
        match error.status().is_server_error() {
            true => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                message: message.into(),
                cause: Some(error),
            },
            false => error.into(),
        }
    }

    /// What a person may read of it in a log.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let message = match &error {
            ApiError::Unauthenticated { .. } => "Invalid token".to_owned(),
            ApiError::NotFound(What::Instance) => "Instance not found".to_owned(),
            ApiError::Malformed(_) | ApiError::BrokenBody => "Invalid request body".to_owned(),
            ApiError::Exists { what: "instance", .. } => "Instance already exists".to_owned(),
            ApiError::Conflict { code: "too_many_instances", .. } => {
                "Account instance quota exceeded".to_owned()
            }
            error => error.problem().detail,
        };
        // There is one status for every request that asks for something impossible.
        let status = match (&error, error.status()) {
            (ApiError::Conflict { code: "too_many_instances", .. }, _) => StatusCode::FORBIDDEN,
            (_, StatusCode::UNPROCESSABLE_ENTITY) => StatusCode::BAD_REQUEST,
            (_, status) => status,
        };
        Self { status, message, cause: Some(error) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "success": false, "error": { "message": self.message } }).to_string();
        // Logs what is for the operator, and says when to come back.
        let mut headers = match self.cause {
            Some(cause) => cause.into_response().headers().clone(),
            None => HeaderMap::new(),
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.remove(header::CONTENT_LENGTH);
        (self.status, headers, body).into_response()
    }
}

/// `{"success": true, "message": …}` and what is asked for, under its name.
pub(super) fn done<'a>(
    status: StatusCode,
    message: impl Into<String>,
    members: impl IntoIterator<Item = (&'a str, Value)>,
) -> Response {
    let mut body = Map::new();
    body.insert("success".to_owned(), true.into());
    body.insert("message".to_owned(), message.into().into());
    body.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
    (status, Json(Value::Object(body))).into_response()
}
