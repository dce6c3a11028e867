//! Bodies: what every provider's contract and every payload reads from them.

use std::fmt::{Debug, Display};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use providers::mercado_eletronico::{self, Invoice};
use providers::{
    Inbound, Payload, Provider, SubjectKey, beneficio_visao, generic, gestao_online, recuperador,
};
use serde_json::value::RawValue;

/// The declared type of a body; the input's first byte chooses.
const CONTENT_TYPES: [Option<&str>; 6] = [
    None,
    Some("application/json"),
    Some("application/json; charset=iso-8859-1"),
    Some("text/plain; charset=utf-16"),
    Some("application/x-www-form-urlencoded"),
    Some("multipart/form-data; charset=\"nonsense"),
];

/// Stands in the seeds where people's data stands. No error may quote it.
const PERSONAL: &str = "Zoraide";

const GENERIC: [&str; 4] = [
    "name = \"generic-json\"\ntopic.pointer = \"/event/name\"\n\
     subject = { entity = \"thing\", pointer = \"/event/id\", personal = true }\n",
    "name = \"generic-form\"\nbody = \"form\"\ntopic.pointer = \"/event\"\n\
     subject = { entity = \"thing\", pointer = \"/id\" }\n",
    "name = \"xml\"\nbody = \"xml\"\ntopic = { pointer = \"/made/event\" }\nsubject = { entity = \"thing\", pointer = \"/made/@id\" }",
    "name = \"several\"\nevents = \"/made\"\ntopic = { pointer = \"/event\" }\nsubject = { entity_pointer = \"/kind\", pointer = [\"/id\", \"/code\"] }",
];

fn providers() -> Vec<Provider> {
    let generic = GENERIC.map(|text| {
        let config: generic::Config = toml::from_str(text).expect("a configuration that is well formed");
        Provider::generic(&config)
    });
    Provider::builtin().into_iter().chain(generic).collect()
}

/// The documented bodies, and some that are not JSON, each under one content type.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let documented = Provider::builtin().into_iter().flat_map(|provider| provider.topics().iter());
    let mut bodies: Vec<String> = documented.filter_map(|topic| topic.example).map(str::to_owned).collect();
    bodies.extend([
        format!(
            r#"{{"topic": "invoice.created", "data": {{"invoiceId": "{PERSONAL}"}}, "topic": "{PERSONAL}"}}"#
        ),
        format!(r#"{{"event": {{"name": "{PERSONAL} {PERSONAL}", "id": ["{PERSONAL}"]}},}} // {PERSONAL}"#),
        format!("event=made&id={PERSONAL}%20%C3%A9&id=2"),
        format!(r#"<made id="{PERSONAL}"><event>made</event><x:{PERSONAL}/><![CDATA[{PERSONAL}]]>&{PERSONAL};</made>"#),
        format!(r#"{{"made": [{{"event": "a", "kind": "{PERSONAL}", "id": 1, "code": "{PERSONAL}"}}, {PERSONAL}]}}"#),
        format!(
            r#"{{"event_id": "ORDER_CREATED", "data": {{"code": "{PERSONAL}", "price": "{PERSONAL}"}}}}"#
        ),
    ]);
    let input = |(n, body): (usize, String)| [&[(n % CONTENT_TYPES.len()) as u8], body.as_bytes()].concat();
    bodies.into_iter().enumerate().map(input).collect()
}

pub(crate) fn run(input: &[u8]) {
    let Some((first, body)) = input.split_first() else { return };
    let content_type = CONTENT_TYPES[usize::from(*first) % CONTENT_TYPES.len()];
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let body = Bytes::copy_from_slice(body);
    let inbound = Inbound { headers: &headers, body: &body };
    for provider in providers() {
        read(&provider, &inbound);
        read_events(&provider, &inbound);
    }
    let content_type = content_type.unwrap_or("application/json");
    payload::<mercado_eletronico::Notice<Invoice>>(&body, content_type);
    payload::<gestao_online::Notification>(&body, content_type);
    payload::<recuperador::Agreement>(&body, content_type);
    payload::<recuperador::Notice>(&body, content_type);
    match providers::items(&body, Some(content_type), None) {
        Ok(items) => {
            let is_json = |item: &providers::Item| serde_json::from_slice::<&RawValue>(item.body()).is_ok();
            assert!(items.iter().all(is_json), "an item is one JSON value");
        }
        Err(error) => quotes_nothing(&error),
    }
    payload::<beneficio_visao::Prescription>(&body, content_type);
}

/// Reading, and what recognises a duplicate, are functions of the request. What is not repaired is strict, and a topic is one of
/// every event.
fn read(provider: &Provider, inbound: &Inbound<'_>) {
    let key = SubjectKey::from_bytes([7; 32]);
    let read = || provider.read_fact(inbound, &key, provider.duplicates());
    let reading = read();
    assert_eq!(reading, read(), "{} reads a body in two ways", provider.name());
    match &reading {
        Ok((reading, _)) => {
            assert_eq!(event::Topic::new(reading.topic.as_str()).as_ref(), Ok(&reading.topic));
            if !reading.repaired && provider.media_type() == "application/json" {
                let json: &RawValue =
                    serde_json::from_slice(inbound.body).expect("what is not repaired is strict JSON");
                assert!(json.get().starts_with('{'), "what is read is an object");
            }
        }
        Err(error) => quotes_nothing(error),
    }
}

/// Every event of a body is a JSON object of its own, whatever the body is.
fn read_events(provider: &Provider, inbound: &Inbound<'_>) {
    let key = SubjectKey::from_bytes([7; 32]);
    let read = || provider.read_events(inbound, &key, provider.duplicates());
    assert_eq!(read(), read(), "{} reads a body in two ways", provider.name());
    match read() {
        Ok(events) => {
            for event in events {
                let json: &RawValue =
                    serde_json::from_slice(&event.data).expect("the data of an event is strict JSON");
                assert!(json.get().starts_with('{'), "what is read is an object");
            }
        }
        Err(error) => quotes_nothing(&error),
    }
}

fn payload<T: Payload + Debug>(body: &[u8], content_type: &str) {
    let parsed = || providers::parse::<T>(body, content_type);
    match parsed() {
        Ok(first) => {
            let second = parsed().expect("what is read once is read twice");
            assert_eq!(format!("{:?}", first.payload), format!("{:?}", second.payload));
        }
        Err(error) => quotes_nothing(&error),
    }
}

/// Errors go to the sender, to the log and to the record: they hold no personal data.
fn quotes_nothing(error: &(impl Display + Debug)) {
    let text = format!("{error} {error:?}");
    assert!(!text.contains(PERSONAL), "an error quotes the body: {text}");
}
