//! Nodes as processes of their own: killed, frozen, stopped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The engine that this suite asks.
const POSTGRES: bool = true;

#[path = "contract/engine.rs"]
#[expect(dead_code, reason = "what the contract needs besides")]
mod engine;
#[path = "contract/nodes.rs"]
#[expect(dead_code, reason = "what tests of several nodes need besides")]
mod nodes;
#[path = "contract/server.rs"]
#[expect(dead_code, reason = "what other tests need besides")]
mod server;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nodes::{Database, instance, lane, options, say, settlement};
use zapbus_store::{LaneId, ShardId, Store, Urgency};

const URL: &str = "ZAPBUS_TEST_NODE_URL";
const NAME: &str = "ZAPBUS_TEST_NODE_NAME";
const SHARDS: usize = 4;

/// What a node says after a settlement that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moved {
    node: String,
    shard: u16,
    epoch: u64,
    at: Instant,
}

/// A node: in each shard it holds, it appends an event and settles it, over and over. It is run by
/// the tests, in a process of its own.
#[test]
#[ignore = "it is a part of the other tests"]
fn node() {
    let (Ok(url), Ok(name)) = (std::env::var(URL), std::env::var(NAME)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(options(&url, &name, |_| {})).await.unwrap().store;
        let mut lanes: BTreeMap<ShardId, LaneId> = BTreeMap::new();
        for (head, ..) in store.destination_heads(None, 100).await.unwrap() {
            let shard = store.shard_of(head.instance.unwrap());
            lanes.insert(shard, LaneId { destination: head.id, run: zapbus_store::LIVE });
        }
        let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        let stop = stop.as_mut().unwrap();
        let mut n = 0;
        loop {
            let held = store.leases().borrow().clone();
            for (shard, lease) in held {
                if !store.holds(shard, lease.epoch) {
                    continue;
                }
                let lane = lanes[&shard];
                let head = store.destination_head(lane.destination).await;
                let Ok(Some((head, ..))) = head else { continue };
                n += 1;
                let key = format!("{name} {n}");
                let Ok(said) = say(&store, head.instance.unwrap(), &key).await else { continue };
                // As a lane that checked its lease, and is frozen before it settles.
                let settled = store.settle(vec![settlement(lane, said)], Urgency::Now).await;
                if settled.is_ok() {
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "moved {} {}", shard.0, lease.epoch).unwrap();
                    out.flush().unwrap();
                }
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
                _ = stop.recv() => break,
            }
        }
        store.close().await;
    });
}

/// A node in a process of its own, which dies with this value.
struct Process {
    child: Child,
}

impl Process {
    fn start(url: &str, name: &str, said: &Arc<Mutex<Vec<Moved>>>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node", "--ignored", "--nocapture"])
            .env(URL, url)
            .env(NAME, name)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let (said, node) = (Arc::clone(said), name.to_owned());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut words = line.split(' ').skip_while(|word| !word.ends_with("moved")).skip(1);
                if let (Some(shard), Some(epoch)) = (words.next(), words.next()) {
                    said.lock().unwrap().push(Moved {
                        node: node.clone(),
                        shard: shard.parse().unwrap(),
                        epoch: epoch.trim().parse().unwrap(),
                        at: Instant::now(),
                    });
                }
            }
        });
        Self { child }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Instances with a lane in every shard, and nobody who runs them.
async fn prepare() -> (Database, String) {
    let database = Database::new().await;
    let store = database.node("first").await;
    let mut covered = std::collections::BTreeSet::new();
    for n in 0.. {
        let shop = instance(&store, &format!("shop {n}")).await;
        if covered.insert(store.shard_of(shop)) {
            lane(&store, shop).await;
        }
        if covered.len() == SHARDS {
            break;
        }
    }
    store.close().await;
    let url = database.server.url(&database.name);
    (database, url)
}

/// Waits until every shard was moved by somebody after `since`, and gives the longest it took.
async fn all_moved(said: &Arc<Mutex<Vec<Moved>>>, by: &[&str], since: Instant) -> Duration {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let first: BTreeMap<u16, Duration> = said
            .lock()
            .unwrap()
            .iter()
            .rev()
            .filter(|moved| moved.at > since && by.contains(&moved.node.as_str()))
            .map(|moved| (moved.shard, moved.at - since))
            .collect();
        if first.len() == SHARDS {
            return first.into_values().max().unwrap();
        }
        assert!(Instant::now() < until, "not all shards are run: {first:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What was written before a takeover may be read by us so much later than what came after it.
const READ_LATE: Duration = Duration::from_millis(500);

/// No shard is moved with an epoch that had ended, and an epoch is one node's.
fn check_epochs<'a>(said: impl IntoIterator<Item = &'a Moved>) {
    let mut newest: BTreeMap<u16, Moved> = BTreeMap::new();
    for moved in said {
        let known = newest.entry(moved.shard).or_insert_with(|| moved.clone());
        if moved.epoch > known.epoch {
            *known = moved.clone();
        } else if moved.epoch == known.epoch {
            assert_eq!(moved.node, known.node, "{moved:?}");
        } else {
            assert!(moved.at - known.at < READ_LATE, "{moved:?} after {known:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_of_a_killed_node_run_elsewhere_within_five_seconds() {
    let (_database, url) = prepare().await;
    let said = Arc::new(Mutex::new(Vec::new()));
    let a = Process::start(&url, "a", &said);
    let _b = Process::start(&url, "b", &said);
    let c = Process::start(&url, "c", &said);
    all_moved(&said, &["a", "b", "c"], Instant::now()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    a.signal("-KILL");
    let took = all_moved(&said, &["b", "c"], Instant::now()).await;
    println!("after SIGKILL every shard was moved again within {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // A graceful stop hands over at once.
    c.signal("-TERM");
    let took = all_moved(&said, &["b"], Instant::now()).await;
    println!("after SIGTERM every shard was moved again within {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    check_epochs(said.lock().unwrap().iter());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_frozen_moves_nothing_it_no_longer_owns() {
    let (database, url) = prepare().await;
    let said = Arc::new(Mutex::new(Vec::new()));
    let a = Process::start(&url, "a", &said);
    all_moved(&said, &["a"], Instant::now()).await;
    let _b = Process::start(&url, "b", &said);
    tokio::time::sleep(Duration::from_secs(3)).await;
    a.signal("-STOP");
    let frozen = Instant::now();
    let took = all_moved(&said, &["b"], Instant::now()).await;
    println!("after SIGSTOP every shard was moved again within {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    tokio::time::sleep(Duration::from_secs(30).saturating_sub(frozen.elapsed())).await;
    let client = database.server.connect(&database.name).await;
    let epochs: BTreeMap<u16, u64> = client
        .query("SELECT shard, epoch FROM lease", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| {
            let (shard, epoch): (i32, i64) = (row.get(0), row.get(1));
            (u16::try_from(shard).unwrap(), u64::try_from(epoch).unwrap())
        })
        .collect();
    let thawed = Instant::now();
    a.signal("-CONT");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let said = said.lock().unwrap();
    let is_late = |moved: &Moved| moved.node == "a" && moved.at > thawed;
    let (fresh, old): (Vec<&Moved>, Vec<&Moved>) = said
        .iter()
        .filter(|moved| is_late(moved))
        .partition(|moved| moved.epoch > epochs[&moved.shard]);
    // It takes its share again, with epochs of its own.
    assert!(!fresh.is_empty(), "it goes on");
    // One settlement may have been answered just before it froze, and told only now.
    assert!(old.len() <= 1, "{old:?}");
    check_epochs(said.iter().filter(|moved| !old.contains(moved)));
}
