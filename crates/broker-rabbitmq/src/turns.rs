//! The turns of large messages: few of their bytes are unconfirmed at a time.
//!
//! A connection is one stream of bytes and RabbitMQ writes its queues in one, so that a small message waits for every
//! byte that was sent before it. Large messages therefore wait before they are sent, first come, first served, and
//! small ones never wait for a turn. Knows nothing of AMQP.

use std::sync::Arc;

use broker::SMALL_BODY_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes of large messages are unconfirmed at a time, unless a single one is longer: what RabbitMQ takes in 10 to
/// 20 ms. The embedded broker writes as many in one step.
const LARGE_BYTES: usize = 1024 * 1024;

/// The unconfirmed bytes of large messages. Clones share them.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

/// The bytes of one large message. They count until it is dropped.
pub(crate) struct Turn {
    _bytes: OwnedSemaphorePermit,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BYTES)))
    }

    /// Whether a message of this length waits for a turn.
    pub(crate) fn is_large(bytes: usize) -> bool {
        bytes > SMALL_BODY_BYTES
    }

    /// Waits for the turn of a large message. Those that are dropped while they wait hold up nothing.
    pub(crate) async fn wait(self, bytes: usize) -> Turn {
        let bytes = u32::try_from(bytes.min(LARGE_BYTES)).expect("it is no more than the limit");
        Turn { _bytes: self.0.acquire_many_owned(bytes).await.expect("the semaphore is never closed") }
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

    fn at_once(turns: &Turns, bytes: usize) -> Turn {
        turns.clone().wait(bytes).now_or_never().expect("it does not wait")
    }

    #[test]
    fn the_bytes_of_large_messages_are_bounded_and_one_of_any_length_goes_alone() {
        let turns = Turns::new();
        let quarters: Vec<_> = (0..4).map(|_| at_once(&turns, LARGE_BYTES / 4)).collect();
        drop(waiting(&turns, SMALL_BODY_BYTES + 1));
        drop(quarters);
        let alone = at_once(&turns, 100 * LARGE_BYTES);
        drop(waiting(&turns, SMALL_BODY_BYTES + 1));
        drop(alone);
        at_once(&turns, LARGE_BYTES);
    }

    #[tokio::test]
    async fn turns_come_in_order_and_those_that_are_given_up_hold_up_nothing() {
        let turns = Turns::new();
        let first = at_once(&turns, LARGE_BYTES);
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
