//! JSON pointers (RFC 6901), one or several whose values are joined.

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A JSON pointer to something inside the body: `/data/id`, `/pix/0/endToEndId`. In a form, `/data/id` leads to the field
/// `data[id]`, and `/data[id]` does, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer {
    text: String,
    tokens: Vec<String>,
}

/// The text is no JSON pointer into a body.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a JSON pointer such as /data/id, got {0:?}")]
pub struct NotAPointer(String);

impl TryFrom<String> for Pointer {
    type Error = NotAPointer;

    fn try_from(text: String) -> Result<Self, NotAPointer> {
        let Some(path) = text.strip_prefix('/') else { return Err(NotAPointer(text)) };
        // `~1` first: `~01` stands for `~1` (RFC 6901, section 4).
        let tokens = path.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Self { tokens, text })
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> Self {
        pointer.text
    }
}

impl Pointer {
    /// The pointer as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Whether this field of a form is the one that it leads to.
    pub(crate) fn is_field(&self, name: &str) -> bool {
        name == self.tokens.join("/") || self.is_in_brackets(name)
    }

    /// `data[items][0]`, as PHP writes it.
    fn is_in_brackets(&self, name: &str) -> bool {
        let [first, rest @ ..] = self.tokens.as_slice() else { return false };
        let Some(mut left) = name.strip_prefix(first.as_str()) else { return false };
        for token in rest {
            let inner = left.strip_prefix('[').and_then(|left| left.strip_prefix(token.as_str()));
            match inner.and_then(|inner| inner.strip_prefix(']')) {
                Some(after) => left = after,
                None => return false,
            }
        }
        left.is_empty()
    }
}

/// One pointer, or several whose values are joined to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointers(Vec<Pointer>);

impl Pointers {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pointer> {
        self.0.iter()
    }

    /// The values, joined; `None` unless each pointer leads to one that is not empty.
    pub(crate) fn joined(
        &self,
        separator: &str,
        value: impl Fn(&Pointer) -> Option<String>,
    ) -> Option<String> {
        let [only] = self.0.as_slice() else {
            let values: Option<Vec<_>> =
                self.0.iter().map(|pointer| value(pointer).filter(|text| !text.is_empty())).collect();
            return Some(values?.join(separator));
        };
        value(only)
    }

    /// The pointers as they are written, for people.
    pub(crate) fn place(&self) -> String {
        self.0.iter().map(Pointer::as_str).collect::<Vec<_>>().join(" and ")
    }
}

impl From<Pointer> for Pointers {
    fn from(pointer: Pointer) -> Self {
        Self(vec![pointer])
    }
}

impl<'de> Deserialize<'de> for Pointers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Pointers;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON pointer such as /data/id, or a list of them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Pointers, E> {
                Pointer::try_from(text.to_owned()).map(Pointers::from).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Pointers, A::Error> {
                let list: Vec<Pointer> = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                match list.is_empty() {
                    true => Err(A::Error::custom("expected at least one JSON pointer")),
                    false => Ok(Pointers(list)),
                }
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

impl Serialize for Pointers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => only.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

/// Where the events of a body that has several are: the array that a pointer leads to; the empty text is the whole body. A
/// body that is an array has them itself, wherever this points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventsFrom(Option<Pointer>);

impl EventsFrom {
    pub(crate) fn tokens(&self) -> &[String] {
        self.0.as_ref().map_or(&[], Pointer::tokens)
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", Pointer::as_str)
    }
}

impl TryFrom<String> for EventsFrom {
    type Error = NotAPointer;

    fn try_from(text: String) -> Result<Self, NotAPointer> {
        if text.is_empty() { Ok(Self(None)) } else { text.try_into().map(Some).map(Self) }
    }
}

impl From<EventsFrom> for String {
    fn from(events: EventsFrom) -> Self {
        events.0.map(String::from).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_leads_to_a_field_of_a_form_in_both_spellings() {
        for (pointer, name, expect) in [
            ("/data/id", "data[id]", true),
            ("/data[id]", "data[id]", true),
            ("/data/id", "data/id", true),
            ("/data/items/0/id", "data[items][0][id]", true),
            ("/id", "id", true),
            ("/data/id", "data[id", false),
            ("/data/id", "data[id]x", false),
            ("/data/id", "data[ids]", false),
            ("/data/id", "data", false),
            ("/data", "data[id]", false),
        ] {
            let pointer = Pointer::try_from(pointer.to_owned()).unwrap();
            assert_eq!(pointer.is_field(name), expect, "{pointer:?} {name}");
        }
    }
}
