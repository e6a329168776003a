//! Partitions that go as a whole: those that are empty, weeks of deduplication keys that have left
//! their window, and large days of the journal of which nobody is owed anything.

use std::{sync::Arc, time::Duration};

use super::super::{
    Shared, lock,
    pool::Session,
    row::{Fixed, Head, count},
};
use crate::{ShardId, fault::Result, retention::RetentionPolicy};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(3600);
/// An empty partition stays for so long after its time.
const EMPTY_MS: i64 = 2 * DAY_MS;
/// A smaller day is emptied row by row: that is exact, and costs next to nothing.
const LARGE: i64 = 16 << 20;
/// Flag of events that refer to binaries.
const BLOBS: i32 = 8;

/// A partition, and from when to when.
struct Leaf {
    parent: String,
    name: String,
    from: i64,
    to: i64,
    bytes: i64,
}

async fn leaves(session: &Session) -> Result<Vec<Leaf>> {
    let rows = session
        .query(
            "SELECT p.relname::text, c.relname::text, pg_relation_size(c.oid) FROM pg_inherits i \
             JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent \
             WHERE p.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' \
             ORDER BY c.relname",
            &[],
        )
        .await?;
    let mut found = Vec::new();
    for row in &rows {
        let (parent, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let number = name.rsplit_once('_').and_then(|(_, number)| number.parse::<i64>().ok());
        let length = match parent.as_str() {
            "dedup" => 7 * DAY_MS,
            other if other.ends_with("_full") => DAY_MS,
            other if other.ends_with("_ephemeral") => HOUR_MS,
            _ => continue,
        };
        if let Some(number) = number {
            let (from, to) = (number * length, (number + 1) * length);
            found.push(Leaf { parent, name, from, to, bytes: row.try_get(2)? });
        }
    }
    Ok(found)
}

/// Takes a partition away. First apart, so that nobody who reads waits; then for good.
async fn drop_leaf(session: &Session, leaf: &Leaf) -> Result<()> {
    session.long_batch("SET statement_timeout = '60s'").await?;
    let apart = session
        .long_batch(&format!(
            "ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY",
            leaf.parent, leaf.name
        ))
        .await;
    let apart = match apart {
        // Somebody ended in the middle of it.
        Err(fault) if fault.reason().contains("pending detach") => {
            let query =
                format!("ALTER TABLE {} DETACH PARTITION {} FINALIZE", leaf.parent, leaf.name);
            session.long_batch(&query).await
        }
        done => done,
    };
    session.long_batch("SET statement_timeout = '2s'").await?;
    apart
}

/// Looks through all partitions, once an hour on the node that holds the first shard. Gives how many
/// events went.
pub(super) async fn drop_old(
    shared: &Arc<Shared>,
    shard: ShardId,
    policy: &RetentionPolicy,
) -> Result<u64> {
    let now = shared.now();
    if shard != ShardId(0) {
        return Ok(0);
    }
    {
        let mut looked_at = lock(&shared.partitions_looked_at);
        if looked_at.is_some_and(|at| now >= at && now.since(at) < PAUSE) {
            return Ok(0);
        }
        *looked_at = Some(now);
    }
    let session = shared.pool.session().await?;
    let window = i64::try_from(shared.dedup_window.as_millis()).unwrap_or(i64::MAX);
    let mut longest = policy.journal;
    for age in policy.overrides.values().copied() {
        longest = longest.max(age);
    }
    for (_, age) in shared.directory().retentions() {
        longest = longest.max(age);
    }
    let old = (now - longest).as_millis();
    let now = now.as_millis();
    let leaves = leaves(&session).await?;
    let mut events = 0;
    for leaf in &leaves {
        let goes = if leaf.parent == "dedup" {
            leaf.to < now.saturating_sub(window)
        } else if leaf.to < now - EMPTY_MS && is_empty(&session, leaf).await? {
            // A line of the log may still be written for an event that is there.
            let (_, class) = leaf.parent.rsplit_once('_').unwrap_or_default();
            let journal = format!("journal_{class}");
            leaf.parent == journal
                || !leaves.iter().any(|other| other.parent == journal && other.from == leaf.from)
        } else if leaf.parent == "journal_full" && leaf.to <= old && leaf.bytes >= LARGE {
            match note_whole_day(shared, &session, leaf).await? {
                Some(gone) => {
                    events += gone;
                    for other in leaves.iter().filter(|other| {
                        other.from == leaf.from
                            && matches!(other.parent.as_str(), "delivery_full" | "attempt_full")
                    }) {
                        take_away(&session, other).await;
                    }
                    true
                }
                None => false,
            }
        } else {
            false
        };
        if goes {
            take_away(&session, leaf).await;
        }
    }
    Ok(events)
}

/// If somebody is in the way, there is another hour.
async fn take_away(session: &Session, leaf: &Leaf) {
    let done = async {
        drop_leaf(session, leaf).await?;
        session.long_batch(&format!("DROP TABLE IF EXISTS {}", leaf.name)).await?;
        session.execute("DELETE FROM meta WHERE name = 'whole:' || $1", &[&leaf.name]).await
    };
    match done.await {
        Ok(_) => tracing::info!(event = "partition.dropped", name = leaf.name, "a partition went"),
        Err(fault) => {
            let reason = fault.reason();
            tracing::warn!(event = "partition.kept", name = leaf.name, reason, "it stays for now");
        }
    }
}

async fn is_empty(session: &Session, leaf: &Leaf) -> Result<bool> {
    let row = session
        .one(&format!("SELECT NOT EXISTS (SELECT 1 FROM {} LIMIT 1)", leaf.name), &[])
        .await?;
    Ok(row.try_get(0)?)
}

/// Writes down what is to be known of a day before it goes, unless somebody is owed some of it.
async fn note_whole_day(
    shared: &Arc<Shared>,
    session: &Session,
    leaf: &Leaf,
) -> Result<Option<u64>> {
    let name = &leaf.name;
    let owed = session
        .first(
            &format!(
                "SELECT 1 FROM (SELECT shard, max(seq) AS last FROM {name} GROUP BY shard) s \
                 JOIN lane l ON coalesce(l.shard, s.shard) = s.shard \
                 JOIN destination d ON d.n = l.destination AND d.deleted_at IS NULL \
                 WHERE l.state IN ('running', 'paused') \
                 AND coalesce(l.cursors[s.shard + 1], l.cursor) < s.last \
                 AND (l.shard IS NULL OR EXISTS (SELECT 1 FROM {name} j \
                     WHERE j.instance = d.instance AND j.seq > l.cursor)) LIMIT 1"
            ),
            &[],
        )
        .await?;
    let open = session
        .first(
            "SELECT 1 FROM delivery WHERE class = 0 AND event_at >= $1 AND event_at < $2 \
             AND status IN (1, 2, 3) LIMIT 1",
            &[&leaf.from, &leaf.to],
        )
        .await?;
    if owed.is_some() || open.is_some() {
        return Ok(None);
    }
    session.batch("BEGIN").await?;
    session.risk();
    let noted = note(session, name).await;
    match &noted {
        Ok(_) => session.batch("COMMIT").await?,
        Err(_) => session.batch("ROLLBACK").await?,
    }
    session.keep();
    let events = noted?;
    for shard in &shared.shards {
        shard.followed.change().remove(|event| {
            let at = event.received_at.as_millis();
            !event.ephemeral && at >= leaf.from && at < leaf.to
        });
    }
    Ok(Some(events))
}

async fn note(session: &Session, name: &str) -> Result<u64> {
    session
        .execute(
            &format!(
                "INSERT INTO instance_state (instance, pruned_upto, last_event_at) \
                 SELECT instance, max(seq), max(received_at) FROM {name} GROUP BY instance \
                 ORDER BY instance ON CONFLICT (instance) DO UPDATE SET \
                 pruned_upto = greatest(instance_state.pruned_upto, excluded.pruned_upto), \
                 last_event_at = greatest(instance_state.last_event_at, excluded.last_event_at)"
            ),
            &[],
        )
        .await?;
    session
        .execute(
            &format!(
                "UPDATE shard s SET floor = greatest(s.floor, j.last), \
                 floor_at = greatest(s.floor_at, j.at), \
                 pruned_upto = greatest(s.pruned_upto, j.last) \
                 FROM (SELECT shard, max(seq) AS last, max(received_at) AS at FROM {name} \
                 GROUP BY shard) j WHERE j.shard = s.shard"
            ),
            &[],
        )
        .await?;
    // Once, also if it takes more than one try until the partition is gone.
    let first = session
        .execute(
            "INSERT INTO meta (name, value) VALUES ('whole:' || $1, 1) ON CONFLICT DO NOTHING",
            &[&name],
        )
        .await?;
    if first > 0 {
        let rows = session
            .query(&format!("SELECT head FROM {name} WHERE flags & $1 <> 0"), &[&BLOBS])
            .await?;
        let mut fewer = std::collections::HashMap::<[u8; 32], i64>::new();
        for row in &rows {
            for reference in Head::parse(row.try_get(0)?)?.blobs {
                *fewer.entry(reference.sha).or_default() += 1;
            }
        }
        let (shas, counts): (Vec<Fixed<32>>, Vec<i64>) =
            fewer.into_iter().map(|(sha, count)| (Fixed(sha), count)).unzip();
        super::remove::count_down(session, &shas, &counts).await?;
    }
    let row = session.one(&format!("SELECT count(*) FROM {name}"), &[]).await?;
    Ok(count(row.try_get(0)?))
}
