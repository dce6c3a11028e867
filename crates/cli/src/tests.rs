//! A domain needs one line in the registry: the toy domain of `domains/toy.rs`, from a webhook to its rows. And what is personal
//! is declared.

use std::time::{Duration, Instant};

use providers::Provider;
use serde_json::{Value, json};
use view::Form;

use crate::client::api::Api;
use crate::commands::topology;
use crate::config::load_parts;
use crate::parser;
use crate::registry;
use crate::roles::telemetry::Telemetry;
use crate::roles::{Roles, Running};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_in_the_registry_is_bound_migrated_consumed_listed_and_has_its_commands() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
data.dir = {:?}
ingress.listen = "127.0.0.1:0"
console.listen = "127.0.0.1:0"
operations.listen = "127.0.0.1:0"
[[sources]]
name = "me"
provider = "mercado-eletronico"
auth = "none"
"#,
        folder.path()
    );
    let config = load_parts("", &text, []).unwrap().0;
    let running = Running::start(&config, Roles::all(), &Telemetry::none()).await.unwrap();
    let webhooks = format!("http://{}/webhooks/me", running.ingress.unwrap());
    for body in [
        r#"{"topic": "toy.made", "toy": "car"}"#,
        r#"{"topic": "toy.made"}"#,
        r#"{"topic": "toy.made", "toy": "car"}"#,
    ] {
        let request = reqwest::Client::new().post(&webhooks).header("content-type", "application/json");
        assert_eq!(request.body(body).send().await.unwrap().status(), 200);
    }

    let api = format!("http://{}", running.console.unwrap());
    let api = Api::at(&api, running.token.clone().unwrap()).unwrap();
    let started = Instant::now();
    let mut states = Vec::new();
    while states != [json!("dead"), json!("handled"), json!("handled")] {
        assert!(started.elapsed() < Duration::from_secs(30), "{states:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let events = api.list::<Value>("events", &[], u32::MAX).await.unwrap();
        let posted = events.iter().filter(|event| event["provider"] != "malote");
        states = posted.map(|event| event["consumers"]["toys"].clone()).collect();
        states.sort_by_key(Value::to_string);
    }
    let dead = api.list::<Value>("dead", &[], u32::MAX).await.unwrap();
    assert_eq!((&dead[0]["consumer"], &dead[0]["error"]), (&json!("toys"), &json!("toy: missing")));
    let queues: Value = api.get("queues", &[]).await.unwrap();
    assert!(queues.to_string().contains("counts toys"), "{queues}");
    let own = [("provider".to_owned(), "malote".to_owned())];
    let announced = loop {
        assert!(started.elapsed() < Duration::from_secs(30), "nothing is announced");
        match api.list::<Value>("events", &own, 10).await.unwrap().as_slice() {
            [] => tokio::time::sleep(Duration::from_millis(20)).await,
            announced => break announced.to_vec(),
        }
    };
    let of_event = |name: &str| announced.iter().map(|event| event[name].clone()).collect::<Vec<_>>();
    assert_eq!((of_event("source"), of_event("topic")), (vec![json!("toys")], vec![json!("toy.made")]));
    assert_eq!(of_event("subject"), [json!("toy/car")]);
    let schema: Value = api.get("schemas/toy.made", &[]).await.unwrap();
    assert_eq!(schema["properties"]["name"]["type"], "string");
    let car = [("name".to_owned(), "car".to_owned())];
    assert_eq!(api.list::<Value>("toys", &car, 10).await.unwrap(), [json!({"name": "car", "made": 2})]);
    let error = api.get::<Value>("toys", &[("colour".to_owned(), "red".to_owned())]).await.unwrap_err();
    assert!(error.to_string().contains("expected one of name, limit, cursor"), "{error}");
    let document: Value = api.get("openapi.json", &[]).await.unwrap();
    assert_eq!(document["paths"]["/api/v1/toys"]["get"]["summary"], "Toys that were made.");
    running.stop().await;

    let reference = topology::reference(&config);
    assert!(reference.contains("| `toys` | counts toys |"), "{reference}");
    for command in [&["consume", "toys"][..], &["toys", "list", "--where", "name=car"]] {
        parser::tree().try_get_matches_from([&["malote"], command].concat()).unwrap();
    }
}

#[test]
fn masked_bodies_and_rows_show_nobody() {
    for provider in Provider::builtin() {
        let fields: Vec<&str> = provider.personal().iter().map(String::as_str).collect();
        for example in provider.topics().iter().filter_map(|topic| topic.example) {
            let masked = view::mask_body(example, &fields).unwrap_or_default();
            for part in
                ["Maria", "529.982", "99999999999", "123421341234", "@", "123423434", "-0.75", "document.pdf"]
            {
                assert!(!masked.contains(part), "{}: {part} in {masked}", provider.name());
            }
        }
    }
    for view in registry::views() {
        let table = view.table(&[]).unwrap();
        let has_documents = table.columns.iter().any(|(_, form)| *form == Form::TaxId);
        assert!(!has_documents || !view.personal().is_empty(), "{} declares nothing as personal", view.name);
    }
}
