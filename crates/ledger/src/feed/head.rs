//! The end of the log, read once for all readers that have got there.
//!
//! While a reader waits, one loop looks for new events and keeps the last ones that any reader wants, within a size. A reader
//! takes from them what it wants; one that lags further behind, or has only just come, reads the log by itself, and nothing is kept
//! for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event::Timestamp;
use store::StoreError;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::entry::{Entry, Origin};
use super::log::{Limits, Log};
use super::position::Position;
use super::topics::Topics;

/// How often the loop looks for new events.
const POLL: Duration = Duration::from_millis(50);

/// How long it pauses when the store does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// How much it keeps.
const KEPT: Limits = Limits { events: 4_096, bytes: 8 << 20 };

/// How much it reads at once.
const STEP: Limits = Limits { events: 512, bytes: 2 << 20 };

/// How many readers the tail tells apart by when they have come. Those before come to read the log by themselves once more.
const KEPT_ARRIVALS: usize = 64;

/// The last events of the log that any reader wants.
pub(super) struct Tail {
    /// Everything after this position is in `entries`.
    from: Position,
    /// For the readers up to a number, only what is after a position. Both grow.
    arrivals: VecDeque<(u64, Position)>,
    /// Up to here.
    to: Position,
    /// What was visible at this time is in it, or before it.
    seen_until: Timestamp,
    entries: VecDeque<Entry>,
    bytes: i64,
}

impl Tail {
    fn new(end: Position, seen_until: Timestamp) -> Self {
        let (arrivals, entries) = (VecDeque::new(), VecDeque::new());
        Self { from: end, arrivals, to: end, seen_until, entries, bytes: 0 }
    }

    /// Has nothing of the log.
    fn none() -> Self {
        Self::new(Position::last(i64::MAX), Timestamp::MIN)
    }

    /// Whether it has everything after a position that a reader wants.
    pub(super) fn covers(&self, position: Position, reader: u64) -> bool {
        let at = self.arrivals.partition_point(|(known, _)| *known < reader);
        position >= self.from && self.arrivals.get(at).is_some_and(|(_, from)| position >= *from)
    }

    /// What the readers up to this number want is in it from this position on. False if that was known.
    fn arrived(&mut self, reader: u64, from: Position) -> bool {
        if self.arrivals.back().is_some_and(|(known, _)| *known >= reader) {
            return false;
        }
        self.arrivals.push_back((reader, from));
        if self.arrivals.len() > KEPT_ARRIVALS {
            self.arrivals.pop_front();
        }
        true
    }

    /// Up to where it goes.
    pub(super) fn to(&self) -> Position {
        self.to
    }

    /// What was visible at this time has been read, once everything in it has.
    pub(super) fn seen_until(&self) -> Timestamp {
        self.seen_until
    }

    /// The entries after a position.
    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = &Entry> {
        let first = self.entries.partition_point(|entry| entry.position <= position);
        self.entries.range(first..)
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.event.size();
        self.entries.push_back(entry);
        while self.bytes > KEPT.bytes || self.entries.len() > KEPT.events {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.event.size();
            self.from = oldest.position;
        }
    }
}

/// What the readers that are there want.
#[derive(Default)]
struct Wanted {
    /// By their numbers.
    readers: BTreeMap<u64, Arc<Topics>>,
    /// The number of the last one.
    last: u64,
    /// Goes up whenever one comes or goes.
    changes: u64,
}

/// A reader at the end of the log, until it is dropped.
pub(super) struct Follower {
    pub(super) tail: watch::Receiver<Tail>,
    pub(super) number: u64,
    wanted: Arc<Mutex<Wanted>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut wanted = lock(&self.wanted);
        wanted.readers.remove(&self.number);
        wanted.changes += 1;
    }
}

fn lock(wanted: &Mutex<Wanted>) -> MutexGuard<'_, Wanted> {
    wanted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The origins that any reader wants.
#[derive(Default)]
struct Union {
    topics: Vec<Arc<Topics>>,
    last: u64,
    changes: u64,
    /// By the number of the origin.
    known: HashMap<i64, bool>,
}

impl Union {
    fn refresh(&mut self, wanted: &Mutex<Wanted>) {
        let wanted = lock(wanted);
        if self.changes != wanted.changes {
            let topics = wanted.readers.values().cloned().collect();
            *self = Self { topics, last: wanted.last, changes: wanted.changes, known: HashMap::new() };
        }
    }

    fn takes(&mut self, number: i64, origin: &Origin) -> bool {
        let Self { topics, known, .. } = self;
        *known.entry(number).or_insert_with(|| topics.iter().any(|topics| topics.take(origin)))
    }
}

/// The shared reading.
pub(super) struct Head {
    tail: watch::Sender<Tail>,
    came: Notify,
    wanted: Arc<Mutex<Wanted>>,
}

impl Head {
    pub(super) fn new() -> Self {
        Self { tail: watch::Sender::new(Tail::none()), came: Notify::new(), wanted: Arc::default() }
    }

    /// Joins the others. The loop reads while somebody is there.
    pub(super) fn follow(&self, topics: Arc<Topics>) -> Follower {
        let mut wanted = lock(&self.wanted);
        wanted.last += 1;
        wanted.changes += 1;
        let number = wanted.last;
        wanted.readers.insert(number, topics);
        drop(wanted);
        let follower = Follower { tail: self.tail.subscribe(), number, wanted: Arc::clone(&self.wanted) };
        self.came.notify_one();
        follower
    }

    /// Reads what is new, as long as somebody is there.
    pub(super) async fn run(&self, log: &Log) {
        loop {
            self.came.notified().await;
            while !self.tail.is_closed() {
                let followed = self.read(log).await;
                // Nobody may take it for the end of the log any more.
                self.tail.send_replace(Tail::none());
                if let Err(error) = followed {
                    tracing::debug!(%error, "the end of the feed cannot be read");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Begins with the end of the log as it is now: readers that are not there yet read the rest themselves.
    async fn read(&self, log: &Log) -> Result<(), StoreError> {
        let began = event::now();
        let (mut at, mut union) = (log.end().await?, Union::default());
        self.tail.send_replace(Tail::new(at, began));
        while !self.tail.is_closed() {
            let began = event::now();
            union.refresh(&self.wanted);
            let part = log.part_of(|number, origin| union.takes(number, origin), at, STEP).await?;
            // After the reading, as readers do it by themselves: they find out what of it they have missed.
            if part.reached > at && log.last_deleted(&Topics::default()).await?.is_some_and(|last| last > at)
            {
                return Ok(());
            }
            let from = std::mem::replace(&mut at, part.reached);
            self.tail.send_if_modified(|tail| {
                tail.to = at;
                if part.is_end {
                    tail.seen_until = began;
                }
                let is_new = !part.entries.is_empty();
                part.entries.into_iter().for_each(|entry| tail.push(entry));
                // One that has just come waits for what was recorded meanwhile, too.
                tail.arrived(union.last, from) || is_new
            });
            if part.is_end {
                sleep(POLL).await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use event::EventId;

    use super::super::entry::{FeedEvent, OVERHEAD};
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_events_within_its_size_and_knows_where_they_begin() {
        let mut tail = Tail::new(Position::last(0), event::now());
        let entry = |number| {
            let position = Position { number, id: EventId::generate() };
            let body = Bytes::from(vec![b'x'; (1 << 20) - usize::try_from(OVERHEAD).unwrap()]);
            let event = FeedEvent::example(position.id, None, event::now(), body);
            Entry { position, event: Arc::new(event) }
        };
        let entries: Vec<_> = (1..=20).map(entry).collect();
        entries.iter().for_each(|entry| tail.push(entry.clone()));
        assert_eq!((tail.entries.len(), tail.bytes), (8, 8 << 20));
        assert!(tail.arrived(1, Position::last(0)) && !tail.arrived(1, Position::last(0)));
        assert!(tail.covers(entries[11].position, 1) && !tail.covers(entries[10].position, 1));
        let after: Vec<_> = tail.after(entries[17].position).map(|entry| entry.position.number).collect();
        assert_eq!(after, [19, 20]);
    }

    #[test]
    fn a_reader_that_comes_later_is_covered_from_where_its_topics_are_read() {
        let mut tail = Tail::new(Position::last(10), event::now());
        assert!(!tail.covers(Position::last(10), 1), "nothing was read for it yet");
        tail.arrived(1, Position::last(10));
        tail.arrived(3, Position::last(20));
        assert!(tail.covers(Position::last(10), 1) && !tail.covers(Position::last(9), 1));
        for reader in [2, 3] {
            assert!(!tail.covers(Position::last(19), reader) && tail.covers(Position::last(20), reader));
        }
        assert!(!tail.covers(Position::last(30), 4));
        (4..200).for_each(|reader| assert!(tail.arrived(reader, Position::last(30))));
        assert!(!tail.covers(Position::last(20), 1), "it reads by itself once more");
        assert!(tail.arrivals.len() == KEPT_ARRIVALS && tail.covers(Position::last(30), 1));
    }
}
