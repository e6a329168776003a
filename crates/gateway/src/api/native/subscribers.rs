//! Named subscribers: where they stand, and what they never acknowledged.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zapbus_event::{AccountId, EventId, InstanceId, Position, SubscriberId, Timestamp};
use zapbus_store::{OpenEvent, Place, Subscriber, SubscriberQuery};

use crate::{
    api::{
        auth::Caller,
        body::{OptionalJson, Path, Query},
        error::{ApiError, Changing, Named, What},
        page::{self, Page},
    },
    app::App,
    reading::Places,
};

/// Which subscribers, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SubscriberList {
    /// Of this instance, by id or name.
    instance: Option<String>,
    /// `next` of an earlier page.
    after: Option<String>,
    /// 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A subscriber.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscriber)]
pub(super) struct SubscriberAnswer {
    /// Its id.
    #[schema(value_type = String, example = "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: SubscriberId,
    /// What it calls itself.
    name: String,
    /// The credential it connects with.
    owner: String,
    /// Its account; `null`: all of them.
    #[schema(value_type = Option<String>)]
    account: Option<AccountId>,
    /// Its instance; `null`: all of the account.
    #[schema(value_type = Option<String>)]
    instance: Option<InstanceId>,
    /// The dialect it reads.
    dialect: String,
    /// The types it asks for.
    types: Vec<String>,
    /// It was sent everything up to here: `after` takes it.
    cursor: String,
    /// Events it was sent and has not acknowledged.
    unacked: usize,
    /// Events that it did not acknowledge however often they were sent.
    dead: Vec<DeadAnswer>,
    /// When it first connected.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it last moved.
    #[schema(value_type = String, format = DateTime)]
    used_at: Timestamp,
}

/// An event that is dead for a subscriber.
#[derive(Debug, Serialize, ToSchema)]
struct DeadAnswer {
    /// The event; `null` when it is no longer stored, and in lists.
    #[schema(value_type = Option<String>)]
    event_id: Option<EventId>,
    /// Its position.
    #[schema(value_type = u64)]
    seq: Position,
    /// How often it was sent.
    deliveries: u32,
    /// When it was last sent.
    #[schema(value_type = String, format = DateTime)]
    sent_at: Timestamp,
}

impl From<&OpenEvent> for DeadAnswer {
    fn from(event: &OpenEvent) -> Self {
        let OpenEvent { seq, deliveries, sent_at, .. } = *event;
        Self { event_id: None, seq, deliveries, sent_at }
    }
}

impl From<Subscriber> for SubscriberAnswer {
    fn from(it: Subscriber) -> Self {
        let sent = it.progress.sent.iter().map(|(shard, position)| (*shard, *position));
        Self {
            id: it.id,
            name: it.name,
            owner: it.owner,
            account: it.account,
            instance: it.instance,
            dialect: it.dialect,
            types: it.filter.patterns(),
            cursor: Places(sent.collect()).cursor(),
            unacked: it.progress.open.iter().filter(|event| !event.parked).count(),
            dead: it.progress.open.iter().filter(|event| event.parked).map(Into::into).collect(),
            created_at: it.created_at,
            used_at: it.used_at,
        }
    }
}

/// Lists named subscribers.
#[utoipa::path(
    get, path = "/v1/subscribers", tag = "realtime", params(SubscriberList),
    responses((status = 200, body = Page<SubscriberAnswer>), Named)
)]
pub(super) async fn list_subscribers(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<SubscriberList>,
) -> Result<axum::Json<Page<SubscriberAnswer>>, ApiError> {
    let limit = page::limit(query.limit)?;
    let after = page::after(query.after.as_deref())?;
    let instance = match &query.instance {
        Some(text) => Some(caller.instance(&app, text).await?.instance.id),
        None => caller.instance,
    };
    // What this node knows may be a second ahead of what is stored.
    app.realtime.write().await?;
    let query = SubscriberQuery { account: caller.account, instance, after, limit: limit + 1 };
    let found = app.store.subscribers(query).await?;
    let page = Page::cut(found, limit, |it: &Subscriber| it.id.to_string());
    Ok(axum::Json(page.map(SubscriberAnswer::from)))
}

/// Shows a named subscriber, with the events that are dead for it.
#[utoipa::path(
    get, path = "/v1/subscribers/{subscriber}", tag = "realtime",
    params(("subscriber" = String, Path, description = "Its id.")),
    responses((status = 200, body = SubscriberAnswer), Named)
)]
pub(super) async fn show_subscriber(
    State(app): State<App>,
    caller: Caller,
    Path(subscriber): Path<String>,
) -> Result<axum::Json<SubscriberAnswer>, ApiError> {
    app.realtime.write().await?;
    let found = find(&app, &caller, &subscriber).await?;
    let parked: Vec<OpenEvent> =
        found.progress.open.iter().filter(|event| event.parked).copied().collect();
    let mut answer = SubscriberAnswer::from(found);
    for (dead, event) in answer.dead.iter_mut().zip(parked) {
        let event = app.store.event_at_in(event.shard, event.seq).await?;
        dead.event_id = event.map(|event| event.id);
    }
    Ok(axum::Json(answer))
}

/// What to send a subscriber again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetrySubscriber {
    /// The only event; everything that is dead for it when left out.
    #[serde(default)]
    #[schema(example = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    event_id: Option<String>,
}

/// What is sent again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SubscriberRetry)]
pub(super) struct RetryAnswer {
    /// So many events.
    retried: usize,
}

/// Sends a named subscriber again what is dead for it, as if for the first time: at once if it is
/// connected, else when it comes.
#[utoipa::path(
    post, path = "/v1/subscribers/{subscriber}/retry", tag = "realtime",
    request_body = RetrySubscriber,
    params(("subscriber" = String, Path, description = "Its id.")),
    responses((status = 200, body = RetryAnswer), Changing)
)]
pub(super) async fn retry_subscriber(
    State(app): State<App>,
    caller: Caller,
    Path(subscriber): Path<String>,
    OptionalJson(request): OptionalJson<RetrySubscriber>,
) -> Result<axum::Json<RetryAnswer>, ApiError> {
    app.realtime.write().await?;
    let found = find(&app, &caller, &subscriber).await?;
    let mut dead: Vec<OpenEvent> =
        found.progress.open.iter().filter(|event| event.parked).copied().collect();
    if let Some(text) = &request.event_id {
        let one = of_event(&app, &dead, text).await?;
        dead.retain(|event| event.place() == one);
    }
    super::complete(async move {
        let retried = app.realtime.revive(found.id, dead).await?;
        Ok(axum::Json(RetryAnswer { retried }))
    })
    .await
}

/// Where the event with this id is, if it is one of these.
async fn of_event(app: &App, dead: &[OpenEvent], text: &str) -> Result<Place, ApiError> {
    let unknown = ApiError::NotFound(What::Event);
    let Ok(id) = text.parse::<EventId>() else { return Err(unknown) };
    for event in dead {
        let stored = app.store.event_at_in(event.shard, event.seq).await?;
        if stored.is_some_and(|stored| stored.id == id) {
            return Ok(event.place());
        }
    }
    Err(unknown)
}

/// Forgets a named subscriber: its connections are closed, and who connects with its name next
/// begins anew.
#[utoipa::path(
    delete, path = "/v1/subscribers/{subscriber}", tag = "realtime",
    params(("subscriber" = String, Path, description = "Its id.")),
    responses((status = 204, description = "It is forgotten."), Named)
)]
pub(super) async fn delete_subscriber(
    State(app): State<App>,
    caller: Caller,
    Path(subscriber): Path<String>,
) -> Result<Response, ApiError> {
    let found = find(&app, &caller, &subscriber).await?;
    super::complete(async move {
        app.store.delete_subscriber(found.id).await?;
        app.realtime.forget(found.id);
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn find(app: &App, caller: &Caller, text: &str) -> Result<Subscriber, ApiError> {
    let unknown = ApiError::NotFound(What::Subscriber);
    let Ok(id) = text.parse::<SubscriberId>() else {
        return Err(unknown);
    };
    let found = app.store.subscriber(id).await?.ok_or(unknown.clone())?;
    let is_seen = match found.account {
        Some(account) => caller.sees(account, found.instance),
        None => caller.account.is_none() && caller.instance.is_none(),
    };
    if is_seen { Ok(found) } else { Err(unknown) }
}
