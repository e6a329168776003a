//! Event types as numbers that mean the same in this database for ever.

use zapbus_event::Kind;

use crate::{
    fault::{Fault, Result},
    unreadable::Heads,
};

/// Both directions between a type and its number here.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    /// By `Kind as usize`.
    numbers: Vec<i64>,
    /// By number.
    kinds: Vec<Option<Kind>>,
    /// Events whose head could not be read. Here, since whoever reads events has this at hand.
    pub(crate) unreadable: Heads,
}

impl Kinds {
    /// With the number of each of [`Kind::ALL`], in that order.
    pub(crate) fn of(numbers: impl IntoIterator<Item = i64>) -> Result<Self> {
        let mut kinds = Self::default();
        for (kind, number) in Kind::ALL.iter().zip(numbers) {
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

    /// A type that a newer version has brought is not known to this one, and stops nobody.
    pub(crate) fn kind(&self, number: i64) -> Kind {
        usize::try_from(number)
            .ok()
            .and_then(|slot| self.kinds.get(slot).copied().flatten())
            .unwrap_or(Kind::EventUnknown)
    }
}
