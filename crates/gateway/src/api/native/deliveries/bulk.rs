//! Sending many deliveries again.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zapbus_store::Status;

use super::{
    super::complete,
    search::{Filters, Given, Wanted},
};
use crate::{
    api::{
        auth::Caller,
        body::Json,
        error::{ApiError, Changing},
        page,
    },
    app::App,
};

/// Deliveries one bulk retry may set going.
const MAX_BULK: usize = 10_000;

/// Which deliveries to send again. At least one filter is required.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api::native) struct RetryRequest {
    /// Of events of this instance: id in any form, or name.
    #[serde(default)]
    instance: Option<String>,
    /// Of this destination.
    #[serde(default)]
    destination: Option<String>,
    /// In one of these states; `dead` when left out.
    #[serde(default)]
    #[schema(example = json!(["dead"]))]
    status: Option<Vec<String>>,
    /// Of these event types.
    #[serde(default)]
    event_type: Option<Vec<String>>,
    /// Of this event.
    #[serde(default)]
    event_id: Option<String>,
    /// Whose last attempt was answered with this HTTP status.
    #[serde(default)]
    http_status: Option<u16>,
    /// Written at or after this RFC 3339 time.
    #[serde(default)]
    from: Option<String>,
    /// Written before this RFC 3339 time.
    #[serde(default)]
    to: Option<String>,
    /// `next` of an earlier answer to the same question: goes on behind it.
    #[serde(default)]
    after: Option<String>,
    /// How many at most: 1 to 10000; 1000 when left out.
    #[serde(default)]
    limit: Option<usize>,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

/// What a bulk retry came to.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api::native) struct RetryAnswer {
    /// Nothing was sent: it was only counted.
    dry_run: bool,
    /// Deliveries that match.
    matched: u64,
    /// Of these, due now.
    redelivered: u64,
    /// Of these, whose event is no longer stored.
    expired: u64,
    /// The limit was reached: there are more.
    more: bool,
    /// Give it as `after` to go on; `null` when there is no more. Opaque.
    next: Option<String>,
}

/// Sends every delivery that matches again, now. Ask with `dry_run` first.
#[utoipa::path(
    post, path = "/v1/deliveries/retry", tag = "deliveries", request_body = RetryRequest,
    responses((status = 200, body = RetryAnswer), Changing)
)]
pub(in crate::api::native) async fn retry_deliveries(
    State(app): State<App>,
    caller: Caller,
    body: Json<RetryRequest>,
) -> Result<axum::Json<RetryAnswer>, ApiError> {
    let request = body.value;
    let restricted = [
        request.instance.is_some(),
        request.destination.is_some(),
        request.status.is_some(),
        request.event_type.is_some(),
        request.event_id.is_some(),
        request.http_status.is_some(),
        request.from.is_some(),
        request.to.is_some(),
    ];
    if !restricted.contains(&true) {
        return Err(ApiError::invalid("", "say which deliveries: give at least one filter"));
    }
    let limit = match request.limit.unwrap_or(1_000) {
        limit @ 1..=MAX_BULK => limit,
        _ => {
            return Err(ApiError::invalid("limit", format!("expected 1 to {MAX_BULK}")));
        }
    };
    let after = page::after::<i64>(request.after.as_deref())
        .map_err(|error| match error {
            ApiError::InvalidQuery(faults) => Given::Body.wrong(faults),
            other => other,
        })?
        .map(i64::unsigned_abs);
    let status = match &request.status {
        Some(names) => Wanted::read(Given::Body, names.iter().map(String::as_str))?,
        None => Wanted { status: vec![Status::Dead], pending: false },
    };
    if status.pending {
        return Err(ApiError::invalid("status", "what is pending is sent anyway"));
    }
    let filters = Filters {
        given: Given::Body,
        instance: request.instance.as_deref(),
        destination: request.destination.as_deref(),
        status,
        event_type: request.event_type,
        event_id: request.event_id.as_deref(),
        http_status: request.http_status,
        from: request.from.as_deref(),
        to: request.to.as_deref(),
    };
    let (query, destination) = filters.query(&app, &caller).await?;
    if caller.instance.is_some() && destination.is_none() {
        // Its instance's events also go to destinations of the account, which are not its own.
        return Err(ApiError::invalid("destination", "is needed with an instance token"));
    }
    let dry_run = request.dry_run;
    complete(async move {
        let now = (app.clock)();
        let actor = caller.actor();
        let done = app.store.redeliver_where(query, after, limit, dry_run, now, &actor).await?;
        for lane in &done.lanes {
            app.lanes.rows_changed(*lane);
        }
        Ok(axum::Json(RetryAnswer {
            dry_run,
            matched: done.matched,
            redelivered: done.redelivered,
            expired: done.expired,
            more: done.more,
            next: done.next.map(|next| next.to_string()),
        }))
    })
    .await
}
