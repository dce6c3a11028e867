//! Which addresses may be connected to: public ones, and those that `[outbound] allow` lists.
//!
//! An address counts as public only if the registries of special addresses (IANA, RFC 6890) have it as globally reachable.
//! IPv6 addresses that embed an IPv4 address are judged by it where packets reach it (mapped, NAT64), and refused where
//! the mechanism is obsolete (compatible, 6to4, Teredo).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::address::{Address, Host};

/// IPv4 networks that are not public, and why; the first that matches names the reason.
const SPECIAL_V4: [(Ipv4Net, &str); 18] = [
    (v4([0, 0, 0, 0], 32), "the unspecified address"),
    (v4([0, 0, 0, 0], 8), "of this network only"),
    (v4([10, 0, 0, 0], 8), "private"),
    (v4([100, 64, 0, 0], 10), "shared by a provider (carrier-grade NAT)"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([168, 63, 129, 16], 32), "the metadata service of a cloud"),
    (v4([169, 254, 169, 254], 32), "the metadata service of a cloud"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([172, 16, 0, 0], 12), "private"),
    (v4([192, 0, 0, 0], 24), "reserved for protocols"),
    (v4([192, 0, 2, 0], 24), "for documentation"),
    (v4([192, 88, 99, 0], 24), "a relay of 6to4"),
    (v4([192, 168, 0, 0], 16), "private"),
    (v4([198, 18, 0, 0], 15), "for benchmarks"),
    (v4([198, 51, 100, 0], 24), "for documentation"),
    (v4([203, 0, 113, 0], 24), "for documentation"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([255, 255, 255, 255], 32), "broadcast"),
];

/// What is left of IPv4 above multicast.
const RESERVED_V4: Ipv4Net = v4([240, 0, 0, 0], 4);

/// As [`SPECIAL_V4`], for IPv6.
const SPECIAL_V6: [(Ipv6Net, &str); 19] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "the unspecified address"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "IPv4-compatible"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "of a local NAT64"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "for discarding"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "of Teredo"),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), "for benchmarks"),
    (v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), "an identifier (ORCHID)"),
    (v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), "an identifier (ORCHID)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "reserved for protocols"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "for documentation"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "of 6to4"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "for documentation"),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), "the metadata service of a cloud"),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), "the metadata service of a cloud"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "private (unique local)"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "private (site-local)"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

/// All that is public in IPv6 (RFC 4291, section 2.4).
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Addresses that embed the IPv4 address that a packet is translated to (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// An address that malote does not connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is refused: {address} is {reason}, not public; to allow it, add \"{address}\" to [outbound] allow"
)]
pub struct Refused {
    /// The host, as the URL has it.
    pub host: String,
    /// The address of it that is not allowed.
    pub address: IpAddr,
    /// What kind of address that is.
    pub reason: &'static str,
}

/// The rules of one configuration.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    allow: Box<[IpNet]>,
}

impl Guard {
    pub(crate) fn new(allow: &[IpNet]) -> Self {
        Self { allow: allow.into() }
    }

    /// Whether a connection may go to an address of a host.
    pub(crate) fn check(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        // A connection to a mapped address is one to the IPv4 address.
        let address = address.to_canonical();
        match special(address) {
            Some(reason) if !self.allow.iter().any(|network| network.contains(&address)) => {
                Err(Refused { host: host.to_owned(), address, reason })
            }
            _ => Ok(()),
        }
    }

    /// What can be said of a target without resolving its name.
    pub(crate) fn check_written(&self, url: &Address) -> Result<(), Refused> {
        match url.target() {
            Host::Ip(ip) => self.check(url.host(), *ip),
            // RFC 6761, section 6.3.
            Host::Name(name) if is_localhost(name) => self.check(url.host(), Ipv4Addr::LOCALHOST.into()),
            Host::Name(_) => Ok(()),
        }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// Why an address is not public; `None` if it is.
fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) if NAT64.contains(&v6) => {
            let [.., a, b, c, d] = v6.octets();
            special_v4(Ipv4Addr::new(a, b, c, d))
        }
        IpAddr::V6(v6) => {
            let known = SPECIAL_V6.iter().find(|(network, _)| network.contains(&v6));
            let reason = known.map(|(_, reason)| *reason);
            reason.or((!GLOBAL_V6.contains(&v6)).then_some("reserved"))
        }
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let known = SPECIAL_V4.iter().find(|(network, _)| network.contains(&address));
    known.map(|(_, reason)| *reason).or(RESERVED_V4.contains(&address).then_some("reserved"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str]) -> Guard {
        Guard::new(&allow.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>())
    }

    fn check(guard: &Guard, address: &str) -> Result<(), Refused> {
        guard.check("example.com", address.parse().unwrap())
    }

    #[test]
    fn every_kind_of_address_that_is_not_public_is_refused_at_both_ends() {
        let guard = guard(&[]);
        for (first, last, reason) in [
            ("0.0.0.0", "0.0.0.0", "unspecified"),
            ("0.0.0.1", "0.255.255.255", "this network"),
            ("10.0.0.0", "10.255.255.255", "private"),
            ("100.64.0.0", "100.127.255.255", "carrier-grade"),
            ("127.0.0.0", "127.255.255.255", "loopback"),
            ("168.63.129.16", "168.63.129.16", "metadata"),
            ("169.254.169.254", "169.254.169.254", "metadata"),
            ("169.254.0.0", "169.254.255.255", "link-local"),
            ("172.16.0.0", "172.31.255.255", "private"),
            ("192.0.0.0", "192.0.0.255", "protocols"),
            ("192.0.2.0", "192.0.2.255", "documentation"),
            ("192.88.99.0", "192.88.99.255", "6to4"),
            ("192.168.0.0", "192.168.255.255", "private"),
            ("198.18.0.0", "198.19.255.255", "benchmarks"),
            ("198.51.100.0", "198.51.100.255", "documentation"),
            ("203.0.113.0", "203.0.113.255", "documentation"),
            ("224.0.0.0", "239.255.255.255", "multicast"),
            ("240.0.0.0", "255.255.255.254", "reserved"),
            ("255.255.255.255", "255.255.255.255", "broadcast"),
            ("::", "::", "unspecified"),
            ("::1", "::1", "loopback"),
            ("::2", "::127.0.0.1", "compatible"),
            ("::8.8.8.8", "::255.255.255.255", "compatible"),
            ("::ffff:0.0.0.0", "::ffff:0.0.0.0", "unspecified"),
            ("::ffff:10.0.0.1", "::ffff:192.168.0.1", "private"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "::ffff:169.254.169.254", "metadata"),
            ("::ffff:0:8.8.8.8", "::ffff:0:8.8.8.8", "reserved"),
            ("64:ff9b::10.0.0.1", "64:ff9b::192.168.0.1", "private"),
            ("64:ff9b::127.0.0.1", "64:ff9b::127.0.0.1", "loopback"),
            ("64:ff9b::169.254.169.254", "64:ff9b::169.254.169.254", "metadata"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "local NAT64"),
            ("100::", "100::ffff:ffff:ffff:ffff", "discarding"),
            ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "Teredo"),
            ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "benchmarks"),
            ("2001:10::", "2001:2f:ffff::", "ORCHID"),
            ("2001:1::1", "2001:1ff:ffff::", "protocols"),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"),
            ("2002:7f00:1::", "2002:ffff:ffff::", "6to4"),
            ("2002:808:808::", "2002:808:808::", "6to4"),
            ("3fff::", "3fff:fff:ffff::", "documentation"),
            ("5f00::", "5f00:ffff::", "reserved"),
            ("4000::", "fbff:ffff::", "reserved"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "unique local"),
            ("fd00:ec2::254", "fd20:ce::254", "metadata"),
            ("fe80::", "febf:ffff::", "link-local"),
            ("fec0::", "feff:ffff::", "site-local"),
            ("ff00::", "ff02::1", "multicast"),
        ] {
            for address in [first, last] {
                let refused = check(&guard, address).expect_err(address);
                assert!(refused.reason.contains(reason), "{address}: {refused}");
            }
        }
    }

    #[test]
    fn public_addresses_next_to_the_special_ones_are_allowed() {
        let guard = guard(&[]);
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.114.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "3ffe:ffff::",
        ] {
            assert_eq!(check(&guard, address), Ok(()), "{address}");
        }
    }

    #[test]
    fn the_allow_list_opens_what_it_contains_and_nothing_else() {
        let guard = guard(&["127.0.0.0/8", "10.1.2.3/32", "fd00:1::/32"]);
        for address in ["127.0.0.1", "::ffff:127.0.0.1", "10.1.2.3", "fd00:1::5", "8.8.8.8"] {
            assert_eq!(check(&guard, address), Ok(()), "{address}");
        }
        for address in
            ["10.1.2.4", "::1", "fd00:2::5", "64:ff9b::127.0.0.1", "::127.0.0.1", "169.254.169.254"]
        {
            assert!(check(&guard, address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_refusal_names_the_address_the_host_and_the_setting() {
        let refused = check(&guard(&[]), "::ffff:10.1.2.3").unwrap_err();
        let expect = "example.com is refused: 10.1.2.3 is private, not public; to allow it, add \"10.1.2.3\" to [outbound] allow";
        assert_eq!(refused.to_string(), expect);
    }

    #[test]
    fn a_written_address_is_judged_without_resolving() {
        let guard = guard(&[]);
        for text in [
            "http://127.0.0.1:80",
            "http://2130706433/",
            "https://0177.0.0.1:8443/",
            "http://0x7f.1",
            "http://127.1",
            "http://localhost",
            "http://LOCALHOST.",
            "http://a.localhost",
            "http://[::ffff:127.0.0.1]",
            "http://[::1]",
            "http://169.254.169.254/latest/meta-data/",
        ] {
            let url: Address = text.parse().unwrap();
            assert!(guard.check_written(&url).is_err(), "{text}");
        }
        for text in ["http://example.com", "http://localhost.example.com", "https://8.8.8.8"] {
            assert_eq!(guard.check_written(&text.parse().unwrap()), Ok(()), "{text}");
        }
    }
}
