//! What can go wrong inside an engine, told apart by who has to bear it.

use zapbus_event::InstanceId;

use crate::StoreError;

#[derive(Debug)]
pub(crate) enum Fault {
    /// A reason in the data of one request; the others of its commit do not suffer.
    Data(String),
    /// A stored value is not what it must be.
    Malformed(String),
    /// The disk is full.
    Full(String),
    /// The database, the disk or the system: nobody's request.
    Broken(String),
    /// The database file is damaged.
    Damaged(String),
    /// PostgreSQL: others were in the way for too long. The next try may find them gone.
    Contended(String),
    /// PostgreSQL: given up in favour of another transaction. The next try gets through.
    Conflict(String),
    /// PostgreSQL: no partition has room for an event of this time.
    NoPartition,
    /// PostgreSQL: a shard ends before where this node knows it to have ended.
    WentBack,
    /// PostgreSQL: this instance is unknown or being deleted.
    TakesNoEvents(InstanceId),
    /// An answer to the caller that is no failure of ours.
    Store(StoreError),
}

pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// Whether the rest of the transaction can go on.
    pub(crate) fn is_local(&self) -> bool {
        !matches!(
            self,
            Self::Full(_)
                | Self::Broken(_)
                | Self::Contended(_)
                | Self::Conflict(_)
                | Self::Damaged(_)
                | Self::WentBack
        )
    }

    pub(crate) fn not_found(what: &'static str) -> Self {
        Self::Store(StoreError::NotFound { what })
    }

    pub(crate) fn exists(what: &'static str, name: impl Into<String>) -> Self {
        Self::Store(StoreError::Exists { what, name: name.into() })
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Store(StoreError::Refused { reason: reason.into() })
    }

    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }

    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Data(reason)
            | Self::Malformed(reason)
            | Self::Broken(reason)
            | Self::Contended(reason)
            | Self::Conflict(reason)
            | Self::Damaged(reason) => reason.clone(),
            Self::Full(reason) => format!("the disk is full ({reason})"),
            Self::NoPartition => "no partition for events of this time".to_owned(),
            Self::WentBack => "the database has lost events that it had: try again".to_owned(),
            Self::TakesNoEvents(instance) => format!("{instance} takes no events"),
            Self::Store(error) => error.to_string(),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { reason } => Self::Broken(reason),
            StoreError::Corrupt { reason } => Self::Malformed(reason),
            other => Self::Store(other),
        }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) => error,
            Fault::Malformed(reason) | Fault::Damaged(reason) => Self::Corrupt { reason },
            Fault::Data(reason) => {
                Self::Refused { reason: format!("the store refuses this data: {reason}") }
            }
            Fault::TakesNoEvents(_) => Self::NotFound { what: "instance" },
            Fault::Full(_)
            | Fault::Broken(_)
            | Fault::Contended(_)
            | Fault::Conflict(_)
            | Fault::NoPartition
            | Fault::WentBack => Self::Unavailable { reason: fault.reason() },
        }
    }
}
