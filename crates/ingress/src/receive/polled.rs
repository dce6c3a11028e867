//! A body that was fetched from its sender's API: kept as that of a request is, without the request and its credentials.

use std::fmt;

use bytes::Bytes;
use event::{EventId, SourceName};
use http::Request;
use http::header::CONTENT_TYPE;
use server::BodyError;

use super::{Arrival, Ingress};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::trace::traceparent;

/// The outcome of a body. It is durable in every case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is an event.
    Event(EventId),
    /// It repeats a fact that this ingress took before, and is recorded as such.
    Duplicate(EventId),
    /// It cannot be used, and is kept with the reason.
    Rejected(EventId, String),
}

/// Why a body is not durable; it has to be given again.
#[derive(Debug)]
pub struct NotKept(Refusal);

impl NotKept {
    /// Whether others would not be kept either: what is wrong is not the body.
    pub fn is_of_all(&self) -> bool {
        !matches!(self.0, Refusal::Body(_) | Refusal::TooLargeToStore(_))
    }
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NotKept {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Ingress {
    /// Keeps the body of a source, as if it had been posted: the same limits, the same rule for duplicates, and counted in the
    /// same books. The caller vouches for the sender. When it returns `Ok` the body is durable.
    pub async fn keep_polled(&self, source: &SourceName, body: Bytes) -> Result<Kept, NotKept> {
        let Self(ingress) = self;
        let route = ingress.routes.get(source.as_str()).ok_or(NotKept(Refusal::UnknownSource))?;
        let limit = ingress.config.body_limit_bytes;
        if body.len() > limit {
            return Err(NotKept(Refusal::Body(BodyError::TooLarge { limit_bytes: limit })));
        }
        let _place = route.places.acquire().await.map_err(|_| NotKept(Refusal::Busy))?;
        let _memory = ingress.memory.hold(body.len()).await.map_err(|full| NotKept(full.into()))?;
        let media_type = route.provider.media_type();
        let (mut parts, ()) = Request::builder()
            .header(CONTENT_TYPE, media_type)
            .body(())
            .expect("a media type is a header value")
            .into_parts();
        let id = EventId::generate();
        let arrival =
            Arrival { id, time: event::now(), client: None, traceparent: traceparent(&parts.headers, id) };
        match ingress.keep(route, arrival, &mut parts, body).await {
            Ok(Outcome::One(event, _)) if event.is_duplicate => Ok(Kept::Duplicate(event.id)),
            Ok(Outcome::One(event, _)) => Ok(Kept::Event(event.id)),
            Ok(Outcome::Several(events, _)) => Ok(match events.iter().find(|event| !event.is_duplicate) {
                Some(new) => Kept::Event(new.id),
                None => Kept::Duplicate(events.first().map_or(id, |first| first.id)),
            }),
            // Only requests are challenges.
            Ok(Outcome::Reply(_)) => Ok(Kept::Event(id)),
            Err(Refusal::Unusable { cause, id }) => Ok(Kept::Rejected(id, cause.to_string())),
            Err(refusal) => Err(NotKept(refusal)),
        }
    }
}
