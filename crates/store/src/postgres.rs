//! The engine for many nodes: one PostgreSQL database, equal nodes without a state of their own.
//!
//! An append and a settlement are one call each (`append`, `settle`), so that no node ever holds a
//! lock while it thinks. What other nodes wrote is found by looking (`follow`); a notification only
//! makes it look sooner. `lease` says whose lanes this node runs.

mod accounts;
mod append;
mod changes;
mod credentials;
mod days;
mod destinations;
mod elsewhere;
mod erase;
mod error;
mod facts;
mod fetching;
mod follow;
mod instances;
mod lag;
mod lanes;
mod lease;
pub(crate) mod pool;
mod pruning;
mod queue;
mod read;
mod redeliver;
mod row;
mod runs;
pub(crate) mod schema;
mod search;
mod secrets;
mod settle;
mod state;
mod statistics;
mod subscribers;
mod tx;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Notify, broadcast, watch},
    task::JoinHandle,
};
use zapbus_event::{DestinationId, InstanceId, Position, Timestamp};
use zapbus_media::Bucket;

pub(crate) use self::{
    accounts::{answer_id, answer_place},
    facts::server_facts,
    pool::address,
    row::text,
    schema::{migrate_only, plan},
    tx::Tx,
};
use self::{
    destinations::Known,
    follow::Followed,
    lease::Holdings,
    pool::Pool,
    queue::{AppendQueue, SettleQueue},
};
use crate::{
    Change, NodeId, OpenError, Options, ShardId, StoreError,
    directory::Directory,
    fault::{self, Fault, Result},
    journal::Limit,
    kinds::Kinds,
    metrics::Metrics,
    options::Clock,
    prepared::KnownAliases,
    pruning::Pruner,
    seal::Sealer,
    upkeep::{Appends, Sizes, StoreHealth},
};

/// Destinations that are remembered.
const KNOWN_DESTINATIONS: usize = 65_536;
/// Changes that a slow listener may lag behind.
const CHANGES: usize = 1_024;
/// How long closing waits for what is under way.
const CLOSING: Duration = Duration::from_secs(10);

/// The shard of an instance, or of a global destination, among so many. By the hash of its id: ids
/// made one after the other do not go to one shard. It never changes.
pub(crate) fn spread(id: [u8; 16], shards: u16) -> ShardId {
    let digest = Sha256::digest(id);
    let mut start = [0; 8];
    start.copy_from_slice(&digest[..8]);
    ShardId((u64::from_be_bytes(start) % u64::from(shards.max(1))) as u16)
}

/// What one shard has in memory.
pub(crate) struct Shard {
    pub(crate) appends: Mutex<AppendQueue>,
    pub(crate) settles: Mutex<SettleQueue>,
    /// Settlements that may wait are woken by an append.
    pub(crate) company: Notify,
    pub(crate) followed: Followed,
    pub(crate) pruner: Mutex<Pruner>,
}

/// What the handle and the tasks share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) shown: String,
    pub(crate) clock: Clock,
    /// Where files go in place of the database.
    pub(crate) bucket: Option<Bucket>,
    pub(crate) database_clock: bool,
    /// Days, and hours, for which partitions are made in advance.
    pub(crate) ahead: i32,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) kinds: Kinds,
    pub(crate) sealer: Sealer,
    pub(crate) batch: Limit,
    pub(crate) ride: Duration,
    pub(crate) inline_limit: usize,
    pub(crate) dedup_window: Duration,
    pub(crate) queue_bound: usize,
    pub(crate) queued: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) idle: Notify,
    pub(crate) closed: AtomicBool,
    pub(crate) shards: Vec<Shard>,
    pub(crate) node: NodeId,
    pub(crate) holdings: Holdings,
    pub(crate) changes: broadcast::Sender<Change>,
    /// Shards that got something others should look at.
    pub(crate) told: Mutex<HashSet<u16>>,
    pub(crate) tell: Notify,
    /// Look now and not later.
    pub(crate) look: Notify,
    /// Shards may be free: ask now and not later.
    pub(crate) beat: Notify,
    health: watch::Sender<StoreHealth>,
    directory: RwLock<Directory>,
    destinations: Mutex<HashMap<DestinationId, Known>>,
    aliases: Mutex<KnownAliases>,
    settled_states: Mutex<HashSet<InstanceId>>,
    /// Why no events are taken although the database could, if that is so.
    refusal: Mutex<Option<String>>,
    pub(crate) partitions_looked_at: Mutex<Option<Timestamp>>,
    pub(crate) space: Mutex<pruning::Space>,
    /// Held by whoever makes an instance that is counted: several would wait for one lock of the
    /// database, with a connection each, and the one that has it may need another.
    pub(crate) counting: tokio::sync::Mutex<()>,
}

/// Nothing that could panic runs under these locks.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn shard(&self, id: ShardId) -> &Shard {
        // Numbers come from `shard_of` and `ShardId`s that were checked.
        &self.shards[usize::from(id.0) % self.shards.len()]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards.len() as u16).map(ShardId)
    }

    fn spread(&self, id: [u8; 16]) -> ShardId {
        spread(id, self.shards.len() as u16)
    }

    pub(crate) fn shard_of(&self, instance: InstanceId) -> ShardId {
        self.spread(instance.to_bytes())
    }

    /// Whose owner runs the lanes of a global destination.
    pub(crate) fn home_of(&self, destination: DestinationId) -> ShardId {
        self.spread(destination.to_bytes())
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn directory_mut(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn destinations(&self) -> MutexGuard<'_, HashMap<DestinationId, Known>> {
        lock(&self.destinations)
    }

    pub(crate) fn remember_destination(&self, id: DestinationId, known: Known) {
        let mut all = self.destinations();
        if all.len() >= KNOWN_DESTINATIONS {
            all.clear();
        }
        all.insert(id, known);
    }

    pub(crate) fn aliases(&self) -> MutexGuard<'_, KnownAliases> {
        lock(&self.aliases)
    }

    pub(crate) fn settled_states(&self) -> MutexGuard<'_, HashSet<InstanceId>> {
        lock(&self.settled_states)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn stopped(&self) -> Option<String> {
        match &self.health.borrow().appends {
            Appends::Ok => None,
            Appends::Stopped { reason } => Some(reason.clone()),
        }
    }

    pub(crate) fn set_refusal(&self, reason: Option<String>) {
        let changed = *lock(&self.refusal) != reason;
        if changed {
            lock(&self.refusal).clone_from(&reason);
            self.note_answer();
        }
    }

    pub(crate) fn set_unready(&self, reason: Option<String>) {
        self.health.send_if_modified(|health| {
            let changed = health.unready != reason;
            if changed {
                StoreHealth::tell_ready(reason.as_deref());
                health.unready = reason;
            }
            changed
        });
    }

    /// The database took what was written.
    pub(crate) fn note_answer(&self) {
        let refusal = lock(&self.refusal).clone();
        self.set_appends(refusal.map_or(Appends::Ok, |reason| Appends::Stopped { reason }));
    }

    /// It did not, or refused to write.
    pub(crate) fn note_fault(&self, fault: &Fault) {
        if matches!(fault, Fault::Broken(_) | Fault::Full(_)) && !self.is_closed() {
            self.set_appends(Appends::Stopped { reason: unreachable(fault) });
        }
    }

    fn set_appends(&self, appends: Appends) {
        self.health.send_if_modified(|health| {
            let changed = health.appends != appends;
            if changed {
                appends.tell();
                health.appends = appends;
            }
            changed
        });
    }
}

fn unreachable(fault: &Fault) -> String {
    format!("its database does not take writes: {}", fault.reason())
}

pub(crate) fn closed() -> StoreError {
    StoreError::Unavailable { reason: "it is closed".to_owned() }
}

/// The engine. Its tasks end when it is closed or dropped.
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What [`Engine::open`] found.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) first_start: bool,
    pub(crate) migrated: Vec<String>,
    pub(crate) restored: bool,
    pub(crate) paused: u64,
}

impl Engine {
    /// Opens (and makes, and migrates) the store.
    pub(crate) async fn open(options: Options) -> Result<Opened, OpenError> {
        let postgres = options.postgres.clone().unwrap_or_default();
        let address = pool::address(&postgres)?;
        let shown = address.shown.clone();
        let wrong =
            |fault: Fault| OpenError::Server { shown: shown.clone(), reason: fault.reason() };
        let pool = Pool::new(&address, postgres.connections)?;
        let session = pool.session().await.map_err(wrong)?;
        let prepared = schema::prepare(&session, &options, &postgres, &shown).await?;
        let (restored, paused) =
            schema::begin_generation(&session, options.live, (options.clock)())
                .await
                .map_err(wrong)?;
        let heads = follow::heads(&session, prepared.shards).await.map_err(wrong)?;
        let directory = instances::directory(&session).await.map_err(wrong)?;
        let seen = changes::seen(&session).await.map_err(wrong)?;
        drop(session);

        let tail_bytes = options.tail_bytes / usize::from(prepared.shards);
        let shards = heads
            .into_iter()
            .map(|(head, at)| Shard {
                appends: Mutex::default(),
                settles: Mutex::default(),
                company: Notify::new(),
                followed: Followed::new(head, at, tail_bytes),
                pruner: Mutex::default(),
            })
            .collect();
        let mut node = [0; 16];
        getrandom::fill(&mut node)
            .map_err(|error| wrong(Fault::Broken(format!("no random numbers: {error}"))))?;
        let metrics = Arc::new(Metrics::new());
        let shared = Arc::new(Shared {
            pool,
            shown: shown.clone(),
            clock: options.clock,
            bucket: options.bucket,
            database_clock: postgres.database_clock,
            ahead: i32::from(postgres.ahead),
            metrics: Arc::clone(&metrics),
            kinds: prepared.kinds,
            sealer: prepared.sealer,
            batch: options.batch,
            ride: options.ride,
            inline_limit: options.inline_limit,
            dedup_window: options.dedup_window,
            queue_bound: options.queue_bytes,
            queued: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            idle: Notify::new(),
            closed: AtomicBool::new(false),
            shards,
            node: NodeId(node),
            holdings: Holdings::new(&postgres, metrics),
            changes: broadcast::Sender::new(CHANGES),
            told: Mutex::default(),
            tell: Notify::new(),
            look: Notify::new(),
            beat: Notify::new(),
            health: watch::Sender::new(StoreHealth { appends: Appends::Ok, unready: None }),
            directory: RwLock::new(directory),
            destinations: Mutex::default(),
            aliases: Mutex::default(),
            settled_states: Mutex::default(),
            refusal: Mutex::default(),
            partitions_looked_at: Mutex::default(),
            space: Mutex::default(),
            counting: tokio::sync::Mutex::default(),
        });
        // Lanes may start as soon as it is open.
        lease::beat(&shared).await.map_err(wrong)?;
        let tasks = vec![
            tokio::spawn(follow::run(Arc::clone(&shared), seen)),
            tokio::spawn(lease::run(Arc::clone(&shared))),
            tokio::spawn(changes::listen(Arc::clone(&shared), address)),
        ];
        Ok(Opened {
            engine: Self { shared, tasks: Mutex::new(tasks) },
            first_start: prepared.first_start,
            migrated: prepared.migrated,
            restored,
            paused,
        })
    }

    /// Takes nothing more, waits for what is under way, hands its shards over.
    pub(crate) async fn close(&self) {
        if self.shared.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        let under_way = async {
            loop {
                let idle = self.shared.idle.notified();
                if self.shared.running.load(Ordering::SeqCst) == 0 {
                    return;
                }
                idle.await;
            }
        };
        let _ = tokio::time::timeout(CLOSING, under_way).await;
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        if let Err(fault) = lease::leave(&self.shared).await {
            let reason = fault.reason();
            tracing::warn!(event = "lease.left_behind", reason, "shards were not handed over");
        }
        self.shared.pool.close();
    }

    pub(crate) fn health(&self) -> watch::Receiver<StoreHealth> {
        self.shared.health.subscribe()
    }

    pub(crate) fn head(&self, shard: ShardId) -> watch::Receiver<Position> {
        self.shared.shard(shard).followed.head()
    }

    /// A connection for questions.
    pub(crate) async fn session(&self) -> Result<pool::Session, StoreError> {
        if self.shared.is_closed() {
            return Err(closed());
        }
        self.shared.pool.question().await.map_err(|fault| {
            self.shared.note_fault(&fault);
            fault.into()
        })
    }

    /// A transaction for changes.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        if self.shared.is_closed() {
            return Err(closed());
        }
        Ok(Tx::begin(&self.shared).await?)
    }

    pub(crate) async fn sizes(&self) -> Result<Sizes, StoreError> {
        let session = self.session().await?;
        let row = session
            .one(
                "SELECT pg_database_size(current_database()), \
                 coalesce((SELECT sum(bytes) FROM blob \
                 WHERE content IS NOT NULL OR starts_with(object, $1)), 0)::bigint",
                &[&crate::elsewhere::PIECES],
            )
            .await?;
        let count = |at: usize| -> Result<u64> { Ok(row::count(row.try_get(at)?)) };
        let (database, blobs) = (count(0)?, count(1)?);
        let used = pruning::used_bytes(&session, 0).await?;
        Ok(Sizes { database, used: used.saturating_sub(blobs), wal: 0, blobs, free: 0 })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        self.shared.pool.close();
    }
}

/// Counts work under way, so that closing can wait for it.
pub(crate) struct Busy(Arc<Shared>);

impl Busy {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
