//! The columns of a list for display.

use serde::Serialize;
use serde_json::Value;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Text,
    /// As it is, never truncated: it is meant to be copied.
    Id,
    /// A whole number, aligned right.
    Number,
    /// Centavos as `460.20`; a missing value as `–`.
    Money,
    /// RFC 3339 as `2026-11-22 16:01:34Z`.
    Time,
    /// CPF or CNPJ with its punctuation.
    TaxId,
    /// A state, in its colour.
    State,
    /// `yes`, or nothing.
    Flag,
    /// The length of a list.
    Count,
    /// Each name with its state.
    States,
    /// The measurements of an eye: sphere, cylinder × axis, addition.
    Eye,
}

/// A column of rows of a type: its title, what it shows of a row, and in which form.
#[derive(Debug)]
pub struct Column<R> {
    /// Its title.
    pub title: &'static str,
    /// What it shows of a row.
    pub value: fn(&R) -> Value,
    /// How its values are written.
    pub form: Form,
}

/// A column with this title, which shows this of a row.
pub const fn column<R>(title: &'static str, value: fn(&R) -> Value, form: Form) -> Column<R> {
    Column { title, value, form }
}

/// A part of a row as a column shows it.
pub fn shown(part: &impl Serialize) -> Value {
    serde_json::to_value(part).expect("a part of a row is JSON")
}

/// Rows as a person sees them, without their type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The title of each column, and how its values are written.
    pub columns: Vec<(&'static str, Form)>,
    /// Of each row, the value in each column.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// The rows in these columns.
    pub fn new<'a, R: 'a>(columns: &[Column<R>], rows: impl IntoIterator<Item = &'a R>) -> Self {
        let values = |row: &R| columns.iter().map(|column| (column.value)(row)).collect();
        Self {
            columns: columns.iter().map(|column| (column.title, column.form)).collect(),
            rows: rows.into_iter().map(values).collect(),
        }
    }
}
