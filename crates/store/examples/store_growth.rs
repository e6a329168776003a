//! What things cost as the store fills: an append, a settlement, the start of a lane, its due rows, a
//! page of the journal. `cargo run --release -p zapbus-store --example store_growth 10000 100000`
//! fills it to these numbers of events, spread over a week, one after the other and measures at each.

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
use zapbus_event::{
    DestinationId, Draft, Filter, InstanceId, Kind, Position, Raw, Source, SourceKind, Timestamp,
};
use zapbus_store::{
    Activity, Actor, Append, Destination, Instance, Key, LIVE, LaneId, Limit, NewEvent, Options,
    Postgres, Reader, Row, Settlement, ShardId, Start, State, Store, Urgency,
};

const WEEK_MS: i64 = 7 * 24 * 3_600_000;
/// When it begins.
const BEGIN: i64 = 1_767_225_600_000;
/// Events of one call while it is filled.
const BATCH: usize = 1_000;
/// Calls of each kind that are timed.
const TIMED: usize = 200;
/// One of so many deliveries is to be retried.
const RETRIED: usize = 500;

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

/// A store with one instance and one destination, and a clock of its own.
struct Bench {
    store: Store,
    clock: Arc<AtomicI64>,
    shop: InstanceId,
    lane: LaneId,
    stored: usize,
}

impl Bench {
    async fn open(folder: &std::path::Path) -> Self {
        let clock = Arc::new(AtomicI64::new(BEGIN));
        let mut options = Options::new(folder);
        options.clock = {
            let clock = Arc::clone(&clock);
            Arc::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed)))
        };
        if let Ok(url) = std::env::var("ZAPBUS_DATABASE_URL") {
            options.keys = vec![Key::parse(&"00".repeat(32)).unwrap()];
            let own = Postgres { database_clock: false, ahead: 0, shards: 1, ..Postgres::new(url) };
            options.postgres = Some(own);
        }
        let store = Store::open(options).await.unwrap().store;
        let now = Timestamp::from_millis(BEGIN);
        let account = store.accounts().await.unwrap().remove(0);
        let actor = Actor("bench".to_owned());
        let instance = Instance {
            id: InstanceId::new(now, 1),
            account: account.id,
            name: "bench".to_owned(),
            token: "token".to_owned(),
            source: None,
            route: None,
            settings: json!({}),
            created_at: now,
            deleted_at: None,
        };
        let shop = instance.id;
        store.create_instance(instance, draft("made".to_owned()), &actor, None).await.unwrap();
        let destination = Destination {
            id: DestinationId::new(now, 2),
            account: account.id,
            instance: Some(shop),
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
        Self { store, clock, shop, lane, stored: 0 }
    }

    async fn append(&self, keys: impl Iterator<Item = usize>) -> Vec<Position> {
        let events =
            keys.map(|n| NewEvent { instance: self.shop, draft: draft(format!("{n}")) }).collect();
        let done = self.store.append(Append { events, body: None }).await.unwrap();
        done.iter().map(|appended| appended.seq).collect()
    }

    async fn settle(&self, positions: &[Position]) {
        let row = |seq: &Position| {
            let due = Timestamp::from_millis(BEGIN + 2 * WEEK_MS);
            let retried = seq.0.is_multiple_of(RETRIED as u64);
            Row {
                seq: *seq,
                state: if retried { State::Retrying { due } } else { State::Delivered },
                attempts: 1,
                parts_done: 1,
                key: 7,
                manual: false,
                attempt: None,
            }
        };
        let settlement = Settlement {
            lane: self.lane,
            epoch: None,
            shard: ShardId::default(),
            cursor: positions.last().copied(),
            health: None,
            rows: positions.iter().map(row).collect(),
            events: Vec::new(),
        };
        self.store.settle(vec![settlement], Urgency::Now).await.unwrap();
    }

    async fn fill(&mut self, upto: usize, of: usize) {
        while self.stored < upto {
            let next = (self.stored + BATCH).min(upto);
            let positions = self.append(self.stored..next).await;
            self.settle(&positions).await;
            self.stored = next;
            let at = BEGIN + (WEEK_MS as f64 * self.stored as f64 / of as f64) as i64;
            self.clock.fetch_max(at, Ordering::Relaxed);
        }
    }

    async fn measure(&mut self) {
        let mut times: [Vec<Duration>; 6] = Default::default();
        let limit = Limit { events: 100, bytes: 1 << 20 };
        let until = Timestamp::from_millis(BEGIN + 3 * WEEK_MS);
        let back = Position(self.stored as u64 * 9 / 10);
        for n in 0..TIMED {
            let key = 1_000_000_000 + self.stored * 1_000 + n;
            let mut begun = Instant::now();
            let mut lap = |at: usize| {
                times[at].push(begun.elapsed());
                begun = Instant::now();
            };
            let positions = self.append(key..key + 1).await;
            lap(0);
            self.settle(&positions).await;
            lap(1);
            self.store.lane(self.lane).await.unwrap();
            lap(2);
            self.store.due(self.lane, until, 10).await.unwrap();
            lap(3);
            self.store.read_after(Reader::Instance(self.shop), back, limit).await.unwrap();
            lap(4);
            self.store.lanes_due().await.unwrap();
            lap(5);
        }
        self.stored += TIMED;
        let median = |at: usize| {
            let mut times = times[at].clone();
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1_000.0
        };
        println!(
            "{:>9} events: append {:.2} ms, settle {:.2}, start of a lane {:.2}, ten due rows {:.2}, \
             a page {:.2}, lanes with due rows {:.2}",
            self.stored,
            median(0),
            median(1),
            median(2),
            median(3),
            median(4),
            median(5)
        );
    }
}

#[tokio::main]
async fn main() {
    let given: Vec<usize> =
        std::env::args().skip(1).filter_map(|events| events.parse().ok()).collect();
    let sizes = if given.is_empty() { vec![10_000, 100_000, 1_000_000] } else { given };
    let folder = tempfile::tempdir_in(".").unwrap();
    let mut bench = Bench::open(folder.path()).await;
    for size in &sizes {
        let begun = Instant::now();
        bench.fill(*size, sizes[sizes.len() - 1]).await;
        println!("filled in {:?}", begun.elapsed());
        bench.measure().await;
    }
    bench.store.close().await;
}
