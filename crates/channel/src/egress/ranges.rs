//! Addresses that are not public, and what they are instead.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};

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
