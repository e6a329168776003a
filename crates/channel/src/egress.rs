//! Which addresses a URL given by a user may reach.
//!
//! A [`Guard`] resolves a name, checks **every** address it gets, and connects to one of those
//! it has checked and to no other, so that a name server that changes its answer in between
//! gains nothing. The name itself stays with the caller, for SNI and `Host`.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    str::FromStr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use url::{Host, Url};

/// The setting that [`Refusal`]s name.
const SETTING: &str = "ZAPBUS_EGRESS_ALLOW";

/// Why an address is not public.
///
/// Sources: the IANA special-purpose address registries for IPv4 and IPv6, and the metadata
/// addresses that cloud vendors document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// `0.0.0.0/8`, `::`.
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// RFC 1918.
    Private,
    /// `100.64.0.0/10`, RFC 6598.
    CarrierNat,
    /// `169.254.0.0/16`, `fe80::/10`, `fec0::/10`.
    LinkLocal,
    /// Where clouds hand out credentials.
    Metadata,
    /// `fc00::/7`, RFC 4193.
    UniqueLocal,
    /// RFC 5737, RFC 3849, RFC 9637.
    Documentation,
    /// `198.18.0.0/15`, `2001:2::/48`.
    Benchmark,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// Everything that is set aside or not handed out.
    Reserved,
    /// IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo.
    Embedded,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "the unspecified address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::CarrierNat => "a carrier-grade NAT address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud metadata address",
            Self::UniqueLocal => "a unique local address",
            Self::Documentation => "an address for documentation",
            Self::Benchmark => "an address for benchmarks",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Reserved => "a reserved address",
            Self::Embedded => "an IPv4 address inside an IPv6 one",
        })
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length)
}

/// The first that holds the address counts.
const V4: &[(Ipv4Net, Range)] = &[
    (v4(169, 254, 169, 254, 32), Range::Metadata),
    (v4(169, 254, 170, 2, 32), Range::Metadata),
    (v4(100, 100, 100, 200, 32), Range::Metadata),
    (v4(168, 63, 129, 16, 32), Range::Metadata),
    (v4(192, 0, 0, 192, 32), Range::Metadata),
    (v4(0, 0, 0, 0, 8), Range::Unspecified),
    (v4(10, 0, 0, 0, 8), Range::Private),
    (v4(100, 64, 0, 0, 10), Range::CarrierNat),
    (v4(127, 0, 0, 0, 8), Range::Loopback),
    (v4(169, 254, 0, 0, 16), Range::LinkLocal),
    (v4(172, 16, 0, 0, 12), Range::Private),
    (v4(192, 0, 0, 0, 24), Range::Reserved),
    (v4(192, 0, 2, 0, 24), Range::Documentation),
    (v4(192, 88, 99, 0, 24), Range::Reserved),
    (v4(192, 168, 0, 0, 16), Range::Private),
    (v4(198, 18, 0, 0, 15), Range::Benchmark),
    (v4(198, 51, 100, 0, 24), Range::Documentation),
    (v4(203, 0, 113, 0, 24), Range::Documentation),
    (v4(224, 0, 0, 0, 4), Range::Multicast),
    (v4(255, 255, 255, 255, 32), Range::Broadcast),
    (v4(240, 0, 0, 0, 4), Range::Reserved),
];

/// The first that holds the address counts.
const V6: &[(Ipv6Net, Range)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), Range::Unspecified),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), Range::Loopback),
    (v6(0, 0, 0, 0, 96), Range::Embedded),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), Range::Embedded),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96), Range::Embedded),
    (v6(0x64, 0xff9b, 0, 0, 96), Range::Embedded),
    (v6(0x64, 0xff9b, 1, 0, 48), Range::Embedded),
    (v6(0x2001, 0, 0, 0, 32), Range::Embedded),
    (v6(0x2002, 0, 0, 0, 16), Range::Embedded),
    (v6(0x2001, 2, 0, 0, 48), Range::Benchmark),
    (v6(0x2001, 0, 0, 0, 23), Range::Reserved),
    (v6(0x2001, 0xdb8, 0, 0, 32), Range::Documentation),
    (v6(0x3fff, 0, 0, 0, 20), Range::Documentation),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128), Range::Metadata),
    (v6(0xfc00, 0, 0, 0, 7), Range::UniqueLocal),
    (v6(0xfe80, 0, 0, 0, 10), Range::LinkLocal),
    (v6(0xfec0, 0, 0, 0, 10), Range::LinkLocal),
    (v6(0xff00, 0, 0, 0, 8), Range::Multicast),
];

/// All that is handed out for public use.
const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 0, 0, 3);

/// Which special range an address lies in; `None` for a public one.
pub fn range(address: IpAddr) -> Option<Range> {
    match address {
        IpAddr::V4(address) => {
            V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, range)| *range)
        }
        IpAddr::V6(address) => V6
            .iter()
            .find(|(net, _)| net.contains(&address))
            .map(|(_, range)| *range)
            .or_else(|| (!GLOBAL_UNICAST.contains(&address)).then_some(Range::Reserved)),
    }
}

/// A host name of the allow-list, in lower case, without a dot at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// This one.
    Exact(String),
    /// Everything below it; begins with a dot.
    Below(String),
}

impl Name {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
        }
    }
}

/// The operator's allow-list: networks and host names that may be reached besides the public
/// addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    networks: Vec<IpNet>,
    names: Vec<Name>,
    loopback: bool,
}

impl Allow {
    /// Also (or no longer) allows `127.0.0.0/8` and `::1`: for a gateway that itself listens on
    /// loopback only.
    pub fn with_loopback(mut self, allowed: bool) -> Self {
        self.loopback = allowed;
        self
    }

    /// Nothing is on the list.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.names.is_empty()
    }

    fn address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
            || (self.loopback && range(address) == Some(Range::Loopback))
    }

    fn name(&self, name: &str) -> bool {
        self.names.iter().any(|allowed| allowed.matches(name))
    }
}

/// An entry of the allow-list that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` cannot be allowed: expected a network such as 10.0.0.0/8, an address such as \
     10.0.0.5, a host name such as n8n, or *.internal for all names below one"
)]
pub struct AllowError {
    /// As it was written.
    pub entry: String,
}

/// Reads entries separated by commas; empty entries are skipped.
impl FromStr for Allow {
    type Err = AllowError;

    fn from_str(list: &str) -> Result<Self, AllowError> {
        let mut allow = Self::default();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let error = || AllowError { entry: entry.to_owned() };
            if let Ok(network) = entry.parse::<IpNet>() {
                allow.networks.push(network.trunc());
                continue;
            }
            if let Ok(address) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
                allow.networks.push(address.into());
                continue;
            }
            let (below, name) = match entry.strip_prefix("*.") {
                Some(name) => (true, name),
                None => (false, entry),
            };
            match Host::parse(name).map_err(|_| error())? {
                Host::Domain(name) if name.contains('*') => return Err(error()),
                Host::Domain(name) => {
                    let name = name.trim_end_matches('.');
                    allow.names.push(if below {
                        Name::Below(format!(".{name}"))
                    } else {
                        Name::Exact(name.to_owned())
                    });
                }
                Host::Ipv4(address) if !below => allow.networks.push(IpAddr::from(address).into()),
                _ => return Err(error()),
            }
        }
        Ok(allow)
    }
}

/// A target that the guard does not let through, with the line that would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "refused to connect to {target}: {what}; to allow it, the operator of this gateway adds it \
     to the allow-list: {SETTING}={line}"
)]
pub struct Refusal {
    /// The host as it stands in the URL.
    pub target: String,
    /// What is wrong with it. A name's addresses are not told, they may be internal.
    what: String,
    /// The entry that would allow it.
    line: String,
}

impl Refusal {
    fn literal(address: IpAddr, range: Range) -> Self {
        Self {
            target: address.to_string(),
            what: format!("it is {range}"),
            line: IpNet::from(address).to_string(),
        }
    }

    fn name(name: &str, range: Range) -> Self {
        Self {
            target: name.to_owned(),
            what: format!("its name resolves to {range}"),
            line: name.to_owned(),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The guard says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The name has no address.
    #[error("the name {host} could not be resolved ({source}); check its spelling and DNS")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// No address took the connection.
    #[error("could not connect to {host}:{port}: {source}")]
    Connect {
        /// The host as it stands in the URL.
        host: String,
        /// The port.
        port: u16,
        /// What the last address tried says.
        source: io::Error,
    },
    /// No address took the connection in time.
    #[error("no connection to {host}:{port} within {} s", .after.as_secs_f64())]
    Timeout {
        /// The host as it stands in the URL.
        host: String,
        /// The port.
        port: u16,
        /// The time there was.
        after: Duration,
    },
    /// A URI without a host; nothing to connect to.
    #[error("the address to connect to has no host")]
    NoHost,
}

/// Where names become addresses; tests have their own.
pub trait Resolver: Send + Sync + 'static {
    /// All addresses of a name.
    ///
    /// # Errors
    ///
    /// When the name has none or cannot be asked for.
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a>;
}

/// What [`Resolver::resolve`] gives.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// How many names are looked up at one time.
const LOOKUPS: usize = 64;

/// The operating system's resolver. It blocks a thread for each name, of those that the store
/// reads with too: when name servers are slow only so many wait for them.
#[derive(Debug, Clone)]
pub struct SystemResolver {
    turns: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        let name = name.to_owned();
        Box::pin(in_turn(Arc::clone(&self.turns), move || {
            Ok((name.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())
        }))
    }
}

/// Does what blocks when it is its turn. The turn ends with it, and not with a caller who has
/// waited long enough: the thread is taken until then.
async fn in_turn<T: Send + 'static>(
    turns: Arc<Semaphore>,
    look_up: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let turn = turns.acquire_owned().await.map_err(io::Error::other)?;
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        look_up()
    })
    .await
    .map_err(io::Error::other)?
}

/// What a guard goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rules {
    /// Public addresses and what the list allows.
    Guarded(Allow),
    /// Everything.
    Trusted,
}

/// Addresses of a host that may be connected to.
#[derive(Debug, Clone)]
pub struct Checked(Vec<IpAddr>);

impl Checked {
    /// In the order in which they should be tried; never empty.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.0
    }
}

/// The gate that every connection to a user-given target passes.
pub struct Guard {
    rules: RwLock<Arc<Rules>>,
    /// Grows with each change of the rules, so that pools notice.
    generation: AtomicU64,
    resolver: Box<dyn Resolver>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("rules", &self.rules()).finish_non_exhaustive()
    }
}

impl Guard {
    /// Lets through public addresses and what the list allows.
    pub fn new(allow: Allow) -> Self {
        Self::with_resolver(allow, SystemResolver::default())
    }

    /// Like [`Self::new`], with names resolved elsewhere.
    pub fn with_resolver(allow: Allow, resolver: impl Resolver) -> Self {
        Self {
            rules: RwLock::new(Arc::new(Rules::Guarded(allow))),
            generation: AtomicU64::new(0),
            resolver: Box::new(resolver),
        }
    }

    /// Lets everything through: for targets of the operator's own file or environment.
    pub fn trusted() -> Self {
        Self {
            rules: RwLock::new(Arc::new(Rules::Trusted)),
            generation: AtomicU64::new(0),
            resolver: Box::new(SystemResolver::default()),
        }
    }

    /// Puts another allow-list in place. Connections opened under the old one are not used
    /// again.
    pub fn replace(&self, allow: Allow) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Rules::Guarded(allow));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Which rules are in force: a connection opened under another number is not to be used.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether everything is let through.
    pub fn is_trusted(&self) -> bool {
        matches!(*self.rules(), Rules::Trusted)
    }

    /// Checks the address in a URL, if it is one. Names are checked when connecting, since they
    /// may mean something else by then.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when the host is a literal address that may not be reached.
    pub fn check_literal(&self, url: &Url) -> Result<(), Refusal> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        check_address(&self.rules(), address)
    }

    /// Resolves a host and checks all its addresses. One that may not be reached refuses the
    /// host as a whole: a public name with an internal address is a mistake or an attack.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] or [`Error::Resolve`].
    pub async fn check(&self, host: &Host) -> Result<Checked, Error> {
        let rules = self.rules();
        let name = match host {
            Host::Ipv4(address) => {
                check_address(&rules, (*address).into())?;
                return Ok(Checked(vec![(*address).into()]));
            }
            Host::Ipv6(address) => {
                check_address(&rules, (*address).into())?;
                return Ok(Checked(vec![(*address).into()]));
            }
            Host::Domain(name) => name,
        };
        let addresses = self
            .resolver
            .resolve(name)
            .await
            .and_then(|addresses| match addresses.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
                false => Ok(addresses),
            })
            .map_err(|source| Error::Resolve { host: name.clone(), source })?;
        if let Rules::Guarded(allow) = &*rules {
            let plain = name.trim_end_matches('.');
            if !allow.name(plain) {
                let refused = addresses
                    .iter()
                    .filter(|address| !allow.address(**address))
                    .find_map(|address| range(*address));
                if let Some(range) = refused {
                    return Err(Refusal::name(plain, range).into());
                }
            }
        }
        Ok(Checked(addresses))
    }

    /// Connects to a host, at one of its checked addresses. The whole takes at most `timeout`;
    /// each address gets an equal share of what is left.
    ///
    /// # Errors
    ///
    /// Every [`Error`] but [`Error::NoHost`].
    pub async fn connect(
        &self,
        host: &Host,
        port: u16,
        timeout: Duration,
    ) -> Result<TcpStream, Error> {
        let deadline = Instant::now() + timeout;
        let late = || Error::Timeout { host: host.to_string(), port, after: timeout };
        let checked = timeout_at(deadline, self.check(host)).await.map_err(|_| late())??;
        let mut last = late();
        let mut left = u32::try_from(checked.0.len()).unwrap_or(u32::MAX);
        for address in checked.0 {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / left;
            left -= 1;
            let address = SocketAddr::new(address, port);
            match timeout_at(now + share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // A request is one write; waiting for more would only delay it.
                    stream.set_nodelay(true).ok();
                    return Ok(stream);
                }
                Ok(Err(source)) => last = Error::Connect { host: host.to_string(), port, source },
                Err(_) => last = late(),
            }
        }
        Err(last)
    }

    /// The guard as a connector for hyper and tower. `timeout` covers resolving and connecting.
    pub fn connector(self: &Arc<Self>, timeout: Duration) -> Connector {
        Connector { guard: Arc::clone(self), timeout }
    }
}

fn check_address(rules: &Rules, address: IpAddr) -> Result<(), Refusal> {
    match rules {
        Rules::Trusted => Ok(()),
        Rules::Guarded(allow) if allow.address(address) => Ok(()),
        Rules::Guarded(_) => match range(address) {
            Some(range) => Err(Refusal::literal(address, range)),
            None => Ok(()),
        },
    }
}

/// Opens guarded TCP connections; see [`Guard::connector`].
#[derive(Debug, Clone)]
pub struct Connector {
    guard: Arc<Guard>,
    timeout: Duration,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { guard, timeout } = self.clone();
        Box::pin(async move {
            // `Host::parse` reads the same odd forms of addresses (0x7f000001) as a browser.
            let host = uri.host().and_then(|host| Host::parse(host).ok()).ok_or(Error::NoHost)?;
            let https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
            let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
            Ok(TokioIo::new(guard.connect(&host, port, timeout).await?))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(url: &str) -> Option<String> {
        let guard = Guard::new(Allow::default());
        guard.check_literal(&Url::parse(url).unwrap()).err().map(|refusal| refusal.line)
    }

    #[tokio::test]
    async fn lookups_that_nobody_waits_for_any_more_still_count() {
        let turns = Arc::new(Semaphore::new(2));
        let running = Arc::new(AtomicU64::new(0));
        let most = Arc::new(AtomicU64::new(0));
        for _ in 0..20 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            let slow = in_turn(Arc::clone(&turns), move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            });
            // As a connection does that has had enough.
            let _ = tokio::time::timeout(Duration::from_millis(5), slow).await;
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert_eq!(in_turn(turns, || Ok(7)).await.unwrap(), 7);
        let home = SystemResolver::default();
        assert!(home.resolve("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
        assert!(home.resolve("nowhere.invalid").await.is_err());
    }

    #[test]
    fn every_range_and_every_way_to_write_it_is_refused() {
        let table = [
            // Ways to write an IPv4 address.
            ("http://127.0.0.1/", "127.0.0.1/32"),
            ("http://127.1/", "127.0.0.1/32"),
            ("http://127.0.1/", "127.0.0.1/32"),
            ("http://2130706433/", "127.0.0.1/32"),
            ("http://0x7f000001/", "127.0.0.1/32"),
            ("http://0x7f.1/", "127.0.0.1/32"),
            ("http://0177.0.0.1/", "127.0.0.1/32"),
            ("http://017700000001/", "127.0.0.1/32"),
            ("http://127.0.0.1./", "127.0.0.1/32"),
            ("http://127.255.255.254/", "127.255.255.254/32"),
            ("http://%31%32%37.0.0.1/", "127.0.0.1/32"),
            ("http://①②⑦.⓪.⓪.①/", "127.0.0.1/32"),
            ("http://0/", "0.0.0.0/32"),
            // Ranges of IPv4.
            ("http://0.1.2.3/", "0.1.2.3/32"),
            ("http://10.0.0.5/", "10.0.0.5/32"),
            ("http://100.64.0.1/", "100.64.0.1/32"),
            ("http://100.127.255.255/", "100.127.255.255/32"),
            ("http://100.100.100.200/", "100.100.100.200/32"),
            ("http://168.63.129.16/", "168.63.129.16/32"),
            ("http://169.254.0.1/", "169.254.0.1/32"),
            ("http://169.254.169.254/latest/meta-data/", "169.254.169.254/32"),
            ("http://172.16.0.1/", "172.16.0.1/32"),
            ("http://172.31.255.255/", "172.31.255.255/32"),
            ("http://192.0.0.1/", "192.0.0.1/32"),
            ("http://192.0.0.192/", "192.0.0.192/32"),
            ("http://192.0.2.1/", "192.0.2.1/32"),
            ("http://192.88.99.1/", "192.88.99.1/32"),
            ("http://192.168.1.1/", "192.168.1.1/32"),
            ("http://198.18.0.1/", "198.18.0.1/32"),
            ("http://198.19.255.255/", "198.19.255.255/32"),
            ("http://198.51.100.1/", "198.51.100.1/32"),
            ("http://203.0.113.1/", "203.0.113.1/32"),
            ("http://224.0.0.1/", "224.0.0.1/32"),
            ("http://239.255.255.255/", "239.255.255.255/32"),
            ("http://240.0.0.1/", "240.0.0.1/32"),
            ("http://255.255.255.255/", "255.255.255.255/32"),
            // Ranges of IPv6.
            ("http://[::]/", "::/128"),
            ("http://[::1]/", "::1/128"),
            ("http://[0:0:0:0:0:0:0:1]/", "::1/128"),
            ("http://[fc00::1]/", "fc00::1/128"),
            ("http://[fd12:3456::1]/", "fd12:3456::1/128"),
            ("http://[fd00:ec2::254]/", "fd00:ec2::254/128"),
            ("http://[fe80::1]/", "fe80::1/128"),
            ("http://[fec0::1]/", "fec0::1/128"),
            ("http://[ff02::1]/", "ff02::1/128"),
            ("http://[2001:db8::1]/", "2001:db8::1/128"),
            ("http://[3fff::1]/", "3fff::1/128"),
            ("http://[2001:2::1]/", "2001:2::1/128"),
            ("http://[2001:20::1]/", "2001:20::1/128"),
            ("http://[100::1]/", "100::1/128"),
            ("http://[5f00::1]/", "5f00::1/128"),
            ("http://[4000::1]/", "4000::1/128"),
            // IPv4 inside IPv6, public or not.
            ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1/128"),
            ("http://[::ffff:7f00:1]/", "::ffff:127.0.0.1/128"),
            ("http://[::ffff:8.8.8.8]/", "::ffff:8.8.8.8/128"),
            ("http://[::ffff:0:7f00:1]/", "::ffff:0:7f00:1/128"),
            ("http://[::127.0.0.1]/", "::127.0.0.1/128"),
            ("http://[::a00:5]/", "::10.0.0.5/128"),
            ("http://[64:ff9b::7f00:1]/", "64:ff9b::7f00:1/128"),
            ("http://[64:ff9b:1::a00:5]/", "64:ff9b:1::a00:5/128"),
            ("http://[2002:7f00:1::]/", "2002:7f00:1::/128"),
            ("http://[2001::7f00:1]/", "2001::7f00:1/128"),
        ];
        for (url, line) in table {
            let found = refused(url);
            // Rust prints `::a.b.c.d` in its own way; what counts is the address.
            let found: Option<IpNet> = found.map(|line| line.parse().unwrap());
            assert_eq!(found, Some(line.parse().unwrap()), "{url}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for url in [
            "https://1.1.1.1/",
            "https://93.184.216.34/",
            "https://100.63.255.255/",
            "https://172.32.0.1/",
            "https://11.0.0.1/",
            "https://223.255.255.255/",
            "https://[2606:4700:4700::1111]/",
            "https://[2a00:1450:4001:80e::200e]/",
            "https://example.com/",
            // A name, for the moment: it is checked when it is resolved.
            "http://localhost/",
        ] {
            assert_eq!(refused(url), None, "{url}");
        }
    }

    #[test]
    fn the_list_allows_networks_addresses_and_names() {
        let allow: Allow =
            "10.0.0.0/8, 192.168.1.5,[fd00::1], n8n, *.Internal ,db.example.com.,, 127.1"
                .parse()
                .unwrap();
        for address in ["10.1.2.3", "192.168.1.5", "fd00::1", "127.0.0.1"] {
            assert!(allow.address(address.parse().unwrap()), "{address}");
        }
        for address in ["192.168.1.6", "fd00::2", "::ffff:10.1.2.3"] {
            assert!(!allow.address(address.parse().unwrap()), "{address}");
        }
        for name in ["n8n", "a.internal", "a.b.internal", "db.example.com"] {
            assert!(allow.name(name), "{name}");
        }
        for name in ["internal", "n8n.example.com", "ainternal", "example.com"] {
            assert!(!allow.name(name), "{name}");
        }
    }

    #[test]
    fn an_entry_that_means_nothing_is_an_error() {
        for entry in ["10.0.0.0/33", "*", "*.10.0.0.1", "a b", "http://n8n", "n8n:80", "*.*.x"] {
            assert_eq!(entry.parse::<Allow>(), Err(AllowError { entry: entry.into() }), "{entry}");
        }
    }

    #[test]
    fn loopback_is_allowed_when_the_operator_is_at_home() {
        let guard = Guard::new(Allow::default().with_loopback(true));
        for (url, allowed) in [
            ("http://127.0.0.1:9/", true),
            ("http://[::1]/", true),
            ("http://[::ffff:127.0.0.1]/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(guard.check_literal(&Url::parse(url).unwrap()).is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn a_refusal_names_the_line_that_would_allow_it() {
        let guard = Guard::new(Allow::default());
        let refusal = guard.check_literal(&Url::parse("http://10.0.0.5/").unwrap()).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "refused to connect to 10.0.0.5: it is a private address; to allow it, the operator \
             of this gateway adds it to the allow-list: ZAPBUS_EGRESS_ALLOW=10.0.0.5/32"
        );
    }

    struct Fixed(Vec<IpAddr>);

    impl Resolver for Fixed {
        fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
            Box::pin(async { Ok(self.0.clone()) })
        }
    }

    #[tokio::test]
    async fn one_bad_address_refuses_the_name_and_stays_untold() {
        let both = || Fixed(vec!["1.1.1.1".parse().unwrap(), "10.9.8.7".parse().unwrap()]);
        let host = Host::parse("db.example.com").unwrap();
        let error = Guard::with_resolver(Allow::default(), both()).check(&host).await.unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("ZAPBUS_EGRESS_ALLOW=db.example.com"), "{text}");
        assert!(!text.contains("10.9.8.7"), "{text}");
        for list in ["10.0.0.0/8", "db.example.com", "*.example.com"] {
            let guard = Guard::with_resolver(list.parse().unwrap(), both());
            assert!(guard.check(&host).await.is_ok(), "{list}");
        }
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_an_error() {
        let guard = Guard::with_resolver(Allow::default(), Fixed(Vec::new()));
        let error = guard.check(&Host::parse("example.com").unwrap()).await.unwrap_err();
        assert!(matches!(error, Error::Resolve { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = text.parse::<Allow>();
            if let Ok(url) = Url::parse(&format!("http://{text}/")) {
                let _ = Guard::new(Allow::default()).check_literal(&url);
            }
        }

        #[test]
        fn an_embedded_address_is_never_public(address in any::<u32>()) {
            for prefix in ["::ffff:", "64:ff9b::", "::"] {
                let text = format!("{prefix}{}", Ipv4Addr::from(address));
                prop_assert!(range(text.parse().unwrap()).is_some(), "{}", text);
            }
        }
    }
}
