//! Connections to brokers, shared by the destinations of one URI.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lapin::{
    Channel as Line, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
    options::{
        ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio::{
    runtime::Handle,
    sync::{OnceCell, Semaphore, SemaphorePermit},
    time::Instant,
};

use super::{
    address::Address,
    config::{Config, ExchangeType, Place, QueueType},
    kit,
    transport::Scissors,
};
use crate::{
    Opening,
    egress::Guard,
    pool::{ConnectError, Identity, Pools},
};

/// How long a connection that no destination uses is kept: one that gets an event now and then shall
/// not log in each time.
const IDLE: Duration = Duration::from_secs(60);
/// AMQP channels of a connection at a time; RabbitMQ allows 2,047.
const LINES: usize = 1_024;
/// Of what the broker allows, what is left for declaring, and for channels that are being closed.
const DECLARING: usize = 32;
const CLOSING: usize = 8;
/// How long a connection that is closed waits for the broker to say so too.
const FAREWELL: Duration = Duration::from_secs(2);
/// The largest frame where the URI says nothing: what does not fit is sent in several.
const FRAME_MAX: u32 = 32 * 1_024;
/// Names that a connection remembers to have declared.
const DECLARED: usize = 65_536;

/// What two destinations have in common that share a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The address of the guard, which the link keeps alive.
    guard: usize,
    identity: Option<[u8; 32]>,
    /// With its password.
    uri: String,
    /// Whoever waits for a connection waits as long as who began to make it.
    connect_timeout: Duration,
}

/// All connections to brokers of a node.
#[derive(Default)]
pub(crate) struct Links(Mutex<HashMap<Key, Weak<Link>>>);

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

impl Links {
    pub(super) fn link(
        &self,
        opening: &Opening,
        address: Address,
        identity: Option<Identity>,
        connect_timeout: Duration,
    ) -> Arc<Link> {
        let key = Key {
            guard: Arc::as_ptr(&opening.guard).addr(),
            identity: identity.as_ref().map(|identity| identity.fingerprint),
            uri: address.exact(),
            connect_timeout,
        };
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&key).and_then(Weak::upgrade) {
            return link;
        }
        links.retain(|_, link| link.strong_count() > 0);
        let link = Arc::new(Link {
            guard: Arc::clone(&opening.guard),
            pools: Arc::clone(&opening.pools),
            address,
            identity,
            connect_timeout,
            current: tokio::sync::Mutex::new(Current { open: None, failed: None }),
        });
        links.insert(key, Arc::downgrade(&link));
        link
    }
}

/// Why there is no connection, or not any more. Shared by all who waited for it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct LinkError(Arc<str>);

impl LinkError {
    pub(super) fn lost(error: lapin::Error) -> Self {
        Self(format!("the connection to the broker is lost: {}", words(&error)).into())
    }

    pub(super) fn late(seconds: f64) -> Self {
        Self(format!("no connection to the broker within {seconds} s").into())
    }

    pub(super) fn unconfirmed(seconds: f64) -> Self {
        Self(format!("the broker has not confirmed it within {seconds} s").into())
    }
}

impl From<ConnectError> for LinkError {
    fn from(error: ConnectError) -> Self {
        Self(error.to_string().into())
    }
}

/// A broker, and the connection to it if there is one.
pub(super) struct Link {
    guard: Arc<Guard>,
    pools: Arc<Pools>,
    address: Address,
    identity: Option<Identity>,
    connect_timeout: Duration,
    current: tokio::sync::Mutex<Current>,
}

struct Current {
    open: Option<Arc<Open>>,
    /// When connecting failed last, and why.
    failed: Option<(Instant, LinkError)>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Link {
    /// The connection there is, or a new one. Those who ask while one is being made share it, or
    /// the reason why there is none.
    pub(super) async fn open(self: &Arc<Self>) -> Result<Arc<Open>, LinkError> {
        let asked = Instant::now();
        let mut current = self.current.lock().await;
        if let Some(open) = &current.open
            && open.is_usable(self)
        {
            return Ok(Arc::clone(open));
        }
        current.open = None;
        if let Some((at, error)) = &current.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let connecting = tokio::time::timeout(self.connect_timeout, self.connect());
        let late = || LinkError::late(self.connect_timeout.as_secs_f64());
        match connecting.await.unwrap_or_else(|_| Err(late())) {
            Ok(open) => {
                let open = Arc::new(open);
                current.open = Some(Arc::clone(&open));
                current.failed = None;
                tokio::spawn(keep(Arc::clone(self), Arc::downgrade(&open)));
                Ok(open)
            }
            Err(error) => {
                current.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Makes sure that nobody else begins to use a connection that does not answer. Waits for
    /// nobody: who connects at this moment finds out by itself.
    pub(super) fn retire(&self, open: &Arc<Open>) {
        open.retired.store(true, Ordering::Relaxed);
        if let Ok(mut current) = self.current.try_lock()
            && current.open.as_ref().is_some_and(|current| Arc::ptr_eq(current, open))
        {
            current.open = None;
        }
    }

    async fn connect(&self) -> Result<Open, LinkError> {
        // Before the check, so that a change of the rules during it is noticed.
        let generation = self.guard.generation();
        let address = &self.address;
        let identity = self.identity.as_ref();
        let wire = self
            .pools
            .open(&self.guard, &address.host, address.port, identity, self.connect_timeout)
            .await?;
        let uri = AMQPUri {
            // What is secured already is nothing that lapin has to know of.
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: address.user(), password: address.password() },
                host: address.host.to_string(),
                port: address.port,
            },
            vhost: address.vhost(),
            query: AMQPQueryString {
                heartbeat: Some(address.heartbeat),
                // Both sides hold buffers of many times this, so that the broker does not choose.
                frame_max: Some(address.frame_max.unwrap_or(FRAME_MAX)),
                ..AMQPQueryString::default()
            },
        };
        let properties = ConnectionProperties::default().with_connection_name("zapbus".into());
        let (connection, scissors) =
            kit::connect(uri, properties, wire).await.map_err(|error| {
                LinkError(format!("the broker does not let us in: {}", words(&error)).into())
            })?;
        let channels = match connection.configuration().channel_max() {
            0 => usize::from(u16::MAX),
            most => usize::from(most),
        };
        let declaring = DECLARING.min(channels / 4).max(1);
        let lines = LINES.min(channels.saturating_sub(declaring + CLOSING)).max(1);
        Ok(Open {
            idle: Mutex::new(Vec::new()),
            places: Semaphore::new(lines),
            declaring: Semaphore::new(declaring),
            confirmed_at: Mutex::new(None),
            connection,
            scissors: Some(scissors),
            generation,
            retired: AtomicBool::new(false),
            declared: Mutex::default(),
        })
    }
}

/// Keeps a link and its connection for a while after the last destination has gone.
async fn keep(link: Arc<Link>, open: Weak<Open>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(open) = open.upgrade() else { return };
        // The link's own and this one.
        if !open.is_usable(&link) || Arc::strong_count(&open) <= 2 {
            link.retire(&open);
            return;
        }
    }
}

/// A connection that is open.
pub(super) struct Open {
    connection: Connection,
    /// Used when the connection is dropped.
    scissors: Option<Scissors>,
    /// See [`Guard::generation`].
    generation: u64,
    retired: AtomicBool,
    /// What was declared over it, or is being declared: whoever needs the same waits, and nobody
    /// else does.
    declared: Mutex<HashMap<Place, Arc<OnceCell<()>>>>,
    /// AMQP channels that wait for the next message.
    idle: Mutex<Vec<Line>>,
    /// Bounds how many there are.
    places: Semaphore,
    /// The same for declaring.
    declaring: Semaphore,
    /// When the broker has confirmed something last.
    confirmed_at: Mutex<Option<Instant>>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Open {
    /// Whether something new may be begun over it.
    pub(super) fn is_usable(&self, link: &Link) -> bool {
        self.connection.status().connected()
            && self.generation == link.guard.generation()
            && !self.retired.load(Ordering::Relaxed)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// An AMQP channel with confirms, for one message at a time. It is closed when it is dropped.
    pub(super) async fn line(&self) -> Result<(Line, SemaphorePermit<'_>), LinkError> {
        let place = turn(&self.places).await?;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        while let Some(line) = idle() {
            if line.status().connected() {
                return Ok((line, place));
            }
        }
        let line = self.channel().await?;
        line.confirm_select(ConfirmSelectOptions::default()).await.map_err(LinkError::lost)?;
        Ok((line, place))
    }

    /// Nothing is on its way on this channel.
    pub(super) fn give_back(&self, line: Line) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// The broker has answered for a message.
    pub(super) fn confirmed(&self) {
        let now = Some(Instant::now());
        *self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(super) fn has_confirmed_since(&self, then: Instant) -> bool {
        let at = *self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| at >= then)
    }

    /// A new AMQP channel.
    async fn channel(&self) -> Result<Line, LinkError> {
        self.connection.create_channel().await.map_err(|error| match error.kind() {
            ErrorKind::ChannelsLimitReached => LinkError(
                "the connection has as many channels as the broker allows (channel_max): too many \
                 destinations are at work with this URI at one time"
                    .into(),
            ),
            _ => LinkError::lost(error),
        })
    }

    /// Makes sure that what a message needs is there.
    pub(super) async fn declare(
        &self,
        topology: &Topology,
        place: &Place,
    ) -> Result<(), LinkError> {
        let Some(kind) = &topology.exchange else { return Ok(()) };
        if place.exchange.is_empty() {
            return Ok(());
        }
        let declaration = self.declaration(place);
        let declaring = || self.declare_now(kind, topology.queue, place);
        declaration.get_or_try_init(declaring).await.copied()
    }

    fn declaration(&self, place: &Place) -> Arc<OnceCell<()>> {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(declaration) = declared.get(place) {
            return Arc::clone(declaration);
        }
        if declared.len() >= DECLARED {
            declared.clear();
        }
        Arc::clone(declared.entry(place.clone()).or_default())
    }

    async fn declare_now(
        &self,
        exchange_kind: &ExchangeKind,
        queue_type: QueueType,
        place: &Place,
    ) -> Result<(), LinkError> {
        let _turn = turn(&self.declaring).await?;
        // On a channel of its own: a refusal closes it.
        let line = self.channel().await?;
        let refused = |what: &str, name: &str| {
            let what = format!("the broker does not let {what} `{name}` be declared");
            move |error: lapin::Error| match is_lost(&error) {
                true => LinkError::lost(error),
                false => LinkError(
                    format!(
                        "{what}: {}; if it exists with other properties, delete it there, choose \
                         another name, or set `declare` to false",
                        words(&error)
                    )
                    .into(),
                ),
            }
        };
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let exchange = || place.exchange.as_str().into();
        line.exchange_declare(exchange(), exchange_kind.clone(), options, FieldTable::default())
            .await
            .map_err(refused("the exchange", &place.exchange))?;
        if let Some(queue) = &place.queue {
            let mut arguments = FieldTable::default();
            let kind = AMQPValue::LongString(queue_type.as_str().into());
            arguments.insert("x-queue-type".into(), kind);
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let name = || queue.as_str().into();
            line.queue_declare(name(), options, arguments)
                .await
                .map_err(refused("the queue", queue))?;
            let key = place.routing_key.as_str().into();
            line.queue_bind(
                name(),
                exchange(),
                key,
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(refused("the binding of", queue))?;
        }
        line.close(200, "OK".into()).await.ok();
        Ok(())
    }

    /// What was declared for a place may be gone.
    pub(super) fn forget(&self, place: &Place) {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).remove(place);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(scissors) = self.scissors.take() else { return };
        // The connection is closed with its last field; a broker that does not answer is left. Where
        // nothing runs any more it is cut off at once.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(FAREWELL).await;
                drop(scissors);
            });
        }
    }
}

/// One of the AMQP channels that there may be.
async fn turn(places: &Semaphore) -> Result<SemaphorePermit<'_>, LinkError> {
    places.acquire().await.map_err(|_| LinkError("it is closed".into()))
}

/// What is declared for each message.
#[derive(Debug, Clone)]
pub(super) struct Topology {
    /// `None`: nothing is.
    exchange: Option<ExchangeKind>,
    queue: QueueType,
}

impl Topology {
    pub(super) fn of(config: &Config) -> Self {
        let kind = match config.exchange_type.unwrap_or(ExchangeType::Topic) {
            ExchangeType::Topic => ExchangeKind::Topic,
            ExchangeType::Direct => ExchangeKind::Direct,
            ExchangeType::Fanout => ExchangeKind::Fanout,
            ExchangeType::Headers => ExchangeKind::Headers,
        };
        Self {
            exchange: config.declare.then_some(kind),
            queue: config.queue_type.unwrap_or_default(),
        }
    }
}

/// Whether an error is the end of the connection, and not only of an AMQP channel.
pub(super) fn is_lost(error: &lapin::Error) -> bool {
    !error.is_amqp_soft_error()
}

/// What an error says, for the destination's owner.
pub(super) fn words(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}
