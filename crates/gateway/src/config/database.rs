//! The database on a server, and this node among others on it.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use zapbus_store as store;

use super::{Config, Secret};

/// More connections than this hold more memory in the server than they save time here.
const MOST_CONNECTIONS: usize = 64;
/// Each shard is looked at on its own: more of them cost more than many nodes gain.
const MOST_SHARDS: u16 = 1_024;
/// Terms in seconds: a shorter one is lost to a pause of the machine, a longer one is an outage.
const LEASE_S: RangeInclusive<f64> = 1.0..=60.0;

/// `[database]`: with `database_url` only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// Certificates to trust, in PEM, in place of the system's.
    pub root_cert: Option<PathBuf>,
    /// Connections at most, besides the one that listens.
    pub connections: usize,
    /// Shards of a new store.
    pub shards: u16,
}

impl Default for Database {
    fn default() -> Self {
        Self { root_cert: None, connections: 8, shards: 16 }
    }
}

/// `[cluster]`: with `database_url` only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// What this node is called among the others; unset: the name of the machine.
    pub node: Option<String>,
    /// For how long a node that is not heard of keeps its shards.
    pub lease_s: f64,
    /// How long lanes have to finish when a shard goes to another node.
    pub handover_s: f64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { node: None, lease_s: 3.0, handover_s: 1.0 }
    }
}

impl Cluster {
    /// The name that others see.
    pub fn node_name(&self) -> String {
        self.node.clone().unwrap_or_else(machine_name)
    }
}

fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl Config {
    /// How the store is opened, on whichever engine.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub fn store_options(&self, clock: store::Clock) -> Result<store::Options, store::OpenError> {
        Ok(store::Options {
            data_dir: self.data_dir.clone(),
            keys: self.encryption_keys()?,
            clock,
            bucket: self.media.s3.open().map_err(|(key, reason)| store::OpenError::Bucket {
                reason: format!("media.{key}: {reason}"),
            })?,
            postgres: self.postgres(),
            ..self.store.options()
        })
    }

    /// The database on a server, if there is one.
    pub fn postgres(&self) -> Option<store::Postgres> {
        let url = self.database_url.as_ref()?;
        Some(options(url, &self.database, &self.cluster))
    }

    /// Where events are kept, for people: the data folder, or the database without secrets.
    pub fn store_place(&self) -> String {
        match self.postgres() {
            // It was checked before; what cannot be used is not shown either.
            Some(postgres) => postgres.check().unwrap_or_else(|_| "database_url".to_owned()),
            None => {
                let folder = std::path::absolute(&self.data_dir);
                folder.as_ref().unwrap_or(&self.data_dir).display().to_string()
            }
        }
    }
}

/// How the store on a server is opened.
fn options(url: &Secret, database: &Database, cluster: &Cluster) -> store::Postgres {
    store::Postgres {
        root_cert: database.root_cert.clone(),
        connections: database.connections,
        shards: database.shards,
        node: cluster.node_name(),
        lease: Duration::from_secs_f64(cluster.lease_s),
        handover: Duration::from_secs_f64(cluster.handover_s),
        ..store::Postgres::new(url.expose())
    }
}

/// What is wrong with these, by key. Never repeats the URL: it holds a password.
pub(super) fn check(
    url: Option<&Secret>,
    database: &Database,
    cluster: &Cluster,
) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    if !(1..=MOST_CONNECTIONS).contains(&database.connections) {
        let found = database.connections;
        let problem = format!("found {found}, expected 1 to {MOST_CONNECTIONS}");
        wrong.push(("database.connections", problem));
    }
    if !(1..=MOST_SHARDS).contains(&database.shards) {
        let found = database.shards;
        wrong.push(("database.shards", format!("found {found}, expected 1 to {MOST_SHARDS}")));
    }
    // No number is an answer too: TOML has `nan` and `inf`.
    let lease_fits = LEASE_S.contains(&cluster.lease_s);
    if !lease_fits {
        let (found, least, most) = (cluster.lease_s, LEASE_S.start(), LEASE_S.end());
        let problem = format!("found {found}, expected {least} to {most} seconds");
        wrong.push(("cluster.lease_s", problem));
    }
    if !(0.0..=*LEASE_S.end()).contains(&cluster.handover_s) {
        let (found, most) = (cluster.handover_s, LEASE_S.end());
        wrong.push(("cluster.handover_s", format!("found {found}, expected 0 to {most} seconds")));
    }
    if let Some(node) = &cluster.node {
        let fits = (1..=64).contains(&node.len()) && node.chars().all(|c| !c.is_control());
        if !fits {
            wrong.push(("cluster.node", "expected 1 to 64 bytes without line breaks".to_owned()));
        }
    }
    if let Some(url) = url
        && lease_fits
        && let Err((key, problem)) = check_url(url, database, cluster)
    {
        wrong.push((key, problem));
    }
    wrong
}

fn check_url(
    url: &Secret,
    database: &Database,
    cluster: &Cluster,
) -> Result<(), (&'static str, String)> {
    let text = url.expose();
    let expected = "expected postgres://user:password@host/database";
    if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
        let sqlite = "; without it events are kept in SQLite, in data_dir";
        return Err(("database_url", format!("{expected}{sqlite}")));
    }
    // A password with such a character would be taken for something that is shown.
    let behind_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    if let Some((user, _)) = behind_scheme.rsplit_once('@')
        && user.contains(['?', '/', '@'])
    {
        let problem = "in a user name or password, ? is written %3F, / %2F and @ %40";
        return Err(("database_url", format!("{expected}; {problem}")));
    }
    options(url, database, cluster).check().map(drop).map_err(|error| match error {
        store::OpenError::Url { reason } => ("database_url", reason),
        other => ("database_url", other.to_string()),
    })
}
