//! Personal data: masked for everybody, shown on request to those who may see it, and then on record.

use super::subscribing::OURS;
use super::*;

/// An agreement, as the receivables book it.
const AGREEMENT: &str = "INSERT INTO agreements (source, external_id, client_name, document, agreed_centavos, original_centavos, \
     instalments, state, webhook_id, first_event) \
     VALUES ('rec-1', '45031', 'Maria', '52998224725', 1, 1, 1, 'active', 1, 'e')";

#[tokio::test]
async fn what_is_personal_is_masked_until_an_operator_asks_for_it_and_then_on_record() {
    let console = Console::start().await;
    let [viewer, operator] = [console.token("vera", "viewer").await, console.token("olga", "operator").await];
    let event = event("acordo.quitado", br#"{"valor": 1, "situacao": "Q", "cpf": "529.982.247-25"}"#);
    console.accept(&event).await;
    console.record().await;
    let mut tx = console.state.store.begin().await.unwrap();
    store::sql::query(AGREEMENT).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();

    let path = format!("/events/{}", event.id);
    let (_, shown) = console.call(Method::GET, &path, OURS, None).await;
    assert_eq!(shown["body"], r#"{"valor": 1, "situacao": "***", "cpf": "***"}"#);
    assert_eq!(shown["masked"], true);
    let (_, shown) = console.call(Method::GET, &format!("{path}?reveal=true"), &operator, None).await;
    assert_eq!((shown["body"].as_str().unwrap().as_bytes(), shown.get("masked")), (&event.data[..], None));

    let list = async |path: &str, token: &str| console.call(Method::GET, path, token, None).await;
    let (_, rows) = list("/agreements", &viewer).await;
    let [row] = rows["items"].as_array().unwrap().as_slice() else { panic!("{rows}") };
    assert_eq!(
        (&row["client_name"], &row["document"], &row["state"]),
        (&json!("***"), &json!("***"), &json!("active"))
    );
    assert_eq!(list("/agreements?reveal=true", &viewer).await.0, 403);
    // Nor can a viewer find out whether there is something about a person.
    assert_eq!(list("/agreements?document=52998224725", &viewer).await.0, 403);
    assert_eq!(list("/agreements?document=52998224725&format=csv", &viewer).await.0, 403);
    assert_eq!(list("/agreements?document=52998224725", &operator).await.0, 200);
    let (_, rows) = list("/agreements?state=active&reveal=true", &operator).await;
    assert_eq!(
        (&rows["items"][0]["client_name"], &rows["items"][0]["document"]),
        (&json!("Maria"), &json!("52998224725"))
    );
    // A list that says nothing of people has nothing to reveal.
    assert_eq!(list("/events?reveal=true", &operator).await.0, 400);

    let looks = console.audited().await.into_iter().filter(|(_, what, _)| what.contains("revealed"));
    let looks: Vec<_> = looks.map(|(who, what, status)| format!("{who} {what} {status}")).collect();
    assert_eq!(
        looks,
        [
            format!("olga GET /api/v1/events/{{id}} /api/v1{path} revealed 200"),
            "vera GET /api/v1/agreements /api/v1/agreements revealed 403".to_owned(),
            "olga GET /api/v1/agreements /api/v1/agreements revealed state=active 200".to_owned(),
            "olga GET /api/v1/events /api/v1/events revealed 400".to_owned(),
        ]
    );
}

#[tokio::test]
async fn who_looked_at_a_persons_data_is_answered_without_their_number() {
    let console = Console::start().await;
    let [viewer, operator] = [console.token("vera", "viewer").await, console.token("olga", "operator").await];
    let mut tx = console.state.store.begin().await.unwrap();
    store::sql::query(AGREEMENT).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let about = event(
        "acordo.quitado",
        br#"{"valor": 1, "payer": {"doc": "529.982.247-25"}, "to": "Maria@example.com"}"#,
    );
    console.accept(&about).await;
    console.record().await;
    let other = console.recorded("acordo.quitado").await;
    let ask = async |path: &str, token: &str| console.call(Method::GET, path, token, None).await.0;
    let path = format!("/events/{}", about.id);
    // What is masked shows nobody's data, nor does a refusal.
    assert_eq!(ask(&path, &viewer).await, 200);
    assert_eq!(ask("/agreements", &viewer).await, 200);
    assert_eq!(ask("/agreements?document=52998224725&reveal=true", &viewer).await, 403);
    assert_eq!(ask(&format!("/events/{other}?reveal=true"), &operator).await, 200);
    for path in [
        format!("{path}?reveal=true"),
        format!("{path}/body"),
        "/agreements?reveal=true".to_owned(),
        // That there is something about them says something, too.
        "/agreements?document=529.982.247-25".to_owned(),
    ] {
        assert_eq!(ask(&path, &operator).await, 200, "{path}");
    }
    let looks = async |person: &str| {
        let rows = console.rows(&format!("/audit?person={person}")).await;
        rows.iter().map(|row| format!("{} {}", row["who"], row["what"]).replace('"', "")).collect::<Vec<_>>()
    };
    let pseudonym = (console.state.pseudonym)("52998224725");
    let expect = [
        format!("olga /api/v1/agreements document={pseudonym}"),
        "olga /api/v1/agreements revealed".to_owned(),
        format!("olga /api/v1{path}/body"),
        format!("olga /api/v1{path} revealed"),
    ];
    for person in ["52998224725", "529.982.247-25", &pseudonym, &format!("prescription%2F{pseudonym}")] {
        assert_eq!(looks(person).await, expect, "{person}");
    }
    assert_eq!(looks("maria@example.com").await, expect[2..]);
    assert!(looks("11222333000181").await.is_empty());
    let everything = console.rows("/audit").await;
    assert!(!json!(everything).to_string().contains("52998224725"), "{everything:?}");
}

#[tokio::test]
async fn what_a_subscription_would_deliver_and_the_senders_id_are_masked_until_asked_for() {
    let console = Console::start().await;
    let event = event("acordo.quitado", br#"{"valor": 1, "situacao": "Q7", "payer": "529.982.247-25"}"#);
    let answered = with(&event, &[(header::ANSWER, "200 192.0.2.1 Q7")]);
    let exchange = console.state.layout.received(&event.source.provider);
    console.state.broker.publish(&exchange, event.topic.as_str(), answered).await.unwrap();
    console.record().await;
    let path = format!("/events/{}", event.id);
    for (query, expect) in [("", "***"), ("?reveal=true", "Q7")] {
        let (_, shown) = console.call(Method::GET, &format!("{path}{query}"), OURS, None).await;
        assert_eq!(shown["receipt"]["sender_id"], expect, "{shown}");
    }

    let topics = json!(["recuperador:acordo.quitado"]);
    for (transform, masked, shown) in [
        (
            None,
            json!({"valor": 1, "situacao": "***", "payer": "***"}),
            json!({"valor": 1, "situacao": "Q7", "payer": "529.982.247-25"}),
        ),
        (
            Some("{'a': data.payer, 'n': data.valor}"),
            json!({"a": "***", "n": 1}),
            json!({"a": "529.982.247-25", "n": 1}),
        ),
        // What cannot be done with what stands in its place.
        (Some("{'n': int(data.situacao.replace('Q', ''))}"), json!("***"), json!({"n": 7})),
    ] {
        let mut declaration =
            json!({"name": "new", "topics": topics, "push": {"url": "https://example.com/hook"}});
        if let Some(transform) = transform {
            declaration["transform"] = json!(transform);
        }
        for (query, expect) in [("", masked), ("?reveal=true", shown)] {
            let (status, outcome) = console
                .post(&format!("/subscriptions/new/test{query}"), json!({"declaration": declaration}))
                .await;
            assert_eq!(status, 200, "{outcome}");
            let delivery = &outcome["deliveries"][0];
            assert_eq!(
                (&delivery["body"], &delivery["error"]),
                (&expect, &json!(null)),
                "{transform:?} {outcome}"
            );
            assert_eq!(delivery["masked"].as_bool().unwrap_or_default(), query.is_empty());
        }
    }
}

#[tokio::test]
async fn every_type_of_domain_event_has_a_schema_that_stands_alone() {
    let console = Console::start().await;
    let types = console.rows("/schemas").await;
    assert_eq!(types.len(), console.state.schemas.len());
    assert!(types.len() > 20, "{types:#?}");
    for row in types {
        let path = row["schema"].as_str().unwrap().strip_prefix("/api/v1").unwrap();
        let response = console.get(path).await;
        assert_eq!(response.headers()["content-type"], "application/schema+json");
        let schema = json(response).await;
        assert_eq!((&schema["title"], &schema["description"]), (&row["type"], &row["meaning"]));
        let text = schema.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(schema.pointer(pointer).is_some(), "{row}: {pointer}");
        }
        // Nobody is named.
        for word in ["document", "client_name", "email", "reason", "cpf"] {
            assert!(!text.contains(&format!("\"{word}\"")), "{row}: {word}");
        }
    }
    assert_eq!(console.get("/schemas/receivable.lost").await.status(), StatusCode::NOT_FOUND);
}
