//! Who really asks, when a proxy that we trust stands between.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// The client behind a request, as far as it can be believed. In every request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// It spoke TLS, to us or to the proxy.
    pub https: bool,
    /// The address is a proxy's: its headers speak of somebody else, and are not believed or do not
    /// say whom.
    pub disguised: bool,
}

/// Headers by which proxies say that they stand between.
const OF_PROXIES: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// The client of a connection from `socket`: the last address that a trusted proxy vouches for.
pub fn peer_of(socket: IpAddr, secure: bool, headers: &HeaderMap, trusted: &[IpNet]) -> Peer {
    let socket = socket.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if trusted.is_empty() || !is_trusted(&socket) {
        let disguised = OF_PROXIES.iter().any(|name| headers.contains_key(*name));
        return Peer { address: socket, https: secure, disguised };
    }
    // Proxies that write `X-Forwarded-*` pass a `Forwarded` on as the client sent it.
    let hops = match x_forwarded(headers) {
        hops if hops.is_empty() => forwarded(headers),
        hops => hops,
    };
    let mut peer = Peer { address: socket, https: secure, disguised: false };
    for hop in hops.iter().rev() {
        // The proxy at `peer.address` says who spoke to it, and only as long as we trust it.
        if !is_trusted(&peer.address) {
            break;
        }
        if let Some(https) = hop.https {
            peer.https = https;
        }
        match hop.address {
            Some(address) => peer.address = address,
            None => {
                peer.disguised = true;
                break;
            }
        }
    }
    peer
}

/// What one proxy says of whoever spoke to it.
#[derive(Debug, PartialEq, Eq)]
struct Hop {
    address: Option<IpAddr>,
    https: Option<bool>,
}

/// RFC 7239.
fn forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let mut hops = Vec::new();
    for element in values(headers, "forwarded").flat_map(|value| value.split(',')) {
        let mut hop = Hop { address: None, https: None };
        for pair in element.split(';') {
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => hop.address = address(value),
                "proto" => hop.https = Some(value.eq_ignore_ascii_case("https")),
                _ => {}
            }
        }
        hops.push(hop);
    }
    hops
}

fn x_forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let list = |name| values(headers, name).flat_map(|value| value.split(',')).map(str::trim);
    let protos: Vec<bool> =
        list("x-forwarded-proto").map(|proto| proto.eq_ignore_ascii_case("https")).collect();
    let mut hops: Vec<Hop> =
        list("x-forwarded-for").map(|text| Hop { address: address(text), https: None }).collect();
    if hops.is_empty() && !protos.is_empty() {
        hops.push(Hop { address: None, https: None });
    }
    // One proto is the outermost proxy's word; as many as addresses belong to them one by one.
    if protos.len() == hops.len() {
        for (hop, https) in hops.iter_mut().zip(&protos) {
            hop.https = Some(*https);
        }
    } else if let (Some(hop), Some(https)) = (hops.last_mut(), protos.last()) {
        hop.https = Some(*https);
    }
    hops
}

fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXIES: [&str; 2] = ["10.0.0.0/8", "127.0.0.1/32"];

    /// `socket`, headers, expected address, expected https.
    fn check(socket: &str, headers: &[(&'static str, &str)], address: &str, https: bool) {
        let trusted: Vec<IpNet> = PROXIES.iter().map(|text| text.parse().unwrap()).collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let peer = peer_of(socket.parse().unwrap(), false, &map, &trusted);
        let found = (peer.address, peer.https);
        assert_eq!(found, (address.parse().unwrap(), https), "{socket} {headers:?}");
    }

    #[test]
    fn whoever_hides_behind_a_proxy_is_told_apart() {
        let trusted: Vec<IpNet> = PROXIES.iter().map(|text| text.parse().unwrap()).collect();
        for (socket, header, disguised) in [
            ("192.0.2.9", None, false),
            ("192.0.2.9", Some(("x-forwarded-for", "1.2.3.4")), true),
            ("192.0.2.9", Some(("forwarded", "for=1.2.3.4")), true),
            ("192.0.2.9", Some(("x-real-ip", "1.2.3.4")), true),
            ("127.0.0.1", None, false),
            ("127.0.0.1", Some(("x-forwarded-for", "1.2.3.4")), false),
            ("127.0.0.1", Some(("forwarded", "for=unknown")), true),
        ] {
            let mut map = HeaderMap::new();
            if let Some((name, value)) = header {
                map.append(name, value.parse().unwrap());
            }
            let peer = peer_of(socket.parse().unwrap(), false, &map, &trusted);
            assert_eq!(peer.disguised, disguised, "{socket} {header:?}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let spoofed = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")];
        check("192.0.2.9", &spoofed, "192.0.2.9", false);
        check("10.1.1.1", &spoofed, "1.2.3.4", true);
        check("::ffff:10.1.1.1", &spoofed, "1.2.3.4", true);
    }

    #[test]
    fn the_chain_is_followed_from_the_right_as_far_as_it_is_trusted() {
        check("10.1.1.1", &[("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.2.2.2")], "1.2.3.4", false);
        check(
            "10.1.1.1",
            &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")],
            "1.2.3.4",
            false,
        );
        check("10.1.1.1", &[("x-forwarded-for", "10.3.3.3")], "10.3.3.3", false);
        check("10.1.1.1", &[("x-forwarded-for", "nonsense")], "10.1.1.1", false);
        check("10.1.1.1", &[("x-forwarded-proto", "https")], "10.1.1.1", true);
        check(
            "10.1.1.1",
            &[("x-forwarded-for", "1.2.3.4, 10.2.2.2"), ("x-forwarded-proto", "https, http")],
            "1.2.3.4",
            true,
        );
    }

    #[test]
    fn the_usual_headers_win_over_the_standard_one() {
        check(
            "127.0.0.1",
            &[("forwarded", "for=6.6.6.6;proto=https"), ("x-forwarded-for", "1.2.3.4")],
            "1.2.3.4",
            false,
        );
        check(
            "127.0.0.1",
            &[("forwarded", "for=6.6.6.6;proto=http, For=\"[2001:db8::1]:443\";proto=https")],
            "2001:db8::1",
            true,
        );
        check("127.0.0.1", &[("forwarded", "for=192.0.2.1:80")], "192.0.2.1", false);
        check("127.0.0.1", &[("forwarded", "for=unknown;proto=https")], "127.0.0.1", true);
    }
}
