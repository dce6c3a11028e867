//! Conditions that are put together, with values of mixed types.

use event::Timestamp;
use store::many::Value;
use store::{AnyRow, DriverError, Row, StoreError};

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

/// A column of microseconds that may be empty.
pub(crate) fn optional_time(row: &AnyRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    let microseconds: Option<i64> = row.try_get(column)?;
    microseconds.map(|_| time(row, column)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_number_their_values_through() {
        let mut conditions = Conditions::default();
        assert_eq!(conditions.clause(), "");
        conditions.with("source =", Some(&"a"));
        conditions.with("topic =", None::<&String>);
        conditions.add("1 = 1");
        conditions.with("id <", Some(&"b"));
        assert_eq!(conditions.clause(), "WHERE source = $1 AND 1 = 1 AND id < $2");
        assert_eq!(conditions.bind(5.into()), "$3");
    }
}
