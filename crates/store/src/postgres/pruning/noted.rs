//! What is to be known of events that went: where numbers go on, and whom the loss concerns.
//!
//! Appends write to the same rows and take them after the shard's lock. So it is written last, in one
//! message with the end of the transaction: nobody waits for the rest of it.

use std::collections::BTreeMap;

use tokio_postgres::Statement;
use zapbus_event::InstanceId;

use crate::{
    ShardId,
    fault::Result,
    postgres::{
        pool::{Param, Session},
        row::Fixed,
    },
    pruning::Doomed,
};

const INSTANCES: &str = "INSERT INTO instance_state (instance, pruned_upto, last_event_at) \
     SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS u(instance, upto, last) \
     ORDER BY u.instance ON CONFLICT (instance) DO UPDATE SET \
     pruned_upto = greatest(instance_state.pruned_upto, excluded.pruned_upto), \
     last_event_at = greatest(instance_state.last_event_at, excluded.last_event_at)";
const SHARDS: &str = "UPDATE shard s SET floor = greatest(s.floor, u.floor), \
     floor_at = greatest(s.floor_at, coalesce($5, zapbus_now()), u.at), \
     pruned_upto = greatest(s.pruned_upto, u.upto) \
     FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[]) AS u(shard, floor, at, upto) \
     WHERE s.shard = u.shard";

/// Of an instance, or a shard: the last of the events that went.
#[derive(Default)]
struct Last {
    /// Of those that somebody may miss.
    pruned: i64,
    seq: i64,
    at: i64,
}

/// See the module.
#[derive(Default)]
pub(in crate::postgres) struct Noted {
    instances: BTreeMap<InstanceId, Last>,
    shards: BTreeMap<ShardId, Last>,
}

impl Noted {
    /// Whoever comes with a position before it is told of a gap.
    pub(super) fn pruned(&mut self, shard: ShardId, event: &Doomed) {
        for last in self.of(shard, event) {
            last.pruned = last.pruned.max(event.seq);
        }
    }

    /// It is in the journal no more.
    pub(super) fn removed(&mut self, shard: ShardId, event: &Doomed) {
        for last in self.of(shard, event) {
            last.seq = last.seq.max(event.seq);
            last.at = last.at.max(event.received_at);
        }
    }

    fn of(&mut self, shard: ShardId, event: &Doomed) -> [&mut Last; 2] {
        let instance = self.instances.entry(event.instance).or_default();
        [instance, self.shards.entry(shard).or_default()]
    }

    /// As columns; nothing if there is nothing to write.
    pub(in crate::postgres) fn columns(self, clock: Option<i64>) -> Option<Columns> {
        if self.shards.is_empty() {
            return None;
        }
        let mut columns = Columns { clock, ..Columns::default() };
        for (instance, last) in self.instances {
            columns.instance.push(Fixed(instance.to_bytes()));
            columns.instance_upto.push(last.pruned);
            columns.instance_at.push(last.at);
        }
        for (shard, last) in self.shards {
            columns.shard.push(i32::from(shard.0));
            columns.floor.push(last.seq);
            columns.at.push(last.at);
            columns.upto.push(last.pruned);
        }
        Some(columns)
    }
}

/// What is written of it.
#[derive(Default)]
pub(in crate::postgres) struct Columns {
    instance: Vec<Fixed<16>>,
    instance_upto: Vec<i64>,
    instance_at: Vec<i64>,
    shard: Vec<i32>,
    floor: Vec<i64>,
    at: Vec<i64>,
    upto: Vec<i64>,
    clock: Option<i64>,
}

impl Columns {
    pub(in crate::postgres) async fn prepare(session: &Session) -> Result<[Statement; 2]> {
        Ok([session.prepare(INSTANCES).await?, session.prepare(SHARDS).await?])
    }

    /// Where numbers go on: before anything is appended in the same transaction. Appends of others do
    /// not lock these rows.
    pub(in crate::postgres) fn shards<'a>(
        &'a self,
        [_, shards]: &'a [Statement; 2],
    ) -> (&'a Statement, Vec<Param<'a>>) {
        (shards, vec![&self.shard, &self.floor, &self.at, &self.upto, &self.clock])
    }

    /// Whom it concerns: afterwards, as appends take the shard's lock before these rows.
    pub(in crate::postgres) fn instances<'a>(
        &'a self,
        [instances, _]: &'a [Statement; 2],
    ) -> (&'a Statement, Vec<Param<'a>>) {
        (instances, vec![&self.instance, &self.instance_upto, &self.instance_at])
    }
}
