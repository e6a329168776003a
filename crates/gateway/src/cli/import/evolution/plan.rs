//! What is to be done: pure.

use serde_json::{Map, Value, json};

/// The action of a step that could not be done.
const FAILED: &str = "failed";

/// Channels, as their paths are called.
pub(super) const CHANNELS: [&str; 5] = ["webhook", "websocket", "rabbitmq", "sqs", "pusher"];

/// An instance of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) name: String,
    token: Option<String>,
    integration: Option<String>,
    number: Option<String>,
    business_id: Option<String>,
}

/// Everything, in order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
}

/// One thing to do.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) instance: String,
    /// `instance`, or a channel.
    what: &'static str,
    action: &'static str,
    events: Option<String>,
    detail: String,
    body: Option<Value>,
}

/// The instances of an answer, in the form of version 2 or 1.
pub(super) fn instances(list: &Value) -> Option<Vec<Instance>> {
    list.as_array()?
        .iter()
        .map(|row| {
            let row = match &row["instance"] {
                Value::Object(_) => &row["instance"],
                _ => row,
            };
            let text = |names: &[&str]| {
                let found = names.iter().find_map(|name| row[*name].as_str());
                found.filter(|text| !text.is_empty()).map(str::to_owned)
            };
            Some(Instance {
                name: text(&["name", "instanceName"])?,
                token: text(&["token", "apikey"]),
                integration: text(&["integration"]),
                number: text(&["number"]),
                business_id: text(&["businessId"]),
            })
        })
        .collect()
}

/// What an error says.
pub(super) fn message(answer: &Value) -> Option<String> {
    fn flat(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| flat(item, into)),
            Value::String(text) => into.push(text.clone()),
            _ => {}
        }
    }
    let mut lines = Vec::new();
    for place in [&answer["response"]["message"], &answer["detail"], &answer["message"]] {
        flat(place, &mut lines);
        if !lines.is_empty() {
            return Some(lines.join("; "));
        }
    }
    None
}

impl Plan {
    /// An instance with what is set for its channels, or why that could not be read.
    pub(super) fn add(
        &mut self,
        instance: &Instance,
        exists: bool,
        channels: Vec<(&'static str, Result<Value, String>)>,
    ) {
        self.steps.push(made(instance, exists));
        for (channel, row) in channels {
            self.steps.push(match row {
                Ok(row) => set(instance, channel, &row),
                Err(why) => unread(instance, channel, why),
            });
        }
    }

    /// How many steps have failed by now.
    pub(super) fn failures(&self) -> usize {
        self.steps.iter().filter(|step| step.action == FAILED).count()
    }

    /// How many instances are made and channels set.
    pub(super) fn counts(&self) -> (usize, usize) {
        let wanted = self.steps.iter().filter(|step| step.body.is_some());
        let (made, set): (Vec<_>, Vec<_>) = wanted.partition(|step| step.makes_instance());
        (made.len(), set.len())
    }

    /// A row for each step.
    pub(super) fn rows(&self) -> Vec<Value> {
        self.steps
            .iter()
            .map(|step| {
                json!({
                    "instance": step.instance,
                    "what": step.what,
                    "action": step.action,
                    "events": step.events,
                    "detail": step.detail,
                })
            })
            .collect()
    }
}

fn made(instance: &Instance, exists: bool) -> Step {
    let mut body = Map::new();
    for (name, value) in [
        ("instanceName", Some(&instance.name)),
        ("token", instance.token.as_ref()),
        ("integration", instance.integration.as_ref()),
        ("number", instance.number.as_ref()),
        ("businessId", instance.business_id.as_ref()),
    ] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.as_str().into());
        }
    }
    let detail = match (exists, &instance.token) {
        (true, _) => "it is there, and keeps its token",
        (false, Some(_)) => "with the token that it has",
        (false, None) => "with a new token: the server does not show it",
    };
    Step {
        instance: instance.name.clone(),
        what: "instance",
        action: if exists { "keep" } else { "make" },
        events: None,
        detail: detail.to_owned(),
        body: (!exists).then_some(Value::Object(body)),
    }
}

fn set(instance: &Instance, channel: &'static str, row: &Value) -> Step {
    let enabled = row["enabled"] == true;
    let events = &row["events"];
    let count = events.as_array().map_or(0, Vec::len);
    let first = |names: &[&str]| {
        names.iter().map(|name| &row[*name]).find(|value| !value.is_null()).cloned()
    };
    let mut block = Map::from_iter([("enabled".to_owned(), json!(enabled))]);
    // Where nothing is switched on, no events are listed: none must not become all.
    if enabled {
        let events = if events.is_array() { events.clone() } else { json!([]) };
        block.insert("events".to_owned(), events);
    }
    let members: &[(&str, &[&str])] = match channel {
        "webhook" => &[
            ("url", &["url"]),
            ("headers", &["headers"]),
            ("byEvents", &["webhookByEvents", "webhook_by_events", "byEvents"]),
            ("base64", &["webhookBase64", "webhook_base64", "base64"]),
        ],
        "pusher" => &[
            ("appId", &["appId"]),
            ("key", &["key"]),
            ("secret", &["secret"]),
            ("cluster", &["cluster"]),
            ("useTLS", &["useTLS"]),
        ],
        _ => &[],
    };
    for (name, names) in members {
        if let Some(value) = first(names) {
            block.insert((*name).to_owned(), value);
        }
    }
    let place = if channel == "webhook" { host_of(&row["url"]) } else { None };
    // Sockets get everything here as long as nobody has said otherwise.
    let is_set = enabled || channel == "websocket";
    let (action, detail) = match (enabled, place) {
        (true, place) => ("set", place.unwrap_or_default()),
        (false, _) if is_set => ("set", "switched off".to_owned()),
        (false, _) => ("skip", "it is switched off".to_owned()),
    };
    Step {
        instance: instance.name.clone(),
        what: channel,
        action,
        events: enabled.then(|| if count == 0 { "all".to_owned() } else { count.to_string() }),
        detail,
        body: is_set.then(|| json!({ channel: block })),
    }
}

fn unread(instance: &Instance, channel: &'static str, why: String) -> Step {
    Step {
        instance: instance.name.clone(),
        what: channel,
        action: FAILED,
        events: None,
        detail: why,
        body: None,
    }
}

/// The host of a URL: the rest of it may be a secret.
fn host_of(url: &Value) -> Option<String> {
    let url: url::Url = url.as_str()?.parse().ok()?;
    Some(format!("to {}", url.host_str()?))
}

impl Step {
    pub(super) fn makes_instance(&self) -> bool {
        self.what == "instance"
    }

    /// Nothing is done.
    pub(super) fn is_nothing(&self) -> bool {
        self.body.is_none()
    }

    /// What is asked of the gateway.
    pub(super) fn request(&self) -> Option<(Vec<String>, Value)> {
        let body = self.body.clone()?;
        let path = match self.makes_instance() {
            true => vec!["instance".to_owned(), "create".to_owned()],
            false => vec![self.what.to_owned(), "set".to_owned(), self.instance.clone()],
        };
        Some((path, body))
    }

    pub(super) fn done(&mut self) {
        self.action = if self.makes_instance() { "made" } else { "done" };
    }

    pub(super) fn failed(&mut self, why: &str) {
        self.action = FAILED;
        self.detail = why.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_read_in_the_forms_of_both_versions() {
        let new = json!([{ "id": "1", "name": "shop", "token": "T", "number": null,
            "integration": "WHATSAPP-BAILEYS" }]);
        let old = json!([{ "instance": { "instanceName": "shop", "apikey": "T" } }]);
        let new = instances(&new).unwrap();
        let old = instances(&old).unwrap();
        assert_eq!((&*new[0].name, new[0].token.as_deref()), ("shop", Some("T")));
        assert_eq!((&*old[0].name, old[0].token.as_deref()), ("shop", Some("T")));
        assert_eq!(new[0].integration.as_deref(), Some("WHATSAPP-BAILEYS"));
        for other in [json!({}), json!(null), json!([{ "name": 7 }]), json!(["shop"])] {
            assert_eq!(instances(&other), None, "{other}");
        }
    }

    fn plan(rows: Vec<(&'static str, Value)>) -> Plan {
        let list = json!([{ "name": "shop", "token": "T" }]);
        let mut plan = Plan::default();
        let rows = rows.into_iter().map(|(channel, row)| (channel, Ok(row))).collect();
        plan.add(&instances(&list).unwrap()[0], false, rows);
        plan
    }

    #[test]
    fn settings_are_written_as_they_were_read() {
        let webhook = json!({
            "id": "c1", "url": "https://example.com/hook?token=hush", "headers": { "a": "b" },
            "enabled": true, "events": ["CALL"], "webhookByEvents": true, "webhookBase64": false,
        });
        let plan = plan(vec![
            ("webhook", webhook),
            ("websocket", json!({ "enabled": false, "events": [] })),
            ("sqs", json!({ "enabled": false, "events": [] })),
            (
                "pusher",
                json!({ "enabled": true, "events": [], "appId": "1", "key": "k",
                "secret": "hush", "cluster": "eu", "useTLS": true }),
            ),
        ]);
        let (path, body) = plan.steps[1].request().unwrap();
        assert_eq!(path, ["webhook", "set", "shop"]);
        assert_eq!(
            body,
            json!({ "webhook": { "enabled": true, "events": ["CALL"],
                "url": "https://example.com/hook?token=hush", "headers": { "a": "b" },
                "byEvents": true, "base64": false } })
        );
        let (_, body) = plan.steps[2].request().unwrap();
        assert_eq!(body, json!({ "websocket": { "enabled": false } }));
        assert!(plan.steps[3].request().is_none());
        let (_, body) = plan.steps[4].request().unwrap();
        assert_eq!(body["pusher"]["secret"], "hush");
        assert_eq!(plan.counts(), (1, 3));
        // What is shown holds no secret.
        let shown = Value::Array(plan.rows()).to_string();
        assert!(!shown.contains("hush") && shown.contains("to example.com"), "{shown}");
    }

    #[test]
    fn what_cannot_be_read_is_a_step_that_failed() {
        let list = instances(&json!([{ "name": "shop" }])).unwrap();
        let mut plan = Plan::default();
        plan.add(&list[0], true, vec![("sqs", Err("500".to_owned()))]);
        assert_eq!((plan.failures(), plan.counts()), (1, (0, 0)));
        assert!(plan.steps[1].is_nothing());
        assert_eq!(plan.rows()[1]["detail"], "500");
    }

    #[test]
    fn errors_say_what_is_in_them() {
        let nested = json!({ "response": { "message": [["one", "two"]] } });
        assert_eq!(message(&nested).as_deref(), Some("one; two"));
        let text = json!({ "response": { "message": "Unauthorized" } });
        assert_eq!(message(&text).as_deref(), Some("Unauthorized"));
        assert_eq!(message(&json!({ "detail": "x" })).as_deref(), Some("x"));
        assert_eq!(message(&Value::Null), None);
    }
}
