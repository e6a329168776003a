//! What the figures of the last hour and day cost: a row written, a question answered.
//! `cargo run --release -p zapbus-store --example statistics_bench`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement by hand")]

mod set_up;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use set_up::{accepted, open_shop, options, row, settlement};
use zapbus_event::{InstanceId, Position, Timestamp};
use zapbus_store::{State, Store, Subject, Urgency, system_clock};

const DESTINATIONS: u128 = 100;

/// A day of five minutes each.
const SLOTS: u32 = 288;
const SLOT_MS: i64 = 300_000;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let now = Arc::new(AtomicI64::new((system_clock())().as_millis()));
    let mut options = options(folder.path());
    let shown = Arc::clone(&now);
    options.clock = Arc::new(move || Timestamp::from_millis(shown.load(Ordering::Relaxed)));
    let clock = options.clock.clone();
    let store = Store::open(options).await.unwrap().store;
    let instance = InstanceId::new(clock(), 1);
    let lanes = open_shop(&store, instance, DESTINATIONS, (clock(), 0)).await;

    let mut writing = Duration::ZERO;
    for _ in 0..SLOTS {
        now.fetch_add(SLOT_MS, Ordering::Relaxed);
        let settlements = lanes.iter().map(|lane| {
            let delivered = row(Position(1), State::Delivered, Some(accepted(clock())));
            settlement(*lane, None, vec![delivered])
        });
        store.settle(settlements.collect(), Urgency::Now).await.unwrap();
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
