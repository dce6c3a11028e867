//! The work for one source: reads its events, fetches what is due, and writes the results.
//!
//! Everything that takes time is a future in one set. Nothing is kept in memory that the store does not have: after any trouble the
//! work begins again from there.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{EventId, Timestamp};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use ledger::feed::{self, After, Cursor, Feed, FeedError, Item, Topics};
use metrics::counter;
use outbound::{Breaker, Client};
use store::{Store, StoreError};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::archive::{ARCHIVE, Archive};
use crate::config::{Config, Source};
use crate::document::{DocumentState, Due};
use crate::fetch::{BadEndpoint, Endpoint, Outcome, Verdict};
use crate::named::{Cause, asked};
use crate::pace::Pace;
use crate::table::{self, Holder, Progress, Settled};
use crate::writes::Writes;

/// How many events are read at once.
const PART: usize = 1_024;

/// How long a reading waits for new events.
const WAIT: Duration = Duration::from_secs(1);

/// How often the store is asked for what is due: others ask for documents, too.
const LOOK: Duration = Duration::from_millis(500);

/// A new source begins with the events of so long ago; older ones are fetched on request.
const FIRST: Duration = Duration::from_secs(3_600);

/// The waits after the first failed attempts of a document; the last one repeats.
const WAITS: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(3_600),
    Duration::from_secs(6 * 3_600),
];

/// What the work for all sources shares.
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) feed: Feed,
    pub(crate) client: Client,
    /// The same without the exceptions of `[outbound] allow`.
    pub(crate) public: Client,
    pub(crate) archive: Archive,
    pub(crate) config: Config,
    /// The name of this replica.
    pub(crate) name: String,
    /// When it writes.
    pub(crate) writes: Writes,
}

/// A document that the API does not have is asked for so often again, with the same answer: it may have announced it too early.
const MISSING: i64 = 3;

/// Why the work ends before it is stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Feed(FeedError),
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    #[error("another replica fetches for this source")]
    Lost,
}

/// Something that took time is done.
enum Done {
    /// What a reading asks for is written: up to where, and whether it asks for anything.
    Read(Result<(After, bool), Trouble>),
    Due(Result<Vec<Due>, StoreError>),
    Answered {
        due: Due,
        outcome: Outcome,
        is_probe: bool,
    },
    Settled {
        id: EventId,
        settled: Result<bool, Trouble>,
    },
}

pub(crate) struct Worker {
    context: Arc<Context>,
    source: Arc<Source>,
    endpoint: Arc<Endpoint>,
    pace: Pace,
    /// The documents and the files in flight. Each kind has its own places: a file's host that hangs holds up no document.
    in_flight: [HashSet<EventId>; 2],
    /// Whatever takes time is in here, so that it goes on whatever else is waited for.
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// When the store is asked next for what is due; `None` while it is.
    look_at: Option<Instant>,
    /// The last request of a document failed.
    is_failing: bool,
}

impl Worker {
    pub(crate) async fn new(context: Arc<Context>, source: Arc<Source>) -> Result<Self, Trouble> {
        let endpoint = Arc::new(Endpoint::new(&context.client, &context.public, &source, &context.config)?);
        let holder = Holder { source: &source, name: &context.name };
        let Progress { cursor, breaker } = begin(&context.store, holder).await?;
        let mut worker = Self {
            is_failing: breaker.failures() > 0,
            pace: Pace::new(breaker),
            in_flight: Default::default(),
            work: FuturesUnordered::new(),
            look_at: Some(Instant::now()),
            context,
            source,
            endpoint,
        };
        worker.begin_reading(cursor.parse().map_or(After::Beginning, After::Cursor));
        Ok(worker)
    }

    /// Works until it is stopped, or cannot go on. Then requests in flight are cut off, and sent again by the next worker.
    pub(crate) async fn run(mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        while !stop.is_cancelled() {
            let now = Instant::now();
            if self.look_at.is_some_and(|at| at <= now) {
                self.begin_look();
            }
            let wake = self.look_at.unwrap_or(now + LOOK);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = self.work.next() => self.take(done)?,
                () = sleep_until(wake.into()) => {}
            }
        }
        Ok(())
    }

    fn begin_reading(&mut self, after: After) {
        let (context, source) = (Arc::clone(&self.context), Arc::clone(&self.source));
        let read = async move { Done::Read(read(&context, &source, after).await) };
        self.work.push(read.boxed());
    }

    fn begin_look(&mut self) {
        self.look_at = None;
        let (context, source) = (Arc::clone(&self.context), Arc::clone(&self.source));
        // Of each kind; those in flight are due, too.
        let limit = 2 * context.config.concurrency as usize;
        let due =
            async move { Done::Due(table::due(&context.store, &source.name, event::now(), limit).await) };
        self.work.push(due.boxed());
    }

    fn look_now(&mut self) {
        if let Some(at) = &mut self.look_at {
            *at = Instant::now();
        }
    }

    fn take(&mut self, done: Done) -> Result<(), Trouble> {
        match done {
            Done::Read(read) => {
                let (after, is_asked) = read?;
                if is_asked {
                    self.look_now();
                }
                self.begin_reading(after);
            }
            Done::Due(due) => {
                self.begin_fetches(due?);
                self.look_at = Some(Instant::now() + LOOK);
            }
            Done::Answered { due, outcome, is_probe } => self.answered(due, outcome, is_probe),
            Done::Settled { id, settled } => {
                self.in_flight.iter_mut().for_each(|kind| kind.retain(|other| *other != id));
                self.look_now();
                if !settled? {
                    return Err(Trouble::Lost);
                }
            }
        }
        Ok(())
    }

    /// Begins what is due, as far as the API allows.
    fn begin_fetches(&mut self, due: Vec<Due>) {
        let places = self.context.config.concurrency as usize;
        for due in due {
            let kind = usize::from(due.is_file());
            if self.in_flight[kind].len() >= places || self.in_flight[kind].contains(&due.id) {
                continue;
            }
            // The hosts of files are not the API: none of them holds up anything but its own files.
            let is_probe = match due.is_file() {
                true => false,
                false => match self.pace.begin(event::now()) {
                    Ok(is_probe) => is_probe,
                    Err(_) => continue,
                },
            };
            self.in_flight[kind].insert(due.id);
            let endpoint = Arc::clone(&self.endpoint);
            let fetch = async move {
                let outcome = endpoint.fetch(&due).await;
                Done::Answered { due, outcome, is_probe }
            };
            self.work.push(fetch.boxed());
        }
    }

    /// Writes what an answer means.
    fn answered(&mut self, due: Due, outcome: Outcome, is_probe: bool) {
        let now = event::now();
        let Outcome { verdict, limit } = outcome;
        let labels = [("source", self.source.name.to_string()), ("outcome", verdict.label().to_owned())];
        counter!("document_fetches_total", &labels).increment(1);
        let mut works_again = false;
        if !due.is_file() {
            works_again = self.pace.ended(verdict.health(), limit, is_probe, now);
            self.report(&verdict);
        }
        let (context, source) = (Arc::clone(&self.context), Arc::clone(&self.source));
        let breaker = self.pace.breaker().clone();
        let settle = async move {
            let settled = settle(&context, &source, &due, verdict, &breaker, now).await;
            if works_again && let Err(error) = table::hurry(&context.store, &source.name, now).await {
                return Done::Settled { id: due.id, settled: Err(error.into()) };
            }
            Done::Settled { id: due.id, settled }
        };
        self.work.push(settle.boxed());
    }

    /// Logs when the API begins to fail, and when it works again.
    fn report(&mut self, verdict: &Verdict) {
        let source = &self.source.name;
        match verdict {
            Verdict::Failed(reason) | Verdict::Denied(reason) if !self.is_failing => {
                self.is_failing = true;
                warn!(%source, reason, "documents wait: the API of their source fails");
            }
            Verdict::Fetched(_) if self.is_failing => {
                self.is_failing = false;
                info!(%source, "documents are fetched again");
            }
            _ => {}
        }
    }
}

/// Reads the next events, and writes what they ask for. Gives up to where, and whether they ask for anything.
async fn read(context: &Context, source: &Source, after: After) -> Result<(After, bool), Trouble> {
    let holder = Holder { source, name: &context.name };
    let (items, cursor) = match next(context, source, after).await {
        Ok(read) => read,
        Err(error) => return Err(unreadable(&context.store, holder, error).await?),
    };
    let after = After::Cursor(cursor);
    if items.is_empty() {
        return Ok((after, false));
    }
    let of_source = items.iter().map(Item::event).filter(|event| event.source_name() == source.name.as_str());
    let asked: Vec<_> = of_source.flat_map(|event| asked(source, &Cause::from(&**event))).collect();
    let is_asked = !asked.is_empty();
    match context.writes.run(table::read_events(&context.store, holder, &cursor, asked)).await? {
        true => Ok((after, is_asked)),
        false => Err(Trouble::Lost),
    }
}

/// The next events, and up to where they were read. Its reader is there no longer than that: the feed reads nothing for this role
/// while its write waits for those of others.
async fn next(context: &Context, source: &Source, after: After) -> Result<(Vec<Item>, Cursor), FeedError> {
    let mut reader = context.feed.reader(after, topics(source)).await?;
    let items = reader.next(PART, WAIT).await?;
    Ok((items, reader.cursor()))
}

/// The topics of the events that name something.
fn topics(source: &Source) -> Topics {
    let provider = source.provider.name();
    let topics = source.provider.api().into_iter().flat_map(|api| api.topics());
    let topics = topics.map(|topic| format!("{provider}:{topic}")).collect::<Vec<_>>().join(",");
    topics.parse().expect("declared topics are topics")
}

/// The progress of a source, which is made with the first.
async fn begin(store: &Store, holder: Holder<'_>) -> Result<Progress, Trouble> {
    let name = &holder.source.name;
    table::use_credentials(store, holder).await?;
    if let Some(progress) = table::progress(store, name).await? {
        return Ok(progress);
    }
    if !table::set_cursor(store, holder, &first(store).await?).await? {
        return Err(Trouble::Lost);
    }
    table::progress(store, name).await?.ok_or(Trouble::Lost)
}

async fn first(store: &Store) -> Result<Cursor, StoreError> {
    let since = event::now().checked_sub(FIRST).unwrap_or(Timestamp::UNIX_EPOCH);
    // The end first: what is recorded meanwhile is after it.
    let end = feed::end(store).await?;
    let before = feed::before_time(store, since).await?;
    Ok(if before.is_after(&end) { end } else { before })
}

/// What a reading that is refused means: the work begins again where it can be read.
async fn unreadable(store: &Store, holder: Holder<'_>, error: FeedError) -> Result<Trouble, StoreError> {
    let source = &holder.source.name;
    match &error {
        FeedError::Store(_) | FeedError::Full => {}
        FeedError::Deleted(cursor) => {
            warn!(%source, "retention has deleted events whose documents were not fetched yet (ledger.keep_days)");
            table::set_cursor(store, holder, cursor).await?;
        }
        FeedError::Unknown => {
            warn!(%source, "the feed does not have the position of the documents: they go on with the events of the last hour");
            table::set_cursor(store, holder, &first(store).await?).await?;
        }
    }
    Ok(Trouble::Feed(error))
}

async fn settle(
    context: &Context,
    source: &Source,
    due: &Due,
    verdict: Verdict,
    breaker: &Breaker,
    now: Timestamp,
) -> Result<bool, Trouble> {
    let holder = Holder { source, name: &context.name };
    // While the breaker is open, a failure is the API's and not the document's: the breaker alone says when it is asked for again,
    // after the others.
    let is_down = !due.is_file() && breaker.is_open();
    let again = |reason| Settled::Again {
        state: DocumentState::Waiting,
        due_at: if is_down { now } else { now + wait(due.attempts, due.id) },
        attempts: if is_down { due.attempts } else { due.attempts.saturating_add(1) },
        reason,
    };
    // Held until the row says that the file is there: retention deletes what no row needs.
    let mut archiving = None;
    let settled = match &verdict {
        Verdict::Fetched(content) => {
            let kept = match content.document {
                Some(_) => Ok(()),
                // Before the row says that it is there.
                None => {
                    archiving = Some(context.store.exclusive(ARCHIVE).await?);
                    context.archive.keep(content.sha256.clone(), content.body.clone()).await
                }
            };
            match kept {
                Ok(()) => Settled::Fetched(content),
                Err(error) => again(format!("the folder of files takes nothing: {}", error.kind())),
            }
        }
        Verdict::Ended(state, reason) => Settled::Ended(*state, reason.clone()),
        Verdict::Denied(reason) => Settled::Ended(DocumentState::Refused, reason.clone()),
        Verdict::Asked(until, reason) => Settled::Again {
            state: DocumentState::Waiting,
            due_at: *until,
            attempts: due.attempts,
            reason: reason.clone(),
        },
        Verdict::Missing(reason) => {
            // Attempts that failed otherwise say nothing of whether it is there.
            let missed = if due.reason == *reason { due.attempts } else { 0 };
            match missed >= MISSING {
                true => Settled::Ended(DocumentState::Gone, reason.clone()),
                false => Settled::Again {
                    state: DocumentState::Gone,
                    due_at: now + wait(missed, due.id),
                    attempts: missed + 1,
                    reason: reason.clone(),
                },
            }
        }
        Verdict::Failed(reason) => again(reason.clone()),
    };
    let settled = context.writes.run(table::settle(&context.store, holder, due, &settled, breaker)).await;
    drop(archiving);
    Ok(settled?)
}

/// The wait after so many failed attempts. Documents that failed together come back spread out, each with a random part of its
/// own, which is made of its id.
fn wait(attempts: i64, id: EventId) -> Duration {
    let step = usize::try_from(attempts).unwrap_or_default().min(WAITS.len() - 1);
    let bytes = id.as_bytes();
    let random = u32::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    WAITS[step] + WAITS[step] / 5 * random / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_six_hours_and_are_at_most_a_fifth_longer() {
        for attempts in 0..10 {
            let expect = WAITS[usize::try_from(attempts).unwrap().min(5)];
            for _ in 0..50 {
                let wait = wait(attempts, EventId::generate());
                assert!(wait >= expect && wait <= expect * 12 / 10, "{attempts}: {wait:?}");
            }
        }
    }
}
