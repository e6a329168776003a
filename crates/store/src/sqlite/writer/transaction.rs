//! One transaction of the writer's, and what becomes true with its commit.

use rusqlite::Connection;
use zapbus_event::{EventId, InstanceId, Position, Timestamp};

use super::memory::Memory;
use crate::{
    blob::Sha,
    directory::Directory,
    fault::{Fault, Result},
    sqlite::{Shared, append::Placed, dedup, queue::Prepared},
};

/// A change of the [`Directory`], made when the transaction is committed.
pub(crate) type DirectoryChange = Box<dyn FnOnce(&mut Directory) + Send>;

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
    /// Files elsewhere that nothing refers to any more.
    pub(crate) gone_objects: u64,
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
    gone_objects: u64,
}

impl Pending {
    pub(super) fn new(next_seq: u64) -> Self {
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
            gone_objects: 0,
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
            gone_objects: self.gone_objects,
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
        self.gone_objects = mark.gone_objects;
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
    pub(super) fn in_savepoint(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
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
