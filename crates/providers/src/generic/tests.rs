//! Senders of the same field, each by configuration only.

use super::*;
use crate::{Inbound, Provider, SubjectKey};

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
