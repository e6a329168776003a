//! The embedded engine: one SQLite database, one thread that writes, a few connections that read.

pub(crate) mod accounts;
mod append;
mod backup;
mod call;
mod checkpoint;
pub(crate) mod credentials;
mod dedup;
pub(crate) mod destinations;
mod elsewhere;
pub(crate) mod erase;
mod error;
mod fetching;
mod generation;
pub(crate) mod instances;
pub(crate) mod lag;
pub(crate) mod lanes;
mod pruning;
mod queue;
pub(crate) mod read;
mod readers;
pub(crate) mod redeliver;
pub(crate) mod restore;
mod room;
mod row;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod search;
pub(crate) mod secrets;
mod settle;
mod space;
pub(crate) mod statistics;
pub(crate) mod subscribers;
mod writer;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::AtomicU64},
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::watch;
use zapbus_event::Position;
use zapbus_media::Bucket;

pub(crate) use self::{backup::back_up, readers::Readers, schema::plan, writer::Tx};
use self::{call::Call, checkpoint::Checkpoints, queue::Queue, writer::Writer};
pub(crate) use crate::prepared::{random, sha256};
use crate::{
    OpenError,
    blob::Blobs,
    copied,
    directory::{self, Directory},
    fault::{self, Fault, Result},
    journal::Limit,
    kinds::{self, Kinds},
    metrics::Metrics,
    options::{Clock, Options},
    private,
    seal::Sealer,
    spool,
    tail::Tail,
    upkeep::{Appends, StoreHealth},
};

/// What the writer, the readers and the handle share.
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) batch: Limit,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) kinds: Kinds,
    pub(crate) sealer: Sealer,
    pub(crate) blobs: Blobs,
    /// Where files go in place of the folder.
    pub(crate) bucket: Option<Bucket>,
    /// Where files are made before they have a name.
    pub(crate) spool: PathBuf,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) min_free_bytes: AtomicU64,
    pub(crate) dedup_window: std::time::Duration,
    directory: RwLock<Directory>,
    tail: RwLock<Tail>,
    head: watch::Sender<Position>,
    health: watch::Sender<StoreHealth>,
    backups: Mutex<VecDeque<backup::Request>>,
    #[cfg(feature = "simulation")]
    pub(crate) simulation: Option<crate::simulation::Simulation>,
}

impl Shared {
    // Nothing that could panic runs under these locks.
    pub(crate) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn directory_mut(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tail_mut(&self) -> RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn head(&self) -> Position {
        *self.head.borrow()
    }

    pub(crate) fn advance_head(&self, head: Position) {
        self.head.send_if_modified(|known| {
            let moved = *known != head;
            *known = head;
            moved
        });
    }

    pub(crate) fn stopped(&self) -> bool {
        self.health.borrow().appends != Appends::Ok
    }

    pub(crate) fn set_appends(&self, appends: Appends) {
        self.health.send_if_modified(|health| {
            let changed = health.appends != appends;
            if changed {
                appends.tell();
                health.appends = appends;
            }
            changed
        });
    }

    /// A simulated crash takes nothing away from the system: syncs would only cost time.
    #[cfg(feature = "simulation")]
    pub(crate) fn loosen(&self, conn: &Connection) -> Result<()> {
        if self.simulation.is_some() {
            conn.pragma_update(None, "synchronous", "OFF")?;
        }
        Ok(())
    }

    pub(crate) fn take_backup(&self) -> Option<backup::Request> {
        self.backups.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// A connection with what is needed to make sense of its rows.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) shared: &'a Shared,
}

impl<'a> Tx<'a> {
    /// The same for reads inside a transaction that writes.
    pub(crate) fn view(&self) -> View<'a> {
        View { conn: self.conn, shared: self.shared }
    }
}

/// The engine. Its threads end when it is closed or dropped.
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    data_dir: PathBuf,
    inline_limit: usize,
    readers: Readers,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The writer, where it is a task.
    #[cfg(feature = "simulation")]
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
    lock: Mutex<Option<schema::FolderLock>>,
}

/// What [`Engine::open`] found.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) first_start: bool,
    pub(crate) migrated: Vec<String>,
    pub(crate) restored: bool,
    pub(crate) paused: u64,
}

impl Engine {
    /// Opens (and makes, and migrates) the store. Blocks.
    pub(crate) fn open(options: Options) -> Result<Opened, OpenError> {
        let data_dir = options.data_dir;
        let lock = schema::lock_folder(&data_dir)?;
        copied::check(&data_dir, options.take_back)?;
        let path = schema::database(&data_dir);
        let wrong = |fault: Fault| schema::open_error(&data_dir, &fault);

        private::make_database(&path)
            .map_err(|source| OpenError::Folder { path: path.clone(), source })?;
        let conn = schema::open_writer(&path).map_err(wrong)?;
        let (migrated, found) = schema::migrate(&conn, &data_dir)?;
        let first_start = found == 0;
        let unkeyed = schema::key_ids(&conn).map_err(wrong)?.is_empty();
        let keys = schema::keys(&data_dir, &options.keys, unkeyed)?;
        let sealer = schema::check_keys(&conn, &data_dir, &keys)?;
        let begun = generation::begin(&conn, options.live, (options.clock)()).map_err(wrong)?;
        let kinds = schema::kinds(&conn).map_err(wrong)?;
        schema::make_default_account(&conn, &sealer, (options.clock)()).map_err(wrong)?;

        let blobs = Blobs::new(data_dir.join("blobs"));
        private::make_folder(blobs.folder())
            .and_then(|()| private::tighten_folder(blobs.folder()))
            .map_err(|source| OpenError::Folder { path: blobs.folder().to_owned(), source })?;
        let stored: i64 = conn
            .query_row(
                "SELECT ifnull(sum(bytes), 0) FROM blob WHERE object IS NULL AND refs > 0",
                [],
                |row| row.get(0),
            )
            .map_err(|error| wrong(error.into()))?;
        blobs.stored().store(row::count(stored), std::sync::atomic::Ordering::Relaxed);

        let spool = spool::folder(&data_dir)
            .map_err(|source| OpenError::Folder { path: data_dir.clone(), source })?;

        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_bytes, options.ride),
            batch: options.batch,
            clock: options.clock,
            metrics: Arc::new(Metrics::new()),
            kinds,
            sealer,
            blobs,
            bucket: options.bucket,
            spool,
            checkpoints: Checkpoints::default(),
            min_free_bytes: AtomicU64::new(options.min_free_bytes),
            dedup_window: options.dedup_window,
            directory: RwLock::new(instances::directory(&conn).map_err(wrong)?),
            tail: RwLock::new(Tail::new(Position::START, options.tail_bytes)),
            head: watch::Sender::new(Position::START),
            health: watch::Sender::new(StoreHealth { appends: Appends::Ok, unready: None }),
            backups: Mutex::default(),
            #[cfg(feature = "simulation")]
            simulation: options.simulation,
        });
        let readers = Readers::new(path.clone(), options.readers.max(1));
        #[cfg(feature = "simulation")]
        if let Some(simulation) = shared.simulation.clone() {
            shared.loosen(&conn).map_err(wrong)?;
            let writer = Writer::new(Arc::clone(&shared), path.clone(), conn, readers.clone())
                .map_err(wrong)?;
            shared.tail_mut().reset(writer.head());
            shared.advance_head(writer.head());
            let alarm = Alarm(Arc::clone(&shared));
            // The writer is not made to change threads, as no task of a simulation does.
            let task = tokio::task::spawn_local(async move {
                let _alarm = alarm;
                writer.run_simulated(simulation).await;
            });
            let engine = Self {
                shared,
                data_dir,
                inline_limit: options.inline_limit,
                readers,
                threads: Mutex::default(),
                task: Mutex::new(Some(task)),
                lock: Mutex::new(Some(lock)),
            };
            let generation::Begun { restored, paused } = begun;
            return Ok(Opened { engine, first_start, migrated, restored, paused });
        }
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(work)
                .map_err(|error| wrong(Fault::Broken(error.to_string())))
        };
        let (ready, started) = std::sync::mpsc::channel();
        let writer = spawn("zapbus-writer", {
            let (shared, path) = (Arc::clone(&shared), path.clone());
            let readers = readers.clone();
            Box::new(move || match Writer::new(shared, path, conn, readers) {
                Ok(writer) => {
                    let _alarm = Alarm(writer.shared());
                    if ready.send(Ok(writer.head())).is_ok() {
                        writer.run();
                    }
                }
                Err(fault) => {
                    let _ = ready.send(Err(fault));
                }
            })
        })?;
        let head = started
            .recv()
            .unwrap_or_else(|_| Err(Fault::Broken("the writer did not start".to_owned())))
            .map_err(wrong)?;
        shared.tail_mut().reset(head);
        shared.advance_head(head);
        let checkpoints = spawn("zapbus-checkpoint", {
            let (shared, path) = (Arc::clone(&shared), path.clone());
            Box::new(move || {
                shared.checkpoints.run(&path, &shared.metrics, || {
                    // The writer looks after it before it does anything else.
                    let (nothing, _) = Call::with_answer(|_| Ok(()));
                    let _ = shared.queue.command(nothing);
                });
            })
        })?;
        let threads = vec![writer, checkpoints];
        let engine = Self {
            shared,
            data_dir,
            inline_limit: options.inline_limit,
            readers,
            threads: Mutex::new(threads),
            #[cfg(feature = "simulation")]
            task: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        Ok(Opened { engine, first_start, migrated, restored: begun.restored, paused: begun.paused })
    }

    /// Writes what waits, moves the write-ahead log into the database, releases the folder.
    /// Blocks; does nothing the second time.
    pub(crate) fn close(&self) {
        self.shared.queue.close();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut threads = threads.drain(..);
        if let Some(writer) = threads.next() {
            let _ = writer.join();
        }
        self.shared.checkpoints.close();
        for thread in threads {
            let _ = thread.join();
        }
        self.readers.close();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn is_simulated(&self) -> bool {
        self.shared.simulation.is_some()
    }

    /// [`Engine::close`], for a writer that is a task.
    #[cfg(feature = "simulation")]
    pub(crate) async fn close_simulated(&self) {
        self.shared.queue.close();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
        self.close();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

/// Says so when the writer ends by a panic: nothing is taken any more, rather than taken and left.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.queue.abandon();
            let reason = "its writer has failed: restart the process".to_owned();
            self.0.set_appends(Appends::Stopped { reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::journal::Append;

    fn open(folder: &Path) -> Engine {
        let mut options = Options::new(folder);
        options.min_free_bytes = 0;
        Engine::open(options).unwrap().engine
    }

    #[tokio::test]
    async fn reads_that_nobody_waits_for_any_more_still_count() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path());
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..20 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            let slow = engine.read(move |_| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(30));
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            });
            let _ = tokio::time::timeout(Duration::from_millis(5), slow).await;
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
        engine.read(|_| Ok(())).await.unwrap();
        assert!(engine.readers.idle().len() <= 2);
    }

    #[tokio::test]
    async fn what_a_copy_keeps_in_place_goes_when_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path());
        let account = engine.read(|view| accounts::account_by_name(view, "default")).await;
        let account = account.unwrap().unwrap().id;
        let instance = engine.shared.directory().of_account(account).next().unwrap();
        let media = format!(
            r#"{{"type":"instance.lifecycle","data":{{"action":"created","media":"{}"}},"id":"first"}}"#,
            "QUJD".repeat(30_000)
        );
        let draft = zapbus_event::Draft::native(media.as_bytes()).unwrap();
        let events = vec![crate::journal::NewEvent { instance, draft }];
        engine.append(Append { events, body: None }).await.unwrap();
        let files = || {
            let shelves = std::fs::read_dir(engine.shared.blobs.folder()).unwrap();
            shelves.map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap().count()).sum()
        };
        let files: &dyn Fn() -> usize = &files;
        assert_eq!(files(), 1);

        let hold = engine.shared.blobs.hold();
        let what = crate::Erase::Instance(instance);
        let actor = crate::Actor("test".to_owned());
        let erasing = erase::erase(&engine, what, &actor);
        let mut erasing = std::pin::pin!(erasing);
        let early = tokio::time::timeout(Duration::from_millis(300), &mut erasing).await;
        assert!(early.is_err(), "the copy still has it");
        assert_eq!(files(), 1);
        drop(hold);
        assert_eq!(erasing.await.unwrap().blobs, 1);
        assert_eq!(files(), 0);
    }
}
