//! Moving a store from one machine to many: everything in a data folder into a database on a server.
//!
//! Ids, positions, cursors and runs stay what they are. A position goes to the shard of its instance
//! and keeps its number; the one cursor of a global destination becomes one in each shard. The source
//! is only read, with its folder locked, and marked in the end, so that nobody goes on with it by
//! mistake. The target serves nobody until the copy is whole: a table `copying` says so, and how far
//! each table is. So a copy that was stopped, wherever that was, goes on when it is started again.

mod mapping;
mod source;
mod tables;
mod target;
mod wire;

use std::path::PathBuf;

use zapbus_event::Timestamp;

use self::{source::Source, tables::TABLES, target::Target};
use crate::{Key, OpenError, Postgres, Store, fault::Fault};

/// What to copy where.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// The data folder to copy. Nothing in it changes but for a mark that is left when all is
    /// there: no store is opened in it by mistake then ([`OpenError::Copied`]).
    pub from: PathBuf,
    /// The database to copy into: an empty one, or one that a copy of the same folder was begun in.
    pub to: Postgres,
    /// The keys. What is encrypted in the copy is encrypted with the first; any of them, and the one
    /// in the data folder, decrypts what is encrypted in the source.
    pub keys: Vec<Key>,
    /// The copy delivers as soon as it is opened. Else its destinations are paused until somebody
    /// resumes them, so that source and copy do not both deliver.
    pub live: bool,
    /// The time.
    pub now: Timestamp,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyProgress {
    /// The table.
    pub table: &'static str,
    /// Rows of it that are in the copy for good.
    pub done: u64,
    /// Rows of it in all.
    pub total: u64,
    /// It is all there and is compared now, which takes a while where there is much.
    pub checking: bool,
}

/// A copy that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// What was copied and compared, in the order of copying.
    pub tables: Vec<CopiedTable>,
    /// It was begun before, and went on where it had stopped.
    pub resumed: bool,
}

/// A table of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedTable {
    /// Its name.
    pub name: &'static str,
    /// Its rows, on both sides.
    pub rows: u64,
    /// The sum over all rows of 56 bits of each one's SHA-256, on both sides.
    pub checksum: u128,
}

/// Why there is no whole copy. Each message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// Source or target cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A gateway uses the data folder.
    #[error("a gateway{} is using {}: stop it first. A copy is made of a store that stands still.", holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), path.display())]
    Running {
        /// The folder.
        path: PathBuf,
        /// The process, when it wrote its number.
        holder: Option<u32>,
    },
    /// The source cannot be copied.
    #[error("{} cannot be copied: {reason}", path.display())]
    Source {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The target holds something else.
    #[error(
        "{shown} cannot be copied into: {reason}. Nothing is overwritten: give an empty database."
    )]
    Occupied {
        /// Where it is, without secrets.
        shown: String,
        /// What is in it.
        reason: String,
    },
    /// The database went away, or refused something. What was copied stays, and counts.
    #[error("copying into {shown} stopped: {reason}. Start it again: it goes on from there.")]
    Interrupted {
        /// Where it is, without secrets.
        shown: String,
        /// What it said.
        reason: String,
    },
    /// Source and copy are not the same. The copy serves nobody.
    #[error(
        "table {table} of the copy differs: {reason}. Drop the database, and copy into an empty one."
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// Rows or checksums of both.
        reason: String,
    },
    /// Somebody called it off.
    #[error("it was called off. Start it again: it goes on from there.")]
    CalledOff,
}

/// What is told how far a copy is, and answers whether to go on.
pub type Progress<'a> = &'a mut (dyn FnMut(CopyProgress) -> bool + Send);

impl Store {
    /// Copies everything in a data folder into a database on a server: events with bodies and
    /// binaries, deduplication keys, accounts, instances, credentials, destinations with cursors and
    /// runs, the delivery log, figures, audit, settings. Compares both sides at the end. Until then
    /// the database cannot be opened as a store; a copy that was stopped is gone on with.
    ///
    /// When it is opened for the first time its positions jump, so that the source, should somebody
    /// start it again, gives out none that the copy does.
    ///
    /// # Errors
    /// Each says what to do about it.
    pub async fn copy(options: &CopyOptions, progress: Progress<'_>) -> Result<Copied, CopyError> {
        let opening = options.clone();
        let source = blocking(move || Source::open(&opening)).await??;
        let mut target = Target::open(options, &source).await?;
        let mut tables = Vec::with_capacity(TABLES.len());
        for table in TABLES {
            let copied = target.copy(table, &source, progress).await?;
            target.check(table, &copied, progress).await?;
            tables.push(copied);
        }
        let resumed = target.resumed;
        // Before the copy is a store: there is no moment at which both can be opened by mistake.
        source.mark(&target.shown, options.now)?;
        target.finish(&source, options.live).await?;
        Ok(Copied { tables, resumed })
    }
}

/// Does what blocks away from the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CopyError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| CopyError::Interrupted {
        shown: "the database".to_owned(),
        reason: error.to_string(),
    })
}

/// What an engine said, in a copy's words.
fn of_source(path: &std::path::Path, fault: &Fault) -> CopyError {
    CopyError::Source { path: path.to_owned(), reason: fault.reason() }
}
