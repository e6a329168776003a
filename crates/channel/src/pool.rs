//! Connections over HTTP, shared between the destinations that may share them.
//!
//! hyper-util's pool knows one idle time for all and repeats a request only in some of the
//! cases in which a receiver has hung up on an idle connection; ordered delivery needs both to
//! be exact (`docs/design`: idle time from `Keep-Alive`, repeat on a fresh connection). So this
//! is a pool of our own on hyper's connections.

mod connection;
mod proxy;
mod tls;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::uri::Authority;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::{
    egress::{self, Guard},
    webhook::Http2,
};
use connection::{Connection, Forward, Many, One, Open};
pub(crate) use connection::{Form, Lent, Wire};
use proxy::TunnelError;
pub(crate) use proxy::{Proxy, percent_decoded};
use tls::Tls;
pub(crate) use tls::{Identity, TlsError};

/// How long an idle connection is kept when the receiver does not say: Node.js closes its own
/// after 5 s, and whoever writes at that moment loses.
pub(crate) const IDLE: Duration = Duration::from_secs(4);
/// Idle connections of one pool.
const IDLE_PER_POOL: usize = 256;
/// Idle connections of one node; each holds a file descriptor and some 10 KiB.
const IDLE_PER_NODE: usize = 2048;

/// An error with what is behind it, on one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some errors already print their source.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// Where connections lead, and how.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) guard: Arc<Guard>,
    pub(crate) https: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) http2: Http2,
    pub(crate) identity: Identity,
    pub(crate) proxy: Option<Proxy>,
}

/// What two destinations have in common that may share connections.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The address of the guard. A pool keeps its guard alive, so that as long as the pool is
    /// found no other guard can have this address.
    guard: usize,
    https: bool,
    host: Host,
    port: u16,
    http2: Http2,
    identity: [u8; 32],
    /// With its password.
    proxy: Option<(Url, bool)>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { https, host, port, http2, .. } = self;
        f.debug_struct("Key")
            .field("https", https)
            .field("host", host)
            .field("port", port)
            .field("http2", http2)
            .field("proxied", &self.proxy.is_some())
            .finish_non_exhaustive()
    }
}

impl Route {
    fn key(&self) -> Key {
        Key {
            guard: Arc::as_ptr(&self.guard).addr(),
            https: self.https,
            host: self.host.clone(),
            port: self.port,
            http2: self.http2,
            identity: self.identity.fingerprint,
            proxy: self.proxy.as_ref().map(|proxy| {
                let (url, forwards) = proxy.key();
                (url.clone(), forwards)
            }),
        }
    }
}

/// All pools of a node. A pool lives as long as a destination that uses it.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: Mutex<Register>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Register {
    pools: HashMap<Key, Weak<Pool>>,
    /// At this size, those nobody uses any more are looked for.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Shared {
    tls: Tls,
    idle: AtomicUsize,
    open: Arc<AtomicUsize>,
}

impl Pools {
    /// Connections that are open, and those of them (over HTTP/1.1) that nobody uses now.
    pub(crate) fn connections(&self) -> (usize, usize) {
        (self.shared.open.load(Ordering::Relaxed), self.shared.idle.load(Ordering::Relaxed))
    }

    /// A connection for what is no HTTP, secured when there is an identity. Takes at most `timeout`.
    pub(crate) async fn open(
        &self,
        guard: &Guard,
        host: &Host,
        port: u16,
        identity: Option<&Identity>,
        timeout: Duration,
    ) -> Result<Wire, ConnectError> {
        let opening = async {
            let stream = guard.connect(host, port, timeout).await?;
            let open = Open::new(&self.shared.open);
            let Some(identity) = identity else {
                return Ok(Wire::Plain(stream, open));
            };
            let config = self.shared.tls.config(identity, None).await?;
            let stream = TlsConnector::from(config)
                .connect(server_name(host)?, stream)
                .await
                .map_err(|source| ConnectError::Handshake { host: host.clone(), source })?;
            Ok(Wire::Tls(Box::new(stream), open))
        };
        tokio::time::timeout(timeout, opening).await.unwrap_or(Err(ConnectError::Timeout(timeout)))
    }

    /// The pool for a route.
    pub(crate) fn pool(&self, route: Route) -> Arc<Pool> {
        let key = route.key();
        let mut register = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = register.pools.get(&key).and_then(Weak::upgrade) {
            return pool;
        }
        if register.pools.len() >= register.sweep_at {
            register.pools.retain(|_, pool| pool.strong_count() > 0);
            register.sweep_at = 64.max(register.pools.len() * 2);
        }
        let version = match (route.https, route.http2) {
            (_, Http2::PriorKnowledge) => Version::Two,
            (true, Http2::Auto) => Version::Unknown,
            (false, Http2::Auto) | (_, Http2::Never) => Version::One,
        };
        let pool = Arc::new(Pool {
            route,
            state: Mutex::new(State { idle: Vec::new(), many: None, version, reaping: false }),
            connecting: tokio::sync::Mutex::new(()),
            shared: Arc::clone(&self.shared),
        });
        register.pools.insert(key, Arc::downgrade(&pool));
        pool
    }
}

/// What a receiver speaks, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Unknown,
    One,
    Two,
}

/// The connections of one route.
pub(crate) struct Pool {
    route: Route,
    state: Mutex<State>,
    /// Held while connecting to a receiver that speaks HTTP/2, or may: the others then share
    /// that connection.
    connecting: tokio::sync::Mutex<()>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("route", &self.route).finish_non_exhaustive()
    }
}

struct State {
    /// The one used last comes last, and is used first.
    idle: Vec<Idle>,
    many: Option<Shareable>,
    version: Version,
    /// Whether a task is there that drops what has been idle too long.
    reaping: bool,
}

struct Idle {
    one: Box<One>,
    until: Instant,
}

struct Shareable {
    many: Arc<Many>,
    /// Idle time counts from the last use.
    until: Instant,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Egress(#[from] egress::Error),
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the TLS handshake with {host} failed: {source}{}", advice(.source))]
    Handshake { host: Host, source: std::io::Error },
    #[error("HTTP cannot be spoken with the receiver: {0}")]
    Http(#[from] hyper::Error),
    #[error("no connection within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("the receiver's name cannot be written as an address")]
    Target,
}

/// What to do about a certificate that is not trusted.
fn advice(error: &std::io::Error) -> &'static str {
    let source = error.get_ref().and_then(|source| source.downcast_ref());
    match source {
        Some(rustls::Error::InvalidCertificate(_)) => {
            "; expected a certificate for that name from a public authority, or from one in `ca_pem`"
        }
        _ => "",
    }
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that has been used before, if one can be used again.
    pub(crate) async fn take(&self) -> Option<Lent> {
        let generation = self.route.guard.generation();
        let now = Instant::now();
        loop {
            let mut idle = {
                let mut state = self.state();
                if let Some(shareable) = &mut state.many {
                    if shareable.many.generation == generation && shareable.many.is_usable() {
                        shareable.until = now + IDLE;
                        let many = Arc::clone(&shareable.many);
                        return Some(Lent::new(Connection::Many(many), true));
                    }
                    state.many = None;
                }
                state.idle.pop()?
            };
            self.shared.idle.fetch_sub(1, Ordering::Relaxed);
            if idle.until > now && idle.one.generation == generation && idle.one.is_usable().await {
                return Some(Lent::new(Connection::One(idle.one), true));
            }
        }
    }

    /// A fresh connection, in place of `stale` if that is given. Takes at most `timeout`.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        stale: Option<Lent>,
        timeout: Duration,
    ) -> Result<Lent, ConnectError> {
        if let Some(stale) = &stale {
            self.retire(stale);
        }
        // An HTTP/1.1 connection is closed here, before the next one is opened.
        drop(stale);
        let connecting = async {
            if self.state().version == Version::One {
                return self.open(timeout).await;
            }
            let _turn = self.connecting.lock().await;
            // Somebody else may have connected meanwhile.
            match self.take().await {
                Some(lent) => Ok(lent),
                None => self.open(timeout).await,
            }
        };
        tokio::time::timeout(timeout, connecting)
            .await
            .unwrap_or(Err(ConnectError::Timeout(timeout)))
    }

    /// Makes sure that nobody else uses a connection that has failed, or does not answer.
    pub(crate) fn retire(&self, lent: &Lent) {
        if let Connection::Many(many) = &lent.connection {
            let mut state = self.state();
            if state.many.as_ref().is_some_and(|shareable| Arc::ptr_eq(&shareable.many, many)) {
                state.many = None;
            }
        }
    }

    /// Keeps a connection for the next request, for as long as it may be idle.
    pub(crate) async fn give_back(self: &Arc<Self>, lent: Lent, idle: Duration) {
        let mut one = match lent.connection {
            Connection::One(one) => one,
            Connection::Many(many) => {
                if let Some(shareable) = &mut self.state().many
                    && Arc::ptr_eq(&shareable.many, &many)
                {
                    shareable.until = Instant::now() + idle;
                }
                return;
            }
        };
        if idle.is_zero() || !one.is_usable().await {
            return;
        }
        if self.shared.idle.fetch_add(1, Ordering::Relaxed) >= IDLE_PER_NODE {
            self.shared.idle.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let reap = {
            let mut state = self.state();
            state.idle.push(Idle { one, until: Instant::now() + idle });
            if state.idle.len() > IDLE_PER_POOL {
                state.idle.remove(0);
                self.shared.idle.fetch_sub(1, Ordering::Relaxed);
            }
            !std::mem::replace(&mut state.reaping, true)
        };
        if reap {
            tokio::spawn(reap_idle(Arc::downgrade(self)));
        }
    }

    /// Opens a connection and speaks HTTP on it.
    async fn open(self: &Arc<Self>, timeout: Duration) -> Result<Lent, ConnectError> {
        let route = &self.route;
        // Before the check, so that a change of the rules during it is noticed.
        let generation = route.guard.generation();
        let (stream, forward) = self.stream(timeout).await?;
        let open = Open::new(&self.shared.open);
        let (wire, two) = if route.https {
            let config = self.shared.tls.config(&route.identity, Some(route.http2)).await?;
            let stream = TlsConnector::from(config)
                .connect(server_name(&route.host)?, stream)
                .await
                .map_err(|source| ConnectError::Handshake { host: route.host.clone(), source })?;
            let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            (Wire::Tls(Box::new(stream), open), two || route.http2 == Http2::PriorKnowledge)
        } else {
            (Wire::Plain(stream, open), route.http2 == Http2::PriorKnowledge)
        };
        if !two {
            self.state().version = Version::One;
            let one = One::open(wire, forward, generation).await?;
            return Ok(Lent::new(Connection::One(Box::new(one)), false));
        }
        let many = Arc::new(Many::open(wire, generation).await?);
        let reap = {
            let mut state = self.state();
            state.version = Version::Two;
            state.many = Some(Shareable { many: Arc::clone(&many), until: Instant::now() + IDLE });
            !std::mem::replace(&mut state.reaping, true)
        };
        if reap {
            tokio::spawn(reap_idle(Arc::downgrade(self)));
        }
        Ok(Lent::new(Connection::Many(many), false))
    }

    /// Bytes to the target: straight, through a tunnel, or to a proxy that forwards requests.
    async fn stream(
        &self,
        timeout: Duration,
    ) -> Result<(TcpStream, Option<Forward>), ConnectError> {
        let Route { guard, host, port, https, http2, .. } = &self.route;
        let Some(proxy) = &self.route.proxy else {
            return Ok((guard.connect(host, *port, timeout).await?, None));
        };
        let authority = if guard.is_trusted() {
            // The operator's own: only the proxy may know the name.
            format!("{host}:{port}")
        } else {
            // The proxy gets the checked address and not the name, which it might resolve to
            // something else.
            let checked = guard.check(host).await?;
            let address = checked.addresses().first().ok_or(ConnectError::Target)?;
            SocketAddr::new(*address, *port).to_string()
        };
        let authority: Authority = authority.parse().map_err(|_| ConnectError::Target)?;
        let connector = guard.connector(timeout);
        // h2c cannot be forwarded, it needs a connection of its own.
        if proxy.forwards() && !https && *http2 != Http2::PriorKnowledge {
            let stream = proxy.connect(connector).await.map_err(TunnelError::Connect)?;
            return Ok((stream, Some(Forward { authority, authorization: proxy.authorization() })));
        }
        Ok((proxy.tunnel(connector, &authority, timeout).await?, None))
    }
}

/// The name that a certificate must be for.
fn server_name(host: &Host) -> Result<ServerName<'static>, ConnectError> {
    match host {
        // RFC 6066 §3: without the dot at the end.
        Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|_| ConnectError::Target),
        Host::Ipv4(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Ipv6(address) => Ok(ServerName::IpAddress((*address).into())),
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.shared.idle.fetch_sub(state.idle.len(), Ordering::Relaxed);
    }
}

/// Drops what has been idle too long; ends when nothing is left.
async fn reap_idle(pool: Weak<Pool>) {
    loop {
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        let (dead, next) = {
            let mut state = pool.state();
            let dead: Vec<Idle> = state.idle.extract_if(.., |idle| idle.until <= now).collect();
            let many_dead = state.many.take_if(|shareable| {
                shareable.until <= now && Arc::strong_count(&shareable.many) == 1
            });
            let next = state.idle.iter().map(|idle| idle.until);
            let many = state.many.as_ref().map(|shareable| shareable.until.max(now + IDLE / 4));
            let next = next.chain(many).min();
            if next.is_none() {
                state.reaping = false;
            }
            ((dead, many_dead), next)
        };
        pool.shared.idle.fetch_sub(dead.0.len(), Ordering::Relaxed);
        // Closing is done outside the lock, and the pool is not kept alive by this task.
        drop((dead, pool));
        match next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Allow;

    #[test]
    fn a_pool_shows_no_password() {
        let pools = Pools::default();
        let pool = pools.pool(Route {
            guard: Arc::new(Guard::new(Allow::default())),
            https: true,
            host: Host::parse("example.com").unwrap(),
            port: 443,
            http2: Http2::Auto,
            identity: Identity::read(None, None).unwrap(),
            proxy: Some("http://user:hunter2@proxy.example.com:3128".parse().unwrap()),
        });
        let shown = format!("{pools:?} {pool:?}");
        assert!(shown.contains("example.com"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
