//! What SQLite says went wrong, by who has to bear it.

use rusqlite::{Error, ErrorCode};

use super::fault::Fault;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error {
            Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch => {
                    Self::Data(reason)
                }
                ErrorCode::DiskFull => Self::Full(reason),
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged(reason),
                _ => Self::Broken(reason),
            },
            Error::ToSqlConversionFailure(_) => Self::Data(reason),
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..) => Self::Malformed(reason),
            _ => Self::Broken(reason),
        }
    }
}
