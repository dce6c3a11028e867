//! Senders of the same field, each by configuration only.

use bytes::Bytes;

use super::*;
use crate::{Inbound, Provider, Reading, SubjectKey};

fn config(toml: &str) -> Config {
    toml::from_str(toml).unwrap()
}

/// Reads a request by a configuration: topic and subject, or the error's text.
fn read(toml: &str, headers: &[(&str, &str)], body: &str) -> Result<(String, Option<String>), String> {
    let config = config(toml);
    assert_eq!(config.mistakes(), []);
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let body = Bytes::copy_from_slice(body.as_bytes());
    Provider::generic(&config)
        .read(&Inbound { headers: &map, body: &body }, &SubjectKey::from_bytes([7; 32]))
        .map(|reading| (reading.topic.to_string(), reading.subject.map(|subject| subject.to_string())))
        .map_err(|error| error.to_string())
}

#[test]
fn a_new_sender_needs_configuration_only() {
    let check = |toml: &str, headers: &[(&str, &str)], body: &str, topic: &str, subject: &str| {
        let subject = (!subject.is_empty()).then(|| subject.to_owned());
        assert_eq!(read(toml, headers, body), Ok((topic.to_owned(), subject)), "{toml}");
    };
    check(
        r#"name = "focus-nfe"
           topic = {pointer = "/status"}
           subject = {entity = "invoice", pointer = "/ref"}"#,
        &[],
        r#"{"cnpj_emitente": "07504505000132", "ref": "nfe-12", "status": "autorizado", "status_sefaz": "100"}"#,
        "autorizado",
        "invoice/nfe-12",
    );
    check(
        r#"name = "asaas"
           topic = {pointer = "/event"}
           subject = {entity = "payment", pointer = "/payment/id"}
           answer = {status = 200, body = "{}", content_type = "application/json"}"#,
        &[],
        r#"{"id": "evt_05b708", "event": "PAYMENT_RECEIVED", "payment": {"id": "pay_080225", "value": 100.5}}"#,
        "PAYMENT_RECEIVED",
        "payment/pay_080225",
    );
    check(
        r#"name = "iugu"
           body = "form"
           topic = {pointer = "/event"}
           subject = {entity = "invoice", pointer = "/data[id]"}"#,
        &[],
        "event=invoice.status_changed&data%5Bid%5D=1757E1D7FD5E410A&data[status]=paid",
        "invoice.status_changed",
        "invoice/1757E1D7FD5E410A",
    );
    check(
        r#"name = "kobana"
           topic = {pointer = "/event_code"}
           subject = {entity = "billet", pointer = "/object/id"}"#,
        &[("X-Hub-Signature", "sha1=00")],
        r#"{"event_code": "bank_billet.paid", "object": {"id": 1}}"#,
        "bank_billet.paid",
        "billet/1",
    );
    check(
        r#"name = "pix"
           topic = {constant = "pix"}"#,
        &[],
        r#"{"pix": [{"endToEndId": "E1"}, {"endToEndId": "E2"}]}"#,
        "pix",
        "",
    );
    check(
        r#"name = "bling"
           topic = {pointer = "/event"}
           subject = {entity = "event", pointer = "/eventId"}"#,
        &[],
        r#"{"eventId": "01945027", "event": "order.created", "data": {"id": 12345}}"#,
        "order.created",
        "event/01945027",
    );
    check(
        r#"name = "standard"
           topic = {pointer = "/type"}
           subject = {entity = "message", header = "webhook-id"}
           keep_headers = ["webhook-id"]"#,
        &[("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")],
        r#"{"type": "contact.created", "timestamp": "2022-11-03T20:26:10.344522Z", "data": {}}"#,
        "contact.created",
        "message/msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
    );
    check(
        r#"name = "forge"
           topic = {header = "X-Event"}"#,
        &[("x-event", "push")],
        "{}",
        "push",
        "",
    );
    check(
        r#"name = "form"
           body = "form"
           topic = {header = "X-Event"}
           subject = {entity = "order", pointer = "/id"}"#,
        &[("x-event", "paid")],
        "id=&id=7",
        "paid",
        "",
    );
    check(
        r#"name = "deep"
           topic = {pointer = "/events/0/a~1b~01"}"#,
        &[],
        r#"{"events": [{"a/b~1": "x"}]}"#,
        "x",
        "",
    );
}

#[test]
fn a_persons_number_is_in_no_subject() {
    let check = |toml: &str, headers: &[(&str, &str)], body: &str| {
        let (_, subject) = read(toml, headers, body).unwrap();
        let subject = subject.unwrap();
        assert!(subject.starts_with("person/") && !subject.contains("529"), "{subject}");
        subject
    };
    let json = check(
        r#"name = "clinic"
           topic = {constant = "visit"}
           subject = {entity = "person", pointer = "/cpf", personal = true}"#,
        &[],
        r#"{"cpf": "52998224725"}"#,
    );
    let header = check(
        r#"name = "clinic"
           topic = {constant = "visit"}
           subject = {entity = "person", header = "x-cpf", personal = true}"#,
        &[("x-cpf", "52998224725")],
        "{}",
    );
    assert_eq!(json, header);
}

#[test]
fn a_request_without_a_usable_topic_is_refused_with_the_place() {
    let check = |toml: &str, headers: &[(&str, &str)], body: &str, expect: &str| {
        let error = read(&format!("name = \"x\"\n{toml}"), headers, body).unwrap_err();
        assert!(error.starts_with(expect), "{error}");
    };
    let pointer = r#"topic = {pointer = "/data/event"}"#;
    check(pointer, &[], "{}", "/data/event: missing");
    check(pointer, &[], r#"{"data": {"event": null}}"#, "/data/event: missing");
    check(pointer, &[], r#"{"data": {"event": 1}}"#, "/data/event: expected a string, got a number");
    check(pointer, &[], r#"{"data": {"event": "a", "event": "b"}}"#, "/data/event: given twice");
    check(pointer, &[], "a=b", "the body is not JSON");
    let header = r#"topic = {header = "X-Event"}"#;
    check(header, &[], "{}", "header x-event: missing");
    check(header, &[("x-event", "a"), ("x-event", "b")], "{}", "header x-event: given twice");
    check(header, &[("x-event", "")], "{}", "header x-event: a topic must not be empty");
    let form = "topic = {pointer = \"/event\"}\nbody = \"form\"";
    check(form, &[], "a=b", "/event: missing");
    check(form, &[], "event=a&event=b", "/event: given twice");
    check(form, &[], "event=a%0Ab", "/event: a topic takes");
    check(form, &[], "", "the body is empty");
}

#[test]
fn a_form_is_read_whatever_its_bytes_are() {
    let toml = "name = \"x\"\nbody = \"form\"\ntopic = {pointer = \"/event\"}\nsubject = {entity = \"bill\", pointer = \"/data[id]\"}";
    let check = |body: &str, expect: &str| {
        assert_eq!(read(toml, &[], body), Ok(("paid".to_owned(), Some(expect.to_owned()))), "{body:?}");
    };
    check("\u{feff}event=paid&data%5Bid%5D=F1", "bill/F1");
    check("event=paid&data[id]=a%e7%e3o", "bill/ação");
    check("event=paid&data[id]=F%001", "bill/F1");
    let error = read(toml, &[], &format!("event=paid&data[id]={}", "1".repeat(201))).unwrap_err();
    assert!(error.starts_with("/data[id]: expected an identifier of at most 200 bytes"), "{error}");
    assert!(read(toml, &[], "event=%EF%BF%BD").unwrap_err().starts_with("/event: expected a string"));
    assert!(Provider::generic(&config(toml)).topics().is_empty());
}

#[test]
fn the_configured_answer_and_headers_are_given() {
    let config = config(
        r#"name = "x"
           title = "Example"
           topic = {constant = "t"}
           answer = {status = 202, body = "OK"}
           keep_headers = ["X-Delivery", "Authorization"]"#,
    );
    assert_eq!(
        config.mistakes(),
        [("keep_headers[1]".to_owned(), "authorization holds credentials and is never kept".to_owned())]
    );
    let provider = Provider::generic(&config);
    assert_eq!((provider.name().as_str(), provider.title()), ("x", "Example"));
    let answer = provider.answer().unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (202, &b"OK"[..]));
    assert_eq!(answer.content_type, "text/plain; charset=utf-8");
    let mut headers = HeaderMap::new();
    headers.insert("x-delivery", "7".parse().unwrap());
    headers.insert("authorization", "Bearer t".parse().unwrap());
    let inbound = Inbound { headers: &headers, body: &Bytes::from_static(b"{}") };
    let kept = provider.read(&inbound, &SubjectKey::from_bytes([7; 32])).unwrap().headers;
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), [("x-delivery".to_owned(), "7".to_owned())]);
}

#[test]
fn a_configuration_survives_its_text() {
    let config = config(
        r#"name = "x"
           topic = {pointer = "/a~1b"}
           subject = {entity = "order", pointer = "/id"}
           answer = {status = 204}"#,
    );
    assert_eq!(toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(), config);
}

#[test]
fn a_mistake_in_a_configuration_is_named() {
    let refused = |toml: &str, expect: &str| {
        let error = toml::from_str::<Config>(toml).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    refused("name = \"X\"\ntopic = {constant = \"t\"}", "a provider name takes lower-case letters");
    refused(
        "name = \"x\"\ntopic = {pointer = \"event\"}",
        "expected a JSON pointer such as /data/id, got \"event\"",
    );
    refused("name = \"x\"\ntopic = {header = \"a b\"}", "expected a header name");
    refused("name = \"x\"\ntopic = {constant = \"\"}", "a topic must not be empty");
    refused("name = \"x\"", "missing field `topic`");
    refused("name = \"x\"\ntopic = {constant = \"t\"}\ncolour = 1", "unknown field `colour`");
    refused(
        "name = \"x\"\ntopic = {constant = \"t\"}\nanswer = {status = 302}",
        "expected a status from 200 to 299, got 302",
    );

    let check = |toml: &str, expect: &str| {
        let mistakes = config(toml).mistakes();
        assert!(mistakes.iter().any(|(path, _)| path == expect), "{mistakes:?}");
    };
    check("name = \"recuperador\"\ntopic = {constant = \"t\"}", "name");
    check("name = \"x\"\ntopic = {constant = \"t\"}\nsubject = {entity = \"e\"}", "subject");
    check(
        "name = \"x\"\ntopic = {constant = \"t\"}\nsubject = {entity = \"\", pointer = \"/a\"}",
        "subject.entity",
    );
    check(
        "name = \"x\"\ntopic = {constant = \"t\"}\nanswer = {content_type = \"a\\nb\"}",
        "answer.content_type",
    );
}

#[test]
fn an_id_of_several_values_needs_each_of_them() {
    let check = |subject: &str, body: &str, expect: Option<&str>| {
        let toml = format!("name = \"x\"\ntopic = {{pointer = \"/event\"}}\nsubject = {{{subject}}}");
        let (_, found) = read(&toml, &[], body).unwrap();
        assert_eq!(found.as_deref(), expect, "{subject} {body}");
    };
    let body = r#"{"event": "order/created", "store_id": 7.0, "id": "0042", "object": "invoice"}"#;
    check(r#"entity = "order", pointer = ["/store_id", "/id"]"#, body, Some("order/7:0042"));
    check(r#"entity = "order", pointer = ["/store_id", "/id"], separator = "/""#, body, Some("order/7/0042"));
    check(r#"entity = "order", pointer = ["/store_id", "/other"]"#, body, None);
    check(r#"entity_until = "/", pointer = "/id""#, body, Some("order/0042"));
    check(r#"entity_pointer = "/object", pointer = "/id""#, body, Some("invoice/0042"));
    check(r#"entity_pointer = "/missing", pointer = "/id""#, body, None);
}

#[test]
fn pointers_lead_into_xml_as_into_json() {
    let toml = r#"name = "nfe"
        body = "xml"
        topic = {pointer = "/nfeProc/protNFe/infProt/cStat"}
        subject = {entity = "invoice", pointer = "/nfeProc/NFe/infNFe/@Id"}"#;
    let body = r#"<?xml version="1.0"?><nfeProc xmlns="http://www.portalfiscal.inf.br/nfe"><NFe><infNFe Id="NFe35"/></NFe>
        <protNFe><infProt><cStat>100</cStat></infProt></protNFe></nfeProc>"#;
    assert_eq!(read(toml, &[], body), Ok(("100".to_owned(), Some("invoice/NFe35".to_owned()))));
    assert!(read(toml, &[], "{}").unwrap_err().starts_with("the body is not XML: text outside of the root"));
    assert_eq!(Provider::generic(&config(toml)).media_type(), "application/xml");
    let value = crate::body_value(b"<a><b>1</b></a>", "text/xml; charset=utf-8");
    assert_eq!(value, serde_json::json!({"a": {"b": "1"}}));
}

/// Topic, subject, data and fact of an event.
type Shown = (String, Option<String>, String, Option<String>);

/// The events of a body, or the error's text.
fn items(toml: &str, body: &str) -> Result<Vec<Shown>, String> {
    let provider = Provider::generic(&config(toml));
    assert!(provider.has_several_events());
    let rule = serde_json::from_str(r#"{"pointer": "/endToEndId", "window_s": 60}"#).unwrap();
    let (headers, body) = (HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()));
    let inbound = Inbound { headers: &headers, body: &body };
    let read = provider.read_events(&inbound, &SubjectKey::from_bytes([7; 32]), Some(&rule));
    let text = |data: &Bytes| String::from_utf8(data.to_vec()).unwrap();
    let items = read.map_err(|error| error.to_string())?.into_iter().map(|item| {
        let Reading { topic, subject, .. } = item.reading;
        (topic.to_string(), subject.map(String::from), text(&item.data), item.fact.map(|fact| fact.key))
    });
    Ok(items.collect())
}

const PIX: &str = r#"name = "pix"
    events = "/pix"
    topic = {constant = "pix"}
    subject = {entity = "pix", pointer = "/endToEndId"}"#;

#[test]
fn each_element_is_an_event_with_its_own_subject_and_fact() {
    let one = r#"{"endToEndId": "E1", "valor": "1.00"}"#;
    let two = r#"{"endToEndId": "E2", "valor": "1.00"}"#;
    let three = one.replace("E1", "E3");
    let first = items(PIX, &format!(r#"{{"pix": [{one}, {two}]}}"#)).unwrap();
    let subjects = |items: &[Shown]| {
        items.iter().map(|(_, subject, data, _)| (subject.clone().unwrap(), data.clone())).collect::<Vec<_>>()
    };
    let pair = |id: &str, data: &str| (format!("pix/{id}"), data.to_owned());
    assert_eq!(subjects(&first), [pair("E1", one), pair("E2", two)]);
    assert_ne!(first[0].3, first[1].3);
    // The same one beside another is the same fact.
    let second = items(PIX, &format!(r#"{{"pix": [{three}, {one}]}}"#)).unwrap();
    assert_eq!((&second[1].3, second[0].3 == first[1].3), (&first[0].3, false));
    for body in [format!("[{one}]"), format!(r#"{{"pix": {one}}}"#)] {
        assert_eq!(subjects(&items(PIX, &body).unwrap()), [pair("E1", one)], "{body}");
    }
    assert_eq!(subjects(&items(PIX, &format!(r#"{{"pix": {{"1": {one}}}}}"#)).unwrap()), [pair("E1", one)]);
    assert_eq!(items(PIX, r#"{"pix": []}"#), Ok(Vec::new()));
    let whole = r#"name = "x"
        events = "/entry"
        topic = {pointer = "/object"}
        subject = {entity = "page", pointer = ["/account", "/id"]}"#;
    let read = items(whole, r#"{"object": "page", "account": 3, "entry": [{"id": 7}]}"#).unwrap();
    assert_eq!((read[0].0.as_str(), read[0].1.as_deref()), ("page", Some("page/3:7")));
}

#[test]
fn an_event_without_an_id_is_a_repetition_only_in_a_body_that_is_sent_again() {
    let provider = Provider::generic(&config(
        r#"name = "x"
           events = "/items"
           topic = {pointer = "/event"}
           subject = {entity = "item", pointer = "/id"}"#,
    ));
    let rule = provider.duplicates().expect("a body with several events has a rule");
    let facts = |rule: &crate::Duplicates, body: &str| {
        let (headers, body) = (HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()));
        let inbound = Inbound { headers: &headers, body: &body };
        let items = provider.read_events(&inbound, &SubjectKey::from_bytes([7; 32]), Some(rule)).unwrap();
        items.into_iter().map(|item| item.fact.expect("a fact").key).collect::<Vec<_>>()
    };
    let opened = facts(rule, r#"{"event": "opened", "items": [{"id": 1}, {"id": 1}]}"#);
    assert_ne!(opened[0], opened[1], "two equal ones are two");
    assert_eq!(opened, facts(rule, r#"{"event": "opened", "items": [{"id": 1}, {"id": 1}]}"#));
    assert!(!opened.contains(&facts(rule, r#"{"event": "closed", "items": [{"id": 1}]}"#)[0]));
    let batch = |number: u32| {
        facts(rule, &format!(r#"{{"batch": {number}, "event": "paid", "items": [{{"amount": 10}}]}}"#))
    };
    assert_eq!(batch(17), batch(17));
    assert_ne!(batch(17), batch(18), "two sales of the same amount");
    // A header identifies the body, and the place in it the event.
    let by_header: crate::Duplicates = serde_json::from_str(r#"{"header": "x-id", "window_s": 60}"#).unwrap();
    let with_id = |id: &str| {
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-id"), id.parse().unwrap())]);
        let body = Bytes::from_static(br#"{"event": "paid", "items": [{"amount": 10}, {"amount": 10}]}"#);
        let inbound = Inbound { headers: &headers, body: &body };
        let items =
            provider.read_events(&inbound, &SubjectKey::from_bytes([7; 32]), Some(&by_header)).unwrap();
        items.into_iter().map(|item| item.fact.expect("a key").key).collect::<Vec<_>>()
    };
    let first = with_id("a");
    assert_ne!(first[0], first[1]);
    assert_eq!(first, with_id("a"));
    assert!(with_id("b").iter().all(|key| !first.contains(key)));
    // A rule whose field is missing still has a key.
    let by_field: crate::Duplicates =
        serde_json::from_str(r#"{"pointer": "/code", "window_s": 60}"#).unwrap();
    let mixed = facts(&by_field, r#"{"event": "opened", "items": [{"id": 1}, {"code": 7}]}"#);
    assert_eq!((mixed[0].len(), mixed[1].len()), (32, 64));
}

#[test]
fn one_event_that_cannot_be_used_refuses_the_body() {
    for (body, expect) in [
        (r#"{"pix": [{"endToEndId": "E1"}, 2]}"#, "/pix/1: expected an object, got a number"),
        (r#"{"pix": "E1"}"#, "/pix: expected the array with the events"),
        (r#"{"rec": []}"#, "/pix: expected the array with the events"),
        ("", "the body is empty"),
    ] {
        assert!(items(PIX, body).unwrap_err().starts_with(expect), "{body}");
    }
    let long = format!(r#"{{"pix": [{{"endToEndId": "{}"}}]}}"#, "1".repeat(201));
    assert!(items(PIX, &long).unwrap_err().starts_with("/endToEndId: expected an identifier"));
    let many = format!("[{}]", vec!["{}"; 1_001].join(","));
    assert!(items(PIX, &many).unwrap_err().starts_with("/pix: expected at most 1000 events, got 1001"));
}

#[test]
fn the_data_of_an_event_is_text_that_its_content_type_describes() {
    let provider = Provider::generic(&config(PIX));
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json; charset=iso-8859-1".parse().unwrap());
    let body = Bytes::from_static(b"{\"pix\": [{\"endToEndId\": \"E1\", \"nome\": \"Jo\xe3o\"}]}");
    let inbound = Inbound { headers: &headers, body: &body };
    let items = provider.read_events(&inbound, &SubjectKey::from_bytes([7; 32]), None).unwrap();
    assert_eq!(items[0].data, r#"{"endToEndId": "E1", "nome": "João"}"#);
    assert_eq!((items[0].content_type, items[0].reading.repaired), (Some("application/json"), true));
}
