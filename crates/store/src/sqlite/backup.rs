//! Copying the database while it runs: pages in steps, through the writer's own connection, so that
//! what it commits between two steps is in the copy too and the copy never starts over.

use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Engine,
    fault::{Fault, Result},
    generation, schema,
    writer::Writer,
};
use crate::{StoreError, private, upkeep::BackupReport};

/// Pages copied between two commits.
const PAGES: i32 = 256;

/// A copy that somebody waits for.
pub(crate) struct Request {
    to: PathBuf,
    progress: mpsc::UnboundedSender<(u64, u64)>,
    answer: oneshot::Sender<Result<()>>,
}

impl Writer {
    /// Copies the database, and goes on writing between the steps.
    pub(crate) fn back_up(&mut self, request: Request) {
        let done = self.copy(&request.to, &request.progress);
        // A caller that went away needs no answer; the copy is whole or not there.
        let _ = request.answer.send(done);
    }

    fn copy(&mut self, to: &Path, progress: &mpsc::UnboundedSender<(u64, u64)>) -> Result<()> {
        let changed = || Fault::Broken("the database was opened again during the copy".to_owned());
        let source = self.connection().ok_or_else(changed)?;
        private::create_new(to).map_err(io)?;
        let mut target = Connection::open(to)?;
        // It is synced as a whole at the end.
        target.pragma_update(None, "synchronous", "OFF")?;
        let backup = Backup::new(&source, &mut target)?;
        loop {
            match backup.step(PAGES)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
            let state = backup.progress();
            let total = u64::try_from(state.pagecount).unwrap_or(0);
            let left = u64::try_from(state.remaining).unwrap_or(0);
            let _ = progress.send((total.saturating_sub(left), total));
            self.write_waiting();
            if self.is_closing() {
                return Err(Fault::Broken("it is closed".to_owned()));
            }
            if self.connection().is_none_or(|now| !Rc::ptr_eq(&now, &source)) {
                return Err(changed());
            }
        }
        drop(backup);
        Ok(())
    }
}

pub(crate) async fn back_up(
    engine: &Engine,
    to: &Path,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<BackupReport, StoreError> {
    let whole_folder = to.extension().is_none_or(|extension| extension != "db");
    let database = if whole_folder { schema::database(to) } else { to.to_owned() };
    let folder = database.parent().map(Path::to_owned).unwrap_or_default();
    let unusable = |error: std::io::Error| StoreError::Refused {
        reason: format!("the backup cannot be written to {}: {error}", to.display()),
    };
    if database.exists() {
        return Err(StoreError::Exists { what: "backup", name: database.display().to_string() });
    }
    if !folder.as_os_str().is_empty() {
        private::make_folder(&folder).map_err(unusable)?;
    }

    // Until the blobs are copied none may go that the copied database still refers to.
    let hold = engine.shared.blobs.hold();
    let (report, mut reports) = mpsc::unbounded_channel();
    let (answer, answered) = oneshot::channel();
    engine.request_backup(Request { to: database.clone(), progress: report, answer });
    // The writer looks for requests after each commit.
    engine.write(|_| Ok(())).await?;
    while let Some((copied, total)) = reports.recv().await {
        progress(copied, total);
    }
    let copied = answered.await.unwrap_or_else(|_| Err(Fault::Broken("it is closed".to_owned())));
    if let Err(fault) = copied {
        let _ = fs::remove_file(&database);
        return Err(fault.into());
    }

    let blobs = whole_folder.then(|| engine.shared.blobs.folder().to_owned());
    tokio::task::spawn_blocking(move || {
        let keys = check(&database)?;
        let copied = match blobs {
            Some(blobs) => copy_blobs(&blobs, &folder.join("blobs")).map_err(io)?,
            None => 0,
        };
        drop(hold);
        let bytes = fs::metadata(&database).map_err(io)?.len();
        Ok(BackupReport { database, bytes, blobs: copied, keys })
    })
    .await
    .unwrap_or_else(|error| Err(Fault::Broken(error.to_string())))
    .map_err(StoreError::from)
}

fn io(error: std::io::Error) -> Fault {
    Fault::Broken(error.to_string())
}

/// Makes sure the copy is whole, marked as one and on disk. Gives the ids of the keys it needs.
fn check(database: &Path) -> Result<Vec<String>> {
    let conn = Connection::open(database)?;
    let verdict: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Fault::Damaged(format!("the copy: {verdict}")));
    }
    let keys = schema::key_ids(&conn)?;
    generation::mark(&conn, false)?;
    conn.close().map_err(|(_, error)| error)?;
    fs::File::open(database).and_then(|file| file.sync_all()).map_err(io)?;
    if let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    }
    Ok(keys)
}

fn copy_blobs(from: &Path, to: &Path) -> std::io::Result<u64> {
    let mut copied = 0;
    private::make_folder(to)?;
    for shelf in fs::read_dir(from)? {
        let shelf = shelf?;
        if !shelf.file_type()?.is_dir() {
            continue;
        }
        let target = to.join(shelf.file_name());
        private::make_folder(&target)?;
        for file in fs::read_dir(shelf.path())? {
            let file = file?;
            // What begins with a dot is not finished.
            if file.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let copy = target.join(file.file_name());
            let mut written = private::create_new(&copy)?;
            std::io::copy(&mut fs::File::open(file.path())?, &mut written)?;
            written.sync_all()?;
            copied += 1;
        }
        fs::File::open(&target)?.sync_all()?;
    }
    fs::File::open(to)?.sync_all()?;
    Ok(copied)
}
