//! What operators look at: health, readiness, metrics; and what upkeep does in the background.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde_json::json;
use zapbus_gateway::telemetry::routes::OPENMETRICS;

use crate::binary::Served;
use crate::server::{Gateway, Receiver, eventually, expect_json, text_message};

async fn metrics(gateway: &Gateway) -> String {
    let response = gateway.client.get(format!("{}/metrics", gateway.url)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], OPENMETRICS);
    response.text().await.unwrap()
}

fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics
        .lines()
        .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("{series} is not in {metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn metrics_are_well_formed_and_count() {
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    gateway.create_webhook("shop", &receiver.url("/"), json!({ "events": ["message.*"] })).await;
    for _ in 0..2 {
        gateway.post_event("shop", &text_message("5511999990001", "m1", "hello")).await;
    }
    receiver.wait_for(1).await;
    eventually("the attempt is counted", async || {
        let text = metrics(&gateway).await;
        text.contains("zapbus_attempts_total{outcome=\"accepted\"} 1").then_some(())
    })
    .await;
    let text = metrics(&gateway).await;
    check_form(&text);

    assert_eq!(
        value(&text, "zapbus_ingest_events_total{source=\"native\",result=\"accepted\"}"),
        1.0
    );
    assert_eq!(
        value(&text, "zapbus_ingest_events_total{source=\"native\",result=\"duplicate\"}"),
        1.0
    );
    assert_eq!(value(&text, "zapbus_store_duplicates_total"), 1.0);
    // The message, the lifecycle of the instance, the start of the gateway.
    assert_eq!(value(&text, "zapbus_store_events_total"), 3.0);
    assert!(value(&text, "zapbus_store_commit_seconds_count") >= 3.0);
    assert!(value(&text, "zapbus_store_database_bytes") > 0.0);
    assert!(value(&text, "zapbus_store_disk_free_bytes") > 0.0);
    let posts = "zapbus_http_requests_total{method=\"POST\",route=\"/v1/instances/{instance}/events\",status=\"200\"}";
    assert_eq!(value(&text, posts), 2.0);
    assert!(!text.contains("shop"), "a template, not a path");
    gateway.stop().await;
}

/// Types and help before samples, families in one piece, no series twice, counters `_total`,
/// histograms that add up, the end mark.
fn check_form(text: &str) {
    assert!(text.ends_with("# EOF\n"), "no end mark");
    let mut types: HashMap<&str, &str> = HashMap::new();
    let mut seen = HashSet::new();
    let mut family = "";
    let mut last_bucket: HashMap<String, f64> = HashMap::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, said) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            assert!(name.starts_with("zapbus_"), "{line}");
            match what {
                "HELP" => assert!(!said.is_empty(), "{line}"),
                "TYPE" => assert!(types.insert(name, said).is_none(), "a family twice: {line}"),
                "UNIT" => assert!(name.ends_with(said), "{line}"),
                _ => panic!("{line}"),
            }
            family = name;
            continue;
        }
        let (series, number) = line.rsplit_once(' ').unwrap();
        let number: f64 = number.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(seen.insert(series), "a series twice: {line}");
        let name = series.split('{').next().unwrap();
        assert!(name.starts_with(family), "{line} stands under {family}");
        let suffix = &name[family.len()..];
        match types[family] {
            "counter" => assert_eq!(suffix, "_total", "{line}"),
            "gauge" => assert_eq!(suffix, "", "{line}"),
            "histogram" => {
                assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}");
                if suffix == "_bucket" {
                    let (before_le, rest) = series.split_once("le=\"").unwrap();
                    let labels = before_le.to_owned() + rest.split_once('"').unwrap().1;
                    let before = last_bucket.insert(labels, number).unwrap_or(0.0);
                    assert!(number >= before, "buckets are cumulative: {line}");
                }
            }
            other => panic!("type {other}: {line}"),
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_told_by_readiness_and_answered_503() {
    // More than any disk has.
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let gateway = gateway.restart_with(|config| config.store.min_free_bytes = u64::MAX / 4).await;
    let reason = eventually("readiness turns false", async || {
        let response = gateway.client.get(format!("{}/readyz", gateway.url)).send().await.ok()?;
        let answer = expect_json_if(response, 503).await?;
        answer["reason"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(reason, "store_unavailable");
    let refused =
        gateway.post("/v1/instances/shop/events", &text_message("5511999990001", "m1", "x")).await;
    assert!(refused.headers().contains_key("retry-after"));
    expect_json(refused, 503).await;
    gateway.stop().await;
}

async fn expect_json_if(response: reqwest::Response, status: u16) -> Option<serde_json::Value> {
    if response.status() != status {
        return None;
    }
    response.json().await.ok()
}

#[tokio::test]
async fn a_deleted_instance_goes_when_its_last_event_is_out() {
    let gateway = Gateway::start(|config| config.retention.every_s = 1).await;
    let receiver = Receiver::start().await;
    let instance = gateway.create_instance("shop").await;
    let id: zapbus_event::InstanceId = instance["id"].as_str().unwrap().parse().unwrap();
    gateway.create_webhook("shop", &receiver.url("/"), json!({})).await;
    gateway.post_event("shop", &text_message("5511999990001", "m1", "hello")).await;
    expect_json(
        gateway.request(reqwest::Method::DELETE, "/v1/instances/shop").send().await.unwrap(),
        204,
    )
    .await;
    receiver
        .wait_until("the deletion is told", |received| {
            received.iter().any(|request| {
                let body = request.json();
                body["type"] == "instance.lifecycle" && body["data"]["action"] == "deleted"
            })
        })
        .await;
    eventually("the rows are gone", async || {
        gateway.app.store.instance(id).await.unwrap().is_none().then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_deleted_instance_whose_receiver_is_down_goes_after_ten_minutes() {
    let gateway = Gateway::start(|config| config.retention.every_s = 1).await;
    let mut receiver = Receiver::start().await;
    receiver.go_down();
    let instance = gateway.create_instance("shop").await;
    let id: zapbus_event::InstanceId = instance["id"].as_str().unwrap().parse().unwrap();
    gateway.create_webhook("shop", &receiver.url("/"), json!({})).await;
    gateway.post_event("shop", &text_message("5511999990001", "m1", "hello")).await;
    expect_json(
        gateway.request(reqwest::Method::DELETE, "/v1/instances/shop").send().await.unwrap(),
        204,
    )
    .await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(gateway.app.store.instance(id).await.unwrap().is_some(), "it is still owed");
    gateway.clock.advance(Duration::from_secs(601));
    eventually("the rows are gone", async || {
        gateway.app.store.instance(id).await.unwrap().is_none().then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn json_logs_are_one_object_per_line_with_a_name_each() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path(), |command| {
        command.args(["--log-format", "json", "--log-level", "debug"]);
    })
    .await;
    let answer = reqwest::get(format!("{}/healthz", served.url)).await.unwrap();
    assert_eq!(answer.status(), 200);
    served.signal("TERM").await;
    served.ended().await;
    let log = std::fs::read_to_string(folder.path().join("stderr.log")).unwrap();
    let mut names = Vec::new();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let ours = line["target"].as_str().unwrap().starts_with("zapbus_gateway");
        if ours {
            names.push(line["event"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned());
        }
    }
    for name in ["gateway.started", "http.request", "gateway.stopped"] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
}
