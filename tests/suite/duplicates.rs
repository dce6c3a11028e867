//! Facts that a sender sends again: unchanged, in another spelling, or corrected.

use std::fs;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::product::{Product, example};

/// The documented agreement as another serializer writes it: fields in another order, `1.0` for `1`.
fn written_otherwise(body: &str) -> Result<String> {
    let value: serde_json::Map<String, Value> = serde_json::from_str(body)?;
    let fields = value.iter().rev().map(|(name, value)| match value {
        Value::Number(number) if number.is_i64() => format!("{} : {number}.0", json!(name)),
        value => format!("{} : {value}", json!(name)),
    });
    Ok(format!("{{\n{}\n}}", fields.collect::<Vec<_>>().join(" ,\n")))
}

#[tokio::test]
async fn the_same_webhook_id_with_another_body_is_a_new_fact_and_the_later_one_holds() -> Result<()> {
    let product = Product::embedded().await?;
    let right = example("recuperador", "acordo.cadastrado");
    let broken = right.replace(r#""valor_acordo": 1380.60"#, r#""valor_acordo": "cento e vinte""#);
    assert_ne!(broken, right);
    let otherwise = written_otherwise(right)?;
    let mut ids = Vec::new();
    for body in [broken.as_str(), &broken, right, &otherwise] {
        ids.push(product.post("rec", body).await?);
    }
    let events = product.settled(4).await?;
    let outcomes: Vec<_> = events.iter().map(|event| (&event["id"], &event["state"])).collect();
    let expect = [(0, "dead"), (1, "duplicate"), (2, "handled"), (3, "duplicate")];
    let expect = expect.map(|(index, state): (usize, &str)| (json!(ids[index]), json!(state)));
    assert_eq!(outcomes, expect.each_ref().map(|(id, state)| (id, state)));
    assert_eq!((&events[1]["duplicate_of"], &events[3]["duplicate_of"]), (&json!(ids[0]), &json!(ids[2])));
    assert_eq!(product.rows(&["agreements", "list"])?[0]["agreed_centavos"], 138_060);

    product.post("rec", right.replace(r#""valor_acordo": 1380.60"#, r#""valor_acordo": 1390.60"#)).await?;
    product.settled(5).await?;
    let agreements = product.rows(&["agreements", "list"])?;
    assert_eq!((agreements.len(), &agreements[0]["agreed_centavos"]), (1, &json!(139_060)));
    Ok(())
}

#[tokio::test]
async fn the_same_notice_forty_times_at_once_has_one_effect() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let product = Product::scaled(&shared.fresh_vhost()?, &shared.fresh_database()?).await?;
    let body = example("recuperador", "acordo.cadastrado");
    let posts = (0..40).map(|_| product.post("rec", body));
    try_join_all(posts).await?;
    let events = product.settled(40).await?;
    let of_state = |state: &str| events.iter().filter(|event| event["state"] == state).collect::<Vec<_>>();
    let (handled, duplicates) = (of_state("handled"), of_state("duplicate"));
    assert_eq!((handled.len(), duplicates.len()), (1, 39), "{events:#?}");
    assert!(duplicates.iter().all(|event| event["duplicate_of"] == handled[0]["id"]), "{events:#?}");
    assert_eq!(product.rows(&["receivables", "list"])?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn rejected_copies_of_a_fact_that_came_again_are_its_duplicates_when_they_are_retried() -> Result<()> {
    let extra = "[[providers]]\nname = \"erp\"\ntopic = { pointer = \"/wrong\" }\n\
                 [[sources]]\nname = \"erp\"\nprovider = \"erp\"\nauth = \"none\"\n\
                 duplicates = { header = \"x-request-id\", window_s = 86400 }\n";
    let mut product = Product::configured("embedded", "sqlite", extra)?;
    let (client, _) = product.target("go");
    let post = async |ingress: &str| {
        let request = client.post(format!("{ingress}/webhooks/erp")).header("x-request-id", "r-1");
        let answer = request.header("content-type", "application/json").body(r#"{"event": "paid"}"#);
        anyhow::Ok(answer.send().await?.status().as_u16())
    };
    product.start("up", &["up"]).await?;
    for _ in 0..2 {
        assert_eq!(post(&product.ingress).await?, 400);
    }
    product.terminate("up").await?;
    let file = product.folder().join("malote.toml");
    fs::write(&file, fs::read_to_string(&file)?.replace("/wrong", "/event"))?;
    product.start("up", &["up"]).await?;
    assert_eq!(post(&product.ingress).await?, 200);
    product.settled(1).await?;
    product.run(&["rejected", "retry", "--everything"])?;
    let events = product.settled(3).await?;
    let duplicates: Vec<_> = events.iter().filter(|event| event["state"] == "duplicate").collect();
    let first = events.iter().find(|event| event["state"] != "duplicate").context("a first")?;
    assert_eq!(duplicates.len(), 2, "{events:#?}");
    assert!(duplicates.iter().all(|event| event["duplicate_of"] == first["id"]), "{events:#?}");
    Ok(())
}
