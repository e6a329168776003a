//! `/metrics`: its form, what it counts, and everything that refers to it.

mod form;
mod references;

use std::time::Duration;

use serde_json::json;
use zapbus_gateway::telemetry::exposition::{OPENMETRICS, PLAIN};

use self::form::Scrape;
use crate::{
    engine::is_postgres,
    server::{Gateway, Receiver, eventually, text_message},
};

const AGE: &str = "zapbus_destination_lag_seconds";
const COUNT: &str = "zapbus_destination_lag_events";

pub(crate) async fn scrape(gateway: &Gateway) -> Scrape {
    let request = gateway.client.get(format!("{}/metrics", gateway.url));
    let response = request.header("accept", "application/openmetrics-text; version=1.0.0").send();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], OPENMETRICS);
    Scrape::openmetrics(&response.text().await.unwrap())
}

async fn plain(gateway: &Gateway) -> String {
    let response = gateway.client.get(format!("{}/metrics", gateway.url)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], PLAIN);
    response.text().await.unwrap()
}

/// A gateway with something of everything to show, and a destination that is behind.
async fn busy() -> (Gateway, Receiver, Receiver, String) {
    let gateway = Gateway::start(|config| {
        config.telemetry.measure_every_s = 0.05;
        config.lanes.probe_first_s = 0.05;
        config.lanes.probe_max_s = 0.1;
    })
    .await;
    let (receiver, mut down) = (Receiver::start().await, Receiver::start().await);
    down.go_down();
    gateway.create_instance("shop").await;
    gateway.create_webhook("shop", &receiver.url("/"), json!({ "events": ["message.*"] })).await;
    let behind = gateway
        .create_webhook("shop", &down.url("/"), json!({ "label": "down", "events": ["message.*"] }))
        .await;
    for n in ["m1", "m1", "m2"] {
        gateway.post_event("shop", &text_message("5511999990001", n, "hello")).await;
    }
    receiver.wait_for(2).await;
    let id = behind["id"].as_str().unwrap().to_owned();
    eventually("both deliveries and the lag are shown", async || {
        let found = scrape(&gateway).await;
        let accepted = found.get("zapbus_attempts_total{channel=\"webhook\",outcome=\"accepted\"}");
        let shown = found.of_destination(COUNT, &id);
        (accepted == Some(2.0) && shown >= Some(2.0)).then_some(())
    })
    .await;
    (gateway, receiver, down, id)
}

#[tokio::test]
async fn metrics_are_well_formed_and_count() {
    let (gateway, _receiver, _down, _) = busy().await;
    let found = scrape(&gateway).await;
    let value = |series: &str| found.get(series).unwrap_or_else(|| panic!("{series} is missing"));
    assert_eq!(value("zapbus_ingest_events_total{source=\"native\",result=\"accepted\"}"), 2.0);
    assert_eq!(value("zapbus_ingest_events_total{source=\"native\",result=\"duplicate\"}"), 1.0);
    assert_eq!(value("zapbus_store_duplicates_total"), 1.0);
    // The messages, the lifecycle of the instance, the start of the gateway.
    assert_eq!(value("zapbus_store_events_total"), 4.0);
    assert_eq!(value("zapbus_append_seconds_count"), 4.0);
    assert_eq!(value("zapbus_delivery_seconds_count{channel=\"webhook\"}"), 2.0);
    assert!(value("zapbus_attempts_total{channel=\"webhook\",outcome=\"retry\"}") >= 1.0);
    assert!(value("zapbus_store_commit_seconds_count") >= 4.0);
    assert!(value("zapbus_store_database_bytes") > 0.0);
    assert!(value("zapbus_store_used_bytes") > 0.0);
    // A server does not say how much its disk has left.
    assert_eq!(value("zapbus_store_disk_free_bytes") > 0.0, !is_postgres());
    assert_eq!(value("zapbus_ready"), 1.0);
    assert_eq!(value("zapbus_lanes{health=\"stopped\"}"), 0.0);
    let open = value("zapbus_outbound_connections{state=\"idle\"}")
        + value("zapbus_outbound_connections{state=\"busy\"}");
    assert!(open >= 0.0);
    let build = format!("zapbus_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&build), 1.0);
    if cfg!(target_os = "linux") {
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") > 3.0);
        assert!(value("process_cpu_seconds_total") > 0.0);
    }
    let posts = "zapbus_http_requests_total{method=\"POST\",route=\"/v1/instances/{instance}/events\",status=\"200\"}";
    assert_eq!(value(posts), 3.0);
    assert!(!found.text().contains("shop"), "no label holds a name");

    let plain = plain(&gateway).await;
    let older = Scrape::plain(&plain);
    assert_eq!(older.families(), found.families(), "both forms show the same");
    form::ask_promtool(&["check", "metrics"], Some(&plain));
    gateway.stop().await;
}

#[tokio::test]
async fn lag_is_told_by_age_and_count_and_ends_when_the_receiver_is_back() {
    let (gateway, _receiver, mut down, id) = busy().await;
    gateway.clock.advance(Duration::from_secs(3_600));
    for n in 0..40 {
        gateway.post_event("shop", &text_message("5511999990001", &format!("x{n}"), "more")).await;
    }
    eventually("age and count have grown", async || {
        let found = scrape(&gateway).await;
        let grown =
            found.of_destination(COUNT, &id)? >= 42.0 && found.of_destination(AGE, &id)? >= 3_600.0;
        let total = found
            .get("zapbus_lag_seconds{health=\"probing\"}")?
            .max(found.get("zapbus_lag_seconds{health=\"flowing\"}")?);
        (grown && total >= 3_600.0).then_some(())
    })
    .await;
    down.come_back().await;
    eventually("nothing waits any more", async || {
        // What failed in the outage has a schedule of its own; an event wakes the lane to look.
        gateway.clock.advance(Duration::from_secs(600));
        let next = format!("y{}", gateway.clock.now().as_millis());
        gateway.post_event("shop", &text_message("5511999990001", &next, "x")).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        let found = scrape(&gateway).await;
        found.of_destination(COUNT, &id).is_none().then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn only_the_destinations_furthest_behind_have_series_of_their_own() {
    let gateway = Gateway::start(|config| {
        config.telemetry.measure_every_s = 0.05;
        config.telemetry.destination_series = 3;
    })
    .await;
    let mut down = Receiver::start().await;
    down.go_down();
    let mut ids = Vec::new();
    for n in 0..6 {
        let name = format!("shop{n}");
        gateway.create_instance(&name).await;
        let only_messages = json!({ "events": ["message.*"] });
        let made = gateway.create_webhook(&name, &down.url("/"), only_messages).await;
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    for n in 0..6 {
        gateway.post_event(&format!("shop{n}"), &text_message("5511999990001", "m", "x")).await;
        gateway.clock.advance(Duration::from_secs(10));
    }
    eventually("the three oldest are shown, and no others", async || {
        let found = scrape(&gateway).await;
        let shown: Vec<bool> =
            ids.iter().map(|id| found.of_destination(AGE, id).is_some()).collect();
        (shown == [true, true, true, false, false, false]).then_some(())
    })
    .await;
    gateway.stop().await;
}
