//! What lanes ask: where they stand, what is due.

use tokio_postgres::Row;
use zapbus_event::{AccountId, DestinationId, InstanceId, Position, Timestamp};

use super::{
    Engine, Shared, days,
    destinations::{self, Known, cursor_in},
    pool::{Param, Session},
    row::{self, EVENT, Fixed, count, fixed, int, limit, position, sql, time},
    settle,
};
use crate::{
    ShardId, StoreError,
    delivery::{DueRow, HeldKey, LaneId, LaneStart, LaneStats, ShardStart},
    fault::{Fault, Result},
};

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// The columns [`due_row`] reads.
const DUE: &str = "d.shard, d.seq, coalesce(d.due, d.created_at), d.attempts, d.parts_done, d.key, \
     d.manual";

fn due_row(row: &Row, shared: &Shared, known: Known) -> Result<DueRow> {
    let stored: Option<i64> = row.try_get(7)?;
    let parts: i32 = row.try_get(4)?;
    Ok(DueRow {
        event: stored.map(|_| row::event(row, 7, &shared.kinds)).transpose()?,
        shard: known.shown(row.try_get(0)?),
        seq: position(row.try_get(1)?),
        due: time(row, 2)?,
        attempts: row::small(row.try_get(3)?),
        parts_done: u16::try_from(parts).unwrap_or(0),
        key: row.try_get::<_, i64>(5)?.cast_unsigned(),
        manual: row.try_get(6)?,
    })
}

/// The instances whose events a destination sees, in one shard.
pub(super) async fn instances_of(
    shared: &Shared,
    session: &Session,
    number: i64,
    shard: ShardId,
) -> Result<Vec<InstanceId>> {
    let found =
        session.first("SELECT account, instance FROM destination WHERE n = $1", &[&number]).await?;
    let Some(row) = found else {
        return Ok(Vec::new());
    };
    let instance: &[u8] = row.try_get(1)?;
    Ok(match <[u8; 16]>::try_from(instance) {
        Ok(instance) => vec![InstanceId::from_bytes(instance)],
        Err(_) => {
            let account = AccountId::from_bytes(fixed(&row, 0)?);
            let directory = shared.directory();
            let own = directory.of_account(account);
            own.filter(|instance| shared.shard_of(*instance) == shard).collect()
        }
    })
}

impl Engine {
    /// What a lane needs to start in a shard.
    pub(crate) async fn lane(
        &self,
        lane: LaneId,
        shard: ShardId,
    ) -> Result<Option<LaneStart>, StoreError> {
        let session = self.session().await?;
        self.shared.destinations().remove(&lane.destination);
        let Some(known) = destinations::known(&self.shared, &session, lane.destination).await?
        else {
            return Ok(None);
        };
        Ok(start_of(&self.shared, &session, known, lane.run, known.shard(shard)).await?)
    }

    /// What a lane needs to start in every shard it reads.
    pub(crate) async fn lane_starts(
        &self,
        lane: LaneId,
    ) -> Result<Option<Vec<ShardStart>>, StoreError> {
        let session = self.session().await?;
        self.shared.destinations().remove(&lane.destination);
        let Some(known) = destinations::known(&self.shared, &session, lane.destination).await?
        else {
            return Ok(None);
        };
        Ok(starts_of(&self.shared, &session, known, lane.run).await?)
    }

    pub(crate) async fn cursors(
        &self,
        lane: LaneId,
    ) -> Result<Vec<(ShardId, Position)>, StoreError> {
        let session = self.session().await?;
        let known = destinations::known(&self.shared, &session, lane.destination).await?;
        let Some(known) = known else {
            return Ok(Vec::new());
        };
        let rows = places(&self.shared, &session, known, lane.run).await?;
        let read = |row: &Row| -> Result<(ShardId, Position)> {
            Ok((shard_at(row, 0)?, position(row.try_get(1)?)))
        };
        Ok(rows.iter().map(read).collect::<Result<_>>()?)
    }

    pub(crate) async fn runs_with_rows(
        &self,
        destination: DestinationId,
    ) -> Result<Vec<u32>, StoreError> {
        let session = self.session().await?;
        let Some(known) = destinations::known(&self.shared, &session, destination).await? else {
            return Ok(Vec::new());
        };
        let rows = session
            .query(
                "SELECT DISTINCT run FROM delivery WHERE destination = $1 AND status IN (1, 2)",
                &[&known.number],
            )
            .await?;
        let read = |row: &Row| -> Result<u32> { Ok(row::small(row.try_get(0)?)) };
        Ok(rows.iter().map(read).collect::<Result<_>>()?)
    }

    pub(crate) async fn due(
        &self,
        lane: LaneId,
        until: Timestamp,
        rows: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        // No event is due before it is there: the days that are made ahead need not be looked into.
        // A day more, for clocks that differ.
        let newest = until.as_millis().saturating_add(DAY_MS);
        self.rows_of(
            lane,
            "d.status = 1 AND d.due <= $3 AND d.event_at <= $5 ORDER BY d.due, d.seq LIMIT $4",
            &[&until.as_millis(), &limit(rows), &newest],
        )
        .await
    }

    pub(crate) async fn waiting(
        &self,
        lane: LaneId,
        key: u64,
        rows: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        self.rows_of(
            lane,
            "d.key = $3 AND d.status IN (1, 2) AND d.status = 2 ORDER BY d.seq LIMIT $4",
            &[&key.cast_signed(), &limit(rows)],
        )
        .await
    }

    async fn rows_of(
        &self,
        lane: LaneId,
        condition: &str,
        more: &[Param<'_>],
    ) -> Result<Vec<DueRow>, StoreError> {
        let session = self.session().await?;
        let known = destinations::existing(&self.shared, &session, lane.destination).await?;
        let run = int(lane.run);
        let mut params: Vec<Param<'_>> = vec![&known.number, &run];
        params.extend(more);
        let order = condition.rsplit_once("ORDER BY").map_or("d.seq", |(_, order)| order);
        let order = order.split(" LIMIT").next().unwrap_or("d.seq");
        let rows = session
            .query(
                &format!(
                    "SELECT {DUE}, {EVENT} FROM (SELECT d.* FROM delivery d \
                     WHERE d.destination = $1 AND d.run = $2 AND {condition}) d \
                     LEFT JOIN LATERAL (SELECT * FROM journal j WHERE j.shard = d.shard \
                     AND j.seq = d.seq AND j.class = d.class AND j.received_at = d.event_at \
                     LIMIT 1) j ON true ORDER BY {order}"
                ),
                &params,
            )
            .await?;
        let read = |row: &Row| due_row(row, &self.shared, known);
        Ok(rows.iter().map(read).collect::<Result<_>>()?)
    }

    pub(crate) async fn next_due(&self, lane: LaneId) -> Result<Option<Timestamp>, StoreError> {
        let session = self.session().await?;
        let known = destinations::existing(&self.shared, &session, lane.destination).await?;
        Ok(next_due(&session, known.number, int(lane.run)).await?)
    }

    /// Steps from lane to lane through the index, so that 200,000 rows of one cost no more than one.
    pub(crate) async fn lanes_due(&self) -> Result<Vec<(LaneId, Timestamp)>, StoreError> {
        let session = self.session().await?;
        let rows = session
            .query(
                "WITH RECURSIVE step AS ( \
                     (SELECT destination, run, due FROM delivery WHERE status = 1 \
                      ORDER BY destination, run, due LIMIT 1) \
                     UNION ALL \
                     SELECT n.destination, n.run, n.due FROM step s CROSS JOIN LATERAL \
                     (SELECT destination, run, due FROM delivery WHERE status = 1 \
                      AND (destination, run) > (s.destination, s.run) \
                      ORDER BY destination, run, due LIMIT 1) n) \
                 SELECT d.id, s.run, s.due FROM step s \
                 JOIN destination d ON d.n = s.destination AND d.deleted_at IS NULL \
                 UNION ALL \
                 SELECT d.id, w.run, 0 FROM (SELECT DISTINCT destination, run FROM delivery \
                     WHERE status IN (1, 2) AND status = 2) w \
                 JOIN destination d ON d.n = w.destination AND d.deleted_at IS NULL",
                &[],
            )
            .await?;
        let read = |row: &Row| -> Result<(LaneId, Timestamp)> {
            let destination = DestinationId::from_bytes(fixed(row, 0)?);
            Ok((LaneId { destination, run: row::small(row.try_get(1)?) }, time(row, 2)?))
        };
        Ok(rows.iter().map(read).collect::<Result<_>>()?)
    }

    pub(crate) async fn lane_stats(
        &self,
        lane: LaneId,
        shard: ShardId,
    ) -> Result<LaneStats, StoreError> {
        let session = self.session().await?;
        let known = destinations::existing(&self.shared, &session, lane.destination).await?;
        Ok(stats(&self.shared, &session, known, lane.run, known.shard(shard)).await?)
    }
}

async fn next_due(session: &Session, number: i64, run: i32) -> Result<Option<Timestamp>> {
    let found = session
        .first(
            "SELECT due FROM delivery WHERE destination = $1 AND run = $2 AND status = 1 \
             ORDER BY due LIMIT 1",
            &[&number, &run],
        )
        .await?;
    found.map(|row| time(&row, 0)).transpose()
}

fn shard_at(row: &Row, at: usize) -> Result<ShardId> {
    Ok(ShardId(u16::try_from(row.try_get::<_, i32>(at)?).unwrap_or(0)))
}

/// The shards a lane reads, in order, with where it stands in each, where it ends there, and its
/// health. None: there is no such lane.
async fn places(shared: &Shared, session: &Session, known: Known, run: u32) -> Result<Vec<Row>> {
    let shards: Vec<i32> = if known.global {
        shared.all().map(|shard| i32::from(shard.0)).collect()
    } else {
        vec![i32::from(known.home.0)]
    };
    session
        .query(
            &format!(
                "SELECT s.shard, {}, coalesce(l.tos[s.shard + 1], l.to_seq), \
                 l.probing_since, l.probes, l.next_probe \
                 FROM lane l, unnest($3::int[]) WITH ORDINALITY AS s(shard, n) \
                 WHERE l.destination = $1 AND l.run = $2 ORDER BY s.n",
                cursor_in("s.shard")
            ),
            &[&known.number, &int(run), &shards],
        )
        .await
}

/// [`start_of`] in every shard, with the same few questions however many there are.
async fn starts_of(
    shared: &Shared,
    session: &Session,
    known: Known,
    run: u32,
) -> Result<Option<Vec<ShardStart>>> {
    let rows = places(shared, session, known, run).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let next_due = next_due(session, known.number, int(run)).await?;
    let mut starts = Vec::with_capacity(rows.len());
    for row in &rows {
        let end: Option<i64> = row.try_get(2)?;
        starts.push(ShardStart {
            shard: shard_at(row, 0)?,
            end: end.map(position),
            start: LaneStart {
                cursor: position(row.try_get(1)?),
                health: settle::health(row, 3)?,
                beyond: Vec::new(),
                held: Vec::new(),
                next_due,
            },
        });
    }
    let shards: Vec<i32> = starts.iter().map(|start| i32::from(start.shard.0)).collect();
    let cursors: Vec<i64> = starts.iter().map(|start| sql(start.start.cursor)).collect();
    let beyond = session
        .query(
            "SELECT d.shard, d.seq FROM unnest($3::int[], $4::bigint[]) AS s(shard, cursor) \
             JOIN delivery d ON d.destination = $1 AND d.run = $2 AND d.shard = s.shard \
             AND d.seq > s.cursor ORDER BY d.shard, d.seq",
            &[&known.number, &int(run), &shards, &cursors],
        )
        .await?;
    for row in &beyond {
        let shard = shard_at(row, 0)?;
        if let Some(found) = starts.iter_mut().find(|start| start.shard == shard) {
            found.start.beyond.push(position(row.try_get(1)?));
        }
    }
    let held = session
        .query(
            "SELECT shard, key, min(seq), count(*), count(*) FILTER (WHERE status = 2) \
             FROM delivery WHERE destination = $1 AND run = $2 AND status IN (1, 2) \
             AND NOT manual GROUP BY shard, key",
            &[&known.number, &int(run)],
        )
        .await?;
    for row in &held {
        let shard = shard_at(row, 0)?;
        if let Some(found) = starts.iter_mut().find(|start| start.shard == shard) {
            found.start.held.push(HeldKey {
                key: row.try_get::<_, i64>(1)?.cast_unsigned(),
                first: position(row.try_get(2)?),
                rows: count(row.try_get(3)?),
                waiting: count(row.try_get(4)?),
            });
        }
    }
    Ok(Some(starts))
}

async fn start_of(
    shared: &Shared,
    session: &Session,
    known: Known,
    run: u32,
    shard: ShardId,
) -> Result<Option<LaneStart>> {
    let (run, at) = (int(run), i32::from(shard.0));
    let found = session
        .first(
            &format!(
                "SELECT {}, l.probing_since, l.probes, l.next_probe FROM lane l \
                 WHERE l.destination = $1 AND l.run = $2",
                cursor_in("$3::int")
            ),
            &[&known.number, &run, &at],
        )
        .await?;
    let Some(row) = found else {
        return Ok(None);
    };
    let cursor: i64 = row.try_get(0)?;
    // What hangs on an event lies in its day, or in a later one.
    let since = days::since(shared, session, shard, position(cursor)).await?;
    let rows = session
        .query(
            "SELECT seq FROM delivery WHERE destination = $1 AND run = $2 AND shard = $3 \
             AND seq > $4 AND event_at >= $5 ORDER BY seq",
            &[&known.number, &run, &at, &cursor, &since],
        )
        .await?;
    let beyond = rows.iter().map(|row| Ok(position(row.try_get(0)?))).collect::<Result<_>>()?;
    // A key lies in one shard.
    let rows = session
        .query(
            "SELECT key, min(seq), count(*), count(*) FILTER (WHERE status = 2) FROM delivery \
             WHERE destination = $1 AND run = $2 AND status IN (1, 2) AND NOT manual \
             AND shard = $3 GROUP BY key",
            &[&known.number, &run, &at],
        )
        .await?;
    let held = |row: &Row| -> Result<HeldKey> {
        Ok(HeldKey {
            key: row.try_get::<_, i64>(0)?.cast_unsigned(),
            first: position(row.try_get(1)?),
            rows: count(row.try_get(2)?),
            waiting: count(row.try_get(3)?),
        })
    };
    Ok(Some(LaneStart {
        cursor: position(cursor),
        health: settle::health(&row, 1)?,
        beyond,
        held: rows.iter().map(held).collect::<Result<_>>()?,
        next_due: next_due(session, known.number, run).await?,
    }))
}

async fn stats(
    shared: &Shared,
    session: &Session,
    known: Known,
    run: u32,
    shard: ShardId,
) -> Result<LaneStats> {
    let (run, at) = (int(run), i32::from(shard.0));
    let cap = i64::try_from(LaneStats::CAP).unwrap_or(i64::MAX);
    let of = "FROM delivery WHERE destination = $1 AND run = $2";
    let found = session
        .first(
            &format!(
                "SELECT {}, \
                 (SELECT count(*) FROM (SELECT 1 {of} AND status = 1 LIMIT $4) x), \
                 (SELECT count(*) FROM (SELECT 1 {of} AND status IN (1, 2) AND status = 2 \
                  LIMIT $4) x), \
                 (SELECT count(*) FROM (SELECT 1 {of} AND status = 3 LIMIT $4) x), \
                 (SELECT min(event_at) {of} AND status IN (1, 2)) \
                 FROM lane l WHERE l.destination = $1 AND l.run = $2",
                cursor_in("$3::int")
            ),
            &[&known.number, &run, &at, &cap],
        )
        .await?;
    let row = found.ok_or_else(|| Fault::not_found("run"))?;
    let cursor = position(row.try_get(0)?);
    let held = row::maybe_time(&row, 4)?;
    let ahead = first_ahead(shared, session, known.number, shard, cursor).await?;
    let oldest_unsettled = match (held, ahead) {
        (Some(held), Some(ahead)) => Some(held.min(ahead)),
        (held, ahead) => held.or(ahead),
    };
    let number = |at: usize| -> Result<u64> { Ok(count(row.try_get(at)?)) };
    Ok(LaneStats {
        cursor,
        retrying: number(1)?,
        waiting: number(2)?,
        dead: number(3)?,
        oldest_unsettled,
    })
}

/// When the first stored event beyond a cursor was received that belongs to the destination's
/// instance or account (whether its filter wants it or not).
pub(super) async fn first_ahead(
    shared: &Shared,
    session: &Session,
    number: i64,
    shard: ShardId,
    cursor: Position,
) -> Result<Option<Timestamp>> {
    let instances: Vec<Fixed<16>> = instances_of(shared, session, number, shard)
        .await?
        .into_iter()
        .map(|instance| Fixed(instance.to_bytes()))
        .collect();
    let since = days::since(shared, session, shard, cursor).await?;
    let found = session
        .one(
            "SELECT min(j.received_at) FROM unnest($1::bytea[]) AS i(id) CROSS JOIN LATERAL \
             (SELECT received_at FROM journal WHERE instance = i.id AND seq > $2 \
              AND received_at >= $3 ORDER BY seq LIMIT 1) j",
            &[&instances, &sql(cursor), &since],
        )
        .await?;
    row::maybe_time(&found, 0)
}
