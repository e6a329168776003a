//! Instances: made, listed, shown, changed, deleted.

mod list;

pub(super) use list::list;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use zapbus_event::{InstanceId, Timestamp};
use zapbus_store::{Instance, InstancePatch};

use super::{
    access::Access,
    answer::Failure,
    body::{Members, Path, malformed},
    session::status_name,
    subscription::{Wanted, Webhook},
};
use crate::{
    api::{
        native::{
            complete,
            instances::{add, alter, remove},
            name_fault,
        },
        token,
    },
    app::App,
};

/// An instance as VZaps shows it.
#[derive(Debug, Serialize)]
struct Item {
    id: String,
    name: String,
    token: String,
    /// Where this API has it.
    url: String,
    webhook: String,
    events_subscribe: Vec<&'static str>,
    status: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Item {
    async fn of(app: &App, instance: &Instance) -> Result<Self, Failure> {
        let webhook = Webhook::of(app, instance).await?;
        Self::with(app, instance, webhook).await
    }

    async fn with(app: &App, instance: &Instance, webhook: Webhook) -> Result<Self, Failure> {
        let status = app.store.instance_status(instance.id).await?;
        let id = instance.id.to_vzaps();
        let changes = [
            status.state.since,
            webhook.destination.as_ref().map(|destination| destination.updated_at),
        ];
        Ok(Self {
            url: format!("{}/instances/{id}", app.public_url),
            id,
            name: instance.name.clone(),
            token: instance.token.clone(),
            webhook: webhook.url,
            events_subscribe: webhook.subscribe,
            status: status_name(status.state.connection),
            created_at: instance.created_at,
            updated_at: changes.into_iter().flatten().fold(instance.created_at, Timestamp::max),
        })
    }
}

/// What needs a session of our own.
const SESSION_OPTIONS: [(&str, &str); 4] = [
    ("reject_calls", "it does not answer or reject calls"),
    ("rejectCalls", "it does not answer or reject calls"),
    ("auto_read_messages", "it does not mark messages as read"),
    ("autoReadMessages", "it does not mark messages as read"),
];

/// Refuses what would need a session of our own; that it is not wanted is fine.
fn refuse_session_options(body: &Members) -> Result<(), Failure> {
    for (name, why) in SESSION_OPTIONS {
        if body.truth(&[name])? == Some(true) {
            return Err(Failure::not_offered(&format!("{why} ({name})")));
        }
    }
    Ok(())
}

fn checked_name(name: &str) -> Result<String, Failure> {
    match name_fault("name", name) {
        None => Ok(name.to_owned()),
        Some(fault) => Err(Failure::bad("invalid", format!("name: {}.", fault.message))),
    }
}

/// Makes an instance, with its webhook if one is given.
pub(super) async fn create(
    State(app): State<App>,
    access: Access,
    body: Members,
) -> Result<Response, Failure> {
    access.need_account()?;
    let name = body.text(&["name"])?.ok_or_else(|| malformed(&["name"], "a text"))?;
    let name = checked_name(name)?;
    refuse_session_options(&body)?;
    let wanted = Wanted::of_instance(&app, &body)?;
    let now = (app.clock)();
    let instance = Instance {
        id: InstanceId::new(now, token::random()?),
        account: access.caller.acting_account(&app).await?,
        name,
        token: token::generate()?,
        source: None,
        route: None,
        settings: wanted.settings(),
        created_at: now,
        deleted_at: None,
    };
    let (here, actor, made) = (app.clone(), access.caller.actor(), instance.clone());
    complete(async move { Ok(add(&here, &made, &actor, None).await?) }).await?;
    let webhook = Webhook::of(&app, &instance).await?;
    let webhook = webhook.set(&app, &access.caller, &instance, wanted).await?;
    Ok(Json(Item::with(&app, &instance, webhook).await?).into_response())
}

/// Shows the instance that the path names.
pub(super) async fn show(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    Ok(Json(Item::of(&app, &known.instance).await?).into_response())
}

/// Shows the instance that the body names.
pub(super) async fn get_by_body(
    State(app): State<App>,
    access: Access,
    body: Members,
) -> Result<Response, Failure> {
    let id = body.text(&["id", "instance_id", "instanceId"])?;
    let known = access.instance(&app, id.ok_or_else(|| malformed(&["id"], "a text"))?).await?;
    Ok(Json(Item::of(&app, &known.instance).await?).into_response())
}

/// Changes the name, the webhook or the events of an instance.
pub(super) async fn update(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
    body: Members,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let name = body.text(&["name"])?.map(checked_name).transpose()?;
    refuse_session_options(&body)?;
    let wanted = Wanted::of_instance(&app, &body)?;
    let mut instance = known.instance.clone();
    if let Some(name) = name.filter(|name| *name != instance.name) {
        let patch = InstancePatch { name: Some(name), ..InstancePatch::default() };
        let (here, actor, before) = (app.clone(), access.caller.actor(), instance);
        instance = complete(async move { alter(&here, &before, patch, &actor).await }).await?;
    }
    let mut webhook = Webhook::of(&app, &instance).await?;
    if !wanted.is_nothing() {
        webhook = webhook.set(&app, &access.caller, &instance, wanted).await?;
    }
    Ok(Json(Item::with(&app, &instance, webhook).await?).into_response())
}

/// Deletes an instance. What is waiting for its webhook is still delivered.
pub(super) async fn delete(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<StatusCode, Failure> {
    let known = access.instance(&app, &instance).await?;
    let actor = access.caller.actor();
    complete(async move { remove(&app, &known.instance, &actor).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says how the instance is: there is no session here to start again.
pub(super) async fn restart(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let state = app.store.instance_status(known.instance.id).await?.state;
    Ok(Json(json!({
        "instance_id": known.instance.id.to_vzaps(),
        "status": status_name(state.connection),
        "details": "Zapbus holds no session: this is what its events last said. Nothing was restarted.",
    }))
    .into_response())
}
