//! Files that are to be fetched.

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_postgres::Row;
use zapbus_event::{EventId, Timestamp};

use super::{
    Engine,
    pruning::count_down,
    row::{self, Fixed, instance_id, position, sql, text},
};
use crate::{
    StoreError,
    elsewhere::{Claim, Names},
    fault::{Fault, Result},
    fetching::{Arrived, Fetch, FetchCounts, Noted, PAGE},
    stored_file::PIECE,
};

const DAY_MS: i64 = 24 * 3_600_000;

impl Engine {
    pub(crate) async fn want_files(&self, wanted: Vec<Fetch>) -> Result<(), StoreError> {
        let session = self.shared.pool.session().await?;
        let now = self.shared.now().as_millis();
        for fetch in wanted {
            let shard = self.shared.shard_of(fetch.instance);
            session
                .execute(
                    "INSERT INTO wanted_file (event, instance, shard, seq, state, due, attempts) \
                     VALUES ($1, $2, $3, $4, 0, $5, 0) ON CONFLICT DO NOTHING",
                    &[
                        &Fixed(fetch.event.to_bytes()),
                        &Fixed(fetch.instance.to_bytes()),
                        &i32::from(shard.0),
                        &sql(fetch.seq),
                        &now,
                    ],
                )
                .await?;
        }
        Ok(())
    }

    pub(crate) async fn take_fetches(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Fetch>, StoreError> {
        let session = self.shared.pool.session().await?;
        let rows = session
            .query(
                "UPDATE wanted_file f SET due = $2, attempts = f.attempts + 1 FROM \
                 (SELECT event FROM wanted_file WHERE state = 0 AND due <= $1 ORDER BY due LIMIT $3 \
                 FOR UPDATE SKIP LOCKED) d WHERE f.event = d.event \
                 RETURNING f.event, f.instance, f.seq, f.attempts",
                &[&self.shared.now().as_millis(), &until.as_millis(), &row::limit(limit)],
            )
            .await?;
        let read = |row: &Row| -> Result<Fetch> {
            Ok(Fetch {
                event: EventId::from_bytes(row::fixed(row, 0)?),
                instance: instance_id(row, 1)?,
                seq: position(row.try_get(2)?),
                attempts: row::small(row.try_get(3)?),
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_>>()?)
    }

    pub(crate) async fn fetch_failed(
        &self,
        event: EventId,
        problem: &str,
        due: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let session = self.shared.pool.session().await?;
        let state = if due.is_some() { 0_i32 } else { 2 };
        let due = due.unwrap_or_else(|| self.shared.now()).as_millis();
        session
            .execute(
                "UPDATE wanted_file SET state = $2, due = $3, problem = $4 WHERE event = $1 AND state = 0",
                &[&Fixed(event.to_bytes()), &state, &due, &text(problem)],
            )
            .await?;
        Ok(())
    }

    pub(crate) async fn fetch_again(&self, wanted: Fetch) -> Result<(), StoreError> {
        self.want_files(vec![wanted]).await?;
        let session = self.shared.pool.session().await?;
        session
            .execute(
                "UPDATE wanted_file SET state = 0, due = $2, attempts = 0 WHERE event = $1 AND state = 2",
                &[&Fixed(wanted.event.to_bytes()), &self.shared.now().as_millis()],
            )
            .await?;
        Ok(())
    }

    pub(crate) async fn noted(&self, event: EventId) -> Result<Option<Noted>, StoreError> {
        let session = self.session().await?;
        let found = session
            .first(
                "SELECT f.state, f.problem, f.sha256, coalesce(f.bytes, 0), f.mime, b.object \
                 FROM wanted_file f LEFT JOIN blob b ON b.sha256 = f.sha256 WHERE f.event = $1",
                &[&Fixed(event.to_bytes())],
            )
            .await?;
        let read = |row: Row| -> Result<Noted> {
            Ok(Noted {
                state: row.try_get::<_, i32>(0)?.into(),
                problem: row.try_get(1)?,
                sha: row::maybe_fixed(&row, 2)?,
                bytes: row::count(row.try_get(3)?),
                mime: row.try_get(4)?,
                object: row.try_get(5)?,
            })
        };
        Ok(found.map(read).transpose()?)
    }

    pub(crate) async fn fetch_counts(&self) -> Result<FetchCounts, StoreError> {
        let session = self.session().await?;
        let day = self.shared.now().as_millis() - DAY_MS;
        let row = session
            .one(
                "SELECT (SELECT count(*) FROM wanted_file WHERE state = 0), \
                 (SELECT count(*) FROM wanted_file WHERE state = 2 AND due >= $1)",
                &[&day],
            )
            .await?;
        let count = |at: usize| -> Result<u64> { Ok(row::count(row.try_get(at)?)) };
        Ok(FetchCounts { pending: count(0)?, failed: count(1)? })
    }

    /// Puts a file into rows of its own, piece by piece, unless it is there.
    pub(crate) async fn put_pieces(
        &self,
        arrived: &Arrived,
        file: impl AsyncRead + Unpin + Send,
    ) -> Result<(), StoreError> {
        let claim = Claim::new(arrived.sha, arrived.bytes, false)?;
        let named = self.claim(vec![claim]).await?.pop().filter(|named| !named.there);
        let Some(named) = named else { return Ok(()) };
        let mut file = file;
        for n in 0_i32.. {
            let mut piece = Vec::new();
            let read = (&mut file).take(PIECE).read_to_end(&mut piece).await;
            read.map_err(|error| StoreError::Unavailable {
                reason: format!("the file cannot be read: {error}"),
            })?;
            if piece.is_empty() {
                break;
            }
            // Each by itself: no connection is held for as long as a large file takes.
            let session = self.shared.pool.session().await?;
            session
                .execute(
                    "INSERT INTO blob_part (object, n, content) VALUES ($1, $2, $3) \
                     ON CONFLICT (object, n) DO UPDATE SET content = excluded.content",
                    &[&named.object, &n, &piece],
                )
                .await?;
        }
        self.confirm(vec![named]).await
    }

    /// Notes a file that is here.
    pub(crate) async fn note_arrived(&self, arrived: Arrived) -> Result<(), StoreError> {
        let session = self.shared.pool.session().await?;
        let bytes = i64::try_from(arrived.bytes).unwrap_or(i64::MAX);
        let mime = arrived.mime.as_deref().map(text);
        let row = session
            .one(
                // Where nothing is changed its event is gone, or somebody was faster.
                "WITH noted AS (UPDATE wanted_file SET state = 1, sha256 = $2, bytes = $3, mime = $4, \
                 problem = NULL WHERE event = $1 AND state <> 1 \
                 AND EXISTS (SELECT 1 FROM blob WHERE sha256 = $2) RETURNING 1), \
                 referred AS (UPDATE blob SET refs = refs + 1 WHERE sha256 = $2 \
                 AND EXISTS (SELECT 1 FROM noted) RETURNING 1) \
                 SELECT (SELECT count(*) FROM noted), (SELECT count(*) FROM referred)",
                &[&Fixed(arrived.event.to_bytes()), &Fixed(arrived.sha), &bytes, &mime],
            )
            .await?;
        let noted: i64 = row.try_get(0).map_err(Fault::from)?;
        let referred: i64 = row.try_get(1).map_err(Fault::from)?;
        if noted != referred {
            return Err(StoreError::Unavailable { reason: "the file has just gone".to_owned() });
        }
        Ok(())
    }

    /// A step of forgetting files whose events are gone: where it came to, if there is more, and
    /// how many went.
    pub(crate) async fn forget_fetches(
        &self,
        after: Option<EventId>,
    ) -> Result<(Option<EventId>, u64), StoreError> {
        let mut tx = self.begin().await?;
        let done = forget(&mut tx, after).await;
        tx.finish(done).await
    }
}

async fn forget(tx: &mut super::Tx, after: Option<EventId>) -> Result<(Option<EventId>, u64)> {
    let after = after.map_or_else(Vec::new, |after| after.to_bytes().to_vec());
    let rows = tx
        .session
        .query(
            "SELECT event, shard, seq FROM wanted_file WHERE event > $1 ORDER BY event LIMIT $2",
            &[&after, &row::limit(PAGE)],
        )
        .await?;
    let mut page = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let event: [u8; 16] = row::fixed(row, 0)?;
        page.0.push(Fixed(event));
        page.1.push(row.try_get::<_, i32>(1)?);
        page.2.push(row.try_get::<_, i64>(2)?);
        // The id of an event carries the time it was received.
        page.3.push(EventId::from_bytes(event).timestamp().as_millis());
    }
    let last = (rows.len() == PAGE).then(|| page.0.last().map(|event| event.0)).flatten();
    let gone = tx
        .session
        .query(
            "DELETE FROM wanted_file f USING unnest($1::bytea[], $2::int[], $3::bigint[], $4::bigint[]) \
             AS u(event, shard, seq, at) WHERE f.event = u.event AND NOT EXISTS \
             (SELECT 1 FROM journal j WHERE j.shard = u.shard AND j.seq = u.seq \
             AND j.received_at = u.at AND j.id = u.event) RETURNING f.sha256",
            &[&page.0, &page.1, &page.2, &page.3],
        )
        .await?;
    let mut shas = Vec::new();
    for row in &gone {
        if let Some(sha) = row::maybe_fixed::<32>(row, 0)? {
            shas.push(sha);
        }
    }
    shas.sort_unstable();
    for sha in shas {
        count_down(&tx.session, &[Fixed(sha)], &[1], tx.now).await?;
    }
    Ok((last.map(EventId::from_bytes), gone.len() as u64))
}
