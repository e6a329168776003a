//! Erasing: what was asked for leaves no trace in the database, its log file or the blob folder.

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::params;
use serde_json::json;
use tokio::time::Instant;
use zapbus_event::{AccountId, InstanceId};

use super::{
    Engine, Tx, View,
    accounts::write_audit,
    destinations,
    fault::{Fault, Result},
    instances,
    pruning::remove_events,
    read, row, schema,
    search::lanes_of,
};
use crate::{
    StoreError,
    erasing::{Which, forms},
    pruning::Doomed,
    registry::Actor,
    upkeep::{Erase, Erased},
};

/// Events looked at in one step.
const EVENTS: i64 = 200;
/// Time one step takes.
const TIME: Duration = Duration::from_millis(4);
/// How long readers may keep the old log file from being cut.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the writer is kept out at a time meanwhile: well below what it waits for.
const AT_ONCE: Duration = Duration::from_millis(200);

/// How often it is looked whether files may go that a backup keeps in place.
const HELD_LOOK: Duration = Duration::from_millis(50);

/// An instance's bodies after a place, in the order of the index.
const BODIES_OF: &str = "SELECT last_seq, rowid, sha256, body FROM body INDEXED BY body_instance \
     WHERE instance = ?1 AND (last_seq, rowid) > (?2, ?3) ORDER BY last_seq, rowid";
/// Those that brought events between two positions.
const BODIES_BETWEEN: &str = "SELECT sha256, first_seq, last_seq FROM body \
     INDEXED BY body_instance WHERE instance = ?1 AND last_seq >= ?2 AND first_seq <= ?3";

/// Where a step ended.
struct Step {
    at: i64,
    more: bool,
    erased: Erased,
}

pub(crate) async fn erase(
    engine: &Engine,
    what: Erase,
    actor: &Actor,
) -> Result<Erased, StoreError> {
    let (kind, account, targets) = targets(engine, &what).await?;
    let mut total = Erased::default();
    for (instance, which) in targets {
        let which = Arc::new(which);
        let erased = erase_in(engine, instance, Arc::clone(&which)).await?;
        add(&mut total, erased);
        engine.write(move |tx| forget_identity(tx, instance, &which)).await?;
    }
    cut_log(engine).await?;
    // A copy that is being made keeps files in place until it is done.
    while engine.shared.blobs.keeps_loose() {
        tokio::time::sleep(HELD_LOOK).await;
    }
    // The writer deletes them after a commit, and is done with that before its next one.
    engine.write(|_| Ok(())).await?;
    let actor = actor.clone();
    engine
        .write(move |tx| {
            // Not who was erased: that would be a trace.
            let detail = json!({ "events": total.events, "deliveries": total.deliveries });
            write_audit(tx, account, &actor, "erase", kind, &detail)
        })
        .await?;
    Ok(total)
}

/// How many events [`erase`] would take.
pub(crate) async fn erasable(engine: &Engine, what: Erase) -> Result<u64, StoreError> {
    let (_, _, targets) = targets(engine, &what).await?;
    let mut events = 0;
    for (instance, which) in targets {
        let which = Arc::new(which);
        let mut next = Some(0);
        while let Some(after) = next {
            let which = Arc::clone(&which);
            let counted = engine.read(move |view| count_some(view, instance, &which, after));
            let (found, at) = counted.await?;
            events += found;
            next = at;
        }
    }
    Ok(events)
}

/// How many of the next events are meant, and where to go on if there may be more.
fn count_some(
    view: View<'_>,
    instance: InstanceId,
    which: &Which,
    after: i64,
) -> Result<(u64, Option<i64>)> {
    let mut statement = view.conn.prepare_cached(
        "SELECT seq, head, data, raw FROM journal \
         WHERE instance = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = statement.query(params![instance.to_bytes(), after, EVENTS])?;
    let (mut found, mut looked, mut at) = (0, 0, after);
    while let Some(row) = rows.next()? {
        looked += 1;
        at = row.get(0)?;
        let raw = row.get_ref(3)?.as_blob_or_null().ok().flatten().unwrap_or_default();
        found += u64::from(which.includes([row::bytes(row, 1)?, row::bytes(row, 2)?, raw]));
    }
    Ok((found, (looked == EVENTS).then_some(at)))
}

/// The instances to look through, and what for.
async fn targets(
    engine: &Engine,
    what: &Erase,
) -> Result<(&'static str, Option<AccountId>, Vec<(InstanceId, Which)>), StoreError> {
    let account_of = |instance: InstanceId| {
        let account = engine.shared.directory().account_of(instance);
        account.ok_or(StoreError::NotFound { what: "instance" })
    };
    match what {
        Erase::Instance(instance) => {
            Ok(("instance", Some(account_of(*instance)?), vec![(*instance, Which::All)]))
        }
        Erase::Chat { instance, chat } => {
            let account = account_of(*instance)?;
            let which = naming(engine, *instance, chat).await?;
            Ok(("chat", Some(account), vec![(*instance, which)]))
        }
        Erase::Person { account, address } => {
            let mut instances: Vec<InstanceId> =
                engine.shared.directory().of_account(*account).collect();
            // In the order of any other such request.
            instances.sort_unstable();
            let mut found = Vec::with_capacity(instances.len());
            for instance in instances {
                found.push((instance, naming(engine, instance, address).await?));
            }
            Ok(("person", Some(*account), found))
        }
    }
}

async fn naming(engine: &Engine, instance: InstanceId, address: &str) -> Result<Which, StoreError> {
    let asked = address.to_owned();
    let aliases = engine.read(move |view| read::aliases(view, instance, &asked)).await?;
    let mut addresses = forms(address);
    addresses.extend(aliases.iter().flat_map(|alias| forms(alias)));
    Ok(Which::Naming(addresses))
}

async fn erase_in(
    engine: &Engine,
    instance: InstanceId,
    which: Arc<Which>,
) -> Result<Erased, StoreError> {
    let mut total = Erased::default();
    let mut at = 0;
    loop {
        let which = Arc::clone(&which);
        let done = engine.write_step(move |tx| step(tx, instance, &which, at)).await?;
        add(&mut total, done.erased);
        if !done.more {
            break;
        }
        at = done.at;
    }
    // Also those whose events have long been pruned, or never named anybody.
    let mut at = BodyAt::default();
    loop {
        let which = Arc::clone(&which);
        let done = engine.write_step(move |tx| body_step(tx, instance, &which, at)).await?;
        total.bodies += done.bodies;
        let Some(next) = done.next else {
            return Ok(total);
        };
        at = next;
    }
}

fn add(total: &mut Erased, step: Erased) {
    total.events += step.events;
    total.deliveries += step.deliveries;
    total.bodies += step.bodies;
    total.blobs += step.blobs;
}

fn step(tx: &mut Tx<'_>, instance: InstanceId, which: &Which, after: i64) -> Result<Step> {
    // Freed pages are overwritten, not only unlinked.
    secure_delete(tx, "ON")?;
    let done = erase_some(tx, instance, which, after);
    secure_delete(tx, "FAST")?;
    done
}

fn secure_delete(tx: &Tx<'_>, mode: &str) -> Result<()> {
    tx.conn.pragma_update_and_check(None, "secure_delete", mode, |_| Ok(()))?;
    Ok(())
}

fn erase_some(tx: &mut Tx<'_>, instance: InstanceId, which: &Which, after: i64) -> Result<Step> {
    let started = Instant::now();
    let mut statement = tx.conn.prepare_cached(
        "SELECT seq, received_at, flags, head, data, raw FROM journal \
         WHERE instance = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = statement.query(params![instance.to_bytes(), after, EVENTS])?;
    let mut doomed = Vec::new();
    let (mut at, mut looked, mut more) = (after, 0, false);
    while let Some(row) = rows.next()? {
        if looked % 16 == 15 && started.elapsed() > TIME {
            more = true;
            break;
        }
        looked += 1;
        at = row.get(0)?;
        let raw = row.get_ref(5)?.as_blob_or_null().ok().flatten().unwrap_or_default();
        if which.includes([row::bytes(row, 3)?, row::bytes(row, 4)?, raw]) {
            doomed.push(Doomed { seq: at, instance, received_at: row.get(1)?, flags: row.get(2)? });
        }
    }
    more |= looked == EVENTS;
    drop(rows);
    drop(statement);
    let blobs = (tx.pending.gone_blobs.len(), tx.pending.gone_objects);
    let mut erased = Erased { events: doomed.len() as u64, ..Erased::default() };
    erased.deliveries = wipe_rows(tx, instance, &doomed)?;
    erased.bodies = delete_bodies(tx, instance, &doomed)?;
    remove_events(tx, &doomed)?;
    erased.blobs =
        (tx.pending.gone_blobs.len() - blobs.0) as u64 + tx.pending.gone_objects - blobs.1;
    Ok(Step { at, more, erased })
}

/// Where the look through an instance's bodies has come to: `last_seq` and row.
#[derive(Debug, Clone, Copy)]
struct BodyAt(i64, i64);

impl Default for BodyAt {
    fn default() -> Self {
        Self(i64::MIN, i64::MIN)
    }
}

/// Where a step through bodies ended.
struct BodyStep {
    next: Option<BodyAt>,
    bodies: u64,
}

fn body_step(
    tx: &mut Tx<'_>,
    instance: InstanceId,
    which: &Which,
    after: BodyAt,
) -> Result<BodyStep> {
    secure_delete(tx, "ON")?;
    let done = erase_some_bodies(tx, instance, which, after);
    secure_delete(tx, "FAST")?;
    done
}

/// Looks at the texts themselves: a body may name somebody whom none of its events does.
fn erase_some_bodies(
    tx: &mut Tx<'_>,
    instance: InstanceId,
    which: &Which,
    after: BodyAt,
) -> Result<BodyStep> {
    let started = Instant::now();
    let mut statement = tx.conn.prepare_cached(BODIES_OF)?;
    let mut rows = statement.query(params![instance.to_bytes(), after.0, after.1])?;
    let mut doomed: Vec<[u8; 32]> = Vec::new();
    let mut next = None;
    while let Some(row) = rows.next()? {
        if which.includes([row::bytes(row, 3)?, b"", b""]) {
            doomed.push(row.get(2)?);
        }
        if started.elapsed() > TIME {
            next = Some(BodyAt(row.get(0)?, row.get(1)?));
            break;
        }
    }
    drop(rows);
    drop(statement);
    for sha256 in &doomed {
        delete_body(tx, *sha256)?;
    }
    Ok(BodyStep { next, bodies: doomed.len() as u64 })
}

/// Deletes a body, whoever else it brought events of: their copies have the same text.
fn delete_body(tx: &Tx<'_>, sha256: [u8; 32]) -> Result<()> {
    tx.conn.prepare_cached("DELETE FROM body WHERE sha256 = ?1")?.execute([sha256])?;
    Ok(())
}

/// Takes out of the delivery log what receivers answered, and calls off what is still to be sent.
fn wipe_rows(tx: &mut Tx<'_>, instance: InstanceId, doomed: &[Doomed]) -> Result<u64> {
    let (Some(first), Some(last)) = (doomed.first(), doomed.last()) else {
        return Ok(0);
    };
    let mut wiped = 0;
    for (destination, run) in lanes_of(tx.view(), instance)? {
        let rows: Vec<(i64, i64)> = tx
            .conn
            .prepare_cached(
                "SELECT n, seq FROM delivery WHERE destination = ?1 AND run = ?2 \
                 AND seq BETWEEN ?3 AND ?4",
            )?
            .query_map(params![destination, run, first.seq, last.seq], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        for (n, seq) in rows {
            if doomed.binary_search_by_key(&seq, |event| event.seq).is_err() {
                continue;
            }
            tx.conn
                .prepare_cached(
                    "UPDATE delivery SET excerpt = NULL, error = NULL, due = NULL, \
                     updated_at = iif(status IN (1, 2), ?2, updated_at), \
                     status = iif(status IN (1, 2), 4, status) WHERE n = ?1",
                )?
                .execute([n, tx.now.as_millis()])?;
            tx.conn
                .prepare_cached(
                    "DELETE FROM attempt WHERE destination = ?1 AND run = ?2 AND seq = ?3",
                )?
                .execute(params![destination, run, seq])?;
            wiped += 1;
        }
    }
    Ok(wiped)
}

/// Whole bodies that brought one of these events.
fn delete_bodies(tx: &mut Tx<'_>, instance: InstanceId, doomed: &[Doomed]) -> Result<u64> {
    let (Some(first), Some(last)) = (doomed.first(), doomed.last()) else {
        return Ok(0);
    };
    let bodies: Vec<([u8; 32], i64, i64)> = tx
        .conn
        .prepare_cached(BODIES_BETWEEN)?
        .query_map(params![instance.to_bytes(), first.seq, last.seq], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut deleted = 0;
    for (sha256, from, to) in bodies {
        if doomed.iter().any(|event| (from..=to).contains(&event.seq)) {
            delete_body(tx, sha256)?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// What is known of a person, or of the instance itself, apart from events.
fn forget_identity(tx: &mut Tx<'_>, instance: InstanceId, which: &Which) -> Result<()> {
    secure_delete(tx, "ON")?;
    let key = instance.to_bytes();
    match which {
        Which::All => {
            tx.conn.execute("DELETE FROM address_alias WHERE instance = ?1", [key])?;
            tx.conn.execute("UPDATE instance_state SET state = '{}' WHERE instance = ?1", [key])?;
        }
        Which::Naming(addresses) => {
            for address in addresses {
                tx.conn.execute(
                    "DELETE FROM address_alias WHERE instance = ?1 AND (lid = ?2 OR phone = ?2)",
                    params![key, address],
                )?;
            }
        }
    }
    tx.memory.aliases.forget();
    tx.memory.settled_states.remove(&instance);
    secure_delete(tx, "FAST")
}

/// The log file still has the pages as they were: it is moved into the database and cut.
async fn cut_log(engine: &Engine) -> Result<(), StoreError> {
    let path = schema::database(engine.data_dir());
    #[cfg(feature = "simulation")]
    if engine.shared.simulation.is_some() {
        return truncate(&path).map_err(StoreError::from);
    }
    tokio::task::spawn_blocking(move || truncate(&path))
        .await
        .unwrap_or_else(|error| Err(Fault::Broken(error.to_string())))
        .map_err(StoreError::from)
}

fn truncate(path: &Path) -> Result<()> {
    let conn = rusqlite::Connection::open(path)?;
    conn.busy_timeout(AT_ONCE)?;
    let checkpoint = |mode: &str| -> Result<bool> {
        let query = format!("PRAGMA wal_checkpoint({mode})");
        Ok(conn.query_row(&query, [], |row| row.get::<_, i64>(0))? == 0)
    };
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        // Almost all of it is moved while the writer goes on; what remains is little.
        checkpoint("PASSIVE")?;
        if checkpoint("TRUNCATE")? {
            return Ok(());
        }
        std::thread::sleep(AT_ONCE / 2);
    }
    Err(Fault::Broken(
        "the data is erased, but its write-ahead log is still being read: erase again".to_owned(),
    ))
}

/// Removes everything of an instance that is marked as deleted.
pub(crate) async fn drop_instance(engine: &Engine, id: InstanceId) -> Result<(), StoreError> {
    let entry = engine.shared.directory().get(id);
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
    let own = engine.read(move |view| destinations::ids_of_instance(view, id)).await?;
    for destination in own {
        let actor = actor.clone();
        engine.write(move |tx| destinations::delete_destination(tx, destination, &actor)).await?;
    }
    while engine.write_step(move |tx| destinations::drop_rows_of_instance(tx, id)).await? {}
    erase_in(engine, id, Arc::new(Which::All)).await?;
    engine.write(move |tx| instances::forget(tx, id)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erasing_goes_through_the_bodies_of_one_instance() {
        for query in [BODIES_OF, BODIES_BETWEEN] {
            let plan = crate::sqlite::schema::plan_of(query);
            assert!(
                plan.starts_with("SEARCH body USING INDEX body_instance (instance=? AND")
                    && !plan.contains("TEMP B-TREE"),
                "{plan}"
            );
        }
    }
}
