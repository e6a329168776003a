//! What must hold: after every step what is cheap to see, after every crash what the cursors say,
//! and in the end, when all is well again, everything.
//!
//! What live consumers were promised is checked in `subscribers.rs`, as their frames come.

use std::{collections::HashSet, time::Duration};

use http::Method;
use serde_json::json;
use zapbus_event::{DestinationId, Position};
use zapbus_store::{
    DeadReason, Delivery, DeliveryId, DeliveryQuery, Health, LIVE, LaneId, Limit, Reader, ShardId,
    State, Status, StoreError,
};

use crate::{
    driver::Driver,
    erasing::is_lost,
    node::Node,
    world::{Inner, Posted, Replay, Target, Will},
};

/// No event in the simulation is larger.
const LARGEST: usize = 16 << 10;

/// Looks until everything has drained, in the end.
const LOOKS: u32 = 400;

/// Asks again until the store answers.
macro_rules! ask {
    ($question:expr) => {{
        let mut answer = $question.await;
        while let Err(StoreError::Unavailable { .. }) = &answer {
            tokio::time::sleep(Duration::from_millis(100)).await;
            answer = $question.await;
        }
        answer.expect("the store answers")
    }};
}

impl Driver {
    /// Memory is bounded, and so is what is under way.
    pub(crate) fn check_bounds(&self, node: &Node) {
        let metrics = node.app.store.metrics();
        let in_flight = node.app.telemetry.in_flight.get();
        let mut wrong = Vec::new();
        if metrics.tail_bytes.get() > self.bounds.tail_bytes as u64 {
            wrong.push(format!("the tail holds {} bytes", metrics.tail_bytes.get()));
        }
        // One append that is larger than the bound passes alone.
        if metrics.queue_bytes.get() > self.bounds.queue_bytes as u64 + (128 << 10) {
            wrong.push(format!("{} bytes wait to be written", metrics.queue_bytes.get()));
        }
        // Each lane that is awake may read so much without asking, and one event whatever its size.
        let awake = self.world.lock().targets.len();
        let allowed = self.bounds.lanes.read_ahead_bytes + awake * ((64 << 10) + LARGEST);
        let read_ahead = node.app.telemetry.read_ahead.get();
        if usize::try_from(read_ahead).is_ok_and(|bytes| bytes > allowed) || read_ahead < 0 {
            wrong.push(format!("lanes have read {read_ahead} bytes ahead, {allowed} are allowed"));
        }
        if in_flight < 0 {
            wrong.push(format!("{in_flight} sends in flight"));
        }
        let world = &mut *self.world.lock();
        let flying: u32 = world.targets.iter().map(|target| target.flying).sum();
        if flying > self.bounds.lanes.max_in_flight {
            wrong.push(format!("{flying} sends at once on the node"));
        }
        wrong.into_iter().for_each(|what| world.violated(what));
    }

    /// A cursor passes only what is settled, skipped, or held in a row.
    pub(crate) async fn check_cursors(&self, node: &Node) {
        let count = self.world.lock().targets.len();
        for at in 0..count {
            let Some(id) = self.id_of(at) else { continue };
            let lane = LaneId { destination: id, run: LIVE };
            let Some(start) = ask!(node.app.store.lane(lane)) else { continue };
            let (owed, label) = {
                let world = self.world.lock();
                let target = &world.targets[at];
                if target.deleted || target.doubtful || target.busy {
                    continue;
                }
                let passed = |n: &usize| {
                    let seq = world.events[*n].seq;
                    let arrived = target.arrivals.get(&(LIVE, *n));
                    seq.is_some_and(|seq| seq <= start.cursor.0)
                        && arrived.is_none_or(|arrival| !arrival.accepted)
                };
                let owed: Vec<(usize, u64)> = world
                    .owed(target)
                    .into_iter()
                    .filter(passed)
                    .filter_map(|n| Some((n, world.events[n].seq?)))
                    .collect();
                (owed, target.label.clone())
            };
            let lost = self.lost(node, id).await;
            for (n, seq) in owed {
                if is_lost(&lost, LIVE, seq) {
                    continue;
                }
                let id = DeliveryId { lane, shard: ShardId::default(), seq: Position(seq) };
                if ask!(node.app.store.delivery(id)).is_some() {
                    continue;
                }
                let world = &mut *self.world.lock();
                // It may have been accepted, or somebody may have changed their mind, meanwhile.
                let target = &world.targets[at];
                let accepted = target.arrivals.get(&(LIVE, n)).is_some_and(|it| it.accepted);
                if self.may_be_buried(target, n) {
                    continue;
                }
                if !accepted && !target.busy && world.owed(target).contains(&n) {
                    let cursor = start.cursor.0;
                    let (event, wishes) = (&world.events[n], &target.wishes);
                    let why =
                        format!("{label} is owed {event:?} by {wishes:?}, since {}", target.since);
                    world.trace.note(&why);
                    world.violated(format!("{label}: cursor {cursor} has passed sim-{n} at {seq}"));
                }
            }
        }
    }

    fn id_of(&self, at: usize) -> Option<DestinationId> {
        self.world.lock().targets[at].id.as_deref()?.parse().ok()
    }

    pub(crate) async fn log_of(
        &self,
        node: &Node,
        id: DestinationId,
        status: &[Status],
    ) -> Vec<Delivery> {
        let query = DeliveryQuery {
            destination: Some(id),
            status: status.to_vec(),
            ..DeliveryQuery::default()
        };
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = ask!(node.app.store.search(query.clone(), after, 200));
            rows.extend(page.deliveries);
            match page.next {
                Some(next) => after = Some(next),
                None => return rows,
            }
        }
    }

    /// A life has begun: a lane that was probing goes on with its outage, any other may have
    /// forgotten one.
    pub(crate) async fn allow_deaths(&self, node: &Node) {
        let count = self.world.lock().targets.len();
        for at in 0..count {
            let Some(id) = self.id_of(at) else { continue };
            let status = node.app.lanes.status(id).await;
            let goes_on = status.is_some_and(|it| matches!(it.health, Health::Probing { .. }));
            self.world.lock().targets[at].deaths_allowed += u64::from(!goes_on);
        }
    }

    /// An outage costs at most one event.
    pub(crate) async fn check_deaths(&self, node: &Node) {
        let count = self.world.lock().targets.len();
        for at in 0..count {
            let Some(id) = self.id_of(at) else { continue };
            let rows = self.log_of(node, id, &[Status::Dead]).await;
            let is_death =
                |row: &&Delivery| row.state == State::Dead { reason: DeadReason::Attempts };
            let deaths = rows.iter().filter(is_death).count() as u64;
            let world = &mut *self.world.lock();
            let target = &mut world.targets[at];
            if target.bulk {
                continue;
            }
            // Between two of them something must have been accepted.
            let allowed = target.accepted + target.deaths_allowed;
            if deaths > allowed {
                let (label, accepted) = (target.label.clone(), target.accepted);
                world.violated(format!("{label}: {deaths} died, {accepted} were accepted"));
            }
        }
    }

    /// All is well from now on: everything must drain.
    pub(crate) async fn heal(&mut self, node: &Node) {
        self.note("all is well from now on");
        let calm = zapbus_store::simulation::Temper { failing: 0, ..self.temper };
        self.simulation.set_temper(calm);
        self.world.lock().healed = true;
        self.wait(Duration::from_secs(400)).await;
        let under_way = self.world.lock().under_way;
        if under_way > 0 {
            self.world.lock().violated(format!("{under_way} requests were never answered"));
            return;
        }
        self.end_all(node).await;
        let count = self.world.lock().targets.len();
        for at in 0..count {
            if self.world.lock().targets[at].doubtful {
                self.ask(node, at).await;
            }
        }
        for at in 0..count {
            let (path, runs) = {
                let world = self.world.lock();
                let target = &world.targets[at];
                let Some(id) = target.id.as_deref().filter(|_| !target.deleted) else { continue };
                let runs: Vec<u32> = target.runs.keys().copied().collect();
                (format!("/v1/destinations/{id}"), runs)
            };
            {
                let target = &mut self.world.lock().targets[at];
                target.will = Will::Uncertain;
                target.runs.values_mut().for_each(|replay| {
                    if !replay.cancelled {
                        replay.will = Will::Uncertain;
                    }
                });
            }
            let (_, found) = node.request(Method::GET, &path, None).await;
            if found["state"] != "active" {
                let body = json!({ "from": "cursor" });
                let resume = format!("{path}/resume");
                let (status, _) = node.request(Method::POST, &resume, Some(body)).await;
                self.expect(status == 200, "a destination can be resumed");
            }
            self.world.lock().targets[at].will = Will::Active;
            for run in runs {
                let resume = format!("{path}/runs/{run}/resume");
                let _ = node.request(Method::POST, &resume, None).await;
                if let Some(replay) = self.world.lock().targets[at].runs.get_mut(&run)
                    && !replay.cancelled
                {
                    replay.will = Will::Active;
                }
            }
        }
        self.note("everything goes on");
        for look in 0..LOOKS {
            self.wait(Duration::from_secs(31)).await;
            let open = self.open(node).await;
            let Some(open) = open else {
                self.note(&format!("drained after {look} looks"));
                return;
            };
            if look + 1 == LOOKS {
                self.world.lock().violated(format!("never drained: {open}"));
            } else if look > 3 {
                // Schedules may wait for half a day.
                self.wall.jump(3_600_000);
                self.world.lock().forget_rates();
            }
        }
    }

    fn expect(&self, holds: bool, what: &str) {
        if !holds {
            self.world.lock().violated(format!("it does not hold that {what}"));
        }
    }

    /// What is still to be done.
    async fn open(&self, node: &Node) -> Option<String> {
        let count = self.world.lock().targets.len();
        for at in 0..count {
            let Some(id) = self.id_of(at) else { continue };
            if self.world.lock().targets[at].deleted {
                continue;
            }
            let label = self.world.lock().targets[at].label.clone();
            let rows = self.log_of(node, id, &[Status::Retrying, Status::Waiting]).await;
            if let Some(row) = rows.first() {
                let runs = ask!(node.app.store.runs(id));
                let runs: Vec<_> = runs.iter().map(|run| (run.lane.run, run.state)).collect();
                let seen = (row.id.lane.run, row.id.seq, row.state, row.attempts);
                let status = node.app.lanes.status(id).await;
                return Some(format!("{label}: row {seen:?}, runs {runs:?}, {status:?}"));
            }
            let runs = ask!(node.app.store.runs(id));
            if let Some(run) = runs.iter().find(|run| run.state == zapbus_store::RunState::Running)
            {
                return Some(format!("{label}: replay {} at {}", run.lane.run, run.cursor));
            }
            let missing = {
                let world = self.world.lock();
                world.missing(at)
            };
            let lost = self.lost(node, id).await;
            for n in missing {
                let (seq, buried) = {
                    let world = self.world.lock();
                    (world.events[n].seq, self.may_be_buried(&world.targets[at], n))
                };
                let told = buried || seq.is_some_and(|seq| is_lost(&lost, LIVE, seq));
                if !told && !self.is_dead(node, id, n).await {
                    return Some(format!("{label}: sim-{n} was not delivered"));
                }
            }
            let unheard = {
                let world = self.world.lock();
                let target = &world.targets[at];
                target
                    .asked_again
                    .iter()
                    .find(|(run, n, before, begun)| {
                        let replay = target.runs.get(run);
                        let stands = *run != LIVE && replay.is_none_or(|replay| replay.cancelled);
                        let count =
                            target.arrivals.get(&(*run, *n)).map_or(0, |arrival| arrival.count);
                        let event = &world.events[*n];
                        let gone = event.ephemeral || event.erased || self.tight;
                        !stands && !gone && *begun > target.since && count <= *before
                    })
                    .copied()
            };
            if let Some((run, n, ..)) = unheard {
                let row = self.row(node, LaneId { destination: id, run }, n).await;
                let row = row.map(|row| (row.state, row.attempts));
                return Some(format!("{label}: sim-{n} of run {run} was not sent again: {row:?}"));
            }
        }
        None
    }

    async fn is_dead(&self, node: &Node, id: DestinationId, n: usize) -> bool {
        let row = self.row(node, LaneId { destination: id, run: LIVE }, n).await;
        row.is_some_and(|row| matches!(row.state, State::Dead { .. }))
    }

    async fn row(&self, node: &Node, lane: LaneId, n: usize) -> Option<Delivery> {
        let seq = Position(self.world.lock().events[n].seq?);
        ask!(node.app.store.delivery(DeliveryId { lane, shard: ShardId::default(), seq }))
            .map(|(row, _)| row)
    }

    /// The positions of all events that are still stored.
    pub(crate) async fn stored(&self, node: &Node) -> HashSet<u64> {
        let mut stored = HashSet::new();
        let (mut at, everything) = (Position(0), Limit { events: 1_000, bytes: usize::MAX });
        loop {
            let page = ask!(node.app.store.read_after(Reader::All, at, everything));
            stored.extend(page.events.iter().map(|event| event.seq.0));
            at = page.upto;
            if page.at_head {
                break;
            }
        }
        stored
    }

    /// A replay that has come to its end has delivered its stretch: of what is still stored, and so
    /// was there all the time, nothing is missing.
    async fn check_replays(&self, node: &Node) {
        let stored = self.stored(node).await;
        let count = self.world.lock().targets.len();
        for at in 0..count {
            let Some(id) = self.id_of(at) else { continue };
            let missing: Vec<(u32, usize)> = {
                let world = self.world.lock();
                let target = &world.targets[at];
                if target.deleted {
                    continue;
                }
                let done = target.runs.iter().filter(|(_, replay)| !replay.cancelled);
                done.flat_map(|(run, replay)| {
                    let missing = world.missing_in(target, *run, replay, &stored);
                    missing.into_iter().map(|n| (*run, n))
                })
                .collect()
            };
            let lost = self.lost(node, id).await;
            for (run, n) in missing {
                let seq = self.world.lock().events[n].seq;
                let excused = seq.is_some_and(|seq| is_lost(&lost, run, seq));
                // A person who resumes from now calls off what replays were trying again, too. Of an
                // event that somebody is still owed, rows that are done may be pruned before it.
                let row = self.row(node, LaneId { destination: id, run }, n).await;
                let told = match row {
                    Some(row) => matches!(row.state, State::Dead { .. } | State::Cancelled),
                    None => self.world.lock().pruned,
                };
                if !excused && !told {
                    let world = &mut *self.world.lock();
                    let label = &world.targets[at].label;
                    world.violated(format!("{label}: replay {run} has left out sim-{n}"));
                }
            }
        }
    }

    /// The log says what the endpoints saw.
    pub(crate) async fn check_all(&self, node: &Node) {
        self.check_cursors(node).await;
        self.check_deaths(node).await;
        self.check_replays(node).await;
        let count = self.world.lock().targets.len();
        for at in 0..count {
            let Some(id) = self.id_of(at) else { continue };
            let rows = self.log_of(node, id, &[]).await;
            let world = &mut *self.world.lock();
            let mut wrong = Vec::new();
            for row in rows {
                let (run, seq) = (row.id.lane.run, row.id.seq);
                let Some(n) = world.number_at(seq) else { continue };
                let arrival = world.targets[at].arrivals.get(&(run, n));
                let (came, accepted) =
                    arrival.map_or((0, false), |arrival| (arrival.count, arrival.accepted));
                let label = &world.targets[at].label;
                if row.state == State::Delivered && !accepted {
                    wrong.push(format!(
                        "{label}: the log says that sim-{n} was delivered (run {run})"
                    ));
                }
                if row.attempts > came {
                    let attempts = row.attempts;
                    wrong.push(format!("{label}: the log says that sim-{n} was tried {attempts} times, it came {came} times"));
                }
            }
            wrong.into_iter().for_each(|what| world.violated(what));
        }
    }
}

impl Inner {
    /// Stored events of a replay's stretch that it ought to have delivered, and has not.
    fn missing_in(
        &self,
        target: &Target,
        run: u32,
        replay: &Replay,
        stored: &HashSet<u64>,
    ) -> Vec<usize> {
        let is_missing = |n: usize, event: &Posted| {
            let Some(seq) = event.seq.filter(|seq| stored.contains(seq)) else { return false };
            let inside = seq > replay.from && seq <= replay.to;
            let own = target.instance.is_none_or(|instance| instance == event.instance);
            let wanted = replay.filter.matches(event.kind, None) && !event.ephemeral;
            let accepted = target.arrivals.get(&(run, n)).is_some_and(|it| it.accepted);
            inside && own && wanted && !event.erased && !accepted
        };
        let events = self.events.iter().enumerate();
        events.filter(|(n, event)| is_missing(*n, event)).map(|(n, _)| n).collect()
    }

    /// Events that a target was owed and that it has not accepted.
    fn missing(&self, at: usize) -> Vec<usize> {
        let target = &self.targets[at];
        let accepted = |n: &usize| target.arrivals.get(&(LIVE, *n)).is_some_and(|it| it.accepted);
        self.owed(target).into_iter().filter(|n| !accepted(n)).collect()
    }
}
