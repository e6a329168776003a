//! A batch goes into a transaction, and its callers are answered.

use super::transaction::Tx;
use crate::{AppendError, fault::Result, sqlite::queue::Batch};

/// Writes the batch: settlements first, they are bounded by the windows of their lanes.
pub(super) fn fill(tx: &mut Tx<'_>, batch: &mut Batch, careful: bool) -> Result<()> {
    for job in &mut batch.settles {
        job.refused = None;
        let done =
            if careful { tx.in_savepoint(|tx| tx.settle_job(job)) } else { tx.settle_job(job) };
        match done {
            Err(fault) if careful && fault.is_local() => job.refused = Some(fault.into()),
            done => done?,
        }
    }
    for command in &mut batch.commands {
        match tx.in_savepoint(|tx| command.run(tx)) {
            Err(fault) if fault.is_local() => command.refuse(fault.into()),
            done => done?,
        }
    }
    for (index, job) in batch.appends.iter_mut().enumerate() {
        job.outcome = None;
        let done = if careful {
            tx.in_savepoint(|tx| tx.append_job(index, job))
        } else {
            tx.append_job(index, job)
        };
        match done {
            Err(fault) if careful && fault.is_local() => {
                job.outcome = Some(Err(AppendError::Data { reason: fault.reason() }));
            }
            done => done?,
        }
    }
    let share = usize::try_from(tx.pending.appended).unwrap_or(usize::MAX);
    if share > 0 {
        let now = tx.now;
        let rows = share.saturating_mul(2).max(100);
        tx.memory.dedup.tend(tx.conn, &mut tx.pending.dedup, now, rows)?;
    }
    Ok(())
}

/// The fault that the crash test and the simulation must find: answers before anything is stored.
#[cfg(any(feature = "fault-injection", feature = "simulation"))]
pub(super) fn answer_too_early(batch: &mut Batch) {
    for job in &mut batch.appends {
        let (nobody, _) = tokio::sync::oneshot::channel();
        let answer = std::mem::replace(&mut job.answer, nobody);
        if let Some(outcome) = job.outcome.take() {
            let _ = answer.send(outcome);
        }
    }
}

/// What a disk that fails leaves behind.
#[cfg(feature = "simulation")]
pub(super) fn simulated_failure(
    conn: &rusqlite::Connection,
    failure: crate::simulation::Failure,
) -> crate::fault::Fault {
    use crate::{fault::Fault, simulation::Failure};

    if failure == Failure::Unknown
        && let Err(error) = conn.execute_batch("COMMIT")
    {
        return error.into();
    }
    match failure {
        Failure::Full => Fault::Full("simulated".to_owned()),
        Failure::Lost | Failure::Unknown => Fault::Broken("simulated".to_owned()),
    }
}

/// Tells every caller what became of its request.
pub(super) fn answer(batch: Batch) {
    // A caller that went away needs no answer: what it brought is stored all the same.
    for job in batch.settles {
        let _ = job.answer.send(job.refused.map_or(Ok(()), Err));
    }
    for job in batch.appends {
        let outcome = job.outcome.unwrap_or_else(|| {
            Err(AppendError::Unavailable { reason: "it was not written".to_owned() })
        });
        let _ = job.answer.send(outcome);
    }
    for command in batch.commands {
        command.answer(None);
    }
}
