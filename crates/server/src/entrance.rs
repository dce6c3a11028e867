//! The entrance of a port: which connection begins next.
//!
//! While there is room, connections begin as they come. When the port is full they are accepted all the same, so that those
//! of known clients do not wait in the system's backlog behind those of strangers, and wait here: each kind in its order,
//! known clients first. What waits costs a descriptor; beyond a maximum the oldest is closed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::connections::Connections;
use crate::metrics::Metrics;

/// How often a full port looks for connections that can be closed for others.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// How long to wait after an accept that failed for lack of a resource (file descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

type Accepted = (TcpStream, SocketAddr);

/// Owns the listener: dropping it refuses new connections, and closes those that wait.
pub(crate) struct Entrance<'a> {
    listener: TcpListener,
    connections: Arc<Connections>,
    metrics: &'a Metrics,
    most_waiting: usize,
    known: VecDeque<Accepted>,
    strangers: VecDeque<Accepted>,
    /// How many strangers may begin before the port is looked at again.
    turns: usize,
    look: Interval,
}

impl<'a> Entrance<'a> {
    pub(crate) fn new(
        listener: TcpListener,
        connections: Arc<Connections>,
        metrics: &'a Metrics,
        most_waiting: usize,
    ) -> Self {
        let mut look = interval(LOOK_PERIOD);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (known, strangers) = (VecDeque::new(), VecDeque::new());
        Self { listener, connections, metrics, most_waiting, known, strangers, turns: 0, look }
    }

    /// Waits for the next connection that may begin. Survives every error of `accept(2)`: those of a connection that its client
    /// has closed already are ignored, and the others (no file descriptor left) pass when connections end.
    pub(crate) async fn next(&mut self) -> Accepted {
        loop {
            if let Some(next) = self.waiting_next() {
                return next;
            }
            let waiting = self.waiting();
            self.metrics.connections_waiting.set(waiting as f64);
            tokio::select! {
                biased;
                _ = self.look.tick(), if waiting > 0 => {
                    self.connections.make_room(waiting, Instant::now());
                    // If too little is left for HTTP/2, one connection begins at a time.
                    self.turns = self.connections.free_for_strangers().max(self.connections.has_room(false).into());
                }
                () = self.connections.freed(), if waiting > 0 => self.turns = self.connections.free_for_strangers(),
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => {
                        if let Some(next) = self.accept(accepted) {
                            return next;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => self.failed(&error).await,
                },
            }
        }
    }

    /// The connection, if it may begin; else it waits.
    fn accept(&mut self, accepted: Accepted) -> Option<Accepted> {
        if self.strangers.is_empty() && self.known.is_empty() && self.connections.free_for_strangers() > 0 {
            return Some(accepted);
        }
        let is_known = self.connections.is_known(accepted.1.ip());
        if is_known && self.known.is_empty() && self.connections.has_room(true) {
            return Some(accepted);
        }
        match is_known {
            true => self.known.push_back(accepted),
            false => self.strangers.push_back(accepted),
        }
        self.metrics.connections_delayed_total.increment(1);
        if self.waiting() > self.most_waiting {
            self.strangers.pop_front().or_else(|| self.known.pop_front());
            self.metrics.connections_refused_total.increment(1);
        }
        None
    }

    /// The first of those that wait, if it may begin now.
    fn waiting_next(&mut self) -> Option<Accepted> {
        if !self.known.is_empty() && self.connections.has_room(true) {
            return self.known.pop_front();
        }
        self.turns = self.turns.checked_sub(1)?;
        self.strangers.pop_front()
    }

    async fn failed(&mut self, error: &io::Error) {
        self.metrics.accept_errors_total.increment(1);
        tracing::warn!(%error, "cannot accept a connection; trying again");
        // Each of these has a descriptor.
        self.metrics.connections_refused_total.increment(self.strangers.len() as u64);
        self.strangers.clear();
        self.connections.close_unused();
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    fn waiting(&self) -> usize {
        self.known.len() + self.strangers.len()
    }
}

impl Drop for Entrance<'_> {
    fn drop(&mut self) {
        self.metrics.connections_waiting.set(0);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpSocket;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::Limits;

    async fn connect_from(local: &str, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{local}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    }

    #[tokio::test]
    async fn of_those_that_wait_known_clients_come_first_and_the_oldest_stranger_is_closed_for_one_too_many()
    {
        let connections = Connections::new(Limits::default(), 1, Vec::new(), false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::new();
        let mut entrance = Entrance::new(listener, Arc::clone(&connections), &metrics, 2);
        let mut clients = vec![connect_from("127.0.0.1", address).await];
        let (_, first) = entrance.next().await;
        let place = connections.admit(first.ip(), CancellationToken::new()).unwrap();
        let _running = place.activity.request(false);
        place.activity.authenticated();
        for local in ["127.0.0.2", "127.0.0.3", "127.0.0.1", "127.0.0.4"] {
            clients.push(connect_from(local, address).await);
        }
        for closed in [1, 2] {
            let mut nothing = [0];
            tokio::select! {
                (_, next) = entrance.next() => panic!("{next} begins, and there is no place"),
                read = clients[closed].read(&mut nothing) => assert!(!matches!(read, Ok(1..))),
            }
        }
        drop(place);
        assert_eq!(entrance.next().await.1, clients[3].local_addr().unwrap(), "the known client");
        assert_eq!(entrance.next().await.1, clients[4].local_addr().unwrap());
        assert!(connections.is_known(clients[3].local_addr().unwrap().ip()));
    }
}
