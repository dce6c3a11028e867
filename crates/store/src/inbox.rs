//! The inbox: which events each consumer has already had its effect with.
//!
//! A claim is written in the transaction of the effect, so both happen or neither does. That turns the queue's "at
//! least once" into "exactly once" for everything in this database.

use std::collections::HashSet;

use event::{EventId, Timestamp};
use sqlx::Row;

use crate::{Component, Migration, StoreError, Tx, many, sql};

pub(crate) const COMPONENT: Component = Component {
    name: "inbox",
    migrations: &[
        Migration::portable(1, "inbox", include_str!("../migrations/0001_inbox.sql")),
        Migration::portable(2, "seen", include_str!("../migrations/0002_seen.sql")),
        Migration::portable(3, "notes", include_str!("../migrations/0003_notes.sql")),
        Migration::postgres(4, "readable views", include_str!("../migrations/0004_readable.postgres.sql")),
    ],
};

/// Claims events for a consumer and gives those that it has not handled before.
///
/// A claim by another transaction that is still open is waited for: if that one commits, the event is not given.
pub async fn claim(
    tx: &mut Tx,
    consumer: &str,
    ids: &[EventId],
    now: Timestamp,
) -> Result<HashSet<EventId>, StoreError> {
    // Sorted, so that two transactions which claim the same events wait for each other in one order only.
    let mut texts: Vec<String> = ids.iter().map(EventId::to_string).collect();
    texts.sort_unstable();
    texts.dedup();
    let row = |text: String| vec![text.into(), consumer.into(), now.into()];
    let claimed = many::insert(
        tx,
        "inbox (event_id, consumer, handled_at)",
        "ON CONFLICT (event_id, consumer) DO NOTHING RETURNING event_id",
        texts.into_iter().map(row).collect(),
    )
    .await?;
    claimed
        .iter()
        .map(|row| Ok(row.try_get::<String, _>(0)?.parse().expect("the inbox holds the ids it was given")))
        .collect()
}

/// Whether the consumer has handled this event.
pub async fn holds(tx: &mut Tx, consumer: &str, id: EventId) -> Result<bool, StoreError> {
    let claims = sql::query("SELECT 1 FROM inbox WHERE event_id = $1 AND consumer = $2")
        .bind(id.to_string())
        .bind(consumer.to_owned())
        .fetch_all(&mut **tx)
        .await?;
    Ok(!claims.is_empty())
}

/// A note of a consumer about an event that it handled. Names places in the body and quotes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The event.
    pub event_id: EventId,
    /// What operators read.
    pub text: String,
}

/// Writes notes beside the claims of the consumer, in the same transaction.
pub async fn note(tx: &mut Tx, consumer: &str, notes: &[Note]) -> Result<(), StoreError> {
    for Note { event_id, text } in notes {
        sql::query("UPDATE inbox SET note = $1 WHERE event_id = $2 AND consumer = $3")
            .bind(text.clone())
            .bind(event_id.to_string())
            .bind(consumer.to_owned())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}
