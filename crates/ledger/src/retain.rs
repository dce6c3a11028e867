//! Retention: what is settled and older than its source's days leaves the record, in small steps beside the work.
//!
//! An event that a consumer still owes its effect, and one with an open dead letter, stays until that is done: first it is
//! handled or discarded, then it is old. The tables of the domains are theirs and stay as they are.

use std::collections::BTreeMap;

use event::{SourceName, Timestamp};
use serde::Deserialize;
use store::many::{Value, chunks, fetch};
use store::{Row, Store, StoreError};
use tokio::time::{Instant, sleep};

use crate::events::{NOT_DEAD, id_at, none_pending};

const DAY_S: i64 = 24 * 60 * 60;

/// How many rows leave in one transaction.
const STEP: i64 = 256;

/// How long what came in is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// In days; 0 is for ever.
    pub keep_days: u32,
    /// The same for single sources.
    #[serde(skip)]
    pub sources: BTreeMap<SourceName, u32>,
}

impl Retention {
    /// Up to when the source's events are old: the beginning of a day (UTC), so that the books of a day are there or gone
    /// as a whole.
    fn until(&self, source: &str, now: Timestamp) -> Option<Timestamp> {
        let own = self.sources.iter().find(|(name, _)| name.as_str() == source);
        let days = own.map_or(self.keep_days, |(_, days)| *days);
        let today = now.as_second().div_euclid(DAY_S);
        (days > 0)
            .then(|| Timestamp::from_second((today - i64::from(days)) * DAY_S).unwrap_or(Timestamp::MIN))
    }
}

/// Deletes what is old and settled. Gives the number of events and rejected bodies that are gone. It takes half of the time
/// at most, so that others write, too.
pub async fn retain(store: &Store, retention: &Retention, now: Timestamp) -> Result<u64, StoreError> {
    let mut gone = 0;
    for source in sources(store, "event").await? {
        if let Some(until) = retention.until(&source, now) {
            gone += events(store, &source, until).await?;
            // The books of days that are gone altogether.
            let day: String = until.to_string().chars().take(10).collect();
            let mut tx = store.begin().await?;
            let text = "DELETE FROM tally WHERE source = $1 AND day < $2".to_owned();
            fetch(&mut tx, text, [Value::from(&source), day.into()]).await?;
            tx.commit().await.map_err(StoreError::from)?;
        }
    }
    for source in sources(store, "rejected").await? {
        if let Some(until) = retention.until(&source, now) {
            gone += rejected(store, &source, until).await?;
        }
    }
    Ok(gone)
}

/// The sources that a table has rows of, found in its index by one step each.
async fn sources(store: &Store, table: &str) -> Result<Vec<String>, StoreError> {
    let text = format!(
        "WITH RECURSIVE found(name) AS (SELECT min(source) FROM {table} UNION ALL \
         SELECT (SELECT min(source) FROM {table} WHERE source > found.name) FROM found \
         WHERE found.name IS NOT NULL) SELECT name FROM found WHERE name IS NOT NULL"
    );
    let rows = fetch(&mut *store.read().await?, text, []).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

async fn events(store: &Store, source: &str, until: Timestamp) -> Result<u64, StoreError> {
    let find = format!(
        "SELECT e.id FROM event e WHERE e.source = $1 AND e.id > $2 AND e.id < $3 AND {} AND {NOT_DEAD} \
         ORDER BY e.id LIMIT $4",
        none_pending()
    );
    let tables = [
        ("inbox", "event_id"),
        ("retry", "message_id"),
        ("unsettled", "event_id"),
        ("dead_letter", "event_id"),
        ("unrouted", "event_id"),
        ("event", "id"),
    ];
    delete(store, find, source, until, &tables).await
}

async fn rejected(store: &Store, source: &str, until: Timestamp) -> Result<u64, StoreError> {
    let find = "SELECT id FROM rejected WHERE source = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4";
    delete(store, find.to_owned(), source, until, &[("retry", "message_id"), ("rejected", "id")]).await
}

/// Deletes what `find` finds, from each table.
async fn delete(
    store: &Store,
    find: String,
    source: &str,
    until: Timestamp,
    tables: &[(&str, &str)],
) -> Result<u64, StoreError> {
    let (mut gone, mut last) = (0, String::new());
    loop {
        let begun = Instant::now();
        let values = [source.into(), (&last).into(), id_at(until, 0).into(), STEP.into()];
        let rows = fetch(&mut *store.read().await?, find.clone(), values).await?;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        let Some(greatest) = ids.last() else { return Ok(gone) };
        let mut tx = store.begin().await?;
        for (table, id) in tables {
            for chunk in chunks(&ids) {
                let list = store::sql::list(1, chunk.len());
                let text = format!("DELETE FROM {table} WHERE {id} IN ({list})");
                fetch(&mut tx, text, chunk.iter().map(Value::from)).await?;
            }
        }
        tx.commit().await.map_err(StoreError::from)?;
        gone += ids.len() as u64;
        last.clone_from(greatest);
        sleep(begun.elapsed()).await;
    }
}
