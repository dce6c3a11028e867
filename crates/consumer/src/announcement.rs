//! Domain events: what a handler announces of the effects that it has written.
//!
//! A domain declares each type once, as an [`EventType`]: its name, what it is about, and the type of its data, from which the
//! JSON Schema follows.

use std::marker::PhantomData;

use bytes::Bytes;
use event::{Event, EventId, ProviderName, Source, SourceName, Subject, Timestamp, Topic};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

/// The entity of a type whose subjects are all of one kind.
type One = &'static str;

/// The entities of a type whose subjects are of several kinds.
type Several = &'static [&'static str];

/// A type of domain event whose data are a `T`, about one entity or one of several.
#[derive(Debug)]
pub struct EventType<T, E = One> {
    name: &'static str,
    entity: E,
    meaning: &'static str,
    data: PhantomData<fn() -> T>,
}

impl<T, E> EventType<T, E> {
    /// The type with this name, about an entity of this kind, or of one of these. `meaning` is one sentence that begins with
    /// "When".
    pub const fn new(name: &'static str, entity: E, meaning: &'static str) -> Self {
        Self { name, entity, meaning, data: PhantomData }
    }
}

impl<T: Serialize + ToSchema> EventType<T> {
    /// Its declaration.
    pub const fn declared(&self) -> DomainEvent {
        let entity = Entity::One(self.entity);
        DomainEvent { name: self.name, entity, meaning: self.meaning, schema: schema::<T> }
    }

    /// The event of this type about the entity with this id.
    pub fn announce(&self, cause: &Event, id: &str, data: &T) -> Announcement {
        self.about(cause, Some(Subject::new(self.entity, id)), data)
    }
}

impl<T: Serialize + ToSchema> EventType<T, Several> {
    /// Its declaration.
    pub const fn declared(&self) -> DomainEvent {
        let entity = Entity::OneOf(self.entity);
        DomainEvent { name: self.name, entity, meaning: self.meaning, schema: schema::<T> }
    }

    /// The event of this type about a subject whose entity is one of the type's.
    pub fn announce_about(&self, cause: &Event, subject: Subject, data: &T) -> Announcement {
        self.about(cause, Some(subject), data)
    }
}

impl<T: Serialize, E> EventType<T, E> {
    /// The event of this type about the subject of its cause.
    pub fn announce_same_subject(&self, cause: &Event, data: &T) -> Announcement {
        self.about(cause, cause.subject.clone(), data)
    }

    fn about(&self, cause: &Event, subject: Option<Subject>, data: &T) -> Announcement {
        Announcement {
            topic: self.name,
            subject,
            cause: cause.id,
            original: cause.receipt().1,
            time: cause.time,
            traceparent: cause.traceparent.clone(),
            data: serde_json::to_vec(data).expect("names and numbers are JSON").into(),
        }
    }
}

/// The declaration of a type of domain event.
#[derive(Clone, Copy, Debug)]
pub struct DomainEvent {
    /// Its name: the topic.
    pub name: &'static str,
    /// The kind of its subject, `<entity>/…`.
    pub entity: Entity,
    /// When it is sent.
    pub meaning: &'static str,
    schema: fn() -> Schemas,
}

/// What the subjects of a type are.
#[derive(Clone, Copy, Debug)]
pub enum Entity {
    /// All are of this kind.
    One(&'static str),
    /// Each is of one of these kinds.
    OneOf(&'static [&'static str]),
}

impl Entity {
    /// The kinds.
    pub fn kinds(&self) -> &[&'static str] {
        match self {
            Self::One(kind) => std::slice::from_ref(kind),
            Self::OneOf(kinds) => kinds,
        }
    }
}

/// A schema, and those that it refers to by name.
type Schemas = (RefOr<Schema>, Vec<(String, RefOr<Schema>)>);

impl DomainEvent {
    /// The JSON Schema (2020-12) of its data.
    pub fn schema(&self) -> Value {
        let (schema, parts) = (self.schema)();
        let of_document = |schema: &RefOr<Schema>| {
            // Those parts are in this document.
            let text = json!(schema).to_string().replace("#/components/schemas/", "#/$defs/");
            serde_json::from_str(&text).expect("what was written is JSON")
        };
        let mut document = match of_document(&schema) {
            Value::Object(document) => document,
            other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
        };
        let parts: Map<String, Value> =
            parts.iter().map(|(name, part)| (name.clone(), of_document(part))).collect();
        document.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        document.insert("title".to_owned(), self.name.into());
        document.insert("description".to_owned(), self.meaning.into());
        if !parts.is_empty() {
            document.insert("$defs".to_owned(), parts.into());
        }
        document.into()
    }
}

fn schema<T: ToSchema>() -> Schemas {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    (T::schema(), parts)
}

/// A domain event as a handler returns it.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The name of its type.
    pub topic: &'static str,
    /// What it is about.
    pub subject: Option<Subject>,
    /// The event whose effect it announces.
    pub cause: EventId,
    /// That event, or the one that it repeats.
    original: EventId,
    time: Timestamp,
    traceparent: Option<String>,
    /// Its data, as JSON.
    pub data: Bytes,
}

impl Announcement {
    /// The event that it becomes. Its id is derived from consumer, cause, type and subject, so that whatever repeats it is the
    /// same event; a replay counts as the event that it repeats. Time and the time in the id are the cause's: the record finds
    /// both in the same day.
    pub fn into_event(self, consumer: &SourceName) -> Event {
        let Self { topic, subject, cause, original, time, traceparent, data } = self;
        let about = subject.as_ref().map_or("", Subject::as_str);
        let parts = [consumer.as_str().as_bytes(), original.as_bytes(), topic.as_bytes(), about.as_bytes()];
        let source = Source::new(ProviderName::own(), consumer.clone());
        let topic = Topic::new(topic).expect("the name of a type is a topic");
        Event {
            id: EventId::from_parts(original.milliseconds(), parts),
            subject,
            time,
            traceparent,
            caused_by: Some(cause),
            ..Event::new(source, topic, data)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part.
    #[derive(Serialize, ToSchema)]
    struct Part {
        /// A number.
        number: i64,
    }

    /// A whole.
    #[derive(Serialize, ToSchema)]
    struct Whole {
        part: Part,
        text: Option<String>,
    }

    static MADE: EventType<Whole> = EventType::new("whole.made", "whole", "When it is made");

    fn cause() -> Event {
        broker::test_support::event("/gestao-online/go", "ORDER_CREATED", "{}")
    }

    fn made(cause: &Event, id: &str, consumer: &str) -> Event {
        let whole = Whole { part: Part { number: 1 }, text: None };
        MADE.announce(cause, id, &whole).into_event(&SourceName::new(consumer).unwrap())
    }

    #[test]
    fn an_announcement_is_an_event_of_malotes_own_that_names_its_cause() {
        let cause = Event { traceparent: Some("00-1".to_owned()), ..cause() };
        let event = made(&cause, "7", "orders");
        assert_eq!((event.source.to_text().as_str(), event.topic.as_str()), ("/malote/orders", "whole.made"));
        assert_eq!(event.subject, Some(Subject::new("whole", "7")));
        assert_eq!((event.caused_by, event.time, event.replay_of), (Some(cause.id), cause.time, None));
        assert_eq!((event.traceparent, event.content_type.as_str()), (cause.traceparent, "application/json"));
        assert_eq!(event.data, r#"{"part":{"number":1},"text":null}"#);
        assert_eq!(event.id.milliseconds(), cause.id.milliseconds());
    }

    #[test]
    fn the_same_announcement_has_one_id_and_another_has_another() {
        let cause = cause();
        let id = made(&cause, "7", "orders").id;
        assert_eq!(made(&cause, "7", "orders").id, id);
        let replay = Event { id: EventId::generate(), replay_of: Some(cause.id), ..cause.clone() };
        let replayed = made(&replay, "7", "orders");
        assert_eq!((replayed.id, replayed.caused_by), (id, Some(replay.id)));
        let other = Event { id: EventId::generate(), ..cause.clone() };
        for other in [made(&cause, "8", "orders"), made(&cause, "7", "others"), made(&other, "7", "orders")] {
            assert_ne!(other.id, id);
        }
    }

    #[test]
    fn a_schema_stands_alone() {
        let schema = MADE.declared().schema();
        assert_eq!(
            (&schema["title"], &schema["description"]),
            (&json!("whole.made"), &json!("When it is made"))
        );
        assert_eq!(schema["properties"]["part"]["$ref"], "#/$defs/Part");
        assert_eq!(schema["$defs"]["Part"]["properties"]["number"]["type"], "integer");
        assert_eq!(schema["required"], json!(["part"]));
    }
}
