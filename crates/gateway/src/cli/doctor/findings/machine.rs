//! The gateway itself: its store, its listener, its keys, its clock.

use serde_json::Value;

use super::{
    Finding,
    Severity::{Note, Problem, Warning},
    duration, millis,
};

/// Clocks further apart than this break signatures, which are good for five minutes.
const SKEW_PROBLEM_MS: i64 = 60_000;
const SKEW_WARNING_MS: i64 = 2_000;
/// A commit that takes longer than this on average.
const SLOW_MS: f64 = 20.0;
/// Commits before their time says anything.
const ENOUGH_COMMITS: u64 = 100;
const DAY_MS: i64 = 86_400_000;

pub(super) fn look(health: &Value, now: i64, found: &mut Vec<Finding>) {
    process(health, now, found);
    store(&health["store"], found);
    server(&health["store"]["server"], found);
    listener(health, found);
    keys(&health["encryption"], found);
    egress(&health["egress"], found);
    backups(health, found);
    media(&health["media"], found);
}

fn media(media: &Value, found: &mut Vec<Finding>) {
    let failed = media["failed_last_day"].as_u64().unwrap_or(0);
    if failed > 0 {
        found.push(Finding::new(
            Warning,
            "media_given_up",
            format!("{failed} files of messages could not be fetched in the last day."),
            "The lines media.given_up of the log say why. Of Cloud API it is mostly the source's \
             access_token: set one that does not end.",
        ));
    }
}

fn process(health: &Value, now: i64, found: &mut Vec<Finding>) {
    let here = env!("CARGO_PKG_VERSION");
    if let Some(there) = health["version"].as_str().filter(|there| *there != here) {
        found.push(Finding::new(
            Warning,
            "version",
            format!("The gateway is version {there}, this command line {here}."),
            "Use the binary of the gateway, or bring both to one version.",
        ));
    }
    if let Some(there) = millis(&health["at"]) {
        let apart = (there - now).abs();
        let side = if there > now { "ahead of" } else { "behind" };
        if apart > SKEW_WARNING_MS {
            found.push(Finding::new(
                if apart > SKEW_PROBLEM_MS { Problem } else { Warning },
                "clock",
                format!("The gateway's clock is {} {side} the one here.", duration(apart)),
                "Let both machines keep time (NTP): receivers refuse signatures that are minutes off.",
            ));
        }
    }
    let not_ready = health["not_ready"].as_str();
    if let Some(reason) = not_ready.filter(|_| health["store"]["stopped"].is_null()) {
        found.push(Finding::new(
            Problem,
            "not_ready",
            format!("It takes no traffic: {reason}."),
            "Wait, or look at its log.",
        ));
    }
}

fn store(store: &Value, found: &mut Vec<Finding>) {
    let count = |name: &str| store[name].as_u64().unwrap_or(0);
    let mib = |bytes: u64| bytes >> 20;
    if let Some(reason) = store["stopped"].as_str() {
        found.push(Finding::new(
            Problem,
            "store_stopped",
            format!("The store takes no events, and sources get 503: {reason}."),
            "It goes on by itself when the reason is gone.",
        ));
    }
    let min_free = count("min_free_bytes");
    // Of a server's disk nobody tells us.
    if let Some(free) = store["free_bytes"].as_u64()
        && store["stopped"].is_null()
        && free < min_free.saturating_mul(4)
    {
        found.push(Finding::new(
            if free < min_free.saturating_mul(2) { Problem } else { Warning },
            "disk",
            format!(
                "The disk is nearly full: {} MiB are free, and below {} MiB no events are taken.",
                mib(free),
                mib(min_free)
            ),
            "Make room, give it a larger disk, or keep less (retention).",
        ));
    }
    let unreadable = count("unreadable_events");
    if unreadable > 0 {
        found.push(Finding::new(
            Problem,
            "unreadable_events",
            format!(
                "{unreadable} stored events cannot be read: they are passed on as event.unknown, with what was posted in raw."
            ),
            "The log names them (event.unreadable). Look at the disk; a backup may have them whole.",
        ));
    }
    let (held, max) = (count("used_bytes") + count("blob_bytes"), count("max_bytes"));
    if max > 0 && held > max / 10 * 9 {
        let outcome = if store["when_full"] == "refuse" {
            "sources get 503"
        } else {
            "the oldest events go, also those that a destination still has to get"
        };
        found.push(Finding::new(
            Warning,
            "retention_size",
            format!(
                "The store holds {} MiB of the {} MiB that retention.max_bytes allows; then {outcome}.",
                mib(held),
                mib(max)
            ),
            "Raise retention.max_bytes, or let what is behind catch up.",
        ));
    }
    let slow = store["commit_ms"].as_f64().unwrap_or(0.0);
    if count("commits") >= ENOUGH_COMMITS && slow > SLOW_MS {
        let p99 = store["commit_p99_ms"].as_f64();
        let p99 = p99.map(|p99| format!(" (99 of 100 stay below {p99} ms)")).unwrap_or_default();
        let advice = if is_on_server(store) {
            "Every answer to a source waits for one: look at the server's disk and load, and at the way there."
        } else {
            "Every answer to a source waits for one: give the data folder a local SSD, and the machine a free core."
        };
        found.push(Finding::new(
            Warning,
            "slow_disk",
            format!("A commit with its disk sync takes {slow:.0} ms on average{p99}."),
            advice,
        ));
    }
    let failed = count("failed_commits_last_hour");
    if failed > 0 {
        found.push(Finding::new(
            Problem,
            "failed_commits",
            format!("{failed} commits have failed in the last hour."),
            "Look at the gateway's log and at the disk's own health.",
        ));
    }
    let busy = count("busy_last_hour");
    if busy > 0 {
        found.push(Finding::new(
            Warning,
            "busy",
            format!("{busy} appends of the last hour were refused: the disk did not keep up."),
            "Sources repeat them. If it happens often, raise store.queue_bytes or give it a faster disk.",
        ));
    }
}

/// What a server confirms must be what it keeps.
fn server(server: &Value, found: &mut Vec<Finding>) {
    if server.is_null() {
        return;
    }
    let version = server["version"].as_str().unwrap_or_default();
    if server["supported"] == false {
        found.push(Finding::new(
            Problem,
            "server_version",
            format!("The database is PostgreSQL {version}, which Zapbus is not made for."),
            "Take PostgreSQL 15 or later.",
        ));
    }
    for (setting, means) in [
        ("fsync", "a crash of its machine may lose what was acknowledged, or damage everything"),
        ("full_page_writes", "a crash of its machine may damage what was stored"),
    ] {
        if server[setting] == false {
            found.push(Finding::new(
                Problem,
                "server_not_durable",
                format!("The database runs with {setting} = off: {means}."),
                format!("Set {setting} = on in its configuration, and reload it."),
            ));
        }
    }
    if server["synchronous_commit"] == "off" {
        found.push(Finding::new(
            Problem,
            "server_not_durable",
            "The database confirms commits before they are on disk (synchronous_commit = off): its crash loses what was acknowledged.",
            "Set synchronous_commit = on for the database and the user of Zapbus.",
        ));
    }
    if server["read_only"] == true {
        found.push(Finding::new(
            Problem,
            "server_read_only",
            "The database takes no writes: it is a standby, or was told so.",
            "Name all hosts in database_url, so that the one that takes writes is found; or promote it.",
        ));
    }
    locks(server, found);
    let (names, standbys) = (&server["synchronous_standby_names"], &server["synchronous_standbys"]);
    if names == "" {
        found.push(Finding::new(
            Note,
            "no_synchronous_standby",
            format!("The database (PostgreSQL {version}) has no synchronous standby: what it confirmed is on one machine."),
            "A failover to another server may lose acknowledged events. synchronous_standby_names prevents that.",
        ));
    } else if standbys.as_u64() == Some(0) {
        found.push(Finding::new(
            Problem,
            "no_synchronous_standby",
            "The database is to wait for a synchronous standby and none is connected: commits hang.",
            "Bring the standby back, or take it out of synchronous_standby_names for as long as it is away.",
        ));
    }
}

/// Connections that may look into every day at one time: two nodes with nine each, one of which
/// may come while the other is there.
const LOOKS: u64 = 18;

fn locks(server: &Value, found: &mut Vec<Finding>) {
    let number = |name: &str| server[name].as_u64();
    let (Some(each), Some(connections), Some(look)) =
        (number("max_locks_per_transaction"), number("max_connections"), number("locks_of_a_look"))
    else {
        return;
    };
    if each * connections < look * LOOKS {
        found.push(Finding::new(
            Warning,
            "few_locks",
            format!(
                "A look into every day of the delivery log takes {look} locks, and the database has room for {} in all (max_locks_per_transaction = {each}).",
                each * connections
            ),
            "Set max_locks_per_transaction = 256 or more in its configuration, and restart it: else statements fail (out of shared memory) when several connections look at a time.",
        ));
    }
}

fn is_on_server(store: &Value) -> bool {
    store["engine"] == "postgres"
}

fn listener(health: &Value, found: &mut Vec<Finding>) {
    let listener = &health["listener"];
    let with_source = health["instances"]["with_source"].as_u64().unwrap_or(0);
    if with_source > 0 && listener["public_url_set"] == false {
        let url = listener["public_url"].as_str().unwrap_or_default();
        found.push(Finding::new(
            Warning,
            "public_url",
            format!(
                "{with_source} instances have a source whose upstream must reach this gateway, and the URLs it shows begin with {url}."
            ),
            "Set public_url (ZAPBUS_PUBLIC_URL) to how it is reached from outside.",
        ));
    }
    let is_open = ["loopback", "tls", "behind_proxy"].iter().all(|name| listener[*name] == false);
    if is_open {
        let address = listener["address"].as_str().unwrap_or_default();
        found.push(Finding::new(
            Warning,
            "plain_http",
            format!("It listens on {address} without TLS: tokens and messages can be read on the way."),
            "Set tls.cert and tls.key, or put a proxy with TLS in front and name it in trusted_proxies.",
        ));
    }
    let (Some(at), Some(expires)) =
        (millis(&health["at"]), millis(&listener["certificate_expires_at"]))
    else {
        return;
    };
    let left = expires - at;
    let what = match left {
        ..=0 => format!("The certificate expired {} ago.", duration(-left)),
        _ if left < 21 * DAY_MS => format!("The certificate expires in {}.", duration(left)),
        _ => return,
    };
    found.push(Finding::new(
        if left < 3 * DAY_MS { Problem } else { Warning },
        "certificate",
        what,
        "Put a new one in place: it is read again without a restart.",
    ));
}

fn keys(encryption: &Value, found: &mut Vec<Finding>) {
    if encryption["key_in_data_folder"] == true {
        found.push(Finding::new(
            Note,
            "key_in_data_folder",
            "The encryption key lies in the data folder only (encryption.key), and in no backup.",
            "Keep a copy of it elsewhere: without it a backup's secrets are lost.",
        ));
    }
    let keys = encryption["keys"].as_array().map_or(0, Vec::len);
    if keys > 1 {
        found.push(Finding::new(
            Note,
            "old_keys",
            format!("{keys} encryption keys are in use."),
            "`zapbus rekey` encrypts everything with the first; then the others can go.",
        ));
    }
}

fn egress(egress: &Value, found: &mut Vec<Finding>) {
    let allowed: Vec<&str> =
        egress["allow"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is_wide = |entry: &&&str| {
        let bits = entry.split_once('/').and_then(|(_, bits)| bits.parse::<u8>().ok());
        bits.is_some_and(|bits| bits < 8) || **entry == "*"
    };
    let wide: Vec<&str> = allowed.iter().filter(is_wide).copied().collect();
    if !wide.is_empty() {
        found.push(Finding::new(
            Warning,
            "egress_wide",
            format!("The egress allow-list lets destinations reach {}.", wide.join(", ")),
            "Whoever may create a destination reaches everything in there: name the hosts you mean (egress.allow).",
        ));
    }
    let metadata: Vec<&str> =
        allowed.iter().copied().filter(|entry| entry.starts_with("169.254.")).collect();
    if !metadata.is_empty() {
        found.push(Finding::new(
            Problem,
            "egress_metadata",
            format!(
                "The egress allow-list names {}: cloud machines give out credentials there.",
                metadata.join(", ")
            ),
            "Take it off egress.allow.",
        ));
    }
    if egress["loopback_allowed"] == true {
        found.push(Finding::new(
            Note,
            "egress_loopback",
            "Destinations may reach this machine, because only this machine reaches the gateway.",
            "Set egress.allow to decide yourself. It ends as soon as the gateway listens elsewhere.",
        ));
    }
}

fn backups(health: &Value, found: &mut Vec<Finding>) {
    // A server has backups of its own, of which nobody tells us.
    if is_on_server(&health["store"]) {
        return;
    }
    let Some(at) = millis(&health["at"]) else { return };
    let (code, what) = match millis(&health["last_backup_at"]) {
        None => ("no_backup", "The gateway has taken no backup.".to_owned()),
        Some(last) if at - last > 7 * DAY_MS => {
            ("old_backup", format!("The last backup is {} old.", duration(at - last)))
        }
        Some(_) => return,
    };
    found.push(Finding::new(Note, code, what, "`zapbus backup` takes one while events go on."));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::findings::Severity;

    const NOW: &str = "2026-01-31T08:00:00Z";

    fn healthy() -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"), "at": NOW, "not_ready": null,
            "store": {
                "engine": "sqlite", "stopped": null, "used_bytes": 1 << 20, "blob_bytes": 0, "free_bytes": 1_u64 << 40,
                "min_free_bytes": 256 << 20, "max_bytes": 50_000_000_000_u64, "when_full": "gap",
                "commits": 1000, "failed_commits": 1, "failed_commits_last_hour": 0,
                "commit_ms": 1.5, "commit_p99_ms": 5.0, "busy": 4, "busy_last_hour": 0,
                "unreadable_events": 0,
            },
            "listener": {
                "address": "127.0.0.1:8080", "loopback": true, "tls": false,
                "certificate_expires_at": null, "public_url": "https://bus.example.com",
                "public_url_set": true, "behind_proxy": false,
            },
            "encryption": { "key_in_data_folder": false, "keys": ["aa"] },
            "egress": { "allow": ["n8n"], "loopback_allowed": false },
            "last_backup_at": "2026-01-30T08:00:00Z",
            "media": { "bucket": null, "pending": 3, "failed_last_day": 0 },
            "instances": { "with_source": 0 },
        })
    }

    fn codes(health: &Value) -> Vec<(&'static str, Severity)> {
        let now = millis(&json!(NOW)).unwrap();
        let mut found = Vec::new();
        look(health, now, &mut found);
        assert!(found.iter().all(|it| !it.what.is_empty() && !it.advice.is_empty()));
        found.into_iter().map(|finding| (finding.code, finding.severity)).collect()
    }

    #[test]
    fn a_healthy_gateway_gives_no_finding() {
        assert_eq!(codes(&healthy()), []);
    }

    #[test]
    fn every_fact_that_matters_is_a_finding() {
        let expires = "/listener/certificate_expires_at";
        for (pointer, value, expected) in [
            ("/version", json!("9.9.9"), ("version", Warning)),
            ("/at", json!("2026-01-31T08:00:10Z"), ("clock", Warning)),
            ("/at", json!("2026-01-31T07:50:00Z"), ("clock", Problem)),
            ("/not_ready", json!("draining"), ("not_ready", Problem)),
            ("/store/stopped", json!("the disk is full"), ("store_stopped", Problem)),
            ("/store/free_bytes", json!(900_u64 << 20), ("disk", Warning)),
            ("/store/free_bytes", json!(300_u64 << 20), ("disk", Problem)),
            ("/store/used_bytes", json!(46_000_000_000_u64), ("retention_size", Warning)),
            ("/store/commit_ms", json!(35.0), ("slow_disk", Warning)),
            ("/store/failed_commits_last_hour", json!(1), ("failed_commits", Problem)),
            ("/store/busy_last_hour", json!(4), ("busy", Warning)),
            ("/store/unreadable_events", json!(1), ("unreadable_events", Problem)),
            ("/encryption/key_in_data_folder", json!(true), ("key_in_data_folder", Note)),
            ("/encryption/keys", json!(["aa", "bb"]), ("old_keys", Note)),
            ("/egress/allow", json!(["0.0.0.0/0"]), ("egress_wide", Warning)),
            ("/egress/allow", json!(["169.254.169.254"]), ("egress_metadata", Problem)),
            ("/egress/loopback_allowed", json!(true), ("egress_loopback", Note)),
            ("/last_backup_at", json!(null), ("no_backup", Note)),
            ("/last_backup_at", json!("2026-01-01T00:00:00Z"), ("old_backup", Note)),
            (expires, json!("2026-01-30T00:00:00Z"), ("certificate", Problem)),
            (expires, json!("2026-02-02T00:00:00Z"), ("certificate", Problem)),
            (expires, json!("2026-02-12T00:00:00Z"), ("certificate", Warning)),
            ("/listener/loopback", json!(false), ("plain_http", Warning)),
            ("/media/failed_last_day", json!(2), ("media_given_up", Warning)),
        ] {
            let mut health = healthy();
            *health.pointer_mut(pointer).unwrap() = value;
            assert_eq!(codes(&health), [expected], "{pointer}");
        }
        let mut health = healthy();
        health["store"]["engine"] = json!("postgres");
        health["store"]["free_bytes"] = json!(null);
        health["last_backup_at"] = json!(null);
        assert_eq!(codes(&health), [], "disk and backups are the server's business");
        health["store"]["server"] = json!({
            "version": "17.2", "supported": true, "fsync": true, "full_page_writes": true,
            "synchronous_commit": "on", "synchronous_standby_names": "*",
            "synchronous_standbys": 1, "read_only": false, "max_connections": 100,
            "max_locks_per_transaction": 64, "locks_of_a_look": 120,
        });
        assert_eq!(codes(&health), []);
        for (name, value, expected) in [
            ("supported", json!(false), ("server_version", Problem)),
            ("fsync", json!(false), ("server_not_durable", Problem)),
            ("full_page_writes", json!(false), ("server_not_durable", Problem)),
            ("synchronous_commit", json!("off"), ("server_not_durable", Problem)),
            ("read_only", json!(true), ("server_read_only", Problem)),
            ("locks_of_a_look", json!(400), ("few_locks", Warning)),
            ("synchronous_standbys", json!(0), ("no_synchronous_standby", Problem)),
            ("synchronous_standby_names", json!(""), ("no_synchronous_standby", Note)),
        ] {
            let mut health = health.clone();
            health["store"]["server"][name] = value;
            assert_eq!(codes(&health), [expected], "{name}");
        }
        let mut health = healthy();
        health["instances"]["with_source"] = json!(2);
        health["listener"]["public_url_set"] = json!(false);
        assert_eq!(codes(&health), [("public_url", Warning)]);
        let mut health = healthy();
        health["listener"]["certificate_expires_at"] = json!("2027-01-01T00:00:00Z");
        assert_eq!(codes(&health), []);
    }
}
