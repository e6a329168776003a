//! The whole gateway but its sockets, on a clock and a scheduler that a seed decides.
//!
//! ```sh
//! make sim                       # thousands of seeds
//! ZAPBUS_SIM_SEEDS=100000 make sim
//! ZAPBUS_SIM_SEED=4711 make sim  # one, with everything that happens
//! ```
//!
//! `docs/design/simulation.md` says what is real, what is simulated, and what is checked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "whoever runs seeds wants to see how it goes")]

mod check;
mod destinations;
mod driver;
mod endings;
mod endpoints;
mod erasing;
mod node;
mod panics;
mod sockets;
mod steps;
mod subscribers;
mod trace;
mod world;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::Method;
use serde_json::json;
use tokio::{runtime::Builder, task::LocalSet};
use zapbus_store::simulation::{Chance, Mutation, Simulation, Temper, seed_ids};

use crate::{
    driver::{Finished, simulate},
    node::{Bounds, Node, WallClock},
    world::World,
};

/// Seeds that once found something, one in a line with a word about what. They always run first.
const REGRESSIONS: &str = include_str!("seeds.txt");

/// Seeds that run when nobody says how many.
const SEEDS: u64 = 1_500;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, expected a number")))
}

/// Seeds that fail are only listed.
fn goes_on() -> bool {
    std::env::var_os("ZAPBUS_SIM_LIST").is_some()
}

/// Where many small files are made and dropped again: in memory, where there is such a place.
pub(crate) fn roomy() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// A store with three instances, from which every seed starts.
struct Template {
    folder: tempfile::TempDir,
    instances: Vec<String>,
}

impl Template {
    fn make() -> Self {
        let folder = tempfile::tempdir_in(roomy()).unwrap();
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let tasks = LocalSet::new();
        seed_ids(Chance::new(0));
        let instances = tasks.block_on(&runtime, async {
            let temper = Temper { read: Duration::ZERO, commit: Duration::ZERO, failing: 0 };
            let simulation = Simulation::new(Chance::new(0), temper, None);
            let world = World::new(Chance::new(0), Vec::new());
            let bounds = Bounds {
                lanes: zapbus_gateway::lane::Config::default(),
                queue_bytes: 16 << 20,
                tail_bytes: 16 << 20,
                batch_events: 1_000,
            };
            let wall = WallClock::new();
            let node = Node::start(folder.path(), &wall, simulation, &world, &bounds, 0).await;
            let mut instances = Vec::new();
            for name in ["shop", "clinic", "school"] {
                let body = Some(json!({ "name": name }));
                let (status, answer) = node.request(Method::POST, "/v1/instances", body).await;
                assert_eq!(status, 201, "{answer}");
                instances.push(answer["id"].as_str().unwrap().to_owned());
            }
            assert!(node.stop().await);
            instances
        });
        drop(tasks);
        Self { folder, instances }
    }

    fn run(&self, seed: u64, mutation: Option<Mutation>) -> Finished {
        simulate(seed, mutation, self.folder.path(), &self.instances)
    }
}

fn complain(seed: u64, finished: &Finished) -> String {
    format!(
        "{}\n\nseed {seed} does not hold:\n  {}\nto see all of it: ZAPBUS_SIM_SEED={seed} make sim\nto keep it: add it to crates/gateway/tests/simulation/seeds.txt\n",
        finished.trace[finished.trace.len().saturating_sub(60)..].join("\n"),
        finished.violations.join("\n  "),
    )
}

fn regressions() -> Vec<u64> {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// Runs seeds on all processors until one of them fails; its number, and what it says.
fn run_all(seeds: &[u64], mutation: Option<Mutation>) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let failure = std::sync::Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let totals = [const { AtomicU64::new(0) }; 3];
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let template = Template::make();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = seeds.get(index as usize).copied() else { break };
                    if failure.lock().unwrap().is_some() {
                        break;
                    }
                    let finished = template.run(seed, mutation);
                    totals[0].fetch_add(u64::from(finished.lives), Ordering::Relaxed);
                    totals[1].fetch_add(finished.events as u64, Ordering::Relaxed);
                    totals[2].fetch_add(finished.sends, Ordering::Relaxed);
                    if let Some(first) = finished.violations.first()
                        && goes_on()
                    {
                        println!("seed {seed}: {first}");
                    } else if !finished.violations.is_empty() {
                        let text = complain(seed, &finished);
                        failure.lock().unwrap().get_or_insert((seed, text));
                    }
                }
            });
        }
    });
    let [lives, events, sends] = totals.map(|total| total.into_inner());
    println!(
        "{} seeds, {lives} lives, {events} events, {sends} accepted, in {:?}",
        next.into_inner().min(seeds.len() as u64),
        started.elapsed()
    );
    failure.into_inner().unwrap()
}

#[test]
fn every_seed_holds() {
    if let Some(seed) = number("ZAPBUS_SIM_SEED") {
        let finished = Template::make().run(seed, None);
        println!("{}", finished.trace.join("\n"));
        assert!(finished.violations.is_empty(), "{}", finished.violations.join("\n"));
        return;
    }
    let count = number("ZAPBUS_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("ZAPBUS_SIM_FIRST").unwrap_or(1);
    let mut seeds = regressions();
    seeds.extend(first..first + count);
    if let Some((_, complaint)) = run_all(&seeds, None) {
        panic!("{complaint}");
    }
}

#[test]
fn a_seed_always_tells_the_same_story() {
    let (one, other) = (Template::make(), Template::make());
    for seed in 1_000_000..1_000_020 {
        let (first, second) = (one.run(seed, None), other.run(seed, None));
        let same = first.trace.iter().zip(&second.trace).take_while(|(one, other)| one == other);
        let same = same.count();
        let (from, next) = (same.saturating_sub(10), same + 3);
        assert!(
            first.hash == second.hash,
            "seed {seed}, line {same}:\n{:#?}\n--- and ---\n{:#?}",
            &first.trace[from..next.min(first.trace.len())],
            &second.trace[from..next.min(second.trace.len())],
        );
    }
}

/// The simulation would notice the mistakes it is there for.
#[test]
fn it_can_fail() {
    for mutation in [
        Mutation::AnswersTooEarly,
        Mutation::CursorAtSend,
        Mutation::ForgetsRetries,
        Mutation::ForgetsDeliveries,
        Mutation::ForgetsAcks,
        Mutation::ForgetsOffers,
    ] {
        let seeds: Vec<u64> = (2_000_000..2_000_300).collect();
        let caught = run_all(&seeds, Some(mutation));
        let (seed, complaint) = caught.unwrap_or_else(|| panic!("{mutation:?} went unnoticed"));
        println!("{mutation:?}: noticed with seed {seed}\n{complaint}");
    }
}
