//! The main job: a provider's POST becomes a booked fact, the same on either deployment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use providers::Provider;
use serde_json::{Value, json};

use crate::product::{PATIENCE, Product, example};

/// Source name and provider, in the order they are posted.
const SOURCES: [(&str, &str); 4] = [
    ("me", "mercado-eletronico"),
    ("go", "gestao-online"),
    ("rec", "recuperador"),
    ("visao", "beneficio-visao"),
];

/// Posts every documented body once, in an order that opens before it closes, and waits until all is settled.
async fn post_every_example(product: &Product) -> Result<BTreeMap<String, Value>> {
    let mut posted = 0;
    for (source, provider) in SOURCES {
        let provider = Provider::named(provider).expect("built in");
        let mut bodies: Vec<_> =
            provider.topics().iter().filter_map(|topic| Some((topic.name, topic.example?))).collect();
        // An order is canceled by what comes last, and settled by it.
        bodies.sort_by_key(|(topic, _)| match *topic {
            "ORDER_CANCEL" => 0,
            "FINANCIAL_PAYMENT_DISCHARGE" => 2,
            _ => 1,
        });
        for (_, body) in bodies {
            product.post(source, body).await?;
            posted += 1;
        }
    }
    product.settled(posted).await?;
    books(product)
}

/// Every list of what holds now, without what differs from run to run. A history has a row for each event, and not for each state.
fn books(product: &Product) -> Result<BTreeMap<String, Value>> {
    let mut books = BTreeMap::new();
    let views = domains::ALL.iter().flat_map(|domain| domain.views);
    for view in views.filter(|view| !view.name.ends_with("/history")) {
        let list = view.name;
        // A list beside another one has no further word: `prescriptions files`.
        let mut words: Vec<&str> = match list.split_once('/') {
            Some((beside, name)) => vec![beside, name],
            None => vec![list, "list"],
        };
        words.extend((!view.personal().is_empty()).then_some("--reveal"));
        let mut rows = product.rows(&words)?;
        for row in &mut rows {
            let row = row.as_object_mut().expect("a row is an object");
            row.retain(|name, _| !name.ends_with("_at") && !name.ends_with("event_id"));
        }
        rows.sort_by_key(|row| (row["external_id"].to_string(), row.to_string()));
        books.insert(list.to_owned(), rows.into());
    }
    Ok(books)
}

fn has(row: &Value, expect: &Value) -> bool {
    expect.as_object().expect("an object").iter().all(|(name, value)| row[name] == *value)
}

#[track_caller]
fn assert_row(rows: &Value, expect: Value) {
    let rows = rows.as_array().expect("rows");
    assert!(rows.iter().any(|row| has(row, &expect)), "no row like {expect}\nin {rows:#?}");
}

fn assert_books(books: &BTreeMap<String, Value>) {
    for (parcela, paid) in [("910001", "2026-10-14"), ("910002", "2026-11-13"), ("910003", "2026-12-15")] {
        assert_row(
            &books["receivables"],
            json!({"source": "rec", "external_id": parcela, "kind": "instalment", "agreement_id": "45031",
                   "amount_centavos": 46020, "paid_date": paid, "state": "paid"}),
        );
    }
    assert_row(
        &books["receivables"],
        json!({"source": "go", "external_id": "0000593098", "kind": "order", "agreement_id": null, "state": "paid"}),
    );
    assert_row(
        &books["agreements"],
        json!({"source": "rec", "external_id": "45031", "client_name": "Maria Aparecida de Souza",
               "document": "52998224725", "agreed_centavos": 138060, "original_centavos": 150000,
               "instalments": 3, "state": "settled"}),
    );
    assert_row(
        &books["invoices"],
        json!({"source": "me", "external_id": "32211", "status": "103", "previous_status": "101", "attachments": []}),
    );
    assert_row(&books["invoices"], json!({"external_id": "851233", "credit_memo_requested": true}));
    assert_row(
        &books["purchasing"],
        json!({"source": "me", "kind": "order", "external_id": "123", "status": "canceled", "supplier_id": "789"}),
    );
    assert_row(
        &books["purchasing"],
        json!({"kind": "contract", "external_id": "32211", "status": "103", "previous_status": "101",
               "total_centavos": null, "currency": null}),
    );
    let prescription = &books["prescriptions"][0];
    assert!(
        has(prescription, &json!({"document": "99999999999", "state": "renewed", "reason": null})),
        "{prescription}"
    );
    assert_eq!(prescription["files"].as_array().map(Vec::len), Some(2), "{prescription}");
    assert_eq!(prescription["right"]["spherical"].to_string(), "-0.75");
}

#[tokio::test]
async fn every_documented_body_is_booked_embedded() -> Result<()> {
    let product = Product::embedded().await?;
    assert_books(&post_every_example(&product).await?);
    // What no queue is bound to is kept, and marked a moment later.
    let started = Instant::now();
    loop {
        let unrouted = product.rows(&["unrouted", "list"])?;
        if unrouted.iter().any(|event| event["topic"] == ::tests::UNROUTED) {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "{unrouted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn two_replicas_of_each_consumer_give_the_same_rows() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let scaled = Product::scaled(&shared.fresh_vhost()?, &shared.fresh_database()?).await?;
    let books = post_every_example(&scaled).await?;
    assert_books(&books);
    let embedded = Product::embedded().await?;
    assert_eq!(books, post_every_example(&embedded).await?);
    Ok(())
}

#[tokio::test]
async fn a_cancellation_that_comes_before_the_agreement_it_cancels_stands() -> Result<()> {
    let product = Product::embedded().await?;
    product.post("rec", example("recuperador", "acordo.cancelado")).await?;
    product.settled(1).await?;
    product.post("rec", example("recuperador", "acordo.cadastrado")).await?;
    product.settled(2).await?;
    let books = books(&product)?;
    assert_row(&books["agreements"], json!({"external_id": "45031", "state": "canceled"}));
    assert_row(&books["receivables"], json!({"external_id": "910001", "state": "paid"}));
    assert_row(&books["receivables"], json!({"external_id": "910002", "state": "canceled"}));
    Ok(())
}

#[tokio::test]
async fn what_is_posted_five_times_is_five_events_and_one_state() -> Result<()> {
    let product = Product::embedded().await?;
    let bodies = [
        ("rec", example("recuperador", "acordo.cadastrado")),
        ("go", example("gestao-online", "ORDER_CREATED")),
        ("me", example("mercado-eletronico", "invoice.attachment.created")),
        ("visao", example("beneficio-visao", "renewed")),
    ];
    for (source, body) in bodies {
        product.post(source, body).await?;
    }
    product.settled(4).await?;
    let once = books(&product)?;
    for _ in 0..4 {
        for (source, body) in bodies {
            product.post(source, body).await?;
        }
    }
    let events = product.settled(20).await?;
    // Recuperador tells its facts apart; the bodies of the others may be new facts.
    let of_rec: Vec<_> = events.iter().filter(|event| event["source"] == "rec").collect();
    assert_eq!(of_rec[0]["state"], "handled");
    for duplicate in &of_rec[1..] {
        assert_eq!(
            (&duplicate["state"], &duplicate["duplicate_of"]),
            (&json!("duplicate"), &of_rec[0]["id"])
        );
    }
    let mut others = events.iter().filter(|event| event["source"] != "rec");
    assert!(others.all(|event| event["state"] == "handled"), "{events:#?}");
    assert_eq!(books(&product)?, once);
    assert_eq!(once["receivables"].as_array().map(Vec::len), Some(4));
    Ok(())
}

#[tokio::test]
async fn a_body_that_breaks_the_contract_becomes_a_dead_letter_that_names_the_place() -> Result<()> {
    let product = Product::embedded().await?;
    let broken = example("recuperador", "acordo.cadastrado").replace(
        r#""id": 910003, "datavencto": "2026-12-15", "datapagto": null, "valor": 460.20"#,
        r#""id": 910003, "datavencto": "2026-12-15", "datapagto": null, "valor": "abc""#,
    );
    let id = product.post("rec", broken).await?;
    let events = product.settled(1).await?;
    assert_eq!(events[0]["state"], "dead");
    let dead = product.rows(&["dead", "list"])?;
    assert!(
        has(
            &dead[0],
            &json!({"id": id, "consumer": "receivables", "attempts": 1,
                    "error": "lista_parcelas[2].valor: expected a decimal, got a text of 3 characters"})
        ),
        "{dead:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_demo_ends_with_the_books_right() -> Result<()> {
    let _one = crate::product::DEMO.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let output = std::process::Command::new(harness::malote_binary()?)
        .current_dir(folder.path())
        .args(["demo", "--once"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for expect in ["460.20", "open", "paid", "103", "101", "renewed", "0000593098"] {
        assert!(text.contains(expect), "{expect} is missing in\n{text}");
    }
    Ok(())
}
