//! Live connections: one machinery under every realtime endpoint, native or of a dialect.
//!
//! A connection is a cursor on the journal ([`feed`]), woken by the [`hub`] when something it wants is
//! committed. What it was sent and has not acknowledged is a [`subscription`], pure; where a *named*
//! subscriber stands is kept in a [`ledger`] and written to the store at most once a second. A
//! [`protocol::Protocol`] decides the bytes of frames and reads acknowledgements, nothing else; [`connection`]
//! is the same for all of them.
//!
//! An endpoint takes a place ([`Realtime::admit`]), opens ([`Realtime::open`]: what can be refused is
//! refused before the upgrade), and hands over the socket ([`Ready::serve`]) or answers with a body
//! that never ends ([`Ready::stream`]).
//!
//! Any node serves any instance: subscriptions do not depend on leases. A named subscriber that is
//! connected to several nodes gets every event on each, and one acknowledgement settles it: nodes
//! merge what they know in the store.

mod config;
mod connection;
mod feed;
mod hub;
mod ledger;
mod link;
pub(crate) mod native;
mod opening;
pub(crate) mod protocol;
mod slots;
mod subscription;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::WebSocketUpgrade;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zapbus_event::{AccountId, SubscriberId, Timestamp};
use zapbus_store::{Clock, OpenEvent, Progress, Reader, ShardId, Store, StoreError, Subscriber};

pub use self::config::Config;
pub(crate) use self::{
    config::{MOST_UNACKED, is_origin},
    hub::Wants,
    link::{FromLink, LinkEnd, Told, Written},
    opening::{Opening, Ready, Start, SubscriberKey},
    protocol::{Dead, Gap, Opened, Protocol, Said},
    slots::{Full, Slot},
    subscription::{Acks, Window},
};
use self::{
    feed::Feed,
    hub::{Hub, Hung},
    ledger::Ledgers,
    opening::{subscriber_id, where_to},
    slots::Slots,
    subscription::Subscription,
};
use crate::{
    api::Standing, directory::Directory, lane::Lanes, reading::Places, rendering::Rendering,
    telemetry::Telemetry,
};

/// Bytes of a socket's buffers: thousands of idle ones must cost little, and what waits to be
/// written is bounded by a batch.
const READ_BUFFER: usize = 2 << 10;
const WRITE_BUFFER: usize = 16 << 10;
/// Why a connection is closed that takes nothing any more.
pub(crate) const STALLED: &str = "nothing was read for too long";
/// How long connections may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

const OPEN: u8 = 0;
const RELEASED: u8 = 1;
const FROZEN: u8 = 2;
const CLOSED: u8 = 3;

/// All live connections of this node. Cheap to clone.
#[derive(Clone)]
pub struct Realtime {
    inner: Arc<Inner>,
}

/// What they share.
struct Inner {
    store: Store,
    directory: Directory,
    rendering: Arc<Rendering>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    config: Config,
    hub: Arc<Hub>,
    ledgers: Ledgers,
    slots: Arc<Slots>,
    phase: AtomicU8,
    released: CancellationToken,
    stop: CancellationToken,
    connections: TaskTracker,
}

/// What live connections are built from.
pub struct Parts<'a> {
    /// The journal and everything durable.
    pub store: Store,
    /// Whose an instance is, and whether a token is still valid.
    pub directory: Directory,
    /// What renders events for lanes renders them here too.
    pub lanes: &'a Lanes,
    /// Figures.
    pub telemetry: Arc<Telemetry>,
    /// When things are due.
    pub clock: Clock,
    /// Bounds.
    pub config: Config,
}

impl std::fmt::Debug for Realtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Realtime").field("open", &self.inner.slots.open()).finish_non_exhaustive()
    }
}

impl Realtime {
    /// Begins to follow the journal for whoever connects.
    pub fn start(parts: Parts<'_>) -> Self {
        let Parts { store, directory, lanes, telemetry, clock, config } = parts;
        let rendering = lanes.rendering();
        let inner = Arc::new(Inner {
            ledgers: Ledgers::new(store.clone()),
            hub: Arc::default(),
            slots: Arc::default(),
            phase: AtomicU8::new(OPEN),
            released: CancellationToken::new(),
            stop: CancellationToken::new(),
            connections: TaskTracker::new(),
            store,
            directory,
            rendering,
            telemetry,
            clock,
            config,
        });
        for shard in (0..inner.store.shards()).map(ShardId) {
            let (hub, store) = (Arc::clone(&inner.hub), inner.store.clone());
            let follow =
                hub::follow(hub, store, inner.directory.clone(), shard, inner.stop.clone());
            tokio::spawn(follow);
        }
        let (writing, stop) = (Arc::clone(&inner), inner.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = writing.ledgers.keep() => {}
                () = stop.cancelled() => {}
            }
        });
        Self { inner }
    }

    /// What it was told.
    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// A WebSocket as all of them are: with small buffers, and a bound on what a client sends.
    pub(crate) fn upgrade(&self, upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
        let most = self.inner.config.max_message_bytes;
        upgrade
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(most)
            .max_frame_size(most)
    }

    /// A place for a connection, unless there are as many as there may be. What an account may
    /// have is shared out among the nodes.
    pub(crate) fn admit(&self, account: Option<AccountId>) -> Result<Slot, Full> {
        let config = &self.inner.config;
        let nodes = usize::try_from(self.inner.store.nodes()).unwrap_or(usize::MAX);
        let of_account = config.max_connections_per_account.div_ceil(nodes);
        self.inner.slots.take(account, (config.max_connections, of_account))
    }

    /// A place for a connection whose owner has shown no key yet.
    pub(crate) fn admit_stranger(&self) -> Result<Slot, Full> {
        self.inner.slots.take_strangers()
    }

    /// Makes a subscription ready to begin.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn open(&self, slot: Slot, opening: Opening) -> Result<Ready, StoreError> {
        let Opening { standing, reader, wants, dialect, options, acks, window, .. } =
            opening.clone();
        let store = &self.inner.store;
        // First: what is committed from here on rings, and what was before is read.
        let hung = self.inner.hub.hang(reader, wants.clone());
        let places = match &opening.start {
            Start::Now => Places::head(store, reader),
            Start::After { places, .. } | Start::Again(places) => places.clone(),
        };
        let (ledger, progress) = match &opening.subscriber {
            Some(key) => {
                let ledger = self.inner.ledgers.open(self.subscriber(key, &opening, &places));
                let ledger = ledger.await?;
                let progress = ledger.join(&hung.bell);
                (Some(ledger), progress)
            }
            None => (None, Progress::default()),
        };
        let starts = where_to(&places, &progress, matches!(opening.start, Start::Again(_)));
        let mut feed = Feed::new(reader, wants, starts);
        if matches!(opening.start, Start::After { exact: false, .. }) && ledger.is_none() {
            feed.forgive(store).await?;
        }
        let subscription = Subscription::new(acks, window, progress.open);
        Ok(Ready {
            realtime: self.clone(),
            slot,
            hung,
            feed,
            subscription,
            ledger,
            standing,
            dialect,
            options,
        })
    }

    /// The record of a subscriber that is not known yet.
    fn subscriber(&self, key: &SubscriberKey, opening: &Opening, places: &Places) -> Subscriber {
        let instance = match opening.reader {
            Reader::Instance(instance) => Some(instance),
            Reader::Account(_) | Reader::All => None,
        };
        let now = self.now();
        Subscriber {
            id: subscriber_id(key, opening, instance),
            account: opening.account,
            instance,
            owner: key.owner.clone(),
            name: key.name.clone(),
            dialect: opening.dialect.as_str().to_owned(),
            filter: opening.wants.filter.clone(),
            progress: Progress::at(places.0.iter().copied()),
            created_at: now,
            used_at: now,
        }
    }

    /// A bell for whoever waits once, and no longer than until [`Realtime::release`].
    pub(crate) fn wait(&self, reader: Reader, wants: Wants) -> Waiting {
        Waiting { realtime: self.clone(), hung: self.inner.hub.hang(reader, wants) }
    }

    /// A subscriber was deleted: connections of this node end, those of others within a second of
    /// their next event.
    pub(crate) fn forget(&self, id: SubscriberId) {
        self.inner.ledgers.forget(id);
    }

    /// Sends a subscriber again what is dead for it: connections of this node at once, those of
    /// others within a second, and who is not connected when it comes. How many events that are.
    ///
    /// # Errors
    /// When the store cannot write.
    pub(crate) async fn revive(
        &self,
        id: SubscriberId,
        dead: Vec<OpenEvent>,
    ) -> Result<usize, StoreError> {
        self.inner.ledgers.revive(id, dead).await
    }

    /// Writes where subscribers stand.
    pub(crate) async fn write(&self) -> Result<(), StoreError> {
        self.inner.ledgers.write().await
    }

    /// Runs what owns the transport of several connections.
    pub(crate) fn spawn(&self, owner: impl Future<Output = ()> + Send + 'static) {
        self.inner.connections.spawn(owner);
    }

    /// Cancelled when nobody waits in a request any more.
    pub(crate) fn released(&self) -> &CancellationToken {
        &self.inner.released
    }

    /// Cancelled when every connection is told to come again.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// Nobody waits in a request any more.
    pub(crate) fn release(&self) {
        self.inner.released.cancel();
        self.move_to(RELEASED);
    }

    /// Nothing more is sent, and where subscribers stand is written. Connections stay.
    pub async fn freeze(&self) {
        self.move_to(FROZEN);
        if let Err(error) = self.write().await {
            tracing::warn!(event = "realtime.cut", %error, "cursors of subscribers are not written: they will see events again");
        }
    }

    /// Tells every connection to come again, and waits for them to go.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.move_to(CLOSED);
        self.inner.connections.close();
        let gone = tokio::time::timeout(GOODBYE, self.inner.connections.wait()).await;
        if gone.is_err() {
            tracing::debug!(event = "realtime.left", "connections did not end in time");
        }
    }

    fn move_to(&self, phase: u8) {
        self.inner.phase.fetch_max(phase, Ordering::AcqRel);
        self.inner.hub.ring_all();
    }

    fn is_released(&self) -> bool {
        self.inner.phase.load(Ordering::Acquire) >= RELEASED
    }

    fn is_frozen(&self) -> bool {
        self.inner.phase.load(Ordering::Acquire) >= FROZEN
    }

    fn is_closed(&self) -> bool {
        self.inner.phase.load(Ordering::Acquire) >= CLOSED
    }

    fn now(&self) -> Timestamp {
        (self.inner.clock)()
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Whether tokens are still valid, their credential too, and their instance there. In doubt
    /// they are.
    pub(crate) async fn still_welcome(&self, standing: &Standing) -> bool {
        let (directory, now) = (&self.inner.directory, self.now());
        for hash in &standing.tokens {
            if let Ok(None) = directory.holder(*hash, now).await {
                return false;
            }
        }
        if let Some(client) = &standing.client
            && let Ok(None) = directory.client(client, now).await
        {
            return false;
        }
        match standing.instance {
            Some(instance) => !matches!(directory.instance(instance).await, Ok(None)),
            None => true,
        }
    }
}

/// Somebody who waits in a request.
pub(crate) struct Waiting {
    realtime: Realtime,
    hung: Hung,
}

impl Waiting {
    /// Waits until something wanted is committed (or may have been). False: nobody waits any more.
    pub(crate) async fn rung(&self) -> bool {
        loop {
            if self.realtime.is_released() {
                return false;
            }
            self.hung.bell.rung().await;
            let (rung, _) = self.hung.bell.take();
            if rung && !self.realtime.is_released() {
                return true;
            }
        }
    }
}
