//! Settlements: cursors, health, delivery rows, attempts.

use rusqlite::{OptionalExtension, params};
use zapbus_event::{DestinationId, Timestamp};

use super::{
    fault::{Fault, Result},
    queue::SettleJob,
    row::{position, sql},
    writer::Tx,
};
use crate::delivery::{Attempt, DeadReason, Health, LIVE, LaneId, Row, Settlement, State, Status};

/// How much of an answer is kept with a delivery that was accepted.
const EXCERPT: usize = 256;
/// How much of an answer is kept of an attempt that failed.
const FAILED_EXCERPT: usize = 4096;
/// Numbers of destinations that are remembered.
const KNOWN_DESTINATIONS: usize = 8_192;

/// The number that stands for a status in the database.
pub(crate) const fn status_number(status: Status) -> i64 {
    match status {
        Status::Delivered => 0,
        Status::Retrying => 1,
        Status::Waiting => 2,
        Status::Dead => 3,
        Status::Cancelled => 4,
        Status::Expired => 5,
    }
}

fn reason_number(reason: DeadReason) -> i64 {
    match reason {
        DeadReason::Attempts => 0,
        DeadReason::Refused => 1,
        DeadReason::RenderFailed => 2,
    }
}

/// The state in the columns `status, reason, due, upto, lost` at `at`.
pub(crate) fn state(row: &rusqlite::Row<'_>, at: usize) -> Result<State> {
    let status: i64 = row.get(at)?;
    Ok(match status {
        0 => State::Delivered,
        1 => State::Retrying { due: Timestamp::from_millis(row.get(at + 2)?) },
        2 => State::Waiting,
        3 => State::Dead {
            reason: match row.get::<_, i64>(at + 1)? {
                0 => DeadReason::Attempts,
                1 => DeadReason::Refused,
                2 => DeadReason::RenderFailed,
                other => return Err(Fault::malformed(format!("reason {other} of a dead letter"))),
            },
        },
        4 => State::Cancelled,
        5 => State::Expired {
            to: position(row.get(at + 3)?),
            count: super::row::count(row.get(at + 4)?),
        },
        other => return Err(Fault::malformed(format!("status {other} of a delivery"))),
    })
}

/// The health in the columns `probing_since, probes, next_probe` at `at`.
pub(crate) fn health(row: &rusqlite::Row<'_>, at: usize) -> Result<Health> {
    let since: Option<i64> = row.get(at)?;
    let next: Option<i64> = row.get(at + 2)?;
    Ok(match (since, next) {
        (Some(since), Some(next)) => Health::Probing {
            since: Timestamp::from_millis(since),
            probes: row.get(at + 1)?,
            next: Timestamp::from_millis(next),
        },
        _ => Health::Flowing,
    })
}

impl Tx<'_> {
    pub(crate) fn settle_job(&mut self, job: &SettleJob) -> Result<()> {
        for settlement in &job.settlements {
            self.settle(settlement)?;
        }
        Ok(())
    }

    fn settle(&mut self, settlement: &Settlement) -> Result<()> {
        // A destination deleted while it sent: nobody waits for the outcome any more.
        let Some(number) = self.destination_number(settlement.lane.destination)? else {
            return Ok(());
        };
        let run = settlement.lane.run;
        if let Some(cursor) = settlement.cursor {
            self.conn
                .prepare_cached(
                    "UPDATE lane SET cursor = ?3 WHERE destination = ?1 AND run = ?2 AND cursor < ?3",
                )?
                .execute(params![number, run, sql(cursor)])?;
        }
        if let Some(health) = settlement.health {
            let (since, probes, next) = match health {
                Health::Flowing => (None, 0, None),
                Health::Probing { since, probes, next } => {
                    (Some(since.as_millis()), probes, Some(next.as_millis()))
                }
            };
            self.conn
                .prepare_cached(
                    "UPDATE lane SET probing_since = ?3, probes = ?4, next_probe = ?5 \
                     WHERE destination = ?1 AND run = ?2",
                )?
                .execute(params![number, run, since, probes, next])?;
        }
        let cancelled =
            run != LIVE && !settlement.rows.is_empty() && self.is_cancelled(number, run)?;
        for row in &settlement.rows {
            let held = matches!(row.state, State::Retrying { .. } | State::Waiting);
            if cancelled && held && !row.manual {
                // It was under way when its replay was called off.
                let row = Row { state: State::Cancelled, ..row.clone() };
                self.write_row(number, run, &row)?;
            } else {
                self.write_row(number, run, row)?;
            }
        }
        for event in &settlement.events {
            if self.shared.directory().takes(event.instance) {
                self.append_own(event.clone())?;
            }
        }
        self.pending.settlements += 1;
        Ok(())
    }

    fn is_cancelled(&self, number: i64, run: u32) -> Result<bool> {
        let state: Option<bool> = self
            .conn
            .prepare_cached(
                "SELECT state = 'cancelled' FROM lane WHERE destination = ?1 AND run = ?2",
            )?
            .query_row(params![number, run], |row| row.get(0))
            .optional()?;
        Ok(state == Some(true))
    }

    pub(crate) fn write_row(&mut self, number: i64, run: u32, row: &Row) -> Result<()> {
        let (status, reason, due, upto, lost) = match row.state {
            State::Delivered => (Status::Delivered, None, None, None, None),
            State::Retrying { due } => (Status::Retrying, None, Some(due.as_millis()), None, None),
            State::Waiting => (Status::Waiting, None, None, None, None),
            State::Dead { reason } => (Status::Dead, Some(reason_number(reason)), None, None, None),
            State::Cancelled => (Status::Cancelled, None, None, None, None),
            State::Expired { to, count } => {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                (Status::Expired, None, None, Some(sql(to)), Some(count))
            }
        };
        let accepted = matches!(row.state, State::Delivered);
        let attempt = row.attempt.as_ref();
        let excerpt = attempt.map(|attempt| cut(&attempt.excerpt, EXCERPT));
        // What expired stays so: its row may stand for a whole stretch that was lost, and an outcome
        // that comes late is of its first event alone.
        self.conn
            .prepare_cached(
                "INSERT INTO delivery (destination, run, seq, status, reason, due, upto, lost, \
                 attempts, parts_done, key, manual, code, latency_ms, created_at, updated_at, \
                 attempted_at, error, excerpt) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15, \
                 ?16, ?17, ?18) \
                 ON CONFLICT (destination, run, seq) DO UPDATE SET \
                 status = excluded.status, reason = excluded.reason, due = excluded.due, \
                 upto = excluded.upto, lost = excluded.lost, attempts = excluded.attempts, \
                 parts_done = excluded.parts_done, key = excluded.key, manual = excluded.manual, \
                 updated_at = excluded.updated_at, \
                 code = iif(excluded.attempted_at IS NULL, code, excluded.code), \
                 latency_ms = iif(excluded.attempted_at IS NULL, latency_ms, excluded.latency_ms), \
                 error = iif(excluded.attempted_at IS NULL, error, excluded.error), \
                 excerpt = iif(excluded.attempted_at IS NULL, excerpt, excluded.excerpt), \
                 attempted_at = ifnull(excluded.attempted_at, attempted_at) \
                 WHERE delivery.status != 5",
            )?
            .execute(params![
                number,
                run,
                sql(row.seq),
                status_number(status),
                reason,
                due,
                upto,
                lost,
                row.attempts,
                row.parts_done,
                row.key.cast_signed(),
                row.manual,
                attempt.and_then(|attempt| attempt.code),
                attempt.map(|attempt| attempt.latency_ms),
                self.now.as_millis(),
                attempt.map(|attempt| attempt.at.as_millis()),
                attempt.and_then(|attempt| attempt.error.as_deref()),
                excerpt,
            ])?;
        self.pending.rows += 1;
        match attempt {
            Some(attempt) if !accepted => self.write_attempt(number, run, row, attempt),
            _ => Ok(()),
        }
    }

    fn write_attempt(&self, number: i64, run: u32, row: &Row, attempt: &Attempt) -> Result<()> {
        self.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO attempt (destination, run, seq, number, at, code, \
                 latency_ms, error, excerpt, request_headers, response_headers) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                number,
                run,
                sql(row.seq),
                attempt.number,
                attempt.at.as_millis(),
                attempt.code,
                attempt.latency_ms,
                attempt.error,
                cut(&attempt.excerpt, FAILED_EXCERPT),
                serde_json::to_string(&attempt.request_headers)?,
                serde_json::to_string(&attempt.response_headers)?,
            ])?;
        Ok(())
    }

    /// The number of a destination that is not deleted.
    pub(crate) fn destination_number(&mut self, id: DestinationId) -> Result<Option<i64>> {
        if let Some(number) = self.memory.destinations.get(&id) {
            return Ok(Some(*number));
        }
        let number = destination_number(self.conn, id)?;
        if let Some(number) = number {
            if self.memory.destinations.len() >= KNOWN_DESTINATIONS {
                self.memory.destinations.clear();
            }
            self.memory.destinations.insert(id, number);
        }
        Ok(number)
    }

    /// The number of a lane's destination, or `NotFound`.
    pub(crate) fn existing_lane(&mut self, lane: LaneId) -> Result<i64> {
        let number = self.destination_number(lane.destination)?;
        number.ok_or_else(|| Fault::not_found("destination"))
    }
}

/// The number of a destination that is not deleted.
pub(crate) fn destination_number(
    conn: &rusqlite::Connection,
    id: DestinationId,
) -> Result<Option<i64>> {
    Ok(conn
        .prepare_cached("SELECT n FROM destination WHERE id = ?1 AND deleted_at IS NULL")?
        .query_row([id.to_bytes()], |row| row.get(0))
        .optional()?)
}

fn cut(excerpt: &[u8], length: usize) -> &[u8] {
    &excerpt[..excerpt.len().min(length)]
}
