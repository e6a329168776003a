//! What the writer remembers between transactions.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use zapbus_event::{AuditId, DestinationId, InstanceId, Position, Timestamp};

use crate::{
    fault::Result,
    prepared::{KnownAliases, Random},
    pruning::Pruner,
    sqlite::{dedup::Dedup, row::position},
};

/// What the writer remembers between transactions.
pub(crate) struct Memory {
    pub(super) next_seq: u64,
    pub(super) last_received_at: Timestamp,
    pub(crate) dedup: Dedup,
    pub(crate) random: Random,
    pub(crate) aliases: KnownAliases,
    pub(crate) destinations: HashMap<DestinationId, i64>,
    /// Instances whose state ordinary messages no longer change.
    pub(crate) settled_states: HashSet<InstanceId>,
    pub(crate) pruner: Pruner,
    /// The id of the last line of the audit log: lines of one millisecond keep their order.
    pub(crate) last_audit: Option<AuditId>,
    /// Scratch space for the heads of rows.
    pub(crate) head: Vec<u8>,
}

impl Memory {
    pub(super) fn load(conn: &Connection) -> Result<Self> {
        let (head, last_received_at) = heads(conn)?;
        Ok(Self {
            next_seq: head.0 + 1,
            last_received_at,
            dedup: Dedup::load(conn)?,
            random: Random::default(),
            aliases: KnownAliases::default(),
            destinations: HashMap::new(),
            settled_states: HashSet::new(),
            pruner: Pruner::default(),
            last_audit: None,
            head: Vec::with_capacity(512),
        })
    }

    pub(crate) fn head(&self) -> Position {
        Position(self.next_seq - 1)
    }
}

/// The end of the journal and the time of its last event, pruned ones included.
pub(in crate::sqlite) fn heads(conn: &Connection) -> Result<(Position, Timestamp)> {
    let (seq, at): (i64, i64) = conn.query_row(
        "SELECT max((SELECT value FROM meta WHERE name = 'head'), \
                    ifnull((SELECT seq FROM journal ORDER BY seq DESC LIMIT 1), 0)), \
                max((SELECT value FROM meta WHERE name = 'received_at'), \
                    ifnull((SELECT received_at FROM journal ORDER BY seq DESC LIMIT 1), 0))",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok((position(seq), Timestamp::from_millis(at)))
}
