//! A source that requires a client certificate, which the port of the ingress checks, beside others that require none.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use reqwest::{Certificate, Client, Identity};

use crate::product::{PATIENCE, Product};
use crate::tls::Certificates;

const SOURCES: &str = r#"
[[sources]]
name = "psp"
provider = "gestao-online"
[sources.auth.client_certificate]
authorities_file = "authorities.pem"
subjects = ["CN=other", "CN=client"]
names = ["malote"]
[ingress.tls]
certificate = "server.crt"
key = "server.key"
"#;

/// A client that trusts the server, and has this certificate, if any.
fn client(server: &Certificates, own: Option<(&Certificates, &str)>) -> Result<Client> {
    let ca = Certificate::from_pem(&fs::read(server.file("ca.crt"))?)?;
    let mut builder = Client::builder().timeout(PATIENCE).tls_certs_only([ca]);
    if let Some((of, name)) = own {
        let parts = [of.file(&format!("{name}.key")), of.file(&format!("{name}.crt"))];
        let pem = parts.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?.concat();
        builder = builder.identity(Identity::from_pem(&pem)?);
    }
    Ok(builder.build()?)
}

async fn post(product: &Product, client: &Client, address: &str) -> Result<(u16, String)> {
    let url = format!("{}/webhooks/{address}", product.ingress.replace("http:", "https:"));
    let body = r#"{"event_id": "ORDER_CREATED", "data": {"code": "1"}}"#;
    let answer = client.post(url).header("content-type", "application/json").body(body).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn a_source_takes_who_shows_a_certificate_of_its_authorities_and_others_need_none() -> Result<()> {
    let (ours, theirs) = (Certificates::make()?, Certificates::make()?);
    let mut product = Product::configured("embedded", "sqlite", SOURCES)?;
    for file in ["server.crt", "server.key"] {
        fs::copy(ours.file(file), product.folder().join(file))?;
    }
    let authorities = product.folder().join("authorities.pem");
    fs::copy(ours.file("ca.crt"), &authorities)?;
    product.start("up", &["up"]).await?;

    let known = client(&ours, Some((&ours, "client")))?;
    let (status, text) = post(&product, &known, "psp").await?;
    ensure!(status == 200, "{status} {text}");
    let expected = "expected a client certificate in the TLS handshake";
    for (who, stranger) in [
        ("no certificate", client(&ours, None)?),
        ("another subject", client(&ours, Some((&ours, "server")))?),
        ("another authority", client(&ours, Some((&theirs, "client")))?),
    ] {
        let (status, text) = post(&product, &stranger, "psp").await?;
        ensure!(status == 401 && text.contains(expected), "{who}: {status} {text}");
        let (status, text) = post(&product, &stranger, "go?token=go-token").await?;
        ensure!(status == 200, "{who}: {status} {text}");
    }
    ensure!(product.output("up").contains("auth.client_certificate"), "{}", product.output("up"));

    // Other authorities, for open connections, too.
    fs::copy(theirs.file("ca.crt"), &authorities)?;
    let status = Command::new("kill").args(["-HUP", &product.pid("up").to_string()]).status()?;
    ensure!(status.success(), "kill -HUP");
    let started = Instant::now();
    while post(&product, &known, "psp").await?.0 != 401 {
        ensure!(started.elapsed() < PATIENCE, "{}", product.output("up"));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (status, text) = post(&product, &client(&ours, Some((&theirs, "client")))?, "psp").await?;
    ensure!(status == 200, "{status} {text}");
    product.terminate("up").await
}
