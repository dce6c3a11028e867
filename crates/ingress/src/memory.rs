//! The memory of request bodies: how much of it there is, and who has to do without when it runs out.
//!
//! Three budgets, so that none of these can take the memory of another:
//!
//! | budget | bodies | when it is exhausted |
//! | --- | --- | --- |
//! | unproved | whose sender has proved nothing yet | the body that has occupied the most memory for the longest time is dropped, of the client that has occupied the most |
//! | small | proved, up to 64 KiB | refused |
//! | large | proved, longer | waits a moment, then refused |
//!
//! A body that arrives whole with its first bytes is proved or refused at once and is never part of the unproved ones.
//! Proved bodies hold their memory until they are published. Few large ones are published at a time: a small one would
//! wait behind them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, counter};
use server::Client;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// The longest small body. One read of a connection yields no more.
pub(crate) const SMALL_BYTES: usize = 64 * 1024;

/// How many bytes of large bodies are published at a time: what a disk or a network takes in about 10 ms.
const PUBLISHING_BYTES: usize = 4 * 1024 * 1024;

/// How long a large body waits for memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// The budgets of an ingress.
pub(crate) struct Memory {
    pub(crate) unproved: Unproved,
    small: Budget,
    large: Semaphore,
    publishing: Semaphore,
    large_limit: usize,
}

struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// There is no memory for the body now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Memory {
    /// `all` bytes, of which `unproved` are for unproved bodies.
    pub(crate) fn new(all: usize, unproved: usize) -> Self {
        let each = all.saturating_sub(unproved) / 2;
        Self {
            unproved: Unproved::new(unproved),
            small: Budget { limit: each, used: AtomicUsize::new(0) },
            large: Semaphore::new(kib(each) as usize),
            publishing: Semaphore::new(kib(PUBLISHING_BYTES) as usize),
            large_limit: each,
        }
    }

    /// Takes memory for a proved body.
    pub(crate) async fn hold(&self, bytes: usize) -> Result<Held<'_>, Exhausted> {
        if bytes <= SMALL_BYTES {
            return self.small.take(bytes).map(Held::Small);
        }
        let permits = self.large.acquire_many(kib(bytes.min(self.large_limit)));
        let permit = timeout(PATIENCE, permits).await.map_err(|_| Exhausted)?;
        Ok(Held::Large(permit.expect("the semaphore is never closed")))
    }

    /// Waits until a large body may be published, which then counts for as long as the returned value lives.
    pub(crate) async fn publishing(&self, bytes: usize) -> SemaphorePermit<'_> {
        let permits = self.publishing.acquire_many(kib(bytes.min(PUBLISHING_BYTES)));
        permits.await.expect("the semaphore is never closed")
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

impl Budget {
    fn take(&self, bytes: usize) -> Result<Small<'_>, Exhausted> {
        let small = Small { budget: self, bytes };
        match self.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit {
            true => Ok(small),
            false => Err(Exhausted),
        }
    }
}

/// The memory of a proved body, for as long as the value lives.
pub(crate) enum Held<'a> {
    #[allow(dead_code, reason = "held for its end")]
    Small(Small<'a>),
    Large(SemaphorePermit<'a>),
}

impl Held<'_> {
    /// Gives back what a large body did not need.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        if let Self::Large(permit) = self {
            let spare = permit.num_permits().saturating_sub(kib(bytes) as usize);
            drop(permit.split(spare));
        }
    }
}

pub(crate) struct Small<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The bodies that are being read and whose sender has proved nothing.
///
/// The measure is memory times time. By it, a body that arrives at the speed of the network is never dropped for the sake
/// of slow ones, however many there are; and whoever sends many shares the loss among its own.
pub(crate) struct Unproved {
    limit: usize,
    bodies: Mutex<Bodies>,
    dropped: Counter,
}

#[derive(Default)]
struct Bodies {
    used: usize,
    next: u64,
    held: HashMap<u64, Entry>,
}

struct Entry {
    client: Client,
    bytes: usize,
    since: Instant,
    dropped: Arc<Notify>,
}

/// Memory is taken in steps, so that a body of many small pieces seldom takes the lock.
const STEP_BYTES: usize = 16 * 1024;

impl Unproved {
    fn new(limit: usize) -> Self {
        let dropped = counter!("ingress_unproved_bodies_dropped_total");
        Self { limit, bodies: Mutex::default(), dropped }
    }

    /// Enters a body of a client.
    pub(crate) fn open(&self, client: Client) -> UnprovedBody<'_> {
        let dropped = Arc::new(Notify::new());
        let mut bodies = self.lock();
        let id = bodies.next;
        bodies.next += 1;
        let entry = Entry { client, bytes: 0, since: Instant::now(), dropped: Arc::clone(&dropped) };
        bodies.held.insert(id, entry);
        UnprovedBody { unproved: self, id, taken: 0, dropped }
    }

    /// Drops bodies until an eighth of the budget is free, since each search costs a look at all.
    fn make_room(&self, bodies: &mut Bodies) {
        let now = Instant::now();
        let mut clients: HashMap<Client, (u128, Vec<(u128, u64)>)> = HashMap::new();
        for (id, body) in &bodies.held {
            // At least one, so that of equally young bodies the larger one goes.
            let cost = body.bytes as u128 * (now - body.since).as_micros().max(1);
            let (sum, costs) = clients.entry(body.client).or_default();
            *sum += cost;
            costs.push((cost, *id));
        }
        clients.values_mut().for_each(|(_, costs)| costs.sort_unstable());
        while bodies.used > self.limit - self.limit / 8 {
            let greediest = clients.values_mut().max_by_key(|(sum, _)| *sum);
            let Some((sum, (cost, id))) = greediest.and_then(|(sum, costs)| Some((sum, costs.pop()?))) else {
                return;
            };
            *sum -= cost;
            if let Some(body) = bodies.held.remove(&id) {
                bodies.used -= body.bytes;
                body.dropped.notify_one();
                self.dropped.increment(1);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An unproved body that is being read.
pub(crate) struct UnprovedBody<'a> {
    unproved: &'a Unproved,
    id: u64,
    taken: usize,
    dropped: Arc<Notify>,
}

impl UnprovedBody<'_> {
    /// Takes memory for a body that has become this long. A body that is dropped meanwhile is told by
    /// [`Self::dropped`].
    pub(crate) fn grow_to(&mut self, bytes: usize) {
        if bytes <= self.taken {
            return;
        }
        let more = bytes.next_multiple_of(STEP_BYTES) - self.taken;
        let mut bodies = self.unproved.lock();
        let Some(body) = bodies.held.get_mut(&self.id) else { return };
        body.bytes += more;
        self.taken += more;
        bodies.used += more;
        if bodies.used > self.unproved.limit {
            self.unproved.make_room(&mut bodies);
        }
    }

    /// Waits until the body is dropped in favour of others. Cancel safe.
    pub(crate) async fn dropped(&self) {
        self.dropped.notified().await;
    }
}

impl Drop for UnprovedBody<'_> {
    fn drop(&mut self) {
        let mut bodies = self.unproved.lock();
        if let Some(body) = bodies.held.remove(&self.id) {
            bodies.used -= body.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn client(last: u8) -> Client {
        Client::new([192, 0, 2, last].into())
    }

    fn is_dropped(body: &UnprovedBody<'_>) -> bool {
        body.dropped().now_or_never().is_some()
    }

    #[test]
    fn the_slow_bodies_of_many_clients_give_way_to_a_body_that_arrives() {
        let unproved = Unproved::new(MIB);
        let mut slow: Vec<_> = (0..64).map(|n| unproved.open(client(n))).collect();
        slow.iter_mut().for_each(|body| body.grow_to(1));
        std::thread::sleep(Duration::from_millis(20));
        let mut fast = unproved.open(client(200));
        for length in (1..=7).map(|part| part * MIB / 8) {
            fast.grow_to(length);
            assert!(!is_dropped(&fast), "{length}");
            assert!(unproved.lock().used <= MIB);
        }
        assert!(slow.iter().any(is_dropped));
        drop((slow, fast));
        assert_eq!(unproved.lock().used, 0);
    }

    #[test]
    fn who_sends_many_bodies_loses_its_own() {
        let unproved = Unproved::new(MIB);
        let mut modest = unproved.open(client(1));
        modest.grow_to(MIB / 8);
        let mut many: Vec<_> = (0..32).map(|_| unproved.open(client(2))).collect();
        many.iter_mut().for_each(|body| body.grow_to(MIB / 16));
        assert!(!is_dropped(&modest));
        assert!(many.iter().filter(|body| is_dropped(body)).count() > 10);
        assert!(unproved.lock().used <= MIB);
    }

    #[tokio::test]
    async fn large_bodies_leave_the_memory_of_small_ones() {
        let memory = Memory::new(5 * MIB, MIB);
        let large = [memory.hold(MIB).await, memory.hold(MIB).await];
        assert!(large.iter().all(Result::is_ok));
        assert!(memory.hold(MIB).now_or_never().is_none(), "waits");
        let small: Vec<_> = (0..32).filter_map(|_| memory.hold(SMALL_BYTES).now_or_never()).collect();
        assert!(small.len() == 32 && small.iter().all(Result::is_ok));
        assert!(memory.hold(1).await.is_err());
        drop((small, large));
        assert!(memory.hold(1).await.is_ok() && memory.hold(MIB).await.is_ok());
    }
}
