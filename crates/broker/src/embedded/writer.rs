//! The one thread that writes the embedded broker's file: group commit.
//!
//! A cycle takes the commands that wait, does them all in one transaction, hands out what consumers have room for,
//! commits (one `fsync`), and only then answers publishers and sends deliveries. While a commit is under way the
//! commands of the next cycle gather, so batches grow with the load. With nothing to do the thread blocks until the
//! next command or the next expiry.
//!
//! Large messages are published apart, few at a time: one transaction of theirs follows each cycle. So a small message waits
//! for one of these at most, and large ones get their turn under any load. Publishes that run at the same time have no order among each other;
//! everything else keeps its order.
//!
//! When the file does not take a cycle (disk full, I/O error), the cycle is rolled back, its publishers get the cause,
//! every subscription ends, and the state is reloaded from the file, repeatedly until that succeeds. Loading reads every
//! queue, so attempts keep a distance, and commands between them get the cause of the last failure.

use std::collections::VecDeque;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use metrics::{Counter, Histogram};
use tokio::sync::oneshot;

use super::Contents;
use super::file::File;
use super::queue::{Consumer, ConsumerId, Incoming, Limit};
use super::state::{BrokerState, shared};
use crate::{
    Binding, BrokerError, Cause, ExchangeName, PublishError, QueueName, QueueStatus, SMALL_BODY_BYTES,
    Topology,
};

/// Commands in one transaction, and the bytes of their bodies.
const BATCH: usize = 1_024;
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Bytes of large messages in one transaction, unless a single one is longer: a disk takes them in 10 to 20 ms.
const LARGE_BYTES: usize = 1024 * 1024;

/// How long the thread waits before it tries a file again that refused a write.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// What is asked of the thread. A reply that nobody waits for any more is dropped.
pub(super) enum Command {
    Publish {
        exchange: ExchangeName,
        routing_key: String,
        properties: Vec<u8>,
        expiration: Option<Duration>,
        body: Bytes,
        reply: oneshot::Sender<Result<(), PublishError>>,
    },
    Subscribe {
        queue: QueueName,
        consumer: Consumer,
        reply: oneshot::Sender<Result<(), BrokerError>>,
    },
    Unsubscribe {
        queue: QueueName,
        consumer: ConsumerId,
    },
    Limit {
        queue: QueueName,
        consumer: ConsumerId,
        limit: Limit,
    },
    Ack {
        queue: QueueName,
        consumer: ConsumerId,
        ids: Vec<i64>,
    },
    Declare {
        topology: Topology,
        reply: oneshot::Sender<Result<(), BrokerError>>,
    },
    Unbind {
        bindings: Vec<Binding>,
        reply: oneshot::Sender<Result<(), BrokerError>>,
    },
    DeleteQueue {
        queue: QueueName,
        reply: oneshot::Sender<Result<u64, BrokerError>>,
    },
    Status {
        queues: Vec<QueueName>,
        reply: oneshot::Sender<Result<Vec<QueueStatus>, BrokerError>>,
    },
    Check {
        reply: oneshot::Sender<Result<(), BrokerError>>,
    },
    Contents {
        queue: QueueName,
        reply: oneshot::Sender<Result<Contents, BrokerError>>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
    /// Stops between a write and its commit, and leaves the files as they are.
    #[cfg(test)]
    Kill {
        reply: oneshot::Sender<()>,
    },
    /// Makes the file refuse so many commits, and counts down.
    #[cfg(test)]
    Refuse {
        commits: Arc<AtomicU32>,
    },
}

impl Command {
    fn body_bytes(&self) -> usize {
        match self {
            Self::Publish { body, .. } => body.len(),
            _ => 0,
        }
    }
}

/// Microseconds since 1970 that never run backwards within the process.
pub(super) struct Clock {
    start: Instant,
    micros: i64,
}

impl Clock {
    pub fn new() -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), micros: i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX) }
    }

    pub fn now(&self) -> i64 {
        let elapsed = i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.micros.saturating_add(elapsed)
    }
}

struct Metrics {
    publishes: Counter,
    deliveries: Counter,
    dead_letters: Counter,
    commits: Counter,
    failures: Counter,
    commit: Histogram,
}

impl Metrics {
    fn new() -> Self {
        Self {
            publishes: metrics::counter!("broker_publishes_total"),
            deliveries: metrics::counter!("broker_deliveries_total"),
            dead_letters: metrics::counter!("broker_dead_letters_total"),
            commits: metrics::counter!("broker_commits_total"),
            failures: metrics::counter!("broker_commit_failures_total"),
            commit: metrics::histogram!("broker_commit_seconds"),
        }
    }
}

/// Who is answered after the commit.
#[derive(Default)]
struct Waiting {
    publishers: Vec<oneshot::Sender<Result<(), PublishError>>>,
    declarers: Vec<oneshot::Sender<Result<(), BrokerError>>>,
    /// Each with the number of deleted messages.
    deleters: Vec<(oneshot::Sender<Result<u64, BrokerError>>, u64)>,
}

impl Waiting {
    fn confirm(self) {
        for reply in self.publishers {
            let _ = reply.send(Ok(()));
        }
        for reply in self.declarers {
            let _ = reply.send(Ok(()));
        }
        for (reply, messages) in self.deleters {
            let _ = reply.send(Ok(messages));
        }
    }

    fn fail(self, error: &Arc<rusqlite::Error>) {
        for reply in self.publishers {
            let _ = reply.send(Err(PublishError::Unavailable(shared(error))));
        }
        for reply in self.declarers {
            let _ = reply.send(Err(BrokerError::Unavailable(shared(error))));
        }
        for (reply, _) in self.deleters {
            let _ = reply.send(Err(BrokerError::Unavailable(shared(error))));
        }
    }
}

/// The last refusal of a write.
struct Failure {
    error: Arc<rusqlite::Error>,
    at: Instant,
}

/// How the thread ends.
enum End {
    Close(oneshot::Sender<()>),
    #[cfg(test)]
    Kill(oneshot::Sender<()>),
}

/// The thread's own.
pub(super) struct Writer {
    file: File,
    /// None while the file refuses writes.
    state: Option<BrokerState>,
    commands: Receiver<Command>,
    batch: VecDeque<Command>,
    /// Large messages to publish.
    large: VecDeque<Command>,
    clock: Clock,
    /// Until the file takes a cycle again.
    failure: Option<Failure>,
    /// A cycle stopped at a bound: the next one follows at once.
    more: bool,
    next_due: Option<i64>,
    end: Option<End>,
    metrics: Metrics,
    #[cfg(test)]
    refuse: Arc<AtomicU32>,
}

impl Writer {
    pub fn new(file: File, state: BrokerState, clock: Clock, commands: Receiver<Command>) -> Self {
        Self {
            file,
            state: Some(state),
            commands,
            batch: VecDeque::with_capacity(BATCH),
            large: VecDeque::new(),
            clock,
            failure: None,
            // The first cycle looks for what expired while nobody was here.
            more: true,
            next_due: None,
            end: None,
            metrics: Metrics::new(),
            #[cfg(test)]
            refuse: Arc::default(),
        }
    }

    /// Serves until it is to close, or until every handle is gone.
    pub fn run(mut self) {
        while self.gather() {
            self.transact();
            match &self.end {
                None => self.publish_large(),
                // What came before the end is done.
                Some(End::Close(_)) => {
                    while !self.large.is_empty() {
                        self.publish_large();
                    }
                }
                #[cfg(test)]
                Some(End::Kill(_)) => {}
            }
            if let Some(end) = self.end.take() {
                return self.finish(end);
            }
        }
        let (reply, _) = oneshot::channel();
        self.finish(End::Close(reply));
    }

    /// Publishes the next large messages, as many as nobody minds waiting for.
    fn publish_large(&mut self) {
        if self.large.is_empty() {
            return;
        }
        let mut bytes = 0;
        while let Some(message) = self.large.pop_front_if(|message| {
            let is_first = bytes == 0;
            bytes += message.body_bytes();
            is_first || bytes <= LARGE_BYTES
        }) {
            self.batch.push_back(message);
        }
        self.transact();
    }

    /// One cycle, and the answers to those who waited for it.
    fn transact(&mut self) {
        if let Some(failure) = &self.failure
            && failure.at.elapsed() < RETRY
        {
            return self.refuse_all(&failure.error.clone());
        }
        let mut waiting = Waiting::default();
        match self.cycle(&mut waiting) {
            Ok(()) => {
                waiting.confirm();
                self.send();
                self.file.tend_log();
            }
            Err(error) => self.fail(waiting, error),
        }
    }

    /// Waits for something to do and takes the commands that are there. False when nobody can ask any more.
    fn gather(&mut self) -> bool {
        let mut bytes = 0;
        if self.large.is_empty() && !self.more {
            let wait = match (&self.failure, self.next_due) {
                (Some(failure), _) => Some(RETRY.saturating_sub(failure.at.elapsed())),
                (None, Some(due)) => {
                    Some(Duration::from_micros(u64::try_from(due - self.clock.now()).unwrap_or(0)))
                }
                (None, None) => None,
            };
            let first = match wait {
                Some(wait) => self.commands.recv_timeout(wait),
                None => self.commands.recv().map_err(RecvTimeoutError::from),
            };
            match first {
                Ok(command) => bytes += self.take(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        while self.batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Ok(command) = self.commands.try_recv()
        {
            bytes += self.take(command);
        }
        true
    }

    /// Puts a command where it waits. Gives the bytes that it brings to the next cycle.
    fn take(&mut self, command: Command) -> usize {
        match command.body_bytes() {
            bytes @ 0..=SMALL_BODY_BYTES => {
                self.batch.push_back(command);
                bytes
            }
            _ => {
                self.large.push_back(command);
                0
            }
        }
    }

    fn cycle(&mut self, waiting: &mut Waiting) -> rusqlite::Result<()> {
        let now = self.clock.now();
        let mut state = match self.state.take() {
            Some(state) => state,
            None => BrokerState::load(&self.file, now)?,
        };
        while let Some(command) = self.batch.pop_front() {
            self.apply(&mut state, now, command, waiting)?;
        }
        self.more = state.expire(&self.file, now)?;
        self.more |= state.hand_out(&self.file, now)?;
        self.next_due = state.settle(&self.file)?;
        #[cfg(test)]
        if matches!(self.end, Some(End::Kill(_))) {
            *waiting = Waiting::default();
            return Ok(());
        }
        #[cfg(test)]
        if self.file.is_writing()
            && self
                .refuse
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
        {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
                None,
            ));
        }
        if self.file.is_writing() {
            let start = Instant::now();
            self.file.commit()?;
            self.metrics.commit.record(start.elapsed());
            self.metrics.commits.increment(1);
        }
        if self.failure.take().is_some() {
            tracing::info!("the embedded broker writes its file again");
        }
        self.metrics.publishes.increment(waiting.publishers.len() as u64);
        self.metrics.dead_letters.increment(std::mem::take(&mut state.dead_letters));
        self.state = Some(state);
        Ok(())
    }

    fn apply(
        &mut self,
        state: &mut BrokerState,
        now: i64,
        command: Command,
        waiting: &mut Waiting,
    ) -> rusqlite::Result<()> {
        let file = &self.file;
        match command {
            Command::Publish { exchange, routing_key, properties, expiration, body, reply } => {
                // Before the write: a publisher whose write fails gets the cause along with the others.
                waiting.publishers.push(reply);
                let message =
                    Incoming { routing_key: &routing_key, properties: &properties, expiration, body: &body };
                let outcome = state.publish(file, now, &exchange, message)?;
                if let Err(error) = outcome
                    && let Some(reply) = waiting.publishers.pop()
                {
                    let _ = reply.send(Err(error));
                }
            }
            Command::Subscribe { queue, consumer, reply } => {
                let _ = reply.send(state.subscribe(&queue, consumer));
            }
            Command::Unsubscribe { queue, consumer } => state.unsubscribe(file, now, &queue, consumer)?,
            Command::Limit { queue, consumer, limit } => state.limit(&queue, consumer, limit),
            Command::Ack { queue, consumer, mut ids } => state.ack(file, &queue, consumer, &mut ids)?,
            Command::Declare { topology, reply } => {
                waiting.declarers.push(reply);
                let outcome = state.declare(file, now, &topology)?;
                if let Err(error) = outcome
                    && let Some(reply) = waiting.declarers.pop()
                {
                    let _ = reply.send(Err(error));
                }
            }
            Command::Unbind { bindings, reply } => {
                waiting.declarers.push(reply);
                state.unbind(file, &bindings)?;
            }
            Command::DeleteQueue { queue, reply } => {
                let place = waiting.deleters.len();
                waiting.deleters.push((reply, 0));
                waiting.deleters[place].1 = state.delete_queue(file, &queue)?;
            }
            Command::Status { queues, reply } => {
                let _ = reply.send(state.status(&queues));
            }
            Command::Check { reply } => {
                let _ = reply.send(Ok(()));
            }
            Command::Contents { queue, reply } => {
                let _ = reply.send(state.contents(file, &queue)?);
            }
            Command::Close { reply } => self.end = Some(End::Close(reply)),
            #[cfg(test)]
            Command::Kill { reply } => self.end = Some(End::Kill(reply)),
            #[cfg(test)]
            Command::Refuse { commits } => self.refuse = commits,
        }
        Ok(())
    }

    /// Sends what was handed out. A consumer that is gone has reported it, or will: its deliveries are given back then.
    fn send(&mut self) {
        let Some(state) = &mut self.state else { return };
        self.metrics.deliveries.increment(state.outbox.len() as u64);
        for (consumer, delivery) in state.outbox.drain(..) {
            let _ = consumer.send(delivery);
        }
    }

    /// The state and all subscriptions are gone already; the other requests of this cycle get the cause.
    fn fail(&mut self, waiting: Waiting, error: rusqlite::Error) {
        self.file.roll_back();
        self.metrics.failures.increment(1);
        let error = Arc::new(error);
        let failure = Failure { error: error.clone(), at: Instant::now() };
        if self.failure.replace(failure).is_none() {
            tracing::error!(%error, "the embedded broker cannot write its file: publishing fails until it can");
        }
        waiting.fail(&error);
        self.more = false;
        self.next_due = None;
        self.refuse_all(&error);
    }

    /// Gives the cause to everyone who waits.
    fn refuse_all(&mut self, error: &Arc<rusqlite::Error>) {
        let cause = || -> Cause { shared(error) };
        for command in self.batch.drain(..).chain(self.large.drain(..)) {
            match command {
                Command::Publish { reply, .. } => {
                    let _ = reply.send(Err(PublishError::Unavailable(cause())));
                }
                Command::Subscribe { reply, .. }
                | Command::Declare { reply, .. }
                | Command::Unbind { reply, .. }
                | Command::Check { reply } => {
                    let _ = reply.send(Err(BrokerError::Unavailable(cause())));
                }
                Command::Status { reply, .. } => {
                    let _ = reply.send(Err(BrokerError::Unavailable(cause())));
                }
                Command::DeleteQueue { reply, .. } => {
                    let _ = reply.send(Err(BrokerError::Unavailable(cause())));
                }
                Command::Contents { reply, .. } => {
                    let _ = reply.send(Err(BrokerError::Unavailable(cause())));
                }
                // The subscription is over: what it held is recovered.
                Command::Unsubscribe { .. } | Command::Limit { .. } | Command::Ack { .. } => {}
                Command::Close { reply } => self.end = Some(End::Close(reply)),
                #[cfg(test)]
                Command::Kill { reply } => self.end = Some(End::Kill(reply)),
                #[cfg(test)]
                Command::Refuse { commits } => self.refuse = commits,
            }
        }
    }

    fn finish(mut self, end: End) {
        match end {
            End::Close(reply) => {
                if let Some(mut state) = self.state.take() {
                    let ended = state.end(&self.file).and_then(|()| match self.file.is_writing() {
                        true => self.file.commit(),
                        false => Ok(()),
                    });
                    if let Err(error) = ended {
                        self.file.roll_back();
                        tracing::warn!(%error, "the embedded broker closes as after a crash");
                    }
                }
                self.file.close();
                let _ = reply.send(());
            }
            #[cfg(test)]
            End::Kill(reply) => {
                self.file.kill();
                let _ = reply.send(());
            }
        }
    }
}
