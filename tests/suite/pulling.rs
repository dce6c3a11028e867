//! Pull subscriptions: a service reads its topics with its own token, at its own pace, on both deployments.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::product::{PATIENCE, Product};

/// A service with the token of its subscription.
struct Reader<'a> {
    product: &'a Product,
    client: reqwest::Client,
    token: String,
}

impl Reader<'_> {
    fn url(&self, rest: &str) -> String {
        format!("{}/api/v1/subscriptions/orders/{rest}", self.product.console)
    }

    /// The status, the ids of the events, and the position to acknowledge.
    async fn read(&self, query: &str) -> Result<(u16, Vec<String>, String)> {
        let asked =
            self.client.get(self.url(&format!("events{query}"))).bearer_auth(&self.token).send().await?;
        let (status, position) = (asked.status().as_u16(), asked.headers().get("malote-position").cloned());
        let position =
            position.map(|value| Ok::<_, anyhow::Error>(value.to_str()?.to_owned())).transpose()?;
        let text = asked.text().await?;
        let lines = text.lines().filter(|_| status == 200);
        let id = |line: &str| {
            let event: Value = serde_json::from_str(line)?;
            Ok(event["id"].as_str().context("no id")?.to_owned())
        };
        Ok((status, lines.map(id).collect::<Result<_>>()?, position.unwrap_or_default()))
    }

    /// Reads until there are so many events.
    async fn read_until(&self, count: usize) -> Result<(Vec<String>, String)> {
        let begun = Instant::now();
        loop {
            let (status, ids, position) = self.read("?wait=1").await?;
            ensure!(status == 200, "{status}");
            if ids.len() >= count {
                return Ok((ids, position));
            }
            ensure!(begun.elapsed() < PATIENCE, "{} of {count} events", ids.len());
        }
    }

    async fn acknowledge(&self, position: &str) -> Result<Value> {
        let body = json!({"position": position}).to_string();
        let asked = self.client.put(self.url("cursor")).bearer_auth(&self.token).body(body).send().await?;
        Ok(serde_json::from_str(&asked.error_for_status()?.text().await?)?)
    }
}

fn order(topic: &str, number: usize) -> String {
    format!(r#"{{"event_id": "{topic}", "data": {{"id": "{number}", "code": "{number:010}", "status": 1}}}}"#)
}

/// Every row and every log: whatever shows a secret.
fn shown(product: &Product) -> Result<String> {
    let mut text = String::new();
    for command in [
        &["subscriptions", "list"][..],
        &["subscriptions", "list", "--json"],
        &["subscriptions", "show", "orders"],
        &["subscriptions", "show", "orders", "--json"],
        &["config", "show"],
    ] {
        text += &product.run(command)?;
    }
    Ok(product.running().iter().fold(text, |text, name| text + &product.output(name)))
}

async fn a_service_reads(product: &Product) -> Result<()> {
    let before = product.post("go", order("ORDER_CREATED", 1)).await?;
    product.settled(1).await?;
    let added: Value = serde_json::from_str(&product.run(&[
        "subscriptions",
        "add",
        "orders",
        "--pull",
        "--topics",
        "gestao-online:ORDER_CREATED,recuperador:#",
        "--json",
    ])?)?;
    let token = added["token"].as_str().context("no token")?.to_owned();
    let row = |product: &Product| Ok::<_, anyhow::Error>(product.json(&["subscriptions", "list"])?.remove(0));
    let listed = row(product)?;
    assert_eq!(
        (&listed["name"], &listed["door"], &listed["topics"], &listed["state"], &listed["lag"]),
        (
            &json!("orders"),
            &json!("pull"),
            &json!(["gestao-online:ORDER_CREATED", "recuperador:#"]),
            &json!("active"),
            &json!(0)
        )
    );

    let reader = Reader { product, client: reqwest::Client::new(), token };
    let mut posted = Vec::new();
    for number in 2..=4 {
        posted.push(product.post("go", order("ORDER_CREATED", number)).await?);
        product.post("go", order("ORDER_CANCEL", number)).await?;
        product.settled(1 + 2 * posted.len()).await?;
    }
    let (ids, position) = reader.read_until(3).await?;
    assert_eq!(ids, posted);
    ensure!(!ids.contains(&before), "it begins with what comes after it was added");
    // Nothing was acknowledged, so all of it is given again.
    assert_eq!(reader.read("").await?.1, posted);
    assert_eq!(row(product)?["lag"], 3);
    assert_eq!(reader.acknowledge(&position).await?, json!({"position": position}));
    assert_eq!(row(product)?["position"], json!(position));
    assert_eq!((row(product)?["lag"].clone(), reader.read("").await?.1), (json!(0), vec![]));

    product.run(&["subscriptions", "pause", "orders", "--reason", "stocktaking"])?;
    let last = product.post("go", order("ORDER_CREATED", 5)).await?;
    product.settled(8).await?;
    assert_eq!(reader.read("").await?.0, 409);
    let paused = row(product)?;
    assert_eq!(
        (&paused["state"], &paused["reason"], &paused["lag"]),
        (&json!("paused"), &json!("stocktaking"), &json!(1))
    );
    product.run(&["subscriptions", "resume", "orders", "--all"])?;
    assert_eq!(reader.read_until(1).await?.0, std::slice::from_ref(&last));
    product.run(&["subscriptions", "seek", "orders", "--to", "beginning", "--yes"])?;
    let all: Vec<_> = std::iter::once(&before).chain(&posted).chain([&last]).cloned().collect();
    assert_eq!(reader.read_until(5).await?.0, all);

    let rotated: Value =
        serde_json::from_str(&product.run(&["subscriptions", "rotate-secret", "orders", "--json"])?)?;
    let next = rotated["token"].as_str().context("no token")?;
    ensure!(next != reader.token, "the token stayed");
    assert_eq!(reader.read("").await?.0, 401);
    let text = shown(product)?;
    ensure!(!text.contains(&reader.token) && !text.contains(next), "a token is shown: {text}");
    let reader = Reader { token: next.to_owned(), ..reader };
    assert_eq!(reader.read("").await?.0, 200);

    let output = product.command(&["subscriptions", "remove", "orders"])?.stdin(Stdio::null()).output()?;
    ensure!(!output.status.success(), "it was removed although nobody was asked");
    product.run(&["subscriptions", "remove", "orders", "--yes"])?;
    assert_eq!(reader.read("").await?.0, 401);
    assert_eq!(product.json(&["subscriptions", "list"])?, [Value::Null; 0]);
    Ok(())
}

#[tokio::test]
async fn a_service_reads_its_topics_until_it_is_removed_on_the_embedded_broker_and_sqlite() -> Result<()> {
    a_service_reads(&Product::embedded().await?).await
}

#[tokio::test]
async fn a_service_reads_its_topics_until_it_is_removed_on_rabbitmq_and_postgresql() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    a_service_reads(&Product::scaled(&shared.fresh_vhost()?, &shared.fresh_database()?).await?).await
}

const FILE: &str = r#"
[[subscriptions]]
name = "orders"
topics = ["gestao-online:ORDER_CREATED"]
pull = {}

[[subscriptions]]
name = "agreements"
topics = ["recuperador:acordo.#"]
pull = {}
"#;

#[tokio::test]
async fn a_file_is_applied_after_a_diff_and_applying_it_again_changes_nothing() -> Result<()> {
    let product = Product::embedded().await?;
    let file = product.folder().join("subscriptions.toml");
    fs::write(&file, FILE)?;
    let apply = |options: &[&str]| {
        product.run(&[&["subscriptions", "apply", "subscriptions.toml"], options].concat())
    };
    let names = || {
        let rows = product.json(&["subscriptions", "list"])?;
        Ok::<_, anyhow::Error>(rows.iter().map(|row| row["name"].to_string()).collect::<Vec<_>>())
    };
    let shown = apply(&["--dry-run"])?;
    ensure!(shown.contains("+ orders: gestao-online:ORDER_CREATED"), "{shown}");
    assert_eq!(names()?, [""; 0]);
    let asked =
        product.command(&["subscriptions", "apply", "subscriptions.toml"])?.stdin(Stdio::null()).output()?;
    ensure!(!asked.status.success() && names()?.is_empty(), "it was applied although nobody was asked");
    let shown = apply(&["--yes"])?;
    ensure!(shown.matches("malote_pull_").count() == 2, "{shown}");
    assert_eq!(names()?, ["\"agreements\"", "\"orders\""]);
    assert_eq!(apply(&["--yes", "--prune"])?, "Nothing changes.\n");

    product.run(&["subscriptions", "add", "by-hand", "--pull", "--topics", "recuperador:#"])?;
    fs::write(&file, FILE.replace("ORDER_CREATED", "#"))?;
    let shown = apply(&["--yes"])?;
    let change = "~ orders\n    topics: [\"gestao-online:ORDER_CREATED\"] → [\"gestao-online:#\"]\n";
    ensure!(
        shown.contains(change) && shown.contains("left as they are (--prune removes them): by-hand"),
        "{shown}"
    );
    ensure!(apply(&["--yes", "--prune"])?.contains("- by-hand\n"), "it was not pruned");
    assert_eq!(names()?, ["\"agreements\"", "\"orders\""]);

    // What the file and the installation have against it, at once and with its lines; nothing changes.
    let output = |text: &str| {
        fs::write(&file, text)?;
        let output = product
            .command(&["subscriptions", "apply", "subscriptions.toml", "--yes", "--prune"])?
            .output()?;
        ensure!(!output.status.success(), "it was applied");
        Ok(String::from_utf8(output.stderr)?)
    };
    let wrong = output("[[subscriptions]]\nname = \"Orders\"\ntopic = []\n\n[[subscription]]\n")?;
    for line in [
        "4 mistakes",
        "line 2: subscriptions[0].name",
        "line 3: subscriptions[0].topic",
        "line 5: subscription:",
    ] {
        ensure!(wrong.contains(line), "{line}: {wrong}");
    }
    let unknown = output(&FILE.replace("recuperador", "recuperado").replace("gestao-online", "gestao"))?;
    for line in ["2 mistakes", "line 2: orders: ", "line 7: agreements: ", "did you mean \"recuperador\"?"] {
        ensure!(unknown.contains(line), "{line}: {unknown}");
    }
    let partial = output(&FILE.replace("ORDER_CREATED", "ORDER_*"))?;
    let line = "line 4: subscriptions[0].topics: \"ORDER_*\" matches no topic: `*` is one whole word";
    ensure!(partial.contains(line), "{partial}");
    assert_eq!(names()?, ["\"agreements\"", "\"orders\""]);
    Ok(())
}
