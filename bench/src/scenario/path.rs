//! The durable webhook path: one POST per event, synced before the answer, one POST out.

use std::time::Duration;

use crate::{
    Failure,
    bench::{Bench, Load},
    generator::Pace,
};

/// Events that warm caches, connections and the database up, and are not counted.
const WARM_UP: u64 = 2_000;

/// Connections, and their share of the burst in percent: one at a time takes long.
const CONNECTIONS: [(usize, u64); 4] = [(1, 4), (16, 50), (64, 100), (256, 100)];

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let only = bench.connections;
    for (connections, percent) in CONNECTIONS {
        if only.is_some_and(|only| only != connections) {
            continue;
        }
        let passes = if connections == 64 { bench.size.passes } else { 1 };
        let events = bench.size.burst * percent / 100;
        measure(bench, Load::closed(events, connections), passes)?;
    }
    if only.is_some() {
        return Ok(());
    }
    let batches = Load { batch: 100, ..Load::closed(bench.size.burst, 16) };
    measure(bench, batches, 1)
}

fn measure(bench: &mut Bench, load: Load, passes: usize) -> Result<(), Failure> {
    let folder = bench.folder()?;
    let mut gateway = bench.start(&folder)?;
    let instance = gateway.create_instance("bench")?;
    std::thread::sleep(Duration::from_millis(500));
    let rest = gateway.memory()?;
    gateway.create_destination(&instance, "default", &bench.receiver.url(0))?;
    let warm_up = Load { events: WARM_UP, ..load };
    bench.through(&gateway, &instance, 0..1, warm_up)?;
    gateway.settle()?;

    for pass in 1..=passes {
        let before = bench.weather()?;
        // In the same minute, so that both see the same machine.
        let bare = bench.bare(load.events.max(20_000), load.connections, Pace::Closed)?;
        let bare_per_s = bare.deliveries_per_s();
        let cpu = gateway.cpu_seconds()?;
        let commits = gateway.metric("zapbus_store_commits_total")?;
        let sent = bench.through(&gateway, &instance, 0..1, load)?;
        gateway.settle()?;
        let cpu = gateway.cpu_seconds()? - cpu;
        let commits = gateway.metric("zapbus_store_commits_total")? - commits;
        let memory = gateway.memory()?;
        let batch =
            if load.batch > 1 { format!(", batches of {}", load.batch) } else { String::new() };
        let events = load.events as f64;
        bench.record(
            "path",
            format!("{} connections{batch}, pass {pass}", load.connections),
            vec![
                ("bare_per_s", bare_per_s),
                ("accepted_per_s", events / sent.driven.took.as_secs_f64()),
                ("deliveries_per_s", sent.deliveries_per_s()),
                ("share_percent", sent.deliveries_per_s() / bare_per_s * 100.0),
                ("accept_p50_ms", sent.driven.answers.ms(0.5)),
                ("accept_p99_ms", sent.driven.answers.ms(0.99)),
                ("arrival_p50_ms", sent.arrivals.latencies.ms(0.5)),
                ("arrival_p99_ms", sent.arrivals.latencies.ms(0.99)),
                ("cpu_s_per_1000", cpu / events * 1_000.0),
                ("events_per_commit", events / commits.max(1.0)),
                ("repeats", sent.arrivals.repeats as f64),
                ("rest_mib", rest.now_mib),
                ("after_mib", memory.now_mib),
                ("peak_mib", memory.peak_mib),
            ],
            before,
        )?;
    }
    gateway.stop()?;
    Ok(())
}
