//! The memory for request bodies: its limits, and which bodies are refused or dropped when it is exhausted.
//!
//! Three separate budgets:
//!
//! | budget | bodies | when it is exhausted |
//! | --- | --- | --- |
//! | unproved | of senders that are not authenticated yet | the slowest body is dropped, of the client that has occupied the most memory for the longest time |
//! | small | authenticated, up to 64 KiB | refused |
//! | large | authenticated, longer | waits a moment, then refused |
//!
//! A body that is complete with its first bytes is authenticated or refused at once and never counts as unproved.
//! Authenticated bodies occupy their memory until they are published. Few large ones are checked and published at a
//! time, since small ones would wait behind them.

use std::collections::{HashMap, hash_map};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, counter};
use server::Client;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// The longest small body. One read of a connection returns no more.
pub(crate) const SMALL_BYTES: usize = 64 * 1024;

/// How many bytes of large bodies are published at a time: what a disk or a network accepts in about 10 ms.
const PUBLISHING_BYTES: usize = 4 * 1024 * 1024;

/// How long a large body waits for memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// The budgets of an ingress.
pub(crate) struct Memory {
    pub(crate) unproved: Unproved,
    small: Budget,
    large: Semaphore,
    checking: Semaphore,
    publishing: Semaphore,
    large_limit: usize,
}

struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// No memory is left for the body.
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
            checking: Semaphore::new(checks()),
            publishing: Semaphore::new(kib(PUBLISHING_BYTES) as usize),
            large_limit: each,
        }
    }

    /// Takes memory for an authenticated body.
    pub(crate) async fn hold(&self, bytes: usize) -> Result<Held<'_>, Exhausted> {
        if bytes <= SMALL_BYTES {
            return self.small.take(bytes).map(Held::Small);
        }
        let permits = self.large.acquire_many(kib(bytes.min(self.large_limit)));
        let permit = timeout(PATIENCE, permits).await.map_err(|_| Exhausted)?;
        Ok(Held::Large(permit.expect("the semaphore is never closed")))
    }

    /// Waits until a large body may be checked; it counts for as long as the returned value lives. The check occupies a
    /// processor for milliseconds.
    pub(crate) async fn checking(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        match bytes {
            0..=SMALL_BYTES => None,
            _ => Some(self.checking.acquire().await.expect("the semaphore is never closed")),
        }
    }

    /// Waits until a large body may be published; it counts for as long as the returned value lives.
    pub(crate) async fn publishing(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        if bytes <= SMALL_BYTES {
            return None;
        }
        let permits = self.publishing.acquire_many(kib(bytes.min(PUBLISHING_BYTES)));
        Some(permits.await.expect("the semaphore is never closed"))
    }
}

/// How many large bodies are checked at a time: one processor is left for everything else.
fn checks() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() - 1).max(1))
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

/// The memory of an authenticated body, for as long as the value lives.
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

/// The bodies that are being read and whose sender is not authenticated yet.
///
/// The measure is memory times time. A body that arrives at network speed is therefore never dropped in favour of slow
/// ones, however many there are; and a client that sends many bodies loses its own. When half of the budget is used,
/// the bodies of clients that use up their share are read slowly, which leaves the processor to others.
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
    clients: HashMap<Client, Usage>,
}

/// The usage of one client.
#[derive(Default)]
struct Usage {
    bodies: usize,
    bytes: usize,
}

struct Entry {
    client: Client,
    bytes: usize,
    since: Instant,
    /// It only waits to be checked, and can no longer be dropped.
    is_whole: bool,
    dropped: Arc<Notify>,
}

/// How long a body waits after each 64 KiB, per other body that is being read. Together they arrive at 64 MiB per
/// second.
const PAUSE_PER_BODY: Duration = Duration::from_millis(1);

/// This many of the bodies that have been read the longest do not wait, so that some complete.
const UNPAUSED: usize = 16;

/// The longest wait after 64 KiB.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Memory is taken in steps, so that a body of many small pieces rarely takes the lock.
const STEP_BYTES: usize = 16 * 1024;

impl Unproved {
    fn new(limit: usize) -> Self {
        let dropped = counter!("ingress_unproved_bodies_dropped_total");
        Self { limit, bodies: Mutex::default(), dropped }
    }

    /// Registers a body of a client.
    pub(crate) fn open(&self, client: Client) -> UnprovedBody<'_> {
        let dropped = Arc::new(Notify::new());
        let mut bodies = self.lock();
        let id = bodies.next;
        bodies.next += 1;
        let entry =
            Entry { client, bytes: 0, since: Instant::now(), is_whole: false, dropped: Arc::clone(&dropped) };
        bodies.held.insert(id, entry);
        bodies.clients.entry(client).or_default().bodies += 1;
        UnprovedBody { unproved: self, id, client, taken: 0, dropped }
    }

    /// Drops bodies until an eighth of the budget is free, since each search scans all of them.
    fn make_room(&self, bodies: &mut Bodies) {
        let now = Instant::now();
        let mut clients: HashMap<Client, Costs> = HashMap::new();
        for (id, body) in bodies.held.iter().filter(|(_, body)| !body.is_whole) {
            let age = (now - body.since).as_micros().max(1);
            let (cost, rate) = (body.bytes as u128 * age, body.bytes as u128 * 1_000_000 / age);
            let costs = clients.entry(body.client).or_default();
            costs.sum += cost;
            costs.bodies.push((rate, cost, *id));
        }
        // The slowest last, where bodies are taken from.
        clients.values_mut().for_each(|costs| costs.bodies.sort_unstable_by(|a, b| b.cmp(a)));
        while bodies.used > self.limit - self.limit / 8 {
            let Some(greediest) = clients.values_mut().max_by_key(|costs| costs.sum) else { return };
            let Some((_, cost, id)) = greediest.bodies.pop() else { return };
            greediest.sum -= cost;
            if let Some(body) = bodies.remove(id) {
                body.dropped.notify_one();
                self.dropped.increment(1);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the unfinished bodies of a client have cost, in bytes times microseconds.
#[derive(Default)]
struct Costs {
    sum: u128,
    /// Rate, cost and id of each.
    bodies: Vec<(u128, u128, u64)>,
}

impl Bodies {
    fn remove(&mut self, id: u64) -> Option<Entry> {
        let body = self.held.remove(&id)?;
        self.used -= body.bytes;
        if let hash_map::Entry::Occupied(mut usage) = self.clients.entry(body.client) {
            usage.get_mut().bodies -= 1;
            usage.get_mut().bytes -= body.bytes;
            if usage.get().bodies == 0 {
                usage.remove();
            }
        }
        Some(body)
    }
}

/// An unproved body that is being read.
pub(crate) struct UnprovedBody<'a> {
    unproved: &'a Unproved,
    id: u64,
    client: Client,
    taken: usize,
    dropped: Arc<Notify>,
}

impl UnprovedBody<'_> {
    /// Takes memory for a body that has grown to this length. [`Self::dropped`] reports that a body was dropped
    /// meanwhile.
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
        bodies.clients.entry(self.client).or_default().bytes += more;
        if bodies.used > self.unproved.limit {
            self.unproved.make_room(&mut bodies);
        }
    }

    /// How long to wait before reading the body continues, after this many bytes.
    pub(crate) fn pause(&self, bytes: usize) -> Option<Duration> {
        let bodies = self.unproved.lock();
        if bodies.used <= self.unproved.limit / 2 {
            return None;
        }
        let own = bodies.clients.get(&self.client).map_or(0, |usage| usage.bytes);
        let share = bodies.used / bodies.clients.len().max(1);
        let others = u32::try_from(bodies.held.len()).unwrap_or(u32::MAX);
        let is_early = || bodies.held.keys().filter(|id| **id < self.id).count() < UNPAUSED;
        let reads = bytes as f64 / SMALL_BYTES as f64;
        (own > share / 2 && !is_early()).then(|| (PAUSE_PER_BODY * others).min(LONGEST_PAUSE).mul_f64(reads))
    }

    /// The body is complete.
    pub(crate) fn complete(&self) {
        if let Some(body) = self.unproved.lock().held.get_mut(&self.id) {
            body.is_whole = true;
        }
    }

    /// Waits until the body is dropped in favour of others. Cancel safe.
    pub(crate) async fn dropped(&self) {
        self.dropped.notified().await;
    }
}

impl Drop for UnprovedBody<'_> {
    fn drop(&mut self) {
        self.unproved.lock().remove(self.id);
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

    /// Makes the bodies ten seconds older.
    fn age(unproved: &Unproved) {
        unproved.lock().held.values_mut().for_each(|body| body.since -= Duration::from_secs(10));
    }

    fn is_dropped(body: &UnprovedBody<'_>) -> bool {
        body.dropped().now_or_never().is_some()
    }

    #[test]
    fn the_slow_bodies_of_many_clients_give_way_to_a_body_that_arrives() {
        let unproved = Unproved::new(MIB);
        let mut slow: Vec<_> = (0..64).map(|n| unproved.open(client(n))).collect();
        slow.iter_mut().for_each(|body| body.grow_to(1));
        age(&unproved);
        let mut fast = unproved.open(client(200));
        for length in (1..=7).map(|part| part * MIB / 8) {
            fast.grow_to(length);
            assert!(!is_dropped(&fast), "{length}");
            assert!(unproved.lock().used <= MIB);
        }
        assert!(slow.iter().any(is_dropped));
        drop((slow, fast));
        let bodies = unproved.lock();
        assert!(bodies.used == 0 && bodies.held.is_empty() && bodies.clients.is_empty());
    }

    #[test]
    fn only_clients_that_use_their_share_are_read_slowly() {
        let unproved = Unproved::new(MIB);
        let mut many: Vec<_> = (0..32).map(|n| unproved.open(client(n % 4))).collect();
        many.iter_mut().for_each(|body| body.grow_to(MIB / 64));
        assert!(many.iter().all(|body| body.pause(SMALL_BYTES).is_none()), "there is enough for all");
        many.iter_mut().take(16).for_each(|body| body.grow_to(MIB / 32));
        let mut modest = unproved.open(client(200));
        modest.grow_to(MIB / 64);
        assert_eq!(modest.pause(SMALL_BYTES), None);
        assert!(
            many.iter().take(UNPAUSED).all(|body| body.pause(SMALL_BYTES).is_none()),
            "some come to their end"
        );
        let paused = &many[UNPAUSED..];
        assert!(paused.iter().all(|body| body.pause(SMALL_BYTES) == Some(PAUSE_PER_BODY * 33)));
        assert!(paused.iter().all(|body| body.pause(SMALL_BYTES / 4) == Some(PAUSE_PER_BODY * 33 / 4)));
    }

    #[test]
    fn who_sends_many_bodies_loses_its_own() {
        let unproved = Unproved::new(MIB);
        let mut modest = unproved.open(client(1));
        let mut many: Vec<_> = (0..32).map(|_| unproved.open(client(2))).collect();
        age(&unproved);
        modest.grow_to(MIB / 8);
        many.iter_mut().for_each(|body| body.grow_to(MIB / 16));
        assert!(!is_dropped(&modest));
        assert!(many.iter().filter(|body| is_dropped(body)).count() > 10);
        assert!(unproved.lock().used <= MIB);
    }

    #[test]
    fn a_body_that_waits_to_be_checked_is_kept_and_so_are_the_fast_ones() {
        let unproved = Unproved::new(MIB);
        let mut bodies: Vec<_> = (0..4).map(|_| unproved.open(client(1))).collect();
        let (slow, rest) = bodies.split_first_mut().unwrap();
        slow.grow_to(MIB / 8);
        age(&unproved);
        rest[0].grow_to(MIB / 4);
        rest[0].complete();
        rest[1].grow_to(MIB / 2);
        rest[2].grow_to(MIB / 4);
        assert_eq!(bodies.iter().map(is_dropped).collect::<Vec<_>>(), [true, false, false, true]);
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
