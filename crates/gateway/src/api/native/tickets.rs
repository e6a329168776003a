//! Tickets: each opens one connection, soon, and is worth nothing afterwards. For browsers, whose
//! WebSockets carry no header: a URL with a ticket in it may be logged.

use axum::{extract::State, response::IntoResponse, response::Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zapbus_event::Timestamp;

use crate::{
    api::{
        auth::{Caller, Pass},
        body::OptionalJson,
        error::{ApiError, Changing},
        token,
    },
    app::App,
    directory::token_hash,
};

/// What tickets begin with.
const PREFIX: &str = "zt_";

/// What a ticket is for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateTicket {
    /// The only instance it opens, by id or name; whatever the token reaches when left out.
    #[serde(default)]
    instance: Option<String>,
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ticket)]
pub(super) struct TicketAnswer {
    /// Give it as `ticket` in the query of a stream.
    #[schema(example = "zt_…")]
    ticket: String,
    /// From when on it is refused.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Makes a ticket that opens one connection within a minute.
#[utoipa::path(
    post, path = "/v1/tickets", tag = "realtime", request_body = Option<CreateTicket>,
    responses((status = 201, body = TicketAnswer), Changing)
)]
pub(super) async fn create_ticket(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<CreateTicket>,
) -> Result<Response, ApiError> {
    let instance = match &body.instance {
        Some(text) => Some(caller.instance(&app, text).await?),
        None => None,
    };
    let pass = caller.pass(instance.as_ref().map(|known| &known.instance));
    let pass = serde_json::to_vec(&pass).map_err(ApiError::internal)?;
    let ticket = token::generate()?.replacen(token::PREFIX, PREFIX, 1);
    let lives = std::time::Duration::from_secs(app.realtime.config().ticket_s);
    let expires_at = (app.clock)() + lives;
    app.store.keep_ticket(token_hash(&ticket), pass, expires_at).await?;
    Ok((StatusCode::CREATED, axum::Json(TicketAnswer { ticket, expires_at })).into_response())
}

/// Whoever the ticket lets in, this once.
pub(super) async fn redeem(app: &App, ticket: &str) -> Result<Caller, ApiError> {
    let pass = app.store.take_ticket(token_hash(ticket), (app.clock)()).await?;
    let Some(pass) = pass else {
        return Err(ApiError::Unauthenticated {
            reason: "The ticket is not known, was used or has expired",
        });
    };
    let pass: Pass = serde_json::from_slice(&pass).map_err(ApiError::internal)?;
    Caller::of_pass(app, pass).await
}
