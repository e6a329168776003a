//! What comes in and what goes out: destinations that do not deliver, instances that bring nothing.

use serde_json::Value;

use super::{
    Finding,
    Severity::{Note, Problem, Warning},
    duration, millis,
};

/// Behind by more than this is a problem, also where the endpoint answers.
const FAR_BEHIND_MS: i64 = 10 * 60_000;

pub(super) fn look(health: &Value, found: &mut Vec<Finding>) {
    let Some(at) = millis(&health["at"]) else { return };
    let owed_ms = health["store"]["owed_s"].as_i64().unwrap_or(i64::MAX).saturating_mul(1_000);
    let attention = |name: &str| health[name]["attention"].as_array().into_iter().flatten();
    for it in attention("destinations") {
        destination(it, at, owed_ms, found);
    }
    let paused = health["destinations"]["paused"].as_u64().unwrap_or(0);
    if paused > 1 {
        found.push(Finding::new(
            Note,
            "paused_count",
            format!("{paused} destinations are paused."),
            "`zapbus resume --all` lets all of them go on, for example after a restore.",
        ));
    }
    for it in attention("instances") {
        instance(it, at, found);
    }
    for what in ["destinations", "instances"] {
        if health[what]["more"] == true {
            found.push(Finding::new(
                Note,
                "not_all",
                format!("Only {} {what} were looked at.", health[what]["looked_at"]),
                "The metrics (/metrics) count all of them.",
            ));
        }
    }
}

fn destination(it: &Value, at: i64, owed_ms: i64, found: &mut Vec<Finding>) {
    let text = |name: &str| it[name].as_str().unwrap_or_default();
    let age = |name: &str| millis(&it[name]).map(|time| at - time);
    let id = text("id");
    let name = format!("The destination {:?} ({id})", text("label"));
    let so_long = age("since").map(|age| format!(" for {}", duration(age))).unwrap_or_default();
    let behind = age("oldest_unsettled_at");
    let waits = waiting(it, behind);
    let said = |member: &str, before: &str, after: &str| {
        it[member].as_str().map(|text| format!("{before}{text}{after}")).unwrap_or_default()
    };
    let (reason, error) = (said("reason", " (", ")"), said("last_error", " Last: ", "."));
    match (text("state"), it["probing"] == true) {
        ("disabled", _) => found.push(Finding::new(
            Problem,
            "disabled",
            format!("{name} is disabled{so_long}{reason}.{waits}"),
            format!(
                "See to the endpoint, try it with `zapbus destination test {id}`, then `zapbus resume {id}`."
            ),
        )),
        ("paused", _) => found.push(Finding::new(
            Warning,
            "paused",
            format!("{name} is paused{so_long}{reason}.{waits}"),
            format!("`zapbus resume {id}` lets it go on."),
        )),
        (_, true) => found.push(Finding::new(
            Problem,
            "probing",
            format!("{name} fails as a whole{so_long}; one probe at a time is sent.{waits}{error}"),
            format!(
                "See to the endpoint; `zapbus destination test {id}` shows what it answers. Nothing is lost meanwhile."
            ),
        )),
        _ if behind.is_some() => found.push(Finding::new(
            if behind > Some(FAR_BEHIND_MS) { Problem } else { Warning },
            "lagging",
            format!("{name} lags behind.{waits}{error}"),
            "The endpoint is slower than its events: let it answer before it works, raise max_in_flight, or lift its rate limit.",
        )),
        _ => {}
    }
    if let Some(oldest) = behind.filter(|age| *age > owed_ms / 5 * 4) {
        found.push(Finding::new(
            Problem,
            "about_to_expire",
            format!(
                "{name} will soon lose events: what it still has to get is kept for {}, and the oldest is {} old.",
                duration(owed_ms),
                duration(oldest)
            ),
            "Let it go on, or raise retention.owed_s.",
        ));
    }
    dead_letters(it, id, &name, found);
}

fn dead_letters(it: &Value, id: &str, name: &str, found: &mut Vec<Finding>) {
    let count = |name: &str| it[name].as_u64().unwrap_or(0);
    let (dead, recent) = (count("dead"), count("dead_last_hour"));
    if dead == 0 {
        return;
    }
    let growing = match recent {
        0 => String::new(),
        recent => format!(", {recent} of them from the last hour"),
    };
    found.push(Finding::new(
        if recent > 0 { Warning } else { Note },
        "dead_letters",
        format!("{name} has {dead} dead letters{growing}."),
        format!(
            "`zapbus deliveries --destination {id} --status dead` shows why; `zapbus deliveries retry --destination {id} --status dead` sends them again."
        ),
    ));
}

/// " 5210 events wait, the oldest for 14 min."
fn waiting(it: &Value, behind: Option<i64>) -> String {
    let Some(behind) = behind else { return String::new() };
    let held = it["retrying"].as_u64().unwrap_or(0);
    let at_least = if it["backlog"]["complete"] == false { "at least " } else { "" };
    let events = it["backlog"]["events"].as_u64().unwrap_or(0) + held;
    format!(" {at_least}{events} events wait, the oldest for {}.", duration(behind))
}

fn instance(it: &Value, at: i64, found: &mut Vec<Finding>) {
    let text = |name: &str| it[name].as_str().unwrap_or_default();
    let name = format!("The instance {:?}", text("name"));
    if it["no_destination"] == true {
        found.push(Finding::new(
            Warning,
            "no_destination",
            format!("{name} has no destination: nothing is pushed of what comes in."),
            format!(
                "`zapbus destination create --instance {:?} --webhook URL`, if somebody is to get it.",
                text("name")
            ),
        ));
    }
    if it["silent"] != true {
        return;
    }
    let has_source = text("source") != "native";
    found.push(match millis(&it["last_event_at"]) {
        Some(last) => Finding::new(
            if has_source { Warning } else { Note },
            "silent",
            format!("{name} has brought no event for {}.", duration(at - last)),
            "Look whether the number is connected and whether its upstream still posts here.",
        ),
        None if has_source => Finding::new(
            Warning,
            "never_heard",
            format!("{name} has a source ({}) and has never brought an event.", text("source")),
            "Paste the URL that `zapbus instance source set` printed into the upstream's settings.",
        ),
        None => Finding::new(
            Note,
            "no_source",
            format!("{name} has no source, and nothing was posted to it yet."),
            "`zapbus instance source set`, or post events to it.",
        ),
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::findings::Severity;

    fn codes(destination: &Value, instance: &Value) -> Vec<(&'static str, Severity)> {
        let mut whole = json!({
            "id": "dst_1", "label": "crm", "state": "active", "reason": null, "since": null,
            "probing": false, "oldest_unsettled_at": null, "backlog": null, "retrying": 0,
            "dead": 0, "dead_last_hour": 0, "last_error": null,
        });
        let mut quiet = json!({
            "name": "shop", "source": "native", "last_event_at": null, "silent": false,
            "no_destination": false,
        });
        for (whole, part) in [(&mut whole, destination), (&mut quiet, instance)] {
            for (name, value) in part.as_object().unwrap() {
                whole[name] = value.clone();
            }
        }
        let health = json!({
            "at": "2026-01-31T08:00:00Z", "store": { "owed_s": 2_592_000 },
            "destinations": { "paused": 0, "more": false, "attention": [whole] },
            "instances": { "more": false, "attention": [quiet] },
        });
        let mut found = Vec::new();
        look(&health, &mut found);
        found.into_iter().map(|finding| (finding.code, finding.severity)).collect()
    }

    #[test]
    fn every_kind_of_trouble_is_a_finding() {
        for (destination, expected) in [
            (json!({}), vec![]),
            (json!({"state": "disabled", "reason": "410"}), vec![("disabled", Problem)]),
            (json!({"state": "paused"}), vec![("paused", Warning)]),
            (json!({"probing": true, "since": "2026-01-31T07:00:00Z"}), vec![("probing", Problem)]),
            (json!({"oldest_unsettled_at": "2026-01-31T07:58:00Z"}), vec![("lagging", Warning)]),
            (json!({"oldest_unsettled_at": "2026-01-31T07:00:00Z"}), vec![("lagging", Problem)]),
            (
                json!({"state": "paused", "oldest_unsettled_at": "2026-01-02T00:00:00Z"}),
                vec![("paused", Warning), ("about_to_expire", Problem)],
            ),
            (json!({"dead": 3}), vec![("dead_letters", Note)]),
            (json!({"dead": 3, "dead_last_hour": 1}), vec![("dead_letters", Warning)]),
        ] {
            assert_eq!(codes(&destination, &json!({})), expected, "{destination}");
        }
        let silent_since = "2026-01-20T00:00:00Z";
        for (instance, expected) in [
            (json!({"no_destination": true}), vec![("no_destination", Warning)]),
            (json!({"silent": true}), vec![("no_source", Note)]),
            (json!({"silent": true, "source": "cloud-api"}), vec![("never_heard", Warning)]),
            (
                json!({"silent": true, "source": "cloud-api", "last_event_at": silent_since}),
                vec![("silent", Warning)],
            ),
        ] {
            assert_eq!(codes(&json!({}), &instance), expected, "{instance}");
        }
    }

    #[test]
    fn what_waits_is_said_with_count_and_age() {
        let it = json!({"backlog": {"events": 5_000, "complete": false}, "retrying": 210});
        let said = waiting(&it, Some(840_000));
        assert_eq!(said, " at least 5210 events wait, the oldest for 14 min.");
    }
}
