//! Partitions that go as a whole: those that are empty, weeks of deduplication keys that have left
//! their window, and large days of the journal of which nobody is owed anything.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::super::{
    Shared, lock,
    pool::Session,
    row::{Fixed, Head, count, fixed},
};
use zapbus_event::Timestamp;

use crate::{fault::Result, retention::RetentionPolicy};

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
/// Rows read, and rows locked, at a time.
const PAGE: i64 = 2_000;
const LOCKED: usize = 200;
/// The mark of a partition that goes, until it is gone.
const GOING: &str = "going:";
/// For questions over a whole day: they lock nothing that anybody waits for.
const PATIENT: &str = "SET statement_timeout = '10min'; SET enable_seqscan = on";
const USUAL: &str = "RESET statement_timeout; RESET enable_seqscan";

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
            "SELECT p.relname::text, c.relname::text, pg_table_size(c.oid) FROM pg_inherits i \
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
async fn detach(session: &Session, parent: &str, name: &str) -> Result<()> {
    let apart = session
        .long_batch(&format!("ALTER TABLE {parent} DETACH PARTITION {name} CONCURRENTLY"))
        .await;
    match apart {
        // Somebody ended in the middle of it.
        Err(fault) if fault.reason().contains("pending detach") => {
            session
                .long_batch(&format!("ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE"))
                .await
        }
        done => done,
    }
}

/// Looks through all partitions, once an hour. Gives how many events went.
pub(super) async fn drop_old(shared: &Arc<Shared>, policy: &RetentionPolicy) -> Result<u64> {
    let looked = shared.now();
    {
        let mut looked_at = lock(&shared.partitions_looked_at);
        if looked_at.is_some_and(|at| looked >= at && looked.since(at) < PAUSE) {
            return Ok(0);
        }
        *looked_at = Some(looked);
    }
    let session = shared.pool.session().await?;
    // Not given back as it is then, unless it is as it was.
    session.risk();
    session.batch(PATIENT).await?;
    let done = drop_some(shared, &session, policy).await;
    session.batch(USUAL).await?;
    session.keep();
    done
}

async fn drop_some(
    shared: &Arc<Shared>,
    session: &Session,
    policy: &RetentionPolicy,
) -> Result<u64> {
    // What somebody began, also if it is a table of its own by now that nobody would find.
    for row in session
        .query(
            "SELECT substr(m.name, length($1) + 1), i.inhparent::regclass::text FROM meta m \
             LEFT JOIN pg_inherits i ON i.inhrelid = to_regclass(substr(m.name, length($1) + 1)) \
             WHERE starts_with(m.name, $1)",
            &[&GOING],
        )
        .await?
    {
        let (name, parent): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        finish(session, parent.as_deref(), &name).await;
    }
    let now = super::now(shared, session).await?;
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
    let leaves = leaves(session).await?;
    let mut events = 0;
    for leaf in &leaves {
        let goes = if leaf.parent == "dedup" {
            leaf.to < now.saturating_sub(window)
        } else if leaf.to < now - EMPTY_MS && is_empty(session, leaf).await? {
            // A line of the log may still be written for an event that is there.
            let (_, class) = leaf.parent.rsplit_once('_').unwrap_or_default();
            let journal = format!("journal_{class}");
            leaf.parent == journal
                || !leaves.iter().any(|other| other.parent == journal && other.from == leaf.from)
        } else if leaf.parent == "journal_full" && leaf.to <= old && leaf.bytes >= LARGE {
            match note_whole_day(shared, session, leaf).await? {
                Some(gone) => {
                    events += gone;
                    for other in leaves.iter().filter(|other| {
                        other.from == leaf.from
                            && matches!(other.parent.as_str(), "delivery_full" | "attempt_full")
                    }) {
                        take_away(session, other).await?;
                    }
                    true
                }
                None => false,
            }
        } else {
            false
        };
        if goes {
            take_away(session, leaf).await?;
        }
    }
    Ok(events)
}

async fn take_away(session: &Session, leaf: &Leaf) -> Result<()> {
    session
        .execute(
            "INSERT INTO meta (name, value) VALUES ($1 || $2, 1) ON CONFLICT DO NOTHING",
            &[&GOING, &leaf.name],
        )
        .await?;
    finish(session, Some(&leaf.parent), &leaf.name).await;
    Ok(())
}

/// If somebody is in the way, there is another hour.
async fn finish(session: &Session, parent: Option<&str>, name: &str) {
    let done = async {
        if let Some(parent) = parent {
            detach(session, parent, name).await?;
        }
        session.long_batch(&format!("DROP TABLE IF EXISTS {name}")).await?;
        session
            .execute("DELETE FROM meta WHERE name IN ('whole:' || $2, $1 || $2)", &[&GOING, &name])
            .await
    };
    match done.await {
        Ok(_) => tracing::info!(event = "partition.dropped", name, "a partition went"),
        Err(fault) => {
            let reason = fault.reason();
            tracing::warn!(event = "partition.kept", name, reason, "it stays for now");
        }
    }
}

async fn is_empty(session: &Session, leaf: &Leaf) -> Result<bool> {
    let query = format!("SELECT 1 FROM {} LIMIT 1", leaf.name);
    Ok(session.long_query(&query, &[]).await?.is_empty())
}

/// Writes down what is to be known of a day before it goes, unless somebody is owed some of it.
async fn note_whole_day(
    shared: &Arc<Shared>,
    session: &Session,
    leaf: &Leaf,
) -> Result<Option<u64>> {
    let name = &leaf.name;
    let owed = session
        .long_query(
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
        .long_query(
            "SELECT 1 FROM delivery WHERE class = 0 AND event_at >= $1 AND event_at < $2 \
             AND status IN (1, 2, 3) LIMIT 1",
            &[&leaf.from, &leaf.to],
        )
        .await?;
    if !owed.is_empty() || !open.is_empty() {
        return Ok(None);
    }
    let events = note(session, name, shared.now()).await?;
    for shard in &shared.shards {
        shard.followed.change().remove(|event| {
            let at = event.received_at.as_millis();
            !event.ephemeral && at >= leaf.from && at < leaf.to
        });
    }
    Ok(Some(events))
}

async fn note(session: &Session, name: &str, now: Timestamp) -> Result<u64> {
    note_instances(session, name).await?;
    let fewer = references(session, name).await?;
    session.batch("BEGIN").await?;
    let noted = note_together(session, name, &fewer, now).await;
    session.batch(if noted.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    noted?;
    let rows = session.long_query(&format!("SELECT count(*) FROM {name}"), &[]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.map_or(0, count))
}

/// What is known of each instance. A few at a time: appends write there too.
async fn note_instances(session: &Session, name: &str) -> Result<()> {
    let rows = session
        .long_query(
            &format!(
                "SELECT instance, max(seq), max(received_at) FROM {name} GROUP BY instance \
                 ORDER BY instance"
            ),
            &[],
        )
        .await?;
    for some in rows.chunks(LOCKED) {
        let (mut instances, mut uptos, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
        for row in some {
            instances.push(Fixed::<16>(fixed(row, 0)?));
            uptos.push(row.try_get::<_, i64>(1)?);
            lasts.push(row.try_get::<_, i64>(2)?);
        }
        session
            .execute(
                "INSERT INTO instance_state (instance, pruned_upto, last_event_at) \
                 SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) \
                     AS u(instance, upto, last) ORDER BY u.instance \
                 ON CONFLICT (instance) DO UPDATE SET \
                 pruned_upto = greatest(instance_state.pruned_upto, excluded.pruned_upto), \
                 last_event_at = greatest(instance_state.last_event_at, excluded.last_event_at)",
                &[&instances, &uptos, &lasts],
            )
            .await?;
    }
    Ok(())
}

/// How often events of the day refer to each binary.
async fn references(session: &Session, name: &str) -> Result<BTreeMap<[u8; 32], i64>> {
    let mut fewer = BTreeMap::<[u8; 32], i64>::new();
    let mut after = (-1_i32, 0_i64);
    loop {
        let rows = session
            .long_query(
                &format!(
                    "SELECT shard, seq, head FROM {name} WHERE flags & $1 <> 0 \
                     AND (shard, seq) > ($2, $3) ORDER BY shard, seq LIMIT $4"
                ),
                &[&BLOBS, &after.0, &after.1, &PAGE],
            )
            .await?;
        for row in &rows {
            after = (row.try_get(0)?, row.try_get(1)?);
            for reference in Head::parse(row.try_get(2)?)?.blobs {
                *fewer.entry(reference.sha).or_default() += 1;
            }
        }
        if (rows.len() as i64) < PAGE {
            return Ok(fewer);
        }
    }
}

/// Where shards go on, and what binaries are no longer referred to.
async fn note_together(
    session: &Session,
    name: &str,
    fewer: &BTreeMap<[u8; 32], i64>,
    now: Timestamp,
) -> Result<()> {
    // Once, also if it takes more than one try until the partition is gone.
    let first = session
        .execute(
            "INSERT INTO meta (name, value) VALUES ('whole:' || $1, 1) ON CONFLICT DO NOTHING",
            &[&name],
        )
        .await?;
    if first > 0 {
        let fewer: Vec<(Fixed<32>, i64)> =
            fewer.iter().map(|(sha, count)| (Fixed(*sha), *count)).collect();
        for some in fewer.chunks(LOCKED) {
            let (shas, counts): (Vec<Fixed<32>>, Vec<i64>) = some.iter().copied().unzip();
            super::remove::count_down(session, &shas, &counts, now).await?;
        }
    }
    let ends = session
        .long_query(
            &format!("SELECT shard, max(seq), max(received_at) FROM {name} GROUP BY shard"),
            &[],
        )
        .await?;
    for row in &ends {
        let (shard, last, at): (i32, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        session
            .execute(
                "UPDATE shard SET floor = greatest(floor, $2), floor_at = greatest(floor_at, $3), \
                 pruned_upto = greatest(pruned_upto, $2) WHERE shard = $1",
                &[&shard, &last, &at],
            )
            .await?;
    }
    Ok(())
}
