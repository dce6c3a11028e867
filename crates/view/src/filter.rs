//! Filters: their parameters, by name and as text.

use serde::de::DeserializeOwned;
use serde_urlencoded::de::Error;
use utoipa::IntoParams;

/// The names of a filter's parameters.
pub fn names<F: IntoParams>() -> Vec<String> {
    F::into_params(|| None).into_iter().map(|parameter| parameter.name).collect()
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
