//! The source: a data folder that nobody uses meanwhile, read and not changed.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OptionalExtension as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use zapbus_event::Timestamp;

use super::{
    CopyError, CopyOptions,
    mapping::{Mapping, Periods},
    of_source,
    tables::{Found, TABLES, Table},
    wire::Rows,
};
use crate::{
    Key, OpenError,
    blob::Blobs,
    copied,
    fault::{Fault, Result},
    seal::Sealer,
    sqlite::schema,
};

/// What goes over in one transaction, and what is lost of the work when it is stopped.
const BATCH_ROWS: u64 = 5_000;
const BATCH_BYTES: usize = 4 << 20;
/// Batches that are read ahead.
const AHEAD: usize = 2;

/// A data folder with its lock.
pub(super) struct Source {
    pub(super) path: PathBuf,
    conn: Arc<Mutex<Connection>>,
    keys: Vec<Key>,
    pub(super) facts: Facts,
    _lock: schema::FolderLock,
}

/// What is no table of its own in the target.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) head: i64,
    pub(super) received_at: i64,
    pub(super) pruned_upto: i64,
    pub(super) generation: i64,
    /// `number, old_head, first, last_received_at, began_at` of each.
    pub(super) generations: Vec<[i64; 5]>,
    /// The last number that was given to a destination, and to a line of the log.
    pub(super) destinations: i64,
    pub(super) lines: i64,
    /// Event types by their numbers here.
    pub(super) kinds: Vec<(i64, String)>,
    /// Rows of each of [`TABLES`].
    pub(super) rows: Vec<u64>,
}

impl Facts {
    /// Tells a source from another one, and from itself after a gateway ran on it: each start of one
    /// is an event.
    pub(super) fn fingerprint(&self, first_account: &[u8]) -> String {
        let mut digest = Sha256::new();
        digest.update(first_account);
        for number in [self.head, self.received_at, self.pruned_upto, self.generation, self.lines] {
            digest.update(number.to_be_bytes());
        }
        for rows in &self.rows {
            digest.update(rows.to_be_bytes());
        }
        hex::encode(digest.finalize())
    }
}

/// Rows that go over together.
pub(super) struct Batch {
    pub(super) rows: Rows,
    pub(super) periods: Periods,
}

impl Source {
    /// Blocks.
    pub(super) fn open(options: &CopyOptions) -> Result<Self, CopyError> {
        let path = options.from.clone();
        let refused =
            |reason: &str| CopyError::Source { path: path.clone(), reason: reason.to_owned() };
        // Looking for it must not make it.
        if !schema::database(&path).is_file() {
            return Err(refused("there is no store in it (no zapbus.db). Give a data folder"));
        }
        let lock = schema::lock_folder(&path).map_err(|error| match error {
            OpenError::Locked { path, holder } => CopyError::Running { path, holder },
            other => other.into(),
        })?;
        let wrong = |fault: Fault| of_source(&path, &fault);
        let conn = schema::open_reader(&schema::database(&path)).map_err(wrong)?;
        let plan = schema::plan(&path)?;
        if plan.from < plan.to {
            return Err(refused(
                "an older version wrote it. Start this version on it once (or run `zapbus \
                 migrate`), stop it, and copy then",
            ));
        }
        let mut keys = options.keys.clone();
        for key in schema::keys(&path, &[], false)? {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        schema::check_used_keys(&conn, &path, &keys)?;
        let facts = facts(&conn).map_err(wrong)?;
        Ok(Self { path, conn: Arc::new(Mutex::new(conn)), keys, facts, _lock: lock })
    }

    pub(super) fn sealer(&self) -> Result<Sealer, OpenError> {
        Sealer::new(&self.keys)
    }

    pub(super) fn blobs(&self) -> Blobs {
        Blobs::new(self.path.join("blobs"))
    }

    /// Leaves a mark that it was copied.
    pub(super) fn mark(&self, to: &str, now: Timestamp) -> Result<(), CopyError> {
        copied::mark(&self.path, to, now).map_err(|error| CopyError::Source {
            path: self.path.clone(),
            reason: format!("it cannot be marked as copied ({error})"),
        })
    }

    pub(super) fn fingerprint(&self) -> Result<String> {
        let conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        let first: Option<Vec<u8>> = conn
            .query_row("SELECT id FROM account ORDER BY id LIMIT 1", [], |row| row.get(0))
            .optional()?;
        Ok(self.facts.fingerprint(&first.unwrap_or_default()))
    }

    /// The rows of a table but the first `skip`, on a thread of their own. It ends when nobody wants
    /// them any more.
    pub(super) fn read(
        &self,
        table: &'static Table,
        mapping: &Arc<Mapping>,
        skip: u64,
    ) -> mpsc::Receiver<Result<Batch>> {
        let (send, batches) = mpsc::channel(AHEAD);
        let (conn, mapping) = (Arc::clone(&self.conn), Arc::clone(mapping));
        tokio::task::spawn_blocking(move || {
            let conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
            let sent = |batch| send.blocking_send(Ok(batch)).is_ok();
            if let Err(fault) = read(&conn, table, &mapping, skip, sent) {
                let _ = send.blocking_send(Err(fault));
            }
        });
        batches
    }
}

fn read(
    conn: &Connection,
    table: &Table,
    mapping: &Mapping,
    mut skip: u64,
    mut send: impl FnMut(Batch) -> bool,
) -> Result<()> {
    let new = || Batch { rows: Rows::new(table.columns.len()), periods: Periods::default() };
    let mut batch = new();
    for part in parts(conn, table)? {
        if skip >= part.rows {
            skip -= part.rows;
            continue;
        }
        let mut statement = conn.prepare(&format!("{} LIMIT -1 OFFSET ?1", part.select))?;
        let mut rows = statement.query([i64::try_from(skip).unwrap_or(i64::MAX)])?;
        skip = 0;
        while let Some(row) = rows.next()? {
            batch.rows.begin();
            (table.put)(row, mapping, &mut batch.rows, &mut batch.periods)?;
            batch.rows.end();
            if batch.rows.count >= BATCH_ROWS || batch.rows.len() >= BATCH_BYTES {
                let full = std::mem::replace(&mut batch, new());
                if !send(full) {
                    return Ok(());
                }
            }
        }
    }
    if batch.rows.count > 0 {
        send(batch);
    }
    Ok(())
}

/// A question of the source, and how many rows are the answer.
struct Part {
    select: String,
    rows: u64,
}

fn count(conn: &Connection, of: &str) -> Result<u64> {
    let count: i64 = conn.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

fn parts(conn: &Connection, table: &Table) -> Result<Vec<Part>> {
    let (name, select) = match table.rows {
        Found::In { table, select } => (table, select),
        Found::InSegments => return segments(conn),
    };
    Ok(vec![Part { select: select.to_owned(), rows: count(conn, name)? }])
}

/// Sealed segments, oldest first, then what is in none of them.
fn segments(conn: &Connection) -> Result<Vec<Part>> {
    let mut statement = conn.prepare("SELECT number FROM dedup_segment ORDER BY number")?;
    let numbers = statement.query_map([], |row| row.get(0))?;
    let numbers: Vec<i64> = numbers.collect::<Result<_, _>>()?;
    let mut parts = Vec::new();
    for number in numbers {
        let rows = count(conn, &format!("dedup_{number}"))?;
        let select = format!("SELECT hash, id, seq FROM dedup_{number} ORDER BY hash");
        parts.push(Part { select, rows });
    }
    let recent = "dedup_recent WHERE n > (SELECT ifnull(max(last_row), 0) FROM dedup_segment)";
    let select = format!("SELECT hash, id, seq FROM {recent} ORDER BY n");
    parts.push(Part { select, rows: count(conn, recent)? });
    Ok(parts)
}

fn facts(conn: &Connection) -> Result<Facts> {
    let meta = |name: &str| -> Result<i64> {
        let value: Option<i64> = conn
            .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
            .optional()?;
        Ok(value.unwrap_or_default())
    };
    let number = |query: &str| -> Result<i64> {
        Ok(conn.query_row(query, [], |row| row.get::<_, Option<i64>>(0))?.unwrap_or_default())
    };
    let mut facts = Facts {
        head: meta("head")?.max(number("SELECT max(seq) FROM journal")?),
        received_at: meta("received_at")?,
        pruned_upto: meta("pruned_upto")?,
        generation: meta("generation")?,
        destinations: number("SELECT max(seq) FROM sqlite_sequence WHERE name = 'destination'")?
            .max(number("SELECT max(n) FROM destination")?),
        lines: number("SELECT max(n) FROM delivery")?,
        ..Facts::default()
    };
    let last = "SELECT received_at FROM journal ORDER BY seq DESC LIMIT 1";
    let last: Option<i64> = conn.query_row(last, [], |row| row.get(0)).optional()?;
    facts.received_at = facts.received_at.max(last.unwrap_or_default());
    let mut statement = conn.prepare(
        "SELECT number, old_head, first, last_received_at, began_at FROM generation \
         ORDER BY number",
    )?;
    let rows = statement.query_map([], |row| {
        Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
    })?;
    facts.generations = rows.collect::<Result<_, _>>()?;
    let mut statement = conn.prepare("SELECT number, name FROM kind ORDER BY number")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    facts.kinds = rows.collect::<Result<_, _>>()?;
    for table in TABLES {
        facts.rows.push(parts(conn, table)?.iter().map(|part| part.rows).sum());
    }
    Ok(facts)
}
