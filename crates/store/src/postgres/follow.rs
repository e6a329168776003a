//! Following the journal: where each shard ends, and its newest events in memory.
//!
//! What this node appends goes straight into memory if nobody else has written in between. Else, and
//! for what other nodes append, the shard is read from where memory ends. All shards are looked at
//! with one question, often while something happens and once a second while nothing does.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use zapbus_event::{Event, Position, Timestamp};

use super::{
    Shared, changes, lock,
    pool::Session,
    row::{self, EVENT, position, sql},
    schema,
};
use crate::{ShardId, fault::Result, tail::Tail};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Between two looks while something happens, and while nothing does.
const BUSY: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_secs(1);
/// Between two looks at whether a shard ends before where it ended.
const FULL_LOOK: Duration = Duration::from_secs(5);
/// A shard that nobody has asked for within this time is not read.
const WANTED: Duration = Duration::from_secs(30);
/// Events read at a time, and how often in a row before memory starts over.
const PAGE: i64 = 500;
const PAGE_BYTES: i64 = 4 << 20;
const PAGES: usize = 8;
/// How far ahead partitions are made.
const AHEAD_DAYS: i32 = 8;
const AHEAD_HOURS: i32 = 8;

/// One shard as this node follows it.
pub(crate) struct Followed {
    tail: RwLock<Tail>,
    head: watch::Sender<Position>,
    at: AtomicI64,
    /// Whoever extends the tail, one after the other.
    order: tokio::sync::Mutex<()>,
    began: Instant,
    /// Milliseconds from `began` to the last time somebody asked.
    asked: AtomicU64,
    /// Hours (days, where somebody makes the time) that have their partitions.
    made: Mutex<HashSet<i64>>,
}

impl Followed {
    pub(crate) fn new(head: Position, at: Timestamp, bound: usize) -> Self {
        Self {
            tail: RwLock::new(Tail::new(head, bound)),
            head: watch::Sender::new(head),
            at: AtomicI64::new(at.as_millis()),
            order: tokio::sync::Mutex::default(),
            began: Instant::now(),
            asked: AtomicU64::new(0),
            made: Mutex::default(),
        }
    }

    /// The memory, for somebody who reads.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Tail> {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.asked.store(now, Ordering::Relaxed);
        self.peek()
    }

    /// The memory, for ourselves.
    pub(crate) fn peek(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self) -> bool {
        let asked = Duration::from_millis(self.asked.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(asked) < WANTED
    }

    pub(crate) fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    pub(crate) fn known_head(&self) -> Position {
        *self.head.borrow()
    }

    fn move_head(&self, head: Position, at: Timestamp) {
        self.at.fetch_max(at.as_millis(), Ordering::Relaxed);
        self.head.send_if_modified(|known| {
            let moved = *known < head;
            *known = head.max(*known);
            moved
        });
    }
}

/// Where all shards end.
pub(super) async fn heads(session: &Session, shards: u16) -> Result<Vec<(Position, Timestamp)>> {
    let rows = session
        .query(
            "SELECT h.seq, h.at FROM generate_series(0, $1::int - 1) s, zapbus_head(s) h \
             ORDER BY s",
            &[&i32::from(shards)],
        )
        .await?;
    rows.iter().map(|row| Ok((position(row.try_get(0)?), row::time(row, 1)?))).collect()
}

/// Makes what has no partition yet for now. `sure`: whatever is remembered.
pub(super) async fn make_partitions(shared: &Shared, shard: ShardId, sure: bool) -> Result<()> {
    let followed = &shared.shard(shard).followed;
    let mut at = shared.now().as_millis().max(followed.at.load(Ordering::Relaxed));
    let known = |at: i64| (at.div_euclid(DAY_MS), at.div_euclid(HOUR_MS));
    let (day, hour) = known(at);
    // Where somebody makes the time, an hour is worth a partition only if something is in it.
    let mark = if shared.database_clock { hour } else { day };
    if !sure && lock(&followed.made).contains(&mark) {
        return Ok(());
    }
    let session = shared.pool.session().await?;
    let ahead = if shared.database_clock {
        let now: i64 = session.one("SELECT zapbus_now()", &[]).await?.try_get(0)?;
        at = now.max(followed.at.load(Ordering::Relaxed));
        (AHEAD_DAYS, Some(AHEAD_HOURS))
    } else {
        (0, sure.then_some(0))
    };
    schema::make_partitions(&session, Timestamp::from_millis(at), ahead).await?;
    let (day, hour) = known(at);
    for shard in &shared.shards {
        let mut made = lock(&shard.followed.made);
        if shared.database_clock {
            // Fewer than there are: the next ones are made in time.
            made.extend(hour..hour + i64::from(AHEAD_HOURS) / 2);
        } else {
            made.insert(day);
        }
    }
    Ok(())
}

/// Takes in what this node has appended after `before`, and says that it is there.
pub(super) async fn advance(
    shared: &Arc<Shared>,
    shard: ShardId,
    before: Position,
    events: Vec<Arc<Event>>,
) {
    let Some(last) = events.last().map(|event| (event.seq, event.received_at)) else {
        return;
    };
    let followed = &shared.shard(shard).followed;
    let order = followed.order.lock().await;
    let known = followed.peek().head();
    if known == before {
        followed.change().extend(events);
    } else if known < last.0 {
        catch_up(shared, shard, last).await;
    }
    drop(order);
    followed.move_head(last.0, last.1);
    count(shared);
    lock(&shared.told).insert(shard.0);
    shared.tell.notify_one();
}

/// Reads what is beyond the tail. The caller holds `order`.
async fn catch_up(shared: &Shared, shard: ShardId, head: (Position, Timestamp)) {
    let followed = &shared.shard(shard).followed;
    if followed.is_wanted() {
        for _ in 0..PAGES {
            let known = followed.peek().head();
            if known >= head.0 {
                return;
            }
            match beyond(shared, shard, known).await {
                Ok(events) if events.is_empty() => break,
                Ok(events) => followed.change().extend(events),
                Err(fault) => {
                    shared.note_fault(&fault);
                    break;
                }
            }
        }
    }
    if followed.peek().head() < head.0 {
        followed.change().reset(head.0);
    }
}

async fn beyond(shared: &Shared, shard: ShardId, after: Position) -> Result<Vec<Arc<Event>>> {
    let session = shared.pool.session().await?;
    // Sizes first: rows are fetched only as far as they fit, and at least one.
    let rows = session
        .query(
            &format!(
                "SELECT {EVENT} FROM (SELECT j.*, sum(j.bytes) OVER (ORDER BY j.seq) - j.bytes \
                     AS before FROM (SELECT j.*, octet_length(j.data) \
                         + coalesce(octet_length(j.raw), 0) AS bytes FROM journal j \
                         WHERE j.shard = $1 AND j.seq > $2 ORDER BY j.seq LIMIT $3) j) j \
                 WHERE j.before <= $4 ORDER BY j.seq"
            ),
            &[&i32::from(shard.0), &sql(after), &PAGE, &PAGE_BYTES],
        )
        .await?;
    rows.iter().map(|row| row::event(row, 0, &shared.kinds)).collect()
}

fn count(shared: &Shared) {
    let (mut bytes, mut events) = (0, 0);
    for shard in &shared.shards {
        let tail = shard.followed.peek();
        bytes += tail.bytes();
        events += tail.len();
    }
    shared.metrics.tail_bytes.set(bytes as u64);
    shared.metrics.tail_events.set(events as u64);
}

/// Looks, for as long as the store is open.
pub(super) async fn run(shared: Arc<Shared>, mut seen: changes::Seen) {
    let mut pause = IDLE;
    let mut full_look = Instant::now();
    loop {
        let _ = tokio::time::timeout(pause, shared.look.notified()).await;
        let found = look(&shared, &mut seen).await;
        match &found {
            Ok(_) => shared.note_answer(),
            Err(fault) => shared.note_fault(fault),
        }
        pause = match found {
            Ok(true) => BUSY,
            _ => (pause * 2).min(IDLE),
        };
        if full_look.elapsed() >= FULL_LOOK {
            full_look = Instant::now();
            if let Err(fault) = look_back(&shared).await {
                shared.note_fault(&fault);
            }
            // Long before anybody needs them; whoever appends makes up for what is missing.
            if shared.database_clock
                && let Err(fault) = make_partitions(&shared, ShardId(0), false).await
            {
                let reason = fault.reason();
                tracing::warn!(
                    event = "partition.not_made",
                    reason,
                    "partitions are not made ahead"
                );
            }
        }
    }
}

/// One look at everything. True when something had happened.
async fn look(shared: &Arc<Shared>, seen: &mut changes::Seen) -> Result<bool> {
    let mut numbers = Vec::new();
    let (mut positions, mut times) = (Vec::new(), Vec::new());
    for shard in shared.all() {
        let followed = &shared.shard(shard).followed;
        numbers.push(i32::from(shard.0));
        positions.push(sql(followed.known_head()));
        times.push(followed.at.load(Ordering::Relaxed));
    }
    let session = shared.pool.session().await?;
    let rows = session
        .query(
            "SELECT k.shard, j.seq, j.received_at \
             FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS k(shard, seq, at) \
             CROSS JOIN LATERAL (SELECT j.seq, j.received_at FROM journal j \
                 WHERE j.shard = k.shard AND j.seq > k.seq AND j.received_at >= k.at \
                 ORDER BY j.seq DESC LIMIT 1) j",
            &[&numbers, &positions, &times],
        )
        .await?;
    let changed = changes::take_in(shared, &session, seen).await?;
    drop(session);
    let mut moved = false;
    for row in &rows {
        let shard = ShardId(u16::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0));
        let head = (position(row.try_get(1)?), row::time(row, 2)?);
        let followed = &shared.shard(shard).followed;
        let order = followed.order.lock().await;
        catch_up(shared, shard, head).await;
        drop(order);
        if followed.known_head() < head.0 {
            moved = true;
            followed.move_head(head.0, head.1);
        }
    }
    if moved {
        count(shared);
    }
    Ok(moved || changed)
}

/// A shard that ends before where it ended belongs to a database that was taken back in time: its
/// positions jump beyond what it may have given out, and readers are told of a gap.
async fn look_back(shared: &Arc<Shared>) -> Result<()> {
    let known: Vec<i64> =
        shared.shards.iter().map(|shard| sql(shard.followed.known_head())).collect();
    let session = shared.pool.session().await?;
    let rows = session
        .query(
            "SELECT s.shard, k.seq, h.seq FROM shard s \
             JOIN unnest($1::bigint[]) WITH ORDINALITY AS k(seq, n) ON k.n = s.shard + 1, \
             zapbus_head(s.shard) h WHERE h.seq < k.seq",
            &[&known],
        )
        .await?;
    for row in &rows {
        let number: i32 = row.try_get(0)?;
        let (seen, found): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        tracing::error!(
            event = "store.went_back",
            shard = number,
            seen,
            found,
            "the database has lost events that were there: positions go on beyond them"
        );
        let floor = seen + schema::JUMP;
        session
            .execute(
                "WITH moved AS (UPDATE shard SET floor = greatest(floor, $2) \
                 WHERE shard = $1 AND floor < $2 RETURNING floor_at) \
                 INSERT INTO generation (shard, number, old_head, first, last_received_at, \
                 began_at) SELECT $1, coalesce((SELECT max(number) FROM generation \
                 WHERE shard = $1), 0) + 1, $3, $2 + 1, h.at, greatest(zapbus_now(), h.at) \
                 FROM moved, zapbus_head($1) h",
                &[&number, &floor, &found],
            )
            .await?;
        let shard = ShardId(u16::try_from(number).unwrap_or(0));
        let followed = &shared.shard(shard).followed;
        let order = followed.order.lock().await;
        followed.change().reset(position(floor));
        drop(order);
        followed.move_head(position(floor), Timestamp::default());
    }
    Ok(())
}
