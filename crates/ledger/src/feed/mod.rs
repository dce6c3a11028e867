//! The feed: every event on record, in one order that never changes.
//!
//! What a reader may rely on: once it has seen a position, nothing will ever appear at or before it. Neither ids nor times give
//! that, since transactions commit in another order than they began; nor do the numbers of a sequence. On PostgreSQL the order
//! is that of the transactions that wrote the events, and only those are shown below which none is running any more. On SQLite
//! there is one writer, and the order is that of the rows.
//!
//! Readers at the end of the log share one reading of it; those that lag read for themselves, a bounded part at a time, and
//! nothing is kept for them. Retention deletes events: a reader that has not seen one of them yet is told so, and continues
//! only with a cursor that says that it knows.

mod cluster;
mod entry;
mod head;
mod last;
mod log;
pub(crate) mod marks;
mod places;
mod position;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::{EventId, Timestamp};
use store::{Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

pub use cluster::{Held, held, prepare};
pub use entry::FeedEvent;
pub use last::oldest_of_last;
pub use places::{
    ahead, before_event, before_last, before_time, beginning, end, first_ahead, is_after, knowing_deleted,
};
pub use position::{After, BadCursor, Cursor};
pub use topics::{BadTopics, Topics};

pub use entry::FeedLine;

use entry::Entry;
use head::{Follower, Head};
pub(crate) use log::Log;
#[cfg(any(test, feature = "test-support"))]
pub(crate) use places::first_since;

use log::Limits;
use position::Position;

/// The most readers of one process at a time.
pub const MAX_READERS: usize = 256;

/// How many bytes of bodies a reader gets at once. It gets one event at least.
const PART_BYTES: i64 = 1 << 20;

/// How often the lag is measured and a mark is due.
const LAG_PERIOD: Duration = Duration::from_secs(5);

/// Why a reader gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The request to the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Events after the cursor were deleted by retention.
    #[error(
        "events after this position have been deleted by retention; continue with after={0}, which leaves them out, or with \
         after=beginning"
    )]
    Deleted(Cursor),
    /// The cursor is not of this log: it is of another installation, or the database was restored from a backup.
    #[error(
        "the feed has no such position: it is of another installation, or the database was restored from a backup that does \
         not have it; continue with after=beginning or after=now"
    )]
    Unknown,
    /// There are [`MAX_READERS`] already.
    #[error("{} readers follow the feed already; ask again later", MAX_READERS)]
    Full,
}

/// The feed of one process. Clones share it.
#[derive(Clone)]
pub struct Feed(Arc<Shared>);

struct Shared {
    log: Log,
    head: Head,
    readers: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Feed {
    /// The feed of what the store has on record. Readers end when `stop` is cancelled.
    pub fn new(store: Store, stop: CancellationToken) -> Self {
        let readers = Arc::new(Semaphore::new(MAX_READERS));
        Self(Arc::new(Shared { log: Log::new(store), head: Head::new(), readers, stop }))
    }

    /// Reads the end of the log for all readers that are there, and measures how far it lags behind what is recorded. Runs
    /// until it is stopped.
    pub async fn run(self) {
        let Shared { log, head, stop, .. } = &*self.0;
        stop.run_until_cancelled(async { tokio::join!(head.run(log), measure(log)) }).await;
    }

    /// Those of these events that are on record.
    pub async fn events(&self, ids: &[EventId]) -> Result<HashMap<EventId, Arc<FeedEvent>>, StoreError> {
        let log = &self.0.log;
        log.events(&mut *log.store.read().await?, ids).await
    }

    /// How far the feed is behind the record: for how long a transaction has been holding it back.
    pub async fn lag(&self) -> Result<Duration, StoreError> {
        lag(&self.0.log.store).await
    }

    /// Whether the process stops.
    pub fn is_stopped(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    /// Refuses a cursor that the feed cannot have given.
    pub async fn check(&self, cursor: Cursor) -> Result<(), FeedError> {
        if self.0.log.has(cursor.position).await? { Ok(()) } else { Err(FeedError::Unknown) }
    }

    /// A reader of the wanted events, which begins there.
    pub async fn reader(&self, after: After, topics: Topics) -> Result<Reader, FeedError> {
        let shared = Arc::clone(&self.0);
        let place = Arc::clone(&shared.readers).try_acquire_owned().map_err(|_| FeedError::Full)?;
        let log = &shared.log;
        let cursor = match after {
            After::Beginning => log.beginning().await?,
            After::Now => Cursor { position: log.end().await?, known_deleted: None },
            After::Cursor(cursor) if log.has(cursor.position).await? => cursor,
            After::Cursor(_) => return Err(FeedError::Unknown),
        };
        let topics = Arc::new(topics);
        let follower = shared.head.follow(Arc::clone(&topics));
        let reader = Reader { shared, follower, topics, cursor, seen_until: None, _place: place };
        reader.check_deleted().await?;
        Ok(reader)
    }
}

async fn lag(store: &Store) -> Result<Duration, StoreError> {
    let since = held(store).await?.and_then(|held| held.since);
    let age = since.map(|since| event::now().duration_since(since));
    Ok(age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default())
}

/// Sets the gauge `feed_lag_seconds` and marks the end of the log, again and again.
async fn measure(log: &Log) {
    let gauge = metrics::gauge!("feed_lag_seconds");
    loop {
        if let Err(error) = marks::mark(log).await {
            tracing::debug!(error = %event::Chain(&error), "the end of the feed was not marked");
        }
        if let Ok(behind) = lag(&log.store).await {
            gauge.set(behind.as_secs_f64());
        }
        sleep(LAG_PERIOD).await;
    }
}

/// An event that a reader gets.
#[derive(Debug)]
pub struct Item {
    /// Its position: continuing after it gives the next one.
    pub cursor: Cursor,
    entry: Entry,
}

impl Item {
    /// The event as a CloudEvent in the JSON format, with its position as the attribute `position`. One line.
    pub fn json(&self) -> String {
        self.entry.line(&self.cursor)
    }

    /// The event.
    pub fn event(&self) -> &Arc<FeedEvent> {
        &self.entry.event
    }
}

/// What was read: the wanted events, up to where, and if that is the end of the log, what was visible at which time.
type Read = (Vec<Entry>, Position, Option<Timestamp>);

/// One reader of the feed.
pub struct Reader {
    shared: Arc<Shared>,
    follower: Follower,
    topics: Arc<Topics>,
    cursor: Cursor,
    seen_until: Option<Timestamp>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// How far it has read; events that it does not want are behind it, too.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Whether the last reading got to the end of the feed, as it was then.
    pub fn is_end(&self) -> bool {
        self.seen_until.is_some()
    }

    /// If the last reading got to the end of the feed: everything that was visible at this time has been read.
    pub fn seen_until(&self) -> Option<Timestamp> {
        self.seen_until
    }

    /// Whether the process stops: the reader gets nothing any more.
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// Leaves out events that were deleted: continues with the cursor of [`FeedError::Deleted`].
    pub fn leave_out_deleted(&mut self, cursor: Cursor) {
        self.cursor = cursor;
    }

    /// The next events, at most `limit` and about [`PART_BYTES`]. Waits for the first at most `wait`; then there are none.
    /// Cancel safe: what was not returned is read again.
    pub async fn next(&mut self, limit: usize, wait: Duration) -> Result<Vec<Item>, FeedError> {
        let deadline = Instant::now() + wait;
        loop {
            let (entries, reached, seen_until) = match self.read_tail(limit) {
                Some(read) => read,
                None => self.read_log(limit).await?,
            };
            let item = |entry: Entry| Item { cursor: self.cursor.at(entry.position), entry };
            let items: Vec<_> = entries.into_iter().map(item).collect();
            self.cursor = self.cursor.at(reached);
            self.seen_until = seen_until;
            if !items.is_empty() || self.is_stopped() {
                return Ok(items);
            }
            if seen_until.is_none() {
                // A reader with a rare topic goes through the log as long as it may, and its cursor with it.
                if Instant::now() >= deadline {
                    return Ok(items);
                }
                continue;
            }
            let stop = self.shared.stop.clone();
            let changed = stop.run_until_cancelled(self.follower.tail.changed());
            if timeout_at(deadline, changed).await.is_err() {
                return Ok(items);
            }
        }
    }

    /// From the shared reading, if it has everything after the cursor.
    fn read_tail(&mut self, limit: usize) -> Option<Read> {
        let (number, at) = (self.follower.number, self.cursor.position);
        let tail = self.follower.tail.borrow_and_update();
        if !tail.covers(at, number) {
            return None;
        }
        let wanted = tail.after(at).filter(|entry| self.topics.take(&entry.event.origin));
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in wanted {
            bytes += entry.event.size();
            if entries.len() == limit || bytes > PART_BYTES && !entries.is_empty() {
                let reached = entries.last().map_or(at, |last: &Entry| last.position);
                return Some((entries, reached, None));
            }
            entries.push(entry.clone());
        }
        Some((entries, at.max(tail.to()), Some(tail.seen_until())))
    }

    async fn read_log(&self, limit: usize) -> Result<Read, FeedError> {
        let limits = Limits { events: limit, bytes: PART_BYTES };
        let began = event::now();
        let part = self.shared.log.part(&self.topics, self.cursor.position, limits).await?;
        // After the reading: what was deleted before it is missing in it.
        self.check_deleted().await?;
        Ok((part.entries, part.reached, part.is_end.then_some(began)))
    }

    /// Refuses where wanted events after the cursor are deleted that the reader does not know of.
    async fn check_deleted(&self) -> Result<(), FeedError> {
        let Some(last) = self.shared.log.last_deleted(&self.topics).await? else { return Ok(()) };
        if last <= self.cursor.position || self.cursor.known_deleted.is_some_and(|known| last <= known) {
            return Ok(());
        }
        Err(FeedError::Deleted(Cursor { known_deleted: Some(last), ..self.cursor }))
    }
}
