//! The sweep: takes what is settled out of `unsettled_events`, so that looking for what is pending stays quick.
//!
//! No answer depends on it: every reader asks the inbox and the dead letters too. It also forgets old keys of facts, and what
//! is old and settled ([`retain`]).

use std::time::{Duration, Instant};

use event::EventId;
use store::{Row, Store, StoreError, id};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::predicates::handled;
use crate::{Retention, retain};

use store::many::{Value, fetch, fetch_given};

/// How many rows are found at a time.
const STEP: i64 = 2_048;

/// The shortest pause between two sweeps.
const PAUSE: Duration = Duration::from_secs(1);

/// How long after their window the keys are kept by which senders' duplicates are known.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How often what is old is looked for.
const RETENTION_PERIOD: Duration = Duration::from_secs(60 * 60);

/// One that finds what it looks for may take this part of the time, so that it keeps up with what comes in; one that mostly goes
/// through pending rows, as in a backlog, a smaller one.
const SHARE_IN_USE: u32 = 4;
const SHARE_IN_VAIN: u32 = 20;

/// How long a row may take that is found.
const PER_ROW: Duration = Duration::from_micros(100);

/// Deletes every row whose consumer has handled the event, in small transactions. Gives their number. What was given up may
/// be sent again, and stays.
pub async fn sweep(store: &Store) -> Result<u64, StoreError> {
    let mut swept = 0;
    let mut last: Option<(EventId, String)> = None;
    loop {
        // Found outside a transaction: what is pending is passed over without blocking writers.
        let text = format!(
            "SELECT s.event_id, s.consumer FROM unsettled_events s WHERE (s.event_id, s.consumer) > ($1, $2) \
             AND {} ORDER BY s.event_id, s.consumer LIMIT $3",
            handled("s")
        );
        let (after, consumer) = match last {
            Some((id, consumer)) => (Value::from(id), Value::from(consumer)),
            None => (store::id_bound(""), Value::from("")),
        };
        let values = [after, consumer, Value::from(STEP)];
        let rows = fetch(&mut *store.read().await?, text, values).await?;
        let keys = rows
            .iter()
            .map(|row| Ok((id(row, 0)?, row.try_get(1)?)))
            .collect::<Result<Vec<(EventId, String)>, StoreError>>()?;
        if keys.is_empty() {
            return Ok(swept);
        }
        let mut tx = store.begin().await?;
        // Handled once is handled for good, so the rows need no second look.
        let text =
            |given: &str| format!("DELETE FROM unsettled_events WHERE (event_id, consumer) IN ({given})");
        let given = keys.iter().map(|(id, consumer)| vec![Value::from(*id), Value::from(consumer)]).collect();
        fetch_given(&mut tx, text, given).await?;
        tx.commit().await.map_err(StoreError::from)?;
        swept += keys.len() as u64;
        last = keys.into_iter().last();
    }
}

/// Sweeps now and then, and deletes what is old, until `stop` is cancelled: a part of the ledger's role. Replicas may do so
/// at the same time.
pub async fn sweep_until(store: Store, retention: Retention, stop: CancellationToken) {
    tokio::join!(sweeping(&store, &stop), retaining(&store, &retention, &stop));
}

async fn sweeping(store: &Store, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let started = Instant::now();
        let swept = sweep(store).await.unwrap_or_else(|error| {
            warn!("the sweep failed, and is retried later: {error}");
            0
        });
        debug!(swept, "swept");
        let elapsed = started.elapsed();
        let worth = PER_ROW.saturating_mul(u32::try_from(swept).unwrap_or(u32::MAX));
        let share = if elapsed < worth { SHARE_IN_USE } else { SHARE_IN_VAIN };
        stop.run_until_cancelled(sleep(PAUSE.max(elapsed * share))).await;
    }
}

async fn retaining(store: &Store, retention: &Retention, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        // Long past, so that what waited in a queue all the while still meets its key.
        let long_ago = event::now() - FORGOTTEN_AFTER;
        if let Err(error) = store::seen::forget(store, long_ago).await {
            warn!("old keys of facts were not deleted, retried later: {error}");
        }
        match stop.run_until_cancelled(retain(store, retention, event::now())).await {
            Some(Ok(0)) | None => {}
            Some(Ok(gone)) => info!(gone, "deleted settled events that are older than they are kept"),
            Some(Err(error)) => warn!("old events were not deleted, retried later: {error}"),
        }
        stop.run_until_cancelled(sleep(RETENTION_PERIOD)).await;
    }
}
