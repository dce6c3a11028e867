//! The envelope and its way to a [`Message`] and back.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::headers::{HeaderValue, MessageHeaders};
use crate::message::{APP_ID, Message, header};
use crate::time::rfc3339;
use crate::{BadName, EventId, NotAnEventId, Source, Subject, Timestamp, Topic};

/// Headers of the sender's request that are worth keeping, by lower-case name. Never a credential.
pub type Headers = BTreeMap<String, String>;

/// A fact that a provider sent: CloudEvents 1.0 attributes and the bytes as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `id`.
    pub id: EventId,
    /// `source`.
    pub source: Source,
    /// `type`: the provider's topic, verbatim.
    pub topic: Topic,
    /// `subject`: what the event is about, where the provider says it.
    pub subject: Option<Subject>,
    /// `time`: receipt.
    pub time: Timestamp,
    /// `datacontenttype`: as the sender declared it.
    pub content_type: String,
    /// `data`: the body as received, byte for byte.
    pub data: Bytes,
    /// Extension `traceparent` (W3C Trace Context).
    pub traceparent: Option<String>,
    /// Extension `replayof`: the id of the event that this one repeats.
    pub replay_of: Option<EventId>,
    /// Extension `causedby`: of a domain event, the id of the event whose effect it announces.
    pub caused_by: Option<EventId>,
    /// Extension `repaired`: the body is not strict JSON in UTF-8, or not a form in UTF-8; it was read leniently.
    pub repaired: bool,
    /// Headers of the request that are worth keeping.
    pub headers: Headers,
}

/// A message that is not an event of malote's, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MalformedEvent {
    /// The property `message_id` is not an event id.
    #[error("property message_id: {0}")]
    Id(NotAnEventId),
    /// The header `cloudEvents_source` is missing or not `/<provider>/<source name>`.
    #[error("header cloudEvents_source: {0}")]
    Source(BadName),
    /// The property `type` is not a topic.
    #[error("property type: {0}")]
    Topic(BadName),
    /// The header `cloudEvents_time` is missing or not an RFC 3339 time.
    #[error("header cloudEvents_time: expected an RFC 3339 time, got a text of {0} characters")]
    Time(usize),
}

const SPECVERSION: &str = "1.0";

/// The names of the attributes' headers.
mod attribute {
    pub(super) const CAUSEDBY: &str = "cloudEvents_causedby";
    pub(super) const ID: &str = "cloudEvents_id";
    pub(super) const REPAIRED: &str = "cloudEvents_repaired";
    pub(super) const REPLAYOF: &str = "cloudEvents_replayof";
    pub(super) const SOURCE: &str = "cloudEvents_source";
    pub(super) const SPECVERSION: &str = "cloudEvents_specversion";
    pub(super) const SUBJECT: &str = "cloudEvents_subject";
    pub(super) const TIME: &str = "cloudEvents_time";
    pub(super) const TRACEPARENT: &str = "cloudEvents_traceparent";
    pub(super) const TYPE: &str = "cloudEvents_type";
}

impl Event {
    /// An event received now, with a new id and JSON data.
    pub fn new(source: Source, topic: Topic, data: Bytes) -> Self {
        Self {
            id: EventId::generate(),
            source,
            topic,
            subject: None,
            time: crate::now(),
            content_type: "application/json".to_owned(),
            data,
            traceparent: None,
            replay_of: None,
            caused_by: None,
            repaired: false,
            headers: Headers::new(),
        }
    }

    /// The same event about a subject.
    pub fn with_subject(self, subject: Subject) -> Self {
        Self { subject: Some(subject), ..self }
    }

    /// The order of facts where the provider gives none: microseconds of receipt, then id. Of two events, the one
    /// with the greater is the newer fact.
    ///
    /// A replay stands where the event stands that it repeats: it keeps that one's `time` and names it in `replayof`.
    pub fn receipt(&self) -> (i64, EventId) {
        (self.time.as_microsecond(), self.replay_of.unwrap_or(self.id))
    }

    /// The event's AMQP form, see [`Self::into_message`].
    pub fn to_message(&self) -> Message {
        self.clone().into_message()
    }

    /// The event's AMQP form: every attribute as a header `cloudEvents_<name>`, and in the properties where AMQP has one
    /// for it. `datacontenttype` is the property `content_type` alone (CloudEvents AMQP binding, section 3.1.1), and the
    /// extension `provider` is the first part of `source`.
    pub fn into_message(self) -> Message {
        let id = self.id.to_text();
        let topic = self.topic.as_str();
        // In the order of names.
        let attributes = [
            (attribute::CAUSEDBY, self.caused_by.as_ref().map(ToString::to_string)),
            (attribute::ID, Some(id.clone())),
            (attribute::REPAIRED, self.repaired.then(|| "true".to_owned())),
            (attribute::REPLAYOF, self.replay_of.as_ref().map(ToString::to_string)),
            (attribute::SOURCE, Some(self.source.to_text())),
            (attribute::SPECVERSION, Some(SPECVERSION.to_owned())),
            (attribute::SUBJECT, self.subject.map(String::from)),
            (attribute::TIME, Some(rfc3339(self.time))),
            (attribute::TRACEPARENT, self.traceparent),
            (attribute::TYPE, Some(topic.to_owned())),
        ];
        let attributes = attributes.into_iter();
        let mut headers: MessageHeaders =
            attributes.filter_map(|(name, value)| Some((name, HeaderValue::Text(value?)))).collect();
        for (name, value) in self.headers {
            headers.insert([header::HTTP, &name].concat(), HeaderValue::Text(value));
        }
        Message {
            message_id: id,
            r#type: topic.to_owned(),
            timestamp: u64::try_from(self.time.as_second()).unwrap_or(0),
            content_type: self.content_type,
            app_id: APP_ID.to_owned(),
            expiration: None,
            headers,
            body: self.data,
        }
    }

    /// Reads the form that [`Self::to_message`] writes. The topic is read from `type`, never from a routing key.
    pub fn from_message(message: &Message) -> Result<Self, MalformedEvent> {
        let time = message.text(attribute::TIME).unwrap_or_default();
        Ok(Self {
            id: message.message_id.parse().map_err(MalformedEvent::Id)?,
            source: Source::parse(message.text(attribute::SOURCE).unwrap_or_default())
                .map_err(MalformedEvent::Source)?,
            topic: Topic::new(&message.r#type).map_err(MalformedEvent::Topic)?,
            subject: message.text(attribute::SUBJECT).map(Subject::from_text),
            time: time.parse().map_err(|_| MalformedEvent::Time(time.chars().count()))?,
            content_type: message.content_type.clone(),
            data: message.body.clone(),
            traceparent: message.text(attribute::TRACEPARENT).map(str::to_owned),
            replay_of: message.text(attribute::REPLAYOF).and_then(|text| text.parse().ok()),
            caused_by: message.text(attribute::CAUSEDBY).and_then(|text| text.parse().ok()),
            repaired: message.text(attribute::REPAIRED) == Some("true"),
            headers: message
                .headers
                .iter()
                .filter_map(|(name, value)| match (name.strip_prefix(header::HTTP), value) {
                    (Some(name), HeaderValue::Text(text)) => Some((name.to_owned(), text.clone())),
                    _ => None,
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProviderName, SourceName};

    fn event() -> Event {
        let source =
            Source::new(ProviderName::new("recuperador").unwrap(), SourceName::new("rec-1").unwrap());
        Event::new(source, Topic::new("acordo.quitado").unwrap(), Bytes::from_static(b"{}"))
    }

    #[test]
    fn every_attribute_survives_the_way_through_a_message() {
        let event = Event {
            subject: Some(Subject::new("agreement", "45031")),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            replay_of: Some(EventId::generate()),
            caused_by: Some(EventId::generate()),
            repaired: true,
            headers: Headers::from([("x-me-attempt".to_owned(), "2".to_owned())]),
            ..event()
        };
        assert_eq!(Event::from_message(&event.to_message()), Ok(event));
    }

    #[test]
    fn the_content_type_is_a_property_and_not_a_header() {
        let message =
            Event { content_type: "application/x-www-form-urlencoded".to_owned(), ..event() }.into_message();
        assert_eq!(message.content_type, "application/x-www-form-urlencoded");
        assert_eq!(message.text("cloudEvents_datacontenttype"), None);
        assert_eq!(message.text("cloudEvents_type"), Some("acordo.quitado"));
    }

    #[test]
    fn a_foreign_message_is_refused_with_the_place() {
        let check = |change: fn(&mut Message), expect: &str| {
            let mut message = event().to_message();
            change(&mut message);
            assert!(Event::from_message(&message).unwrap_err().to_string().starts_with(expect));
        };
        check(|m| m.message_id = "7".to_owned(), "property message_id: ");
        check(|m| m.r#type = String::new(), "property type: a topic must not be empty");
        check(|m| drop(m.headers.remove("cloudEvents_source")), "header cloudEvents_source: ");
        check(|m| drop(m.headers.remove("cloudEvents_time")), "header cloudEvents_time: ");
    }
}
