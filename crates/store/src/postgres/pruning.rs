//! What pruning asks of PostgreSQL.
//!
//! The rules of pruning are the same for each engine and are not asynchronous: they run on a thread
//! of their own and wait for each answer there. One node prunes a shard at a time; what it deletes
//! row by row is what could not go with its whole partition.

mod ground;
mod noted;
mod remove;
mod space;
mod whole;

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;
use zapbus_event::Timestamp;

use self::ground::Step;
pub(crate) use self::space::Space;
pub(super) use self::{
    noted::{Columns as Noting, Noted},
    remove::{count_down, remove_events},
};
use super::{Engine, Shared, changes, lock, pool::Session, row, state};
use crate::{
    ShardId, StoreError,
    fault::{Fault, Result},
    pruning::{self, Pruner, Reach},
    retention::{Budget, Pruned, RetentionPolicy},
};

/// So much more may one step do than one of an engine with a single writer: it stalls nobody.
const LARGER: u32 = 4;

/// Tables whose size counts, what of a row does, and what a row takes besides.
const COUNTED: [(&str, &str); 4] = [
    ("journal", "octet_length(head) + octet_length(data) + coalesce(octet_length(raw), 0) + 120"),
    ("delivery", "150 + coalesce(octet_length(excerpt), 0)"),
    ("body", "octet_length(body) + 80"),
    ("blob", "coalesce(octet_length(content), 0) + 120"),
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
            let sum = session.long_query(&query, &[]).await?;
            sum.first().map(|row| row.try_get(0)).transpose()?.map_or(0, row::count)
        } else {
            (size as f64 * alive) as u64
        };
    }
    Ok(used)
}

impl Engine {
    /// A step for each shard that this node holds; on the one that holds the first shard, which looks
    /// after the space, a step for every shard of what gives way to size.
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
        if held.contains(&ShardId(0)) {
            add(&mut total, space::make_room(self, policy, budget).await?);
            let session = self.shared.pool.session().await?;
            upkeep(&self.shared, &session).await?;
            drop(session);
            total.events += whole::drop_old(&self.shared, policy).await?;
        }
        for shard in held {
            let pruned = self.prune_shard(shard, policy, budget, None).await?;
            add(&mut total, pruned.unwrap_or_default());
        }
        Ok(total)
    }

    /// `None`: another node is at it.
    async fn prune_shard(
        &self,
        shard: ShardId,
        policy: &RetentionPolicy,
        budget: Budget,
        reach: Option<Reach>,
    ) -> Result<Option<Pruned>, StoreError> {
        let before = lock(&self.shared.shard(shard).pruner).clone();
        let tx = self.begin().await?;
        let (tx, pruner, done) = match step(tx, shard, policy, budget, (before, reach)).await {
            Ok(done) => done,
            Err(fault) => return Err(fault.into()),
        };
        let Some((pruned, gone)) = tx.finish(done).await? else {
            return Ok(None);
        };
        *lock(&self.shared.shard(shard).pruner) = pruner;
        if !gone.is_empty() {
            self.shared.shard(shard).followed.change().remove(|event| gone.contains(&event.seq));
        }
        Ok(Some(pruned))
    }
}

fn add(total: &mut Pruned, pruned: Pruned) {
    total.events += pruned.events;
    total.deliveries += pruned.deliveries;
    total.others += pruned.others;
    total.gaps += pruned.gaps;
    total.more |= pruned.more;
}

type Done = Result<Option<(Pruned, std::collections::HashSet<zapbus_event::Position>)>>;

async fn step(
    mut tx: super::Tx,
    shard: ShardId,
    policy: &RetentionPolicy,
    budget: Budget,
    (pruner, reach): (Pruner, Option<Reach>),
) -> Result<(super::Tx, Pruner, Done)> {
    tx.now = now(&tx.shared, &tx.session).await?;
    let only = tx
        .session
        .one("SELECT pg_try_advisory_xact_lock(2053206391, $1)", &[&i32::from(shard.0)])
        .await?;
    if !only.try_get::<_, bool>(0)? {
        return Ok((tx, pruner, Ok(None)));
    }
    let policy = Arc::new(policy.clone());
    let budget = Budget { time: (budget.time * LARGER).max(Duration::from_millis(1)), ..budget };
    let runtime = Handle::current();
    let done = tokio::task::spawn_blocking(move || {
        let mut step = Step::new(tx, shard, (pruner, reach), runtime);
        let pruned = match reach {
            Some(_) => pruning::make_room(&mut step, &policy, budget),
            None => pruning::prune(&mut step, &policy, budget),
        };
        let (tx, pruner, gone) = step.into_parts();
        (tx, pruner, pruned.map(|pruned| Some((pruned, gone))))
    })
    .await;
    done.map_err(|error| Fault::Broken(error.to_string()))
}

/// The time by which things are old: nodes have to agree on it.
async fn now(shared: &Shared, session: &Session) -> Result<Timestamp> {
    if !shared.database_clock {
        return Ok(shared.now());
    }
    row::time(&session.one("SELECT zapbus_now()", &[]).await?, 0)
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
