//! Erasing: what was asked for is in no row any more. What the server keeps of deleted rows goes
//! when it vacuums the table and recycles its log.

use serde_json::json;
use zapbus_event::{AccountId, InstanceId};

use super::{
    Engine, Tx, destinations, instances,
    pool::Session,
    pruning::remove_events,
    read,
    row::{self, Fixed, count, text},
};
use crate::{
    Change, StoreError,
    erasing::{Which, forms},
    fault::Result,
    pruning::Doomed,
    registry::Actor,
    upkeep::{Erase, Erased},
};

/// Events looked at in one step.
const EVENTS: i64 = 200;
/// Bodies looked at in one step.
const BODIES: i64 = 20;

/// What one step did, and where the next goes on if there is one.
struct Step<T> {
    next: Option<T>,
    erased: Erased,
}

impl Engine {
    pub(crate) async fn erase(&self, what: Erase, actor: &Actor) -> Result<Erased, StoreError> {
        let (kind, account, targets) = self.erase_targets(&what).await?;
        let mut total = Erased::default();
        for (instance, which) in targets {
            add(&mut total, self.erase_in(instance, &which).await?);
            let mut tx = self.begin().await?;
            let done = forget_identity(&mut tx, instance, &which).await;
            tx.finish(done).await?;
        }
        let mut tx = self.begin().await?;
        // Not who was erased: that would be a trace.
        let detail = json!({ "events": total.events, "deliveries": total.deliveries });
        let done = tx.write_audit(account, actor, "erase", kind, &detail).await;
        tx.finish(done).await?;
        Ok(total)
    }

    /// How many events [`Self::erase`] would take.
    pub(crate) async fn erasable(&self, what: Erase) -> Result<u64, StoreError> {
        let (_, _, targets) = self.erase_targets(&what).await?;
        let mut events = 0;
        for (instance, which) in targets {
            let mut next = Some(0);
            while let Some(after) = next {
                let session = self.session().await?;
                let (found, at) = count_some(&session, instance, &which, after).await?;
                events += found;
                next = at;
            }
        }
        Ok(events)
    }

    /// The instances to look through, and what for.
    async fn erase_targets(
        &self,
        what: &Erase,
    ) -> Result<(&'static str, Option<AccountId>, Vec<(InstanceId, Which)>), StoreError> {
        let account_of = |instance: InstanceId| {
            let account = self.shared.directory().account_of(instance);
            account.ok_or(StoreError::NotFound { what: "instance" })
        };
        match what {
            Erase::Instance(instance) => {
                Ok(("instance", Some(account_of(*instance)?), vec![(*instance, Which::All)]))
            }
            Erase::Chat { instance, chat } => {
                let account = account_of(*instance)?;
                let which = self.naming(*instance, chat).await?;
                Ok(("chat", Some(account), vec![(*instance, which)]))
            }
            Erase::Person { account, address } => {
                let instances: Vec<InstanceId> =
                    self.shared.directory().of_account(*account).collect();
                let mut found = Vec::with_capacity(instances.len());
                for instance in instances {
                    found.push((instance, self.naming(instance, address).await?));
                }
                Ok(("person", Some(*account), found))
            }
        }
    }

    async fn naming(&self, instance: InstanceId, address: &str) -> Result<Which, StoreError> {
        let session = self.session().await?;
        let aliases = read::aliases(&session, instance, address).await?;
        let mut addresses = forms(address);
        addresses.extend(aliases.iter().flat_map(|alias| forms(alias)));
        Ok(Which::Naming(addresses))
    }

    async fn erase_in(&self, instance: InstanceId, which: &Which) -> Result<Erased, StoreError> {
        let mut total = Erased::default();
        let mut at = Some(0);
        while let Some(after) = at {
            let mut tx = self.begin().await?;
            let done = erase_some(&mut tx, instance, which, after).await;
            let step = tx.finish(done).await?;
            add(&mut total, step.erased);
            at = step.next;
        }
        // Also those whose events have long been pruned, or never named anybody.
        let mut at = Some((i64::MIN, i64::MIN));
        while let Some(after) = at {
            let tx = self.begin().await?;
            let done = erase_some_bodies(&tx, instance, which, after).await;
            let step = tx.finish(done).await?;
            total.bodies += step.erased.bodies;
            at = step.next;
        }
        Ok(total)
    }

    /// Removes everything of an instance that is marked as deleted.
    pub(crate) async fn drop_instance(&self, id: InstanceId) -> Result<(), StoreError> {
        let session = self.session().await?;
        instances::refresh(&self.shared, &session, id).await?;
        let entry = self.shared.directory().get(id);
        match entry {
            None => return Err(StoreError::NotFound { what: "instance" }),
            Some(entry) if !entry.deleted => {
                return Err(StoreError::Refused {
                    reason: "the instance is not marked as deleted".to_owned(),
                });
            }
            Some(_) => {}
        }
        let actor = Actor("zapbus".to_owned());
        let own = destinations::ids_of_instance(&session, id).await?;
        drop(session);
        for destination in own {
            self.delete_destination(destination, &actor).await?;
        }
        loop {
            let tx = self.begin().await?;
            let done = destinations::drop_rows_of_instance(&tx, id).await;
            if !tx.finish(done).await? {
                break;
            }
        }
        self.erase_in(id, &Which::All).await?;
        let mut tx = self.begin().await?;
        let done = instances::forget(&mut tx, id).await;
        tx.finish(done).await
    }
}

fn add(total: &mut Erased, step: Erased) {
    total.events += step.events;
    total.deliveries += step.deliveries;
    total.bodies += step.bodies;
    total.blobs += step.blobs;
}

/// How many of the next events are meant, and where to go on if there may be more.
async fn count_some(
    session: &Session,
    instance: InstanceId,
    which: &Which,
    after: i64,
) -> Result<(u64, Option<i64>)> {
    let rows = session
        .query(
            "SELECT seq, head, data, raw FROM journal \
             WHERE instance = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            &[&Fixed(instance.to_bytes()), &after, &EVENTS],
        )
        .await?;
    let (mut found, mut at) = (0, after);
    for row in &rows {
        at = row.try_get(0)?;
        let raw: Option<&[u8]> = row.try_get(3)?;
        let texts = [row.try_get(1)?, row.try_get(2)?, raw.unwrap_or_default()];
        found += u64::from(which.includes(texts));
    }
    Ok((found, (i64::try_from(rows.len()) == Ok(EVENTS)).then_some(at)))
}

async fn erase_some(
    tx: &mut Tx,
    instance: InstanceId,
    which: &Which,
    after: i64,
) -> Result<Step<i64>> {
    let rows = tx
        .session
        .query(
            "SELECT seq, received_at, flags, head, data, raw FROM journal \
             WHERE instance = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            &[&Fixed(instance.to_bytes()), &after, &EVENTS],
        )
        .await?;
    let mut doomed = Vec::new();
    let mut at = after;
    for row in &rows {
        at = row.try_get(0)?;
        let raw: Option<&[u8]> = row.try_get(5)?;
        if which.includes([row.try_get(3)?, row.try_get(4)?, raw.unwrap_or_default()]) {
            doomed.push(Doomed {
                seq: at,
                instance,
                received_at: row.try_get(1)?,
                flags: i64::from(row.try_get::<_, i32>(2)?),
            });
        }
    }
    let next = (rows.len() as i64 == EVENTS).then_some(at);
    let mut erased = Erased { events: doomed.len() as u64, ..Erased::default() };
    if doomed.is_empty() {
        return Ok(Step { next, erased });
    }
    let shard = tx.shared.shard_of(instance);
    let seqs: Vec<i64> = doomed.iter().map(|event| event.seq).collect();
    // What receivers answered goes, and what is still to be sent is called off.
    erased.deliveries = tx
        .session
        .execute(
            "UPDATE delivery SET excerpt = NULL, error = NULL, due = NULL, \
             updated_at = CASE WHEN status IN (1, 2) THEN $3 ELSE updated_at END, \
             status = CASE WHEN status IN (1, 2) THEN 4 ELSE status END \
             WHERE shard = $1 AND seq = ANY ($2)",
            &[&i32::from(shard.0), &seqs, &tx.now.as_millis()],
        )
        .await?;
    tx.session
        .execute(
            "DELETE FROM attempt WHERE shard = $1 AND seq = ANY ($2)",
            &[&i32::from(shard.0), &seqs],
        )
        .await?;
    erased.bodies = {
        let row = tx
            .session
            .one(
                "WITH found AS (SELECT DISTINCT b.sha256 FROM body b \
                     WHERE b.instance = $1 AND EXISTS (SELECT 1 FROM unnest($2::bigint[]) AS g(seq) \
                     WHERE g.seq BETWEEN b.first_seq AND b.last_seq)), \
                 gone AS (DELETE FROM body WHERE sha256 IN (SELECT sha256 FROM found)) \
                 SELECT count(*) FROM found",
                &[&Fixed(instance.to_bytes()), &seqs],
            )
            .await?;
        count(row.try_get(0)?)
    };
    let (_, blobs) = remove_events(tx, shard, &doomed).await?;
    erased.blobs = blobs;
    let gone: std::collections::HashSet<_> = seqs.into_iter().map(row::position).collect();
    tx.when_done(move |shared| {
        shared.shard(shard).followed.change().remove(|event| gone.contains(&event.seq));
    });
    tx.tell(Change::Erased(instance));
    Ok(Step { next, erased })
}

/// Looks at the texts themselves: a body may name somebody whom none of its events does.
async fn erase_some_bodies(
    tx: &Tx,
    instance: InstanceId,
    which: &Which,
    after: (i64, i64),
) -> Result<Step<(i64, i64)>> {
    let rows = tx
        .session
        .query(
            "SELECT last_seq, n, sha256, body FROM body \
             WHERE instance = $1 AND (last_seq, n) > ($2, $3) ORDER BY last_seq, n LIMIT $4",
            &[&Fixed(instance.to_bytes()), &after.0, &after.1, &BODIES],
        )
        .await?;
    let mut shas: Vec<Fixed<32>> = Vec::new();
    let mut at = after;
    for row in &rows {
        at = (row.try_get(0)?, row.try_get(1)?);
        if which.includes([row.try_get(3)?, b"", b""]) {
            shas.push(Fixed(row::fixed(row, 2)?));
        }
    }
    if !shas.is_empty() {
        // Whoever else it brought events of: their copies have the same text.
        tx.session.execute("DELETE FROM body WHERE sha256 = ANY ($1)", &[&shas]).await?;
    }
    let next = (rows.len() as i64 == BODIES).then_some(at);
    Ok(Step { next, erased: Erased { bodies: shas.len() as u64, ..Erased::default() } })
}

/// What is known of a person, or of the instance itself, apart from events.
async fn forget_identity(tx: &mut Tx, instance: InstanceId, which: &Which) -> Result<()> {
    let key = Fixed(instance.to_bytes());
    match which {
        Which::All => {
            tx.session.execute("DELETE FROM address_alias WHERE instance = $1", &[&key]).await?;
            tx.session
                .execute(
                    "UPDATE instance_state SET state = '{}', stale_from = NULL, stale_to = NULL \
                     WHERE instance = $1",
                    &[&key],
                )
                .await?;
        }
        Which::Naming(addresses) => {
            let addresses: Vec<String> =
                addresses.iter().map(|address| text(address).into_owned()).collect();
            tx.session
                .execute(
                    "DELETE FROM address_alias WHERE instance = $1 \
                     AND (lid = ANY ($2) OR phone = ANY ($2))",
                    &[&key, &addresses],
                )
                .await?;
        }
    }
    tx.shared.aliases().forget();
    tx.shared.settled_states().remove(&instance);
    Ok(())
}
