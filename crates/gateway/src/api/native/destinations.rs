//! Push targets of an instance, or of a whole account.

pub(in crate::api) mod document;
pub(super) mod operations;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use zapbus_event::{AccountId, DestinationId, InstanceId, Position};
use zapbus_store::{Activity, Destination, DestinationScope, Quota, ShardId};

use self::document::{
    ChangeDestination, CreateDestination, DestinationAnswer, StatusAnswer, document_of,
    refuse_environment, spec_of,
};
use super::{
    accounts::Paging,
    complete,
    shards::{has_one_cursor, live_stats},
};
use crate::{
    api::{
        auth::Caller,
        body::{Json, Path, Query},
        error::{ApiError, Changing, Named, What},
        idempotency::{Creation, Once},
        page::{self, Page},
        token,
    },
    app::App,
};

/// Which destinations, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DestinationQuery {
    /// Only those of the whole account (`true`), or only those of instances (`false`).
    global: Option<bool>,
    /// Only those of this instance: id in any form, or name.
    instance: Option<String>,
    /// `next` of an earlier page.
    after: Option<String>,
    /// 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Lists the destinations of an instance. Those of the whole account are not among them.
#[utoipa::path(
    get, path = "/v1/instances/{instance}/destinations", tag = "destinations",
    params(("instance" = String, Path, description = "Id in any form, or name."), Paging),
    responses((status = 200, body = Page<DestinationAnswer>), Named)
)]
pub(super) async fn list_instance_destinations(
    State(app): State<App>,
    caller: Caller,
    Path(instance): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<Page<DestinationAnswer>>, ApiError> {
    let known = caller.instance(&app, &instance).await?;
    let limit = page::limit(paging.limit)?;
    let after = page::after(paging.after.as_deref())?;
    let account = Some(known.instance.account);
    list(&app, account, DestinationScope::Instance(known.instance.id), after, limit).await
}

/// Lists the destinations the token reaches.
#[utoipa::path(
    get, path = "/v1/destinations", tag = "destinations", params(DestinationQuery),
    responses((status = 200, body = Page<DestinationAnswer>), Named)
)]
pub(super) async fn list_destinations(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<DestinationQuery>,
) -> Result<axum::Json<Page<DestinationAnswer>>, ApiError> {
    let limit = page::limit(query.limit)?;
    let after: Option<DestinationId> = page::after(query.after.as_deref())?;
    let named = match &query.instance {
        Some(text) => Some(caller.instance(&app, text).await?.instance.id),
        None => caller.instance,
    };
    let scope = match (named, query.global) {
        (Some(_), Some(true)) => {
            return Err(ApiError::query("global", "a destination of one instance is not global"));
        }
        (Some(instance), _) => DestinationScope::Instance(instance),
        (None, Some(true)) => DestinationScope::Global,
        (None, _) => DestinationScope::All,
    };
    let mut page = list(&app, caller.account, scope, after, limit).await?;
    if query.global == Some(false) {
        page.0.data.retain(|destination| !destination.is_global());
    }
    Ok(page)
}

async fn list(
    app: &App,
    account: Option<AccountId>,
    scope: DestinationScope,
    after: Option<DestinationId>,
    limit: usize,
) -> Result<axum::Json<Page<DestinationAnswer>>, ApiError> {
    let found = app.store.destinations(account, scope, after, limit + 1).await?;
    let page = Page::cut(found, limit, |destination: &Destination| destination.id.to_string());
    let data =
        page.data.iter().map(DestinationAnswer::new).collect::<Result<Vec<_>, ApiError>>()?;
    Ok(axum::Json(Page { data, next: page.next }))
}

/// Creates a destination of an instance.
#[utoipa::path(
    post, path = "/v1/instances/{instance}/destinations", tag = "destinations",
    request_body = CreateDestination,
    params(
        ("instance" = String, Path, description = "Id in any form, or name."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes repeats harmless for 24 hours."),
    ),
    responses((status = 201, body = DestinationAnswer, description = "With `channel.secret`, which is not shown again."), Changing)
)]
pub(super) async fn create_instance_destination(
    State(app): State<App>,
    caller: Caller,
    Path(instance): Path<String>,
    once: Once,
    body: Json<CreateDestination>,
) -> Result<Response, ApiError> {
    let known = caller.instance(&app, &instance).await?;
    let creation = match once.begin(&app, &caller, &body.bytes).await? {
        Ok(creation) => creation,
        Err(answer) => return Ok(answer),
    };
    let (account, instance) = (known.instance.account, known.instance.id);
    create(app, caller, creation, account, Some(instance), body.value).await
}

/// Creates a destination of a whole account: it gets the events of all its instances.
#[utoipa::path(
    post, path = "/v1/destinations", tag = "destinations", request_body = CreateDestination,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes repeats harmless for 24 hours."),
        ("zapbus-account" = Option<String>, Header, description = "With the admin token: the account to act in, by id or name."),
    ),
    responses((status = 201, body = DestinationAnswer, description = "With `channel.secret`, which is not shown again."), Changing)
)]
pub(super) async fn create_destination(
    State(app): State<App>,
    caller: Caller,
    once: Once,
    body: Json<CreateDestination>,
) -> Result<Response, ApiError> {
    caller.need_account()?;
    let account = caller.acting_account(&app).await?;
    let creation = match once.begin(&app, &caller, &body.bytes).await? {
        Ok(creation) => creation,
        Err(answer) => return Ok(answer),
    };
    create(app, caller, creation, account, None, body.value).await
}

async fn create(
    app: App,
    caller: Caller,
    creation: Creation,
    account: AccountId,
    instance: Option<InstanceId>,
    request: CreateDestination,
) -> Result<Response, ApiError> {
    let start = request.start()?;
    let checked = request.check(&app)?;
    let start = start.start("start", &app, &caller, instance).await?;
    let now = (app.clock)();
    let secret = checked.spec.channel.signing_secret();
    let destination = Destination {
        id: DestinationId::new(now, token::random()?),
        account,
        instance,
        label: checked.label,
        filter: checked.filter,
        exclude_ephemeral: checked.exclude_ephemeral,
        activity: Activity::Active,
        spec: document_of(&checked.spec)?,
        created_at: now,
        updated_at: now,
    };
    complete(async move {
        let answer = DestinationAnswer::new(&destination)?.with_secret(secret);
        let remember = creation.remember(StatusCode::CREATED, &answer)?;
        let head = crate::lane::head_of(&destination);
        match app.store.create_destination(destination, start, &caller.actor(), remember).await {
            Ok(cursor) => {
                app.lanes.created(head, cursor);
                Ok((StatusCode::CREATED, axum::Json(answer)).into_response())
            }
            Err(error) => creation.resolve(&app, error).await,
        }
    })
    .await
}

/// Shows a destination and how delivery goes.
#[utoipa::path(
    get, path = "/v1/destinations/{destination}", tag = "destinations",
    params(("destination" = String, Path, description = "Its id.")),
    responses((status = 200, body = DestinationAnswer), Named)
)]
pub(super) async fn show_destination(
    State(app): State<App>,
    caller: Caller,
    Path(destination): Path<String>,
) -> Result<axum::Json<DestinationAnswer>, ApiError> {
    let destination = caller.destination(&app, &destination).await?;
    Ok(axum::Json(with_status(&app, &destination).await?))
}

/// A destination as it is shown, with how delivery goes.
async fn with_status(app: &App, destination: &Destination) -> Result<DestinationAnswer, ApiError> {
    let mut answer = DestinationAnswer::new(destination)?;
    let stats = live_stats(&app.store, destination).await?;
    let live = app.lanes.status(destination.id).await;
    let one_cursor = has_one_cursor(&app.store, destination);
    answer.status = Some(StatusAnswer::new(&stats, live, one_cursor));
    Ok(answer)
}

/// Changes a destination. What is sent from then on is sent by the new settings, what waits
/// already included.
#[utoipa::path(
    patch, path = "/v1/destinations/{destination}", tag = "destinations",
    request_body = ChangeDestination,
    params(("destination" = String, Path, description = "Its id.")),
    responses((status = 200, body = DestinationAnswer), Changing)
)]
pub(super) async fn change_destination(
    State(app): State<App>,
    caller: Caller,
    Path(destination): Path<String>,
    body: Json<ChangeDestination>,
) -> Result<axum::Json<DestinationAnswer>, ApiError> {
    let stored = caller.destination(&app, &destination).await?;
    refuse_environment(&stored)?;
    let request = body.value;
    // What is wrong is said before the lane is asked to stand still.
    request.clone().check(&app, &stored)?;
    let gives_secret = request.gives_secret(&stored);
    let changed = update(&app, &caller, stored.id, Resume::AtCursor, move |app, stored| {
        let checked = request.check(app, &stored)?;
        Ok(Destination {
            label: checked.label,
            filter: checked.filter,
            exclude_ephemeral: checked.exclude_ephemeral,
            spec: document_of(&checked.spec)?,
            ..stored
        })
    })
    .await?;
    let secret = spec_of(&changed)?.channel.signing_secret().filter(|_| gives_secret);
    Ok(axum::Json(with_status(&app, &changed).await?.with_secret(secret)))
}

fn beyond_all(shard: u16) -> (ShardId, Position) {
    (ShardId(shard), Position(u64::MAX))
}

/// Where a lane goes on after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Resume {
    /// Where it stood.
    AtCursor,
    /// At the head; what waited is called off.
    AtHead,
}

/// A destination as it is to be.
pub(in crate::api) struct Changed {
    pub(in crate::api) destination: Destination,
    pub(in crate::api) resume: Resume,
}

/// Under which terms a destination is changed.
#[derive(Debug, Default)]
pub(in crate::api) struct Terms {
    /// Only if there is a place for what it is then.
    pub(in crate::api) quota: Option<Quota>,
    /// How it delivers is said anew as a whole: its spec is `null` for the change where it cannot be
    /// decrypted, instead of standing in the way.
    pub(in crate::api) replaces_spec: bool,
}

/// Changes what the store has now, while the lane stands still, in one commit with the lane's
/// true cursor.
pub(in crate::api) async fn update(
    app: &App,
    caller: &Caller,
    id: DestinationId,
    resume: Resume,
    change: impl FnOnce(&App, Destination) -> Result<Destination, ApiError> + Send + 'static,
) -> Result<Destination, ApiError> {
    update_on(app, caller, id, Terms::default(), move |app, stored| {
        Ok::<_, ApiError>(Changed { destination: change(app, stored)?, resume })
    })
    .await
}

/// [`update`] on `terms`, where it follows from what is stored where the lane goes on, and what is
/// wrong is said in the words of another API.
pub(in crate::api) async fn update_on<E: From<ApiError> + Send + 'static>(
    app: &App,
    caller: &Caller,
    id: DestinationId,
    terms: Terms,
    change: impl FnOnce(&App, Destination) -> Result<Changed, E> + Send + 'static,
) -> Result<Destination, E> {
    let (app, actor) = (app.clone(), caller.actor());
    let changing = async move {
        let here = app.clone();
        app.lanes
            .reconfigure(id, |cursors| async move {
                let Terms { mut quota, replaces_spec } = terms;
                let stored = match replaces_spec {
                    true => here.store.destination_to_replace(id).await,
                    false => here.store.destination(id).await,
                };
                let stored = stored.map_err(ApiError::from)?;
                let stored = stored.ok_or(ApiError::NotFound(What::Destination))?;
                if let Some(quota) = &mut quota {
                    quota.seen = Some(stored.activity.clone());
                }
                let Changed { destination: mut changed, resume } = change(&here, stored)?;
                changed.updated_at = (here.clock)();
                let (cursors, cancel_rows) = match resume {
                    Resume::AtCursor => (cursors, false),
                    // Beyond the head means the head, which only the commit knows.
                    Resume::AtHead => ((0..here.store.shards()).map(beyond_all).collect(), true),
                };
                let new = changed.clone();
                here.store
                    .update_destination_within(new, &cursors, cancel_rows, &actor, quota)
                    .await
                    .map_err(ApiError::from)?;
                Ok::<_, E>(changed)
            })
            .await
    };
    // To its end even if the caller hangs up, as `complete` does.
    tokio::spawn(changing).await.map_err(ApiError::internal)?
}

/// Deletes a destination. What waits for it is called off; its log stays for a while.
#[utoipa::path(
    delete, path = "/v1/destinations/{destination}", tag = "destinations",
    params(("destination" = String, Path, description = "Its id.")),
    responses((status = 204, description = "It is gone."), Named)
)]
pub(super) async fn delete_destination(
    State(app): State<App>,
    caller: Caller,
    Path(destination): Path<String>,
) -> Result<StatusCode, ApiError> {
    let destination = caller.destination(&app, &destination).await?;
    refuse_environment(&destination)?;
    complete(async move {
        let (store, id, actor) = (app.store.clone(), destination.id, caller.actor());
        app.lanes
            .reconfigure(id, |_| async move { store.delete_destination(id, &actor).await })
            .await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Reads the bodies of destinations, as far as that needs no gateway.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::api) fn read_bodies(bytes: &[u8]) {
    drop(crate::api::body::parse::<CreateDestination>(bytes));
    drop(crate::api::body::parse::<ChangeDestination>(bytes));
}

/// Whether this names a place in the journal.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::api) fn is_place(text: &str) -> bool {
    document::Place::read("after", text).is_ok()
}
