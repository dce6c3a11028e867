//! The headers of a message: a small map from names to values.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The value of a message header: the two AMQP field types that malote uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum HeaderValue {
    /// AMQP `long` (`l`).
    Long(i64),
    /// AMQP long string (`S`), UTF-8.
    Text(String),
}

impl From<i64> for HeaderValue {
    fn from(value: i64) -> Self {
        Self::Long(value)
    }
}

impl From<String> for HeaderValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for HeaderValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

/// Written out: a derived one tries each variant, and makes an error text for every header that is not a number.
impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;
        impl Visitor<'_> for AnyValue {
            type Value = HeaderValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of 64 bits or a text")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<HeaderValue, E> {
                Ok(HeaderValue::Long(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<HeaderValue, E> {
                i64::try_from(number).map(HeaderValue::Long).map_err(E::custom)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<HeaderValue, E> {
                Ok(HeaderValue::Text(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<HeaderValue, E> {
                Ok(HeaderValue::Text(text))
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

/// A name; those of malote's own headers are constants.
type Name = Cow<'static, str>;

/// As many as most events have.
const USUAL: usize = 16;

/// Headers, each name once, in the order of names. Clones share them until one is changed: a publisher keeps each
/// message until it is confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageHeaders(Arc<Vec<(Name, HeaderValue)>>);

impl MessageHeaders {
    /// None yet, with room for those that most events have.
    pub fn with_room() -> Self {
        Self(Arc::new(Vec::with_capacity(USUAL)))
    }

    /// The position of a name, or where to insert it.
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name))
    }

    /// The value of a header. They are few, and most names differ in length or begin alike: comparing each is faster than
    /// [`Self::find`].
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Whether a header of this name exists.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether there are no headers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, in the order of names.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Sets a header.
    pub fn insert(&mut self, name: impl Into<Name>, value: HeaderValue) {
        let name = name.into();
        // Most come in their order.
        let place = match self.0.last() {
            Some((last, _)) if name <= *last => self.find(&name),
            Some(_) | None => Err(self.0.len()),
        };
        let headers = Arc::make_mut(&mut self.0);
        match place {
            Ok(at) => headers[at].1 = value,
            Err(at) => headers.insert(at, (name, value)),
        }
    }

    /// Removes a header.
    pub fn remove(&mut self, name: &str) -> Option<HeaderValue> {
        let at = self.find(name).ok()?;
        Some(Arc::make_mut(&mut self.0).remove(at).1)
    }

    /// Keeps the headers with these names.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        Arc::make_mut(&mut self.0).retain(|(name, _)| is_kept(name));
    }
}

impl<N: Into<Name>> Extend<(N, HeaderValue)> for MessageHeaders {
    fn extend<I: IntoIterator<Item = (N, HeaderValue)>>(&mut self, headers: I) {
        headers.into_iter().for_each(|(name, value)| self.insert(name, value));
    }
}

impl<N: Into<Name>> FromIterator<(N, HeaderValue)> for MessageHeaders {
    fn from_iter<I: IntoIterator<Item = (N, HeaderValue)>>(headers: I) -> Self {
        let headers = headers.into_iter();
        let mut all = Self(Arc::new(Vec::with_capacity(headers.size_hint().1.unwrap_or_default())));
        all.extend(headers);
        all
    }
}

impl<N: Into<Name>, const LENGTH: usize> From<[(N, HeaderValue); LENGTH]> for MessageHeaders {
    fn from(headers: [(N, HeaderValue); LENGTH]) -> Self {
        headers.into_iter().collect()
    }
}

impl Serialize for MessageHeaders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for MessageHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Headers;
        impl<'de> Visitor<'de> for Headers {
            type Value = MessageHeaders;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MessageHeaders, A::Error> {
                let mut headers = MessageHeaders::with_room();
                while let Some((name, value)) = map.next_entry::<String, HeaderValue>()? {
                    headers.insert(name, value);
                }
                Ok(headers)
            }
        }
        deserializer.deserialize_map(Headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_there_once_and_names_are_in_order() {
        let mut headers = MessageHeaders::from([("b", 1.into()), ("a", "x".into()), ("b", 2.into())]);
        headers.insert(String::from("c"), 3.into());
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("a", &"x".into()), ("b", &2.into()), ("c", &3.into())]);
        assert_eq!((headers.get("b"), headers.get("d")), (Some(&2.into()), None));
        assert_eq!((headers.remove("b"), headers.remove("b")), (Some(2.into()), None));
        headers.retain(|name| name != "a");
        assert_eq!(headers, [("c", 3.into())].into());
    }

    #[test]
    fn json_has_numbers_and_texts_and_nothing_else() {
        let read = |json: &str| serde_json::from_str::<MessageHeaders>(json);
        let headers: MessageHeaders =
            [("a", "x\n".into()), ("b", (-7).into()), ("c", i64::MAX.into()), ("d", "7".into())].into();
        let json = serde_json::to_string(&headers).unwrap();
        assert_eq!(json, r#"{"a":"x\n","b":-7,"c":9223372036854775807,"d":"7"}"#);
        assert_eq!(read(&json).unwrap(), headers);
        // In any order, and the last of two with one name counts.
        assert_eq!(read(r#"{"b":1,"a":"y","b":2}"#).unwrap(), [("a", "y".into()), ("b", 2.into())].into());
        for other in ["9223372036854775808", "1.5", "true", "null", "[1]", "{}"] {
            assert!(read(&format!(r#"{{"a":{other}}}"#)).is_err(), "{other}");
        }
        assert!(read("[]").is_err());
    }

    #[test]
    fn what_is_changed_in_a_clone_is_not_changed_in_the_other() {
        let one = MessageHeaders::from([("a", 1.into())]);
        let mut other = one.clone();
        other.insert("a", 2.into());
        assert_eq!((one.get("a"), other.get("a")), (Some(&1.into()), Some(&2.into())));
    }
}
