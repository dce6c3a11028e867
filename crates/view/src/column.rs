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
    /// A state, in the colour of its tone.
    State(Tones),
    /// `yes`, or nothing.
    Flag,
    /// The length of a list.
    Count,
    /// Each name with its state, in the colour of the worst.
    States(Tones),
}

/// What a state means to those who read a list, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// It is as it should be.
    Good,
    /// It is not finished, or somebody is needed.
    Waiting,
    /// It went wrong, or came to nothing.
    Bad,
}

/// The tones of states by their names; another state has none.
pub type Tones = &'static [(&'static str, Tone)];

impl Form {
    /// The tone of a value, if it is a state and has one.
    pub fn tone(self, value: &Value) -> Option<Tone> {
        let tone =
            |tones: Tones, state: &Value| tones.iter().find(|(name, _)| state == name).map(|(_, tone)| *tone);
        match self {
            Self::State(tones) => tone(tones, value),
            Self::States(tones) => value.as_object()?.values().filter_map(|state| tone(tones, state)).max(),
            _ => None,
        }
    }
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
    /// Its place in the order in which columns are left out where they do not all fit, from 1 on; 0 stays.
    pub drop_order: u8,
}

/// A column with this title, which shows this of a row.
pub const fn column<R>(title: &'static str, value: fn(&R) -> Value, form: Form) -> Column<R> {
    Column { title, value, form, drop_order: 0 }
}

/// A column that is left out at this place in the order, where not all columns fit.
pub const fn dropped<R>(drop_order: u8, column: Column<R>) -> Column<R> {
    Column { drop_order, ..column }
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
    /// The place of each column in the order in which they are left out, see [`Column::drop_order`].
    pub drop_orders: Vec<u8>,
    /// Of each row, the value in each column.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// The rows in these columns.
    pub fn new<'a, R: 'a>(columns: &[Column<R>], rows: impl IntoIterator<Item = &'a R>) -> Self {
        let values = |row: &R| columns.iter().map(|column| (column.value)(row)).collect();
        Self {
            columns: columns.iter().map(|column| (column.title, column.form)).collect(),
            drop_orders: columns.iter().map(|column| column.drop_order).collect(),
            rows: rows.into_iter().map(values).collect(),
        }
    }

    /// The columns that are left out where they do not all fit, in this order.
    pub fn droppable(&self) -> Vec<usize> {
        let mut columns: Vec<usize> =
            (0..self.columns.len()).filter(|index| self.drop_orders[*index] > 0).collect();
        columns.sort_by_key(|index| self.drop_orders[*index]);
        columns
    }

    /// The table without these columns.
    pub fn without(self, left_out: &[usize]) -> Self {
        fn kept<T>(all: Vec<T>, left_out: &[usize]) -> Vec<T> {
            let kept = all.into_iter().enumerate().filter(|(index, _)| !left_out.contains(index));
            kept.map(|(_, one)| one).collect()
        }
        Self {
            columns: kept(self.columns, left_out),
            drop_orders: kept(self.drop_orders, left_out),
            rows: self.rows.into_iter().map(|row| kept(row, left_out)).collect(),
        }
    }
}
