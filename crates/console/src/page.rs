//! What a list is asked for, and how it answers: filters, limit and cursor in, a page out.
//!
//! The names of a list's parameters are those of its filter, which is also what the OpenAPI document shows.

use std::collections::BTreeSet;

use axum::extract::{FromRequestParts, Path};
use event::EventId;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use store::Page;
use utoipa::IntoParams;
use view::BadParameter;

use crate::export::Format;
use crate::query_error::QueryError;
use crate::refusal::Refusal;

const DEFAULT_LIMIT: u32 = 50;

/// What every list takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParameters {
    /// The maximum number of rows in the page.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Where the page before ended: its `next`.
    cursor: Option<String>,
    /// Streams every row that fits, in this form; `limit` and `cursor` do not go with it.
    #[param(inline)]
    format: Option<Format>,
}

/// The query of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The filter as given, by parameter.
    pub given: Vec<(String, String)>,
    /// The page.
    pub page: Page,
    /// In which form all rows are wanted, instead of the page.
    pub format: Option<Format>,
}

impl Asked {
    /// Reads the query of a list with these filters, of which `check` says what is wrong with one.
    pub fn parse(
        query: &str,
        filters: &[String],
        check: impl Fn(&str, &str) -> Result<(), BadParameter>,
    ) -> Result<Self, QueryError> {
        let pairs = pairs(query, &[filters, &view::names::<PageParameters>()].concat())?;
        for (name, value) in pairs.iter().filter(|(name, _)| filters.contains(name)) {
            check(name, value)?;
        }
        for (name, value) in pairs.iter().filter(|(name, _)| name == "format") {
            view::check::<PageParameters>(name, value)?;
        }
        let parameters: PageParameters = view::read(&pairs).map_err(|_| bad_limit(&pairs))?;
        if parameters.format.is_some() && (parameters.limit.is_some() || parameters.cursor.is_some()) {
            return Err(QueryError::WholeList);
        }
        let limit = parameters.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=Page::LIMIT).contains(&limit) {
            return Err(bad_limit(&pairs));
        }
        if let Some(cursor) = &parameters.cursor {
            let id = store::cursor::read(cursor, 2).next();
            if id.is_none_or(|id| id.parse::<EventId>().is_err()) {
                return Err(QueryError::Cursor(cursor.clone()));
            }
        }
        let given = pairs.into_iter().filter(|(name, _)| filters.contains(name)).collect();
        let page = Page { limit, cursor: parameters.cursor };
        Ok(Self { given, page, format: parameters.format })
    }
}

/// The parameters of a query, each of them known and given once.
pub(crate) fn pairs(query: &str, known: &[String]) -> Result<Vec<(String, String)>, QueryError> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).map_err(QueryError::Malformed)?;
    let mut seen = BTreeSet::new();
    for (name, value) in &pairs {
        if !seen.insert(name) {
            return Err(QueryError::Twice(name.clone()));
        }
        if value.contains('\0') {
            return Err(QueryError::Nul(name.clone()));
        }
        if !known.contains(name) {
            return Err(QueryError::Unknown { name: name.clone(), known: known.join(", ") });
        }
    }
    Ok(pairs)
}

/// The filter of a query; an error names the parameter that is wrong.
pub(crate) fn filter<F: DeserializeOwned + IntoParams>(query: &str) -> Result<F, Refusal> {
    let pairs = pairs(query, &view::names::<F>())?;
    for (name, value) in &pairs {
        view::check::<F>(name, value).map_err(QueryError::from)?;
    }
    view::read(&pairs).map_err(|error| Refusal::Parameter(error.to_string()))
}

fn bad_limit(pairs: &[(String, String)]) -> QueryError {
    let limit = pairs.iter().find(|(name, _)| name == "limit").map_or("", |(_, value)| value);
    QueryError::Limit { got: limit.to_owned() }
}

/// The id in a path. What is no id is the id of nothing.
pub(crate) struct Id(pub(crate) EventId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|_| Refusal::NoSuchId)?;
        text.parse().map(Self).map_err(|_| Refusal::NoSuchId)
    }
}

#[cfg(test)]
mod tests {
    use ledger::{EVENTS, EventFilter};

    use super::*;

    fn parse(query: &str) -> Result<Asked, QueryError> {
        Asked::parse(query, &EVENTS.filters(), |name, value| EVENTS.check(name, value))
    }

    #[test]
    fn a_query_is_read_whole() {
        let id = EventId::generate();
        let query =
            format!("topic=acordo.quitado&limit=7&from=2026-11-22T12:00:00Z&cursor={id}&subject=order%2F1");
        let Asked { page, given, format } = parse(&query).unwrap();
        let filter: EventFilter = view::read(&given).unwrap();
        assert_eq!((page, format), (Page { limit: 7, cursor: Some(id.to_string()) }, None));
        assert_eq!(given.len(), 3);
        assert_eq!(filter.topic.unwrap().as_str(), "acordo.quitado");
        assert_eq!(filter.subject.unwrap().as_str(), "order/1");
        assert_eq!(filter.from.unwrap().to_string(), "2026-11-22T12:00:00Z");
        assert_eq!(parse(""), Ok(Asked { page: Page::first(50), given: Vec::new(), format: None }));
    }

    #[test]
    fn a_mistake_is_named_with_its_parameter_and_what_is_allowed() {
        let check = |query, expect| assert_eq!(parse(query).unwrap_err().to_string(), expect, "{query}");
        check(
            "state=x",
            r#"state: expected one of pending, handled, routed, dead, unrouted, discarded, duplicate, got "x""#,
        );
        check("limit=0", r#"limit: expected a number from 1 to 1000, got "0""#);
        check("limit=1001", r#"limit: expected a number from 1 to 1000, got "1001""#);
        check("limit=all", r#"limit: expected a number from 1 to 1000, got "all""#);
        check("cursor=x", r#"cursor: expected the `next` of the page before, got "x""#);
        check("to=x", r#"to: expected an RFC 3339 time such as 2026-11-22T12:00:00Z, got "x""#);
        check("source=A", "source: a source name takes lower-case letters, digits and '-', not 'A'");
        check("cursor=a%00", "cursor: a NUL character matches nothing");
        check("topic=a&topic=b", "topic: given twice");
        check("format=xml", r#"format: expected csv or ndjson, got "xml""#);
        check("format=csv&limit=5", "format: all rows are streamed; limit and cursor do not go with it");
        check(
            "stat=dead",
            r#""stat" is not a parameter of this list: expected one of id, source, provider, topic, state, subject, sender_id, caused_by, from, to, limit, cursor, format"#,
        );
    }
}
