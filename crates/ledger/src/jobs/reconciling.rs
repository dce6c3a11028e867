//! Runs reconciliations: one step of a walk at a time, each stored before the next.
//!
//! Promises that a step counts once, whichever console takes the job meanwhile; and that a job sends an event again at
//! most once, unless a console is killed between confirm and commit: then the same event is sent once more.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::layout::{Layout, RetryDelay};
use broker::{FixedQueue, PublishError};
use consumer::{Bindings, Policy};
use event::{Chain, EventId};
use store::many::{Value, fetch, insert};
use store::{Row, StoreError, id_bound};
use tokio::time::sleep;

use super::runner::{LEASE, Runner, Step, Trouble, set_pending};
use super::selection::Recorded;
use super::{Job, resend, selection, table};
use crate::predicates::{given_up_in, handled};
use crate::reconcile::walk::{self, Found, IN_NO_QUEUE, Phase, RANGE_ROWS, Walk};

/// How often, and how far apart, a small day that does not balance is checked again: the ledger may still be recording
/// the last events. A large one is checked once more.
const PASSES: i64 = 10;
const PASS_PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

/// How many events are sent again at once: each includes its body.
const REPAIRED_AT_ONCE: i64 = 16;

/// How long to wait for what was sent again before the day is checked once more.
const SETTLING: Duration = Duration::from_secs(10);
const SETTLING_PAUSE: Duration = Duration::from_millis(200);

/// What is sent again, for which difference.
struct Repair {
    id: String,
    event_id: EventId,
    consumer: String,
}

impl Runner {
    /// The next step of a reconciliation.
    pub(super) async fn reconcile(&self, job: &mut Job, worker: &str) -> Result<Step, Trouble> {
        let mut walk = {
            let mut connection = self.store.read().await?;
            if !table::is_at_work(&mut connection, &job.id, worker).await? {
                return Ok(Step::Ended);
            }
            match walk::load(&mut connection, &job.id).await? {
                Some(walk) => walk,
                None => Walk::new(&mut connection, job.day(), &self.zone).await?,
            }
        };
        let (mut found, mut repaired) = (Found::default(), Vec::new());
        match walk.phase {
            Phase::Begin => {
                // Read before the rows: what leaves a queue meanwhile is in the rows.
                let waiting = self.waiting().await?;
                let mut connection = self.store.read().await?;
                let total_wait =
                    |one: &Bindings| Policy::configured(one, self.policies.get(one.consumer)).total_wait();
                let waits: Vec<_> =
                    self.consumers.iter().map(|one| (one.consumer, total_wait(one))).collect();
                walk.begin(&mut connection, waiting, &waits, event::now()).await?;
            }
            Phase::Repair => match self.repair(&mut walk, job).await? {
                Some(sent) => repaired = sent,
                None => self.after_repair(&mut walk, job).await,
            },
            Phase::Settle => self.settle(&mut walk, job).await?,
            Phase::Tidy => {
                if !self.tidy(&walk, job).await? {
                    walk.enter(Phase::Over);
                }
            }
            Phase::Over => {
                let trouble = match walk.differences() {
                    0 => String::new(),
                    1 => "1 difference".to_owned(),
                    count => format!("{count} differences"),
                };
                self.end(job, worker, "done", &trouble).await?;
                return Ok(Step::Ended);
            }
            Phase::Events
            | Phase::Inbox
            | Phase::Dead
            | Phase::Unrouted
            | Phase::Rejected
            | Phase::Sources => {
                found = walk.step(&mut *self.store.read().await?, event::now()).await?;
            }
        }
        let events = u32::try_from(found.events).unwrap_or(u32::MAX);
        // A copy of the walk: a step that is not stored must not change it.
        (job.progress, job.sent) = (walk.events, walk.sent);
        let is_mine = self.keep(job, &walk, found, &repaired, worker).await?;
        Ok(if is_mine { Step::Went(events) } else { Step::Ended })
    }

    /// Messages in each queue that is not empty, by name without prefix.
    async fn waiting(&self) -> Result<BTreeMap<String, u64>, Trouble> {
        let fixed = FixedQueue::ALL.map(|queue| queue.to_string()).into_iter();
        // What a consumer holds is still in flight; recorders hold messages whenever events arrive.
        let is_fixed = |name: &str| FixedQueue::ALL.iter().any(|queue| queue.name() == name);
        let consumers = self.consumers.iter().map(|bindings| bindings.consumer.to_owned());
        let retry = RetryDelay::ALL.into_iter().map(|delay| Layout::new("").retry_queue(delay).to_string());
        let names: Vec<String> = fixed.chain(consumers).chain(retry).collect();
        let queues: Vec<_> = names.iter().map(|name| self.layout.queue(name)).collect();
        let statuses = self.broker.queues(&queues).await.map_err(Trouble::Queues)?;
        let depths = names.into_iter().zip(statuses).map(|(name, status)| {
            let held = if is_fixed(&name) { 0 } else { status.unacked.unwrap_or(0) };
            (name, status.ready + held)
        });
        Ok(depths.filter(|(_, depth)| *depth > 0).collect())
    }

    /// Sends the next events that are in no queue to the consumers that lack them; in the first pass only, so that
    /// nothing is sent twice. What a queue refuses stays a difference and does not block others. Returns what is
    /// confirmed, also if the broker goes down before the rest is; nothing when there is no more.
    async fn repair(&self, walk: &mut Walk, job: &Job) -> Result<Option<Vec<Repair>>, Trouble> {
        if walk.pass() > 1 {
            return Ok(None);
        }
        let (repairs, events) = {
            let mut connection = self.store.read().await?;
            let repairs = self.repairable(&mut connection, walk, job).await?;
            let ids: Vec<EventId> = repairs.iter().map(|repair| repair.event_id).collect();
            (repairs, selection::recorded_events(&mut connection, &ids).await?)
        };
        let (is_over, before) = (repairs.is_empty(), walk.after.clone());
        let mut sent = Vec::with_capacity(repairs.len());
        for repair in repairs {
            match self.send_again(&repair, &events, job).await {
                Ok(()) => {
                    walk.after.clone_from(&repair.id);
                    walk.sent += 1;
                    sent.push(repair);
                }
                Err(error @ PublishError::Unavailable(_)) if walk.after == before => {
                    return Err(Trouble::Broker(error));
                }
                Err(PublishError::Unavailable(_)) => break,
                Err(refused) => {
                    walk.after.clone_from(&repair.id);
                    walk.refused.insert(repair.consumer, Chain(&refused).to_string());
                }
            }
        }
        Ok((!is_over).then_some(sent))
    }

    async fn send_again(&self, repair: &Repair, events: &[Recorded], job: &Job) -> Result<(), PublishError> {
        let to = Job { to_consumer: Some(repair.consumer.clone()), ..job.clone() };
        for recorded in events.iter().filter(|recorded| recorded.event.id == repair.event_id) {
            for outgoing in resend::replay(recorded, &to, &self.layout) {
                self.publish(outgoing).await?;
            }
        }
        Ok(())
    }

    async fn repairable(
        &self,
        connection: &mut store::Connection,
        walk: &Walk,
        job: &Job,
    ) -> Result<Vec<Repair>, StoreError> {
        let mut values = vec![Value::from(&job.id), Value::from(walk.pass()), Value::from(&walk.after)];
        values.extend(self.consumers.iter().map(|bindings| Value::from(bindings.consumer)));
        if self.consumers.is_empty() {
            return Ok(Vec::new());
        }
        let text = format!(
            "SELECT id, event_id, consumer FROM differences WHERE job_id = $1 AND pass = $2 AND id > $3 \
             AND kind = '{IN_NO_QUEUE}' AND consumer IN ({}) ORDER BY id LIMIT {REPAIRED_AT_ONCE}",
            store::sql::list(4, self.consumers.len())
        );
        let repair = |row: &store::AnyRow| {
            Ok(Repair {
                id: row.try_get("id")?,
                event_id: store::id(row, "event_id")?,
                consumer: row.try_get("consumer")?,
            })
        };
        fetch(connection, text, values).await?.iter().map(repair).collect()
    }

    /// The phase after everything that can be repaired is sent.
    async fn after_repair(&self, walk: &mut Walk, job: &Job) {
        let age = job.started_at.map_or(Duration::MAX, |started| {
            event::now().duration_since(started).try_into().unwrap_or(Duration::ZERO)
        });
        if walk.pass() == 1 && walk.sent > 0 {
            walk.settle_until = (event::now() + SETTLING).as_microsecond();
            walk.enter(Phase::Settle);
        } else if walk.differences() > 0 && walk.pass() < PASSES && (walk.pass() == 1 || age < PATIENCE) {
            sleep(PASS_PAUSE).await;
            walk.again();
        } else {
            walk.enter(Phase::Tidy);
        }
    }

    /// Deletes some of what earlier passes found; returns whether there may be more.
    async fn tidy(&self, walk: &Walk, job: &Job) -> Result<bool, StoreError> {
        let text = format!(
            "DELETE FROM differences WHERE job_id = $1 AND id IN (SELECT id FROM differences WHERE job_id = $1 \
             AND pass < $2 AND sent_at IS NULL ORDER BY id LIMIT {RANGE_ROWS}) RETURNING id"
        );
        let mut tx = self.store.begin().await?;
        let gone = fetch(&mut tx, text, [Value::from(&job.id), Value::from(walk.pass())]).await?;
        tx.commit().await?;
        Ok(!gone.is_empty())
    }

    /// Waits for a while until what was sent again is handled or given up.
    async fn settle(&self, walk: &mut Walk, job: &Job) -> Result<(), Trouble> {
        let text = format!(
            "SELECT 1 FROM differences t WHERE t.job_id = $1 AND t.sent_at IS NOT NULL AND NOT {} AND NOT {} LIMIT 1",
            handled("t"),
            given_up_in("t", "t.job_id")
        );
        let rows = fetch(&mut *self.store.read().await?, text, [Value::from(&job.id)]).await?;
        if rows.is_empty() || event::now().as_microsecond() > walk.settle_until {
            walk.again();
        } else {
            sleep(SETTLING_PAUSE).await;
        }
        Ok(())
    }

    /// Stores a step. False if the job no longer belongs to this worker, or has ended.
    async fn keep(
        &self,
        job: &Job,
        walk: &Walk,
        found: Found,
        repaired: &[Repair],
        worker: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.begin().await?;
        let row = |difference: crate::Difference| {
            vec![
                Value::from(&job.id),
                Value::from(&EventId::generate()),
                Value::from(walk.pass()),
                Value::from(difference.kind),
                Value::from(difference.source),
                difference.event_id.map_or(Value::Bytes(None), |id| id_bound(&id)),
                Value::from(difference.consumer),
                Value::from(difference.detail),
            ]
        };
        let rows = found.differences.into_iter().map(row).collect();
        insert(&mut tx, "differences (job_id, id, pass, kind, source, event_id, consumer, detail)", "", rows)
            .await?;
        let now = event::now();
        for Repair { id, event_id, consumer } in repaired {
            let text = "UPDATE differences SET sent_at = $3 WHERE job_id = $1 AND id = $2".to_owned();
            fetch(&mut tx, text, [Value::from(&job.id), Value::from(id), Value::from(now)]).await?;
            set_pending(&mut tx, job, *event_id, std::slice::from_ref(consumer)).await?;
        }
        let text = "INSERT INTO reconciliation (job_id, walk) VALUES ($1, $2) \
                    ON CONFLICT (job_id) DO UPDATE SET walk = excluded.walk";
        let stored = serde_json::to_string(walk).expect("a walk is JSON");
        fetch(&mut tx, text.to_owned(), [Value::from(&job.id), Value::from(stored)]).await?;
        let text = "UPDATE jobs SET progress = $3, sent = $4, lease_until = $5, trouble = '', \
                    total = CASE WHEN total < $3 THEN $3 ELSE total END \
                    WHERE id = $1 AND worker = $2 RETURNING state";
        let values = vec![
            Value::from(&job.id),
            Value::from(worker),
            Value::from(job.progress),
            Value::from(job.sent),
            Value::from(now + LEASE),
        ];
        let rows = fetch(&mut tx, text.to_owned(), values).await?;
        let Some(row) = rows.first() else { return Ok(false) };
        let state: String = row.try_get("state")?;
        tx.commit().await?;
        Ok(state == "running")
    }
}
