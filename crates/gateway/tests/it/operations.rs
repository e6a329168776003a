//! What operators look at: health, readiness, logs; and what upkeep does in the background.

use std::time::Duration;

use serde_json::json;

use crate::binary::Served;
use crate::engine::skips_on_postgres;
use crate::server::{Gateway, Receiver, eventually, expect_json, text_message};

#[tokio::test]
async fn a_full_disk_is_told_by_readiness_and_answered_503() {
    if skips_on_postgres("the disk is the server's") {
        return;
    }
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
        let ours = line["target"].as_str().unwrap().starts_with("zapbus");
        if ours {
            names.push(line["event"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned());
        }
    }
    for name in ["gateway.started", "http.request", "gateway.stopped"] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
}
