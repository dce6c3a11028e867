//! Push subscriptions to an endpoint whose certificate is of an authority that the system trusts, or does not.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::Receiver;
use tokio::time::sleep;

use crate::product::{PATIENCE, Product};

/// A process that trusts what is in this file as its system's authorities, and allows this machine.
async fn start(authorities: &str) -> Result<Product> {
    let mut product = Product::configured("embedded", "sqlite", "[outbound]\nallow = [\"127.0.0.0/8\"]\n")?;
    let file = product.folder().join("authorities.pem");
    fs::write(&file, authorities)?;
    // OpenSSL's variables, which stand for the system's own places.
    let file = file.display().to_string();
    product.set_environment("up", [("SSL_CERT_FILE".to_owned(), file)]);
    product.start("up", &["up"]).await?;
    Ok(product)
}

/// The first attempt of a subscription to this URL.
async fn attempt(product: &Product, url: &str) -> Result<serde_json::Value> {
    product.run(&["subscriptions", "add", "crm", "--push", url, "--topics", "gestao-online:#"])?;
    product.post("go", r#"{"event_id": "THEIRS", "data": {"code": "1"}}"#).await?;
    let started = Instant::now();
    loop {
        let mut attempts = product.rows(&["attempts", "list", "--subscription", "crm"])?;
        if let Some(attempt) = attempts.pop() {
            return Ok(attempt);
        }
        ensure!(started.elapsed() < PATIENCE, "nothing is sent:\n{}", product.output("up"));
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_endpoint_is_trusted_by_the_authorities_of_the_system() -> Result<()> {
    let (receiver, stranger) = (Receiver::start_tls()?, Receiver::start_tls()?);
    let trusting = start(receiver.ca()).await?;
    let delivered = attempt(&trusting, &receiver.url("/")).await?;
    ensure!(delivered["status"] == 200 && receiver.count() == 1, "{delivered:#}");
    let refused = attempt(&start(receiver.ca()).await?, &stranger.url("/")).await?;
    let error = refused["error"].as_str().unwrap_or_default();
    ensure!(refused["status"].is_null() && error.contains("certificate"), "{refused:#}");
    ensure!(stranger.count() == 0);
    Ok(())
}
