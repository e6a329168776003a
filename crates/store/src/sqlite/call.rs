//! What the handle asks of the engine: appends, settlements and changes go through the writer's queue,
//! reads through a connection of their own.

use std::{
    path::Path,
    sync::{Arc, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, oneshot, watch},
    time::Instant,
};
use zapbus_event::{InstanceId, Position};

use super::{
    Engine, Shared, Tx, View, backup, checkpoint,
    fault::{Fault, Result},
    queue::{self, AppendJob, Command, SettleJob},
    readers::Readers,
    room::Room,
    row, schema, space,
};
use crate::{
    AppendError, StoreError,
    blob::Sha,
    boxed::boxed,
    delivery::{Settlement, Urgency},
    elsewhere,
    journal::{Append, Appended, Limit, Page, Reader},
    prepared::{self, Keep},
    stored_file::StoredFile,
    upkeep::{Appends, Sizes, StoreHealth},
};

impl Engine {
    pub(crate) fn head(&self) -> watch::Receiver<Position> {
        self.shared.head.subscribe()
    }

    pub(crate) fn health(&self) -> watch::Receiver<StoreHealth> {
        self.shared.health.subscribe()
    }

    pub(crate) async fn append(&self, append: Append) -> Result<Vec<Appended>, AppendError> {
        let unavailable = |reason: String| AppendError::Unavailable { reason };
        if append.events.is_empty() {
            return Ok(Vec::new());
        }
        let count_busy = |error: &AppendError| {
            if matches!(error, AppendError::Busy { .. }) {
                self.shared.metrics.busy.add(1);
            }
        };
        let job = |ready: prepared::Ready| {
            let (answer, answered) = oneshot::channel();
            let prepared::Ready { events, body, weight, .. } = ready;
            let weight = self.shared.queue.counted(weight);
            (AppendJob { events, body, weight, answer, outcome: None }, answered)
        };
        let answered = if prepared::has_large_parts(&append, self.inline_limit) {
            // Nothing is written to the blob folder for what could not be taken anyway.
            if let Appends::Stopped { reason } = &self.shared.health.borrow().appends {
                return Err(unavailable(reason.clone()));
            }
            let weight = self.shared.queue.counted(prepared::weight(&append));
            let room = Room::reserve(&self.shared, weight).inspect_err(count_busy)?;
            let limit = self.inline_limit;
            let in_bucket = self.shared.bucket.is_some();
            let prepare = move || {
                let keep =
                    if in_bucket { Keep::InMemory } else { Keep::InFolder(&room.shared.blobs) };
                // With the room: a caller that goes away does not end it.
                prepared::prepare(append, Some((keep, limit))).map(|ready| (ready, room))
            };
            let (ready, room) = self
                .off_thread(prepare)
                .await
                .map_err(|error| unavailable(error.to_string()))?
                .map_err(|error| unavailable(format!("the blob folder: {error}")))?;
            if let Some(bucket) = &self.shared.bucket {
                let kept = boxed(elsewhere::keep(self, bucket, &ready.contents)).await;
                kept.map_err(|error| unavailable(error.to_string()))?;
            }
            let (job, answered) = job(ready);
            room.use_for(job)?;
            answered
        } else {
            let ready =
                prepared::prepare(append, None).map_err(|error| unavailable(error.to_string()))?;
            let (job, answered) = job(ready);
            self.shared.queue.append(job).inspect_err(count_busy)?;
            answered
        };
        answered.await.unwrap_or_else(|_| Err(unavailable("it was closed".to_owned())))
    }

    pub(crate) async fn settle(
        &self,
        settlements: Vec<Settlement>,
        urgency: Urgency,
    ) -> Result<(), StoreError> {
        #[cfg(feature = "simulation")]
        let settlements = {
            let mut settlements = settlements;
            if let Some(simulation) = &self.shared.simulation {
                simulation.bend(&mut settlements, self.shared.head());
            }
            settlements
        };
        let (answer, answered) = oneshot::channel();
        self.shared.queue.settle(SettleJob {
            settlements,
            urgency,
            arrived: Instant::now(),
            answer,
            refused: None,
        })?;
        answered.await.unwrap_or_else(|_| Err(queue::closed()))
    }

    /// Does `change` in the next commit and gives its result once that is durable. It runs a
    /// second time if its transaction has to.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        change: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (call, answered) = Call::with_answer(change);
        self.shared.queue.command(call)?;
        answered.await.unwrap_or_else(|_| Err(queue::closed()))
    }

    /// What is to be written about subscribers, as a simulated fault leaves it.
    #[cfg(feature = "simulation")]
    pub(crate) fn bent(
        &self,
        mut advances: Vec<(zapbus_event::SubscriberId, crate::Advance)>,
    ) -> Vec<(zapbus_event::SubscriberId, crate::Advance)> {
        if let Some(simulation) = &self.shared.simulation {
            simulation.bend_advances(&mut advances);
        }
        advances
    }

    /// [`Engine::write`] for one small step of something long: one of them per commit.
    pub(crate) async fn write_step<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (call, answered) = Call::with_answer(step);
        self.shared.queue.upkeep(call)?;
        answered.await.unwrap_or_else(|_| Err(queue::closed()))
    }

    /// Reads on one of the read connections, away from the async threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(View<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reading = Reading { shared: Arc::clone(&self.shared), readers: self.readers.clone() };
        self.readers.in_turn(move |place| reading.ask(place, question)).await
    }

    /// Does what blocks away from the async threads.
    pub(super) async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        #[cfg(feature = "simulation")]
        if self.is_simulated() {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await
    }

    /// Opens a file of the folder.
    pub(crate) async fn open_file(&self, sha: Sha, bytes: u64) -> Result<StoredFile, StoreError> {
        let shared = Arc::clone(&self.shared);
        let opened = self.off_thread(move || shared.blobs.open(&sha)).await;
        let opened = opened.map_err(|error| Fault::Broken(error.to_string()))?;
        match opened {
            Ok(file) => Ok(StoredFile::in_folder(file, bytes)),
            Err(error) => {
                let name = hex::encode(sha);
                Err(Fault::malformed(format!("blob {name} cannot be read: {error}")).into())
            }
        }
    }

    pub(crate) fn tail_after(&self, of: Reader, after: Position, limit: Limit) -> Option<Page> {
        let directory = matches!(of, Reader::Account(_)).then(|| self.shared.directory());
        let account_of = |instance: InstanceId| directory.as_ref()?.account_of(instance);
        self.shared.tail().after(of, after, limit, account_of)
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn request_backup(&self, request: backup::Request) {
        self.shared.backups.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
    }

    pub(crate) async fn sizes(&self) -> Result<Sizes, StoreError> {
        let path = schema::database(&self.data_dir);
        self.read(move |view| {
            let pragma = |name: &str| -> Result<u64> {
                let value = view.conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
                Ok(row::count(value))
            };
            let page = pragma("page_size")?;
            let (pages, unused) = (pragma("page_count")?, pragma("freelist_count")?);
            let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
            Ok(Sizes {
                database: length(&path),
                used: page * pages.saturating_sub(unused),
                wal: length(&checkpoint::wal(&path)),
                blobs: view.shared.blobs.stored().load(std::sync::atomic::Ordering::Relaxed),
                free: space::free(&path).unwrap_or(0),
            })
        })
        .await
    }
}

/// What a read needs of the engine.
struct Reading {
    shared: Arc<Shared>,
    readers: Readers,
}

impl Reading {
    async fn ask<T: Send + 'static>(
        self,
        place: OwnedSemaphorePermit,
        question: impl FnOnce(View<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Self { shared, readers } = self;
        #[cfg(feature = "simulation")]
        let simulation = shared.simulation.clone();
        let ask = move || {
            // A caller that goes away does not end it: it counts for as long as it runs.
            let _place = place;
            let conn = readers.take()?;
            let answer = question(View { conn: &conn, shared: &shared });
            // A connection that saw an error is not trusted with the next question.
            if answer.as_ref().err().is_none_or(Fault::is_local) {
                readers.put_back(conn);
            }
            answer
        };
        #[cfg(feature = "simulation")]
        if let Some(simulation) = simulation {
            simulation.read_pause().await;
            let answer = ask();
            simulation.read_pause().await;
            return answer.map_err(StoreError::from);
        }
        tokio::task::spawn_blocking(ask)
            .await
            .unwrap_or_else(|error| Err(Fault::Broken(error.to_string())))
            .map_err(StoreError::from)
    }
}

/// A change with the caller who waits for it.
pub(super) struct Call<F, T> {
    change: F,
    result: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Call<F, T>
where
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    pub(super) fn with_answer(
        change: F,
    ) -> (Box<dyn Command>, oneshot::Receiver<Result<T, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        (Box::new(Self { change, result: None, answer }), answered)
    }
}

impl<F, T> Command for Call<F, T>
where
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send,
    T: Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        self.result = Some(Ok((self.change)(tx)?));
        Ok(())
    }

    fn refuse(&mut self, error: StoreError) {
        self.result = Some(Err(error));
    }

    fn answer(self: Box<Self>, unavailable: Option<StoreError>) {
        let result = match unavailable {
            Some(error) => Err(error),
            None => self.result.unwrap_or_else(|| Err(queue::closed())),
        };
        // A caller that went away needs no answer.
        let _ = self.answer.send(result);
    }
}
