//! The durable state of Zapbus: journal, cursors, delivery log, configuration.
//!
//! [`Store`] is the only handle; it is cheap to clone. Behind it stands one engine, SQLite: a
//! thread that writes, taking whatever has gathered while its last disk sync ran and committing it
//! as one ([`Store::append`], [`Store::settle`] and every change are answered after that sync, and
//! never before), and a few connections that read.
//!
//! - [`journal`]: events, in order, each once ([`Store::append`], [`Store::read_after`])
//! - [`delivery`]: cursors, delivery rows, attempts, replays ([`Store::settle`], [`Store::due`],
//!   [`Store::search`])
//! - [`registry`]: accounts, instances, destinations, credentials, the audit log
//! - [`lag`]: how far destinations are behind ([`Store::behind`])
//! - [`retention`]: how long what is kept ([`Store::prune`])
//! - [`statistics`]: the last hour and day ([`Store::statistics`])
//! - [`upkeep`]: health, backups, erasure
//!
//! The store knows no URL and no status code: what it is given of those is opaque to it.

#[cfg(all(feature = "fault-injection", not(debug_assertions)))]
compile_error!("fault-injection answers before it stores: it must never be in a release");

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
pub mod upkeep;

mod blob;
mod private;
mod random;
mod seal;
mod sqlite;
mod tail;

mod deliveries;
mod events;
mod records;

use std::{path::Path, sync::Arc};

use tokio::sync::watch;

pub use delivery::{
    Attempt, BulkRedelivery, DeadReason, Delivery, DeliveryId, DeliveryIdError, DeliveryPage,
    DeliveryQuery, DueRow, EventSummary, Health, HeldKey, LIVE, LaneId, LaneStart, LaneStats, Row,
    Run, RunCount, RunState, Settlement, State, Status, Stretch, Urgency,
};
pub use error::{AppendError, OpenError, StoreError};
pub use journal::{Append, Appended, Limit, NewEvent, Page, Reader};
pub use lag::{Behind, Counted, Holdings};
pub use metrics::{Count, Histogram, Metrics};
pub use options::{Clock, Key, Options, system_clock};
pub use random::random_bits;
pub use registry::{
    Account, Activity, Actor, Audit, Credential, DEFAULT_ACCOUNT, Destination, DestinationHead,
    DestinationScope, Instance, InstancePatch, InstanceStatus, RESERVED_INSTANCE, Remember, Role,
    Start,
};
pub use retention::{Budget, Pruned, RetentionPolicy, WhenFull};
pub use statistics::{Figures, Statistics, Subject, Window};
pub use upkeep::{
    Appends, BackupReport, Dropped, Erase, Erased, MigrationPlan, Rekeyed, Restore, Restored,
    Sizes, StoreHealth,
};

use sqlite::Engine;

/// The result of most of what a store is asked.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The handle on a store. Clones share it; when the last one is dropped the store is closed, but
/// [`Store::close`] is the orderly way.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    tally: Arc<statistics::Tally>,
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
        f.debug_struct("Store").field("data_dir", &self.engine.data_dir()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a store, and makes or migrates it where needed.
    ///
    /// # Errors
    /// Each says what to do about it.
    pub async fn open(options: Options) -> std::result::Result<Opened, OpenError> {
        let opened = Self::open_engine(options).await?;
        Ok(Opened {
            store: Self { engine: Arc::new(opened.engine), tally: Arc::default() },
            first_start: opened.first_start,
            migrated: opened.migrated,
            restored: opened.restored,
            paused: opened.paused,
        })
    }

    async fn open_engine(options: Options) -> std::result::Result<sqlite::Opened, OpenError> {
        #[cfg(feature = "simulation")]
        if options.simulation.is_some() {
            return Engine::open(options);
        }
        let path = options.data_dir.clone();
        let opened = tokio::task::spawn_blocking(move || Engine::open(options)).await;
        opened.map_err(|error| OpenError::Database { path, reason: error.to_string() })?
    }

    /// Takes nothing more, writes what waits, moves it all into the database file and releases the
    /// folder. Does nothing the second time.
    pub async fn close(&self) {
        if let Err(error) = self.write_statistics().await {
            // Also when it was closed before: then there was nothing to write.
            tracing::debug!(event = "store.statistics_unwritten", %error, "the last figures are missing");
        }
        #[cfg(feature = "simulation")]
        if self.engine.is_simulated() {
            return self.engine.close_simulated().await;
        }
        let engine = Arc::clone(&self.engine);
        if let Err(error) = tokio::task::spawn_blocking(move || engine.close()).await {
            tracing::error!(event = "store.close_failed", %error, "closing the store failed");
        }
    }

    /// What opening would do to the schema. Touches nothing.
    ///
    /// # Errors
    /// When the database cannot be read or is newer than this program.
    pub fn plan(data_dir: &Path) -> std::result::Result<MigrationPlan, OpenError> {
        sqlite::plan(data_dir)
    }

    /// How it is, with every change.
    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        self.engine.health()
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.engine.shared.metrics)
    }

    /// A key for another purpose (tokens, links), derived from the first encryption key.
    pub fn derive_key(&self, purpose: &str) -> [u8; 32] {
        self.engine.shared.sealer.derive(purpose)
    }

    /// Changes the free disk below which appends stop.
    pub fn set_min_free_bytes(&self, bytes: u64) {
        self.engine.shared.min_free_bytes.store(bytes, std::sync::atomic::Ordering::Relaxed);
    }

    /// Bytes used and left.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn sizes(&self) -> Result<Sizes> {
        self.engine.sizes().await
    }

    /// One small step of pruning, between commits.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn prune(&self, policy: &RetentionPolicy, budget: Budget) -> Result<Pruned> {
        let policy = Arc::new(policy.clone());
        self.engine.write_step(move |tx| sqlite::retention::prune(tx, &policy, budget)).await
    }

    /// Copies the store while it runs. `to` is a folder (made if missing; it opens as a data
    /// folder) or, when it ends in `.db`, a database file without the blobs. `progress` is told
    /// pages copied and pages in all. The copy is marked, so that it does not deliver as soon as
    /// somebody opens it ([`Options::live`]).
    ///
    /// # Errors
    /// When the target cannot be written, or the copy fails its integrity check.
    pub async fn backup(
        &self,
        to: &Path,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<BackupReport> {
        sqlite::back_up(&self.engine, to, progress).await
    }

    /// Puts a backup into an empty data folder. Nothing is in the folder before all of it is
    /// copied and checked, and nothing stays in it when that fails. Blocks. `progress` is told
    /// bytes copied and bytes in all, and answers whether to go on.
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
    /// not needed any more when it returns.
    ///
    /// # Errors
    /// When the store cannot write; what was rewritten until then stays so.
    pub async fn rekey(&self, actor: &Actor) -> Result<Rekeyed> {
        sqlite::secrets::rekey(&self.engine, actor).await
    }

    /// Ids of the keys that encrypted something here, the one that encrypts first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn key_ids(&self) -> Result<Vec<String>> {
        sqlite::secrets::key_ids(&self.engine).await
    }

    /// Erases, in steps. What was asked for is gone from database, log file and blob folder when
    /// it returns.
    ///
    /// # Errors
    /// When the store cannot write; what was erased until then stays erased.
    pub async fn erase(&self, what: Erase, actor: &Actor) -> Result<Erased> {
        sqlite::erase::erase(&self.engine, what, actor).await
    }
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
