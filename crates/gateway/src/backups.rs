//! Backups of the running gateway: one at a time, into one folder of its machine.
//!
//! A caller of the API names a backup and nothing else: where on the disk it goes is the
//! operator's choice (`backup.dir`). It grows under a name with a dot in front, and has its own
//! name only when it is whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zapbus_event::Timestamp;
use zapbus_store::{BackupReport, Clock, Store, StoreError};

/// What a finished backup says about itself, in its folder.
const LABEL: &str = "backup.json";
/// Behind the name of one that is not finished.
const UNFINISHED: &str = ".part";
/// Characters of a name at most.
const MAX_NAME: usize = 100;

/// `[backup]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where backups go; unset: `backups` in the data folder.
    pub dir: Option<PathBuf>,
}

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackupState {
    /// It is being taken.
    Running,
    /// It is whole and on disk.
    Done,
    /// It could not be taken; nothing of it is left.
    Failed,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Backup {
    /// Its name, which is that of its folder.
    #[schema(example = "2026-11-20T14-30-00Z")]
    pub name: String,
    /// `running`, `done` or `failed`.
    #[schema(inline)]
    pub state: BackupState,
    /// Its folder on the gateway's machine.
    pub path: String,
    /// When it was begun.
    #[schema(value_type = String, format = DateTime)]
    pub began_at: Timestamp,
    /// Pages of the database copied so far, while it is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied_pages: Option<u64>,
    /// Pages in all, while it is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<u64>,
    /// What it holds, when it is done.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a finished backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Contents {
    /// Bytes of its database.
    pub bytes: u64,
    /// Blob files beside it.
    pub blobs: u64,
    /// Ids of the keys that its secrets need. The keys are not in it.
    pub keys: Vec<String>,
    /// The version of Zapbus that took it.
    pub version: String,
}

/// [`LABEL`].
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    began_at: Timestamp,
    #[serde(flatten)]
    contents: Contents,
}

/// Why a backup was not begun.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The name cannot be one.
    #[error(
        "expected 1 to {MAX_NAME} letters, digits, `.`, `_` and `-`, beginning with a letter or a digit and not ending in `.db`"
    )]
    Name,
    /// There is one of that name.
    #[error("there is a backup {0:?} already")]
    Exists(String),
    /// One at a time.
    #[error("the backup {0:?} is being taken; wait for it")]
    Running(String),
    /// It would fill the disk.
    #[error("a backup takes up to {} MiB and {} MiB are free in {} beyond what is kept free (store.min_free_bytes): make room, or give another folder (backup.dir)", needed >> 20, free >> 20, folder.display())]
    NoSpace {
        /// Bytes it may take.
        needed: u64,
        /// Bytes that may be taken.
        free: u64,
        /// Where.
        folder: PathBuf,
    },
    /// The folder cannot be used.
    #[error("{} cannot be written: {error} (backup.dir)", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Backups are the database server's business.
    #[error(
        "this store is on PostgreSQL, which has backups of its own: pg_dump for a copy, pg_basebackup with archived WAL to go back to any moment (docs/operations/cluster.md)"
    )]
    OnServer,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The backups of one gateway. Clones share them.
#[derive(Clone)]
pub struct Backups {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    folder: PathBuf,
    min_free: u64,
    /// The one that is being taken, or the last one if it failed.
    current: Mutex<Option<Backup>>,
    copied: AtomicU64,
    pages: AtomicU64,
}

impl std::fmt::Debug for Backups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backups").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

impl Backups {
    /// Backups of `store` into `folder`; what an earlier process left unfinished there is removed.
    pub fn new(store: Store, clock: Clock, folder: PathBuf, min_free: u64) -> Self {
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        remove_unfinished(&folder);
        Self {
            shared: Arc::new(Shared {
                store,
                clock,
                folder,
                min_free,
                current: Mutex::default(),
                copied: AtomicU64::new(0),
                pages: AtomicU64::new(0),
            }),
        }
    }

    /// Begins one; it goes on by itself. Without a name it is called by the time.
    ///
    /// # Errors
    /// When the name, the disk or another backup is in the way, or the database is on a server.
    pub async fn begin(&self, name: Option<String>) -> Result<Backup, BackupError> {
        let shared = &self.shared;
        if shared.store.is_on_server() {
            return Err(BackupError::OnServer);
        }
        let began_at = (shared.clock)();
        let name = match name {
            Some(name) if is_name(&name) => name,
            Some(_) => return Err(BackupError::Name),
            None => {
                began_at.to_string().split('.').next().unwrap_or_default().replace(':', "-") + "Z"
            }
        };
        let path = shared.folder.join(&name);
        if path.exists() {
            return Err(BackupError::Exists(name));
        }
        self.need_space().await?;
        let backup = Backup {
            name,
            state: BackupState::Running,
            path: path.display().to_string(),
            began_at,
            copied_pages: None,
            pages: None,
            contents: None,
            error: None,
        };
        {
            let mut current = shared.current();
            if let Some(running) = current.as_ref().filter(|it| it.state == BackupState::Running) {
                return Err(BackupError::Running(running.name.clone()));
            }
            *current = Some(backup.clone());
            shared.copied.store(0, Ordering::Relaxed);
            shared.pages.store(0, Ordering::Relaxed);
        }
        tracing::info!(
            event = "backup.began",
            name = backup.name.as_str(),
            "a backup is being taken"
        );
        let (taking, begun) = (Arc::clone(shared), backup.clone());
        tokio::spawn(async move { taking.take(begun).await });
        Ok(backup)
    }

    async fn need_space(&self) -> Result<(), BackupError> {
        let shared = &self.shared;
        let folder = shared.folder.clone();
        let unusable = |error| BackupError::Folder { folder: folder.clone(), error };
        make_folder(&folder).map_err(unusable)?;
        let sizes = shared.store.sizes().await?;
        let needed = sizes.used + sizes.wal + sizes.blobs;
        let disk = rustix::fs::statvfs(&folder).map_err(|error| unusable(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(shared.min_free);
        if needed > free {
            return Err(BackupError::NoSpace { needed, free, folder });
        }
        Ok(())
    }

    /// All of them, oldest first; one that failed last is among them.
    pub fn list(&self) -> Vec<Backup> {
        let shared = &self.shared;
        let mut found: Vec<Backup> = fs::read_dir(&shared.folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| read(&entry.ok()?.path()))
            .collect();
        found.extend(shared.unfinished().filter(|it| !Path::new(&it.path).exists()));
        found.sort_by(|a, b| (a.began_at, &a.name).cmp(&(b.began_at, &b.name)));
        found
    }

    /// One of them.
    pub fn show(&self, name: &str) -> Option<Backup> {
        if !is_name(name) {
            return None;
        }
        let current = self.shared.unfinished().filter(|backup| backup.name == name);
        read(&self.shared.folder.join(name)).or(current)
    }
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Option<Backup>> {
        // Nothing that could panic runs under this lock.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that is being taken or has failed, with how far it is.
    fn unfinished(&self) -> Option<Backup> {
        let backup = self.current().clone()?;
        let running = backup.state == BackupState::Running;
        let count = |pages: &AtomicU64| running.then(|| pages.load(Ordering::Relaxed));
        Some(Backup { copied_pages: count(&self.copied), pages: count(&self.pages), ..backup })
    }

    async fn take(&self, backup: Backup) {
        let draft = self.folder.join(format!(".{}{UNFINISHED}", backup.name));
        let outcome = self.copy(&backup, &draft).await;
        let mut current = self.current();
        match outcome {
            Ok(contents) => {
                tracing::info!(
                    event = "backup.done",
                    name = backup.name.as_str(),
                    bytes = contents.bytes,
                    blobs = contents.blobs,
                    "a backup was taken"
                );
                *current = None;
            }
            Err(error) => {
                remove(&draft);
                tracing::error!(
                    event = "backup.failed",
                    name = backup.name.as_str(),
                    error,
                    "no backup was taken"
                );
                *current =
                    Some(Backup { state: BackupState::Failed, error: Some(error), ..backup });
            }
        }
    }

    async fn copy(&self, backup: &Backup, draft: &Path) -> Result<Contents, String> {
        remove(draft);
        let report = self
            .store
            .backup(draft, &|copied, pages| {
                self.copied.store(copied, Ordering::Relaxed);
                self.pages.store(pages, Ordering::Relaxed);
            })
            .await
            .map_err(|error| error.to_string())?;
        let BackupReport { bytes, blobs, keys, .. } = report;
        let contents =
            Contents { bytes, blobs, keys, version: env!("CARGO_PKG_VERSION").to_owned() };
        let label = Label { began_at: backup.began_at, contents: contents.clone() };
        finish(draft, Path::new(&backup.path), &label).map_err(|error| error.to_string())?;
        Ok(contents)
    }
}

/// Labels a whole copy and gives it its name.
fn finish(draft: &Path, path: &Path, label: &Label) -> io::Result<()> {
    let text = serde_json::to_string_pretty(label)?;
    let file = draft.join(LABEL);
    fs::write(&file, text)?;
    fs::File::open(&file)?.sync_all()?;
    fs::File::open(draft)?.sync_all()?;
    fs::rename(draft, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// A finished backup as it lies there.
fn read(path: &Path) -> Option<Backup> {
    let name = path.file_name()?.to_str().filter(|name| is_name(name))?;
    let label: Label = serde_json::from_slice(&fs::read(path.join(LABEL)).ok()?).ok()?;
    Some(Backup {
        name: name.to_owned(),
        state: BackupState::Done,
        path: path.display().to_string(),
        began_at: label.began_at,
        copied_pages: None,
        pages: None,
        contents: Some(label.contents),
        error: None,
    })
}

/// It names a folder in the folder of backups and nothing else.
fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        // The store takes that for a single file without blobs.
        && !text.ends_with(".db")
}

fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    // Messages of people are in there: for nobody else on the machine.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove_unfinished(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(UNFINISHED)) {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(event = "backup.left", path = %path.display(), %error, "an unfinished backup could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in ["a", "2026-11-20T14-30-00Z", "before_v2.1", "x.db.old"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "-x", "a b", "x.db", "ä"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(!is_name(&"x".repeat(101)));
    }
}
