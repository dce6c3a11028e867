//! What a provider is: its name, its topics, and how to read topic and subject from what it posts.
//!
//! Knows no provider by name; built-in ones declare themselves, see [`registry`](crate::registry).

use std::sync::Arc;

use event::{Headers, ProviderName, Subject, Topic};
use http::HeaderMap;

use crate::body::Json;
use crate::fields::Fields;
use crate::generic::{self, Answer, BodyForm};
use crate::header::{self, CREDENTIAL_HEADERS};
use crate::inbound::Inbound;
use crate::unusable::Unusable;
use crate::{Duplicates, HeaderName, SubjectKey, body};

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

/// A kind of sender and its contract. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Provider(Arc<Contract>);

#[derive(Debug)]
struct Contract {
    name: ProviderName,
    title: String,
    topics: &'static [TopicInfo],
    answer: Option<Answer>,
    keep_headers: Vec<http::HeaderName>,
    duplicates: Option<Duplicates>,
    rules: Rules,
}

#[derive(Debug)]
enum Rules {
    BuiltIn(ReadObject),
    Generic(Box<generic::Config>),
}

/// Reads topic and subject from a body's fields.
pub(crate) type ReadObject = fn(&Fields<'_>, &SubjectKey) -> Result<(Topic, Option<Subject>), Unusable>;

/// Headers that describe the delivery, for every sender.
const KEEP_HEADERS: [&str; 3] = ["user-agent", "webhook-id", "webhook-timestamp"];

/// The longest header value kept, in bytes; longer ones are left out whole.
const HEADER_LIMIT_BYTES: usize = 1024;

/// What a built-in provider declares.
pub(crate) struct Declaration {
    pub(crate) name: &'static str,
    /// The name for display.
    pub(crate) title: &'static str,
    /// Every documented topic.
    pub(crate) topics: &'static [TopicInfo],
    /// Headers that the provider may send about the delivery.
    pub(crate) keep_headers: &'static [&'static str],
    /// How its duplicates are recognised.
    pub(crate) duplicates: Option<Duplicates>,
    /// How topic and subject are read.
    pub(crate) read: ReadObject,
}

impl From<Declaration> for Provider {
    fn from(declared: Declaration) -> Self {
        let Declaration { name, title, topics, keep_headers, duplicates, read } = declared;
        Provider(Arc::new(Contract {
            name: ProviderName::new(name).expect("a built-in name keeps the rule"),
            title: title.to_owned(),
            topics,
            answer: None,
            keep_headers: kept(keep_headers.iter().copied()),
            duplicates,
            rules: Rules::BuiltIn(read),
        }))
    }
}

impl Provider {
    /// A provider that is configuration only.
    pub fn generic(config: &generic::Config) -> Provider {
        Provider(Arc::new(Contract {
            name: config.name.clone(),
            title: config.title.clone().unwrap_or_else(|| config.name.to_string()),
            topics: &[],
            answer: config.answer.as_ref().map(generic::AnswerConfig::to_answer),
            keep_headers: kept(config.read_headers().map(HeaderName::as_str)),
            duplicates: None,
            rules: Rules::Generic(Box::new(config.clone())),
        }))
    }

    /// The name: part of exchange names and of the events' `source`.
    pub fn name(&self) -> &ProviderName {
        &self.0.name
    }

    /// The name for display.
    pub fn title(&self) -> &str {
        &self.0.title
    }

    /// Every documented topic. Others are accepted too. Empty for a generic provider.
    pub fn topics(&self) -> &'static [TopicInfo] {
        self.0.topics
    }

    /// The documented body of a topic, where there is one.
    pub fn example(&self, topic: &str) -> Option<&'static str> {
        self.topics().iter().find(|info| info.name == topic)?.example
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

    /// Reads topic and subject of a request. The body decides, whatever the declared content type: its character set is
    /// detected if it is not UTF-8, and JSON that is not strict is repaired if its meaning is clear. An unknown topic
    /// is accepted, and a missing subject is not an error.
    pub fn read(&self, inbound: &Inbound<'_>, key: &SubjectKey) -> Result<Reading, Unusable> {
        self.read_fact(inbound, key, None).map(|(reading, _)| reading)
    }

    /// Like [`Self::read`], with the text that identifies the fact according to the rule, if it does: two requests of a
    /// source with the same text are the same fact.
    pub fn read_fact(
        &self,
        inbound: &Inbound<'_>,
        key: &SubjectKey,
        rule: Option<&Duplicates>,
    ) -> Result<(Reading, Option<String>), Unusable> {
        let content_type = inbound.content_type();
        let fact = |json: Option<&Json<'_>>, topic: &Topic| rule?.key(inbound, json, topic.as_str(), key);
        let (topic, subject, repaired, fact) = match (&self.0.rules, self.form()) {
            (Rules::Generic(config), BodyForm::Form) => {
                let text = body::text(inbound.body, content_type)?;
                let (fields, is_form_repaired) = body::form(&text.text, content_type)?;
                let (topic, subject) = config.read_form(inbound.headers, &fields, key)?;
                // A sender of forms may also post JSON.
                let json = rule.and_then(|_| body::json(inbound.body, content_type).ok());
                let fact = fact(json.as_ref(), &topic);
                (topic, subject, text.repaired || is_form_repaired, fact)
            }
            (rules, _) => {
                let json = body::json(inbound.body, content_type)?;
                let (topic, subject) = match rules {
                    Rules::BuiltIn(read) => read(&json.fields(), key)?,
                    Rules::Generic(config) => config.read_json(inbound.headers, &json, key)?,
                };
                let fact = fact(Some(&json), &topic);
                (topic, subject, json.repaired, fact)
            }
        };
        Ok((Reading { topic, subject, repaired, headers: self.keep(inbound.headers) }, fact))
    }

    fn form(&self) -> BodyForm {
        match &self.0.rules {
            Rules::BuiltIn(_) => BodyForm::Json,
            Rules::Generic(config) => config.body,
        }
    }

    /// The headers worth keeping, by lower-case name; never a credential.
    pub fn keep(&self, headers: &HeaderMap) -> Headers {
        let names = self.0.keep_headers.iter();
        names
            .filter_map(|name| Some((name, header::only(headers, name)?)))
            .filter(|(_, value)| value.len() <= HEADER_LIMIT_BYTES)
            .map(|(name, value)| (name.as_str().to_owned(), value.to_owned()))
            .collect()
    }
}

/// The names of the headers to keep: these, and the ones common to all providers.
fn kept<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<http::HeaderName> {
    let names = KEEP_HEADERS.into_iter().chain(names).filter(|name| !CREDENTIAL_HEADERS.contains(name));
    names.map(|name| name.parse().expect("a header name that was checked, or a literal")).collect()
}

#[cfg(test)]
mod tests;
