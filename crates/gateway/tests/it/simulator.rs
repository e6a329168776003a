//! `zapbus simulate` and `zapbus demo`, as users run them.

use std::{collections::HashSet, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::{
    binary::{self, Said},
    server::{Gateway, Receiver, Reply},
};

/// `zapbus simulate` against a gateway, which is at `url`.
fn simulate(url: &str, token: &str, arguments: &[&str]) -> Command {
    let mut command = binary::command(&std::env::temp_dir());
    command.env("ZAPBUS_URL", url).env("ZAPBUS_TOKEN", token).arg("simulate").args(arguments);
    command
}

/// The last line of JSON: the summary.
fn summary(said: &Said) -> Value {
    serde_json::from_str(said.stdout.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[tokio::test]
async fn traffic_is_stored_once_however_often_a_seed_is_played() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    gateway.create_instance("support").await;
    let arguments = [
        "--instance",
        "shop",
        "--instance",
        "support",
        "--rate",
        "2000/s",
        "--speed",
        "50",
        "--count",
        "1500",
        "--seed",
        "4",
        "--json",
    ];
    let said = binary::run(simulate(&gateway.url, gateway.token(), &arguments)).await;
    assert_eq!(said.code, 0, "{said:?}");
    let first = summary(&said);
    let count = |summary: &Value, name: &str| summary[name].as_u64().unwrap();
    let accepted = count(&first, "accepted");
    assert_eq!(accepted + count(&first, "duplicates"), 1_500, "{first}");
    assert!(count(&first, "duplicates") > 0, "upstreams repeat themselves: {first}");
    assert_eq!((count(&first, "refused"), count(&first, "seed")), (0, 4), "{first}");

    let mut stored = 0;
    for instance in ["shop", "support"] {
        let mut after = String::new();
        let mut types = HashSet::new();
        loop {
            let path = format!("/v1/instances/{instance}/events?limit=500{after}");
            let page = gateway.read(&path).await;
            for event in page["data"].as_array().unwrap() {
                let posted = event["dedup_key"].as_str().is_some_and(|key| key.contains("sim-4-"));
                stored += u64::from(posted);
                types.insert(event["type"].as_str().unwrap().to_owned());
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert!(types.len() > 10, "{types:?}");
    }
    assert_eq!(stored, accepted);

    let again = binary::run(simulate(&gateway.url, gateway.token(), &arguments)).await;
    let again = summary(&again);
    assert_eq!((count(&again, "accepted"), count(&again, "duplicates")), (0, 1_500), "{again}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_busy_gateway_is_asked_again_with_the_same_events() {
    let stored = r#"{"results":[{"id":"evt_1","seq":1,"duplicate":false}]}"#;
    let receiver = Receiver::replying([
        Reply::status(503).header("retry-after", "0"),
        Reply::close(),
        Reply::ok().body(stored),
    ])
    .await;
    let arguments = ["--instance", "shop", "--count", "1", "--seed", "1", "--json"];
    let said = binary::run(simulate(&receiver.url(""), "token", &arguments)).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(summary(&said)["accepted"], 1, "{said:?}");
    let requests = receiver.wait_for(3).await;
    assert!(requests.iter().all(|request| request.body == requests[0].body));
    assert_eq!(requests[0].path, "/v1/instances/shop/events");
}

#[tokio::test]
async fn traffic_comes_in_as_metas_webhooks_too() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let source = serde_json::json!({
        "type": "cloud-api", "app_secret": "hush_of_the_app", "verify_token": "verify",
        "phone_number_id": "900000000000777",
    });
    let set = gateway.request(reqwest::Method::PUT, "/v1/instances/shop/source").json(&source);
    assert!(set.send().await.unwrap().status().is_success());
    let arguments = [
        "--instance",
        "shop",
        "--source",
        "cloud-api",
        "--phone-number-id",
        "900000000000777",
        "--app-secret",
        "hush_of_the_app",
        "--count",
        "300",
        "--rate",
        "1000",
        "--speed",
        "50",
        "--seed",
        "2",
        "--json",
    ];
    let said = binary::run(simulate(&gateway.url, gateway.token(), &arguments)).await;
    assert_eq!(said.code, 0, "{said:?}");
    let summary = summary(&said);
    let mut of_meta = 0;
    // What concerns the business account as a whole belongs to no number.
    for instance in ["shop", "_account"] {
        let page = gateway.read(&format!("/v1/instances/{instance}/events?limit=500")).await;
        let events = page["data"].as_array().unwrap();
        of_meta += events.iter().filter(|event| event["source"]["kind"] == "cloud-api").count();
        assert!(events.iter().all(|event| event["type"] != "event.unknown"));
    }
    assert_eq!(summary["accepted"], of_meta, "{summary}");

    let wrong = arguments.map(|text| if text == "hush_of_the_app" { "another" } else { text });
    let said = binary::run(simulate(&gateway.url, gateway.token(), &wrong)).await;
    assert_eq!(said.code, 4, "{said:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn what_cannot_work_ends_with_its_exit_code() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let url = gateway.url.as_str();
    for (url, token, arguments, code) in [
        ("http://127.0.0.1:1", "token", &["--instance", "shop"][..], 6),
        (url, "a token of nobody", &["--instance", "shop"], 4),
        (url, gateway.token(), &["--instance", "nobody"], 3),
        (url, gateway.token(), &["--instance", "shop", "--rate", "fast"], 2),
        (url, gateway.token(), &["--rate", "5"], 2),
    ] {
        let said = binary::run(simulate(url, token, arguments)).await;
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        assert!(!said.stderr.is_empty());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_interrupt_ends_it_with_the_summary() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut command =
        simulate(&gateway.url, gateway.token(), &["--instance", "shop", "--seed", "1", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().is_some(), "it says something each second");
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().await.unwrap().success());
    let mut last = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        last = line;
    }
    assert!(child.wait().await.unwrap().success());
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["done"], true, "{last}");
    gateway.stop().await;
}

/// `zapbus demo` with its temporary folder inside `folder`.
async fn demo(folder: &std::path::Path, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = binary::command(folder);
    command.env("TMPDIR", folder).envs(variables.iter().copied());
    command.arg("demo").args(arguments);
    binary::run(command).await
}

#[tokio::test]
async fn the_demo_loses_nothing_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let production = folder.path().join("production");
    let arguments = ["--duration", "5", "--seed", "1", "--kill-every", "2", "--json"];
    let variables = [
        ("ZAPBUS_DATA_DIR", production.to_str().unwrap()),
        ("ZAPBUS_LISTEN", "not an address"),
        ("ZAPBUS_URL", "http://127.0.0.1:1"),
    ];
    let said = demo(folder.path(), &arguments, &variables).await;
    assert_eq!(said.code, 0, "{said:?}");
    let end = summary(&said);
    assert_eq!((&end["missing"], &end["done"], &end["seed"]), (&0.into(), &true.into(), &1.into()));
    assert!(end["accepted"].as_u64().unwrap() > 20, "{end}");
    assert!(end["arrived"].as_u64() > end["accepted"].as_u64(), "{end}");
    assert!(end["kills"].as_u64().unwrap() >= 1, "{end}");
    let seconds: Vec<Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let probed = seconds.iter().any(|second| {
        let rows = second["destinations"].as_array();
        rows.is_some_and(|rows| rows.iter().any(|row| row["state"] == "probing"))
    });
    let retried = seconds.iter().any(|second| {
        let rows = second["destinations"].as_array();
        rows.is_some_and(|rows| rows.iter().any(|row| row["retrying"].as_u64() > Some(0)))
    });
    assert!(probed || retried, "failures are seen: {said:?}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn the_demo_tells_its_story_in_lines_and_keeps_its_folder_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let said = demo(folder.path(), &["--duration", "2", "--seed", "3", "--keep"], &[]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("seed 3"), "{said:?}");
    assert!(said.stdout.contains("crm flowing"), "{said:?}");
    assert!(said.stdout.contains(", missing 0,") && !said.stdout.contains('\x1b'), "{said:?}");
    let (_, kept) = said.stdout.trim_end().rsplit_once("kept ").unwrap();
    assert!(std::path::Path::new(kept).join("data").is_dir(), "{said:?}");
}

#[tokio::test]
async fn the_demo_refuses_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("ZAPBUS_DATABASE_URL", "postgres://db.example.com/zapbus")];
    let said = demo(folder.path(), &["--duration", "1"], &variables).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("ZAPBUS_DATABASE_URL"), "{said:?}");
}
