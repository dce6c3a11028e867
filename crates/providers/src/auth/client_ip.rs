//! The address that a request came from, where proxies stand in between, and the networks it may be in.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotANetwork {
    /// It is neither a network nor an address.
    #[error("expected a network such as 203.0.113.0/24 or an address such as 203.0.113.7, got {0:?}")]
    Form(String),
    /// It is mapped into IPv6 and holds more than IPv4 addresses.
    #[error(
        "expected an IPv4 network such as 10.0.0.0/8, or its mapped form ::ffff:10.0.0.0/104 with a prefix of at least 96, \
         got {0:?}"
    )]
    Mapped(String),
}

/// How many bits stand before an IPv4 address that is mapped into IPv6 (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// A network in CIDR notation, or a single address. IPv4 networks mapped into IPv6 become IPv4, as the addresses do that are
/// compared with them.
pub fn parse_network(text: &str) -> Result<IpNet, NotANetwork> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network: IpNet = network.map_err(|_| NotANetwork::Form(text.to_owned()))?;
    let IpNet::V6(mapped) = network else { return Ok(network) };
    let Some(address) = mapped.addr().to_ipv4_mapped() else { return Ok(network) };
    let prefix = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let network = prefix.and_then(|prefix| IpNet::new(address.into(), prefix).ok());
    network.ok_or_else(|| NotANetwork::Mapped(text.to_owned()))
}

/// A network of the configuration, see [`parse_network`].
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Network(IpNet);

impl TryFrom<String> for Network {
    type Error = NotANetwork;

    fn try_from(text: String) -> Result<Self, NotANetwork> {
        parse_network(&text).map(Self)
    }
}

/// For `deserialize_with`: networks, or single addresses.
pub fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks.into_iter().map(|Network(network)| network).collect())
}

/// The networks that a client's address must be in.
#[derive(Clone, Debug)]
pub struct Networks {
    networks: Vec<IpNet>,
    hold_everyone: bool,
}

impl Networks {
    /// Whether an address is in one of them.
    pub(super) fn contain(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// See [`hold_everyone`].
    pub fn hold_everyone(&self) -> bool {
        self.hold_everyone
    }

    pub(super) fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let networks = networks(deserializer)?;
        let hold_everyone = hold_everyone(&networks);
        Ok(Self { networks, hold_everyone })
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.networks.serialize(serializer)
    }
}

/// Whether networks hold every address of a family together: all of IPv4, or all of IPv6 that is routed (2000::/3).
pub fn hold_everyone(networks: &[IpNet]) -> bool {
    let everyone = ["0.0.0.0/0", "2000::/3"].map(|text| text.parse::<IpNet>().expect("a network"));
    let joined = IpNet::aggregate(&networks.to_vec());
    joined.iter().any(|network| everyone.iter().any(|everyone| network.contains(everyone)))
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
    if !is_trusted(client) {
        return client;
    }
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

    #[test]
    fn a_network_mapped_into_ipv6_is_the_ipv4_network() {
        let check = |text: &str, expect: &str| {
            assert_eq!(parse_network(text).unwrap().to_string(), expect, "{text}");
        };
        check("::ffff:10.0.0.0/104", "10.0.0.0/8");
        check("::ffff:0:0/96", "0.0.0.0/0");
        check("::ffff:203.0.113.7/128", "203.0.113.7/32");
        check("::ffff:203.0.113.7", "203.0.113.7/32");
        check("::/0", "::/0");
        check("64:ff9b::/96", "64:ff9b::/96");
        let text = "::ffff:10.0.0.0/95";
        assert_eq!(parse_network(text), Err(NotANetwork::Mapped(text.to_owned())));
        let trusted = [parse_network("::ffff:10.0.0.0/104").unwrap()];
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "198.51.100.1".parse().unwrap());
        let client = client_ip("10.0.0.1".parse().unwrap(), &headers, &trusted);
        assert_eq!(client, "198.51.100.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn every_address_of_a_family_is_everyone_however_it_is_divided() {
        let check = |texts: &[&str], expect: bool| {
            let networks: Vec<_> = texts.iter().map(|text| parse_network(text).unwrap()).collect();
            assert_eq!(hold_everyone(&networks), expect, "{texts:?}");
        };
        check(&["0.0.0.0/0"], true);
        check(&["::/0"], true);
        check(&["2000::/3"], true);
        check(&["0.0.0.0/1", "10.0.0.0/8", "128.0.0.0/1"], true);
        check(&["0.0.0.0/2", "128.0.0.0/1", "64.0.0.0/2", "2001:db8::/32"], true);
        check(&["::ffff:0:0/97", "::ffff:128.0.0.0/97"], true);
        check(&["::/1", "8000::/1"], true);
        check(&["0.0.0.0/1", "128.0.0.0/2"], false);
        check(&["10.0.0.0/8", "2001:db8::/32"], false);
        check(&[], false);
    }
}
