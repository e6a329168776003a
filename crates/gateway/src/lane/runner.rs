//! A lane that is awake: one task per destination, for its live run and its replays.
//!
//! The decisions are made by pure parts ([`Gate`], [`Track`], [`judge`]); this file moves what
//! they ask for: pages and rows in, attempts out, settlements back.

mod ending;
mod outcome;
mod probing;
mod reading;
mod writing;

use std::{collections::HashSet, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::OptionFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use zapbus_event::{DestinationId, InstanceId, Position, Timestamp};
use zapbus_store::{
    Destination, DueRow, Health, LaneStart, Limit, NewEvent, Page, Reader, Row, RunState, State,
    StoreError,
};

use super::{
    LaneStatus, Shared,
    announce::{self, Voice},
    gate::Gate,
    roster::{Command, Mail, Rest, reader_of},
    send::{Outlet, Sent},
    track::{Origin, Selection, Sending, Task, Track, key_of},
    verdict::{self, EPHEMERAL_LIFE},
};
use crate::{lane::schedule::Schedule, spec::Spec};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A lane may read this much without asking, so that it can always go on.
const FREE_READ: Limit = Limit { events: 64, bytes: 64 << 10 };

/// What it reads at a time when the node's read-ahead has room.
const WIDE_READ: Limit = Limit { events: 1_000, bytes: 512 << 10 };

/// The same, as permits of one KiB.
const WIDE_PERMITS: u32 = 512;

/// Keys among which probes take turns.
const PROBE_KEYS: usize = 8;

/// Rows looked at to choose a probe.
const PROBE_ROWS: usize = 16;

/// Skipped events after which an awake lane writes its cursor, and the time after which it does.
const FLUSH_AFTER: u64 = 10_000;
const FLUSH_EVERY: Duration = Duration::from_secs(60);

/// Writes under way at one time, and the rows that are worth another one while the window is full:
/// what waits for the writer when a commit ends goes with the next, and what comes a moment later
/// with the one after that.
const MAX_WRITES: usize = 4;
const WORTH_A_WRITE: usize = 8;

/// Pause before the store is asked again after it could not answer.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// No sleep is longer: the wall clock may jump, and due times are wall-clock times.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// A replay gets every tenth send at least.
const REPLAY_SHARE: u64 = 10;

/// A result of the store.
enum Read {
    Page { run: u32, after: Position, page: Result<Page, StoreError> },
    Due { run: u32, limit: usize, rows: Result<Vec<DueRow>, StoreError> },
    Probe { run: u32, rows: Result<Vec<DueRow>, StoreError> },
    Waiting { run: u32, key: u64, rows: Result<Vec<DueRow>, StoreError> },
    Held { run: u32, start: Result<Option<LaneStart>, StoreError> },
}

/// What a write carried, to be confirmed or repeated.
struct Write {
    parts: Vec<WritePart>,
    result: Result<(), StoreError>,
}

struct WritePart {
    run: u32,
    rows: Vec<Row>,
    cursor: Option<Position>,
    events: Vec<NewEvent>,
}

/// What the lane is doing with itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Delivering.
    Open,
    /// Its configuration is being changed: nothing new goes out.
    Held,
    /// It ends as soon as nothing is on its way.
    Closing,
}

/// A lane that is awake.
pub(super) struct Lane {
    shared: Arc<Shared>,
    id: DestinationId,
    label: String,
    reader: Reader,
    mail: Arc<Mail>,
    commands: mpsc::UnboundedReceiver<Command>,
    outlet: Outlet,
    schedule: Schedule,
    gate: Gate,
    /// Health as the store has it, if that is certain.
    stored_health: Option<Health>,
    /// Where events about this destination belong.
    notice_instance: InstanceId,
    voice: Voice,
    /// Changes told, not yet written.
    notices: Vec<NewEvent>,
    last_error: Option<String>,
    /// The live run first.
    tracks: Vec<Track>,
    sends: FuturesUnordered<Boxed<Sent>>,
    reads: FuturesUnordered<Boxed<Read>>,
    /// Runs that are to be looked at as soon as the store answers again.
    missed_runs: HashSet<u32>,
    /// Runs with a journal read under way, and with a look for rows under way.
    paging: HashSet<u32>,
    looking: HashSet<u32>,
    /// Under way, in their order.
    writes: FuturesOrdered<Boxed<Write>>,
    /// Not before this, because the store could not answer.
    store_from: Option<Instant>,
    /// That was said already.
    store_troubled: bool,
    /// Rows from which the next probe may be chosen, by run.
    probe_rows: Option<(u32, Vec<DueRow>)>,
    /// Nothing is unsettled: there is nothing to probe with.
    nothing_to_probe: bool,
    read_ahead: Option<OwnedSemaphorePermit>,
    permit: Option<OwnedSemaphorePermit>,
    permit_wait: Option<Boxed<Option<OwnedSemaphorePermit>>>,
    phase: Phase,
    sent_count: u64,
    flushed_at: Instant,
    busy_at: Instant,
}

/// What a destination needs to be delivered to.
pub(super) struct Opened {
    pub(super) destination: Destination,
    pub(super) outlet: Outlet,
    pub(super) schedule: Schedule,
    /// Where events about the destination belong.
    pub(super) notice_instance: InstanceId,
}

impl Lane {
    /// Reads what the lane needs and makes it ready to run.
    pub(super) async fn wake(
        shared: Arc<Shared>,
        opened: Opened,
        cursor: Position,
        rest: Rest,
        runs: &HashSet<u32>,
        mail: Arc<Mail>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<Option<Self>, StoreError> {
        let Opened { destination, outlet, schedule, notice_instance } = opened;
        let id = destination.id;
        let Some(start) = shared.store.lane(super::roster::live(id)).await? else {
            return Ok(None);
        };
        let now = (shared.clock)();
        let spec = &outlet.spec;
        let gate = Gate::new(
            rest.memory,
            spec.max_in_flight,
            spec.rate_limit_per_s,
            shared.patience(spec),
            now,
        );
        let mut lane = Self {
            reader: reader_of(&super::head_of(&destination)),
            label: destination.label.clone(),
            tracks: vec![Track::new(
                super::roster::live(id),
                selection(&destination, spec),
                None,
                &start,
                cursor,
            )],
            shared,
            id,
            mail,
            commands,
            schedule,
            gate,
            stored_health: Some(start.health),
            notice_instance,
            notices: Vec::new(),
            voice: rest.voice,
            last_error: rest.last_error,
            outlet,
            sends: FuturesUnordered::new(),
            reads: FuturesUnordered::new(),
            missed_runs: HashSet::new(),
            paging: HashSet::new(),
            looking: HashSet::new(),
            writes: FuturesOrdered::new(),
            store_from: None,
            store_troubled: false,
            probe_rows: None,
            nothing_to_probe: false,
            read_ahead: None,
            permit: None,
            permit_wait: None,
            phase: Phase::Open,
            sent_count: 0,
            flushed_at: Instant::now(),
            busy_at: Instant::now(),
        };
        lane.load_runs(runs).await?;
        Ok(Some(lane))
    }

    /// Takes up replays that are running, and ended ones that still have rows to send.
    async fn load_runs(&mut self, also: &HashSet<u32>) -> Result<(), StoreError> {
        let now = self.now();
        for run in self.shared.store.runs(self.id).await? {
            let number = run.lane.run;
            let known = self.tracks.iter_mut().find(|track| track.lane() == run.lane);
            if let Some(track) = known {
                match run.state {
                    // One that has come to its end may still have rows to send.
                    RunState::Running | RunState::Done => track.go_on(now),
                    RunState::Paused | RunState::Cancelled => track.stop(),
                }
                continue;
            }
            let wanted = run.state == RunState::Running
                || (run.state == RunState::Done && also.contains(&number));
            if !wanted {
                continue;
            }
            let Some(start) = self.shared.store.lane(run.lane).await? else { continue };
            let selection = Selection {
                filter: run.filter.clone(),
                exclude_ephemeral: false,
                ordering: self.outlet.spec.ordering,
            };
            let cursor = start.cursor;
            self.tracks.push(Track::new(run.lane, selection, Some(run.to), &start, cursor));
        }
        Ok(())
    }

    /// Runs until the lane may rest or has to end. What it leaves on the roster is set before it
    /// returns.
    pub(super) async fn run(mut self) {
        loop {
            let now = self.now();
            self.step(now).await;
            if self.may_end(now) && self.end() {
                return;
            }
            self.wait(now).await;
        }
    }

    fn now(&self) -> Timestamp {
        (self.shared.clock)()
    }

    async fn wait(&mut self, now: Timestamp) {
        let sleep = self.sleep(now);
        let mail = Arc::clone(&self.mail);
        tokio::select! {
            biased;
            Some(command) = self.commands.recv() => self.obey(command).await,
            Some(sent) = self.sends.next(), if !self.sends.is_empty() => {
                self.finish(sent);
                // Outcomes that came together are settled together.
                while let Some(Some(sent)) = self.sends.next().now_or_never() {
                    self.finish(sent);
                }
            }
            Some(write) = self.writes.next(), if !self.writes.is_empty() => self.wrote(write),
            Some(read) = self.reads.next(), if !self.reads.is_empty() => self.take(read).await,
            Some(permit) = OptionFuture::from(self.permit_wait.as_mut()) => {
                self.permit_wait = None;
                self.permit = permit;
            }
            () = mail.rung() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }

    /// How long nothing will happen by itself.
    fn sleep(&self, now: Timestamp) -> Duration {
        let until = |at: Timestamp| at.since(now);
        let mut sleep = LONGEST_SLEEP.min(FLUSH_EVERY);
        if self.phase == Phase::Open {
            // Once it has lingered, it ends as soon as nothing is left: no time brings that about.
            let lingers = self.shared.linger().saturating_sub(self.busy_at.elapsed());
            if !lingers.is_zero() {
                sleep = sleep.min(lingers);
            }
            if let Some(at) = self.gate.opens_at(now).filter(|at| *at > now) {
                sleep = sleep.min(until(at));
            }
            if !self.gate.is_probing() {
                for at in self.tracks.iter().filter_map(Track::look_at) {
                    // A look that is under way, or waits for rows to be sent, wakes us itself.
                    if at > now {
                        sleep = sleep.min(until(at));
                    }
                }
            }
        }
        if let Some(at) = self.voice.due().filter(|at| *at > now) {
            sleep = sleep.min(until(at));
        }
        if let Some(from) = self.store_from {
            sleep = sleep.min(from.saturating_duration_since(Instant::now()));
        }
        // Wall-clock times have millisecond steps: round up, or the last one is spun away.
        sleep + Duration::from_millis(1)
    }

    /// Starts all that can be started now.
    async fn step(&mut self, now: Timestamp) {
        if self.mail.take_ring() {
            self.nothing_to_probe = false;
            self.tracks.iter_mut().for_each(Track::wake);
        }
        if self.store_from.is_some_and(|from| from <= Instant::now()) {
            self.store_from = None;
        }
        if self.phase == Phase::Open {
            self.load_missed_runs().await;
            if self.gate.is_probing() {
                self.probe(now);
            } else {
                self.deliver(now);
                // A permit is for sending, not for keeping.
                if !self.has_work() {
                    self.permit = None;
                    self.permit_wait = None;
                }
            }
            self.close_replays().await;
        } else {
            self.permit = None;
            self.permit_wait = None;
        }
        self.mail.show(self.tracks[0].cursor(), self.gate.is_probing());
        self.write(now);
    }

    fn deliver(&mut self, now: Timestamp) {
        loop {
            self.read(now);
            // After an outage due rows go first: while they are being looked for, nothing goes.
            let hold_on = self.gate.is_opening() && !self.looking.is_empty();
            let room = if hold_on { 0 } else { self.gate.room(now) };
            let mut started = 0;
            while started < room && self.has_work() && self.take_permit() {
                let Some((run, sending)) = self.choose() else { break };
                self.start(run, sending, false);
                started += 1;
            }
            // Go round again only if reading from memory may have more for the room that is left.
            let more = started > 0
                && started < room
                && self.permit_wait.is_none()
                && self.tracks.iter().any(Track::wants_page);
            if !more {
                return;
            }
        }
    }

    fn has_work(&self) -> bool {
        self.tracks.iter().any(Track::has_work)
    }

    /// The live run first; a replay gets at least its share.
    fn choose(&mut self) -> Option<(u32, Sending)> {
        self.sent_count += 1;
        let replays = self.tracks.len() > 1;
        let replay_turn = replays && self.sent_count.is_multiple_of(REPLAY_SHARE);
        let offset = if replay_turn {
            1 + (self.sent_count / REPLAY_SHARE) as usize % (self.tracks.len() - 1)
        } else {
            0
        };
        let count = self.tracks.len();
        let order = (0..count).map(|n| (n + offset) % count);
        for index in order {
            let track = &mut self.tracks[index];
            if let Some(sending) = track.next() {
                return Some((track.lane().run, sending));
            }
        }
        None
    }

    /// A permit of the node's cap on sends; if there is none now, one is waited for.
    fn take_permit(&mut self) -> bool {
        if self.permit.is_some() {
            return true;
        }
        if self.permit_wait.is_some() {
            return false;
        }
        match Arc::clone(&self.shared.sends).try_acquire_owned() {
            Ok(permit) => self.permit = Some(permit),
            Err(_) => {
                let sends = Arc::clone(&self.shared.sends);
                self.permit_wait = Some(Box::pin(async move { sends.acquire_owned().await.ok() }));
            }
        }
        self.permit.is_some()
    }

    fn start(&mut self, run: u32, sending: Sending, probe: bool) {
        self.busy_at = Instant::now();
        match sending {
            Sending::Task(task) if self.is_stale(&task) => {
                let (seq, key) = (task.event.seq, key_of(&task.event));
                let state = State::Expired { to: seq, count: 1 };
                self.close_unsent(run, state, seq, key, task.attempts, task.origin);
            }
            Sending::Task(task) => {
                let Some(permit) = self.permit.take() else {
                    // Unreachable: callers hold a permit. The event is not lost: it is read again.
                    self.tracks.iter_mut().for_each(Track::rewind);
                    return;
                };
                self.gate.sent(probe);
                self.shared.telemetry.in_flight.inc();
                let attempt = self.outlet.clone().attempt(task, run, probe, permit);
                self.sends.push(Box::pin(attempt));
            }
            // Its event was erased or pruned: there is nothing to send any more.
            Sending::Lost { seq, key, attempts, origin } => {
                self.close_unsent(run, State::Cancelled, seq, key, attempts, origin);
            }
        }
    }

    /// An ephemeral event that outlived its use in a row, behind an outage or its chat.
    fn is_stale(&self, task: &Task) -> bool {
        matches!(task.origin, Origin::Retry | Origin::Waited)
            && task.event.ephemeral
            && self.now().since(task.event.received_at) > EPHEMERAL_LIFE
    }

    fn close_unsent(
        &mut self,
        run: u32,
        state: State,
        seq: Position,
        key: u64,
        attempts: u32,
        origin: Origin,
    ) {
        let manual = origin == Origin::Manual;
        let row = Row { seq, state, attempts, parts_done: 0, key, manual, attempt: None };
        self.gate.sent(false);
        self.shared.telemetry.in_flight.inc();
        if let Some(track) = self.track(run) {
            track.closed(row, origin);
        }
    }

    fn track(&mut self, run: u32) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.lane().run == run)
    }
}

fn selection(destination: &Destination, spec: &Spec) -> Selection {
    Selection {
        filter: destination.filter.clone(),
        exclude_ephemeral: destination.exclude_ephemeral,
        ordering: spec.ordering,
    }
}
