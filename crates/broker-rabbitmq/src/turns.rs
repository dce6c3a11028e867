//! The turns of large messages: few of their bytes are unconfirmed at a time, and they leave half of the time to others.
//!
//! A connection is one stream of bytes and RabbitMQ writes its queues in one, so that a small message waits for every
//! byte that was sent before it. Large messages therefore wait before they are sent, first come, first served, and
//! small ones never wait for a turn. Knows nothing of AMQP.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::SMALL_BODY_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// How many bytes of large messages are unconfirmed at a time, unless a single one is longer: what RabbitMQ takes in 10 to
/// 20 ms. The embedded broker writes as many in one step.
const LARGE_BYTES: usize = 1024 * 1024;

/// The longest pause after a turn.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The unconfirmed bytes of large messages. Clones share them.
#[derive(Clone)]
pub(crate) struct Turns {
    bytes: Arc<Semaphore>,
    /// The end of the pause after the last turn.
    next: Arc<Mutex<Instant>>,
}

/// The bytes of one large message. They count until it is dropped; then comes a pause as long as it lasted.
pub(crate) struct Turn {
    _bytes: OwnedSemaphorePermit,
    begin: Instant,
    next: Arc<Mutex<Instant>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&self.next) = Instant::now() + self.begin.elapsed().min(LONGEST_PAUSE);
    }
}

fn lock(next: &Mutex<Instant>) -> MutexGuard<'_, Instant> {
    next.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { bytes: Arc::new(Semaphore::new(LARGE_BYTES)), next: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Whether a message of this length waits for a turn.
    pub(crate) fn is_large(bytes: usize) -> bool {
        bytes > SMALL_BODY_BYTES
    }

    /// Waits for the turn of a large message. Those that are dropped while they wait hold up nothing.
    pub(crate) async fn wait(self, bytes: usize) -> Turn {
        let bytes = u32::try_from(bytes.min(LARGE_BYTES)).expect("it is no more than the limit");
        let bytes = self.bytes.acquire_many_owned(bytes).await.expect("the semaphore is never closed");
        let next = *lock(&self.next);
        sleep_until(next).await;
        Turn { _bytes: bytes, begin: Instant::now(), next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, select_all};

    use super::*;

    fn waiting(turns: &Turns, bytes: usize) -> BoxFuture<'static, Turn> {
        let mut wait = turns.clone().wait(bytes).boxed();
        assert!((&mut wait).now_or_never().is_none(), "{bytes} bytes are free");
        wait
    }

    #[tokio::test]
    async fn the_bytes_of_large_messages_are_bounded_and_one_of_any_length_goes_alone() {
        let turns = Turns::new();
        let wait = |bytes| turns.clone().wait(bytes);
        let mut quarters = Vec::new();
        for _ in 0..4 {
            quarters.push(wait(LARGE_BYTES / 4).await);
        }
        drop(waiting(&turns, SMALL_BODY_BYTES + 1));
        drop(quarters);
        let alone = wait(100 * LARGE_BYTES).await;
        drop(waiting(&turns, SMALL_BODY_BYTES + 1));
        drop(alone);
        wait(LARGE_BYTES).await;
    }

    #[tokio::test]
    async fn after_a_turn_comes_a_pause_as_long_as_it_was_but_not_for_ever() {
        let turns = Turns::new();
        for (lasted, paused) in
            [(20, 20), (5_000, 50)].map(|(a, b)| (Duration::from_millis(a), Duration::from_millis(b)))
        {
            let mut turn = turns.clone().wait(LARGE_BYTES).await;
            turn.begin -= lasted;
            let begin = Instant::now();
            drop(turn);
            turns.clone().wait(LARGE_BYTES).await;
            assert!(begin.elapsed() >= paused, "{:?}", begin.elapsed());
            assert!(*lock(&turns.next) <= Instant::now() + LONGEST_PAUSE);
        }
    }

    #[tokio::test]
    async fn turns_come_in_order_and_those_that_are_given_up_hold_up_nothing() {
        let turns = Turns::new();
        let first = turns.clone().wait(LARGE_BYTES).await;
        let mut queue: Vec<_> =
            (0..8).map(|n| waiting(&turns, LARGE_BYTES * 3 / 4).map(move |turn| (n, turn)).boxed()).collect();
        drop(queue.remove(1));
        drop(queue.remove(1));
        drop(first);
        let mut order = Vec::new();
        while !queue.is_empty() {
            let ((n, turn), _, rest) = select_all(queue).await;
            order.push(n);
            drop(turn);
            queue = rest;
        }
        assert_eq!(order, [0, 3, 4, 5, 6, 7]);
    }
}
