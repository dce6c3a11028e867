//! Roles and the audit: what a token opens, and what is written down.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use server::Peer;

use super::subscribing::OURS;
use super::*;

/// What a viewer does not see although nothing is changed by it.
const NOT_FOR_VIEWERS: [&str; 8] = [
    "GET /api/v1/audit",
    "GET /api/v1/documents/{id}/body",
    "GET /api/v1/events/{id}/body",
    "GET /api/v1/feed",
    "GET /api/v1/subscriptions/{name}/events",
    "GET /api/v1/tokens",
    "GET /api/v1/tokens/{name}",
    "GET /api/v1/users",
];

/// What an operator may besides what a viewer may: bodies, and this.
const OPERATIONS: [&str; 12] = [
    "POST /api/v1/dead/groups/{group}/note",
    "POST /api/v1/dead/{id}/{consumer}/edit",
    "POST /api/v1/attempts/retry",
    "POST /api/v1/jobs",
    "POST /api/v1/jobs/{id}/cancel",
    "POST /api/v1/jobs/{id}/pause",
    "POST /api/v1/jobs/{id}/resume",
    "POST /api/v1/subscriptions/{name}/pause",
    "POST /api/v1/subscriptions/{name}/resume",
    "POST /api/v1/subscriptions/{name}/seek",
    "POST /api/v1/subscriptions/{name}/test",
    "POST /api/v1/undelivered/discard",
];

impl Console {
    /// Adds a token with this role, and gives it.
    pub(super) async fn token(&self, name: &str, role: &str) -> String {
        let (status, added) = self.post("/tokens", json!({"name": name, "role": role})).await;
        assert_eq!(status, 201, "{added}");
        added["token"].as_str().unwrap().to_owned()
    }

    /// The operations of the document that a token does not open, and the others.
    async fn opened(&self, token: &str) -> [BTreeSet<String>; 2] {
        let document: Value = serde_json::from_str(&openapi(&views())).unwrap();
        let mut sorted = [BTreeSet::new(), BTreeSet::new()];
        for (path, item) in document["paths"].as_object().unwrap() {
            let tried = path.replace("{id}", &EventId::generate().to_string()).replace("{name}", "none");
            for method in item.as_object().unwrap().keys() {
                let method = method.to_uppercase();
                let response = self
                    .ask(
                        Method::from_bytes(method.as_bytes()).unwrap(),
                        &tried,
                        Some(&format!("Bearer {token}")),
                    )
                    .await;
                let is_open = response.status() != StatusCode::FORBIDDEN;
                sorted[usize::from(is_open)].insert(format!("{method} {path}"));
            }
        }
        sorted
    }

    /// The audit: who, what, status, oldest first.
    pub(super) async fn audited(&self) -> Vec<(String, String, i64)> {
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let mut rows = self.rows("/audit?limit=1000").await;
        rows.reverse();
        let entry = |row: &Value| {
            (
                text(row, "who"),
                format!("{} {}", text(row, "action"), text(row, "what")),
                row["status"].as_i64().unwrap(),
            )
        };
        rows.iter().map(entry).collect()
    }
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn each_role_opens_its_own_routes_and_a_viewer_changes_nothing() {
    let console = Console::start().await;
    let [viewer, operator, admin] = [
        console.token("vera", "viewer").await,
        console.token("olga", "operator").await,
        console.token("anna", "admin").await,
    ];
    let [refused, opened] = console.opened(&viewer).await;
    let (reads, changes): (BTreeSet<_>, BTreeSet<_>) =
        refused.into_iter().partition(|operation| operation.starts_with("GET "));
    assert_eq!(reads, set(&NOT_FOR_VIEWERS));
    assert!(opened.iter().all(|operation| operation.starts_with("GET ")), "{opened:?}");
    let [refused, opened] = console.opened(&operator).await;
    let gained: BTreeSet<_> = changes.intersection(&opened).cloned().collect();
    assert_eq!(gained, set(&OPERATIONS));
    let (reads, _): (BTreeSet<_>, BTreeSet<_>) =
        refused.into_iter().partition(|operation| operation.starts_with("GET "));
    assert_eq!(
        reads,
        set(&["GET /api/v1/audit", "GET /api/v1/tokens", "GET /api/v1/tokens/{name}", "GET /api/v1/users"])
    );
    let [refused, _] = console.opened(&admin).await;
    assert_eq!(refused, set(&[]));
    let (status, problem) = console.call(Method::POST, "/jobs", &viewer, Some(json!({}))).await;
    assert_eq!(status, 403);
    assert_eq!(problem["detail"], "This needs a token with the role operator; this one has the role viewer.");
}

#[tokio::test]
async fn without_a_token_no_route_opens_and_no_action_is_done() {
    let console = Console::start().await;
    let document: Value = serde_json::from_str(&openapi(&views())).unwrap();
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let filled = path.replace("{id}", &EventId::generate().to_string()).replace("{name}", "none");
        for name in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(name.to_uppercase().as_bytes()).unwrap();
            let expect = if path == "/api/v1/openapi.json" { 200 } else { 401 };
            let response = console.ask(method.clone(), &filled, None).await;
            assert_eq!(response.status(), expect, "{method} {path}");
            tried += 1;
            // The same through the forms of the pages, which are changes.
            let Some(action) = filled.strip_prefix("/api/v1").filter(|_| method != Method::GET) else {
                continue;
            };
            for method in [Method::POST, method] {
                let response = console.ask(method, &format!("/actions{action}"), None).await;
                let location = response.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
                let is_refused = response.status() == 405
                    || location.is_some_and(|to| to.starts_with("/login?next=%2Factions%2F"));
                assert!(is_refused, "{action}: {}", response.status());
            }
        }
    }
    assert!(tried > 50, "only {tried} operations are in the document");
    assert_eq!(console.rows("/audit").await.len(), 0);
}

#[tokio::test]
async fn a_token_that_was_removed_opens_nothing_at_once() {
    let console = Console::start().await;
    let token = console.token("vera", "viewer").await;
    assert_eq!(console.call(Method::GET, "/version", &token, None).await.0, 200);
    assert_eq!(console.post("/tokens", json!({"name": "vera", "role": "admin"})).await.0, 409);
    assert_eq!(console.call(Method::DELETE, "/tokens/vera", OURS, None).await.0, 200);
    assert_eq!(console.call(Method::GET, "/version", &token, None).await.0, 401);
    assert_eq!(console.call(Method::DELETE, "/tokens/vera", OURS, None).await.0, 404);
    let again = console.token("vera", "viewer").await;
    assert_eq!(console.call(Method::GET, "/version", &token, None).await.0, 401);
    assert_eq!(console.call(Method::GET, "/version", &again, None).await.0, 200);
    let [row] = console.rows("/tokens").await.try_into().unwrap();
    assert_eq!((row["name"].as_str(), row["created_by"].as_str()), (Some("vera"), Some("installation")));
    assert!(!row["used_at"].is_null() && row.get("token").is_none() && row.get("digest").is_none(), "{row}");
}

#[tokio::test]
async fn changes_and_looks_at_bodies_are_in_the_audit_and_lists_are_not() {
    let console = Console::start().await;
    let operator = console.token("olga", "operator").await;
    let id = console.recorded("acordo.quitado").await;
    assert_eq!(console.call(Method::GET, "/events", &operator, None).await.0, 200);
    assert_eq!(console.call(Method::GET, &format!("/events/{id}/body"), &operator, None).await.0, 200);
    let replay = json!({"action": "replay", "what": "events", "filter": {"source": "rec-1"}, "requested_by": "somebody"});
    let (status, job) = console.call(Method::POST, "/jobs", &operator, Some(replay)).await;
    assert_eq!((status, job["requested_by"].as_str()), (201, Some("olga")), "{job}");
    for _ in 0..2 {
        assert_eq!(console.call(Method::GET, "/feed", &operator, None).await.0, 200);
    }
    assert_eq!(console.call(Method::DELETE, "/tokens/olga", &operator, None).await.0, 403);
    let job = job["id"].as_str().unwrap();
    let olga = |text: String, status| ("olga".to_owned(), text, status);
    assert_eq!(
        console.audited().await,
        [
            ("installation".to_owned(), "POST /api/v1/tokens /api/v1/tokens olga operator".to_owned(), 201),
            olga(format!("GET /api/v1/events/{{id}}/body /api/v1/events/{id}/body"), 200),
            olga(format!("POST /api/v1/jobs /api/v1/jobs {job}"), 201),
            olga("GET /api/v1/feed /api/v1/feed".to_owned(), 200),
            olga("DELETE /api/v1/tokens/{name} /api/v1/tokens/olga".to_owned(), 403),
        ]
    );
}

#[tokio::test]
async fn who_asks_for_a_job_is_whose_token_it_is_whatever_the_body_says() {
    let console = Console::start().await;
    console.recorded("acordo.quitado").await;
    for said in [Some("maria@host"), None] {
        let mut replay = json!({"action": "replay", "what": "events", "filter": {"topic": "acordo.quitado"}});
        replay["requested_by"] = said.map_or(Value::Null, Value::from);
        replay.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let (status, job) = console.post("/jobs", replay).await;
        assert_eq!((status, job["requested_by"].as_str()), (201, Some("installation")), "{job}");
    }
}

#[tokio::test]
async fn an_entry_has_the_address_of_the_client() {
    let console = Console::start().await;
    let address: SocketAddr = "192.0.2.7:4000".parse().unwrap();
    let request = Request::get(format!("/api/v1/events/{}/body", EventId::generate()))
        .header("Authorization", format!("Bearer {OURS}"))
        .extension(Peer::new(address));
    console.router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap();
    let [row] = console.rows("/audit").await.try_into().unwrap();
    assert_eq!((row["client"].as_str(), row["status"].as_i64()), (Some("192.0.2.7"), Some(404)));
}

#[tokio::test]
async fn a_body_that_the_audit_cannot_have_is_not_shown() {
    let console = Console::start().await;
    let id = console.recorded("acordo.quitado").await;
    let mut tx = console.state.store.begin().await.unwrap();
    store::sql::query("DROP TABLE audit").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let (status, answer) = console.call(Method::GET, &format!("/events/{id}/body"), OURS, None).await;
    assert_eq!(status, 500, "{answer}");
    assert!(!answer.to_string().contains("valor"), "{answer}");
    // A change is answered as it was: it has happened.
    let (status, _) = console.post("/tokens", json!({"name": "vera", "role": "viewer"})).await;
    assert_eq!(status, 201);
}
