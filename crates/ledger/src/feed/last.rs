//! The last events of some topics.

use event::Timestamp;
use store::many::{Value, fetch};
use store::{Row, Store, StoreError};

use super::Topics;
use super::entry::Origin;
use crate::predicates::duplicate;

/// The most events that are looked at.
const MOST: u64 = 100_000;

/// When the oldest of the last `count` events of these topics was received: how old the first message is of a queue that is
/// bound to them and has so many. Of a longer queue, the time of the last 100,000.
pub async fn oldest_of_last(
    store: &Store,
    topics: &Topics,
    count: u64,
) -> Result<Option<Timestamp>, StoreError> {
    if count == 0 {
        return Ok(None);
    }
    let mut connection = store.read().await?;
    let rows = fetch(&mut connection, "SELECT id, provider, topic FROM origins".to_owned(), []).await?;
    let mut numbers = Vec::new();
    for row in rows {
        let origin =
            Origin { provider: row.try_get("provider")?, topic: row.try_get("topic")?, ..Origin::default() };
        if topics.take(&origin) {
            numbers.push(row.try_get::<i64, _>("id")?.to_string());
        }
    }
    if numbers.is_empty() {
        return Ok(None);
    }
    let text = format!(
        "SELECT min(received_at) FROM (SELECT e.received_at FROM events e WHERE e.origin IN ({}) AND NOT {} \
         ORDER BY e.id DESC LIMIT $1) AS last",
        numbers.join(", "),
        duplicate("e")
    );
    let limit = i64::try_from(count.min(MOST)).unwrap_or(i64::MAX);
    let rows = fetch(&mut connection, text, [Value::from(limit)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let received_at: Option<i64> = row.try_get(0)?;
    Ok(received_at.and_then(|at| Timestamp::from_microsecond(at).ok()))
}
