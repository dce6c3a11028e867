//! The delivery of one push subscription: reads the feed, sends, and records the outcome.
//!
//! One task for each subscription, with bounded memory, so that an endpoint that is slow or down holds up no other. Everything
//! that takes time (a reading, a request, a transaction) is a future in one set; what comes out of it changes the state, and
//! the state says what begins next. The cursor and the rows of a batch of events are written in one transaction: after a
//! crash everything since then is sent again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{EventId, Timestamp};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use ledger::feed::{Cursor, FeedError, FeedEvent};
use outbound::{Breaker, Permit};
use store::StoreError;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::feed_part::{FeedPart, Rate, Read, Wanted};
use super::gauges::Gauges;
use super::queue::{Change, Pending, Queue, Settled};
use super::record::{self, Attempt, Batch, Hold, Progress, Waiting};
use super::request::{Endpoint, Outcome, Verdict};
use super::schedule;
use super::senders::{Senders, Sent};
use super::{Context, Trouble};
use crate::{Door, Expression, Order, Push, State, Subscription};

/// So many rows are written at once, or what there is after [`WRITE_AFTER`].
const WRITE_ROWS: usize = 1_024;

/// How long an outcome waits to be written with others.
const WRITE_AFTER: Duration = Duration::from_millis(25);

/// With so many rows unwritten nothing more is sent.
const MOST_UNWRITTEN: usize = 4_096;

/// A cursor that passes only what nobody wants is written this often.
const WRITE_CURSOR_AFTER: Duration = Duration::from_secs(30);

/// How many events wait for another attempt, or behind one. With as many, the feed is not read until some are done.
const MOST_WAITING: usize = 20_000;

/// With so many left the feed is read again.
const FEWER_WAITING: usize = MOST_WAITING - 512;

/// How soon those that did not fit into memory are looked for again while it is nearly full.
const RELOAD: Duration = Duration::from_secs(5);

/// How many events are read again at once.
const CONTENTS: usize = 256;

/// The pause after the store or the feed did not do its part.
const PAUSE: Duration = Duration::from_secs(1);

/// How long requests that are under way may take when the work ends; then they are cut off.
const GRACE: Duration = Duration::from_secs(2);

/// How long what is done is kept for a store that does not answer, when the work ends.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);

/// How often the lag is measured.
const MEASURE: Duration = Duration::from_secs(1);

/// The longest sleep.
const IDLE: Duration = Duration::from_secs(5);

/// Something that took time is done.
enum Done {
    Sent(Sent),
    Read { is_live: bool, read: Box<Read> },
    Contents { ids: Vec<EventId>, events: Result<HashMap<EventId, Arc<FeedEvent>>, StoreError> },
    Loaded(Result<Waiting, StoreError>),
    Written { cursor: Cursor, written: Result<bool, StoreError> },
}

/// Why the work ends.
#[derive(Debug)]
enum End {
    /// The subscription pauses, for this reason.
    Pause(String),
    /// It is another worker's, or was moved or removed.
    Lost,
    /// The feed cannot be read.
    Feed(FeedError),
}

pub(super) struct Worker {
    context: Arc<Context>,
    subscription: Subscription,
    push: Push,
    filter: Option<Arc<Expression>>,
    senders: Senders,
    hold: Hold,
    breaker: Breaker,
    queue: Queue,
    live: FeedPart,
    backfill: Option<FeedPart>,
    rate: Option<Rate>,
    batch: Batch,
    batch_since: Option<Instant>,
    /// What is being written: kept here, since the future that writes it may be dropped.
    writing: Option<Arc<Batch>>,
    /// The cursor as it was written last, and when.
    written: (Cursor, Instant),
    has_undelivered: bool,
    /// As many events wait as may.
    is_full: bool,
    /// More events wait in the store than are in memory.
    is_cut: bool,
    loaded_at: Instant,
    /// Everything but requests.
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    is_fetching: bool,
    /// After trouble, nothing of the store begins before this time.
    store_after: Instant,
    /// Why the last request failed; empty before the first that does.
    last_error: String,
    gauges: Gauges,
    measured: Option<Instant>,
}

impl Worker {
    pub(super) async fn new(context: Arc<Context>, subscription: Subscription) -> Result<Self, Trouble> {
        let Door::Push(push) = subscription.declaration.door()? else { return Err(Trouble::NoPush) };
        let push = push.clone();
        let secrets = crate::unseal(&context.seal, &subscription)?;
        let declaration = &subscription.declaration;
        let endpoint = Endpoint::new(&context.client, &push, declaration.transform.as_deref(), &secrets)?;
        let filter = declaration.filter.as_deref().map(Expression::filter).transpose()?;
        let topics = declaration.topics()?;
        let wait = match push.order {
            Order::Subject => Duration::from_millis(context.config.order_wait_ms),
            Order::None => Duration::ZERO,
        };
        let feed = &context.feed;
        let name = subscription.name();
        let live = FeedPart::live(feed, name, subscription.cursor, topics.clone(), wait).await?;
        let backfill = match &subscription.backfill {
            Some(backfill) => FeedPart::history(feed, name, backfill, topics).await?,
            None => None,
        };
        let mut worker = Self {
            filter: filter.map(Arc::new),
            senders: Senders::new(endpoint, push.concurrency as usize),
            hold: Hold {
                subscription: subscription.id,
                owner: context.name.clone(),
                moved: subscription.moved,
            },
            breaker: Breaker::new(subscription.failures, subscription.failing_since, subscription.held_until)
                .with_probe_at(subscription.probe_at),
            queue: Queue::new(push.order),
            live,
            backfill,
            rate: push.rate_per_s.map(Rate::new),
            batch: Batch::default(),
            batch_since: None,
            writing: None,
            written: (subscription.cursor, Instant::now()),
            has_undelivered: false,
            is_full: false,
            is_cut: false,
            loaded_at: Instant::now(),
            work: FuturesUnordered::new(),
            is_fetching: false,
            store_after: Instant::now(),
            last_error: String::new(),
            gauges: Gauges::new(name),
            measured: None,
            push,
            context,
            subscription,
        };
        let waiting = worker.load().await?;
        worker.loaded(waiting);
        Ok(worker)
    }

    fn load(&self) -> BoxFuture<'static, Result<Waiting, StoreError>> {
        let (store, id) = (self.context.store.clone(), self.subscription.id);
        let is_by_receipt = self.push.order == Order::Subject;
        async move { record::waiting(&store, id, MOST_WAITING, is_by_receipt).await }.boxed()
    }

    fn loaded(&mut self, waiting: Waiting) {
        self.is_cut = waiting.is_cut;
        self.loaded_at = Instant::now();
        self.has_undelivered |= waiting.has_undelivered;
        waiting.pending.into_iter().for_each(|pending| self.queue.load(pending));
    }

    /// Delivers until it is stopped, or cannot go on.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        let progress = self.progress();
        if (self.subscription.state, &self.subscription.reason) != (progress.state, &progress.reason) {
            self.batch_since = Some(Instant::now());
        }
        let end = loop {
            if Instant::now() >= self.context.lease_until() {
                // Another replica may deliver by now: requests that are under way are cut off.
                self.cut_off();
                break Some(End::Lost);
            }
            let wake = self.begin();
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                Some(done) = self.next() => {
                    if let Err(end) = self.take_all(done) {
                        break Some(end);
                    }
                }
                () = sleep_until(wake.into()) => {}
            }
        };
        self.finish(end, stop).await
    }

    /// The next thing that is done; `None` if nothing is under way. Cancel safe.
    async fn next(&mut self) -> Option<Done> {
        tokio::select! {
            Some(sent) = self.senders.next(), if self.senders.under_way() > 0 => Some(Done::Sent(sent)),
            Some(done) = self.work.next() => Some(done),
            else => None,
        }
    }

    fn cut_off(&mut self) {
        self.senders.cut_off();
        self.work.clear();
    }

    /// Begins what can begin. Gives when to look again.
    fn begin(&mut self) -> Instant {
        let (now, at) = (event::now(), Instant::now());
        self.measure(at);
        self.queue.wake(now);
        let mut wake = at + IDLE;
        if at >= self.store_after {
            self.begin_reading(at);
            self.begin_store(now, at);
        } else {
            wake = wake.min(self.store_after);
        }
        let next = self.dispatch(at);
        let instant = |time: Timestamp| at + Duration::try_from(time.duration_since(now)).unwrap_or_default();
        let has_store = at >= self.store_after;
        let batch =
            self.batch_since.filter(|_| has_store && self.writing.is_none()).map(|since| since + WRITE_AFTER);
        let history = self.backfill.as_mut().filter(|_| has_store).and_then(|part| part.next_reading(at));
        let due = self.queue.next_due().map(instant);
        let times = [next, batch, history, due, Some(self.context.lease_until())];
        let first = times.into_iter().flatten().fold(wake, Instant::min);
        first.max(at + Duration::from_millis(1))
    }

    /// Shows how long the first event waits, read or not.
    fn measure(&mut self, at: Instant) {
        if self.measured.is_none_or(|measured| measured + MEASURE <= at) {
            self.measured = Some(at);
            let first = self.queue.oldest().into_iter().chain(self.live.window.oldest()).min();
            self.gauges.waiting_since(first);
        }
    }

    fn begin_reading(&mut self, at: Instant) {
        let is_full =
            self.is_cut || self.queue.len() >= if self.is_full { FEWER_WAITING } else { MOST_WAITING };
        if std::mem::replace(&mut self.is_full, is_full) != is_full {
            self.batch_since.get_or_insert(at);
        }
        // While the endpoint is down the feed keeps what comes, but for an event to probe it with: those that have failed may
        // be what it refuses.
        if is_full || self.breaker.is_open() && self.queue.has_fresh() {
            return;
        }
        let stuck = self.live.stuck();
        self.enqueue(stuck);
        let filter = || self.filter.clone();
        if let Some(reading) = self.live.reading(filter(), at) {
            self.work.push(reading.map(|read| Done::Read { is_live: true, read: Box::new(read) }).boxed());
        }
        if let Some(reading) = self.backfill.as_mut().and_then(|part| part.reading(filter(), at)) {
            self.work.push(reading.map(|read| Done::Read { is_live: false, read: Box::new(read) }).boxed());
        }
    }

    fn begin_store(&mut self, now: Timestamp, at: Instant) {
        if !self.is_fetching {
            let at_once = self.push.concurrency as usize * self.push.batch_events as usize;
            let most = if self.breaker.is_open() { 1 } else { CONTENTS.max(at_once) };
            let ids = self.queue.take_unread(most, now);
            if !ids.is_empty() {
                self.is_fetching = true;
                let feed = self.context.feed.clone();
                let fetch = async move { Done::Contents { events: feed.events(&ids).await, ids } };
                self.work.push(fetch.boxed());
            } else if self.is_cut
                && (self.queue.len() < MOST_WAITING / 2
                    || self.queue.len() < MOST_WAITING && self.loaded_at + RELOAD <= at)
                && self.batch.is_empty()
                && self.writing.is_none()
            {
                // What is settled is written: nothing of it is loaded again.
                self.is_fetching = true;
                self.work.push(self.load().map(Done::Loaded).boxed());
            }
        }
        let is_due = self.batch_since.is_some_and(|since| since + WRITE_AFTER <= at);
        let (cursor, written_at) = self.written;
        let is_idle = written_at + WRITE_CURSOR_AFTER <= at && self.live.window.cursor() != cursor;
        if self.writing.is_none() && (is_due || self.batch.len() >= WRITE_ROWS || is_idle) {
            self.write();
        }
    }

    fn write(&mut self) {
        self.batch_since = None;
        let batch = Arc::new(std::mem::take(&mut self.batch));
        self.writing = Some(Arc::clone(&batch));
        let (store, hold, progress) = (self.context.store.clone(), self.hold.clone(), self.progress());
        let write = async move {
            let written = record::commit(&store, &hold, &progress, &batch).await;
            Done::Written { cursor: progress.cursor, written }
        };
        self.work.push(write.boxed());
    }

    /// Puts back what was being written without being confirmed. Writing it twice changes nothing; without it, the cursor would
    /// pass events that have no row.
    fn put_back(&mut self) {
        if let Some(batch) = self.writing.take() {
            self.batch.put_back(Arc::unwrap_or_clone(batch));
            self.batch_since = Some(Instant::now());
        }
    }

    fn progress(&self) -> Progress {
        let (state, reason) = match (self.breaker.is_open(), self.is_full) {
            (true, _) if self.last_error.is_empty() => (State::Failing, self.subscription.reason.clone()),
            (true, _) => {
                let failures = self.breaker.failures();
                let next = self.breaker.held_until();
                let next = next.map(|next| format!("; the next attempt is at {next}")).unwrap_or_default();
                (State::Failing, format!("{failures} requests failed in a row: {}{next}", self.last_error))
            }
            (false, true) => {
                let last = if self.last_error.is_empty() { "" } else { "; the last failure: " };
                let reason = format!(
                    "{MOST_WAITING} events wait for another attempt, or behind one of their subject, which is the most: others \
                     stay in the feed until some of these are delivered or given up{last}{}",
                    self.last_error
                );
                (State::Failing, reason)
            }
            (false, false) => {
                let asked = self.breaker.asked_until().filter(|until| *until > event::now());
                let reason = |until| format!("the endpoint asked for no request before {until}");
                (State::Active, asked.map(reason).unwrap_or_default())
            }
        };
        Progress {
            cursor: self.live.window.cursor(),
            backfill: self.backfill.as_ref().and_then(FeedPart::backfill),
            failures: self.breaker.failures(),
            failing_since: self.breaker.failing_since(),
            held_until: self.breaker.asked_until(),
            probe_at: self.breaker.probe_at(),
            state,
            reason,
        }
    }

    /// Begins requests, as many as may be under way. Gives when more may begin.
    fn dispatch(&mut self, at: Instant) -> Option<Instant> {
        while self.senders.has_room() && self.batch.len() < MOST_UNWRITTEN && self.queue.has_ready() {
            if let Some(wait) = self.rate.as_mut().and_then(|rate| rate.ready_in(at)) {
                return Some(at + wait);
            }
            // The clock goes on while requests are built: never earlier than the endpoint asks for.
            let now = event::now();
            let is_probe = match self.breaker.permit(now) {
                Permit::Go => false,
                Permit::Probe => true,
                Permit::Probing => return None,
                Permit::NotBefore(time) => {
                    let wait = Duration::try_from(time.duration_since(now)).unwrap_or_default();
                    return Some(at + wait);
                }
            };
            let events = match is_probe {
                true => self.queue.take_for_probe(now).into_iter().collect(),
                false => self.queue.take(self.push.batch_events as usize, now),
            };
            if let Some(rate) = &mut self.rate {
                rate.spend(1);
            }
            self.senders.send(events, is_probe);
        }
        None
    }

    /// Takes what is done, and everything else that is done by now.
    fn take_all(&mut self, first: Done) -> Result<(), End> {
        self.take(first)?;
        for _ in 0..256 {
            match self.next().now_or_never() {
                Some(Some(done)) => self.take(done)?,
                _ => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Sent(Sent { events, outcome, is_probe, .. }) => {
                return self.sent(events, &outcome, is_probe);
            }
            Done::Read { is_live, read } => return self.read(is_live, *read),
            Done::Contents { ids, events } => {
                self.is_fetching = false;
                match events {
                    Ok(events) => {
                        let gone = self.queue.contents(&ids, events);
                        gone.into_iter().for_each(|pending| self.gone(pending));
                    }
                    Err(error) => {
                        self.queue.unread_again(ids);
                        self.trouble(&error);
                    }
                }
            }
            Done::Loaded(waiting) => {
                self.is_fetching = false;
                match waiting {
                    Ok(waiting) => self.loaded(waiting),
                    Err(error) => self.trouble(&error),
                }
            }
            Done::Written { cursor, written: Ok(true) } => {
                self.writing = None;
                self.written = (cursor, Instant::now());
            }
            Done::Written { written: Ok(false), .. } => {
                self.put_back();
                return Err(End::Lost);
            }
            Done::Written { written: Err(error), .. } => {
                self.put_back();
                self.trouble(&error);
            }
        }
        Ok(())
    }

    fn trouble(&mut self, error: &StoreError) {
        let subscription = self.subscription.name();
        warn!(%subscription, error = %event::Chain(error), "the store does not do its part; trying again");
        self.store_after = Instant::now() + PAUSE;
    }

    fn read(&mut self, is_live: bool, read: Read) -> Result<(), End> {
        let part = match &mut self.backfill {
            Some(part) if !is_live => part,
            _ => &mut self.live,
        };
        let items = match part.take(read) {
            Ok(items) => items,
            Err(FeedError::Store(error)) => {
                self.trouble(&error);
                return Ok(());
            }
            Err(error) => return Err(End::Feed(error)),
        };
        let (mut next, mut unclear) = (Vec::new(), Vec::new());
        for (item, wanted) in items {
            let event = Arc::clone(item.event());
            match wanted {
                Wanted::No => continue,
                Wanted::Yes => {
                    part.window.push(&event, item.cursor);
                    next.extend(part.reorder.push(event));
                }
                Wanted::Unclear(error) => {
                    part.window.push(&event, item.cursor);
                    unclear.push((event, error));
                }
            }
        }
        part.settle_read();
        next.extend(std::iter::from_fn(|| part.reorder.next()));
        self.enqueue(next);
        for (event, error) in unclear {
            self.undelivered(Pending::fresh(event), error);
        }
        self.end_of_history();
        Ok(())
    }

    /// Takes events that are to be sent in this order.
    fn enqueue(&mut self, events: Vec<Arc<FeedEvent>>) {
        for event in events {
            if let Some(change) = self.queue.push(event) {
                self.apply(change);
            }
        }
    }

    /// An event that cannot be sent.
    fn undelivered(&mut self, mut pending: Pending, error: String) {
        pending.attempts += 1;
        self.batch.attempts.push(Attempt {
            event_id: pending.id,
            attempt: pending.attempts,
            at: event::now(),
            duration_ms: 0,
            status: None,
            error: Some(error),
            answer: None,
        });
        self.apply(Change::Write(pending, None));
        self.has_undelivered = true;
        self.gauges.undelivered();
    }

    /// An event that waited, and is no longer on record.
    fn gone(&mut self, mut pending: Pending) {
        let error = "the event has been deleted from the record (ledger.keep_days)".to_owned();
        let mut changes = Vec::new();
        self.queue.settle(pending.clone(), Settled::Undelivered, &mut changes);
        pending.event = None;
        self.undelivered(pending, error);
    }

    fn sent(&mut self, events: Vec<Pending>, outcome: &Outcome, is_probe: bool) -> Result<(), End> {
        let now = event::now();
        let is_sent = outcome.unsendable.len() < events.len();
        match outcome.verdict {
            Verdict::Delivered if is_sent => self.breaker.succeeded(),
            Verdict::Delivered if is_probe => self.breaker.no_probe(),
            Verdict::Delivered => {}
            Verdict::Failed | Verdict::Gone => self.breaker.failed(now, is_probe),
            Verdict::Asked(until) => {
                self.breaker.failed(now, is_probe);
                self.breaker.asked(until, is_probe);
            }
        }
        if let Some(error) = &outcome.error {
            self.last_error.clone_from(error);
        }
        self.gauges.answered(outcome.verdict, events.len());
        if outcome.denied.is_some() {
            self.gauges.answered(Verdict::Failed, events.len());
        }
        let mut changes = Vec::new();
        for mut pending in events {
            let unsendable = outcome.unsendable.get(&pending.id);
            let is_named = outcome.failed.contains(&pending.id);
            let settled = self.settled(&mut pending, outcome, is_probe, now);
            if let Some(denied) = outcome.denied.as_ref().filter(|_| unsendable.is_none()) {
                pending.attempts += 1;
                self.batch.attempts.push(Attempt::denied(&pending, denied));
            }
            pending.attempts += 1;
            self.batch.attempts.push(Attempt {
                event_id: pending.id,
                attempt: pending.attempts,
                at: outcome.at,
                duration_ms: i64::try_from(outcome.duration.as_millis()).unwrap_or(i64::MAX),
                status: outcome.status.filter(|_| unsendable.is_none()).map(|status| status.as_u16().into()),
                error: match unsendable {
                    Some(error) => Some(error.clone()),
                    None if is_named => Some("the answer names it as failed".to_owned()),
                    None => outcome.error.clone(),
                },
                answer: outcome.answer.clone().filter(|_| unsendable.is_none()),
            });
            match settled {
                // It may be one that was undelivered before the position was set back.
                Settled::Delivered if self.has_undelivered => self.batch.delete(pending.id),
                Settled::Undelivered => {
                    self.has_undelivered = true;
                    self.gauges.undelivered();
                }
                _ => {}
            }
            self.queue.settle(pending, settled, &mut changes);
        }
        changes.into_iter().for_each(|change| self.apply(change));
        self.batch_since.get_or_insert_with(Instant::now);
        self.end_of_history();
        if outcome.verdict == Verdict::Gone {
            return Err(End::Pause("the endpoint answered 410 Gone: it wants no more events".to_owned()));
        }
        let pause_after = Duration::from_secs(self.context.config.pause_after_s);
        // Only a request that fails says so: silence after a few failures does not.
        match self.breaker.failing_since().filter(|since| *since + pause_after <= now) {
            Some(since) if self.breaker.is_open() && outcome.verdict != Verdict::Delivered => {
                Err(End::Pause(format!("every request has failed since {since}: {}", self.last_error)))
            }
            _ => Ok(()),
        }
    }

    /// The outcome of an event after a request.
    fn settled(&self, pending: &mut Pending, outcome: &Outcome, is_probe: bool, now: Timestamp) -> Settled {
        if outcome.unsendable.contains_key(&pending.id) {
            return Settled::Undelivered;
        }
        let is_named = outcome.failed.contains(&pending.id);
        match outcome.verdict {
            Verdict::Delivered if !is_named => return Settled::Delivered,
            Verdict::Asked(until) => return Settled::Again(until),
            Verdict::Gone => return Settled::Again(now),
            Verdict::Delivered | Verdict::Failed => {}
        }
        match schedule::wait(&self.push.retry, pending.steps, pending.id) {
            // A probe is about the endpoint: its event keeps its waits, unless the endpoint works and refuses the event.
            wait if is_probe && !outcome.is_refusal() => Settled::Again(now + wait.unwrap_or_default()),
            Some(wait) => {
                pending.steps += 1;
                Settled::Again(now + wait)
            }
            None => Settled::Undelivered,
        }
    }

    fn apply(&mut self, change: Change) {
        let id = self.batch.add(change);
        if !self.live.window.finish(id)
            && let Some(part) = &mut self.backfill
        {
            part.window.finish(id);
        }
        self.batch_since.get_or_insert_with(Instant::now);
    }

    fn end_of_history(&mut self) {
        if self.backfill.as_ref().is_some_and(FeedPart::is_done) {
            info!(subscription = %self.subscription.name(), "the part of history is delivered");
            self.backfill = None;
            self.batch_since.get_or_insert_with(Instant::now);
        }
    }

    /// Ends: nothing begins any more, requests under way end or are cut off, and everything is written.
    async fn finish(mut self, end: Option<End>, stop: &CancellationToken) -> Result<(), Trouble> {
        let drained = async {
            while self.senders.under_way() > 0 || self.writing.is_some() {
                match self.next().await {
                    Some(Done::Read { .. }) => {}
                    // Why it ends is known.
                    Some(done) => drop(self.take(done)),
                    None => break,
                }
            }
        };
        // Requests that take longer are cut off here, and sent again later.
        let _ = timeout(GRACE, drained).await;
        self.cut_off();
        self.put_back();
        let mut progress = self.progress();
        if let Some(End::Pause(reason)) = &end {
            warn!(subscription = %self.subscription.name(), reason, "a subscription pauses");
            (progress.state, progress.reason) = (State::Paused, reason.clone());
        }
        let began = Instant::now();
        while let Err(error) = record::commit(&self.context.store, &self.hold, &progress, &self.batch).await {
            // Attempts are facts, even if another replica delivers by now.
            if stop.is_cancelled() || began.elapsed() > WRITE_PATIENCE {
                return Err(error.into());
            }
            sleep(PAUSE).await;
        }
        match end {
            Some(End::Feed(error)) => Err(error.into()),
            Some(End::Pause(_) | End::Lost) | None => Ok(()),
        }
    }
}
