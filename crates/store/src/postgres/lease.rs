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
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use zapbus_event::Timestamp;

use super::{
    Engine, Shared, changes, follow, lock,
    pool::Session,
    row::{self, Fixed},
};
use crate::{
    Cluster, Lease, Leases, Node, NodeId, Shard, ShardId, StoreError,
    fault::{Fault, Result},
    metrics::Metrics,
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
    /// In milliseconds; negative: nothing was said yet.
    lag: AtomicI64,
    metrics: Arc<Metrics>,
}

impl Holdings {
    pub(crate) fn new(options: &Postgres, metrics: Arc<Metrics>) -> Self {
        Self {
            term: options.lease.max(Duration::from_millis(200)),
            handover: options.handover,
            name: options.node.clone(),
            leases: watch::Sender::default(),
            until: Mutex::default(),
            leaving: Mutex::default(),
            company: AtomicBool::new(false),
            lag: AtomicI64::new(-1),
            metrics,
        }
    }

    /// Whether there are other nodes.
    pub(crate) fn has_company(&self) -> bool {
        self.company.load(Ordering::Relaxed)
    }

    pub(crate) fn report_lag(&self, lag: Duration) {
        self.lag.store(i64::try_from(lag.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
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
        if self.give_up(shard, epoch) {
            self.metrics.lease_losses.add(1);
        }
    }

    /// Whether it was there to be given up.
    fn give_up(&self, shard: ShardId, epoch: u64) -> bool {
        self.leases.send_if_modified(|leases| {
            let had = leases.get(&shard).is_some_and(|lease| lease.epoch == epoch);
            if had {
                leases.remove(&shard);
            }
            had
        })
    }

    /// Counts what others have by now, although it was not given to them.
    fn count_losses(&self, held: &Leases) {
        let known = self.leases.borrow();
        let is_lost = |(shard, lease): &(&ShardId, &Lease)| {
            held.get(*shard).is_none_or(|now| now.epoch != lease.epoch)
        };
        self.metrics.lease_losses.add(known.iter().filter(is_lost).count() as u64);
    }

    /// What this node holds from now on, by the database's last word.
    fn now_holds(&self, held: Leases) {
        self.leases.send_if_modified(|known| {
            self.metrics.shards_held.set(held.len() as u64);
            let changed = *known != held;
            *known = held;
            changed
        });
    }
}

/// Says that this node is there, for as long as the store is open.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(shared.holdings.term / 6);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.beat.notified() => {}
        }
        match beat(&shared).await {
            Ok(()) => shared.note_answer(),
            Err(fault) => shared.note_fault(&fault),
        }
    }
}

/// Renews, takes, and hands over.
pub(super) async fn beat(shared: &Arc<Shared>) -> Result<()> {
    let holdings = &shared.holdings;
    let asked = Instant::now();
    let term = holdings.term.as_secs_f64();
    let own = Fixed(shared.node.0);
    let lag = Some(holdings.lag.load(Ordering::Relaxed)).filter(|lag| *lag >= 0);
    let session = shared.pool.lease().await?;
    let row = session
        .one(
            "WITH own AS (INSERT INTO node (id, name, key, lag_ms) VALUES ($1, $2, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(), lag_ms = $5 \
             RETURNING id) \
             SELECT count(*), count(*) FILTER (WHERE n.id < $1), (SELECT reason FROM refusal) \
             FROM node n, own \
             WHERE n.id <> $1 AND n.seen_at > clock_timestamp() - make_interval(secs => $3)",
            &[&own, &holdings.name, &term, &&shared.sealer.tag()[..], &lag],
        )
        .await?;
    let (others, before): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let refusal: Option<String> = row.try_get(2)?;
    holdings.company.store(others > 0, Ordering::Relaxed);
    holdings.metrics.nodes.set(row::count(others) + 1);
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
    holdings.metrics.lease_renewals.add(held.len() as u64);

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
        holdings.metrics.lease_takeovers.add(rows.len() as u64);
        if !rows.is_empty() {
            tracing::info!(event = "lease.taken", shards = rows.len(), "this node runs more lanes");
        }
        note(&mut held, &rows)?;
    }
    drop(session);
    if lock(&shared.space).hears(held.contains_key(&ShardId(0))) {
        shared.set_refusal(refusal);
    }
    holdings.count_losses(&held);
    let go = to_hand_over(shared, &mut held, share);
    // First what it holds, then until when: the word is good for nothing that is not in it. What is
    // given away is no longer in it when others hear that they may have it.
    holdings.now_holds(held);
    *lock(&holdings.until) = Some(asked + holdings.term * 2 / 3);
    for (shard, epoch) in go {
        release(shared, shard, epoch).await?;
        lock(&holdings.leaving).remove(&shard);
    }
    Ok(())
}

/// Marks what is too much as leaving, and takes out what has been leaving for long enough.
fn to_hand_over(shared: &Shared, held: &mut Leases, share: usize) -> Vec<(ShardId, u64)> {
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
    for (shard, _) in &go {
        held.remove(shard);
    }
    go
}

/// Gives all shards away and takes what is free again: lanes know nothing of before.
pub(super) async fn start_anew(shared: &Shared) -> Result<()> {
    let held = shared.holdings.leases.send_replace(Leases::new());
    for (shard, lease) in held {
        release(shared, shard, lease.epoch).await?;
    }
    shared.beat.notify_one();
    Ok(())
}

/// Gives a shard away.
pub(super) async fn release(shared: &Shared, shard: ShardId, epoch: u64) -> Result<()> {
    let session = shared.pool.lease().await?;
    session
        .execute(
            "UPDATE lease SET owner = NULL, expires_at = '-infinity' \
             WHERE shard = $1 AND owner = $2 AND epoch = $3",
            &[&i32::from(shard.0), &Fixed(shared.node.0), &(epoch as i64)],
        )
        .await?;
    tell_others(shared, &session).await
}

/// Whoever has fewer than its share asks at once for what has become free.
async fn tell_others(shared: &Shared, session: &Session) -> Result<()> {
    if shared.holdings.has_company() {
        let own = shared.node.to_string();
        session.query("SELECT pg_notify($1, $2)", &[&changes::FREED, &own]).await?;
    }
    Ok(())
}

/// Gives everything away, at once.
pub(super) async fn leave(shared: &Shared) -> Result<()> {
    shared.holdings.leases.send_replace(Leases::new());
    let session = shared.pool.lease().await?;
    session
        .query(
            "WITH freed AS (UPDATE lease SET owner = NULL, expires_at = '-infinity' \
             WHERE owner = $1) DELETE FROM node WHERE id = $1",
            &[&Fixed(shared.node.0)],
        )
        .await?;
    tell_others(shared, &session).await
}

impl Engine {
    pub(crate) async fn release(&self, shard: ShardId) -> Result<(), StoreError> {
        let Some(epoch) = self.shared.holdings.epoch(shard) else {
            return Ok(());
        };
        self.shared.holdings.give_up(shard, epoch);
        Ok(release(&self.shared, shard, epoch).await?)
    }

    pub(crate) async fn cluster(&self) -> Result<Cluster, StoreError> {
        let session = self.session().await?;
        let nodes = session
            .query(
                "SELECT id, name, extract(epoch FROM clock_timestamp() - started_at)::float8, \
                 extract(epoch FROM clock_timestamp() - seen_at)::float8, lag_ms FROM node \
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
                    lag: row
                        .try_get::<_, Option<i64>>(4)?
                        .map(|millis| Duration::from_millis(row::count(millis))),
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
pub(super) fn fence(shared: &Shared, shard: ShardId) -> Result<u64, Fault> {
    shared.holdings.epoch(shard).ok_or(Fault::Store(StoreError::LeaseLost { shard }))
}
