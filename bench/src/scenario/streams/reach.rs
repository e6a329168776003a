//! One event to many subscribers: to the last of them. And as many events as get through.

use super::{Server, fits};
use crate::{
    Failure,
    bench::{Bench, Load, Sent},
    generator::Pace,
    swarm::Swarm,
};

/// Events that warm a server up, and are not counted.
const WARM_UP: u64 = 5;

/// Deliveries per second for which times are taken: few enough that two events do not meet.
const RATE: f64 = 3_000.0;

/// Events per second at most.
const MOST: f64 = 20.0;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    for &subscribers in bench.size.reached {
        if fits(bench, subscribers)? {
            single(bench, subscribers)?;
        }
    }
    for &subscribers in bench.size.streaming {
        if fits(bench, subscribers)? {
            sustained(bench, subscribers)?;
        }
    }
    Ok(())
}

/// One event after the other, each on its own.
fn single(bench: &mut Bench, subscribers: usize) -> Result<(), Failure> {
    let pace = Pace::PerSecond((RATE / subscribers as f64).min(MOST));
    let load = Load { pace, ..Load::closed(bench.size.timed, 1) };
    let before = bench.weather()?;
    let [ours, bare] = both(bench, subscribers, load)?;
    let (last, bare_last) = (&ours.sent.arrivals.to_the_last, &bare.sent.arrivals.to_the_last);
    let (all, bare_all) = (&ours.sent.arrivals.latencies, &bare.sent.arrivals.latencies);
    bench.record(
        "streams",
        format!("one event to {subscribers} subscribers"),
        vec![
            ("to_the_last_p50_ms", last.ms(0.5)),
            ("to_the_last_max_ms", last.ms(1.0)),
            ("arrival_p50_ms", all.ms(0.5)),
            ("bare_to_the_last_p50_ms", bare_last.ms(0.5)),
            ("bare_to_the_last_max_ms", bare_last.ms(1.0)),
            ("bare_arrival_p50_ms", bare_all.ms(0.5)),
            ("of_bare", last.ms(0.5) / bare_last.ms(0.5)),
        ],
        before,
    )
}

/// As many as get through.
fn sustained(bench: &mut Bench, subscribers: usize) -> Result<(), Failure> {
    let events = bench.size.streamed as f64 / (subscribers as f64).sqrt();
    let load = Load::closed(events.ceil() as u64, 64);
    let before = bench.weather()?;
    let [ours, bare] = both(bench, subscribers, load)?;
    let accepted = load.events as f64 / ours.sent.driven.took.as_secs_f64();
    let (per_s, bare_per_s) = (ours.sent.deliveries_per_s(), bare.sent.deliveries_per_s());
    bench.record(
        "streams",
        format!("sustained to {subscribers} subscribers"),
        vec![
            ("events", load.events as f64),
            ("accepted_per_s", accepted),
            ("deliveries_per_s", per_s),
            ("cpu_s_per_1000", ours.cpu_s_per_1000),
            ("bare_deliveries_per_s", bare_per_s),
            ("bare_cpu_s_per_1000", bare.cpu_s_per_1000),
            ("share_of_bare", per_s / bare_per_s),
        ],
        before,
    )
}

struct Reached {
    sent: Sent,
    cpu_s_per_1000: f64,
}

/// Through the gateway, then the same through the server without a store.
fn both(bench: &mut Bench, subscribers: usize, load: Load) -> Result<[Reached; 2], Failure> {
    let server = Server::gateway(bench)?;
    let (ours, frame_bytes) = reach(bench, &server, subscribers, load)?;
    server.stop()?;
    let server = Server::bare(frame_bytes)?;
    let (bare, _) = reach(bench, &server, subscribers, load)?;
    server.stop()?;
    Ok([ours, bare])
}

fn reach(
    bench: &mut Bench,
    server: &Server,
    subscribers: usize,
    load: Load,
) -> Result<(Reached, usize), Failure> {
    let swarm = Swarm::open(&server.door(), 0..subscribers, &[])?;
    server.through(bench, &swarm, 0..subscribers, Load::closed(WARM_UP, 1))?;
    let cpu = server.cpu_seconds()?;
    let sent = server.through(bench, &swarm, 0..subscribers, load)?;
    let cpu = server.cpu_seconds()? - cpu;
    let cpu_s_per_1000 = cpu / sent.arrivals.unique as f64 * 1_000.0;
    Ok((Reached { sent, cpu_s_per_1000 }, swarm.frame_bytes()))
}
