//! Texts: identifiers, which are kept exactly, and personal texts, which are never shown by accident.

use std::fmt;

use serde::Serialize;

use super::{Value, deserialize, kind, scalar, shown};

/// An identifier or a code of the provider's: its text exactly, whether it arrived as a string or as a
/// number.
///
/// Leading zeros count: `"0000593098"` and `593098` are different identifiers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Id(String);

impl Id {
    /// The identifier's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl Value for Id {
    fn read(json: &str) -> Result<Self, String> {
        match scalar(json) {
            Some(text) if !text.is_empty() => Ok(Self(text)),
            _ => Err(format!("expected an identifier (a string or a number), got {}", shown(json))),
        }
    }
}

/// Text about a person, or that may be: a name, an address, a free comment. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Personal(String);

impl Personal {
    /// The text, for a table or a screen that may hold it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[personal]")
    }
}

impl From<Personal> for String {
    fn from(text: Personal) -> Self {
        text.0
    }
}

impl Value for Personal {
    fn read(json: &str) -> Result<Self, String> {
        scalar(json).map(Self).ok_or_else(|| format!("expected text, got {}", kind(json)))
    }
}

deserialize!(Id, Personal);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_text() {
        let check = |json: &str, expect: Result<&str, &str>| {
            assert_eq!(Id::read(json).map(String::from), expect.map(str::to_owned).map_err(str::to_owned));
        };
        check(r#""0004970001""#, Ok("0004970001"));
        check("45031", Ok("45031"));
        check("12345678901234567890123", Ok("12345678901234567890123"));
        check(r#""""#, Err(r#"expected an identifier (a string or a number), got """#));
        check("null", Err("expected an identifier (a string or a number), got null"));
        check("{}", Err("expected an identifier (a string or a number), got an object"));
    }

    #[test]
    fn personal_text_shows_neither_in_debug_nor_in_an_error() {
        assert_eq!(format!("{:?}", Personal::read(r#""Maria""#)), "Ok([personal])");
        assert_eq!(Personal::read(r#"["Maria"]"#).unwrap_err(), "expected text, got an array");
    }
}
