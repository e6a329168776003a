//! What PostgreSQL costs beside SQLite in the same run, and how much more two and three nodes get
//! through on one machine.

mod backlog;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    Failure,
    bench::{Bench, Load, Sent, post_to_all},
    gateway::{Gateway, Instance},
    generator::Pace,
    latency::Latencies,
    ledger::CHATS,
    note,
    postgres::{Database, Postgres},
};

const NODES: usize = 3;

/// Over the shards, as many customers are. Divides the number of chats.
const INSTANCES: u64 = 20;
const _: () = assert!(CHATS.is_multiple_of(INSTANCES));

/// Of each node, when it gets what it can.
const CONNECTIONS: usize = 64;

/// Events per second of all nodes when times are taken.
const RATE: u64 = 200;

/// How long lanes may take to spread, and the registry to reach every node.
const PATIENCE: Duration = Duration::from_secs(30);
const REGISTRY: Duration = Duration::from_secs(1);

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let Some(server) = bench.postgres()? else {
        note(
            "cluster: skipped: there is no PostgreSQL: install it (/usr/lib/postgresql), or name a \
             server with --database-url",
        );
        return Ok(());
    };
    let sqlite = measure(bench, None, 1)?;
    let mut clusters = Vec::new();
    for nodes in 1..=NODES {
        clusters.push(measure(bench, Some(&server), nodes)?);
    }
    let [one, more @ ..] = &clusters[..] else { return Ok(()) };
    compare(bench, "PostgreSQL with 1 node to SQLite".to_owned(), one, &sqlite)?;
    for (index, cluster) in more.iter().enumerate() {
        compare(bench, format!("{} nodes to 1", index + 2), cluster, one)?;
    }
    backlog::run(bench, &server)
}

/// What is compared.
struct Measured {
    deliveries_per_s: f64,
    cpu_s_per_1000: f64,
    accept_p50_ms: f64,
}

fn compare(
    bench: &mut Bench,
    what: String,
    this: &Measured,
    other: &Measured,
) -> Result<(), Failure> {
    let weather = bench.weather()?;
    let figures = vec![
        ("deliveries_ratio", this.deliveries_per_s / other.deliveries_per_s),
        ("cpu_ratio", this.cpu_s_per_1000 / other.cpu_s_per_1000),
        ("accept_ratio", this.accept_p50_ms / other.accept_p50_ms),
    ];
    bench.record("cluster", what, figures, weather)
}

/// So many nodes on one database of the server, or one on SQLite.
fn measure(
    bench: &mut Bench,
    server: Option<&Postgres>,
    nodes: usize,
) -> Result<Measured, Failure> {
    let database = server.map(Postgres::database).transpose()?;
    let folders = (0..nodes).map(|_| bench.folder()).collect::<Result<Vec<_>, _>>()?;
    let environment = database.as_ref().map(Database::environment);
    let environment = environment.as_ref().map_or(&[][..], |environment| &environment[..]);
    let mut gateways = Vec::new();
    for folder in &folders {
        gateways.push(Gateway::start(&bench.binary, folder.path(), environment)?);
    }
    let instances = customers(bench, &mut gateways[0])?;
    if server.is_some() {
        wait_until_spread(&mut gateways)?;
    }
    let share = |load: Load| Load { events: load.events / nodes as u64, ..load };
    together(bench, &gateways, &instances, share(Load::closed(3_000, CONNECTIONS)))?;
    settle(&mut gateways)?;

    let before = bench.weather()?;
    let pace = Pace::PerSecond(RATE as f64 / nodes as f64);
    let steady = Load { pace, ..Load::closed(RATE * bench.size.steady_s, 32) };
    let steady = Together::of(&together(bench, &gateways, &instances, share(steady))?)?;
    settle(&mut gateways)?;
    let cpu = Cpu::of(&gateways, server)?;
    let burst = share(Load::closed(bench.size.cluster, CONNECTIONS));
    let burst = Together::of(&together(bench, &gateways, &instances, burst)?)?;
    settle(&mut gateways)?;
    let cpu = Cpu::of(&gateways, server)?.since(&cpu);
    let per_1000 = 1_000.0 / burst.events;
    let measured = Measured {
        deliveries_per_s: burst.deliveries_per_s,
        cpu_s_per_1000: cpu.all() * per_1000,
        accept_p50_ms: steady.answers.ms(0.5),
    };
    let mut figures = vec![
        ("accepted_per_s", burst.accepted_per_s),
        ("deliveries_per_s", burst.deliveries_per_s),
        ("accept_p50_ms", steady.answers.ms(0.5)),
        ("accept_p99_ms", steady.answers.ms(0.99)),
        ("arrival_p50_ms", steady.latencies.ms(0.5)),
        ("arrival_p99_ms", steady.latencies.ms(0.99)),
        ("busy_accept_p50_ms", burst.answers.ms(0.5)),
        ("busy_accept_p99_ms", burst.answers.ms(0.99)),
        ("gateway_cpu_s_per_1000", cpu.gateways * per_1000),
        ("cpu_s_per_1000", cpu.all() * per_1000),
        ("repeats", burst.repeats),
    ];
    if let Some(database) = cpu.database {
        figures.push(("database_cpu_s_per_1000", database * per_1000));
    }
    let what = match (server, nodes) {
        (None, _) => "SQLite".to_owned(),
        (Some(_), 1) => "PostgreSQL, 1 node".to_owned(),
        (Some(_), _) => format!("PostgreSQL, {nodes} nodes"),
    };
    bench.record("cluster", what, figures, before)?;
    for gateway in gateways {
        gateway.stop()?;
    }
    Ok(measured)
}

/// Instances with a destination each, all at the same receiver.
fn customers(bench: &Bench, gateway: &mut Gateway) -> Result<Vec<Instance>, Failure> {
    (0..INSTANCES)
        .map(|number| {
            let instance = gateway.create_instance(&format!("shop-{number}"))?;
            gateway.create_destination(&instance, "default", &bench.receiver.url(0))?;
            Ok(instance)
        })
        .collect()
}

/// Waits until every node runs its share of the lanes and knows every instance.
fn wait_until_spread(gateways: &mut [Gateway]) -> Result<(), Failure> {
    let (nodes, since) = (gateways.len(), Instant::now());
    loop {
        let cluster = gateways[0].call("GET", "/v1/cluster", &Value::Null)?;
        let shards = cluster["shards"].as_array().ok_or("/v1/cluster has no shards")?;
        let mut held = std::collections::BTreeMap::<&str, usize>::new();
        for node in shards.iter().filter_map(|shard| shard["node"].as_str()) {
            *held.entry(node).or_default() += 1;
        }
        let share = shards.len() / nodes;
        let all = held.values().sum::<usize>() == shards.len();
        if all && held.len() == nodes && held.values().all(|count| *count >= share) {
            break;
        }
        if since.elapsed() > PATIENCE {
            return Err(format!("the lanes do not spread: {cluster}").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(REGISTRY);
    Ok(())
}

/// Posts so much to each of these at the same time, until all of it has arrived.
fn together(
    bench: &mut Bench,
    gateways: &[Gateway],
    instances: &[Instance],
    load: Load,
) -> Result<Vec<Sent>, Failure> {
    let runs: Vec<_> = gateways.iter().map(|_| bench.expect(0..1, load.events)).collect();
    let driven = std::thread::scope(|scope| {
        let drivers: Vec<_> = gateways
            .iter()
            .zip(&runs)
            .map(|(gateway, run)| {
                let address = gateway.address;
                scope.spawn(move || post_to_all(address, instances, run, load))
            })
            .collect();
        let end = |driver: std::thread::ScopedJoinHandle<'_, _>| {
            driver.join().unwrap_or_else(|_| Err("a generator panicked".into()))
        };
        drivers.into_iter().map(end).collect::<Result<Vec<_>, Failure>>()
    })?;
    let mut sent = Vec::new();
    for (driven, run) in driven.into_iter().zip(&runs) {
        sent.push(Sent { driven, arrivals: run.wait()? });
        bench.receiver.forget(run);
    }
    Ok(sent)
}

fn settle(gateways: &mut [Gateway]) -> Result<(), Failure> {
    gateways.iter_mut().try_for_each(Gateway::settle)
}

/// What was sent through several nodes, taken as one.
struct Together {
    events: f64,
    accepted_per_s: f64,
    deliveries_per_s: f64,
    repeats: f64,
    answers: Latencies,
    latencies: Latencies,
}

impl Together {
    fn of(all: &[Sent]) -> Result<Self, Failure> {
        let first = all.iter().map(|sent| sent.driven.started).min().ok_or("no nodes")?;
        let until = |last: Option<Instant>| {
            last.map_or(0.0, |last| last.saturating_duration_since(first).as_secs_f64())
        };
        let accepted = until(all.iter().map(|sent| sent.driven.started + sent.driven.took).max());
        let arrived = until(all.iter().map(|sent| sent.arrivals.last).max());
        let events = all.iter().map(|sent| sent.arrivals.unique).sum::<u64>() as f64;
        Ok(Self {
            events,
            accepted_per_s: events / accepted,
            deliveries_per_s: events / arrived,
            repeats: all.iter().map(|sent| sent.arrivals.repeats).sum::<u64>() as f64,
            answers: Latencies::merged(all.iter().map(|sent| &sent.driven.answers)),
            latencies: Latencies::merged(all.iter().map(|sent| &sent.arrivals.latencies)),
        })
    }
}

/// CPU time in seconds.
struct Cpu {
    gateways: f64,
    /// If the server is our own.
    database: Option<f64>,
}

impl Cpu {
    fn of(gateways: &[Gateway], server: Option<&Postgres>) -> Result<Self, Failure> {
        let mut sum = 0.0;
        for gateway in gateways {
            sum += gateway.cpu_seconds()?;
        }
        let database = server.map(Postgres::cpu_seconds).transpose()?.flatten();
        Ok(Self { gateways: sum, database })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            gateways: self.gateways - before.gateways,
            database: self.database.zip(before.database).map(|(now, then)| now - then),
        }
    }

    fn all(&self) -> f64 {
        self.gateways + self.database.unwrap_or(0.0)
    }
}
