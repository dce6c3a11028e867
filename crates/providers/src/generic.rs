//! A provider that is configuration only: where the topic is, where the subject is, what to answer.

use bytes::Bytes;
use event::{ProviderName, Subject, Topic};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::body::Json;
use crate::fields::{topic, topic_from};
use crate::header::{CREDENTIAL_HEADERS, HeaderName};
use crate::unusable::{Problem, Unusable};
use crate::value::{scalar, without_nul};
use crate::{Id, SubjectKey, scan};

/// A generic provider, as configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The provider's name; not one of the built-in ones.
    pub name: ProviderName,
    /// The name as people write it; the name itself if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where the topic is.
    pub topic: TopicFrom,
    /// Where the subject is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectFrom>,
    /// How the body is written.
    #[serde(default)]
    pub body: BodyForm,
    /// The success answer that the sender insists on; malote's own if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerConfig>,
    /// Headers to keep with the event, besides `user-agent`, `webhook-id` and `webhook-timestamp`.
    #[serde(default)]
    pub keep_headers: Vec<HeaderName>,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyForm {
    /// A JSON object.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`. A pointer `/data[id]` leads to the field `data[id]`.
    Form,
}

/// Where the topic is: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopicFrom {
    /// In the body.
    Pointer(Pointer),
    /// In a header.
    Header(HeaderName),
    /// Nowhere: the sender has only one thing to tell.
    Constant(Topic),
}

/// Where the subject is: in the body or, without a pointer, in a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectFrom {
    /// What the id identifies: the part of the subject before the `/`.
    pub entity: String,
    /// Where in the body the id is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<Pointer>,
    /// In which header the id is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// The id is a person's, such as a CPF: the subject holds a keyed hash of it.
    #[serde(default)]
    pub personal: bool,
}

impl SubjectFrom {
    /// The subject with the id of this text, which is at this place; none if it is empty.
    fn subject(&self, place: &str, id: String, key: &SubjectKey) -> Result<Option<Subject>, Unusable> {
        let id = without_nul(id);
        if id.is_empty() || self.personal {
            return Ok((!id.is_empty()).then(|| Subject::new(&self.entity, &key.hash(id))));
        }
        match Id::new(id, |text| format!("a text of {} characters", text.chars().count())) {
            Ok(id) => Ok(Some(Subject::new(&self.entity, id.as_str()))),
            Err(problem) => Err(Problem::Id { place: place.to_owned(), problem }.into()),
        }
    }

    fn in_header(&self, headers: &HeaderMap, key: &SubjectKey) -> Result<Option<Subject>, Unusable> {
        match self.header.as_ref().and_then(|name| Some((name, name.only(headers)?))) {
            Some((name, id)) => self.subject(&format!("header {name}"), id.to_owned(), key),
            None => Ok(None),
        }
    }
}

/// The success answer that a sender insists on, instead of malote's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// A 2xx status.
    pub status: StatusCode,
    /// The body, possibly empty.
    pub body: Bytes,
    /// The body's `Content-Type`.
    pub content_type: String,
}

/// A configured success answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerConfig {
    /// A 2xx status.
    #[serde(default)]
    pub status: SuccessStatus,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// The body's `Content-Type`.
    #[serde(default = "text_plain")]
    pub content_type: String,
}

fn text_plain() -> String {
    "text/plain; charset=utf-8".to_owned()
}

impl AnswerConfig {
    pub(crate) fn to_answer(&self) -> Answer {
        Answer {
            status: self.status.0,
            body: Bytes::from(self.body.clone()),
            content_type: self.content_type.clone(),
        }
    }
}

/// A status that says success: 200 to 299.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct SuccessStatus(StatusCode);

/// The status is not 2xx.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a status from 200 to 299, got {0}")]
pub struct NotASuccess(u16);

impl Default for SuccessStatus {
    fn default() -> Self {
        Self(StatusCode::OK)
    }
}

impl TryFrom<u16> for SuccessStatus {
    type Error = NotASuccess;

    fn try_from(code: u16) -> Result<Self, NotASuccess> {
        let status = StatusCode::from_u16(code).ok().filter(StatusCode::is_success);
        status.map(Self).ok_or(NotASuccess(code))
    }
}

impl From<SuccessStatus> for u16 {
    fn from(status: SuccessStatus) -> Self {
        status.0.as_u16()
    }
}

/// A JSON pointer (RFC 6901) to something inside the body: `/data/id`, `/pix/0/endToEndId`.
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

impl Pointer {
    pub(crate) fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> Self {
        pointer.text
    }
}

impl Config {
    /// Every mistake that is about more than one value's form and about no other provider, as (path, message).
    pub(crate) fn own_mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut mistake = |path: &str, message: String| mistakes.push((path.to_owned(), message));
        if let Some(subject) = &self.subject {
            if subject.pointer.is_some() == subject.header.is_some() {
                mistake("subject", "give exactly one of pointer and header".to_owned());
            }
            if subject.entity.is_empty() {
                mistake(
                    "subject.entity",
                    "must not be empty; say what the id identifies, such as \"order\"".to_owned(),
                );
            }
        }
        if let Some(answer) = &self.answer
            && http::HeaderValue::from_str(&answer.content_type).is_err()
        {
            mistake("answer.content_type", "expected a media type such as text/plain".to_owned());
        }
        for (index, name) in self.keep_headers.iter().enumerate() {
            if CREDENTIAL_HEADERS.contains(&name.as_str()) {
                mistake(
                    &format!("keep_headers[{index}]"),
                    format!("{name} holds credentials and is never kept"),
                );
            }
        }
        mistakes
    }

    pub(crate) fn read_json(
        &self,
        headers: &HeaderMap,
        json: &Json<'_>,
        key: &SubjectKey,
    ) -> Result<(Topic, Option<Subject>), Unusable> {
        let topic = match &self.topic {
            TopicFrom::Pointer(pointer) => {
                let [parents @ .., last] = pointer.tokens.as_slice() else {
                    return Err(Problem::TopicMissing { place: pointer.text.clone() }.into());
                };
                if json.at(parents).is_some_and(|parent| scan::is_repeated(parent, last)) {
                    return Err(Problem::Duplicate { place: pointer.text.clone() }.into());
                }
                topic(&pointer.text, json.at(&pointer.tokens))?
            }
            TopicFrom::Header(name) => header_topic(headers, name)?,
            TopicFrom::Constant(topic) => topic.clone(),
        };
        let subject = |from: &SubjectFrom| match &from.pointer {
            Some(pointer) => match json.at(&pointer.tokens).and_then(scalar) {
                Some(id) => from.subject(&pointer.text, id, key),
                None => Ok(None),
            },
            None => from.in_header(headers, key),
        };
        Ok((topic, self.subject.as_ref().map_or(Ok(None), subject)?))
    }

    /// The headers to keep: those that are asked for, and those that reading the body again would want.
    pub(crate) fn read_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let topic = match &self.topic {
            TopicFrom::Header(name) => Some(name),
            TopicFrom::Pointer(_) | TopicFrom::Constant(_) => None,
        };
        let subject = self.subject.as_ref().and_then(|from| from.header.as_ref());
        let asked = &self.keep_headers;
        asked.iter().chain(topic.into_iter().chain(subject).filter(move |name| !asked.contains(name)))
    }

    pub(crate) fn read_form(
        &self,
        headers: &HeaderMap,
        fields: &[(String, String)],
        key: &SubjectKey,
    ) -> Result<(Topic, Option<Subject>), Unusable> {
        let values = |pointer: &Pointer| -> Vec<&str> {
            let name = pointer.tokens.join("/");
            fields.iter().filter(|(field, _)| *field == name).map(|(_, value)| value.as_str()).collect()
        };
        let topic = match &self.topic {
            TopicFrom::Pointer(pointer) => match values(pointer)[..] {
                [] => return Err(Problem::TopicMissing { place: pointer.text.clone() }.into()),
                [text] => topic_from(&pointer.text, text)?,
                _ => return Err(Problem::Duplicate { place: pointer.text.clone() }.into()),
            },
            TopicFrom::Header(name) => header_topic(headers, name)?,
            TopicFrom::Constant(topic) => topic.clone(),
        };
        let subject = |from: &SubjectFrom| match &from.pointer {
            Some(pointer) => match values(pointer).first() {
                Some(id) => from.subject(&pointer.text, (*id).to_owned(), key),
                None => Ok(None),
            },
            None => from.in_header(headers, key),
        };
        Ok((topic, self.subject.as_ref().map_or(Ok(None), subject)?))
    }
}

fn header_topic(headers: &HeaderMap, name: &HeaderName) -> Result<Topic, Unusable> {
    let place = format!("header {name}");
    if headers.get_all(name.as_str()).iter().count() > 1 {
        return Err(Problem::Duplicate { place }.into());
    }
    match name.only(headers) {
        Some(text) => topic_from(&place, text),
        None => Err(Problem::TopicMissing { place }.into()),
    }
}

#[cfg(test)]
mod tests;
