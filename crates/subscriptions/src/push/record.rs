//! What a worker writes down, many events in one transaction: attempts, rows of events that wait, and the cursor.
//!
//! Attempts are facts and always written. The rest is written only while the worker holds the lease and nobody has set the
//! position of the subscription meanwhile.

use std::collections::{HashMap, HashSet};

use event::{EventId, Timestamp};
use ledger::feed::Cursor;
use store::many::{Value, chunks, fetch, insert};
use store::{Connection, Row, Store, StoreError, sql};

use super::queue::{Change, Pending};
use super::request::Denied;
use crate::{Backfill, State};

/// One request, as it concerned one event.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) event_id: EventId,
    pub(super) attempt: i64,
    pub(super) at: Timestamp,
    pub(super) duration_ms: i64,
    pub(super) status: Option<i64>,
    pub(super) error: Option<String>,
    pub(super) answer: Option<String>,
}

impl Attempt {
    /// A request that was sent again at once, with a new access token.
    pub(super) fn denied(pending: &Pending, denied: &Denied) -> Self {
        Self {
            event_id: pending.id,
            attempt: pending.attempts,
            at: denied.at,
            duration_ms: i64::try_from(denied.duration.as_millis()).unwrap_or(i64::MAX),
            status: Some(401),
            error: Some(
                "answered 401 to an access token that was kept; sent again with a new one".to_owned(),
            ),
            answer: denied.answer.clone(),
        }
    }
}

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) attempts: Vec<Attempt>,
    writes: HashMap<EventId, (Pending, Option<Timestamp>)>,
    deletes: HashSet<EventId>,
}

impl Batch {
    /// Adds a change; the last one of an event counts. Gives the event if the cursor may pass it now.
    pub(super) fn add(&mut self, change: Change) -> EventId {
        match change {
            Change::Finish(id) => id,
            Change::Write(mut pending, due_at) => {
                let id = pending.id;
                // A row has no contents: they are not kept until it is written.
                pending.event = None;
                self.deletes.remove(&id);
                self.writes.insert(id, (pending, due_at));
                id
            }
            Change::Delete(id) => {
                self.writes.remove(&id);
                self.deletes.insert(id);
                id
            }
        }
    }

    /// Deletes the row that an event may have.
    pub(super) fn delete(&mut self, id: EventId) {
        self.add(Change::Delete(id));
    }

    /// Puts a batch that could not be written in front of this one.
    pub(super) fn put_back(&mut self, earlier: Self) {
        let later = std::mem::replace(self, earlier);
        self.attempts.extend(later.attempts);
        later.writes.into_values().for_each(|(pending, due_at)| {
            self.add(Change::Write(pending, due_at));
        });
        later.deletes.into_iter().for_each(|id| self.delete(id));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty() && self.writes.is_empty() && self.deletes.is_empty()
    }

    /// About how many rows it writes.
    pub(super) fn len(&self) -> usize {
        self.attempts.len() + self.writes.len() + self.deletes.len()
    }
}

/// Where a subscription stands.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    pub(super) cursor: Cursor,
    pub(super) backfill: Option<Backfill>,
    pub(super) failures: i64,
    pub(super) failing_since: Option<Timestamp>,
    pub(super) held_until: Option<Timestamp>,
    pub(super) probe_at: Option<Timestamp>,
    pub(super) state: State,
    pub(super) reason: String,
}

/// Whose work it is.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) subscription: EventId,
    pub(super) owner: String,
    pub(super) moved: i64,
}

/// Writes a batch and the progress. False if the subscription is another worker's by now, was moved or removed: then only the
/// attempts are written.
pub(super) async fn commit(
    store: &Store,
    hold: &Hold,
    progress: &Progress,
    batch: &Batch,
) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let is_held = advance(&mut tx, hold, progress).await?;
    if is_held {
        write(&mut tx, hold.subscription, batch).await?;
    }
    let row = |attempt: &Attempt| {
        vec![
            hold.subscription.into(),
            attempt.at.into(),
            attempt.event_id.into(),
            attempt.attempt.into(),
            attempt.duration_ms.into(),
            attempt.status.into(),
            attempt.error.clone().into(),
            attempt.answer.clone().into(),
        ]
    };
    let into = "delivery_attempts (subscription, at, event_id, attempt, duration_ms, status, error, answer)";
    insert(&mut tx, into, "ON CONFLICT DO NOTHING", batch.attempts.iter().map(row).collect()).await?;
    tx.commit().await?;
    Ok(is_held)
}

/// Moves the cursor. What management has paused stays paused.
async fn advance(tx: &mut Connection, hold: &Hold, progress: &Progress) -> Result<bool, StoreError> {
    let text = "UPDATE subscriptions SET cursor = $4, backfill = $5, failures = $6, failing_since = $7, held_until = $8, \
                probe_at = $11, \
                state = CASE state WHEN 'paused' THEN state ELSE $9 END, \
                reason = CASE state WHEN 'paused' THEN reason ELSE $10 END \
                WHERE id = $1 AND lease_owner = $2 AND moved = $3 RETURNING version";
    let long = |time: Option<Timestamp>| Value::Long(time.map(|time| time.as_microsecond()));
    let backfill = progress.backfill.as_ref();
    let backfill = backfill.map(|one| serde_json::to_string(one).expect("texts and numbers are JSON"));
    let values = [
        Value::from(hold.subscription),
        Value::from(&hold.owner),
        Value::from(hold.moved),
        Value::from(&progress.cursor),
        Value::from(backfill),
        Value::from(progress.failures),
        long(progress.failing_since),
        long(progress.held_until),
        Value::from(&progress.state.as_str()),
        Value::from(&progress.reason),
        long(progress.probe_at),
    ];
    Ok(!fetch(tx, text.to_owned(), values).await?.is_empty())
}

async fn write(tx: &mut Connection, subscription: EventId, batch: &Batch) -> Result<(), StoreError> {
    let row = |(pending, due_at): &(Pending, Option<Timestamp>)| {
        vec![
            subscription.into(),
            pending.id.into(),
            Value::Text(pending.subject.as_deref().map(str::to_owned)),
            pending.received_at.into(),
            pending.attempts.into(),
            Value::from(i64::try_from(pending.steps).unwrap_or(i64::MAX)),
            Value::Long(due_at.map(|due_at| due_at.as_microsecond())),
        ]
    };
    let into = "deliveries (subscription, event_id, subject, received_at, attempts, steps, due_at)";
    let tail = "ON CONFLICT (subscription, event_id) DO UPDATE SET attempts = excluded.attempts, \
                steps = excluded.steps, due_at = excluded.due_at";
    insert(tx, into, tail, batch.writes.values().map(row).collect()).await?;
    let deletes: Vec<EventId> = batch.deletes.iter().copied().collect();
    for chunk in chunks(&deletes) {
        let list = sql::list(2, chunk.len());
        let text = format!("DELETE FROM deliveries WHERE subscription = $1 AND event_id IN ({list})");
        let values = std::iter::once(subscription).chain(chunk.iter().copied()).map(Value::from);
        fetch(tx, text, values).await?;
    }
    Ok(())
}

/// The events that wait in the store.
pub(super) struct Waiting {
    /// Those to begin with.
    pub(super) pending: Vec<Pending>,
    /// Whether there are more.
    pub(super) is_cut: bool,
    /// Whether some are undelivered.
    pub(super) has_undelivered: bool,
}

/// Reads the events that wait, at most so many: the earliest received, or the first due.
pub(super) async fn waiting(
    store: &Store,
    subscription: EventId,
    most: usize,
    is_by_receipt: bool,
) -> Result<Waiting, StoreError> {
    let order = if is_by_receipt { "received_at, event_id" } else { "due_at, received_at" };
    let bytes = "CAST((SELECT length(e.body) FROM events e WHERE e.id = deliveries.event_id) AS BIGINT)";
    let text = format!(
        "SELECT event_id, subject, received_at, attempts, steps, due_at, {bytes} AS bytes FROM deliveries \
         WHERE subscription = $1 AND due_at IS NOT NULL ORDER BY {order} LIMIT {}",
        most + 1
    );
    let mut connection = store.read().await?;
    let rows = fetch(&mut connection, text, [subscription.into()]).await?;
    let undelivered = "SELECT 1 FROM deliveries WHERE subscription = $1 AND due_at IS NULL LIMIT 1";
    let has_undelivered =
        !fetch(&mut connection, undelivered.to_owned(), [subscription.into()]).await?.is_empty();
    let time = |row: &store::AnyRow, column: &str| {
        let time = store::optional_time(row, column)?;
        Ok::<_, StoreError>(time.unwrap_or(Timestamp::UNIX_EPOCH))
    };
    let pending = rows.iter().take(most).map(|row| {
        Ok(Pending {
            id: store::id(row, "event_id")?,
            subject: row.try_get::<Option<String>, _>("subject")?.map(Into::into),
            received_at: time(row, "received_at")?,
            attempts: row.try_get("attempts")?,
            steps: usize::try_from(row.try_get::<i64, _>("steps")?).unwrap_or_default(),
            due_at: time(row, "due_at")?,
            is_stored: true,
            // None are those of an event that is no longer on record.
            bytes: row.try_get::<Option<i64>, _>("bytes")?.unwrap_or_default(),
            event: None,
        })
    });
    let pending = pending.collect::<Result<_, StoreError>>()?;
    Ok(Waiting { pending, is_cut: rows.len() > most, has_undelivered })
}
