//! A text put together from parts of a request: what a sender signs, or what it wants to be answered.
//!
//! `{body}`, `{header:x-request-id}`, `{query:data.id}`, `{pointer:/data/id}` (a value of a JSON body), `{field:t}` (of the
//! header that holds the signature) and `{secret}` stand for those parts, everything else for itself; `{{` and `}}` are
//! braces. `:lower` at the end of a part makes its text lower case. A part in brackets, with the text around it, is left out
//! where the request does not have it: `[request-id:{header:x-request-id};]`; `[[` and `]]` are brackets.

use std::borrow::Cow;
use std::cell::OnceCell;

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::body::{self, Json};
use crate::header::HeaderName;
use crate::pointer::Pointer;
use crate::value::scalar;

/// A template that was parsed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Value {
        of: Value,
        lower: bool,
    },
    /// Left out as a whole if one of its values is missing.
    Optional(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Body,
    Secret,
    Header(HeaderName),
    Query(String),
    Pointer(Pointer),
    Field(String),
}

/// The text is no template. Quotes the part that is wrong, which is no secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotATemplate {
    /// A brace or bracket without its counterpart.
    #[error("{0} has no counterpart; write it twice if it stands for itself")]
    Unpaired(char),
    /// Brackets in brackets.
    #[error("brackets in brackets are not supported")]
    Nested,
    /// There is no such part.
    #[error(
        "{{{0}}} is no part of a request; allowed: {{body}}, {{header:NAME}}, {{query:NAME}}, {{pointer:/PATH}}, \
         {{field:NAME}} and {{secret}}, each with :lower at the end where it is to be lower case"
    )]
    Part(String),
}

/// The parts of a request, as far as a template is about them.
pub(crate) struct Parts<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// The header that holds `name=value` pairs.
    pub(crate) fields: &'a str,
    json: OnceCell<Option<Json<'a>>>,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(headers: &'a HeaderMap, query: Option<&'a str>, body: &'a [u8]) -> Self {
        Self { headers, query, body, fields: "", json: OnceCell::new() }
    }

    /// The value of a parameter of the query string, decoded; none if it is there twice.
    pub(crate) fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut found = form_urlencoded::parse(self.query?.as_bytes()).filter(|(found, _)| found == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    /// The text or number that a pointer leads to in a JSON body.
    pub(crate) fn at(&self, pointer: &Pointer) -> Option<String> {
        let json = self.json.get_or_init(|| body::any(self.body, None).ok());
        scalar(json.as_ref()?.at(pointer.tokens())?)
    }

    /// The value of each field of this name, such as `v1` in `t=1,v1=ab,v1=cd`.
    pub(crate) fn fields<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let pairs = self.fields.split([',', ';']).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }
}

/// A piece of a text that was put together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Bytes(Cow<'a, [u8]>),
    Secret,
}

impl Template {
    /// The whole body.
    pub(crate) fn body() -> Self {
        Self::try_from("{body}".to_owned()).expect("a literal that keeps the rule")
    }

    /// The pieces of the text; `None` if a part that is not optional is missing.
    pub(crate) fn pieces<'p>(&'p self, request: &'p Parts<'_>) -> Option<Vec<Piece<'p>>> {
        let mut pieces = Vec::with_capacity(self.parts.len());
        append(&self.parts, request, false, &mut pieces)?;
        Some(pieces)
    }

    /// The text, without a secret; `None` if a part that is not optional is missing. In JSON, values are written as the inside
    /// of a string.
    pub(crate) fn text(&self, request: &Parts<'_>, is_json: bool) -> Option<Vec<u8>> {
        let mut pieces = Vec::with_capacity(self.parts.len());
        append(&self.parts, request, is_json, &mut pieces)?;
        let bytes = |piece| match piece {
            Piece::Bytes(bytes) => bytes.into_owned(),
            Piece::Secret => Vec::new(),
        };
        Some(pieces.into_iter().flat_map(bytes).collect())
    }

    /// Whether any part of the request is part of the text.
    pub(crate) fn has_values(&self) -> bool {
        self.values().next().is_some()
    }

    /// Whether the text depends on the whole body.
    pub fn has_body(&self) -> bool {
        self.values().any(|value| *value == Value::Body)
    }

    /// Whether the text begins with the secret.
    pub fn begins_with_secret(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Value { of: Value::Secret, .. }))
    }

    /// Whether the secret is part of the text.
    pub(crate) fn has_secret(&self) -> bool {
        self.values().any(|value| *value == Value::Secret)
    }

    /// Whether the value of this field is part of the text.
    pub(crate) fn has_field(&self, name: &str) -> bool {
        self.values().any(|value| matches!(value, Value::Field(found) if found == name))
    }

    /// Whether a field of the header of the signature is part of the text.
    pub(crate) fn has_fields(&self) -> bool {
        self.values().any(|value| matches!(value, Value::Field(_)))
    }

    /// The headers whose values are part of the text.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.values().filter_map(|value| match value {
            Value::Header(name) => Some(name),
            _ => None,
        })
    }

    /// The parameters of the query string whose values are part of the text.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.values().filter_map(|value| match value {
            Value::Query(name) => Some(name.as_str()),
            _ => None,
        })
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        let flat = self.parts.iter().flat_map(|part| match part {
            Part::Optional(parts) => parts.as_slice(),
            one => std::slice::from_ref(one),
        });
        flat.filter_map(|part| match part {
            Part::Value { of, .. } => Some(of),
            Part::Literal(_) | Part::Optional(_) => None,
        })
    }
}

fn append<'p>(
    parts: &'p [Part],
    request: &'p Parts<'_>,
    is_json: bool,
    pieces: &mut Vec<Piece<'p>>,
) -> Option<()> {
    for part in parts {
        match part {
            Part::Literal(text) => pieces.push(Piece::Bytes(text.as_bytes().into())),
            Part::Value { of: Value::Secret, .. } => pieces.push(Piece::Secret),
            Part::Value { of, lower } => {
                let bytes = value(of, request)?;
                let bytes = match lower {
                    true => String::from_utf8_lossy(&bytes).to_lowercase().into_bytes().into(),
                    false => bytes,
                };
                pieces.push(Piece::Bytes(if is_json { in_json(&bytes).into() } else { bytes }));
            }
            Part::Optional(parts) => {
                let length = pieces.len();
                if append(parts, request, is_json, pieces).is_none() {
                    pieces.truncate(length);
                }
            }
        }
    }
    Some(())
}

/// A text as it is written inside of a JSON string.
fn in_json(bytes: &[u8]) -> Vec<u8> {
    let quoted = serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string();
    quoted.as_bytes()[1..quoted.len() - 1].to_vec()
}

fn value<'p>(of: &'p Value, request: &'p Parts<'_>) -> Option<Cow<'p, [u8]>> {
    let owned = |text: String| Cow::Owned(text.into_bytes());
    match of {
        Value::Body => Some(request.body.into()),
        Value::Header(name) => name.only(request.headers).map(|text| text.as_bytes().into()),
        Value::Query(name) => request.parameter(name).map(|text| owned(text.into_owned())),
        Value::Pointer(pointer) => request.at(pointer).map(owned),
        Value::Field(name) => request.fields(name).next().map(|text| text.as_bytes().into()),
        Value::Secret => None,
    }
}

impl TryFrom<String> for Template {
    type Error = NotATemplate;

    fn try_from(text: String) -> Result<Self, NotATemplate> {
        let mut parser = Parser { rest: text.chars().peekable() };
        let parts = parser.parts(false)?;
        Ok(Self { parts, text })
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

struct Parser<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl Parser<'_> {
    fn parts(&mut self, is_inner: bool) -> Result<Vec<Part>, NotATemplate> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        while let Some(c) = self.rest.next() {
            if "{}[]".contains(c) && self.rest.next_if_eq(&c).is_some() {
                literal.push(c);
                continue;
            }
            if "{[]".contains(c) && !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            match c {
                '{' => parts.push(self.value()?),
                '[' if is_inner => return Err(NotATemplate::Nested),
                '[' => parts.push(Part::Optional(self.parts(true)?)),
                ']' if is_inner => return Ok(parts),
                ']' | '}' => return Err(NotATemplate::Unpaired(c)),
                c => literal.push(c),
            }
        }
        if is_inner {
            return Err(NotATemplate::Unpaired('['));
        }
        parts.extend((!literal.is_empty()).then_some(Part::Literal(literal)));
        Ok(parts)
    }

    fn value(&mut self) -> Result<Part, NotATemplate> {
        let mut text = String::new();
        loop {
            match self.rest.next() {
                Some('}') => break,
                Some(c) => text.push(c),
                None => return Err(NotATemplate::Unpaired('{')),
            }
        }
        let (part, lower) = match text.strip_suffix(":lower") {
            Some(part) => (part, true),
            None => (text.as_str(), false),
        };
        let wrong = || NotATemplate::Part(text.clone());
        let value = match part.split_once(':') {
            None if part == "body" => Value::Body,
            None if part == "secret" => Value::Secret,
            Some(("header", name)) => {
                Value::Header(HeaderName::try_from(name.to_owned()).map_err(|_| wrong())?)
            }
            Some(("query", name)) if !name.is_empty() => Value::Query(name.to_owned()),
            Some(("field", name)) if !name.is_empty() => Value::Field(name.to_owned()),
            Some(("pointer", path)) => Value::Pointer(path.to_owned().try_into().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        };
        Ok(Part::Value { of: value, lower })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_text_is_put_together_from_the_parts_of_a_request() {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "R-1".parse().unwrap());
        let mut request = Parts::new(&headers, Some("data.id=ABC%2F1&a=1"), br#"{"data": {"id": 7.0}}"#);
        request.fields = "ts=17, v1=ab,v1=cd";
        let check = |text: &str, expect: Option<&str>| {
            let made = template(text).text(&request, false).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(made.as_deref(), expect, "{text}");
        };
        check("", Some(""));
        check("{field:ts}.{body}", Some(r#"17.{"data": {"id": 7.0}}"#));
        check(
            "id:{query:data.id:lower};request-id:{header:X-Request-Id};ts:{field:ts};",
            Some("id:abc/1;request-id:R-1;ts:17;"),
        );
        check("{pointer:/data/id}{{}}[[]]{field:v1}", Some("7{}[]ab"));
        check("{query:b}", None);
        check("{pointer:/data}", None);
        check("a[b{query:b}c]d[e{query:a}f]", Some("ade1f"));
        check("[{query:a}{query:b}]{header:x-request-id:lower}", Some("r-1"));
        let json = Parts::new(&headers, Some("a=%22%5C&b=1&b=2"), b"");
        let quoted = template(r#"{{"a": "{query:a}"}}"#).text(&json, true);
        assert_eq!(quoted.as_deref(), Some(&br#"{"a": "\"\\"}"#[..]));
        assert_eq!(template("{query:b}").text(&json, false), None, "there twice");
        assert_eq!(request.fields("v1").collect::<Vec<_>>(), ["ab", "cd"]);
    }

    #[test]
    fn a_template_that_cannot_be_meant_is_refused_with_its_reason() {
        for (text, expect) in [
            ("{body", "{ has no counterpart"),
            ("a}", "} has no counterpart"),
            ("a]", "] has no counterpart"),
            ("[a", "[ has no counterpart"),
            ("[a[b]]", "brackets in brackets"),
            ("{cookie:a}", "{cookie:a} is no part of a request; allowed: {body}"),
            ("{header:a b}", "{header:a b} is no part"),
            ("{query:}", "{query:} is no part"),
            ("{pointer:id}", "{pointer:id} is no part"),
        ] {
            let error = Template::try_from(text.to_owned()).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{text}: {error}");
        }
        assert_eq!(String::from(template("[{query:a:lower}]")), "[{query:a:lower}]");
    }
}
