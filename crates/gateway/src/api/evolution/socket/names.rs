//! Which events an instance's sockets get, as `/websocket/set` says at the moment.

use zapbus_event::{
    InstanceId,
    dialect::evolution::{Name, Names},
};
use zapbus_store::Instance;

use crate::app::App;

/// What goes out on a socket. Looked at again before each event, so that a change counts for every
/// event after it.
pub(super) struct Wanted {
    app: App,
    /// None: everything, whatever instances say.
    instance: Option<InstanceId>,
    /// What the directory had seen when it was looked at.
    seen: u64,
    /// None: nothing.
    names: Option<Names>,
}

impl Wanted {
    /// What an instance says.
    pub(super) fn of(app: &App, instance: &Instance) -> Self {
        // Before it was read is early enough: it is looked at again then.
        let names = names_of(instance);
        Self { app: app.clone(), instance: Some(instance.id), seen: 0, names }
    }

    /// Everything.
    pub(super) fn everything(app: &App) -> Self {
        Self { app: app.clone(), instance: None, seen: 0, names: Some(Names::ALL) }
    }

    /// Looks whether something was changed.
    pub(super) async fn look(&mut self) {
        let Some(instance) = self.instance else { return };
        let now = self.app.directory.generation();
        if now == self.seen {
            return;
        }
        // What cannot be read at the moment is looked at again with the next event.
        if let Ok(Some(known)) = self.app.directory.instance(instance).await {
            self.names = names_of(&known.instance);
            self.seen = now;
        }
    }

    /// Whether what has this name on the wire goes out.
    pub(super) fn wants(&self, wire: &str) -> bool {
        match (self.names, Name::find(wire)) {
            (None, _) => false,
            (Some(names), _) if names == Names::ALL => true,
            (Some(names), Some(name)) => names.contains(name),
            (Some(_), None) => false,
        }
    }
}

/// Where nobody has said anything, whoever connects gets everything.
fn names_of(instance: &Instance) -> Option<Names> {
    let said = &instance.settings["evolution"]["websocket"];
    if said["enabled"] == false {
        return None;
    }
    let Some(list) = said["events"].as_array().filter(|list| !list.is_empty()) else {
        return Some(Names::ALL);
    };
    let known: Vec<&str> = list
        .iter()
        .filter_map(serde_json::Value::as_str)
        .filter(|name| Names::parse(&[name]).is_ok())
        .collect();
    if known.is_empty() { None } else { Names::parse(&known).ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zapbus_event::{AccountId, Timestamp};

    use super::*;

    fn names(settings: Value) -> Option<Vec<String>> {
        let now = Timestamp::from_millis(0);
        let instance = Instance {
            id: InstanceId::new(now, 1),
            account: AccountId::new(now, 1),
            name: "shop".to_owned(),
            token: String::new(),
            source: None,
            route: None,
            settings,
            created_at: now,
            deleted_at: None,
        };
        names_of(&instance).map(Names::list)
    }

    #[test]
    fn settings_narrow_what_goes_out() {
        let websocket = |it: Value| names(json!({ "evolution": { "websocket": it } }));
        let all = Name::ALL.len();
        for whole in [json!({}), json!(null), json!({ "enabled": true, "events": [] })] {
            assert_eq!(websocket(whole).unwrap().len(), all);
        }
        assert_eq!(names(json!({})).unwrap().len(), all);
        assert_eq!(websocket(json!({ "enabled": false, "events": [] })), None);
        let call = json!({ "enabled": true, "events": ["CALL", "NEW_NAME", 7] });
        assert_eq!(websocket(call).unwrap(), ["CALL"]);
        assert_eq!(websocket(json!({ "enabled": true, "events": ["NEW_NAME"] })), None);
    }
}
