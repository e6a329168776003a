//! What PostgreSQL says went wrong, by who has to bear it.

use tokio_postgres::error::{Error, SqlState};
use zapbus_event::InstanceId;

use super::fault::Fault;
use crate::{ShardId, StoreError};

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let Some(told) = error.as_db_error() else {
            let text = error.to_string();
            if error.is_closed() || text.contains("communicating") || text.contains("connect") {
                let cause = std::error::Error::source(&error);
                let reason = cause.map_or(text.clone(), |cause| format!("{text}: {cause}"));
                return Self::Broken(reason);
            }
            let cause = std::error::Error::source(&error);
            return Self::Malformed(cause.map_or(text.clone(), |cause| format!("{text}: {cause}")));
        };
        let reason = told.message().to_owned();
        match told.code().code() {
            "ZB001" => {
                let mut id = [0; 16];
                match hex::decode_to_slice(&reason, &mut id) {
                    Ok(()) => Self::TakesNoEvents(InstanceId::from_bytes(id)),
                    Err(_) => Self::Malformed(reason),
                }
            }
            "ZB002" => {
                let number = reason.split(' ').nth(1).and_then(|number| number.parse().ok());
                Self::Store(StoreError::LeaseLost { shard: ShardId(number.unwrap_or_default()) })
            }
            "ZB003" => Self::WentBack,
            "23514" if reason.starts_with("no partition") => Self::NoPartition,
            code if code == SqlState::DISK_FULL.code() => Self::Full(reason),
            code if code == SqlState::READ_ONLY_SQL_TRANSACTION.code() => {
                Self::Broken(format!("the database is read-only ({reason})"))
            }
            // Time limits of a statement or a lock.
            "57014" | "55P03" => Self::Contended(reason),
            // A deadlock, a conflict.
            "40P01" | "40001" => Self::Conflict(reason),
            "XX001" | "XX002" => Self::Damaged(reason),
            code if code.starts_with("22") || code.starts_with("23") || code.starts_with("54") => {
                Self::Data(reason)
            }
            code if is_bug(code) => Self::Malformed(format!("{code}: {reason}")),
            _ => Self::Broken(reason),
        }
    }
}

/// Our own statement is wrong: another connection would not help.
fn is_bug(code: &str) -> bool {
    code.starts_with("42") && code != SqlState::INSUFFICIENT_PRIVILEGE.code()
}
