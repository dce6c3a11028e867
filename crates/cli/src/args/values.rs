//! Values of options as the command line takes them: counts, points in time, filters.

use std::str::FromStr;

pub use view::Moment;
use view::NotAMoment;

/// Why a value of an option cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// Not a count.
    #[error("expected a whole number of at least 1")]
    Count,
    /// Not a filter.
    #[error("expected FIELD=VALUE")]
    Filter,
}

/// A count that is not 0.
pub fn at_least_one<N: FromStr + From<u8> + PartialOrd>(text: &str) -> Result<N, BadValue> {
    text.parse().ok().filter(|number| *number >= N::from(1)).ok_or(BadValue::Count)
}

/// A moment, as [`Moment`] reads it.
pub fn moment(text: &str) -> Result<Moment, NotAMoment> {
    text.parse()
}

/// A field of a list and the value that its rows have there.
pub fn filter(text: &str) -> Result<(String, String), BadValue> {
    let (field, value) = text.split_once('=').ok_or(BadValue::Filter)?;
    Ok((field.to_owned(), value.to_owned()))
}
