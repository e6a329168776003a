//! Why the store could not do what was asked.

use std::path::PathBuf;

use crate::ShardId;

/// An append that was not taken. Nothing of it is stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Too much is waiting for the disk already. Try again soon.
    #[error("the journal's queue is full ({queued_bytes} bytes are waiting to be written)")]
    Busy {
        /// Bytes that wait.
        queued_bytes: usize,
    },
    /// The store cannot persist at the moment, or the fate of the commit is unknown. Try again;
    /// what was stored all the same will be recognised as a duplicate.
    #[error("the store cannot write: {reason}")]
    Unavailable {
        /// What is wrong and what to do about it.
        reason: String,
    },
    /// An instance does not exist or is being deleted.
    #[error("event {index} names an instance that does not exist or is being deleted")]
    UnknownInstance {
        /// Which event of the request.
        index: usize,
    },
    /// The database refuses this request's data, whatever it is committed with.
    #[error("the store refuses this data: {reason}")]
    Data {
        /// What the database said.
        reason: String,
    },
}

/// Anything else that went wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot write (or read) at the moment.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What is wrong and what to do about it.
        reason: String,
    },
    /// There is no such thing (any more).
    #[error("{what} does not exist")]
    NotFound {
        /// Its kind: "instance", "destination", …
        what: &'static str,
    },
    /// Something unique is taken.
    #[error("{what} {name:?} exists already")]
    Exists {
        /// Its kind.
        what: &'static str,
        /// The name that is taken.
        name: String,
    },
    /// Another instance of the account has this route.
    #[error("another instance of this account has the route {route:?}")]
    RouteTaken {
        /// What its source is known by upstream.
        route: String,
    },
    /// Somebody is known by this token or secret already. Whose it is is nobody's business.
    #[error("this token or secret is in use already")]
    TokenTaken,
    /// The event is no longer stored.
    #[error("the event is no longer stored")]
    EventExpired,
    /// A stored secret cannot be decrypted.
    #[error("{what} cannot be decrypted with the keys given")]
    Sealed {
        /// Which document.
        what: String,
    },
    /// A limit of the data model, for example a second run beyond the allowed number.
    #[error("{reason}")]
    Refused {
        /// What was expected.
        reason: String,
    },
    /// The instance has as many destinations of this kind as it may have.
    #[error("there are as many {}destinations of this kind as there may be: {most}", if *on { "enabled " } else { "" })]
    TooMany {
        /// Of those that are on; else of all.
        on: bool,
        /// How many there may be.
        most: usize,
    },
    /// What was to be changed is not any more what it was when that was decided.
    #[error("somebody else has changed it meanwhile")]
    ChangedMeanwhile,
    /// The account has as many instances as it may have.
    #[error("the account has as many instances as it may have: {most}")]
    TooManyInstances {
        /// How many there may be.
        most: usize,
    },
    /// Another node runs the lanes of this shard by now. Nothing of it was written: stop them.
    #[error("another node runs the lanes of shard {shard} by now")]
    LeaseLost {
        /// Whose lanes.
        shard: ShardId,
    },
    /// The database says its data is wrong.
    #[error("the database is damaged: {reason}")]
    Corrupt {
        /// What it said.
        reason: String,
    },
}

/// Why a store could not be opened. Each message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder cannot be made or written.
    #[error("the data folder {} cannot be used: {source}. Give a folder this user may write (ZAPBUS_DATA_DIR).", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bucket for files cannot be used as it is configured.
    #[error("{reason}")]
    Bucket {
        /// What is wrong, and where it stands.
        reason: String,
    },
    /// Another process has it open.
    #[error("the data folder {} is in use by another process{}. Stop that one, or give this one a folder of its own (ZAPBUS_DATA_DIR).", path.display(), holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process, when it wrote its number.
        holder: Option<u32>,
    },
    /// It was copied into a database, where nodes go on with it.
    #[error("the data folder {} was copied to {place}. Two gateways would deliver everything twice: start a node there (ZAPBUS_DATABASE_URL). To go on here instead, with no node there, start once with `zapbus serve --take-back`.", path.display())]
    Copied {
        /// The folder.
        path: PathBuf,
        /// Where it was copied to and when, without secrets.
        place: String,
    },
    /// A newer Zapbus wrote it.
    #[error(
        "the database has schema version {found}, this Zapbus knows up to {known}. Run the version that wrote it, or a newer one."
    )]
    Newer {
        /// Version found.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// Its secrets were encrypted with another key.
    #[error("the secrets in {} are encrypted with key {needed}, and ZAPBUS_ENCRYPTION_KEY gives {given}. Give that key.", path.display())]
    WrongKey {
        /// The folder.
        path: PathBuf,
        /// Id of the key it needs.
        needed: String,
        /// Ids of the keys it got.
        given: String,
    },
    /// The URL of the database cannot be used.
    #[error(
        "ZAPBUS_DATABASE_URL cannot be used: {reason}. Give postgres://user:password@host/database."
    )]
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// The database on a server.
    #[error("the database {shown} cannot be opened: {reason}")]
    Server {
        /// Where it is, without secrets.
        shown: String,
        /// What it said.
        reason: String,
    },
    /// A copy into it was begun and is not whole.
    #[error(
        "the database {shown} holds a copy that is not finished: run the same `zapbus copy` again, which goes on where it stopped, and open it then."
    )]
    Unfinished {
        /// Where it is, without secrets.
        shown: String,
    },
    /// On PostgreSQL the key must be given: no node may make one of its own.
    #[error(
        "on PostgreSQL an encryption key must be given (ZAPBUS_ENCRYPTION_KEY): 32 random bytes as base64, the same on every node, for example from `openssl rand -base64 32`"
    )]
    KeyNeeded,
    /// A key is not 32 bytes of base64 or hex.
    #[error("ZAPBUS_ENCRYPTION_KEY must be 32 bytes as base64 or hex: {reason}")]
    BadKey {
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be put back from.
    #[error("{} cannot be restored: {reason}", path.display())]
    Backup {
        /// The backup.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A restore never overwrites.
    #[error("the data folder {} is not empty: {found} is in it. Nothing is overwritten: give an empty folder, or move the old one away.", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Somebody called it off.
    #[error("it was called off; nothing was left behind")]
    CalledOff,
    /// The database itself.
    #[error("the database in {} cannot be opened: {reason}", path.display())]
    Database {
        /// The folder.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}
