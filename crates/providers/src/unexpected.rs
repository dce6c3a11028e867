//! A value of another kind than its field holds.

use std::borrow::Cow;

/// What was expected, and what kind of value of which length was found in its place; never the text of the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got}")]
pub struct Unexpected {
    /// What the field holds.
    pub(crate) expected: Cow<'static, str>,
    /// What was found.
    pub(crate) got: String,
}
