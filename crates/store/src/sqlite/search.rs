//! Searching the delivery log.
//!
//! No index per question: a destination's rows and the open ones are found through the indexes the
//! lanes need anyway, everything else by walking the log backwards. A page stops after a while
//! whether it is full or not, so that no search holds up anybody.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params, params_from_iter, types::Value};
use tokio::time::Instant;
use zapbus_event::{AccountId, DestinationId, EventId, InstanceId, Position, Timestamp};

use super::{
    View,
    fault::Result,
    read,
    row::{self, count, position, sql},
    settle::{self, status_number},
};
use crate::{
    ShardId,
    delivery::{
        Attempt, Delivery, DeliveryId, DeliveryPage, DeliveryQuery, EventSummary, LaneId, State,
        Status,
    },
};

/// Rows one page looks at.
const SCAN: usize = 5_000;
/// Time one page takes.
const TIME: Duration = Duration::from_millis(100);

/// The columns of a row with its destination and event.
const COLUMNS: &str = "d.n, d.destination, d.run, d.seq, d.attempts, d.code, d.latency_ms, \
     d.created_at, d.updated_at, d.error, d.excerpt, \
     d.status, d.reason, d.due, d.upto, d.lost, \
     t.id, t.account, j.id, j.instance, j.kind, j.head, d.attempted_at, t.instance";
const TABLES: &str =
    "JOIN destination t ON t.n = d.destination LEFT JOIN journal j ON j.seq = d.seq";

/// A row of [`COLUMNS`].
struct Found {
    n: i64,
    destination: i64,
    attempted_at: Option<i64>,
    delivery: Delivery,
}

fn found(row: &Row<'_>, view: View<'_>) -> Result<Found> {
    let event: Option<[u8; 16]> = row.get(18)?;
    let event = match event {
        Some(id) => Some(EventSummary {
            id: EventId::from_bytes(id),
            kind: view.shared.kinds.kind(row.get(20)?),
            instance: row::instance_id(row, 19)?,
        }),
        None => None,
    };
    let lane = LaneId { destination: DestinationId::from_bytes(row.get(16)?), run: row.get(2)? };
    let excerpt: Option<Vec<u8>> = row.get(10)?;
    Ok(Found {
        n: row.get(0)?,
        destination: row.get(1)?,
        attempted_at: row.get(22)?,
        delivery: Delivery {
            id: DeliveryId { lane, shard: ShardId::default(), seq: position(row.get(3)?) },
            event,
            state: settle::state(row, 11)?,
            attempts: row.get(4)?,
            code: row.get(5)?,
            latency_ms: row.get(6)?,
            created_at: Timestamp::from_millis(row.get(7)?),
            updated_at: Timestamp::from_millis(row.get(8)?),
            error: row.get(9)?,
            excerpt: Bytes::from(excerpt.unwrap_or_default()),
        },
    })
}

fn matches(row: &Row<'_>, view: View<'_>, query: &DeliveryQuery) -> Result<bool> {
    if let Some(account) = query.account
        && AccountId::from_bytes(row.get(17)?) != account
    {
        return Ok(false);
    }
    let status: i64 = row.get(11)?;
    if !query.status.is_empty()
        && !query.status.iter().any(|wanted| status_number(*wanted) == status)
    {
        return Ok(false);
    }
    if let Some(code) = query.code
        && row.get::<_, Option<u16>>(5)? != Some(code)
    {
        return Ok(false);
    }
    let written = Timestamp::from_millis(row.get(7)?);
    if query.from.is_some_and(|from| written < from) || query.to.is_some_and(|to| written >= to) {
        return Ok(false);
    }
    let stored: Option<[u8; 16]> = row.get(18)?;
    if let Some(instance) = query.instance {
        // A row whose event is gone still belongs to its destination's instance.
        let own = match stored {
            Some(_) => row.get::<_, [u8; 16]>(19)?.to_vec(),
            None => row.get(23)?,
        };
        if own != instance.to_bytes() {
            return Ok(false);
        }
    }
    if let Some(filter) = &query.types {
        if stored.is_none() {
            return Ok(false);
        }
        let (kind, facet) = row::kind_and_facet(row, 20, &view.shared.kinds)?;
        if !filter.matches(kind, facet.as_deref()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A page of the log, newest first.
pub(crate) fn search(
    view: View<'_>,
    query: &DeliveryQuery,
    after: Option<u64>,
    limit: usize,
) -> Result<DeliveryPage> {
    let limit = limit.clamp(1, 1_000);
    let upto = after.map_or(i64::MAX, |after| i64::try_from(after).unwrap_or(i64::MAX));
    let snapshot = view.conn.unchecked_transaction()?;
    let page = if let Some(event) = query.event {
        of_event(view, query, event)?
    } else if only_open(&query.status) {
        open(view, query, upto, limit)?
    } else if let Some(destination) = query.destination {
        of_destination(view, query, destination, upto, limit)?
    } else {
        walk(view, query, upto, limit)?
    };
    snapshot.finish()?;
    Ok(page)
}

/// Whether the partial index of open rows has all that is asked for.
fn only_open(status: &[Status]) -> bool {
    !status.is_empty()
        && status
            .iter()
            .all(|status| matches!(status, Status::Retrying | Status::Waiting | Status::Dead))
}

/// Of one event: a look at each lane that may have had it.
fn of_event(view: View<'_>, query: &DeliveryQuery, event: EventId) -> Result<DeliveryPage> {
    let mut page = DeliveryPage { deliveries: Vec::new(), next: None };
    let Some(event) = read::event(view, event)? else {
        return Ok(page);
    };
    for (number, run) in lanes_of(view, event.instance)? {
        if let Some(found) = one(view, number, run, event.seq, Some(query))? {
            let wanted =
                query.destination.is_none_or(|id| found.delivery.id.lane.destination == id);
            if wanted {
                page.deliveries.push(found.delivery);
            }
        }
    }
    page.deliveries.sort_by_key(|delivery| std::cmp::Reverse(delivery.created_at));
    Ok(page)
}

/// The lanes that see an instance's events, those of deleted destinations included.
pub(crate) fn lanes_of(view: View<'_>, instance: InstanceId) -> Result<Vec<(i64, u32)>> {
    let Some(account) = view.shared.directory().account_of(instance) else {
        return Ok(Vec::new());
    };
    let mut statement = view.conn.prepare_cached(
        "SELECT l.destination, l.run FROM destination d JOIN lane l ON l.destination = d.n \
         WHERE d.account = ?1 AND d.instance IN (?2, x'')",
    )?;
    let lanes = statement.query_map(params![account.to_bytes(), instance.to_bytes()], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(lanes.collect::<Result<_, _>>()?)
}

fn one(
    view: View<'_>,
    number: i64,
    run: u32,
    seq: Position,
    query: Option<&DeliveryQuery>,
) -> Result<Option<Found>> {
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM delivery d {TABLES} \
         WHERE d.destination = ?1 AND d.run = ?2 AND d.seq = ?3"
    ))?;
    let mut rows = statement.query(params![number, run, sql(seq)])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    match query {
        Some(query) if !matches(row, view, query)? => Ok(None),
        _ => Ok(Some(found(row, view)?)),
    }
}

/// Pages by position: all rows of one position are on one page.
struct ByPosition<'a> {
    query: &'a DeliveryQuery,
    limit: usize,
    started: Instant,
    looked: usize,
    last: i64,
    page: DeliveryPage,
}

impl<'a> ByPosition<'a> {
    fn new(query: &'a DeliveryQuery, limit: usize) -> Self {
        Self {
            query,
            limit,
            started: Instant::now(),
            looked: 0,
            last: i64::MAX,
            page: DeliveryPage { deliveries: Vec::new(), next: None },
        }
    }

    /// Takes the row if it matches, or says that the page ends before it.
    fn take(&mut self, view: View<'_>, row: &Row<'_>) -> Result<bool> {
        let seq: i64 = row.get(3)?;
        let full = self.page.deliveries.len() >= self.limit
            || self.looked >= SCAN
            || (self.looked % 256 == 255 && self.started.elapsed() > TIME);
        if full && seq != self.last {
            self.page.next = Some(count(self.last));
            return Ok(false);
        }
        self.looked += 1;
        self.last = seq;
        if matches(row, view, self.query)? {
            self.page.deliveries.push(found(row, view)?.delivery);
        }
        Ok(true)
    }
}

/// Of one destination, newest events first.
fn of_destination(
    view: View<'_>,
    query: &DeliveryQuery,
    destination: DestinationId,
    before: i64,
    limit: usize,
) -> Result<DeliveryPage> {
    let mut page = ByPosition::new(query, limit);
    let Some(number) = number_of(view, destination)? else {
        return Ok(page.page);
    };
    // One branch per run, each already in order: SQLite merges them.
    let mut runs = view.conn.prepare_cached(
        "SELECT run FROM lane WHERE destination = ?1 ORDER BY run DESC LIMIT 100",
    )?;
    let runs: Vec<u32> = runs.query_map([number], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let branches: Vec<String> = runs
        .iter()
        .map(|run| {
            format!(
                "SELECT {COLUMNS} FROM delivery d INDEXED BY delivery_event {TABLES} \
                 WHERE d.destination = ?1 AND d.run = {run} AND d.seq < ?2"
            )
        })
        .collect();
    if branches.is_empty() {
        return Ok(page.page);
    }
    let mut statement =
        view.conn.prepare(&format!("{} ORDER BY 4 DESC", branches.join(" UNION ALL ")))?;
    let mut rows = statement.query(params![number, before])?;
    while let Some(row) = rows.next()? {
        if !page.take(view, row)? {
            break;
        }
    }
    Ok(page.page)
}

/// Open rows of one or of all destinations, newest events first. The index alone tells whose they
/// are.
fn open(view: View<'_>, query: &DeliveryQuery, before: i64, limit: usize) -> Result<DeliveryPage> {
    let mut page = ByPosition::new(query, limit);
    let destination = match query.destination {
        None => None,
        Some(id) => match number_of(view, id)? {
            Some(number) => Some(number),
            None => return Ok(page.page),
        },
    };
    let whose = if destination.is_some() { "AND d.destination = ?2" } else { "AND ?2 IS NULL" };
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM delivery d INDEXED BY delivery_open {TABLES} \
         WHERE d.status BETWEEN 1 AND 3 AND d.seq < ?1 {whose} ORDER BY d.seq DESC"
    ))?;
    let mut rows = statement.query(params![before, destination])?;
    while let Some(row) = rows.next()? {
        if !page.take(view, row)? {
            break;
        }
    }
    Ok(page.page)
}

/// The number of a destination, deleted or not.
fn number_of(view: View<'_>, id: DestinationId) -> Result<Option<i64>> {
    Ok(view
        .conn
        .prepare_cached("SELECT n FROM destination WHERE id = ?1")?
        .query_row([id.to_bytes()], |row| row.get(0))
        .optional()?)
}

/// Everything else: the log backwards, between two times.
fn walk(view: View<'_>, query: &DeliveryQuery, before: i64, limit: usize) -> Result<DeliveryPage> {
    let upper = query.to.map(|to| first_written_at(view, to)).transpose()?;
    let lower = query.from.map(|from| first_written_at(view, from)).transpose()?;
    let started = Instant::now();
    let mut page = DeliveryPage { deliveries: Vec::new(), next: None };
    let mut conditions = vec!["d.n < ?1".to_owned()];
    let mut values = vec![Value::Integer(before.min(upper.unwrap_or(i64::MAX)))];
    if let Some(lower) = lower {
        conditions.push("d.n >= ?2".to_owned());
        values.push(Value::Integer(lower));
    }
    let mut statement = view.conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM delivery d {TABLES} WHERE {} ORDER BY d.n DESC",
        conditions.join(" AND ")
    ))?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut looked = 0;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let slow = looked % 256 == 255 && started.elapsed() > TIME;
        if page.deliveries.len() >= limit || looked >= SCAN || slow {
            page.next = last.map(count);
            break;
        }
        looked += 1;
        if matches(row, view, query)? {
            page.deliveries.push(found(row, view)?.delivery);
        }
        last = Some(row.get(0)?);
    }
    Ok(page)
}

/// The first row of the log written at or after `time`: rows are written in order of time.
fn first_written_at(view: View<'_>, time: Timestamp) -> Result<i64> {
    let (mut low, last): (i64, i64) = view.conn.query_row(
        "SELECT ifnull((SELECT n FROM delivery ORDER BY n LIMIT 1), 0), \
                ifnull((SELECT n FROM delivery ORDER BY n DESC LIMIT 1), -1)",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut probe = view
        .conn
        .prepare_cached("SELECT n, created_at FROM delivery WHERE n >= ?1 ORDER BY n LIMIT 1")?;
    let mut high = last + 1;
    while low < high {
        let middle = low + (high - low) / 2;
        let (n, written): (i64, i64) =
            probe.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if written >= time.as_millis() {
            high = middle;
        } else {
            low = n + 1;
        }
    }
    Ok(low)
}

/// One delivery with its attempts, oldest first.
pub(crate) fn delivery(view: View<'_>, id: DeliveryId) -> Result<Option<(Delivery, Vec<Attempt>)>> {
    let Some(number) = number_of(view, id.lane.destination)? else {
        return Ok(None);
    };
    let Some(found) = one(view, number, id.lane.run, id.seq, None)? else {
        return Ok(None);
    };
    let mut statement = view.conn.prepare_cached(
        "SELECT number, at, code, latency_ms, error, excerpt, request_headers, response_headers \
         FROM attempt WHERE destination = ?1 AND run = ?2 AND seq = ?3 ORDER BY number",
    )?;
    let mut rows = statement.query(params![found.destination, id.lane.run, sql(id.seq)])?;
    let mut attempts = Vec::new();
    while let Some(row) = rows.next()? {
        attempts.push(Attempt {
            number: row.get(0)?,
            at: Timestamp::from_millis(row.get(1)?),
            code: row.get(2)?,
            latency_ms: row.get(3)?,
            error: row.get(4)?,
            excerpt: Bytes::from(row.get::<_, Vec<u8>>(5)?),
            request_headers: serde_json::from_str(&row.get::<_, String>(6)?)?,
            response_headers: serde_json::from_str(&row.get::<_, String>(7)?)?,
        });
    }
    // The one that was accepted is kept in the row alone.
    if let (State::Delivered, Some(at)) = (found.delivery.state, found.attempted_at) {
        attempts.push(Attempt {
            at: Timestamp::from_millis(at),
            number: found.delivery.attempts,
            code: found.delivery.code,
            latency_ms: found.delivery.latency_ms.unwrap_or(0),
            error: None,
            excerpt: found.delivery.excerpt.clone(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        });
    }
    debug_assert!(found.n > 0);
    Ok(Some((found.delivery, attempts)))
}
