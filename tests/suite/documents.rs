//! Documents that events only name: fetched from a server that plays the providers' APIs, booked, and kept, on both deployments.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Received, Receiver, Reply};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::product::{PATIENCE, Product, example};

/// A killed replica's lease has to end before another one fetches, and an API that fails is asked less often.
const LONG_PATIENCE: Duration = Duration::from_secs(180);

const INVOICE: &str = r#"{"id": 32211, "invoiceNumber": 4711, "invoiceSerial": "001", "issueDate": "2026-11-20T00:00:00",
    "totalDue": 1234.50, "netPrice": 1200, "currency": "BRL", "supplierId": 900}"#;

const SUPPLIER: &str =
    r#"{"companyName": "Metalúrgica", "documents": [{"type": "CNPJ", "number": "11.222.333/0001-81"}]}"#;

const ORDER: &str = r#"{"code": "0000593098", "orderTotal": "395.00", "statusPayment": "PENDENTE", "financialItems": [
    {"amount": 197.50, "amountPaid": 197.50, "dueDate": "2026-12-01", "status": "LIQUIDADO"},
    {"amount": 197.50, "amountPaid": 0, "dueDate": "2027-01-01", "status": null}]}"#;

const PURCHASE: &str =
    r#"{"id": 123, "grossValue": 150.50, "netValue": 140, "currency": "BRL", "supplierId": 900}"#;

const PDF: &str = "%PDF-1.7\nglasses";

const EXTRA: &str = "[outbound]\nallow = [\"127.0.0.0/8\"]\n[documents]\ntimeout_ms = 1000\n";

fn found(body: &str) -> Reply {
    Reply::status(200).header("content-type", "application/json").body(body)
}

/// The providers' APIs, with the ways in which they answer.
fn answer(request: &Received, is_expired: bool) -> Reply {
    let target = request.target.as_str();
    if target == "/v1/auth/tokens" {
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        return match asked == json!({"clientId": "malote", "clientSecret": "me-api-secret"}) {
            true => found(r#"{"accessToken": "token-1", "expiresIn": 3600}"#),
            false => Reply::status(401),
        };
    }
    let is_allowed = match target.split('/').nth(1) {
        Some("v1") => request.header("authorization") == Some("Bearer token-1"),
        _ => request.header("x-api-key") == Some("go-api-secret") || target.starts_with("/files/"),
    };
    match target {
        _ if !is_allowed => Reply::status(401),
        "/v1/invoices/32211" => found(INVOICE),
        "/v1/orders/123" => found(PURCHASE),
        "/v1/invoices/410" => Reply::status(410),
        "/v1/invoices/404" => Reply::status(404),
        "/v1/invoices/500" => Reply::status(500),
        "/v1/invoices/slow" => found(INVOICE).after(Duration::from_secs(5)),
        "/v1/invoices/page" => Reply::status(200).header("content-type", "text/html").body("<html>"),
        "/order-external/100" => found(ORDER),
        "/v1/suppliers/900" => {
            found(SUPPLIER).header("ratelimit-remaining", "239").header("ratelimit-reset", "60")
        }
        "/files/glasses.pdf?signature=s3cr3t" if !is_expired => Reply::status(200).body(PDF),
        "/files/page.pdf" => {
            Reply::status(200).header("content-type", "application/pdf").body("<html>expired")
        }
        _ if target.starts_with("/files/") => Reply::status(403),
        _ => Reply::status(404),
    }
}

/// An installation whose sources have an API, not started.
fn configured(broker: &str, store: &str, api: &Receiver) -> Result<Product> {
    let product = Product::configured(broker, store, EXTRA)?;
    let url = api.url("");
    let token =
        format!("{{ base_url = \"{url}\", client_id = \"malote\", client_secret = \"me-api-secret\" }}");
    product.set_api("me", &token)?;
    let headers = format!(
        "{{ base_url = \"{url}\", headers = {{ x-api-key = \"go-api-secret\", origin = \"https://us.example\" }} }}"
    );
    product.set_api("go", &headers)?;
    product.set_api("visao", &format!("{{ base_url = \"{url}\" }}"))?;
    Ok(product)
}

async fn embedded(api: &Receiver) -> Result<Product> {
    let mut product = configured("embedded", "sqlite", api)?;
    product.start("up", &["up"]).await?;
    Ok(product)
}

async fn scaled(api: &Receiver) -> Result<Product> {
    let shared = harness::Shared::from_env()?;
    let mut product = configured(&shared.fresh_vhost()?, &shared.fresh_database()?, api)?;
    for role in ["console", "ingress", "ledger"] {
        product.start(role, &[role]).await?;
    }
    for domain in domains::ALL {
        product.start(domain.name(), &["consume", domain.name()]).await?;
    }
    for replica in ["documents-1", "documents-2"] {
        product.start(replica, &["documents"]).await?;
    }
    Ok(product)
}

/// Waits until the rows of a list are as wanted, and gives them.
async fn wait_for(product: &Product, list: &[&str], is_so: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
    let begun = Instant::now();
    loop {
        let rows = product.rows(list)?;
        if is_so(&rows) {
            return Ok(rows);
        }
        ensure!(begun.elapsed() < LONG_PATIENCE, "{}: {rows:#?}", list.join(" "));
        sleep(Duration::from_millis(100)).await;
    }
}

fn invoice(id: &str) -> String {
    json!({"topic": "invoice.created", "data": {"invoiceId": id}}).to_string()
}

async fn what_events_only_name_is_fetched_and_booked(product: &Product, api: &Receiver) -> Result<()> {
    let (is_expired, is_found) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (expired, found_now) = (Arc::clone(&is_expired), Arc::clone(&is_found));
    api.answer_with(move |request, _| match request.target.as_str() {
        "/v1/invoices/410" if found_now.load(Ordering::SeqCst) => found(INVOICE),
        _ => answer(request, expired.load(Ordering::SeqCst)),
    });
    let named = product.post("me", invoice("32211")).await?;
    for id in ["404", "410", "500", "slow", "page"] {
        product.post("me", invoice(id)).await?;
    }
    let files = json!([{"fileName": "Receita de Maria", "fileUrl": api.url("/files/glasses.pdf?signature=s3cr3t")},
                       {"fileName": "Lentes", "fileUrl": api.url("/files/page.pdf")}]);
    let renewed =
        json!({"status": "renewed", "cpf": "529.982.247-25", "email": "maria@example.com", "files": files});
    let renewal = product.post("visao", renewed.to_string()).await?;

    product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    product.post("me", example("mercado-eletronico", "order.canceled")).await?;
    let is_known = |rows: &[Value]| rows.iter().any(|row| row["total_centavos"].is_number());
    let purchases = wait_for(product, &["purchasing", "list"], is_known).await?;
    let shown = ["kind", "external_id", "status", "total_centavos", "currency", "supplier_id"];
    let purchase = shown.map(|name| purchases[0][name].clone());
    assert_eq!(json!(purchase), json!(["order", "123", "canceled", 15_050, "BRL", "900"]));
    let is_booked = |rows: &[Value]| rows.iter().any(|row| row["supplier_document"].is_string());
    let invoices = wait_for(product, &["invoices", "list"], is_booked).await?;
    let booked = invoices.iter().find(|row| row["external_id"] == "32211").context("the invoice")?;
    for (name, value) in [
        ("number", json!("4711")),
        ("series", json!("001")),
        ("issue_date", json!("2026-11-20")),
        ("total_centavos", json!(123_450)),
        ("net_centavos", json!(120_000)),
        ("currency", json!("BRL")),
        ("supplier_id", json!("900")),
        ("supplier_document", json!("11222333000181")),
    ] {
        assert_eq!(booked[name], value, "{name} of {booked:#}");
    }

    let orders = wait_for(product, &["receivables", "list"], |rows| rows.len() == 3).await?;
    let shown = |row: &Value| {
        let field = |name: &str| row[name].clone();
        [field("kind"), field("external_id"), field("amount_centavos"), field("due_date"), field("state")]
    };
    let mut shown: Vec<_> = orders.iter().map(shown).collect();
    shown.sort_by_key(|row| row[1].to_string());
    assert_eq!(
        json!(shown),
        json!([
            ["order", "0000593098", 39_500, "2026-12-01", "open"],
            ["instalment", "0000593098/1", 19_750, "2026-12-01", "paid"],
            ["instalment", "0000593098/2", 19_750, "2027-01-01", "open"],
        ])
    );

    // Each has a row that says how it stands, and none is a dead letter.
    let all = |rows: &[Value]| {
        rows.len() == 11 && rows.iter().all(|row| row["state"] != "waiting" || row["reason"].is_string())
    };
    let documents = wait_for(product, &["documents", "list"], all).await?;
    let row = |id: &str| documents.iter().find(|row| row["external_id"] == id).context(id.to_owned());
    let state = |id: &str| Ok::<_, anyhow::Error>((row(id)?["state"].clone(), row(id)?["reason"].clone()));
    assert_eq!(state("410")?, (json!("gone"), json!("answered 410 Gone")));
    assert_eq!(state("404")?, (json!("gone"), json!("answered 404 Not Found")));
    assert_eq!(state("500")?, (json!("waiting"), json!("answered 500 Internal Server Error")));
    assert_eq!(state("slow")?.0, "waiting");
    assert_eq!(state("page")?, (json!("waiting"), json!("answered 200 OK, and no JSON object")));
    let no_pdf = documents.iter().filter(|row| row["reason"] == "answered 200 OK, and no PDF");
    assert_eq!(no_pdf.map(|row| &row["state"]).collect::<Vec<_>>(), [&json!("refused")]);
    let fetched = row("32211")?;
    assert_eq!(
        (&fetched["entity"], &fetched["source"], &fetched["version"]),
        (&json!("invoice"), &json!("me"), &json!(1))
    );
    assert_eq!((&fetched["event_id"], &fetched["size"]), (&json!(named), &json!(INVOICE.len())));
    assert!(product.rows(&["dead", "list"])?.is_empty());
    let id = fetched["id"].as_str().context("an id")?;
    assert_eq!(product.run(&["documents", "open", id])?, INVOICE, "byte for byte");
    let shown: Value = serde_json::from_str(&product.run(&["documents", "show", id, "--json"])?)?;
    assert_eq!(shown["versions"].as_array().map(Vec::len), Some(1), "{shown:#}");
    let announced = product.rows(&["events", "list", "--caused-by", &named, "--topic", "invoice.fetched"])?;
    assert_eq!((announced.len(), &announced[0]["subject"]), (1, &json!("invoice/32211")));

    // The archived copy survives the sender's link.
    is_expired.store(true, Ordering::SeqCst);
    let of_person = ["prescriptions", "files", "--reveal", "--where", "document=529.982.247-25"];
    let is_archived =
        |rows: &[Value]| rows.len() == 2 && rows.iter().any(|row| row["archive_id"].is_string());
    let files = wait_for(product, &of_person, is_archived).await?;
    let file = files.iter().find(|row| row["archive_id"].is_string()).context("a file")?;
    assert_eq!((&file["file_name"], &file["event_id"]), (&json!("Receita de Maria"), &json!(renewal)));
    let output = product.folder().join("glasses.pdf");
    let name = output.to_str().context("a path")?;
    product.run(&["documents", "open", file["archive_id"].as_str().context("an id")?, "--output", name])?;
    assert_eq!(fs::read_to_string(output)?, PDF);

    // What was gone is there now: a job has it fetched.
    is_found.store(true, Ordering::SeqCst);
    let done = product.run(&["documents", "fetch", "--subject", "invoice/410", "--yes"])?;
    assert!(done.contains("1 asked for"), "{done}");
    let of_invoice = ["documents", "list", "--where", "external_id=410"];
    wait_for(product, &of_invoice, |rows| rows.iter().all(|row| row["state"] == "fetched")).await?;
    for name in product.running() {
        let log = product.output(&name);
        for secret in ["s3cr3t", "me-api-secret", "go-api-secret", "token-1", "Maria", "529982247"] {
            assert!(!log.contains(secret), "{name} logs {secret}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_events_only_name_is_fetched_and_booked_embedded() -> Result<()> {
    let api = Receiver::start()?;
    what_events_only_name_is_fetched_and_booked(&embedded(&api).await?, &api).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_events_only_name_is_fetched_and_booked_by_replicas() -> Result<()> {
    let api = Receiver::start()?;
    what_events_only_name_is_fetched_and_booked(&scaled(&api).await?, &api).await
}

/// How the API limits requests: as Mercado Eletrônico's does, with a smaller window. Once it asks for a pause, and once a window is
/// used up before its time, as by another client with the same key.
#[derive(Default)]
struct Limiter {
    /// When the window began, and how many requests of it are used.
    window: Option<(Instant, u64)>,
    /// How many requests came although the window had none left.
    beyond: usize,
    /// How many were answered.
    answered: usize,
    /// When nothing more was to come, and for how long.
    pauses: Vec<(Instant, Duration)>,
    /// How many requests came all the same.
    within_pause: usize,
}

impl Limiter {
    const WINDOW: Duration = Duration::from_secs(3);
    const REQUESTS: u64 = 6;
    const PAUSE: Duration = Duration::from_secs(4);
    /// A request that was sent before the answer that asks for a pause has arrived is here by then.
    const ON_ITS_WAY: Duration = Duration::from_millis(300);

    fn answer(&mut self) -> Reply {
        let now = Instant::now();
        let is_within =
            |(at, pause): &(Instant, Duration)| now - *at > Self::ON_ITS_WAY && now - *at < *pause;
        self.within_pause += self.pauses.iter().filter(|pause| is_within(pause)).count();
        let (began, used) = self.window.filter(|(began, _)| now - *began < Self::WINDOW).unwrap_or((now, 0));
        if used == Self::REQUESTS {
            self.beyond += 1;
            return Reply::status(429);
        }
        self.window = Some((began, used + 1));
        self.answered += 1;
        if self.answered == 9 {
            self.pauses.push((now, Self::PAUSE));
            return Reply::status(429).header("retry-after", &Self::PAUSE.as_secs().to_string());
        }
        let (mut left, mut reset) = (Self::REQUESTS - used - 1, (Self::WINDOW - (now - began)).as_secs() + 1);
        if self.answered >= 12 && used == 0 && self.pauses.len() == 1 {
            (left, reset) = (0, Self::WINDOW.as_secs());
            self.pauses.push((now, Self::WINDOW));
        }
        found(r#"{"invoiceNumber": 4711, "totalDue": 1.00}"#)
            .header("ratelimit-limit", &Self::REQUESTS.to_string())
            .header("ratelimit-remaining", &left.to_string())
            .header("ratelimit-reset", &reset.to_string())
    }
}

/// Everything is fetched in the end, no request is sent beyond a window, and none within a pause.
async fn the_limits_of_an_api_are_kept(product: &Product, limiter: &Mutex<Limiter>) -> Result<()> {
    const INVOICES: usize = 22;
    for number in 0..INVOICES {
        product.post("me", invoice(&format!("l{number}"))).await?;
    }
    let fetched = |rows: &[Value]| rows.iter().filter(|row| row["state"] == "fetched").count() == INVOICES;
    let documents = wait_for(product, &["documents", "list"], fetched).await?;
    assert!(documents.iter().all(|row| row["version"] == 1), "{documents:#?}");
    let booked = |rows: &[Value]| rows.iter().filter(|row| row["total_centavos"] == 100).count() == INVOICES;
    wait_for(product, &["invoices", "list"], booked).await?;
    let limiter = limiter.lock().expect("no answer panics");
    assert_eq!(limiter.pauses.len(), 2);
    assert_eq!(
        (limiter.beyond, limiter.within_pause),
        (0, 0),
        "requests beyond the window, within the pause"
    );
    // The one that was answered 429 came again, and none other.
    assert_eq!(limiter.answered, INVOICES + 1);
    Ok(())
}

/// An API with limits.
fn limited() -> Result<(Receiver, Arc<Mutex<Limiter>>)> {
    let (api, limiter) = (Receiver::start()?, Arc::new(Mutex::new(Limiter::default())));
    let limits = Arc::clone(&limiter);
    api.answer_with(move |request, _| match request.target.as_str() {
        "/v1/auth/tokens" => answer(request, false),
        _ if request.header("authorization") != Some("Bearer token-1") => Reply::status(401),
        _ => limits.lock().expect("no answer panics").answer(),
    });
    Ok((api, limiter))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_and_pauses_of_an_api_are_kept_embedded() -> Result<()> {
    let (api, limiter) = limited()?;
    the_limits_of_an_api_are_kept(&embedded(&api).await?, &limiter).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_and_pauses_of_an_api_are_kept_by_replicas() -> Result<()> {
    let (api, limiter) = limited()?;
    the_limits_of_an_api_are_kept(&scaled(&api).await?, &limiter).await
}

/// The replica that fetches for a source, as its log says.
fn fetching(product: &Product) -> Result<&'static str> {
    let fetches = |name: &&str| product.output(name).contains("fetches the documents of a source");
    ["documents-1", "documents-2"].into_iter().find(fetches).context("nobody fetches")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_document_is_lost_or_kept_twice_while_the_api_is_down_and_replicas_are_killed() -> Result<()> {
    const INVOICES: usize = 120;
    let api = Receiver::start()?;
    let port = api.port();
    let mut product = scaled(&api).await?;
    drop(api);
    let post = async |product: &Product, numbers: std::ops::Range<usize>| {
        for number in numbers {
            product.post("me", invoice(&format!("i{number}"))).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    // Down.
    post(&product, 0..40).await?;
    let failing = |rows: &[Value]| rows.iter().filter(|row| row["reason"].is_string()).count() >= 3;
    wait_for(&product, &["documents", "list"], failing).await?;
    // Hangs, then answers 500.
    let api = Receiver::start_at(port)?;
    api.answer(Reply::stall());
    post(&product, 40..60).await?;
    ensure!(api.wait_for(1, PATIENCE).await, "nothing is tried");
    api.answer(Reply::status(500));
    let count = api.count();
    ensure!(api.wait_for(count + 1, PATIENCE).await, "nothing is tried again");
    // Works, and the replica that fetches is killed meanwhile.
    api.answer_with(|request, _| match request.target.as_str() {
        "/v1/auth/tokens" => answer(request, false),
        _ => found(INVOICE).after(Duration::from_millis(20)),
    });
    post(&product, 60..INVOICES).await?;
    let fetched = |rows: &[Value]| rows.iter().filter(|row| row["state"] == "fetched").count();
    wait_for(&product, &["documents", "list"], |rows| fetched(rows) >= 10).await?;
    let name = fetching(&product)?;
    product.kill9(name)?;
    wait_for(&product, &["documents", "list"], |rows| fetched(rows) >= 40).await?;
    product.start(name, &["documents"]).await?;
    let of_invoices = ["documents", "list", "--where", "entity=invoice"];
    let documents = wait_for(&product, &of_invoices, |rows| fetched(rows) == INVOICES).await?;
    assert!(documents.iter().all(|row| row["version"] == 1), "{documents:#?}");
    let list = ["events", "list", "--provider", "malote", "--topic", "invoice.fetched"];
    let announced = wait_for(&product, &list, |rows| rows.len() >= INVOICES).await?;
    let subjects: BTreeSet<_> = announced.iter().map(|row| row["subject"].to_string()).collect();
    assert_eq!((announced.len(), subjects.len()), (INVOICES, INVOICES));
    let booked = |rows: &[Value]| rows.iter().filter(|row| row["number"] == "4711").count() == INVOICES;
    wait_for(&product, &["invoices", "list"], booked).await?;
    assert!(product.rows(&["dead", "list"])?.is_empty());
    Ok(())
}

/// Leases are kept by the clock of the database: by its own, that of the first replica would last for an hour after its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_clock_is_an_hour_ahead_keeps_no_source_after_its_end() -> Result<()> {
    let api = Receiver::start()?;
    api.answer_with(|request, _| answer(request, false));
    let shared = harness::Shared::from_env()?;
    let mut product = configured(&shared.fresh_vhost()?, &shared.fresh_database()?, &api)?;
    for role in ["console", "ingress", "ledger"] {
        product.start(role, &[role]).await?;
    }
    let ahead = harness::shifted_clock(product.folder(), 3_600)?;
    product.set_environment("ahead", ahead.map(|(name, value)| (name.to_owned(), value)));
    product.start("ahead", &["documents"]).await?;
    let fetched = |count: usize| {
        move |rows: &[Value]| rows.iter().filter(|row| row["state"] == "fetched").count() == count
    };
    product.post("me", invoice("32211")).await?;
    // The invoice and its supplier.
    wait_for(&product, &["documents", "list"], fetched(2)).await?;
    product.kill9("ahead")?;
    product.start("documents-1", &["documents"]).await?;
    product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    wait_for(&product, &["documents", "list"], fetched(3)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_api_nothing_is_fetched_and_everything_works_as_before() -> Result<()> {
    let product = Product::embedded().await?;
    product.post("me", invoice("32211")).await?;
    product.settled(1).await?;
    assert!(product.rows(&["documents", "list"])?.is_empty());
    let invoices = product.rows(&["invoices", "list"])?;
    assert_eq!((invoices.len(), &invoices[0]["total_centavos"]), (1, &Value::Null));
    assert!(product.run(&["documents", "list"])?.contains("No documents"));
    Ok(())
}
