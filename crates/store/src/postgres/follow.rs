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
    Shared, changes,
    days::Days,
    instances, lease, lock,
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
/// With no more days (or hours) than this made in advance somebody has to look after it.
const FEW: i64 = 2;

/// One shard as this node follows it.
pub(crate) struct Followed {
    tail: RwLock<Tail>,
    /// Where its days begin.
    pub(super) days: Days,
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
            days: Days::default(),
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

    /// Something in it is gone, and it is not known what: whoever wants any of it reads the journal.
    /// To leave out more than is gone would be to skip it.
    pub(super) async fn start_over(&self) {
        // Nobody is adding what was read before.
        let _order = self.order.lock().await;
        let mut tail = self.change();
        let head = tail.head();
        tail.reset(head);
    }

    fn is_wanted(&self) -> bool {
        let asked = Duration::from_millis(self.asked.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(asked) < WANTED
    }

    pub(crate) fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// When the newest event was received, in milliseconds.
    pub(crate) fn newest_at(&self) -> i64 {
        self.at.load(Ordering::Relaxed)
    }

    pub(crate) fn known_head(&self) -> Position {
        *self.head.borrow()
    }

    /// What somebody may have been shown already. Memory may be ahead of the head for a moment; a
    /// reader who is told that the journal ends before that would never be told of the rest.
    pub(crate) fn shown(&self) -> Position {
        let in_memory = self.peek().head();
        in_memory.max(self.known_head())
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

/// For whoever is about to write, where nothing is made in advance. Else nobody waits for it: what is
/// missing all the same is made when the database says so.
pub(super) async fn ensure_partitions(shared: &Shared, shard: ShardId) -> Result<()> {
    if shared.ahead > 0 { Ok(()) } else { make_partitions(shared, shard, false).await }
}

/// Makes what has no partition yet for now. `sure`: whatever is remembered.
pub(super) async fn make_partitions(shared: &Shared, shard: ShardId, sure: bool) -> Result<()> {
    let followed = &shared.shard(shard).followed;
    let mut at = shared.now().as_millis().max(followed.at.load(Ordering::Relaxed));
    let known = |at: i64| (at.div_euclid(DAY_MS), at.div_euclid(HOUR_MS));
    let (day, hour) = known(at);
    let ahead = shared.ahead;
    // Where nothing is made ahead, an hour is worth a partition only if something is in it.
    let mark = if ahead > 0 { hour } else { day };
    if !sure && lock(&followed.made).contains(&mark) {
        return Ok(());
    }
    let session = shared.pool.session().await?;
    if shared.database_clock {
        let now: i64 = session.one("SELECT zapbus_now()", &[]).await?.try_get(0)?;
        at = now.max(followed.at.load(Ordering::Relaxed));
    }
    let until = if ahead > 0 { (ahead, Some(ahead)) } else { (0, sure.then_some(0)) };
    schema::make_partitions(&session, Timestamp::from_millis(at), until).await?;
    let (day, hour) = known(at);
    for shard in &shared.shards {
        let mut made = lock(&shard.followed.made);
        if ahead > 0 {
            // The next ones are made within the hour.
            made.clear();
            made.insert(hour);
        } else {
            made.insert(day);
        }
    }
    Ok(())
}

/// Makes partitions long before anybody needs them, and says so when few are left that it could not
/// add to. Who appends makes up for what is missing, as far as that works then.
async fn keep_ahead(shared: &Shared) {
    if shared.ahead == 0 {
        return;
    }
    let Err(fault) = make_partitions(shared, ShardId(0), false).await else {
        shared.set_unready(None);
        return;
    };
    let reason = fault.reason();
    tracing::warn!(event = "partition.not_made", reason, "partitions are not made ahead");
    // Where that cannot be asked either, appends are stopped already.
    if let Ok(left) = left(shared).await
        && left <= FEW
    {
        shared.set_unready(Some(format!(
            "tables for events are left for {left} days or hours only, and making more fails: \
             {reason}. Look after the database, or events are refused when they are used up"
        )));
    }
}

/// How many days, or hours if these are fewer, have their partitions after this one.
async fn left(shared: &Shared) -> Result<i64> {
    let session = shared.pool.session().await?;
    let clock = (!shared.database_clock).then(|| shared.now().as_millis());
    let row = session
        .one(
            "WITH now AS (SELECT coalesce($1::bigint, zapbus_now()) AS at), \
             made AS (SELECT (part.at - now.at) / part.length AS n, part.name, part.length \
                 FROM now, LATERAL (SELECT 'full_' || n AS name, n * 86400000 AS at, \
                     86400000 AS length FROM generate_series(now.at / 86400000 + 1, \
                     now.at / 86400000 + $2) n \
                     UNION ALL SELECT 'ephemeral_' || n, n * 3600000, 3600000 \
                     FROM generate_series(now.at / 3600000 + 1, now.at / 3600000 + $2) n) part \
                 WHERE to_regclass('journal_' || part.name) IS NOT NULL \
                 AND to_regclass('delivery_' || part.name) IS NOT NULL \
                 AND to_regclass('attempt_' || part.name) IS NOT NULL) \
             SELECT least(count(*) FILTER (WHERE length = 86400000), \
                 count(*) FILTER (WHERE length = 3600000)) FROM made",
            &[&clock, &i64::from(shared.ahead)],
        )
        .await?;
    Ok(row.try_get(0)?)
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
    let in_memory = if known == before {
        followed.change().extend(events);
        true
    } else {
        known >= last.0 || read_up(shared, shard, last.0).await
    };
    drop(order);
    if in_memory {
        followed.move_head(followed.shown().max(last.0), last.1);
    } else {
        // Others have written too, and it is not known yet whose events they are: whoever reads for
        // an account would pass over those of an instance that was made there a moment ago. A look
        // takes in such changes first.
        shared.look.notify_one();
    }
    count(shared);
    lock(&shared.told).insert(shard.0);
    shared.tell.notify_one();
}

/// Reads what is beyond the tail, or lets memory start over there. The caller holds `order`, and has
/// taken in what was changed before the shard ended at `head`.
async fn catch_up(shared: &Arc<Shared>, shard: ShardId, head: (Position, Timestamp)) {
    if !read_up(shared, shard, head.0).await {
        shared.shard(shard).followed.change().reset(head.0);
    }
}

/// Reads what is beyond the tail, up to `head` at least, if somebody wants it in memory and it is
/// not too much. The caller holds `order`.
async fn read_up(shared: &Arc<Shared>, shard: ShardId, head: Position) -> bool {
    let followed = &shared.shard(shard).followed;
    if followed.is_wanted() {
        for _ in 0..PAGES {
            let known = followed.peek().head();
            if known >= head {
                return true;
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
    followed.peek().head() >= head
}

async fn beyond(shared: &Arc<Shared>, shard: ShardId, after: Position) -> Result<Vec<Arc<Event>>> {
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
    let events: Vec<Arc<Event>> =
        rows.iter().map(|row| row::event(row, 0, &shared.kinds)).collect::<Result<_>>()?;
    // Made by another node since the last look: from now on everybody knows whose they are.
    let mut unknown: Vec<_> = events.iter().map(|event| event.instance).collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown.retain(|instance| shared.directory().get(*instance).is_none());
    for instance in unknown {
        instances::refresh(shared, &session, instance).await?;
    }
    Ok(events)
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
        // That it can be read says nothing about writing: the lease's beat finds that out.
        if let Err(fault) = &found {
            shared.note_fault(fault);
        }
        pause = match found {
            Ok(true) => BUSY,
            _ => (pause * 2).min(IDLE),
        };
        if full_look.elapsed() >= FULL_LOOK {
            full_look = Instant::now();
            if let Err(fault) = go_beyond(&shared).await {
                shared.note_fault(&fault);
            }
            keep_ahead(&shared).await;
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
        // More may have been read than was there at the look.
        let shown = followed.shown().max(head.0);
        if followed.known_head() < shown {
            moved = true;
            followed.move_head(shown, head.1);
        }
    }
    if moved {
        count(shared);
    }
    Ok(moved || changed)
}

/// A shard that ends before where it ended belongs to a database that was taken back in time: its
/// positions jump beyond what it may have given out, readers are told of a gap, and lanes start anew
/// from where they stand in the database.
pub(super) async fn go_beyond(shared: &Arc<Shared>) -> Result<()> {
    let known: Vec<i64> = shared.shards.iter().map(|shard| sql(shard.followed.shown())).collect();
    let session = shared.pool.session().await?;
    let rows = session
        .query(
            "SELECT s.shard, k.seq FROM shard s \
             JOIN unnest($1::bigint[]) WITH ORDINALITY AS k(seq, n) ON k.n = s.shard + 1, \
             zapbus_head(s.shard) h WHERE h.seq < k.seq ORDER BY s.shard",
            &[&known],
        )
        .await?;
    let mut lost = false;
    for row in &rows {
        let (number, seen): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
        // Looked at once more, while nobody appends: what is appended later lies beyond.
        let gone = session
            .first("SELECT * FROM zapbus_go_beyond($1, $2, $3)", &[&number, &seen, &schema::JUMP])
            .await?;
        let Some(gone) = gone else { continue };
        let (found, floor): (i64, i64) = (gone.try_get(0)?, gone.try_get(1)?);
        tracing::error!(
            event = "store.went_back",
            shard = number,
            seen,
            found,
            "the database has lost events that were there: positions go on beyond them"
        );
        let shard = ShardId(u16::try_from(number).unwrap_or(0));
        let followed = &shared.shard(shard).followed;
        let order = followed.order.lock().await;
        followed.change().reset(position(floor));
        followed.days.forget();
        drop(order);
        followed.move_head(position(floor), Timestamp::default());
        lost = true;
    }
    drop(session);
    if lost {
        lease::start_anew(shared).await?;
    }
    Ok(())
}
