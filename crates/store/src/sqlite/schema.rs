//! Opening: folder, lock, schema, keys.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use zapbus_event::{AccountId, InstanceId, Kind, Timestamp};

use super::{
    fault::{Fault, Result},
    kinds::Kinds,
};
use crate::{
    OpenError,
    options::Key,
    private,
    registry::{DEFAULT_ACCOUNT, RESERVED_INSTANCE},
    seal::{Place, Sealer},
    upkeep::MigrationPlan,
};

/// Every step of the schema, oldest first. Published ones never change.
const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_initial", include_str!("../../migrations/sqlite/0001_initial.sql")),
    ("0002_statistics", include_str!("../../migrations/sqlite/0002_statistics.sql")),
    ("0003_open_deliveries", include_str!("../../migrations/sqlite/0003_open_deliveries.sql")),
    ("0004_subscribers", include_str!("../../migrations/sqlite/0004_subscribers.sql")),
    ("0005_media", include_str!("../../migrations/sqlite/0005_media.sql")),
];

const DATABASE: &str = "zapbus.db";
pub(super) const KEY_FILE: &str = "encryption.key";
/// What the key is written to first: a start that is killed leaves no half of a key.
const KEY_DRAFT: &str = "encryption.key.new";
pub(super) const LOCK_FILE: &str = "zapbus.lock";
const PROOF: &[u8] = b"zapbus";

/// The database file in a data folder.
pub(crate) fn database(data_dir: &Path) -> PathBuf {
    data_dir.join(DATABASE)
}

/// The file by which a process holds a data folder.
pub(super) fn lock_file(data_dir: &Path) -> PathBuf {
    data_dir.join(LOCK_FILE)
}

/// Keeps other processes out of the folder as long as it lives.
#[derive(Debug)]
pub(crate) struct FolderLock(#[expect(dead_code, reason = "held, not read")] File);

pub(crate) fn lock_folder(data_dir: &Path) -> Result<FolderLock, OpenError> {
    let unusable = |source| OpenError::Folder { path: data_dir.to_owned(), source };
    // Messages of people are in there: for nobody else on the machine.
    private::make_folder(data_dir).map_err(unusable)?;
    if private::tighten_folder(data_dir).map_err(unusable)? {
        tracing::warn!(
            event = "store.folder_tightened",
            data_dir = %data_dir.display(),
            "others could read the data folder: now only its owner can"
        );
    }
    let mut file = private::open(&lock_file(data_dir)).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The number only helps the message.
            let _ = file.read_to_string(&mut holder);
            return Err(OpenError::Locked {
                path: data_dir.to_owned(),
                holder: holder.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(unusable)?;
    Ok(FolderLock(file))
}

/// The connection that writes.
pub(crate) fn open_writer(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // Only a checkpoint that cuts the log could be in the way, and not for long.
    conn.busy_timeout(Duration::from_secs(2))?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    // Checkpoints have a connection of their own.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "cache_size", -6_000)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "foreign_keys", false)?;
    conn.pragma_update(None, "secure_delete", "FAST")?;
    conn.set_prepared_statement_cache_capacity(128);
    Ok(conn)
}

/// A connection that reads.
pub(crate) fn open_reader(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.busy_timeout(Duration::from_secs(10))?;
    conn.pragma_update(None, "query_only", true)?;
    conn.pragma_update(None, "cache_size", -2_000)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

pub(super) fn version(conn: &Connection) -> Result<usize> {
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    usize::try_from(version).map_err(|_| Fault::malformed(format!("schema version {version}")))
}

/// What [`migrate`] would do.
pub(crate) fn plan(data_dir: &Path) -> Result<MigrationPlan, OpenError> {
    let path = database(data_dir);
    let wrong = |fault: Fault| open_error(data_dir, &fault);
    let from = if path.exists() {
        let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(Fault::from);
        conn.and_then(|conn| version(&conn)).map_err(wrong)?
    } else {
        0
    };
    refuse_newer(from)?;
    Ok(MigrationPlan {
        from: u32::try_from(from).unwrap_or(u32::MAX),
        to: MIGRATIONS.len() as u32,
        names: MIGRATIONS[from..].iter().map(|(name, _)| (*name).to_owned()).collect(),
    })
}

fn refuse_newer(found: usize) -> Result<(), OpenError> {
    if found <= MIGRATIONS.len() {
        return Ok(());
    }
    Err(OpenError::Newer {
        found: u32::try_from(found).unwrap_or(u32::MAX),
        known: MIGRATIONS.len() as u32,
    })
}

/// Brings the schema up to date. Gives the names of the steps taken and the version found.
pub(crate) fn migrate(
    conn: &Connection,
    data_dir: &Path,
) -> Result<(Vec<String>, usize), OpenError> {
    let wrong = |fault: Fault| open_error(data_dir, &fault);
    let from = version(conn).map_err(wrong)?;
    refuse_newer(from)?;
    for (index, (_, step)) in MIGRATIONS.iter().enumerate().skip(from) {
        // One transaction per step: a crash between two leaves a version that is whole.
        conn.execute_batch(&format!(
            "BEGIN IMMEDIATE;\n{step}\nPRAGMA user_version = {};\nCOMMIT;",
            index + 1
        ))
        .map_err(|error| wrong(error.into()))?;
    }
    Ok((MIGRATIONS[from..].iter().map(|(name, _)| (*name).to_owned()).collect(), from))
}

pub(crate) fn open_error(data_dir: &Path, fault: &Fault) -> OpenError {
    OpenError::Database { path: data_dir.to_owned(), reason: fault.reason() }
}

/// The keys to use: those given, else the one in the folder, made when the store is new.
pub(crate) fn keys(data_dir: &Path, given: &[Key], new: bool) -> Result<Vec<Key>, OpenError> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let path = data_dir.join(KEY_FILE);
    let unusable = |source| OpenError::Folder { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) => return Ok(vec![Key::parse(&text)?]),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && new => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(error)),
    }
    let key = Key::generate()?;
    write_key(data_dir, &key)?;
    Ok(vec![key])
}

/// Keeps a key in the folder, where [`keys`] finds it.
pub(super) fn write_key(data_dir: &Path, key: &Key) -> Result<(), OpenError> {
    let path = data_dir.join(KEY_FILE);
    let draft = data_dir.join(KEY_DRAFT);
    let kept = (|| {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private::create_new(&draft)?;
        writeln!(file, "{}", key.expose())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(data_dir)?.sync_all()
    })();
    kept.map_err(|source| OpenError::Folder { path, source })
}

/// Checks that every key that encrypted something here is among those given. Their ids.
pub(crate) fn check_used_keys(
    conn: &Connection,
    data_dir: &Path,
    keys: &[Key],
) -> Result<Vec<Vec<u8>>, OpenError> {
    let given = || match keys {
        [] => "none".to_owned(),
        keys => keys.iter().map(Key::id).collect::<Vec<_>>().join(", "),
    };
    let used = used_keys(conn).map_err(|fault| open_error(data_dir, &fault))?;
    let missing = |id: &[u8]| OpenError::WrongKey {
        path: data_dir.to_owned(),
        needed: hex::encode(id),
        given: given(),
    };
    for (id, proof) in &used {
        let key = keys.iter().find(|key| key.tag() == id[..]).ok_or_else(|| missing(id))?;
        let place = Place { table: "encryption_key", id, column: "proof" };
        let opened = Sealer::new(std::slice::from_ref(key))?.open(place, proof);
        opened.map_err(|_| missing(id))?;
    }
    Ok(used.into_iter().map(|(id, _)| id).collect())
}

/// The same, and notes the first as one that encrypts.
pub(crate) fn check_keys(
    conn: &Connection,
    data_dir: &Path,
    keys: &[Key],
) -> Result<Sealer, OpenError> {
    let wrong = |fault: Fault| open_error(data_dir, &fault);
    let used = check_used_keys(conn, data_dir, keys)?;
    let sealer = Sealer::new(keys)?;
    if let Some(first) = keys.first().map(Key::tag)
        && !used.iter().any(|id| id[..] == first)
    {
        let place = Place { table: "encryption_key", id: &first, column: "proof" };
        let proof = sealer.seal(place, PROOF).map_err(|error| wrong(error.into()))?;
        conn.execute(
            "INSERT INTO encryption_key (id, proof) VALUES (?1, ?2)",
            params![first, proof],
        )
        .map_err(|error| wrong(error.into()))?;
    }
    Ok(sealer)
}

fn used_keys(conn: &Connection) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut statement = conn.prepare("SELECT id, proof FROM encryption_key")?;
    let used = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(used.collect::<Result<_, _>>()?)
}

/// Ids of the keys that secrets here need.
pub(crate) fn key_ids(conn: &Connection) -> Result<Vec<String>> {
    Ok(used_keys(conn)?.iter().map(|(id, _)| hex::encode(id)).collect())
}

/// Reads the numbers of event types and gives new ones theirs. Needs a connection that writes.
pub(crate) fn kinds(conn: &Connection) -> Result<Kinds> {
    let mut numbers = Vec::new();
    for kind in Kind::ALL {
        conn.prepare_cached("INSERT OR IGNORE INTO kind (name) VALUES (?1)")?
            .execute([kind.as_str()])?;
        let number: i64 = conn
            .prepare_cached("SELECT number FROM kind WHERE name = ?1")?
            .query_row([kind.as_str()], |row| row.get(0))?;
        numbers.push(number);
    }
    Kinds::of(numbers)
}

/// Makes the default account with its reserved instance, unless it is there.
pub(crate) fn make_default_account(
    conn: &Connection,
    sealer: &Sealer,
    now: Timestamp,
) -> Result<()> {
    let there: Option<i64> =
        conn.query_row("SELECT 1 FROM account LIMIT 1", [], |row| row.get(0)).optional()?;
    if there.is_some() {
        return Ok(());
    }
    let account = AccountId::new(now, super::random()?);
    conn.execute_batch("BEGIN IMMEDIATE")?;
    conn.execute(
        "INSERT INTO account (id, name, created_at) VALUES (?1, ?2, ?3)",
        params![account.to_bytes(), DEFAULT_ACCOUNT, now.as_millis()],
    )?;
    insert_reserved_instance(conn, sealer, account, now)?;
    conn.execute_batch("COMMIT")?;
    Ok(())
}

/// Makes an account's instance for events that belong to no number.
pub(crate) fn insert_reserved_instance(
    conn: &Connection,
    sealer: &Sealer,
    account: AccountId,
    now: Timestamp,
) -> Result<InstanceId> {
    let id = InstanceId::new(now, super::random()?);
    let token = format!("{:032x}", super::random()?);
    let place = Place { table: "instance", id: &id.to_bytes(), column: "token" };
    conn.execute(
        "INSERT INTO instance (id, account, name, token, token_hash, settings, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, '{}', ?6)",
        params![
            id.to_bytes(),
            account.to_bytes(),
            RESERVED_INSTANCE,
            sealer.seal(place, token.as_bytes())?,
            super::sha256(token.as_bytes()),
            now.as_millis(),
        ],
    )?;
    Ok(id)
}

/// How the database would go about a query, on one line.
#[cfg(test)]
pub(super) fn plan_of(query: &str) -> String {
    let conn = Connection::open_in_memory().unwrap();
    for (_, step) in MIGRATIONS {
        conn.execute_batch(step).unwrap();
    }
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
    let parameters = statement.parameter_count();
    let values = std::iter::repeat_n(rusqlite::types::Null, parameters);
    let steps = statement
        .query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3))
        .unwrap();
    steps.map(|step| step.unwrap()).collect::<Vec<_>>().join("; ")
}
