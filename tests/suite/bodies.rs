//! Bodies as senders write them: clear ones are booked in the same way on both deployments; ambiguous ones are refused
//! with the position; and no text of a body reaches an error or a log line.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::product::{PATIENCE, Product, example};

/// One request: the source, the declared content type, the body, and the status of the answer.
type Sent<'a> = (&'a str, Option<&'a str>, Vec<u8>, u16);

const JSON: Option<&str> = Some("application/json");

/// An agreement of recuperador's with these fields, each in place of the usual one.
fn agreement(id: &str, fields: &str) -> Vec<u8> {
    let usual = [
        ("id_acordo", format!("\"{id}\"")),
        ("nome_cliente", "\"Ana\"".to_owned()),
        ("cpf_cnpj", "\"529.982.247-25\"".to_owned()),
        ("valor_original", "20".to_owned()),
        ("valor_acordo", "10.00".to_owned()),
        ("lista_parcelas", parcela(&format!("\"{id}1\""), "\"2026-12-15\"")),
    ];
    let mut body = format!(r#"{{"id": {id}, "situacao": "A""#);
    if !fields.is_empty() {
        body += &format!(", {fields}");
    }
    for (name, value) in usual {
        if !fields.contains(&format!("\"{name}\":")) {
            body += &format!(", \"{name}\": {value}");
        }
    }
    (body + "}").into_bytes()
}

/// A list of one instalment.
fn parcela(id: &str, due: &str) -> String {
    format!(r#"[{{"id": {id}, "datavencto": {due}, "valor": 10, "situacao": "N"}}]"#)
}

fn order(event_id: &str, data: &str) -> Vec<u8> {
    format!(r#"{{"event_id": "{event_id}", "data": {data}}}"#).into_bytes()
}

const PAID: &str = "FINANCIAL_PAYMENT_DISCHARGE";

/// UTF-8 text in ISO-8859-1.
fn latin(body: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(body).expect("the test's own text");
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a character of ISO-8859-1")).collect()
}

fn sent() -> Vec<Sent<'static>> {
    let name = |name: &str| format!(r#""nome_cliente": "{name}""#);
    let wide = String::from_utf8(agreement("13", &name("Inês"))).expect("text");
    let long = "k".repeat(3_000);
    vec![
        // Bytes and labels.
        (
            "rec",
            Some("application/json; charset=iso-8859-1"),
            latin(agreement("10", &name("João Conceição"))),
            200,
        ),
        ("rec", None, latin(agreement("11", &name("Zoë"))), 200),
        ("rec", JSON, [b"\xef\xbb\xbf".to_vec(), agreement("12", &name("Íris"))].concat(), 200),
        (
            "rec",
            Some("application/json; charset=utf-16"),
            wide.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            200,
        ),
        ("go", Some("text/html"), order(PAID, r#"{"code": "20"}"#), 200),
        ("go", Some(""), order(PAID, r#"{"code": "21"}"#), 200),
        ("go", Some("application/x-www-form-urlencoded"), order(PAID, r#"{"code": "22"}"#), 200),
        ("go", JSON, b"event_id=ORDER_CREATED".to_vec(), 400),
        ("go", Some("application/json; charset=big5"), b"{\"event_id\": \"\xa4\xa4\"}".to_vec(), 400),
        // Texts.
        ("rec", JSON, agreement("30", r#""nome_cliente": "A\u0000na\u0000""#), 200),
        ("rec", JSON, agreement("31", r#""nome_cliente": "Ana \ud83d", "\udc00\u0000": 1"#), 200),
        (
            "rec",
            JSON,
            agreement("32", "\"nome_cliente\": \"Ana\", \"motivo_cancelamento\": \"one\ntwo\tthree\""),
            200,
        ),
        ("go", JSON, order(PAID, r#"{"code": "3\u00003", "user": {"name": "\u0000\udfff"}}"#), 200),
        ("go", JSON, order(PAID, r#"{"code": "3\ud8004"}"#), 400),
        (
            "visao",
            JSON,
            br#"{"cpf": "529.982.247-25", "status": "renewed", "partnerParams": {"\u0000r": "x\u0000"},
            "files": [{"fileName": "R\u0000\ud83d", "fileUrl": "https://example.com/r.pdf"}]}"#
                .to_vec(),
            200,
        ),
        // Numbers and money.
        (
            "rec",
            JSON,
            agreement(
                "40.0",
                r#""id_acordo": 4.0e1, "parcelas": 3.0, "lista_parcelas": [{"id": 401.0,
            "datavencto": "2026-12-15T03:00:00.000Z", "valor": "1.380,60", "situacao": "N"}]"#,
            ),
            200,
        ),
        ("rec", JSON, agreement("41", r#""valor_acordo": "1.380""#), 200),
        ("rec", JSON, agreement("42", r#""valor_acordo": "1,380.60", "valor_entrada": "1.380""#), 200),
        (
            "rec",
            JSON,
            agreement("43", &format!(r#""lista_parcelas": {}"#, parcela(&format!("\"{long}\""), "null"))),
            200,
        ),
        ("go", JSON, order(PAID, &format!(r#"{{"code": "{long}"}}"#)), 400),
        ("go", JSON, order(PAID, r#"{"code": 44.0, "status": 1.0}"#), 200),
        (
            "me",
            JSON,
            br#"{"topic": "invoice.status", "data": {"invoiceId": 45.0, "status": 103.0}}"#.to_vec(),
            200,
        ),
        // Dates.
        (
            "rec",
            JSON,
            agreement(
                "50",
                &format!(
                    r#""data_cancelamento": "0000-00-00 00:00:00", "data": "-0001-11-30",
            "lista_parcelas": {}"#,
                    parcela("501", "\"2026-12-16T02:59:59-0300\"")
                ),
            ),
            200,
        ),
        (
            "rec",
            JSON,
            agreement("51", &format!(r#""lista_parcelas": {}"#, parcela("511", "\"0000-00-00\""))),
            200,
        ),
        (
            "go",
            JSON,
            order(
                PAID,
                r#"{"code": "52", "date": {"date": "-0001-11-30 00:00:00.000000", "timezone_type": 3,
            "timezone": "America/Sao_Paulo"}}"#,
            ),
            200,
        ),
        // Arrays, objects and lists.
        (
            "rec",
            JSON,
            agreement(
                "60",
                r#""lista_dividas": {}, "lista_parcelas": {"id": 601, "datavencto": "2026-12-15",
            "valor": 1, "situacao": "P"}"#,
            ),
            200,
        ),
        (
            "rec",
            JSON,
            agreement(
                "61",
                r#""lista_parcelas": {"2": {"id": 611, "datavencto": "2026-12-15", "valor": 1,
            "situacao": "N"}}"#,
            ),
            200,
        ),
        ("go", JSON, order("ORDER_CREATED", r#"{"code": "62", "user": []}"#), 200),
        ("go", JSON, order("ORDER_CREATED", "[]"), 200),
        (
            "visao",
            JSON,
            br#"{"cpf": 1234567890, "status": "pending", "partnerParams": {"a": {}}}"#.to_vec(),
            200,
        ),
        (
            "visao",
            JSON,
            br#"{"cpf": "012.345.678-90", "status": "renewed", "partnerParams": {"a": []},
            "eyeMeasurements": [], "files": []}"#
                .to_vec(),
            200,
        ),
        // What is not needed and cannot be read.
        (
            "rec",
            JSON,
            agreement("70", r#""cpf_cnpj": 191, "periodicidade": "Z", "obs": {}, "data": [1]"#),
            200,
        ),
        ("rec", JSON, agreement("71", r#""cpf_cnpj": "12.abc.345/01de-35", "cancelado": 1"#), 200),
        ("go", JSON, order(PAID, r#"{"code": "72", "date": "x", "user": ["x"]}"#), 200),
        ("rec", JSON, agreement("73", r#""cpf_cnpj": "12.abc.345/01de-35""#), 200),
        ("rec", JSON, agreement("74", r#""cpf_cnpj": "12ABC34501DE35""#), 200),
        ("rec", JSON, agreement("75", r#""cpf_cnpj": 1234567890"#), 200),
    ]
}

/// What the books hold of it, without what differs from run to run.
fn booked(product: &Product) -> Result<Vec<String>> {
    let text = |row: &Value, names: &[&str]| {
        let values = names.iter().map(|name| match &row[*name] {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        });
        values.collect::<Vec<_>>().join(" ")
    };
    let lists: [(&str, &[&str]); 6] = [
        (
            "agreements",
            &["external_id", "client_name", "document", "agreed_centavos", "instalments", "state"],
        ),
        ("receivables", &["external_id", "due_date", "amount_centavos", "state", "provider_status"]),
        ("invoices", &["external_id", "status"]),
        ("prescriptions", &["document", "state", "files"]),
        ("dead", &["consumer", "error"]),
        ("rejected", &["cause"]),
    ];
    let mut lines = Vec::new();
    for (list, names) in lists {
        let is_personal = names.contains(&"document");
        let words = [list, "list", "--reveal"];
        let rows = product.rows(if is_personal { &words } else { &words[..2] })?;
        lines.extend(rows.iter().map(|row| format!("{list}: {}", text(row, names))));
    }
    lines.sort();
    Ok(lines)
}

/// Posts a body with its content type, and none besides.
async fn post(product: &Product, (source, content_type, body, status): &Sent<'_>) -> Result<Value> {
    let mut request = product.request(source, body.clone()).build()?;
    request.headers_mut().remove("content-type");
    if let Some(content_type) = content_type {
        request.headers_mut().insert("content-type", content_type.parse()?);
    }
    let answer = product.target(source).0.execute(request).await?;
    let (got, text) = (answer.status(), answer.text().await?);
    assert_eq!(got, *status, "{}: {text}", String::from_utf8_lossy(body));
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// Waits until the record holds so many rejected bodies and dead letters.
async fn filed(product: &Product, list: &str, count: usize) -> Result<Vec<Value>> {
    let started = Instant::now();
    loop {
        let rows = product.rows(&[list, "list"])?;
        if rows.len() >= count || started.elapsed() > PATIENCE {
            assert_eq!(rows.len(), count, "{list}: {rows:#?}");
            return Ok(rows);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn post_all(product: &Product) -> Result<Vec<String>> {
    let all = sent();
    let mut ids = Vec::new();
    for one in &all {
        ids.push(post(product, one).await?["id"].as_str().context("an id")?.to_owned());
    }
    let accepted = all.iter().filter(|(.., status)| *status == 200).count();
    product.settled(accepted).await?;
    filed(product, "rejected", all.len() - accepted).await?;

    // What was ignored is noted on the event, and the events whose bytes were not strict JSON say so.
    let show = |index: usize| -> Result<Value> {
        Ok(serde_json::from_str(&product.run(&["events", "show", &ids[index], "--json"])?)?)
    };
    let event = |part: &[u8]| {
        let is_it = |(_, _, body, _): &Sent<'_>| body.windows(part.len()).any(|window| window == part);
        show(all.iter().position(is_it).context("it was sent")?)
    };
    let note = |event: Value| event["outcomes"][0]["note"].clone();
    assert_eq!(
        note(event(b"\"periodicidade\"")?),
        "data: expected a date (\"YYYY-MM-DD\", \"YYYY-MM-DDThh:mm:ss\" or {date, timezone_type, timezone}), got an \
         array; periodicidade: expected \"M\" or \"Q\" or \"S\", got a text of 1 character; obs: expected text, got an \
         object"
    );
    assert_eq!(note(event(b"-0001-11-30\"")?), Value::Null);
    for (part, repaired) in
        [(&b"Concei"[..], true), (b"\xef\xbb\xbf", true), (b"one\ntwo", true), (b"\"72\"", false)]
    {
        assert_eq!(event(part)?["repaired"], repaired, "{part:x?}");
    }
    booked(product)
}

#[tokio::test]
async fn what_senders_write_is_booked_alike_on_both_deployments() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let scaled = Product::scaled(&shared.fresh_vhost()?, &shared.fresh_database()?).await?;
    let embedded = Product::embedded().await?;
    let booked = post_all(&embedded).await?;
    assert_eq!(booked, post_all(&scaled).await?);
    let unusable = "; send an identifier that keeps to this";
    let mut expect: Vec<String> = [
        "agreements: 10 João Conceição 52998224725 1000 1 active",
        "agreements: 11 Zoë 52998224725 1000 1 active",
        "agreements: 12 Íris 52998224725 1000 1 active",
        "agreements: 13 Inês 52998224725 1000 1 active",
        "agreements: 30 Ana 52998224725 1000 1 active",
        "agreements: 31 Ana \u{fffd} 52998224725 1000 1 active",
        "agreements: 32 Ana 52998224725 1000 1 active",
        "agreements: 40 Ana 52998224725 1000 3 active",
        "agreements: 42 Ana 52998224725 138060 1 active",
        "agreements: 50 Ana 52998224725 1000 1 active",
        "agreements: 60 Ana 52998224725 1000 1 active",
        "agreements: 61 Ana 52998224725 1000 1 active",
        "agreements: 70 Ana 00000000000191 1000 1 active",
        "agreements: 73 Ana 12ABC34501DE35 1000 1 active",
        "agreements: 74 Ana 12ABC34501DE35 1000 1 active",
        "agreements: 75 Ana 01234567890 1000 1 active",
        "dead: receivables cancelado: expected \"S\" or \"N\", got a number of 1 character",
        "dead: receivables data.code: missing, and so is data.id",
        "dead: receivables lista_parcelas[0].datavencto: expected a date (\"YYYY-MM-DD\", \"YYYY-MM-DDThh:mm:ss\" or \
         {date, timezone_type, timezone}), got a text of 10 characters",
        "dead: receivables lista_parcelas[0].id: expected an identifier of at most 200 bytes, got a text of 3000 \
         characters",
        "dead: receivables valor_acordo: expected an amount with its decimals, such as 1380.00, that can be read in one \
         way only, got a text of 5 characters",
        "invoices: 45 103",
        "prescriptions: 01234567890 renewed []",
        "receivables: 101 2026-12-15 1000 open null",
        "receivables: 111 2026-12-15 1000 open null",
        "receivables: 121 2026-12-15 1000 open null",
        "receivables: 131 2026-12-15 1000 open null",
        "receivables: 20 null null paid null",
        "receivables: 21 null null paid null",
        "receivables: 22 null null paid null",
        "receivables: 301 2026-12-15 1000 open null",
        "receivables: 311 2026-12-15 1000 open null",
        "receivables: 321 2026-12-15 1000 open null",
        "receivables: 33 null null paid null",
        "receivables: 401 2026-12-15 138060 open null",
        "receivables: 421 2026-12-15 1000 open null",
        "receivables: 44 null null paid null",
        "receivables: 501 2026-12-16 1000 open null",
        "receivables: 52 null null paid null",
        "receivables: 601 2026-12-15 100 paid null",
        "receivables: 611 2026-12-15 100 open null",
        "receivables: 62 null null open null",
        "receivables: 701 2026-12-15 1000 open null",
        "receivables: 72 null null paid null",
        "receivables: 731 2026-12-15 1000 open null",
        "receivables: 741 2026-12-15 1000 open null",
        "receivables: 751 2026-12-15 1000 open null",
        "rejected: the body is not JSON: expected value at line 1, column 1; send one whole JSON object",
        "rejected: the body is not UTF-8: byte 14 is the first that is not, and the declared charset is not read here; \
         send the body as UTF-8",
    ]
    .map(str::to_owned)
    .into();
    let file = json!([{"file_name": "R\u{fffd}", "file_url": "https://example.com/r.pdf"}]);
    expect.push(format!("prescriptions: 52998224725 renewed {file}"));
    expect.push(format!(
        "rejected: data.code: expected an identifier of at most 200 bytes, got a text of 3000 characters{unusable}"
    ));
    expect.push(format!(
        "rejected: data.code: expected an identifier that is Unicode text, got a text of 3 characters{unusable}"
    ));
    expect.sort();
    assert_eq!(booked, expect);
    Ok(())
}

/// The topics at the edges of what AMQP matches, and whether the consumer of invoices is bound to them.
const EDGES: [(&str, bool); 13] = [
    ("invoice", true),
    ("invoice.", true),
    ("invoice..status", true),
    (".invoice.status", false),
    ("invoice.#", true),
    ("invoice.*", true),
    ("*.created", false),
    ("#", false),
    ("invoice/created", false),
    ("Invoice.created", false),
    ("invoice .created", false),
    ("x.invoice.created", false),
    ("invoice.a.b.c.d", true),
];

#[tokio::test]
async fn topics_at_the_edges_of_matching_reach_the_same_queues_on_both_deployments() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let scaled = Product::scaled(&shared.fresh_vhost()?, &shared.fresh_database()?).await?;
    let embedded = Product::embedded().await?;
    for product in [&embedded, &scaled] {
        for (index, (topic, _)) in EDGES.iter().enumerate() {
            let body = json!({"topic": topic, "data": {"invoiceId": format!("25-{index}"), "status": "1"}});
            product.post("me", body.to_string()).await?;
        }
        let unrouted: Vec<_> = EDGES.iter().filter(|(_, is_taken)| !is_taken).collect();
        let started = Instant::now();
        while product.rows(&["unrouted", "list"])?.len() < unrouted.len() {
            anyhow::ensure!(started.elapsed() < PATIENCE, "not all are marked as unrouted");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let events = product.settled(EDGES.len()).await?;
        for (topic, is_taken) in EDGES {
            let event = events.iter().find(|event| event["topic"] == topic).context(topic)?;
            let shown: Value = serde_json::from_str(&product.run(&[
                "events",
                "show",
                event["id"].as_str().context("an id")?,
                "--json",
            ])?)?;
            let consumers: Vec<_> = shown["outcomes"]
                .as_array()
                .context("outcomes")?
                .iter()
                .map(|it| it["consumer"].clone())
                .collect();
            let expect = if is_taken { vec![json!("invoices")] } else { vec![] };
            assert_eq!(consumers, expect, "{topic}: {shown:#}");
            assert_eq!(event["state"] == "unrouted", !is_taken, "{topic}: {event}");
        }
        assert_eq!(product.rows(&["unrouted", "list"])?.len(), unrouted.len());
    }
    Ok(())
}

/// A text and a number that no error and no log line may hold.
const MARKERS: [&str; 2] = ["Marcador-7f3a", "918273645546372"];

/// The body with every field in turn replaced by a marker in each of these forms.
fn marked(body: &str) -> Vec<(String, Value)> {
    let body: Value = serde_json::from_str(body).expect("strict JSON");
    let [text, number] = MARKERS;
    let number: Value = serde_json::from_str(number).expect("a number");
    let forms =
        [json!(text), number, json!([text]), json!({text: text}), json!([[], text]), json!(text.repeat(30))];
    let mut pointers = vec![String::new()];
    let mut bodies = Vec::new();
    while let Some(pointer) = pointers.pop() {
        let children: Vec<String> = match body.pointer(&pointer) {
            Some(Value::Object(fields)) => fields.keys().cloned().collect(),
            Some(Value::Array(items)) => (0..items.len()).map(|index| index.to_string()).collect(),
            _ => Vec::new(),
        };
        pointers.extend(children.into_iter().map(|child| format!("{pointer}/{child}")));
        for form in &forms {
            let mut body = body.clone();
            *body.pointer_mut(&pointer).expect("it is there") = form.clone();
            bodies.push((pointer.clone(), body));
        }
    }
    bodies
}

#[tokio::test]
async fn no_text_of_a_body_is_in_an_error_or_a_log_line() -> Result<()> {
    let product = Product::embedded().await?;
    let documented = [
        ("rec", "recuperador", "acordo.cadastrado", "no topic field"),
        ("go", "gestao-online", "FINANCIAL_PAYMENT_STATUS", "/event_id"),
        ("go", "gestao-online", "TAX_INVOICE_CHANGE_STATUS", "/event_id"),
        ("me", "mercado-eletronico", "invoice.status", "/topic"),
        ("me", "mercado-eletronico", "invoice.attachment.created", "/topic"),
        ("visao", "beneficio-visao", "renewed", "/status"),
    ];
    let (mut accepted, mut rejected, mut answers) = (0, 0, String::new());
    for (source, provider, topic, topic_pointer) in documented {
        for (pointer, body) in marked(example(provider, topic)) {
            // A topic is a name, which is shown.
            if pointer == topic_pointer && body.pointer(&pointer).is_some_and(Value::is_string) {
                continue;
            }
            let answer = product.request(source, body.to_string()).send().await?;
            match answer.status().as_u16() {
                200 => accepted += 1,
                400 => rejected += 1,
                status => panic!("{status} for {pointer}"),
            }
            answers += &answer.text().await?;
        }
    }
    product.settled(accepted).await?;
    let rejected = filed(&product, "rejected", rejected).await?;
    let dead = product.rows(&["dead", "list"])?;
    assert!(dead.len() > 100 && rejected.len() > 20, "{} dead, {} rejected", dead.len(), rejected.len());
    let errors = dead.iter().map(|letter| letter["error"].to_string());
    let causes = rejected.iter().map(|body| body["cause"].to_string());
    let printed: Vec<String> = errors.chain(causes).chain([answers, product.output("up")]).collect();
    for marker in MARKERS {
        for text in &printed {
            assert!(!text.contains(marker), "{marker} is in {}", &text[..text.len().min(2_000)]);
        }
    }
    Ok(())
}
