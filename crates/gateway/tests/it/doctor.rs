//! `zapbus doctor`: troubled gateways, and a healthy one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    binary,
    command_line::zapbus,
    engine::skips_on_postgres,
    server::{Gateway, Receiver, Reply, eventually, text_message},
};

/// The codes found, with their severities, and the exit code.
async fn found(gateway: &Gateway) -> (i32, Vec<(String, String)>) {
    let said = zapbus(gateway, &["doctor", "--json"]).await;
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = answer["findings"].as_array().unwrap().iter();
    (said.code, findings.map(|it| (text(it, "code"), text(it, "severity"))).collect())
}

fn has(found: &[(String, String)], code: &str, severity: &str) -> bool {
    found.iter().any(|(known, found)| known == code && found == severity)
}

#[tokio::test]
async fn nothing_is_wrong_with_a_healthy_gateway() {
    if skips_on_postgres("the server of the tests is fast and not durable, which the doctor says") {
        return;
    }
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    gateway.create_webhook("shop", &receiver.url("/"), json!({})).await;
    gateway.post_event("shop", &text_message("5511999990001", "a", "x")).await;
    receiver.wait_for(1).await;
    let said = zapbus(&gateway, &["doctor"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.ends_with("Nothing is wrong.\n"), "{said:?}");
    assert!(!said.stdout.contains('\u{1b}'), "no colours in a pipe");
    let (code, findings) = found(&gateway).await;
    assert_eq!(code, 0);
    assert!(findings.iter().all(|(_, severity)| severity == "note"), "{findings:?}");
    assert!(has(&findings, "key_in_data_folder", "note"), "{findings:?}");
    let lines = zapbus(&gateway, &["doctor", "--ndjson"]).await;
    assert_eq!(lines.stdout.lines().count(), findings.len());
    gateway.stop().await;
}

#[tokio::test]
async fn what_does_not_deliver_is_named_with_what_waits() {
    let gateway = Gateway::start(|_| {}).await;
    let down = Receiver::scripted(|_| Reply::status(503)).await;
    let refusing =
        Receiver::scripted(
            |received| {
                if received.index % 4 == 3 { Reply::ok() } else { Reply::status(400) }
            },
        )
        .await;
    gateway.create_instance("lonely").await;
    gateway.create_instance("shop").await;
    let create = async |label: &str, receiver: &Receiver| {
        let more = json!({ "label": label, "retry": { "max_attempts": 1 }, "max_in_flight": 1 });
        let made = gateway.create_webhook("shop", &receiver.url("/"), more).await;
        made["id"].as_str().unwrap().to_owned()
    };
    let (down_id, paused_id) = (create("down", &down).await, create("still", &down).await);
    create("refusing", &refusing).await;
    zapbus(&gateway, &["destination", "pause", &paused_id, "--reason", "holidays"]).await;
    for n in 0..8 {
        let event = text_message(&format!("551199999000{n}"), &format!("m{n}"), "x");
        gateway.post_event("shop", &event).await;
    }
    eventually("it probes", async || {
        let shown = gateway.read(&format!("/v1/destinations/{down_id}")).await;
        (shown["status"]["health"] == "probing").then_some(())
    })
    .await;
    eventually("there are dead letters", async || {
        has(&found(&gateway).await.1, "dead_letters", "warning").then_some(())
    })
    .await;
    gateway.clock.advance(Duration::from_secs(25 * 24 * 3600));
    let (code, findings) = found(&gateway).await;
    assert_eq!(code, 1, "{findings:?}");
    for (code, severity) in [
        ("probing", "problem"),
        ("about_to_expire", "problem"),
        ("paused", "warning"),
        ("no_destination", "warning"),
        ("clock", "problem"),
        ("silent", "note"),
    ] {
        assert!(has(&findings, code, severity), "{code}: {findings:?}");
    }
    let severities: Vec<&str> = findings.iter().map(|(_, severity)| severity.as_str()).collect();
    let mut sorted = severities.clone();
    sorted.sort_by_key(|severity| {
        ["problem", "warning", "note"].iter().position(|it| it == severity)
    });
    assert_eq!(severities, sorted, "the worst first");
    let said = zapbus(&gateway, &["doctor"]).await;
    for part in ["\"still\"", "holidays", "events wait, the oldest for 25 d", "zapbus resume"] {
        assert!(said.stdout.contains(part), "{part}: {said:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn sources_without_a_public_url_and_plain_http_are_told() {
    let gateway = Gateway::start(|config| {
        config.listen = "0.0.0.0:0".parse().unwrap();
        config.egress.allow = vec!["0.0.0.0/0".to_owned()];
        config.store.min_free_bytes = 1;
    })
    .await;
    gateway.create_instance("shop").await;
    let source = json!({ "type": "cloud-api", "app_secret": "hush" });
    let put = gateway.request(reqwest::Method::PUT, "/v1/instances/shop/source").json(&source);
    assert!(put.send().await.unwrap().status().is_success());
    let (code, findings) = found(&gateway).await;
    assert_eq!(code, 1);
    for (code, severity) in [
        ("public_url", "warning"),
        ("plain_http", "warning"),
        ("egress_wide", "warning"),
        ("never_heard", "warning"),
    ] {
        assert!(has(&findings, code, severity), "{code}: {findings:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_away_and_a_mistake_here_are_findings_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("zapbus.toml"), "lissten = \"127.0.0.1:1\"\n").unwrap();
    let mut command = binary::command(folder.path());
    command.args(["doctor", "--url", "http://127.0.0.1:1", "--token", "x", "--json"]);
    let said = binary::run(command).await;
    assert_eq!(said.code, 6, "{said:?}");
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    let codes: Vec<&str> = answer["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["configuration", "unreachable"]);
    assert!(answer["findings"][0]["what"].as_str().unwrap().contains("did you mean"), "{answer}");
}
