//! Every column that is kept encrypted, in one list: both engines encrypt by it with another key.

use crate::seal::Place;

/// Values rewritten in one commit.
pub(crate) const STEP: i64 = 200;

/// A column of encrypted values, with the place each is bound to. Parameters are written `$1`, which
/// both engines take, and come in the order of their numbers, as SQLite counts them.
pub(crate) struct Column {
    /// Table and column of the place.
    place: (&'static str, &'static str),
    /// Gives id and value of those whose key (their first four bytes) is not `$1`, after id `$2`, `$3`
    /// at most.
    pub(crate) select: &'static str,
    /// What of that is to be locked, where somebody else may write meanwhile.
    pub(crate) locked: &'static str,
    /// Sets the value `$1` of id `$2`.
    pub(crate) update: &'static str,
}

impl Column {
    /// What a value is bound to.
    pub(crate) fn place<'a>(&self, id: &'a [u8]) -> Place<'a> {
        Place { table: self.place.0, id, column: self.place.1 }
    }
}

/// What a destination is told to do: its channel with all secrets.
pub(crate) const SPEC: Column = Column {
    place: ("destination", "spec"),
    select: "SELECT d.id, s.spec FROM destination d JOIN destination_spec s ON s.n = d.n \
             WHERE substr(s.spec, 1, 4) <> $1 AND d.id > $2 ORDER BY d.id LIMIT $3",
    locked: "s",
    update: "UPDATE destination_spec SET spec = $1 \
             WHERE n = (SELECT n FROM destination WHERE id = $2)",
};

/// All of them but answers, which have two ids.
pub(crate) const COLUMNS: [Column; 4] = [
    Column {
        place: ("account", "source"),
        select: "SELECT id, source FROM account WHERE source IS NOT NULL \
                 AND substr(source, 1, 4) <> $1 AND id > $2 ORDER BY id LIMIT $3",
        locked: "account",
        update: "UPDATE account SET source = $1 WHERE id = $2",
    },
    Column {
        place: ("instance", "token"),
        select: "SELECT id, token FROM instance \
                 WHERE substr(token, 1, 4) <> $1 AND id > $2 ORDER BY id LIMIT $3",
        locked: "instance",
        update: "UPDATE instance SET token = $1 WHERE id = $2",
    },
    Column {
        place: ("instance", "source"),
        select: "SELECT id, source FROM instance WHERE source IS NOT NULL \
                 AND substr(source, 1, 4) <> $1 AND id > $2 ORDER BY id LIMIT $3",
        locked: "instance",
        update: "UPDATE instance SET source = $1 WHERE id = $2",
    },
    SPEC,
];

/// A step of encrypting anew: how many it rewrote and could not read, and where the next goes on.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) rewritten: u64,
    pub(crate) unreadable: u64,
    pub(crate) after: Option<Vec<u8>>,
}
