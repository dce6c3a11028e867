//! The end of the log, read once for all readers that have got there.
//!
//! While a reader waits, one loop looks for new events and keeps the last ones, within a size. A reader takes from them what it
//! wants; one that lags further behind reads the log by itself, and nothing is kept for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use store::StoreError;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::entry::Entry;
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

/// The last events of the log.
pub(super) struct Tail {
    /// Everything after this position is in `entries`.
    from: Position,
    /// Up to here.
    to: Position,
    entries: VecDeque<Arc<Entry>>,
    bytes: i64,
}

impl Tail {
    fn new(end: Position) -> Self {
        Self { from: end, to: end, entries: VecDeque::new(), bytes: 0 }
    }

    /// Has nothing of the log.
    fn none() -> Self {
        Self::new(Position::last(i64::MAX))
    }

    /// Whether it has everything after a position.
    pub(super) fn covers(&self, position: Position) -> bool {
        position >= self.from
    }

    /// Up to where it goes.
    pub(super) fn to(&self) -> Position {
        self.to
    }

    /// The entries after a position.
    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = &Arc<Entry>> {
        let first = self.entries.partition_point(|entry| entry.position <= position);
        self.entries.range(first..)
    }

    fn push(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.size();
        self.entries.push_back(entry);
        while self.bytes > KEPT.bytes || self.entries.len() > KEPT.events {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.size();
            self.from = oldest.position;
        }
    }
}

/// The shared reading.
pub(super) struct Head {
    tail: watch::Sender<Tail>,
    came: Notify,
}

impl Head {
    pub(super) fn new() -> Self {
        Self { tail: watch::Sender::new(Tail::none()), came: Notify::new() }
    }

    /// Joins the others. The loop reads while somebody is there.
    pub(super) fn subscribe(&self) -> watch::Receiver<Tail> {
        let tail = self.tail.subscribe();
        self.came.notify_one();
        tail
    }

    /// Reads what is new, as long as somebody is there.
    pub(super) async fn run(&self, log: &Log) {
        loop {
            self.came.notified().await;
            while !self.tail.is_closed() {
                let followed = self.follow(log).await;
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
    async fn follow(&self, log: &Log) -> Result<(), StoreError> {
        let mut at = log.end().await?;
        self.tail.send_replace(Tail::new(at));
        while !self.tail.is_closed() {
            let part = log.part(&Topics::default(), at, STEP).await?;
            // After the reading, as readers do it by themselves: they find out what of it they have missed.
            if part.reached > at && log.last_deleted(&Topics::default()).await?.is_some_and(|last| last > at)
            {
                return Ok(());
            }
            at = part.reached;
            self.tail.send_if_modified(|tail| {
                tail.to = at;
                let is_new = !part.entries.is_empty();
                part.entries.into_iter().for_each(|entry| tail.push(entry));
                is_new
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
    use event::EventId;

    use super::*;

    #[test]
    fn the_tail_keeps_the_last_events_within_its_size_and_knows_where_they_begin() {
        let mut tail = Tail::new(Position::last(0));
        let entry = |number| {
            let position = Position { number, id: EventId::generate() };
            Arc::new(Entry { position, origin: Arc::default(), json: "x".repeat(1 << 20) })
        };
        let entries: Vec<_> = (1..=20).map(entry).collect();
        entries.iter().for_each(|entry| tail.push(Arc::clone(entry)));
        assert_eq!((tail.entries.len(), tail.bytes), (8, 8 << 20));
        assert!(tail.covers(entries[11].position) && !tail.covers(entries[10].position));
        let after: Vec<_> = tail.after(entries[17].position).map(|entry| entry.position.number).collect();
        assert_eq!(after, [19, 20]);
    }
}
