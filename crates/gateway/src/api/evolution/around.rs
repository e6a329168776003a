//! What surrounds every request: its body is read before anything is refused, and a failure is told
//! to whoever wants to know.

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::answer::{Failure, Said};
use crate::{api::body::MAX_BODY, app::App};

/// The body of a request, read.
#[derive(Debug, Clone)]
pub(super) struct Read(pub(super) Bytes);

/// Answers on a connection that can be used again: one on which a request was refused before its body
/// was read is closed, and clients that keep connections fail with their next request.
pub(super) async fn surround(State(app): State<App>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // The key is looked at with the route.
    let body = Request::new(body);
    let response = match app.bodies.read_of_stranger(body, MAX_BODY, "The body").await {
        Ok(read) => {
            // Its room is taken until it has been answered.
            let _room = read.room;
            let mut request = Request::from_parts(parts, Body::empty());
            request.extensions_mut().insert(Read(read.bytes));
            next.run(request).await
        }
        Err(error) => Failure::from(error).into_response(),
    };
    if let Some(reporter) = &app.evolution.errors
        && let Some(said) = response.extensions().get::<Said>()
    {
        reporter.tell(response.status(), said);
    }
    response
}
