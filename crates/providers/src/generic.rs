//! A provider that is configuration only: where the topic is, where the subject is, what to answer.

mod answer;
mod challenge;
mod places;

use event::{ProviderName, Subject, Topic};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::body::Document;
use crate::fields::{topic, topic_from};
use crate::header::{CREDENTIAL_HEADERS, HeaderName};
use crate::unusable::{Problem, Unusable};
use crate::value::{scalar, without_nul};
use crate::{Id, SubjectKey};

pub use crate::pointer::{EventsFrom, NotAPointer, Pointer, Pointers};
pub use answer::{Answer, AnswerConfig, NotASuccess, SuccessStatus};
pub use challenge::{AnswerHeader, Challenge, ChallengeAnswer, MethodName, NotAMethod, Reply};
pub use places::{EventPlace, EventPlaces};

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
    /// Where its events are, if one body holds several. Pointers then lead into each event; what is not there is looked up in
    /// the whole body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventPlaces>,
    /// Requests that are no events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<Challenge>,
    /// What the sender appends to the registered address, such as `/pix`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suffixes: Vec<Suffix>,
    /// Headers to keep with the event, besides `user-agent`, `webhook-id` and `webhook-timestamp`.
    #[serde(default)]
    pub keep_headers: Vec<HeaderName>,
    /// The names of fields of its bodies that say something of a person, besides the usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub personal: Vec<String>,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyForm {
    /// A JSON object.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`. The pointers `/data/id` and `/data[id]` lead to the field `data[id]`.
    Form,
    /// An XML document. `/nfeProc/NFe` leads to the element `NFe` in the root element `nfeProc`, whatever their namespaces;
    /// `/nfeProc/@versao` to an attribute, `/lista/item/1` to the second of several elements.
    Xml,
}

/// Where the topic is: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopicFrom {
    /// In the body.
    Pointer(Pointer),
    /// In a header.
    Header(HeaderName),
    /// Nowhere: every event of the sender has the same topic.
    Constant(Topic),
}

/// Where the subject is: in the body or, without a pointer, in a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectFrom {
    /// What the id identifies: the part of the subject before the `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub entity: String,
    /// Where in the body it says what the id identifies, instead of `entity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity_pointer: Option<Pointer>,
    /// The id identifies what the topic begins with, up to this text: `.` for `invoice.paid`. Instead of `entity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity_until: Option<String>,
    /// Where in the body the id is; of several values, the id is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<Pointers>,
    /// What stands between several values.
    #[serde(default = "colon")]
    pub separator: String,
    /// In which header the id is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// The id is a person's, such as a CPF: the subject holds a keyed hash of it.
    #[serde(default)]
    pub personal: bool,
}

fn colon() -> String {
    ":".to_owned()
}

/// What a sender appends to an address: `/` and a few letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Suffix(String);

/// The text is no suffix of an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a path such as /pix, got {0:?}")]
pub struct NotASuffix(String);

impl Suffix {
    /// The suffix, with its `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Suffix {
    type Error = NotASuffix;

    fn try_from(text: String) -> Result<Self, NotASuffix> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_segment = |segment: &str| !segment.is_empty() && segment.chars().all(is_plain);
        match text.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment)) {
            true => Ok(Self(text)),
            false => Err(NotASuffix(text)),
        }
    }
}

impl From<Suffix> for String {
    fn from(suffix: Suffix) -> Self {
        suffix.0
    }
}

/// The values of one event: of a JSON text, or of the fields of a form.
pub(crate) enum Values<'a> {
    Json(&'a Document<'a>),
    Form(&'a [(String, String)]),
}

impl Values<'_> {
    /// The text or number that a pointer leads to.
    fn at(&self, pointer: &Pointer) -> Option<String> {
        match self {
            Self::Json(document) => scalar(document.at(pointer)?),
            Self::Form(fields) => {
                fields.iter().find(|(name, _)| pointer.is_field(name)).map(|(_, value)| value.clone())
            }
        }
    }

    fn topic(&self, pointer: &Pointer) -> Result<Topic, Unusable> {
        let place = pointer.as_str();
        let twice = || Problem::Duplicate { place: place.to_owned() }.into();
        match self {
            Self::Json(document) => match document.is_repeated(pointer) {
                true => Err(twice()),
                false => topic(place, document.at(pointer)),
            },
            Self::Form(fields) => {
                let mut found = fields.iter().filter(|(name, _)| pointer.is_field(name));
                match (found.next(), found.next()) {
                    (None, _) => Err(Problem::TopicMissing { place: place.to_owned() }.into()),
                    (Some((_, text)), None) => topic_from(place, text),
                    _ => Err(twice()),
                }
            }
        }
    }
}

impl SubjectFrom {
    /// The subject of an event with these values; none if there is no id.
    fn read(
        &self,
        headers: &HeaderMap,
        values: &Values<'_>,
        topic: &Topic,
        key: &SubjectKey,
    ) -> Result<Option<Subject>, Unusable> {
        let found = match (&self.pointer, &self.header) {
            (Some(pointers), _) => pointers.joined(&self.separator, |pointer| values.at(pointer)),
            (None, Some(name)) => name.only(headers).map(str::to_owned),
            (None, None) => None,
        };
        let Some(id) = found.map(without_nul).filter(|id| !id.is_empty()) else { return Ok(None) };
        let entity = match (&self.entity_pointer, &self.entity_until) {
            (Some(pointer), _) => values.at(pointer).map(without_nul),
            (None, Some(end)) => topic.as_str().split(end.as_str()).next().map(str::to_owned),
            (None, None) => Some(self.entity.clone()),
        };
        let Some(entity) = entity.filter(|entity| !entity.is_empty()) else { return Ok(None) };
        if self.personal {
            return Ok(Some(Subject::new(&entity, &key.hash(id))));
        }
        match Id::new(id, |text| format!("a text of {} characters", text.chars().count())) {
            Ok(id) => Ok(Some(Subject::new(&entity, id.as_str()))),
            Err(problem) => Err(Problem::Id { place: self.place(), problem }.into()),
        }
    }

    /// Every mistake, as (path, message).
    fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let mut mistakes = Vec::new();
        if self.pointer.is_some() == self.header.is_some() {
            mistakes.push(("subject", "give exactly one of pointer and header"));
        }
        let ways = [
            !self.entity.is_empty(),
            self.entity_pointer.is_some(),
            self.entity_until.as_ref().is_some_and(|end| !end.is_empty()),
        ];
        if ways.iter().filter(|is_given| **is_given).count() != 1 {
            mistakes.push((
                "subject.entity",
                "say what the id identifies by exactly one of entity, such as \"order\", entity_pointer and entity_until",
            ));
        }
        mistakes
    }

    /// Where the id is, for people.
    pub fn place(&self) -> String {
        let header = || self.header.as_ref().map(|name| format!("header {name}"));
        self.pointer.as_ref().map(Pointers::place).or_else(header).unwrap_or_default()
    }
}

impl Config {
    /// Every mistake that is about more than one value's form and about no other provider, as (path, message).
    pub(crate) fn own_mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut mistake = |path: &str, message: String| mistakes.push((path.to_owned(), message));
        for (path, message) in self.subject.iter().flat_map(SubjectFrom::mistakes) {
            mistake(path, message.to_owned());
        }
        for (path, message) in self.events.iter().flat_map(EventPlaces::mistakes) {
            mistake(&path, message.to_owned());
        }
        for (path, message) in self.answer.iter().flat_map(AnswerConfig::mistakes) {
            mistake(&format!("answer.{path}"), message.to_owned());
        }
        for (index, challenge) in self.challenges.iter().enumerate() {
            for (path, message) in challenge.mistakes() {
                let dot = if path.is_empty() { "" } else { "." };
                mistake(&format!("challenges[{index}]{dot}{path}"), message.to_owned());
            }
        }
        if self.events.is_some() && self.body != BodyForm::Json {
            mistake("events", "needs body = \"json\"".to_owned());
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

    /// Topic and subject of an event with these values, which comes from this place of a body that has several.
    pub(crate) fn read(
        &self,
        headers: &HeaderMap,
        values: &Values<'_>,
        place: Option<&EventPlace>,
        key: &SubjectKey,
    ) -> Result<(Topic, Option<Subject>), Unusable> {
        let topic = match (place.and_then(|place| place.topic.as_ref()), &self.topic) {
            (Some(topic), _) | (None, TopicFrom::Constant(topic)) => topic.clone(),
            (None, TopicFrom::Pointer(pointer)) => values.topic(pointer)?,
            (None, TopicFrom::Header(name)) => header_topic(headers, name)?,
        };
        let subject = match place.and_then(|place| place.subject.as_ref()).or(self.subject.as_ref()) {
            Some(from) => from.read(headers, values, &topic, key)?,
            None => None,
        };
        Ok((topic, subject))
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
