//! How to open a store.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::Engine as _;
use sha2::{Digest, Sha256};
use zapbus_event::Timestamp;

use crate::{OpenError, journal::Limit};

/// Tells the time. Tests give one of their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since_epoch =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    })
}

/// Limits and choices of a store.
#[derive(Clone)]
pub struct Options {
    /// Where everything is kept. Made if missing.
    pub data_dir: PathBuf,
    /// Keys for what is encrypted at rest: the first encrypts, any decrypts. Empty: one is made at
    /// the first start, in `encryption.key` in the data folder, and read from there.
    pub keys: Vec<Key>,
    /// The clock.
    pub clock: Clock,
    /// Bytes of appends that may wait to be written.
    pub queue_bytes: usize,
    /// Bytes of committed events that are kept in memory.
    pub tail_bytes: usize,
    /// Free disk below which appends stop.
    pub min_free_bytes: u64,
    /// The most that one commit appends.
    pub batch: Limit,
    /// How long a settlement may wait for an append to share a disk sync with.
    pub ride: Duration,
    /// Base64 strings longer than this leave the journal row for a file.
    pub inline_limit: usize,
    /// How long deduplication keys are known.
    pub dedup_window: Duration,
    /// Connections that read.
    pub readers: usize,
    /// Where files of events go in place of the data folder or the database.
    pub bucket: Option<zapbus_media::Bucket>,
    /// A database on a server in place of one in the data folder.
    pub postgres: Option<Postgres>,
    /// A store that was restored from a backup goes on delivering at once. Else its destinations
    /// are paused until somebody resumes them.
    pub live: bool,
    /// A data folder that was copied into a database is used again all the same.
    pub take_back: bool,
    /// The store runs on a simulated clock, without threads.
    #[cfg(feature = "simulation")]
    pub simulation: Option<crate::simulation::Simulation>,
}

impl Options {
    /// The defaults for this data folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("zapbus-data"),
            keys: Vec::new(),
            clock: system_clock(),
            queue_bytes: 16 << 20,
            tail_bytes: 16 << 20,
            min_free_bytes: 256 << 20,
            batch: Limit { events: 1_000, bytes: 4 << 20 },
            ride: Duration::from_millis(10),
            inline_limit: 64 << 10,
            dedup_window: Duration::from_secs(30 * 24 * 3600),
            readers: 2,
            bucket: None,
            postgres: None,
            live: false,
            take_back: false,
            #[cfg(feature = "simulation")]
            simulation: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("data_dir", &self.data_dir)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// Where and how to open a store on PostgreSQL.
#[derive(Clone)]
pub struct Postgres {
    /// `postgres://user:password@host/database`. `sslmode=verify-full` (anywhere but on loopback
    /// the default) or `disable`; `sslrootcert=` a file of certificates to trust.
    pub url: String,
    /// A file of certificates to trust in place of the system's, unless the URL names one.
    pub root_cert: Option<PathBuf>,
    /// Connections at most, besides the one that listens.
    pub connections: usize,
    /// Shards of a new store. Never changes afterwards.
    pub shards: u16,
    /// What this node is called in the list of nodes.
    pub node: String,
    /// For how long a node that is not heard of keeps its shards.
    pub lease: Duration,
    /// How long lanes have to finish what is under way when a shard is handed to another node.
    pub handover: Duration,
    /// The time of events comes from the database, so that nodes agree on it. Tests that make
    /// their own time take [`Options::clock`].
    pub database_clock: bool,
    /// Days, and hours for what is kept for an hour, whose tables are made in advance. 0: when
    /// something is to go into them, for tests.
    pub ahead: u16,
}

impl Postgres {
    /// The defaults for this database.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Where it leads, for people: without user, password and options. Connects to nobody.
    ///
    /// # Errors
    /// [`OpenError::Url`] when the URL, or the file of certificates, cannot be used.
    pub fn check(&self) -> Result<String, OpenError> {
        Ok(crate::postgres::address(self)?.shown)
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            url: "postgres://127.0.0.1/zapbus".to_owned(),
            root_cert: None,
            connections: 8,
            shards: 16,
            node: "zapbus".to_owned(),
            lease: Duration::from_secs(3),
            handover: Duration::from_secs(1),
            database_clock: true,
            ahead: 8,
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds a password.
        f.debug_struct("Postgres")
            .field("connections", &self.connections)
            .field("shards", &self.shards)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// A key for what is encrypted at rest. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// From 32 bytes written as base64 (either alphabet, padded or not) or as hex.
    pub fn parse(text: &str) -> Result<Self, OpenError> {
        use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

        let text = text.trim();
        let bytes = if text.len() == 64 {
            hex::decode(text).map_err(|error| error.to_string())
        } else {
            let bare = text.trim_end_matches('=');
            STANDARD_NO_PAD
                .decode(bare)
                .or_else(|_| URL_SAFE_NO_PAD.decode(bare))
                .map_err(|error| error.to_string())
        };
        let bytes = bytes.map_err(|reason| OpenError::BadKey { reason })?;
        let length = bytes.len();
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| OpenError::BadKey { reason: format!("it has {length} bytes") })
    }

    /// A new random key.
    pub fn generate() -> Result<Self, OpenError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| OpenError::BadKey { reason: error.to_string() })?;
        Ok(Self(bytes))
    }

    /// A short public name: tells keys apart and says nothing about them.
    pub fn id(&self) -> String {
        hex::encode(self.tag())
    }

    /// The text that [`Key::parse`] reads back. It is the secret itself.
    pub fn expose(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.0)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// [`Key::id`] as bytes, as it stands in front of what the key encrypted.
    pub(crate) fn tag(&self) -> [u8; 4] {
        let digest = Sha256::new().chain_update(b"zapbus key id\0").chain_update(self.0).finalize();
        let mut tag = [0; 4];
        tag.copy_from_slice(&digest[..4]);
        tag
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_form_is_the_same_key() {
        let key = Key([0xfb; 32]);
        let standard = key.expose();
        let url_safe = standard.replace('+', "-").replace('/', "_");
        for text in [standard.trim_end_matches('='), &standard, &url_safe, &hex::encode(key.0)] {
            assert_eq!(Key::parse(text).unwrap(), key, "{text}");
        }
    }

    #[test]
    fn a_key_never_prints() {
        let key = Key([7; 32]);
        assert!(!format!("{key:?}").contains("0707"));
        assert!(matches!(Key::parse("short"), Err(OpenError::BadKey { .. })));
    }
}
