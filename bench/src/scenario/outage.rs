//! A destination is down and events wait behind it: what that costs in memory, how fast they drain
//! when it is back, and what twenty neighbours notice.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Failure,
    bench::{Bench, Load, post},
    gateway::{Gateway, Instance},
    generator::Pace,
    latency::Latencies,
    ledger::Run,
};

const NEIGHBOURS: std::ops::Range<usize> = 1..21;

/// Events per second that each neighbour gets.
const NEIGHBOURS_RATE: u64 = 25;

/// How long the gateway may take to find out that a destination is back: a probe a minute.
const PROBE: Duration = Duration::from_secs(120);

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let folder = bench.folder()?;
    let mut gateway = bench.start(&folder)?;
    let instance = gateway.create_instance("down")?;
    gateway.create_destination(&instance, "default", &bench.receiver.url(0))?;
    let others = gateway.create_instance("healthy")?;
    for number in NEIGHBOURS {
        let url = bench.receiver.url(number);
        gateway.create_destination(&others, &number.to_string(), &url)?;
    }

    let before = bench.weather()?;
    let alone = neighbours(bench, &gateway, &others)?;
    bench.record("outage", "neighbours alone".to_owned(), figures(&alone).to_vec(), before)?;
    let live = Load::closed(bench.size.burst, 64);
    let live = bench.through(&gateway, &instance, 0..1, live)?.deliveries_per_s();
    gateway.settle()?;

    bench.receiver.set_down(Some(0));
    let before = bench.weather()?;
    let rest = gateway.memory()?;
    let events = bench.size.waiting;
    let waiting = bench.expect(0..1, events);
    let load = Load { batch: 500, ..Load::closed(events, 8) };
    let filled = post(&gateway, &instance, &waiting, load)?;
    let disturbed = neighbours(bench, &gateway, &others)?;
    let memory = gateway.memory()?;
    if waiting.arrived() > 0 {
        return Err("events arrived although the destination was down".into());
    }
    let mut measured = vec![
        ("events", events as f64),
        ("filled_per_s", events as f64 / filled.took.as_secs_f64()),
        ("rest_mib", rest.now_mib),
        ("now_mib", memory.now_mib),
        ("added_mib", memory.now_mib - rest.now_mib),
    ];
    measured.extend(figures(&disturbed));
    bench.record("outage", "waiting".to_owned(), measured, before)?;

    let before = bench.weather()?;
    bench.receiver.set_down(None);
    let back = Instant::now();
    first_arrival(&waiting)?;
    let noticed = back.elapsed();
    let cpu = gateway.cpu_seconds()?;
    let at_start = waiting.arrived();
    let disturbed = neighbours(bench, &gateway, &others)?;
    let arrivals = waiting.wait()?;
    bench.receiver.forget(&waiting);
    gateway.settle()?;
    let cpu = gateway.cpu_seconds()? - cpu;
    let memory = gateway.memory()?;
    let drained = arrivals.unique as f64
        / arrivals.last.saturating_duration_since(arrivals.first).as_secs_f64();
    let mut measured = vec![
        ("noticed_s", noticed.as_secs_f64()),
        ("drained_per_s", drained),
        ("live_per_s", live),
        ("of_live", drained / live),
        ("cpu_s_per_1000", cpu / (arrivals.unique - at_start) as f64 * 1_000.0),
        ("repeats", arrivals.repeats as f64),
        ("now_mib", memory.now_mib),
        ("peak_mib", memory.peak_mib),
    ];
    measured.extend(figures(&disturbed));
    bench.record("outage", "draining".to_owned(), measured, before)?;
    gateway.stop()?;
    Ok(())
}

/// What twenty healthy destinations of another instance see, at a steady rate.
fn neighbours(
    bench: &mut Bench,
    gateway: &Gateway,
    instance: &Instance,
) -> Result<Latencies, Failure> {
    let load = Load {
        pace: Pace::PerSecond(NEIGHBOURS_RATE as f64),
        ..Load::closed(NEIGHBOURS_RATE * bench.size.steady_s, 8)
    };
    Ok(bench.through(gateway, instance, NEIGHBOURS, load)?.arrivals.latencies)
}

fn figures(neighbours: &Latencies) -> [(&'static str, f64); 3] {
    [
        ("neighbours_p50_ms", neighbours.ms(0.5)),
        ("neighbours_p99_ms", neighbours.ms(0.99)),
        ("neighbours_max_ms", neighbours.ms(1.0)),
    ]
}

fn first_arrival(run: &Arc<Run>) -> Result<(), Failure> {
    let since = Instant::now();
    while run.arrived() == 0 {
        if since.elapsed() > PROBE {
            return Err("nothing arrived although the destination is back".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
