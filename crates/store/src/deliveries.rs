//! The lanes' and the delivery log's part of the handle.

use serde_json::Value;
use zapbus_event::{DestinationId, Filter, Position, Timestamp};

use crate::{
    Actor, Attempt, BulkRedelivery, Delivery, DeliveryId, DeliveryPage, DeliveryQuery, DueRow,
    Engine, LaneId, LaneStart, LaneStats, Remember, Result, Run, RunCount, RunState, Settlement,
    ShardId, ShardStart, Store, Stretch, Urgency,
    boxed::boxed,
    delivery::Redelivery,
    sqlite::{accounts, lanes, redeliver, runs, search},
    statistics::Tally,
};

/// Deliveries set due in one commit.
const REDELIVERED_AT_ONCE: usize = 200;

impl Store {
    /// What a lane needs to start. `None`: no such destination or run.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn lane(&self, lane: LaneId) -> Result<Option<LaneStart>> {
        self.lane_in(lane, ShardId::default()).await
    }

    /// [`Store::lane`] in one shard, for a destination of a whole account.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn lane_in(&self, lane: LaneId, shard: ShardId) -> Result<Option<LaneStart>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| lanes::lane(view, lane)).await,
            Engine::Postgres(engine) => boxed(engine.lane(lane, shard)).await,
        }
    }

    /// What a lane needs to start in every shard that its destination's events are in: one, or for
    /// a destination of a whole account all of them, in order. `None`: no such destination or run.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn lane_starts(&self, lane: LaneId) -> Result<Option<Vec<ShardStart>>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| lanes::starts(view, lane)).await,
            Engine::Postgres(engine) => boxed(engine.lane_starts(lane)).await,
        }
    }

    /// Where a lane stands in every shard that its destination's events are in, in order. Empty: no
    /// such destination or run.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn cursors(&self, lane: LaneId) -> Result<Vec<(ShardId, Position)>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| lanes::cursors(view, lane)).await,
            Engine::Postgres(engine) => boxed(engine.cursors(lane)).await,
        }
    }

    /// Runs of a destination that have `retrying` or `waiting` rows, the live one included.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn runs_with_rows(&self, destination: DestinationId) -> Result<Vec<u32>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| lanes::runs_with_rows(view, destination)).await
            }
            Engine::Postgres(engine) => boxed(engine.runs_with_rows(destination)).await,
        }
    }

    /// Writes what lanes have to say, all of it in one commit. Durable when it returns. What
    /// belongs to a destination that was deleted is left out.
    ///
    /// # Errors
    /// When the store cannot write: keep the outcomes and say them again.
    pub async fn settle(&self, settlements: Vec<Settlement>, urgency: Urgency) -> Result<()> {
        let outcomes = Tally::outcomes(&settlements);
        match &self.engine {
            Engine::Sqlite(engine) => engine.settle(settlements, urgency).await?,
            Engine::Postgres(engine) => boxed(engine.settle(settlements, urgency)).await?,
        }
        self.tally.settled(&outcomes, self.now());
        Ok(())
    }

    /// Retrying rows due by `until`, by due time, then position.
    ///
    /// # Errors
    /// When the database cannot be read or the destination is gone.
    pub async fn due(&self, lane: LaneId, until: Timestamp, limit: usize) -> Result<Vec<DueRow>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| lanes::due(view, lane, until, limit)).await
            }
            Engine::Postgres(engine) => boxed(engine.due(lane, until, limit)).await,
        }
    }

    /// When the first retrying row of a lane is due.
    ///
    /// # Errors
    /// When the database cannot be read or the destination is gone.
    pub async fn next_due(&self, lane: LaneId) -> Result<Option<Timestamp>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| lanes::next_due(view, lane)).await,
            Engine::Postgres(engine) => boxed(engine.next_due(lane)).await,
        }
    }

    /// Waiting rows of one ordering key, by position.
    ///
    /// # Errors
    /// When the database cannot be read or the destination is gone.
    pub async fn waiting(&self, lane: LaneId, key: u64, limit: usize) -> Result<Vec<DueRow>> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| lanes::waiting(view, lane, key, limit)).await
            }
            Engine::Postgres(engine) => boxed(engine.waiting(lane, key, limit)).await,
        }
    }

    /// Every lane that has retrying rows, with the earliest time one is due.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn lanes_due(&self) -> Result<Vec<(LaneId, Timestamp)>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(lanes::lanes_due).await,
            Engine::Postgres(engine) => boxed(engine.lanes_due()).await,
        }
    }

    /// Where a lane stands, in numbers.
    ///
    /// # Errors
    /// When the database cannot be read or the lane is gone.
    pub async fn lane_stats(&self, lane: LaneId) -> Result<LaneStats> {
        self.lane_stats_in(lane, ShardId::default()).await
    }

    /// [`Store::lane_stats`] with the cursor and the oldest event of one shard, for a destination of
    /// a whole account.
    ///
    /// # Errors
    /// When the database cannot be read or the lane is gone.
    pub async fn lane_stats_in(&self, lane: LaneId, shard: ShardId) -> Result<LaneStats> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| lanes::lane_stats(view, lane)).await,
            Engine::Postgres(engine) => boxed(engine.lane_stats(lane, shard)).await,
        }
    }

    /// A page of the delivery log, newest first. `after` is the `next` of the page before.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn search(
        &self,
        query: DeliveryQuery,
        after: Option<u64>,
        limit: usize,
    ) -> Result<DeliveryPage> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| search::search(view, &query, after, limit)).await
            }
            Engine::Postgres(engine) => boxed(engine.search(&query, after, limit)).await,
        }
    }

    /// A delivery with its attempts, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<(Delivery, Vec<Attempt>)>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| search::delivery(view, id)).await,
            Engine::Postgres(engine) => boxed(engine.delivery(id)).await,
        }
    }

    /// Sends a delivery again: it becomes a retrying row that is due now.
    ///
    /// # Errors
    /// [`crate::StoreError::EventExpired`] when its event is no longer stored,
    /// [`crate::StoreError::Refused`] when it belongs to a replay that was cancelled.
    pub async fn redeliver(&self, id: DeliveryId, now: Timestamp, actor: &Actor) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine.write(move |tx| redeliver::redeliver(tx, id, now, &actor)).await
            }
            Engine::Postgres(engine) => boxed(engine.redeliver(id, now, actor)).await,
        }
    }

    /// Sends again, or with `dry_run` only counts, up to `limit` deliveries that match, from the
    /// newest on, or after the `next` of an earlier call. In steps.
    ///
    /// # Errors
    /// When the store cannot write; steps done until then stay done.
    pub async fn redeliver_where(
        &self,
        query: DeliveryQuery,
        mut after: Option<u64>,
        limit: usize,
        dry_run: bool,
        now: Timestamp,
        actor: &Actor,
    ) -> Result<BulkRedelivery> {
        let mut done = BulkRedelivery::default();
        loop {
            let left = limit.saturating_sub(usize::try_from(done.matched).unwrap_or(usize::MAX));
            if left == 0 {
                // Whether anything is left only another look tells.
                let page = self.search(query.clone(), after, 1).await?;
                done.more = !page.deliveries.is_empty() || page.next.is_some();
                done.next = after.filter(|_| done.more);
                return Ok(done);
            }
            let page = self.search(query.clone(), after, left.min(REDELIVERED_AT_ONCE)).await?;
            let mut found = page.deliveries;
            let cut = found.len() > left;
            if cut {
                // A page holds all deliveries of an event: what does not fit comes with the next.
                done.next = fit(&mut found, left, after.filter(|_| done.matched > 0));
                done.more = true;
            }
            self.redeliver_page(found, dry_run, now, actor, &mut done).await?;
            match page.next {
                _ if cut => return Ok(done),
                Some(next) => after = Some(next),
                None => return Ok(done),
            }
        }
    }

    async fn redeliver_page(
        &self,
        found: Vec<Delivery>,
        dry_run: bool,
        now: Timestamp,
        actor: &Actor,
        done: &mut BulkRedelivery,
    ) -> Result<()> {
        done.matched += found.len() as u64;
        let gone = found.iter().filter(|delivery| delivery.event.is_none()).count();
        done.expired += gone as u64;
        let ids: Vec<DeliveryId> = found
            .iter()
            .filter(|delivery| delivery.event.is_some())
            .map(|delivery| delivery.id)
            .collect();
        if dry_run || ids.is_empty() {
            return Ok(());
        }
        let lanes: Vec<LaneId> = ids.iter().map(|id| id.lane).collect();
        let outcomes = match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write_step(move |tx| redeliver::redeliver_some(tx, &ids, now, &actor))
                    .await?
            }
            Engine::Postgres(engine) => boxed(engine.redeliver_some(&ids, now, actor)).await?,
        };
        for (lane, outcome) in lanes.into_iter().zip(outcomes) {
            match outcome {
                Redelivery::Due => {
                    done.redelivered += 1;
                    if !done.lanes.contains(&lane) {
                        done.lanes.push(lane);
                    }
                }
                Redelivery::Expired => done.expired += 1,
                Redelivery::CalledOff | Redelivery::None => {}
            }
        }
        Ok(())
    }

    /// Starts a replay. It ends at the live cursor in the commit that makes it, or before, so that
    /// it sends nothing that live delivery will send.
    ///
    /// # Errors
    /// When the destination is gone or has too many unfinished replays.
    pub async fn create_run(
        &self,
        destination: DestinationId,
        stretch: impl Into<Stretch>,
        filter: Filter,
        actor: &Actor,
    ) -> Result<Run> {
        let stretch = stretch.into();
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine
                    .write(move |tx| runs::create_run(tx, destination, stretch, &filter, &actor))
                    .await
            }
            Engine::Postgres(engine) => {
                let none = None::<(Remember, fn(&Run) -> Value)>;
                boxed(engine.create_run(destination, stretch, &filter, actor, none)).await
            }
        }
    }

    /// [`Store::create_run`] for a request with an `Idempotency-Key`: what `answer` makes of the
    /// replay is kept with the key, in the commit that makes it.
    ///
    /// # Errors
    /// [`crate::StoreError::Exists`] when the key came before.
    pub async fn create_run_once(
        &self,
        destination: DestinationId,
        stretch: impl Into<Stretch>,
        filter: Filter,
        actor: &Actor,
        remember: Remember,
        answer: impl Fn(&Run) -> Value + Send + 'static,
    ) -> Result<Run> {
        let stretch = stretch.into();
        let engine = match &self.engine {
            Engine::Sqlite(engine) => engine,
            Engine::Postgres(engine) => {
                let remember = Some((remember, answer));
                return boxed(engine.create_run(destination, stretch, &filter, actor, remember))
                    .await;
            }
        };
        let actor = actor.clone();
        engine
            .write(move |tx| {
                let run = runs::create_run(tx, destination, stretch, &filter, &actor)?;
                let remember = Remember { answer: answer(&run), ..remember.clone() };
                accounts::keep_answer(tx, Some(&remember))?;
                Ok(run)
            })
            .await
    }

    /// How much a replay would send.
    ///
    /// # Errors
    /// When the destination is gone.
    pub async fn count_run(
        &self,
        destination: DestinationId,
        stretch: impl Into<Stretch>,
        filter: Filter,
    ) -> Result<RunCount> {
        let stretch = stretch.into();
        match &self.engine {
            Engine::Sqlite(engine) => {
                engine.read(move |view| runs::count_run(view, destination, stretch, &filter)).await
            }
            Engine::Postgres(engine) => {
                boxed(engine.count_run(destination, stretch, &filter)).await
            }
        }
    }

    /// All replays of a destination, oldest first.
    ///
    /// # Errors
    /// When the destination is gone.
    pub async fn runs(&self, destination: DestinationId) -> Result<Vec<Run>> {
        self.runs_in(destination, ShardId::default()).await
    }

    /// [`Store::runs`] as they stand in one shard, for a destination of a whole account: each shard
    /// has a stretch of its own.
    ///
    /// # Errors
    /// When the destination is gone.
    pub async fn runs_in(&self, destination: DestinationId, shard: ShardId) -> Result<Vec<Run>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(move |view| runs::runs(view, destination)).await,
            Engine::Postgres(engine) => boxed(engine.runs(destination, shard)).await,
        }
    }

    /// Replays that are to go on at a start.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn running(&self) -> Result<Vec<LaneId>> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(runs::running).await,
            Engine::Postgres(engine) => boxed(engine.running()).await,
        }
    }

    /// Pauses, resumes, finishes or cancels a replay. Cancelling calls off its rows.
    ///
    /// # Errors
    /// When there is no such replay or it is over.
    pub async fn set_run_state(&self, lane: LaneId, state: RunState, actor: &Actor) -> Result<Run> {
        match &self.engine {
            Engine::Sqlite(engine) => {
                let actor = actor.clone();
                engine.write(move |tx| runs::set_run_state(tx, lane, state, &actor)).await
            }
            Engine::Postgres(engine) => boxed(engine.set_run_state(lane, state, actor)).await,
        }
    }
}

/// Cuts a page to `limit`, at the end of an event's deliveries where that is possible. Where the
/// rest begins, if that can be said; `begin` is where the page began, if there was one before.
fn fit(found: &mut Vec<Delivery>, limit: usize, begin: Option<u64>) -> Option<u64> {
    let first_left = found.get(limit)?.id.seq;
    found.truncate(limit);
    let whole = found.iter().position(|delivery| delivery.id.seq == first_left)?;
    if whole > 0 || begin.is_some() {
        found.truncate(whole);
    }
    if whole > 0 { found.last().map(|delivery| delivery.id.seq.0) } else { begin }
}
