//! How a fact that a source posts again is recognised: by a field, by a header, or by the whole body.
//!
//! The result is a key: the same for the same fact, and without personal data. The same id with other content is
//! another fact: a sender corrects what it sent before.

use http::HeaderMap;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::body::Document;
use crate::canonical::{Differing, canonical};
use crate::header::CREDENTIAL_HEADERS;
use crate::inbound::Inbound;
use crate::pointer::{Pointer, Pointers};
use crate::value::scalar;
use crate::{HeaderName, SubjectKey};

const WEEK_S: i64 = 7 * 24 * 3600;

/// The longest id of a sender that goes on record, in bytes; a longer one is left out.
const SENDER_ID_LIMIT_BYTES: usize = 255;

/// What identifies a fact among those of its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What recognises it, without personal data.
    pub key: String,
    /// The id in the sender's own words, where the rule names a field or a header for it. For the record, never for a log.
    pub sender_id: Option<String>,
}

/// The rule of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicates {
    by: By,
    window_s: i64,
    differing: Differing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    Pointers(Pointers),
    Header(HeaderName),
    Body,
}

/// The rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    pointer: Option<Pointers>,
    header: Option<HeaderName>,
    #[serde(default)]
    body: bool,
    window_s: u32,
}

impl<'de> Deserialize<'de> for Duplicates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { pointer, header, body, window_s } = Written::deserialize(deserializer)?;
        let by = match (pointer, header, body) {
            (Some(pointers), None, false) => By::Pointers(pointers),
            (None, Some(header), false) => By::Header(header),
            (None, None, true) => By::Body,
            _ => return Err(D::Error::custom("expected exactly one of pointer, header and body = true")),
        };
        if let By::Pointers(pointers) = &by
            && pointers.iter().any(|pointer| pointer.tokens().iter().any(|token| is_array_index(token)))
        {
            return Err(D::Error::custom(
                "pointer: leads to one element of an array, which does not identify a body with several; give a field \
                 outside of arrays, a header, or body = true, or say with `events` of the provider that each element is an \
                 event, and give a field of the element",
            ));
        }
        if window_s == 0 {
            return Err(D::Error::custom("window_s: expected a number of at least 1"));
        }
        Ok(Self { by, window_s: window_s.into(), differing: Differing::default() })
    }
}

impl Duplicates {
    pub(crate) fn by_field(pointer: &str, window_s: i64) -> Self {
        let pointer = Pointer::try_from(pointer.to_owned()).expect("a literal that keeps the rule");
        Self { by: By::Pointers(pointer.into()), window_s, differing: Differing::default() }
    }

    /// Without these fields of the root: only some of the ways in which the provider sends a fact have them.
    pub(crate) fn disregarding(mut self, fields: &'static [&'static str]) -> Self {
        self.differing.disregarded = fields;
        self
    }

    /// With other names for fields of the root that some ways of sending a fact have.
    pub(crate) fn with_renamed(mut self, fields: &'static [(&'static str, &'static str)]) -> Self {
        self.differing.renamed = fields;
        self
    }

    /// With what the provider's own rule leaves out and renames, since the ways in which it sends a fact stay the same.
    pub fn comparing_as(mut self, provider: Option<&Self>) -> Self {
        if let Some(provider) = provider {
            self.differing = provider.differing;
        }
        self
    }

    /// By the whole body, for as long as senders try again at most: a week.
    pub(crate) fn by_body() -> Self {
        Self { by: By::Body, window_s: WEEK_S, differing: Differing::default() }
    }

    /// By a header, for as long as senders try again at most: a week.
    pub fn by_header(name: HeaderName) -> Self {
        Self { by: By::Header(name), window_s: WEEK_S, differing: Differing::default() }
    }

    /// The header that identifies facts, if it is one.
    pub fn header(&self) -> Option<&HeaderName> {
        match &self.by {
            By::Header(name) => Some(name),
            By::Pointers(_) | By::Body => None,
        }
    }

    /// The names of the fields, or of the header, whose values are the sender's own id.
    pub fn id_names(&self) -> Vec<String> {
        match &self.by {
            By::Pointers(pointers) => pointers.iter().flat_map(Pointer::tokens).cloned().collect(),
            By::Header(name) => vec![name.as_str().to_owned()],
            By::Body => Vec::new(),
        }
    }

    /// The header that identifies facts, as this request has it: a body that is read again later needs it. Never a
    /// credential.
    pub fn kept_header(&self, headers: &HeaderMap) -> Option<(String, String)> {
        let name = self.header().filter(|name| !CREDENTIAL_HEADERS.contains(&name.as_str()))?;
        Some((name.as_str().to_owned(), name.only(headers)?.to_owned()))
    }

    /// Whether facts are told apart by fields of the body.
    pub fn is_by_field(&self) -> bool {
        matches!(self.by, By::Pointers(_))
    }

    /// Whether facts are told apart by the whole body.
    pub(crate) fn is_by_body(&self) -> bool {
        self.by == By::Body
    }

    /// How long after the first request others with its key repeat it, in seconds.
    pub fn window_s(&self) -> i64 {
        self.window_s
    }

    /// What identifies the fact of this request, with this topic, among the source's facts. By field or header: 64
    /// hexadecimal digits, 32 of the field or header and 32 of the content; two bodies that say the same have the same
    /// content, however they are written. By the whole body: 32 digits, of its bytes. `None` where the field or the header
    /// is missing: such a request repeats nothing. `document` is the body, if it is JSON or XML.
    pub(crate) fn key(
        &self,
        inbound: &Inbound<'_>,
        document: Option<&Document<'_>>,
        topic: &str,
        key: &SubjectKey,
    ) -> Option<Fact> {
        let (identity, sender_id) = match &self.by {
            By::Pointers(pointers) => {
                let document = document?;
                let id = pointers.joined("\n", |pointer| scalar(document.at(pointer)?))?;
                (format!("field {topic} {id}"), Some(id))
            }
            By::Header(name) => {
                let id = name.only(inbound.headers)?;
                let is_shown = !CREDENTIAL_HEADERS.contains(&name.as_str());
                (format!("header {topic} {id}"), is_shown.then(|| id.to_owned()))
            }
            By::Body => {
                let key = key.hash([b"body ", inbound.body.as_ref()].concat());
                return Some(Fact { key, sender_id: None });
            }
        };
        let key = match document {
            Some(document) => with_content(&identity, canonical(&document.json.text, self.differing), key),
            None => with_content(&identity, inbound.body, key),
        };
        Some(Fact { key, sender_id: sender_id.filter(|id| id.len() <= SENDER_ID_LIMIT_BYTES) })
    }
}

/// What identifies an event of a body that holds several, where no field of its own does: its place in what identifies the body, by
/// its header or as a whole. It recognises a body that is sent again, and nothing else: two batches may have equal events.
pub(crate) fn item_key(topic: &str, index: usize, of_body: &str, key: &SubjectKey) -> String {
    key.hash(format!("item {index} {topic}\n{of_body}"))
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

    fn fact(rule: &Duplicates, headers: &HeaderMap, topic: &str, body: &str) -> Option<Fact> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let json = body::json(&body, None).ok();
        let document = json.as_ref().map(Document::new);
        rule.key(
            &Inbound { headers, body: &body },
            document.as_ref(),
            topic,
            &SubjectKey::from_bytes([7; 32]),
        )
    }

    fn key(rule: &Duplicates, headers: &HeaderMap, topic: &str, body: &str) -> Option<String> {
        fact(rule, headers, topic, body).map(|fact| fact.key)
    }

    #[test]
    fn a_fact_has_the_senders_id_where_a_field_or_a_header_gives_it() {
        let headers = HeaderMap::from_iter(
            [("x-request-id", "r 1"), ("authorization", "secret")]
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())),
        );
        let long = format!(r#"{{"id": "{}"}}"#, "7".repeat(256));
        for (json, body, expect) in [
            (serde_json::json!({"pointer": "/id", "window_s": 60}), r#"{"id": 45031}"#, Some("45031")),
            (serde_json::json!({"pointer": "/id", "window_s": 60}), long.as_str(), None),
            (serde_json::json!({"header": "X-Request-Id", "window_s": 60}), "{}", Some("r 1")),
            (serde_json::json!({"header": "Authorization", "window_s": 60}), "{}", None),
            (serde_json::json!({"body": true, "window_s": 60}), "{}", None),
        ] {
            let found = fact(&rule(json.clone()).unwrap(), &headers, "paid", body).unwrap();
            assert_eq!(found.sender_id.as_deref(), expect, "{json}");
        }
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
    fn what_the_sender_posts_and_what_its_api_answers_is_one_fact() {
        let provider = Provider::named("recuperador").unwrap();
        let (rule, none) = (provider.duplicates().unwrap(), HeaderMap::new());
        for topic in provider.topics() {
            let Some(posted) = topic.example else { continue };
            let (begin, rest) = posted.split_once('{').unwrap();
            let added = r#""id_assessoria": 3, "data_rec": "2026-10-16", "data_referencia": {"id": 1},"#;
            let polled = format!("{begin}{{{added}{rest}").replace("id_parcela", "id_contasareceber");
            assert_eq!(
                key(rule, &none, topic.name, &polled),
                key(rule, &none, topic.name, posted),
                "{}",
                topic.name
            );
            let another = polled.replacen("45031", "45032", 1);
            assert_ne!(key(rule, &none, topic.name, &another), key(rule, &none, topic.name, posted));
        }
        // Below the root the names mean something else.
        let inner =
            |name: &str| key(rule, &none, "t", &format!(r#"{{"id": 1, "lista": [{{"{name}": 2}}]}}"#));
        assert_ne!(inner("id_assessoria"), inner("x"));
        assert_ne!(inner("id_parcela"), inner("id_contasareceber"));
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
