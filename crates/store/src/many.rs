//! Many rows to a statement: what a batch of events writes costs few round trips, and few texts stay prepared.

use std::collections::BTreeMap;

use event::{EventId, Timestamp};
use sqlx::any::AnyRow;

use crate::{Connection, StoreError, sql};

/// A value to bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `TEXT`.
    Text(Option<String>),
    /// `BIGINT`.
    Long(Option<i64>),
    /// `BLOB`, `bytea`; an id is one of 16 bytes.
    Bytes(Option<Vec<u8>>),
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
        Self::Bytes(Some(bytes))
    }
}

/// An id as it is stored. A reference to one is its text, as every other that can be displayed.
impl From<EventId> for Value {
    fn from(id: EventId) -> Self {
        id.as_bytes().to_vec().into()
    }
}

impl From<Option<EventId>> for Value {
    fn from(id: Option<EventId>) -> Self {
        Self::Bytes(id.map(|id| id.as_bytes().to_vec()))
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
pub async fn fetch(
    connection: &mut Connection,
    text: String,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<AnyRow>, StoreError> {
    let mut query = sql::assembled(text);
    for value in values {
        query = match value {
            Value::Text(text) => query.bind(text),
            Value::Long(number) => query.bind(number),
            Value::Bytes(bytes) => query.bind(bytes),
        };
    }
    Ok(query.fetch_all(connection).await?)
}

/// Inserts rows with few statements: `INSERT INTO <into> VALUES … <tail>`. Gives the rows of a `RETURNING` tail.
///
/// With an `ON CONFLICT … DO UPDATE` tail no two rows may have the same key: see [`rounds`].
pub async fn insert(
    connection: &mut Connection,
    into: &'static str,
    tail: &str,
    rows: Vec<Values>,
) -> Result<Vec<AnyRow>, StoreError> {
    let columns = rows.first().map_or(0, Vec::len);
    let lengths: Vec<usize> = chunks(&rows).map(<[Values]>::len).collect();
    let (mut rows, mut returned) = (rows.into_iter(), Vec::new());
    for length in lengths {
        let values = match connection.backend_name() {
            // SQLite looks through all names of parameters for the name of each.
            "SQLite" => sql::nameless_rows(length, columns),
            _ => sql::rows(length, columns),
        };
        let text = format!("INSERT INTO {into} VALUES {values} {tail}");
        returned.extend(fetch(connection, text, rows.by_ref().take(length).flatten()).await?);
    }
    Ok(returned)
}

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

#[cfg(test)]
mod tests {
    use super::*;

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
