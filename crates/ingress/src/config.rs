//! What an operator sets about the ingress.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use server::{HostName, Limits, Tls};

/// The minimum default of the memory for all bodies.
const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// The minimum default of its part for unproved bodies.
const UNPROVED_MEMORY_BYTES: usize = 16 * 1024 * 1024;

/// The ingress's port, limits and deadlines.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The hosts under which the operations endpoints answer, besides those of the port itself.
    #[serde(default)]
    pub hosts: Vec<HostName>,
    /// The longest body, in bytes.
    pub body_limit_bytes: usize,
    /// The memory for all request bodies, in bytes; a body occupies it until it is published.
    pub body_memory_bytes: usize,
    /// How much of that is for bodies whose sender is not authenticated yet.
    pub unproved_body_memory_bytes: usize,
    /// How long the broker may take to confirm before the sender is asked to try again, in milliseconds. Senders
    /// give up after 5 to 10 s and call that a failure.
    pub answer_timeout_ms: u64,
    /// The maximum number of requests of one source in progress; further ones are told to retry later (429).
    pub source_requests: usize,
    /// Proxies whose `X-Forwarded-For` is trusted.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// Time-outs and limits of the port.
    #[serde(default)]
    pub limits: Limits,
    /// Certificate and key; without it, plain HTTP.
    #[serde(default)]
    pub tls: Option<Tls>,
}

impl Config {
    /// The port by itself.
    pub fn server(&self) -> server::Config {
        server::Config {
            hosts: self.hosts.clone(),
            limits: self.limits,
            tls: self.tls.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            ..server::Config::new(self.listen)
        }
    }

    /// The memory for all bodies and for unproved ones: as configured, or enough for bodies of this length.
    pub fn memory(body_limit_bytes: usize, all: Option<usize>, unproved: Option<usize>) -> (usize, usize) {
        let unproved = unproved.unwrap_or(body_limit_bytes.saturating_mul(2).max(UNPROVED_MEMORY_BYTES));
        // One large body may be decoded while another one arrives.
        let enough = unproved.saturating_add(body_limit_bytes.saturating_mul(4));
        (all.unwrap_or(enough.max(MEMORY_BYTES)), unproved)
    }

    /// What is wrong with the memory for bodies, after the name of the setting.
    pub fn memory_mistake(&self) -> Option<(&'static str, String)> {
        let (limit, unproved) = (self.body_limit_bytes, self.unproved_body_memory_bytes);
        if unproved < limit.saturating_mul(2) {
            let message = format!("expected at least twice body_limit_bytes, {limit}");
            return Some(("unproved_body_memory_bytes", message));
        }
        let least = unproved.saturating_add(limit.saturating_mul(2));
        (self.body_memory_bytes < least).then(|| {
            let message = format!(
                "expected at least {least}: unproved_body_memory_bytes and twice body_limit_bytes, for small and large \
                 bodies"
            );
            ("body_memory_bytes", message)
        })
    }

    pub(crate) fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }
}
