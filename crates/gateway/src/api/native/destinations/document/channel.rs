//! Reading a destination's channel, and merging changes into it.

use serde_json::{Map, Value};
use zapbus_channel as channel;

use crate::{
    api::error::{ApiError, Fault},
    app::App,
};

/// Reads and checks a channel's config, with the secrets of the stored one where it has masks;
/// `None` when it could not even be read.
pub(super) fn channel_of(
    app: &App,
    value: Value,
    stored: Option<&channel::Config>,
    faults: &mut Vec<Fault>,
) -> Option<channel::Config> {
    let below = |fault: channel::Fault| {
        let path = if fault.path.is_empty() {
            "channel".to_owned()
        } else {
            format!("channel.{}", fault.path)
        };
        Fault::new(path, fault.message)
    };
    match channel::Config::read(value) {
        Ok(config) => {
            let config = match stored {
                // A secret goes to another place only when it is given again; the masks that
                // are left are then faults.
                Some(stored) if config.is_elsewhere(stored) => match config.validate(&app.egress) {
                    Ok(()) => config.with_kept_secrets(stored),
                    Err(_) => config,
                },
                Some(stored) => config.with_kept_secrets(stored),
                None => config,
            };
            let config = config.with_defaults();
            if let Err(found) = config.validate(&app.egress) {
                faults.extend(found.into_iter().map(below));
            }
            Some(config)
        }
        Err(fault) => {
            faults.push(below(fault));
            None
        }
    }
}

/// The stored channel with `members` merged in: `null` takes a member away, objects merge.
pub(super) fn merged(
    stored: &channel::Config,
    members: Map<String, Value>,
) -> Result<Value, ApiError> {
    let mut value = serde_json::to_value(stored.masked()).map_err(ApiError::internal)?;
    let another = members.get("type").is_some_and(|kind| *kind != value["type"]);
    if another {
        return Ok(Value::Object(members));
    }
    merge(&mut value, Value::Object(members));
    Ok(value)
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            members.shift_remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merging_changes_adds_and_takes_away() {
        let mut target = json!({"url": "a", "headers": {"x": "1", "y": "2"}, "timeout_s": 3});
        merge(&mut target, json!({"headers": {"x": null, "z": "3"}, "timeout_s": null}));
        assert_eq!(target, json!({"url": "a", "headers": {"y": "2", "z": "3"}}));
    }
}
