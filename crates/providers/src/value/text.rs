//! Texts: identifiers, which are kept exactly, and personal texts, which are never shown by accident.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use super::{Value, scalar, shown, unexpected, written};
use crate::unexpected::Unexpected;

/// An identifier or a code of the provider: its exact text, whether it arrived as a string or as a number. The number
/// `1902.0` is the identifier `1902`.
///
/// Leading zeros count: `"0000593098"` and `593098` are different identifiers. A text with a replacement character is
/// not an identifier: the original character is lost, and different identifiers would look equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Id(String);

impl Id {
    /// The longest identifier, in bytes: longer than any seen, short enough for the indexes of every database and for a
    /// subject.
    pub const LIMIT_BYTES: usize = 200;

    /// An identifier from its text; `got` says what it is if it is none.
    pub(crate) fn new(text: String, got: impl FnOnce(&str) -> String) -> Result<Self, Unexpected> {
        let expected: Cow<'static, str> = if text.is_empty() {
            "an identifier (a string or a number)".into()
        } else if text.len() > Self::LIMIT_BYTES {
            format!("an identifier of at most {} bytes", Self::LIMIT_BYTES).into()
        } else if text.contains(char::REPLACEMENT_CHARACTER) {
            "an identifier that is Unicode text".into()
        } else {
            return Ok(Self(text));
        };
        Err(Unexpected { expected, got: got(&text) })
    }

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
    fn read(json: &str) -> Result<Self, Unexpected> {
        Self::new(scalar(json).unwrap_or_default(), |_| shown(json))
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
    fn read(json: &str) -> Result<Self, Unexpected> {
        written(json).map(Self).ok_or_else(|| unexpected("text", json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_text() {
        let check = |json: &str, expect: Result<&str, &str>| {
            let read = Id::read(json).map(String::from).map_err(|error| error.to_string());
            assert_eq!(read, expect.map(str::to_owned).map_err(str::to_owned));
        };
        check(r#""0004970001""#, Ok("0004970001"));
        check("45031", Ok("45031"));
        check("12345678901234567890123", Ok("12345678901234567890123"));
        check("45031.0", Ok("45031"));
        check(r#""45031.0""#, Ok("45031.0"));
        check(r#""10b\u0000""#, Ok("10b"));
        check(
            &format!("\"{}\"", "ç".repeat(101)),
            Err("expected an identifier of at most 200 bytes, got a text of 101 characters"),
        );
        check(&"1".repeat(200), Ok(&"1".repeat(200)));
        check(
            "\"a\u{fffd}\"",
            Err("expected an identifier that is Unicode text, got a text of 2 characters"),
        );
        check(r#""\u0000""#, Err("expected an identifier (a string or a number), got a text of 1 character"));
        check(r#""""#, Err("expected an identifier (a string or a number), got a text of 0 characters"));
        check("null", Err("expected an identifier (a string or a number), got null"));
        check("{}", Err("expected an identifier (a string or a number), got an object"));
    }

    #[test]
    fn personal_text_shows_neither_in_debug_nor_in_an_error() {
        assert_eq!(format!("{:?}", Personal::read(r#""Maria""#)), "Ok([personal])");
        assert_eq!(Personal::read(r#"["Maria"]"#).unwrap_err().to_string(), "expected text, got an array");
    }
}
