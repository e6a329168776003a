//! What pruning asks of PostgreSQL.
//!
//! The rules of pruning are the same for each engine and are not asynchronous: they run on a thread
//! of their own and wait for each answer there. One node prunes a shard at a time; what it deletes
//! row by row is what could not go with its whole partition.

mod ground;
mod remove;
mod whole;

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use self::ground::Step;
pub(super) use self::remove::remove_events;
use super::{Engine, Shared, changes, lock, pool::Session, row, state};
use crate::{
    ShardId, StoreError,
    fault::{Fault, Result},
    pruning::{self, Pruner},
    retention::{Budget, Pruned, RetentionPolicy},
};

/// Statements of a step that are in nobody's way may take longer than those of the hot path.
const PATIENT: &str = "SET LOCAL idle_in_transaction_session_timeout = '10s'";
/// So much more may one step do than one of an engine with a single writer: it stalls nobody.
const LARGER: u32 = 4;

/// Tables whose size counts, what of a row does, and what a row takes besides.
const COUNTED: [(&str, &str); 4] = [
    ("journal", "octet_length(head) + octet_length(data) + coalesce(octet_length(raw), 0) + 120"),
    ("delivery", "150 + coalesce(octet_length(excerpt), 0)"),
    ("body", "octet_length(body) + 80"),
    ("blob", "bytes"),
];
/// A partition that is smaller is looked at row by row; of a larger one the share that is not
/// deleted is estimated, as the server's own statistics know it.
const SMALL: i64 = 16 << 20;

/// Bytes that rows hold: what is deleted and not vacuumed yet does not count. Where it is certainly
/// not more than `bound`, any number up to that.
pub(super) async fn used_bytes(session: &Session, bound: u64) -> Result<u64> {
    let rows = session
        .query(
            "SELECT split_part(c.relname, '_', 1), c.relname::text, pg_table_size(c.oid), \
             coalesce(s.n_live_tup, 0)::float8 / greatest(s.n_live_tup + s.n_dead_tup, 1) \
             FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid \
             WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace \
             AND split_part(c.relname, '_', 1) IN ('journal', 'delivery', 'attempt', 'body', 'blob')",
            &[],
        )
        .await?;
    let mut leaves = Vec::new();
    let mut whole = 0;
    for row in &rows {
        let (table, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (size, alive): (i64, f64) = (row.try_get(2)?, row.try_get(3)?);
        whole += row::count(size);
        leaves.push((table, name, size, alive));
    }
    if whole <= bound {
        return Ok(whole);
    }
    let mut used = 0;
    for (table, name, size, alive) in leaves {
        let Some((_, weight)) = COUNTED.iter().find(|(counted, _)| *counted == table) else {
            continue;
        };
        used += if size < SMALL {
            let query = format!("SELECT coalesce(sum({weight}), 0)::bigint FROM {name}");
            row::count(session.one(&query, &[]).await?.try_get(0)?)
        } else {
            (size as f64 * alive) as u64
        };
    }
    Ok(used)
}

impl Engine {
    /// A step for each shard that this node holds.
    pub(crate) async fn prune(
        &self,
        policy: &RetentionPolicy,
        budget: Budget,
    ) -> Result<Pruned, StoreError> {
        if self.shared.is_closed() {
            return Err(super::closed());
        }
        let held: Vec<ShardId> = self.shared.holdings.leases().borrow().keys().copied().collect();
        let mut total = Pruned::default();
        for shard in held {
            let pruned = self.prune_shard(shard, policy, budget).await?;
            total.events += pruned.events;
            total.deliveries += pruned.deliveries;
            total.others += pruned.others;
            total.gaps += pruned.gaps;
            total.more |= pruned.more;
        }
        Ok(total)
    }

    async fn prune_shard(
        &self,
        shard: ShardId,
        policy: &RetentionPolicy,
        budget: Budget,
    ) -> Result<Pruned, StoreError> {
        let before = lock(&self.shared.shard(shard).pruner).clone();
        let whole = whole::drop_old(&self.shared, shard, policy).await?;
        let tx = self.begin().await?;
        let done = step(tx, shard, policy, budget, before.clone()).await;
        let (tx, pruner, done) = match done {
            Ok(done) => done,
            Err(fault) => return Err(fault.into()),
        };
        let finished = tx.finish(done).await;
        let mut kept = lock(&self.shared.shard(shard).pruner);
        match finished {
            Ok((mut pruned, gone)) => {
                *kept = pruner;
                let refusal = kept.refusal();
                drop(kept);
                self.shared.set_refusal(refusal);
                if !gone.is_empty() {
                    self.shared
                        .shard(shard)
                        .followed
                        .change()
                        .remove(|event| gone.contains(&event.seq));
                }
                pruned.events += whole;
                Ok(pruned)
            }
            Err(error) => {
                *kept = before;
                Err(error)
            }
        }
    }
}

type Done = Result<(Pruned, std::collections::HashSet<zapbus_event::Position>)>;

async fn step(
    tx: super::Tx,
    shard: ShardId,
    policy: &RetentionPolicy,
    budget: Budget,
    pruner: Pruner,
) -> Result<(super::Tx, Pruner, Done)> {
    tx.session.batch(PATIENT).await?;
    let only = tx
        .session
        .one("SELECT pg_try_advisory_xact_lock(2053206391, $1)", &[&i32::from(shard.0)])
        .await?;
    if !only.try_get::<_, bool>(0)? {
        // Another node is at it, and holds the shard by now.
        return Ok((tx, pruner, Ok(Default::default())));
    }
    if shard == ShardId(0) {
        upkeep(&tx.shared, &tx.session).await?;
    }
    let policy = Arc::new(policy.clone());
    let budget = Budget { time: (budget.time * LARGER).max(Duration::from_millis(1)), ..budget };
    let runtime = Handle::current();
    let done = tokio::task::spawn_blocking(move || {
        let mut step = Step::new(tx, shard, pruner, runtime);
        let pruned = pruning::prune(&mut step, &policy, budget);
        let (tx, pruner, gone) = step.into_parts();
        (tx, pruner, pruned.map(|pruned| (pruned, gone)))
    })
    .await;
    done.map_err(|error| Fault::Broken(error.to_string()))
}

/// What needs doing now and then, whoever does it.
async fn upkeep(shared: &Arc<Shared>, session: &Session) -> Result<()> {
    session
        .execute(
            &format!(
                "DELETE FROM change WHERE at < clock_timestamp() - interval '{}'",
                changes::KEPT_IN_TABLE
            ),
            &[],
        )
        .await?;
    session
        .execute("DELETE FROM node WHERE seen_at < clock_timestamp() - interval '1 day'", &[])
        .await?;
    // What a node that ended did not get round to.
    let stale = session
        .query("SELECT instance FROM instance_state WHERE stale_from IS NOT NULL LIMIT 20", &[])
        .await?;
    for row in &stale {
        state::fold(shared, session, row::instance_id(row, 0)?).await?;
    }
    Ok(())
}
