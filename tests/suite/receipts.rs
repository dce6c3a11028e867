//! What proves to a provider that its request came: the receipt of an event and of a rejected body.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::product::{PATIENCE, Product, example};

/// The lines of a receipt, with one space between words.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test]
async fn a_provider_gets_a_receipt_of_its_event_and_of_its_rejected_body() -> Result<()> {
    let product = Product::embedded().await?;
    let body = example("recuperador", "acordo.cadastrado");
    let event = product.post("rec", body).await?;
    let refused = product.request("rec", "{").send().await?;
    assert_eq!(refused.status(), 400);
    let answer: serde_json::Value = refused.json().await?;
    let rejected = answer["id"].as_str().context("an id")?;
    product.settled(1).await?;
    let mut asked = product.run(&["events", "show", &event, "--receipt"])?;
    let receipt = lines(&asked);
    assert!(receipt.contains(&format!("event {event}")), "{asked}");
    assert!(receipt.iter().any(|line| line.starts_with("received ")), "{asked}");
    assert!(receipt.contains(&"posted to /webhooks/rec".to_owned()), "{asked}");
    assert!(receipt.contains(&"posted from 127.0.0.1".to_owned()), "{asked}");
    // The field by which the provider tells its facts apart.
    let sent: serde_json::Value = serde_json::from_str(body)?;
    assert!(receipt.contains(&format!("sender's id {}", sent["id"])), "{asked}");
    assert!(
        receipt
            .contains(&"answer 200, once the event was stored durably; 503 if that took too long".to_owned()),
        "{asked}"
    );
    assert!(product.run(&["events", "show", &event])?.contains("posted from"));

    let started = Instant::now();
    while product.rows(&["rejected", "list"])?.is_empty() {
        ensure!(started.elapsed() < PATIENCE, "the rejected body is not recorded");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    asked = product.run(&["rejected", "show", rejected, "--receipt"])?;
    assert!(lines(&asked).contains(&"answer 400".to_owned()), "{asked}");
    Ok(())
}
