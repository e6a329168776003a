//! Encrypting what is kept encrypted with another key.

use super::{
    Engine, Tx,
    accounts::{answer_id, answer_place},
    pool::Session,
};
use crate::{
    Actor, StoreError,
    fault::Result,
    seal::Sealer,
    sealed::{COLUMNS, Column, STEP, Step},
    upkeep::Rekeyed,
};

/// A node that was not heard of for so long is gone, in milliseconds.
const GONE_MS: i64 = 60_000;

async fn rekey(tx: &Tx, column: &Column, after: &[u8]) -> Result<Step> {
    let sealer = &tx.shared.sealer;
    let select = format!("{} FOR UPDATE OF {}", column.select, column.locked);
    let rows = tx.session.query(&select, &[&&sealer.tag()[..], &after, &STEP]).await?;
    let mut step = Step::default();
    for row in &rows {
        let (id, sealed): (&[u8], &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        match sealer.open(column.place(id), sealed) {
            Ok(plain) => {
                let sealed = sealer.seal(column.place(id), &plain)?;
                tx.session.execute(column.update, &[&sealed, &id]).await?;
                step.rewritten += 1;
            }
            Err(_) => step.unreadable += 1,
        }
        step.after = Some(id.to_vec());
    }
    Ok(step)
}

/// Remembered answers, which go after a day by themselves.
async fn rekey_answers(tx: &Tx) -> Result<Step> {
    let sealer = &tx.shared.sealer;
    let rows = tx
        .session
        .query(
            "SELECT caller, key, answer FROM answer WHERE substring(answer FROM 1 FOR 4) <> $1 \
             ORDER BY caller, key LIMIT $2 FOR UPDATE",
            &[&&sealer.tag()[..], &STEP],
        )
        .await?;
    let mut step = Step::default();
    for row in &rows {
        let (caller, key): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let id = answer_id(caller, key);
        match sealer.open(answer_place(&id), row.try_get(2)?) {
            Ok(plain) => {
                let sealed = sealer.seal(answer_place(&id), &plain)?;
                tx.session
                    .execute(
                        "UPDATE answer SET answer = $3 WHERE caller = $1 AND key = $2",
                        &[&caller, &key, &sealed],
                    )
                    .await?;
                step.rewritten += 1;
            }
            Err(_) => {
                // It could not be given back anyway.
                tx.session
                    .execute("DELETE FROM answer WHERE caller = $1 AND key = $2", &[&caller, &key])
                    .await?;
            }
        }
        step.after = Some(caller.as_bytes().to_vec());
    }
    Ok(step)
}

/// What no value needs any more need not be given at the next start. While there are nodes that
/// encrypt with another key, every key stays.
async fn forget_unused_keys(tx: &Tx) -> Result<()> {
    tx.session
        .execute(
            "DELETE FROM encryption_key WHERE id <> $1 AND NOT EXISTS (SELECT 1 FROM node \
             WHERE id <> $2 AND key IS DISTINCT FROM $1 \
             AND seen_at > clock_timestamp() - $3 * interval '1 millisecond') \
             AND id NOT IN ( \
                 SELECT substring(source FROM 1 FOR 4) FROM account WHERE source IS NOT NULL \
                 UNION SELECT substring(token FROM 1 FOR 4) FROM instance \
                 UNION SELECT substring(source FROM 1 FOR 4) FROM instance \
                     WHERE source IS NOT NULL \
                 UNION SELECT substring(spec FROM 1 FOR 4) FROM destination_spec \
                 UNION SELECT substring(answer FROM 1 FOR 4) FROM answer)",
            &[&&tx.shared.sealer.tag()[..], &&tx.shared.node.0[..], &(GONE_MS as f64)],
        )
        .await?;
    Ok(())
}

async fn key_ids_of(session: &Session, sealer: &Sealer) -> Result<Vec<String>> {
    let rows = session.query("SELECT id FROM encryption_key ORDER BY id", &[]).await?;
    let mut ids = Vec::with_capacity(rows.len());
    for row in &rows {
        ids.push(hex::encode(row.try_get::<_, &[u8]>(0)?));
    }
    let first = hex::encode(sealer.tag());
    ids.sort_by_key(|id| *id != first);
    Ok(ids)
}

async fn conclude(tx: &mut Tx, actor: &Actor, rewritten: u64) -> Result<Vec<String>> {
    forget_unused_keys(tx).await?;
    let keys = key_ids_of(&tx.session, &tx.shared.sealer).await?;
    let detail = serde_json::json!({ "rewritten": rewritten, "keys": keys });
    tx.write_audit(None, actor, "store.rekey", "store", &detail).await?;
    Ok(keys)
}

impl Engine {
    /// Encrypts everything with the first key.
    pub(crate) async fn rekey(&self, actor: &Actor) -> Result<Rekeyed, StoreError> {
        let (mut rewritten, mut unreadable) = (0, 0);
        for column in &COLUMNS {
            let mut after = Vec::new();
            loop {
                let tx = self.begin().await?;
                let done = rekey(&tx, column, &after).await;
                let step = tx.finish(done).await?;
                rewritten += step.rewritten;
                unreadable += step.unreadable;
                match step.after {
                    Some(last) => after = last,
                    None => break,
                }
            }
        }
        loop {
            let tx = self.begin().await?;
            let done = rekey_answers(&tx).await;
            let step = tx.finish(done).await?;
            rewritten += step.rewritten;
            if step.after.is_none() {
                break;
            }
        }
        let mut tx = self.begin().await?;
        let done = conclude(&mut tx, actor, rewritten).await;
        let keys = tx.finish(done).await?;
        Ok(Rekeyed { rewritten, unreadable, keys })
    }

    /// Ids of the keys that encrypted something here, the one that encrypts first.
    pub(crate) async fn key_ids(&self) -> Result<Vec<String>, StoreError> {
        let session = self.session().await?;
        Ok(key_ids_of(&session, &self.shared.sealer).await?)
    }
}
