//! Requests that are no events: the pings of a sender's panel, and challenges whose answer proves who owns the address.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::answer::{SuccessStatus, content_type_mistake, text_plain};
use crate::header::{CREDENTIAL_HEADERS, HeaderName};
use crate::pointer::Pointer;
use crate::template::{Parts, Template};

/// A request that is answered as its sender wants and is no event. All that is given has to fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// The method.
    #[serde(default)]
    pub method: MethodName,
    /// The body has a text or number here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<Pointer>,
    /// The request has this header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// The address has this parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// What stands there; anything if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The body is empty, `{}` or `[]`.
    #[serde(default)]
    pub empty: bool,
    /// It is answered without credentials.
    #[serde(default)]
    pub unauthenticated: bool,
    /// The answer.
    #[serde(default)]
    pub answer: ChallengeAnswer,
}

/// The answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeAnswer {
    /// A 2xx status.
    #[serde(default)]
    pub status: SuccessStatus,
    /// The body.
    #[serde(default = "nothing")]
    pub body: Template,
    /// The body's `Content-Type`.
    #[serde(default = "text_plain")]
    pub content_type: String,
    /// Headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<AnswerHeader>,
}

/// A header of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: Template,
}

/// Headers that do more than answer a challenge.
const SETS_MORE: [&str; 7] = [
    "connection",
    "content-length",
    "content-type",
    "location",
    "set-cookie",
    "transfer-encoding",
    "x-content-type-options",
];

fn nothing() -> Template {
    Template::try_from(String::new()).expect("an empty text is a template")
}

impl Default for ChallengeAnswer {
    fn default() -> Self {
        Self {
            status: SuccessStatus::default(),
            body: nothing(),
            content_type: text_plain(),
            headers: Vec::new(),
        }
    }
}

/// A method in capital letters; POST if it is not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MethodName(Method);

/// The text is no method.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected POST, GET, HEAD, OPTIONS, PUT, PATCH or DELETE, got {0:?}")]
pub struct NotAMethod(String);

impl Default for MethodName {
    fn default() -> Self {
        Self(Method::POST)
    }
}

impl TryFrom<String> for MethodName {
    type Error = NotAMethod;

    fn try_from(text: String) -> Result<Self, NotAMethod> {
        let known = [
            Method::POST,
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ];
        known.into_iter().find(|method| method.as_str() == text).map(Self).ok_or(NotAMethod(text))
    }
}

impl From<MethodName> for String {
    fn from(name: MethodName) -> Self {
        name.0.to_string()
    }
}

/// A challenge as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// A 2xx status.
    pub status: StatusCode,
    /// The body, possibly empty.
    pub body: Bytes,
    /// The headers, with the content type.
    pub headers: HeaderMap,
}

impl Challenge {
    /// Whether the head of a request decides, and a request without credentials is answered.
    pub fn is_open(&self) -> bool {
        self.unauthenticated
    }

    /// Whether requests with this method may be meant.
    pub fn has_method(&self, method: &Method) -> bool {
        self.method.0 == method
    }

    /// The answer to a request, if it is one of these. `body` is empty where the body does not decide.
    pub fn reply(
        &self,
        method: &Method,
        headers: &HeaderMap,
        query: Option<&str>,
        body: &[u8],
    ) -> Option<Reply> {
        if !self.has_method(method) || self.empty && !is_empty(body) {
            return None;
        }
        let request = Parts::new(headers, query, body);
        let is_value = |found: &str| self.value.as_deref().is_none_or(|value| value == found);
        let fits = self.header.as_ref().is_none_or(|name| name.only(headers).is_some_and(is_value))
            && self
                .query
                .as_ref()
                .is_none_or(|name| request.parameter(name).is_some_and(|found| is_value(&found)))
            && self
                .pointer
                .as_ref()
                .is_none_or(|pointer| request.at(pointer).is_some_and(|found| is_value(&found)));
        if !fits {
            return None;
        }
        let answer = &self.answer;
        let mut given = HeaderMap::new();
        given.extend(
            HeaderValue::from_str(&answer.content_type).ok().map(|it| (http::header::CONTENT_TYPE, it)),
        );
        // What is echoed is never taken for a page.
        given.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        for AnswerHeader { name, value } in &answer.headers {
            let value = value.text(&request, false).and_then(|text| HeaderValue::from_bytes(&text).ok());
            let name = http::HeaderName::try_from(name.as_str()).ok();
            given.extend(name.zip(value));
        }
        let is_json = answer.content_type.to_ascii_lowercase().contains("json");
        let body = answer.body.text(&request, is_json)?.into();
        Some(Reply { status: answer.status.status(), body, headers: given })
    }

    /// Every mistake that the form of a value does not show, as (path, message).
    pub fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let mut mistakes = Vec::new();
        let conditions = [self.pointer.is_some(), self.header.is_some(), self.query.is_some(), self.empty];
        let count = conditions.iter().filter(|is_given| **is_given).count();
        if count > 1 {
            mistakes.push(("", "give at most one of pointer, header, query and empty"));
        }
        if count == 0 && self.method.0 == Method::POST {
            mistakes.push((
                "",
                "takes every event; give pointer, header, query or empty, or a method that is not POST",
            ));
        }
        let answer = || String::from(self.answer.body.clone());
        let echoes =
            |part: Option<String>| part.is_none_or(|part| answer().to_ascii_lowercase().contains(&part));
        let parts = [
            self.header.as_ref().map(|name| format!("{{header:{name}}}")),
            self.query.as_ref().map(|name| format!("{{query:{}}}", name.to_ascii_lowercase())),
        ];
        if self.method.0 == Method::POST && self.value.is_none() && !parts.into_iter().all(echoes) {
            mistakes.push((
                "value",
                "is missing: every event with this header or parameter would be taken for a challenge",
            ));
        }
        if self.value.is_some() && (count == 0 || self.empty) {
            mistakes.push(("value", "belongs to pointer, header or query"));
        }
        if self.unauthenticated && (self.pointer.is_some() || self.empty) {
            mistakes.push(("unauthenticated", "the body of a request without credentials is not read"));
        }
        let templates = || self.answer.headers.iter().map(|header| &header.value).chain([&self.answer.body]);
        if templates().any(|template| template.has_secret() || template.has_fields()) {
            mistakes.push(("answer", "has neither {secret} nor {field:…}, which are for signatures"));
        }
        let content_type = self.answer.content_type.to_ascii_lowercase();
        let is_active = ["html", "xml", "svg", "script"].iter().any(|kind| content_type.contains(kind));
        if is_active && self.answer.body.has_values() {
            let message = "is of a kind that browsers run, and the body repeats parts of the request; give text/plain or JSON";
            mistakes.push(("answer.content_type", message));
        }
        if self.answer.headers.iter().any(|header| SETS_MORE.contains(&header.name.as_str())) {
            mistakes.push((
                "answer.headers",
                "must not set the type, the length or the place of the answer, or a cookie",
            ));
        }
        let is_credential = |name: &HeaderName| CREDENTIAL_HEADERS.contains(&name.as_str());
        if templates().any(|template| template.headers().any(is_credential)) {
            mistakes.push(("answer", "must not repeat a credential"));
        }
        mistakes.extend(
            content_type_mistake(&self.answer.content_type)
                .map(|(_, message)| ("answer.content_type", message)),
        );
        mistakes
    }
}

fn is_empty(body: &[u8]) -> bool {
    matches!(body.trim_ascii(), b"" | b"{}" | b"[]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(toml: &str) -> Challenge {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn only_what_is_meant_is_answered_and_as_it_is_wanted() {
        let mut headers = HeaderMap::new();
        headers.insert("x-callback-challenge", "c-123".parse().unwrap());
        let check = |toml: &str, method: Method, query: &str, body: &str, expect: Option<&str>| {
            let challenge = challenge(toml);
            assert_eq!(challenge.mistakes(), [], "{toml}");
            let reply = challenge.reply(&method, &headers, Some(query), body.as_bytes());
            let text = reply.map(|reply| String::from_utf8(reply.body.to_vec()).unwrap());
            assert_eq!(text.as_deref(), expect, "{toml} {method} {query} {body}");
        };
        let vtex = r#"pointer = "/hookConfig"
                      value = "ping""#;
        check(vtex, Method::POST, "", r#"{"hookConfig": "ping"}"#, Some(""));
        check(vtex, Method::POST, "", r#"{"hookConfig": "pong"}"#, None);
        check(vtex, Method::POST, "", r#"{"State": "ping"}"#, None);
        check(vtex, Method::POST, "", "no JSON", None);
        check(vtex, Method::GET, "", r#"{"hookConfig": "ping"}"#, None);
        let echo = r#"header = "X-Callback-Challenge"
                      answer = { body = "{header:x-callback-challenge}" }"#;
        check(echo, Method::POST, "", "{}", Some("c-123"));
        check(&echo.replace("allback", "allother"), Method::POST, "", "{}", None);
        let hub = r#"method = "GET"
                     query = "hub.mode"
                     value = "subscribe"
                     answer = { body = "{query:hub.challenge}" }"#;
        check(hub, Method::GET, "hub.mode=subscribe&hub.challenge=a%20b", "", Some("a b"));
        check(hub, Method::GET, "hub.mode=subscribe", "", None);
        check(hub, Method::GET, "hub.challenge=1", "", None);
        check("empty = true", Method::POST, "", " {}\n", Some(""));
        check("empty = true", Method::POST, "", "", Some(""));
        check("empty = true", Method::POST, "", r#"{"a": 1}"#, None);
        check("method = \"HEAD\"", Method::HEAD, "", "", Some(""));
        let slack = r#"pointer = "/challenge"
                       answer = { body = '{{"challenge": "{pointer:/challenge}"}}', content_type = "application/json" }"#;
        check(slack, Method::POST, "", r#"{"challenge": "3eZ"}"#, Some(r#"{"challenge": "3eZ"}"#));
        let reply =
            challenge(slack).reply(&Method::POST, &headers, None, br#"{"challenge": "3eZ"}"#).unwrap();
        assert_eq!(reply.headers["content-type"], "application/json");
        let hook = challenge(
            r#"method = "OPTIONS"
               answer = { status = 204, headers = [{ name = "webhook-allowed-origin", value = "{header:x-callback-challenge}" }] }"#,
        );
        let reply = hook.reply(&Method::OPTIONS, &headers, None, b"").unwrap();
        assert_eq!(
            (reply.status.as_u16(), &reply.headers["webhook-allowed-origin"]),
            (204, &"c-123".parse().unwrap())
        );
    }

    #[test]
    fn a_challenge_that_takes_events_or_repeats_credentials_is_a_mistake() {
        for (toml, path) in [
            ("", ""),
            ("empty = true\npointer = \"/a\"", ""),
            ("method = \"GET\"\nvalue = \"a\"", "value"),
            ("pointer = \"/a\"\nunauthenticated = true", "unauthenticated"),
            ("empty = true\nanswer = { body = \"{header:authorization}\" }", "answer"),
            ("empty = true\nanswer = { body = \"{secret}\" }", "answer"),
            ("empty = true\nanswer = { content_type = \"a\\nb\" }", "answer.content_type"),
            (
                "query = \"c\"\nanswer = { body = \"{query:c}\", content_type = \"text/html\" }",
                "answer.content_type",
            ),
            (
                "empty = true\nanswer = { headers = [{ name = \"Set-Cookie\", value = \"a=b\" }] }",
                "answer.headers",
            ),
            ("header = \"x-event\"", "value"),
            ("query = \"mode\"\nunauthenticated = true\nanswer = { body = \"ok\" }", "value"),
        ] {
            let mistakes = challenge(toml).mistakes();
            assert!(mistakes.iter().any(|(found, _)| *found == path), "{toml}: {mistakes:?}");
        }
        assert!(toml::from_str::<Challenge>("method = \"BREW\"").is_err());
    }
}
