//! One event to 3, 10, 100 destinations: to the last of them, and how many in all.

use crate::{
    Failure,
    bench::{Bench, Load},
    generator::Pace,
};

/// Events per second for which times are taken: few enough that they do not meet.
const RATE: f64 = 20.0;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    for destinations in [3_usize, 10, 100] {
        let folder = bench.folder()?;
        let mut gateway = bench.start(&folder)?;
        let instance = gateway.create_instance("bench")?;
        for number in 0..destinations {
            let url = bench.receiver.url(number);
            gateway.create_destination(&instance, &number.to_string(), &url)?;
        }
        bench.through(&gateway, &instance, 0..destinations, Load::closed(20, 4))?;
        gateway.settle()?;

        let before = bench.weather()?;
        let events = (RATE as u64 * bench.size.steady_s / 2).max(20);
        let steady = Load { pace: Pace::PerSecond(RATE), ..Load::closed(events, 8) };
        let single = bench.through(&gateway, &instance, 0..destinations, steady)?.arrivals;
        gateway.settle()?;
        let cpu = gateway.cpu_seconds()?;
        let events = bench.size.fanout * 100 / destinations as u64;
        let burst = Load::closed(events, 64);
        let sent = bench.through(&gateway, &instance, 0..destinations, burst)?;
        gateway.settle()?;
        let cpu = gateway.cpu_seconds()? - cpu;
        let memory = gateway.memory()?;
        let deliveries = sent.arrivals.unique as f64;
        bench.record(
            "fanout",
            format!("{destinations} destinations"),
            vec![
                ("to_the_last_p50_ms", single.to_the_last.ms(0.5)),
                ("to_the_last_p99_ms", single.to_the_last.ms(0.99)),
                ("deliveries_per_s", sent.deliveries_per_s()),
                ("cpu_s_per_1000", cpu / deliveries * 1_000.0),
                ("now_mib", memory.now_mib),
            ],
            before,
        )?;
        gateway.stop()?;
    }
    Ok(())
}
