//! Bad input gets its documented answer, and what was authenticated is kept.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::product::{PATIENCE, Product};

const GOOD: &str = r#"{"event_id": "ORDER_CREATED", "data": {"code": "1"}}"#;

/// Sends bytes as they are and reads the answer's status and body; `None` is a connection closed without an answer.
async fn raw(product: &Product, head: &str, body: &[u8], then_close: bool) -> Result<Option<(u16, String)>> {
    let address = product.ingress.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).await?;
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(body).await;
    if then_close {
        stream.shutdown().await?;
    }
    let mut answer = Vec::new();
    let _ =
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.context("no answer in time")?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let Some(status) = answer.split(' ').nth(1) else { return Ok(None) };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(Some((status.parse()?, body.to_owned())))
}

/// Sends the parts of a request, the second once an interim answer is there, and reads the status of the answer.
async fn exchange(product: &Product, first: &[u8], second: Option<&[u8]>) -> Result<String> {
    let mut stream = TcpStream::connect(product.ingress.trim_start_matches("http://")).await?;
    stream.write_all(first).await?;
    if let Some(second) = second {
        const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut interim = [0; CONTINUE.len()];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut interim))
            .await
            .context("no interim answer")??;
        anyhow::ensure!(interim == CONTINUE, "{:?}", String::from_utf8_lossy(&interim));
        stream.write_all(second).await?;
    }
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.context("no answer in time")??;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let last = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
    Ok(last.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_request_is_taken_however_it_is_framed() -> Result<()> {
    const BODY: &str = r#"{"event_id": "ORDER_CREATED", "data": {"code": "29", "status": 1}}"#;
    let product = Product::embedded().await?;
    let (path, length) = ("/webhooks/go?token=go-token", BODY.len());
    let json = "Content-Type: application/json";
    let usual = format!("POST {path} HTTP/1.1\r\nHost: malote\r\nConnection: close\r\n{json}\r\n");
    let (begin, rest) = BODY.split_at(10);
    let chunks = |extension: &str, trailer: &str| {
        format!("a\r\n{begin}\r\n{:X}{extension}\r\n{rest}\r\n0\r\n{trailer}\r\n", rest.len())
    };
    let expecting = format!("{usual}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
    let whole = [
        ("expectation, body at once", expecting.clone() + BODY),
        ("HTTP/1.0", format!("POST {path} HTTP/1.0\r\n{json}\r\nContent-Length: {length}\r\n\r\n{BODY}")),
        ("chunks", format!("{usual}Transfer-Encoding: chunked\r\n\r\n{}", chunks(";ext=1", ""))),
        (
            "chunks, a trailer",
            format!("{usual}Transfer-Encoding: chunked\r\n\r\n{}", chunks("", "X-Sum: 1\r\n")),
        ),
        (
            "absolute address",
            format!("{usual}Content-Length: {length}\r\n\r\n{BODY}").replace("POST /", "POST http://malote/"),
        ),
        ("line feeds", format!("{usual}Content-Length: {length}\r\n\r\n").replace('\r', "") + BODY),
    ];
    for (what, request) in &whole {
        let status = exchange(&product, request.as_bytes(), None).await?;
        assert!(status.ends_with(" 200 OK"), "{what}: {status}");
    }
    let status = exchange(&product, expecting.as_bytes(), Some(BODY.as_bytes())).await?;
    assert_eq!(status, "HTTP/1.1 200 OK", "a body that waits for the interim answer");
    let events = product.settled(whole.len() + 1).await?;
    for event in events {
        assert_eq!((&event["topic"], &event["subject"]), (&"ORDER_CREATED".into(), &"order/29".into()));
    }
    Ok(())
}

/// What is wrong with a request, its head, its body, the status, and the cause under which it is kept, if it is.
type Case<'a> = (&'a str, String, Vec<u8>, u16, Option<&'a str>);

fn head(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\nHost: malote\nConnection: close\n{headers}\n")
}

#[tokio::test]
async fn bad_input_gets_its_documented_answer_and_loses_nothing() -> Result<()> {
    let far = r#"
[[sources]]
name = "far"
provider = "gestao-online"
auth = { networks = ["10.0.0.0/8"], query = { name = "token", secrets = ["go-token"] } }
"#;
    let mut product = Product::configured("embedded", "sqlite", far)?;
    product.hurry("up");
    product.start("up", &["up"]).await?;

    let go = "/webhooks/go?token=go-token";
    let json = "Content-Type: application/json\n";
    let deep = format!(r#"{{"event_id": "X", "data": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let long = format!(r#"{{"event_id": "{}"}}"#, "x".repeat(300));
    let mut broken = GOOD.as_bytes().to_vec();
    broken[14] = 0xff;
    let cases: Vec<Case> = vec![
        ("wrong secret", head("/webhooks/go?token=other", json), GOOD.into(), 401, None),
        ("missing secret", head("/webhooks/go", json), GOOD.into(), 401, None),
        ("almost right secret", head("/webhooks/go?token=go-tokeN", json), GOOD.into(), 401, None),
        ("longer secret", head("/webhooks/go?token=go-token1", json), GOOD.into(), 401, None),
        ("secret twice", head("/webhooks/go?token=other&token=go-token", json), GOOD.into(), 401, None),
        ("wrong network", head("/webhooks/far?token=go-token", json), GOOD.into(), 403, None),
        ("unknown source", head("/webhooks/nobody?token=go-token", json), GOOD.into(), 404, None),
        ("unknown address", head("/", json), GOOD.into(), 404, None),
        ("GET", head(go, json).replacen("POST", "GET", 1), vec![], 405, None),
        ("2 MiB", head(go, json), vec![b' '; 2 << 20], 413, None),
        (
            "a coding that is not read",
            head(go, &format!("{json}Content-Encoding: br\n")),
            GOOD.into(),
            415,
            None,
        ),
        ("not JSON", head(go, json), b"<order/>".to_vec(), 400, Some("the body is not JSON")),
        ("cut off within", head(go, json), GOOD.as_bytes()[..30].into(), 400, Some("the body is not JSON")),
        ("no topic", head(go, json), br#"{"data": {}}"#.to_vec(), 400, Some("event_id: missing")),
        (
            "topic is a number",
            head(go, json),
            br#"{"event_id": 7}"#.to_vec(),
            400,
            Some("event_id: expected a string, got a number"),
        ),
        ("topic is null", head(go, json), br#"{"event_id": null}"#.to_vec(), 400, Some("event_id: ")),
        ("300-byte topic", head(go, json), long.into(), 400, Some("event_id: a topic has at most 255 bytes")),
        ("depth 10,000", head(go, json), deep.into(), 400, Some("the body is nested deeper than 128 levels")),
        (
            "a charset that is not read",
            head(go, "Content-Type: application/json; charset=big5\n"),
            broken,
            400,
            Some("the body is not UTF-8: byte 14"),
        ),
        (
            "duplicate keys",
            head(go, json),
            br#"{"event_id": "A", "event_id": "B"}"#.to_vec(),
            400,
            Some("event_id: given twice"),
        ),
        ("empty body", head(go, json), vec![], 400, Some("the body is empty")),
        ("not an object", head(go, json), b"[1]".to_vec(), 400, Some("the body: expected an object")),
    ];
    let mut kept = Vec::new();
    for (name, head, body, status, cause) in cases {
        let head = head.replace("Connection", &format!("Content-Length: {}\nConnection", body.len()));
        let (got, text) =
            raw(&product, &head, &body, false).await?.with_context(|| format!("{name}: no answer"))?;
        assert_eq!(got, status, "{name}: {text}");
        let problem: Value = serde_json::from_str(&text).with_context(|| format!("{name}: {text}"))?;
        assert_eq!(problem["status"], status, "{name}");
        let detail = problem["detail"].as_str().with_context(|| format!("{name}: a detail"))?;
        assert!(!detail.contains("go-token"), "{name}: {detail}");
        if let Some(cause) = cause {
            assert!(detail.starts_with(cause), "{name}: {detail}");
            kept.push((name, problem["id"].as_str().context("an id")?.to_owned(), detail.to_owned(), body));
        }
    }

    // A body that ends before its length, and one that stalls, get their answer or the connection closed; nothing else.
    let cut = head(go, &format!("{json}Content-Length: 500\n"));
    let truncated = raw(&product, &cut, GOOD.as_bytes(), true).await?;
    assert!(truncated.as_ref().is_none_or(|(status, _)| *status == 400), "{truncated:?}");
    let chunked = head(go, &format!("{json}Transfer-Encoding: chunked\n"));
    let stalled = raw(&product, &chunked, b"5\r\n{\"eve\r\n", false).await?;
    assert_eq!(stalled.map(|(status, _)| status), Some(408));
    let slow_head = raw(&product, "POST /webhooks/go HTTP/1.1\nHost: ma", b"", false).await?;
    assert_eq!(slow_head.map(|(status, _)| status), Some(408));

    // Everything that was authenticated and unusable is kept with its bytes and its cause; nothing else is.
    let started = std::time::Instant::now();
    let rejected = loop {
        let rejected = product.rows(&["rejected", "list"])?;
        if rejected.len() == kept.len() || started.elapsed() > PATIENCE {
            break rejected;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(rejected.len(), kept.len(), "{rejected:#?}");
    for (name, id, cause, _) in &kept {
        let row = rejected
            .iter()
            .find(|row| row["id"] == id.as_str())
            .with_context(|| format!("{name} is kept"))?;
        assert_eq!(row["cause"], cause.as_str(), "{name}");
        assert_eq!(row["source"], "go", "{name}");
    }
    assert!(product.rows(&["events", "list"])?.is_empty());

    // It still works, and what only looks odd is accepted.
    for body in
        [GOOD, "{\"event_id\": \"AN_UNKNOWN_TOPIC\"}", "{\"event_id\": \"X\", /* a comment */ \"data\": {},}"]
    {
        product.post("go", body).await?;
    }
    let log = product.output("up");
    for secret in ["go-token", "visao-key", "hmac-new", "basic-1"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    Ok(())
}
