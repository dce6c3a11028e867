//! What is wrong with the query of a list.

use serde_urlencoded::de::Error;
use store::Page;
use view::BadParameter;

/// Why a list is not read with a query: each mistake is named with its parameter, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QueryError {
    /// It is no query of a URL.
    #[error("the query cannot be read: {0}")]
    Malformed(Error),
    /// A parameter is there twice.
    #[error("{0}: given twice")]
    Twice(String),
    /// PostgreSQL accepts no NUL in a text.
    #[error("{0}: a NUL character matches nothing")]
    Nul(String),
    /// The list has no such parameter.
    #[error("{name:?} is not a parameter of this list: expected one of {known}")]
    Unknown {
        /// What was given.
        name: String,
        /// What there is.
        known: String,
    },
    /// A parameter of the filter.
    #[error(transparent)]
    Parameter(#[from] BadParameter),
    /// The parameters of the filter together.
    #[error(transparent)]
    Filter(#[from] Error),
    /// The size of the page.
    #[error("limit: expected a number from 1 to {}, got {got:?}", Page::LIMIT)]
    Limit {
        /// What was given.
        got: String,
    },
    /// A form in which all rows are streamed, and a page.
    #[error("format: all rows are streamed; limit and cursor do not go with it")]
    WholeList,
    /// Where the page begins.
    #[error("cursor: expected the `next` of the page before, got {0:?}")]
    Cursor(String),
}
