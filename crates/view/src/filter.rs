//! Filters: their parameters, by name and as text.

use serde::de::DeserializeOwned;
use serde_json::json;
use serde_urlencoded::de::Error;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::{RefOr, Schema};

/// The names of a filter's parameters.
pub fn names<F: IntoParams>() -> Vec<String> {
    F::into_params(|| None).into_iter().map(|parameter| parameter.name).collect()
}

/// What the values of a parameter are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A point in time.
    Time,
    /// One of these words.
    Word(Vec<String>),
}

/// A parameter of a filter, as those see it who choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it chooses: a sentence.
    pub about: String,
    /// What its values are.
    pub kind: Kind,
}

impl Field {
    /// A parameter; `schemas` has those that it refers to.
    pub(crate) fn new(parameter: Parameter, schemas: &[(String, RefOr<Schema>)]) -> Self {
        let schema = json!(parameter.schema);
        let words = || {
            let name = schema["$ref"].as_str()?.rsplit('/').next()?;
            let (_, found) = schemas.iter().find(|(other, _)| other == name)?;
            let words = json!(found)["enum"].as_array()?.clone();
            Some(words.iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect())
        };
        let kind = match words() {
            Some(words) => Kind::Word(words),
            None if schema["format"] == "date-time" => Kind::Time,
            None => Kind::Text,
        };
        Self { name: parameter.name, about: parameter.description.unwrap_or_default(), kind }
    }
}

/// A parameter that no filter has room for: its name, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct BadParameter {
    name: String,
    problem: String,
}

/// The filter with these parameters.
pub fn read<F: DeserializeOwned>(pairs: &[(String, String)]) -> Result<F, Error> {
    let text = serde_urlencoded::to_string(pairs).expect("pairs of text are a query");
    serde_urlencoded::from_str(&text)
}

/// Whether one parameter can be read by itself.
pub fn check<F: DeserializeOwned>(name: &str, value: &str) -> Result<(), BadParameter> {
    let Err(error) = read::<F>(&[(name.to_owned(), value.to_owned())]) else { return Ok(()) };
    let problem = error.to_string();
    // serde's message for an unknown value of an enum: unknown variant `x`, expected one of `a`, `b`, `c`
    let allowed = problem.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected "));
    let problem = match allowed {
        Some((_, allowed)) => format!("expected {}, got {value:?}", allowed.replace('`', "")),
        None => problem,
    };
    Err(BadParameter { name: name.to_owned(), problem })
}
