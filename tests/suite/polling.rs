//! Sources that are polled, besides being posted to: the same facts once, on both deployments, whatever fails on the way.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Received, Receiver, Reply};
use serde_json::{Value, json};

use crate::product::{PATIENCE, Product, example};

/// The unread payloads of the API, by path and id.
type Unread = Arc<Mutex<BTreeMap<(String, i64), String>>>;

const AGREEMENTS: &str = "/api/v1PayloadWebhookAcordo";
const INSTALMENTS: &str = "/api/v1PayloadWebhookParcelaAprovada";

/// Recuperador's API: lists what is unread, and marks what is read.
struct Api {
    receiver: Receiver,
    unread: Unread,
}

impl Api {
    /// With the registration of the documented agreement and the payment of its first instalment, as the API writes them.
    fn start() -> Result<Self> {
        let polled = |topic: &str| {
            let added = r#"{ "id_assessoria": 3, "data_referencia": "2026-10-01","#;
            let body = example("recuperador", topic).replacen('{', added, 1);
            body.replace("id_parcela", "id_contasareceber")
        };
        let items = [(AGREEMENTS, 88_120, "acordo.cadastrado"), (INSTALMENTS, 5_120, "parcela.aprovada")];
        let items = items.map(|(path, id, topic)| ((path.to_owned(), id), polled(topic)));
        let api = Self { receiver: Receiver::start()?, unread: Arc::new(Mutex::new(items.into())) };
        let unread = Arc::clone(&api.unread);
        api.receiver.answer_with(move |request, _| answer(&unread, request));
        Ok(api)
    }

    /// The end of a configuration with a source that is polled here, every second.
    fn source(&self) -> String {
        format!(
            "[outbound]\nallow = [\"127.0.0.0/8\"]\n[[sources]]\nname = \"polled\"\nprovider = \"recuperador\"\nauth = \"none\"\n\
             poll = {{ url = {:?}, every_s = 1, timeout_ms = 1000, auth = {{ basic = {{ username = \"the-token\" }} }}, \
             parameters = {{ id_credor = 17, qtde_dias_leitura = 7 }} }}\n",
            self.receiver.url("")
        )
    }

    fn is_read(&self) -> bool {
        self.unread.lock().expect("no test panics with it").is_empty()
    }
}

fn answer(unread: &Unread, request: &Received) -> Reply {
    if request.header("authorization") != Some("Basic dGhlLXRva2VuOg==") {
        return Reply::status(401);
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let mut unread = unread.lock().expect("no test panics with it");
    if request.method == "POST" {
        let id = serde_json::from_slice::<Value>(&request.body).ok().and_then(|body| body["id"].as_i64());
        let is_known = id.is_some_and(|id| unread.remove(&(path.to_owned(), id)).is_some());
        return Reply::status(if is_known { 200 } else { 404 });
    }
    let items: Vec<&str> =
        unread.iter().filter(|((of, _), _)| of == path).map(|(_, body)| body.as_str()).collect();
    Reply::status(200).header("content-type", "application/json").body(format!("[{}]", items.join(",")))
}

async fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !is_so()? {
        ensure!(started.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The states of the events on record that were posted or polled, each with how many have it.
fn states(product: &Product) -> Result<BTreeMap<String, usize>> {
    let mut states = BTreeMap::new();
    for event in product.received()? {
        *states.entry(event["state"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(states)
}

/// The documented agreement has its three instalments, of which one is paid, and that was announced once.
async fn assert_booked_once(product: &Product) -> Result<()> {
    let announced = |topic: &str| product.rows(&["events", "list", "--provider", "malote", "--topic", topic]);
    until("payment and agreement are announced", || {
        Ok(!announced("receivable.paid")?.is_empty() && !announced("agreement.registered")?.is_empty())
    })
    .await?;
    let rows = product.rows(&["receivables", "list", "--source", "polled"])?;
    let mut states: Vec<_> = rows
        .iter()
        .map(|row| (row["external_id"].clone(), row["state"].clone(), row["paid_date"].clone()))
        .collect();
    states.sort_by_key(|(id, ..)| id.to_string());
    let open = |id: &str| (json!(id), json!("open"), Value::Null);
    assert_eq!(
        states,
        [(json!("910001"), json!("paid"), json!("2026-10-14")), open("910002"), open("910003")]
    );
    for topic in ["receivable.paid", "agreement.registered"] {
        assert_eq!(announced(topic)?.len(), 1, "{topic}");
    }
    Ok(())
}

/// What is posted and what is polled are the same two facts, whichever comes first.
async fn posts_and_polls(product: &mut Product, api: &Api) -> Result<()> {
    let (client, _) = product.target("rec");
    for topic in ["parcela.aprovada", "acordo.cadastrado"] {
        let body = example("recuperador", topic);
        let request = client.post(format!("{}/webhooks/polled", product.ingress));
        let answer = request.header("content-type", "application/json").body(body).send().await?;
        assert_eq!(answer.status(), 200);
    }
    until("everything is acknowledged", || Ok(api.is_read())).await?;
    product.settled(4).await?;
    let expect = [("duplicate".to_owned(), 2), ("handled".to_owned(), 2)];
    assert_eq!(states(product)?, BTreeMap::from(expect));
    assert_booked_once(product).await?;
    let gets: Vec<_> = api
        .receiver
        .requests()
        .into_iter()
        .filter(|request| request.method == "GET")
        .map(|one| one.target)
        .collect();
    let query = "id%5Fcredor=17&qtde%5Fdias%5Fleitura=7";
    assert!(
        gets.contains(&format!("{AGREEMENTS}?{query}")) && gets.contains(&format!("{INSTALMENTS}?{query}"))
    );
    // What was polled is counted in the books of the day like what was posted.
    until("the books of the day are balanced", || {
        let printed = product.command(&["reconcile", "--json"])?.output()?.stdout;
        let books: Value = serde_json::from_slice(&printed).unwrap_or_default();
        let counted = books["sources"].as_array().and_then(|sources| {
            sources.iter().find(|of| of["source"] == "polled").map(|of| of["counted_accepted"].clone())
        });
        Ok(books["balanced"] == true && counted == Some(json!(4)))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn posted_and_polled_copies_of_a_fact_are_booked_once_embedded() -> Result<()> {
    let api = Api::start()?;
    let mut product = Product::configured("embedded", "sqlite", &api.source())?;
    product.start("up", &["up"]).await?;
    posts_and_polls(&mut product, &api).await
}

/// The roles of a scaled deployment that polling needs.
async fn scaled(api: &Api) -> Result<Product> {
    let shared = harness::Shared::from_env()?;
    let mut product = Product::configured(&shared.fresh_vhost()?, &shared.fresh_database()?, &api.source())?;
    for (name, arguments) in [
        ("console", ["console"].as_slice()),
        ("ingress", &["ingress"]),
        ("ledger", &["ledger"]),
        ("receivables-1", &["consume", "receivables"]),
    ] {
        product.start(name, arguments).await?;
    }
    Ok(product)
}

#[tokio::test]
async fn posted_and_polled_copies_of_a_fact_are_booked_once_scaled() -> Result<()> {
    let api = Api::start()?;
    let mut product = scaled(&api).await?;
    posts_and_polls(&mut product, &api).await
}

/// Kills the process that polls between the confirm of the broker and the acknowledgement at the API, and starts it again.
async fn killed_before_it_acknowledges(product: &mut Product, api: &Api, role: &str) -> Result<()> {
    until("something is acknowledged", || {
        Ok(api.receiver.requests().iter().any(|request| request.method == "POST"))
    })
    .await?;
    product.kill9(role)?;
    let unread = Arc::clone(&api.unread);
    api.receiver.answer_with(move |request, _| answer(&unread, request));
    product.start(role, &[role]).await?;
    until("everything is acknowledged", || Ok(api.is_read())).await?;
    until("the second copy is a duplicate", || {
        let states = states(product)?;
        Ok(states.get("handled") == Some(&2) && states.get("duplicate") >= Some(&1))
    })
    .await?;
    assert_booked_once(product).await
}

/// An API whose acknowledgements are never answered.
fn deaf() -> Result<Api> {
    let api = Api::start()?;
    let unread = Arc::clone(&api.unread);
    api.receiver.answer_with(move |request, _| match request.method.as_str() {
        "POST" => Reply::stall(),
        _ => answer(&unread, request),
    });
    Ok(api)
}

#[tokio::test]
async fn a_process_that_is_killed_before_it_acknowledges_books_once_embedded() -> Result<()> {
    let api = deaf()?;
    let mut product = Product::configured("embedded", "sqlite", &api.source())?;
    product.start("up", &["up"]).await?;
    killed_before_it_acknowledges(&mut product, &api, "up").await
}

#[tokio::test]
async fn a_process_that_is_killed_before_it_acknowledges_books_once_scaled() -> Result<()> {
    let api = deaf()?;
    let mut product = scaled(&api).await?;
    killed_before_it_acknowledges(&mut product, &api, "console").await
}

#[tokio::test]
async fn a_failing_api_is_visible_and_what_it_lists_comes_once_it_works() -> Result<()> {
    let api = Api::start()?;
    let extra = api.source().replace("the-token", "a-wrong-token").replace("auth = \"none\"\n", "");
    let mut product = Product::configured("embedded", "sqlite", &extra)?;
    product.start("up", &["up"]).await?;
    let shown = |product: &Product| -> Result<Value> {
        let rows = product.json(&["sources", "list", "--where", "source=polled"])?;
        ensure!(rows.len() == 1, "{rows:?}");
        Ok(rows[0].clone())
    };
    let reason = "127.0.0.1 answered 401: it refuses the credentials of poll.auth";
    until("the failure is shown", || Ok(shown(&product)?["failure"] == reason)).await?;
    assert_eq!(product.json(&["sources", "list"])?.len(), 5);
    let text = product.run(&["sources", "show", "polled"])?;
    assert!(text.contains(reason) && text.contains("every 1 s") && text.contains("next poll"), "{text}");
    assert!(product.output("up").contains("polling failed: 127.0.0.1 answered 401"));
    assert!(!product.command(&["sources", "show", "nobody"])?.output()?.status.success());
    let metrics = product.metrics("up").await?;
    assert!(metrics.contains(r#"polls_total{source="polled",outcome="failure"}"#), "{metrics}");
    let shown_config = product.run(&["config", "show"])?;
    assert!(!shown_config.contains("a-wrong-token"), "{shown_config}");
    // A source that is only polled cannot be posted to.
    let (client, _) = product.target("rec");
    let posted = client.post(format!("{}/webhooks/polled", product.ingress)).body("{}").send().await?;
    assert_eq!(posted.status(), 401);

    product.terminate("up").await?;
    let file = product.folder().join("malote.toml");
    std::fs::write(&file, std::fs::read_to_string(&file)?.replace("a-wrong-token", "the-token"))?;
    product.start("up", &["up"]).await?;
    until("everything is acknowledged", || Ok(api.is_read())).await?;
    until("the failure is over", || Ok(shown(&product)?["failure"] == Value::Null)).await?;
    product.settled(2).await?;
    assert_booked_once(&product).await
}

/// What is due, and whose lease lasts, is read by the clock of the database: by its own, the first console would hold up polls for an
/// hour after its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_whose_clock_is_an_hour_ahead_holds_up_no_poll_after_its_end() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let api = Api::start()?;
    let mut product = Product::configured(&shared.fresh_vhost()?, &shared.fresh_database()?, &api.source())?;
    let ahead = harness::shifted_clock(product.folder(), 3_600)?;
    product.set_environment("ahead", ahead.map(|(name, value)| (name.to_owned(), value)));
    product.start("ahead", &["console"]).await?;
    until("what is unread is polled", || Ok(api.is_read())).await?;
    product.kill9("ahead")?;
    let polled = api.receiver.count();
    product.start("console", &["console"]).await?;
    until("it is polled again", || Ok(api.receiver.count() > polled)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_no_longer_configured_is_polled_no_more_until_it_is_configured_again() -> Result<()>
{
    let api = Api::start()?;
    let mut product = Product::configured("embedded", "sqlite", &api.source())?;
    product.start("up", &["up"]).await?;
    until("what is unread is polled", || Ok(api.is_read())).await?;
    let file = product.folder().join("malote.toml");
    let text = std::fs::read_to_string(&file)?;
    let (rest, _) = text.split_once("[[sources]]\nname = \"polled\"").context("it is the last one")?;
    let configure = |text: &str| {
        std::fs::write(&file, text)?;
        let status = Command::new("kill").args(["-HUP", &product.pid("up").to_string()]).status()?;
        ensure!(status.success(), "kill -HUP");
        Ok(())
    };
    configure(rest)?;
    let of_polled = ["sources", "list", "--where", "source=polled"];
    until("it is forgotten", || Ok(product.json(&of_polled)?.is_empty())).await?;
    let polled = api.receiver.count();
    configure(&text)?;
    until("it is polled again", || Ok(api.receiver.count() > polled)).await?;
    assert_eq!(product.json(&of_polled)?.len(), 1);
    Ok(())
}
