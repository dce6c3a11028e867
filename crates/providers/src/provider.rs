//! One value per provider: its name, its topics, and how to read topic and subject from what it posts.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use event::{Headers, ProviderName, Subject, Topic};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use crate::generic::{self, BodyForm};
use crate::unusable::{Problem, Unusable};
use crate::value::{Value, kind};
use crate::{
    Duplicates, Id, SubjectKey, beneficio_visao, body, gestao_online, header, mercado_eletronico, recuperador,
};

/// A request as far as a provider's contract is about it. Authentication comes before, see [`crate::auth`].
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's body, whole.
    pub body: &'a Bytes,
}

impl<'a> Inbound<'a> {
    /// The declared `Content-Type`.
    pub(crate) fn content_type(&self) -> Option<&'a str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }
}

/// What a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What happened, in the provider's words.
    pub topic: Topic,
    /// What it happened to, where the provider says it.
    pub subject: Option<Subject>,
    /// The body is not strict JSON in UTF-8, or not a form in UTF-8: it was read leniently.
    pub repaired: bool,
    /// The headers worth keeping, by lower-case name. Never a credential.
    pub headers: Headers,
}

/// A documented topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// The topic, verbatim.
    pub name: &'static str,
    /// What has happened when it arrives.
    pub meaning: &'static str,
    /// The path of the field that identifies what it happened to.
    pub subject: &'static str,
    /// The documented body, byte for byte, where there is one.
    pub example: Option<&'static str>,
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

/// A kind of sender and its contract. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Provider(Arc<Contract>);

#[derive(Debug)]
struct Contract {
    name: ProviderName,
    title: String,
    topics: &'static [TopicInfo],
    answer: Option<Answer>,
    keep_headers: Vec<String>,
    duplicates: Option<Duplicates>,
    rules: Rules,
}

#[derive(Debug)]
enum Rules {
    BuiltIn(ReadObject),
    Generic(Box<generic::Config>),
}

/// Reads topic and subject from the text of a JSON object.
pub(crate) type ReadObject = fn(&str, &SubjectKey) -> Result<(Topic, Option<Subject>), Unusable>;

/// Headers that tell something about the delivery whoever the sender is.
const KEEP_HEADERS: [&str; 3] = ["user-agent", "webhook-id", "webhook-timestamp"];

/// Headers that may hold a credential, which no configuration can keep.
pub(crate) const CREDENTIAL_HEADERS: [&str; 4] =
    ["authorization", "proxy-authorization", "cookie", "webhook-signature"];

/// The longest header value kept, in bytes; longer ones are left out whole.
const HEADER_LIMIT_BYTES: usize = 1024;

impl Provider {
    /// The providers whose contracts are built in.
    pub fn builtin() -> Vec<Provider> {
        let provider = |name: &str, title: &str, topics, keep_headers: &[&str], read| {
            Provider(Arc::new(Contract {
                name: ProviderName::new(name).expect("a built-in name keeps the rule"),
                title: title.to_owned(),
                topics,
                answer: None,
                keep_headers: keep_headers.iter().map(|name| (*name).to_owned()).collect(),
                duplicates: (name == recuperador::NAME).then(recuperador::duplicates),
                rules: Rules::BuiltIn(read),
            }))
        };
        vec![
            provider(
                mercado_eletronico::NAME,
                "Mercado Eletrônico",
                mercado_eletronico::TOPICS,
                mercado_eletronico::KEEP_HEADERS,
                mercado_eletronico::read,
            ),
            provider(
                gestao_online::NAME,
                "GO / Gestão Online",
                gestao_online::TOPICS,
                &[],
                gestao_online::read,
            ),
            provider(recuperador::NAME, "Recuperador CRM", recuperador::TOPICS, &[], recuperador::read),
            provider(
                beneficio_visao::NAME,
                "Benefício Visão",
                beneficio_visao::TOPICS,
                &[],
                beneficio_visao::read,
            ),
        ]
    }

    /// The built-in provider of a name.
    pub fn named(name: &str) -> Option<Provider> {
        Self::builtin().into_iter().find(|provider| provider.name().as_str() == name)
    }

    /// A provider that is configuration only.
    pub fn generic(config: &generic::Config) -> Provider {
        Provider(Arc::new(Contract {
            name: config.name.clone(),
            title: config.title.clone().unwrap_or_else(|| config.name.to_string()),
            topics: &[],
            answer: config.answer.as_ref().map(generic::AnswerConfig::to_answer),
            keep_headers: config.read_headers().map(|name| name.as_str().to_owned()).collect(),
            duplicates: None,
            rules: Rules::Generic(Box::new(config.clone())),
        }))
    }

    /// The name: part of exchange names and of the events' `source`.
    pub fn name(&self) -> &ProviderName {
        &self.0.name
    }

    /// The name as people write it.
    pub fn title(&self) -> &str {
        &self.0.title
    }

    /// Every documented topic. Others are accepted too. Empty for a generic provider.
    pub fn topics(&self) -> &'static [TopicInfo] {
        self.0.topics
    }

    /// The `Content-Type` of an event whose sender declares none.
    pub fn media_type(&self) -> &'static str {
        match self.form() {
            BodyForm::Json => "application/json",
            BodyForm::Form => "application/x-www-form-urlencoded",
        }
    }

    /// The success answer that the sender insists on; `None` is malote's own.
    pub fn answer(&self) -> Option<&Answer> {
        self.0.answer.as_ref()
    }

    /// How the provider tells that it sends a fact again. `None`: identical bodies may be new facts.
    pub fn duplicates(&self) -> Option<&Duplicates> {
        self.0.duplicates.as_ref()
    }

    /// Reads what a request says. The body decides, whatever the declared content type: its character set is found out
    /// where it is not UTF-8, and what is not strict JSON is repaired where what is meant is clear. An unknown topic
    /// passes under its own name, and a missing subject is no error.
    pub fn read(&self, inbound: &Inbound<'_>, key: &SubjectKey) -> Result<Reading, Unusable> {
        let content_type = inbound.content_type();
        let ((topic, subject), repaired) = match (&self.0.rules, self.form()) {
            (Rules::BuiltIn(read), _) => {
                let json = body::json(inbound.body, content_type)?;
                (read(&json.text, key)?, json.repaired)
            }
            (Rules::Generic(config), BodyForm::Json) => {
                let json = body::json(inbound.body, content_type)?;
                (config.read_json(inbound.headers, &json.text, key)?, json.repaired)
            }
            (Rules::Generic(config), BodyForm::Form) => {
                let text = body::text(inbound.body, content_type)?;
                let (fields, is_form_repaired) = body::form(&text.text, content_type)?;
                (config.read_form(inbound.headers, &fields, key)?, text.repaired || is_form_repaired)
            }
        };
        Ok(Reading { topic, subject, repaired, headers: self.keep(inbound.headers) })
    }

    fn form(&self) -> BodyForm {
        match &self.0.rules {
            Rules::BuiltIn(_) => BodyForm::Json,
            Rules::Generic(config) => config.body,
        }
    }

    /// The headers worth keeping, by lower-case name; never a credential.
    pub fn keep(&self, headers: &HeaderMap) -> Headers {
        KEEP_HEADERS
            .into_iter()
            .chain(self.0.keep_headers.iter().map(String::as_str))
            .filter(|name| !CREDENTIAL_HEADERS.contains(name))
            .filter_map(|name| Some((name.to_owned(), header::only(headers, name)?.to_owned())))
            .filter(|(_, value)| value.len() <= HEADER_LIMIT_BYTES)
            .collect()
    }
}

/// The topic in the JSON text of its field.
pub(crate) fn topic(place: &str, json: Option<&str>) -> Result<Topic, Unusable> {
    let json = json.ok_or_else(|| Problem::TopicMissing { place: place.to_owned() })?;
    match serde_json::from_str::<Cow<'_, str>>(json) {
        Ok(text) => topic_from(place, text),
        Err(_) => Err(Problem::TopicType { place: place.to_owned(), got: kind(json) }.into()),
    }
}

/// The topic of a text. A replacement character stands for what was lost, and is in no name that anyone meant.
pub(crate) fn topic_from(place: &str, text: impl AsRef<str>) -> Result<Topic, Unusable> {
    if text.as_ref().contains(char::REPLACEMENT_CHARACTER) {
        let got = "one that is no Unicode text";
        return Err(Problem::TopicType { place: place.to_owned(), got }.into());
    }
    Topic::new(text).map_err(|rule| Problem::TopicName { place: place.to_owned(), rule }.into())
}

/// The fields of the root object that a contract reads; one that is there twice is an error.
pub(crate) fn root<'a, const N: usize>(
    json: &'a str,
    names: [&str; N],
) -> Result<[Option<&'a str>; N], Unusable> {
    let found = body::fields(json, &names);
    match found.duplicate {
        Some(index) => Err(Problem::Duplicate { place: names[index].to_owned() }.into()),
        None => Ok(std::array::from_fn(|index| found.values[index])),
    }
}

/// The subject of an entity with the id in a JSON text, which is at this place: a string or a number. Anything else, the
/// empty text too, is no subject; a text that cannot be an identifier is an error.
pub(crate) fn subject(
    entity: &str,
    place: impl fmt::Display,
    json: Option<&str>,
) -> Result<Option<Subject>, Unusable> {
    let Some(json) =
        json.filter(|json| matches!(kind(json), "a string" | "a number") && !Id::is_absent(json))
    else {
        return Ok(None);
    };
    match Id::read(json) {
        Ok(id) => Ok(Some(Subject::new(entity, id.as_str()))),
        Err(problem) => Err(Problem::Id { place: place.to_string(), problem }.into()),
    }
}

#[cfg(test)]
mod tests;
