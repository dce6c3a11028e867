//! Push subscriptions of a file, whose secrets are elsewhere.

use std::fs;
use std::time::Instant;

use anyhow::{Result, ensure};
use harness::{Received, Receiver};

use crate::product::{PATIENCE, Product};

fn file(url: &str) -> String {
    format!(
        r#"
[[subscriptions]]
name = "crm"
topics = ["gestao-online:#"]
filter = "data.data.code != '0'"
push = {{ url = {url:?}, headers = ["x-api-key"], auth = {{ bearer = {{}} }} }}
secrets = {{ headers = {{ x-api-key = {{ file = "crm.key" }} }}, auth = {{ env = "CRM_TOKEN" }} }}
"#
    )
}

/// Applies the file with this token in the environment, and gives what is printed.
fn apply(product: &Product, token: &str) -> Result<String> {
    let mut command = product.command(&["subscriptions", "apply", "subscriptions.toml", "--yes"])?;
    let output = command.env("CRM_TOKEN", token).output()?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{text}");
    Ok(text)
}

async fn delivered(product: &Product, receiver: &Receiver, code: &str) -> Result<Received> {
    let count = receiver.count();
    product.post("go", format!(r#"{{"event_id": "THEIRS", "data": {{"code": "{code}"}}}}"#)).await?;
    ensure!(receiver.wait_for(count + 1, PATIENCE).await, "nothing is sent:\n{}", product.output("up"));
    Ok(receiver.requests().remove(count))
}

#[tokio::test]
async fn a_push_subscription_of_a_file_has_its_secrets_and_is_changed_with_them() -> Result<()> {
    let receiver = Receiver::start()?;
    let mut product = Product::configured("embedded", "sqlite", "[outbound]\nallow = [\"127.0.0.0/8\"]\n")?;
    product.start("up", &["up"]).await?;
    fs::write(product.folder().join("subscriptions.toml"), file(&receiver.url("/events")))?;
    fs::write(product.folder().join("crm.key"), "key-1\n")?;

    let added = apply(&product, "token-1")?;
    ensure!(added.contains("+ crm: gestao-online:#") && added.contains("whsec_"), "{added}");
    ensure!(!added.contains("key-1") && !added.contains("token-1"), "{added}");
    product.post("go", r#"{"event_id": "THEIRS", "data": {"code": "0"}}"#).await?;
    let first = delivered(&product, &receiver, "1").await?;
    ensure!(
        String::from_utf8_lossy(&first.body).contains(r#""code": "1""#),
        "the filter leaves out the other"
    );
    let sent = |request: &Received| {
        ["x-api-key", "authorization"].map(|name| request.header(name).unwrap_or_default().to_owned())
    };
    assert_eq!(sent(&first), ["key-1", "Bearer token-1"]);
    assert_eq!(apply(&product, "token-1")?, "Nothing changes.\n");

    fs::write(product.folder().join("crm.key"), "key-2\n")?;
    let changed = apply(&product, "token-2")?;
    for name in ["auth", "headers.x-api-key"] {
        ensure!(changed.contains(&format!("secrets.{name} becomes another")), "{changed}");
    }
    // A replica looks for changes twice a second.
    let started = Instant::now();
    while sent(&delivered(&product, &receiver, "2").await?) != ["key-2", "Bearer token-2"] {
        ensure!(started.elapsed() < PATIENCE, "the new secrets are not sent");
    }
    Ok(())
}
