//! Kills the real binary with SIGKILL under load, again and again on one folder, and then counts:
//! every event whose POST was answered 2xx has arrived at every destination, first arrivals are in
//! order per chat, and repeats are no more than what was in flight. In between it is killed while
//! it starts, and asked to stop.
//!
//! `ZAPBUS_CRASH_ROUNDS` (8) or `ZAPBUS_CRASH_MINUTES` decide how long, `ZAPBUS_CRASH_SEED` (the
//! time) decides when and how: the same seed gives the same rounds. With
//! `ZAPBUS_TEST_ENGINE=postgres` the events are in PostgreSQL, where a gateway that was killed holds
//! its shards for three more seconds: lives are longer there, so that each delivers something.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[expect(dead_code, reason = "the faults need more of it")]
mod load;

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::json;

use self::load::{
    Api, Dice, Load, MAX_IN_FLIGHT, Shape, Target,
    binary::{Served, serve},
    configure,
    engine::is_postgres,
    from_environment,
    receiver::Reply,
    start,
};

const ROUNDS: u64 = 8;

/// Starts that are killed before there is anything: folder, schema and key are made in them.
const FIRST_STARTS: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost() {
    let minutes = from_environment("ZAPBUS_CRASH_MINUTES");
    let rounds = from_environment("ZAPBUS_CRASH_ROUNDS").unwrap_or(match minutes {
        Some(_) => u64::MAX,
        None => ROUNDS,
    });
    let until = minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let mut dice = Dice::from_environment("ZAPBUS_CRASH_SEED");
    println!("ZAPBUS_CRASH_SEED={}", dice.0);

    let folder = tempfile::tempdir().unwrap();
    for _ in 0..FIRST_STARTS {
        kill_while_it_starts(folder.path(), dice.between(1, 120)).await;
    }
    let targets = targets().await;
    let mut gateway = start(folder.path()).await;
    Api::new(&gateway.url).set_up(&targets).await;
    let mut load = Load::start(&gateway.url, Shape::default());

    let (mut done, mut kills) = (0, 0);
    while done < rounds && until.is_none_or(|until| Instant::now() < until) {
        // What a round is is rolled before it begins: it does not depend on how it goes.
        let round = Round::roll(&mut dice);
        tokio::time::sleep(Duration::from_millis(round.lives_ms)).await;
        match round.stop {
            Stop::Kill => gateway.kill().await,
            Stop::Ask => stop(gateway).await,
            Stop::AskAndKill { after_ms } => {
                gateway.signal("TERM").await;
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                gateway.kill().await;
            }
        }
        kills += 1;
        if let Some(after_ms) = round.start_killed_after_ms {
            kill_while_it_starts(folder.path(), after_ms).await;
            kills += 1;
        }
        gateway = start(folder.path()).await;
        load.moved_to(&gateway.url);
        done += 1;
    }
    // The last round ends without a kill: everybody finishes the post they are at.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let acknowledged = load.stop().await;
    println!("{done} rounds, {kills} ends, {} events acknowledged", acknowledged.len());
    assert!(acknowledged.len() as u64 > done * 8, "too little load to prove anything");

    for target in &targets {
        target.expect_all(&acknowledged).await;
        let tallied = target.tally.so_far();
        println!("{}: {} arrivals, {} repeats", target.name, tallied.arrivals, tallied.repeats());
        target.expect_order(MAX_IN_FLIGHT * kills);
    }
    gateway.kill().await;
}

/// How one round ends.
struct Round {
    lives_ms: u64,
    stop: Stop,
    start_killed_after_ms: Option<u64>,
}

enum Stop {
    Kill,
    Ask,
    AskAndKill { after_ms: u64 },
}

impl Round {
    fn roll(dice: &mut Dice) -> Self {
        Self {
            lives_ms: if is_postgres() {
                dice.between(1_000, 6_000)
            } else {
                dice.between(100, 900)
            },
            stop: match dice.between(0, 8) {
                0 => Stop::Ask,
                1 => Stop::AskAndKill { after_ms: dice.between(0, 100) },
                _ => Stop::Kill,
            },
            start_killed_after_ms: (dice.between(0, 4) == 0).then(|| dice.between(1, 150)),
        }
    }
}

/// Every ordering, one for all instances, one whose endpoint is in a poor state.
async fn targets() -> Vec<Target> {
    let mut targets = Vec::new();
    for (name, ordering) in
        [("key", "key"), ("strict", "strict"), ("none", "none"), ("global", "key")]
    {
        targets.push(Target::good(name, ordering).await);
    }
    // Every fifth event fails at first, and for stretches everything does.
    let patient = json!({ "retry": { "waits_s": [0.2], "max_attempts": 50 } });
    let poor = Target::with("poor", "key", patient, |request, before| {
        if request.index / 200 % 4 == 3 && request.index % 200 < 10 {
            Reply::status(503)
        } else if before == 0 && request.index.is_multiple_of(5) {
            Reply::status(500)
        } else {
            Reply::ok()
        }
    });
    targets.push(poor.await);
    targets
}

async fn stop(mut gateway: Served) {
    gateway.signal("TERM").await;
    let status = gateway.ended().await;
    assert!(status.success(), "asked to stop, it ended with {status}");
}

async fn kill_while_it_starts(folder: &Path, after_ms: u64) {
    let mut command = serve(folder);
    configure(&mut command);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    child.kill().await.unwrap();
}
