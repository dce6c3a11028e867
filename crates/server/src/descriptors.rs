//! File descriptors: the limit of the process, and how many of them a port may use for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::memory::MOST_CONNECTIONS;

/// Descriptors that are reserved for broker, store, spool, log and listening sockets.
const RESERVE: u64 = 128;

/// A process listens on at most three ports: those of the ingress, the console and the operations endpoints.
const PORTS: u64 = 3;

/// Raises the limit of file descriptors of this process to the hard limit. Call it before a port is opened.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%error, "cannot raise the limit of file descriptors (ulimit -n); it stays as it is");
    }
}

/// The maximum number of connections of a port: the configured one, bounded by the descriptors.
pub(crate) fn max_connections(configured: Option<u64>) -> u64 {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let (wanted, possible) = (configured.unwrap_or(MOST_CONNECTIONS as u64), share(descriptors));
    if possible < wanted {
        tracing::warn!(
            max_connections = possible,
            configured,
            descriptors,
            "the limit of file descriptors allows fewer connections; raise it (ulimit -n)"
        );
    }
    wanted.min(possible)
}

fn share(descriptors: u64) -> u64 {
    (descriptors.saturating_sub(RESERVE) / PORTS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ports_together_leave_the_reserve() {
        for descriptors in [256, 1024, 65_536] {
            assert!(PORTS * share(descriptors) + RESERVE <= descriptors);
        }
        assert_eq!(share(10), 1);
    }
}
