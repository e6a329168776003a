//! Searching the delivery log.
//!
//! No index per question: a destination's rows and the open ones are found through the indexes the
//! lanes need anyway, everything else by walking the log backwards. A page stops after a while
//! whether it is full or not, so that no search holds up anybody.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_postgres::Row;
use zapbus_event::{AccountId, DestinationId, EventId, InstanceId, Timestamp};

use super::{
    Engine, Shared,
    pool::{Param, Session},
    read,
    row::{self, Fixed, count, fixed, int, maybe_fixed, position, sql, time},
    settle::{self, status_number},
};
use crate::{
    ShardId, StoreError,
    delivery::{
        Attempt, Delivery, DeliveryId, DeliveryPage, DeliveryQuery, EventSummary, LaneId, State,
        Status,
    },
    fault::Result,
};

/// Rows one page looks at, and at a time.
const SCAN: usize = 5_000;
const STEP: usize = 500;
/// Time one page takes.
const TIME: Duration = Duration::from_millis(100);

/// The columns of a row with its destination and event.
const COLUMNS: &str = "d.n, d.shard, d.run, d.seq, d.attempts, d.code, d.latency_ms, \
     d.created_at, d.updated_at, d.error, d.excerpt, \
     d.status, d.reason, d.due, d.upto, d.lost, \
     t.id, t.account, j.id, j.instance, j.kind, j.head, d.attempted_at, t.instance, d.destination";
const TABLES: &str = "JOIN destination t ON t.n = d.destination \
     LEFT JOIN LATERAL (SELECT j.id, j.instance, j.kind, j.head FROM journal j \
     WHERE j.shard = d.shard AND j.seq = d.seq AND j.class = d.class \
     AND j.received_at = d.event_at LIMIT 1) j ON true";

fn found(row: &Row, shared: &Shared) -> Result<Delivery> {
    let event = match maybe_fixed(row, 18)? {
        Some(id) => Some(EventSummary {
            id: EventId::from_bytes(id),
            kind: shared.kinds.kind(i64::from(row.try_get::<_, i32>(20)?)),
            instance: row::instance_id(row, 19)?,
        }),
        None => None,
    };
    let destination = DestinationId::from_bytes(fixed(row, 16)?);
    let lane = LaneId { destination, run: row::small(row.try_get(2)?) };
    let global = row.try_get::<_, &[u8]>(23)?.is_empty();
    let shard = if global { row.try_get::<_, i32>(1)? } else { 0 };
    let shard = ShardId(u16::try_from(shard).unwrap_or(0));
    let excerpt: Option<Vec<u8>> = row.try_get(10)?;
    let code: Option<i32> = row.try_get(5)?;
    let latency: Option<i64> = row.try_get(6)?;
    Ok(Delivery {
        id: DeliveryId { lane, shard, seq: position(row.try_get(3)?) },
        event,
        state: settle::state(row, 11)?,
        attempts: row::small(row.try_get(4)?),
        code: code.and_then(|code| u16::try_from(code).ok()),
        latency_ms: latency.and_then(|latency| u32::try_from(latency).ok()),
        created_at: time(row, 7)?,
        updated_at: time(row, 8)?,
        error: row.try_get(9)?,
        excerpt: Bytes::from(excerpt.unwrap_or_default()),
    })
}

fn matches(row: &Row, shared: &Shared, query: &DeliveryQuery) -> Result<bool> {
    if let Some(account) = query.account
        && AccountId::from_bytes(fixed(row, 17)?) != account
    {
        return Ok(false);
    }
    let status: i32 = row.try_get(11)?;
    if !query.status.is_empty()
        && !query.status.iter().any(|wanted| status_number(*wanted) == status)
    {
        return Ok(false);
    }
    if let Some(code) = query.code
        && row.try_get::<_, Option<i32>>(5)? != Some(i32::from(code))
    {
        return Ok(false);
    }
    let written = time(row, 7)?;
    if query.from.is_some_and(|from| written < from) || query.to.is_some_and(|to| written >= to) {
        return Ok(false);
    }
    let stored: Option<&[u8]> = row.try_get(18)?;
    if let Some(instance) = query.instance {
        // A row whose event is gone still belongs to its destination's instance.
        let own: &[u8] = row.try_get(if stored.is_some() { 19 } else { 23 })?;
        if own != instance.to_bytes() {
            return Ok(false);
        }
    }
    if let Some(filter) = &query.types {
        if stored.is_none() {
            return Ok(false);
        }
        let (kind, facet) = row::kind_and_facet(row, 20, &shared.kinds)?;
        if !filter.matches(kind, facet.as_deref()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the partial index of open rows has all that is asked for.
fn only_open(status: &[Status]) -> bool {
    !status.is_empty()
        && status
            .iter()
            .all(|status| matches!(status, Status::Retrying | Status::Waiting | Status::Dead))
}

/// The lanes that see an instance's events, those of deleted destinations included.
pub(super) async fn lanes_of(session: &Session, instance: InstanceId) -> Result<Vec<(i64, i32)>> {
    let rows = session
        .query(
            "SELECT l.destination, l.run FROM instance i \
             JOIN destination d ON d.account = i.account AND d.instance IN (i.id, ''::bytea) \
             JOIN lane l ON l.destination = d.n WHERE i.id = $1",
            &[&Fixed(instance.to_bytes())],
        )
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The number of a destination, deleted or not, and whether it is global.
async fn number_of(
    session: &Session,
    id: DestinationId,
) -> Result<Option<(i64, Option<InstanceId>)>> {
    let found = session
        .first("SELECT n, instance FROM destination WHERE id = $1", &[&Fixed(id.to_bytes())])
        .await?;
    let read = |row: Row| -> Result<(i64, Option<InstanceId>)> {
        let instance: &[u8] = row.try_get(1)?;
        Ok((row.try_get(0)?, instance.try_into().ok().map(InstanceId::from_bytes)))
    };
    found.map(read).transpose()
}

/// One page on its way.
struct Walk<'a> {
    shared: &'a Shared,
    session: &'a Session,
    query: &'a DeliveryQuery,
    limit: usize,
    started: Instant,
    looked: usize,
    page: DeliveryPage,
}

impl Walk<'_> {
    fn is_spent(&self) -> bool {
        self.page.deliveries.len() >= self.limit
            || self.looked >= SCAN
            || (self.looked > 0
                && self.looked.is_multiple_of(STEP)
                && self.started.elapsed() > TIME)
    }

    /// Walks down by `column`: all rows with one value of it are on one page. `$1` is the value that
    /// was reached, `$2` how many rows to take.
    async fn down(
        &mut self,
        column: &str,
        from: &str,
        before: i64,
        more: &[Param<'_>],
    ) -> Result<()> {
        let text = format!(
            "SELECT {COLUMNS} FROM (SELECT d.* FROM {from} \
             ORDER BY d.{column} DESC, d.n DESC OFFSET $3 LIMIT $2) d {TABLES} \
             ORDER BY d.{column} DESC, d.n DESC"
        );
        let index = if column == "n" { 0 } else { 3 };
        let mut at = before.saturating_sub(1);
        // Rows of the position that was reached which have been looked at.
        let mut skipped = 0_i64;
        let mut last = None;
        loop {
            let step = STEP as i64;
            let mut params: Vec<Param<'_>> = vec![&at, &step, &skipped];
            params.extend(more);
            let rows = self.session.query(&text, &params).await?;
            let mut next = (at, skipped);
            for row in &rows {
                let value: i64 = row.try_get(index)?;
                if last.is_some_and(|last| last != value) && self.is_spent() {
                    self.page.next = last.map(count);
                    return Ok(());
                }
                self.looked += 1;
                next = if value == next.0 { (value, next.1 + 1) } else { (value, 1) };
                last = Some(value);
                if matches(row, self.shared, self.query)? {
                    self.page.deliveries.push(found(row, self.shared)?);
                }
            }
            if rows.len() < STEP {
                return Ok(());
            }
            (at, skipped) = next;
        }
    }
}

async fn one(
    shared: &Shared,
    session: &Session,
    (number, run): (i64, i32),
    (shard, seq): (ShardId, i64),
    query: Option<&DeliveryQuery>,
) -> Result<Option<(Delivery, Option<Timestamp>)>> {
    let row = session
        .first(
            &format!(
                "SELECT {COLUMNS} FROM delivery d {TABLES} WHERE d.destination = $1 \
                 AND d.run = $2 AND d.shard = $3 AND d.seq = $4"
            ),
            &[&number, &run, &i32::from(shard.0), &seq],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    if let Some(query) = query
        && !matches(&row, shared, query)?
    {
        return Ok(None);
    }
    Ok(Some((found(&row, shared)?, row::maybe_time(&row, 22)?)))
}

async fn written_at(session: &Session, time: Timestamp) -> Result<i64> {
    let row = session.one("SELECT zapbus_written_at($1)", &[&time.as_millis()]).await?;
    Ok(row.try_get(0)?)
}

/// Of one event: a look at each lane that may have had it.
async fn of_event(walk: &mut Walk<'_>, event: EventId) -> Result<()> {
    let Some((shard, seq)) = read::place_of(walk.session, event).await? else {
        return Ok(());
    };
    let row = walk
        .session
        .one(
            "SELECT instance FROM journal WHERE shard = $1 AND seq = $2",
            &[&i32::from(shard.0), &sql(seq)],
        )
        .await?;
    let instance = row::instance_id(&row, 0)?;
    for lane in lanes_of(walk.session, instance).await? {
        let place = (shard, sql(seq));
        let found = one(walk.shared, walk.session, lane, place, Some(walk.query)).await?;
        if let Some((delivery, _)) = found {
            let wanted = walk.query.destination.is_none_or(|id| delivery.id.lane.destination == id);
            if wanted {
                walk.page.deliveries.push(delivery);
            }
        }
    }
    walk.page.deliveries.sort_by_key(|delivery| std::cmp::Reverse(delivery.created_at));
    Ok(())
}

impl Engine {
    /// A page of the log, newest first.
    pub(crate) async fn search(
        &self,
        query: &DeliveryQuery,
        after: Option<u64>,
        limit: usize,
    ) -> Result<DeliveryPage, StoreError> {
        let session = self.session().await?;
        let mut walk = Walk {
            shared: &self.shared,
            session: &session,
            query,
            limit: limit.clamp(1, 1_000),
            started: Instant::now(),
            looked: 0,
            page: DeliveryPage { deliveries: Vec::new(), next: None },
        };
        let before = after.map_or(i64::MAX, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let of = match query.destination {
            None => None,
            Some(id) => match number_of(&session, id).await? {
                Some((number, _)) => Some(number),
                None => return Ok(walk.page),
            },
        };
        let shards = self.shared.shards.len() as i32;
        if let Some(event) = query.event {
            of_event(&mut walk, event).await?;
        } else if only_open(&query.status) {
            let of_shard = "generate_series(0, $4::int - 1) AS s(shard) CROSS JOIN LATERAL \
                 (SELECT d.* FROM delivery d WHERE d.shard = s.shard AND d.status IN (1, 2, 3) \
                  AND d.seq <= $1 AND ($5::bigint IS NULL OR d.destination = $5) \
                  ORDER BY d.seq DESC LIMIT $2::bigint + $3::bigint) d";
            walk.down("seq", of_shard, before, &[&shards, &of]).await?;
        } else if let Some(number) = of {
            // Each run in each shard is in order by itself.
            let of_lane = "(SELECT run, shard FROM lane WHERE destination = $5 \
                  ORDER BY run DESC LIMIT 100) l JOIN generate_series(0, $4::int - 1) AS s(shard) \
                 ON coalesce(l.shard, s.shard) = s.shard CROSS JOIN LATERAL \
                 (SELECT d.* FROM delivery d WHERE d.destination = $5 AND d.run = l.run \
                  AND d.shard = s.shard AND d.seq <= $1 ORDER BY d.seq DESC LIMIT $2::bigint + $3::bigint) d";
            walk.down("seq", of_lane, before, &[&shards, &number]).await?;
        } else {
            let mut before = before;
            if let Some(to) = query.to {
                before = before.min(written_at(&session, to).await?);
            }
            let lower = match query.from {
                Some(from) => written_at(&session, from).await?,
                None => 0,
            };
            let all = "delivery d WHERE d.n <= $1 AND d.n >= $4";
            walk.down("n", all, before, &[&lower]).await?;
        }
        Ok(walk.page)
    }

    /// One delivery with its attempts, oldest first.
    pub(crate) async fn delivery(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(Delivery, Vec<Attempt>)>, StoreError> {
        let session = self.session().await?;
        let Some((number, instance)) = number_of(&session, id.lane.destination).await? else {
            return Ok(None);
        };
        let shard = instance.map_or(id.shard, |instance| self.shared.shard_of(instance));
        let lane = (number, int(id.lane.run));
        let place = (shard, sql(id.seq));
        let Some((delivery, attempted_at)) = one(&self.shared, &session, lane, place, None).await?
        else {
            return Ok(None);
        };
        let rows = session
            .query(
                "SELECT number, at, code, latency_ms, error, excerpt, request_headers, \
                 response_headers FROM attempt \
                 WHERE destination = $1 AND run = $2 AND shard = $3 AND seq = $4 ORDER BY number",
                &[&lane.0, &lane.1, &i32::from(shard.0), &sql(id.seq)],
            )
            .await?;
        let read = |row: &Row| -> Result<Attempt> {
            let code: Option<i32> = row.try_get(2)?;
            Ok(Attempt {
                number: row::small(row.try_get(0)?),
                at: time(row, 1)?,
                code: code.and_then(|code| u16::try_from(code).ok()),
                latency_ms: u32::try_from(row.try_get::<_, i64>(3)?).unwrap_or(0),
                error: row.try_get(4)?,
                excerpt: Bytes::from(row.try_get::<_, Vec<u8>>(5)?),
                request_headers: serde_json::from_str(row.try_get(6)?)?,
                response_headers: serde_json::from_str(row.try_get(7)?)?,
            })
        };
        let mut attempts = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        // The one that was accepted is kept in the row alone.
        if let (State::Delivered, Some(at)) = (delivery.state, attempted_at) {
            attempts.push(Attempt {
                at,
                number: delivery.attempts,
                code: delivery.code,
                latency_ms: delivery.latency_ms.unwrap_or(0),
                error: None,
                excerpt: delivery.excerpt.clone(),
                request_headers: Vec::new(),
                response_headers: Vec::new(),
            });
        }
        Ok(Some((delivery, attempts)))
    }
}
