//! The router as a client sees it: over the embedded broker and a database file, recorded by the real ledger.

mod administering;
mod delivering;
mod editing;
mod grouping;
mod logging_in;
mod looking;
mod naming;
mod operating;
mod pages;
mod permitted;
mod revealing;
mod sources;
mod subscribing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use broker::embedded::Embedded;
use broker::{DynBroker, FixedQueue, Layout};
use consumer::{Bindings, Runtime};
use event::{Event, EventId, Message, header};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use ledger::feed::Feed;
use ledger::jobs::{CheckEdit, Editor, Fetch, Reread, Runner, StillUnusable};
use serde_json::{Value, json};
use server::Health;
use store::{Config, Store};
use subscriptions::Seal;
use subscriptions::queue::Queues;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use view::View;

use crate::{ConsoleState, EventSchema, Overviews, PersonalFields, SeenTokens, Token, openapi, router};

const PATIENCE: Duration = Duration::from_secs(30);

fn consumers() -> Vec<Bindings> {
    domains::ALL.iter().map(|domain| domain.bindings).collect()
}

fn views() -> Vec<&'static View> {
    let mechanism = ledger::VIEWS.into_iter().chain(subscriptions::VIEWS).chain(::documents::VIEWS);
    mechanism
        .chain(access::VIEWS)
        .chain(domains::ALL.iter().flat_map(|domain| domain.views).copied())
        .collect()
}

/// A console, and what stands behind it.
struct Console {
    state: ConsoleState,
    router: Router,
    _folder: tempfile::TempDir,
}

impl Console {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { max_connections: 4, acquire_timeout_ms: 1_000, ..Config::new("sqlite") };
        let store = Store::open(&config, folder.path()).unwrap();
        let own = [ledger::COMPONENT, subscriptions::COMPONENT, ::documents::COMPONENT, access::COMPONENT];
        let components = own.into_iter().chain(domains::ALL.iter().map(|one| one.component));
        store.migrate(&components.collect::<Vec<_>>()).await.unwrap();
        let broker: DynBroker = Arc::new(Embedded::open(folder.path().join("broker.db")).unwrap());
        let layout = Layout::new("test.");
        let work: Vec<_> = consumers().iter().map(Bindings::work_queue).collect();
        let providers: Vec<_> =
            work.iter().flat_map(|queue| queue.topics.iter().map(|(name, _)| name.clone())).collect();
        broker.declare(&layout.topology(&providers, &work)).await.unwrap();
        let queues = Queues {
            store: store.clone(),
            broker: broker.clone(),
            layout: layout.clone(),
            management: None,
            is_amqp: true,
        };
        let check: CheckEdit = Arc::new(editing::check);
        let state = ConsoleState {
            queues,
            editor: Editor { store: store.clone(), consumers: consumers(), check },
            feed: Feed::new(store.clone(), CancellationToken::new()),
            store,
            broker,
            layout,
            token: Token::new("let-me-in"),
            overviews: Overviews::default(),
            seen: SeenTokens::default(),
            oidc: None,
            seal: Arc::new(Seal::new(&[1; 32])),
            archive: ::documents::Archive::new("no-files".into()),
            client: outbound::Client::new(&outbound::Config::default()),
            consumers: consumers().iter().map(|one| (one.consumer, one.purpose)).collect(),
            work,
            views: views(),
            sources: ["go", "me-filial-sul"].map(sources::configured).into(),
            providers: vec!["gestao-online".to_owned(), "recuperador".to_owned()],
            personal: PersonalFields::new(
                [("recuperador".to_owned(), vec!["situacao".to_owned()])],
                [("rec-1".to_owned(), vec!["situacao".to_owned()])],
            ),
            pseudonym: Arc::new(|person| format!("{:032x}", person.bytes().map(u128::from).sum::<u128>())),
            schemas: domains::ALL
                .iter()
                .flat_map(|domain| domain.events)
                .map(|event| EventSchema { name: event.name, meaning: event.meaning, schema: event.schema() })
                .collect(),
            health: Health::default(),
            migrated: CancellationToken::new(),
            zone: event::Zone::default(),
            trace_url: None,
            version: "1.2.3",
        };
        state.migrated.cancel();
        Self { router: router(state.clone()), state, _folder: folder }
    }

    /// Lets the ledger record everything that is in its queues.
    async fn record(&self) {
        let ConsoleState { store, broker, layout, .. } = self.state.clone();
        let config = consumer::Config {
            batch_events: 100,
            batch_timeout_ms: 5_000,
            hold_ms: 1_000,
            prefetch_bytes: 1 << 24,
            policies: Default::default(),
        };
        let runtime = Runtime { broker, layout, store, config };
        let patience = Instant::now() + Duration::from_secs(30);
        while self.waiting().await {
            let stop = CancellationToken::new();
            let running: Vec<_> = ledger::consumers(runtime.clone(), &consumers())
                .into_iter()
                .map(|consumer| tokio::spawn(consumer.run(stop.clone())))
                .collect();
            while self.waiting().await {
                assert!(Instant::now() < patience, "the ledger does not record");
                tokio::task::yield_now().await;
            }
            // What the consumers hold now they finish, or give back to be looked for again.
            stop.cancel();
            for consumer in running {
                consumer.await.unwrap();
            }
        }
    }

    /// Runs jobs.
    fn runner(&self) -> Runner {
        let ConsoleState { store, broker, layout, zone, .. } = self.state.clone();
        let reread: Reread = Arc::new(|_| Err(StillUnusable::Body("it cannot be read".into())));
        let (consumers, policies) = (consumers().to_vec(), Default::default());
        let fetch: Fetch = Arc::new(|events| Box::pin(async move { Ok(events.len()) }));
        Runner { broker, layout, store, zone, consumers, policies, reread, fetch }
    }

    /// Whether a queue of the ledger has messages.
    async fn waiting(&self) -> bool {
        let read = FixedQueue::ALL.into_iter().filter(|queue| queue.is_read());
        let queues: Vec<_> = read.map(|queue| self.state.layout.queue(queue)).collect();
        self.state.broker.queues(&queues).await.unwrap().iter().any(|queue| queue.ready > 0)
    }

    async fn ask(&self, method: Method, path: &str, authorization: Option<&str>) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        self.router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, &format!("/api/v1{path}"), Some("Bearer let-me-in")).await
    }

    /// The rows of a list.
    async fn rows(&self, path: &str) -> Vec<Value> {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let mut page = json(response).await;
        let Value::Array(rows) = page["items"].take() else { panic!("{path}: {page}") };
        rows
    }

    async fn accept(&self, event: &Event) {
        let exchange = self.state.layout.received(&event.source.provider);
        let published = self.state.broker.publish(&exchange, event.topic.as_str(), event.to_message()).await;
        published.unwrap();
    }
}

async fn bytes(response: Response) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

async fn json(response: Response) -> Value {
    serde_json::from_slice(&bytes(response).await).unwrap()
}

fn event(topic: &str, body: &'static [u8]) -> Event {
    broker::test_support::event("/recuperador/rec-1", topic, body)
}

fn with(event: &Event, headers: &[(&str, &str)]) -> Message {
    let mut message = event.to_message();
    message.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    message
}

#[tokio::test]
async fn nothing_but_the_document_is_shown_without_the_token() {
    let console = Console::start().await;
    let almost =
        [None, Some("Bearer let-me-i"), Some("Bearer let-me-in!"), Some("Basic let-me-in"), Some("")];
    for authorization in almost {
        for path in ["/api/v1/events", "/api/v1/version", "/api/v1/none"] {
            let response = console.ask(Method::GET, path, authorization).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path} {authorization:?}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
    }
    let response = console.ask(Method::GET, "/api/v1/openapi.json", None).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["cache-control"], "no-cache");
    let tag = response.headers()["etag"].clone();
    assert_eq!(json(response).await, serde_json::from_str::<Value>(&openapi(&views())).unwrap());
    let again =
        Request::get("/api/v1/openapi.json").header("if-none-match", tag).body(Body::empty()).unwrap();
    let unchanged = console.router.clone().call(again).await.unwrap();
    assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED);
    assert!(unchanged.into_body().collect().await.unwrap().to_bytes().is_empty());
    let response = console.ask(Method::GET, "/api/v1/version", Some("bearer let-me-in")).await;
    assert_eq!(json(response).await, json!({"name": "malote", "version": "1.2.3"}));
}

#[tokio::test]
async fn every_list_is_there_and_refuses_what_it_does_not_know() {
    let console = Console::start().await;
    for View { name: list, .. } in views() {
        let response = console.get(&format!("/{list}?limit=1000")).await;
        // The list of something that does not exist.
        if list.contains("{id}") {
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{list}");
            continue;
        }
        let page = json(response).await;
        assert_eq!(page, json!({"items": [], "next": null}), "{list}");
        for query in ["nonsense=1", "limit=0", "cursor=1"] {
            let response = console.get(&format!("/{list}?{query}")).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{list} {query}");
            let detail = json(response).await["detail"].take();
            let name = query.split('=').next().unwrap();
            assert!(detail.as_str().unwrap().contains(name), "{detail}");
        }
    }
    let detail = json(console.get("/receivables?state=x").await).await["detail"].take();
    assert_eq!(detail, r#"state: expected one of open, paid, canceled, got "x""#);
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_cannot_be_done_405() {
    let console = Console::start().await;
    let id = EventId::generate();
    for path in ["/none", "/events/x", "/events/%ff", "/rejected/1"].map(str::to_owned).into_iter().chain([
        format!("/events/{id}"),
        format!("/events/{id}/body"),
        format!("/rejected/{id}"),
    ]) {
        let response = console.get(&path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(json(response).await["status"], 404);
    }
    for path in ["/api/v1/events", "/api/v1/openapi.json"] {
        let response = console.ask(Method::POST, path, Some("Bearer let-me-in")).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(response.headers()["allow"].to_str().unwrap().contains("GET"));
        assert_eq!(json(response).await["status"], 405);
    }
}

#[tokio::test]
async fn what_came_in_is_shown_with_what_became_of_it() {
    let console = Console::start().await;
    const BODY: &[u8] = b"\xff\x00<script>\n";
    let odd = Event { content_type: "text/html".to_owned(), ..event("acordo.quitado", BODY) };
    console.accept(&odd).await;
    let unknown = event("unknown.topic", b"{}");
    console.accept(&unknown).await;
    let unusable = event("rejected", b"{");
    let layout = &console.state.layout;
    let message = with(&unusable, &[(header::CAUSE, "not JSON: byte 1")]);
    console.state.broker.publish(&layout.rejected(), "rejected", message).await.unwrap();
    let given_up = [
        (header::CONSUMER, "receivables"),
        (header::ERROR, "id: missing"),
        (header::GIVEN_UP_AT, "2026-11-22T12:00:00Z"),
    ];
    let message = with(&odd, &given_up);
    console.state.broker.publish(&layout.dead(), "acordo.quitado", message).await.unwrap();
    console.record().await;

    let rows = console.rows("/events").await;
    assert_eq!(rows.len(), 2);
    assert_eq!(
        rows[1],
        json!({
            "duplicate_of": null,
            "id": odd.id, "source": "rec-1", "provider": "recuperador", "topic": "acordo.quitado",
            "subject": null, "received_at": odd.time, "state": "dead", "consumers": {"receivables": "dead"},
        })
    );
    assert_eq!((&rows[0]["state"], &rows[0]["consumers"]), (&json!("unrouted"), &json!({})));
    assert_eq!(console.rows("/events?state=unrouted&provider=recuperador").await, rows[..1]);
    assert_eq!(console.rows("/events?topic=acordo.quitado").await, rows[1..]);
    let first = json(console.get("/events?limit=1").await).await;
    let next = first["next"].as_str().unwrap();
    assert_eq!(console.rows(&format!("/events?limit=1&cursor={next}")).await, rows[1..]);

    let shown = json(console.get(&format!("/events/{}?reveal=true", odd.id)).await).await;
    assert_eq!(shown["body_base64"], "/wA8c2NyaXB0Pgo=");
    assert_eq!(shown["outcomes"][0]["error"], "id: missing");
    let response = console.get(&format!("/events/{}/body", odd.id)).await;
    let headers = response.headers().clone();
    assert_eq!(bytes(response).await, BODY);
    assert_eq!(headers["content-type"], "text/html");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["content-disposition"], format!("attachment; filename=\"{}\"", odd.id));
    assert_eq!(headers["cache-control"], "no-store");

    let dead = console.rows("/dead?consumer=receivables").await;
    assert_eq!((&dead[0]["id"], &dead[0]["error"]), (&json!(odd.id), &json!("id: missing")));
    let rejected = console.rows("/rejected?source=rec-1").await;
    assert_eq!(
        (&rejected[0]["id"], &rejected[0]["cause"]),
        (&json!(unusable.id), &json!("not JSON: byte 1"))
    );
    assert_eq!(json(console.get(&format!("/rejected/{}?reveal=true", unusable.id)).await).await["body"], "{");
    assert_eq!(console.rows("/unrouted").await[0]["id"], json!(unknown.id));

    let queues = console.rows("/queues").await;
    let ready = |name: &str| queues.iter().find(|queue| queue["name"] == name).map(|queue| &queue["ready"]);
    assert_eq!(ready("test.receivables"), Some(&json!(1)));
    assert_eq!(ready("test.ledger"), Some(&json!(0)));
    assert_eq!(ready("test.wait.24h"), Some(&json!(0)));
    assert!(queues.iter().all(|queue| queue["unacked"] == 0 && queue["paused"].is_null()), "{queues:?}");

    // What a consumer holds is neither ready nor lost.
    let queue = layout.queue("receivables");
    let mut held = console.state.broker.subscribe(&queue, 10).await.unwrap();
    held.next().await.unwrap();
    console.state.health.secondary("consumer.receivables").down("the database is unavailable");
    let queues = console.rows("/queues").await;
    let row = queues.iter().find(|row| row["name"] == "test.receivables").unwrap();
    assert_eq!(
        (&row["ready"], &row["unacked"], &row["paused"]),
        (&json!(0), &json!(1), &json!("the database is unavailable"))
    );
}

#[tokio::test]
async fn the_queue_of_a_subscription_is_listed_as_soon_as_it_is_there() {
    let console = Console::start().await;
    let asked = json!({"name": "crm", "topics": ["recuperador:acordo.*"], "queue": {}});
    let (declaration, seal) = (serde_json::from_value(asked).unwrap(), subscriptions::Seal::new(&[1; 32]));
    let (begin, secrets) = (subscriptions::Seek::Now, subscriptions::Secrets::default());
    subscriptions::add(&console.state.store, &seal, &declaration, &secrets, begin).await.unwrap();
    let purpose = async || {
        let queues = console.rows("/queues").await;
        queues
            .into_iter()
            .find(|row| row["name"] == "test.subscription.crm")
            .map(|row| row["purpose"].clone())
    };
    assert_eq!(purpose().await, None);
    console.state.queues.settle(&declaration.name).await.unwrap();
    assert_eq!(purpose().await, Some(json!("subscription crm: recuperador:acordo.*")));
}

#[tokio::test]
async fn what_is_away_is_503_with_a_time_to_come_back() {
    let console = Console::start().await;
    let folder = console._folder.path();
    console.state.store.close().await;
    console.state.broker.close().await;
    for path in ["/events", "/receivables", "/queues"] {
        let response = console.get(path).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(response.headers()["retry-after"], "5");
        let detail = json(response).await["detail"].take();
        let (what, why) = match path {
            "/queues" => ("The broker is unavailable: ", "is closed".to_owned()),
            _ => ("The database, SQLite at ", format!("{}/store.db, is unavailable: ", folder.display())),
        };
        let detail = detail.as_str().unwrap();
        assert!(detail.starts_with(what) && detail.contains(&why), "{path}: {detail}");
    }
}

#[tokio::test]
async fn a_name_that_nothing_has_is_400_with_those_that_there_are_and_one_on_record_is_listed() {
    let console = Console::start().await;
    // Of a source that is no longer configured.
    let unknown = event("unknown.topic", b"{}");
    console.accept(&unknown).await;
    let given_up =
        [(header::CONSUMER, "billing"), (header::ERROR, "x"), (header::GIVEN_UP_AT, "2026-11-22T12:00:00Z")];
    let layout = &console.state.layout;
    let message = with(&event("acordo.quitado", b"{}"), &given_up);
    console.state.broker.publish(&layout.dead(), "acordo.quitado", message).await.unwrap();
    console.record().await;
    let dead = console.rows("/dead?consumer=billing").await;
    let group = dead[0]["group"].as_str().unwrap();

    for query in [
        "events?source=rec-1&state=dead",
        "events?source=go",
        "events?provider=gestao-online",
        "events?topic=order.created",
        "rejected?source=rec-1",
        "unrouted?source=go",
        "dead?consumer=invoices",
        "dead?consumer=billing&source=go",
        "receivables?source=rec-1",
    ] {
        assert_eq!(console.rows(&format!("/{query}")).await, [] as [Value; 0], "{query}");
    }
    let sources =
        r#"source: there is no source "rec-2"; did you mean "rec-1"? Known: go, me-filial-sul, rec-1"#;
    let of_sources = views().into_iter().filter(|list| list.filters().contains(&"source".to_owned()));
    let of_sources = of_sources.map(|list| (format!("{}?source=rec-2", list.name), sources.to_owned()));
    let others = [
        (
            "events?provider=gestao-onlin",
            r#"provider: there is no provider "gestao-onlin"; did you mean "gestao-online"?"#,
        ),
        ("dead?consumer=invoice", r#"consumer: there is no consumer "invoice"; did you mean "invoices"?"#),
        ("dead/groups?consumer=invoice", r#"consumer: there is no consumer "invoice""#),
        ("dead?group=nothing", r#"group: there is no group "nothing"; known: "#),
        ("events?topic=order.*", r#"topic: "order.*" is a pattern"#),
        ("unrouted?topic=%23", r##"topic: "#" is a pattern"##),
    ];
    let others = others.map(|(query, detail)| (query.to_owned(), detail.to_owned()));
    for (query, expect) in of_sources.chain(others) {
        let response = console.get(&format!("/{query}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        let detail = json(response).await["detail"].take();
        assert!(detail.as_str().unwrap().starts_with(&expect), "{query}: {detail}");
    }
    assert_eq!(console.rows(&format!("/dead?group={group}")).await, dead);

    let job = json!({"action": "retry", "what": "dead", "filter": {"source": "rec-2"}, "requested_by": "maria@host"});
    let request = Request::post("/api/v1/jobs").header("Authorization", "Bearer let-me-in");
    let response =
        console.router.clone().call(request.body(Body::from(job.to_string())).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(json(response).await["detail"], sources);
    assert!(console.rows("/jobs").await.is_empty());
}

#[tokio::test]
async fn a_job_is_counted_made_shown_and_cancelled() {
    let console = Console::start().await;
    console.accept(&event("unknown.topic", b"{}")).await;
    console.record().await;
    let post = async |path: &str, body: Value| {
        let request = Request::post(format!("/api/v1{path}"))
            .header("Authorization", "Bearer let-me-in")
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = console.router.clone().call(request).await.unwrap();
        (response.status().as_u16(), json(response).await)
    };
    let mut ask = json!({
        "action": "retry", "what": "unrouted", "filter": {"topic": "unknown.topic"},
        "requested_by": "maria@host", "dry_run": true,
    });
    assert_eq!(post("/jobs", ask.clone()).await, (200, json!({"total": 1})));
    assert!(console.rows("/jobs").await.is_empty());
    ask["dry_run"] = json!(false);
    let (status, job) = post("/jobs", ask.clone()).await;
    assert_eq!((status, &job["state"], &job["total"]), (201, &json!("waiting"), &json!(1)));
    let path = format!("/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(json(console.get(&path).await).await, job);
    let (status, cancelled) = post(&format!("{path}/cancel"), json!({})).await;
    assert_eq!((status, &cancelled["state"]), (200, &json!("cancelled")));
    assert_eq!(console.rows("/jobs").await, [cancelled]);

    for (field, value, detail) in [
        (
            "filter",
            json!({"topics": "a"}),
            "filter: there is no \"topics\"; expected one of id, source, provider, topic",
        ),
        ("what", json!("events"), "what: expected dead, rejected or unrouted; events are replayed"),
        ("rat", json!(1), "unknown field `rat`"),
    ] {
        let mut wrong = ask.clone();
        wrong[field] = value;
        let (status, problem) = post("/jobs", wrong).await;
        assert_eq!(status, 400);
        assert!(problem["detail"].as_str().unwrap().starts_with(detail), "{problem}");
    }
    let mut ask = json!({
        "action": "reconcile", "what": "events", "filter": {"day": "tuesday"}, "requested_by": "maria@host",
    });
    let (status, problem) = post("/jobs", ask.clone()).await;
    assert_eq!(status, 400);
    assert!(
        problem["detail"].as_str().unwrap().starts_with("filter.day: expected a day such as"),
        "{problem}"
    );
    ask["filter"] = json!({"day": "today"});
    let (status, job) = post("/jobs", ask).await;
    assert_eq!((status, &job["state"]), (201, &json!("waiting")));
    let path = format!("/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(console.get(&format!("{path}/reconciliation")).await.status(), StatusCode::NOT_FOUND);
    let stop = CancellationToken::new();
    let running = tokio::spawn(console.runner().run(stop.clone()));
    let started = Instant::now();
    while json(console.get(&path).await).await["state"] != "done" {
        assert!(started.elapsed() < PATIENCE, "{}", json(console.get(&path).await).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    running.await.unwrap();
    let books = json(console.get(&format!("{path}/reconciliation")).await).await;
    assert_eq!((&books["balanced"], &books["sources"][0]["unrouted"]), (&json!(true), &json!(1)));
    assert_eq!((&books["day"], &books["zone"]), (&job["filter"]["day"], &json!("America/Sao_Paulo")));
    assert!(console.rows(&format!("{path}/differences")).await.is_empty());
}

#[test]
fn the_document_has_every_path_parameter_and_schema() {
    let document: Value = serde_json::from_str(&openapi(&views())).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 63);
    for (path, item) in paths {
        let operations = ["get", "post", "put", "delete"].map(|method| &item[method]);
        let operation = operations.into_iter().find(|operation| operation.is_object()).unwrap();
        assert!(operation["summary"].is_string() && operation["responses"]["200"].is_object(), "{path}");
        let protected = path != "/api/v1/openapi.json";
        assert_eq!(operation["responses"]["401"].is_object(), protected, "{path}");
        let is_pull = path.ends_with("{name}/events") || path.ends_with("{name}/cursor");
        let expect = match (protected, is_pull) {
            (true, true) => json!([{"token": []}, {"subscription": []}]),
            (true, false) => json!([{"token": []}]),
            (false, _) => json!([{}]),
        };
        assert_eq!(operation["security"], expect, "{path}");
    }
    let events = paths["/api/v1/events"]["get"]["parameters"].as_array().unwrap();
    let names: Vec<_> = events.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "id",
            "source",
            "provider",
            "topic",
            "state",
            "subject",
            "sender_id",
            "caused_by",
            "from",
            "to",
            "limit",
            "cursor",
            "format"
        ]
    );
    // Whatever is referred to is there, and of two types with one name neither hides the other.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let words = |name: &str| {
        let state = &document["components"]["schemas"][name]["properties"]["state"];
        document.pointer(&state["$ref"].as_str().unwrap()[1..]).unwrap()["enum"].clone()
    };
    assert_eq!(
        words("EventRow"),
        json!(["pending", "handled", "routed", "dead", "unrouted", "discarded", "duplicate"])
    );
    assert_eq!(words("Receivable"), json!(["open", "paid", "canceled"]));
    assert_eq!(words("Agreement"), json!(["active", "settled", "canceled", "inactive"]));
    assert_eq!(words("Prescription"), json!(["pending", "in_analysis", "rejected", "renewed"]));
}

/// The ids of the lines of an answer, and the position to continue after.
async fn fed(response: Response) -> (Vec<String>, String) {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let position = response.headers()["malote-position"].to_str().unwrap().to_owned();
    let text = String::from_utf8(bytes(response).await.to_vec()).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["specversion"] == "1.0" && event["position"].is_string()));
    (events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect(), position)
}

#[tokio::test]
async fn the_feed_gives_events_in_parts_and_refuses_what_it_does_not_know() {
    let console = Console::start().await;
    let mut ids = Vec::new();
    for topic in ["acordo.cadastrado", "boleto.pago", "acordo.quitado"] {
        let event = event(topic, b"{\n\"a\": 1.0}");
        ids.push(event.id.to_string());
        console.accept(&event).await;
        console.record().await;
    }
    let (first, position) = fed(console.get("/feed?limit=1").await).await;
    assert_eq!(first, ids[..1]);
    let (rest, end) = fed(console.get(&format!("/feed?after={position}")).await).await;
    assert_eq!(rest, ids[1..]);
    assert_eq!(fed(console.get(&format!("/feed?after={end}")).await).await, (vec![], end));
    let (some, _) = fed(console.get("/feed?topics=recuperador:acordo.*").await).await;
    assert_eq!(some, [ids[0].clone(), ids[2].clone()]);
    assert!(fed(console.get("/feed?after=now").await).await.0.is_empty());
    let line = bytes(console.get("/feed?limit=1").await).await;
    let event: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(event["source"], "/recuperador/rec-1");
    assert!(line.ends_with(b",\"data\":{ \"a\": 1.0}}\n"), "{line:?}");

    for (query, detail) in [
        ("limit=0", r#"limit: expected a number from 1 to 1000, got "0""#),
        ("wait=61", r#"wait: expected a number from 0 to 60, got "61""#),
        ("after=x", r#"after: expected beginning, now, or the position of an event of the feed, got "x""#),
        ("topics=a", r#"topics: expected <provider>:<pattern> such as mercado-eletronico:order.*, got "a""#),
        (
            "cursor=a",
            r#""cursor" is not a parameter of this list: expected one of after, topics, wait, limit"#,
        ),
    ] {
        let response = console.get(&format!("/feed?{query}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(json(response).await["detail"], detail);
    }
    assert_eq!(console.get("/feed?topics=nobody:a").await.status(), StatusCode::BAD_REQUEST);
    let mut tx = console.state.store.begin().await.unwrap();
    store::many::fetch(&mut tx, "DELETE FROM events WHERE body IS NOT NULL".to_owned(), []).await.unwrap();
    tx.commit().await.unwrap();
    let response = console.get(&format!("/feed?after={position}")).await;
    assert_eq!(response.status(), StatusCode::GONE);
    let problem = json(response).await;
    assert_eq!(problem["type"], "/problems/feed-position");
    let after = problem["after"].as_str().unwrap();
    assert!(fed(console.get(&format!("/feed?after={after}")).await).await.0.is_empty());
}

#[tokio::test]
async fn a_stream_of_the_feed_goes_on_after_the_last_event_id() {
    let console = Console::start().await;
    let running = tokio::spawn(console.state.feed.clone().run());
    let stream = async |last: Option<&str>| {
        let request = Request::get("/api/v1/feed")
            .header("Authorization", "Bearer let-me-in")
            .header("Accept", "text/event-stream")
            .header("Last-Event-ID", last.unwrap_or_default());
        let response = console.router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "retry: 1000\n\n");
        body
    };
    /// The position and the id of the next event.
    async fn next(body: &mut Body) -> (String, String) {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap();
        let text = String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap();
        let mut lines = text.lines();
        let position = lines.next().unwrap().strip_prefix("id: ").unwrap().to_owned();
        let data = lines.next().unwrap().strip_prefix("data: ").unwrap();
        assert_eq!((lines.next(), lines.next()), (Some(""), None), "one event at a time");
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!(event["position"], position);
        (position, event["id"].as_str().unwrap().to_owned())
    }
    let events = [event("acordo.cadastrado", b"{}"), event("acordo.quitado", b"{}")];
    let mut body = stream(None).await;
    let mut positions = Vec::new();
    for event in &events {
        console.accept(event).await;
        console.record().await;
        let (position, id) = next(&mut body).await;
        assert_eq!(id, event.id.to_string());
        positions.push(position);
    }
    let mut again = stream(Some(&positions[0])).await;
    assert_eq!(next(&mut again).await, (positions[1].clone(), events[1].id.to_string()));
    running.abort();
}
