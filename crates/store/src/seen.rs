//! Duplicates: of a source's events with the same key, the first is the fact, and the others repeat it.
//!
//! Whichever transaction brings a key first decides for everyone who shares the database which event is the first. The
//! decision is written in the transaction of the effect, so it stands exactly if the effect does.

use std::collections::{BTreeMap, HashMap, HashSet};

use event::{Event, EventId, Message, SourceName, Timestamp, header};
use sqlx::Row;

use crate::{Store, StoreError, Tx, many, sql};

/// An event with the key by which its source's facts are distinguished.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// Whose fact it is.
    pub source: SourceName,
    /// What distinguishes it from the source's other facts.
    pub key: String,
    /// Receipt.
    pub time: Timestamp,
    /// The event.
    pub event_id: EventId,
    /// How long after the first event another with the same key repeats it, in seconds.
    pub window_s: i64,
    /// The event that this one repeats, if the ingress recognised that: then it is never the first.
    pub repeats: Option<EventId>,
}

/// A key has 64 hexadecimal digits: 32 of the key that the sender names, and 32 of the content. Keys of earlier
/// versions, and those of the content alone, have only 32.
const KEY_CHARS: usize = 64;

impl Sighting {
    /// What the message says of its event; `None` where the sender's facts cannot be told apart.
    pub fn from_message(event: &Event, message: &Message) -> Option<Self> {
        Some(Self {
            source: event.source.name.clone(),
            key: message.text(header::DUPLICATE_KEY)?.to_owned(),
            time: event.time,
            event_id: event.id,
            window_s: message.long(header::DUPLICATE_WINDOW_S)?,
            repeats: message.text(header::DUPLICATE_OF).and_then(|text| text.parse().ok()),
        })
    }

    /// The key by which earlier versions noted the same fact, whatever its content.
    fn key_of_before(&self) -> Option<&str> {
        self.key.get(..KEY_CHARS / 2).filter(|_| self.key.len() == KEY_CHARS)
    }
}

/// Notes the sightings, and returns those that repeat an earlier event, each with the id of the first.
///
/// Waits for a claim in another open transaction. After the window the next event is a first one again; an earlier
/// event never replaces a later one. A duplicate that the ingress recognised claims nothing, so that the first event
/// stays the first when it is recorded later.
pub async fn duplicates(
    tx: &mut Tx,
    sightings: &[Sighting],
) -> Result<HashMap<EventId, EventId>, StoreError> {
    let (known, mut open): (Vec<&Sighting>, Vec<&Sighting>) =
        sightings.iter().partition(|sighting| sighting.repeats.is_some());
    open.sort_unstable();
    let mut duplicates = HashMap::new();
    for round in many::rounds(open.into_iter().map(|sighting| ((&sighting.source, &sighting.key), sighting)))
    {
        let claimed = claim(tx, &round).await?;
        let not_first = round.iter().filter(|sighting| !claimed.contains(&sighting.event_id.to_string()));
        let wanted = not_first.map(|sighting| (*sighting, sighting.key.as_str()));
        let of_before = round.iter().filter_map(|sighting| Some((*sighting, sighting.key_of_before()?)));
        look_up(tx, &wanted.chain(of_before).collect::<Vec<_>>(), &mut duplicates).await?;
    }
    let wanted: Vec<_> = known.iter().map(|sighting| (*sighting, sighting.key.as_str())).collect();
    look_up(tx, &wanted, &mut duplicates).await?;
    for sighting in known {
        if let Some(first) = sighting.repeats {
            duplicates.entry(sighting.event_id).or_insert(first);
        }
    }
    Ok(duplicates)
}

/// Claims each free key for its window. Returns the events that hold their key now. No key occurs twice.
async fn claim(tx: &mut Tx, sightings: &[&Sighting]) -> Result<HashSet<String>, StoreError> {
    let row = |Sighting { source, key, time, event_id, window_s, .. }: &&Sighting| {
        let until = time.as_microsecond().saturating_add(window_s.saturating_mul(1_000_000));
        vec![source.into(), key.into(), event_id.into(), (*time).into(), until.into()]
    };
    let claimed = many::insert(
        tx,
        "seen (source, duplicate_key, event_id, seen_at, until)",
        "ON CONFLICT (source, duplicate_key) DO UPDATE SET event_id = excluded.event_id, \
         seen_at = excluded.seen_at, until = excluded.until WHERE seen.until < excluded.seen_at \
         RETURNING event_id",
        sightings.iter().map(row).collect(),
    )
    .await?;
    Ok(claimed.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Adds to `duplicates` those whose key belongs to another event within the window.
async fn look_up(
    tx: &mut Tx,
    wanted: &[(&Sighting, &str)],
    duplicates: &mut HashMap<EventId, EventId>,
) -> Result<(), StoreError> {
    let text = |given: &str| {
        format!(
            "SELECT source, duplicate_key, event_id, seen_at FROM seen WHERE (source, duplicate_key) IN ({given})"
        )
    };
    let mut by_key: BTreeMap<(&str, &str), Vec<&Sighting>> = BTreeMap::new();
    for (sighting, key) in wanted {
        by_key.entry((sighting.source.as_str(), key)).or_default().push(sighting);
    }
    let keys = by_key.keys().map(|(source, key)| vec![(*source).into(), (*key).into()]).collect();
    // A missing one was forgotten just now.
    for first in many::fetch_given(tx, text, &[], keys).await? {
        let (source, key): (String, String) = (first.try_get(0)?, first.try_get(1)?);
        let (first_id, seen_at): (String, i64) = (first.try_get(2)?, first.try_get(3)?);
        let first_id = first_id.parse().expect("the table holds the ids it was given");
        for sighting in by_key.get(&(source.as_str(), key.as_str())).into_iter().flatten() {
            let window = sighting.window_s.saturating_mul(1_000_000).unsigned_abs();
            let is_near = sighting.time.as_microsecond().abs_diff(seen_at) <= window;
            if first_id != sighting.event_id && is_near {
                duplicates.insert(sighting.event_id, first_id);
            }
        }
    }
    Ok(())
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
