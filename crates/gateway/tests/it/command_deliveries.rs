//! `zapbus deliveries` and `zapbus replay` against a running gateway.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::{
    binary,
    command_line::{asked, zapbus},
    server::{Gateway, Receiver, Reply, eventually, text_message},
};

/// An instance whose destination refuses messages called `bad-…` (so that they are dead at once)
/// until it is told otherwise.
struct Scene {
    gateway: Gateway,
    receiver: Receiver,
    accepts: Arc<AtomicBool>,
    destination: String,
}

impl Scene {
    async fn set() -> Self {
        let gateway = Gateway::start(|_| {}).await;
        let accepts = Arc::new(AtomicBool::new(false));
        let script = accepts.clone();
        let receiver = Receiver::scripted(move |received| {
            let id = received.json()["data"]["message"]["id"].as_str().unwrap_or("").to_owned();
            if script.load(Ordering::SeqCst) || id.starts_with("good") {
                Reply::ok()
            } else {
                Reply::status(400).body("no")
            }
        })
        .await;
        gateway.create_instance("shop").await;
        let more = json!({ "retry": { "max_attempts": 1 }, "events": ["message.*"] });
        let made = gateway.create_webhook("shop", &receiver.url("/hook"), more).await;
        let destination = made["id"].as_str().unwrap().to_owned();
        Self { gateway, receiver, accepts, destination }
    }

    /// An outage is told from bad events by those that succeed between them.
    async fn post_pairs(&self, count: usize) {
        for n in 0..count {
            for id in [format!("good-{n}"), format!("bad-{n}")] {
                let event = text_message("5511999990001", &id, "x");
                self.gateway.post_event("shop", &event).await;
            }
        }
    }

    async fn deliveries(&self, status: &str, count: usize) -> Vec<Value> {
        let arguments = ["deliveries", "--status", status, "--limit", "0"];
        eventually(&format!("{count} are {status}"), async || {
            let found = asked(&self.gateway, &arguments).await;
            let found = found.as_array().unwrap().clone();
            (found.len() == count).then_some(found)
        })
        .await
    }
}

#[tokio::test]
async fn deliveries_are_searched_shown_and_sent_again() {
    let scene = Scene::set().await;
    scene.post_pairs(4).await;
    let dead = scene.deliveries("dead", 4).await;
    scene.deliveries("delivered", 4).await;
    let id = dead[0]["id"].as_str().unwrap();

    let table = zapbus(&scene.gateway, &["deliveries", "--limit", "2"]).await;
    assert_eq!(table.stdout.lines().count(), 3, "{table:?}");
    assert!(table.stdout.starts_with("CREATED_AT "), "no colours in a pipe: {table:?}");
    let next = table.stderr.split("--after ").nth(1).unwrap().split(',').next().unwrap();
    let rest = asked(&scene.gateway, &["deliveries", "--limit", "10", "--after", next]).await;
    assert_eq!(rest.as_array().unwrap().len(), 6);
    let lines = zapbus(&scene.gateway, &["deliveries", "--limit", "0", "--ndjson"]).await;
    assert_eq!(lines.stdout.lines().count(), 8);
    assert!(lines.stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let event = dead[0]["event_id"].as_str().unwrap();
    for (flag, value, expected) in [
        ("--instance", "shop", 8),
        ("--destination", scene.destination.as_str(), 8),
        ("--event-type", "message.received", 8),
        ("--event-type", "call.*", 0),
        ("--event-id", event, 1),
        ("--http-status", "400", 4),
        ("--http-status", "500", 0),
        ("--from", "1h", 8),
        ("--to", "1h", 0),
    ] {
        let found = asked(&scene.gateway, &["deliveries", flag, value]).await;
        assert_eq!(found.as_array().unwrap().len(), expected, "{flag} {value}");
    }
    let pending = ["deliveries", "--status", "pending", "--destination", &scene.destination];
    let pending = zapbus(&scene.gateway, &pending).await;
    assert!(pending.stderr.contains("0 events wait in the journal"), "{pending:?}");

    let shown = zapbus(&scene.gateway, &["deliveries", "show", id]).await;
    for part in [
        "Attempt 1",
        "http_status       400",
        "webhook-id: evt_",
        "no",
        "\"type\": \"message.received\"",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
    let shown = asked(&scene.gateway, &["deliveries", "show", id]).await;
    assert_eq!(shown["attempts"][0]["http_status"], 400);
    assert_eq!(zapbus(&scene.gateway, &["deliveries", "show", "dlv_nothing"]).await.code, 3);

    scene.accepts.store(true, Ordering::SeqCst);
    let again = asked(&scene.gateway, &["deliveries", "retry", id]).await;
    assert_eq!(again["id"], id);
    scene.deliveries("delivered", 5).await;
    let said = zapbus(&scene.gateway, &["deliveries", "retry", id, "dlv_nothing"]).await;
    assert_eq!(said.code, 5, "one of two: {said:?}");
    assert!(said.stderr.contains("dlv_nothing: "), "{said:?}");
    assert_eq!(zapbus(&scene.gateway, &["deliveries", "retry", "dlv_no", "dlv_nt"]).await.code, 3);
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_bulk_retry_counts_first_and_sends_each_once() {
    let scene = Scene::set().await;
    scene.post_pairs(4).await;
    scene.deliveries("dead", 4).await;
    assert_eq!(zapbus(&scene.gateway, &["deliveries", "retry"]).await.code, 2);
    let wrong = ["deliveries", "--status", "dead", "retry", "--status", "dead"];
    assert_eq!(zapbus(&scene.gateway, &wrong).await.code, 2, "filters go behind the command");
    let retry = ["deliveries", "retry", "--status", "dead", "--destination", &scene.destination];
    let counted = asked(&scene.gateway, &[&retry[..], &["--dry-run"]].concat()).await;
    assert_eq!((&counted["matched"], &counted["dry_run"]), (&json!(4), &json!(true)));
    assert_eq!(scene.receiver.received().len(), 8);

    scene.accepts.store(true, Ordering::SeqCst);
    let said = zapbus(&scene.gateway, &retry).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("4 deliveries match"), "{said:?}");
    assert!(said.stderr.contains("retry: 100 %"), "plain lines without a terminal: {said:?}");
    assert!(said.stdout.contains("redelivered  4"), "{said:?}");
    scene.deliveries("delivered", 8).await;
    let said = zapbus(&scene.gateway, &retry).await;
    assert!(said.stderr.starts_with("0 deliveries match"), "{said:?}");
    // Those that were delivered match for ever; each is sent once more all the same.
    let all = ["deliveries", "retry", "--status", "delivered", "--yes"];
    assert_eq!(asked(&scene.gateway, &all).await["redelivered"], 8);
    assert_eq!(scene.receiver.wait_for(20).await.len(), 20);
    scene.deliveries("delivered", 8).await;
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_replay_is_counted_followed_listed_paused_and_called_off() {
    let scene = Scene::set().await;
    scene.accepts.store(true, Ordering::SeqCst);
    scene.post_pairs(3).await;
    scene.deliveries("delivered", 6).await;
    let id = scene.destination.as_str();
    let from_here = asked(&scene.gateway, &["replay", id, "--since", "1h", "--dry-run"]).await;
    assert_eq!(from_here["events"], 6);
    let until = ["replay", id, "--from", "beginning", "--until", "1h", "--dry-run"];
    assert_eq!(asked(&scene.gateway, &until).await["events"], 0);
    for usage in [vec!["replay", id], vec!["replay"], vec!["replay", id, "list"]] {
        assert_eq!(zapbus(&scene.gateway, &usage).await.code, 2, "{usage:?}");
    }
    let nothing = zapbus(&scene.gateway, &["replay", id, "--since", "0s"]).await;
    assert_eq!(nothing.code, 0, "{nothing:?}");
    assert!(nothing.stderr.starts_with("0 events."), "{nothing:?}");

    let replay = ["replay", id, "--from", "beginning", "--types", "message.*", "--follow"];
    let said = zapbus(&scene.gateway, &replay).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.starts_with("6 events, received from "), "{said:?}");
    assert!(said.stderr.contains("replay: 100 %"), "{said:?}");
    assert!(said.stdout.contains("done"), "{said:?}");
    assert_eq!(scene.receiver.wait_for(12).await.len(), 12);

    asked(&scene.gateway, &["destination", "pause", id]).await;
    let run = asked(&scene.gateway, &["replay", id, "--from", "beginning", "--yes"]).await;
    assert_eq!((&run["run"], &run["state"]), (&json!(2), &json!("running")));
    assert_eq!(asked(&scene.gateway, &["replay", "pause", id, "2"]).await["state"], "paused");
    let listed = zapbus(&scene.gateway, &["replay", "list", id]).await;
    assert!(listed.stdout.contains("paused") && listed.stdout.contains("done"), "{listed:?}");

    // Who stops watching leaves it going, and is told how to get at it.
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary::command(folder.path());
    command
        .env("ZAPBUS_URL", &scene.gateway.url)
        .env("ZAPBUS_TOKEN", scene.gateway.token())
        .args(["replay", "resume", id, "2", "--follow"])
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.starts_with("replay: "), "{first}");
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().await.unwrap().success());
    let mut rest = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        rest.push(line);
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    let cancel = format!("zapbus replay cancel {id} 2");
    assert!(rest.iter().any(|line| line.ends_with(&cancel)), "{rest:?}");
    let runs = asked(&scene.gateway, &["replay", "list", id]).await;
    assert_eq!(runs[1]["state"], "running", "{runs}");
    assert_eq!(asked(&scene.gateway, &["replay", "cancel", id, "2"]).await["state"], "cancelled");
    assert_eq!(zapbus(&scene.gateway, &["replay", "resume", id, "2"]).await.code, 1);
    assert_eq!(zapbus(&scene.gateway, &["replay", "pause", id, "9"]).await.code, 3);
    scene.gateway.stop().await;
}
