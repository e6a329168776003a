//! Settlements: cursors, health, delivery rows, attempts. One call for all that has gathered, and
//! only while this node holds the shard.

mod columns;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tokio::sync::oneshot;
use tokio_postgres::Row as Stored;
use zapbus_event::Timestamp;

use self::columns::LaneColumns;
pub(super) use self::columns::{RowColumns, status_number};
use super::{
    Busy, Engine, Shared,
    append::{self, Columns},
    closed,
    destinations::{self, Known},
    follow, lease, lock,
    pool::Param,
    queue::SettleJob,
    row::{Fixed, position},
};
use crate::{
    ShardId, StoreError,
    delivery::{DeadReason, Health, Settlement, State, Urgency},
    fault::{Fault, Result},
    prepared::{Prepared, prepare_own},
};

pub(super) const ROWS: &str = "zapbus_rows($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
     $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26)";
/// How often a settlement that had to give way, to somebody who has the same rows sent again, is
/// tried once more.
const CONFLICTS: usize = 3;
const SETTLE: &str = "SELECT zapbus_fence($27, $28, $29), zapbus_lanes($30, $31, $32, $33, $34, \
     $35, $36, $37), ";

/// The state in the columns `status, reason, due, upto, lost` at `at`.
pub(super) fn state(row: &Stored, at: usize) -> Result<State> {
    let status: i32 = row.try_get(at)?;
    let number =
        |at: usize| -> Result<i64> { Ok(row.try_get::<_, Option<i64>>(at)?.unwrap_or_default()) };
    Ok(match status {
        0 => State::Delivered,
        1 => State::Retrying { due: Timestamp::from_millis(number(at + 2)?) },
        2 => State::Waiting,
        3 => State::Dead {
            reason: match row.try_get::<_, Option<i32>>(at + 1)?.unwrap_or_default() {
                0 => DeadReason::Attempts,
                1 => DeadReason::Refused,
                2 => DeadReason::RenderFailed,
                other => return Err(Fault::malformed(format!("reason {other} of a dead letter"))),
            },
        },
        4 => State::Cancelled,
        5 => State::Expired {
            to: position(number(at + 3)?),
            count: super::row::count(number(at + 4)?),
        },
        other => return Err(Fault::malformed(format!("status {other} of a delivery"))),
    })
}

/// The health in the columns `probing_since, probes, next_probe` at `at`.
pub(super) fn health(row: &Stored, at: usize) -> Result<Health> {
    let since: Option<i64> = row.try_get(at)?;
    let next: Option<i64> = row.try_get(at + 2)?;
    Ok(match (since, next) {
        (Some(since), Some(next)) => Health::Probing {
            since: Timestamp::from_millis(since),
            probes: super::row::small(row.try_get(at + 1)?),
            next: Timestamp::from_millis(next),
        },
        _ => Health::Flowing,
    })
}

impl Engine {
    pub(crate) async fn settle(
        &self,
        settlements: Vec<Settlement>,
        urgency: Urgency,
    ) -> Result<(), StoreError> {
        if self.shared.is_closed() {
            return Err(closed());
        }
        let mut homes: BTreeMap<ShardId, Vec<(Known, Settlement)>> = BTreeMap::new();
        let mut session = None;
        for settlement in settlements {
            let remembered = self.shared.destinations().get(&settlement.lane.destination).copied();
            let known = match remembered {
                Some(known) => Some(known),
                None => {
                    if session.is_none() {
                        session = Some(self.session().await?);
                    }
                    match &session {
                        Some(session) => {
                            let id = settlement.lane.destination;
                            destinations::known(&self.shared, session, id).await?
                        }
                        None => None,
                    }
                }
            };
            // Of a destination that was deleted nobody waits for the outcome.
            if let Some(known) = known {
                homes.entry(known.home).or_default().push((known, settlement));
            }
        }
        drop(session);
        let mut answers = Vec::with_capacity(homes.len());
        for (shard, settlements) in homes {
            let (answer, answered) = oneshot::channel();
            let arrived = tokio::time::Instant::now();
            self.shared.enqueue_settle(shard, SettleJob { settlements, urgency, arrived, answer });
            answers.push(answered);
        }
        for answered in answers {
            answered.await.unwrap_or_else(|_| Err(closed()))?;
        }
        Ok(())
    }
}

impl Shared {
    fn enqueue_settle(self: &Arc<Self>, shard: ShardId, job: SettleJob) {
        let urgent = job.urgency == Urgency::Now;
        let idle = lock(&self.shard(shard).settles).push(job);
        if !idle {
            if urgent {
                self.shard(shard).company.notify_one();
            }
            return;
        }
        let busy = Busy::new(self);
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let _busy = busy;
            loop {
                // Nobody is in a hurry: perhaps more comes that can go along.
                let patient_since = lock(&shared.shard(shard).settles).patient_since();
                if let Some(first) = patient_since.filter(|_| !shared.is_closed()) {
                    let company = shared.shard(shard).company.notified();
                    let _ = tokio::time::timeout_at(first + shared.ride, company).await;
                }
                let jobs = lock(&shared.shard(shard).settles).take();
                if jobs.is_empty() {
                    break;
                }
                write(&shared, shard, jobs).await;
            }
        });
    }
}

async fn write(shared: &Arc<Shared>, shard: ShardId, jobs: Vec<SettleJob>) {
    let mut parts = vec![jobs];
    while let Some(mut jobs) = parts.pop() {
        if jobs.is_empty() {
            continue;
        }
        let epoch = match lease::fence(shared, shard) {
            Ok(epoch) => epoch,
            Err(fault) => {
                answer(shared, jobs, Err(fault));
                continue;
            }
        };
        // A lane that was started before the shard was lost knows nothing of what others did with it
        // since, and must not write although this node has the shard again.
        let (stale, current): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| job.is_older_than(epoch));
        if !stale.is_empty() {
            answer(shared, stale, Err(Fault::Store(StoreError::LeaseLost { shard })));
        }
        jobs = current;
        if jobs.is_empty() {
            continue;
        }
        let mut done = attempt(shared, shard, epoch, &jobs).await;
        for _ in 0..CONFLICTS {
            match &done {
                Err(Fault::Conflict(_)) => {}
                Err(Fault::WentBack) => {
                    if let Err(fault) = follow::go_beyond(shared).await {
                        done = Err(fault);
                        break;
                    }
                }
                _ => break,
            }
            done = attempt(shared, shard, epoch, &jobs).await;
        }
        match done {
            Err(Fault::NoPartition) => {
                let made = follow::make_partitions(shared, shard, true).await;
                let again = match made {
                    Ok(()) => attempt(shared, shard, epoch, &jobs).await,
                    Err(fault) => Err(fault),
                };
                answer(shared, jobs, again);
            }
            Err(ref fault) if fault.is_local() && jobs.len() > 1 && !is_lost(fault) => {
                let second = jobs.split_off(jobs.len() / 2);
                parts.push(second);
                parts.push(jobs);
            }
            done => answer(shared, jobs, done),
        }
    }
}

fn is_lost(fault: &Fault) -> bool {
    matches!(fault, Fault::Store(StoreError::LeaseLost { .. }))
}

fn answer(shared: &Shared, jobs: Vec<SettleJob>, done: Result<()>) {
    if let Err(fault) = &done {
        shared.note_fault(fault);
        if !fault.is_local() {
            shared.metrics.failed_commits.add(1);
        }
    }
    let done = done.map_err(StoreError::from);
    for job in jobs {
        // A caller that went away needs no answer.
        let _ = job.answer.send(done.clone());
    }
}

async fn attempt(
    shared: &Arc<Shared>,
    shard: ShardId,
    epoch: u64,
    jobs: &[SettleJob],
) -> Result<()> {
    let started = Instant::now();
    let now = shared.now();
    let lanes = LaneColumns::of(jobs);
    let mut waves = vec![RowColumns::new(now)];
    let mut own: BTreeMap<ShardId, Vec<Prepared>> = BTreeMap::new();
    let mut count = 0;
    for (known, settlement) in jobs.iter().flat_map(|job| &job.settlements) {
        count += 1;
        let place = (known.number, settlement.lane.run, known.shard(settlement.shard));
        for row in &settlement.rows {
            let mut wave = 0;
            // A later word on the same event is a later call.
            while !waves[wave].push(shared, place, row)? {
                wave += 1;
                if wave == waves.len() {
                    waves.push(RowColumns::new(now));
                }
            }
        }
        for event in &settlement.events {
            if shared.directory().takes(event.instance) {
                let home = shared.shard_of(event.instance);
                own.entry(home).or_default().push(prepare_own(event.clone()));
            }
        }
    }
    for shard in own.keys() {
        follow::ensure_partitions(shared, *shard).await?;
    }
    let (number, owner) = (i32::from(shard.0), Fixed(shared.node.0));
    let fenced = epoch.cast_signed();
    let mut first = waves[0].params();
    first.extend([&number as Param<'_>, &owner, &fenced]);
    first.extend(lanes.params());
    let session = shared.pool.session().await?;
    let settle = format!("{SETTLE}{ROWS}");
    let done = if waves.len() == 1 && own.is_empty() {
        session.query(&settle, &first).await.map(|_| Vec::new())
    } else {
        let settle = session.prepare(&settle).await?;
        let more = session.prepare(&format!("SELECT {ROWS}")).await?;
        let append = session.prepare(append::CALL).await?;
        let mut columns = Vec::new();
        for (shard, prepared) in &own {
            let mut call = Columns::new(shared, *shard);
            for prepared in prepared {
                call.push(shared, prepared, None)?;
            }
            columns.push(call);
        }
        let mut calls = vec![(&settle, first)];
        calls.extend(waves[1..].iter().map(|wave| (&more, wave.params())));
        let appends = calls.len();
        calls.extend(columns.iter().map(|call| (&append, call.params())));
        session.risk();
        let rows = session.together(&calls, true).await;
        if rows.is_ok() || session.batch("ROLLBACK").await.is_ok() {
            session.keep();
        }
        rows.map(|mut rows| rows.split_off(appends))
    };
    drop(session);
    let placed = match done {
        Ok(placed) => placed,
        Err(fault) => {
            if is_lost(&fault) {
                shared.holdings.lose(shard, epoch);
                tracing::warn!(
                    event = "lease.lost",
                    shard = shard.0,
                    epoch,
                    "a settlement was refused"
                );
            }
            return Err(fault);
        }
    };
    let rows: usize = waves.iter().map(RowColumns::len).sum();
    for ((shard, prepared), rows) in own.into_iter().zip(&placed) {
        let placed = append::placed(rows)?;
        let events: Vec<_> = prepared
            .into_iter()
            .zip(&placed.appended)
            .filter(|(_, placed)| !placed.duplicate)
            .map(|(prepared, placed)| {
                Arc::new(crate::encoding::event_of(
                    prepared,
                    placed.id,
                    placed.seq,
                    placed.received_at,
                ))
            })
            .collect();
        shared.metrics.events.add(events.len() as u64);
        follow::advance(shared, shard, placed.before, events).await;
    }
    shared.metrics.observe_commit(started.elapsed(), 0);
    shared.metrics.settlements.add(count);
    shared.metrics.rows.add(rows as u64);
    shared.note_answer();
    Ok(())
}
