//! The open connections of a port: a maximum for all, a share for each client, and which one is closed for a new one.
//! A connection with TLS or HTTP/2 counts for several, see [`memory`](crate::memory).
//!
//! When the port is full, the longest idle connections are closed; when a client has reached its share, its own. A
//! connection with a request that is authenticated is never closed for another one, nor is one of a known client while it has
//! a request. A stranger's connection is, after a second: until a request is authenticated it proves nothing, however much
//! of it has come. The last part of a port is reserved for known clients and trusted proxies.
//!
//! Of many connections that one client opens at once, most begin a little later, one after the other: otherwise those of
//! others would wait until all of them have been read. The lock is taken when a connection opens and closes, never for a
//! request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::config::Limits;
use crate::connection::Activity;
use crate::known::Known;
use crate::memory::{HTTP2_UNITS, TLS_UNITS};

/// For how many new connections a full port closes others at a time: finding them scans all, and what is begun at once delays
/// everybody. About as many as wait at a port with few descriptors.
const ROOM_AT_ONCE: usize = 64;

/// One part in so many of a port's places is reserved for known clients.
const RESERVED_PART: usize = 8;

/// How many connections a client may open at once, and by how much each further one is begun after the one before, but never
/// later than that after it was accepted.
const BURST: u32 = 32;
const BEGIN_PERIOD: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The connections of one port.
pub(crate) struct Connections {
    max: usize,
    /// The same for strangers.
    strangers_max: usize,
    share: usize,
    /// How many units a new connection takes, and one that speaks HTTP/2. At most the share: every client may have one.
    units: usize,
    http2_units: usize,
    limits: Limits,
    trusted_proxies: Vec<IpNet>,
    open: Mutex<Open>,
    freed: Notify,
    known: Arc<Known>,
    /// The requests in progress.
    requests: Arc<AtomicU64>,
}

#[derive(Default)]
struct Open {
    units: usize,
    clients: HashMap<Client, Held>,
}

/// The connections of one client.
#[derive(Default)]
struct Held {
    connections: Vec<Connection>,
    units: usize,
    requests: Arc<AtomicU64>,
    /// When its next connection would be begun if it had opened none at once.
    next_begin: Option<Instant>,
}

impl Held {
    /// How long to wait before a new connection is begun.
    fn pause(&mut self, now: Instant) -> Duration {
        let begin = self.next_begin.map_or(now, |next| next.clamp(now, now + LONGEST_PAUSE));
        self.next_begin = Some(begin + BEGIN_PERIOD);
        (begin - now).saturating_sub(BEGIN_PERIOD * BURST)
    }
}

struct Connection {
    activity: Arc<Activity>,
    units: usize,
    end: CancellationToken,
}

impl Connections {
    pub(crate) fn new(limits: Limits, max: u64, trusted_proxies: Vec<IpNet>, has_tls: bool) -> Arc<Self> {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let share = limits.client_connections.map_or(max / 4, |share| usize::try_from(share).unwrap_or(max));
        // A share of very few would lock out a client that opens connections in parallel.
        let share = if limits.client_connections.is_some() { share } else { share.max(16) }.min(max);
        // A very small port reserves nothing: one that speaks HTTP/2 must fit.
        let strangers_max = (max - max / RESERVED_PART).max(HTTP2_UNITS.min(max));
        let units = if has_tls { TLS_UNITS.min(share) } else { 1 };
        let http2_units = HTTP2_UNITS.min(share);
        Arc::new(Self {
            max,
            strangers_max,
            share,
            units,
            http2_units,
            limits,
            trusted_proxies,
            open: Mutex::default(),
            freed: Notify::new(),
            known: Arc::default(),
            requests: Arc::default(),
        })
    }

    /// Whether the client is known or a trusted proxy.
    pub(crate) fn is_known(&self, peer: IpAddr) -> bool {
        self.is_proxy(peer) || self.known.contains(Client::new(peer))
    }

    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&peer.to_canonical()))
    }

    fn max(&self, is_known: bool) -> usize {
        if is_known { self.max } else { self.strangers_max }
    }

    /// Whether there is a place for one more connection.
    pub(crate) fn has_room(&self, is_known: bool) -> bool {
        self.lock().units < self.max(is_known)
    }

    /// For how many more connections of strangers there are places, if each of them speaks HTTP/2.
    pub(crate) fn free_for_strangers(&self) -> usize {
        self.strangers_max.saturating_sub(self.lock().units) / self.http2_units
    }

    /// Closes connections in favour of those that wait, as many as may be.
    pub(crate) fn make_room(&self, waiting: usize, now: Instant) {
        let open = self.lock();
        let spare = self.strangers_max.saturating_sub(open.units);
        let wanted = waiting.min(ROOM_AT_ONCE) * self.units;
        close_oldest(open.connections(), wanted.saturating_sub(spare), now);
    }

    /// Waits until a connection has ended.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Registers a connection, which ends when `end` is cancelled. `None` if its client has reached its share and all
    /// are in use.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr, end: CancellationToken) -> Option<Place> {
        let client = Client::new(peer);
        let is_proxy = self.is_proxy(peer);
        // Strangers send through a proxy, too.
        let is_known = !is_proxy && self.known.contains(client);
        let mut open = self.lock();
        let held = open.clients.entry(client).or_default();
        let beyond_share = if is_proxy { 0 } else { (held.units + 1).saturating_sub(self.share) };
        let now = Instant::now();
        if close_oldest(held.connections.iter(), beyond_share, now) < beyond_share {
            return None;
        }
        let pause = if is_proxy { Duration::ZERO } else { held.pause(now) };
        let requests = (!is_proxy).then(|| Arc::clone(&held.requests));
        let (known, all_requests) = (Arc::clone(&self.known), Arc::clone(&self.requests));
        let activity = Activity::new(self.limits, (client, is_known), known, requests, all_requests);
        held.connections.push(Connection { activity: Arc::clone(&activity), units: self.units, end });
        held.units += self.units;
        open.units += self.units;
        Some(Place { connections: Arc::clone(self), client, is_proxy, activity, pause })
    }

    /// Closes some of the longest idle connections.
    pub(crate) fn close_unused(&self) {
        let open = self.lock();
        close_oldest(open.connections(), (ROOM_AT_ONCE * self.units).min(self.max), Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn connections(&self) -> impl Iterator<Item = &Connection> + Clone {
        self.clients.values().flat_map(|held| &held.connections)
    }

    fn remove(&mut self, client: Client, activity: &Arc<Activity>) {
        let Some(held) = self.clients.get_mut(&client) else { return };
        if let Some(at) = held.connections.iter().position(|one| Arc::ptr_eq(&one.activity, activity)) {
            let Connection { units, .. } = held.connections.swap_remove(at);
            held.units -= units;
            self.units -= units;
        }
        if held.connections.is_empty() {
            self.clients.remove(&client);
        }
    }
}

/// Whether closing the idle ones of these would free so many units. Those that are being closed count.
fn can_free<'a>(connections: impl Iterator<Item = &'a Connection>, units: usize, now: Instant) -> bool {
    let is_spare = |activity: &Activity| activity.is_giving_way() || activity.unused_since(now).is_some();
    let spare = || connections.filter(|one| is_spare(&one.activity)).map(|one| one.units).sum::<usize>();
    units == 0 || spare() >= units
}

/// Closes those of these that can be, strangers first and the longest idle of them first, until so many units are free or none
/// is left; returns how many are. Those that are being closed already count.
fn close_oldest<'a>(connections: impl Iterator<Item = &'a Connection>, units: usize, now: Instant) -> usize {
    if units == 0 {
        return 0;
    }
    let mut freed = 0;
    let mut unused = Vec::new();
    for connection in connections {
        if connection.activity.is_giving_way() {
            freed += connection.units;
        } else if let Some(since) = connection.activity.unused_since(now) {
            unused.push(((connection.activity.is_trusted(), since), connection));
        }
    }
    unused.sort_unstable_by_key(|(order, _)| *order);
    for (_, connection) in unused {
        if freed >= units {
            break;
        }
        // A request may have begun since the check.
        if connection.activity.give_way(now) {
            connection.end.cancel();
            freed += connection.units;
        }
    }
    freed
}

/// The place of one connection, for as long as it lives.
pub(crate) struct Place {
    connections: Arc<Connections>,
    client: Client,
    is_proxy: bool,
    pub(crate) activity: Arc<Activity>,
    /// How long to wait before the connection is begun.
    pub(crate) pause: Duration,
}

impl Place {
    /// Takes the further units of a connection that speaks HTTP/2, closing idle connections for them: those of the client
    /// if it has reached its share, else any. Closes none and returns false if there are not enough.
    pub(crate) fn begin_http2(&self) -> bool {
        let connections = &self.connections;
        let mut open = connections.lock();
        let is_other = |one: &&Connection| !Arc::ptr_eq(&one.activity, &self.activity);
        let Some(held) = open.clients.get(&self.client) else { return false };
        let more = connections.http2_units - connections.units;
        let beyond_share = match self.is_proxy {
            true => 0,
            false => (held.units + more).saturating_sub(connections.share),
        };
        let max = connections.max(self.is_proxy || self.activity.is_trusted());
        let beyond_max = (open.units + more).saturating_sub(max);
        let own = held.connections.iter().filter(is_other);
        let all = open.connections().filter(is_other);
        // What is closed for the share is free for the port, too.
        let now = Instant::now();
        if !can_free(own.clone(), beyond_share, now)
            || !can_free(all.clone(), beyond_max, now)
            || close_oldest(own, beyond_share, now) < beyond_share
            || close_oldest(all, beyond_max, now) < beyond_max
        {
            return false;
        }
        open.units += more;
        let held = open.clients.entry(self.client).or_default();
        held.units += more;
        for connection in held.connections.iter_mut().filter(|one| Arc::ptr_eq(&one.activity, &self.activity))
        {
            connection.units += more;
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.activity.end();
        self.connections.lock().remove(self.client, &self.activity);
        self.connections.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{PROCEEDING, Running};

    #[test]
    fn connections_that_one_client_opens_at_once_are_begun_one_after_the_other() {
        let (mut held, now) = (Held::default(), Instant::now());
        let pauses: Vec<_> = (0..5_000).map(|_| held.pause(now)).collect();
        assert!(pauses[..=BURST as usize].iter().all(Duration::is_zero));
        assert_eq!(pauses[1_000], BEGIN_PERIOD * (1_000 - BURST));
        assert!(pauses[4_999] <= LONGEST_PAUSE);
        assert!(held.pause(now + Duration::from_secs(1)).is_zero(), "they are all begun");
    }

    #[test]
    fn other_clients_and_trusted_proxies_do_not_wait() {
        let proxies = vec!["192.0.2.9/32".parse().unwrap()];
        let connections = Connections::new(Limits::default(), 4096, proxies, false);
        let open = |address: [u8; 4]| connections.admit(address.into(), CancellationToken::new()).unwrap();
        let many: Vec<_> = (0..500).map(|_| open([192, 0, 2, 1])).collect();
        assert!(many.iter().any(|place| !place.pause.is_zero()));
        assert!(open([192, 0, 2, 2]).pause.is_zero());
        let many: Vec<_> = (0..500).map(|_| open([192, 0, 2, 9])).collect();
        assert!(many.iter().all(|place| place.pause.is_zero()));
    }

    const CLIENTS: [[u8; 4]; 4] = [[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3], [192, 0, 2, 4]];

    /// The connections of a port. An authenticated request of each runs, until it is answered.
    struct Port {
        connections: Arc<Connections>,
        open: Vec<(Place, CancellationToken, Option<Running>)>,
    }

    impl Port {
        fn new(max: u64, share: u64) -> Self {
            let limits = Limits { client_connections: Some(share), ..Limits::default() };
            Self { connections: Connections::new(limits, max, Vec::new(), false), open: Vec::new() }
        }

        fn admit(&mut self, address: [u8; 4]) -> &Place {
            let end = CancellationToken::new();
            let place = self.connections.admit(address.into(), end.clone()).unwrap();
            let running = place.activity.request(false);
            place.activity.authenticated();
            self.open.push((place, end, Some(running)));
            &self.open.last().unwrap().0
        }

        fn answer(&mut self, number: usize) {
            self.open[number].2 = None;
        }

        fn closed(&self) -> Vec<bool> {
            self.open.iter().map(|(_, end, _)| end.is_cancelled()).collect()
        }
    }

    #[test]
    fn an_idle_http2_connection_frees_all_its_units_for_another_one() {
        for (max, clients) in [(4096, [CLIENTS[0]; 4]), (17, CLIENTS)] {
            let mut port = Port::new(max, 17);
            for (number, client) in clients.into_iter().enumerate().take(2) {
                assert!(port.admit(client).begin_http2());
                port.answer(number);
            }
            assert!(port.admit(clients[2]).begin_http2());
            assert_eq!(port.closed(), [true, false, false], "of at most {max}");
            // The units of the first are free for the fourth, too, but not all that HTTP/2 needs.
            port.admit(clients[3]);
            assert_eq!(port.closed(), [true, false, false, false], "of at most {max}");
            assert!(port.open[3].0.begin_http2());
            assert_eq!(port.closed(), [true, true, false, false], "of at most {max}");
            port.open.clear();
            let open = port.connections.lock();
            assert_eq!((open.units, open.clients.len()), (0, 0));
        }
    }

    #[test]
    fn no_connection_is_closed_for_one_that_is_refused_all_the_same() {
        for (max, clients) in [(4096, [CLIENTS[0]; 4]), (10, CLIENTS)] {
            let mut port = Port::new(max, 10);
            port.admit(clients[0]);
            port.answer(0);
            assert!(port.admit(clients[1]).begin_http2());
            assert!(!port.admit(clients[2]).begin_http2(), "one unit is idle, and seven are needed");
            assert_eq!(port.closed(), [false; 3], "of at most {max}");
        }
    }

    /// A port that strangers fill with requests that prove nothing.
    fn flooded(limits: Limits, max: u64) -> Port {
        let connections = Connections::new(limits, max, vec!["192.0.2.9/32".parse().unwrap()], false);
        let mut port = Port { connections, open: Vec::new() };
        for n in 0.. {
            if !port.connections.has_room(false) {
                break;
            }
            let (end, address) = (CancellationToken::new(), IpAddr::from([198, 51, 100, n]));
            let place = port.connections.admit(address, end.clone()).unwrap();
            let running = place.activity.request(true);
            port.open.push((place, end, Some(running)));
        }
        port
    }

    #[test]
    fn strangers_leave_a_part_to_known_clients_and_proxies_and_give_way_after_a_moment() {
        let mut port = flooded(Limits { client_connections: Some(64), ..Limits::default() }, 64);
        let connections = Arc::clone(&port.connections);
        assert_eq!(port.open.len(), 56);
        let known = IpAddr::from([192, 0, 2, 1]);
        assert!(!connections.is_known(known));
        connections.admit(known, CancellationToken::new()).unwrap().activity.authenticated();
        assert!(connections.is_known(known) && connections.is_known([192, 0, 2, 9].into()));
        assert!(connections.has_room(true));
        let place = connections.admit(known, CancellationToken::new()).unwrap();
        assert!(place.begin_http2(), "eight more are reserved");
        assert!(!port.open[0].0.begin_http2(), "not for a stranger");

        let now = Instant::now();
        connections.make_room(3, now);
        assert_eq!(port.closed(), [false; 56], "a request may take a few round trips");
        port.open[0].0.activity.authenticated();
        connections.make_room(3, now + PROCEEDING);
        let closed: Vec<_> =
            port.closed().iter().enumerate().filter(|(_, closed)| **closed).map(|(n, _)| n).collect();
        assert_eq!(closed, [1, 2, 3], "the oldest, but none with an authenticated request");
        assert_eq!(connections.free_for_strangers(), 0);
        port.open.drain(1..28);
        // 28 requests of strangers, eight units of the known client.
        assert_eq!(connections.free_for_strangers(), (56 - 29 - 8) / 8);
    }

    #[test]
    fn a_connection_is_not_closed_for_itself() {
        let mut port = Port::new(8, 8);
        port.admit(CLIENTS[0]);
        port.admit(CLIENTS[0]);
        port.answer(1);
        assert!(!port.open[1].0.begin_http2());
        assert_eq!(port.closed(), [false; 2]);
    }
}
