//! What a call of the database functions gets: a column for each property of rows and lanes.

use std::collections::{BTreeMap, HashSet};

use zapbus_event::{Position, Timestamp};

use crate::{
    ShardId,
    delivery::{Attempt, DeadReason, Health, Row, State, Status},
    fault::Result,
    postgres::{
        Shared,
        pool::Param,
        queue::SettleJob,
        row::{int, sql, text},
    },
};

/// How much of an answer is kept with a delivery that was accepted.
const EXCERPT: usize = 256;
/// How much of an answer is kept of an attempt that failed.
const FAILED_EXCERPT: usize = 4096;

pub(in crate::postgres) fn status_number(status: Status) -> i32 {
    match status {
        Status::Delivered => 0,
        Status::Retrying => 1,
        Status::Waiting => 2,
        Status::Dead => 3,
        Status::Cancelled => 4,
        Status::Expired => 5,
    }
}

fn reason_number(reason: DeadReason) -> i32 {
    match reason {
        DeadReason::Attempts => 0,
        DeadReason::Refused => 1,
        DeadReason::RenderFailed => 2,
    }
}

/// Rows of the log as columns.
#[derive(Default)]
pub(in crate::postgres) struct RowColumns {
    now: i64,
    destination: Vec<i64>,
    run: Vec<i32>,
    shard: Vec<i32>,
    seq: Vec<i64>,
    class: Vec<i32>,
    event_at: Vec<Option<i64>>,
    key: Vec<i64>,
    due: Vec<Option<i64>>,
    upto: Vec<Option<i64>>,
    lost: Vec<Option<i64>>,
    status: Vec<i32>,
    reason: Vec<Option<i32>>,
    attempts: Vec<i32>,
    parts_done: Vec<i32>,
    manual: Vec<bool>,
    attempted_at: Vec<Option<i64>>,
    latency_ms: Vec<Option<i64>>,
    code: Vec<Option<i32>>,
    error: Vec<Option<String>>,
    excerpt: Vec<Option<Vec<u8>>>,
    attempt_row: Vec<i32>,
    number: Vec<i32>,
    attempt_excerpt: Vec<Vec<u8>>,
    request: Vec<String>,
    response: Vec<String>,
    seen: HashSet<(i64, i32, i32, i64)>,
}

impl RowColumns {
    pub(in crate::postgres) fn new(now: Timestamp) -> Self {
        Self { now: now.as_millis(), ..Self::default() }
    }

    pub(in crate::postgres) fn len(&self) -> usize {
        self.seq.len()
    }

    /// Takes a row, or says that it has one for the same event already.
    pub(in crate::postgres) fn push(
        &mut self,
        shared: &Shared,
        (number, run, shard): (i64, u32, ShardId),
        row: &Row,
    ) -> Result<bool> {
        let (run, at) = (int(run), i32::from(shard.0));
        if !self.seen.insert((number, run, at, sql(row.seq))) {
            return Ok(false);
        }
        self.destination.push(number);
        self.run.push(run);
        self.shard.push(at);
        self.seq.push(sql(row.seq));
        let event = shared.shard(shard).followed.peek().event_at(row.seq);
        self.event_at.push(event.as_ref().map(|event| event.received_at.as_millis()));
        self.class.push(event.map_or(0, |event| i32::from(event.ephemeral)));
        self.key.push(row.key.cast_signed());
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
        self.status.push(status_number(status));
        self.reason.push(reason);
        self.due.push(due);
        self.upto.push(upto);
        self.lost.push(lost);
        self.attempts.push(int(row.attempts));
        self.parts_done.push(i32::from(row.parts_done));
        self.manual.push(row.manual);
        let attempt = row.attempt.as_ref();
        self.attempted_at.push(attempt.map(|attempt| attempt.at.as_millis()));
        self.latency_ms.push(attempt.map(|attempt| i64::from(attempt.latency_ms)));
        self.code.push(attempt.and_then(|attempt| attempt.code).map(i32::from));
        let error = attempt.and_then(|attempt| attempt.error.as_deref());
        self.error.push(error.map(|error| text(error).into_owned()));
        self.excerpt.push(attempt.map(|attempt| cut(&attempt.excerpt, EXCERPT).to_vec()));
        match attempt {
            Some(attempt) if row.state != State::Delivered => self.push_attempt(attempt)?,
            _ => {}
        }
        Ok(true)
    }

    fn push_attempt(&mut self, attempt: &Attempt) -> Result<()> {
        self.attempt_row.push(i32::try_from(self.seq.len()).unwrap_or(i32::MAX));
        self.number.push(int(attempt.number));
        self.attempt_excerpt.push(cut(&attempt.excerpt, FAILED_EXCERPT).to_vec());
        let headers = |headers: &[(String, String)]| -> Result<String> {
            Ok(serde_json::to_string(headers)?)
        };
        self.request.push(headers(&attempt.request_headers)?);
        self.response.push(headers(&attempt.response_headers)?);
        Ok(())
    }

    pub(in crate::postgres) fn params(&self) -> Vec<Param<'_>> {
        vec![
            &self.now,
            &self.destination,
            &self.run,
            &self.shard,
            &self.seq,
            &self.class,
            &self.event_at,
            &self.key,
            &self.due,
            &self.upto,
            &self.lost,
            &self.status,
            &self.reason,
            &self.attempts,
            &self.parts_done,
            &self.manual,
            &self.attempted_at,
            &self.latency_ms,
            &self.code,
            &self.error,
            &self.excerpt,
            &self.attempt_row,
            &self.number,
            &self.attempt_excerpt,
            &self.request,
            &self.response,
        ]
    }
}

fn cut(excerpt: &[u8], length: usize) -> &[u8] {
    &excerpt[..excerpt.len().min(length)]
}

/// What all that was said of a lane comes to.
#[derive(Default)]
struct Moved {
    cursor: Option<Position>,
    health: Option<Health>,
}

/// Cursors and health as columns: one line for each lane and shard.
#[derive(Default)]
pub(super) struct LaneColumns {
    destination: Vec<i64>,
    run: Vec<i32>,
    shard: Vec<Option<i32>>,
    cursor: Vec<Option<i64>>,
    health: Vec<bool>,
    since: Vec<Option<i64>>,
    probes: Vec<i32>,
    next: Vec<Option<i64>>,
}

impl LaneColumns {
    pub(super) fn of(jobs: &[SettleJob]) -> Self {
        let mut lanes = BTreeMap::<(i64, i32, Option<i32>), Moved>::new();
        for (known, settlement) in jobs.iter().flat_map(|job| &job.settlements) {
            if settlement.cursor.is_none() && settlement.health.is_none() {
                continue;
            }
            let shard = known.global.then(|| i32::from(settlement.shard.0));
            let lane = lanes.entry((known.number, int(settlement.lane.run), shard)).or_default();
            lane.cursor = lane.cursor.max(settlement.cursor);
            lane.health = settlement.health.or(lane.health);
        }
        let mut columns = Self::default();
        for ((destination, run, shard), Moved { cursor, health }) in lanes {
            columns.destination.push(destination);
            columns.run.push(run);
            columns.shard.push(shard);
            columns.cursor.push(cursor.map(sql));
            columns.health.push(health.is_some());
            let (since, probes, next) = match health {
                Some(Health::Probing { since, probes, next }) => {
                    (Some(since.as_millis()), int(probes), Some(next.as_millis()))
                }
                _ => (None, 0, None),
            };
            columns.since.push(since);
            columns.probes.push(probes);
            columns.next.push(next);
        }
        columns
    }

    pub(super) fn params(&self) -> [Param<'_>; 8] {
        [
            &self.destination,
            &self.run,
            &self.shard,
            &self.cursor,
            &self.health,
            &self.since,
            &self.probes,
            &self.next,
        ]
    }
}
