//! Events of a filter at a glance: how many of the newest have each value, and the ids of the newest alone.

use std::collections::BTreeMap;
use std::time::Duration;

use event::{EventId, Timestamp};
use serde::{Deserialize, Serialize};
use store::many::fetch;
use store::{Connection, List, Page, Row as _, StoreError, id, id_bound};
use utoipa::ToSchema;
use view::Row;

use crate::events::{Chosen, chosen, id_at, ids};
use crate::{EventFilter, EventRow};

/// How many events are counted: as many as a page is read of quickly.
const COUNTED: u32 = 200;

/// The most values of a field that are told.
const MOST_VALUES: usize = 12;

/// How many events of a filter have each value of some fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Facets {
    /// How many events were counted: the newest that fit, at most 200.
    pub counted: usize,
    /// Whether there are older ones, which were not counted.
    pub has_more: bool,
    /// By state, the most frequent first; so are the others.
    pub state: Vec<FacetCount>,
    /// By source.
    pub source: Vec<FacetCount>,
    /// By provider.
    pub provider: Vec<FacetCount>,
    /// By topic: the 12 most frequent.
    pub topic: Vec<FacetCount>,
}

/// How many of the counted events have a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FacetCount {
    /// The value.
    pub value: String,
    /// How many have it.
    pub count: usize,
}

/// Counts the newest events that fit.
pub async fn facets(connection: &mut Connection, filter: &EventFilter) -> Result<Facets, StoreError> {
    let page = EventRow::page(connection, filter, &Page::first(COUNTED)).await?;
    let rows = &page.items;
    Ok(Facets {
        counted: rows.len(),
        has_more: page.next.is_some(),
        state: counts(rows.iter().map(|row| row.state.name())),
        source: counts(rows.iter().map(|row| row.source.as_str())),
        provider: counts(rows.iter().map(|row| row.provider.as_str())),
        topic: counts(rows.iter().map(|row| row.topic.as_str())),
    })
}

fn counts<'a>(values: impl Iterator<Item = &'a str>) -> Vec<FacetCount> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let mut counts: Vec<_> =
        counts.into_iter().map(|(value, count)| FacetCount { value: value.to_owned(), count }).collect();
    counts.sort_by_key(|one| std::cmp::Reverse(one.count));
    counts.truncate(MOST_VALUES);
    counts
}

/// The ids of the newest events that fit, the newest first: what a list that grows is asked for again and again.
pub async fn newest(
    connection: &mut Connection,
    filter: &EventFilter,
    most: u32,
) -> Result<Vec<EventId>, StoreError> {
    let origins = filter.origin().find(connection).await?;
    let subjects = filter.subjects(connection).await?;
    let (text, values) = ids(filter, &origins, &subjects, &Page::first(most));
    let rows = fetch(connection, text, values).await?;
    rows.iter().take(most as usize).map(|row| id(row, 0)).collect()
}

/// Over how long the rate of a topic is measured, in seconds.
const RATE_S: i64 = 600;

/// The most events that it is measured on.
const RATE_EVENTS: u32 = 5_000;

/// How many events of each topic of a provider come in an hour, by those of the last 10 minutes: the newest 5,000 if there are more.
/// Topics of which none came are missing.
pub async fn hourly(
    connection: &mut Connection,
    now: Timestamp,
) -> Result<BTreeMap<(String, String), i64>, StoreError> {
    let since = now - Duration::from_secs(RATE_S.unsigned_abs());
    let text = format!(
        "SELECT o.provider, o.topic, c.id FROM \
         (SELECT e.id, e.origin FROM events e WHERE e.id >= $1 ORDER BY e.id DESC LIMIT {RATE_EVENTS}) c \
         JOIN origins o ON o.id = c.origin"
    );
    let rows = fetch(connection, text, [id_bound(&id_at(since, 0))]).await?;
    let (mut counts, mut oldest) = (BTreeMap::new(), i64::MAX);
    for row in &rows {
        *counts.entry((row.try_get("provider")?, row.try_get("topic")?)).or_insert(0) += 1;
        oldest = oldest.min(i64::try_from(id(row, "id")?.milliseconds() / 1_000).unwrap_or(i64::MAX));
    }
    let is_whole = rows.len() < RATE_EVENTS as usize;
    let seconds = if is_whole { RATE_S } else { (now.as_second() - oldest).clamp(1, RATE_S) };
    for count in counts.values_mut() {
        *count = *count * 3_600 / seconds;
    }
    Ok(counts)
}

/// The next event that fits and is newer than one.
pub async fn next_newer(
    connection: &mut Connection,
    filter: &EventFilter,
    than: EventId,
) -> Result<Option<EventId>, StoreError> {
    let origins = filter.origin().find(connection).await?;
    let subjects = filter.subjects(connection).await?;
    let Chosen { from, id: column, group, conditions } = chosen(filter, &origins, &subjects);
    let (select, key) = (format!("SELECT {column} FROM {from}"), [column]);
    let page = Page { cursor: Some(than.to_string()), ..Page::first(1) };
    let list = List { group, ..List::by_id(&select, &key) }.ascending();
    let (text, values) = list.statement(conditions, &page);
    fetch(connection, text, values).await?.first().map(|row| id(row, 0)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_with_the_most_frequent_first() {
        let found = counts(["b", "a", "b", "c"].into_iter());
        let shown: Vec<_> = found.iter().map(|one| (one.value.as_str(), one.count)).collect();
        assert_eq!(shown, [("b", 2), ("a", 1), ("c", 1)]);
        let many: Vec<_> = (0..20).map(|number| number.to_string()).collect();
        assert_eq!(counts(many.iter().map(String::as_str)).len(), MOST_VALUES);
    }
}
