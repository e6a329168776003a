//! What surrounds every request: its body is read before anything is refused, and the answer gets an
//! `X-Request-Id`, the caller's own or a new one.

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue};

use super::answer::Failure;
use crate::{api::body::MAX_BODY, app::App};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id of a caller's own that is given back.
const MAX: usize = 128;

/// Answers with the id, on a connection that can be used again: one on which a request was refused
/// before its body was read is closed, and SDKs that keep connections fail with their next request.
pub(super) async fn surround(State(app): State<App>, request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).cloned();
    let (parts, body) = request.into_parts();
    let mut response = match app.bodies.read(Request::new(body), MAX_BODY, "The body").await {
        Ok(read) => {
            // Its room is taken until it has been answered.
            let _room = read.room;
            next.run(Request::from_parts(parts, Body::from(read.bytes))).await
        }
        Err(error) => Failure::from(error).into_response(),
    };
    put(&mut response, given);
    response
}

/// The caller's own id if it can be one, or a new one.
pub(super) fn put(response: &mut Response, given: Option<HeaderValue>) {
    let given = given.filter(|id| {
        (1..=MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    let id = given.or_else(|| {
        let random = zapbus_store::random_bits().ok()?;
        HeaderValue::try_from(format!("req_{random:032x}")).ok()
    });
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
}
