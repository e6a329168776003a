//! An instance's settings, as far as an event bus has any: which of its events are not taken.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::{Value, json};
use zapbus_store::{Instance, InstancePatch};

use super::{
    access::Access,
    answer::{Failure, done},
    body::{Members, Path, Unread},
};
use crate::{
    api::native::{complete, instances::alter},
    app::App,
    ingest::Ignored,
};

/// Settings that need a session of our own, with why there is none of it.
pub(super) const OF_SESSIONS: [&str; 4] =
    ["autoReadMessages", "keepOnlineStatus", "autoRejectCalls", "callRejectMessage"];

/// What a body says of them; what it leaves out stays.
pub(super) fn read(body: &Members, stored: Ignored) -> Result<Ignored, Failure> {
    let truth = |name, stored| Ok::<bool, Failure>(body.truth(name)?.unwrap_or(stored));
    Ok(Ignored {
        groups: truth("ignoreGroupMessages", stored.groups)?,
        status: truth("ignoreStatus", stored.status)?,
        history: truth("disableHistorySync", stored.history)?,
    })
}

/// As clients see them.
pub(super) fn shown(instance: &Instance) -> Value {
    let ignored = Ignored::of(&instance.settings);
    json!({
        "ignoreGroupMessages": ignored.groups,
        "ignoreStatus": ignored.status,
        "disableHistorySync": ignored.history,
        "autoReadMessages": false,
        "keepOnlineStatus": false,
        "autoRejectCalls": false,
        "callRejectMessage": "",
    })
}

/// Shows them.
pub(super) async fn show(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    Ok(done(StatusCode::OK, "Settings retrieved", [("settings", shown(&known.instance))]))
}

/// Changes those that are given.
pub(super) async fn set(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
    body: Unread,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let body = body.read()?;
    if let Some(name) = OF_SESSIONS.iter().find(|name| body.says_something(name)) {
        return Err(Failure::not_offered(&format!("it holds no session ({name})")));
    }
    let ignored = read(&body, Ignored::of(&known.instance.settings))?;
    let patch =
        InstancePatch { merge_settings: Some(ignored.settings()), ..InstancePatch::default() };
    let (here, actor) = (app.clone(), access.caller.actor());
    let after = complete(async move { alter(&here, &known.instance, patch, &actor).await }).await?;
    Ok(done(StatusCode::OK, "Settings updated", [("settings", shown(&after))]))
}
