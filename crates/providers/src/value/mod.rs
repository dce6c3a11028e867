//! The values in the providers' bodies, each read from its JSON text and kept exactly.
//!
//! The error for a malformed value says what was expected, and the kind and length of what was found, never its text.
//! Values are read from JSON text only (`serde_json::from_str` and the like), never through a binary float.

mod date;
mod number;
mod tax_id;
mod text;

use std::borrow::Cow;

use crate::body::kind;
use crate::scan;
use crate::unexpected::Unexpected;

pub use date::Date;
pub(crate) use number::integer;
pub use number::{Centavos, Degrees, Dioptres, Sequence};
pub use tax_id::TaxId;
pub use text::{Id, Personal};

/// A value that reads itself from the text of one JSON value.
pub(crate) trait Value: Sized {
    /// Reads the text.
    fn read(json: &str) -> Result<Self, Unexpected>;

    /// Whether an optional field with this text counts as missing.
    fn is_absent(json: &str) -> bool {
        matches!(json, "null" | r#""""#)
    }
}

/// An enum that the provider writes as one of a few fixed texts; anything else is an error that lists them.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The provider's text for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl crate::value::Value for $name {
            fn read(json: &str) -> Result<Self, crate::unexpected::Unexpected> {
                match crate::value::string(json).as_deref() {
                    $(Some($text) => Ok(Self::$variant),)+
                    _ => {
                        let texts = [$(concat!('"', $text, '"')),+].join(" or ");
                        Err(crate::value::unexpected(texts, json))
                    }
                }
            }
        }
    };
}
pub(crate) use choice;

impl Value for bool {
    /// The flag `"S"` (sim) or `"N"` (não).
    fn read(json: &str) -> Result<Self, Unexpected> {
        match string(json).as_deref() {
            Some("S") => Ok(true),
            Some("N") => Ok(false),
            _ => Err(unexpected(r#""S" or "N""#, json)),
        }
    }
}

impl Value for String {
    /// Text, or a number whose text is kept: codes arrive as either.
    fn read(json: &str) -> Result<Self, Unexpected> {
        written(json).ok_or_else(|| unexpected("text", json))
    }
}

/// The error of a value: `expected` says what its field holds; `json` is the text of the value.
pub(crate) fn unexpected(expected: impl Into<Cow<'static, str>>, json: &str) -> Unexpected {
    Unexpected { expected: expected.into(), got: shown(json) }
}

/// A description of a JSON value for errors: its kind and length.
pub(crate) fn shown(json: &str) -> String {
    let sized = |what: &str, count: usize| {
        format!("{what} of {count} character{}", if count == 1 { "" } else { "s" })
    };
    match kind(json) {
        "a string" => match scan::string(json) {
            Some(text) => sized("a text", text.chars().count()),
            None => "a text".to_owned(),
        },
        "a number" => sized("a number", json.len()),
        kind => kind.to_owned(),
    }
}

/// The text of a JSON string, without NUL.
pub(crate) fn string(json: &str) -> Option<String> {
    scan::string(json).map(|text| without_nul(text.into_owned()))
}

/// The text of a JSON string, or of a number as it is written.
pub(crate) fn written(json: &str) -> Option<String> {
    match kind(json) {
        "a string" => string(json),
        "a number" => Some(json.to_owned()),
        _ => None,
    }
}

/// An identifier: the exact text of a JSON string, or a number, where `1902.0` equals `1902`.
pub(crate) fn scalar(json: &str) -> Option<String> {
    match kind(json) {
        "a string" => string(json),
        "a number" => Some(integer(json).into_owned()),
        _ => None,
    }
}

/// The text without NUL, which PostgreSQL does not store.
pub(crate) fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_s_or_n() {
        let check = |json: &str, expect: Result<bool, &str>| {
            assert_eq!(bool::read(json).map_err(|error| error.to_string()), expect.map_err(str::to_owned));
        };
        check(r#""S""#, Ok(true));
        check(r#""N""#, Ok(false));
        check(r#""s""#, Err(r#"expected "S" or "N", got a text of 1 character"#));
        check("true", Err(r#"expected "S" or "N", got a boolean"#));
        check("1", Err(r#"expected "S" or "N", got a number of 1 character"#));
    }

    #[test]
    fn a_value_is_shown_by_its_kind_and_length() {
        let check = |json: &str, expect: &str| assert_eq!(shown(json), expect);
        check(&format!("\"{}\"", "ç".repeat(90)), "a text of 90 characters");
        check(r#""\u00e7""#, "a text of 1 character");
        check("-12.50", "a number of 6 characters");
        check("[1]", "an array");
        check("null", "null");
    }

    #[test]
    fn a_text_has_no_nul_and_an_integral_number_identifies_like_the_integer() {
        assert_eq!(string(r#""a\u0000b\u0000""#).as_deref(), Some("ab"));
        for (json, as_written, as_identity) in
            [("1902.0", "1902.0", "1902"), (r#""1902.0""#, "1902.0", "1902.0"), ("1.50", "1.50", "1.50")]
        {
            assert_eq!(written(json).as_deref(), Some(as_written));
            assert_eq!(scalar(json).as_deref(), Some(as_identity));
        }
    }
}
