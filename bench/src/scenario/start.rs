//! How long a start takes, and what it occupies, with many events or many idle destinations.

use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::{
    Failure,
    bench::{Bench, Load, post},
    exchange::Documents,
    gateway::{Gateway, Instance},
    generator::{self, Pace, Plan},
};

/// Starts of which each is a measurement.
const STARTS: usize = 3;

/// How long a gateway is left alone before its memory is read: lanes are looked at in the
/// background.
const REST: Duration = Duration::from_secs(3);

/// Destinations of one instance.
const PER_INSTANCE: u64 = 100;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let folder = bench.folder()?;
    fill_events(bench, &folder)?;
    let what = format!("events: {}", bench.size.waiting);
    measure(bench, &folder, &what)?;
    drop(folder);

    let folder = bench.folder()?;
    fill_destinations(bench, &folder)?;
    let what = format!("destinations: {}", bench.size.idle_destinations);
    measure(bench, &folder, &what)
}

/// After a stop in good order; and once after a kill, when the log is still to be read.
fn measure(bench: &mut Bench, folder: &TempDir, what: &str) -> Result<(), Failure> {
    for start in 1..=STARTS {
        let before = bench.weather()?;
        let mut gateway = bench.start(folder)?;
        std::thread::sleep(REST);
        let ready = gateway.started_in.as_secs_f64();
        let memory = gateway.memory()?;
        let figures = vec![
            ("ready_s", ready),
            ("now_mib", memory.now_mib),
            ("peak_mib", memory.peak_mib),
            ("cpu_s", gateway.cpu_seconds()?),
            ("scrape_ms", gateway.scrape_ms()?),
        ];
        bench.record("start", format!("{what}, start {start}"), figures, before)?;
        if start < STARTS {
            gateway.stop()?;
        } else {
            // Dropping it is a kill.
            drop(gateway);
        }
    }
    let before = bench.weather()?;
    let gateway = bench.start(folder)?;
    let figures = vec![("ready_s", gateway.started_in.as_secs_f64())];
    bench.record("start", format!("after a kill: {what}"), figures, before)?;
    gateway.stop()?;
    Ok(())
}

fn fill_events(bench: &mut Bench, folder: &TempDir) -> Result<(), Failure> {
    let mut gateway = bench.start(folder)?;
    let instance = gateway.create_instance("bench")?;
    // Nobody waits for them: the receiver is not part of this.
    let run = bench.expect(0..0, bench.size.waiting);
    let load = Load { batch: 500, ..Load::closed(bench.size.waiting, 8) };
    post(&gateway, &instance, &run, load)?;
    gateway.create_destination(&instance, "default", &bench.receiver.url(0))?;
    gateway.stop()?;
    Ok(())
}

fn fill_destinations(bench: &mut Bench, folder: &TempDir) -> Result<(), Failure> {
    let mut gateway = bench.start(folder)?;
    let count = bench.size.idle_destinations;
    let instances: Vec<Instance> = (0..count.div_ceil(PER_INSTANCE))
        .map(|number| gateway.create_instance(&format!("shop-{number}")))
        .collect::<Result<_, _>>()?;
    let receiver = bench.receiver.url(0);
    let document = |number: u64| {
        let instance = &instances[(number / PER_INSTANCE) as usize];
        let body = json!({
            "label": (number % PER_INSTANCE).to_string(),
            "channel": { "type": "webhook", "url": format!("{receiver}?number={number}") },
            "events": ["message.*"],
        });
        (format!("/v1/instances/{}/destinations", instance.id), body.to_string())
    };
    create(&gateway, count, &document)?;
    gateway.stop()?;
    Ok(())
}

fn create(
    gateway: &Gateway,
    count: u64,
    document: &dyn Fn(u64) -> (String, String),
) -> Result<(), Failure> {
    let mut documents =
        Documents { address: gateway.address, token: gateway.admin_token(), document };
    let plan = Plan { requests: count, connections: 64, pace: Pace::Closed };
    let driven = generator::drive(gateway.address, plan, &mut documents)?;
    crate::note(&format!("start: {count} destinations made in {:.1?}", driven.took));
    Ok(())
}
