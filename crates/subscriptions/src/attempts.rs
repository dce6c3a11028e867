//! The record of attempts: kept for a time.

use std::time::Duration;

use event::{EventId, Timestamp};
use store::many::{Value, fetch};
use store::{Store, StoreError, id};

/// How many rows are deleted at once.
const PART: usize = 1_000;

/// How many parts are deleted in one go: the rest waits for the next one.
const PARTS: usize = 100;

/// Deletes attempts that are older, and those of subscriptions that are gone. Gives how many.
pub(crate) async fn sweep(store: &Store, keep_days: u32, now: Timestamp) -> Result<usize, StoreError> {
    let oldest = now - Duration::from_secs(u64::from(keep_days) * 86_400);
    let (mut deleted, mut parts) = (0, 0);
    let mut after = None;
    while let Some(subscription) = next(store, after).await? {
        let text = "SELECT 1 FROM subscriptions WHERE id = $1".to_owned();
        let is_there = !fetch(&mut *store.read().await?, text, [subscription.into()]).await?.is_empty();
        let before = if is_there { oldest.as_microsecond() } else { i64::MAX };
        loop {
            let count = part(store, subscription, before).await?;
            deleted += count;
            parts += 1;
            if count < PART {
                break;
            }
            if parts >= PARTS {
                return Ok(deleted);
            }
        }
        after = Some(subscription);
    }
    Ok(deleted)
}

/// The next subscription that has attempts, in the order of their ids.
async fn next(store: &Store, after: Option<EventId>) -> Result<Option<EventId>, StoreError> {
    let text =
        "SELECT subscription FROM delivery_attempts WHERE subscription > $1 ORDER BY subscription LIMIT 1";
    let after = after.unwrap_or(EventId::from_bytes([0; 16]));
    let rows = fetch(&mut *store.read().await?, text.to_owned(), [after.into()]).await?;
    rows.first().map(|row| id(row, 0)).transpose()
}

async fn part(store: &Store, subscription: EventId, before: i64) -> Result<usize, StoreError> {
    let text = format!(
        "DELETE FROM delivery_attempts WHERE (subscription, at, event_id) IN \
         (SELECT subscription, at, event_id FROM delivery_attempts WHERE subscription = $1 AND at < $2 \
          ORDER BY at LIMIT {PART}) RETURNING at"
    );
    let mut tx = store.begin().await?;
    let rows = fetch(&mut tx, text, [subscription.into(), Value::from(before)]).await?;
    tx.commit().await?;
    Ok(rows.len())
}
