//! The inbox: which events each consumer has already had its effect with, in the table `claims`.
//!
//! A claim is written in the transaction of the effect, so both happen or neither does. That turns the queue's "at
//! least once" into "exactly once" for everything in this database.

use std::collections::HashSet;

use crate::many::{self, Value};
use crate::{ById, Component, Migration, StoreError, Tx};
use event::{EventId, Timestamp};

pub(crate) const COMPONENT: Component = Component {
    name: "inbox",
    migrations: &[
        Migration::portable(1, "inbox", include_str!("../migrations/0001_inbox.sql")),
        Migration::portable(2, "seen", include_str!("../migrations/0002_seen.sql")),
        Migration::portable(3, "notes", include_str!("../migrations/0003_notes.sql")),
        Migration::postgres(4, "readable views", include_str!("../migrations/0004_readable.postgres.sql")),
        Migration::postgres(5, "refusal", include_str!("../migrations/0005_refuse.postgres.sql")),
        Migration {
            version: 6,
            description: "ids of 16 bytes",
            copies: true,
            sqlite: concat!(
                include_str!("../migrations/0006_before.sqlite.sql"),
                include_str!("../migrations/0006_claims.sql"),
                include_str!("../migrations/0006_after.sqlite.sql"),
            ),
            postgres: concat!(
                include_str!("../migrations/0006_before.postgres.sql"),
                include_str!("../migrations/0006_claims.sql"),
                include_str!("../migrations/0006_after.postgres.sql"),
            ),
        },
        Migration::postgres(7, "what is copied", include_str!("../migrations/0007_empty.postgres.sql")),
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
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let row = |id: EventId| (id, vec![id.into(), consumer.into(), now.into()]);
    let claims = ById {
        into: "claims (event_id, consumer, handled_at)",
        table: "claims",
        id: "event_id",
        part: Some(("consumer", consumer)),
    };
    claims.insert_new(tx, ids.into_iter().map(row).collect()).await
}

/// Whether the consumer has handled this event.
pub async fn holds(tx: &mut Tx, consumer: &str, id: EventId) -> Result<bool, StoreError> {
    let text = "SELECT 1 FROM claims WHERE event_id = $1 AND consumer = $2".to_owned();
    Ok(!many::fetch(tx, text, [id.into(), consumer.into()]).await?.is_empty())
}

/// A note of a consumer about an event that it handled. Names places in the body and quotes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The event.
    pub event_id: EventId,
    /// What operators read.
    pub text: String,
}

/// Adds notes to the claims of the consumer.
pub async fn note(tx: &mut Tx, consumer: &str, notes: &[Note]) -> Result<(), StoreError> {
    for Note { event_id, text } in notes {
        let values = [Value::from(text), (*event_id).into(), consumer.into()];
        let text = "UPDATE claims SET note = CASE WHEN note IS NULL THEN $1 ELSE note || '; ' || $1 END \
                    WHERE event_id = $2 AND consumer = $3";
        many::fetch(tx, text.to_owned(), values).await?;
    }
    Ok(())
}
