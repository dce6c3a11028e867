//! Senders by configuration, on both deployments: presets, several events in one body, suffixes, challenges, access tokens, and
//! the secrets as `malote sources` shows them.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::product::{PATIENCE, Product};

const SOURCES: &str = r#"
[[sources]]
name = "pix"
preset = "pix"
auth.query.secrets = ["k-pix"]
auth.client_certificate.subjects = ["CN=psp,C=BR"]
[[sources]]
name = "loja"
preset = "vtex"
auth.header.secrets = ["k-next", "k-loja"]
[[sources]]
name = "compras"
provider = "mercado-eletronico"
auth.oauth2 = { client_id = "me", client_secrets = ["s-compras"], ttl_s = 600 }
[[providers]]
name = "erp"
body = "xml"
topic = { pointer = "/evento/tipo" }
subject = { entity = "note", pointer = "/evento/chave" }
[[sources]]
name = "erp"
provider = "erp"
auth.query = { name = "token", secrets = ["k-erp+/="] }
answer = { status = 202, body = "OK" }
"#;

async fn post(product: &Product, path: &str, headers: &[(&str, &str)], body: &str) -> Result<(u16, String)> {
    let (client, _) = product.target("go");
    let mut request =
        client.post(format!("{}{path}", product.ingress)).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.body(body.to_owned()).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

fn pix(ids: &[&str]) -> String {
    let items: Vec<Value> = ids.iter().map(|id| json!({"endToEndId": id, "valor": "1.00"})).collect();
    json!({"pix": items}).to_string()
}

/// Sends what the senders send, and gives topic, subject and state of each event on record.
async fn received(product: &Product) -> Result<Vec<String>> {
    let check = async |path: &str, headers: &[(&str, &str)], body: &str, expect: u16| {
        let (status, text) = post(product, path, headers, body).await?;
        ensure!(status == expect, "{path} {body}: {status} {text}");
        Ok(text)
    };
    // As the proxy writes them that has checked the certificate.
    let psp = [("x-ssl-client-verify", "SUCCESS"), ("x-ssl-client-s-dn", "CN=psp,O=PSP,C=BR")];
    check("/webhooks/pix?token=k-pix", &psp, &pix(&["E1", "E2"]), 200).await?;
    check("/webhooks/pix/pix?token=k-pix", &psp, &pix(&["E1", "E3"]), 200).await?;
    check("/webhooks/pix?token=k-pix/pix", &psp, r#"[{"endToEndId": "E4"}]"#, 200).await?;
    check("/webhooks/pix?token=k-pix", &psp, "{}", 200).await?;
    check("/webhooks/pix?token=k-pix", &psp, r#"{"pix": [{"endToEndId": "E5"}, "E6"]}"#, 400).await?;
    check("/webhooks/pix/rec?token=k-pix", &psp, r#"{"rec": [{"idRec": "RR1", "status": "APROVADA"}]}"#, 200)
        .await?;
    check("/webhooks/pix?token=k-pix/rec", &psp, r#"{"rec": {"idRec": "RR2", "status": "CANCELADA"}}"#, 200)
        .await?;
    let denied = check("/webhooks/pix?token=k-pix", &psp[1..], &pix(&["E7"]), 401).await?;
    ensure!(denied.contains("a client certificate that the proxy of the receiver accepts"), "{denied}");
    let other = [psp[0], ("x-ssl-client-s-dn", "CN=other,C=BR")];
    check("/webhooks/pix?token=k-pix", &other, &pix(&["E7"]), 401).await?;
    check("/webhooks/loja", &[("x-malote-key", "k-loja")], r#"{"hookConfig": "ping"}"#, 200).await?;
    let order = r#"{"OrderId": "v1-01", "State": "payment-approved", "LastChange": "2026-07-29T23:17:30Z"}"#;
    check("/webhooks/loja", &[("x-malote-key", "k-loja")], order, 200).await?;
    check("/webhooks/loja", &[("x-malote-key", "wrong")], order, 401).await?;
    let token = check("/oauth/token", &[], r#"{"clientId": "me", "clientSecret": "s-compras"}"#, 200).await?;
    let token: Value = serde_json::from_str(&token)?;
    let bearer = format!("Bearer {}", token["access_token"].as_str().context("a token")?);
    let notice = r#"{"topic": "order.created", "data": {"orderId": "7"}}"#;
    check("/webhooks/compras", &[("authorization", &bearer)], notice, 200).await?;
    check("/webhooks/compras", &[], notice, 401).await?;

    for _ in 0..2 {
        let text =
            check("/webhooks/erp?token=k-erp+/=", &[], "<evento><tipo>nota.emitida</tipo></evento>", 202)
                .await?;
        ensure!(text == "OK", "{text}");
    }

    let started = Instant::now();
    loop {
        let events = product.received()?;
        if events.len() == 11 {
            let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let is_duplicate = |event: &Value| if event["state"] == "duplicate" { " duplicate" } else { "" };
            let line = |event: &Value| {
                format!("{} {}{}", text(event, "topic"), text(event, "subject"), is_duplicate(event))
            };
            let mut lines: Vec<_> = events.iter().map(line).collect();
            lines.sort();
            return Ok(lines);
        }
        ensure!(started.elapsed() < PATIENCE, "{events:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn senders_by_configuration_are_received_alike_on_both_deployments() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let mut scaled = Product::configured(&shared.fresh_vhost()?, &shared.fresh_database()?, SOURCES)?;
    let proxies = ("MALOTE__INGRESS__TRUSTED_PROXIES".to_owned(), "[\"127.0.0.1\"]".to_owned());
    scaled.set_environment("ingress", [proxies.clone()]);
    for role in ["console", "ingress", "ledger"] {
        scaled.start(role, &[role]).await?;
    }
    let mut embedded = Product::configured("embedded", "sqlite", SOURCES)?;
    embedded.set_environment("up", [proxies]);
    embedded.start("up", &["up"]).await?;
    let expect = [
        "nota.emitida ",
        "nota.emitida ",
        "order.created order/7",
        "payment-approved order/v1-01",
        "pix pix/E1",
        "pix pix/E1 duplicate",
        "pix pix/E2",
        "pix pix/E3",
        "pix pix/E4",
        "rec rec/RR1",
        "rec rec/RR2",
    ];
    for product in [&embedded, &scaled] {
        assert_eq!(received(product).await?, expect);
        let rejected = product.json(&["rejected", "list"])?;
        assert!(
            rejected.iter().any(|row| row["cause"].as_str().is_some_and(|it| it.starts_with("/pix/1: ")))
        );
    }

    // The ingress reports the last use of secrets every few seconds.
    let started = Instant::now();
    loop {
        let shown: Value = serde_json::from_str(&embedded.run(&["sources", "show", "loja", "--json"])?)?;
        let used = |index: usize| !shown["secrets"][index]["used_at"].is_null();
        if used(1) {
            assert!(!used(0), "{shown}");
            assert_eq!(shown["expects"]["en"], "the header x-malote-key");
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "{shown}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let log = embedded.output("up");
    assert!(log.contains("auth.header") && log.contains("auth.oauth2"), "{log}");
    assert_eq!(log.matches("nothing is at /evento/chave").count(), 1, "{log}");
    assert!(!log.contains("k-loja") && !log.contains("s-compras"), "{log}");
    Ok(())
}

const KOBANA: &str = r#"
[[providers]]
name = "kobana"
topic = { pointer = "/event_code" }
challenges = [
  { header = "x-callback-challenge", answer = { body = "{header:x-callback-challenge}" } },
  { pointer = "/event_code", value = "ping" },
  { empty = true },
  { method = "HEAD" },
  { method = "GET" },
  { method = "OPTIONS" },
]
[[sources]]
name = "kobana"
provider = "kobana"
auth.query = { name = "token", secrets = ["k-kobana"] }
"#;

#[tokio::test]
async fn every_challenge_is_counted_and_none_is_an_event() -> Result<()> {
    let mut product = Product::configured("embedded", "sqlite", KOBANA)?;
    product.start("up", &["up"]).await?;
    let (client, _) = product.target("go");
    let counted = async |outcome: &str| -> Result<u64> {
        let metrics = product.metrics("up").await?;
        let is_it = |line: &&str| {
            line.starts_with("ingress_requests_total{")
                && line.contains("source=\"kobana\"")
                && line.contains(&format!("outcome=\"{outcome}\""))
        };
        let line = metrics.lines().find(is_it).with_context(|| metrics.clone())?;
        Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
    };
    let check =
        async |method: &str, token: &str, challenge: &str, body: &'static str, expect: (u16, &str)| {
            let url = format!("{}/webhooks/kobana?token={token}", product.ingress);
            let mut request = client.request(method.parse()?, url).header("content-type", "application/json");
            if !challenge.is_empty() {
                request = request.header("x-callback-challenge", challenge);
            }
            let answer = request.body(body).send().await?;
            let (status, text) = (answer.status().as_u16(), answer.text().await?);
            ensure!(status == expect.0 && text.contains(expect.1), "{method} {body}: {status} {text}");
            Ok(())
        };
    let challenges = [
        ("POST", "", r#"{"ping": "pong", "event_code": "ping"}"#, ""),
        ("POST", "c-123", "{}", "c-123"),
        ("POST", "", "", ""),
        ("HEAD", "", "", ""),
        ("GET", "", "", ""),
        ("OPTIONS", "", "", ""),
    ];
    for (index, (method, challenge, body, text)) in challenges.into_iter().enumerate() {
        check(method, "k-kobana", challenge, body, (200, text)).await?;
        assert_eq!(counted("challenge").await?, u64::try_from(index)? + 1, "{method} {body}");
    }
    // What is refused or is an event is none.
    check("GET", "wrong", "", "", (401, "")).await?;
    check("POST", "k-kobana", "", r#"{"event_code":"OPENPIX:CHARGE_COMPLETED",}"#, (200, "")).await?;
    assert_eq!((counted("challenge").await?, counted("accepted").await?), (6, 1));
    let events = product.settled(1).await?;
    let id = events[0]["id"].as_str().context("an id")?;
    let event: Value = serde_json::from_str(&product.run(&["events", "show", id, "--json"])?)?;
    assert_eq!(event["topic"], "OPENPIX:CHARGE_COMPLETED");
    assert_eq!(event["repaired"], true);
    assert!(product.json(&["rejected", "list"])?.is_empty());
    product.terminate("up").await
}
