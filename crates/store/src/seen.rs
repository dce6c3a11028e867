//! Duplicates: of a source's events with the same key, the first is the fact, and the others repeat it.
//!
//! Whichever transaction claims a key first decides for everyone who shares the database which event is the first. The
//! claim is written in the transaction of the effect, so it stands exactly if the effect does. It is written last: the
//! ledger and a consumer handle the same event at the same time, and neither waits for more than the other's commit.

use std::collections::HashMap;

use event::{Event, EventId, Message, SourceName, Timestamp, header};
use sqlx::Row;

use crate::many::{self, Values};
use crate::{Store, StoreError, Tx, sql};

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

/// What the transactions before have decided about some sightings, and what this one decides.
#[derive(Debug, Default)]
pub struct Decision<'a> {
    /// Those that repeat an earlier event, each with the id of the first.
    pub duplicates: HashMap<EventId, EventId>,
    /// The first ones, which are not claimed yet, each with the event that had its key in an earlier window.
    firsts: Vec<(&'a Sighting, Option<EventId>)>,
}

/// Decides which of the sightings repeat an earlier event. The first ones are to be [claimed](Decision::claim) in the same
/// transaction.
///
/// After the window the next event is a first one again; an earlier event never replaces a later one. A duplicate that
/// the ingress recognised is never a first one, so that the first event stays the first when it is recorded later.
pub async fn decide<'a>(tx: &mut Tx, sightings: &'a [Sighting]) -> Result<Decision<'a>, StoreError> {
    let (known, mut open): (Vec<&Sighting>, Vec<&Sighting>) =
        sightings.iter().partition(|sighting| sighting.repeats.is_some());
    open.sort_unstable();
    let places = sightings.iter().flat_map(|sighting| {
        let before = sighting.key_of_before().map(|key| (sighting.source.as_str(), key));
        before.into_iter().chain([sighting.place()])
    });
    let mut holders = holders(tx, places.collect()).await?;
    let mut decision = Decision::default();
    for sighting in open {
        let holder = holders.get(&sighting.place());
        if holder.is_none_or(|holder| holder.until < sighting.time.as_microsecond()) {
            decision.firsts.push((sighting, holder.map(|holder| holder.event_id)));
            holders.insert(sighting.place(), sighting.as_holder());
        }
        decision.duplicates.extend(sighting.first(&holders).map(|first| (sighting.event_id, first)));
    }
    for sighting in known {
        let first = sighting.first(&holders).or(sighting.repeats);
        decision.duplicates.extend(first.map(|first| (sighting.event_id, first)));
    }
    Ok(decision)
}

impl Decision<'_> {
    /// Claims the keys of the first ones; a [`StoreError::Conflict`] if another transaction has claimed one for another
    /// event meanwhile.
    ///
    /// Waits for a claim in another open transaction, and others wait for these claims: they belong at the end of a
    /// transaction.
    pub async fn claim(self, tx: &mut Tx) -> Result<(), StoreError> {
        for round in many::rounds(self.firsts.into_iter().map(|first| (first.0.place(), first))) {
            claim(tx, &round).await?;
        }
        Ok(())
    }
}

/// Decides and claims in one step.
pub async fn duplicates(
    tx: &mut Tx,
    sightings: &[Sighting],
) -> Result<HashMap<EventId, EventId>, StoreError> {
    let mut decision = decide(tx, sightings).await?;
    let duplicates = std::mem::take(&mut decision.duplicates);
    decision.claim(tx).await?;
    Ok(duplicates)
}

/// A source and a key of its facts.
type Place<'a> = (&'a str, &'a str);

/// The event that has a key; since when and until when, in microseconds.
struct Holder {
    event_id: EventId,
    seen_at: i64,
    until: i64,
}

impl Sighting {
    fn place(&self) -> Place<'_> {
        (self.source.as_str(), &self.key)
    }

    fn window(&self) -> i64 {
        self.window_s.saturating_mul(1_000_000)
    }

    fn as_holder(&self) -> Holder {
        let seen_at = self.time.as_microsecond();
        Holder { event_id: self.event_id, seen_at, until: seen_at.saturating_add(self.window()) }
    }

    /// The other event within the window that has its key, or had it in an earlier version.
    fn first(&self, holders: &HashMap<Place<'_>, Holder>) -> Option<EventId> {
        let mut keys = self.key_of_before().into_iter().chain([self.key.as_str()]);
        keys.find_map(|key| {
            let holder = holders.get(&(self.source.as_str(), key))?;
            let is_near = self.time.as_microsecond().abs_diff(holder.seen_at) <= self.window().unsigned_abs();
            (holder.event_id != self.event_id && is_near).then_some(holder.event_id)
        })
    }
}

/// The events that have these keys.
async fn holders<'a>(
    tx: &mut Tx,
    mut places: Vec<Place<'a>>,
) -> Result<HashMap<Place<'a>, Holder>, StoreError> {
    places.sort_unstable();
    places.dedup();
    let text = |given: &str| {
        format!(
            "SELECT source, duplicate_key, event_id, seen_at, until FROM seen \
             WHERE (source, duplicate_key) IN ({given})"
        )
    };
    let given = places.iter().map(|(source, key)| vec![(*source).into(), (*key).into()]).collect();
    let mut holders = HashMap::new();
    for row in many::fetch_given(tx, text, given).await? {
        let (source, key, event_id): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let event_id = event_id.parse().expect("the table holds the ids it was given");
        let place = places.binary_search(&(source.as_str(), key.as_str()));
        let place = places[place.expect("only keys that were asked for are found")];
        holders.insert(place, Holder { event_id, seen_at: row.try_get(3)?, until: row.try_get(4)? });
    }
    Ok(holders)
}

/// Claims keys, of which none occurs twice.
async fn claim(tx: &mut Tx, firsts: &[(&Sighting, Option<EventId>)]) -> Result<(), StoreError> {
    let key = |sighting: &Sighting| -> Values { vec![(&sighting.source).into(), (&sighting.key).into()] };
    let ended = |(sighting, before): &(&Sighting, Option<EventId>)| {
        before.map(|before| key(sighting).into_iter().chain([(&before).into()]).collect())
    };
    let delete =
        |given: &str| format!("DELETE FROM seen WHERE (source, duplicate_key, event_id) IN ({given})");
    many::fetch_given(tx, delete, firsts.iter().filter_map(ended).collect()).await?;
    let row = |(sighting, _): &(&Sighting, Option<EventId>)| {
        let Holder { event_id, seen_at, until } = sighting.as_holder();
        key(sighting).into_iter().chain([(&event_id).into(), seen_at.into(), until.into()]).collect()
    };
    let (into, tail) = (
        "seen (source, duplicate_key, event_id, seen_at, until)",
        "ON CONFLICT (source, duplicate_key) DO NOTHING",
    );
    let rows = firsts.iter().map(row).collect();
    if many::is_sqlite(tx) {
        // Its only writer has looked.
        many::insert(tx, into, tail, rows).await?;
        return Ok(());
    }
    if many::insert_counted(tx, into, tail, rows).await? == firsts.len() as u64 {
        return Ok(());
    }
    // Mostly for the same event, by another consumer or the ledger.
    let holders = holders(tx, firsts.iter().map(|(sighting, _)| sighting.place()).collect()).await?;
    let is_claimed = |(sighting, _): &(&Sighting, Option<EventId>)| {
        holders.get(&sighting.place()).is_some_and(|holder| holder.event_id == sighting.event_id)
    };
    if firsts.iter().all(is_claimed) {
        return Ok(());
    }
    let why = std::io::Error::other("it has an event with the same key");
    Err(StoreError::Conflict(sqlx::Error::Io(why)))
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
