//! What an operator sets about a listening port. Parsed values only: nothing here opens a file or a socket.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use crate::body::Pace;
use crate::hosts::HostName;
use crate::tls::Tls;

/// One listening port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The hosts that the port answers under besides its own address, localhost and the loopback addresses.
    #[serde(default)]
    pub hosts: Vec<HostName>,
    /// Time-outs and limits.
    #[serde(default)]
    pub limits: Limits,
    /// Certificate and key; without it, plain HTTP.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Proxies, whose connections carry the requests of many clients: the share of a client does not apply to them.
    #[serde(skip)]
    pub trusted_proxies: Vec<IpNet>,
}

impl Config {
    /// Plain HTTP on an address, with the default limits.
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, hosts: Vec::new(), limits: Limits::default(), tls: None, trusted_proxies: Vec::new() }
    }
}

/// Time-outs and limits of one listening port. Every value is at least 1, and has an upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long a new connection may send nothing; with TLS, also how long its handshake may take.
    #[serde(deserialize_with = "milliseconds")]
    pub first_byte_timeout_ms: u64,
    /// How long the head of a request may take from its first byte. Answered with 408 over HTTP/1.
    #[serde(deserialize_with = "milliseconds")]
    pub header_timeout_ms: u64,
    /// How long a whole request body may take. Handlers hold it by [`body::read`](crate::body::read); the server
    /// itself uses it to bound how long the rest of a refused body is read and thrown away.
    #[serde(deserialize_with = "milliseconds")]
    pub body_timeout_ms: u64,
    /// The minimum average rate of a request body, in bytes per second, after the grace period.
    #[serde(deserialize_with = "rate")]
    pub body_rate_bytes: u64,
    /// The grace period, in which a request body may be slower.
    #[serde(deserialize_with = "milliseconds")]
    pub body_grace_ms: u64,
    /// How long a connection may stay open without a request, or with an answer that the peer does not take.
    #[serde(deserialize_with = "milliseconds")]
    pub idle_timeout_ms: u64,
    /// The maximum number of connections; one with TLS counts as two, one that speaks HTTP/2 as eight. An eighth is reserved
    /// for clients that have authenticated a request before, and for trusted proxies. When it is reached, the longest idle
    /// connection is closed for a new one, or one whose request is not authenticated after a second; while there is none, new
    /// ones wait, and those that begin to speak HTTP/2 are closed. Default: as many as the limit of file descriptors allows, at
    /// most 4096.
    #[serde(deserialize_with = "some_count")]
    pub max_connections: Option<u64>,
    /// The maximum number of connections of one client address. Beyond it, the longest idle one of the client is closed
    /// for a new one; while all are in use, new ones are refused. Default: a quarter of the maximum.
    #[serde(deserialize_with = "some_count")]
    pub client_connections: Option<u64>,
    /// The maximum number of requests in progress of one client address, over all its connections and HTTP/2 streams.
    /// Further ones are answered with 429.
    #[serde(deserialize_with = "count")]
    pub client_requests: u64,
    /// The number of requests in progress, over all clients, at which one client may have only four. Before, it may have a
    /// quarter of what is left, at most `client_requests`. Trusted proxies have no such limit.
    #[serde(deserialize_with = "count")]
    pub max_requests: u64,
    /// How long running requests may take to finish after a stop.
    #[serde(deserialize_with = "milliseconds")]
    pub drain_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_byte_timeout_ms: 10_000,
            header_timeout_ms: 10_000,
            body_timeout_ms: 15_000,
            body_rate_bytes: 1024,
            body_grace_ms: 3_000,
            idle_timeout_ms: 75_000,
            max_connections: None,
            client_connections: None,
            client_requests: 512,
            max_requests: 8192,
            drain_timeout_ms: 10_000,
        }
    }
}

/// How many requests in progress every client may always have.
const LEAST_SHARE: u64 = 4;

impl Limits {
    /// How many requests in progress one client may have while all clients together have `all`. Floods share a part of
    /// what is left, so something remains for new clients.
    pub(crate) fn requests_share(&self, in_work: u64) -> u64 {
        self.client_requests.min((self.max_requests.saturating_sub(in_work) / 4).max(LEAST_SHARE))
    }

    /// [`Limits::first_byte_timeout_ms`] as a duration.
    pub fn first_byte_timeout(&self) -> Duration {
        Duration::from_millis(self.first_byte_timeout_ms)
    }

    /// [`Limits::header_timeout_ms`] as a duration.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    /// The time limits of a request body, for [`body::read`](crate::body::read).
    pub fn pace(&self) -> Pace {
        Pace {
            timeout: self.body_timeout(),
            grace: Duration::from_millis(self.body_grace_ms),
            rate_bytes: self.body_rate_bytes,
        }
    }

    /// [`Limits::body_timeout_ms`] as a duration.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    /// [`Limits::idle_timeout_ms`] as a duration.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// [`Limits::drain_timeout_ms`] as a duration.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}

/// The longest time-out: a day. Far more could not be added to the present time.
const MOST_MS: u64 = 24 * 60 * 60 * 1_000;

/// The most connections and requests: more than one process has descriptors for.
const MOST: u64 = 1_000_000;

/// The highest rate of a body that may be asked for.
const MOST_BYTES_PER_SECOND: u64 = 1 << 30;

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, MOST_MS)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, MOST)
}

fn some_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    count(deserializer).map(Some)
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, MOST_BYTES_PER_SECOND)
}

/// A limit of 0 would refuse every request, so it is a mistake of the configuration.
fn within<'de, D: Deserializer<'de>>(deserializer: D, most: u64) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        value if (1..=most).contains(&value) => Ok(value),
        value => {
            let expected = format!("a number of at least 1 and at most {most}");
            Err(de::Error::invalid_value(de::Unexpected::Unsigned(value), &expected.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_not_given_have_their_defaults() {
        let config: Config = toml::from_str("listen = \"127.0.0.1:0\"\nlimits.idle_timeout_ms = 5").unwrap();
        assert_eq!(config.limits, Limits { idle_timeout_ms: 5, ..Limits::default() });
        assert_eq!(config.tls, None);
    }

    #[test]
    fn the_share_of_a_client_shrinks_as_requests_get_many() {
        let limits = Limits { client_requests: 512, max_requests: 8192, ..Limits::default() };
        let share = |in_work| limits.requests_share(in_work);
        assert_eq!([0, 6144, 8000, 8192, 9000].map(share), [512, 512, 48, 4, 4]);
    }

    #[test]
    fn zero_and_unknown_settings_are_refused() {
        let refused = |text: &str| toml::from_str::<Config>(text).unwrap_err().to_string();
        let zero = refused("listen = \"127.0.0.1:0\"\nlimits.max_connections = 0");
        assert!(zero.contains("at least 1"), "{zero}");
        let unknown = refused("listen = \"127.0.0.1:0\"\nlimits.timeout = 1");
        assert!(unknown.contains("unknown field `timeout`"), "{unknown}");
    }
}
