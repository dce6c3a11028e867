//! Reads a rejected body again as the ingress would read it now, after a fix of a contract or the configuration; and an edited body
//! as its provider and its consumers would.

use std::sync::Arc;

use event::{Event, EventId, ProviderName, header};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use ledger::jobs::{Accepted, CheckEdit, RejectedBody, Reread, StillUnusable};
use providers::{BodyEvent, Duplicates, Inbound, SubjectKey, Unusable};

use crate::config::Config;
use crate::registry;

/// How this installation reads bodies. Hashed subjects need the key of the ingress.
pub fn reread(config: &Config, key: SubjectKey) -> Reread {
    let config = config.clone();
    Arc::new(move |rejected| read(rejected, &config, &key))
}

/// How this installation checks an edited body: by the contract of its sender, then with the handlers of its consumers.
pub fn check_edit(config: &Config, key: SubjectKey) -> CheckEdit {
    let config = config.clone();
    Arc::new(move |event, consumers| {
        let event = by_contract(event, &config, &key)?;
        for domain in registry::ALL.iter().filter(|domain| consumers.contains(&domain.name())) {
            (domain.check)(&config.time.zone, &event)
                .map_err(|reason| StillUnusable::Consumer { consumer: domain.name(), reason })?;
        }
        Ok(event)
    })
}

/// The event with the topic and subject of its body. A domain event has no sender; of a sender that puts several events into one
/// body, each event on its own has no contract either.
fn by_contract(event: Event, config: &Config, key: &SubjectKey) -> Result<Event, StillUnusable> {
    let name = &event.source.provider;
    if name.as_str() == ProviderName::OWN {
        return Ok(event);
    }
    let provider = config.provider(name).ok_or_else(|| StillUnusable::NoProvider(name.clone()))?;
    if provider.has_several_events() {
        return Ok(event);
    }
    let given = event.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers = http_headers(given, &event.content_type);
    let reading = provider
        .read(&Inbound { headers: &headers, body: &event.data }, key)
        .map_err(|unusable| StillUnusable::Body(unusable.into()))?;
    Ok(Event { topic: reading.topic, subject: reading.subject, repaired: reading.repaired, ..event })
}

/// The headers of a request, as far as they are on record.
fn http_headers<'a>(given: impl Iterator<Item = (&'a str, &'a str)>, content_type: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers
}

fn read(rejected: &RejectedBody, config: &Config, key: &SubjectKey) -> Result<Vec<Accepted>, StillUnusable> {
    let name = rejected.source.as_deref().ok_or(StillUnusable::UnknownSource)?;
    let source = config.sources.iter().find(|source| source.name.as_str() == name);
    let source = source.ok_or_else(|| StillUnusable::NoSource(name.to_owned()))?;
    let provider = config.provider(&source.provider);
    let provider = provider.ok_or_else(|| StillUnusable::NoProvider(source.provider.clone()))?;
    let recorded: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&rejected.headers).unwrap_or_default();
    let text = |name: &str| recorded.get(name).and_then(serde_json::Value::as_str);
    let given =
        recorded.iter().filter_map(|(name, value)| name.strip_prefix(header::HTTP).zip(value.as_str()));
    let headers = http_headers(given, &rejected.content_type);
    let body = rejected.body.clone().into();
    let rule = source.duplicates(provider);
    let inbound = Inbound { headers: &headers, body: &body };
    let unusable = |unusable: Unusable| StillUnusable::Body(unusable.into());
    let items = match provider.has_several_events() {
        true => provider.read_events(&inbound, key, rule.as_ref()).map_err(unusable)?,
        false => {
            let (reading, fact) = provider.read_fact(&inbound, key, rule.as_ref()).map_err(unusable)?;
            vec![BodyEvent { reading, fact, data: body.clone(), content_type: None }]
        }
    };
    let accepted = |(index, item): (usize, BodyEvent)| {
        let BodyEvent { reading, fact, data, content_type } = item;
        // Derived, so that a job that is repeated sends the same events.
        let id = match index {
            0 => rejected.id,
            _ => EventId::from_parts(
                rejected.id.milliseconds(),
                [&rejected.id.as_bytes()[..], &index.to_be_bytes()],
            ),
        };
        let event = Event {
            id,
            source: event::Source::new(provider.name().clone(), source.name.clone()),
            topic: reading.topic,
            subject: reading.subject,
            time: rejected.received_at,
            content_type: content_type.map_or_else(|| rejected.content_type.clone(), str::to_owned),
            data,
            traceparent: text(&format!("{}traceparent", header::CLOUD_EVENTS)).map(str::to_owned),
            replay_of: None,
            caused_by: None,
            repaired: reading.repaired,
            headers: reading.headers,
        };
        Accepted {
            event,
            duplicate_key: fact.map(|fact| fact.key).zip(rule.as_ref().map(Duplicates::window_s)),
        }
    };
    Ok(items.into_iter().enumerate().map(accepted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_parts;

    #[test]
    fn a_body_is_read_as_its_source_would_send_it_now() {
        let text = "[[providers]]\nname = \"erp\"\ntopic = { header = \"x-event\" }\n\
                    [[sources]]\nname = \"erp-1\"\nprovider = \"erp\"\nauth = \"none\"\n\
                    duplicates = { header = \"x-request-id\", window_s = 60 }\n";
        let config = load_parts("", text, []).unwrap().0;
        let key = SubjectKey::from_bytes([7; 32]);
        let rejected = RejectedBody {
            id: event::EventId::generate(),
            source: Some("erp-1".to_owned()),
            received_at: event::now(),
            content_type: "application/json".to_owned(),
            headers: r#"{"http_x-event": "paid", "http_x-request-id": "r-1", "cloudEvents_traceparent": "00-1", "malote_cause": "x"}"#
                .to_owned(),
            body: b"{}".to_vec(),
        };
        let [Accepted { event, duplicate_key }] = read(&rejected, &config, &key).unwrap().try_into().unwrap();
        assert_eq!((event.id, event.time, event.topic.as_str()), (rejected.id, rejected.received_at, "paid"));
        assert_eq!(event.source.to_string(), "/erp/erp-1");
        assert_eq!((event.headers["x-event"].as_str(), event.traceparent.as_deref()), ("paid", Some("00-1")));
        let mut headers = HeaderMap::new();
        headers.insert("x-event", HeaderValue::from_static("paid"));
        headers.insert("x-request-id", HeaderValue::from_static("r-1"));
        let rule = config.sources[0].duplicates(&config.providers[0]);
        let provider = config.provider(&config.sources[0].provider).unwrap();
        let inbound = Inbound { headers: &headers, body: &event.data };
        let (_, fact) = provider.read_fact(&inbound, &key, rule.as_ref()).unwrap();
        assert_eq!(duplicate_key, Some((fact.unwrap().key, 60)));
        let check = |change: fn(&mut RejectedBody), expect: &str| {
            let mut rejected = rejected.clone();
            change(&mut rejected);
            assert_eq!(read(&rejected, &config, &key).unwrap_err().to_string(), expect);
        };
        check(|rejected| rejected.source = Some("gone".into()), "no source gone is configured any more");
        check(
            |rejected| rejected.body = b"[]".to_vec(),
            "the body: expected an object, got an array; send one JSON object",
        );
    }

    #[test]
    fn a_body_with_several_events_is_read_as_all_of_them_under_the_same_ids() {
        let text = "[[providers]]\nname = \"psp\"\nevents = \"/pix\"\ntopic = { constant = \"pix\" }\n\
                    [[sources]]\nname = \"pix\"\nprovider = \"psp\"\nauth = \"none\"\n";
        let config = load_parts("", text, []).unwrap().0;
        let rejected = RejectedBody {
            id: event::EventId::generate(),
            source: Some("pix".to_owned()),
            received_at: event::now(),
            content_type: "application/json".to_owned(),
            headers: "{}".to_owned(),
            body: br#"{"pix": [{"a": 1}, {"a": 2}]}"#.to_vec(),
        };
        let key = SubjectKey::from_bytes([7; 32]);
        let first = read(&rejected, &config, &key).unwrap();
        let data: Vec<_> = first.iter().map(|accepted| accepted.event.data.clone()).collect();
        assert_eq!(data, [r#"{"a": 1}"#, r#"{"a": 2}"#]);
        assert_eq!(first[0].event.id, rejected.id);
        assert!(first[0].event.id != first[1].event.id && first[0].duplicate_key != first[1].duplicate_key);
        assert_eq!(read(&rejected, &config, &key).unwrap(), first);
    }
}
