//! Three nodes on one database, each by a way of its own, and everything that goes wrong with them.

use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    callers::Callers,
    leases::{Freeze, Moment, now},
    load::{Api, binary::Served, configure, database::Database, engine::KEY},
    proxy::{Link, Proxy},
    schedule::{Fault, NODES, Step},
};

/// How long anything may take to be well again, by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// One node: its process, and its way to the database.
struct Node {
    name: String,
    folder: TempDir,
    proxy: Proxy,
    /// What it is told of the database.
    database_url: String,
    served: Option<Served>,
    /// What its process is called in the cluster: another one after each start.
    id: String,
}

impl Node {
    async fn make(number: usize, database: &Database) -> Self {
        let proxy = Proxy::start(database.address()).await;
        let database_url = database.url(proxy.address());
        let mut node = Self {
            name: format!("node-{number}"),
            folder: tempfile::tempdir().unwrap(),
            proxy,
            database_url,
            served: None,
            id: String::new(),
        };
        node.start().await;
        node
    }

    async fn start(&mut self) {
        let served = Served::start(self.folder.path(), |command| {
            configure(command);
            command
                .env("ZAPBUS_DATABASE_URL", &self.database_url)
                .env("ZAPBUS_ENCRYPTION_KEY", KEY)
                .env("ZAPBUS_CLUSTER_NODE", &self.name)
                .env("ZAPBUS_TEST_EPOCH", "1");
            if std::env::var_os("ZAPBUS_CHAOS_BLIND").is_some() {
                command.env("ZAPBUS_TEST_BLIND", "1");
            }
        })
        .await;
        self.id = own_id(&Api::new(&served.url)).await;
        self.served = Some(served);
    }

    fn served(&self) -> &Served {
        self.served.as_ref().expect("it runs")
    }

    fn url(&self) -> &str {
        &self.served().url
    }

    async fn kill(&mut self) {
        self.served.take().expect("it runs").kill().await;
    }

    /// Asks it to stop, and waits until it has.
    async fn stop(&mut self) {
        let mut served = self.served.take().expect("it runs");
        served.signal("TERM").await;
        let status = served.ended().await;
        assert!(status.success(), "{} was asked to stop and ended with {status}", self.name);
    }
}

/// What a node's process is called in the cluster.
async fn own_id(api: &Api) -> String {
    let cluster = api.read("/v1/cluster").await;
    cluster["node"].as_str().unwrap_or_else(|| panic!("{cluster}")).to_owned()
}

/// Processes that run or want to, over the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap()
}

/// How many shards a node has.
fn held_by(cluster: &Value, node: &str) -> u64 {
    let nodes = cluster["nodes"].as_array().unwrap_or_else(|| panic!("{cluster}"));
    let found = nodes.iter().find(|known| known["id"] == node);
    found.map_or(0, |known| known["shards"].as_u64().unwrap_or_else(|| panic!("{cluster}")))
}

/// A fault that was brought about.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) fault: Fault,
    /// The node that it concerned, as the cluster called it then.
    pub(crate) node: Option<String>,
    pub(crate) began: Moment,
    pub(crate) ended: Moment,
    /// Nothing else went wrong at the time.
    pub(crate) alone: bool,
    /// Processes of the whole machine that wanted to run.
    pub(crate) load: f64,
}

impl Done {
    /// The time in which a node did not run.
    pub(crate) fn freeze(&self) -> Option<Freeze> {
        let node = self.node.clone().filter(|_| matches!(self.fault, Fault::Freeze(_)))?;
        Some(Freeze { node, from: self.began, to: self.ended })
    }
}

/// Database and nodes.
pub(crate) struct Cluster {
    database: Database,
    nodes: Vec<Node>,
    pub(crate) done: Vec<Done>,
}

impl Cluster {
    pub(crate) async fn start(database: Database) -> Self {
        let mut nodes = Vec::new();
        for number in 0..NODES {
            nodes.push(Node::make(number, &database).await);
        }
        Self { database, nodes, done: Vec::new() }
    }

    /// Where nodes listen.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url().to_owned()).collect()
    }

    /// One of them.
    pub(crate) fn api(&self) -> Api {
        Api::new(self.nodes[0].url())
    }

    /// Calm, then what goes wrong, then all of it put right again.
    pub(crate) async fn go_through(&mut self, step: &Step, callers: &Callers) {
        tokio::time::sleep(step.calm).await;
        let first = self.done.len();
        for fault in &step.faults {
            let node = fault.node().map(|node| self.nodes[node].id.clone());
            let began = now();
            self.begin(*fault).await;
            let (alone, load) = (step.faults.len() == 1, load());
            self.done.push(Done { fault: *fault, node, began, ended: began, alone, load });
        }
        tokio::time::sleep(step.lasts).await;
        // The database first: no node starts without it.
        let mut faults: Vec<(usize, Fault)> = step.faults.iter().copied().enumerate().collect();
        faults.sort_by_key(|(_, fault)| fault.node().is_some());
        for (index, fault) in faults {
            self.end(fault).await;
            self.done[first + index].ended = now();
            if let Some(node) = fault.node() {
                callers.moved_to(node, self.nodes[node].url());
            }
        }
        self.expect_ready().await;
        callers.expect_well();
    }

    async fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(node) => self.nodes[node].kill().await,
            Fault::Freeze(node) => self.nodes[node].served().signal("STOP").await,
            Fault::Restart(node) => self.nodes[node].stop().await,
            Fault::Link(node, link) => self.nodes[node].proxy.set(link).await,
            Fault::DatabaseRestart => self.database.stop(),
            Fault::DatabaseKill => self.database.kill(),
        }
    }

    async fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(node) | Fault::Restart(node) => self.nodes[node].start().await,
            Fault::Freeze(node) => self.nodes[node].served().signal("CONT").await,
            Fault::Link(node, _) => self.nodes[node].proxy.set(Link::Good).await,
            Fault::DatabaseRestart | Fault::DatabaseKill => self.database.come_back(),
        }
    }

    /// Every node takes posts again, without anybody's help.
    async fn expect_ready(&self) {
        let began = Instant::now();
        for node in &self.nodes {
            let api = Api::new(node.url());
            loop {
                let (status, said) = api.readiness().await;
                if status == 200 {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "{} does not get well: {said}", node.name);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Lanes are spread over all nodes.
    pub(crate) async fn expect_even_shares(&self) {
        let began = Instant::now();
        loop {
            let cluster = self.api().read("/v1/cluster").await;
            let held: Vec<u64> =
                self.nodes.iter().map(|node| held_by(&cluster, &node.id)).collect();
            if held.iter().all(|shards| shards.abs_diff(held[0]) <= 1) && !held.contains(&0) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "shares are {held:?}: {cluster}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The end of all nodes.
    pub(crate) async fn kill(mut self) {
        for node in &mut self.nodes {
            node.kill().await;
        }
    }
}
