//! A lane that is awake: one task per destination, for its live run and its replays.
//!
//! The decisions are made by pure parts ([`Gate`], [`Track`], [`judge`]); this file moves what
//! they ask for: pages and rows in, attempts out, settlements back.

mod beginning;
mod ending;
mod outcome;
mod parking;
mod probing;
mod reading;
mod waiting;
mod writing;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use zapbus_event::{DestinationId, InstanceId, Position, Timestamp};
use zapbus_store::{
    DueRow, Health, Limit, NewEvent, Page, Reader, Row, ShardId, ShardStart, State, StoreError,
};

pub(super) use self::beginning::Opened;

use super::{
    LaneStatus, Shared,
    announce::{self, Voice},
    gate::Gate,
    roster::{Command, Mail, Ring, Tenure},
    schedule::Schedule,
    send::{Outlet, Sent},
    track::{Origin, Place, Sending, Task, Track, key_of},
    verdict::{self, EPHEMERAL_LIFE},
};

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

/// A replay gets every tenth send at least.
const REPLAY_SHARE: u64 = 10;

/// A result of the store.
enum Read {
    Page { run: u32, shard: ShardId, after: Position, page: Result<Page, StoreError> },
    Due { run: u32, limit: usize, rows: Result<Vec<DueRow>, StoreError> },
    Probe { run: u32, rows: Result<Vec<DueRow>, StoreError> },
    Waiting { run: u32, key: u64, rows: Result<Vec<DueRow>, StoreError> },
    Held { run: u32, starts: Result<Option<Vec<ShardStart>>, StoreError> },
}

/// A result, and in which era of the lane it was asked for.
struct Asked {
    era: u64,
    read: Read,
}

/// What a write carried, to be confirmed or repeated.
struct Write {
    parts: Vec<WritePart>,
    result: Result<(), StoreError>,
}

struct WritePart {
    run: u32,
    shard: ShardId,
    rows: Vec<Row>,
    cursor: Option<Position>,
    events: Vec<NewEvent>,
}

/// A lane's part of what is read ahead on the node, for whoever watches; gone with the lane.
struct Shown {
    gauge: Gauge,
    bytes: i64,
}

impl Shown {
    fn new(gauge: Gauge) -> Self {
        Self { gauge, bytes: 0 }
    }

    fn set(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if bytes != self.bytes {
            self.gauge.inc_by(bytes - self.bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.gauge.dec_by(self.bytes);
    }
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
    /// Another node runs it: it ends as it is, and writes nothing.
    Lost,
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
    tenure: Tenure,
    /// When the configuration that it goes by was written.
    configured_at: Timestamp,
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
    reads: FuturesUnordered<Boxed<Asked>>,
    /// What came of them while the lane waited for something else.
    finished: VecDeque<Sent>,
    answers: VecDeque<Asked>,
    written: VecDeque<Write>,
    /// Grows when what was read is to be forgotten: an answer to an earlier question is of no use.
    era: u64,
    /// Runs that are to be looked at as soon as the store answers again.
    missed_runs: HashSet<u32>,
    /// Runs (and shards) with a journal read under way and how many bytes it may bring, and runs with a look for rows under way.
    paging: HashMap<(u32, ShardId), usize>,
    looking: HashSet<u32>,
    /// Under way, in their order.
    writes: FuturesOrdered<Boxed<Write>>,
    /// It may not be known whether it is still this node's lane: until it is, nothing is sent.
    unsure: bool,
    /// Not before this, because the store could not answer.
    store_from: Option<Instant>,
    /// That was said already.
    store_troubled: bool,
    /// Rows from which the next probe may be chosen, by run.
    probe_rows: Option<(u32, Vec<DueRow>)>,
    /// Nothing is unsettled: there is nothing to probe with.
    nothing_to_probe: bool,
    read_ahead: Option<OwnedSemaphorePermit>,
    read_ahead_shown: Shown,
    /// Events that are held for their file, and who waits for that.
    parked: HashMap<parking::Held, Task>,
    arriving: FuturesUnordered<Boxed<parking::Held>>,
    /// What came of that while the lane waited for something else.
    come: VecDeque<parking::Held>,
    /// Events that were held for as long as they may be.
    let_through: HashSet<parking::Held>,
    permit: Option<OwnedSemaphorePermit>,
    permit_wait: Option<Boxed<Option<OwnedSemaphorePermit>>>,
    phase: Phase,
    sent_count: u64,
    flushed_at: Instant,
    busy_at: Instant,
}

impl Lane {
    /// Runs until the lane may rest or has to end. What it leaves on the roster is set before it
    /// returns.
    pub(super) async fn run(mut self) {
        loop {
            let now = self.now();
            self.step(now).await;
            if self.phase == Phase::Lost {
                return self.let_go();
            }
            if self.may_end(now) && self.end() {
                return;
            }
            self.wait(now).await;
        }
    }

    fn now(&self) -> Timestamp {
        (self.shared.clock)()
    }

    /// Starts all that can be started now.
    async fn step(&mut self, now: Timestamp) {
        if let Some(ring) = self.mail.take_ring() {
            self.wake_tracks(ring);
        }
        if self.store_from.is_some_and(|from| from <= Instant::now()) {
            self.store_from = None;
        }
        self.unsure = !self.outlet.warrant.holds();
        self.unpark_unless_open(now);
        if self.phase == Phase::Open && !self.unsure {
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
        self.mail.show(self.tracks[0].reaches(), self.gate.is_probing());
        self.read_ahead_shown.set(self.queued_bytes());
        self.write(now);
    }

    /// More was committed.
    fn wake_tracks(&mut self, ring: Ring) {
        self.nothing_to_probe = false;
        for track in &mut self.tracks {
            track.wake(|shard| ring.concerns(shard));
        }
    }

    fn deliver(&mut self, now: Timestamp) {
        loop {
            self.read(now);
            // After an outage due rows go first: while they are being looked for, nothing goes.
            let hold_on = self.gate.is_opening() && !self.looking.is_empty();
            let room = if hold_on { 0 } else { self.gate.room(now) };
            let (mut started, mut held) = (0, 0);
            while started < room && self.has_work() && self.take_permit() {
                let Some((run, sending)) = self.choose() else { break };
                match self.unless_held(run, sending, now) {
                    Some(sending) => {
                        self.start(run, sending, false);
                        started += 1;
                    }
                    None => held += 1,
                }
            }
            // Go round again only if reading from memory may have more for the room that is left.
            let more = started + held > 0
                && started < room
                && self.permit_wait.is_none()
                && self.tracks.iter().any(Track::wants_page);
            if !more {
                return;
            }
        }
    }

    fn queued_bytes(&self) -> usize {
        self.tracks.iter().map(Track::queued_bytes).sum::<usize>() + self.parked_bytes()
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
                let (place, key) = (task.place, key_of(&task.event));
                let state = State::Expired { to: place.seq, count: 1 };
                self.close_unsent(run, state, place, key, task.attempts, task.origin);
            }
            Sending::Task(task) => {
                let Some(permit) = self.permit.take() else {
                    // Unreachable: callers hold a permit. The event is not lost: it is read again.
                    self.tracks.iter_mut().for_each(Track::rewind);
                    return;
                };
                self.gate.sent(probe, self.now());
                self.shared.telemetry.in_flight.inc();
                let attempt = self.outlet.clone().attempt(task, run, probe, permit);
                self.sends.push(Box::pin(attempt));
            }
            // Its event was erased or pruned: there is nothing to send any more.
            Sending::Lost { place, key, attempts, origin } => {
                self.close_unsent(run, State::Cancelled, place, key, attempts, origin);
            }
        }
    }

    /// An ephemeral event that outlived its use while it waited for its turn, in memory or in a row.
    fn is_stale(&self, task: &Task) -> bool {
        task.origin != Origin::Manual
            && task.event.ephemeral
            && self.now().since(task.event.received_at) > EPHEMERAL_LIFE
    }

    fn close_unsent(
        &mut self,
        run: u32,
        state: State,
        Place { seq, shard }: Place,
        key: u64,
        attempts: u32,
        origin: Origin,
    ) {
        let manual = origin == Origin::Manual;
        let row = Row { seq, state, attempts, parts_done: 0, key, manual, attempt: None };
        self.gate.passed();
        self.shared.telemetry.in_flight.inc();
        if let Some(track) = self.track(run) {
            track.closed(shard, row, origin);
        }
    }

    /// Whether a page of the journal is on its way to a run.
    fn is_paging(&self, run: u32) -> bool {
        self.paging.keys().any(|(other, _)| *other == run)
    }

    fn track(&mut self, run: u32) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.lane().run == run)
    }
}
