//! Which addresses a URL given by a user may reach.
//!
//! A [`Guard`] resolves a name, checks **every** address it gets, and connects to one of those
//! it has checked and to no other, so that a name server that changes its answer in between
//! gains nothing. The name itself stays with the caller, for SNI and `Host`.

mod allow;
mod connector;
mod ranges;
mod resolver;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use url::{Host, Url};

pub use self::{
    allow::{Allow, AllowError},
    connector::Connector,
    ranges::{Range, range},
    resolver::{Resolver, Resolving, SystemResolver},
};

/// The setting that [`Refusal`]s name.
const SETTING: &str = "ZAPBUS_EGRESS_ALLOW";

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
        match url.host() {
            Some(host) => self.check_literal_host(&host),
            None => Ok(()),
        }
    }

    /// [`Self::check_literal`] for a host that stands in no URL of the web.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check_literal_host<S>(&self, host: &Host<S>) -> Result<(), Refusal> {
        match host {
            Host::Ipv4(address) => check_address(&self.rules(), (*address).into()),
            Host::Ipv6(address) => check_address(&self.rules(), (*address).into()),
            Host::Domain(_) => Ok(()),
        }
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

#[cfg(test)]
mod tests;
