//! Moves the write-ahead log into the database, on a connection and a thread of its own.
//!
//! A passive checkpoint waits for nobody and nobody waits for it, but under load it never gets to
//! the end of a log that grows meanwhile, and a log whose end was not reached cannot start over. So
//! the thread moves almost all of it, and the writer, between two commits, the few pages that came
//! since: then its next commit starts the log over, without a lock that anybody waits for.

use std::{
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, config::DbConfig, ffi};

use super::fault::{Fault, Result};
use crate::metrics::Metrics;

/// Bytes written since the last checkpoint that make the next one worth its syncs.
const ENOUGH: u64 = 16 << 20;
/// What little was written is moved after this time.
const QUIET: Duration = Duration::from_secs(30);
/// A log file larger than this is cut.
const TRUNCATE: u64 = 64 << 20;
/// A checkpoint that took longer has left much of what was written meanwhile.
const SHORT: Duration = Duration::from_millis(10);
/// Checkpoints in a row.
const ROUNDS: usize = 4;

/// Tells the thread when there is something to do, and the writer when little is left of it.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    owed: AtomicU64,
    nearly_done: AtomicBool,
    closed: Mutex<bool>,
    wake: Condvar,
    /// The thread's own; whoever closes all connections takes it away.
    conn: Mutex<Option<Connection>>,
    suspect: AtomicBool,
}

impl Checkpoints {
    /// About so many bytes were written.
    pub(crate) fn owe(&self, bytes: u64) {
        let before = self.owed.fetch_add(bytes, Relaxed);
        if before < ENOUGH && before + bytes >= ENOUGH {
            self.wake.notify_one();
        }
    }

    /// Between two commits: moves the rest of the log, if little is left.
    pub(crate) fn finish(&self, writer: &Connection) {
        if self.nearly_done.swap(false, Relaxed)
            && let Err(fault) = self.move_log(writer, "PASSIVE")
        {
            tracing::debug!(event = "store.checkpoint_waits", reason = %fault.reason(), "the log is moved later");
        }
    }

    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    /// Whether a sync of the database has failed. Pages that were moved into it before may be gone
    /// then, although the index of the log says that they need not be moved again: nobody may
    /// move any more, and no connection may stay open, before the index is made anew.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(SeqCst)
    }

    /// The index of the log was made anew.
    pub(crate) fn trust(&self) {
        self.suspect.store(false, SeqCst);
    }

    /// Closes the thread's connection, until it needs the next one.
    pub(crate) fn let_go(&self) {
        if let Some(conn) = self.conn.lock().unwrap_or_else(PoisonError::into_inner).take() {
            close(conn, self.is_suspect());
        }
    }

    /// The thread. `alarm` is called when the database has become suspect.
    pub(crate) fn run(&self, path: &Path, metrics: &Metrics, alarm: impl Fn()) {
        loop {
            let closed = {
                let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
                let wait = |closed: &mut bool| !*closed && self.owed.load(Relaxed) < ENOUGH;
                *self
                    .wake
                    .wait_timeout_while(closed, QUIET, wait)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
            if !self.is_suspect() && (self.owed.swap(0, Relaxed) > 0 || closed) {
                metrics.checkpoints.add(1);
                if let Err(fault) = self.checkpoint(path, closed) {
                    tracing::debug!(event = "store.checkpoint_failed", reason = %fault.reason(), "a checkpoint has to wait");
                    self.let_go();
                }
                if self.is_suspect() {
                    alarm();
                }
            }
            if closed {
                self.let_go();
                return;
            }
        }
    }

    fn checkpoint(&self, path: &Path, last: bool) -> Result<()> {
        let mut conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        let conn = match &mut *conn {
            Some(conn) => conn,
            none => none.insert(open(path)?),
        };
        for _ in 0..ROUNDS {
            let started = Instant::now();
            self.move_log(conn, "PASSIVE")?;
            if started.elapsed() < SHORT {
                break;
            }
        }
        let length = std::fs::metadata(wal(path)).map_or(0, |found| found.len());
        if last || length > TRUNCATE {
            // Almost all of it has just been moved: the writer waits for the rest only.
            self.move_log(conn, "TRUNCATE")?;
        } else {
            self.nearly_done.store(true, Relaxed);
        }
        Ok(())
    }

    /// Whether somebody's reading kept it from moving everything.
    fn move_log(&self, conn: &Connection, mode: &str) -> Result<bool> {
        let query = format!("PRAGMA wal_checkpoint({mode})");
        let moved = conn
            .prepare_cached(&query)
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)));
        if let Err(rusqlite::Error::SqliteFailure(failure, _)) = &moved
            && failure.extended_code == ffi::SQLITE_IOERR_FSYNC
        {
            self.suspect.store(true, SeqCst);
        }
        Ok(moved? != 0)
    }

    /// Moves all of the log into the database and empties it, on disk. After a sync has failed, what
    /// can be read of the log may be in the system's memory alone (Linux says so once and then takes
    /// it for written), and a log of which the disk has only a part would undo what is in the
    /// database.
    pub(crate) fn start_over(&self, writer: &Connection, path: &Path) -> Result<()> {
        if self.move_log(writer, "TRUNCATE")? {
            return Err(Fault::Broken("its log is still being read".to_owned()));
        }
        for path in [path, &wal(path)] {
            let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
            synced.map_err(|error| Fault::Broken(format!("it cannot be synced: {error}")))?;
        }
        Ok(())
    }
}

/// Closes a connection. That of a suspect database must not move the log while it does.
pub(crate) fn close(conn: Connection, suspect: bool) {
    if suspect
        && let Err(error) = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
    {
        tracing::error!(event = "store.checkpoint_unsafe", %error, "a connection may move the log when it is closed");
    }
    drop(conn);
}

fn open(path: &Path) -> Result<Connection> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(Duration::from_millis(100))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cache_size", -200)?;
    Ok(conn)
}

/// The log file of a database.
pub(crate) fn wal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}
