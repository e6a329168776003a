//! What an append and a delivery cost on PostgreSQL with few and with many events in the store, and
//! with as many waiting for a destination that is paused. All of it in one shard: the worst case.

use serde_json::json;

use super::{CONNECTIONS, Cpu};
use crate::{
    Failure,
    bench::{Bench, Load, post},
    gateway::Gateway,
    postgres::Postgres,
};

/// Events per second when appends are timed.
const RATE: f64 = 200.0;

pub(super) fn run(bench: &mut Bench, server: &Postgres) -> Result<(), Failure> {
    let database = server.database()?;
    let folder = bench.folder()?;
    let mut gateway = Gateway::start(&bench.binary, folder.path(), &database.environment())?;
    let instance = gateway.create_instance("bench")?;
    let destination = gateway.create_destination(&instance, "default", &bench.receiver.url(0))?;
    let change = |gateway: &mut Gateway, verb: &str| {
        let path = format!("/v1/destinations/{destination}/{verb}");
        gateway.call("POST", &path, &json!({}))
    };
    let mut rows = 0;
    let mut costs = Vec::new();
    for wanted in bench.size.growth {
        let before = bench.weather()?;
        let mut figures = Vec::new();
        let missing = wanted.saturating_sub(rows) / 100 * 100;
        change(&mut gateway, "pause")?;
        let waiting = bench.expect(0..1, missing);
        let fill = Load { batch: 100, ..Load::closed(missing, 16) };
        let filled = post(&gateway, &instance, &waiting, fill)?;
        figures.push(("filled_per_s", missing as f64 / filled.took.as_secs_f64()));
        let pace = crate::generator::Pace::PerSecond(RATE);
        let timed = Load { pace, ..Load::closed(RATE as u64 * bench.size.steady_s, 32) };
        let also_waiting = bench.expect(0..1, timed.events);
        let accepted = post(&gateway, &instance, &also_waiting, timed)?;
        figures.push(("accept_p50_ms", accepted.answers.ms(0.5)));
        figures.push(("accept_p99_ms", accepted.answers.ms(0.99)));
        if waiting.arrived() + also_waiting.arrived() > 0 {
            return Err("events arrived although their destination was paused".into());
        }

        let nodes = std::slice::from_ref(&gateway);
        let cpu = Cpu::of(nodes, Some(server))?;
        change(&mut gateway, "resume")?;
        let drained = waiting.wait()?;
        let rest = also_waiting.wait()?;
        bench.receiver.forget(&waiting);
        bench.receiver.forget(&also_waiting);
        gateway.settle()?;
        let nodes = std::slice::from_ref(&gateway);
        let cpu = Cpu::of(nodes, Some(server))?.since(&cpu);
        let took = rest.last.saturating_duration_since(drained.first).as_secs_f64();
        let count = (drained.unique + rest.unique) as f64;
        figures.push(("drained_per_s", count / took));
        figures.push(("drain_cpu_s_per_1000", cpu.all() / count * 1_000.0));

        let cpu = Cpu::of(nodes, Some(server))?;
        let burst = Load::closed(bench.size.growth_burst, CONNECTIONS);
        let sent = bench.through(&gateway, &instance, 0..1, burst)?;
        gateway.settle()?;
        let cpu = Cpu::of(std::slice::from_ref(&gateway), Some(server))?.since(&cpu);
        let cpu_s = cpu.all() / burst.events as f64 * 1_000.0;
        figures.push(("cpu_s_per_1000", cpu_s));
        figures.push(("deliveries_per_s", sent.deliveries_per_s()));
        figures.push(("now_mib", gateway.memory()?.now_mib));
        bench.record("cluster", format!("PostgreSQL, {wanted} rows"), figures, before)?;
        rows += missing + timed.events + burst.events;
        costs.push(cpu_s);
    }
    gateway.stop()?;

    let weather = bench.weather()?;
    let [few, many] = costs[..] else {
        return Err("growth is measured between two sizes".into());
    };
    let [low, high] = bench.size.growth;
    let what = format!("ratio of {high} to {low} rows");
    bench.record("cluster", what, vec![("cpu_ratio", many / few)], weather)
}
