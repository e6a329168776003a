//! Parts of the journal, and who runs their lanes.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use zapbus_event::{AccountId, CredentialId, DestinationId, InstanceId, Position, Timestamp};

/// A part of the journal with positions of its own. An instance's events are all in one. A store
/// on SQLite has only one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node of a cluster: one process. Another each time it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 16]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The right to run the lanes of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Grows each time the shard changes hands. Whoever settles with an older one is refused.
    pub epoch: u64,
    /// It will be handed to another node in a moment: start nothing new, finish what is under way.
    pub leaving: bool,
}

/// The shards that this node holds.
pub type Leases = BTreeMap<ShardId, Lease>;

/// Something that may have been changed by another node: look again. Hints; one may come twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// An account.
    Account(AccountId),
    /// An instance, or what is kept of it.
    Instance(InstanceId),
    /// Events of an instance were erased: forget what was read of it too.
    Erased(InstanceId),
    /// A destination, one of its runs, or rows that are due.
    Destination(DestinationId),
    /// A credential.
    Credential(CredentialId),
    /// Anything: changes were missed.
    Everything,
}

/// The nodes and shards of a store.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// This node.
    pub own: NodeId,
    /// All nodes that have not been away for long.
    pub nodes: Vec<Node>,
    /// All shards, in order.
    pub shards: Vec<Shard>,
}

/// A node as the others see it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// What its operator calls it.
    pub name: String,
    /// For how long it has been running.
    pub up: Duration,
    /// How long ago it was last heard of.
    pub seen: Duration,
    /// How old the oldest event is that its destinations still have to get, as it said last
    /// ([`crate::Store::report_lag`]).
    pub lag: Option<Duration>,
}

/// A shard.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its number.
    pub id: ShardId,
    /// Who runs its lanes.
    pub owner: Option<NodeId>,
    /// How often it has changed hands.
    pub epoch: u64,
    /// For how long its owner has it, unless it is renewed.
    pub left: Duration,
    /// The end of its journal.
    pub head: Position,
    /// When its last event was received.
    pub last_event_at: Option<Timestamp>,
}
