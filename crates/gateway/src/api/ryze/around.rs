//! What surrounds every request: its body is read before anything is refused, it is counted for its
//! token, and the answer says what that has left.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{Method, request::Parts};

use super::{access::Given, answer::Failure, limits::Limits};
use crate::{api::body::MAX_BODY, app::App, directory::token_hash};

/// Answers on a connection that can be used again: one on which a request was refused before its
/// body was read is closed.
pub(super) async fn surround(
    State((app, limits)): State<(App, Arc<Limits>)>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let key = known(&app, &parts).await;
    let nodes = u32::try_from(app.store.nodes()).unwrap_or(u32::MAX);
    let allowance = limits.take(key, creates(&parts), (app.clock)(), nodes);
    if let Some(allowance) = allowance {
        parts.extensions.insert(allowance);
    }
    let body = Request::new(body);
    let read = match key {
        Some(_) => app.bodies.read(body, MAX_BODY, "The body").await,
        None => app.bodies.read_of_stranger(body, MAX_BODY, "The body").await,
    };
    let mut response = match read {
        Ok(read) => {
            // Its room is taken until it has been answered.
            let _room = read.room;
            next.run(Request::from_parts(parts, Body::from(read.bytes))).await
        }
        Err(error) => Failure::from(error).into_response(),
    };
    if let Some(allowance) = allowance {
        allowance.put(response.headers_mut());
        if response.status() == http::StatusCode::TOO_MANY_REQUESTS && allowance.is_over {
            allowance.put_wait(response.headers_mut());
        }
    }
    response
}

/// What the request's token is counted by, if somebody has it.
async fn known(app: &App, parts: &Parts) -> Option<[u8; 32]> {
    let token = Given::of(parts)?;
    let hash = token_hash(&token.text);
    if bool::from(subtle::ConstantTimeEq::ct_eq(&hash[..], &app.admin_token_hash[..])) {
        return Some(hash);
    }
    // A store that cannot say is reported when the request is looked at.
    let holder = app.directory.holder(hash, (app.clock)()).await;
    holder.ok().flatten().map(|_| hash)
}

fn creates(parts: &Parts) -> bool {
    parts.method == Method::POST && parts.uri.path() == "/api/instance/new"
}
