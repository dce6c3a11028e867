//! What tests of an ingress need, here and in crates that use one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::Config;

/// Small limits, and a second for whatever takes time.
pub const CONFIG: Config = Config {
    listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
    hosts: Vec::new(),
    body_limit_bytes: 1024,
    body_memory_bytes: 1024 * 1024,
    unproved_body_memory_bytes: 16 * 1024,
    answer_timeout_ms: 4_000,
    source_requests: 2,
    trusted_proxies: Vec::new(),
    limits: server::Limits {
        first_byte_timeout_ms: 1_000,
        header_timeout_ms: 1_000,
        body_timeout_ms: 1_000,
        idle_timeout_ms: 1_000,
        body_rate_bytes: 1,
        body_grace_ms: 1_000,
        max_connections: Some(8),
        client_connections: None,
        client_requests: 2,
        max_requests: 100,
        drain_timeout_ms: 1_000,
    },
    tls: None,
};
