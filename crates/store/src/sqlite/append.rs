//! Appending to the journal.

use std::collections::BTreeMap;

use rusqlite::params;
use zapbus_event::{
    Connection, Event, EventId, InstanceId, InstanceState, Position, Raw, Timestamp,
};

use super::{
    fault::{Fault, Result},
    queue::{AppendJob, Prepared},
    row::{self, sql},
    writer::Tx,
};
use crate::{
    AppendError,
    blob::Sha,
    journal::{Appended, NewEvent},
    prepared::prepare_own,
    unreadable,
};

/// Numbers in JSON are exact below this.
pub(super) const MAX_SEQ: u64 = 1 << 53;

impl Tx<'_> {
    /// Appends what one request brought, and notes the outcome in it.
    pub(crate) fn append_job(&mut self, index: usize, job: &mut AppendJob) -> Result<()> {
        {
            let directory = self.shared.directory();
            let unknown = job.events.iter().position(|event| !directory.takes(event.instance));
            if let Some(index) = unknown {
                job.outcome = Some(Err(AppendError::UnknownInstance { index }));
                return Ok(());
            }
        }
        let mut appended = Vec::with_capacity(job.events.len());
        for (event, prepared) in job.events.iter().enumerate() {
            let result = self.append_one(prepared)?;
            if !result.duplicate {
                self.pending.placed.push(Placed {
                    job: index,
                    event,
                    id: result.id,
                    seq: result.seq,
                    received_at: result.received_at,
                });
            }
            appended.push(result);
        }
        if let Some((sha, body)) = &job.body {
            self.keep_body(sha, body, &job.events, &appended)?;
        }
        job.outcome = Some(Ok(appended));
        Ok(())
    }

    /// Appends an event of the gateway's own, in the course of something else.
    pub(crate) fn append_own(&mut self, event: NewEvent) -> Result<Appended> {
        let prepared = prepare_own(event);
        let appended = self.append_one(&prepared)?;
        if !appended.duplicate {
            self.pending.own.push((prepared, appended.id, appended.seq, appended.received_at));
        }
        Ok(appended)
    }

    fn append_one(&mut self, prepared: &Prepared) -> Result<Appended> {
        for hash in &prepared.keys {
            if let Some((id, seq)) = self.memory.dedup.find(self.conn, &self.pending.dedup, hash)? {
                self.pending.duplicates += 1;
                return Ok(Appended { id, seq, received_at: id.timestamp(), duplicate: true });
            }
        }
        let seq = self.pending.next_seq;
        if seq >= MAX_SEQ {
            return Err(Fault::Broken("the journal has no positions left".to_owned()));
        }
        self.pending.next_seq += 1;
        let seq = Position(seq);
        let received_at = self.now;
        let id = EventId::new(received_at, self.memory.random.next()?);

        self.memory.head.clear();
        serde_json::to_writer(&mut self.memory.head, &row::Head::of(prepared, received_at))?;
        let raw = match &prepared.draft.raw {
            Raw::Data => None,
            Raw::Bytes(raw) => Some(raw.as_ref()),
        };
        self.conn
            .prepare_cached(
                "INSERT INTO journal (seq, id, instance, received_at, kind, flags, head, data, raw) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                sql(seq),
                id.to_bytes(),
                prepared.instance.to_bytes(),
                received_at.as_millis(),
                self.shared.kinds.number(prepared.draft.kind),
                row::flags(prepared),
                self.memory.head,
                prepared.draft.data.as_ref(),
                raw,
            ])?;
        for (index, hash) in prepared.keys.iter().enumerate() {
            // A source may give one event the same key twice.
            if !prepared.keys[..index].contains(hash) {
                self.memory.dedup.insert(self.conn, &mut self.pending.dedup, *hash, id, seq)?;
            }
        }
        self.keep_blobs(prepared)?;
        self.learn_aliases(prepared)?;
        self.fold_state(prepared, id, seq, received_at)?;
        self.pending.appended += 1;
        Ok(Appended { id, seq, received_at, duplicate: false })
    }

    fn keep_blobs(&mut self, prepared: &Prepared) -> Result<()> {
        for blob in &prepared.blobs {
            let bytes = i64::try_from(blob.bytes).unwrap_or(i64::MAX);
            self.refer(blob.sha, bytes)?;
        }
        Ok(())
    }

    /// Something refers to a file from now on.
    pub(crate) fn refer(&mut self, sha: Sha, bytes: i64) -> Result<()> {
        let (refs, is_here): (i64, bool) = self
            .conn
            .prepare_cached(
                "INSERT INTO blob (sha256, bytes, refs) VALUES (?1, ?2, 1) \
                 ON CONFLICT (sha256) DO UPDATE SET refs = refs + 1 \
                 RETURNING refs, object IS NULL",
            )?
            .query_row(params![sha, bytes], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if refs == 1 && is_here {
            self.pending.blob_bytes += bytes;
        }
        Ok(())
    }

    fn learn_aliases(&mut self, prepared: &Prepared) -> Result<()> {
        for alias in &prepared.draft.aliases {
            if self.memory.aliases.is_new(prepared.instance, &alias.lid, &alias.phone) {
                self.pending.aliases = true;
                self.conn
                    .prepare_cached(
                        "INSERT OR IGNORE INTO address_alias (instance, lid, phone) \
                         VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![prepared.instance.to_bytes(), alias.lid, alias.phone])?;
            }
        }
        Ok(())
    }

    /// Keeps the instance's state up to date with the few events that change it.
    fn fold_state(
        &mut self,
        prepared: &Prepared,
        id: EventId,
        seq: Position,
        received_at: Timestamp,
    ) -> Result<()> {
        // Most messages change nothing once the instance is known to be connected.
        let known = self.memory.settled_states.contains(&prepared.instance);
        let connection = if known { Connection::Connected } else { Connection::Unknown };
        let assumed = InstanceState { connection, ..InstanceState::default() };
        let (kind, history) = (prepared.draft.kind, prepared.draft.history);
        if !assumed.concerns(kind, history) {
            return Ok(());
        }
        let mut state = instance_state(self.conn, prepared.instance)?;
        let event = own_event(prepared, id, seq, received_at);
        if state.concerns(kind, history) {
            state.apply(&event);
            self.conn
                .prepare_cached(
                    "INSERT INTO instance_state (instance, state) VALUES (?1, ?2) \
                     ON CONFLICT (instance) DO UPDATE SET state = excluded.state",
                )?
                .execute(params![prepared.instance.to_bytes(), serde_json::to_string(&state)?])?;
        }
        if state.connection != Connection::Unknown {
            self.pending.settled_states.push(prepared.instance);
        }
        Ok(())
    }

    /// Keeps the body once for each instance that it brought events of.
    fn keep_body(
        &mut self,
        sha: &Sha,
        body: &[u8],
        events: &[Prepared],
        appended: &[Appended],
    ) -> Result<()> {
        // A duplicate has the position of the first, so they are in no order.
        let mut stretches = BTreeMap::<InstanceId, (Position, Position)>::new();
        for (event, Appended { seq, .. }) in events.iter().zip(appended) {
            let (first, last) = stretches.entry(event.instance).or_insert((*seq, *seq));
            (*first, *last) = ((*first).min(*seq), (*last).max(*seq));
        }
        for (instance, (first, last)) in stretches {
            self.conn
                .prepare_cached(
                    "INSERT INTO body (sha256, instance, first_seq, last_seq, received_at, body) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (sha256, instance) DO UPDATE SET \
                     first_seq = min(first_seq, excluded.first_seq), \
                     last_seq = max(last_seq, excluded.last_seq), \
                     received_at = excluded.received_at",
                )?
                .execute(params![
                    sha,
                    instance.to_bytes(),
                    sql(first),
                    sql(last),
                    self.now.as_millis(),
                    body
                ])?;
        }
        Ok(())
    }
}

/// An event that was placed and becomes one of the tail's when its commit is done.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) job: usize,
    pub(crate) event: usize,
    pub(crate) id: EventId,
    pub(crate) seq: Position,
    pub(crate) received_at: Timestamp,
}

fn own_event(prepared: &Prepared, id: EventId, seq: Position, received_at: Timestamp) -> Event {
    let copy = Prepared {
        instance: prepared.instance,
        draft: prepared.draft.clone(),
        keys: Vec::new(),
        blobs: Vec::new(),
        pin: None,
    };
    row::event_of(copy, id, seq, received_at)
}

/// The folded state of an instance.
pub(crate) fn instance_state(
    conn: &rusqlite::Connection,
    instance: InstanceId,
) -> Result<InstanceState> {
    use rusqlite::OptionalExtension as _;

    let stored: Option<Vec<u8>> = conn
        .prepare_cached("SELECT CAST(state AS BLOB) FROM instance_state WHERE instance = ?1")?
        .query_row([instance.to_bytes()], |row| row.get(0))
        .optional()?;
    let Some(stored) = stored else {
        return Ok(InstanceState::default());
    };
    // It is only derived from events: what cannot be read must not keep new ones out.
    Ok(serde_json::from_slice(&stored).unwrap_or_else(|error| {
        unreadable::state(instance, &error);
        InstanceState::default()
    }))
}
