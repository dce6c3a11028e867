//! What a provider is: its name, its topics, and how to read topic and subject from what it posts.
//!
//! Knows no provider by name; built-in ones declare themselves, see [`registry`](crate::registry).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use event::{Headers, ProviderName, Subject, Topic};
use http::HeaderMap;

use crate::body::{Document, Json};
use crate::documents::Api;
use crate::duplicates::{Fact, item_key};
use crate::fields::Fields;
use crate::generic::{self, Answer, BodyForm, EventPlace, EventPlaces, Values};
use crate::header::{self, CREDENTIAL_HEADERS};
use crate::inbound::Inbound;
use crate::polled::Polling;
use crate::unusable::{Problem, Unusable};
use crate::{Duplicates, HeaderName, SubjectKey, body, xml};

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

/// One event of a body that holds several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyEvent {
    /// What it says.
    pub reading: Reading,
    /// What identifies the fact, see [`Provider::read_fact`].
    pub fact: Option<Fact>,
    /// Its part of the body, as it was sent if the body is strict JSON in UTF-8.
    pub data: Bytes,
    /// The content type of `data`, if it is not that of the body.
    pub content_type: Option<&'static str>,
}

/// The most events of one body.
const EVENTS_LIMIT: usize = 1_000;

/// A documented topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// The topic, verbatim.
    pub name: &'static str,
    /// What has happened when it arrives.
    pub meaning: &'static str,
    /// The path of the field that identifies what it happened to.
    pub subject: &'static str,
    /// The documented body, byte for byte, where there is one. Of a provider that documents only fields, one made of them.
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
    personal: Vec<String>,
    duplicates: Option<Duplicates>,
    polling: Option<Polling>,
    api: Option<&'static Api>,
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
    /// The names of the fields of its bodies that say something of a person, wherever they are.
    pub(crate) personal: &'static [&'static str],
    /// How its duplicates are recognised.
    pub(crate) duplicates: Option<Duplicates>,
    /// Its API for what it has not delivered yet.
    pub(crate) polling: Option<Polling>,
    /// The API that has the documents which its events name.
    pub(crate) api: Option<&'static Api>,
    /// How topic and subject are read.
    pub(crate) read: ReadObject,
}

impl From<Declaration> for Provider {
    fn from(declared: Declaration) -> Self {
        let Declaration { name, title, topics, keep_headers, personal, duplicates, polling, api, read } =
            declared;
        Provider(Arc::new(Contract {
            name: ProviderName::new(name).expect("a built-in name keeps the rule"),
            title: title.to_owned(),
            topics,
            answer: None,
            keep_headers: kept(keep_headers.iter().copied()),
            personal: personal.iter().copied().map(str::to_owned).collect(),
            duplicates,
            polling,
            api,
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
            personal: config.personal.clone(),
            // Events of a body that was stored in part are sent again with the rest.
            duplicates: config.events.as_ref().map(|_| Duplicates::by_body()),
            polling: None,
            api: None,
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
            BodyForm::Xml => "application/xml",
        }
    }

    /// The success answer that the sender insists on; `None` is malote's own.
    pub fn answer(&self) -> Option<&Answer> {
        self.0.answer.as_ref()
    }

    /// The names of the fields of its bodies that say something of a person, besides those that are personal by their usual
    /// names.
    pub fn personal(&self) -> &[String] {
        &self.0.personal
    }

    /// How a fact that the provider posts again is recognised. `None`: identical bodies may be new facts.
    pub fn duplicates(&self) -> Option<&Duplicates> {
        self.0.duplicates.as_ref()
    }

    /// Its API for what it has not delivered yet, where it is known.
    pub fn polling(&self) -> Option<Polling> {
        self.0.polling
    }

    /// The API that has the documents which its events name.
    pub fn api(&self) -> Option<&'static Api> {
        self.0.api
    }

    /// Reads topic and subject of a request. The body decides, whatever the declared content type: its character set is
    /// detected if it is not UTF-8, and JSON that is not strict is repaired if its meaning is clear. An unknown topic
    /// is accepted, and a missing subject is not an error.
    pub fn read(&self, inbound: &Inbound<'_>, key: &SubjectKey) -> Result<Reading, Unusable> {
        self.read_fact(inbound, key, None).map(|(reading, _)| reading)
    }

    /// Like [`Self::read`], with what identifies the fact according to the rule, if it does: two requests of a source
    /// with the same key are the same fact.
    pub fn read_fact(
        &self,
        inbound: &Inbound<'_>,
        key: &SubjectKey,
        rule: Option<&Duplicates>,
    ) -> Result<(Reading, Option<Fact>), Unusable> {
        let content_type = inbound.content_type();
        let fact = |json: Option<&Json<'_>>, topic: &Topic| {
            rule?.key(inbound, json.map(Document::new).as_ref(), topic.as_str(), key)
        };
        let (topic, subject, repaired, fact) = match (&self.0.rules, self.form()) {
            (Rules::Generic(config), BodyForm::Form) => {
                let text = body::text(inbound.body, content_type)?;
                let (fields, is_form_repaired) = body::form(&text.text, content_type)?;
                let (topic, subject) = config.read(inbound.headers, &Values::Form(&fields), None, key)?;
                // A sender of forms may also post JSON.
                let json = rule.and_then(|_| body::json(inbound.body, content_type).ok());
                let fact = fact(json.as_ref(), &topic);
                (topic, subject, text.repaired || is_form_repaired, fact)
            }
            (rules, form) => {
                let json = match form {
                    BodyForm::Xml => {
                        let text = body::text(inbound.body, content_type)?;
                        Json::part(xml::value(&text.text)?.to_string(), text.repaired)
                    }
                    BodyForm::Json | BodyForm::Form => body::json(inbound.body, content_type)?,
                };
                let (topic, subject) = match rules {
                    Rules::BuiltIn(read) => read(&json.fields(), key)?,
                    Rules::Generic(config) => {
                        config.read(inbound.headers, &Values::Json(&Document::new(&json)), None, key)?
                    }
                };
                let fact = fact(Some(&json), &topic);
                (topic, subject, json.repaired, fact)
            }
        };
        Ok((Reading { topic, subject, repaired, headers: self.keep(inbound.headers) }, fact))
    }

    /// Whether one body may hold several events: [`Self::read_events`] reads them.
    pub fn has_several_events(&self) -> bool {
        matches!(&self.0.rules, Rules::Generic(config) if config.events.is_some())
    }

    /// Like [`Self::read_fact`], for each event of a body that may hold several: none, if the list is empty. All of them can be
    /// used, or it is an error.
    pub fn read_events(
        &self,
        inbound: &Inbound<'_>,
        key: &SubjectKey,
        rule: Option<&Duplicates>,
    ) -> Result<Vec<BodyEvent>, Unusable> {
        let Rules::Generic(config) = &self.0.rules else { return Ok(Vec::new()) };
        let Some(places) = &config.events else { return Ok(Vec::new()) };
        let whole = body::any(inbound.body, inbound.content_type())?;
        let headers = self.keep(inbound.headers);
        let (mut of_body, mut read) = (None, Vec::new());
        let (place, texts) = event_texts(&whole, places)?;
        for (index, text) in texts.into_iter().enumerate() {
            if body::kind(text) != "an object" {
                let place = format!("{}/{index}", place.pointer.as_str());
                return Err(Problem::EventType { place, got: body::kind(text) }.into());
            }
            let json = Json::part(text, whole.repaired);
            let document = Document { json: &json, whole: Some(&whole) };
            let (topic, subject) =
                config.read(inbound.headers, &Values::Json(&document), Some(place), key)?;
            let (data, content_type) = match &whole.text {
                Cow::Borrowed(_) if !whole.repaired => (inbound.body.slice_ref(text.as_bytes()), None),
                _ => (Bytes::copy_from_slice(text.as_bytes()), Some("application/json")),
            };
            let own = Inbound { headers: inbound.headers, body: &data };
            let named = rule
                .filter(|rule| !rule.is_by_body())
                .and_then(|rule| rule.key(&own, Some(&document), topic.as_str(), key));
            // Without a key, an event that is stored would be booked again if another one is not.
            let fact = rule.map(|rule| match named {
                Some(named) if rule.is_by_field() => named,
                Some(Fact { key: of_header, sender_id }) => {
                    Fact { key: item_key(topic.as_str(), index, &of_header, key), sender_id }
                }
                None => {
                    let of_body = of_body.get_or_insert_with(|| key.hash(inbound.body.as_ref()));
                    Fact { key: item_key(topic.as_str(), index, of_body, key), sender_id: None }
                }
            });
            let reading = Reading { topic, subject, repaired: whole.repaired, headers: headers.clone() };
            read.push(BodyEvent { reading, fact, data, content_type });
        }
        Ok(read)
    }

    /// Where the subject of its events is, if they have one, as configured; `None` for a built-in provider.
    pub fn subject_place(&self) -> Option<String> {
        match &self.0.rules {
            Rules::BuiltIn(_) => None,
            Rules::Generic(config) => config.subject.as_ref().map(generic::SubjectFrom::place),
        }
    }

    /// The requests that are no events.
    pub fn challenges(&self) -> &[generic::Challenge] {
        match &self.0.rules {
            Rules::BuiltIn(_) => &[],
            Rules::Generic(config) => &config.challenges,
        }
    }

    /// What the sender appends to the registered address.
    pub fn suffixes(&self) -> &[generic::Suffix] {
        match &self.0.rules {
            Rules::BuiltIn(_) => &[],
            Rules::Generic(config) => &config.suffixes,
        }
    }

    /// Whether its bodies are forms.
    pub fn reads_forms(&self) -> bool {
        self.form() == BodyForm::Form
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

/// The JSON texts of the events of a body, and the place where they are.
fn event_texts<'a, 'p>(
    whole: &'a Json<'_>,
    places: &'p EventPlaces,
) -> Result<(&'p EventPlace, Vec<&'a str>), Unusable> {
    let found = places.iter().find_map(|place| match body::kind(&whole.text) {
        "an array" => Some((place, whole.text.as_ref())),
        _ => Some((place, whole.at(place.pointer.tokens())?)),
    });
    let Some((found, list)) = found else {
        return Err(Problem::EventsMissing { place: places.place() }.into());
    };
    let place = || found.pointer.as_str().to_owned();
    // A list of one may be the object itself, and PHP writes a list with a gap as an object.
    let texts = match body::kind(list) {
        "an array" => body::items(list),
        "an object" => Some(body::numbered(list).unwrap_or_else(|| vec![list])),
        _ => None,
    };
    match texts.ok_or_else(|| Problem::EventsMissing { place: place() })? {
        many if many.len() > EVENTS_LIMIT => {
            let (limit, got) = (EVENTS_LIMIT, many.len());
            Err(Problem::TooManyEvents { place: place(), limit, got }.into())
        }
        texts => Ok((found, texts)),
    }
}

/// The names of the headers to keep: these, and the ones common to all providers.
fn kept<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<http::HeaderName> {
    let names = KEEP_HEADERS.into_iter().chain(names).filter(|name| !CREDENTIAL_HEADERS.contains(name));
    names.map(|name| name.parse().expect("a header name that was checked, or a literal")).collect()
}

#[cfg(test)]
mod tests;
