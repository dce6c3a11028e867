//! What an accepted request became, and its answer.

use bytes::Bytes;
use event::{EventId, Topic};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use providers::{Answer, Reply};
use serde::Serialize;
use tracing::debug;

use crate::source::Route;

/// An event that is stored.
pub(crate) struct Accepted {
    pub(crate) id: EventId,
    pub(crate) topic: Topic,
    /// It repeats a fact that this ingress took before.
    pub(crate) is_duplicate: bool,
}

/// What a request is answered with, where it succeeds.
pub(crate) enum Outcome<'a> {
    /// One event, and the answer that its sender insists on.
    One(Accepted, Option<&'a Answer>),
    /// The events of a body that may hold several.
    Several(Vec<Accepted>, Option<&'a Answer>),
    /// A challenge, which is no event.
    Reply(Box<Reply>),
}

impl Outcome<'_> {
    pub(crate) fn count(&self, route: &Route) {
        let events = match self {
            // An empty list says no more than a ping.
            Self::Several(events, _) if events.is_empty() => return route.challenge.increment(1),
            Self::One(event, _) => std::slice::from_ref(event),
            Self::Several(events, _) => events.as_slice(),
            Self::Reply(_) => {
                route.challenge.increment(1);
                return debug!("answered a challenge");
            }
        };
        for event in events {
            match event.is_duplicate {
                true => route.duplicate.increment(1),
                false => route.accepted.increment(1),
            }
            debug!(duplicate = event.is_duplicate, "accepted");
        }
    }
}

/// malote's own answer about one event.
#[derive(Serialize)]
struct Taken<'a> {
    id: EventId,
    topic: &'a str,
}

const TEXTS: &str = "texts are JSON";

impl Accepted {
    fn taken(&self) -> Taken<'_> {
        Taken { id: self.id, topic: self.topic.as_str() }
    }

    /// malote's own answer about it. Hardly any topic has to be escaped.
    fn to_json(&self) -> String {
        let topic = self.topic.as_str();
        match topic.bytes().all(|byte| byte >= b' ' && !matches!(byte, b'"' | b'\\')) {
            true => [r#"{"id":""#, &self.id.to_text(), r#"","topic":""#, topic, r#""}"#].concat(),
            false => serde_json::to_string(&self.taken()).expect(TEXTS),
        }
    }
}

/// malote's own answer about several.
#[derive(Serialize)]
struct TakenAll<'a> {
    events: Vec<Taken<'a>>,
}

impl From<Outcome<'_>> for Response<Full<Bytes>> {
    fn from(outcome: Outcome<'_>) -> Self {
        let own =
            |body: String| (StatusCode::OK, Some(HeaderValue::from_static("application/json")), body.into());
        let (status, content_type, body) = match &outcome {
            Outcome::One(_, Some(answer)) | Outcome::Several(_, Some(answer)) => {
                (answer.status, HeaderValue::from_str(&answer.content_type).ok(), answer.body.clone())
            }
            Outcome::One(event, None) => own(event.to_json()),
            Outcome::Several(events, None) => {
                let all = TakenAll { events: events.iter().map(Accepted::taken).collect() };
                own(serde_json::to_string(&all).expect(TEXTS))
            }
            Outcome::Reply(reply) => {
                let Reply { status, body, headers } = reply.as_ref();
                let mut response = Response::new(Full::new(body.clone()));
                *response.status_mut() = *status;
                headers.clone_into(response.headers_mut());
                return response;
            }
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        if let Some(value) = content_type {
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_about_an_event_is_its_json() {
        for topic in ["order.created", "é", r#"a"b"#, r"a\b"] {
            let event =
                Accepted { id: EventId::generate(), topic: Topic::new(topic).unwrap(), is_duplicate: false };
            assert_eq!(event.to_json(), serde_json::to_string(&event.taken()).unwrap());
        }
    }
}
