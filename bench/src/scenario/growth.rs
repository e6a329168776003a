//! What a delivery costs in CPU time and allocations, with few and with many rows in the store.

use std::path::Path;

use tempfile::TempDir;

use crate::{
    Failure,
    bench::{Bench, Load},
    gateway::{Gateway, Instance},
};

/// Deliveries for which allocations are counted: counting is slow.
const COUNTED: u64 = 2_000;

const CONNECTIONS: usize = 64;

/// Costs per 1,000 deliveries.
struct Cost {
    cpu_s: f64,
    /// Number and bytes.
    allocations: Option<(f64, f64)>,
}

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let folder = bench.folder()?;
    let mut gateway = bench.start(&folder)?;
    let instance = gateway.create_instance("bench")?;
    gateway.create_destination(&instance, "default", &bench.receiver.url(0))?;
    let mut rows = 0;
    let mut costs = Vec::new();
    for wanted in bench.size.growth {
        let before = bench.weather()?;
        let missing = wanted.saturating_sub(rows) / 100 * 100;
        let fill = Load { batch: 100, ..Load::closed(missing, 16) };
        let mut figures = Vec::new();
        if missing > 0 {
            let filled = bench.through(&gateway, &instance, 0..1, fill)?;
            figures.push(("filled_per_s", filled.deliveries_per_s()));
            gateway.settle()?;
            rows += missing;
        }

        let cpu = gateway.cpu_seconds()?;
        let burst = Load::closed(bench.size.growth_burst, CONNECTIONS);
        let sent = bench.through(&gateway, &instance, 0..1, burst)?;
        gateway.settle()?;
        let cpu = gateway.cpu_seconds()? - cpu;
        let memory = gateway.memory()?;
        gateway.stop()?;
        let allocations = match bench.counting.clone() {
            Some(counting) => Some(allocations(bench, &counting, &folder, &instance)?),
            None => None,
        };
        rows += burst.events + if allocations.is_some() { 3 * COUNTED } else { 0 };
        gateway = bench.start(&folder)?;

        let cpu_s = cpu / burst.events as f64 * 1_000.0;
        figures.push(("cpu_s_per_1000", cpu_s));
        figures.push(("deliveries_per_s", sent.deliveries_per_s()));
        figures.push(("now_mib", memory.now_mib));
        if let Some((number, bytes)) = allocations {
            figures.push(("allocations_per_1000", number));
            figures.push(("allocated_kib_per_1000", bytes / 1_024.0));
        }
        bench.record("growth", format!("{wanted} rows"), figures, before)?;
        costs.push(Cost { cpu_s, allocations });
    }
    gateway.stop()?;

    let before = bench.weather()?;
    let [few, many] = &costs[..] else {
        return Err("growth is measured between two sizes".into());
    };
    let mut figures = vec![("cpu_ratio", many.cpu_s / few.cpu_s)];
    if let Some(((few, _), (many, _))) = few.allocations.zip(many.allocations) {
        figures.push(("allocations_ratio", many / few));
    }
    let [low, high] = bench.size.growth;
    bench.record("growth", format!("ratio of {high} to {low} rows"), figures, before)
}

/// Number and bytes of allocations per 1,000 deliveries: what twice as many deliveries take more,
/// so that start and stop do not count.
fn allocations(
    bench: &mut Bench,
    counting: &Path,
    folder: &TempDir,
    instance: &Instance,
) -> Result<(f64, f64), Failure> {
    let mut totals = [(0.0, 0.0); 2];
    for (total, events) in totals.iter_mut().zip([COUNTED, 2 * COUNTED]) {
        let mut gateway = Gateway::start(counting, folder.path(), &[])?;
        bench.through(&gateway, instance, 0..1, Load::closed(events, CONNECTIONS))?;
        gateway.settle()?;
        *total = counted(&gateway.stop()?)?;
    }
    let [once, twice] = totals;
    let per_1000 = 1_000.0 / COUNTED as f64;
    Ok(((twice.0 - once.0) * per_1000, (twice.1 - once.1) * per_1000))
}

/// Blocks and bytes from the last `dhat: Total: <bytes> bytes in <blocks> blocks`.
fn counted(log: &str) -> Result<(f64, f64), Failure> {
    let line = log.lines().rev().find_map(|line| line.strip_prefix("dhat: Total:"));
    let line = line.ok_or("the counting binary did not count: build it with count-allocations")?;
    let mut numbers =
        line.split_whitespace().filter_map(|word| word.replace(',', "").parse::<f64>().ok());
    let (bytes, blocks) = numbers.next().zip(numbers.next()).ok_or("dhat says something else")?;
    Ok((blocks, bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_total_counts() {
        let log = "dhat: Total:     10 bytes in 2 blocks\nother\n\
                   dhat: Total:     1,256 bytes in 6 blocks\ndhat: At t-gmax: 1 bytes in 1 blocks";
        assert_eq!(super::counted(log).unwrap(), (6.0, 1_256.0));
        assert!(super::counted("nothing").is_err());
    }
}
