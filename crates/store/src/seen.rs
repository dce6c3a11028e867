//! What senders have sent before: the first event with a key is the fact, the others repeat it.
//!
//! Whichever transaction brings a key first decides for everyone who shares the database which event is the first. The
//! decision is written in the transaction of the effect, so it stands exactly if the effect does.

use std::collections::HashMap;

use event::{Event, EventId, Message, SourceName, Timestamp, header};
use sqlx::Row;

use crate::{Store, StoreError, Tx, sql};

/// An event by which a source tells one of its facts apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// Whose fact it is.
    pub source: SourceName,
    /// What tells it from the source's other facts.
    pub key: String,
    /// Receipt.
    pub time: Timestamp,
    /// The event.
    pub event_id: EventId,
    /// How long after the first event another with the same key repeats it, in seconds.
    pub window_s: i64,
}

impl Sighting {
    /// What the message says of its event; `None` where the sender's facts cannot be told apart.
    pub fn of(event: &Event, message: &Message) -> Option<Self> {
        Some(Self {
            source: event.source.name.clone(),
            key: message.text(header::DUPLICATE_KEY)?.to_owned(),
            time: event.time,
            event_id: event.id,
            window_s: message.long(header::DUPLICATE_WINDOW_S)?,
        })
    }
}

/// Notes the sightings, and gives those that repeat an earlier event: each with the first event's id.
///
/// A claim by another transaction that is still open is waited for. After the window the next event is a first one again;
/// an event of before never takes the place of a later one.
pub async fn duplicates(
    tx: &mut Tx,
    sightings: &[Sighting],
) -> Result<HashMap<EventId, EventId>, StoreError> {
    // Sorted, so that two transactions with the same keys wait for each other in one order only.
    let mut sorted: Vec<&Sighting> = sightings.iter().collect();
    sorted.sort_unstable();
    let mut duplicates = HashMap::new();
    for Sighting { source, key, time, event_id, window_s } in sorted {
        let (time, window) = (time.as_microsecond(), window_s.saturating_mul(1_000_000));
        let claimed = sql::query(
            "INSERT INTO seen (source, duplicate_key, event_id, seen_at, until) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (source, duplicate_key) DO UPDATE SET event_id = excluded.event_id, \
             seen_at = excluded.seen_at, until = excluded.until WHERE seen.until < excluded.seen_at \
             RETURNING event_id",
        )
        .bind(source.to_string())
        .bind(key.clone())
        .bind(event_id.to_string())
        .bind(time)
        .bind(time.saturating_add(window))
        .fetch_optional(&mut **tx)
        .await?;
        if claimed.is_some() {
            continue;
        }
        let first = sql::query("SELECT event_id, seen_at FROM seen WHERE source = $1 AND duplicate_key = $2")
            .bind(source.to_string())
            .bind(key.clone())
            .fetch_optional(&mut **tx)
            .await?;
        // Forgotten just now.
        let Some(first) = first else { continue };
        let first_id: String = first.try_get(0)?;
        let is_near = time.abs_diff(first.try_get(1)?) <= window.unsigned_abs();
        let first_id = first_id.parse().expect("the table holds the ids it was given");
        if first_id != *event_id && is_near {
            duplicates.insert(*event_id, first_id);
        }
    }
    Ok(duplicates)
}

/// Deletes the keys whose window ended before a time. Gives their number.
pub async fn forget(store: &Store, before: Timestamp) -> Result<u64, StoreError> {
    let mut tx = store.begin().await?;
    let deleted = sql::query("DELETE FROM seen WHERE until < $1")
        .bind(before.as_microsecond())
        .execute(&mut *tx)
        .await?
        .rows_affected();
    tx.commit().await?;
    Ok(deleted)
}
