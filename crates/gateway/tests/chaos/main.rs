//! Three real nodes on one PostgreSQL, real load, and everything that may go wrong: nodes killed,
//! frozen and restarted, the database restarted and killed, the way between one node and the
//! database stalled, mute, slow, cut and closed.
//!
//! Then it is counted: every event whose POST was answered 2xx has arrived at every destination that
//! takes it, first arrivals are in order per chat, no shard's lanes were run by two nodes, events
//! came again only where something was in flight, and how long takeovers took.
//!
//! Every kind of fault comes once; `ZAPBUS_CHAOS_MINUTES` makes it last, with longer faults and at
//! times two at once. `ZAPBUS_CHAOS_SEED` (the time) decides what happens when: the same seed gives
//! the same schedule. PostgreSQL's programs are needed: without them it is skipped and says so.
//!
//! With `ZAPBUS_CHAOS_BLIND` nodes go on when their lease has ended: then it must fail.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stdout, reason = "the figures are for whoever runs it")]

#[path = "../load/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the crash test and the faults need more of it")]
mod load;

mod callers;
mod cluster;
mod leases;
#[expect(dead_code, reason = "stories of one node need more of it")]
mod proxy;
mod proxy_does_as_told;
mod report;
mod schedule;
mod shops;

use std::time::{Duration, Instant};

use serde_json::json;

use self::{
    callers::{Acknowledged, Callers},
    cluster::{Cluster, Done},
    leases::{Freeze, Leases},
    load::{Dice, MAX_IN_FLIGHT, database::Database, from_environment},
    schedule::{Fault, Form, round},
    shops::Shops,
};

/// How long a change of the registry may take to reach every node.
const REGISTRY: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_lose_nothing() {
    let Some(database) = Database::start() else {
        let reason = "PostgreSQL's programs are not installed (/usr/lib/postgresql/*/bin)";
        let required = std::env::var("ZAPBUS_TEST_PEERS").is_ok_and(|peers| peers == "require");
        assert!(!required, "{reason}, and ZAPBUS_TEST_PEERS=require");
        println!("skipped: {reason}");
        return;
    };
    let minutes = from_environment("ZAPBUS_CHAOS_MINUTES");
    let lasts = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let form = if lasts.is_some() { Form::Long } else { Form::Short };
    let mut dice = Dice::from_environment("ZAPBUS_CHAOS_SEED");
    println!("ZAPBUS_CHAOS_SEED={}", dice.0);

    let mut cluster = Cluster::start(database).await;
    let leases = Leases::default();
    let shops = Shops::open(&cluster.api(), &leases).await;
    tokio::time::sleep(REGISTRY).await;
    let mut callers = Callers::start(cluster.urls(), &shops.shops);
    callers.go_on(50).await;
    cluster.expect_even_shares().await;

    let began = Instant::now();
    loop {
        for step in round(&mut dice, form) {
            println!("{:>5.1} s: {step}", began.elapsed().as_secs_f64());
            cluster.go_through(&step, &callers).await;
            expect_one_runner(&cluster, &leases);
        }
        if lasts.is_none_or(|lasts| began.elapsed() > lasts) {
            break;
        }
    }
    // It ends in good weather, with all nodes at work.
    cluster.expect_even_shares().await;
    callers.go_on(50).await;
    let acknowledged = callers.stop().await;
    let refusals = callers.refusals();
    let events: usize = acknowledged.iter().map(Vec::len).sum();
    let longest = callers.longest();
    println!("{events} events acknowledged after {longest:?} at worst, {refusals} times refused");
    // Per fault, by all callers: else it proves nothing.
    assert!(events > cluster.done.len() * 100, "too little load to prove anything");

    expect_deliveries(&cluster, &leases, &shops, &acknowledged).await;
    let history = leases.so_far();
    println!("{}", report::table(&cluster.done, &history));
    expect_one_runner(&cluster, &leases);
    report::expect_quick_takeovers(&cluster.done, &history);
    cluster.kill().await;
}

/// No lane was run by two nodes so far.
fn expect_one_runner(cluster: &Cluster, leases: &Leases) {
    let freezes: Vec<Freeze> = cluster.done.iter().filter_map(Done::freeze).collect();
    let wrong = leases.so_far().wrong(&freezes, MAX_IN_FLIGHT);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All that is owed arrives, in order, and next to nothing twice.
async fn expect_deliveries(
    cluster: &Cluster,
    leases: &Leases,
    shops: &Shops,
    acknowledged: &[Vec<Acknowledged>],
) {
    // Its answer may be lost with the way to the database, and then it is not known what is settled.
    let unknown = |done: &&Done| {
        matches!(done.fault, Fault::Link(..) | Fault::DatabaseRestart | Fault::DatabaseKill)
    };
    let unknown = cluster.done.iter().filter(unknown).count();
    for destination in &shops.destinations {
        let history = leases.so_far();
        let changes = history.changes(&destination.target.name);
        let (times, who) = (changes + unknown, (&cluster.api(), &history));
        destination.expect(acknowledged, times, who).await;
    }
    let arrivals = shops.destinations.iter().map(|all| all.target.tally.so_far().arrivals);
    let repeats = shops.destinations.iter().map(shops::Destination::repeats);
    println!("{} arrivals, {} repeats", arrivals.sum::<usize>(), repeats.sum::<usize>());
    let dead = cluster.api().read("/v1/deliveries?status=dead&limit=10").await;
    assert_eq!(dead["data"], json!([]), "nothing may be given up");
}
