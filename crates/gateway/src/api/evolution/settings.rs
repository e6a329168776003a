//! What an instance keeps of Evolution beside its destinations: `settings.evolution`.
//!
//! `websocket` is read by the sockets; `about` is what an instance was made with and lists show.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use zapbus_event::{InstanceId, Timestamp};
use zapbus_store::{Instance, InstancePatch};

use super::answer::Failure;
use crate::{
    api::{
        auth::Caller,
        error::{ApiError, What},
        native::instances::alter,
    },
    app::App,
};

const EVOLUTION: &str = "evolution";

/// A channel that is no destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// It is switched on.
    pub(super) enabled: bool,
    /// Names it subscribes to; none while it is off.
    #[serde(default)]
    pub(super) events: Vec<String>,
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) updated_at: Option<Timestamp>,
}

impl Kept {
    /// As it is shown.
    pub(super) fn row(&self, channel: &str, instance: &Instance) -> Value {
        let created_at = self.created_at.unwrap_or(instance.created_at);
        json!({
            "id": format!("{channel}-{}", instance.id),
            "enabled": self.enabled,
            "events": self.events,
            "createdAt": created_at,
            "updatedAt": self.updated_at.unwrap_or(created_at),
            "instanceId": instance.id.to_uuid(),
        })
    }
}

/// What an instance was made with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct About {
    pub(super) integration: Option<String>,
    pub(super) number: Option<String>,
    pub(super) business_id: Option<String>,
}

/// What is kept under this name, if it can be read.
pub(super) fn read<T: DeserializeOwned>(instance: &Instance, name: &str) -> Option<T> {
    let kept = instance.settings.get(EVOLUTION)?.get(name)?;
    serde_json::from_value(kept.clone()).ok()
}

/// Settings of an instance that is being made, with what is kept under this name put in.
pub(super) fn with(settings: &Value, name: &str, kept: Value) -> Value {
    let mut all = settings.as_object().cloned().unwrap_or_default();
    let own = all.entry(EVOLUTION).or_insert_with(|| Value::Object(Map::new()));
    match own {
        Value::Object(own) => {
            own.insert(name.to_owned(), kept);
        }
        own => *own = json!({ (name): kept }),
    }
    Value::Object(all)
}

/// Keeps something under this name; what others keep at the same time stays.
pub(super) async fn keep(
    app: &App,
    caller: &Caller,
    id: InstanceId,
    name: &str,
    kept: impl Serialize,
) -> Result<Instance, Failure> {
    let kept = serde_json::to_value(kept).map_err(ApiError::internal)?;
    let instance = fresh(app, id).await?;
    let merge_settings = Some(json!({ (EVOLUTION): { (name): kept } }));
    let patch = InstancePatch { merge_settings, ..InstancePatch::default() };
    Ok(alter(app, &instance, patch, &caller.actor()).await?)
}

/// The instance as the store has it now.
pub(super) async fn fresh(app: &App, id: InstanceId) -> Result<Instance, ApiError> {
    app.store.instance(id).await?.ok_or(ApiError::NotFound(What::Instance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_keep_stays() {
        let settings = json!({"vzaps": {"subscribe": []}, "evolution": {"about": {}}});
        let kept = with(&settings, "websocket", json!({"enabled": true}));
        let expected = json!({
            "vzaps": {"subscribe": []},
            "evolution": {"about": {}, "websocket": {"enabled": true}},
        });
        assert_eq!(kept, expected);
        assert_eq!(with(&json!(null), "x", json!(1)), json!({"evolution": {"x": 1}}));
        assert_eq!(with(&json!({"evolution": 7}), "x", json!(1)), json!({"evolution": {"x": 1}}));
    }
}
