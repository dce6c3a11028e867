//! The domain events: one for each version of a document or file.

use bytes::Bytes;
use consumer::{DomainEvent, EventType};
use event::{Event, EventId, ProviderName, Source, SourceName, Subject, Timestamp, Topic};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::document::{Content, Due};

/// A document as the provider's API answered it.
#[derive(Serialize, ToSchema)]
pub(crate) struct FetchedDocument {
    #[serde(flatten)]
    version: FetchedVersion,
    /// The provider's answer, unchanged.
    #[schema(value_type = Object)]
    document: Box<RawValue>,
}

/// A version of a document or file.
#[derive(Serialize, ToSchema)]
pub(crate) struct FetchedVersion {
    /// The provider.
    provider: String,
    /// The source whose event asked for it.
    source: String,
    /// Its id among the documents.
    id: String,
    /// What it is about.
    entity: String,
    /// The provider's id. Of a file, a hash of its address and name.
    external_id: String,
    /// Its number among the versions of the document, from 1 on: the order of facts.
    version: i64,
    /// When it was fetched.
    #[schema(value_type = String, format = DateTime)]
    fetched_at: Timestamp,
    /// Its media type.
    content_type: String,
    /// Its size in bytes.
    size: i64,
    /// Its SHA-256, in hexadecimal.
    sha256: String,
}

macro_rules! fetched {
    ($($entity:literal),*) => {
        /// Every type.
        pub const EVENTS: &[DomainEvent] = &[
            $(EventType::<FetchedDocument>::new(
                concat!($entity, ".fetched"),
                $entity,
                concat!("When a document about this ", $entity, " is fetched for the first time, or has changed since."),
            ).declared(),)*
            EventType::<FetchedVersion>::new(
                "file.fetched",
                "prescription",
                "When a file is archived whose address an event has: once for each file. Its subject is that of the event.",
            ).declared(),
        ];
    };
}

fetched!(
    "invoice",
    "order",
    "preorder",
    "request",
    "prerequest",
    "rfq",
    "contract",
    "service-sheet",
    "supplier"
);

/// The announcement of a version. Its id is derived from the document and the version.
pub(crate) fn announced(
    provider: &ProviderName,
    source: &SourceName,
    due: &Due,
    version: i64,
    content: &Content,
) -> Event {
    let fetched_at = content.fetched_at;
    let fetched = FetchedVersion {
        provider: provider.to_string(),
        source: source.to_string(),
        id: due.id.to_string(),
        entity: due.entity.clone(),
        external_id: due.external_id.clone(),
        version,
        fetched_at,
        content_type: content.content_type.clone(),
        size: content.size(),
        sha256: content.sha256.clone(),
    };
    let data = match &content.document {
        Some(document) => {
            serde_json::to_vec(&FetchedDocument { version: fetched, document: document.clone() })
        }
        None => serde_json::to_vec(&fetched),
    };
    let own = SourceName::new("documents").expect("it is the name of a source");
    let topic = Topic::new(format!("{}.fetched", due.entity)).expect("an entity is part of a topic");
    let milliseconds = u64::try_from(fetched_at.as_millisecond()).unwrap_or_default();
    let parts = [due.id.as_bytes().as_slice(), &version.to_be_bytes()];
    Event {
        id: EventId::from_parts(milliseconds, parts),
        subject: due.subject.as_deref().map(Subject::from_text),
        time: fetched_at,
        traceparent: due.traceparent.clone(),
        caused_by: Some(due.asked_by),
        ..Event::new(
            Source::new(ProviderName::own(), own),
            topic,
            Bytes::from(data.expect("texts and numbers are JSON")),
        )
    }
}
