//! Push subscriptions through the API: their secrets, their attempts, and what is sent again.

use store::many::{Value as Stored, fetch};
use subscriptions::SigningSecret;

use super::subscribing::OURS;
use super::*;

fn crm(secrets: Value) -> Value {
    json!({
        "declaration": {
            "name": "crm", "topics": ["recuperador:#"],
            "push": {"url": "https://crm.example/hooks", "headers": ["x-api-key"], "auth": {"bearer": {}}},
        },
        "secrets": secrets,
    })
}

/// A subscription without secrets but the one that is made.
fn plain(name: &str) -> Value {
    json!({"declaration": {"name": name, "topics": ["recuperador:#"], "push": {"url": "https://crm.example/hooks"}}})
}

impl Console {
    async fn fetch(&self, text: &str, values: Vec<Stored>) -> Vec<store::AnyRow> {
        let mut tx = self.state.store.begin().await.unwrap();
        let rows = fetch(&mut tx, text.to_owned(), values).await.unwrap();
        tx.commit().await.unwrap();
        rows
    }

    async fn id_of(&self, name: &str) -> EventId {
        let name = event::SubscriptionName::new(name).unwrap();
        subscriptions::get(&self.state.store, &name).await.unwrap().unwrap().id
    }

    /// An attempt as the engine records it, so many seconds after 1970.
    async fn attempted(&self, subscription: &str, event: &str, attempt: i64, at_s: i64, status: Option<i64>) {
        let error = status.is_none_or(|status| status != 200).then(|| "no".to_owned());
        let values = vec![
            self.id_of(subscription).await.into(),
            (at_s * 1_000_000).into(),
            event.parse::<EventId>().unwrap().into(),
            attempt.into(),
            7.into(),
            status.into(),
            error.into(),
            Stored::from("<answer>"),
        ];
        let text = "INSERT INTO delivery_attempts (subscription, at, event_id, attempt, duration_ms, status, error, answer) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        self.fetch(text, values).await;
    }

    /// So many events that no attempt is left for.
    pub(super) async fn many_undelivered(&self, subscription: &str, count: i64) {
        let values = vec![self.id_of(subscription).await.into(), event::now().into(), count.into()];
        let text = "INSERT INTO deliveries (subscription, event_id, received_at, attempts, steps) \
                    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < $3) \
                    SELECT $1, randomblob(16), $2, 8, 8 FROM n";
        self.fetch(text, values).await;
    }

    pub(super) async fn undelivered(&self, subscription: &str, event: &str, attempts: i64) {
        let values = vec![
            self.id_of(subscription).await.into(),
            event.parse::<EventId>().unwrap().into(),
            event::now().into(),
            attempts.into(),
        ];
        let text = "INSERT INTO deliveries (subscription, event_id, received_at, attempts, steps) VALUES ($1, $2, $3, $4, 8)";
        self.fetch(text, values).await;
    }
}

#[tokio::test]
async fn the_secrets_of_a_push_subscription_are_shown_once_if_they_were_made_and_kept_encrypted() {
    let console = Console::start().await;
    let own = SigningSecret::generate().expose().to_owned();
    let given = json!({"signing": own, "headers": {"x-api-key": "hunter2"}, "auth": "hunter3"});
    let (status, added) = console.post("/subscriptions", crm(given.clone())).await;
    assert_eq!((status, &added["door"]), (201, &json!("push")), "{added}");
    assert!(added.get("secret").is_none() && added.get("token").is_none(), "{added}");
    let (_, made) = console.post("/subscriptions", plain("other")).await;
    let secret = made["secret"].as_str().unwrap();
    secret.parse::<SigningSecret>().unwrap();
    let mut shown = String::new();
    for path in ["/subscriptions", "/subscriptions/crm", "/subscriptions/other"] {
        shown += &console.call(Method::GET, path, OURS, None).await.1.to_string();
    }
    for row in console.fetch("SELECT declaration, sealed FROM subscriptions", vec![]).await {
        shown += &store::Row::get::<String, _>(&row, 0);
        shown += &String::from_utf8_lossy(&store::Row::get::<Vec<u8>, _>(&row, 1));
    }
    for secret in [own.as_str(), secret, "hunter2", "hunter3", "whsec_"] {
        assert!(!shown.contains(secret), "{secret} is shown: {shown}");
    }

    let declaration = &crm(json!({}))["declaration"];
    let put = async |secrets: Value, dry_run: bool| {
        let body = json!({"declaration": declaration, "secrets": secrets, "dry_run": dry_run});
        let (status, edited) = console.call(Method::PUT, "/subscriptions/crm", OURS, Some(body)).await;
        assert_eq!(status, 200, "{edited}");
        edited["secrets_changed"].clone()
    };
    assert_eq!(put(given, false).await, json!([]));
    let other = json!({"headers": {"x-api-key": "hunter4"}});
    for dry_run in [true, true, false] {
        assert_eq!(put(other.clone(), dry_run).await, json!(["headers.x-api-key"]));
    }
    assert_eq!(put(other, false).await, json!([]));
    let (_, rotated) = console.post("/subscriptions/crm/rotate-secret", json!({})).await;
    assert_eq!(put(json!({"signing": rotated["secret"]}), true).await, json!([]));
    assert_eq!(put(json!({"signing": own}), true).await, json!(["signing"]));
    let (status, problem) =
        console.post("/subscriptions/crm/rotate-secret", json!({"keep_s": 9_999_999})).await;
    assert_eq!(
        (status, problem["detail"].as_str().unwrap().starts_with("keep_s: expected at most")),
        (400, true)
    );
}

#[tokio::test]
async fn edits_at_the_same_time_lose_no_secret_and_one_of_an_old_version_is_refused() {
    let console = Console::start().await;
    let names = ["x-0", "x-1", "x-2"];
    let mut new = plain("crm");
    new["declaration"]["push"]["headers"] = json!(names);
    new["secrets"] = json!({"headers": {"x-0": "old", "x-1": "old", "x-2": "old"}});
    assert_eq!(console.post("/subscriptions", new.clone()).await.0, 201);
    let put = async |secrets: Value, version: Option<i64>, dry_run: bool| {
        let body = json!({
            "declaration": new["declaration"], "secrets": secrets, "version": version, "dry_run": dry_run,
        });
        console.call(Method::PUT, "/subscriptions/crm", OURS, Some(body)).await
    };
    let header = |name: &str| put(json!({"headers": {name: "new"}}), None, false);
    let rotate = console.post("/subscriptions/crm/rotate-secret", json!({}));
    let (first, rotated, second, third) =
        tokio::join!(header(names[0]), rotate, header(names[1]), header(names[2]));
    for (name, (status, edited)) in names.iter().zip([first, second, third]) {
        assert_eq!((status, &edited["secrets_changed"]), (200, &json!([format!("headers.{name}")])));
    }
    let all = json!({"signing": rotated.1["secret"], "headers": {"x-0": "new", "x-1": "new", "x-2": "new"}});
    let (_, same) = put(all.clone(), None, true).await;
    assert_eq!(same["secrets_changed"], json!([]), "all are what they were set to");

    let version = console.call(Method::GET, "/subscriptions/crm", OURS, None).await.1["version"].as_i64();
    assert_eq!(put(all.clone(), version, false).await.0, 200);
    let (status, problem) = put(all, version, false).await;
    assert_eq!((status, &problem["type"]), (409, &json!("/problems/subscription")));
    assert!(
        problem["detail"].as_str().unwrap().starts_with("The subscription crm was changed by somebody else"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_request_before_the_tables_exist_is_to_be_repeated() {
    let mut console = Console::start().await;
    console.fetch("DROP TABLE subscriptions", vec![]).await;
    assert_eq!(console.get("/subscriptions").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    console.state.migrated = CancellationToken::new();
    console.router = router(console.state.clone());
    let response = console.get("/subscriptions").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(http::header::RETRY_AFTER));
    assert!(json(response).await["detail"].as_str().unwrap().contains("are being prepared"));
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_sent_to_is_refused_with_its_field_and_no_secret() {
    let console = Console::start().await;
    let check = async |change: &dyn Fn(&mut Value), expect: &str| {
        let mut body = crm(json!({"headers": {"x-api-key": "hunter2"}, "auth": "hunter3"}));
        change(&mut body);
        let (status, problem) = console.post("/subscriptions", body).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(
            status == 400 && detail.starts_with(expect) && !detail.contains("hunter"),
            "{expect}: {problem}"
        );
    };
    let push = |field: &'static str, value: Value| {
        move |body: &mut Value| body["declaration"]["push"][field] = value.clone()
    };
    check(&push("url", json!("http://127.0.0.1:9/hooks")), "push.url: ").await;
    check(&push("url", json!("ftp://crm.example")), "push.url: ").await;
    let oauth2 = |url: &str| json!({"oauth2": {"token_url": url, "client_id": "malote"}});
    check(&push("auth", oauth2("http://127.0.0.1:9/token")), "push.auth.oauth2.token_url: ").await;
    check(&push("auth", oauth2("no address")), "push.auth.oauth2.token_url: ").await;
    check(&push("concurrency", json!(0)), "push.concurrency: expected 1 to 256").await;
    check(&push("headers", json!(["webhook-id"])), "push.headers: ").await;
    check(
        &push("headers", json!(["x-api-key", "x-other"])),
        "secrets.headers: the value of x-other is missing",
    )
    .await;
    check(&push("auth", json!(null)), "secrets.auth: push.auth is missing").await;
    check(
        &|body| body["secrets"]["signing"] = json!("hunter4"),
        "secrets.signing: a signing secret begins with whsec_",
    )
    .await;
    check(&|body| body["secrets"]["auth"] = json!(null), "secrets.auth: the password, the token").await;
    check(&|body| body["declaration"]["transform"] = json!("data."), "transform: line 1").await;
    let mut pull = json!({"declaration": {"name": "b", "topics": ["recuperador:#"], "pull": {}}, "secrets": {"auth": "x"}});
    assert_eq!(console.post("/subscriptions", pull.clone()).await.0, 400);
    pull["secrets"] = json!({});
    assert_eq!(console.post("/subscriptions", pull).await.0, 201);
}

/// An edit through the API names the whole authentication: without its secret, that of the former one would be sent there.
#[tokio::test]
async fn the_secret_of_an_authentication_does_not_follow_into_another() {
    let console = Console::start().await;
    let new = crm(json!({"headers": {"x-api-key": "hunter2"}, "auth": "hunter3"}));
    assert_eq!(console.post("/subscriptions", new.clone()).await.0, 201);
    let mut declaration = new["declaration"].clone();
    declaration["push"]["auth"] =
        json!({"oauth2": {"token_url": "https://elsewhere.example/token", "client_id": "malote"}});
    let put = async |secrets: Value, dry_run: bool| {
        let body = json!({"declaration": declaration, "secrets": secrets, "dry_run": dry_run});
        console.call(Method::PUT, "/subscriptions/crm", OURS, Some(body)).await
    };
    for dry_run in [true, false] {
        let (status, problem) = put(json!({}), dry_run).await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            status == 400 && detail.starts_with("secrets.auth: push.auth is of another kind"),
            "{detail}"
        );
    }
    let (status, edited) = put(json!({"auth": "other"}), false).await;
    assert_eq!((status, &edited["secrets_changed"]), (200, &json!(["auth"])));
}

#[tokio::test]
async fn attempts_are_listed_newest_first_and_a_page_ends_where_the_next_begins() {
    let console = Console::start().await;
    let events = [console.recorded("acordo.quitado").await, console.recorded("boleto.pago").await];
    for name in ["crm", "other"] {
        console.post("/subscriptions", plain(name)).await;
        // At one time: a batch.
        console.attempted(name, &events[0], 1, 10, Some(503)).await;
        console.attempted(name, &events[1], 1, 10, None).await;
        console.attempted(name, &events[0], 2, 20, Some(200)).await;
    }
    let all = console.rows("/attempts").await;
    let key = |row: &Value| (row["at"].to_string(), row["id"].to_string(), row["subscription"].to_string());
    assert!(all.len() == 6 && all.is_sorted_by(|a, b| key(a) > key(b)), "{all:?}");
    assert_eq!(
        all[1],
        json!({
            "id": events[0], "subscription": "crm", "attempt": 2, "at": "1970-01-01T00:00:20Z", "duration_ms": 7,
            "status": 200, "error": null,
        })
    );
    for limit in [1, 2, 5] {
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = json(console.get(&format!("/attempts?limit={limit}{cursor}")).await).await;
            paged.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(paged, all, "{limit} at a time");
    }
    assert_eq!(console.rows("/attempts?subscription=crm&to=1970-01-01T00:00:20Z").await.len(), 2);
    assert_eq!(console.rows(&format!("/attempts?id={}&from=1970-01-01T00:00:20Z", events[0])).await.len(), 2);
    let (status, problem) = console.call(Method::GET, "/attempts?subscription=cmr", OURS, None).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("known: crm, other"), "{problem}");
    let path = format!("/attempts/{}", events[0]);
    let masked = console.rows(&path).await;
    assert_eq!((&masked[0]["answer"], &masked[0]["masked"]), (&json!(null), &json!(true)), "it is no JSON");
    let shown = console.rows(&format!("{path}?reveal=true")).await;
    assert_eq!((shown.len(), &shown[0]["answer"], &shown[0]["status"]), (4, &json!("<answer>"), &json!(503)));
    assert_eq!(
        console.get(&format!("/attempts/{}", EventId::generate())).await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn what_is_undelivered_and_what_was_sent_in_a_period_are_sent_again_once() {
    let console = Console::start().await;
    let (taken, refused) = (console.recorded("acordo.quitado").await, console.recorded("boleto.pago").await);
    console.post("/subscriptions", plain("crm")).await;
    let now_s = event::now().as_second();
    console.attempted("crm", &taken, 1, now_s, Some(200)).await;
    console.attempted("crm", &refused, 9, now_s, Some(503)).await;
    console.undelivered("crm", &refused, 9).await;

    let undelivered = console.rows("/undelivered?subscription=crm").await;
    assert_eq!(undelivered.len(), 1);
    assert_eq!(
        ["id", "subscription", "topic", "attempts", "status", "error"]
            .map(|name| undelivered[0][name].clone()),
        [json!(refused), json!("crm"), json!("boleto.pago"), json!(9), json!(503), json!("no")]
    );
    assert_eq!(console.rows("/subscriptions").await[0]["undelivered"], 1);
    let sent = async |query: &str| {
        let rows = console.rows(&format!("/attempts/report{query}")).await;
        rows.iter()
            .map(|row| (row["id"].as_str().unwrap().to_owned(), row["sent"] == true))
            .collect::<Vec<_>>()
    };
    assert_eq!(sent("").await, [(refused.clone(), false), (taken.clone(), true)]);
    assert_eq!(sent("?sent=true&subscription=crm").await, [(taken.clone(), true)]);
    assert_eq!(sent("?sent=false&from=2020-01-01T00:00:00Z").await, [(refused.clone(), false)]);
    assert_eq!(sent("?to=2020-01-01T00:00:00Z").await, []);

    let retry = async |body: Value| console.post("/attempts/retry", body).await;
    let mut asked = json!({"subscription": "crm", "dry_run": true});
    assert_eq!(retry(asked.clone()).await, (200, json!({"total": 1})));
    assert_eq!(console.rows("/undelivered").await.len(), 1, "it was only counted");
    asked["again"] = json!(true);
    let (status, problem) = retry(asked.clone()).await;
    assert_eq!((status, problem["detail"].as_str().unwrap().starts_with("from: is missing")), (400, true));
    asked["from"] = json!("2020-01-01T00:00:00Z");
    assert_eq!(retry(asked.clone()).await, (200, json!({"total": 2})));
    let version = async || {
        let name = event::SubscriptionName::new("crm").unwrap();
        subscriptions::get(&console.state.store, &name).await.unwrap().unwrap().version
    };
    let before = version().await;
    asked["dry_run"] = json!(false);
    assert_eq!(retry(asked.clone()).await, (200, json!({"total": 2})));
    assert!(version().await > before, "the engine would not notice");
    assert!(console.rows("/undelivered").await.is_empty());
    let rows = console
        .fetch("SELECT event_id, attempts, steps, due_at FROM deliveries ORDER BY attempts", vec![])
        .await;
    let waiting = |row: &store::AnyRow| {
        let due: Option<i64> = store::Row::get(row, "due_at");
        (
            store::id(row, "event_id").unwrap().to_string(),
            store::Row::get::<i64, _>(row, "attempts"),
            due.is_some(),
        )
    };
    assert_eq!(
        rows.iter().map(waiting).collect::<Vec<_>>(),
        [(taken.clone(), 1, true), (refused.clone(), 9, true)]
    );
    // They are due already.
    assert_eq!(retry(asked).await, (200, json!({"total": 0})));
    let one = json!({"subscription": "crm", "id": EventId::generate()});
    assert_eq!(retry(one).await, (200, json!({"total": 0})));
    assert_eq!(retry(json!({"subscription": "cmr"})).await.0, 404);
}

#[tokio::test]
async fn undelivered_events_are_discarded_with_a_reason_that_the_audit_has() {
    let console = Console::start().await;
    let refused = console.recorded("boleto.pago").await;
    console.post("/subscriptions", plain("crm")).await;
    console.attempted("crm", &refused, 9, event::now().as_second(), Some(404)).await;
    console.undelivered("crm", &refused, 9).await;
    let discard = async |change: Value| {
        let mut body = json!({"subscription": "crm", "reason": "it is an old test"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        console.post("/undelivered/discard", body).await
    };
    for (change, expect) in [
        (json!({"reason": " "}), "reason: is missing"),
        (json!({"reason": "x".repeat(201)}), "reason: expected at most 200"),
        (json!({"form": "2026-11-22T12:00:00Z"}), "form: unknown field"),
    ] {
        let (status, problem) = discard(change).await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(status == 400 && detail.starts_with(expect), "{expect}: {detail}");
    }
    assert_eq!(discard(json!({"subscription": "cmr"})).await.0, 404);
    let dry = json!({"dry_run": true, "status": 404, "reason": ""});
    assert_eq!(discard(dry).await, (200, json!({"total": 1})), "counting needs no reason");
    assert_eq!(discard(json!({"status": 503})).await, (200, json!({"total": 0})));
    assert_eq!(console.rows("/undelivered?error=no&topic=boleto.pago").await.len(), 1);
    assert_eq!(console.rows("/attempts?status=404").await.len(), 1);
    assert!(console.rows("/attempts?status=503").await.is_empty());
    assert_eq!(discard(json!({"id": refused})).await, (200, json!({"total": 1})));
    assert!(console.rows("/undelivered").await.is_empty());
    assert_eq!(console.rows("/attempts").await.len(), 1, "attempts stay");
    let shown = console.call(Method::GET, &format!("/events/{refused}"), OURS, None).await.1;
    let taker = &shown["subscriptions"][0];
    assert_eq!(
        [&taker["subscription"], &taker["state"], &taker["attempts"], &taker["error"]],
        [&json!("crm"), &json!("discarded"), &json!(1), &json!("no")]
    );
    let audit = console.rows("/audit?action=POST+/api/v1/undelivered/discard").await;
    assert_eq!(audit[0]["what"], "/api/v1/undelivered/discard crm 1: it is an old test");
}

/// What it held can be seen before anybody is asked, and what is between is shown while it is delivered.
#[tokio::test]
async fn a_history_that_is_being_delivered_is_shown() {
    let console = Console::start().await;
    console.recorded("acordo.quitado").await;
    console.post("/subscriptions", plain("crm")).await;
    let shown = async || console.call(Method::GET, "/subscriptions/crm", OURS, None).await.1;
    assert_eq!(shown().await["backfill"], Value::Null);
    let (status, row) =
        console.post("/subscriptions/crm/seek", json!({"to": "beginning", "rate_per_s": 7})).await;
    assert_eq!(status, 200, "{row}");
    let backfill = &shown().await["backfill"];
    assert_eq!((&backfill["rate_per_s"], &backfill["until"]), (&json!(7), &row["position"]));
}
