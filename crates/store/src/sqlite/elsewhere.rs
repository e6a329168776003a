//! Names of files in the bucket.

use rusqlite::params;
use zapbus_event::Timestamp;

use super::{Engine, Tx, fault::Result, row};
use crate::{
    StoreError,
    blob::Sha,
    elsewhere::{Claim, Named, Names, STRAYS},
};

impl Names for Engine {
    async fn claim(&self, claims: Vec<Claim>) -> Result<Vec<Named>, StoreError> {
        self.write(move |tx| claims.iter().map(|claim| name(tx, claim)).collect()).await
    }

    async fn confirm(&self, named: Vec<Named>) -> Result<(), StoreError> {
        self.write(move |tx| {
            for Named { sha, object, .. } in &named {
                tx.conn
                    .prepare_cached("UPDATE blob SET there = 1 WHERE sha256 = ?1 AND object = ?2")?
                    .execute(params![sha, object])?;
            }
            Ok(())
        })
        .await
    }
}

/// The name of a file: the one it has, or a fresh one.
fn name(tx: &mut Tx<'_>, claim: &Claim) -> Result<Named> {
    let now = tx.now.as_millis();
    let bytes = i64::try_from(claim.bytes).unwrap_or(i64::MAX);
    let known: Option<(Option<String>, bool)> = {
        let mut statement = tx.conn.prepare_cached(
            "INSERT INTO blob (sha256, bytes, refs, object, there, touched) \
             VALUES (?1, ?2, 0, ?3, 0, ?4) \
             ON CONFLICT (sha256) DO UPDATE SET touched = excluded.touched \
             RETURNING object, there",
        )?;
        let mut rows = statement.query(params![claim.sha, bytes, claim.fresh, now])?;
        rows.next()?.map(|row| Ok::<_, rusqlite::Error>((row.get(0)?, row.get(1)?))).transpose()?
    };
    Ok(match known {
        Some((Some(object), there)) => Named { sha: claim.sha, object, there },
        // It lies in the folder, where it stays.
        _ => Named { sha: claim.sha, object: String::new(), there: true },
    })
}

impl Engine {
    /// Names that are to be deleted: of files that nothing has referred to since `before`.
    pub(crate) async fn strays(&self, before: Timestamp) -> Result<Vec<String>, StoreError> {
        let before = before.as_millis();
        let question = move |view: super::View<'_>| {
            let idle: bool = view
                .conn
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM blob INDEXED BY blob_idle \
                     WHERE refs <= 0 AND touched < ?1) \
                     OR EXISTS (SELECT 1 FROM stray)",
                )?
                .query_row([before], |row| row.get(0))?;
            Ok(idle)
        };
        // Mostly there are none, and then nothing is written.
        if !self.read(question).await? {
            return Ok(Vec::new());
        }
        self.write_step(move |tx| {
            let idle: Vec<(Sha, Option<String>)> = tx
                .conn
                .prepare_cached(
                    "SELECT sha256, object FROM blob INDEXED BY blob_idle \
                     WHERE refs <= 0 AND touched < ?1 LIMIT ?2",
                )?
                .query_map(params![before, row::limit(STRAYS)], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect::<Result<_, _>>()?;
            for (sha, object) in idle {
                match object {
                    Some(object) => {
                        tx.conn
                            .prepare_cached("INSERT OR IGNORE INTO stray (object) VALUES (?1)")?
                            .execute([object])?;
                    }
                    None => tx.pending.gone_blobs.push(sha),
                }
                tx.conn.prepare_cached("DELETE FROM blob WHERE sha256 = ?1")?.execute([sha])?;
            }
            let strays = tx
                .conn
                .prepare_cached("SELECT object FROM stray LIMIT ?1")?
                .query_map([row::limit(STRAYS)], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(strays)
        })
        .await
    }

    /// They are deleted.
    pub(crate) async fn forget_strays(&self, gone: Vec<String>) -> Result<(), StoreError> {
        self.write_step(move |tx| {
            for object in &gone {
                tx.conn.prepare_cached("DELETE FROM stray WHERE object = ?1")?.execute([object])?;
            }
            Ok(())
        })
        .await
    }
}
