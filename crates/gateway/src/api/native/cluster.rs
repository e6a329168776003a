//! Nodes, shards, who runs what.

use std::time::Duration;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use zapbus_event::{Position, Timestamp};
use zapbus_store::{Cluster, Node, Shard, ShardId};

use crate::{
    api::{
        auth::Caller,
        error::{ApiError, Common},
    },
    app::App,
};

/// The nodes and shards of a store.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Cluster)]
pub(super) struct ClusterAnswer {
    /// `sqlite` (one node) or `postgres`.
    #[schema(example = "postgres")]
    engine: &'static str,
    /// The id of the node that answers.
    node: String,
    /// All nodes that have not been away for long, the oldest first.
    nodes: Vec<NodeAnswer>,
    /// All shards of the journal, in order.
    shards: Vec<ShardAnswer>,
}

/// One process of the gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClusterNode)]
struct NodeAnswer {
    /// Its id: another one each time it starts.
    id: String,
    /// What its operator calls it.
    name: String,
    /// Seconds since its start.
    up_s: f64,
    /// Seconds since it was last heard of.
    seen_s: f64,
    /// Shards whose lanes it runs.
    shards: usize,
    /// Seconds for which the oldest event waits that its destinations still have to get; `null`
    /// before it was measured.
    lag_s: Option<f64>,
}

/// A part of the journal.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClusterShard)]
struct ShardAnswer {
    /// Its number.
    #[schema(value_type = u16)]
    shard: ShardId,
    /// The id of the node that runs its lanes; `null` while nobody does.
    node: Option<String>,
    /// How often it has changed hands.
    epoch: u64,
    /// Seconds for which the node has it, unless it is renewed; `null` where there is no end.
    lease_s: Option<f64>,
    /// The end of its journal.
    #[schema(value_type = u64)]
    head: Position,
    /// When its last event was received.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_event_at: Option<Timestamp>,
}

impl ClusterAnswer {
    fn new(cluster: Cluster, engine: &'static str) -> Self {
        let held_by = |node: &Node| {
            cluster.shards.iter().filter(|shard| shard.owner == Some(node.id)).count()
        };
        let node = |node: &Node| NodeAnswer {
            id: node.id.to_string(),
            name: node.name.clone(),
            up_s: node.up.as_secs_f64(),
            seen_s: node.seen.as_secs_f64(),
            shards: held_by(node),
            lag_s: node.lag.map(|lag| lag.as_secs_f64()),
        };
        let shard = |shard: &Shard| ShardAnswer {
            shard: shard.id,
            node: shard.owner.map(|owner| owner.to_string()),
            epoch: shard.epoch,
            lease_s: (engine == POSTGRES).then_some(shard.left.as_secs_f64()),
            head: shard.head,
            last_event_at: shard.last_event_at,
        };
        Self {
            engine,
            node: cluster.own.to_string(),
            nodes: cluster.nodes.iter().map(node).collect(),
            shards: cluster.shards.iter().map(shard).collect(),
        }
    }
}

const POSTGRES: &str = "postgres";
const SQLITE: &str = "sqlite";

/// Shows the nodes of the cluster, and which of them runs the lanes of which shard. Needs the admin
/// token.
#[utoipa::path(
    get, path = "/v1/cluster", tag = "operations",
    responses((status = 200, body = ClusterAnswer), Common)
)]
pub(super) async fn show_cluster(
    State(app): State<App>,
    caller: Caller,
) -> Result<axum::Json<ClusterAnswer>, ApiError> {
    caller.need_admin()?;
    let mut cluster = app.store.cluster().await?;
    let engine = if app.store.is_on_server() { POSTGRES } else { SQLITE };
    if engine == SQLITE {
        cluster.nodes.push(Node {
            id: cluster.own,
            name: app.config.cluster.node_name(),
            up: app.started.elapsed(),
            seen: Duration::ZERO,
            lag: None,
        });
    }
    // What this node has measured since it last gave a sign of life.
    let own = cluster.own;
    if let Some(node) = cluster.nodes.iter_mut().find(|node| node.id == own) {
        node.lag = app.telemetry.worst_lag().or(node.lag);
    }
    Ok(axum::Json(ClusterAnswer::new(cluster, engine)))
}
