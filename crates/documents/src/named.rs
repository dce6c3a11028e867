//! What an event names, as rows of the table.

use event::EventId;
use ledger::feed::FeedEvent;
use providers::documents::{FILE, Named, Place};

use crate::config::Source;
use crate::document::Asked;

/// An event that may name documents.
#[derive(Clone, Copy)]
pub struct Cause<'a> {
    /// Its id.
    pub id: EventId,
    /// Its topic.
    pub topic: &'a str,
    /// Its subject.
    pub subject: Option<&'a str>,
    /// The trace that it belongs to.
    pub traceparent: Option<&'a str>,
    /// Its content type.
    pub content_type: &'a str,
    /// Its body.
    pub body: &'a [u8],
}

impl<'a> From<&'a FeedEvent> for Cause<'a> {
    fn from(event: &'a FeedEvent) -> Self {
        Self {
            id: event.id,
            topic: event.topic(),
            subject: event.subject.as_deref(),
            traceparent: event.traceparent.as_deref(),
            content_type: &event.content_type,
            body: &event.body,
        }
    }
}

impl<'a> From<&'a event::Event> for Cause<'a> {
    fn from(event: &'a event::Event) -> Self {
        Self {
            id: event.id,
            topic: event.topic.as_str(),
            subject: event.subject.as_ref().map(event::Subject::as_str),
            traceparent: event.traceparent.as_deref(),
            content_type: &event.content_type,
            body: &event.data,
        }
    }
}

/// What an event names.
pub(crate) fn asked(source: &Source, cause: &Cause<'_>) -> Vec<Asked> {
    let Some(api) = source.provider.api() else { return Vec::new() };
    let named = api.named_by_event(cause.topic, cause.body, cause.content_type);
    let row = |named: Named| {
        let (place, reason) = place(named.place);
        Asked {
            subject: match named.entity {
                FILE => cause.subject.map(str::to_owned),
                entity => Some(format!("{entity}/{}", named.external_id)),
            },
            external_id: named.external_id,
            entity: named.entity,
            place,
            reason,
            name: named.name.map(|name| name.expose().to_owned()),
            asked_by: cause.id,
            traceparent: cause.traceparent.map(str::to_owned),
        }
    };
    named.into_iter().map(row).collect()
}

/// What a document names that was asked for by an event.
pub(crate) fn named_by_document(
    source: &Source,
    entity: &str,
    body: &[u8],
    asked_by: EventId,
    traceparent: Option<&str>,
) -> Vec<Asked> {
    let Some(api) = source.provider.api() else { return Vec::new() };
    let row = |named: Named| {
        let (place, reason) = place(named.place);
        Asked {
            subject: Some(format!("{}/{}", named.entity, named.external_id)),
            external_id: named.external_id,
            entity: named.entity,
            place,
            reason,
            name: None,
            asked_by,
            traceparent: traceparent.map(str::to_owned),
        }
    };
    api.named_by_document(entity, body).into_iter().map(row).collect()
}

/// Where it is, or why that is not known.
fn place(place: Place) -> (Option<String>, String) {
    match place {
        Place::Path(path) => (Some(path), String::new()),
        Place::Url(url) => (Some(url.expose().to_owned()), String::new()),
        Place::Unknown(field) => (None, format!("the event has no {field} that could be part of an address")),
    }
}
