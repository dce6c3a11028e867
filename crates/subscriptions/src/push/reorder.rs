//! Sorts events by their receipt, where several ledgers record them in another order.
//!
//! An event is passed on only once the feed has got past its receipt by a bounded time: then every event that was received
//! before it, and recorded within that time, has been read. One that was recorded later still is passed on when it comes.
//! More events may be received within that time than there is room for: then the first ones do not wait until its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::{EventId, Timestamp};
use ledger::feed::FeedEvent;

/// Events that wait for others that were received before them.
#[derive(Debug)]
pub(super) struct Reorder {
    wait: Duration,
    held: BTreeMap<(Timestamp, EventId), Arc<FeedEvent>>,
    /// The feed was read up to events received at this time.
    passed: Timestamp,
}

impl Reorder {
    /// Events wait so long; with no wait they are passed on in the order of the feed.
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, held: BTreeMap::new(), passed: Timestamp::MIN }
    }

    /// Takes an event that was read, and gives it back at once if none has to wait.
    pub(super) fn push(&mut self, event: Arc<FeedEvent>) -> Option<Arc<FeedEvent>> {
        if self.wait.is_zero() {
            return Some(event);
        }
        self.passed = self.passed.max(event.received_at);
        self.held.insert((event.received_at, event.id), event);
        None
    }

    /// Everything that was visible at this time has been read.
    pub(super) fn seen_until(&mut self, time: Timestamp) {
        self.passed = self.passed.max(time);
    }

    /// The next event whose wait is over.
    pub(super) fn next(&mut self) -> Option<Arc<FeedEvent>> {
        let entry = self.held.first_entry()?;
        let (received_at, _) = *entry.key();
        (received_at + self.wait <= self.passed).then(|| entry.remove())
    }

    /// The first half of the events that wait, whose wait ends early.
    pub(super) fn first_half(&mut self) -> Vec<Arc<FeedEvent>> {
        let count = self.held.len().div_ceil(2);
        (0..count).filter_map(|_| self.held.pop_first()).map(|(_, event)| event).collect()
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether events wait.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// How long events wait at most.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    fn passed_on(reorder: &mut Reorder) -> Vec<i64> {
        let next = || Some(reorder.next()?.received_at.as_millisecond() - at(0).as_millisecond());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn events_are_passed_on_by_receipt_once_the_feed_is_past_them() {
        let mut reorder = Reorder::new(Duration::from_millis(500));
        let push = |reorder: &mut Reorder, milliseconds: i64| {
            let event =
                FeedEvent::example(EventId::generate(), Some("order/1"), at(milliseconds), "{}".into());
            assert!(reorder.push(Arc::new(event)).is_none());
        };
        // Two ledgers: the second one commits first.
        push(&mut reorder, 20);
        push(&mut reorder, 10);
        push(&mut reorder, 30);
        assert_eq!(passed_on(&mut reorder), [0; 0]);
        push(&mut reorder, 515);
        assert_eq!(passed_on(&mut reorder), [10], "the feed is past this one alone");
        reorder.seen_until(at(1_014));
        assert_eq!(passed_on(&mut reorder), [20, 30]);
        reorder.seen_until(at(1_015));
        assert_eq!(passed_on(&mut reorder), [515]);
        // Too late for its place: it still is not lost.
        push(&mut reorder, 5);
        assert_eq!(passed_on(&mut reorder), [5]);
        assert!(!reorder.is_waiting());
    }

    #[test]
    fn without_a_wait_the_order_is_that_of_the_feed() {
        let mut reorder = Reorder::new(Duration::ZERO);
        let event = Arc::new(FeedEvent::example(EventId::generate(), None, at(0), "{}".into()));
        assert_eq!(reorder.push(Arc::clone(&event)).map(|event| event.id), Some(event.id));
    }
}
