//! The part of the feed that is being delivered: how far the cursor may go.
//!
//! Events are delivered in any order; the cursor goes on over those that need no further attempt, or have a row of their
//! own, as far as there is no gap.

use std::collections::{HashMap, VecDeque};

use event::{EventId, Timestamp};
use ledger::feed::{Cursor, FeedEvent};

/// How many events are read at once.
pub(super) const PART: usize = 512;

/// How much may be read and not done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) events: usize,
    pub(super) bytes: i64,
}

struct Slot {
    cursor: Cursor,
    received_at: Timestamp,
    bytes: i64,
    is_done: bool,
}

/// Events that were read, in the order of the feed.
pub(super) struct Window {
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: u64,
    numbers: HashMap<EventId, u64>,
    bytes: i64,
    most: Most,
    /// Up to here everything is done.
    done: Cursor,
    /// Up to here the feed was read.
    read: Cursor,
}

impl Window {
    /// Everything up to the cursor is done.
    pub(super) fn new(cursor: Cursor, most: Most) -> Self {
        let (slots, numbers) = (VecDeque::new(), HashMap::new());
        Self { slots, first: 0, numbers, bytes: 0, most, done: cursor, read: cursor }
    }

    /// Whether more may be read: a whole part, since reading a few events costs about as much.
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() + PART <= self.most.events && self.bytes < self.most.bytes
    }

    /// How many events are read and not done.
    pub(super) fn under_way(&self) -> usize {
        self.numbers.len()
    }

    /// An event was read.
    pub(super) fn push(&mut self, event: &FeedEvent, cursor: Cursor) {
        self.numbers.insert(event.id, self.first + self.slots.len() as u64);
        let (received_at, bytes) = (event.received_at, event.size());
        self.slots.push_back(Slot { cursor, received_at, bytes, is_done: false });
        self.bytes += bytes;
        self.read = cursor;
    }

    /// The feed was read up to here.
    pub(super) fn read_up_to(&mut self, cursor: Cursor) {
        self.read = cursor;
        self.advance();
    }

    /// An event needs nothing more, or has a row of its own. False if it is not here.
    pub(super) fn finish(&mut self, id: EventId) -> bool {
        let Some(number) = self.numbers.remove(&id) else { return false };
        let at = usize::try_from(number - self.first).expect("a window is small");
        self.slots[at].is_done = true;
        self.advance();
        true
    }

    fn advance(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.is_done) {
            let slot = self.slots.pop_front().expect("there is a first one");
            self.first += 1;
            self.bytes -= slot.bytes;
            self.done = slot.cursor;
        }
        if self.slots.is_empty() {
            self.done = self.read;
        }
    }

    /// Up to here everything is done.
    pub(super) fn cursor(&self) -> Cursor {
        self.done
    }

    /// When the first event that is not done was received.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.slots.front().map(|slot| slot.received_at)
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most { events: 2 * PART, bytes: 8 << 20 };

    fn cursor(number: u64) -> Cursor {
        format!("{number:x}.{}", "f".repeat(32)).parse().unwrap()
    }

    fn event(bytes: usize) -> FeedEvent {
        FeedEvent::example(EventId::generate(), None, event::now(), vec![b'x'; bytes].into())
    }

    #[test]
    fn the_cursor_stops_before_the_first_event_that_is_not_done() {
        let mut window = Window::new(cursor(1), MOST);
        let events: Vec<_> = (0..3).map(|_| event(10)).collect();
        for (event, number) in events.iter().zip(2..) {
            window.push(event, cursor(number));
        }
        window.read_up_to(cursor(9));
        assert!(window.finish(events[1].id));
        assert_eq!((window.cursor(), window.oldest()), (cursor(1), Some(events[0].received_at)));
        assert!(window.finish(events[0].id));
        assert_eq!(window.cursor(), cursor(3));
        assert!(window.finish(events[2].id) && window.is_empty());
        assert_eq!(window.cursor(), cursor(9), "what nobody wants is behind it, too");
        assert!(!window.finish(events[2].id));
        window.read_up_to(cursor(12));
        assert_eq!(window.cursor(), cursor(12));
    }

    #[test]
    fn a_window_is_full_by_number_and_by_bytes() {
        let mut window = Window::new(cursor(1), MOST);
        window.push(&event(8 << 20), cursor(2));
        assert!(!window.has_room());
        let mut window = Window::new(cursor(1), MOST);
        let events: Vec<_> = (0..=PART).map(|_| event(1)).collect();
        for (event, number) in events.iter().zip(2..) {
            assert!(window.has_room());
            window.push(event, cursor(number));
        }
        assert!(!window.has_room() && window.under_way() == PART + 1);
        window.finish(events[1].id);
        assert!(!window.has_room() && window.under_way() == PART, "the first one is not done");
        window.finish(events[0].id);
        assert!(window.has_room());
    }
}
