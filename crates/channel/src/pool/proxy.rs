//! Proxies: the way to a target that leads through somebody else.

use std::{fmt, str::FromStr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri, uri::Authority};
use hyper_util::{
    client::legacy::connect::proxy::{SocksV5, Tunnel},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower::Service;
use url::Url;

use crate::{
    MASK,
    egress::{self, Connector},
    pool::with_sources,
};

/// Where a proxy is, and what it wants to know of us.
#[derive(Clone)]
pub(crate) struct Proxy {
    url: Url,
    kind: Kind,
    uri: Uri,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Socks5,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// Text that names no proxy.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected a proxy such as http://proxy.example.com:3128, \
     http://user:password@proxy.example.com:3128 or socks5://proxy.example.com:1080"
)]
pub(crate) struct ProxyError;

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let (kind, rest, port) = if let Some(rest) = text.strip_prefix("http://") {
            (Kind::Http, rest, 80)
        } else if let Some(rest) = text.strip_prefix("socks5://") {
            (Kind::Socks5, rest, 1080)
        } else {
            return Err(ProxyError);
        };
        // Read as an http URL whatever it is: only then odd forms of addresses (0x7f000001)
        // become addresses that the guard can check.
        let url = Url::parse(&format!("http://{rest}")).map_err(|_| ProxyError)?;
        // An http URL with `:80` says so no more.
        let given =
            url.port().or_else(|| rest.trim_end_matches('/').ends_with(":80").then_some(80));
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyError);
        }
        let host = url.host_str().ok_or(ProxyError)?;
        let uri = format!("http://{host}:{}/", given.unwrap_or(port));
        let uri = uri.parse().map_err(|_| ProxyError)?;
        let proxy = Self { url, kind, uri };
        // RFC 1929 §2: user and password have one byte for their length.
        let (user, password) = proxy.credentials().unwrap_or_default();
        if kind == Kind::Socks5 && (user.len() > 255 || password.len() > 255) {
            return Err(ProxyError);
        }
        Ok(proxy)
    }
}

impl Proxy {
    /// With the scheme `http`, whatever its kind.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// For showing: with the password masked.
    pub(crate) fn masked(&self) -> String {
        let scheme = match self.kind {
            Kind::Http => "http",
            Kind::Socks5 => "socks5",
        };
        let authority = self.uri.authority().map_or("", Authority::as_str);
        match (self.url.username(), self.url.password()) {
            ("", None) => format!("{scheme}://{authority}"),
            (user, None) => format!("{scheme}://{user}@{authority}"),
            (user, Some(_)) => format!("{scheme}://{user}:{MASK}@{authority}"),
        }
    }

    /// Whether requests to http targets are handed to it whole, not tunnelled.
    pub(super) fn forwards(&self) -> bool {
        self.kind == Kind::Http
    }

    /// What tells apart connections through different proxies; holds the password.
    pub(super) fn key(&self) -> (&Url, bool) {
        (&self.url, self.kind == Kind::Http)
    }

    fn credentials(&self) -> Option<(String, String)> {
        let (user, password) = (self.url.username(), self.url.password());
        if user.is_empty() && password.is_none() {
            return None;
        }
        Some((percent_decoded(user), percent_decoded(password.unwrap_or_default())))
    }

    /// The value of `proxy-authorization`, if the proxy wants one.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.credentials()?;
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut value = HeaderValue::try_from(basic).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Opens a connection to the proxy itself.
    pub(super) async fn connect(
        &self,
        mut connector: Connector,
    ) -> Result<TcpStream, egress::Error> {
        connector.call(self.uri.clone()).await.map(TokioIo::into_inner)
    }

    /// Opens a connection through the proxy to `target`.
    pub(super) async fn tunnel(
        &self,
        connector: Connector,
        target: &Authority,
        timeout: Duration,
    ) -> Result<TcpStream, TunnelError> {
        let destination = Uri::builder()
            .scheme("https")
            .authority(target.clone())
            .path_and_query("/")
            .build()
            .map_err(|_| TunnelError::Target)?;
        let opening = async {
            let stream = self.connect(connector).await.map_err(TunnelError::Connect)?;
            let mut stream = Some(TokioIo::new(stream));
            // The connection is there; hyper-util's connectors want to be given one.
            let connected = tower::service_fn(move |_: Uri| {
                std::future::ready(stream.take().ok_or(egress::Error::NoHost))
            });
            match self.kind {
                Kind::Http => {
                    let mut tunnel = Tunnel::new(self.uri.clone(), connected);
                    if let Some(authorization) = self.authorization() {
                        tunnel = tunnel.with_auth(authorization);
                    }
                    tunnel.call(destination).await.map_err(|error| TunnelError::refused(&error))
                }
                Kind::Socks5 => {
                    let mut socks = SocksV5::new(self.uri.clone(), connected);
                    if let Some((user, password)) = self.credentials() {
                        socks = socks.with_auth(user, password);
                    }
                    socks.call(destination).await.map_err(|error| TunnelError::refused(&error))
                }
            }
        };
        tokio::time::timeout(timeout, opening)
            .await
            .map_err(|_| TunnelError::Timeout(timeout))?
            .map(TokioIo::into_inner)
    }
}

/// Why a proxy gives no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// The proxy itself cannot be reached.
    #[error("the proxy: {0}")]
    Connect(#[source] egress::Error),
    /// It says no, or something that is no answer.
    #[error(
        "the proxy did not open a connection to the target ({0}); check the address, user and password in `proxy`"
    )]
    Refused(String),
    /// It says nothing.
    #[error("the proxy opened no connection within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The target cannot be written as an address.
    #[error("the target cannot be named to the proxy")]
    Target,
}

impl TunnelError {
    fn refused(error: &dyn std::error::Error) -> Self {
        Self::Refused(with_sources(error))
    }
}

/// Undoes the percent-encoding of a URL's user or password; bytes that are no UTF-8 are replaced.
pub(crate) fn percent_decoded(text: &str) -> String {
    let pair = format!("={text}").replace('+', "%2B").replace('&', "%26");
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_and_shown() {
        let table = [
            ("http://proxy:3128", "http://proxy:3128/", "http://proxy:3128"),
            ("http://proxy", "http://proxy:80/", "http://proxy:80"),
            ("socks5://proxy", "http://proxy:1080/", "socks5://proxy:1080"),
            ("socks5://proxy:80", "http://proxy:80/", "socks5://proxy:80"),
            ("http://me:p%40ss@proxy:1", "http://proxy:1/", "http://me:***@proxy:1"),
            ("http://0x7f000001:1", "http://127.0.0.1:1/", "http://127.0.0.1:1"),
            ("socks5://[::1]:9", "http://[::1]:9/", "socks5://[::1]:9"),
        ];
        for (text, uri, shown) in table {
            let proxy: Proxy = text.parse().unwrap();
            assert_eq!(proxy.uri.to_string(), uri, "{text}");
            assert_eq!(proxy.masked(), shown, "{text}");
        }
        for text in
            ["", "proxy:3128", "https://proxy", "http://", "http://proxy/path", "http://a b"]
        {
            assert!(text.parse::<Proxy>().is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_are_decoded() {
        let proxy: Proxy = "http://me:p%40s+s%26@proxy:1".parse().unwrap();
        assert_eq!(proxy.credentials(), Some(("me".into(), "p@s+s&".into())));
        assert_eq!(proxy.authorization().unwrap(), "Basic bWU6cEBzK3Mm");
    }
}
