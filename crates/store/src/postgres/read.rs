//! Reading the journal.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio_postgres::Row;
use zapbus_event::{AccountId, Event, EventId, InstanceId, Position, Timestamp};

use super::{
    Engine, Shared, days,
    pool::Session,
    row::{self, EVENT, Fixed, Head, limit, position, sql, text},
};
use crate::{
    ShardId, StoreError,
    blob::Sha,
    fault::{Fault, Result},
    journal::{Limit, Page, Reader},
    references::References,
    stored_file::PIECE,
};

/// How many rows one call looks at.
const SCAN: usize = 5_000;
/// An account with more instances in a shard than this is read by looking at everybody's events.
const MERGED_INSTANCES: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Back,
}

impl Direction {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Forward => (">", "ASC"),
            Self::Back => ("<", "DESC"),
        }
    }
}

/// What was found, and the last position that was looked at if there may be more.
struct Found {
    events: Vec<Arc<Event>>,
    stopped: Option<Position>,
}

async fn collect(
    shared: &Shared,
    session: &Session,
    (of, shard): (Reader, ShardId),
    from: Position,
    direction: Direction,
    bounds: Limit,
) -> Result<Found> {
    let instances: Vec<InstanceId> = match of {
        Reader::Instance(instance) => vec![instance],
        Reader::All => Vec::new(),
        Reader::Account(account) => {
            let directory = shared.directory();
            let own = directory.of_account(account);
            own.filter(|instance| shared.shard_of(*instance) == shard).collect()
        }
    };
    let merged = of != Reader::All && instances.len() <= MERGED_INSTANCES;
    let since = match direction {
        Direction::Forward => days::since(shared, session, shard, from).await?,
        Direction::Back => i64::MIN,
    };
    let wanted = bounds.events.clamp(1, SCAN);
    let (compare, order) = direction.words();
    let rows = if merged {
        let ids: Vec<Fixed<16>> = instances.iter().map(|id| Fixed(id.to_bytes())).collect();
        // Sizes first: rows are fetched only as far as they fit.
        session
            .query(
                &format!(
                    "SELECT {EVENT}, j.looked FROM (SELECT j.*, count(*) OVER () AS looked, \
                     sum(octet_length(j.data) + coalesce(octet_length(j.raw), 0)) \
                         OVER (ORDER BY j.seq {order}) \
                         - octet_length(j.data) - coalesce(octet_length(j.raw), 0) AS before \
                     FROM (SELECT j.* FROM unnest($1::bytea[]) AS i(id) CROSS JOIN LATERAL \
                         (SELECT * FROM journal j WHERE j.instance = i.id AND j.seq {compare} $2 \
                          AND j.received_at >= $5 ORDER BY j.seq {order} LIMIT $3) j \
                         ORDER BY j.seq {order} LIMIT $3) j) j \
                     WHERE j.before <= $4 ORDER BY j.seq {order}"
                ),
                &[&ids, &sql(from), &limit(wanted + 1), &limit(bounds.bytes), &since],
            )
            .await?
    } else {
        return scan(shared, session, (of, shard), (from, since), direction, bounds).await;
    };
    let looked = rows.first().map(|row| row.try_get::<_, i64>(9)).transpose()?.unwrap_or(0);
    let more = looked > limit(wanted);
    let mut page = Collector::new(bounds, from);
    for row in rows.iter().take(wanted) {
        if !page.take(row::event(row, 0, &shared.kinds)?) {
            return Ok(page.stopped_full());
        }
    }
    // What did not fit was not even fetched.
    let cut = rows.len() < wanted && (rows.len() as i64) < looked;
    Ok(if more || cut { page.stopped_full() } else { page.at_end() })
}

/// Through everybody's events, a bounded number of them.
async fn scan(
    shared: &Shared,
    session: &Session,
    (of, shard): (Reader, ShardId),
    (from, since): (Position, i64),
    direction: Direction,
    bounds: Limit,
) -> Result<Found> {
    let (compare, order) = direction.words();
    let wants = |instance: InstanceId| match of {
        Reader::Account(account) => shared.directory().account_of(instance) == Some(account),
        Reader::Instance(own) => own == instance,
        Reader::All => true,
    };
    let heads = session
        .query(
            &format!(
                "SELECT j.seq, j.instance FROM journal j WHERE j.shard = $1 \
                 AND j.seq {compare} $2 AND j.received_at >= $4 ORDER BY j.seq {order} LIMIT $3"
            ),
            &[&i32::from(shard.0), &sql(from), &limit(SCAN + 1), &since],
        )
        .await?;
    let mut seqs = Vec::new();
    let mut last = from;
    let mut full = heads.len() > SCAN;
    for row in heads.iter().take(SCAN) {
        let seq: i64 = row.try_get(0)?;
        if wants(row::instance_id(row, 1)?) {
            if seqs.len() >= bounds.events.max(1) {
                full = true;
                break;
            }
            seqs.push(seq);
        }
        last = position(seq);
    }
    let mut page = Collector::new(bounds, from);
    // A few at a time: each may be of some megabytes.
    for chunk in seqs.chunks(32) {
        let rows = session
            .query(
                &format!(
                    "SELECT {EVENT} FROM journal j WHERE j.shard = $1 AND j.seq = ANY ($2) \
                     AND j.received_at >= $3 ORDER BY j.seq {order}"
                ),
                &[&i32::from(shard.0), &chunk, &since],
            )
            .await?;
        for row in &rows {
            if !page.take(row::event(row, 0, &shared.kinds)?) {
                return Ok(page.stopped_full());
            }
        }
    }
    let stopped = full.then_some(last);
    Ok(Found { events: page.events, stopped })
}

/// Collects a page within its limits.
struct Collector {
    limit: Limit,
    bytes: usize,
    from: Position,
    events: Vec<Arc<Event>>,
}

impl Collector {
    fn new(limit: Limit, from: Position) -> Self {
        Self { limit, bytes: 0, from, events: Vec::new() }
    }

    /// Takes the event, or says that the page is full.
    fn take(&mut self, event: Arc<Event>) -> bool {
        self.bytes += event.weight();
        let full = self.events.len() >= self.limit.events || self.bytes > self.limit.bytes;
        if full && !self.events.is_empty() {
            return false;
        }
        self.events.push(event);
        true
    }

    fn stopped_full(self) -> Found {
        let last = self.events.last().map_or(self.from, |event| event.seq);
        Found { events: self.events, stopped: Some(last) }
    }

    fn at_end(self) -> Found {
        Found { events: self.events, stopped: None }
    }
}

/// Where an event is that is still stored.
pub(super) async fn place_of(
    session: &Session,
    id: EventId,
) -> Result<Option<(ShardId, Position)>> {
    let found = session
        .first(
            "SELECT shard, seq FROM journal WHERE received_at = $1 AND id = $2",
            &[&id.timestamp().as_millis(), &Fixed(id.to_bytes())],
        )
        .await?;
    let read = |row: Row| -> Result<(ShardId, Position)> {
        let shard: i32 = row.try_get(0)?;
        Ok((ShardId(u16::try_from(shard).unwrap_or(0)), position(row.try_get(1)?)))
    };
    found.map(read).transpose()
}

pub(super) async fn position_at(
    session: &Session,
    shard: ShardId,
    time: Timestamp,
) -> Result<Position> {
    let row = session
        .one("SELECT zapbus_position_at($1, $2)", &[&i32::from(shard.0), &time.as_millis()])
        .await?;
    Ok(position(row.try_get(0)?))
}

/// The other addresses of a person, as far as they were seen together.
pub(super) async fn aliases(
    session: &Session,
    instance: InstanceId,
    address: &str,
) -> Result<Vec<String>> {
    let rows = session
        .query(
            "SELECT phone FROM address_alias WHERE instance = $1 AND lid = $2 \
             UNION SELECT lid FROM address_alias WHERE instance = $1 AND phone = $2",
            &[&Fixed(instance.to_bytes()), &text(address)],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

impl Engine {
    /// The shard that a reader reads if nobody says which.
    pub(crate) fn only_shard(&self, of: Reader) -> Result<ShardId, StoreError> {
        match of {
            Reader::Instance(instance) => Ok(self.shared.shard_of(instance)),
            Reader::Account(_) | Reader::All => self.single_shard(),
        }
    }

    pub(crate) fn single_shard(&self) -> Result<ShardId, StoreError> {
        if self.shared.shards.len() == 1 {
            return Ok(ShardId(0));
        }
        Err(StoreError::Refused {
            reason: format!(
                "a position means nothing in {} shards together: say which of them",
                self.shared.shards.len()
            ),
        })
    }

    pub(crate) fn tail_after(
        &self,
        of: Reader,
        shard: ShardId,
        after: Position,
        limit: Limit,
    ) -> Option<Page> {
        let directory = matches!(of, Reader::Account(_)).then(|| self.shared.directory());
        let account_of = |instance: InstanceId| -> Option<AccountId> {
            directory.as_ref()?.account_of(instance)
        };
        self.shared.shard(shard).followed.read().after(of, after, limit, account_of)
    }

    pub(crate) async fn read_after(
        &self,
        of: Reader,
        shard: ShardId,
        after: Position,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        if let Some(page) = self.tail_after(of, shard, after, limit) {
            self.shared.metrics.tail_hits.add(1);
            if self.shared.is_closed() {
                return Err(super::closed());
            }
            return Ok(page);
        }
        self.shared.metrics.tail_misses.add(1);
        // Read before the snapshot is: at least so much of the journal is in it.
        let head = self.shared.shard(shard).followed.shown();
        let session = self.session().await?;
        let mut found =
            collect(&self.shared, &session, (of, shard), after, Direction::Forward, limit).await?;
        // What came since is nobody's yet: who follows the head is told of it with the next look.
        found.events.retain(|event| event.seq <= head);
        let last = found.events.last().map_or(after, |event| event.seq);
        let (upto, at_head) = match found.stopped {
            Some(stopped) if stopped < head => (stopped.max(last), false),
            Some(_) | None => (head, true),
        };
        Ok(Page { events: found.events, upto: upto.max(after), at_head })
    }

    pub(crate) async fn read_before(
        &self,
        of: Reader,
        shard: ShardId,
        before: Position,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let session = self.session().await?;
        let found =
            collect(&self.shared, &session, (of, shard), before, Direction::Back, limit).await?;
        let last = found.events.last().map_or(before, |event| event.seq);
        Ok(Page {
            upto: found.stopped.map_or(Position::START, |stopped| stopped.min(last)),
            at_head: found.stopped.is_none(),
            events: found.events,
        })
    }

    pub(crate) async fn locate(
        &self,
        id: EventId,
    ) -> Result<Option<(ShardId, Position)>, StoreError> {
        let session = self.session().await?;
        Ok(place_of(&session, id).await?)
    }

    pub(crate) async fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError> {
        for shard in &self.shared.shards {
            if let Some(event) = shard.followed.peek().event(id) {
                return Ok(Some(event));
            }
        }
        match self.locate(id).await? {
            Some((shard, seq)) => self.event_at(shard, seq).await,
            None => Ok(None),
        }
    }

    pub(crate) async fn event_at(
        &self,
        shard: ShardId,
        seq: Position,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        if let Some(event) = self.shared.shard(shard).followed.peek().event_at(seq) {
            return Ok(Some(event));
        }
        let session = self.session().await?;
        let before = Position(seq.0.saturating_sub(1));
        let since = days::since(&self.shared, &session, shard, before).await?;
        let found = session
            .first(
                &format!(
                    "SELECT {EVENT} FROM journal j WHERE j.shard = $1 AND j.seq = $2 \
                     AND j.received_at >= $3"
                ),
                &[&i32::from(shard.0), &sql(seq), &since],
            )
            .await?;
        Ok(found.map(|row| row::event(&row, 0, &self.shared.kinds)).transpose()?)
    }

    pub(crate) async fn position_at(
        &self,
        shard: ShardId,
        time: Timestamp,
    ) -> Result<Position, StoreError> {
        let session = self.session().await?;
        Ok(position_at(&session, shard, time).await?)
    }

    /// There, or, when it is no longer stored, before the first event of its millisecond.
    pub(crate) async fn resolve_after(
        &self,
        shard: ShardId,
        id: EventId,
    ) -> Result<Position, StoreError> {
        let session = self.session().await?;
        if let Some((found, seq)) = place_of(&session, id).await?
            && found == shard
        {
            return Ok(seq);
        }
        let lost = session
            .first(
                "SELECT old_head FROM generation WHERE shard = $1 AND last_received_at <= $2 \
                 AND $2 < began_at AND old_head + 2 < first ORDER BY number DESC LIMIT 1",
                &[&i32::from(shard.0), &id.timestamp().as_millis()],
            )
            .await?;
        match lost {
            Some(row) => {
                let old_head: i64 = row.try_get(0).map_err(Fault::from)?;
                Ok(position(old_head + 1))
            }
            None => Ok(position_at(&session, shard, id.timestamp()).await?),
        }
    }

    pub(crate) async fn first_position(
        &self,
        of: Reader,
        shard: ShardId,
    ) -> Result<Position, StoreError> {
        let session = self.session().await?;
        let found = match of {
            Reader::Instance(instance) => {
                session
                    .first(
                        "SELECT pruned_upto FROM instance_state WHERE instance = $1",
                        &[&Fixed(instance.to_bytes())],
                    )
                    .await?
            }
            Reader::Account(_) | Reader::All => {
                session
                    .first("SELECT pruned_upto FROM shard WHERE shard = $1", &[&i32::from(shard.0)])
                    .await?
            }
        };
        let read = |row: Row| -> Result<i64> { Ok(row.try_get(0)?) };
        Ok(position(found.map(read).transpose()?.unwrap_or(0)))
    }

    pub(crate) async fn gap_after(
        &self,
        of: Reader,
        shard: ShardId,
        after: Position,
    ) -> Result<bool, StoreError> {
        if after == Position::START {
            return Ok(false);
        }
        if after < self.first_position(of, shard).await? {
            return Ok(true);
        }
        let session = self.session().await?;
        let found = session
            .first(
                "SELECT 1 FROM generation WHERE shard = $1 AND old_head < $2 AND $2 < first - 1",
                &[&i32::from(shard.0), &sql(after)],
            )
            .await?;
        Ok(found.is_some())
    }

    /// What an event refers to; `None` when it is gone.
    pub(crate) async fn references(&self, event: &Event) -> Result<Option<References>, StoreError> {
        let session = self.session().await?;
        let found = session
            .first(
                "SELECT head FROM journal WHERE shard = $1 AND seq = $2 AND id = $3",
                &[
                    &i32::from(self.shared.shard_of(event.instance).0),
                    &sql(event.seq),
                    &Fixed(event.id.to_bytes()),
                ],
            )
            .await?;
        let Some(row) = found else { return Ok(None) };
        let head: &[u8] = row.try_get(0).map_err(Fault::from)?;
        let refs = Head::parse(head)?.blobs;
        let shas: Vec<Fixed<32>> = refs.iter().map(|reference| Fixed(reference.sha)).collect();
        let rows = session
            .query(
                "SELECT sha256, object FROM blob WHERE sha256 = ANY ($1) AND object IS NOT NULL",
                &[&shas],
            )
            .await?;
        let mut objects = HashMap::new();
        for row in &rows {
            objects.insert(row::fixed::<32>(row, 0)?, row.try_get(1).map_err(Fault::from)?);
        }
        Ok(Some(References { refs, objects }))
    }

    /// A stretch of a file that stands in its row.
    pub(crate) async fn stretch(
        &self,
        sha: &Sha,
        from: u64,
        length: u64,
    ) -> Result<Bytes, StoreError> {
        let session = self.session().await?;
        let (from, length) = (int(from + 1)?, int(length)?);
        let row = session
            .first(
                "SELECT substring(content FROM $2 FOR $3) FROM blob WHERE sha256 = $1",
                &[&Fixed(*sha), &from, &length],
            )
            .await?;
        let gone = || StoreError::NotFound { what: "file" };
        let content: Option<Vec<u8>> = row.ok_or_else(gone)?.try_get(0).map_err(Fault::from)?;
        Ok(content.ok_or_else(gone)?.into())
    }

    /// The same of one that stands in pieces; within one of them.
    pub(crate) async fn piece(
        &self,
        object: &str,
        from: u64,
        upto: u64,
    ) -> Result<Bytes, StoreError> {
        let session = self.session().await?;
        let (n, start) = (int(from / PIECE)?, int(from % PIECE + 1)?);
        let length = int(upto - from)?;
        let row = session
            .first(
                "SELECT substring(content FROM $3 FOR $4) FROM blob_part \
                 WHERE object = $1 AND n = $2",
                &[&object, &n, &start, &length],
            )
            .await?;
        let row = row.ok_or(StoreError::NotFound { what: "file" })?;
        Ok(row.try_get::<_, Vec<u8>>(0).map_err(Fault::from)?.into())
    }

    pub(crate) async fn body(&self, sha256: [u8; 32]) -> Result<Option<Bytes>, StoreError> {
        let session = self.session().await?;
        let found = session
            .first("SELECT body FROM body WHERE sha256 = $1 LIMIT 1", &[&Fixed(sha256)])
            .await?;
        let read = |row: Row| -> Result<Bytes> { Ok(Bytes::from(row.try_get::<_, Vec<u8>>(0)?)) };
        Ok(found.map(read).transpose()?)
    }

    pub(crate) async fn aliases(
        &self,
        instance: InstanceId,
        address: &str,
    ) -> Result<Vec<String>, StoreError> {
        let session = self.session().await?;
        Ok(aliases(&session, instance, address).await?)
    }
}

fn int(number: u64) -> Result<i32> {
    i32::try_from(number).map_err(|_| Fault::malformed(format!("a file of {number} bytes")))
}
