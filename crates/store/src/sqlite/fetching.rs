//! Files that are to be fetched.

use std::{path::PathBuf, sync::Arc};

use rusqlite::{OptionalExtension as _, params};
use zapbus_event::{EventId, InstanceId, Timestamp};

use super::{
    Engine,
    fault::{Fault, Result},
    pruning::release_blob,
    row::{self, sql},
};
use crate::{
    StoreError,
    blob::Sha,
    fetching::{Arrived, FAILED, Fetch, FetchCounts, HERE, Noted, PAGE, PENDING},
};

const DAY_MS: i64 = 24 * 3_600_000;

impl Engine {
    pub(crate) async fn want_files(&self, wanted: Vec<Fetch>) -> Result<(), StoreError> {
        self.write(move |tx| {
            for fetch in &wanted {
                tx.conn
                    .prepare_cached(
                        "INSERT OR IGNORE INTO wanted_file (event, instance, seq, state, due, attempts) \
                         VALUES (?1, ?2, ?3, ?4, ?5, 0)",
                    )?
                    .execute(params![
                        fetch.event.to_bytes(),
                        fetch.instance.to_bytes(),
                        sql(fetch.seq),
                        PENDING,
                        tx.now.as_millis()
                    ])?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn take_fetches(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Fetch>, StoreError> {
        let now = (self.shared.clock)().as_millis();
        let question = move |view: super::View<'_>| {
            Ok(view
                .conn
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM wanted_file WHERE state = 0 AND due <= ?1)",
                )?
                .query_row([now], |row| row.get::<_, bool>(0))?)
        };
        // Mostly there are none, and then nothing is written.
        if !self.read(question).await? {
            return Ok(Vec::new());
        }
        self.write(move |tx| {
            let due: Vec<([u8; 16], [u8; 16], i64, u32)> = tx
                .conn
                .prepare_cached(
                    "SELECT event, instance, seq, attempts FROM wanted_file \
                     WHERE state = 0 AND due <= ?1 ORDER BY due LIMIT ?2",
                )?
                .query_map(params![now, row::limit(limit)], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?
                .collect::<Result<_, _>>()?;
            let mut taken = Vec::with_capacity(due.len());
            for (event, instance, seq, attempts) in due {
                tx.conn
                    .prepare_cached(
                        "UPDATE wanted_file SET due = ?2, attempts = attempts + 1 WHERE event = ?1",
                    )?
                    .execute(params![event, until.as_millis()])?;
                taken.push(Fetch {
                    event: EventId::from_bytes(event),
                    instance: InstanceId::from_bytes(instance),
                    seq: row::position(seq),
                    attempts: attempts + 1,
                });
            }
            Ok(taken)
        })
        .await
    }

    pub(crate) async fn fetch_failed(
        &self,
        event: EventId,
        problem: &str,
        due: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let problem = problem.to_owned();
        self.write(move |tx| {
            let state = if due.is_some() { PENDING } else { FAILED };
            let due = due.unwrap_or(tx.now).as_millis();
            tx.conn
                .prepare_cached(
                    "UPDATE wanted_file SET state = ?2, due = ?3, problem = ?4 \
                     WHERE event = ?1 AND state = 0",
                )?
                .execute(params![event.to_bytes(), state, due, problem])?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn fetch_again(&self, wanted: Fetch) -> Result<(), StoreError> {
        self.want_files(vec![wanted]).await?;
        self.write(move |tx| {
            tx.conn
                .prepare_cached(
                    "UPDATE wanted_file SET state = 0, due = ?2, attempts = 0 \
                     WHERE event = ?1 AND state = 2",
                )?
                .execute(params![wanted.event.to_bytes(), tx.now.as_millis()])?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn noted(&self, event: EventId) -> Result<Option<Noted>, StoreError> {
        self.read(move |view| {
            Ok(view
                .conn
                .prepare_cached(
                    "SELECT f.state, f.problem, f.sha256, f.bytes, f.mime, b.object FROM wanted_file f \
                     LEFT JOIN blob b ON b.sha256 = f.sha256 WHERE f.event = ?1",
                )?
                .query_row([event.to_bytes()], |row| {
                    Ok(Noted {
                        state: row.get(0)?,
                        problem: row.get(1)?,
                        sha: row.get(2)?,
                        bytes: row::count(row.get::<_, Option<i64>>(3)?.unwrap_or(0)),
                        mime: row.get(4)?,
                        object: row.get(5)?,
                    })
                })
                .optional()?)
        })
        .await
    }

    pub(crate) async fn fetch_counts(&self) -> Result<FetchCounts, StoreError> {
        let day = (self.shared.clock)().as_millis() - DAY_MS;
        self.read(move |view| {
            let count = |query: &str, since: i64| -> Result<u64> {
                Ok(row::count(
                    view.conn.prepare_cached(query)?.query_row([since], |row| row.get(0))?,
                ))
            };
            Ok(FetchCounts {
                pending: count(
                    "SELECT count(*) FROM wanted_file WHERE state = 0 AND due >= ?1",
                    0,
                )?,
                failed: count(
                    "SELECT count(*) FROM wanted_file WHERE state = 2 AND due >= ?1",
                    day,
                )?,
            })
        })
        .await
    }

    /// Notes a file that is here. `spooled`: where it lies that is to become one of the folder.
    pub(crate) async fn note_arrived(
        &self,
        arrived: Arrived,
        spooled: Option<PathBuf>,
    ) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let sha = arrived.sha;
        let pin = match spooled {
            None => None,
            Some(path) => {
                let adopted = self.off_thread(move || shared.blobs.adopt(sha, &path)).await;
                let adopted = adopted.map_err(|error| Fault::Broken(error.to_string()))?;
                Some(adopted.map_err(|error| StoreError::Unavailable {
                    reason: format!("the blob folder: {error}"),
                })?)
            }
        };
        let noted = self
            .write(move |tx| {
                let bytes = i64::try_from(arrived.bytes).unwrap_or(i64::MAX);
                let changed = tx
                    .conn
                    .prepare_cached(
                        "UPDATE wanted_file SET state = ?2, sha256 = ?3, bytes = ?4, mime = ?5, \
                         problem = NULL WHERE event = ?1 AND state != ?2",
                    )?
                    .execute(params![
                        arrived.event.to_bytes(),
                        HERE,
                        arrived.sha,
                        bytes,
                        arrived.mime
                    ])?;
                // Else its event is gone, or somebody was faster.
                if changed > 0 {
                    tx.refer(arrived.sha, bytes)?;
                }
                Ok(changed > 0)
            })
            .await?;
        if let Some(pin) = pin.filter(|_| noted) {
            pin.committed();
        }
        Ok(())
    }

    /// A step of forgetting files whose events are gone: where it came to, if there is more, and
    /// how many went.
    pub(crate) async fn forget_fetches(
        &self,
        after: Option<EventId>,
    ) -> Result<(Option<EventId>, u64), StoreError> {
        let after = after.map_or_else(Vec::new, |after| after.to_bytes().to_vec());
        let question = move |view: super::View<'_>| {
            let looked: Vec<([u8; 16], bool)> = view
                .conn
                .prepare_cached(
                    "SELECT f.event, NOT EXISTS (SELECT 1 FROM journal j WHERE j.seq = f.seq \
                     AND j.id = f.event) FROM wanted_file f WHERE f.event > ?1 ORDER BY f.event LIMIT ?2",
                )?
                .query_map(params![after, row::limit(PAGE)], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            Ok(looked)
        };
        let looked = self.read(question).await?;
        let last = (looked.len() == PAGE).then(|| looked.last().map(|(event, _)| *event)).flatten();
        let gone: Vec<[u8; 16]> =
            looked.into_iter().filter(|(_, gone)| *gone).map(|(event, _)| event).collect();
        let count = gone.len() as u64;
        if count > 0 {
            self.write_step(move |tx| {
                for event in &gone {
                    let sha: Option<Option<Sha>> = tx
                        .conn
                        .prepare_cached(
                            "DELETE FROM wanted_file WHERE event = ?1 RETURNING sha256",
                        )?
                        .query_row([event], |row| row.get(0))
                        .optional()?;
                    if let Some(sha) = sha.flatten() {
                        release_blob(tx, sha)?;
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok((last.map(EventId::from_bytes), count))
    }
}
