//! Many subscribers that come and go while the real binary is killed under load, again and again:
//! each that has a cursor sees every event that was answered 2xx, and sees the events of a chat for
//! the first time in order.
//!
//! `ZAPBUS_STREAMS_SUBSCRIBERS` (30), `ZAPBUS_STREAMS_KILLS` (4) and `ZAPBUS_STREAMS_SEED` (the time)
//! decide how many, how often and when.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "../load/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the crash test and the faults need more of it")]
mod load;
mod subscriber;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use self::{
    load::{Api, Dice, Load, Shape, binary::Served, configure, from_environment},
    subscriber::{Cursor, Seen, Subscriber},
};

/// How long after the last event nothing new may come before what is missing is missing.
const QUIET: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn every_subscriber_sees_every_event() {
    let count = from_environment("ZAPBUS_STREAMS_SUBSCRIBERS").unwrap_or(30);
    let kills = from_environment("ZAPBUS_STREAMS_KILLS").unwrap_or(4);
    let mut dice = Dice::from_environment("ZAPBUS_STREAMS_SEED");
    println!("ZAPBUS_STREAMS_SEED={}", dice.0);

    let folder = tempfile::tempdir().unwrap();
    let mut gateway = start(folder.path()).await;
    Api::new(&gateway.url).set_up(&[]).await;
    let url = watch::Sender::new(gateway.url.clone());
    let cursors = [Cursor::Named, Cursor::LastId, Cursor::ServerSent, Cursor::Account];
    let mut subscribers = Vec::new();
    for number in 0..count {
        let cursor = cursors[number as usize % cursors.len()];
        let seed = dice.between(0, u64::MAX);
        subscribers.push(Subscriber::start(number, cursor, url.subscribe(), Dice(seed)));
    }
    // A cursor begins with the first connection: events from then on are owed.
    for subscriber in &subscribers {
        subscriber.is_connected().await;
    }
    let shape = Shape { writers: 4, pause: Duration::from_millis(5), ..Shape::default() };
    let mut load = Load::start(&gateway.url, shape);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(dice.between(500, 2_000))).await;
        gateway.kill().await;
        gateway = start(folder.path()).await;
        load.moved_to(&gateway.url);
        url.send_replace(gateway.url.clone());
        load.goes_on(20).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let acknowledged = load.stop().await;
    println!("{kills} kills, {} events acknowledged", acknowledged.len());
    assert!(acknowledged.len() as u64 > kills * 20, "too little load to prove anything");

    let (mut before, mut since) = (0, Instant::now());
    loop {
        let seen: Vec<Seen> = subscribers.iter().map(Subscriber::seen).collect();
        let missing: Vec<(usize, Vec<&String>)> = seen
            .iter()
            .map(|seen| acknowledged.iter().filter(|id| !seen.has(id)).collect())
            .enumerate()
            .filter(|(_, missing): &(usize, Vec<&String>)| !missing.is_empty())
            .collect();
        let now: usize = seen.iter().map(Seen::count).sum();
        if now > before {
            (before, since) = (now, Instant::now());
        }
        if missing.is_empty() {
            break;
        }
        assert!(
            since.elapsed() < QUIET,
            "{} subscribers miss events, for example {:?} ({:?}) misses {}: {:?}",
            missing.len(),
            missing[0].0,
            cursors[missing[0].0 % cursors.len()],
            missing[0].1.len(),
            &missing[0].1[..missing[0].1.len().min(5)],
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (mut frames, mut connections) = (0, 0);
    for (number, subscriber) in subscribers.into_iter().enumerate() {
        let seen = subscriber.stop().await;
        let cursor = cursors[number % cursors.len()];
        let first: Vec<_> = seen.disorder.iter().take(5).collect();
        assert!(first.is_empty(), "{number} ({cursor:?}): first arrivals out of order: {first:?}");
        assert_eq!(seen.gaps, 0, "{number} ({cursor:?}) was told of a gap where there is none");
        frames += seen.frames;
        connections += seen.connections;
    }
    let least = acknowledged.len() * count as usize;
    println!("{count} subscribers, {connections} connections, {frames} frames for {least} events");
    gateway.kill().await;
}

/// Connections here are so short that an event may be sent many times before somebody reads it: a
/// subscriber that breaks off five times in a row would be given up.
async fn start(folder: &Path) -> Served {
    Served::start(folder, |command| {
        configure(command);
        command.env("ZAPBUS_REALTIME_MAX_DELIVERIES", "1000");
    })
    .await
}
