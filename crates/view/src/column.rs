//! The columns of a list for display.

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

/// A column: its title, its field and its form.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// The field of the row.
    pub field: &'static str,
    /// How its values are written.
    pub form: Form,
}

/// A column with this title of the values in this field.
pub const fn column(title: &'static str, field: &'static str, form: Form) -> Column {
    Column { title, field, form }
}
