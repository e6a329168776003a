//! A subscriber that is far behind catches up while live traffic goes on: how fast, and what one
//! that is not behind notices.

use std::{sync::Arc, time::Instant};

use super::door;
use crate::{
    Failure,
    bench::{Bench, Load, post},
    gateway::{Gateway, Instance},
    generator::Pace,
    latency::Latencies,
    ledger::Run,
    swarm::Swarm,
};

/// Events per second of the live traffic, which goes on a second at a time.
const RATE: u64 = 200;

/// Seconds for which the one that is behind may get nothing.
const PATIENCE: u32 = 60;

/// Who is behind, and who is not.
const BEHIND: usize = 0;
const AHEAD: usize = 1;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let folder = bench.folder()?;
    let mut gateway = bench.start(&folder)?;
    let instance = gateway.create_instance("bench")?;
    let before = bench.weather()?;
    let backlog = bench.new_run(0..1, bench.size.waiting);
    let fill = Load { batch: 500, ..Load::closed(bench.size.waiting, 8) };
    let filled = post(&gateway, &instance, &backlog, fill)?;

    let ahead = Swarm::open(&door(&gateway, &instance, ""), AHEAD..AHEAD + 1, &[])?;
    let mut quiet = Vec::new();
    for _ in 0..bench.size.steady_s {
        let run = bench.new_run(AHEAD..AHEAD + 1, RATE);
        ahead.expect(&run);
        live(&gateway, &instance, &run)?;
        ahead.wait(&run)?;
        quiet.push(run.latencies_of(AHEAD));
    }
    let quiet = Latencies::merged(&quiet);

    let rest = gateway.memory()?.now_mib;
    let cpu = gateway.cpu_seconds()?;
    let from_the_beginning = door(&gateway, &instance, "?after=0");
    let started = Instant::now();
    let behind = Swarm::open(&from_the_beginning, BEHIND..BEHIND + 1, &[&backlog])?;
    let meanwhile = catch_up(bench, &gateway, &instance, &backlog, [&behind, &ahead])?;
    let caught_up = behind.wait(&backlog)?;
    let cpu = gateway.cpu_seconds()? - cpu;
    let now = gateway.memory()?.now_mib;
    let mut busy = Vec::new();
    for run in &meanwhile {
        // Both get all of it, and the one that was behind in order too.
        behind.wait(run)?;
        ahead.check()?;
        busy.push(run.latencies_of(AHEAD));
    }
    let busy = Latencies::merged(&busy);

    let took = caught_up.last.saturating_duration_since(started).as_secs_f64();
    let events = caught_up.unique as f64;
    bench.record(
        "streams",
        format!("catching up: {} events behind", bench.size.waiting),
        vec![
            ("filled_per_s", events / filled.took.as_secs_f64()),
            ("caught_up_s", took),
            ("caught_up_per_s", events / took),
            ("live_per_s", RATE as f64),
            ("caught_up_cpu_s_per_1000", cpu / events * 1_000.0),
            ("added_mib", now - rest),
            ("quiet_p50_ms", quiet.ms(0.5)),
            ("quiet_p99_ms", quiet.ms(0.99)),
            ("meanwhile_p50_ms", busy.ms(0.5)),
            ("meanwhile_p99_ms", busy.ms(0.99)),
            ("repeats", caught_up.repeats as f64),
        ],
        before,
    )?;
    drop((behind, ahead));
    gateway.stop()?;
    Ok(())
}

/// Live traffic until the backlog has arrived; returns its runs, one a second.
fn catch_up(
    bench: &mut Bench,
    gateway: &Gateway,
    instance: &Instance,
    backlog: &Run,
    swarms: [&Swarm; 2],
) -> Result<Vec<Arc<Run>>, Failure> {
    let mut runs = Vec::new();
    let (mut seen, mut still) = (0, 0);
    loop {
        let run = bench.new_run(BEHIND..AHEAD + 1, RATE);
        for swarm in swarms {
            swarm.expect(&run);
        }
        live(gateway, instance, &run)?;
        runs.push(run);
        for swarm in swarms {
            swarm.check()?;
        }
        let arrived = backlog.arrived();
        if arrived == backlog.owed() {
            return Ok(runs);
        }
        still = if arrived > seen { 0 } else { still + 1 };
        if still >= PATIENCE {
            return Err(
                format!("{arrived} of {} events arrived and then none", backlog.owed()).into()
            );
        }
        seen = arrived;
    }
}

/// A second of live traffic.
fn live(gateway: &Gateway, instance: &Instance, run: &Arc<Run>) -> Result<(), Failure> {
    let load = Load { pace: Pace::PerSecond(RATE as f64), ..Load::closed(RATE, 8) };
    post(gateway, instance, run, load)?;
    Ok(())
}
