//! Changes of destinations.

use serde_json::json;
use zapbus_event::{AccountId, DestinationId, InstanceId, Position};

use super::{Known, existing, home, instance_column, place};
use crate::{
    Change, ShardId, StoreError,
    encoding::filter_text,
    fault::{Fault, Result},
    postgres::{
        Engine, Tx,
        accounts::{keep_answer, or_exists},
        pool::Session,
        row::{Fixed, fixed, sql, text},
        runs,
    },
    registry::{Activity, Actor, Destination, Quota, Remember, Start},
    seal::seal,
};

/// Rows of a deleted destination that are called off in one step.
const CANCELLED_AT_ONCE: i64 = 500;

/// Whether there is a place for it. Whoever asks for one of the same instance waits its turn.
async fn admit(tx: &Tx, quota: Option<&Quota>, new: &Destination) -> Result<()> {
    let Some(quota) = quota else { return Ok(()) };
    let instance = instance_column(new.instance);
    tx.session
        .execute("SELECT 1 FROM instance WHERE id = $1 FOR NO KEY UPDATE", &[&instance])
        .await?;
    // A new statement: it sees what the one before it in the queue has committed.
    let rows = tx
        .session
        .query(
            "SELECT id, label, activity FROM destination \
             WHERE account = $1 AND instance = $2 AND deleted_at IS NULL",
            &[&Fixed(new.account.to_bytes()), &instance],
        )
        .await?;
    let mut others = Vec::with_capacity(rows.len());
    for row in &rows {
        let activity = serde_json::from_str(row.try_get(2)?)?;
        others.push((DestinationId::from_bytes(fixed(row, 0)?), row.try_get(1)?, activity));
    }
    Ok(quota.admit(new, others)?)
}

/// Makes a destination. With `Start::Now` its cursor is the head as this transaction sees it: what
/// was answered before it began is at or below, what begins after its answer is beyond.
async fn create(
    tx: &mut Tx,
    new: &Destination,
    start: Start,
    actor: &Actor,
    remember: Option<&Remember>,
    quota: Option<&Quota>,
) -> Result<Position> {
    let account = Fixed(new.account.to_bytes());
    let known =
        tx.session.first("SELECT 1 FROM account WHERE id = $1 FOR SHARE", &[&account]).await?;
    if known.is_none() {
        return Err(Fault::not_found("account"));
    }
    if let Some(instance) = new.instance {
        let known = tx
            .session
            .first(
                "SELECT 1 FROM instance WHERE id = $1 AND account = $2 AND deleted_at IS NULL",
                &[&Fixed(instance.to_bytes()), &account],
            )
            .await?;
        if known.is_none() {
            return Err(Fault::not_found("instance"));
        }
    }
    admit(tx, quota, new).await?;
    let home = home(&tx.shared, new.id, new.instance);
    let shards: Vec<ShardId> =
        if new.instance.is_some() { vec![home] } else { tx.shared.all().collect() };
    let cursors = runs::resolve_start(&tx.shared, &tx.session, start, &shards).await?;
    let cursor = cursors.first().copied().unwrap_or_default();
    let id = new.id.to_bytes();
    let spec = seal(&tx.shared.sealer, place(&id), &new.spec)?;
    let shard = new.instance.map(|_| i32::from(home.0));
    let cursors: Option<Vec<i64>> =
        new.instance.is_none().then(|| cursors.iter().map(|cursor| sql(*cursor)).collect());
    let made = tx
        .session
        .execute(
            "WITH made AS (INSERT INTO destination (id, account, instance, label, filter, \
             exclude_ephemeral, activity, active, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING n), \
             spec AS (INSERT INTO destination_spec (n, spec) SELECT n, $11 FROM made) \
             INSERT INTO lane (destination, run, shard, cursor, cursors, created_at) \
             SELECT n, 0, $12, $13, $14, $15 FROM made",
            &[
                &Fixed(id),
                &account,
                &instance_column(new.instance),
                &text(&new.label),
                &filter_text(&new.filter)?,
                &new.exclude_ephemeral,
                &serde_json::to_string(&new.activity)?,
                &(new.activity == Activity::Active),
                &new.created_at.as_millis(),
                &new.updated_at.as_millis(),
                &spec,
                &shard,
                &sql(cursor),
                &cursors,
                &tx.now.as_millis(),
            ],
        )
        .await;
    or_exists(made, "destination", &new.label)?;
    tx.tell(Change::Destination(new.id));
    let detail = json!({ "label": new.label });
    let target = new.id.to_string();
    tx.write_audit(Some(new.account), actor, "destination.create", &target, &detail).await?;
    keep_answer(tx, remember).await?;
    Ok(cursor)
}

/// Replaces a destination as a whole. True when there are more rows to call off.
async fn update(
    tx: &mut Tx,
    new: &Destination,
    cursors: &[(ShardId, Position)],
    cancel_rows: bool,
    actor: &Actor,
    quota: Option<&Quota>,
) -> Result<bool> {
    admit(tx, quota, new).await?;
    let known = existing(&tx.shared, &tx.session, new.id).await?;
    let id = new.id.to_bytes();
    let spec = seal(&tx.shared.sealer, place(&id), &new.spec)?;
    // Account and instance never change: positions and rows hang on them.
    let done = tx
        .session
        .execute(
            "WITH spec AS (INSERT INTO destination_spec (n, spec) VALUES ($1, $8) \
             ON CONFLICT (n) DO UPDATE SET spec = excluded.spec) \
             UPDATE destination SET label = $2, filter = $3, exclude_ephemeral = $4, \
             activity = $5, active = $6, updated_at = $7 WHERE n = $1",
            &[
                &known.number,
                &text(&new.label),
                &filter_text(&new.filter)?,
                &new.exclude_ephemeral,
                &serde_json::to_string(&new.activity)?,
                &(new.activity == Activity::Active),
                &new.updated_at.as_millis(),
                &spec,
            ],
        )
        .await;
    or_exists(done, "destination", &new.label)?;
    move_cursors(tx, known, cursors).await?;
    let more = cancel_rows && cancel_some(tx, known.number).await?;
    tx.tell(Change::Destination(new.id));
    let detail = json!({ "label": new.label, "activity": new.activity });
    let target = new.id.to_string();
    tx.write_audit(Some(new.account), actor, "destination.update", &target, &detail).await?;
    Ok(more)
}

/// Moves live delivery on, never back and never beyond the head.
async fn move_cursors(tx: &Tx, known: Known, cursors: &[(ShardId, Position)]) -> Result<()> {
    let Some((_, first)) = cursors.first() else {
        return Ok(());
    };
    if !known.global {
        tx.session
            .execute(
                "UPDATE lane SET cursor = least($2, h.seq) FROM zapbus_head($3) h \
                 WHERE destination = $1 AND run = 0 AND cursor < least($2, h.seq)",
                &[&known.number, &sql(*first), &i32::from(known.home.0)],
            )
            .await?;
        return Ok(());
    }
    for (shard, cursor) in cursors {
        let shard = i32::from(shard.0);
        tx.session
            .execute(
                "UPDATE lane SET cursors[$3::int + 1] = greatest(cursors[$3::int + 1], \
                 least($2, h.seq)) FROM zapbus_head($3) h WHERE destination = $1 AND run = 0",
                &[&known.number, &sql(*cursor), &shard],
            )
            .await?;
    }
    Ok(())
}

async fn set_activity(
    tx: &mut Tx,
    id: DestinationId,
    activity: &Activity,
    actor: &Actor,
) -> Result<()> {
    let found = tx
        .session
        .first(
            "UPDATE destination SET activity = $2, active = $3, updated_at = $4 \
             WHERE id = $1 AND deleted_at IS NULL RETURNING account",
            &[
                &Fixed(id.to_bytes()),
                &serde_json::to_string(activity)?,
                &(*activity == Activity::Active),
                &tx.now.as_millis(),
            ],
        )
        .await?;
    let row = found.ok_or_else(|| Fault::not_found("destination"))?;
    let account = Some(AccountId::from_bytes(fixed(&row, 0)?));
    tx.tell(Change::Destination(id));
    let detail = json!({ "activity": activity });
    tx.write_audit(account, actor, "destination.update", &id.to_string(), &detail).await
}

/// Deletes a destination. Its label is free at once; its rows stay in the log and are called off in
/// steps: true when there are more.
pub(in crate::postgres) async fn delete(
    tx: &mut Tx,
    id: DestinationId,
    actor: &Actor,
) -> Result<bool> {
    let found = tx
        .session
        .first(
            "UPDATE destination SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL \
             RETURNING n, account, label",
            &[&Fixed(id.to_bytes()), &tx.now.as_millis()],
        )
        .await?;
    let row = found.ok_or_else(|| Fault::not_found("destination"))?;
    let number: i64 = row.try_get(0)?;
    let account = Some(AccountId::from_bytes(fixed(&row, 1)?));
    let label: String = row.try_get(2)?;
    tx.session.execute("DELETE FROM destination_spec WHERE n = $1", &[&number]).await?;
    tx.session
        .execute(
            "UPDATE lane SET state = 'cancelled' WHERE destination = $1 AND run > 0",
            &[&number],
        )
        .await?;
    let more = cancel_some(tx, number).await?;
    tx.tell(Change::Destination(id));
    let detail = json!({ "label": label });
    tx.write_audit(account, actor, "destination.delete", &id.to_string(), &detail).await?;
    Ok(more)
}

/// Calls off some of a destination's open rows. True when there are more.
async fn cancel_some(tx: &Tx, number: i64) -> Result<bool> {
    let cancelled = tx
        .session
        .execute(
            "UPDATE delivery d SET status = 4, due = NULL, updated_at = $2 \
             FROM (SELECT destination, run, shard, seq, class, event_at FROM delivery \
                 WHERE destination = $1 AND status IN (1, 2) LIMIT $3) o \
             WHERE d.destination = o.destination AND d.run = o.run AND d.shard = o.shard \
             AND d.seq = o.seq AND d.class = o.class AND d.event_at = o.event_at",
            &[&number, &tx.now.as_millis(), &CANCELLED_AT_ONCE],
        )
        .await?;
    Ok(cancelled as i64 == CANCELLED_AT_ONCE)
}

async fn cancel_more(tx: &Tx, id: DestinationId) -> Result<bool> {
    let found = tx
        .session
        .first("SELECT n FROM destination WHERE id = $1", &[&Fixed(id.to_bytes())])
        .await?;
    match found {
        Some(row) => cancel_some(tx, row.try_get(0)?).await,
        None => Ok(false),
    }
}

/// Destinations of an instance that are not deleted.
pub(in crate::postgres) async fn ids_of_instance(
    session: &Session,
    instance: InstanceId,
) -> Result<Vec<DestinationId>> {
    let rows = session
        .query(
            "SELECT d.id FROM destination d JOIN instance i ON i.account = d.account \
             WHERE i.id = $1 AND d.instance = $1 AND d.deleted_at IS NULL",
            &[&Fixed(instance.to_bytes())],
        )
        .await?;
    rows.iter().map(|row| Ok(DestinationId::from_bytes(fixed(row, 0)?))).collect()
}

/// Deletes some rows of an instance's deleted destinations, and the destinations when they have
/// none left. True when there may be more.
pub(in crate::postgres) async fn drop_rows_of_instance(
    tx: &Tx,
    instance: InstanceId,
) -> Result<bool> {
    let found = tx
        .session
        .first(
            "SELECT d.n FROM destination d JOIN instance i ON i.account = d.account \
             WHERE i.id = $1 AND d.instance = $1 AND d.deleted_at IS NOT NULL LIMIT 1",
            &[&Fixed(instance.to_bytes())],
        )
        .await?;
    let Some(row) = found else {
        return Ok(false);
    };
    let number: i64 = row.try_get(0)?;
    let gone = tx
        .session
        .execute(
            "DELETE FROM delivery d USING (SELECT destination, run, shard, seq, class, event_at \
             FROM delivery WHERE destination = $1 LIMIT $2) o \
             WHERE d.destination = o.destination AND d.run = o.run AND d.shard = o.shard \
             AND d.seq = o.seq AND d.class = o.class AND d.event_at = o.event_at",
            &[&number, &CANCELLED_AT_ONCE],
        )
        .await?;
    if gone == 0 {
        forget(&tx.session, &[number]).await?;
    }
    Ok(true)
}

/// The last that is left of destinations.
pub(in crate::postgres) async fn forget(session: &Session, numbers: &[i64]) -> Result<()> {
    for query in [
        "DELETE FROM attempt WHERE destination = ANY ($1)",
        "DELETE FROM lane WHERE destination = ANY ($1)",
        "DELETE FROM destination_spec WHERE n = ANY ($1)",
        "DELETE FROM destination WHERE n = ANY ($1)",
    ] {
        session.execute(query, &[&numbers]).await?;
    }
    Ok(())
}

impl Engine {
    pub(crate) async fn create_destination(
        &self,
        new: &Destination,
        start: Start,
        actor: &Actor,
        remember: Option<&Remember>,
        quota: Option<&Quota>,
    ) -> Result<Position, StoreError> {
        let mut tx = self.begin().await?;
        let done = create(&mut tx, new, start, actor, remember, quota).await;
        tx.finish(done).await
    }

    pub(crate) async fn update_destination(
        &self,
        new: &Destination,
        cursors: &[(ShardId, Position)],
        cancel_rows: bool,
        actor: &Actor,
        quota: Option<&Quota>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = update(&mut tx, new, cursors, cancel_rows, actor, quota).await;
        let more = tx.finish(done).await?;
        self.cancel_rest(new.id, more).await
    }

    pub(crate) async fn delete_destination(
        &self,
        id: DestinationId,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = delete(&mut tx, id, actor).await;
        let more = tx.finish(done).await?;
        self.cancel_rest(id, more).await
    }

    async fn cancel_rest(&self, id: DestinationId, mut more: bool) -> Result<(), StoreError> {
        while more {
            let tx = self.begin().await?;
            let done = cancel_more(&tx, id).await;
            more = tx.finish(done).await?;
        }
        Ok(())
    }

    pub(crate) async fn set_activity(
        &self,
        id: DestinationId,
        activity: &Activity,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = set_activity(&mut tx, id, activity, actor).await;
        tx.finish(done).await
    }
}
