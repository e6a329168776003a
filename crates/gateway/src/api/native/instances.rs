//! WhatsApp numbers and sessions.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zapbus_event::{
    AccountId, Data, Draft, InstanceId, Timestamp,
    data::{InstanceAction, InstanceLifecycle},
};
use zapbus_store::{
    Actor, Instance, InstancePatch, InstanceStatus, RESERVED_INSTANCE, Remember, StoreError,
};

use super::{accounts::Paging, complete, name_fault, refuse_if_any};
use crate::{
    api::{
        auth::Caller,
        body::{Json, Path, Query},
        error::{ApiError, Changing, Common, Fault, Named},
        idempotency::Once,
        page::{self, Page},
        token,
    },
    app::App,
    media,
    source::Source,
};

/// An instance: one WhatsApp number or session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Instance)]
pub(super) struct InstanceAnswer {
    /// Its id.
    #[schema(value_type = String, example = "ins_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: InstanceId,
    /// Unique in the account.
    #[schema(example = "shop")]
    name: String,
    /// Its account.
    #[schema(value_type = String)]
    account: AccountId,
    /// Its token; shown only when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The `type` of its source.
    #[schema(value_type = String, example = "cloud-api")]
    source: &'static str,
    /// The same id as other products write it.
    ids: Ids,
    /// What it chooses about the files of messages.
    media: media::Choice,
    /// What its events say about it.
    state: InstanceStateAnswer,
    /// When its last event was accepted.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_event_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// An instance's id in the forms of other products.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InstanceIds)]
struct Ids {
    /// As VZaps writes it.
    vzaps: String,
    /// As Evolution API writes it.
    uuid: String,
}

/// The last known state of an instance, as its events told it.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = InstanceState)]
struct InstanceStateAnswer {
    /// `connecting`, `connected`, `disconnected`, `logged_out`, `banned` or `unknown`.
    #[schema(value_type = String, example = "connected")]
    connection: zapbus_event::Connection,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Why it is down.
    reason: Option<String>,
    /// Its number, digits only.
    phone: Option<String>,
    /// Its profile name.
    name: Option<String>,
    /// Where its picture is.
    picture_url: Option<String>,
    /// The kind of phone or client it is linked to.
    platform: Option<String>,
    /// A QR code that waits to be scanned.
    qr: Option<Qr>,
    /// A pairing code that waits to be typed.
    pair_code: Option<PairCode>,
}

/// A QR code that waits to be scanned.
#[derive(Debug, Serialize, ToSchema)]
struct Qr {
    /// The text behind the picture.
    code: Option<String>,
    /// The picture as a `data:` URL.
    image: Option<String>,
    /// When it stops working, if known.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// A pairing code that waits to be typed.
#[derive(Debug, Serialize, ToSchema)]
struct PairCode {
    /// The code.
    code: String,
    /// When it stops working, if known.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl InstanceAnswer {
    fn new(instance: &Instance, status: Option<InstanceStatus>) -> Self {
        let source = match &instance.source {
            Some(document) => Source::from_document(document).map_or("unknown", |it| it.kind()),
            None => Source::Native.kind(),
        };
        let (state, last_event_at) = match status {
            Some(status) => (status.state, status.last_event_at),
            None => Default::default(),
        };
        Self {
            id: instance.id,
            name: instance.name.clone(),
            account: instance.account,
            token: None,
            source,
            media: media::Choice::of(&instance.settings),
            ids: Ids { vzaps: instance.id.to_vzaps(), uuid: instance.id.to_uuid() },
            state: InstanceStateAnswer {
                connection: state.connection,
                since: state.since,
                reason: state.reason,
                phone: state.phone,
                name: state.name,
                picture_url: state.picture_url,
                platform: state.platform,
                qr: state.qr.map(|qr| Qr {
                    code: qr.code,
                    image: qr.image,
                    expires_at: qr.expires_at,
                }),
                pair_code: state
                    .pair_code
                    .map(|pair| PairCode { code: pair.code, expires_at: pair.expires_at }),
            },
            last_event_at,
            created_at: instance.created_at,
        }
    }

    fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }
}

/// A new instance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateInstance {
    /// 1 to 120 characters, no control characters, no `/`; unique in the account.
    #[schema(example = "shop")]
    name: String,
    /// A token of your own: 16 to 256 visible ASCII characters. Made when left out.
    #[serde(default)]
    token: Option<String>,
}

/// What to change of an instance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeInstance {
    /// A new name.
    #[serde(default)]
    name: Option<String>,
    /// A new token of your own. The old one stops working at once.
    #[serde(default)]
    token: Option<String>,
    /// Make a new token and show it. The old one stops working at once.
    #[serde(default)]
    rotate_token: bool,
    /// What to do about files that events only name. What is left out stays as it is.
    #[serde(default)]
    media: Option<ChangeMedia>,
}

/// What to change about the files of an instance.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangeInstanceMedia)]
pub(super) struct ChangeMedia {
    /// `none`, `ids` or `all`.
    #[serde(default)]
    #[schema(inline)]
    fetch: Option<media::Files>,
    /// 0 to 300.
    #[serde(default)]
    wait_for_media_s: Option<u32>,
}

impl ChangeMedia {
    /// As members to merge into the instance's settings.
    fn settings(self, stored: &serde_json::Value) -> serde_json::Value {
        let stored = media::Choice::of(stored);
        let choice = media::Choice {
            fetch: self.fetch.unwrap_or(stored.fetch),
            wait_for_media_s: self.wait_for_media_s.unwrap_or(stored.wait_for_media_s),
        };
        choice.settings()
    }
}

/// What is wrong with a token of somebody's own, if anything is.
pub(in crate::api) fn token_fault(token: Option<&str>) -> Option<Fault> {
    let fits = token.is_none_or(|token| {
        (16..=256).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic())
    });
    (!fits).then(|| Fault::new("token", "expected 16 to 256 visible ASCII characters"))
}

/// The event that tells of an instance's own life.
pub(super) fn lifecycle(app: &App, action: InstanceAction) -> Draft {
    Draft::of_gateway(&Data::InstanceLifecycle(InstanceLifecycle { action }), (app.clock)())
}

/// Lists the instances the token reaches. The account's own, `_account`, is not among them: ask
/// for it by its name.
#[utoipa::path(
    get, path = "/v1/instances", tag = "instances", params(Paging),
    responses((status = 200, body = Page<InstanceAnswer>), Common)
)]
pub(super) async fn list_instances(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<Page<InstanceAnswer>>, ApiError> {
    let limit = page::limit(paging.limit)?;
    let after: Option<InstanceId> = page::after(paging.after.as_deref())?;
    let mut found = Vec::with_capacity(limit + 1);
    match caller.instance {
        Some(own) => {
            let own = app.store.instance(own).await?;
            found.extend(own.filter(|own| after.is_none_or(|after| own.id > after)));
            found.retain(is_listed);
        }
        None => {
            // A page is filled, however many of those it passes are not shown.
            let mut after = after;
            while found.len() <= limit {
                let page = app.store.instances(caller.account, after, limit + 1).await?;
                let is_last = page.len() <= limit;
                after = page.last().map(|instance| instance.id);
                found.extend(page.into_iter().filter(is_listed));
                if is_last {
                    break;
                }
            }
            found.truncate(limit + 1);
        }
    }
    let page = Page::cut(found, limit, |instance: &Instance| instance.id.to_string());
    let ids = page.data.iter().map(|instance| instance.id).collect();
    let statuses = app.store.instance_statuses(ids).await?;
    let answers = page.data.iter().zip(statuses);
    let data = answers.map(|(instance, status)| InstanceAnswer::new(instance, Some(status)));
    Ok(axum::Json(Page { data: data.collect(), next: page.next }))
}

/// Those on their way out are answered like those that are gone, and the account's own is
/// nobody's number.
fn is_listed(instance: &Instance) -> bool {
    instance.deleted_at.is_none() && instance.name != RESERVED_INSTANCE
}

/// Creates an instance. An admin creates it in the default account, or in that of the header
/// `zapbus-account`.
#[utoipa::path(
    post, path = "/v1/instances", tag = "instances", request_body = CreateInstance,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes repeats harmless for 24 hours."),
        ("zapbus-account" = Option<String>, Header, description = "With the admin token: the account to act in, by id or name."),
    ),
    responses((status = 201, body = InstanceAnswer, description = "With its token, which is not shown again."), Changing)
)]
pub(super) async fn create_instance(
    State(app): State<App>,
    caller: Caller,
    once: Once,
    body: Json<CreateInstance>,
) -> Result<Response, ApiError> {
    caller.need_account()?;
    let creation = match once.begin(&app, &caller, &body.bytes).await? {
        Ok(creation) => creation,
        Err(answer) => return Ok(answer),
    };
    let request = body.value;
    let faults =
        name_fault("name", &request.name).into_iter().chain(token_fault(request.token.as_deref()));
    refuse_if_any(faults.collect())?;
    let now = (app.clock)();
    let instance = Instance {
        id: InstanceId::new(now, token::random()?),
        account: caller.acting_account(&app).await?,
        name: request.name,
        token: match request.token {
            Some(token) => token,
            None => token::generate()?,
        },
        source: None,
        route: None,
        settings: serde_json::json!({}),
        created_at: now,
        deleted_at: None,
    };
    complete(async move {
        let answer = InstanceAnswer::new(&instance, None).with_token(&instance.token);
        let remember = creation.remember(StatusCode::CREATED, &answer)?;
        match add(&app, &instance, &caller.actor(), remember).await {
            Ok(()) => Ok((StatusCode::CREATED, axum::Json(answer)).into_response()),
            Err(error) => creation.resolve(&app, error).await,
        }
    })
    .await
}

/// Shows an instance: connection, QR code, who it is.
#[utoipa::path(
    get, path = "/v1/instances/{instance}", tag = "instances",
    params(("instance" = String, Path, description = "Id in any form, or name.")),
    responses((status = 200, body = InstanceAnswer), Named)
)]
pub(super) async fn show_instance(
    State(app): State<App>,
    caller: Caller,
    Path(instance): Path<String>,
) -> Result<axum::Json<InstanceAnswer>, ApiError> {
    let known = caller.instance(&app, &instance).await?;
    let status = app.store.instance_status(known.instance.id).await?;
    Ok(axum::Json(InstanceAnswer::new(&known.instance, Some(status))))
}

/// Renames an instance, gives it another token, or says what to do about files.
#[utoipa::path(
    patch, path = "/v1/instances/{instance}", tag = "instances", request_body = ChangeInstance,
    params(("instance" = String, Path, description = "Id in any form, or name.")),
    responses((status = 200, body = InstanceAnswer, description = "With the token if it is a new one."), Changing)
)]
pub(super) async fn change_instance(
    State(app): State<App>,
    caller: Caller,
    Path(instance): Path<String>,
    body: Json<ChangeInstance>,
) -> Result<axum::Json<InstanceAnswer>, ApiError> {
    let known = caller.instance(&app, &instance).await?;
    caller.need_account()?;
    let request = body.value;
    let mut faults: Vec<Fault> = Vec::new();
    faults.extend(request.name.as_deref().and_then(|name| name_fault("name", name)));
    faults.extend(token_fault(request.token.as_deref()));
    if request.token.is_some() && request.rotate_token {
        faults.push(Fault::new("rotate_token", "goes without `token`: give one of them"));
    }
    let wait = request.media.and_then(|media| media.wait_for_media_s);
    if wait.is_some_and(|wait| wait > media::LONGEST_WAIT_S) {
        let text = format!("expected 0 to {}", media::LONGEST_WAIT_S);
        faults.push(Fault::new("media.wait_for_media_s", text));
    }
    refuse_if_any(faults)?;
    if request.name.is_some() {
        refuse_reserved(&known.instance)?;
    }
    let token = match request.token {
        Some(token) => Some(token),
        None if request.rotate_token => Some(token::generate()?),
        None => None,
    };
    complete(async move {
        let patch = InstancePatch {
            name: request.name,
            token: token.clone(),
            merge_settings: request.media.map(|media| media.settings(&known.instance.settings)),
            ..InstancePatch::default()
        };
        let after = alter(&app, &known.instance, patch, &caller.actor()).await?;
        let status = app.store.instance_status(after.id).await?;
        let answer = InstanceAnswer::new(&after, Some(status));
        Ok(axum::Json(match &token {
            Some(token) => answer.with_token(token),
            None => answer,
        }))
    })
    .await
}

/// Makes an instance, and tells its events of it.
pub(in crate::api) async fn add(
    app: &App,
    instance: &Instance,
    actor: &Actor,
    remember: Option<Remember>,
) -> Result<(), StoreError> {
    add_within(app, instance, actor, remember, None).await
}

/// [`add`] if its account has fewer than `most`.
pub(in crate::api) async fn add_within(
    app: &App,
    instance: &Instance,
    actor: &Actor,
    remember: Option<Remember>,
    most: Option<usize>,
) -> Result<(), StoreError> {
    let born = lifecycle(app, InstanceAction::Created);
    app.store.create_instance_within(instance.clone(), born, actor, remember, most).await?;
    app.directory.forget_instance(instance);
    Ok(())
}

/// Changes an instance, and tells everybody who has kept something of it.
pub(in crate::api) async fn alter(
    app: &App,
    before: &Instance,
    patch: InstancePatch,
    actor: &Actor,
) -> Result<Instance, ApiError> {
    let changed = app.store.update_instance(before.id, patch, actor).await;
    app.directory.forget_instance(before);
    changed?;
    let after = current(app, before.id).await?;
    app.directory.forget_instance(&after);
    app.lanes.instance_changed(after.id);
    Ok(after)
}

/// Marks an instance as deleted: it takes nothing any more, and its lanes drain.
pub(in crate::api) async fn remove(
    app: &App,
    instance: &Instance,
    actor: &Actor,
) -> Result<(), ApiError> {
    let gone = lifecycle(app, InstanceAction::Deleted);
    let marked = app.store.mark_instance_deleted(instance.id, gone, actor).await;
    app.directory.forget_instance(instance);
    marked?;
    app.lanes.instance_changed(instance.id);
    Ok(())
}

/// An instance as the store has it now.
pub(super) async fn current(app: &App, id: InstanceId) -> Result<Instance, ApiError> {
    app.store.instance(id).await?.ok_or(ApiError::NotFound(crate::api::error::What::Instance))
}

/// The account's own instance is not the user's to rename, delete or connect.
pub(super) fn refuse_reserved(instance: &Instance) -> Result<(), ApiError> {
    if instance.name == RESERVED_INSTANCE {
        return Err(ApiError::Conflict {
            code: "reserved_instance",
            reason: format!(
                "`{RESERVED_INSTANCE}` takes the events of an account that belong to no number; \
                 it goes with its account."
            ),
        });
    }
    Ok(())
}

/// Deletes an instance. It takes no more events at once; its destinations still get what is
/// waiting, up to the event `instance.lifecycle` with action `deleted`, for ten minutes at most.
#[utoipa::path(
    delete, path = "/v1/instances/{instance}", tag = "instances",
    params(("instance" = String, Path, description = "Id in any form, or name.")),
    responses((status = 204, description = "It takes no more events."), Named)
)]
pub(super) async fn delete_instance(
    State(app): State<App>,
    caller: Caller,
    Path(instance): Path<String>,
) -> Result<StatusCode, ApiError> {
    let known = caller.instance(&app, &instance).await?;
    caller.need_account()?;
    refuse_reserved(&known.instance)?;
    complete(async move {
        remove(&app, &known.instance, &caller.actor()).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
