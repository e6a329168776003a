//! What a scrape costs when there is much to look at. Figures, not promises: run it by itself, with
//! `--run-ignored only` (nextest) or `--ignored --nocapture`.

use std::time::{Duration, Instant};

use serde_json::json;
use zapbus_event::{AccountId, DestinationId, Draft, InstanceId};
use zapbus_store::{Activity, Actor, Append, Destination, NewEvent, Start};

use super::{COUNT, scrape};
use crate::server::{Gateway, Receiver, text_message};

const DESTINATIONS: u32 = 100_000;
const EVENTS: usize = 1_000_000;

async fn make_idle(gateway: &Gateway, instance: InstanceId, account: AccountId) {
    let now = gateway.clock.now();
    let mut making = tokio::task::JoinSet::new();
    for n in 0..DESTINATIONS {
        let destination = Destination {
            id: DestinationId::new(now, n.into()),
            account,
            instance: Some(instance),
            label: n.to_string(),
            filter: zapbus_event::Filter::parse(&["message.*".to_owned()]).unwrap(),
            exclude_ephemeral: false,
            activity: Activity::Active,
            spec: json!({ "channel": { "type": "webhook", "url": "https://example.org/" } }),
            created_at: now,
            updated_at: now,
        };
        let store = gateway.app.store.clone();
        making.spawn(async move {
            let actor = Actor("test".to_owned());
            store.create_destination(destination, Start::Now, &actor, None).await.unwrap()
        });
        if making.len() >= 2_000 {
            making.join_next().await;
        }
    }
    while making.join_next().await.is_some() {}
}

async fn append(gateway: &Gateway, instance: InstanceId) {
    let body = text_message("5511999990001", "m", "waiting").to_string();
    let draft = Draft::native(body.as_bytes()).unwrap();
    let draft = Draft { keys: Vec::new(), client_id: None, ..draft };
    for _ in 0..EVENTS / 1_000 {
        let event = NewEvent { instance, draft: draft.clone() };
        let append = Append { events: vec![event; 1_000], body: None };
        gateway.app.store.append(append).await.unwrap();
    }
}

/// The median and the worst of some scrapes, and their bytes.
async fn timed(gateway: &Gateway) -> (Duration, Duration, usize) {
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..21 {
        let started = Instant::now();
        let request = gateway.client.get(format!("{}/metrics", gateway.url)).send();
        bytes = request.await.unwrap().text().await.unwrap().len();
        times.push(started.elapsed());
    }
    times.sort_unstable();
    (times[10], times[20], bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and its figures are to be read by a person"]
async fn a_scrape_is_cheap_however_much_there_is() {
    let gateway = Gateway::start(|_| {}).await;
    let empty = timed(&gateway).await;
    let mut down = Receiver::start().await;
    down.go_down();
    let busy = gateway.create_instance("busy").await;
    let idle = gateway.create_instance("idle").await;
    let id = |instance: &serde_json::Value| -> InstanceId {
        instance["id"].as_str().unwrap().parse().unwrap()
    };
    let behind = gateway.create_webhook("busy", &down.url("/"), json!({})).await;
    make_idle(&gateway, id(&idle), idle["account"].as_str().unwrap().parse().unwrap()).await;
    append(&gateway, id(&busy)).await;
    let gateway = gateway.restart().await;
    let behind = behind["id"].as_str().unwrap();
    let counting = Instant::now();
    eventually_long("everything is counted", async || {
        let found = scrape(&gateway).await;
        found.of_destination(COUNT, behind).filter(|count| *count >= EVENTS as f64).map(drop)
    })
    .await;
    let counted = counting.elapsed();
    let full = timed(&gateway).await;
    println!("empty: median, worst, bytes {empty:?}");
    println!("{DESTINATIONS} idle destinations, {EVENTS} events waiting: {full:?}");
    println!("all of them counted after {counted:?}");
    gateway.stop().await;
}

async fn eventually_long(what: &str, ask: impl AsyncFn() -> Option<()>) {
    let until = Instant::now() + Duration::from_secs(300);
    while ask().await.is_none() {
        assert!(Instant::now() < until, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
