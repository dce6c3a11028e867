//! What counts as one client, and how many of its requests are in progress.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A client, by its address. An IPv6 client is its network of 64 bits, since a single host has that many addresses
/// (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(IpAddr);

impl Client {
    /// The client with this address.
    pub fn new(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            address => address,
        })
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

/// How many maps hold the counts, so that clients rarely wait for the same lock.
const SHARDS: usize = 16;

/// Counts the requests in progress of clients that share connections, those behind a proxy. The server itself counts
/// those of clients with their own connections.
pub struct ClientRequests {
    limit: u64,
    shards: [Mutex<HashMap<Client, u64>>; SHARDS],
}

impl ClientRequests {
    /// At most `limit` requests of each client at once.
    pub fn new(limit: u64) -> Self {
        Self { limit, shards: Default::default() }
    }

    /// Counts a request for as long as the returned value lives. `None`: the client has reached the limit.
    pub fn begin(&self, client: Client) -> Option<Turn<'_>> {
        let mut counts = self.shard(client);
        let count = counts.entry(client).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Turn { requests: self, client })
    }

    fn shard(&self, client: Client) -> MutexGuard<'_, HashMap<Client, u64>> {
        let mut hasher = DefaultHasher::new();
        client.hash(&mut hasher);
        let shard = usize::try_from(hasher.finish() % SHARDS as u64).expect("a number below SHARDS");
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in progress.
pub struct Turn<'a> {
    requests: &'a ClientRequests,
    client: Client,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.requests.shard(self.client).entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        let client = |text: &str| Client::new(text.parse().unwrap());
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.2"), client("192.0.2.1"));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:0:0:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
    }

    #[test]
    fn requests_are_counted_by_client_until_they_end() {
        let requests = ClientRequests::new(2);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| Client::new(text.parse().unwrap()));
        let first = requests.begin(one);
        let second = requests.begin(one);
        assert!(second.is_some() && requests.begin(one).is_none() && requests.begin(other).is_some());
        drop(first);
        assert!(requests.begin(one).is_some());
        drop(second);
        assert!(requests.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
