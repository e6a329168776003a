//! What the figures of the last hour and day cost: a row written, a question answered.
//! `cargo run --release -p zapbus-store --example statistics_bench`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement by hand")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::json;
use zapbus_event::{DestinationId, Draft, Filter, InstanceId, Position, Timestamp};
use zapbus_store::{
    Activity, Actor, Attempt, Destination, Instance, LIVE, LaneId, Options, Row, Settlement, Start,
    State, Store, Subject, Urgency, system_clock,
};

const DESTINATIONS: u128 = 100;

/// A day of five minutes each.
const SLOTS: u32 = 288;
const SLOT_MS: i64 = 300_000;

fn draft() -> Draft {
    let body = json!({
        "type": "instance.lifecycle",
        "data": { "change": "created" },
    });
    Draft::native(body.to_string().as_bytes()).unwrap()
}

fn delivered(lane: LaneId, at: Timestamp) -> Settlement {
    let attempt = Attempt {
        at,
        number: 1,
        code: Some(200),
        latency_ms: 12,
        error: None,
        excerpt: Bytes::new(),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
    };
    Settlement {
        lane,
        epoch: None,
        shard: zapbus_store::ShardId::default(),
        cursor: None,
        health: None,
        rows: vec![Row {
            seq: Position(1),
            state: State::Delivered,
            attempts: 1,
            parts_done: 1,
            key: 7,
            manual: false,
            attempt: Some(attempt),
        }],
        events: Vec::new(),
    }
}

async fn set_up(store: &Store, now: Timestamp) -> (InstanceId, Vec<LaneId>) {
    let account = store.accounts().await.unwrap().remove(0).id;
    let actor = Actor("bench".to_owned());
    let instance = Instance {
        id: InstanceId::new(now, 1),
        account,
        name: "bench".to_owned(),
        token: "token".to_owned(),
        source: None,
        route: None,
        settings: json!({}),
        created_at: now,
        deleted_at: None,
    };
    let id = instance.id;
    store.create_instance(instance, draft(), &actor, None).await.unwrap();
    let mut lanes = Vec::new();
    for number in 0..DESTINATIONS {
        let destination = Destination {
            id: DestinationId::new(now, number),
            account,
            instance: Some(id),
            label: number.to_string(),
            filter: Filter::parse(&["*"]).unwrap(),
            exclude_ephemeral: false,
            activity: Activity::Active,
            spec: json!({}),
            created_at: now,
            updated_at: now,
        };
        lanes.push(LaneId { destination: destination.id, run: LIVE });
        store.create_destination(destination, Start::Now, &actor, None).await.unwrap();
    }
    (id, lanes)
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let now = Arc::new(AtomicI64::new((system_clock())().as_millis()));
    let mut options = Options::new(folder.path());
    let shown = Arc::clone(&now);
    options.clock = Arc::new(move || Timestamp::from_millis(shown.load(Ordering::Relaxed)));
    let clock = options.clock.clone();
    let store = Store::open(options).await.unwrap().store;
    let (instance, lanes) = set_up(&store, clock()).await;

    let mut writing = Duration::ZERO;
    for _ in 0..SLOTS {
        now.fetch_add(SLOT_MS, Ordering::Relaxed);
        let settlements = lanes.iter().map(|lane| delivered(*lane, clock())).collect();
        store.settle(settlements, Urgency::Now).await.unwrap();
        let started = Instant::now();
        store.write_statistics().await.unwrap();
        writing += started.elapsed();
    }
    println!("a row written: {:?}", writing / (SLOTS * DESTINATIONS as u32));
    for (what, subject) in [
        ("a destination".to_owned(), Subject::Destination(lanes[0].destination)),
        (format!("an instance with {DESTINATIONS} destinations"), Subject::Instance(instance)),
    ] {
        let started = Instant::now();
        let found = store.statistics(subject).await.unwrap();
        println!("a day of {what}: {:?} ({})", started.elapsed(), found.day.figures.accepted);
    }
    store.close().await;
}
