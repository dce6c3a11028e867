//! The values in the providers' bodies, each read from its JSON text and kept exactly.
//!
//! A value of the wrong form says what it expected and, where that is neither personal nor secret, what it
//! got. Values are read from JSON text only (`serde_json::from_str` and the like): a binary float never
//! stands between.

mod date;
mod number;
mod tax_id;
mod text;

pub use date::Date;
pub use number::{Centavos, Degrees, Dioptres, Sequence};
pub use tax_id::TaxId;
pub use text::{Id, Personal};

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

/// A value that reads itself from the text of one JSON value.
pub(crate) trait Value: Sized {
    /// Reads the text; an error says `expected …, got …`.
    fn read(json: &str) -> Result<Self, String>;
}

/// Implements `Deserialize` by [`Value::read`].
macro_rules! deserialize {
    ($($name:ty),+) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::value::required(deserializer)
            }
        }
    )+};
}
pub(crate) use deserialize;

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
            fn read(json: &str) -> Result<Self, String> {
                match crate::value::string(json).as_deref() {
                    $(Some($text) => Ok(Self::$variant),)+
                    _ => {
                        let texts = [$(concat!('"', $text, '"')),+].join(" or ");
                        Err(format!("expected {texts}, got {}", crate::value::shown(json)))
                    }
                }
            }
        }

        crate::value::deserialize!($name);
    };
}
pub(crate) use choice;

impl Value for bool {
    /// The flag `"S"` (sim) or `"N"` (não).
    fn read(json: &str) -> Result<Self, String> {
        match string(json).as_deref() {
            Some("S") => Ok(true),
            Some("N") => Ok(false),
            _ => Err(format!(r#"expected "S" or "N", got {}"#, shown(json))),
        }
    }
}

impl Value for String {
    /// Text, or a number whose text is kept: codes arrive as either.
    fn read(json: &str) -> Result<Self, String> {
        scalar(json).ok_or_else(|| format!("expected text, got {}", kind(json)))
    }
}

/// For `deserialize_with`: a value that must be there.
pub(crate) fn required<'de, D: Deserializer<'de>, T: Value>(deserializer: D) -> Result<T, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    T::read(raw.get()).map_err(D::Error::custom)
}

/// For `deserialize_with`, next to `default`: a missing field, `null` and the empty text are the same thing.
pub(crate) fn optional<'de, D: Deserializer<'de>, T: Value>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    match raw.get() {
        "null" | r#""""# => Ok(None),
        json => T::read(json).map(Some).map_err(D::Error::custom),
    }
}

/// For `deserialize_with`, next to `default`: a missing field and `null` are the default.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What kind of JSON value a text is, with its article.
pub(crate) fn kind(json: &str) -> &'static str {
    match json.bytes().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// A JSON value as an error may quote it: a string or a number, cut; of anything else only its kind. Not for
/// fields that hold personal data.
pub(crate) fn shown(json: &str) -> String {
    const LIMIT_CHARS: usize = 40;
    match kind(json) {
        "a string" | "a number" => match json.char_indices().nth(LIMIT_CHARS) {
            Some((end, _)) => format!("{}…", &json[..end]),
            None => json.to_owned(),
        },
        kind => kind.to_owned(),
    }
}

/// The text of a JSON string.
pub(crate) fn string(json: &str) -> Option<String> {
    if kind(json) == "a string" { serde_json::from_str(json).ok() } else { None }
}

/// The text of a JSON string or number, exactly.
pub(crate) fn scalar(json: &str) -> Option<String> {
    match kind(json) {
        "a string" => string(json),
        "a number" => Some(json.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_s_or_n() {
        let check = |json: &str, expect: Result<bool, &str>| {
            assert_eq!(bool::read(json), expect.map_err(str::to_owned));
        };
        check(r#""S""#, Ok(true));
        check(r#""N""#, Ok(false));
        check(r#""s""#, Err(r#"expected "S" or "N", got "s""#));
        check("true", Err(r#"expected "S" or "N", got a boolean"#));
        check("1", Err(r#"expected "S" or "N", got 1"#));
    }

    #[test]
    fn a_quoted_value_is_cut_at_a_characters_edge() {
        assert_eq!(shown(&format!("\"{}\"", "ç".repeat(90))), format!("\"{}…", "ç".repeat(39)));
    }
}
