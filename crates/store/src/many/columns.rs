//! Rows as columns, for PostgreSQL: each column is one array, so that any number of rows has one text, which stays
//! prepared, and a few parameters instead of thousands.
//!
//! The driver binds texts, numbers and bytes. So an array travels as its literal, and a column of bytes as all its bytes
//! in a row, with the place and the length of each.

use std::fmt::Write;

use super::{Value, Values};

/// `SELECT … FROM …`, which gives the rows in their order, and its parameters, the first of which has this number. Each column has
/// one kind of value.
pub(super) fn select(first: usize, rows: Vec<Values>) -> (String, Vec<Value>) {
    let kinds: Vec<Kind> = rows.first().map(|row| row.iter().map(Kind::from).collect()).unwrap_or_default();
    let mut columns: Vec<Column> = kinds.iter().map(|_| Column::default()).collect();
    for row in rows {
        for (value, column) in row.into_iter().zip(&mut columns) {
            column.push(value);
        }
    }
    let (mut shown, mut arrays, mut parameters) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (kind, column)) in (1..).zip(kinds.into_iter().zip(columns)) {
        let mut array = |kind: &str, name: String, literal: String| {
            parameters.push(Value::from(literal + "}"));
            arrays.push(format!("unnest(${}::text::{kind}[]) AS {name}", first + parameters.len() - 1));
        };
        match kind {
            Kind::Text | Kind::Long => {
                let kind = if matches!(kind, Kind::Text) { "text" } else { "bigint" };
                array(kind, format!("column{at}"), column.literal);
                shown.push(format!("column{at}"));
            }
            Kind::Bytes => {
                array("int", format!("place{at}"), column.literal);
                array("int", format!("length{at}"), column.lengths);
                parameters.push(Value::from(column.bytes));
                let bytes = first + parameters.len() - 1;
                shown.push(format!("substring(${bytes}::bytea from place{at} for length{at}) AS column{at}"));
            }
        }
    }
    let (shown, arrays) = (shown.join(", "), arrays.join(", "));
    (format!("SELECT {shown} FROM (SELECT {arrays}) AS arrays"), parameters)
}

enum Kind {
    Text,
    Long,
    Bytes,
}

impl From<&Value> for Kind {
    fn from(value: &Value) -> Self {
        match value {
            Value::Text(_) => Self::Text,
            Value::Long(_) => Self::Long,
            Value::Bytes(_) | Value::Id(_) => Self::Bytes,
        }
    }
}

/// The values of a column, as array literals without their ends. Of bytes, these are their places and lengths.
#[derive(Default)]
struct Column {
    literal: String,
    lengths: String,
    bytes: Vec<u8>,
}

impl Column {
    fn push(&mut self, value: Value) {
        let Self { literal, lengths, .. } = self;
        for array in [&mut *literal, lengths] {
            array.push(if array.is_empty() { '{' } else { ',' });
        }
        match value {
            Value::Text(Some(text)) => quote(literal, &text),
            Value::Long(Some(number)) => push(literal, number),
            Value::Bytes(Some(value)) => self.push_bytes(&value),
            Value::Id(id) => self.push_bytes(id.as_bytes()),
            Value::Text(None) | Value::Long(None) => literal.push_str("NULL"),
            Value::Bytes(None) => {
                literal.push_str("NULL");
                lengths.push_str("NULL");
            }
        }
    }

    fn push_bytes(&mut self, value: &[u8]) {
        push(&mut self.literal, self.bytes.len() + 1);
        push(&mut self.lengths, value.len());
        self.bytes.extend_from_slice(value);
    }
}

fn push(array: &mut String, number: impl std::fmt::Display) {
    write!(array, "{number}").expect("a string takes every write");
}

/// An element of an array literal (PostgreSQL, "Array Input and Output Syntax").
fn quote(array: &mut String, text: &str) {
    array.push('"');
    for part in text.split_inclusive(['"', '\\']) {
        match part.strip_suffix(['"', '\\']) {
            Some(plain) => {
                array.push_str(plain);
                array.push('\\');
                array.push_str(&part[plain.len()..]);
            }
            None => array.push_str(part),
        }
    }
    array.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_is_one_array_and_bytes_are_one_after_the_other() {
        let rows = vec![
            vec![Value::from(r#"a "b" \ {,}"#.to_owned()), Value::from(-7), Value::from(b"xyz".to_vec())],
            vec![Value::Text(None), Value::Long(None), Value::Bytes(None)],
            vec![Value::from(String::new()), Value::from(8), Value::from(b"!".to_vec())],
        ];
        let (text, parameters) = select(2, rows);
        assert_eq!(
            text,
            "SELECT column1, column2, substring($6::bytea from place3 for length3) AS column3 FROM \
             (SELECT unnest($2::text::text[]) AS column1, unnest($3::text::bigint[]) AS column2, \
             unnest($4::text::int[]) AS place3, unnest($5::text::int[]) AS length3) AS arrays"
        );
        let literal = |text: &str| Value::from(text.to_owned());
        assert_eq!(
            parameters,
            [
                literal(r#"{"a \"b\" \\ {,}",NULL,""}"#),
                literal("{-7,NULL,8}"),
                literal("{1,NULL,4}"),
                literal("{3,NULL,1}"),
                Value::from(b"xyz!".to_vec()),
            ]
        );
    }
}
