//! Whose lanes this node runs.
//!
//! A node says twice a second that it is there and that it keeps what it has. Shards of a node that
//! is gone, or that nobody has, go to those who have fewer than their share; who has more hands some
//! over. Every time is the database's; a node counts its own from before it asked, and stops a third
//! of the term early.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use zapbus_event::Timestamp;

use super::{
    Engine, Shared, follow, lock,
    row::{self, Fixed},
};
use crate::{
    Cluster, Lease, Leases, Node, NodeId, Shard, ShardId, StoreError,
    fault::{Fault, Result},
    options::Postgres,
};

/// A node that has not been heard of for so many terms is no longer listed.
const FORGOTTEN_TERMS: f64 = 20.0;

/// What this node holds.
pub(crate) struct Holdings {
    term: Duration,
    handover: Duration,
    name: String,
    leases: watch::Sender<Leases>,
    /// Until when the last word of the database is good, by our own clock.
    until: Mutex<Option<Instant>>,
    leaving: Mutex<HashMap<ShardId, Instant>>,
    company: AtomicBool,
}

impl Holdings {
    pub(crate) fn new(options: &Postgres) -> Self {
        Self {
            term: options.lease.max(Duration::from_millis(200)),
            handover: options.handover,
            name: options.node.clone(),
            leases: watch::Sender::default(),
            until: Mutex::default(),
            leaving: Mutex::default(),
            company: AtomicBool::new(false),
        }
    }

    /// Whether there are other nodes.
    pub(crate) fn has_company(&self) -> bool {
        self.company.load(Ordering::Relaxed)
    }

    pub(crate) fn leases(&self) -> watch::Receiver<Leases> {
        self.leases.subscribe()
    }

    pub(crate) fn epoch(&self, shard: ShardId) -> Option<u64> {
        self.leases.borrow().get(&shard).map(|lease| lease.epoch)
    }

    /// Whether the lease of a shard is good at this moment: no other node can have it.
    pub(crate) fn holds(&self, shard: ShardId, epoch: u64) -> bool {
        self.epoch(shard) == Some(epoch)
            && lock(&self.until).is_some_and(|until| Instant::now() < until)
    }

    /// The database said so when a settlement was refused.
    pub(crate) fn lose(&self, shard: ShardId, epoch: u64) {
        self.leases.send_if_modified(|leases| {
            let lost = leases.get(&shard).is_some_and(|lease| lease.epoch == epoch);
            if lost {
                leases.remove(&shard);
            }
            lost
        });
    }
}

/// Says that this node is there, for as long as the store is open.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(shared.holdings.term / 6);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(fault) = beat(&shared).await {
            shared.note_fault(&fault);
        }
    }
}

/// Renews, takes, and hands over.
pub(super) async fn beat(shared: &Arc<Shared>) -> Result<()> {
    let holdings = &shared.holdings;
    let asked = Instant::now();
    let term = holdings.term.as_secs_f64();
    let own = Fixed(shared.node.0);
    let session = shared.pool.session().await?;
    let row = session
        .one(
            "WITH own AS (INSERT INTO node (id, name) VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp() RETURNING id) \
             SELECT count(*), count(*) FILTER (WHERE n.id < $1) FROM node n, own \
             WHERE n.id <> $1 AND n.seen_at > clock_timestamp() - make_interval(secs => $3)",
            &[&own, &holdings.name, &term],
        )
        .await?;
    let (others, before): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    holdings.company.store(others > 0, Ordering::Relaxed);
    let rows = session
        .query(
            "UPDATE lease SET expires_at = clock_timestamp() + make_interval(secs => $2) \
             WHERE owner = $1 RETURNING shard, epoch",
            &[&own, &term],
        )
        .await?;
    let mut held = Leases::new();
    let note = |held: &mut Leases, rows: &[tokio_postgres::Row]| -> Result<()> {
        for row in rows {
            let shard = ShardId(u16::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0));
            let epoch = row::count(row.try_get(1)?);
            held.insert(shard, Lease { epoch, leaving: false });
        }
        Ok(())
    };
    note(&mut held, &rows)?;

    let nodes = others as usize + 1;
    let (each, rest) = (shared.shards.len() / nodes, shared.shards.len() % nodes);
    let share = each + usize::from((before as usize) < rest);
    if held.len() < share {
        let rows = session
            .query(
                "UPDATE lease l SET owner = $1, epoch = l.epoch + 1, \
                 expires_at = clock_timestamp() + make_interval(secs => $2) \
                 FROM (SELECT shard FROM lease \
                     WHERE owner IS NULL OR expires_at < clock_timestamp() \
                     ORDER BY shard LIMIT $3 FOR UPDATE SKIP LOCKED) free \
                 WHERE l.shard = free.shard RETURNING l.shard, l.epoch",
                &[&own, &term, &((share - held.len()) as i64)],
            )
            .await?;
        if !rows.is_empty() {
            tracing::info!(event = "lease.taken", shards = rows.len(), "this node runs more lanes");
        }
        note(&mut held, &rows)?;
    }
    drop(session);
    *lock(&holdings.until) = Some(asked + holdings.term * 2 / 3);
    hand_over(shared, &mut held, share).await?;
    holdings.leases.send_if_modified(|known| {
        let changed = *known != held;
        *known = held;
        changed
    });
    Ok(())
}

/// Marks what is too much as leaving, and gives away what has been leaving for long enough.
async fn hand_over(shared: &Arc<Shared>, held: &mut Leases, share: usize) -> Result<()> {
    let holdings = &shared.holdings;
    let now = Instant::now();
    let mut go = Vec::new();
    {
        let mut leaving = lock(&holdings.leaving);
        leaving.retain(|shard, _| held.contains_key(shard));
        let too_many = held.len().saturating_sub(share);
        let mut chosen: Vec<ShardId> = leaving.keys().copied().collect();
        chosen.sort_unstable();
        let more: Vec<ShardId> =
            held.keys().rev().filter(|shard| !chosen.contains(shard)).copied().collect();
        chosen.extend(more);
        chosen.truncate(too_many);
        leaving.retain(|shard, _| chosen.contains(shard));
        for shard in chosen {
            let since = *leaving.entry(shard).or_insert(now);
            if let Some(lease) = held.get_mut(&shard) {
                lease.leaving = true;
                if now.duration_since(since) >= holdings.handover {
                    go.push((shard, lease.epoch));
                }
            }
        }
    }
    for (shard, epoch) in go {
        release(shared, shard, epoch).await?;
        held.remove(&shard);
        lock(&holdings.leaving).remove(&shard);
    }
    Ok(())
}

/// Gives a shard away.
pub(super) async fn release(shared: &Shared, shard: ShardId, epoch: u64) -> Result<()> {
    let session = shared.pool.session().await?;
    session
        .execute(
            "UPDATE lease SET owner = NULL, expires_at = '-infinity' \
             WHERE shard = $1 AND owner = $2 AND epoch = $3",
            &[&i32::from(shard.0), &Fixed(shared.node.0), &(epoch as i64)],
        )
        .await?;
    Ok(())
}

/// Gives everything away, at once.
pub(super) async fn leave(shared: &Shared) -> Result<()> {
    shared.holdings.leases.send_replace(Leases::new());
    let session = shared.pool.session().await?;
    session
        .query(
            "WITH freed AS (UPDATE lease SET owner = NULL, expires_at = '-infinity' \
             WHERE owner = $1) DELETE FROM node WHERE id = $1",
            &[&Fixed(shared.node.0)],
        )
        .await?;
    if shared.holdings.has_company() {
        session.query("SELECT pg_notify('zapbus', $1)", &[&shared.node.to_string()]).await?;
    }
    Ok(())
}

impl Engine {
    pub(crate) async fn release(&self, shard: ShardId) -> Result<(), StoreError> {
        let Some(epoch) = self.shared.holdings.epoch(shard) else {
            return Ok(());
        };
        self.shared.holdings.lose(shard, epoch);
        Ok(release(&self.shared, shard, epoch).await?)
    }

    pub(crate) async fn cluster(&self) -> Result<Cluster, StoreError> {
        let session = self.session().await?;
        let nodes = session
            .query(
                "SELECT id, name, extract(epoch FROM clock_timestamp() - started_at)::float8, \
                 extract(epoch FROM clock_timestamp() - seen_at)::float8 FROM node \
                 WHERE seen_at > clock_timestamp() - make_interval(secs => $1) \
                 ORDER BY started_at, id",
                &[&(self.shared.holdings.term.as_secs_f64() * FORGOTTEN_TERMS)],
            )
            .await?;
        let leases = session
            .query(
                "SELECT owner, epoch, CASE WHEN owner IS NULL THEN 0 ELSE \
                 greatest(extract(epoch FROM expires_at - clock_timestamp()), 0) END::float8 \
                 FROM lease ORDER BY shard",
                &[],
            )
            .await?;
        let count = self.shared.shards.len() as u16;
        let heads = follow::heads(&session, count).await?;
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let read = || -> Result<Cluster> {
            let mut cluster =
                Cluster { own: self.shared.node, nodes: Vec::new(), shards: Vec::new() };
            for row in &nodes {
                cluster.nodes.push(Node {
                    id: NodeId(row::fixed(row, 0)?),
                    name: row.try_get(1)?,
                    up: seconds(row.try_get(2)?),
                    seen: seconds(row.try_get(3)?),
                });
            }
            for ((row, (head, at)), id) in leases.iter().zip(heads).zip(self.shared.all()) {
                cluster.shards.push(Shard {
                    id,
                    owner: row::maybe_fixed(row, 0)?.map(NodeId),
                    epoch: row::count(row.try_get(1)?),
                    left: seconds(row.try_get(2)?),
                    head,
                    last_event_at: (at > Timestamp::default()).then_some(at),
                });
            }
            Ok(cluster)
        };
        Ok(read()?)
    }
}

/// What a settlement shows: that this node may write it.
pub(super) fn fence(shared: &Shared, shard: ShardId) -> Result<i64, Fault> {
    shared
        .holdings
        .epoch(shard)
        .map(|epoch| epoch as i64)
        .ok_or(Fault::Store(StoreError::LeaseLost { shard }))
}
