//! How far lanes are behind. Nothing here looks at more rows than it was told to.

use zapbus_event::{Position, Timestamp};

use super::{
    Engine, days, destinations, lanes,
    row::{Fixed, count, int, limit, maybe_time, position, sql},
};
use crate::{
    LaneId, LaneStats, Reader, ShardId, StoreError,
    fault::{Fault, Result},
    lag::{Behind, Counted, Holdings},
};

/// For an account with more instances in a shard than this, everybody's events count.
const MERGED_INSTANCES: usize = 16;

impl Engine {
    /// See [`crate::Store::behind`].
    pub(crate) async fn behind(
        &self,
        lane: LaneId,
        shard: ShardId,
        cursor: Position,
    ) -> Result<Behind, StoreError> {
        let session = self.session().await?;
        let known = destinations::existing(&self.shared, &session, lane.destination).await?;
        let shard = known.shard(shard);
        let at = i32::from(shard.0);
        let cap = i64::try_from(LaneStats::CAP).unwrap_or(i64::MAX);
        let held = session
            .one(
                "SELECT count(*), min(event_at) FROM (SELECT event_at FROM delivery \
                 WHERE destination = $1 AND run = $2 AND status IN (1, 2) AND shard = $3 \
                 LIMIT $4) d",
                &[&known.number, &int(lane.run), &at, &cap],
            )
            .await?;
        let instances = lanes::instances_of(&self.shared, &session, known.number, shard).await?;
        let ahead = if instances.len() > MERGED_INSTANCES {
            let since = days::since(&self.shared, &session, shard, cursor).await?;
            let next = session
                .first(
                    "SELECT received_at FROM journal WHERE shard = $1 AND seq > $2 \
                     AND received_at >= $3 ORDER BY seq LIMIT 1",
                    &[&at, &sql(cursor), &since],
                )
                .await?;
            next.map(|row| maybe_time(&row, 0)).transpose()?.flatten()
        } else {
            lanes::first_ahead(&self.shared, &session, known.number, shard, cursor).await?
        };
        let (rows, first): (i64, Option<Timestamp>) =
            (held.try_get(0).map_err(Fault::from)?, maybe_time(&held, 1)?);
        let oldest = [first, ahead].into_iter().flatten().min();
        Ok(Behind { oldest, held: count(rows) })
    }

    /// See [`crate::Store::count_between`].
    pub(crate) async fn count_between(
        &self,
        of: Reader,
        after: Position,
        upto: Position,
        most: usize,
    ) -> Result<Counted, StoreError> {
        let Reader::Instance(instance) = of else {
            return Ok(Counted { events: upto.0.saturating_sub(after.0), upto: upto.max(after) });
        };
        let session = self.session().await?;
        let shard = self.shared.shard_of(instance);
        let since = days::since(&self.shared, &session, shard, after).await?;
        let row = session
            .one(
                "SELECT count(*), max(seq) FROM (SELECT seq FROM journal WHERE instance = $1 \
                 AND seq > $2 AND seq <= $3 AND received_at >= $5 ORDER BY seq LIMIT $4) j",
                &[&Fixed(instance.to_bytes()), &sql(after), &sql(upto), &limit(most), &since],
            )
            .await?;
        let read = || -> Result<(i64, Option<i64>)> { Ok((row.try_get(0)?, row.try_get(1)?)) };
        let (events, last) = read()?;
        let events = count(events);
        let complete = usize::try_from(events).is_ok_and(|events| events < most);
        let upto = if complete { upto.max(after) } else { last.map_or(after, position) };
        Ok(Counted { events, upto })
    }

    /// See [`crate::Store::holdings`].
    pub(crate) async fn holdings(&self) -> Result<Holdings, StoreError> {
        let session = self.session().await?;
        let cap = i64::try_from(Holdings::CAP).unwrap_or(i64::MAX);
        let row = session
            .one(
                "SELECT (SELECT min(j.received_at) FROM shard s CROSS JOIN LATERAL \
                     (SELECT received_at FROM journal WHERE shard = s.shard \
                      ORDER BY seq LIMIT 1) j), \
                 (SELECT count(*) FROM (SELECT 1 FROM delivery WHERE status IN (1, 2) \
                  LIMIT $1) h), \
                 (SELECT count(*) FROM (SELECT 1 FROM delivery WHERE status = 3 LIMIT $1) d)",
                &[&cap],
            )
            .await?;
        let read = || -> Result<Holdings> {
            Ok(Holdings {
                oldest_event: maybe_time(&row, 0)?,
                held: count(row.try_get(1)?),
                dead: count(row.try_get(2)?),
            })
        };
        Ok(read()?)
    }
}
