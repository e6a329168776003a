//! Appending to the journal: one call of a database function for all that has gathered.

mod columns;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_postgres::Row;
use zapbus_event::{Event, InstanceId, Position};

pub(super) use self::columns::{CALL, Columns, placed};
use super::{
    Busy, Engine, Shared, closed, follow, instances, lock,
    pool::Session,
    queue::{AppendJob, Room},
    state,
};
use crate::{
    AppendError, ShardId, blob,
    boxed::boxed,
    elsewhere,
    fault::{Fault, Result},
    journal::{Append, Appended},
    prepared::{self, Prepared, key_hash},
};

/// How often a call is made anew that had to give way, or found that the database has lost events.
const TRIES: usize = 5;

impl Engine {
    pub(crate) async fn append(&self, append: Append) -> Result<Vec<Appended>, AppendError> {
        let unavailable = |reason: String| AppendError::Unavailable { reason };
        if append.events.is_empty() {
            return Ok(Vec::new());
        }
        if self.shared.is_closed() {
            return Err(unavailable(closed().to_string()));
        }
        if let Some(reason) = self.shared.stopped() {
            return Err(unavailable(reason));
        }
        self.check_instances(&append).await?;
        // Each part keeps it until it is written: also when nobody waits for that any more.
        let room = Arc::new(Room::reserve(&self.shared, prepared::weight(&append))?);
        let count = append.events.len();
        let mut parts = self.split(append, &room);
        drop(room);
        if let Some(bucket) = &self.shared.bucket {
            for (.., job, _) in &mut parts {
                let kept = boxed(elsewhere::keep(self, bucket, &job.contents)).await;
                kept.map_err(|error| unavailable(error.to_string()))?;
                // Their rows are there, and only counted on.
                job.contents.iter_mut().for_each(|(_, content)| content.clear());
            }
        }
        let mut answers = Vec::with_capacity(parts.len());
        // One after the other, in the order of shards: a repeat finds what was stored.
        for (shard, indexes, job, answered) in parts {
            self.shared.enqueue(shard, job);
            let answer =
                answered.await.unwrap_or_else(|_| Err(unavailable("it was closed".to_owned())));
            let appended = answer.map_err(|error| match error {
                AppendError::UnknownInstance { index } => AppendError::UnknownInstance {
                    index: indexes.get(index).copied().unwrap_or(index),
                },
                other => other,
            })?;
            answers.push((indexes, appended));
        }
        let mut all: Vec<Option<Appended>> = vec![None; count];
        for (indexes, appended) in answers {
            for (index, appended) in indexes.into_iter().zip(appended) {
                all[index] = Some(appended);
            }
        }
        all.into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| unavailable("part of it was not written".to_owned()))
    }

    /// An instance may have been made on another node a moment ago.
    async fn check_instances(&self, append: &Append) -> Result<(), AppendError> {
        let unknown = |shared: &Shared| {
            let directory = shared.directory();
            let at = append.events.iter().position(|event| !directory.takes(event.instance));
            at.map(|index| (index, append.events[index].instance))
        };
        let mut asked = HashSet::new();
        while let Some((index, instance)) = unknown(&self.shared) {
            let known = self.shared.directory().get(instance).is_some();
            if known || !asked.insert(instance) {
                return Err(AppendError::UnknownInstance { index });
            }
            let looked = async {
                let session = self.shared.pool.session().await?;
                instances::refresh(&self.shared, &session, instance).await
            };
            looked.await.map_err(|fault| AppendError::Unavailable { reason: fault.reason() })?;
        }
        Ok(())
    }

    /// By shard, with everything done that needs no database.
    #[expect(clippy::type_complexity, reason = "used at once, in one place")]
    fn split(
        &self,
        append: Append,
        room: &Arc<Room>,
    ) -> Vec<(ShardId, Vec<usize>, AppendJob, oneshot::Receiver<Result<Vec<Appended>, AppendError>>)>
    {
        let limit = self.shared.inline_limit;
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let body: Option<([u8; 32], Bytes)> =
                append.body.map(|body| (prepared::sha256(&body), body));
            let mut parts: BTreeMap<ShardId, (Vec<usize>, Vec<Prepared>, Vec<([u8; 32], Bytes)>)> =
                BTreeMap::new();
            for (index, mut event) in append.events.into_iter().enumerate() {
                let part = parts.entry(shared.shard_of(event.instance)).or_default();
                let contents = &mut part.2;
                // Keeping in memory does not fail.
                let keep = &mut prepared::into_memory(contents);
                let blobs = blob::extract(&mut event.draft, limit, keep).unwrap_or_default();
                let keys =
                    event.draft.keys.iter().map(|key| key_hash(event.instance, key)).collect();
                part.0.push(index);
                part.1.push(Prepared {
                    instance: event.instance,
                    draft: event.draft,
                    keys,
                    blobs,
                    pin: None,
                });
            }
            (parts, body)
        };
        let (parts, body) = work();
        parts
            .into_iter()
            .map(|(shard, (indexes, events, contents))| {
                let (answer, answered) = oneshot::channel();
                let weight = events.iter().map(Prepared::weight).sum();
                let (body, room) = (body.clone(), Arc::clone(room));
                let job = AppendJob { events, contents, body, weight, answer, _room: room };
                (shard, indexes, job, answered)
            })
            .collect()
    }
}

impl Shared {
    fn enqueue(self: &Arc<Self>, shard: ShardId, job: AppendJob) {
        if lock(&self.shard(shard).appends).push(job) {
            let busy = Busy::new(self);
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                let _busy = busy;
                shared.shard(shard).company.notify_one();
                loop {
                    let jobs = lock(&shared.shard(shard).appends).take(shared.batch);
                    if jobs.is_empty() {
                        break;
                    }
                    write(&shared, shard, jobs).await;
                }
            });
        }
    }
}

/// Writes the jobs, if need be in halves until whoever has bad data stands alone.
async fn write(shared: &Arc<Shared>, shard: ShardId, jobs: Vec<AppendJob>) {
    let mut parts = vec![jobs];
    let mut made = false;
    let mut tries = TRIES;
    while let Some(mut jobs) = parts.pop() {
        if jobs.is_empty() {
            continue;
        }
        match attempt(shared, shard, &jobs).await {
            Ok(done) => publish(shared, shard, jobs, done).await,
            Err(Fault::NoPartition) if !made => {
                made = true;
                let found = follow::make_partitions(shared, shard, true).await;
                if let Err(fault) = found {
                    refuse(shared, jobs, &fault);
                    continue;
                }
                parts.push(jobs);
            }
            // Somebody else got through, and is done by now.
            Err(Fault::Conflict(_)) if tries > 0 => {
                tries -= 1;
                parts.push(jobs);
            }
            Err(Fault::WentBack) if tries > 0 => {
                tries -= 1;
                match follow::go_beyond(shared).await {
                    Ok(()) => parts.push(jobs),
                    Err(fault) => refuse(shared, jobs, &fault),
                }
            }
            Err(Fault::TakesNoEvents(instance)) => {
                let rest = turn_away(shared, jobs, instance).await;
                parts.push(rest);
            }
            Err(fault) if fault.is_local() => {
                forget_aliases(shared);
                if jobs.len() == 1 {
                    let reason = fault.reason();
                    for job in jobs {
                        let reason = reason.clone();
                        let _ = job.answer.send(Err(AppendError::Data { reason }));
                    }
                } else {
                    let second = jobs.split_off(jobs.len() / 2);
                    parts.push(second);
                    parts.push(jobs);
                }
            }
            Err(fault) => {
                forget_aliases(shared);
                shared.metrics.failed_commits.add(1);
                refuse(shared, jobs, &fault);
            }
        }
    }
}

/// Address pairs that were noted as known may not be.
fn forget_aliases(shared: &Shared) {
    shared.aliases().forget();
}

fn refuse(shared: &Shared, jobs: Vec<AppendJob>, fault: &Fault) {
    shared.note_fault(fault);
    for job in jobs {
        let reason = fault.reason();
        let _ = job.answer.send(Err(AppendError::Unavailable { reason }));
    }
}

/// Tells those that name an instance which takes no events. Gives the others back.
async fn turn_away(
    shared: &Arc<Shared>,
    jobs: Vec<AppendJob>,
    instance: InstanceId,
) -> Vec<AppendJob> {
    if let Ok(session) = shared.pool.session().await {
        // What is in memory is old: another node has changed it.
        let _ = instances::refresh(shared, &session, instance).await;
    }
    let mut rest = Vec::with_capacity(jobs.len());
    for job in jobs {
        match job.events.iter().position(|event| event.instance == instance) {
            Some(index) => {
                let _ = job.answer.send(Err(AppendError::UnknownInstance { index }));
            }
            None => rest.push(job),
        }
    }
    rest
}

struct Done {
    appended: Vec<Appended>,
    before: Position,
    concerned: Vec<InstanceId>,
}

async fn attempt(shared: &Arc<Shared>, shard: ShardId, jobs: &[AppendJob]) -> Result<Done> {
    let started = Instant::now();
    follow::ensure_partitions(shared, shard).await?;
    let mut calls = vec![Columns::new(shared, shard)];
    let mut concerned = Vec::new();
    for job in jobs {
        let mut body_at = None;
        for prepared in &job.events {
            if calls.last().is_some_and(|call| call.clashes(prepared)) {
                calls.push(Columns::new(shared, shard));
                body_at = None;
            }
            let Some(call) = calls.last_mut() else { continue };
            let body_of = job
                .body
                .as_ref()
                .map(|(sha, body)| *body_at.get_or_insert_with(|| call.body(*sha, body)));
            call.contents(&job.contents);
            let before = call.concerns.len();
            call.push(shared, prepared, body_of)?;
            if call.concerns.len() > before {
                concerned.push(prepared.instance);
            }
        }
    }
    let session = shared.pool.session().await?;
    let rows = run(&session, &calls).await?;
    let mut appended = Vec::new();
    let mut before = None;
    for rows in rows {
        let placed = placed(&rows)?;
        before.get_or_insert(placed.before);
        appended.extend(placed.appended);
    }
    let fresh = appended.iter().filter(|appended| !appended.duplicate).count();
    shared.metrics.observe_commit(started.elapsed(), fresh);
    shared.metrics.events.add(fresh as u64);
    shared.metrics.duplicates.add((appended.len() - fresh) as u64);
    Ok(Done { appended, before: before.unwrap_or_default(), concerned })
}

/// One call commits by itself; several go together.
async fn run(session: &Session, calls: &[Columns<'_>]) -> Result<Vec<Vec<Row>>> {
    match calls {
        [one] => Ok(vec![session.query(CALL, &one.params()).await?]),
        several => {
            let statement = session.prepare(CALL).await?;
            let calls: Vec<_> = several.iter().map(|call| (&statement, call.params())).collect();
            session.risk();
            let rows = session.together(&calls, true).await?;
            session.keep();
            Ok(rows)
        }
    }
}

/// Makes visible what was committed, then answers.
async fn publish(shared: &Arc<Shared>, shard: ShardId, jobs: Vec<AppendJob>, done: Done) {
    let mut appended = done.appended.into_iter();
    let mut answers = Vec::with_capacity(jobs.len());
    let mut events: Vec<Arc<Event>> = Vec::new();
    for job in jobs {
        let own: Vec<Appended> = appended.by_ref().take(job.events.len()).collect();
        for (prepared, placed) in job.events.into_iter().zip(&own) {
            if !placed.duplicate {
                let event =
                    crate::encoding::event_of(prepared, placed.id, placed.seq, placed.received_at);
                events.push(Arc::new(event));
            }
        }
        answers.push((job.answer, own));
    }
    follow::advance(shared, shard, done.before, events).await;
    for (answer, own) in answers {
        // A caller that went away needs no answer: what it brought is stored all the same.
        let _ = answer.send(Ok(own));
    }
    shared.note_answer();
    state::fold_soon(shared, done.concerned);
}
