//! The one thread that writes.
//!
//! It takes whatever has gathered while the last disk sync ran, writes it in one transaction,
//! syncs, makes the events visible, and only then answers.

#[cfg(feature = "simulation")]
mod simulated;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use zapbus_event::{AuditId, DestinationId, Event, EventId, InstanceId, Position, Timestamp};

use super::{
    Readers, Shared,
    append::Placed,
    checkpoint,
    dedup::{self, Dedup},
    directory::Directory,
    fault::{Fault, Result},
    instances,
    queue::{Batch, Prepared},
    row::{self, position},
    schema,
    space::{FULL, Space},
};
use crate::{
    AppendError, StoreError,
    blob::Sha,
    prepared::{KnownAliases, Random},
    pruning::Pruner,
    upkeep::Appends,
};

/// How often the writer looks whether it may go on, while appends are stopped.
const STOPPED_LOOK: Duration = Duration::from_millis(250);

/// A change of the [`Directory`], made when the transaction is committed.
pub(crate) type DirectoryChange = Box<dyn FnOnce(&mut Directory) + Send>;

/// What the writer remembers between transactions.
pub(crate) struct Memory {
    next_seq: u64,
    last_received_at: Timestamp,
    pub(crate) dedup: Dedup,
    pub(crate) random: Random,
    pub(crate) aliases: KnownAliases,
    pub(crate) destinations: HashMap<DestinationId, i64>,
    /// Instances whose state ordinary messages no longer change.
    pub(crate) settled_states: HashSet<InstanceId>,
    pub(crate) pruner: Pruner,
    /// The id of the last line of the audit log: lines of one millisecond keep their order.
    pub(crate) last_audit: Option<AuditId>,
    /// Scratch space for the heads of rows.
    pub(crate) head: Vec<u8>,
}

impl Memory {
    fn load(conn: &Connection) -> Result<Self> {
        let (head, last_received_at) = heads(conn)?;
        Ok(Self {
            next_seq: head.0 + 1,
            last_received_at,
            dedup: Dedup::load(conn)?,
            random: Random::default(),
            aliases: KnownAliases::default(),
            destinations: HashMap::new(),
            settled_states: HashSet::new(),
            pruner: Pruner::default(),
            last_audit: None,
            head: Vec::with_capacity(512),
        })
    }

    pub(crate) fn head(&self) -> Position {
        Position(self.next_seq - 1)
    }
}

/// The end of the journal and the time of its last event, pruned ones included.
pub(super) fn heads(conn: &Connection) -> Result<(Position, Timestamp)> {
    let (seq, at): (i64, i64) = conn.query_row(
        "SELECT max((SELECT value FROM meta WHERE name = 'head'), \
                    ifnull((SELECT seq FROM journal ORDER BY seq DESC LIMIT 1), 0)), \
                max((SELECT value FROM meta WHERE name = 'received_at'), \
                    ifnull((SELECT received_at FROM journal ORDER BY seq DESC LIMIT 1), 0))",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok((position(seq), Timestamp::from_millis(at)))
}

/// What a transaction has done so far; becomes true with its commit.
pub(crate) struct Pending {
    pub(crate) next_seq: u64,
    pub(crate) dedup: dedup::Change,
    pub(crate) placed: Vec<Placed>,
    pub(crate) own: Vec<(Prepared, EventId, Position, Timestamp)>,
    pub(crate) directory: Vec<DirectoryChange>,
    pub(crate) settled_states: Vec<InstanceId>,
    /// Address pairs were noted as known.
    pub(crate) aliases: bool,
    pub(crate) appended: u64,
    pub(crate) duplicates: u64,
    pub(crate) settlements: u64,
    pub(crate) rows: u64,
    /// Bytes of blobs referred to for the first time, less those no longer referred to.
    pub(crate) blob_bytes: i64,
    /// Files nothing refers to any more.
    pub(crate) gone_blobs: Vec<Sha>,
    /// Positions that leave the tail too.
    pub(crate) gone_events: Vec<Position>,
}

/// Where [`Pending`] goes back to with a savepoint.
struct Mark {
    next_seq: u64,
    dedup: dedup::Mark,
    placed: usize,
    own: usize,
    directory: usize,
    settled_states: usize,
    gone_events: usize,
    appended: u64,
    duplicates: u64,
    blob_bytes: i64,
    gone_blobs: usize,
}

impl Pending {
    fn new(next_seq: u64) -> Self {
        Self {
            next_seq,
            dedup: dedup::Change::default(),
            placed: Vec::new(),
            own: Vec::new(),
            directory: Vec::new(),
            settled_states: Vec::new(),
            aliases: false,
            appended: 0,
            duplicates: 0,
            settlements: 0,
            rows: 0,
            blob_bytes: 0,
            gone_blobs: Vec::new(),
            gone_events: Vec::new(),
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            next_seq: self.next_seq,
            dedup: self.dedup.mark(),
            placed: self.placed.len(),
            own: self.own.len(),
            directory: self.directory.len(),
            settled_states: self.settled_states.len(),
            gone_events: self.gone_events.len(),
            appended: self.appended,
            duplicates: self.duplicates,
            blob_bytes: self.blob_bytes,
            gone_blobs: self.gone_blobs.len(),
        }
    }

    fn back_to(&mut self, mark: &Mark) {
        self.next_seq = mark.next_seq;
        self.dedup.back_to(&mark.dedup);
        self.placed.truncate(mark.placed);
        self.own.truncate(mark.own);
        self.directory.truncate(mark.directory);
        self.settled_states.truncate(mark.settled_states);
        self.gone_events.truncate(mark.gone_events);
        self.appended = mark.appended;
        self.duplicates = mark.duplicates;
        self.blob_bytes = mark.blob_bytes;
        self.gone_blobs.truncate(mark.gone_blobs);
    }
}

/// A transaction of the writer's.
pub(crate) struct Tx<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) shared: &'a Shared,
    pub(crate) memory: &'a mut Memory,
    pub(crate) pending: Pending,
    /// The time of everything in it. Never before that of an earlier one.
    pub(crate) now: Timestamp,
}

impl Tx<'_> {
    /// The end of the journal, as of now in this transaction.
    pub(crate) fn head(&self) -> Position {
        Position(self.pending.next_seq - 1)
    }

    /// Does `work` so that its failure leaves no trace.
    fn in_savepoint(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mark = self.pending.mark();
        let pruner = self.memory.pruner.clone();
        self.conn.prepare_cached("SAVEPOINT one")?.execute([])?;
        let done = work(self);
        if done.as_ref().is_err_and(Fault::is_local) {
            self.conn.prepare_cached("ROLLBACK TO one")?.execute([])?;
            self.pending.back_to(&mark);
            self.memory.pruner = pruner;
        }
        if done.as_ref().err().is_none_or(Fault::is_local) {
            self.conn.prepare_cached("RELEASE one")?.execute([])?;
        }
        done
    }
}

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
            conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM blob WHERE sha256 = ?1)")
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

/// Writes the batch: settlements first, they are bounded by the windows of their lanes.
fn fill(tx: &mut Tx<'_>, batch: &mut Batch, careful: bool) -> Result<()> {
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
fn answer_too_early(batch: &mut Batch) {
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
fn simulated_failure(conn: &Connection, failure: crate::simulation::Failure) -> Fault {
    use crate::simulation::Failure;

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

fn answer(batch: Batch) {
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
