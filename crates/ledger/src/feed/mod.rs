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
mod log;
mod position;
#[cfg(test)]
mod tests;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use store::{Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

pub use cluster::{Held, held, prepare};
pub use position::{After, BadCursor, Cursor};
pub use topics::{BadTopics, Topics};

use entry::Entry;
use head::{Head, Tail};
use log::{Limits, Log};
use position::Position;

/// The most readers of one process at a time.
pub const MAX_READERS: usize = 256;

/// How many bytes of bodies a reader gets at once. It gets one event at least.
const PART_BYTES: i64 = 1 << 20;

/// How often the lag is measured.
const LAG_PERIOD: Duration = Duration::from_secs(5);

/// Why a reader gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The store did not do its part.
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
        stop.run_until_cancelled(async { tokio::join!(head.run(log), measure(&log.store)) }).await;
    }

    /// A reader of the wanted events, which begins there.
    pub async fn reader(&self, after: After, topics: Topics) -> Result<Reader, FeedError> {
        let shared = Arc::clone(&self.0);
        let place = Arc::clone(&shared.readers).try_acquire_owned().map_err(|_| FeedError::Full)?;
        let log = &shared.log;
        let cursor = match after {
            After::Beginning => {
                let known_deleted = log.last_deleted(&Topics::default()).await?;
                Cursor { position: Position::start(), known_deleted }
            }
            After::Now => Cursor { position: log.end().await?, known_deleted: None },
            After::Cursor(cursor) if log.has(cursor.position).await? => cursor,
            After::Cursor(_) => return Err(FeedError::Unknown),
        };
        let tail = shared.head.subscribe();
        let reader = Reader { shared, tail, topics, cursor, is_end: false, _place: place };
        reader.check_deleted().await?;
        Ok(reader)
    }
}

/// Sets the gauge `feed_lag_seconds` again and again.
async fn measure(store: &Store) {
    let lag = metrics::gauge!("feed_lag_seconds");
    loop {
        if let Ok(held) = held(store).await {
            let seconds = held.and_then(|held| held.since).map(|since| event::now().duration_since(since));
            lag.set(seconds.map_or(0.0, |age| age.as_secs_f64().max(0.0)));
        }
        sleep(LAG_PERIOD).await;
    }
}

/// An event that a reader gets.
#[derive(Debug)]
pub struct Item {
    /// Its position: continuing after it gives the next one.
    pub cursor: Cursor,
    entry: Arc<Entry>,
}

impl Item {
    /// The event as a CloudEvent in the JSON format, with its position as the attribute `position`. One line.
    pub fn json(&self) -> String {
        self.entry.line(&self.cursor)
    }
}

/// What was read: the wanted events, up to where, and whether that is the end of the log.
type Read = (Vec<Arc<Entry>>, Position, bool);

/// One reader of the feed.
pub struct Reader {
    shared: Arc<Shared>,
    tail: watch::Receiver<Tail>,
    topics: Topics,
    cursor: Cursor,
    is_end: bool,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// How far it has read; events that it does not want are behind it, too.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Whether the last reading got to the end of the feed, as it was then.
    pub fn is_end(&self) -> bool {
        self.is_end
    }

    /// Whether the process stops: the reader gets nothing any more.
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// The next events, at most `limit` and about [`PART_BYTES`]. Waits for the first at most `wait`; then there are none.
    /// Cancel safe: what was not returned is read again.
    pub async fn next(&mut self, limit: usize, wait: Duration) -> Result<Vec<Item>, FeedError> {
        let deadline = Instant::now() + wait;
        loop {
            let (entries, reached, is_end) = match self.of_tail(limit) {
                Some(read) => read,
                None => self.of_log(limit).await?,
            };
            let item = |entry: Arc<Entry>| Item { cursor: self.cursor.at(entry.position), entry };
            let items: Vec<_> = entries.into_iter().map(item).collect();
            self.cursor = self.cursor.at(reached);
            self.is_end = is_end;
            if !items.is_empty() || self.is_stopped() {
                return Ok(items);
            }
            if !is_end {
                // A reader with a rare topic goes through the log as long as it may, and its cursor with it.
                if Instant::now() >= deadline {
                    return Ok(items);
                }
                continue;
            }
            let stop = self.shared.stop.clone();
            let changed = stop.run_until_cancelled(self.tail.changed());
            if timeout_at(deadline, changed).await.is_err() {
                return Ok(items);
            }
        }
    }

    /// From the shared reading, if it has everything after the cursor.
    fn of_tail(&mut self, limit: usize) -> Option<Read> {
        let (tail, at) = (self.tail.borrow_and_update(), self.cursor.position);
        if !tail.covers(at) {
            return None;
        }
        let wanted = tail.after(at).filter(|entry| self.topics.take(&entry.origin));
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in wanted {
            bytes += entry.size();
            if entries.len() == limit || bytes > PART_BYTES && !entries.is_empty() {
                let reached = entries.last().map_or(at, |last: &Arc<Entry>| last.position);
                return Some((entries, reached, false));
            }
            entries.push(Arc::clone(entry));
        }
        Some((entries, at.max(tail.to()), true))
    }

    async fn of_log(&self, limit: usize) -> Result<Read, FeedError> {
        let limits = Limits { events: limit, bytes: PART_BYTES };
        let part = self.shared.log.part(&self.topics, self.cursor.position, limits).await?;
        // After the reading: what was deleted before it is missing in it.
        self.check_deleted().await?;
        Ok((part.entries, part.reached, part.is_end))
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
