//! Which events the sockets of an instance get.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::Value;
use zapbus_store::Instance;

use super::{
    access::Access,
    answer::Failure,
    block::{self, Common, Form},
    body::{Members, Path},
    settings::{self, Kept},
    webhook::to_its_end,
};
use crate::{api::auth::Caller, app::App};

/// Where sockets stand in the settings of an instance.
const WEBSOCKET: &str = "websocket";

/// What a request wants of the sockets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Websocket(Common);

impl Websocket {
    /// What is asked for, or everything that is wrong with it.
    pub(super) fn read(members: &Members, form: Form) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let keys = ["events", "websocket_events", "websocketEvents"];
        let common = Common::read(members, form, &keys, &mut faults);
        block::refuse_if_any(faults)?;
        Ok(Self(common))
    }

    /// Switched on or off, with the names that go with it.
    pub(super) fn of(common: Common) -> Self {
        Self(common)
    }

    /// Whether it is to be switched on.
    pub(super) fn enabled(self) -> bool {
        self.0.enabled
    }

    /// What is kept of it.
    pub(super) fn kept(self, before: Option<&Kept>, now: zapbus_event::Timestamp) -> Kept {
        Kept {
            enabled: self.0.enabled,
            events: self.0.list(),
            created_at: before.and_then(|before| before.created_at).or(Some(now)),
            updated_at: Some(now),
        }
    }

    async fn put(self, app: &App, caller: &Caller, instance: &Instance) -> Result<Value, Failure> {
        let before = settings::read::<Kept>(&settings::fresh(app, instance.id).await?, WEBSOCKET);
        let kept = self.kept(before.as_ref(), (app.clock)());
        let instance = settings::keep(app, caller, instance.id, WEBSOCKET, &kept).await?;
        Ok(kept.row(WEBSOCKET, &instance))
    }
}

/// Settings with sockets put in that are switched on from the beginning.
pub(super) fn with_websocket(
    settings: &Value,
    wanted: Websocket,
    now: zapbus_event::Timestamp,
) -> Value {
    let kept = serde_json::to_value(wanted.kept(None, now)).unwrap_or_default();
    settings::with(settings, WEBSOCKET, kept)
}

/// Sets which events sockets of an instance get.
pub(super) async fn set_websocket(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
    body: Members,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let (members, form) = block::open(&body, WEBSOCKET, &["enabled", "events"])?;
    let wanted = Websocket::read(&members, form)?;
    let row = to_its_end(async move {
        let _one_at_a_time = app.evolution.changing.lock().await;
        wanted.put(&app, &access.caller, &known.instance).await
    })
    .await?;
    Ok((StatusCode::CREATED, Json(row)).into_response())
}

/// Shows which events sockets of an instance get; `null` when it was never set.
pub(super) async fn find_websocket(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Json<Value>, Failure> {
    let known = access.instance(&app, &instance).await?;
    Ok(Json(websocket_row(&known.instance)))
}

/// The row of an instance's sockets, or `null`.
pub(super) fn websocket_row(instance: &Instance) -> Value {
    settings::read::<Kept>(instance, WEBSOCKET)
        .map_or(Value::Null, |kept| kept.row(WEBSOCKET, instance))
}
