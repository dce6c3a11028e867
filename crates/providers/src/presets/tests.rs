//! Every preset of the folder: its made request is read as it says, and is refused with any credential changed.

use bytes::Bytes;
use event::Timestamp;
use http::HeaderMap;

use super::*;
use crate::auth::{Auth, Connection, Credentials};
use crate::{BodyEvent, Duplicates, Inbound, SubjectKey, generic};

fn auth(source: &Map<String, Value>) -> Auth {
    serde_json::from_value(source["auth"].clone()).unwrap()
}

fn provider(preset: &Preset) -> Provider {
    match preset.provider_config() {
        Some(config) => {
            let config: generic::Config = serde_json::from_value(config).unwrap();
            assert_eq!(config.mistakes(), [], "{}", preset.name);
            Provider::generic(&config)
        }
        None => Provider::named(preset.provider_name()).unwrap(),
    }
}

/// Whether a request passes: of these headers, this query string and this body.
fn passes(auth: &Auth, preset: &Preset, headers: &HeaderMap, query: &str, body: &[u8]) -> bool {
    let now = Timestamp::from_second(preset.example.time).unwrap();
    let client_ip = "203.0.113.7".parse().unwrap();
    let connection = Connection::Proxy;
    auth.check(&Credentials { headers, query: Some(query), client_ip, connection, body, now }).is_ok()
}

fn headers(preset: &Preset) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", preset.example.content_type.parse().unwrap());
    for (name, value) in &preset.example.headers {
        headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

/// The text with its last letter or digit replaced; that of base64 may have no meaning.
fn spoilt(text: &str) -> String {
    let at = text.len() - 6 + text[text.len() - 6..].find(|c: char| c.is_ascii_alphanumeric()).unwrap();
    let other = if text.as_bytes()[at] == b'b' { "c" } else { "b" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

#[test]
fn the_made_request_of_every_preset_is_read_as_it_says() {
    let presets = Preset::all();
    assert!(presets.len() >= 19, "{}", presets.len());
    for preset in presets {
        let (name, example, body) = (&preset.name, &preset.example, preset.example_body());
        assert!(preset.page.starts_with("https://") && !body.is_empty(), "{name}");
        let source = preset.example_source();
        let auth = auth(&source);
        assert_eq!(auth.mistakes(), [], "{name}");
        let headers = headers(&preset);
        assert!(passes(&auth, &preset, &headers, &example.query, body), "{name}: is refused");

        let provider = provider(&preset);
        let rule: Option<Duplicates> =
            source.get("duplicates").map(|rule| serde_json::from_value(rule.clone()).unwrap());
        let body = Bytes::from_static(body);
        let inbound = Inbound { headers: &headers, body: &body };
        let key = SubjectKey::from_bytes([7; 32]);
        let items = match provider.has_several_events() {
            true => provider.read_events(&inbound, &key, rule.as_ref()).unwrap(),
            false => {
                let (reading, fact) = provider.read_fact(&inbound, &key, rule.as_ref()).unwrap();
                vec![BodyEvent { reading, fact, data: body.clone(), content_type: None }]
            }
        };
        assert_eq!(items.len(), example.events.len(), "{name}");
        for (item, expect) in items.iter().zip(&example.events) {
            assert_eq!(item.reading.topic.as_str(), expect.topic, "{name}");
            if let Some(subject) = &expect.subject {
                assert_eq!(
                    item.reading.subject.as_ref().map(|found| found.as_str()),
                    Some(subject.as_str()),
                    "{name}"
                );
            }
            assert_eq!(item.fact.is_some(), rule.is_some(), "{name}: duplicates");
        }
    }
}

#[test]
fn the_made_request_of_every_preset_is_refused_with_any_credential_changed() {
    for preset in Preset::all() {
        let (name, example, body) = (&preset.name, &preset.example, preset.example_body());
        let auth = auth(&preset.example_source());
        let headers = headers(&preset);
        let mut credentials = 0;
        for (header, value) in example.headers.iter().filter(|(header, _)| auth.is_credential(header)) {
            // The last of several signatures is of a scheme that nobody checks.
            let value = value.split(",v0=").next().unwrap();
            let mut changed = headers.clone();
            changed.insert(
                http::HeaderName::from_bytes(header.as_bytes()).unwrap(),
                spoilt(value).parse().unwrap(),
            );
            assert!(
                !passes(&auth, &preset, &changed, &example.query, body),
                "{name}: {header} is not checked"
            );
            changed.remove(header.as_str());
            assert!(
                !passes(&auth, &preset, &changed, &example.query, body),
                "{name}: passes without {header}"
            );
            credentials += 1;
        }
        if example.query.contains("token=") {
            assert!(!passes(&auth, &preset, &headers, &spoilt(&example.query), body), "{name}: query");
            assert!(!passes(&auth, &preset, &headers, "", body), "{name}: no query");
            credentials += 1;
        }
        assert!(credentials > 0, "{name}: no credential was tried");
        let is_body_signed = match &auth {
            Auth::All(all) => {
                all.hmac.is_some()
                    || all.standard_webhooks.is_some()
                    || all.signature.as_ref().is_some_and(|signature| signature.signed.has_body())
            }
            Auth::None => panic!("{name}: accepts everything"),
        };
        if is_body_signed {
            let changed = [body, b" "].concat();
            assert!(!passes(&auth, &preset, &headers, &example.query, &changed), "{name}: body");
        }
    }
}

#[test]
fn every_further_sample_is_a_documented_body_of_its_topic() {
    let of_recuperador = Preset::named("recuperador").unwrap().samples;
    assert_eq!(of_recuperador, ["parcela.aprovada"], "its second webhook");
    for preset in Preset::all() {
        for topic in &preset.samples {
            let provider = Provider::named(preset.provider_name()).unwrap();
            let body = Bytes::from_static(provider.example(topic).unwrap().as_bytes());
            let inbound = Inbound { headers: &HeaderMap::new(), body: &body };
            let reading = provider.read(&inbound, &SubjectKey::from_bytes([7; 32])).unwrap();
            assert_eq!(reading.topic.as_str(), topic, "{}", preset.name);
        }
    }
}

#[test]
fn what_is_not_verified_says_so() {
    let unverified = |name: &str| Preset::named(name).unwrap().unverified;
    let asaas = unverified("asaas");
    assert!(asaas.iter().any(|text| text.en.contains("asaas-access-token")), "{asaas:?}");
    for Preset { name, unverified, options, panel, .. } in Preset::all() {
        for Text { en, pt } in
            unverified.iter().chain(options.iter().map(|it| &it.about)).chain([&panel.stops])
        {
            assert!(!en.is_empty() && !pt.is_empty() && en != pt, "{name}: {en}");
        }
    }
}

#[test]
fn a_source_sets_what_differs_and_names_each_secret_that_is_missing() {
    let stripe = Preset::named("stripe").unwrap();
    assert_eq!(stripe.secrets(), ["signature.secrets"]);
    let own = json!({"name": "loja", "preset": "stripe", "auth": {"signature": {"secrets": ["a"], "timestamp": {"tolerance_s": 60}}}});
    let source = stripe.source_config(own.as_object().unwrap());
    assert_eq!((&source["provider"], &source["name"]), (&json!("stripe"), &json!("loja")));
    let signature = &source["auth"]["signature"];
    assert_eq!(signature["timestamp"], json!({"field": "t", "tolerance_s": 60}));
    assert_eq!((&signature["header"], &signature["secrets"]), (&json!("stripe-signature"), &json!(["a"])));
    assert!(!source.contains_key("preset"));
    assert_eq!(Preset::named("woovi").unwrap().secrets(), ["signature.public_keys"]);
    assert_eq!(Preset::named("mercado-eletronico").unwrap().secrets(), ["basic.passwords"]);
    assert!(Preset::named("nobody").is_none());
    for preset in Preset::all() {
        assert!(!preset.secrets().is_empty(), "{}", preset.name);
        // The secrets of an example are of no use to anybody else.
        assert!(preset.source["auth"].to_string().find("secrets").is_none(), "{}", preset.name);
        for lines in [&preset.panel.en, &preset.panel.pt] {
            assert!(lines.iter().any(|line| line.contains("{url}")), "{}", preset.name);
        }
    }
}

#[test]
fn pix_reads_payments_and_recurrences_in_one_list_or_as_one_object() {
    let preset = Preset::named("pix").unwrap();
    let provider = provider(&preset);
    assert_eq!(provider.suffixes().iter().map(generic::Suffix::as_str).collect::<Vec<_>>(), ["/pix", "/rec"]);
    let rule: Duplicates = serde_json::from_value(preset.source["duplicates"].clone()).unwrap();
    let check = |body: Value, expect: &[(&str, &str)]| {
        let body = Bytes::from(body.to_string());
        let inbound = Inbound { headers: &HeaderMap::new(), body: &body };
        let read = provider.read_events(&inbound, &SubjectKey::from_bytes([7; 32]), Some(&rule)).unwrap();
        let subject = |item: &BodyEvent| {
            item.reading.subject.as_ref().map_or("", |subject| subject.as_str()).to_owned()
        };
        let read: Vec<_> =
            read.iter().map(|it| (it.reading.topic.as_str(), subject(it), it.fact.is_some())).collect();
        let expect: Vec<_> =
            expect.iter().map(|(topic, subject)| (*topic, (*subject).to_owned(), true)).collect();
        assert_eq!(read, expect);
    };
    let rec = |id: &str| json!({"idRec": id, "status": "APROVADA"});
    let (one, two) = ("RR1234567820240115abcdefghijk", "RR1234567820240115abcdefghijl");
    let both = [("rec", format!("rec/{one}")), ("rec", format!("rec/{two}"))];
    let both = both.each_ref().map(|(topic, subject)| (*topic, subject.as_str()));
    check(json!({"rec": [rec(one), rec(two)]}), &both);
    check(json!({"recs": [rec(one), rec(two)]}), &both);
    check(json!({"rec": rec(one)}), &both[..1]);
    check(json!({"pix": [{"endToEndId": "E1"}]}), &[("pix", "pix/E1")]);
    let (headers, body) = (HeaderMap::new(), Bytes::from_static(b"{\"cobs\": []}"));
    let inbound = Inbound { headers: &headers, body: &body };
    let refused = provider.read_events(&inbound, &SubjectKey::from_bytes([7; 32]), None).unwrap_err();
    assert!(refused.to_string().contains("/pix or /rec or /recs"), "{refused}");
}
