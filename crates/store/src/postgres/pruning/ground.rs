//! One step of pruning, in one transaction.

use std::{collections::HashSet, future::Future, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use zapbus_event::{AccountId, AuditId, DestinationId, InstanceId, Position, Timestamp};

use super::remove::{binaries_of, delete_events};
use crate::{
    ShardId,
    delivery::Row,
    encoding::filter_of,
    fault::Result,
    journal::NewEvent,
    metrics::Metrics,
    postgres::{
        Tx, destinations,
        destinations::cursor_in,
        read,
        row::{self, Fixed, count, fixed, int, is_ephemeral, limit},
        settle::{ROWS, RowColumns},
    },
    pruning::{Ages, Doomed, Glimpse, Ground, Lane, Left, Line, OpenRow, Pruner, Reach},
    registry::RESERVED_INSTANCE,
    retention::Pruned,
    subscriber::REMEMBERED,
};

/// Deleted destinations that go in one step.
const FORGOTTEN: i64 = 20;
/// What a row of the journal takes besides its texts, with its place in the indexes.
const EVENT: i64 = 120;
/// The same of the log.
const DELIVERY: i64 = 150;

/// See [`Ground`].
pub(super) struct Step {
    tx: Tx,
    shard: ShardId,
    pruner: Pruner,
    runtime: Handle,
    reach: Option<Reach>,
    head: Option<Position>,
    gone: HashSet<Position>,
    /// Bytes in use, as far as it was asked: less what has gone since.
    used: Option<u64>,
}

impl Step {
    pub(super) fn new(
        tx: Tx,
        shard: ShardId,
        (pruner, reach): (Pruner, Option<Reach>),
        runtime: Handle,
    ) -> Self {
        Self { tx, shard, pruner, runtime, reach, head: None, gone: HashSet::new(), used: None }
    }

    pub(super) fn into_parts(self) -> (Tx, Pruner, HashSet<Position>) {
        (self.tx, self.pruner, self.gone)
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn number(&self) -> i32 {
        i32::from(self.shard.0)
    }
}

impl Ground for Step {
    fn pruner(&mut self) -> &mut Pruner {
        &mut self.pruner
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.tx.shared.metrics)
    }

    fn now(&self) -> Timestamp {
        self.tx.now
    }

    fn clock(&self) -> Timestamp {
        self.tx.now
    }

    fn reach(&self) -> Option<Reach> {
        self.reach
    }

    fn head(&mut self) -> Position {
        let known = self.tx.shared.shard(self.shard).followed.known_head();
        *self.head.get_or_insert(known)
    }

    fn retentions(&self) -> Vec<(InstanceId, Duration)> {
        let shared = &self.tx.shared;
        let directory = shared.directory();
        directory
            .retentions()
            .filter(|(instance, _)| shared.shard_of(*instance) == self.shard)
            .collect()
    }

    fn account_of(&self, instance: InstanceId) -> Option<AccountId> {
        self.tx.shared.directory().account_of(instance)
    }

    fn takes(&self, instance: InstanceId) -> bool {
        self.tx.shared.directory().takes(instance)
    }

    fn position_at(&mut self, time: Timestamp) -> Result<Position> {
        self.wait(read::position_at(&self.tx.session, self.shard, time))
    }

    fn oldest(&mut self) -> Result<i64> {
        let found = self.wait(self.tx.session.first(
            "SELECT seq FROM journal WHERE shard = $1 ORDER BY seq LIMIT 1",
            &[&self.number()],
        ))?;
        Ok(found.map(|row| row.try_get(0)).transpose()?.unwrap_or(i64::MAX))
    }

    fn next_events(
        &mut self,
        of: Option<InstanceId>,
        at: i64,
        upto: i64,
        wanted: usize,
    ) -> Result<Vec<Doomed>> {
        let columns = "SELECT seq, instance, received_at, flags FROM journal";
        let order = "seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4";
        let rows = match of {
            Some(instance) => self.wait(self.tx.session.query(
                &format!("{columns} WHERE instance = $1 AND {order}"),
                &[&Fixed(instance.to_bytes()), &at, &upto, &limit(wanted)],
            )),
            None => self.wait(self.tx.session.query(
                &format!("{columns} WHERE shard = $1 AND {order}"),
                &[&self.number(), &at, &upto, &limit(wanted)],
            )),
        }?;
        rows.iter()
            .map(|row| {
                Ok(Doomed {
                    seq: row.try_get(0)?,
                    instance: row::instance_id(row, 1)?,
                    received_at: row.try_get(2)?,
                    flags: i64::from(row.try_get::<_, i32>(3)?),
                })
            })
            .collect()
    }

    fn open_rows(&mut self, first: i64, last: i64) -> Result<Vec<OpenRow>> {
        let rows = self.wait(self.tx.session.query(
            "SELECT seq, status, created_at, updated_at, manual FROM delivery \
             WHERE shard = $1 AND status IN (1, 2, 3) AND seq BETWEEN $2 AND $3",
            &[&self.number(), &first, &last],
        ))?;
        rows.iter()
            .map(|row| {
                Ok(OpenRow {
                    seq: row.try_get(0)?,
                    dead: row.try_get::<_, i32>(1)? == 3,
                    created_at: row.try_get(2)?,
                    updated_at: row.try_get(3)?,
                    manual: row.try_get(4)?,
                })
            })
            .collect()
    }

    fn owed_stretches(&mut self, instance: InstanceId) -> Result<Vec<(i64, i64)>> {
        let Some(account) = self.account_of(instance) else {
            return Ok(Vec::new());
        };
        let rows = self.wait(self.tx.session.query(
            &format!(
                "SELECT {}, coalesce(l.tos[$3::int + 1], l.to_seq, 9223372036854775807) \
                 FROM destination d JOIN lane l ON l.destination = d.n \
                 WHERE d.account = $1 AND d.instance IN ($2, ''::bytea) AND d.deleted_at IS NULL \
                 AND l.state IN ('running', 'paused')",
                cursor_in("$3::int")
            ),
            &[&Fixed(account.to_bytes()), &Fixed(instance.to_bytes()), &self.number()],
        ))?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    fn weigh(&mut self, page: &[Doomed]) -> Result<Vec<u64>> {
        let seqs: Vec<i64> = page.iter().map(|event| event.seq).collect();
        let rows = self.wait(self.tx.session.query(
            "SELECT (octet_length(j.head) + octet_length(j.data) \
                 + coalesce(octet_length(j.raw), 0) + $3::bigint \
                 + coalesce((SELECT sum($4::bigint + coalesce(octet_length(d.excerpt), 0)) \
                     FROM delivery d WHERE d.shard = $1 AND d.seq = u.seq \
                     AND d.event_at = j.received_at), 0))::bigint \
             FROM unnest($2::bigint[]) WITH ORDINALITY AS u(seq, n) \
             JOIN journal j ON j.shard = $1 AND j.seq = u.seq ORDER BY u.n",
            &[&self.number(), &seqs, &EVENT, &DELIVERY],
        ))?;
        let mut weights: Vec<u64> =
            rows.iter().map(|row| Ok(count(row.try_get(0)?))).collect::<Result<_>>()?;
        weights.resize(page.len(), 0);
        for (at, bytes) in self.wait(binaries_of(&self.tx, self.shard, page))? {
            weights[at] += bytes;
        }
        Ok(weights)
    }

    fn delete_events(&mut self, doomed: &[Doomed], pruned: &mut Pruned) -> Result<()> {
        if doomed.is_empty() {
            return Ok(());
        }
        if let Some(used) = self.used {
            let freed: u64 = self.weigh(doomed)?.into_iter().sum();
            self.used = Some(used.saturating_sub(freed));
        }
        let gone =
            self.runtime.block_on(delete_events(&mut self.tx, self.shard, doomed, pruned))?;
        self.gone.extend(gone);
        Ok(())
    }

    fn used_bytes(&mut self, bound: u64) -> Result<u64> {
        if let Some(used) = self.used {
            return Ok(used);
        }
        let used = self.wait(super::used_bytes(&self.tx.session, bound))?;
        self.used = Some(used);
        Ok(used)
    }

    fn free_body(&mut self, upto: i64) -> Result<bool> {
        let gone = self.wait(self.tx.session.first(
            "DELETE FROM body WHERE (sha256, instance) IN (SELECT sha256, instance FROM body \
             WHERE shard = $1 AND received_at <= $2 ORDER BY received_at, n LIMIT 1) \
             RETURNING octet_length(body)::bigint + 80",
            &[&self.number(), &upto],
        ))?;
        let Some(row) = gone else {
            return Ok(false);
        };
        let freed = count(row.try_get(0)?);
        self.used = self.used.map(|used| used.saturating_sub(freed));
        Ok(true)
    }

    fn bodies(
        &mut self,
        after: (i64, i64),
        before: i64,
        wanted: usize,
    ) -> Result<Vec<(i64, InstanceId, i64)>> {
        let rows = self.wait(self.tx.session.query(
            "SELECT n, instance, received_at FROM body \
             WHERE shard = $1 AND (received_at, n) > ($2, $3) AND received_at < $4 \
             ORDER BY received_at, n LIMIT $5",
            &[&self.number(), &after.0, &after.1, &before, &limit(wanted)],
        ))?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row::instance_id(row, 1)?, row.try_get(2)?)))
            .collect()
    }

    fn delete_body(&mut self, number: i64) -> Result<()> {
        self.wait(
            self.tx.session.execute(
                "DELETE FROM body WHERE n = $1 AND shard = $2",
                &[&number, &self.number()],
            ),
        )?;
        Ok(())
    }

    fn lines(&mut self, after: i64, wanted: usize) -> Result<Vec<Line>> {
        let rows = self.wait(self.tx.session.query(
            "SELECT n, destination, run, seq, status, created_at, updated_at FROM delivery \
             WHERE shard = $1 AND n > $2 ORDER BY n LIMIT $3",
            &[&self.number(), &after, &limit(wanted)],
        ))?;
        rows.iter()
            .map(|row| {
                Ok(Line {
                    n: row.try_get(0)?,
                    destination: row.try_get(1)?,
                    run: i64::from(row.try_get::<_, i32>(2)?),
                    seq: row.try_get(3)?,
                    status: i64::from(row.try_get::<_, i32>(4)?),
                    created_at: row.try_get(5)?,
                    updated_at: row.try_get(6)?,
                })
            })
            .collect()
    }

    fn cursor(&mut self, destination: i64, run: i64) -> Result<i64> {
        let found = self.wait(self.tx.session.first(
            &format!(
                "SELECT {} FROM lane l JOIN destination d ON d.n = l.destination \
                 WHERE l.destination = $1 AND l.run = $2::bigint AND d.deleted_at IS NULL \
                 AND l.state IN ('running', 'paused')",
                cursor_in("$3::int")
            ),
            &[&destination, &run, &self.number()],
        ))?;
        Ok(found.map(|row| row.try_get(0)).transpose()?.unwrap_or(i64::MAX))
    }

    fn delete_line(&mut self, line: &Line) -> Result<()> {
        self.wait(self.tx.session.execute(
            "WITH gone AS (DELETE FROM delivery WHERE destination = $1 AND run = $2::bigint \
                 AND shard = $3 AND seq = $4) \
             DELETE FROM attempt WHERE destination = $1 AND run = $2::bigint \
                 AND shard = $3 AND seq = $4",
            &[&line.destination, &line.run, &self.number(), &line.seq],
        ))?;
        Ok(())
    }

    fn small_things(
        &mut self,
        ages: &Ages<'_>,
        left: &mut Left,
        pruned: &mut Pruned,
    ) -> Result<bool> {
        // They are in no shard.
        if self.shard != ShardId(0) {
            return Ok(false);
        }
        let policy = ages.policy;
        let first_kept = AuditId::new(ages.now - policy.audit, 0);
        let (answers, audit) = (ages.before(policy.answers), ages.before(policy.audit));
        let (unused, now) = (ages.before(REMEMBERED), ages.now.as_millis());
        let (first_kept, log) = (Fixed(first_kept.to_bytes()), ages.before(policy.log));
        let mut more = false;
        let session = &self.tx.session;
        for (query, before) in [
            (
                "DELETE FROM answer WHERE (caller, key) IN (SELECT caller, key FROM answer \
                 WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
                &answers as crate::postgres::pool::Param<'_>,
            ),
            (
                "DELETE FROM audit WHERE id IN \
                 (SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT $2)",
                &first_kept,
            ),
            (
                "DELETE FROM credential_secret WHERE hash IN (SELECT hash FROM credential_secret \
                 WHERE expires_at < $1 LIMIT $2)",
                &audit,
            ),
            (
                "DELETE FROM subscriber WHERE id IN (SELECT id FROM subscriber \
                 WHERE used_at < $1 LIMIT $2)",
                &unused,
            ),
            (
                "DELETE FROM ticket WHERE hash IN (SELECT hash FROM ticket \
                 WHERE expires_at < $1 LIMIT $2)",
                &now,
            ),
        ] {
            let rows = left.page();
            let gone = self.wait(session.execute(query, &[before, &limit(rows)]))?;
            left.spend(gone as usize);
            pruned.others += gone;
            more |= gone as usize == rows;
        }
        let forgotten = self.wait(session.query(
            "SELECT n FROM destination d WHERE deleted_at IS NOT NULL AND deleted_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM delivery WHERE destination = d.n) LIMIT $2",
            &[&log, &FORGOTTEN],
        ))?;
        let numbers: Vec<i64> =
            forgotten.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_>>()?;
        if !numbers.is_empty() {
            self.wait(destinations::forget(session, &numbers))?;
        }
        Ok(more || numbers.len() as i64 == FORGOTTEN)
    }

    fn sweep(&mut self, shelf: u8) -> Result<u64> {
        // References are counted in the commits that make them: there is nothing beside.
        let _ = shelf;
        Ok(0)
    }

    fn lane_keys(&mut self, after: (i64, i64), wanted: usize) -> Result<Vec<(i64, i64)>> {
        let rows = self.wait(self.tx.session.query(
            "SELECT destination, run::bigint FROM lane \
             WHERE (destination, run) > ($1, $2::bigint) AND coalesce(shard, $4) = $4 \
             ORDER BY destination, run LIMIT $3",
            &[&after.0, &after.1, &limit(wanted), &self.number()],
        ))?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    fn lane(&mut self, (number, run): (i64, i64), to: i64) -> Result<Option<Lane>> {
        let cursor = cursor_in("$4::int");
        let found = self.wait(self.tx.session.first(
            &format!(
                "SELECT l.run, d.id, d.account, d.instance, d.label, coalesce(l.filter, d.filter), \
                 {cursor}, coalesce(l.tos[$4::int + 1], l.to_seq), l.state \
                 FROM lane l JOIN destination d ON d.n = l.destination \
                 WHERE l.destination = $1 AND l.run = $2::bigint AND d.deleted_at IS NULL \
                 AND l.state <> 'cancelled' AND ({cursor} < $3 OR EXISTS (SELECT 1 FROM delivery x \
                 WHERE x.destination = l.destination AND x.run = l.run AND x.shard = $4 \
                 AND x.seq <= $3)) FOR UPDATE OF l"
            ),
            &[&number, &run, &to, &self.number()],
        ))?;
        let Some(row) = found else {
            return Ok(None);
        };
        let (cursor, end): (i64, Option<i64>) = (row.try_get(6)?, row.try_get(7)?);
        let over = row.try_get::<_, &str>(8)? == "done";
        Ok(Some(Lane {
            number,
            run: row::small(row.try_get(0)?),
            id: DestinationId::from_bytes(fixed(&row, 1)?),
            account: AccountId::from_bytes(fixed(&row, 2)?),
            instance: row.try_get::<_, &[u8]>(3)?.try_into().ok().map(InstanceId::from_bytes),
            label: row.try_get(4)?,
            filter: filter_of(row.try_get(5)?).unwrap_or_default(),
            cursor,
            // A replay reads no further than its end.
            upto: if over { cursor } else { end.map_or(to, |end| end.min(to)) },
        }))
    }

    fn glimpses(&mut self, lane: &Lane, at: i64, upto: i64, wanted: usize) -> Result<Vec<Glimpse>> {
        let columns = "SELECT seq, instance, kind, head, flags FROM journal";
        let order = "seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4";
        let rows = match lane.instance {
            Some(instance) => self.wait(self.tx.session.query(
                &format!("{columns} WHERE instance = $1 AND {order}"),
                &[&Fixed(instance.to_bytes()), &at, &upto, &limit(wanted)],
            )),
            // Of all instances: one walk through the journal is cheaper than one for each of them.
            None => self.wait(self.tx.session.query(
                &format!("{columns} WHERE shard = $1 AND {order}"),
                &[&self.number(), &at, &upto, &limit(wanted)],
            )),
        }?;
        rows.iter()
            .map(|row| {
                let (kind, facet) = row::kind_and_facet(row, 2, &self.tx.shared.kinds)?;
                Ok(Glimpse {
                    seq: row.try_get(0)?,
                    instance: row::instance_id(row, 1)?,
                    kind,
                    facet: facet.map(std::borrow::Cow::into_owned),
                    ephemeral: is_ephemeral(i64::from(row.try_get::<_, i32>(4)?)),
                })
            })
            .collect()
    }

    fn has_row(&mut self, lane: &Lane, seq: i64) -> Result<bool> {
        let found = self.wait(self.tx.session.first(
            "SELECT 1 FROM delivery \
             WHERE destination = $1 AND run = $2 AND shard = $3 AND seq = $4 LIMIT 1",
            &[&lane.number, &int(lane.run), &self.number(), &seq],
        ))?;
        Ok(found.is_some())
    }

    fn rows(
        &mut self,
        lane: &Lane,
        after: i64,
        upto: i64,
        wanted: usize,
    ) -> Result<Vec<(i64, bool)>> {
        let rows = self.wait(self.tx.session.query(
            "SELECT seq, status IN (1, 2) FROM delivery WHERE destination = $1 AND run = $2 \
             AND shard = $3 AND seq > $4 AND seq <= $5 ORDER BY seq LIMIT $6",
            &[&lane.number, &int(lane.run), &self.number(), &after, &upto, &limit(wanted)],
        ))?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    fn move_cursor(&mut self, lane: &Lane) -> Result<()> {
        let query = if lane.instance.is_some() {
            "UPDATE lane SET cursor = $3 WHERE destination = $1 AND run = $2 AND cursor < $3 \
             AND $4::int IS NOT NULL"
        } else {
            "UPDATE lane SET cursors[$4::int + 1] = $3 WHERE destination = $1 AND run = $2 \
             AND cursors[$4::int + 1] < $3"
        };
        self.wait(
            self.tx
                .session
                .execute(query, &[&lane.number, &int(lane.run), &lane.upto, &self.number()]),
        )?;
        Ok(())
    }

    fn write_row(&mut self, lane: &Lane, row: &Row) -> Result<()> {
        let mut columns = RowColumns::new(self.tx.now);
        columns.push(&self.tx.shared, (lane.number, lane.run, self.shard), row)?;
        self.wait(self.tx.session.query(&format!("SELECT {ROWS}"), &columns.params()))?;
        Ok(())
    }

    fn append_own(&mut self, event: NewEvent) -> Result<()> {
        self.tx.append_own(event);
        Ok(())
    }

    fn reserved_instance(&mut self, account: AccountId) -> Result<Option<InstanceId>> {
        let found = self.wait(self.tx.session.first(
            "SELECT id FROM instance WHERE account = $1 AND name = $2",
            &[&Fixed(account.to_bytes()), &RESERVED_INSTANCE],
        ))?;
        found.map(|row| row::instance_id(&row, 0)).transpose()
    }
}
