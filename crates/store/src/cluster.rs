//! The part of the handle that knows of shards and nodes.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use tokio::sync::{broadcast, watch};
use zapbus_event::{DestinationId, InstanceId};

use crate::{
    Change, Cluster, Engine, Lease, Leases, NodeId, Result, Shard, ShardId, Store, boxed::boxed,
    journal::Reader,
};

/// On SQLite: what the one node has for ever, and what it hears of others.
static ALONE: LazyLock<watch::Sender<Leases>> = LazyLock::new(|| {
    let lease = Lease { epoch: 0, leaving: false };
    watch::Sender::new(BTreeMap::from([(ShardId::default(), lease)]))
});
static SILENCE: LazyLock<broadcast::Sender<Change>> = LazyLock::new(|| broadcast::Sender::new(1));

impl Store {
    /// How many shards the journal has. Fixed when the store is made; 1 on SQLite.
    pub fn shards(&self) -> u16 {
        match &self.engine {
            Engine::Sqlite(_) => 1,
            Engine::Postgres(engine) => engine.shared.shards.len() as u16,
        }
    }

    /// Where an instance's events are.
    pub fn shard_of(&self, instance: InstanceId) -> ShardId {
        match &self.engine {
            Engine::Sqlite(_) => ShardId::default(),
            Engine::Postgres(engine) => engine.shared.shard_of(instance),
        }
    }

    /// Whose holder runs the lanes of a destination: the shard of its instance, or for one of a whole
    /// account that of its own id.
    pub fn home_of(&self, destination: DestinationId, instance: Option<InstanceId>) -> ShardId {
        match (&self.engine, instance) {
            (Engine::Sqlite(_), _) => ShardId::default(),
            (Engine::Postgres(engine), Some(instance)) => engine.shared.shard_of(instance),
            (Engine::Postgres(engine), None) => engine.shared.home_of(destination),
        }
    }

    pub(crate) fn shard_read(&self, of: Reader) -> Result<ShardId> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(ShardId::default()),
            Engine::Postgres(engine) => engine.only_shard(of),
        }
    }

    pub(crate) fn single_shard(&self) -> Result<ShardId> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(ShardId::default()),
            Engine::Postgres(engine) => engine.single_shard(),
        }
    }

    /// This node. Another one each time the store is opened.
    pub fn node(&self) -> NodeId {
        match &self.engine {
            Engine::Sqlite(_) => NodeId([0; 16]),
            Engine::Postgres(engine) => engine.shared.node,
        }
    }

    /// The shards whose lanes this node runs, with every change. On SQLite all there is, for ever.
    pub fn leases(&self) -> watch::Receiver<Leases> {
        match &self.engine {
            Engine::Sqlite(_) => ALONE.subscribe(),
            Engine::Postgres(engine) => engine.shared.holdings.leases(),
        }
    }

    /// Whether no other node can have a shard at this moment that this one has with `epoch`. Ask
    /// immediately before each send: a node that was frozen finds out here.
    pub fn holds(&self, shard: ShardId, epoch: u64) -> bool {
        match &self.engine {
            Engine::Sqlite(_) => true,
            Engine::Postgres(engine) => engine.shared.holdings.holds(shard, epoch),
        }
    }

    /// Gives a shard away before its time, once its lanes have stopped. Another node (or this one,
    /// if it still has fewer than its share) takes it.
    ///
    /// # Errors
    /// When the database cannot be written: then it goes when its time is over.
    pub async fn release(&self, shard: ShardId) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(engine) => boxed(engine.release(shard)).await,
        }
    }

    /// What any node changes in the registry (this one too), within a second. Silent on SQLite: there
    /// it is whoever calls.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        match &self.engine {
            Engine::Sqlite(_) => SILENCE.subscribe(),
            Engine::Postgres(engine) => engine.shared.changes.subscribe(),
        }
    }

    /// Whether the database is on a server, which may have several nodes and keeps its own backups.
    pub fn is_on_server(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }

    /// Connections to the database in use, and how many there may be; none on SQLite.
    pub fn connections(&self) -> Option<(usize, usize)> {
        match &self.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(engine) => Some(engine.shared.pool.in_use()),
        }
    }

    /// Takes how old the oldest event is that destinations of this node still have to get: other
    /// nodes are told with its next sign of life. Nobody is told on SQLite.
    pub fn report_lag(&self, lag: Duration) {
        if let Engine::Postgres(engine) = &self.engine {
            engine.shared.holdings.report_lag(lag);
        }
    }

    /// Nodes, shards, who holds what. On SQLite there is no list of nodes.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn cluster(&self) -> Result<Cluster> {
        match &self.engine {
            Engine::Sqlite(engine) => Ok(Cluster {
                own: self.node(),
                nodes: Vec::new(),
                shards: vec![Shard {
                    id: ShardId::default(),
                    owner: Some(self.node()),
                    epoch: 0,
                    left: Duration::MAX,
                    head: *engine.head().borrow(),
                    last_event_at: None,
                }],
            }),
            Engine::Postgres(engine) => boxed(engine.cluster()).await,
        }
    }
}
