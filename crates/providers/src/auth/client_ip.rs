//! The address that a request came from, where proxies stand in between, and the networks it may be in.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// The text is neither a network nor an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a network such as 203.0.113.0/24 or an address such as 203.0.113.7, got {0:?}")]
pub struct NotANetwork(String);

/// A network in CIDR notation, or a single address.
pub fn parse_network(text: &str) -> Result<IpNet, NotANetwork> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical())));
    network.map_err(|_| NotANetwork(text.to_owned()))
}

/// The client's address: the last one of `X-Forwarded-For` that is not a trusted proxy's.
///
/// Each trusted proxy appends the address that it saw, so the list is read from the right, and what stands
/// left of the first stranger is hearsay. A peer that is no trusted proxy is the client itself, whatever the
/// header says. Where an entry is no address, the client is the proxy that wrote it: an address that no
/// sender's network holds. IPv4 addresses mapped into IPv6 count as IPv4.
pub fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let is_trusted = |ip: IpAddr| trusted_proxies.iter().any(|network| network.contains(&ip));
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let entries = lines.into_iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for entry in entries {
        if !is_trusted(client) {
            break;
        }
        match std::str::from_utf8(entry).ok().and_then(|text| address(text.trim())) {
            Some(ip) => client = ip.to_canonical(),
            None => break,
        }
    }
    client
}

/// An address, with or without a port: `203.0.113.7`, `203.0.113.7:443`, `2001:db8::1`, `[2001:db8::1]:443`.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        let check = |peer: &str, lines: &[&str], expect: &str| {
            let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|text| parse_network(text).unwrap());
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            let client = client_ip(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(client, expect.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        };
        check("203.0.113.7", &[], "203.0.113.7");
        check("203.0.113.7", &["198.51.100.1"], "203.0.113.7");
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &["198.51.100.1, 10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["192.0.2.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["192.0.2.9", "198.51.100.1", "10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        check("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1");
        check("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1");
        check("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1");
        check("2001:db8:1::5", &["2001:db8::1"], "2001:db8::1");
    }

    #[test]
    fn a_network_may_be_one_address() {
        assert_eq!(parse_network("203.0.113.7").unwrap().to_string(), "203.0.113.7/32");
        assert_eq!(parse_network("2001:db8::/32").unwrap().to_string(), "2001:db8::/32");
        assert!(parse_network("203.0.113.0/33").unwrap_err().to_string().ends_with("got \"203.0.113.0/33\""));
    }
}
