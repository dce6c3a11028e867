//! Every documented body, and every body that cannot be used, through the providers' contracts.

use bytes::Bytes;
use http::header::CONTENT_TYPE;

use super::*;

fn key() -> SubjectKey {
    SubjectKey::from_bytes([7; 32])
}

fn read(provider: &str, body: &[u8]) -> Result<Reading, Unusable> {
    let body = Bytes::copy_from_slice(body);
    Provider::named(provider).unwrap().read(&Inbound { headers: &HeaderMap::new(), body: &body }, &key())
}

/// Topic and subject, or the error's text.
fn read_text(provider: &str, body: &str) -> Result<(String, Option<String>), String> {
    read(provider, body.as_bytes())
        .map(|reading| (reading.topic.to_string(), reading.subject.map(|subject| subject.to_string())))
        .map_err(|error| error.to_string())
}

#[test]
fn every_documented_body_gives_its_topic_and_its_subject() {
    let mut subjects = Vec::new();
    for provider in Provider::builtin() {
        for topic in provider.topics() {
            let Some(example) = topic.example else { continue };
            let reading = read(provider.name().as_str(), example.as_bytes()).unwrap();
            assert_eq!(reading.topic.as_str(), topic.name);
            let is_strict = !matches!(topic.name, "integration.result" | "preorder.created");
            assert_eq!(reading.repaired, !is_strict, "{}", topic.name);
            subjects.push(format!("{} {}", topic.name, reading.subject.unwrap()));
        }
    }
    let prescription = format!("renewed prescription/{}", key().hash("99999999999"));
    assert_eq!(
        subjects,
        [
            "order.received order/123",
            "order.created order/123",
            "order.canceled order/123",
            "order.delivered order/12442",
            "order.updated order/123",
            "prerequest.submitted prerequest/42490e28-ed00-4dc0-89b4-decad490b02a",
            "request.approved request/55331112",
            "request.status request/32211",
            "request-item.status.updated request/38510943",
            "rfq.created rfq/4331",
            "rfq.closed rfq/4331",
            "rfq.expired rfq/4331",
            "rfq.canceled rfq/4331",
            "rfq.updated rfq/4331",
            "rfq.received rfq/102",
            "rfq.answer.created rfq/9149480",
            "preorder.created preorder/331123",
            "preorder.approved preorder/331123",
            "preorder.status preorder/32211",
            "service-sheet.created service-sheet/32211",
            "service-sheet.approved service-sheet/32211",
            "service-sheet.status service-sheet/32211",
            "service-sheet-document.status service-sheet-document/250300",
            "contract.created contract/32211",
            "contract.approved contract/125154",
            "contract.updated contract/125154",
            "contract.status contract/32211",
            "invoice.status invoice/32211",
            "invoice.created invoice/32211",
            "invoice.updated invoice/32211",
            "invoice.creditmemo.requested invoice/851233",
            "invoice.attachment.created invoice/32211",
            "invoice.attachment.deleted invoice/32211",
            "supplier.created supplier/54421",
            "supplier.updated supplier/32111",
            "supplier.approved supplier/32111",
            "supplier.approval.pending supplier/32111",
            "integration.result integration/YOUR_CORRELATION_ID",
            "integration.supplier.result integration/e170885a-f175-41ff-8712-0f6ccfbb09f9",
            "product.created product/102",
            "product.updated product/102",
            "ORDER_CREATED order/0000593098",
            "ORDER_CANCEL order/0000593098",
            "TAX_INVOICE_CHANGE_STATUS order/0000593098",
            "FINANCIAL_PAYMENT_DISCHARGE order/0000593098",
            "FINANCIAL_PAYMENT_STATUS order/0000593098",
            "ORDER_DELIVERY_CHANGE_STATUS order/0000593098",
            "acordo.cadastrado agreement/45031",
            "acordo.cancelado agreement/45031",
            "acordo.quitado agreement/45031",
            "parcela.aprovada instalment/910001",
            &prescription,
        ]
    );
}

#[test]
fn the_tables_hold_every_documented_topic_once() {
    for (name, count) in
        [("mercado-eletronico", 44), ("gestao-online", 6), ("recuperador", 5), ("beneficio-visao", 4)]
    {
        let provider = Provider::named(name).unwrap();
        let mut names: Vec<_> = provider.topics().iter().map(|topic| topic.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), provider.topics().len()), (count, count), "{name}");
        assert!(!provider.title().is_empty() && provider.answer().is_none());
    }
    assert_eq!(Provider::builtin().len(), 4);
    assert!(Provider::named("generic").is_none());
}

#[test]
fn a_recuperador_topic_follows_from_the_state() {
    let check = |fields: &str, expect: &str| {
        let (topic, subject) =
            read_text("recuperador", &format!(r#"{{"id_acordo": "0045", {fields}}}"#)).unwrap();
        assert_eq!((topic.as_str(), subject.as_deref()), (expect, Some("agreement/0045")), "{fields}");
    };
    check(r#""cancelado": "S", "situacao": "Q""#, "acordo.cancelado");
    check(r#""cancelado": "N", "situacao": "Q""#, "acordo.quitado");
    check(r#""cancelado": null, "situacao": "I""#, "acordo.inativo");
    check(r#""cancelado": "N", "situacao": "A""#, "acordo.cadastrado");
    check(r#""situacao": "?""#, "acordo.cadastrado");
    check(r#""x": 1"#, "acordo.cadastrado");
    check(r#""id_parcela": null, "id_contasareceber": "" "#, "acordo.cadastrado");
    let check = |body: &str, expect: &str| {
        let (topic, subject) = read_text("recuperador", body).unwrap();
        assert_eq!((topic.as_str(), subject.as_deref()), ("parcela.aprovada", Some(expect)), "{body}");
    };
    check(r#"{"id_parcela": 910001, "id_acordo": 7}"#, "instalment/910001");
    check(r#"{"id_acordo": 7, "id_contasareceber": "01", "situacao": "Q"}"#, "instalment/01");
    check(r#"{"id_contasareceber": 2, "id_parcela": 1}"#, "instalment/1");
}

#[test]
fn every_family_of_mercado_eletronico_has_its_subject() {
    for (topic, data, expect) in [
        ("contract.attachment.created", r#"{"attachmentId": "9", "contractId": "4"}"#, "contract/4"),
        ("contract.attachment.deleted", r#"{"contractId": 4, "attachmentId": 9}"#, "contract/4"),
        ("rfq.answer.updated", r#"{"rfqId": 5, "supplierId": 1}"#, "rfq/5"),
        ("order.delivered", r#"{"deliveryId": 1, "orderId": 2, "orderItemId": 3}"#, "order/2"),
        ("request-item.status.updated", r#"{"requestItemId": 1, "requestId": 2}"#, "request/2"),
    ] {
        let body = format!(r#"{{"topic": "{topic}", "data": {data}}}"#);
        assert_eq!(read_text("mercado-eletronico", &body), Ok((topic.to_owned(), Some(expect.to_owned()))));
    }
}

#[test]
fn unknown_topics_pass_and_a_subject_may_be_missing() {
    let check = |provider: &str, body: &str, topic: &str, subject: Option<&str>| {
        let expect = Ok((topic.to_owned(), subject.map(str::to_owned)));
        assert_eq!(read_text(provider, body), expect, "{body}");
    };
    let me = "mercado-eletronico";
    check(me, r#"{"topic": "auction.started", "data": {"auctionId": 1}}"#, "auction.started", None);
    check(
        me,
        r#"{"topic": "order.lost", "data": {"supplierId": 1, "orderId": 2}}"#,
        "order.lost",
        Some("order/2"),
    );
    check(
        me,
        r#"{"topic": "supplier.new", "data": {"supplierId": "7"}}"#,
        "supplier.new",
        Some("supplier/7"),
    );
    check(me, r#"{"topic": "order.created"}"#, "order.created", None);
    check(me, r#"{"topic": "order.created", "data": "x"}"#, "order.created", None);
    check(me, r#"{"topic": "order.created", "data": {"orderId": ""}}"#, "order.created", None);
    check(me, r#"{"topic": "order.created", "data": {"orderId": {"a": 1}}}"#, "order.created", None);
    check(
        me,
        r#"{"data": {"rfqId": 2, "orderId": 1}, "topic": "order.created"}"#,
        "order.created",
        Some("order/1"),
    );
    check(me, r#"{"topic": "ação \u00e7"}"#, "ação ç", None);
    let go = "gestao-online";
    check(go, r#"{"event_id": "X", "data": {"id": 100}}"#, "X", Some("order/100"));
    check(go, r#"{"event_id": "X", "data": {"id": 100, "code": null}}"#, "X", Some("order/100"));
    check(go, r#"{"event_id": "X", "data": null}"#, "X", None);
    check("beneficio-visao", r#"{"status": "expired"}"#, "expired", None);
}

#[test]
fn the_subject_of_a_prescription_is_the_same_for_every_way_to_write_a_cpf_and_never_the_cpf() {
    let subject = |cpf: &str| {
        read_text("beneficio-visao", &format!(r#"{{"status": "pending", "cpf": "{cpf}"}}"#))
            .unwrap()
            .1
            .unwrap()
    };
    assert_eq!(subject("529.982.247-25"), subject("52998224725"));
    assert_ne!(subject("52998224725"), subject("52998224726"));
    assert!(!subject("52998224725").contains("52998224725"));
}

#[test]
fn a_body_that_cannot_be_used_is_refused_with_the_place_and_the_remedy() {
    let check = |provider: &str, body: &str, expect: &str| {
        assert_eq!(read_text(provider, body), Err(expect.to_owned()));
    };
    let me = "mercado-eletronico";
    check(me, "", "the body is empty; send the provider's notice as the body");
    check(
        me,
        r#"{"topic": "order.created", "data": {"orderId": "1"#,
        "the body is not JSON: EOF while parsing a string at line 1, column 49; send one whole JSON object",
    );
    check(
        me,
        "hello",
        "the body is not JSON: expected value at line 1, column 1; send one whole JSON object",
    );
    check(me, "[]", "the body: expected an object, got an array; send one JSON object");
    check(me, "{}", "topic: missing, and it says what happened; send it as a string");
    check(me, r#"{"topic": null}"#, "topic: missing, and it says what happened; send it as a string");
    check(me, r#"{"topic": 7}"#, "topic: expected a string, got a number; send what happened as a string");
    check(
        me,
        r#"{"topic": {"a": 1}}"#,
        "topic: expected a string, got an object; send what happened as a string",
    );
    check(
        me,
        r#"{"topic": ["a"]}"#,
        "topic: expected a string, got an array; send what happened as a string",
    );
    check(
        me,
        r#"{"topic": true}"#,
        "topic: expected a string, got a boolean; send what happened as a string",
    );
    check(me, r#"{"topic": ""}"#, "topic: a topic must not be empty; send a name that keeps to this");
    check(
        me,
        &format!(r#"{{"topic": "{}"}}"#, "x".repeat(300)),
        "topic: a topic has at most 255 bytes, this one has 300; send a name that keeps to this",
    );
    check(
        me,
        r#"{"topic": "a\u0000b"}"#,
        r"topic: a topic takes any characters but control characters, not '\0'; send a name that keeps to this",
    );
    check(
        me,
        r#"{"topic": "\ud800"}"#,
        "topic: expected a string, got one that is no Unicode text; send what happened as a string",
    );
    check(me, r#"{"topic": "a", "topic": "b"}"#, "topic: given twice; send it once");
    check(me, r#"{"topic": "a", "data": {}, "data": {}}"#, "data: given twice; send it once");
    check(
        me,
        &format!(r#"{{"topic": "a", "data": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000)),
        "the body is nested deeper than 128 levels; send a flatter one",
    );
    check(
        "gestao-online",
        r#"{"data": {}}"#,
        "event_id: missing, and it says what happened; send it as a string",
    );
    check(
        "beneficio-visao",
        r#"{"cpf": "1"}"#,
        "status: missing, and it says what happened; send it as a string",
    );
}

#[test]
fn a_body_is_read_in_the_character_set_that_it_is_written_in() {
    let check = |content_type: &str, body: &[u8], expect: Result<(&str, Option<&str>), &str>| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        let inbound = Inbound { headers: &headers, body: &Bytes::copy_from_slice(body) };
        let provider = Provider::named("mercado-eletronico").unwrap();
        match (provider.read(&inbound, &key()), expect) {
            (Ok(reading), Ok((topic, subject))) => {
                assert!(reading.repaired);
                let subject = subject.map(|id| Subject::new("order", id));
                assert_eq!((reading.topic.as_str(), reading.subject), (topic, subject), "{body:x?}");
            }
            (Err(error), Err(expect)) => assert!(error.to_string().starts_with(expect), "{error}"),
            (got, expect) => panic!("{got:?} instead of {expect:?}"),
        }
    };
    let json = "application/json";
    let order = "{\"topic\": \"order.created\", \"data\": {\"orderId\": \"7\"}}";
    let with_mark = ["\u{feff}", order].concat();
    check(json, with_mark.as_bytes(), Ok(("order.created", Some("7"))));
    let wide: Vec<u8> = with_mark.encode_utf16().flat_map(u16::to_le_bytes).collect();
    check(json, &wide, Ok(("order.created", Some("7"))));
    check(json, &wide[2..], Ok(("order.created", Some("7"))));
    check(json, b"{\"topic\": \"a\xe7\xe3o\"}", Ok(("ação", None)));
    check("application/json; charset=iso-8859-15", b"{\"topic\": \"\xa4\"}", Ok(("€", None)));
    check(
        "application/json; charset=gbk",
        b"{\"topic\": \"\xa4\xa1\"}",
        Err("the body is not UTF-8: byte 11"),
    );
    let half = b"{\0\"\0t\0o\0p\0i\0c\0\"\0:\0\"\0\x3d\xd8\"\0}\0";
    check(json, half, Err("topic: expected a string, got one that is no Unicode text"));
    check(
        json,
        br#"{"topic": "x", "data": {"orderId": "7\ud83d"}}"#,
        Err("data.orderId: expected an identifier that is"),
    );
    check(
        json,
        br#"{"x\ud83d": 1, "topic": "x", "data": {"\udc00": 1, "orderId": "7"}}"#,
        Ok(("x", Some("7"))),
    );
    check(json, b"{\"obs\": \"one\ntwo\", \"topic\": \"x\"}", Ok(("x", None)));
}

#[test]
fn a_subject_has_the_id_whichever_way_it_is_written() {
    let check = |provider: &str, body: &str, expect: Option<&str>| {
        let subject = read_text(provider, body).unwrap().1;
        assert_eq!(subject.as_deref(), expect, "{body}");
    };
    let me = |id: &str| format!(r#"{{"topic": "order.created", "data": {{"orderId": {id}}}}}"#);
    check("mercado-eletronico", &me("123.0"), Some("order/123"));
    check("mercado-eletronico", &me("\"123.0\""), Some("order/123.0"));
    check("mercado-eletronico", &me(r#""12\u00003""#), Some("order/123"));
    check("mercado-eletronico", &me("9007199254740993.0"), Some("order/9007199254740993"));
    check("mercado-eletronico", &me("[1]"), None);
    check("mercado-eletronico", r#"{"topic": "x", "data": []}"#, None);
    check("recuperador", r#"{"id_acordo": 45032.0}"#, Some("agreement/45032"));
    check("gestao-online", r#"{"event_id": "x", "data": {"code": "", "id": 1e2}}"#, Some("order/100"));
    let person =
        |cpf: &str| read_text("beneficio-visao", &format!(r#"{{"status": "x", "cpf": {cpf}}}"#)).unwrap().1;
    assert_eq!(person("1234567890"), person("\"012.345.678-90\""));
    assert_eq!(person("\"x\""), person("\"X\""));
}

#[test]
fn headers_about_the_delivery_are_kept_and_credentials_are_not() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("X-ME-Attempt", "2"),
        ("X-ME-Topic", "order.created"),
        ("X-ME-Event-ID", "77"),
        ("User-Agent", "ME/1.0"),
        ("webhook-id", "msg_1"),
        ("Authorization", "Basic eDp5"),
        ("Cookie", "a=b"),
        ("X-ME-WEBHOOK-SIGNATURE", "abc"),
        ("webhook-signature", "v1,abc"),
        ("x-other", "1"),
    ] {
        headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers.insert("webhook-timestamp", "1".repeat(HEADER_LIMIT_BYTES + 1).parse().unwrap());
    let body = Bytes::from_static(br#"{"topic": "a"}"#);
    let kept = |provider: &str, body: &Bytes| {
        let reading =
            Provider::named(provider).unwrap().read(&Inbound { headers: &headers, body }, &key()).unwrap();
        reading.headers.into_iter().collect::<Vec<_>>()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        kept("mercado-eletronico", &body),
        [
            pair("user-agent", "ME/1.0"),
            pair("webhook-id", "msg_1"),
            pair("x-me-attempt", "2"),
            pair("x-me-event-id", "77"),
            pair("x-me-topic", "order.created"),
        ]
    );
    assert_eq!(
        kept("recuperador", &Bytes::from_static(b"{}")),
        [pair("user-agent", "ME/1.0"), pair("webhook-id", "msg_1")]
    );
}
