//! How long an event takes from its POST to its arrival, at a steady rate (open loop).

use crate::{
    Failure,
    bench::{Bench, Load},
    generator::Pace,
};

const CONNECTIONS: usize = 32;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let folder = bench.folder()?;
    let mut gateway = bench.start(&folder)?;
    let instance = gateway.create_instance("bench")?;
    gateway.create_destination(&instance, "default", &bench.receiver.url(0))?;
    bench.through(&gateway, &instance, 0..1, Load::closed(1_000, CONNECTIONS))?;
    for rate in [200_u32, 2_000] {
        let pace = Pace::PerSecond(f64::from(rate));
        let events = u64::from(rate) * bench.size.steady_s;
        let before = bench.weather()?;
        let floor = bench.bare(events, CONNECTIONS, pace)?.arrivals.latencies;
        gateway.settle()?;
        let cpu = gateway.cpu_seconds()?;
        let load = Load { pace, ..Load::closed(events, CONNECTIONS) };
        let sent = bench.through(&gateway, &instance, 0..1, load)?;
        gateway.settle()?;
        let cpu = gateway.cpu_seconds()? - cpu;
        let (accept, arrival) = (&sent.driven.answers, &sent.arrivals.latencies);
        bench.record(
            "steady",
            format!("{rate}/s"),
            vec![
                ("floor_p50_ms", floor.ms(0.5)),
                ("floor_p99_ms", floor.ms(0.99)),
                ("accept_p50_ms", accept.ms(0.5)),
                ("accept_p99_ms", accept.ms(0.99)),
                ("arrival_p50_ms", arrival.ms(0.5)),
                ("arrival_p99_ms", arrival.ms(0.99)),
                ("arrival_max_ms", arrival.ms(1.0)),
                ("added_p50_ms", arrival.ms(0.5) - floor.ms(0.5)),
                ("added_p99_ms", arrival.ms(0.99) - floor.ms(0.99)),
                ("cpu_s_per_1000", cpu / events as f64 * 1_000.0),
            ],
            before,
        )?;
    }
    gateway.stop()?;
    Ok(())
}
