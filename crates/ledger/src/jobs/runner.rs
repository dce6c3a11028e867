//! Works on jobs: a part of the console role.
//!
//! Promises that a row counts as processed only after its message is confirmed; that a job whose console ends goes on
//! at another one, or at the next start; and that it goes no faster than its rate.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use broker::{BrokerError, DynBroker, Layout, PublishError};
use consumer::{Bindings, PolicyChange, takers};
use event::{Chain, EventId, Timestamp, Zone};
use futures_util::future::join_all;
use store::{Row, Store, StoreError, Tx};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::resend::{self, Outgoing};
use super::selection::{Letter, Marked, Recorded, RejectedBody, Rows, Selection};
use super::table::Lane;
use super::{Action, Fetch, Job, Reread, table};
use crate::predicates::duplicate;
use crate::retain;
use store::many::{Value, fetch, insert};

/// The maximum number of rows processed at once.
const BATCH: u32 = 100;

/// How often a console looks for a job.
const IDLE: Duration = Duration::from_millis(500);

/// How long a job is its console's, from its last batch on.
pub(super) const LEASE: Duration = Duration::from_secs(15);

/// The pauses while broker or database are down; they double.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a console works on jobs with.
pub struct Runner {
    /// Where what is sent again goes.
    pub broker: DynBroker,
    /// The names of exchanges and queues.
    pub layout: Layout,
    /// Where the jobs and the record are.
    pub store: Store,
    /// The time zone of the days to reconcile.
    pub zone: Zone,
    /// The bindings of all consumers that handle events.
    pub consumers: Vec<Bindings>,
    /// The configured changes of their retry policies.
    pub policies: BTreeMap<String, PolicyChange>,
    /// Reads a rejected body once more.
    pub reread: Reread,
    /// Has documents fetched.
    pub fetch: Fetch,
}

/// Why a step failed.
pub(super) enum Trouble {
    Broker(PublishError),
    Queues(BrokerError),
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broker(error) => write!(f, "the broker does not accept what is sent: {}", Chain(error)),
            Self::Queues(error) => write!(f, "the queues cannot be inspected: {}", Chain(error)),
            Self::Store(error) => Chain(error).fmt(f),
        }
    }
}

/// How a step ends.
pub(super) enum Step {
    /// This many rows were processed, and there may be more.
    Went(u32),
    /// There are no more rows, the job was cancelled, or another console has it.
    Ended,
}

/// The destination of each message: exchange, routing key and id.
type Sent = (String, String, String);

fn sent(outgoing: &Outgoing) -> Sent {
    let Outgoing { exchange, routing_key, message } = outgoing;
    (exchange.to_string(), routing_key.clone(), message.message_id.clone())
}

/// What is stored about a processed row.
enum Mark {
    /// An event was sent to these consumers.
    Event {
        id: EventId,
        known: String,
        targets: Vec<String>,
    },
    Letter {
        event_id: EventId,
        consumer: String,
        /// Whether its consumer is one of ours, whose effect is awaited.
        is_ours: bool,
    },
    Rejected {
        id: EventId,
        targets: Vec<String>,
    },
    /// A rejected body that still cannot be used: its cause.
    Unusable {
        id: EventId,
        cause: String,
    },
    /// An event was sent to these consumers under a new id, and is recorded on its own.
    Again {
        id: EventId,
        targets: Vec<String>,
    },
    /// Nothing: the letter cannot be sent back.
    None,
}

/// The outcome of a batch.
#[derive(Default)]
struct Plan {
    outgoing: Vec<Outgoing>,
    marks: Vec<Mark>,
    sent: i64,
    /// Why rows were not sent.
    unsent: BTreeSet<String>,
}

impl Runner {
    /// Works until `stop` is cancelled; what is under way goes on at the next start.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.work_on(Lane::Sending, &stop), self.work_on(Lane::Reconciling, &stop));
    }

    async fn work_on(&self, lane: Lane, stop: &CancellationToken) {
        let worker = EventId::generate().to_string();
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            let now = event::now();
            match table::take(&self.store, lane, &worker, now, now + LEASE).await {
                Ok(Some(job)) => {
                    pause = FIRST_PAUSE;
                    info!(job = job.id, "works on a job");
                    self.work(job, &worker, stop).await;
                }
                Ok(None) => {
                    stop.run_until_cancelled(sleep(IDLE)).await;
                }
                Err(error) => {
                    warn!("jobs wait: {}", Chain(&error));
                    stop.run_until_cancelled(sleep(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn work(&self, mut job: Job, worker: &str, stop: &CancellationToken) {
        let selection = match Selection::new(job.what, &job.filter) {
            _ if job.action == Action::Reconcile => None,
            Ok(selection) => Some(selection),
            Err(error) => {
                let ended = self.end(&job, worker, "failed", &error.to_string()).await;
                return ended.unwrap_or_else(|error| warn!("jobs wait: {}", Chain(&error)));
            }
        };
        let limit = job.rate.map_or(BATCH, |rate| (rate / 10).clamp(1, BATCH));
        let (mut pause, mut confirmed) = (FIRST_PAUSE, HashSet::new());
        let mut due = Instant::now();
        while !stop.is_cancelled() {
            let stepped = match &selection {
                Some(selection) => self.step(&mut job, selection, limit, worker, &mut confirmed).await,
                None => self.reconcile(&mut job, worker).await,
            };
            match stepped {
                Ok(Step::Ended) => break,
                Ok(Step::Went(rows)) => {
                    pause = FIRST_PAUSE;
                    confirmed.clear();
                    if let Some(rate) = job.rate {
                        // What was late is not made up for beyond a second.
                        due = due.max(Instant::now() - Duration::from_secs(1))
                            + Duration::from_secs(1) * rows / rate;
                        stop.run_until_cancelled(sleep_until(due)).await;
                    }
                }
                Err(trouble) => {
                    warn!(job = job.id, "the job waits: {trouble}");
                    // If the database is down it cannot be recorded; then it is not a problem of this job alone.
                    let _ = self.set_trouble(&job, worker, &trouble.to_string()).await;
                    stop.run_until_cancelled(sleep(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        // For the next console, which otherwise waits for the end of the lease.
        let _ = self.give_back(&job, worker).await;
    }

    /// Sends one batch. What is in `confirmed` is not sent again when the rest is retried.
    async fn step(
        &self,
        job: &mut Job,
        selection: &Selection,
        limit: u32,
        worker: &str,
        confirmed: &mut HashSet<Sent>,
    ) -> Result<Step, Trouble> {
        let next = {
            let mut connection = self.store.read().await?;
            // Before anything is sent: the job may have waited long.
            if !table::is_at_work(&mut connection, &job.id, worker).await? {
                return Ok(Step::Ended);
            }
            match limit.min(job.rows_left()) {
                0 => None,
                limit => selection.next(&mut connection, job.id(), &job.resume_after, limit as usize).await?,
            }
        };
        let Some((rows, last)) = next else {
            let unsent = job.progress - job.sent;
            let trouble =
                if unsent > 0 { format!("{unsent} not sent: {}", job.trouble) } else { String::new() };
            self.end(job, worker, "done", &trouble).await?;
            return Ok(Step::Ended);
        };
        let gone = retain::hold(&self.store, sent_again(&rows, job), event::now()).await?;
        let count = match &rows {
            Rows::Events(rows) => rows.len(),
            Rows::Marked(rows) => rows.len(),
            Rows::Letters(rows) => rows.len(),
            Rows::Rejected(rows) => rows.len(),
        };
        let mut plan = Plan::default();
        match rows {
            Rows::Events(rows) if job.action == Action::Fetch => self.ask_for(rows, &mut plan).await?,
            Rows::Events(rows) => {
                let kept = rows.iter().filter(|row| !gone.contains(&row.event.id));
                kept.for_each(|row| self.plan_event(row, job, &mut plan));
            }
            Rows::Marked(rows) => {
                let kept = rows.iter().filter(|row| !gone.contains(&row.id));
                kept.for_each(|row| self.plan_mark(row, job, &mut plan));
            }
            Rows::Letters(rows) => {
                let others = self.other_services(&rows, job).await?;
                rows.iter().for_each(|row| self.plan_letter(row, job, &others, &mut plan));
            }
            Rows::Rejected(rows) => rows.iter().for_each(|row| self.plan_rejected(row, job, &mut plan)),
        }
        if !gone.is_empty() {
            plan.unsent
                .insert("the event was too old, and has just been deleted (ledger.keep_days)".to_owned());
        }
        let mut outgoing = std::mem::take(&mut plan.outgoing);
        outgoing.retain(|outgoing| !confirmed.contains(&sent(outgoing)));
        let ids: Vec<Sent> = outgoing.iter().map(sent).collect();
        let published = join_all(outgoing.into_iter().map(|outgoing| self.publish(outgoing))).await;
        let mut trouble = None;
        for (id, published) in ids.into_iter().zip(published) {
            match published {
                Ok(()) => {
                    confirmed.insert(id);
                }
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        if let Some(error) = trouble {
            return Err(Trouble::Broker(error));
        }
        let is_mine = self.commit(job, plan, count, &last, worker).await?;
        Ok(if is_mine { Step::Went(u32::try_from(count).unwrap_or(u32::MAX)) } else { Step::Ended })
    }

    /// Has the documents of these events fetched. Asking twice changes nothing.
    async fn ask_for(&self, rows: Vec<Recorded>, plan: &mut Plan) -> Result<(), StoreError> {
        let count = rows.len();
        let named = (self.fetch)(rows.into_iter().map(|row| row.event).collect()).await?;
        plan.sent = i64::try_from(named).unwrap_or(i64::MAX);
        if named < count {
            plan.unsent.insert("the event names no document of a source with an `api`".to_owned());
        }
        Ok(())
    }

    pub(super) async fn publish(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        let Outgoing { exchange, routing_key, message } = outgoing;
        self.broker.publish(&exchange, &routing_key, message).await
    }

    fn plan_event(&self, row: &Recorded, job: &Job, plan: &mut Plan) {
        plan.sent += 1;
        let id = row.event.id;
        plan.outgoing.extend(resend::replay(row, job, &self.layout));
        let targets: Vec<String> = match &job.to_consumer {
            Some(name) => vec![name.clone()],
            None => self.takers(&row.event),
        };
        plan.marks.push(match job.again {
            true => Mark::Again { id: EventId::derived(job.id(), id), targets },
            false => Mark::Event { id, known: row.consumers.clone(), targets },
        });
    }

    fn plan_mark(&self, Marked { id, event }: &Marked, job: &Job, plan: &mut Plan) {
        match event {
            _ if job.action == Action::Discard => {
                plan.sent += 1;
                plan.marks.push(Mark::Event { id: *id, known: String::new(), targets: Vec::new() });
            }
            Some(event) => self.plan_event(event, job, plan),
            None => {
                plan.unsent
                    .insert("the ledger has not recorded the event: see the queues ledger and parked".into());
                plan.marks.push(Mark::None);
            }
        }
    }

    fn takers(&self, event: &event::Event) -> Vec<String> {
        takers(&self.consumers, &event.source.provider, &event.topic).map(str::to_owned).collect()
    }

    fn is_ours(&self, consumer: &str) -> bool {
        self.consumers.iter().any(|bindings| bindings.consumer == consumer)
    }

    /// The consumers of these letters that are not ours and have a queue now, such as a subscription's: the broker knows.
    async fn other_services(&self, rows: &[Letter], job: &Job) -> Result<HashSet<String>, Trouble> {
        let mut found = HashSet::new();
        if job.action != Action::Retry {
            return Ok(found);
        }
        let names: BTreeSet<&str> = rows.iter().map(|row| row.consumer.as_str()).collect();
        for name in names.into_iter().filter(|name| !self.is_ours(name)) {
            let queue = self.layout.queue(name);
            // AMQP has no longer names.
            if queue.as_str().len() > 255 {
                continue;
            }
            match self.broker.queues(&[queue]).await {
                Ok(_) => _ = found.insert(name.to_owned()),
                Err(BrokerError::MissingQueue { .. }) => {}
                Err(error) => return Err(Trouble::Queues(error)),
            }
        }
        Ok(found)
    }

    fn plan_letter(&self, row: &Letter, job: &Job, others: &HashSet<String>, plan: &mut Plan) {
        let is_ours = self.is_ours(&row.consumer);
        let mark = Mark::Letter { event_id: row.event_id, consumer: row.consumer.clone(), is_ours };
        if job.action == Action::Retry {
            if !is_ours && !others.contains(&row.consumer) {
                plan.unsent.insert(format!("there is no consumer {}", row.consumer));
                plan.marks.push(Mark::None);
                return;
            }
            let outgoing = resend::letter(row, job, &self.layout);
            // Its consumer would give it up at once, as another letter.
            if let Err(error) = event::Event::from_message(&outgoing.message) {
                plan.unsent.insert(format!("the message is not an event of malote's: {error}"));
                plan.marks.push(Mark::None);
                return;
            }
            plan.outgoing.push(outgoing);
        }
        plan.sent += 1;
        plan.marks.push(mark);
    }

    fn plan_rejected(&self, row: &RejectedBody, job: &Job, plan: &mut Plan) {
        let mut targets = Vec::new();
        if job.action == Action::Retry {
            match (self.reread)(row) {
                Ok(accepted) => {
                    targets = accepted.first().map(|first| self.takers(&first.event)).unwrap_or_default();
                    plan.outgoing.extend(accepted.iter().map(|one| resend::accepted(one, job, &self.layout)));
                }
                Err(error) => {
                    let cause = error.to_string();
                    plan.unsent.insert(cause.clone());
                    plan.marks.push(Mark::Unusable { id: row.id, cause });
                    return;
                }
            }
        }
        plan.sent += 1;
        plan.marks.push(Mark::Rejected { id: row.id, targets });
    }

    /// Writes down what was done. False when the job is not this worker's any more, or ended.
    async fn commit(
        &self,
        job: &mut Job,
        plan: Plan,
        count: usize,
        last: &str,
        worker: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.begin().await?;
        for mark in &plan.marks {
            write(mark, job, &mut tx).await?;
        }
        let trouble = match plan.unsent.first() {
            Some(first) if plan.unsent.len() == 1 => first.clone(),
            Some(first) => format!("{first}; and others"),
            None if job.progress > job.sent => job.trouble.clone(),
            None => String::new(),
        };
        let text =
            "UPDATE jobs SET progress = progress + $3, sent = sent + $4, resume_after = $5, trouble = $6, \
                    lease_until = $7 WHERE id = $1 AND worker = $2 RETURNING state"
                .to_owned();
        let lease: Timestamp = event::now() + LEASE;
        let values = vec![
            Value::from(&job.id),
            Value::from(&worker),
            Value::from(i64::try_from(count).unwrap_or(i64::MAX)),
            Value::from(plan.sent),
            Value::from(&last),
            Value::from(&trouble),
            Value::from(lease),
        ];
        let rows = fetch(&mut tx, text, values).await?;
        let Some(row) = rows.first() else { return Ok(false) };
        let state: String = row.try_get("state")?;
        // Of a cancelled job, too: what was published is published.
        tx.commit().await?;
        job.progress += i64::try_from(count).unwrap_or(i64::MAX);
        job.sent += plan.sent;
        job.trouble = trouble;
        last.clone_into(&mut job.resume_after);
        Ok(state == "running")
    }

    pub(super) async fn end(
        &self,
        job: &Job,
        worker: &str,
        state: &str,
        trouble: &str,
    ) -> Result<(), StoreError> {
        info!(job = job.id, state, sent = job.sent, "a job ends");
        let text = "UPDATE jobs SET state = $3, trouble = $4, finished_at = $5 \
                    WHERE id = $1 AND worker = $2 AND state = 'running'";
        let values = vec![
            Value::from(&job.id),
            Value::from(&worker),
            Value::from(&state),
            Value::from(&trouble),
            Value::from(event::now()),
        ];
        self.update(text, values).await
    }

    /// Records what a job waits for, and keeps it.
    async fn set_trouble(&self, job: &Job, worker: &str, trouble: &str) -> Result<(), StoreError> {
        let lease: Timestamp = event::now() + LEASE;
        let text = "UPDATE jobs SET trouble = $3, lease_until = $4 \
                    WHERE id = $1 AND worker = $2 AND state = 'running'";
        let values =
            vec![Value::from(&job.id), Value::from(&worker), Value::from(&trouble), Value::from(lease)];
        self.update(text, values).await
    }

    async fn give_back(&self, job: &Job, worker: &str) -> Result<(), StoreError> {
        let text = "UPDATE jobs SET worker = NULL WHERE id = $1 AND worker = $2";
        self.update(text, vec![Value::from(&job.id), Value::from(&worker)]).await
    }

    async fn update(&self, text: &str, values: Vec<Value>) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        fetch(&mut tx, text.to_owned(), values).await?;
        Ok(tx.commit().await?)
    }
}

/// An event is pending at consumers since this job, even before the event is recorded.
pub(super) async fn set_pending(
    tx: &mut Tx,
    job: &Job,
    event_id: EventId,
    consumers: &[String],
) -> Result<(), StoreError> {
    let row = |name: &String| vec![Value::from(event_id), Value::from(name), Value::from(&job.id)];
    let tail = "ON CONFLICT (event_id, consumer) DO UPDATE SET job = excluded.job";
    insert(tx, "unsettled_events (event_id, consumer, job)", tail, consumers.iter().map(row).collect())
        .await?;
    Ok(())
}

/// The recorded events that a job sends again under their own ids. How long they are kept does not matter: another process
/// may delete them, with a setting of its own.
fn sent_again(rows: &Rows, job: &Job) -> Vec<EventId> {
    match rows {
        _ if matches!(job.action, Action::Discard | Action::Fetch) || job.again => Vec::new(),
        Rows::Events(rows) => rows.iter().map(|row| row.event.id).collect(),
        Rows::Marked(rows) => rows.iter().filter_map(|row| Some(row.event.as_ref()?.event.id)).collect(),
        // A letter is pending until its event is handled; a body is recorded as a new event.
        Rows::Letters(_) | Rows::Rejected(_) => Vec::new(),
    }
}

/// Marks a processed row.
async fn write(mark: &Mark, job: &Job, tx: &mut Tx) -> Result<(), StoreError> {
    let column = match job.action {
        // What is sent again is open again.
        Action::Replay | Action::Retry => "discarded_in = NULL, resent_in",
        Action::Discard | Action::Fetch | Action::Reconcile => "discarded_in",
    };
    let set = |table: &str, condition: &str| format!("UPDATE {table} SET {column} = $1 WHERE {condition}");
    match mark {
        Mark::None => {}
        Mark::Event { id, known, targets } => {
            let values = || vec![Value::from(&job.id), Value::from(*id)];
            fetch(tx, set("unrouted_events", "event_id = $2"), values()).await?;
            if targets.is_empty() {
                return Ok(());
            }
            set_pending(tx, job, *id, targets).await?;
            for name in targets {
                let text = set("dead_letters", "event_id = $2 AND consumer = $3");
                fetch(tx, text, [values(), vec![Value::from(name)]].concat()).await?;
            }
            let new = targets.iter().filter(|name| !known.split(' ').any(|known| known == name.as_str()));
            let all: Vec<&str> = known.split_whitespace().chain(new.map(String::as_str)).collect();
            // Most rows stay as they are, and each has a body.
            let text = format!(
                "UPDATE events SET consumers = $1, duplicate_of = NULL WHERE id = $2 AND (consumers <> $1 OR {})",
                duplicate("events")
            );
            fetch(tx, text, vec![Value::from(&all.join(" ")), Value::from(*id)]).await?;
        }
        Mark::Letter { event_id, consumer, is_ours } => {
            let values = vec![Value::from(&job.id), Value::from(*event_id), Value::from(consumer)];
            fetch(tx, set("dead_letters", "event_id = $2 AND consumer = $3"), values).await?;
            if job.action == Action::Retry && *is_ours {
                set_pending(tx, job, *event_id, std::slice::from_ref(consumer)).await?;
            }
        }
        Mark::Rejected { id, targets } => {
            fetch(tx, set("rejected_bodies", "id = $2"), vec![Value::from(&job.id), Value::from(*id)])
                .await?;
            set_pending(tx, job, *id, targets).await?;
        }
        Mark::Again { id, targets } => set_pending(tx, job, *id, targets).await?,
        Mark::Unusable { id, cause } => {
            let text = "UPDATE rejected_bodies SET cause = $1 WHERE id = $2".to_owned();
            fetch(tx, text, vec![Value::from(cause), Value::from(*id)]).await?;
        }
    }
    Ok(())
}
