//! Reading a body as the payload that its provider documents.

use std::borrow::Cow;
use std::fmt;

use serde::de::DeserializeOwned;

use crate::body;

/// A body that breaks its provider's contract: `lista_parcelas[2].valor: expected a decimal, got "abc"`.
///
/// The text names the path. It quotes a value only where the value is an amount, a date, a code or a flag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ContractError {
    path: String,
    problem: String,
}

impl ContractError {
    /// A mistake found by a rule that is about more than one field.
    pub(crate) fn new(path: &str, problem: &str) -> Self {
        Self { path: path.to_owned(), problem: problem.to_owned() }
    }

    /// The path of the field, such as `lista_parcelas[2].valor`; empty for the whole body.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the body" } else { &self.path };
        write!(f, "{path}: {}", self.problem)
    }
}

/// Reads an event's data as a payload. `repaired` is the event's attribute: with it, comments and trailing
/// commas are dropped first. Unknown fields are passed over.
pub fn parse<T: DeserializeOwned>(data: &[u8], repaired: bool) -> Result<T, ContractError> {
    let text = std::str::from_utf8(data).map_err(|_| ContractError::new("", "not UTF-8"))?;
    let text = match repaired {
        true => body::repair(text).map_or(Cow::Borrowed(text), Cow::Owned),
        false => Cow::Borrowed(text),
    };
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let payload = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        describe(path, error.inner())
    })?;
    deserializer.end().map_err(|error| describe(String::new(), &error))?;
    Ok(payload)
}

/// What an error of serde's means, without the value that serde quotes.
fn describe(path: String, error: &serde_json::Error) -> ContractError {
    let text = error.to_string();
    let text =
        text.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())).unwrap_or(&text);
    let field = |name: &str| {
        // serde names the object for a missing field, and sometimes the field itself for a duplicate.
        match path.as_str() {
            "" => name.to_owned(),
            path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
            path => format!("{path}.{name}"),
        }
    };
    if let Some(name) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return ContractError { path: field(name), problem: "missing".to_owned() };
    }
    if let Some(name) = text.strip_prefix("duplicate field `").and_then(|rest| rest.strip_suffix('`')) {
        return ContractError { path: field(name), problem: "there twice".to_owned() };
    }
    let mismatch = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid length "));
    if let Some(mismatch) = mismatch {
        // What follows the last `expected` is written by the type; what stands before it may quote the body.
        let (got, expected) = mismatch.rsplit_once(", expected ").unwrap_or((mismatch, "another type"));
        let expected = if expected == "a sequence" { "an array" } else { expected };
        return ContractError { path, problem: format!("expected {expected}, got {}", json_kind(got)) };
    }
    ContractError { path, problem: text.to_owned() }
}

/// The JSON name of what serde calls an unexpected type or, by its number of elements, an unexpected length.
fn json_kind(unexpected: &str) -> &'static str {
    match unexpected.split([' ', ',']).next().unwrap_or_default() {
        "null" | "unit" => "null",
        "boolean" => "a boolean",
        "integer" | "floating" => "a number",
        "string" | "character" => "a string",
        "map" => "an object",
        _ => "an array",
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::value::{Centavos, Personal, optional};

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(expecting = "an object")]
    struct Account {
        #[serde(default, deserialize_with = "optional")]
        owner: Option<Personal>,
        lines: Vec<Line>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(expecting = "an object")]
    struct Line {
        amount: Centavos,
        #[serde(default, deserialize_with = "optional")]
        paid: Option<Centavos>,
    }

    #[test]
    fn the_text_of_a_number_survives_and_unknown_fields_are_passed_over() {
        let body =
            br#"{"owner": "Maria", "new": [1], "lines": [{"amount": 460.20, "paid": null, "x": 1e999}]}"#;
        let account: Account = parse(body, false).unwrap();
        assert_eq!(account.lines, [Line { amount: Centavos(46020), paid: None }]);
        assert_eq!(account.owner.unwrap().expose(), "Maria");
    }

    #[test]
    fn a_broken_contract_is_named_by_its_path_and_quotes_nobody() {
        let check = |body: &str, expect: &str| {
            assert_eq!(parse::<Account>(body.as_bytes(), false).unwrap_err().to_string(), expect);
        };
        check(
            r#"{"lines": [{"amount": 1}, {"amount": "abc"}]}"#,
            r#"lines[1].amount: expected a decimal, got "abc""#,
        );
        check(r#"{"lines": [{"amount": 1, "paid": []}]}"#, "lines[0].paid: expected a decimal, got an array");
        check(r#"{"lines": [{}]}"#, "lines[0].amount: missing");
        check(r#"{"lines": [{"amount": 1, "amount": 2}]}"#, "lines[0].amount: there twice");
        check("{}", "lines: missing");
        check(r#"{"lines": "Maria, expected a surprise"}"#, "lines: expected an array, got a string");
        check(r#"{"lines": null}"#, "lines: expected an array, got null");
        check(r#"{"lines": ["Maria"]}"#, "lines[0]: expected an object, got a string");
        check(r#"{"lines": [true]}"#, "lines[0]: expected an object, got a boolean");
        check(r#"{"lines": [[]]}"#, "lines[0]: expected an object, got an array");
        check(r#"{"owner": {"name": "Maria"}}"#, "owner: expected text, got an object");
        check(r#""Maria""#, "the body: expected an object, got a string");
        check(r#"{"lines": []} x"#, "the body: trailing characters");
        check(r#"{"lines": [{"amount": 1}"#, "lines: EOF while parsing a list");
        check("", "the body: EOF while parsing a value");
    }

    #[test]
    fn a_repaired_body_is_repaired_again() {
        let body = b"{\"lines\": [], // none\n}";
        assert_eq!(parse::<Account>(body, true), Ok(Account { owner: None, lines: vec![] }));
        assert!(parse::<Account>(body, false).is_err());
    }
}
