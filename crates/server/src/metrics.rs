//! The server's metrics, with handles made once: a handle costs an atomic addition, a look-up by name costs more.

use http::StatusCode;
use metrics::{Counter, Gauge, counter, gauge};

/// What a peer did not send or read in time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stall {
    FirstByte,
    Tls,
    Head,
    Idle,
    Write,
    Close,
}

/// The handles of one server.
pub(crate) struct Metrics {
    connections: Gauge,
    connections_total: Counter,
    pub(crate) connections_waiting: Gauge,
    pub(crate) connections_delayed_total: Counter,
    pub(crate) connections_displaced_total: Counter,
    pub(crate) connections_refused_total: Counter,
    pub(crate) accept_errors_total: Counter,
    pub(crate) panics_total: Counter,
    requests_total: [Counter; 5],
    timeouts_total: [Counter; 6],
}

impl Metrics {
    /// Takes the handles from the recorder that is installed by now.
    pub(crate) fn new() -> Self {
        Self {
            connections: gauge!("http_connections"),
            connections_total: counter!("http_connections_total"),
            connections_waiting: gauge!("http_connections_waiting"),
            connections_delayed_total: counter!("http_connections_delayed_total"),
            connections_displaced_total: counter!("http_connections_displaced_total"),
            connections_refused_total: counter!("http_connections_refused_total"),
            accept_errors_total: counter!("http_accept_errors_total"),
            panics_total: counter!("http_panics_total"),
            requests_total: ["1xx", "2xx", "3xx", "4xx", "5xx"]
                .map(|status| counter!("http_requests_total", "status" => status)),
            // In the order of `Stall`.
            timeouts_total: ["first_byte", "tls", "head", "idle", "write", "close"]
                .map(|phase| counter!("http_timeouts_total", "phase" => phase)),
        }
    }

    /// Counts a connection, and counts it as open for as long as the value lives.
    pub(crate) fn connection(&self) -> Open {
        self.connections_total.increment(1);
        self.connections.increment(1);
        Open(self.connections.clone())
    }

    /// Counts a request by the class of its answer.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.requests_total[class - 1].increment(1);
    }

    /// Counts a time-out by what the peer was waited for.
    pub(crate) fn timed_out(&self, stall: Stall) {
        self.timeouts_total[stall as usize].increment(1);
    }
}

/// An open connection, as the gauge sees it.
pub(crate) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
