//! What is set for an instance's WebSocket: one row for all who are connected.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zapbus_event::dialect::ryze::{Choice, Names};
use zapbus_store::{Instance, InstancePatch};

use super::{
    Config,
    access::Access,
    answer::{Failure, done},
    body::{Members, Path, Unread, expected},
    options::{Own, listed, names_of},
};
use crate::{
    api::{
        error::ApiError,
        native::{complete, instances::alter},
    },
    app::App,
};

/// Where it stands in the instance's settings.
const PLACE: &str = "/ryze/websocket";

/// What is set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) enabled: bool,
    #[serde(default)]
    pub(super) inline_media: bool,
    #[serde(default)]
    pub(super) choice: Choice,
}

/// What a request says of it.
pub(super) struct Wanted {
    enabled: bool,
    inline_media: bool,
    names: Names,
    own: Own,
}

impl Wanted {
    /// Members of a body of this name and type; `None` when it says nothing about being enabled.
    pub(super) fn read(
        config: &Config,
        body: &Members,
        [enabled, events, media]: [&str; 3],
    ) -> Result<Option<Self>, Failure> {
        let names = names_of(config, body, events)?;
        let inline_media = body.truth(media)?.unwrap_or(false);
        let own = Own::of(body)?;
        let enabled = body.truth(enabled)?;
        Ok(enabled.map(|enabled| Self { enabled, inline_media, names, own }))
    }

    /// What is then set, where `stored` was.
    pub(super) fn over(self, stored: Option<Row>) -> Row {
        let stored = stored.map(|row| row.choice).unwrap_or_default();
        let names = if self.enabled { self.names } else { Names::ALL };
        Row {
            enabled: self.enabled,
            inline_media: self.enabled && self.inline_media,
            choice: self.own.put_in(Choice { names, ..stored }),
        }
    }
}

impl Row {
    /// What the instance has; `None` when nothing was ever set.
    pub(super) fn of(instance: &Instance) -> Result<Option<Self>, ApiError> {
        let stored = instance.settings.pointer(PLACE);
        stored
            .map(Self::deserialize)
            .transpose()
            .map_err(|error| ApiError::internal(format!("{PLACE} of {}: {error}", instance.id)))
    }

    /// As it stands in the settings. A member that is `null` says the same as one that is not
    /// there, so that it can be merged into them too.
    pub(super) fn stored(&self) -> Result<Value, ApiError> {
        serde_json::to_value(self).map_err(ApiError::internal)
    }

    pub(super) fn shown(&self) -> Value {
        let mut answer = json!({
            "enabled": self.enabled,
            "events": listed(self.choice.names),
            "mediaBase64": self.inline_media,
        });
        Own::show(&self.choice, &mut answer);
        answer
    }
}

/// Shows it.
pub(super) async fn show(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let failed = |error| Failure::while_doing(error, "Failed to get websocket configuration");
    let row = Row::of(&known.instance).map_err(failed)?.ok_or_else(|| {
        Failure::new(StatusCode::NOT_FOUND, "WebSocket not configured for this instance")
    })?;
    Ok(done(StatusCode::OK, "WebSocket configuration retrieved", [("websocket", row.shown())]))
}

/// Sets it as a whole. Whoever is connected gets the next event by it; switched off, they stay, as
/// it was for them.
pub(super) async fn set(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
    body: Unread,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let names = ["enabled", "events", "mediaBase64"];
    let wanted = Wanted::read(&app.config.ryze, &body.read()?, names)?;
    let wanted = wanted.ok_or_else(|| expected("enabled", "true or false"))?;
    // One that cannot be read is set anew.
    let row = wanted.over(Row::of(&known.instance).unwrap_or_default());
    let merge_settings = Some(json!({ "ryze": { "websocket": row.stored()? } }));
    let patch = InstancePatch { merge_settings, ..InstancePatch::default() };
    let (here, actor) = (app.clone(), access.caller.actor());
    complete(async move { alter(&here, &known.instance, patch, &actor).await }).await?;
    Ok(done(StatusCode::OK, "WebSocket configured", [("websocket", row.shown())]))
}
