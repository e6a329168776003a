//! What every source's door does: find whose it is, answer, and tell of what it refuses.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;
use zapbus_event::{InstanceId, SourceKind};

use crate::{
    api::{
        auth::{ACCOUNT_HEADER, find_account},
        error::{ApiError, What},
    },
    app::App,
    directory::{Known, Named},
    server::proxy::Peer,
    telemetry::Ingested,
};

/// What the upstream is told: nothing but that it was stored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Received)]
pub(super) struct ReceivedAnswer {
    /// Events stored, those known already not counted.
    stored: usize,
}

/// The instance that the last segment of a source's path stands for: by id or name.
pub(super) async fn instance(
    app: &App,
    headers: &HeaderMap,
    target: &str,
) -> Result<Arc<Known>, ApiError> {
    let known = match target.parse::<InstanceId>() {
        Ok(id) => app.directory.instance(id).await?,
        Err(_) => None,
    };
    if let Some(known) = known {
        return Ok(known);
    }
    match by_name(app, headers, target).await? {
        Named::One(known) => Ok(known),
        Named::Nobody => Err(ApiError::NotFound(What::Instance)),
        Named::Several => Err(ApiError::AmbiguousInstance { name: target.to_owned() }),
    }
}

async fn by_name(app: &App, headers: &HeaderMap, name: &str) -> Result<Named, ApiError> {
    let Some(account) = headers.get(ACCOUNT_HEADER) else {
        return Ok(app.directory.only_instance_named(name).await?);
    };
    let account = account.to_str().map_err(|_| ApiError::NotFound(What::Instance))?;
    let account = match find_account(app, account).await {
        Ok(account) => account,
        Err(ApiError::NotFound(_)) => return Ok(Named::Nobody),
        Err(error) => return Err(error),
    };
    Ok(match app.directory.instance_named(account.id, name).await? {
        Some(known) => Named::One(known),
        None => Named::Nobody,
    })
}

/// A request at a source's door.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    kind: SourceKind,
    peer: Option<Peer>,
}

impl Visit {
    pub(super) fn of(kind: SourceKind, request: &Request) -> Self {
        Self { kind, peer: request.extensions().get::<Peer>().copied() }
    }

    /// Nothing listens there. Somebody who tries paths is counted, and has no line: the log is
    /// not theirs to fill.
    pub(super) fn lost(self, app: &App, error: ApiError) -> ApiError {
        self.is_refused(app, &error);
        error
    }

    /// The answer of the source that is called `callback` in the log.
    pub(super) fn answer(
        self,
        app: &App,
        callback: impl FnOnce() -> String,
        result: Result<usize, ApiError>,
    ) -> Result<Response, ApiError> {
        let error = match result {
            Ok(stored) => return Ok(axum::Json(ReceivedAnswer { stored }).into_response()),
            Err(error) => error,
        };
        if self.is_refused(app, &error) {
            let name = callback();
            if let Some(posts) = app.refusals.tell(&name, Instant::now()) {
                tracing::info!(
                    event = "source.refused",
                    source = self.kind.as_str(),
                    callback = name,
                    code = error.code(),
                    peer = self.peer.map(|peer| tracing::field::display(peer.address)),
                    posts,
                    "a source refuses what is posted to it"
                );
            }
        }
        Err(error)
    }

    /// The caller is to blame, which is counted.
    fn is_refused(self, app: &App, error: &ApiError) -> bool {
        let refused = error.status().is_client_error();
        if refused {
            app.telemetry.ingested(self.kind, Ingested::Refused, 1);
        }
        refused
    }
}
