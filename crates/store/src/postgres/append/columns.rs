//! What a call of the database function gets and gives: a column for each property of events.

use std::collections::HashSet;

use bytes::Bytes;
use tokio_postgres::Row;
use zapbus_event::{Connection, EventId, InstanceState, Position, Raw, Timestamp};

use crate::{
    ShardId,
    fault::Result,
    journal::Appended,
    postgres::{
        Shared,
        pool::Param,
        row::{self, Fixed, position, text},
    },
    prepared::{KeyHash, Prepared, random},
};

pub(in crate::postgres) const CALL: &str = "SELECT o_ord, o_seq, o_id, o_at, o_duplicate, o_before \
     FROM zapbus_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
     $17, $18, $19, $20, $21, $22, $23, $24, $25)";

/// Whether the memory of this node says that an ordinary message changes nothing of the instance.
fn concerns(shared: &Shared, prepared: &Prepared) -> bool {
    let known = shared.settled_states().contains(&prepared.instance);
    let connection = if known { Connection::Connected } else { Connection::Unknown };
    let assumed = InstanceState { connection, ..InstanceState::default() };
    assumed.concerns(prepared.draft.kind, prepared.draft.history)
}

/// What one call gets: a column for each property.
#[derive(Default)]
pub(in crate::postgres) struct Columns<'a> {
    shard: i32,
    clock: Option<i64>,
    window: i64,
    instance: Vec<Fixed<16>>,
    random: Vec<Fixed<10>>,
    kind: Vec<i32>,
    flags: Vec<i32>,
    head: Vec<Vec<u8>>,
    data: Vec<&'a [u8]>,
    raw: Vec<Option<&'a [u8]>>,
    body_of: Vec<Option<i32>>,
    key_event: Vec<i32>,
    key: Vec<Fixed<16>>,
    blob_event: Vec<i32>,
    blob: Vec<Fixed<32>>,
    content_sha: Vec<Fixed<32>>,
    content: Vec<&'a [u8]>,
    body_sha: Vec<Fixed<32>>,
    body: Vec<&'a [u8]>,
    pub(super) concerns: Vec<i32>,
    alias_event: Vec<i32>,
    lid: Vec<String>,
    phone: Vec<String>,
    since: i64,
    known: i64,
    keys_seen: HashSet<KeyHash>,
}

impl<'a> Columns<'a> {
    pub(in crate::postgres) fn new(shared: &Shared, shard: ShardId) -> Self {
        Self {
            shard: i32::from(shard.0),
            clock: (!shared.database_clock).then(|| shared.now().as_millis()),
            since: shared.shard(shard).followed.newest_at(),
            known: row::sql(shared.shard(shard).followed.shown()),
            window: i64::try_from(shared.dedup_window.as_millis()).unwrap_or(i64::MAX),
            ..Self::default()
        }
    }

    /// Whether an event has a key that an earlier one of this call has: it needs a call of its own.
    pub(super) fn clashes(&self, prepared: &Prepared) -> bool {
        prepared.keys.iter().any(|key| self.keys_seen.contains(key))
    }

    pub(in crate::postgres) fn push(
        &mut self,
        shared: &Shared,
        prepared: &'a Prepared,
        body_of: Option<i32>,
    ) -> Result<()> {
        let ordinal = i32::try_from(self.instance.len() + 1).unwrap_or(i32::MAX);
        let draft = &prepared.draft;
        self.instance.push(Fixed(prepared.instance.to_bytes()));
        let mut bits = [0; 10];
        bits.copy_from_slice(&random()?.to_be_bytes()[6..]);
        self.random.push(Fixed(bits));
        self.kind.push(i32::try_from(shared.kinds.number(draft.kind)).unwrap_or(i32::MAX));
        self.flags.push(i32::try_from(crate::encoding::flags(prepared)).unwrap_or(0));
        // Who reads it takes the time it was received, where none was given.
        let head = row::Head::of(prepared, Timestamp::default());
        self.head.push(serde_json::to_vec(&head)?);
        self.data.push(draft.data.as_ref());
        self.raw.push(match &draft.raw {
            Raw::Data => None,
            Raw::Bytes(raw) => Some(raw.as_ref()),
        });
        self.body_of.push(body_of);
        for (index, key) in prepared.keys.iter().enumerate() {
            // A source may give one event the same key twice.
            if !prepared.keys[..index].contains(key) {
                self.key_event.push(ordinal);
                self.key.push(Fixed(*key));
                self.keys_seen.insert(*key);
            }
        }
        for reference in &prepared.blobs {
            self.blob_event.push(ordinal);
            self.blob.push(Fixed(reference.sha));
        }
        if concerns(shared, prepared) {
            self.concerns.push(ordinal);
        }
        let mut known = shared.aliases();
        for alias in &draft.aliases {
            if known.is_new(prepared.instance, &alias.lid, &alias.phone) {
                self.alias_event.push(ordinal);
                self.lid.push(text(&alias.lid).into_owned());
                self.phone.push(text(&alias.phone).into_owned());
            }
        }
        Ok(())
    }

    /// The place of a body among those of this call. Two jobs may bring the same.
    pub(super) fn body(&mut self, sha: [u8; 32], body: &'a [u8]) -> i32 {
        let known = self.body_sha.iter().position(|known| known.0 == sha);
        let at = known.unwrap_or_else(|| {
            self.body_sha.push(Fixed(sha));
            self.body.push(body);
            self.body.len() - 1
        });
        i32::try_from(at + 1).unwrap_or(i32::MAX)
    }

    pub(super) fn contents(&mut self, contents: &'a [([u8; 32], Bytes)]) {
        for (sha, content) in contents {
            if !self.content_sha.iter().any(|known| known.0 == *sha) {
                self.content_sha.push(Fixed(*sha));
                self.content.push(content.as_ref());
            }
        }
    }

    pub(in crate::postgres) fn params(&self) -> Vec<Param<'_>> {
        vec![
            &self.shard,
            &self.clock,
            &self.window,
            &self.instance,
            &self.random,
            &self.kind,
            &self.flags,
            &self.head,
            &self.data,
            &self.raw,
            &self.body_of,
            &self.key_event,
            &self.key,
            &self.blob_event,
            &self.blob,
            &self.content_sha,
            &self.content,
            &self.body_sha,
            &self.body,
            &self.concerns,
            &self.alias_event,
            &self.lid,
            &self.phone,
            &self.since,
            &self.known,
        ]
    }
}

/// What one call has done.
pub(in crate::postgres) struct Placed {
    pub(in crate::postgres) appended: Vec<Appended>,
    pub(in crate::postgres) before: Position,
}

pub(in crate::postgres) fn placed(rows: &[Row]) -> Result<Placed> {
    let mut appended = Vec::with_capacity(rows.len());
    let mut before = Position::START;
    for row in rows {
        appended.push(Appended {
            seq: position(row.try_get(1)?),
            id: EventId::from_bytes(row::fixed(row, 2)?),
            received_at: row::time(row, 3)?,
            duplicate: row.try_get(4)?,
        });
        before = position(row.try_get(5)?);
    }
    Ok(Placed { appended, before })
}
