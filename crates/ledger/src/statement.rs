//! Statements with values of mixed types: conditions that are put together, rows that are inserted many at a time.

use event::Timestamp;
use store::{AnyRow, Connection, DriverError, Row, StoreError, sql};

/// A value to bind.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Option<String>),
    Long(i64),
    Bytes(Vec<u8>),
}

impl<T: std::fmt::Display> From<&T> for Value {
    fn from(value: &T) -> Self {
        Self::Text(Some(value.to_string()))
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Long(time.as_microsecond())
    }
}

/// Runs a statement and gives its rows.
pub(crate) async fn fetch(
    connection: &mut Connection,
    text: String,
    values: Vec<Value>,
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
pub(crate) async fn insert(
    connection: &mut Connection,
    into: &'static str,
    tail: &'static str,
    rows: &[Vec<Value>],
) -> Result<Vec<AnyRow>, StoreError> {
    let mut returned = Vec::new();
    for chunk in chunks(rows) {
        let values = sql::rows(chunk.len(), chunk[0].len());
        let text = format!("INSERT INTO {into} VALUES {values} {tail}");
        returned.extend(fetch(connection, text, chunk.concat()).await?);
    }
    Ok(returned)
}

/// Slices of 64, 32, 16, 8, 4, 2 and 1: only so many texts of one statement, so that each stays prepared.
pub(crate) fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    const LONGEST: usize = 64;
    std::iter::from_fn(move || {
        let power = rows.len().min(LONGEST).checked_ilog2()?;
        let (chunk, rest) = rows.split_at(1 << power);
        rows = rest;
        Some(chunk)
    })
}

/// Conditions joined by `AND`, and the values they name.
#[derive(Default)]
pub(crate) struct Conditions {
    texts: Vec<String>,
    pub(crate) values: Vec<Value>,
}

impl Conditions {
    /// A condition without a value.
    pub(crate) fn add(&mut self, text: impl Into<String>) {
        self.texts.push(text.into());
    }

    /// A condition that ends with a value, if there is one: `source =`.
    pub(crate) fn with(&mut self, text: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            let parameter = self.bind(value.into());
            self.add(format!("{text} {parameter}"));
        }
    }

    /// The parameter of a value that is used outside the conditions, or as a part of one.
    pub(crate) fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// The tail of a statement: nothing, or `WHERE …`.
    pub(crate) fn clause(&self) -> String {
        match self.texts.as_slice() {
            [] => String::new(),
            texts => format!("WHERE {}", texts.join(" AND ")),
        }
    }
}

/// A column of microseconds.
pub(crate) fn time(row: &AnyRow, column: &str) -> Result<Timestamp, StoreError> {
    let microseconds: i64 = row.try_get(column)?;
    Timestamp::from_microsecond(microseconds)
        .map_err(|error| DriverError::ColumnDecode { index: column.to_owned(), source: error.into() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_powers_of_two_and_cover_all_in_order() {
        let rows: Vec<usize> = (0..107).collect();
        assert_eq!(chunks(&rows).map(<[usize]>::len).collect::<Vec<_>>(), [64, 32, 8, 2, 1]);
        assert_eq!(chunks(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        assert_eq!(chunks::<usize>(&[]).count(), 0);
    }

    #[test]
    fn conditions_number_their_values_through() {
        let mut conditions = Conditions::default();
        assert_eq!(conditions.clause(), "");
        conditions.with("source =", Some(&"a"));
        conditions.with("topic =", None::<&String>);
        conditions.add("1 = 1");
        conditions.with("id <", Some(&"b"));
        assert_eq!(conditions.clause(), "WHERE source = $1 AND 1 = 1 AND id < $2");
        assert_eq!(conditions.bind(Value::Long(5)), "$3");
    }
}
