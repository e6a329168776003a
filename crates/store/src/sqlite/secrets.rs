//! Encrypting what is kept encrypted with another key, or dropping it.

use rusqlite::{Connection, params};
use zapbus_event::Timestamp;

use super::{
    Engine, Tx,
    accounts::{answer_id, answer_place, write_audit},
    fault::{Fault, Result},
    schema,
};
use crate::{
    Actor, StoreError,
    registry::Activity,
    seal::{Place, Sealer},
    sealed::{COLUMNS, Column, SPEC, STEP, Step},
    upkeep::{Dropped, Rekeyed},
};

/// Why a destination stands still whose secrets were dropped.
const REASON: &str =
    "restored without its secrets: give it a channel (type, URL and secrets) again, then resume it";

fn rekey_step(tx: &mut Tx<'_>, column: &Column, after: &[u8]) -> Result<Step> {
    let sealer = &tx.shared.sealer;
    let mut statement = tx.conn.prepare_cached(column.select)?;
    let rows = statement
        .query_map(params![sealer.tag(), after, STEP], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows: Vec<(Vec<u8>, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
    let mut step = Step::default();
    for (id, sealed) in &rows {
        match sealer.open(column.place(id), sealed) {
            Ok(plain) => {
                let sealed = sealer.seal(column.place(id), &plain)?;
                tx.conn.prepare_cached(column.update)?.execute(params![sealed, id])?;
                step.rewritten += 1;
            }
            Err(_) => step.unreadable += 1,
        }
    }
    step.after = rows.into_iter().next_back().map(|(id, _)| id);
    Ok(step)
}

/// Remembered answers, which go after a day by themselves.
fn rekey_answers(tx: &mut Tx<'_>) -> Result<Step> {
    let sealer = &tx.shared.sealer;
    let mut statement = tx.conn.prepare_cached(
        "SELECT caller, key, answer FROM answer WHERE substr(answer, 1, 4) <> ?1 LIMIT ?2",
    )?;
    let rows = statement.query_map(params![sealer.tag(), STEP], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    let rows: Vec<(String, String, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
    let mut step = Step::default();
    for (caller, key, sealed) in &rows {
        let id = answer_id(caller, key);
        match sealer.open(answer_place(&id), sealed) {
            Ok(plain) => {
                tx.conn
                    .prepare_cached("UPDATE answer SET answer = ?3 WHERE caller = ?1 AND key = ?2")?
                    .execute(params![caller, key, sealer.seal(answer_place(&id), &plain)?])?;
                step.rewritten += 1;
            }
            Err(_) => {
                // It could not be given back anyway.
                tx.conn
                    .prepare_cached("DELETE FROM answer WHERE caller = ?1 AND key = ?2")?
                    .execute(params![caller, key])?;
            }
        }
    }
    step.after = rows.into_iter().next_back().map(|(caller, ..)| caller.into_bytes());
    Ok(step)
}

/// Encrypts everything with the first key.
pub(crate) async fn rekey(engine: &Engine, actor: &Actor) -> Result<Rekeyed, StoreError> {
    let (mut rewritten, mut unreadable) = (0, 0);
    for column in &COLUMNS {
        let mut after = Vec::new();
        loop {
            let from = after.clone();
            let step = engine.write_step(move |tx| rekey_step(tx, column, &from)).await?;
            rewritten += step.rewritten;
            unreadable += step.unreadable;
            match step.after {
                Some(last) => after = last,
                None => break,
            }
        }
    }
    while let step = engine.write_step(rekey_answers).await?
        && step.after.is_some()
    {
        rewritten += step.rewritten;
    }
    let actor = actor.clone();
    let keys = engine
        .write(move |tx| {
            forget_unused_keys(tx)?;
            let keys = key_ids_of(tx.conn, &tx.shared.sealer)?;
            let detail = serde_json::json!({ "rewritten": rewritten, "keys": keys });
            write_audit(tx, None, &actor, "store.rekey", "store", &detail)?;
            Ok(keys)
        })
        .await?;
    Ok(Rekeyed { rewritten, unreadable, keys })
}

/// What no value needs any more need not be given at the next start.
fn forget_unused_keys(tx: &mut Tx<'_>) -> Result<()> {
    tx.conn.execute(
        "DELETE FROM encryption_key WHERE id <> ?1 AND id NOT IN ( \
             SELECT substr(source, 1, 4) FROM account WHERE source IS NOT NULL \
             UNION SELECT substr(token, 1, 4) FROM instance \
             UNION SELECT substr(source, 1, 4) FROM instance WHERE source IS NOT NULL \
             UNION SELECT substr(spec, 1, 4) FROM destination_spec \
             UNION SELECT substr(answer, 1, 4) FROM answer)",
        [tx.shared.sealer.tag()],
    )?;
    Ok(())
}

fn key_ids_of(conn: &Connection, sealer: &Sealer) -> Result<Vec<String>> {
    let mut ids = schema::key_ids(conn)?;
    let first = hex::encode(sealer.tag());
    ids.sort_by_key(|id| *id != first);
    Ok(ids)
}

/// Ids of the keys that encrypted something here, the one that encrypts first.
pub(crate) async fn key_ids(engine: &Engine) -> Result<Vec<String>, StoreError> {
    engine.read(|view| key_ids_of(view.conn, &view.shared.sealer)).await
}

/// Drops every encrypted value, with the keys, and makes with the new key what must be there.
pub(super) fn drop_all(conn: &Connection, sealer: &Sealer, now: Timestamp) -> Result<Dropped> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let mut dropped = Dropped::default();
    dropped.sources +=
        conn.execute("UPDATE account SET source = NULL WHERE source IS NOT NULL", [])? as u64;
    dropped.sources += conn
        .execute("UPDATE instance SET source = NULL, route = NULL WHERE source IS NOT NULL", [])?
        as u64;
    for id in ids(conn, "SELECT id FROM instance")? {
        let token = format!("{:032x}", super::random()?);
        let sealed =
            sealer.seal(Place { table: "instance", id: &id, column: "token" }, token.as_bytes())?;
        conn.execute(
            "UPDATE instance SET token = ?2, token_hash = ?3 WHERE id = ?1",
            params![id, sealed, super::sha256(token.as_bytes())],
        )?;
        dropped.tokens += 1;
    }
    let paused = Activity::Paused { reason: REASON.to_owned(), since: now };
    let paused = serde_json::to_string(&paused)?;
    let with_spec = "SELECT d.id FROM destination d JOIN destination_spec s ON s.n = d.n";
    for id in ids(conn, with_spec)? {
        let nothing = sealer.seal(SPEC.place(&id), b"null")?;
        conn.execute(SPEC.update, params![nothing, id])?;
        dropped.destinations += conn.execute(
            "UPDATE destination SET activity = ?2, active = 0, updated_at = ?3 \
             WHERE id = ?1 AND deleted_at IS NULL",
            params![id, paused, now.as_millis()],
        )? as u64;
    }
    conn.execute("DELETE FROM answer", [])?;
    conn.execute("DELETE FROM encryption_key WHERE id <> ?1", [sealer.tag()])?;
    conn.execute_batch("COMMIT")?;
    Ok(dropped)
}

fn ids(conn: &Connection, query: &str) -> Result<Vec<Vec<u8>>> {
    let mut statement = conn.prepare(query)?;
    let ids = statement.query_map([], |row| row.get(0))?;
    ids.collect::<Result<_, _>>().map_err(Fault::from)
}
