//! How a source tells that it sends a fact again: by a field, by a header, or by the whole body.
//!
//! The result is a key: the same for the same fact, and without personal data. The same id with other content is
//! another fact: a sender corrects what it sent before.

use http::HeaderMap;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::body::Json;
use crate::canonical::canonical;
use crate::generic::Pointer;
use crate::header::CREDENTIAL_HEADERS;
use crate::inbound::Inbound;
use crate::value::scalar;
use crate::{HeaderName, SubjectKey};

/// The rule of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicates {
    by: By,
    window_s: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    Pointer(Pointer),
    Header(HeaderName),
    Body,
}

/// The rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    pointer: Option<Pointer>,
    header: Option<HeaderName>,
    #[serde(default)]
    body: bool,
    window_s: u32,
}

impl<'de> Deserialize<'de> for Duplicates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { pointer, header, body, window_s } = Written::deserialize(deserializer)?;
        let by = match (pointer, header, body) {
            (Some(pointer), None, false) => By::Pointer(pointer),
            (None, Some(header), false) => By::Header(header),
            (None, None, true) => By::Body,
            _ => return Err(D::Error::custom("expected exactly one of pointer, header and body = true")),
        };
        if let By::Pointer(pointer) = &by
            && pointer.tokens().iter().any(|token| is_array_index(token))
        {
            return Err(D::Error::custom(
                "pointer: leads to one element of an array, which does not identify a body with several; give a field \
                 outside of arrays, a header, or body = true",
            ));
        }
        if window_s == 0 {
            return Err(D::Error::custom("window_s: expected a number of at least 1"));
        }
        Ok(Self { by, window_s: window_s.into() })
    }
}

impl Duplicates {
    pub(crate) fn by_field(pointer: &str, window_s: i64) -> Self {
        let pointer = Pointer::try_from(pointer.to_owned()).expect("a literal that keeps the rule");
        Self { by: By::Pointer(pointer), window_s }
    }

    /// By a header, for as long as senders try again at most: a week.
    pub fn by_header(name: HeaderName) -> Self {
        Self { by: By::Header(name), window_s: 7 * 24 * 3600 }
    }

    /// The header that tells facts apart, if it is one.
    pub fn header(&self) -> Option<&HeaderName> {
        match &self.by {
            By::Header(name) => Some(name),
            By::Pointer(_) | By::Body => None,
        }
    }

    /// The header that identifies facts, as this request has it: a body that is read again later needs it. Never a
    /// credential.
    pub fn kept_header(&self, headers: &HeaderMap) -> Option<(String, String)> {
        let name = self.header().filter(|name| !CREDENTIAL_HEADERS.contains(&name.as_str()))?;
        Some((name.as_str().to_owned(), name.only(headers)?.to_owned()))
    }

    /// How long after the first request others with its key repeat it, in seconds.
    pub fn window_s(&self) -> i64 {
        self.window_s
    }

    /// What tells the fact of this request, with this topic, from the source's other facts. By field or header: 64
    /// hexadecimal digits, 32 of the field or header and 32 of the content; two bodies that say the same have the same
    /// content, however they are written. By the whole body: 32 digits, of its bytes. `None` where the field or the header
    /// is missing: such a request repeats nothing. A field is one of a JSON body. `json` is the body, if it is JSON.
    pub(crate) fn key(
        &self,
        inbound: &Inbound<'_>,
        json: Option<&Json<'_>>,
        topic: &str,
        key: &SubjectKey,
    ) -> Option<String> {
        let identity = match &self.by {
            By::Pointer(pointer) => format!("field {topic} {}", scalar(json?.at(pointer.tokens())?)?),
            By::Header(name) => format!("header {topic} {}", name.only(inbound.headers)?),
            By::Body => return Some(key.hash([b"body ", inbound.body.as_ref()].concat())),
        };
        Some(match json {
            Some(json) => with_content(&identity, canonical(&json.text), key),
            None => with_content(&identity, inbound.body, key),
        })
    }
}

fn with_content(identity: &str, content: impl AsRef<[u8]>, key: &SubjectKey) -> String {
    key.hash(identity) + &key.hash(content)
}

/// Whether a pointer's token names an element of an array (RFC 6901, section 4).
fn is_array_index(token: &str) -> bool {
    token == "-" || !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Provider, body};

    fn rule(json: serde_json::Value) -> Result<Duplicates, String> {
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    fn key(rule: &Duplicates, headers: &HeaderMap, topic: &str, body: &str) -> Option<String> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let json = body::json(&body, None).ok();
        rule.key(&Inbound { headers, body: &body }, json.as_ref(), topic, &SubjectKey::from_bytes([7; 32]))
    }

    #[test]
    fn the_same_fact_has_the_same_key() {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "r-1".parse().unwrap());
        let none = HeaderMap::new();
        let by_field = rule(serde_json::json!({"pointer": "/data/id", "window_s": 60})).unwrap();
        let by_header = rule(serde_json::json!({"header": "X-Request-Id", "window_s": 60})).unwrap();
        let by_body = rule(serde_json::json!({"body": true, "window_s": 60})).unwrap();
        let check = |rule: &Duplicates, topic: &str, body: &str| key(rule, &headers, topic, body);
        let first = r#"{"data": {"id": "529.982.247-25", "value": 120.0}, "at": 2}"#;
        let one = check(&by_field, "paid", first).unwrap();
        assert_eq!((one.len(), one.contains("529")), (64, false));
        // Serialised in another way.
        let again = r#"{"at":2.0,"data":{"value":1.2e2,"id":"529.982.247-25"}}"#;
        assert_eq!(check(&by_field, "paid", again), Some(one.clone()));
        // Corrected: the same id, as keys of earlier versions have it, and other content.
        let corrected = check(&by_field, "paid", &first.replace("120.0", "130.0")).unwrap();
        assert_eq!((corrected[..32] == one[..32], corrected == one), (true, false));
        assert_ne!(check(&by_field, "due", first), Some(one));
        assert_eq!(check(&by_field, "paid", r#"{"data": {}}"#), None);
        let number = |id: &str| check(&by_field, "paid", &format!(r#"{{"data": {{"id": {id}}}}}"#));
        assert_eq!(number("7.0"), number("7"));
        assert_ne!(number("7.5"), number("7"));
        assert_eq!(key(&by_header, &none, "paid", "{}"), None);
        assert_eq!(check(&by_header, "paid", "{}"), check(&by_header, "paid", "{ }"));
        assert_ne!(check(&by_header, "paid", "{}"), check(&by_header, "paid", r#"{"a": 1}"#));
        assert_ne!(check(&by_header, "paid", "{}"), check(&by_header, "due", "{}"));
        assert_eq!(check(&by_header, "paid", "a=1"), check(&by_header, "paid", "a=1"));
        assert_ne!(check(&by_header, "paid", "a=1"), check(&by_header, "paid", "a=2"));
        assert_eq!(key(&by_body, &headers, "paid", "{}"), key(&by_body, &none, "paid", "{}"));
        assert_ne!(key(&by_body, &none, "paid", "{}"), key(&by_body, &none, "paid", "{ }"));
    }

    #[test]
    fn a_rule_that_says_nothing_or_two_things_is_refused() {
        for (json, expect) in [
            (serde_json::json!({"window_s": 60}), "expected exactly one of"),
            (serde_json::json!({"body": true, "pointer": "/id", "window_s": 60}), "expected exactly one of"),
            (serde_json::json!({"pointer": "/id"}), "missing field `window_s`"),
            (
                serde_json::json!({"pointer": "/id", "window_s": 0}),
                "window_s: expected a number of at least 1",
            ),
            (serde_json::json!({"pointer": "id", "window_s": 1}), "expected a JSON pointer"),
            (serde_json::json!({"pointer": "/pix/0/endToEndId", "window_s": 1}), "one element of an array"),
            (serde_json::json!({"pointer": "/pix/-", "window_s": 1}), "one element of an array"),
        ] {
            let printed = rule(json).unwrap_err();
            assert!(printed.contains(expect), "{printed}");
        }
    }

    #[test]
    fn only_recuperador_tells_its_facts_apart_by_itself() {
        for provider in Provider::builtin() {
            let rule = provider.duplicates();
            assert_eq!(rule.is_some(), provider.name().as_str() == "recuperador", "{}", provider.name());
            for topic in provider.topics() {
                let Some((rule, body)) = rule.zip(topic.example) else { continue };
                let none = HeaderMap::new();
                assert!(key(rule, &none, topic.name, body).is_some(), "{}", topic.name);
                assert_ne!(key(rule, &none, topic.name, body), key(rule, &none, "other", body));
            }
        }
    }
}
