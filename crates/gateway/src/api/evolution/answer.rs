//! Errors as Evolution's clients read them.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use zapbus_store::StoreError;

use crate::api::error::ApiError;

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    /// The member `message`: a text, a list of texts, or, of what does not fit a schema, a list in
    /// a list.
    message: Value,
    /// Where it came from, for its log line and headers.
    cause: Option<Box<ApiError>>,
}

impl Failure {
    pub(super) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    fn new(status: StatusCode, message: Value) -> Self {
        Self { status, message, cause: None }
    }

    /// A request that reads well and asks for something wrong.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, json!([message.into()]))
    }

    /// The same with another line that says why.
    pub(super) fn because(mut self, why: impl Into<String>) -> Self {
        if let Value::Array(lines) = &mut self.message {
            lines.push(why.into().into());
        }
        self
    }

    /// A body that is not what it should be: everything that is wrong with it.
    pub(super) fn schema(faults: Vec<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, json!([faults]))
    }

    /// A key that is missing or wrong.
    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, json!("Unauthorized"))
    }

    /// A name that is taken.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, json!([message.into()]))
    }

    /// What is not there.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, json!([message.into()]))
    }

    /// An instance that is not there.
    pub(super) fn no_instance(name: &str) -> Self {
        Self::not_found(format!("The \"{name}\" instance does not exist"))
    }

    /// What this gateway does not do.
    pub(super) fn not_offered(what: &str) -> Self {
        let message =
            format!("Zapbus delivers events; {what}. Ask the product that holds the session.");
        Self::new(StatusCode::NOT_IMPLEMENTED, json!([message]))
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        if matches!(error, ApiError::Unauthenticated { .. } | ApiError::Forbidden { .. }) {
            return Self::unauthorized();
        }
        // Upstream has one status for every body that it does not take.
        let status = match error.status() {
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::CONFLICT => StatusCode::BAD_REQUEST,
            status => status,
        };
        let message = json!([error.problem().detail]);
        Self { status, message, cause: Some(Box::new(error)) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

/// What a failed answer said, for whoever wants to be told of it.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) error: &'static str,
    pub(super) message: Value,
}

#[derive(Serialize)]
struct Body<'a> {
    status: u16,
    error: &'a str,
    response: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a Value,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = self.status.canonical_reason().unwrap_or("Error");
        let response = Inner { message: &self.message };
        let body = Body { status: self.status.as_u16(), error, response };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        // Logs what is for the operator, and says when to come back.
        let mut headers = match self.cause {
            Some(cause) => (*cause).into_response().headers().clone(),
            None => HeaderMap::new(),
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.remove(header::CONTENT_LENGTH);
        let mut response = (self.status, headers, body).into_response();
        response.extensions_mut().insert(Said { error, message: self.message });
        response
    }
}
