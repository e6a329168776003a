//! Health, sizes, backups, erasure: what operators ask of a store.

use std::path::PathBuf;

use zapbus_event::{AccountId, InstanceId, Timestamp};

use crate::options::Key;

/// How a store is, for readiness and dashboards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// Whether events are taken.
    pub appends: Appends,
    /// Why it should not count as ready although events are taken still: somebody has to do
    /// something before they no longer are.
    pub unready: Option<String>,
}

impl StoreHealth {
    /// Says in the log that `unready` has become so.
    pub(crate) fn tell_ready(reason: Option<&str>) {
        match reason {
            None => tracing::info!(event = "store.ready_again", "nothing has to be done any more"),
            Some(reason) => {
                tracing::warn!(event = "store.unready", reason, "somebody has to look after it");
            }
        }
    }
}

/// Whether events are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appends {
    /// They are.
    Ok,
    /// They are not; it resumes by itself when the reason is gone.
    Stopped {
        /// What is wrong and what to do about it.
        reason: String,
    },
}

impl Appends {
    /// Says in the log that it has become so.
    pub(crate) fn tell(&self) {
        match self {
            Self::Ok => {
                tracing::info!(event = "store.appends_resumed", "events are taken again");
            }
            Self::Stopped { reason } => {
                tracing::warn!(event = "store.appends_stopped", reason, "no events are taken");
            }
        }
    }
}

/// What opening a store would do to its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationPlan {
    /// The version found; 0 when there is no database yet.
    pub from: u32,
    /// The version this program knows.
    pub to: u32,
    /// The steps between, in order.
    pub names: Vec<String>,
}

/// What a database server promises of what it has confirmed, and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version, as it says it.
    pub version: String,
    /// Whether that is one that Zapbus runs on.
    pub supported: bool,
    /// `synchronous_commit` as it is for our connections: `off` confirms what a crash may lose.
    pub synchronous_commit: String,
    /// `fsync`: without it a crash of the machine may damage everything.
    pub fsync: bool,
    /// `full_page_writes`, likewise.
    pub full_page_writes: bool,
    /// `synchronous_standby_names`: empty when a commit waits for no other server, and a failover may
    /// lose what was acknowledged.
    pub synchronous_standby_names: String,
    /// Other servers that are connected for its log and that commits wait for; `None` when we may
    /// not see them.
    pub synchronous_standbys: Option<u64>,
    /// It takes no writes: a standby, or told so.
    pub read_only: bool,
    /// Connections that it allows in all.
    pub max_connections: u64,
    /// `max_locks_per_transaction`: times the connections, so many locks has it room for.
    pub max_locks_per_transaction: u64,
    /// Locks that one look into every day of the delivery log takes: its partitions and their
    /// indexes. 0 while there is no log.
    pub locks_of_a_look: u64,
}

/// Bytes used and left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The database file.
    pub database: u64,
    /// What of it holds data (the rest is used again before the file grows).
    pub used: u64,
    /// The write-ahead log.
    pub wal: u64,
    /// The blob folder.
    pub blobs: u64,
    /// Free disk.
    pub free: u64,
}

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The database file in it.
    pub database: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Blob files copied beside it.
    pub blobs: u64,
    /// Ids of the keys its secrets need. The keys themselves are not in it.
    pub keys: Vec<String>,
}

/// A backup to put back, and how.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The folder of the backup, or its database file when it has no blobs.
    pub from: PathBuf,
    /// Where to: a folder that is empty or not there yet. `encryption.key` may be in it.
    pub data_dir: PathBuf,
    /// Keys, as in [`crate::Options::keys`].
    pub keys: Vec<Key>,
    /// A key to keep as `encryption.key` in the data folder; it counts as the last of `keys`.
    pub kept_key: Option<Key>,
    /// Drop what is encrypted instead of asking for the key: destinations are paused until they
    /// get a channel again, sources must be set again, instances get new tokens.
    pub without_secrets: bool,
    /// Deliver as soon as it is opened.
    pub live: bool,
    /// The time.
    pub now: Timestamp,
}

/// A backup that was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Length of the database.
    pub bytes: u64,
    /// Blob files beside it.
    pub blobs: u64,
    /// Ids of the keys that its secrets need.
    pub keys: Vec<String>,
    /// What went, without the secrets.
    pub dropped: Option<Dropped>,
}

/// What is gone without the secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Destinations that have no channel any more and are paused.
    pub destinations: u64,
    /// Sources of instances and accounts.
    pub sources: u64,
    /// Instances that have a new token.
    pub tokens: u64,
}

/// What [`crate::Store::rekey`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    /// Values that were encrypted anew.
    pub rewritten: u64,
    /// Values that no key given decrypts; they stay as they are.
    pub unreadable: u64,
    /// Ids of the keys that are still needed, the one that encrypts first.
    pub keys: Vec<String>,
}

/// What to erase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erase {
    /// Every event of an instance that concerns a chat.
    Chat {
        /// The instance.
        instance: InstanceId,
        /// The chat's address; its known aliases count too.
        chat: String,
    },
    /// Every event of an account that names a person.
    Person {
        /// The account.
        account: AccountId,
        /// The person's address; its known aliases count too.
        address: String,
    },
    /// Every event of an instance.
    Instance(InstanceId),
}

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events.
    pub events: u64,
    /// Delivery rows, whose excerpts went and which are called off if they were still to be sent.
    pub deliveries: u64,
    /// Whole upstream bodies.
    pub bodies: u64,
    /// Files of the blob folder.
    pub blobs: u64,
}
