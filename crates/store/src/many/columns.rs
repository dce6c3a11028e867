//! Rows as columns, for PostgreSQL: each column is one array, so that any number of rows has one text, which stays
//! prepared, and a few parameters instead of thousands.
//!
//! The driver binds texts, numbers and bytes. So an array of numbers travels as its literal, a column of texts as one text that
//! PostgreSQL splits, and a column of bytes as all its bytes in a row, with the place and the length of each. The literal of an
//! array of texts would take three times as long to read.

use std::collections::HashSet;
use std::fmt::Write;

use super::{Value, Values};

/// `SELECT … FROM …`, which gives the rows in their order, and its parameters, the first of which has this number. Each column has
/// one kind of value.
pub(super) fn select(first: usize, rows: Vec<Values>) -> (String, Vec<Value>) {
    let kinds: Vec<Kind> = rows.first().map(|row| row.iter().map(Kind::from).collect()).unwrap_or_default();
    let marks = Marks::unused(&rows);
    let mut columns: Vec<Column> = kinds.iter().map(|_| Column::default()).collect();
    for row in rows {
        for (value, column) in row.into_iter().zip(&mut columns) {
            column.push(value, &marks);
        }
    }
    let (mut shown, mut arrays) = (Vec::new(), Vec::new());
    let mut parameters = vec![Value::from(&marks.next), Value::from(&marks.null)];
    for (at, (kind, column)) in (1..).zip(kinds.into_iter().zip(columns)) {
        let mut array = |kind: &str, name: String, literal: String| {
            parameters.push(Value::from(literal + "}"));
            arrays.push(format!("unnest(${}::text::{kind}[]) AS {name}", first + parameters.len() - 1));
        };
        match kind {
            Kind::Text => {
                parameters.push(Value::from(column.literal));
                let [next, null, text] = [first, first + 1, first + parameters.len() - 1];
                // What is before the first mark is no value.
                arrays.push(format!(
                    "unnest((string_to_array(${text}::text, ${next}::text, ${null}::text))[2:]) AS column{at}"
                ));
                shown.push(format!("column{at}"));
            }
            Kind::Long => {
                array("bigint", format!("column{at}"), column.literal);
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

/// Two characters that no text has: what is before each text of a column, and what stands for NULL.
struct Marks {
    next: char,
    null: char,
}

impl Marks {
    fn unused(rows: &[Values]) -> Self {
        let texts = || {
            rows.iter().flatten().filter_map(|value| match value {
                Value::Text(Some(text)) => Some(text.as_str()),
                Value::Text(None) | Value::Long(_) | Value::Bytes(_) | Value::Id(_) => None,
            })
        };
        // A text with control characters is rare.
        let used: HashSet<char> = match texts().any(|text| text.bytes().any(|byte| byte <= 2)) {
            true => texts().flat_map(str::chars).collect(),
            false => HashSet::new(),
        };
        let mut unused = ('\u{1}'..).filter(|mark| !used.contains(mark));
        let mut next = || unused.next().expect("no batch of texts has every character");
        Self { next: next(), null: next() }
    }
}

/// The values of a column: of texts, each after a mark, of numbers an array literal without its end, and of bytes the same with
/// their places and lengths.
#[derive(Default)]
struct Column {
    literal: String,
    lengths: String,
    bytes: Vec<u8>,
}

impl Column {
    fn push(&mut self, value: Value, marks: &Marks) {
        let Self { literal, lengths, .. } = self;
        if matches!(value, Value::Text(_)) {
            literal.push(marks.next);
        } else {
            for array in [&mut *literal, lengths] {
                array.push(if array.is_empty() { '{' } else { ',' });
            }
        }
        match value {
            Value::Text(Some(text)) => literal.push_str(&text),
            Value::Text(None) => literal.push(marks.null),
            Value::Long(Some(number)) => push(literal, number),
            Value::Bytes(Some(value)) => self.push_bytes(&value),
            Value::Id(id) => self.push_bytes(id.as_bytes()),
            Value::Long(None) => literal.push_str("NULL"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_is_one_parameter_and_bytes_are_one_after_the_other() {
        let rows = vec![
            vec![Value::from(r#"a "b" \ {,}"#.to_owned()), Value::from(-7), Value::from(b"xyz".to_vec())],
            vec![Value::Text(None), Value::Long(None), Value::Bytes(None)],
            vec![Value::from(String::new()), Value::from(8), Value::from(b"!".to_vec())],
        ];
        let (text, parameters) = select(2, rows);
        assert_eq!(
            text,
            "SELECT column1, column2, substring($8::bytea from place3 for length3) AS column3 FROM \
             (SELECT unnest((string_to_array($4::text, $2::text, $3::text))[2:]) AS column1, \
             unnest($5::text::bigint[]) AS column2, unnest($6::text::int[]) AS place3, \
             unnest($7::text::int[]) AS length3) AS arrays"
        );
        let parameter = |text: &str| Value::from(text.to_owned());
        assert_eq!(
            parameters,
            [
                parameter("\u{1}"),
                parameter("\u{2}"),
                parameter("\u{1}a \"b\" \\ {,}\u{1}\u{2}\u{1}"),
                parameter("{-7,NULL,8}"),
                parameter("{1,NULL,4}"),
                parameter("{3,NULL,1}"),
                Value::from(b"xyz!".to_vec()),
            ]
        );
    }

    #[test]
    fn a_mark_is_in_no_text() {
        let texts = ["a\u{1}", "\u{3}\u{4}"].map(|text| vec![Value::from(text.to_owned())]);
        let (_, parameters) = select(1, texts.to_vec());
        let parameter = |text: &str| Value::from(text.to_owned());
        assert_eq!(
            parameters,
            [parameter("\u{2}"), parameter("\u{5}"), parameter("\u{2}a\u{1}\u{2}\u{3}\u{4}")]
        );
    }
}
