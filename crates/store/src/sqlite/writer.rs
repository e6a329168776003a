//! The one thread that writes.
//!
//! It takes whatever has gathered while the last disk sync ran, writes it in one transaction,
//! syncs, makes the events visible, and only then answers.

mod batch;
mod memory;
#[cfg(feature = "simulation")]
mod simulated;
mod transaction;

use std::{
    collections::HashSet,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use zapbus_event::{Event, Position};

#[cfg(any(feature = "fault-injection", feature = "simulation"))]
use self::batch::answer_too_early;
#[cfg(feature = "simulation")]
use self::batch::simulated_failure;
pub(super) use self::memory::heads;
pub(crate) use self::transaction::Tx;
use self::{
    batch::{answer, fill},
    memory::Memory,
    transaction::Pending,
};
use super::{
    Readers, Shared, checkpoint,
    fault::{Fault, Result},
    instances,
    queue::Batch,
    row, schema,
    space::{FULL, Space},
};
use crate::{AppendError, StoreError, blob::Sha, upkeep::Appends};

/// How often the writer looks whether it may go on, while appends are stopped.
const STOPPED_LOOK: Duration = Duration::from_millis(250);

/// The thread's state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    /// `None` between a failure and the moment the database opens again. Shared with a backup that
    /// runs between the commits.
    conn: Option<Rc<Connection>>,
    readers: Readers,
    memory: Memory,
    space: Space,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        path: PathBuf,
        conn: Connection,
        readers: Readers,
    ) -> Result<Self> {
        let memory = Memory::load(&conn)?;
        let space = Space::new(path.clone());
        Ok(Self { shared, path, conn: Some(Rc::new(conn)), readers, memory, space })
    }

    pub(crate) fn head(&self) -> Position {
        self.memory.head()
    }

    /// Writes until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            let stopped = self.conn.is_none() || self.shared.stopped();
            let idle = stopped.then_some(STOPPED_LOOK);
            let Some(batch) = self.shared.queue.take(self.shared.batch, idle) else {
                break;
            };
            let open = match self.shared.checkpoints.is_suspect() {
                true => self.recover(),
                false => self.conn.is_some() || self.reopen(),
            };
            if !open {
                let reason = "its database cannot be opened".to_owned();
                self.answer_unavailable(batch, &reason);
                continue;
            }
            self.write(batch);
            while let Some(request) = self.shared.take_backup() {
                self.back_up(request);
            }
        }
        self.let_go();
    }

    /// Writes what waits at the moment, in the middle of something long.
    pub(crate) fn write_waiting(&mut self) {
        let batch = self.shared.queue.take_now(self.shared.batch);
        if !batch.is_empty() {
            self.write(batch);
        }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.shared.queue.is_closed()
    }

    pub(crate) fn connection(&self) -> Option<Rc<Connection>> {
        self.conn.clone()
    }

    fn write(&mut self, mut batch: Batch) {
        self.watch_space(&mut batch);
        if batch.is_empty() {
            self.remove_loose_blobs();
            return;
        }
        let started = Instant::now();
        let done = self.commit(&mut batch);
        self.conclude(batch, done, started.elapsed());
    }

    /// Makes visible what was committed and answers, or starts over after a failure.
    fn conclude(&mut self, mut batch: Batch, done: Result<Pending>, took: Duration) {
        let weight = batch.weight();
        match done {
            Ok(pending) => {
                let events = usize::try_from(pending.appended).unwrap_or(usize::MAX);
                self.shared.metrics.observe_commit(took, events);
                self.publish(pending, &mut batch);
                self.shared.queue.release(weight);
                answer(batch);
                if let Some(conn) = &self.conn {
                    self.shared.checkpoints.finish(conn);
                }
            }
            Err(fault) => {
                tracing::error!(event = "store.commit_failed", reason = %fault.reason(), "a commit failed; the database is opened again");
                self.shared.metrics.failed_commits.add(1);
                if matches!(fault, Fault::Full(_)) {
                    self.space.note_full();
                }
                // Whether it is on disk nobody knows: only a fresh look at the file tells.
                self.let_go();
                // A suspect database waits until nobody has it open: see `recover`.
                if !self.shared.checkpoints.is_suspect() {
                    self.reopen();
                }
                self.answer_unavailable(batch, &fault.reason());
            }
        }
        self.remove_loose_blobs();
        let bytes = self.shared.queue.bytes();
        self.shared.metrics.queue_bytes.set(bytes as u64);
    }

    /// Deletes files that nothing refers to after all.
    fn remove_loose_blobs(&self) {
        let Some(conn) = &self.conn else { return };
        let loose = self.shared.blobs.take_loose();
        if loose.is_empty() {
            return;
        }
        let is_referenced = |sha: &Sha| {
            conn.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM blob WHERE sha256 = ?1 AND object IS NULL)",
            )
            .and_then(|mut statement| statement.query_row([sha], |row| row.get(0)))
            // In doubt a file stays.
            .unwrap_or(true)
        };
        let gone: Vec<Sha> = loose.into_iter().filter(|sha| !is_referenced(sha)).collect();
        self.shared.blobs.remove(&gone);
    }

    /// Turns appends away while the disk is too full for them. Everything else goes on.
    fn watch_space(&mut self, batch: &mut Batch) {
        let looks = !batch.appends.is_empty() || self.shared.stopped();
        if !looks {
            return;
        }
        let min_free = self.shared.min_free_bytes.load(Ordering::Relaxed);
        let reason = self.space.shortage(min_free).or_else(|| self.memory.pruner.refusal());
        self.shared.set_appends(match &reason {
            Some(reason) => Appends::Stopped { reason: reason.clone() },
            None => Appends::Ok,
        });
        let Some(reason) = reason else { return };
        for job in std::mem::take(&mut batch.appends) {
            self.shared.queue.release(job.weight);
            // A caller that went away needs no answer.
            let _ = job.answer.send(Err(AppendError::Unavailable { reason: reason.clone() }));
        }
    }

    /// One transaction with everything in the batch. Outcomes are left in the jobs.
    fn commit(&mut self, batch: &mut Batch) -> Result<Pending> {
        // Almost always nothing is wrong with anybody's data. If something is, the whole is done
        // again with a savepoint around each request, and only the culprit gets the error.
        match self.attempt(batch, false) {
            Err(fault) if fault.is_local() => self.attempt(batch, true),
            done => done,
        }
    }

    fn attempt(&mut self, batch: &mut Batch, careful: bool) -> Result<Pending> {
        let conn = self
            .conn
            .as_deref()
            .ok_or_else(|| Fault::Broken("the database is not open".to_owned()))?;
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let now = (self.shared.clock)().max(self.memory.last_received_at);
        let pending = Pending::new(self.memory.next_seq);
        let pruner = self.memory.pruner.clone();
        let mut tx = Tx { conn, shared: &self.shared, memory: &mut self.memory, pending, now };
        let done = fill(&mut tx, batch, careful);
        let pending = tx.pending;
        match done {
            Ok(()) => {
                #[cfg(feature = "fault-injection")]
                {
                    answer_too_early(batch);
                    std::thread::sleep(Duration::from_millis(5));
                }
                #[cfg(feature = "simulation")]
                if let Some(simulation) = &self.shared.simulation {
                    if simulation.answers_too_early() {
                        answer_too_early(batch);
                    }
                    if let Some(failure) = simulation.failure() {
                        return Err(simulated_failure(conn, failure));
                    }
                }
                // Whatever the reason is: nothing is known of what is on disk.
                conn.prepare_cached("COMMIT")?.execute([]).map_err(|error| match error.into() {
                    Fault::Full(reason) => Fault::Full(reason),
                    other => Fault::Broken(other.reason()),
                })?;
                self.memory.last_received_at = now;
                Ok(pending)
            }
            Err(fault) => {
                self.memory.pruner = pruner;
                if pending.aliases {
                    self.memory.aliases.forget();
                }
                if fault.is_local() {
                    conn.prepare_cached("ROLLBACK")?.execute([])?;
                }
                Err(fault)
            }
        }
    }

    /// Makes a committed transaction visible.
    fn publish(&mut self, pending: Pending, batch: &mut Batch) {
        let metrics = &self.shared.metrics;
        metrics.events.add(pending.appended);
        metrics.duplicates.add(pending.duplicates);
        metrics.settlements.add(pending.settlements);
        metrics.rows.add(pending.rows);

        self.memory.next_seq = pending.next_seq;
        self.memory.dedup.apply(pending.dedup);
        self.memory.settled_states.extend(pending.settled_states);
        metrics.dedup_bytes.set(self.memory.dedup.memory() as u64);
        if !pending.directory.is_empty() {
            let mut directory = self.shared.directory_mut();
            pending.directory.into_iter().for_each(|change| change(&mut directory));
        }

        let mut events: Vec<Arc<Event>> =
            Vec::with_capacity(pending.placed.len() + pending.own.len());
        let has_own = !pending.own.is_empty();
        for (prepared, id, seq, received_at) in pending.own {
            events.push(Arc::new(row::event_of(prepared, id, seq, received_at)));
        }
        let mut placed = pending.placed.into_iter().peekable();
        for (index, job) in batch.appends.iter_mut().enumerate() {
            for (at, mut prepared) in std::mem::take(&mut job.events).into_iter().enumerate() {
                if let Some(place) = placed.next_if(|place| place.job == index && place.event == at)
                {
                    if let Some(pin) = prepared.pin.take() {
                        pin.committed();
                    }
                    let event = row::event_of(prepared, place.id, place.seq, place.received_at);
                    events.push(Arc::new(event));
                }
            }
        }
        if has_own {
            events.sort_unstable_by_key(|event| event.seq);
        }

        let stored = self.shared.blobs.stored();
        let bytes = pending.blob_bytes.unsigned_abs();
        if pending.blob_bytes >= 0 {
            stored.fetch_add(bytes, Ordering::Relaxed);
        } else {
            stored.fetch_sub(bytes.min(stored.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
        if !pending.gone_blobs.is_empty() {
            self.shared.blobs.remove(&pending.gone_blobs);
        }

        let grown: usize = events.iter().map(|event| event.weight()).sum();
        if !events.is_empty() || !pending.gone_events.is_empty() {
            let mut tail = self.shared.tail_mut();
            let floor = tail.floor();
            let gone: HashSet<Position> =
                pending.gone_events.into_iter().filter(|seq| *seq > floor).collect();
            if !gone.is_empty() {
                tail.remove(|event| gone.contains(&event.seq));
            }
            tail.extend(events);
            metrics.tail_bytes.set(tail.bytes() as u64);
            metrics.tail_events.set(tail.len() as u64);
        }
        // Rows, indexes and page headers; only the order of magnitude matters.
        self.shared.checkpoints.owe(grown as u64 * 2 + 16 * 1024);
        self.shared.advance_head(self.memory.head());
    }

    fn let_go(&mut self) {
        let suspect = self.shared.checkpoints.is_suspect();
        // A backup that still has it fails, and closes it then.
        if let Some(conn) = self.conn.take().and_then(Rc::into_inner) {
            checkpoint::close(conn, suspect);
        }
    }

    /// After a sync of the database has failed: closes every connection, so that the index of the
    /// log is made anew from the log, and moves all of it into the database once more. What the
    /// failed sync lost is in the log, which is not started over before a sync has succeeded.
    fn recover(&mut self) -> bool {
        tracing::error!(
            event = "store.sync_failed",
            "a sync of the database failed: what was moved into it is moved again"
        );
        let _nobody_reads = self.readers.stand_still();
        self.shared.checkpoints.let_go();
        self.let_go();
        self.shared.checkpoints.trust();
        self.reopen()
    }

    /// Opens the database again and reads its heads anew.
    fn reopen(&mut self) -> bool {
        let checkpoints = &self.shared.checkpoints;
        let opened = schema::open_writer(&self.path).and_then(|conn| {
            #[cfg(feature = "simulation")]
            self.shared.loosen(&conn)?;
            let loaded = checkpoints
                .start_over(&conn, &self.path)
                .and_then(|()| Ok((Memory::load(&conn)?, instances::directory(&conn)?)));
            match loaded {
                Ok((memory, directory)) => Ok((conn, memory, directory)),
                Err(fault) => {
                    checkpoint::close(conn, checkpoints.is_suspect());
                    Err(fault)
                }
            }
        });
        match opened {
            Ok((conn, memory, directory)) => {
                self.conn = Some(Rc::new(conn));
                self.memory = memory;
                *self.shared.directory_mut() = directory;
                self.shared.tail_mut().reset(self.memory.head());
                self.shared.advance_head(self.memory.head());
                true
            }
            Err(fault) => {
                self.shared.set_appends(Appends::Stopped { reason: advice(&fault) });
                false
            }
        }
    }

    fn answer_unavailable(&self, batch: Batch, reason: &str) {
        self.shared.queue.release(batch.weight());
        let store = || StoreError::Unavailable { reason: reason.to_owned() };
        for job in batch.settles {
            let _ = job.answer.send(Err(store()));
        }
        for command in batch.commands {
            command.answer(Some(store()));
        }
        for job in batch.appends {
            let _ = job.answer.send(Err(AppendError::Unavailable { reason: reason.to_owned() }));
        }
    }
}

/// Why the database cannot be opened again, and what whoever operates it can do.
fn advice(fault: &Fault) -> String {
    match fault {
        Fault::Full(_) => FULL.to_owned(),
        Fault::Damaged(reason) => format!(
            "its database is damaged ({reason}): stop the process and restore the latest backup"
        ),
        other => format!(
            "its database cannot be written ({}): see that the disk is there, sound and writable; \
             it is tried again by itself",
            other.reason()
        ),
    }
}
