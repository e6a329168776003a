//! Putting a backup back: copied, checked and only then moved to where a store looks for it.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::{
    fault::{Fault, Result},
    generation, row, schema, secrets,
};
use crate::{
    OpenError,
    options::Key,
    private,
    seal::Sealer,
    upkeep::{Restore, Restored},
};

/// Where the copy grows. A folder that has it without a database is one that a restore left half
/// way.
const DRAFT: &str = ".restoring";
const BLOBS: &str = "blobs";
/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Puts it back, or leaves the folder as it was.
pub(crate) fn restore(restore: &Restore, progress: Progress<'_>) -> Result<Restored, OpenError> {
    let source = Source::find(&restore.from)?;
    let made = !restore.data_dir.exists();
    let result = into_folder(restore, &source, progress);
    if result.is_err() && made {
        // Only if nothing else came into it meanwhile.
        let _ = fs::remove_file(schema::lock_file(&restore.data_dir));
        let _ = fs::remove_dir(&restore.data_dir);
    }
    result
}

fn into_folder(
    restore: &Restore,
    source: &Source,
    progress: Progress<'_>,
) -> Result<Restored, OpenError> {
    let data_dir = &restore.data_dir;
    let _lock = schema::lock_folder(data_dir)?;
    let unusable = |source| OpenError::Folder { path: data_dir.clone(), source };
    clear_interrupted(data_dir).map_err(unusable)?;
    refuse_occupied(data_dir)?;

    let draft = Draft(data_dir.join(DRAFT));
    private::make_folder(&draft.0).map_err(unusable)?;
    let mut restored = Restored { bytes: 0, blobs: 0, keys: Vec::new(), dropped: None };
    let mut copy = Copy { done: 0, total: source.bytes, progress };
    let database = schema::database(&draft.0);
    restored.bytes = copy.file(&source.database, &database)?.1;
    let log = with_suffix(&source.database, "-wal");
    if log.exists() {
        copy.file(&log, &with_suffix(&database, "-wal"))?;
    }
    let damaged = |fault: Fault| OpenError::Backup {
        path: source.database.clone(),
        reason: format!("{}. Take another backup", fault.reason()),
    };
    let conn = schema::open_writer(&database).map_err(damaged)?;
    check(&conn).map_err(damaged)?;
    schema::migrate(&conn, &draft.0).map_err(|error| match error {
        OpenError::Database { reason, .. } => {
            OpenError::Backup { path: source.database.clone(), reason }
        }
        other => other,
    })?;
    restored.keys = schema::key_ids(&conn).map_err(damaged)?;
    let mut keys = keys_for(restore)?;
    if restore.without_secrets {
        // A key of its own, unless one is given: nothing of the old one's is left to read.
        keys = schema::keys(&draft.0, &keys, true)?;
        let sealer = Sealer::new(&keys)?;
        let dropped = secrets::drop_all(&conn, &sealer, restore.now).map_err(damaged)?;
        restored.dropped = Some(dropped);
    }
    // Says which key it needs if that is not among them.
    schema::check_keys(&conn, data_dir, &keys)?;
    restored.blobs = copy_blobs(&conn, source, &draft.0.join(BLOBS), &mut copy)?;
    generation::mark(&conn, restore.live).map_err(damaged)?;
    conn.close().map_err(|(_, error)| damaged(error.into()))?;
    File::open(&database).and_then(|file| file.sync_all()).map_err(unusable)?;
    if let Some(key) = &restore.kept_key {
        keep_key(&draft.0, data_dir, key)?;
    }
    copy.tell(0)?;
    install(&draft.0, data_dir).map_err(unusable)?;
    Ok(restored)
}

/// A backup as it lies there.
struct Source {
    database: PathBuf,
    /// Its blob folder; a database file alone has none.
    blobs: Option<PathBuf>,
    bytes: u64,
}

impl Source {
    fn find(from: &Path) -> Result<Self, OpenError> {
        let wrong = |reason: String| OpenError::Backup { path: from.to_owned(), reason };
        let found = fs::metadata(from).map_err(|error| wrong(error.to_string()))?;
        let (database, blobs) = if found.is_dir() {
            if is_in_use(from) {
                let reason = "a running gateway uses it: take a backup of it with `zapbus backup`";
                return Err(wrong(reason.to_owned()));
            }
            (schema::database(from), Some(from.join(BLOBS)))
        } else {
            (from.to_owned(), None)
        };
        let length = |path: &Path| fs::metadata(path).map(|found| found.len());
        let bytes = length(&database).map_err(|error| {
            wrong(format!("there is no {} in it ({error})", database.display()))
        })?;
        let bytes = bytes + length(&with_suffix(&database, "-wal")).unwrap_or(0);
        Ok(Self { database, blobs, bytes })
    }
}

/// Whether a gateway has this folder open. A copy of a stopped one's folder is a backup too.
fn is_in_use(folder: &Path) -> bool {
    File::open(schema::lock_file(folder))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Removes itself unless it was moved to its place.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(event = "store.draft_not_removed", path = %self.0.display(), %error, "a draft could not be removed");
        }
    }
}

/// Removes what a restore left behind that was killed.
fn clear_interrupted(data_dir: &Path) -> io::Result<()> {
    let draft = data_dir.join(DRAFT);
    if !draft.exists() || schema::database(data_dir).exists() {
        return Ok(());
    }
    match fs::remove_dir_all(data_dir.join(BLOBS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir_all(draft)
}

/// A key that lies there already is meant for the store that comes.
fn refuse_occupied(data_dir: &Path) -> Result<(), OpenError> {
    let unusable = |source| OpenError::Folder { path: data_dir.to_owned(), source };
    for entry in fs::read_dir(data_dir).map_err(unusable)? {
        let name = entry.map_err(unusable)?.file_name();
        let harmless = [schema::LOCK_FILE, schema::KEY_FILE, "lost+found"];
        if !harmless.iter().any(|known| name == *known) {
            return Err(OpenError::NotEmpty {
                path: data_dir.to_owned(),
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

fn keys_for(restore: &Restore) -> Result<Vec<Key>, OpenError> {
    let mut keys = restore.keys.clone();
    keys.extend(restore.kept_key.clone());
    // None given: the one that lies in the folder, if any.
    schema::keys(&restore.data_dir, &keys, false)
}

fn check(conn: &Connection) -> Result<()> {
    if schema::version(conn)? == 0 {
        return Err(Fault::Damaged("it is no database of Zapbus".to_owned()));
    }
    let verdict: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Fault::Damaged(verdict)) }
}

/// Copies, and counts what it has copied.
struct Copy<'a> {
    done: u64,
    total: u64,
    progress: Progress<'a>,
}

impl Copy<'_> {
    fn tell(&mut self, bytes: u64) -> Result<(), OpenError> {
        self.done += bytes;
        if (self.progress)(self.done, self.total.max(self.done)) {
            Ok(())
        } else {
            Err(OpenError::CalledOff)
        }
    }

    /// Copies a file to disk; gives its SHA-256 and its length.
    fn file(&mut self, from: &Path, to: &Path) -> Result<([u8; 32], u64), OpenError> {
        let unreadable = |error: io::Error| OpenError::Backup {
            path: from.to_owned(),
            reason: error.to_string(),
        };
        let unusable = |source| OpenError::Folder { path: to.to_owned(), source };
        let mut source = File::open(from).map_err(unreadable)?;
        let mut target = private::create_new(to).map_err(unusable)?;
        let (mut hash, mut length) = (Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = source.read(&mut chunk).map_err(unreadable)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
            target.write_all(&chunk[..read]).map_err(unusable)?;
            length += read as u64;
            self.tell(read as u64)?;
        }
        target.sync_all().map_err(unusable)?;
        Ok((hash.finalize().into(), length))
    }
}

/// Copies the blobs that events refer to. Their names are their contents' hashes, so that a
/// damaged one is found.
fn copy_blobs(
    conn: &Connection,
    source: &Source,
    to: &Path,
    copy: &mut Copy<'_>,
) -> Result<u64, OpenError> {
    let wrong = |reason: String| OpenError::Backup { path: source.database.clone(), reason };
    let read = |error: rusqlite::Error| wrong(error.to_string());
    let mut statement = conn
        .prepare("SELECT sha256, bytes FROM blob WHERE object IS NULL ORDER BY sha256")
        .map_err(read)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(read)?;
    let rows: Vec<([u8; 32], i64)> = rows.collect::<Result<_, _>>().map_err(read)?;
    copy.total += rows.iter().map(|(_, bytes)| row::count(*bytes)).sum::<u64>();
    let unusable = |source| OpenError::Folder { path: to.to_owned(), source };
    private::make_folder(to).map_err(unusable)?;
    for (sha, _) in &rows {
        let name = hex::encode(sha);
        let Some(blobs) = &source.blobs else {
            return Err(wrong(
                "events in it refer to files of a blob folder, which a single file does not have"
                    .to_owned(),
            ));
        };
        let shelf = to.join(&name[..2]);
        private::make_folder(&shelf).map_err(unusable)?;
        let file = blobs.join(&name[..2]).join(&name);
        let (found, _) = copy.file(&file, &shelf.join(&name))?;
        if found != *sha {
            return Err(OpenError::Backup {
                path: file,
                reason: "its contents have changed. Take another backup".to_owned(),
            });
        }
        File::open(&shelf).and_then(|folder| folder.sync_all()).map_err(unusable)?;
    }
    File::open(to).and_then(|folder| folder.sync_all()).map_err(unusable)?;
    Ok(rows.len() as u64)
}

/// Puts the key where the store finds it. One that lies there already is not touched.
fn keep_key(draft: &Path, data_dir: &Path, key: &Key) -> Result<(), OpenError> {
    let there = data_dir.join(schema::KEY_FILE);
    if there.exists() {
        return Err(OpenError::NotEmpty {
            path: data_dir.to_owned(),
            found: format!("another {}", schema::KEY_FILE),
        });
    }
    schema::write_key(draft, key)
}

/// Moves it all to its place. The database comes last: without it there is no store.
fn install(draft: &Path, data_dir: &Path) -> io::Result<()> {
    let database = schema::database(draft);
    let mut moved = Vec::new();
    let result = [draft.join(schema::KEY_FILE), draft.join(BLOBS), database]
        .into_iter()
        .filter(|path| path.exists())
        .try_for_each(|from| {
            let to = data_dir.join(from.file_name().unwrap_or_default());
            fs::rename(&from, &to)?;
            moved.push((from, to));
            Ok(())
        })
        .and_then(|()| File::open(data_dir)?.sync_all());
    if result.is_err() {
        for (from, to) in moved.iter().rev() {
            // Back into the draft, which is removed as a whole.
            let _ = fs::rename(to, from);
        }
    }
    result
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
