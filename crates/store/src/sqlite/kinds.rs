//! Event types as numbers that mean the same in this database for ever.

use rusqlite::{Connection, params};
use zapbus_event::Kind;

use super::fault::{Fault, Result};

/// Both directions between a type and its number here.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    /// By `Kind as usize`.
    numbers: Vec<i64>,
    /// By number.
    kinds: Vec<Option<Kind>>,
}

impl Kinds {
    /// Reads the numbers and gives new types theirs. Needs a connection that writes.
    pub(crate) fn load(conn: &Connection) -> Result<Self> {
        let mut kinds = Self::default();
        for kind in Kind::ALL {
            conn.prepare_cached("INSERT OR IGNORE INTO kind (name) VALUES (?1)")?
                .execute(params![kind.as_str()])?;
            let number: i64 = conn
                .prepare_cached("SELECT number FROM kind WHERE name = ?1")?
                .query_row([kind.as_str()], |row| row.get(0))?;
            let slot = usize::try_from(number)
                .ok()
                .filter(|slot| *slot < 10_000)
                .ok_or_else(|| Fault::malformed(format!("event type number {number}")))?;
            if kinds.kinds.len() <= slot {
                kinds.kinds.resize(slot + 1, None);
            }
            kinds.kinds[slot] = Some(*kind);
            kinds.numbers.push(number);
        }
        Ok(kinds)
    }

    pub(crate) fn number(&self, kind: Kind) -> i64 {
        // `ALL` is in the order of the variants.
        self.numbers[kind as usize]
    }

    pub(crate) fn kind(&self, number: i64) -> Result<Kind> {
        usize::try_from(number)
            .ok()
            .and_then(|slot| self.kinds.get(slot).copied().flatten())
            .ok_or_else(|| Fault::malformed(format!("no event type has the number {number}")))
    }
}
