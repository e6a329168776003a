//! What pruning asks of SQLite.

mod remove;
mod weight;

use std::{sync::Arc, time::Duration};

use rusqlite::{OptionalExtension, params};
use zapbus_event::{AccountId, AuditId, DestinationId, InstanceId, Position, Timestamp};

pub(crate) use self::remove::{release_blob, remove_events};
use super::{
    Tx,
    destinations::filter_of,
    fault::Result,
    read,
    row::{self, limit},
    settle::status_number,
};
use crate::{
    delivery::{Row, Status},
    journal::NewEvent,
    metrics::Metrics,
    pruning::{Ages, Doomed, Glimpse, Ground, Lane, Left, Line, OpenRow, Pruner, Reach},
    registry::RESERVED_INSTANCE,
    retention::Pruned,
    subscriber::REMEMBERED,
};

/// Deleted destinations that go in one step.
const FORGOTTEN: i64 = 20;

impl Ground for Tx<'_> {
    fn pruner(&mut self) -> &mut Pruner {
        &mut self.memory.pruner
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn clock(&self) -> Timestamp {
        (self.shared.clock)()
    }

    fn reach(&self) -> Option<Reach> {
        Some(Reach::ALL)
    }

    fn head(&mut self) -> Position {
        Tx::head(self)
    }

    fn retentions(&self) -> Vec<(InstanceId, Duration)> {
        self.shared.directory().retentions().collect()
    }

    fn account_of(&self, instance: InstanceId) -> Option<AccountId> {
        self.shared.directory().account_of(instance)
    }

    fn takes(&self, instance: InstanceId) -> bool {
        self.shared.directory().takes(instance)
    }

    fn position_at(&mut self, time: Timestamp) -> Result<Position> {
        read::position_at(self.view(), time)
    }

    fn oldest(&mut self) -> Result<i64> {
        let oldest = self
            .conn
            .prepare_cached("SELECT seq FROM journal ORDER BY seq LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(oldest.unwrap_or(i64::MAX))
    }

    fn next_events(
        &mut self,
        of: Option<InstanceId>,
        at: i64,
        upto: i64,
        wanted: usize,
    ) -> Result<Vec<Doomed>> {
        let whose = if of.is_some() { "instance = ?4 AND" } else { "?4 IS NULL AND" };
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT seq, instance, received_at, flags FROM journal \
             WHERE {whose} seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3"
        ))?;
        let mut rows =
            statement.query(params![at, upto, limit(wanted), of.map(InstanceId::to_bytes)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(Doomed {
                seq: row.get(0)?,
                instance: row::instance_id(row, 1)?,
                received_at: row.get(2)?,
                flags: row.get(3)?,
            });
        }
        Ok(found)
    }

    fn open_rows(&mut self, first: i64, last: i64) -> Result<Vec<OpenRow>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, status, created_at, updated_at, manual FROM delivery \
             INDEXED BY delivery_open \
             WHERE status BETWEEN 1 AND 3 AND seq BETWEEN ?1 AND ?2",
        )?;
        let found = statement.query_map([first, last], |row| {
            Ok(OpenRow {
                seq: row.get(0)?,
                dead: row.get::<_, i64>(1)? == status_number(Status::Dead),
                created_at: row.get(2)?,
                updated_at: row.get(3)?,
                manual: row.get(4)?,
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn owed_stretches(&mut self, instance: InstanceId) -> Result<Vec<(i64, i64)>> {
        let Some(account) = self.shared.directory().account_of(instance) else {
            return Ok(Vec::new());
        };
        let mut statement = self.conn.prepare_cached(
            "SELECT l.cursor, ifnull(l.to_seq, 9223372036854775807) \
             FROM destination d JOIN lane l ON l.destination = d.n \
             WHERE d.account = ?1 AND d.instance IN (?2, x'') AND d.deleted_at IS NULL \
             AND l.state IN ('running', 'paused')",
        )?;
        let found = statement
            .query_map(params![account.to_bytes(), instance.to_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn weigh(&mut self, page: &[Doomed]) -> Result<Vec<u64>> {
        weight::weigh(self, page)
    }

    fn delete_events(&mut self, doomed: &[Doomed], pruned: &mut Pruned) -> Result<()> {
        remove::delete_events(self, doomed, pruned)
    }

    fn used_bytes(&mut self, _: u64) -> Result<u64> {
        let pragma = |name: &str| -> Result<u64> {
            let value = self.conn.prepare_cached(name)?.query_row([], |row| row.get(0))?;
            Ok(row::count(value))
        };
        let pages = pragma("PRAGMA page_count")?.saturating_sub(pragma("PRAGMA freelist_count")?);
        let blobs = self.shared.blobs.stored().load(std::sync::atomic::Ordering::Relaxed);
        let blobs = blobs.saturating_add_signed(self.pending.blob_bytes);
        Ok(pages * pragma("PRAGMA page_size")? + blobs)
    }

    fn free_body(&mut self, upto: i64) -> Result<bool> {
        let gone = self
            .conn
            .prepare_cached(
                "DELETE FROM body WHERE rowid = (SELECT rowid FROM body WHERE received_at <= ?1 \
                 ORDER BY received_at LIMIT 1)",
            )?
            .execute([upto])?;
        Ok(gone > 0)
    }

    fn bodies(
        &mut self,
        after: (i64, i64),
        before: i64,
        wanted: usize,
    ) -> Result<Vec<(i64, InstanceId, i64)>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT rowid, instance, received_at FROM body \
             WHERE (received_at, rowid) > (?1, ?2) AND received_at < ?3 \
             ORDER BY received_at, rowid LIMIT ?4",
        )?;
        let mut rows = statement.query([after.0, after.1, before, limit(wanted)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push((row.get(0)?, row::instance_id(row, 1)?, row.get(2)?));
        }
        Ok(found)
    }

    fn delete_body(&mut self, number: i64) -> Result<()> {
        self.conn.prepare_cached("DELETE FROM body WHERE rowid = ?1")?.execute([number])?;
        Ok(())
    }

    fn lines(&mut self, after: i64, wanted: usize) -> Result<Vec<Line>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT n, destination, run, seq, status, created_at, updated_at FROM delivery \
             WHERE n > ?1 ORDER BY n LIMIT ?2",
        )?;
        let rows = statement.query_map(params![after, limit(wanted)], |row| {
            Ok(Line {
                n: row.get(0)?,
                destination: row.get(1)?,
                run: row.get(2)?,
                seq: row.get(3)?,
                status: row.get(4)?,
                created_at: row.get(5)?,
                updated_at: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn cursor(&mut self, destination: i64, run: i64) -> Result<i64> {
        let cursor = self
            .conn
            .prepare_cached(
                "SELECT iif(d.deleted_at IS NULL AND l.state IN ('running', 'paused'), l.cursor, \
                 NULL) FROM lane l JOIN destination d ON d.n = l.destination \
                 WHERE l.destination = ?1 AND l.run = ?2",
            )?
            .query_row([destination, run], |row| row.get::<_, Option<i64>>(0))
            .optional()?
            .flatten();
        Ok(cursor.unwrap_or(i64::MAX))
    }

    fn delete_line(&mut self, line: &Line) -> Result<()> {
        self.conn.prepare_cached("DELETE FROM delivery WHERE n = ?1")?.execute([line.n])?;
        self.conn
            .prepare_cached("DELETE FROM attempt WHERE destination = ?1 AND run = ?2 AND seq = ?3")?
            .execute([line.destination, line.run, line.seq])?;
        Ok(())
    }

    fn small_things(
        &mut self,
        ages: &Ages<'_>,
        left: &mut Left,
        pruned: &mut Pruned,
    ) -> Result<bool> {
        let window = self.shared.dedup_window;
        let before = ages.now - window;
        let mut more = self.memory.dedup.expire(self.conn, &mut self.pending.dedup, before)?;
        let (now, rows) = (self.now, left.page());
        more |= self.memory.dedup.tend(self.conn, &mut self.pending.dedup, now, rows)?;

        let policy = ages.policy;
        let mut delete = |query: &str, before: &dyn rusqlite::ToSql| -> Result<bool> {
            let rows = left.page();
            let before = rusqlite::params![before, limit(rows)];
            let gone = self.conn.prepare_cached(query)?.execute(before)?;
            left.spend(gone);
            pruned.others += gone as u64;
            Ok(gone == rows)
        };
        more |= delete(
            "DELETE FROM answer WHERE (caller, key) IN (SELECT caller, key FROM answer \
             WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)",
            &ages.before(policy.answers),
        )?;
        // Its ids are in order of time.
        let first_kept = AuditId::new(ages.now - policy.audit, 0);
        more |= delete(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < ?1 ORDER BY id LIMIT ?2)",
            &first_kept.to_bytes(),
        )?;
        more |= delete(
            "DELETE FROM credential_secret WHERE hash IN (SELECT hash FROM credential_secret \
             WHERE expires_at < ?1 LIMIT ?2)",
            &ages.before(policy.audit),
        )?;
        more |= delete(
            "DELETE FROM subscriber WHERE id IN (SELECT id FROM subscriber \
             WHERE used_at < ?1 LIMIT ?2)",
            &ages.before(REMEMBERED),
        )?;
        more |= delete(
            "DELETE FROM ticket WHERE hash IN (SELECT hash FROM ticket \
             WHERE expires_at < ?1 LIMIT ?2)",
            &ages.now.as_millis(),
        )?;
        more |= forget_destinations(self, ages)?;
        Ok(more)
    }

    fn sweep(&mut self, shelf: u8) -> Result<u64> {
        let referenced = |sha: &crate::blob::Sha| {
            self.conn
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM blob WHERE sha256 = ?1 AND object IS NULL)",
                )
                .and_then(|mut statement| statement.query_row([sha], |row| row.get(0)))
                // In doubt a file stays.
                .unwrap_or(true)
        };
        Ok(self.shared.blobs.sweep(shelf, referenced).unwrap_or_else(|error| {
            tracing::warn!(event = "blob.not_swept", %error, "the blob folder could not be swept");
            0
        }))
    }

    fn lane_keys(&mut self, after: (i64, i64), wanted: usize) -> Result<Vec<(i64, i64)>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT destination, run FROM lane WHERE (destination, run) > (?1, ?2) \
             ORDER BY destination, run LIMIT ?3",
        )?;
        let keys = statement
            .query_map(params![after.0, after.1, limit(wanted)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        Ok(keys)
    }

    fn lane(&mut self, (number, run): (i64, i64), to: i64) -> Result<Option<Lane>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT l.run, d.id, d.account, d.instance, d.label, ifnull(l.filter, d.filter), \
             l.cursor, l.to_seq, l.state FROM lane l JOIN destination d ON d.n = l.destination \
             WHERE l.destination = ?1 AND l.run = ?2 AND d.deleted_at IS NULL \
             AND l.state != 'cancelled' AND (l.cursor < ?3 OR EXISTS (SELECT 1 FROM delivery \
             WHERE destination = ?1 AND run = ?2 AND seq <= ?3))",
        )?;
        let mut rows = statement.query([number, run, to])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let end: Option<i64> = row.get(7)?;
        let over = row.get_ref(8)?.as_str().is_ok_and(|state| state == "done");
        let cursor = row.get(6)?;
        Ok(Some(Lane {
            number,
            run: row.get(0)?,
            id: DestinationId::from_bytes(row.get(1)?),
            account: AccountId::from_bytes(row.get(2)?),
            instance: row::bytes(row, 3)?.try_into().ok().map(InstanceId::from_bytes),
            label: row.get(4)?,
            filter: filter_of(&row.get::<_, String>(5)?).unwrap_or_default(),
            cursor,
            // A replay reads no further than its end.
            upto: if over { cursor } else { end.map_or(to, |end| end.min(to)) },
        }))
    }

    fn glimpses(&mut self, lane: &Lane, at: i64, upto: i64, wanted: usize) -> Result<Vec<Glimpse>> {
        let narrow = match lane.instance {
            Some(_) => "instance = ?3 AND",
            // Of all instances: one walk through the journal is cheaper than one for each of them.
            None => "?3 IS NOT NULL AND",
        };
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT seq, instance, kind, head, flags FROM journal \
             WHERE {narrow} seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?4"
        ))?;
        let instance = lane.instance.map_or_else(Vec::new, |instance| instance.to_bytes().to_vec());
        let mut rows = statement.query(params![at, upto, instance, limit(wanted)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (kind, facet) = row::kind_and_facet(row, 2, &self.shared.kinds)?;
            found.push(Glimpse {
                seq: row.get(0)?,
                instance: row::instance_id(row, 1)?,
                kind,
                facet: facet.map(std::borrow::Cow::into_owned),
                ephemeral: row::is_ephemeral(row.get(4)?),
            });
        }
        Ok(found)
    }

    fn has_row(&mut self, lane: &Lane, seq: i64) -> Result<bool> {
        Ok(self
            .conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM delivery \
                 WHERE destination = ?1 AND run = ?2 AND seq = ?3)",
            )?
            .query_row(params![lane.number, lane.run, seq], |row| row.get(0))?)
    }

    fn rows(
        &mut self,
        lane: &Lane,
        after: i64,
        upto: i64,
        wanted: usize,
    ) -> Result<Vec<(i64, bool)>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, status IN (1, 2) FROM delivery \
             WHERE destination = ?1 AND run = ?2 AND seq > ?3 AND seq <= ?4 ORDER BY seq LIMIT ?5",
        )?;
        let rows = statement
            .query_map(params![lane.number, lane.run, after, upto, limit(wanted)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn move_cursor(&mut self, lane: &Lane) -> Result<()> {
        self.conn
            .prepare_cached(
                "UPDATE lane SET cursor = ?3 WHERE destination = ?1 AND run = ?2 AND cursor < ?3",
            )?
            .execute(params![lane.number, lane.run, lane.upto])?;
        Ok(())
    }

    fn write_row(&mut self, lane: &Lane, row: &Row) -> Result<()> {
        Tx::write_row(self, lane.number, lane.run, row)
    }

    fn append_own(&mut self, event: NewEvent) -> Result<()> {
        Tx::append_own(self, event).map(|_| ())
    }

    fn reserved_instance(&mut self, account: AccountId) -> Result<Option<InstanceId>> {
        let found: Option<[u8; 16]> = self
            .conn
            .prepare_cached("SELECT id FROM instance WHERE account = ?1 AND name = ?2")?
            .query_row(params![account.to_bytes(), RESERVED_INSTANCE], |row| row.get(0))
            .optional()?;
        Ok(found.map(InstanceId::from_bytes))
    }
}

/// Forgets deleted destinations whose rows have left the log. True when there may be more.
fn forget_destinations(tx: &mut Tx<'_>, ages: &Ages<'_>) -> Result<bool> {
    let gone: Vec<i64> = tx
        .conn
        .prepare_cached(
            "SELECT n FROM destination d WHERE deleted_at IS NOT NULL AND deleted_at < ?1 \
             AND NOT EXISTS (SELECT 1 FROM delivery WHERE destination = d.n) LIMIT ?2",
        )?
        .query_map([ages.before(ages.policy.log), FORGOTTEN], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for n in &gone {
        for query in [
            "DELETE FROM lane WHERE destination = ?1",
            "DELETE FROM attempt WHERE destination = ?1",
            "DELETE FROM destination_spec WHERE n = ?1",
            "DELETE FROM destination WHERE n = ?1",
        ] {
            tx.conn.prepare_cached(query)?.execute([n])?;
        }
    }
    Ok(i64::try_from(gone.len()).is_ok_and(|gone| gone == FORGOTTEN))
}
