//! Bodies that hold several events: each is published by itself, and all of them are answered at once.

use bytes::Bytes;
use event::{EventId, header};
use futures_util::future::join_all;
use http::request::Parts;
use providers::{BodyEvent, Duplicates, Inbound};
use tracing::Span;

use crate::outcome::{Accepted, Outcome};
use crate::receive::{Arrival, Inner, media_type, message};
use crate::refusal::Refusal;
use crate::source::Route;

impl Inner {
    /// Reads the events of a body and publishes them. One that cannot be used rejects the body, before any is published. If
    /// one is not stored, the sender is asked to send all of them again; those that are stored are then duplicates.
    pub(crate) async fn store_several<'a>(
        &self,
        route: &'a Route,
        arrival: Arrival,
        parts: &Parts,
        body: Bytes,
    ) -> Result<Outcome<'a>, Refusal> {
        let inbound = Inbound { headers: &parts.headers, body: &body };
        let turn = self.memory.checking(body.len()).await;
        let rule = route.duplicates.as_ref();
        let read = route.provider.read_events(&inbound, &self.key, rule);
        drop(turn);
        let items = match read {
            Ok(items) => items,
            Err(cause) => return Err(self.reject(route, arrival, parts, body, cause).await),
        };
        if let Some(BodyEvent { reading, fact, .. }) = items.first() {
            route.look_at_first(reading.subject.is_some(), fact.is_some());
            Span::current().record("topic", reading.topic.as_str());
        }
        let Arrival { id: first, time, client, traceparent } = arrival;
        let window_s = rule.map(Duplicates::window_s);
        let published = items.into_iter().enumerate().map(|(index, item)| {
            let BodyEvent { reading, fact, data, content_type } = item;
            let id = if index == 0 { first } else { EventId::generate() };
            let topic = reading.topic.clone();
            let media_type = content_type.map_or_else(|| media_type(route, parts), str::to_owned);
            let mut message = message(route, (id, time, traceparent.clone()), reading, media_type, data);
            let receipt = client.map(|client| route.receipt(client, fact.as_ref()));
            message.headers.extend(receipt.map(|receipt| (header::ANSWER, receipt)));
            async move {
                let key = fact.map(|fact| fact.key).zip(window_s);
                let is_duplicate = self.publish_event(route, (id, time), message, &topic, key).await?;
                // Also if the sender is asked again for the sake of others: this one is on record.
                route.tally.accepted(time);
                Ok(Accepted { id, topic, is_duplicate })
            }
        });
        let stored: Result<Vec<_>, Refusal> = join_all(published).await.into_iter().collect();
        Ok(Outcome::Several(stored?, route.answer.as_ref()))
    }
}
