//! File descriptors: the limit of the process, and how many of them a port may use for connections and for those that wait.

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

/// The most connections of a port that wait for a place.
const MOST_WAITING: u64 = 4096;

/// The maximum number of connections of a port: the configured one, bounded by the descriptors. And how many more may wait.
pub(crate) fn max_connections(configured: Option<u64>) -> (u64, u64) {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let (wanted, share) = (configured.unwrap_or(MOST_CONNECTIONS as u64), share(descriptors));
    let possible = share - share / 4;
    if possible < wanted {
        tracing::warn!(
            max_connections = possible,
            configured,
            descriptors,
            "the limit of file descriptors allows fewer connections; raise it (ulimit -n)"
        );
    }
    let max = wanted.min(possible);
    (max, (share - max).min(MOST_WAITING))
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
