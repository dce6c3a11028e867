//! Many rows to a statement: what a batch of events writes costs few round trips, and few texts stay prepared.

mod columns;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use event::{EventId, Timestamp};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Arguments, Either, Executor};

use crate::{BoxFuture, Connection, Dialect, StoreError, sql};

/// A value to bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `TEXT`.
    Text(Option<String>),
    /// `BIGINT`.
    Long(Option<i64>),
    /// `BLOB`, `bytea`.
    Bytes(Option<Bytes>),
    /// The same: the 16 bytes of an id.
    Id(EventId),
}

impl<T: std::fmt::Display + ?Sized> From<&T> for Value {
    fn from(value: &T) -> Self {
        Self::Text(Some(value.to_string()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Long(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Long(number)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(bytes.into()))
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(Some(bytes))
    }
}

/// An id as it is stored. A reference to one is its text, as every other that can be displayed.
impl From<EventId> for Value {
    fn from(id: EventId) -> Self {
        Self::Id(id)
    }
}

impl From<Option<EventId>> for Value {
    fn from(id: Option<EventId>) -> Self {
        id.map_or(Self::Bytes(None), Self::Id)
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        time.as_microsecond().into()
    }
}

/// A row to insert.
pub type Values = Vec<Value>;

/// Runs a statement with these values, and gives its rows.
pub fn fetch(
    connection: &mut Connection,
    text: String,
    values: impl IntoIterator<Item = Value>,
) -> BoxFuture<'_, Result<Vec<AnyRow>, StoreError>> {
    fetch_bound(connection, text, arguments(values.into_iter(), 0), true)
}

fn fetch_bound(
    connection: &mut Connection,
    text: String,
    arguments: Result<AnyArguments, StoreError>,
    stays_prepared: bool,
) -> BoxFuture<'_, Result<Vec<AnyRow>, StoreError>> {
    Box::pin(async move {
        let query = sql::assembled_with(text, arguments?).persistent(stays_prepared);
        match is_sqlite(connection) {
            true => fetch_sqlite(connection, query).await,
            false => Ok(query.fetch_all(connection).await?),
        }
    })
}

/// Runs one statement on SQLite, whose thread hands over one row after the other, within microseconds. Where many come, this
/// waits until some are there instead of being woken for each, which costs more than a row.
async fn fetch_sqlite(
    connection: &mut Connection,
    query: Query<'_, Any, AnyArguments>,
) -> Result<Vec<AnyRow>, StoreError> {
    let mut answers = connection.fetch_many(query);
    let (mut rows, mut waited_at) = (Vec::new(), MANY);
    poll_fn(|context| {
        loop {
            match answers.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(Either::Right(row)))) => rows.push(row),
                // The statement is done.
                Poll::Ready(Some(Ok(Either::Left(_))) | None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Pending if rows.len() > waited_at => {
                    waited_at = rows.len();
                    std::thread::sleep(GATHER);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await?;
    Ok(rows)
}

/// More rows than this are many.
const MANY: usize = 8;

/// How long it waits: with what the system adds to it, about as long as the rows take that the driver keeps ready.
const GATHER: Duration = Duration::from_micros(50);

/// At least so many values are expected. Binding them to a query one after the other would move the query each time.
fn arguments(values: impl Iterator<Item = Value>, expected: usize) -> Result<AnyArguments, StoreError> {
    let mut arguments = AnyArguments::default();
    arguments.reserve(expected.max(values.size_hint().0), 0);
    for value in values {
        match value {
            // The driver copies what is in an `Option`.
            Value::Text(Some(text)) => arguments.add(text),
            Value::Text(None) => arguments.add(None::<String>),
            Value::Long(number) => arguments.add(number),
            Value::Bytes(Some(bytes)) => arguments.add(bytes.as_ref()),
            Value::Bytes(None) => arguments.add(None::<Vec<u8>>),
            Value::Id(id) => arguments.add(id.as_bytes().as_slice()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Inserts rows with few statements: `INSERT INTO <into> … <tail>`. Gives the rows of a `RETURNING` tail.
///
/// With an `ON CONFLICT … DO UPDATE` tail no two rows may have the same key: see [`rounds`].
pub fn insert<'a>(
    connection: &'a mut Connection,
    into: &'static str,
    tail: &'a str,
    rows: Vec<Values>,
) -> BoxFuture<'a, Result<Vec<AnyRow>, StoreError>> {
    Box::pin(async move {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        if !is_sqlite(connection) {
            let (select, values) = given(rows);
            return fetch(connection, format!("INSERT INTO {into} {select} {tail}"), values).await;
        }
        fetch_parts(connection, |given| format!("INSERT INTO {into} {given} {tail}"), &[], rows).await
    })
}

/// Inserts rows into PostgreSQL as [`insert`] does, and gives their number.
pub(crate) async fn insert_counted(
    connection: &mut Connection,
    into: &'static str,
    tail: &str,
    rows: Vec<Values>,
) -> Result<u64, StoreError> {
    let (given, values) = given(rows);
    let text = format!("INSERT INTO {into} {given} {tail}");
    let query = sql::assembled_with(text, arguments(values.into_iter(), 0)?);
    Ok(query.execute(connection).await?.rows_affected())
}

/// A subquery that gives these rows, for PostgreSQL, and its parameters.
pub(crate) fn given(rows: Vec<Values>) -> (String, Vec<Value>) {
    columns::select(1, rows)
}

pub(crate) fn is_sqlite(connection: &Connection) -> bool {
    Dialect::from_connection(connection) == Dialect::Sqlite
}

/// Runs a statement about rows that are given to it, and gives what it returns; on SQLite a few times, with a part of the rows each.
///
/// `text` is the statement around a subquery that gives these rows, with the columns `column1`, `column2` and so on:
/// `(event_id, consumer) IN ({given})`. It has no other parameters.
///
/// PostgreSQL plans it each time, for the tables as they are. The plan of a statement that stays prepared is kept: one from when
/// a table was empty would read all of it each time while a backlog fills it, until autovacuum has analysed it.
pub async fn fetch_given(
    connection: &mut Connection,
    text: impl Fn(&str) -> String,
    given: Vec<Values>,
) -> Result<Vec<AnyRow>, StoreError> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    if is_sqlite(connection) {
        return fetch_parts(connection, text, &[], given).await;
    }
    let (select, values) = columns::select(1, given);
    fetch_bound(connection, text(&select), arguments(values.into_iter(), 0), false).await
}

/// The same on SQLite, where `text` has other parameters, too: `?`, before the subquery.
///
/// Each part is one statement, however many rows are left for it: a batch waits for few answers of SQLite's thread. That works
/// on one part while the values of the next are bound here.
pub(crate) async fn fetch_parts(
    connection: &mut Connection,
    text: impl Fn(&str) -> String,
    others: &[Value],
    rows: Vec<Values>,
) -> Result<Vec<AnyRow>, StoreError> {
    let columns = rows.first().map_or(0, Vec::len);
    let mut rows = rows.into_iter();
    let mut part = || {
        let length = rows.len().min(LONG);
        if length == 0 {
            return None;
        }
        let places = if length <= SHORT { SHORT } else { LONG };
        let values = format!("VALUES {}", sql::nameless_rows(places, columns));
        let (given, limit) = match length {
            LONG => (values, None),
            // Parameters without an argument are NULL.
            _ => (
                format!(
                    "WITH given (length) AS (SELECT ?) SELECT * FROM ({values}) LIMIT (SELECT length FROM given)"
                ),
                Some(Value::from(length as i64)),
            ),
        };
        let values = others.iter().cloned().chain(limit).chain(rows.by_ref().take(length).flatten());
        let arguments = arguments(values, others.len() + 1 + length * columns);
        Some(arguments.map(|arguments| sql::assembled_with(text(&given), arguments)))
    };
    let (mut returned, mut next) = (Vec::new(), part());
    while let Some(statement) = next {
        let fetched;
        (fetched, next) = tokio::join!(fetch_sqlite(&mut *connection, statement?), async { part() });
        returned.extend(fetched?);
    }
    Ok(returned)
}

/// The rows of a statement on SQLite: up to one or the other, so that few texts stay prepared.
const SHORT: usize = 16;
const LONG: usize = 256;

/// Slices of 256, 64, 16, 4 and 1: only so many texts of one statement, so that each stays prepared.
pub fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    const LENGTHS: [usize; 5] = [256, 64, 16, 4, 1];
    std::iter::from_fn(move || {
        let length = LENGTHS.into_iter().find(|length| *length <= rows.len())?;
        let (chunk, rest) = rows.split_at(length);
        rows = rest;
        Some(chunk)
    })
}

/// Parts what is to be written so that no part has two of the same key, which one statement may not write. Each part is
/// sorted by key, so that two transactions with the same keys wait for each other in one order only; what has the same key
/// keeps its order.
pub fn rounds<K: Ord, T>(rows: impl IntoIterator<Item = (K, T)>) -> Vec<Vec<T>> {
    let mut by_key: BTreeMap<K, Vec<T>> = BTreeMap::new();
    for (key, row) in rows {
        by_key.entry(key).or_default().push(row);
    }
    let mut rounds: Vec<Vec<T>> = Vec::new();
    for rows in by_key.into_values() {
        for (round, row) in rows.into_iter().enumerate() {
            match rounds.get_mut(round) {
                Some(round) => round.push(row),
                None => rounds.push(vec![row]),
            }
        }
    }
    rounds
}

/// Merges what has the same key, in the order given, so that one statement writes it. Sorted by key, as [`rounds`].
pub fn merged<K: Ord, T>(rows: impl IntoIterator<Item = (K, T)>, merge: impl Fn(&mut T, T)) -> Vec<(K, T)> {
    let mut by_key: BTreeMap<K, T> = BTreeMap::new();
    for (key, row) in rows {
        match by_key.entry(key) {
            Entry::Occupied(mut known) => merge(known.get_mut(), row),
            Entry::Vacant(place) => {
                place.insert(row);
            }
        }
    }
    by_key.into_iter().collect()
}

/// The assignments of an upsert that keep the newest statement about something: `columns` are set, with the `order` that
/// decides, if the order of the new row is greater than that of the row in the table.
pub fn newest(table: &str, columns: &[&str], order: &[&str]) -> String {
    let list = |columns: &[&str], prefix: &str| {
        columns.iter().map(|column| format!("{prefix}{column}")).collect::<Vec<_>>().join(", ")
    };
    let all = [columns, order].concat();
    let either =
        all.iter().map(|column| format!("CASE WHEN newer THEN excluded.{column} ELSE {table}.{column} END"));
    format!(
        "({}) = (SELECT {} FROM (SELECT ({}) > ({}) AS newer) AS compared)",
        list(&all, ""),
        either.collect::<Vec<_>>().join(", "),
        list(order, "excluded."),
        list(order, &format!("{table}."))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_statement_is_kept_with_its_order() {
        assert_eq!(
            newest("t", &["a"], &["at", "id"]),
            "(a, at, id) = (SELECT CASE WHEN newer THEN excluded.a ELSE t.a END, \
             CASE WHEN newer THEN excluded.at ELSE t.at END, CASE WHEN newer THEN excluded.id ELSE t.id END \
             FROM (SELECT (excluded.at, excluded.id) > (t.at, t.id) AS newer) AS compared)"
        );
    }

    #[test]
    fn what_has_the_same_key_is_merged_in_the_order_given() {
        let rows = [("b", "1"), ("a", "2"), ("b", "3"), ("b", "4")].map(|(key, row)| (key, row.to_owned()));
        let merged = merged(rows, |known, row| known.push_str(&row));
        assert_eq!(merged, [("a", "2".to_owned()), ("b", "134".to_owned())]);
    }

    #[test]
    fn chunks_have_few_lengths_and_cover_all_in_order() {
        let rows: Vec<usize> = (0..343).collect();
        assert_eq!(chunks(&rows).map(<[usize]>::len).collect::<Vec<_>>(), [256, 64, 16, 4, 1, 1, 1]);
        assert_eq!(chunks(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        assert_eq!(chunks::<usize>(&[]).count(), 0);
    }

    #[test]
    fn no_round_has_a_key_twice_and_each_is_sorted() {
        let rows = [("b", 1), ("a", 2), ("b", 3), ("c", 4), ("b", 5)];
        assert_eq!(rounds(rows), [vec![2, 1, 4], vec![3], vec![5]]);
        assert!(rounds::<u8, u8>([]).is_empty());
    }
}
