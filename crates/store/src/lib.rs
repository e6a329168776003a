//! The durable state of Zapbus: journal, cursors, delivery log, configuration.
//!
//! [`Store`] is the only handle; it is cheap to clone. Behind it stands one of two engines.
//! **SQLite**, in a folder: a thread that writes, taking whatever has gathered while its last disk
//! sync ran and committing it as one, and a few connections that read. **PostgreSQL**, on a server,
//! for many nodes: what has gathered for a shard while its last call ran is the next call.
//! [`Store::append`], [`Store::settle`] and every change are answered after their commit, and never
//! before.
//!
//! - [`journal`]: events, in order, each once ([`Store::append`], [`Store::read_after`])
//! - [`delivery`]: cursors, delivery rows, attempts, replays ([`Store::settle`], [`Store::due`],
//!   [`Store::search`])
//! - [`registry`]: accounts, instances, destinations, credentials, the audit log
//! - [`lag`]: how far destinations are behind ([`Store::behind`])
//! - [`retention`]: how long what is kept ([`Store::prune`])
//! - [`statistics`]: the last hour and day ([`Store::statistics`])
//! - [`subscriber`]: consumers that come and go ([`Store::open_subscriber`])
//! - [`upkeep`]: health, backups, erasure
//! - [`copy`]: from one machine to many ([`Store::copy`])
//!
//! The store knows no URL and no status code: what it is given of those is opaque to it.

#[cfg(all(feature = "fault-injection", not(debug_assertions)))]
compile_error!("fault-injection answers before it stores: it must never be in a release");

pub mod copy;
pub mod delivery;
mod error;
pub mod journal;
pub mod lag;
mod metrics;
mod options;
pub mod registry;
pub mod retention;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod statistics;
pub mod subscriber;
pub mod upkeep;

mod blob;
mod boxed;
mod copied;
mod directory;
mod elsewhere;
mod encoding;
mod erasing;
mod fault;
mod kinds;
mod postgres;
mod prepared;
mod private;
mod pruning;
mod random;
mod references;
mod seal;
mod sealed;
mod shard;
mod spool;
mod sqlite;
mod stored_file;
mod tail;
mod unreadable;

mod cluster;
mod deliveries;
mod events;
mod fetching;
mod records;
mod subscribers;

use std::{path::Path, sync::Arc};

use tokio::sync::watch;

use boxed::boxed;

pub use copy::{Copied, CopiedTable, CopyError, CopyOptions, CopyProgress};
pub use delivery::{
    Attempt, BulkRedelivery, DeadReason, Delivery, DeliveryId, DeliveryIdError, DeliveryPage,
    DeliveryQuery, DueRow, EventSummary, Health, HeldKey, LIVE, LaneId, LaneStart, LaneStats, Row,
    Run, RunCount, RunState, Settlement, ShardStart, State, Status, Stretch, Urgency,
};
pub use error::{AppendError, OpenError, StoreError};
pub use fetching::{Fetch, FetchCounts, FetchState, Fetched};
pub use journal::{Append, Appended, Limit, NewEvent, Page, Reader};
pub use lag::{Behind, Counted, Holdings};
pub use metrics::{Count, Histogram, Metrics};
pub use options::{Clock, Key, Options, Postgres, system_clock};
pub use random::random_bits;
pub use registry::{
    Account, Activity, Actor, Audit, Credential, DEFAULT_ACCOUNT, Destination, DestinationHead,
    DestinationScope, Instance, InstancePatch, InstanceStatus, Quota, RESERVED_INSTANCE, Remember,
    Role, Start,
};
pub use retention::{Budget, Pruned, RetentionPolicy, WhenFull};
pub use shard::{Change, Cluster, Lease, Leases, Node, NodeId, Shard, ShardId};
pub use spool::Spool;
pub use statistics::{Figures, Statistics, Subject, Window};
pub use stored_file::StoredFile;
pub use subscriber::{Advance, OpenEvent, PARKED, Place, Progress, Subscriber, SubscriberQuery};
pub use upkeep::{
    Appends, BackupReport, Dropped, Erase, Erased, MigrationPlan, Rekeyed, Restore, Restored,
    ServerFacts, Sizes, StoreHealth,
};

/// The result of most of what a store is asked.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The handle on a store. Clones share it; when the last one is dropped the store is closed, but
/// [`Store::close`] is the orderly way.
#[derive(Clone)]
pub struct Store {
    engine: Engine,
    tally: Arc<statistics::Tally>,
}

/// Which database it is.
#[derive(Clone)]
enum Engine {
    Sqlite(Arc<sqlite::Engine>),
    Postgres(Arc<postgres::Engine>),
}

/// A store that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// It was made just now.
    pub first_start: bool,
    /// Steps of the schema that were taken.
    pub migrated: Vec<String>,
    /// It is a copy that [`Store::backup`] made, opened for the first time: its positions have
    /// jumped, and unless [`Options::live`] or [`Restore::live`] was set its destinations are
    /// paused.
    pub restored: bool,
    /// Of these, destinations that were paused until somebody resumes them.
    pub paused: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Store");
        match &self.engine {
            Engine::Sqlite(engine) => shown.field("data_dir", &engine.data_dir()),
            Engine::Postgres(engine) => shown.field("database", &engine.shared.shown),
        };
        shown.finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a store, and makes or migrates it where needed.
    ///
    /// # Errors
    /// Each says what to do about it.
    pub async fn open(options: Options) -> std::result::Result<Opened, OpenError> {
        if options.postgres.is_some() {
            let opened = postgres::Engine::open(options).await?;
            return Ok(Opened {
                store: Self {
                    engine: Engine::Postgres(Arc::new(opened.engine)),
                    tally: Arc::default(),
                },
                first_start: opened.first_start,
                migrated: opened.migrated,
                restored: opened.restored,
                paused: opened.paused,
            });
        }
        let opened = Self::open_sqlite(options).await?;
        Ok(Opened {
            store: Self { engine: Engine::Sqlite(Arc::new(opened.engine)), tally: Arc::default() },
            first_start: opened.first_start,
            migrated: opened.migrated,
            restored: opened.restored,
            paused: opened.paused,
        })
    }

    async fn open_sqlite(options: Options) -> std::result::Result<sqlite::Opened, OpenError> {
        #[cfg(feature = "simulation")]
        if options.simulation.is_some() {
            return sqlite::Engine::open(options);
        }
        let path = options.data_dir.clone();
        let opened = tokio::task::spawn_blocking(move || sqlite::Engine::open(options)).await;
        opened.map_err(|error| OpenError::Database { path, reason: error.to_string() })?
    }

    /// Takes nothing more, writes what waits, and lets go of the database: a data folder is free
    /// then, and shards are handed to other nodes at once. Does nothing the second time.
    pub async fn close(&self) {
        if let Err(error) = self.write_statistics().await {
            // Also when it was closed before: then there was nothing to write.
            tracing::debug!(event = "store.statistics_unwritten", %error, "the last figures are missing");
        }
        match &self.engine {
            Engine::Sqlite(engine) => {
                #[cfg(feature = "simulation")]
                if engine.is_simulated() {
                    return engine.close_simulated().await;
                }
                let engine = Arc::clone(engine);
                if let Err(error) = tokio::task::spawn_blocking(move || engine.close()).await {
                    tracing::error!(event = "store.close_failed", %error, "closing the store failed");
                }
            }
            Engine::Postgres(engine) => boxed(engine.close()).await,
        }
    }

    /// What opening would do to the schema of a data folder. Touches nothing.
    ///
    /// # Errors
    /// When the database cannot be read or is newer than this program.
    pub fn plan(data_dir: &Path) -> std::result::Result<MigrationPlan, OpenError> {
        sqlite::plan(data_dir)
    }

    /// [`Store::plan`] for a database on a server.
    ///
    /// # Errors
    /// When it cannot be reached or is newer than this program.
    pub async fn plan_postgres(
        options: &Postgres,
    ) -> std::result::Result<MigrationPlan, OpenError> {
        postgres::plan(options).await
    }

    /// Brings the schema up to this version and answers with the steps that were taken. A database
    /// on a server may be in use by nodes of this version and the one before it; this one does not
    /// become a node. A data folder must not be in use.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn migrate(options: Options) -> std::result::Result<Vec<String>, OpenError> {
        if options.postgres.is_some() {
            return postgres::migrate_only(&options).await;
        }
        let opened = Self::open(options).await?;
        opened.store.close().await;
        Ok(opened.migrated)
    }

    /// What a database server promises. Touches nothing, and needs no schema.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn server_facts(options: &Postgres) -> std::result::Result<ServerFacts, OpenError> {
        postgres::server_facts(options).await
    }

    /// How it is, with every change.
    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.health(),
            Engine::Postgres(engine) => engine.health(),
        }
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(self.own_metrics())
    }

    fn own_metrics(&self) -> &Arc<Metrics> {
        match &self.engine {
            Engine::Sqlite(engine) => &engine.shared.metrics,
            Engine::Postgres(engine) => &engine.shared.metrics,
        }
    }

    /// A key for another purpose (tokens, links), derived from the first encryption key.
    pub fn derive_key(&self, purpose: &str) -> [u8; 32] {
        match &self.engine {
            Engine::Sqlite(engine) => engine.shared.sealer.derive(purpose),
            Engine::Postgres(engine) => engine.shared.sealer.derive(purpose),
        }
    }

    /// Changes the free disk below which appends stop. The disk of a database server is its own
    /// business: it says when it is full.
    pub fn set_min_free_bytes(&self, bytes: u64) {
        if let Engine::Sqlite(engine) = &self.engine {
            engine.shared.min_free_bytes.store(bytes, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Bytes used and left. On a server nobody tells us what is left (`free` is 0), and `used` is
    /// what rows hold, without what is deleted and not vacuumed yet.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn sizes(&self) -> Result<Sizes> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.sizes().await,
            Engine::Postgres(engine) => boxed(engine.sizes()).await,
        }
    }

    /// One small step of pruning, between commits; on PostgreSQL for each shard that this node
    /// holds.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn prune(&self, policy: &RetentionPolicy, budget: Budget) -> Result<Pruned> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let policy = Arc::new(policy.clone());
                engine.write_step(move |tx| pruning::prune(tx, &policy, budget)).await
            }
            Engine::Postgres(engine) => boxed(engine.prune(policy, budget)).await,
        }
    }

    /// Copies the store while it runs. `to` is a folder (made if missing; it opens as a data
    /// folder) or, when it ends in `.db`, a database file without the blobs. `progress` is told
    /// pages copied and pages in all. The copy is marked, so that it does not deliver as soon as
    /// somebody opens it ([`Options::live`]).
    ///
    /// # Errors
    /// When the target cannot be written, or the copy fails its integrity check. A database on a
    /// server is backed up with the server's own means.
    pub async fn backup(
        &self,
        to: &Path,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<BackupReport> {
        match &self.engine {
            Engine::Sqlite(engine) => sqlite::back_up(engine, to, progress).await,
            Engine::Postgres(_) => Err(StoreError::Refused {
                reason: "this store is on PostgreSQL, which has backups of its own: pg_dump for a \
                         copy, pg_basebackup with archived WAL to go back to any moment. Before \
                         the copy is opened as a store of its own, mark it: INSERT INTO meta \
                         (name, value) VALUES ('copied', 1)"
                    .to_owned(),
            }),
        }
    }

    /// Puts a backup into an empty data folder. Nothing is in the folder before all of it is
    /// copied and checked, and nothing stays in it when that fails. Blocks. `progress` is told
    /// bytes copied and bytes in all, and answers whether to go on. A database on a server is put
    /// back with the server's own means.
    ///
    /// # Errors
    /// When it is no whole backup, the folder is not empty, or the key is not the one it needs.
    pub fn restore(
        restore: &Restore,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> std::result::Result<Restored, OpenError> {
        sqlite::restore::restore(restore, progress)
    }

    /// Encrypts with the first key what another one has encrypted, in steps. The other keys are
    /// not needed any more when it returns; on PostgreSQL only once every node has the new key as
    /// its first.
    ///
    /// # Errors
    /// When the store cannot write; what was rewritten until then stays so.
    pub async fn rekey(&self, actor: &Actor) -> Result<Rekeyed> {
        match &self.engine {
            Engine::Sqlite(engine) => sqlite::secrets::rekey(engine, actor).await,
            Engine::Postgres(engine) => boxed(engine.rekey(actor)).await,
        }
    }

    /// Ids of the keys that encrypted something here, the one that encrypts first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn key_ids(&self) -> Result<Vec<String>> {
        match &self.engine {
            Engine::Sqlite(engine) => sqlite::secrets::key_ids(engine).await,
            Engine::Postgres(engine) => boxed(engine.key_ids()).await,
        }
    }

    /// The time, as the store knows it.
    fn now(&self) -> zapbus_event::Timestamp {
        match &self.engine {
            Engine::Sqlite(engine) => (engine.shared.clock)(),
            Engine::Postgres(engine) => engine.shared.now(),
        }
    }

    /// How many events [`Store::erase`] would take. Nothing is written.
    ///
    /// # Errors
    /// When the store cannot be read, or there is no such instance.
    pub async fn erasable(&self, what: Erase) -> Result<u64> {
        match &self.engine {
            Engine::Sqlite(engine) => sqlite::erase::erasable(engine, what).await,
            Engine::Postgres(engine) => boxed(engine.erasable(what)).await,
        }
    }

    /// Erases, in steps. What was asked for is in no row any more when it returns; on SQLite it is
    /// gone from database, log file and blob folder too. A server keeps deleted rows until it
    /// vacuums, and its log and backups for as long as it is told to.
    ///
    /// # Errors
    /// When the store cannot write; what was erased until then stays erased.
    pub async fn erase(&self, what: Erase, actor: &Actor) -> Result<Erased> {
        let erased = match &self.engine {
            Engine::Sqlite(engine) => sqlite::erase::erase(engine, what, actor).await?,
            Engine::Postgres(engine) => boxed(engine.erase(what, actor)).await?,
        };
        // With their events go the files that were fetched for them.
        self.forget_fetches().await?;
        Ok(erased)
    }
}

/// Bytes of a JSON text that the store takes out of it: long base64 strings, of more than `limit`
/// bytes each.
pub fn bytes_of_files(text: &[u8], limit: usize) -> usize {
    blob::bytes_of_files(text, limit)
}

/// What the fuzz targets reach that nobody else does.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    use std::ops::Range;

    /// The stretches of JSON text that would leave it for the blob folder.
    pub fn long_base64(text: &[u8], limit: usize) -> Vec<Range<usize>> {
        crate::blob::long_base64(text, limit)
    }
}
