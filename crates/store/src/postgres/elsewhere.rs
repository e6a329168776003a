//! Names of files in the bucket, and files in pieces.

use zapbus_event::Timestamp;

use super::{
    Engine,
    row::{self, Fixed},
};
use crate::{
    StoreError,
    elsewhere::{Claim, Named, Names, PIECES, STRAYS},
    fault::{Fault, Result},
};

impl Names for Engine {
    async fn claim(&self, claims: Vec<Claim>) -> Result<Vec<Named>, StoreError> {
        let session = self.shared.pool.session().await?;
        let now = self.shared.now().as_millis();
        let mut named = Vec::with_capacity(claims.len());
        for claim in claims {
            let bytes = i64::try_from(claim.bytes).unwrap_or(i64::MAX);
            let found = session
                .one(
                    "INSERT INTO blob (sha256, bytes, refs, object, there, touched) \
                     VALUES ($1, $2, 0, $3, false, $4) \
                     ON CONFLICT (sha256) DO UPDATE \
                     SET touched = greatest(blob.touched, excluded.touched) \
                     RETURNING object, there",
                    &[&Fixed(claim.sha), &bytes, &claim.fresh, &now],
                )
                .await?;
            let object: Option<String> = found.try_get(0).map_err(Fault::from)?;
            named.push(match object {
                Some(object) => {
                    let there = found.try_get(1).map_err(Fault::from)?;
                    Named { sha: claim.sha, object, there }
                }
                // It lies in its row, where it stays.
                None => Named { sha: claim.sha, object: String::new(), there: true },
            });
        }
        Ok(named)
    }

    async fn confirm(&self, named: Vec<Named>) -> Result<(), StoreError> {
        let session = self.shared.pool.session().await?;
        for Named { sha, object, .. } in named {
            session
                .execute(
                    "UPDATE blob SET there = true WHERE sha256 = $1 AND object = $2",
                    &[&Fixed(sha), &object],
                )
                .await?;
        }
        Ok(())
    }
}

impl Engine {
    /// Names that are to be deleted: of files that nothing has referred to since `before`. Pieces
    /// have gone with their rows.
    pub(crate) async fn strays(&self, before: Timestamp) -> Result<Vec<String>, StoreError> {
        let session = self.shared.pool.session().await?;
        session
            .execute(
                "WITH idle AS (SELECT sha256 FROM blob WHERE refs <= 0 \
                 AND touched < $1 LIMIT $2 FOR UPDATE SKIP LOCKED), \
                 gone AS (DELETE FROM blob b USING idle i WHERE b.sha256 = i.sha256 \
                 RETURNING b.object), \
                 pieces AS (DELETE FROM blob_part p USING gone g WHERE p.object = g.object) \
                 INSERT INTO stray (object) SELECT object FROM gone \
                 WHERE object IS NOT NULL AND NOT starts_with(object, $3) ON CONFLICT DO NOTHING",
                &[&before.as_millis(), &row::limit(STRAYS), &PIECES],
            )
            .await?;
        let rows =
            session.query("SELECT object FROM stray LIMIT $1", &[&row::limit(STRAYS)]).await?;
        Ok(rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_>>()?)
    }

    /// They are deleted.
    pub(crate) async fn forget_strays(&self, gone: Vec<String>) -> Result<(), StoreError> {
        let session = self.shared.pool.session().await?;
        session.execute("DELETE FROM stray WHERE object = ANY ($1)", &[&gone]).await?;
        Ok(())
    }
}
