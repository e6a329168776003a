//! Destinations.

mod change;

use serde_json::Value;
use tokio_postgres::Row;
use zapbus_event::{AccountId, DestinationId, Filter, InstanceId, Position};

pub(super) use self::change::{delete, drop_rows_of_instance, forget, ids_of_instance};
use super::{
    Engine, Shared,
    pool::Session,
    row::{Fixed, fixed, limit, position, text, time},
    settle,
};
use crate::{
    ShardId, StoreError,
    delivery::Health,
    encoding::filter_of,
    fault::{Fault, Result},
    registry::{Activity, Destination, DestinationHead, DestinationScope},
    seal::{Place, unseal},
    unreadable,
};

const DESTINATION: &str = "SELECT d.id, d.account, d.instance, d.label, d.filter, \
     d.exclude_ephemeral, d.activity, d.created_at, d.updated_at, s.spec \
     FROM destination d LEFT JOIN destination_spec s ON s.n = d.n";

/// What is remembered of a destination that is not deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) number: i64,
    /// Whose owner runs its lanes.
    pub(crate) home: ShardId,
    /// It sees all instances of its account, in all shards.
    pub(crate) global: bool,
}

impl Known {
    /// Where events are that somebody says are in `shard`: of an instance's there is no choice.
    pub(crate) fn shard(&self, shard: ShardId) -> ShardId {
        if self.global { shard } else { self.home }
    }

    /// The other way round.
    pub(crate) fn shown(&self, shard: i32) -> ShardId {
        if self.global { ShardId(u16::try_from(shard).unwrap_or(0)) } else { ShardId(0) }
    }
}

fn place(id: &[u8]) -> Place<'_> {
    Place { table: "destination", id, column: "spec" }
}

fn instance_column(instance: Option<InstanceId>) -> Vec<u8> {
    instance.map_or_else(Vec::new, |instance| instance.to_bytes().to_vec())
}

fn instance_of(stored: &[u8]) -> Option<InstanceId> {
    stored.try_into().ok().map(InstanceId::from_bytes)
}

fn home(shared: &Shared, id: DestinationId, instance: Option<InstanceId>) -> ShardId {
    instance.map_or_else(|| shared.home_of(id), |instance| shared.shard_of(instance))
}

/// The number and place of a destination that is not deleted.
pub(super) async fn known(
    shared: &Shared,
    session: &Session,
    id: DestinationId,
) -> Result<Option<Known>> {
    if let Some(known) = shared.destinations().get(&id) {
        return Ok(Some(*known));
    }
    let found = session
        .first(
            "SELECT n, instance FROM destination WHERE id = $1 AND deleted_at IS NULL",
            &[&Fixed(id.to_bytes())],
        )
        .await?;
    let Some(row) = found else {
        return Ok(None);
    };
    let instance = instance_of(row.try_get(1)?);
    let known = Known {
        number: row.try_get(0)?,
        home: home(shared, id, instance),
        global: instance.is_none(),
    };
    shared.remember_destination(id, known);
    Ok(Some(known))
}

/// The same, or `NotFound`. Asks the database, which knows what other nodes deleted.
pub(super) async fn existing(
    shared: &Shared,
    session: &Session,
    id: DestinationId,
) -> Result<Known> {
    shared.destinations().remove(&id);
    known(shared, session, id).await?.ok_or_else(|| Fault::not_found("destination"))
}

/// One whose spec cannot be decrypted is given as paused, with the reason.
fn listed(row: &Row, shared: &Shared) -> Result<Destination> {
    destination(row, shared).or_else(|fault| match fault {
        Fault::Store(error) => {
            let bare = without_spec(row)?;
            let activity = Activity::Paused { reason: error.to_string(), since: bare.updated_at };
            Ok(Destination { activity, ..bare })
        }
        other => Err(other),
    })
}

fn destination(row: &Row, shared: &Shared) -> Result<Destination> {
    let id: [u8; 16] = fixed(row, 0)?;
    let sealed: Option<&[u8]> = row.try_get(9)?;
    let spec = unseal(&shared.sealer, place(&id), sealed.unwrap_or_default())?;
    without_spec(row).map(|bare| Destination { spec, ..bare })
}

fn without_spec(row: &Row) -> Result<Destination> {
    Ok(Destination {
        id: DestinationId::from_bytes(fixed(row, 0)?),
        account: AccountId::from_bytes(fixed(row, 1)?),
        instance: instance_of(row.try_get(2)?),
        label: row.try_get(3)?,
        filter: filter_of(row.try_get(4)?)?,
        exclude_ephemeral: row.try_get(5)?,
        activity: serde_json::from_str(row.try_get(6)?)?,
        spec: Value::Null,
        created_at: time(row, 7)?,
        updated_at: time(row, 8)?,
    })
}

const HEAD: &str = "SELECT d.id, d.account, d.instance, d.filter, d.exclude_ephemeral, d.active, \
     coalesce(l.cursors[1], l.cursor), l.probing_since, l.probes, l.next_probe \
     FROM destination d JOIN lane l ON l.destination = d.n AND l.run = 0";

/// Compiled filters by their text: thousands of destinations share a few.
type Filters = std::collections::HashMap<String, Filter>;

fn read_head(row: &Row, filters: &mut Filters) -> Result<(DestinationHead, Position, Health)> {
    let text: &str = row.try_get(3)?;
    let id = DestinationId::from_bytes(fixed(row, 0)?);
    let known = filters.get(text).cloned();
    let filter = match known.map_or_else(|| filter_of(text), Ok) {
        Ok(filter) => Some(filters.entry(text.to_owned()).or_insert(filter).clone()),
        Err(fault) => {
            unreadable::filter(id, &fault);
            None
        }
    };
    let head = DestinationHead {
        id,
        account: AccountId::from_bytes(fixed(row, 1)?),
        instance: instance_of(row.try_get(2)?),
        active: filter.is_some() && row.try_get(5)?,
        filter: filter.unwrap_or_default(),
        exclude_ephemeral: row.try_get(4)?,
    };
    Ok((head, position(row.try_get(6)?), settle::health(row, 7)?))
}

impl Engine {
    pub(crate) async fn destination(
        &self,
        id: DestinationId,
    ) -> Result<Option<Destination>, StoreError> {
        let session = self.session().await?;
        let query = format!("{DESTINATION} WHERE d.id = $1 AND d.deleted_at IS NULL");
        let found = session.first(&query, &[&Fixed(id.to_bytes())]).await?;
        Ok(found.map(|row| destination(&row, &self.shared)).transpose()?)
    }

    /// As it is, without its spec where that cannot be decrypted.
    pub(crate) async fn destination_to_replace(
        &self,
        id: DestinationId,
    ) -> Result<Option<Destination>, StoreError> {
        let session = self.session().await?;
        let query = format!("{DESTINATION} WHERE d.id = $1 AND d.deleted_at IS NULL");
        let found = session.first(&query, &[&Fixed(id.to_bytes())]).await?;
        let read = |row: Row| {
            destination(&row, &self.shared).or_else(|fault| match fault {
                Fault::Store(StoreError::Sealed { .. }) => without_spec(&row),
                other => Err(other),
            })
        };
        Ok(found.map(read).transpose()?)
    }

    pub(crate) async fn destination_id_by_label(
        &self,
        account: AccountId,
        instance: Option<InstanceId>,
        label: &str,
    ) -> Result<Option<DestinationId>, StoreError> {
        let session = self.session().await?;
        let found = session
            .first(
                "SELECT id FROM destination \
                 WHERE account = $1 AND instance = $2 AND label = $3 AND deleted_at IS NULL",
                &[&Fixed(account.to_bytes()), &instance_column(instance), &text(label)],
            )
            .await?;
        let id = found.map(|row| fixed(&row, 0)).transpose()?;
        Ok(id.map(DestinationId::from_bytes))
    }

    pub(crate) async fn destination_by_label(
        &self,
        account: AccountId,
        instance: Option<InstanceId>,
        label: &str,
    ) -> Result<Option<Destination>, StoreError> {
        let session = self.session().await?;
        let found = session
            .first(
                &format!(
                    "{DESTINATION} WHERE d.account = $1 AND d.instance = $2 AND d.label = $3 \
                     AND d.deleted_at IS NULL"
                ),
                &[&Fixed(account.to_bytes()), &instance_column(instance), &text(label)],
            )
            .await?;
        Ok(found.map(|row| destination(&row, &self.shared)).transpose()?)
    }

    pub(crate) async fn destinations(
        &self,
        account: Option<AccountId>,
        scope: DestinationScope,
        after: Option<DestinationId>,
        rows: usize,
    ) -> Result<Vec<Destination>, StoreError> {
        let of_account = if account.is_some() { "d.account = $1" } else { "$1::bytea IS NULL" };
        let (of_instance, instance) = match scope {
            DestinationScope::All => ("$2::bytea IS NULL", None),
            DestinationScope::Instance(instance) => {
                ("d.instance = $2", Some(instance.to_bytes().to_vec()))
            }
            DestinationScope::Global => ("d.instance = $2", Some(Vec::new())),
        };
        let session = self.session().await?;
        let rows = session
            .query(
                &format!(
                    "{DESTINATION} WHERE {of_account} AND {of_instance} AND d.id > $3 \
                     AND d.deleted_at IS NULL ORDER BY d.id LIMIT $4"
                ),
                &[
                    &account.map(|account| Fixed(account.to_bytes())),
                    &instance,
                    &Fixed(after.map_or([0; 16], DestinationId::to_bytes)),
                    &limit(rows),
                ],
            )
            .await?;
        Ok(rows.iter().map(|row| listed(row, &self.shared)).collect::<Result<_>>()?)
    }

    pub(crate) async fn destinations_labelled(
        &self,
        account: AccountId,
        label: &str,
    ) -> Result<Vec<Destination>, StoreError> {
        let session = self.session().await?;
        let rows = session
            .query(
                &format!(
                    "{DESTINATION} WHERE d.account = $1 AND d.label = $2 AND d.instance <> '' \
                     AND d.deleted_at IS NULL"
                ),
                &[&Fixed(account.to_bytes()), &text(label)],
            )
            .await?;
        Ok(rows.iter().map(|row| listed(row, &self.shared)).collect::<Result<_>>()?)
    }

    pub(crate) async fn destination_heads(
        &self,
        after: Option<DestinationId>,
        rows: usize,
    ) -> Result<Vec<(DestinationHead, Position, Health)>, StoreError> {
        let session = self.session().await?;
        let rows = session
            .query(
                &format!("{HEAD} WHERE d.id > $1 AND d.deleted_at IS NULL ORDER BY d.id LIMIT $2"),
                &[&Fixed(after.map_or([0; 16], DestinationId::to_bytes)), &limit(rows)],
            )
            .await?;
        let mut filters = Filters::new();
        Ok(rows.iter().map(|row| read_head(row, &mut filters)).collect::<Result<_>>()?)
    }

    pub(crate) async fn destination_head(
        &self,
        id: DestinationId,
    ) -> Result<Option<(DestinationHead, Position, Health)>, StoreError> {
        let session = self.session().await?;
        let query = format!("{HEAD} WHERE d.id = $1 AND d.deleted_at IS NULL");
        let found = session.first(&query, &[&Fixed(id.to_bytes())]).await?;
        Ok(found.map(|row| read_head(&row, &mut Filters::new())).transpose()?)
    }
}

/// The cursor of a lane in a shard, in SQL: `l` is the lane and `$n` the shard.
pub(super) fn cursor_in(parameter: &str) -> String {
    format!("coalesce(l.cursors[{parameter} + 1], l.cursor)")
}
