//! Filters: their parameters, by name and as text.

use serde::de::DeserializeOwned;
use utoipa::IntoParams;

/// The names of a filter's parameters.
pub fn names<F: IntoParams>() -> Vec<String> {
    F::into_params(|| None).into_iter().map(|parameter| parameter.name).collect()
}

/// The filter that these parameters make.
pub fn read<F: DeserializeOwned>(pairs: &[(String, String)]) -> Result<F, String> {
    let text = serde_urlencoded::to_string(pairs).map_err(|error| error.to_string())?;
    serde_urlencoded::from_str(&text).map_err(|error| error.to_string())
}

/// Whether one parameter can be read by itself: an error names it, what was expected and what was found.
pub fn check<F: DeserializeOwned>(name: &str, value: &str) -> Result<(), String> {
    let Err(error) = read::<F>(&[(name.to_owned(), value.to_owned())]) else { return Ok(()) };
    // serde's words for a value that is none of an enum's: unknown variant `x`, expected one of `a`, `b`, `c`
    let allowed = error.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected "));
    Err(match allowed {
        Some((_, allowed)) => format!("{name}: expected {}, got {value:?}", allowed.replace('`', "")),
        None => format!("{name}: {error}"),
    })
}
