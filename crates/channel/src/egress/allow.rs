//! What the operator lets through besides public addresses.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;
use url::Host;

use super::{Range, range};

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

    pub(super) fn address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
            || (self.loopback && range(address) == Some(Range::Loopback))
    }

    pub(super) fn name(&self, name: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
