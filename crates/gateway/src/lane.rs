//! Lanes: how destinations get their events.
//!
//! The journal is the queue. A lane is a cursor on it, in each shard that it reads: [`roster`] holds
//! every destination of the node (those whose home shard it has by lease: [`tenancy`]) in a few
//! bytes and wakes a [`runner`] when something that its filter takes is committed, or when a retry
//! or a probe is due. The runner asks pure parts what to do: [`track`] (cursor and
//! order), [`gate`] (health, window, rate), [`schedule`] and [`verdict`] (what follows from an
//! attempt).

mod announce;
mod changes;
mod config;
mod gate;
mod lag;
mod loading;
mod opening;
mod roster;
mod runner;
mod schedule;
mod send;
mod tenancy;
mod track;
mod trial;
mod upkeep;
mod verdict;
mod waking;

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zapbus_channel::{Opening, egress::Guard};
use zapbus_event::{AccountId, DestinationId, InstanceId, Kind, Position, Timestamp};
use zapbus_store::{
    Activity, Actor, Clock, DeliveryId, Destination, DestinationHead, Health, LaneId, Settlement,
    ShardId, Store, StoreError, Urgency,
};

pub use self::config::Config;
pub(crate) use self::send::wanted;
use self::{
    announce::Voice,
    gate::{Memory, Patience},
    loading::Known,
    roster::{Command, Mode, Rest, Roster, live},
};
use crate::{
    brokers::Brokers,
    media::{Arrivals, Links},
    rendering::Rendering,
    spec::{Retry, Spec},
    telemetry::{self, Telemetry},
    traces::Tracer,
};

/// How often the cursors of resting lanes are written.
const FLUSH_EVERY: Duration = Duration::from_secs(60);

/// How often it is looked whether commits have failed.
const CATCH_UP_EVERY: Duration = Duration::from_secs(5);

/// Pause before the store is asked again after it could not answer.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// Lanes that look for a backlog at the same time when the node starts.
const ASK_AT_ONCE: usize = 16;

/// Cursors written in one commit.
const FLUSH_STEP: usize = 500;

/// What the operator says of everything that is in Evolution's form.
#[derive(Debug, Clone, Default)]
pub struct Evolution {
    /// When failed deliveries with its preset are tried again.
    pub retry: Retry,
    /// Bodies show the instance's token.
    pub show_key: bool,
    /// What bodies that name the server call it.
    pub server_name: String,
    /// The server's own brokers.
    pub brokers: Brokers,
}

/// What lanes are built from.
pub struct Parts {
    /// The journal and everything durable.
    pub store: Store,
    /// What channels share.
    pub opening: Arc<Opening>,
    /// Where this server is reached, for dialects whose bodies say so.
    pub server_url: String,
    /// Makes links to files.
    pub links: Arc<Links>,
    /// Tells when files have come that were still to be fetched.
    pub arrivals: Arc<Arrivals>,
    /// What the operator says of Evolution's form.
    pub evolution: Evolution,
    /// When things are due.
    pub clock: Clock,
    /// What receivers compare with their own.
    pub wall: Clock,
    /// Bounds.
    pub config: Config,
    /// Figures.
    pub telemetry: Arc<Telemetry>,
    /// How often they are taken, and of how many destinations.
    pub watching: telemetry::Config,
    /// Spans of attempts, if they are wanted.
    pub tracer: Option<Tracer>,
    /// Spreads retries; [`random_seed`] makes one.
    pub seed: u64,
}

/// How a lane is.
#[derive(Debug, Clone)]
pub struct LaneStatus {
    /// Whether the endpoint is trusted.
    pub health: Health,
    /// Sends whose settlement is not durable yet.
    pub in_flight: u32,
    /// Everything at or below is settled, skipped or held in rows: in each shard that the lane
    /// reads, in order.
    pub cursors: Vec<(ShardId, Position)>,
    /// What the last failure said, if the lane is run here.
    pub last_error: Option<String>,
}

/// All lanes of this node. Cheap to clone.
#[derive(Clone)]
pub struct Lanes {
    shared: Arc<Shared>,
}

/// What the lanes of a node share.
pub(crate) struct Shared {
    store: Store,
    opening: Arc<Opening>,
    /// For destinations of the operator's own environment.
    trusted: Arc<Guard>,
    evolution: Evolution,
    clock: Clock,
    wall: Clock,
    config: Config,
    telemetry: Arc<Telemetry>,
    tracer: Option<Tracer>,
    rendering: Arc<Rendering>,
    arrivals: Arc<Arrivals>,
    /// The node's cap on sends.
    sends: Arc<Semaphore>,
    /// Read-ahead of all lanes, in KiB.
    read_ahead: Arc<Semaphore>,
    roster: Mutex<Roster>,
    /// The earliest time on the roster may have changed.
    timer: Notify,
    /// Resting lanes have skipped much.
    flush: Notify,
    /// One change of configuration at a time.
    changing: AsyncMutex<()>,
    reserved: Mutex<HashMap<AccountId, InstanceId>>,
    closing: CancellationToken,
    tasks: TaskTracker,
    random: AtomicU64,
    /// Receivers are told under which lease they are sent to: a test wants to see it.
    #[cfg(debug_assertions)]
    shows_tenure: bool,
    /// Lanes go on without a lease: a test wants to see that it would be noticed.
    #[cfg(debug_assertions)]
    is_blind: bool,
}

impl Lanes {
    /// Loads the roster (of the shards that this node holds by now; others as it gets them) and
    /// starts delivering. Returns as soon as the roster is read: what each lane has behind it is
    /// found out in the background.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn start(parts: Parts) -> Result<Self, StoreError> {
        let Parts {
            store,
            opening,
            server_url,
            links,
            arrivals,
            evolution,
            clock,
            wall,
            config,
            telemetry,
            watching,
            tracer,
            seed,
        } = parts;
        let read_ahead = (config.read_ahead_bytes >> 10).clamp(1, Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            rendering: Arc::new(Rendering::new(
                store.clone(),
                clock.clone(),
                &server_url,
                &evolution.server_name,
                evolution.show_key,
                links,
            )),
            arrivals,
            trusted: Arc::new(Guard::trusted()),
            evolution,
            sends: Arc::new(Semaphore::new(config.max_in_flight.max(1) as usize)),
            read_ahead: Arc::new(Semaphore::new(read_ahead)),
            roster: Mutex::default(),
            timer: Notify::new(),
            flush: Notify::new(),
            changing: AsyncMutex::default(),
            reserved: Mutex::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            random: AtomicU64::new(seed),
            #[cfg(debug_assertions)]
            shows_tenure: std::env::var_os("ZAPBUS_TEST_EPOCH").is_some(),
            #[cfg(debug_assertions)]
            is_blind: std::env::var_os("ZAPBUS_TEST_BLIND").is_some(),
            store,
            opening,
            clock,
            wall,
            config,
            telemetry,
            tracer,
        });
        // Commits from here on are seen by the routers; what came before, by asking each lane.
        let heads = shared.heads();
        let (mut leases, changes) = (shared.store.leases(), shared.store.changes());
        let held = leases.borrow_and_update().clone();
        let unread = shared.adopt(&held);
        shared.load(&unread, Known::Refresh).await?;
        for (shard, from) in (0..).map(ShardId).zip(heads) {
            shared.spawn(waking::route(Arc::clone(&shared), shard, from));
        }
        shared.spawn(upkeep::keep_time(Arc::clone(&shared)));
        shared.spawn(upkeep::keep_cursors(Arc::clone(&shared)));
        shared.spawn(upkeep::keep_up(Arc::clone(&shared)));
        shared.spawn(lag::watch(Arc::clone(&shared), watching));
        shared.spawn(tenancy::keep_leases(Arc::clone(&shared), leases));
        shared.spawn(tenancy::heed_changes(Arc::clone(&shared), changes));
        let asking = Arc::clone(&shared);
        shared.spawn(async move { asking.ask_all().await });
        Ok(Self { shared })
    }

    /// Stops the lane of `id` at its true cursors (what is in flight goes on), runs `change` with
    /// them, then goes on as the store says by then: with another config or filter, not at all when
    /// it is paused or disabled, gone when it was deleted. A lane that another node runs stands where
    /// the store says (`change` gets no cursors), and that node learns of the change by itself.
    pub async fn reconfigure<T, F, Fut>(&self, id: DestinationId, change: F) -> T
    where
        F: FnOnce(Vec<(ShardId, Position)>) -> Fut,
        Fut: Future<Output = T>,
    {
        let shared = &self.shared;
        let _one_at_a_time = shared.changing.lock().await;
        let cursors = shared.hold(id).await;
        let result = change(cursors).await;
        shared.release(id).await;
        result
    }

    /// A destination was created and starts after `cursor` (of a whole account: in the first shard).
    /// Where another node runs its lane, that one learns of it by itself.
    pub fn created(&self, head: DestinationHead, cursor: Position) {
        let store = &self.shared.store;
        let (id, home) = (head.id, store.home_of(head.id, head.instance));
        let shards = store.shards();
        let cursors: Vec<_> = if head.instance.is_none() && shards > 1 {
            // The lane, which is woken at once, reads where it starts.
            (0..shards).map(|shard| (ShardId(shard), Position::START)).collect()
        } else {
            vec![(home, cursor)]
        };
        self.shared.roster().put(head, home, &cursors, Health::Flowing);
        self.shared.wake(id);
    }

    /// Due rows were written for this lane.
    pub fn rows_changed(&self, lane: LaneId) {
        self.look_at(lane);
    }

    /// Writes how far the live run has truly come: a lane writes what it skipped only lazily.
    ///
    /// # Errors
    ///
    /// When the store cannot write.
    pub async fn write_cursor(&self, id: DestinationId) -> Result<(), StoreError> {
        let Some(tenure) = self.shared.roster().tenure_of(id) else { return Ok(()) };
        let Some(status) = self.own_status(id).await else { return Ok(()) };
        let settlement = |(shard, cursor)| Settlement {
            lane: live(id),
            epoch: Some(tenure.epoch),
            shard,
            cursor: Some(cursor),
            health: None,
            rows: Vec::new(),
            events: Vec::new(),
        };
        let settlements = status.cursors.into_iter().map(settlement).collect();
        match self.shared.store.settle(settlements, Urgency::Now).await {
            // Whoever runs it by now began where the store says.
            Err(StoreError::LeaseLost { .. }) => Ok(()),
            written => written,
        }
    }

    /// A replay was created, paused, resumed or called off.
    pub fn run_changed(&self, lane: LaneId) {
        self.look_at(lane);
    }

    fn look_at(&self, lane: LaneId) {
        {
            let mut roster = self.shared.roster();
            let Some(entry) = roster.get_mut(lane.destination) else { return };
            if let Mode::Running(mail) = &entry.mode
                && mail.tell(Command::LookAt(lane.run))
            {
                return;
            }
            entry.runs.get_or_insert_default().insert(lane.run);
        }
        self.shared.wake(lane.destination);
    }

    /// Events were erased: what lanes have read of them and not sent yet, they must not send.
    pub fn erased(&self) {
        self.shared.forget_read(None);
    }

    /// An account is gone, and its destinations with it: what is under way is finished.
    pub fn account_deleted(&self, account: AccountId) {
        let own: Vec<DestinationId> = {
            let roster = self.shared.roster();
            let own = roster.iter().filter(|(_, entry)| entry.head.account == account);
            own.map(|(id, _)| *id).collect()
        };
        own.into_iter().for_each(|id| self.shared.drop_lane(id));
    }

    /// What renders events, for others who send them too.
    pub(crate) fn rendering(&self) -> Arc<Rendering> {
        Arc::clone(&self.shared.rendering)
    }

    /// An instance was renamed or is gone.
    pub fn instance_changed(&self, id: InstanceId) {
        self.shared.rendering.forget(id);
    }

    /// How the lane is, as far as this node knows: of one that another node runs, what the store
    /// says. `None` when there is no such destination, or nobody can say at the moment.
    pub async fn status(&self, id: DestinationId) -> Option<LaneStatus> {
        match self.own_status(id).await {
            Some(status) => Some(status),
            None => self.shared.status_elsewhere(id).await.ok()?,
        }
    }

    async fn own_status(&self, id: DestinationId) -> Option<LaneStatus> {
        let answer = {
            let roster = self.shared.roster();
            let entry = roster.get(id)?;
            let resting = LaneStatus {
                health: entry.rest.as_ref().map_or(Health::Flowing, |rest| rest.memory.health),
                in_flight: 0,
                cursors: entry.cursors.positions(),
                last_error: entry.rest.as_ref().and_then(|rest| rest.last_error.clone()),
            };
            let (sender, receiver) = oneshot::channel();
            match &entry.mode {
                Mode::Running(mail) if mail.tell(Command::Status(sender)) => {
                    Err((receiver, resting))
                }
                _ => Ok(resting),
            }
        };
        match answer {
            Ok(status) => Some(status),
            // A lane that ends at this moment is as it was left.
            Err((receiver, resting)) => Some(receiver.await.unwrap_or(resting)),
        }
    }

    /// Whether a delivery is being sent, as far as this node knows: of a lane that another node runs
    /// it knows nothing.
    pub(crate) async fn is_sending(&self, id: DeliveryId) -> bool {
        let (sender, receiver) = oneshot::channel();
        {
            let roster = self.shared.roster();
            match roster.get(id.lane.destination).map(|entry| &entry.mode) {
                Some(Mode::Running(mail)) if mail.tell(Command::IsSending(id, sender)) => {}
                _ => return false,
            }
        }
        receiver.await.unwrap_or(false)
    }

    /// Finishes what is in flight, writes it and all cursors, and stops; gives up after
    /// `deadline`. Returns whether everything was written.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let shared = &self.shared;
        shared.closing.cancel();
        {
            let roster = shared.roster();
            let mut lanes: Vec<_> = roster.iter().collect();
            lanes.sort_unstable_by_key(|(id, _)| **id);
            for (_, entry) in lanes {
                if let Mode::Running(mail) = &entry.mode {
                    mail.tell(Command::Stop);
                }
            }
        }
        shared.tasks.close();
        let drained = tokio::time::timeout(deadline, shared.tasks.wait()).await.is_ok();
        drained && shared.write_cursors(None).await.is_ok()
    }
}

impl Shared {
    /// Lanes that run read again what they have read and not sent: all, or those that may have
    /// events of this instance.
    pub(super) fn forget_read(&self, of: Option<InstanceId>) {
        let roster = self.roster();
        let mut lanes: Vec<_> = roster
            .iter()
            .filter(|(_, entry)| {
                of.is_none() || entry.head.instance.is_none() || entry.head.instance == of
            })
            .filter_map(|(id, entry)| match &entry.mode {
                Mode::Running(mail) => Some((id, mail)),
                _ => None,
            })
            .collect();
        // In the order in which they were made, not in that of a hash.
        lanes.sort_unstable_by_key(|(id, _)| **id);
        for (_, mail) in lanes {
            mail.tell(Command::Forget);
        }
    }

    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        // The roster holds hints and positions that are checked against the store: a panic while
        // it was locked leaves nothing that could do harm.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// The ends of the journal as far as they are known here, by shard.
    pub(super) fn heads(&self) -> Vec<Position> {
        (0..self.store.shards()).map(|shard| *self.store.head_in(ShardId(shard)).borrow()).collect()
    }

    /// How a lane is that another node runs.
    async fn status_elsewhere(&self, id: DestinationId) -> Result<Option<LaneStatus>, StoreError> {
        let Some(stored) = self.stored_now(id).await? else { return Ok(None) };
        let (health, cursors) = (stored.health, stored.cursors);
        Ok(Some(LaneStatus { health, in_flight: 0, cursors, last_error: None }))
    }

    pub(super) fn linger(&self) -> Duration {
        Duration::from_secs_f64(self.config.linger_s.max(0.0))
    }

    pub(super) fn patience(&self, spec: &Spec) -> Patience {
        Patience {
            first: Duration::from_secs_f64(self.config.probe_first_s),
            max: Duration::from_secs_f64(self.config.probe_max_s),
            disable_after: spec.disable_after(),
        }
    }

    /// Uniform in 0..1; good enough to spread retries.
    pub(super) fn random(&self) -> f64 {
        // SplitMix64 over a counter.
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Who changes destinations when nobody asked for it.
pub(super) fn actor() -> Actor {
    Actor("gateway".to_owned())
}

/// How often an event is tried before it is dead.
pub(crate) fn max_attempts(retry: &Retry) -> u32 {
    schedule::Schedule::of(retry).max_attempts()
}

/// What the roster keeps of a destination.
pub(crate) fn head_of(destination: &Destination) -> DestinationHead {
    DestinationHead {
        id: destination.id,
        account: destination.account,
        instance: destination.instance,
        filter: destination.filter.clone(),
        exclude_ephemeral: destination.exclude_ephemeral,
        active: destination.activity == Activity::Active,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A seed that no other node has.
pub fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    // Without a random seed retries are spread all the same, only alike on every node.
    if getrandom::fill(&mut bytes).is_err() {
        return 0;
    }
    u64::from_le_bytes(bytes)
}

impl Rest {
    fn new(health: Health) -> Self {
        Self {
            memory: Memory::new(health),
            voice: Voice::default(),
            last_error: None,
            configured_at: None,
        }
    }

    /// What is remembered of a lane by the store alone; `None` if there is nothing to remember.
    fn stored(health: Health, active: bool) -> Option<Self> {
        let voice = match health {
            // Why and since when it stands still is of no use here: only that it was told.
            _ if !active => Voice::known(Kind::DestinationPaused, Timestamp::default()),
            Health::Probing { since, .. } => Voice::known(Kind::DestinationProbing, since),
            Health::Flowing => return None,
        };
        Some(Self { voice, ..Self::new(health) })
    }
}
