//! How many events per second the store takes, each settled once: one task after another, and many
//! at a time (or as many as are named). `cargo run --release -p zapbus-store --example store_bench`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement by hand")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::json;
use zapbus_event::{
    DestinationId, Draft, Filter, InstanceId, Kind, Position, Raw, Source, SourceKind, Timestamp,
};
use zapbus_store::{
    Activity, Actor, Append, Attempt, Destination, Instance, Key, LIVE, LaneId, NewEvent, Options,
    Postgres, Row, Settlement, Start, State, Store, Urgency, system_clock,
};

const SECONDS: u64 = 3;
/// Until several nodes have shared the lanes among them.
const SETTLING: u64 = 6;

fn draft(key: String) -> Draft {
    Draft {
        kind: Kind::MessageReceived,
        facet: Some("text".to_owned()),
        data: Bytes::from(format!(r#"{{"body":"{}"}}"#, "x".repeat(1_000))),
        raw: Raw::Data,
        occurred_at: None,
        source: Source {
            kind: SourceKind::Native,
            event: "message.received".to_owned(),
            version: None,
            delivery_id: None,
            index: 0,
        },
        keys: vec![key],
        partition: "5511999999999@s.whatsapp.net".to_owned(),
        history: false,
        ephemeral: false,
        client_id: None,
        hops: 0,
        aliases: Vec::new(),
    }
}

fn delivered(lane: LaneId, seq: Position, at: Timestamp) -> Settlement {
    Settlement {
        lane,
        epoch: None,
        shard: zapbus_store::ShardId::default(),
        cursor: Some(seq),
        health: None,
        rows: vec![Row {
            seq,
            state: State::Delivered,
            attempts: 1,
            parts_done: 1,
            key: 7,
            manual: false,
            attempt: Some(Attempt {
                at,
                number: 1,
                code: Some(200),
                latency_ms: 3,
                error: None,
                excerpt: Bytes::from_static(b"ok"),
                request_headers: Vec::new(),
                response_headers: Vec::new(),
            }),
        }],
        events: Vec::new(),
    }
}

async fn set_up(store: &Store) -> (InstanceId, LaneId) {
    let now = (system_clock())();
    let account = store.accounts().await.unwrap().remove(0);
    let actor = Actor("bench".to_owned());
    if store.shards() > 1 {
        // Other nodes may be there: until everybody has a share.
        tokio::time::sleep(Duration::from_secs(SETTLING)).await;
    }
    // One whose lanes this node runs.
    let held = store.leases();
    let salt = u128::from(std::process::id()) << 32;
    let id = (0..10_000_u128)
        .map(|n| InstanceId::new(now, salt + n))
        .find(|id| held.borrow().contains_key(&store.shard_of(*id)))
        .unwrap();
    let instance = Instance {
        id,
        account: account.id,
        name: format!("bench {id}"),
        token: "token".to_owned(),
        source: None,
        route: None,
        settings: json!({}),
        created_at: now,
        deleted_at: None,
    };
    let id = instance.id;
    store.create_instance(instance, draft("made".to_owned()), &actor, None).await.unwrap();
    let destination = Destination {
        id: DestinationId::new(now, salt),
        account: account.id,
        instance: Some(id),
        label: "default".to_owned(),
        filter: Filter::parse(&["*"]).unwrap(),
        exclude_ephemeral: false,
        activity: Activity::Active,
        spec: json!({}),
        created_at: now,
        updated_at: now,
    };
    let lane = LaneId { destination: destination.id, run: LIVE };
    store.create_destination(destination, Start::Now, &actor, None).await.unwrap();
    (id, lane)
}

/// A store in this folder, or on the server that `ZAPBUS_DATABASE_URL` names.
fn options(folder: &std::path::Path) -> Options {
    let mut options = Options::new(folder);
    if let Ok(url) = std::env::var("ZAPBUS_DATABASE_URL") {
        options.keys = vec![Key::parse(&"00".repeat(32)).unwrap()];
        options.postgres = Some(Postgres::new(url));
    }
    options
}

async fn measure(tasks: u64) {
    let folder = tempfile::tempdir_in(".").unwrap();
    let store = Store::open(options(folder.path())).await.unwrap().store;
    let (instance, lane) = set_up(&store).await;
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let until = started + Duration::from_secs(SECONDS);
    let workers: Vec<_> = (0..tasks)
        .map(|task| {
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                let clock = system_clock();
                let mut n = 0_u64;
                let mut took = Vec::new();
                while Instant::now() < until {
                    let asked = Instant::now();
                    n += 1;
                    let event = NewEvent { instance, draft: draft(format!("{task}/{n}")) };
                    let append = Append { events: vec![event], body: None };
                    let appended = store.append(append).await.unwrap();
                    took.push(asked.elapsed());
                    let settlement = delivered(lane, appended[0].seq, clock());
                    let settler = store.clone();
                    // As lanes do: the next event does not wait for this one's settlement.
                    tokio::spawn(async move {
                        settler.settle(vec![settlement], Urgency::CanRide).await.unwrap();
                    });
                    done.fetch_add(1, Ordering::Relaxed);
                }
                took
            })
        })
        .collect();
    let mut appends = Vec::new();
    for worker in workers {
        appends.extend(worker.await.unwrap());
    }
    let took = started.elapsed();
    appends.sort_unstable();
    let at = |share: usize| appends[(appends.len() - 1) * share / 1_000].as_secs_f64() * 1_000.0;
    let events = done.load(Ordering::Relaxed);
    let metrics = store.metrics();
    let (commits, busy_us) = metrics.commit_us.total();
    println!(
        "{tasks:>5} at a time: {:>6.0} events/s, {:>5.1} per commit of {:.2} ms; an append takes \
         {:.2} ms (99 %: {:.1}, 99.9 %: {:.1}, slowest {:.1}); {} MiB resident, {} checkpoints",
        events as f64 / took.as_secs_f64(),
        events as f64 / commits as f64,
        busy_us as f64 / commits as f64 / 1_000.0,
        at(500),
        at(990),
        at(999),
        at(1_000),
        resident_mib(),
        metrics.checkpoints.get(),
    );
    store.close().await;
    drop(store);
    let started = Instant::now();
    let store = Store::open(options(folder.path())).await.unwrap().store;
    println!("      opened again with these {events} events in {:?}", started.elapsed());
    store.close().await;
}

/// What the process occupies, as Linux tells it.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

#[tokio::main]
async fn main() {
    let given: Vec<u64> = std::env::args().skip(1).filter_map(|tasks| tasks.parse().ok()).collect();
    for tasks in if given.is_empty() { vec![1, 64, 1_000] } else { given } {
        measure(tasks).await;
    }
}
