//! The engine with a store, a feed, and a receiver that plays the API of a provider.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use event::{Event, EventId, Timestamp, Topic};
use harness::{Received, Receiver, Reply};
use ledger::feed::Feed;
use outbound::Client;
use providers::{beneficio_visao, file_key, gestao_online, mercado_eletronico};
use serde_json::{Value, json};
use store::many::fetch;
use store::{Connection, Page, Row, Store};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::laws::source;
use crate::{Archive, Config, DocumentFilter, DocumentRow, DocumentState, Engine, Source};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const INVOICE: &str = r#"{"invoiceNumber": 4711, "totalDue": 1234.50}"#;

struct Installation {
    store: Store,
    folder: TempDir,
    stop: CancellationToken,
    engine: Option<JoinHandle<()>>,
    /// The sources of the engine.
    sources: watch::Sender<Vec<Source>>,
    provider: &'static str,
    /// The header of Gestão Online's API.
    key: Option<&'static str>,
    /// Whether this machine may be connected to.
    is_allowed: bool,
}

impl Installation {
    async fn new(provider: &'static str, api: &Receiver) -> Self {
        let (store, folder) = store::fresh_sqlite!().await;
        store.migrate(&[ledger::COMPONENT, crate::COMPONENT]).await.unwrap();
        let stop = CancellationToken::new();
        let mut installation = Self {
            store,
            folder,
            stop,
            engine: None,
            sources: watch::Sender::new(Vec::new()),
            provider,
            key: None,
            is_allowed: true,
        };
        installation.start(api);
        installation
    }

    fn source(&self, api: &Receiver) -> Source {
        let mut source = source(self.provider, &api.url(""));
        let header = self.key.map(|key| ("x-api-key".to_owned(), key.into()));
        source.api.headers = header.into_iter().collect();
        source
    }

    fn archive(&self) -> Archive {
        Archive::new(self.folder.path().join("files"))
    }

    fn start(&mut self, api: &Receiver) {
        let here = ["127.0.0.0/8".parse().unwrap()].into_iter().filter(|_| self.is_allowed);
        let allow = outbound::Config { allow: here.collect(), ..outbound::Config::default() };
        self.stop = CancellationToken::new();
        let feed = Feed::new(self.store.clone(), self.stop.clone());
        self.sources.send_replace(vec![self.source(api)]);
        let engine = Engine {
            store: self.store.clone(),
            feed: feed.clone(),
            client: Client::new(&allow),
            public: Client::new(&outbound::Config::default()),
            archive: self.archive(),
            config: Config {
                timeout_ms: 2_000,
                concurrency: 4,
                document_limit_bytes: 1 << 20,
                file_limit_bytes: 1 << 20,
                files_dir: "".into(),
                keep_days: 0,
            },
            sources: self.sources.subscribe(),
        };
        let stop = self.stop.clone();
        self.engine = Some(tokio::spawn(async move {
            tokio::join!(feed.run(), engine.run(stop));
        }));
    }

    /// Ends the engine whatever it does, as a kill would.
    async fn kill(&mut self) {
        let engine = self.engine.take().unwrap();
        engine.abort();
        let _ = engine.await;
        self.stop.cancel();
    }

    async fn record(&self, topic: &str, body: &Value) -> EventId {
        self.record_all(topic, std::slice::from_ref(body)).await[0]
    }

    async fn record_all(&self, topic: &str, bodies: &[Value]) -> Vec<EventId> {
        let source = event::Source::parse(&format!("/{}/source", self.provider)).unwrap();
        let event = |body: &Value| {
            Event::new(source.clone(), Topic::new(topic).unwrap(), body.to_string().into())
                .with_subject(event::Subject::new("prescription", "a-hash"))
        };
        let events: Vec<_> = bodies.iter().map(event).collect();
        let mut tx = self.store.begin().await.unwrap();
        ledger::laws::record_in(&mut tx, &events).await.unwrap();
        tx.commit().await.unwrap();
        events.iter().map(|event| event.id).collect()
    }

    async fn invoice(&self, id: &str) -> EventId {
        self.invoices([id.to_owned()]).await[0]
    }

    /// Events of invoices with these ids, recorded together.
    async fn invoices(&self, ids: impl IntoIterator<Item = String>) -> Vec<EventId> {
        let body = |id: String| json!({"topic": "invoice.created", "data": {"invoiceId": id}});
        self.record_all("invoice.created", &ids.into_iter().map(body).collect::<Vec<_>>()).await
    }

    async fn rows(&self) -> Vec<DocumentRow> {
        let connection: &mut Connection = &mut self.store.read().await.unwrap();
        let page = Page::first(1_000);
        <DocumentRow as view::Row>::page(connection, &DocumentFilter::default(), &page).await.unwrap().items
    }

    /// Waits until so many documents are in this state, and gives them.
    async fn wait_for(&self, state: DocumentState, count: usize) -> Vec<DocumentRow> {
        self.wait_until(|rows| rows.iter().filter(|row| row.state == state).count() == count).await
    }

    async fn wait_until(&self, is_so: impl Fn(&[DocumentRow]) -> bool) -> Vec<DocumentRow> {
        let begun = Instant::now();
        loop {
            let rows = self.rows().await;
            if is_so(&rows) {
                return rows;
            }
            assert!(begun.elapsed() < PATIENCE, "{rows:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is announced, as topics with data, oldest first.
    async fn announced(&self) -> Vec<(String, String, Value)> {
        let mut connection = self.store.read().await.unwrap();
        let events = store::outbox::oldest(&mut connection, 10_000).await.unwrap();
        let one = |event: Event| {
            let data = serde_json::from_slice(&event.data).unwrap();
            (event.topic.as_str().to_owned(), event.subject.unwrap().to_string(), data)
        };
        events.into_iter().map(|(_, event)| one(event)).collect()
    }

    /// What waits for another attempt is due now.
    async fn hurry(&self) {
        self.change("UPDATE documents SET due_at = 0 WHERE due_at IS NOT NULL".to_owned()).await;
    }

    async fn change(&self, text: String) {
        let mut tx = self.store.begin().await.unwrap();
        fetch(&mut tx, text, []).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn count(&self, text: &str) -> i64 {
        let rows = fetch(&mut self.store.read().await.unwrap(), text.to_owned(), []).await.unwrap();
        rows[0].try_get(0).unwrap()
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.engine.take().unwrap().await.unwrap();
    }
}

/// Mercado Eletrônico's API with invoices that all are the same.
fn invoices(request: &Received, invoice: Reply) -> Reply {
    match request.target.as_str() {
        "/v1/auth/tokens" => {
            let asked: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(asked, json!({"clientId": "me", "clientSecret": "a secret"}));
            Reply::status(200).body(r#"{"accessToken": "token-1", "expiresIn": 3600}"#)
        }
        _ if request.header("authorization") != Some("Bearer token-1") => Reply::status(401),
        _ => invoice,
    }
}

fn found(body: &str) -> Reply {
    Reply::status(200).header("content-type", "application/json").body(body)
}

fn fetches(api: &Receiver) -> Vec<String> {
    let requests = api.requests().into_iter();
    requests.map(|request| request.target).filter(|target| target != "/v1/auth/tokens").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_fetched_with_one_token_kept_and_announced() {
    let api = Receiver::start().unwrap();
    api.answer_with(|request, _| invoices(request, found(INVOICE)));
    let installation = Installation::new(mercado_eletronico::NAME, &api).await;
    let event = installation.invoice("7").await;
    installation.invoice("8").await;
    let rows = installation.wait_for(DocumentState::Fetched, 2).await;
    let row = rows.iter().find(|row| row.external_id == "7").unwrap();
    assert_eq!((row.entity.as_str(), row.source.as_str(), row.version), ("invoice", "source", 1));
    assert_eq!((row.event_id.clone(), row.size), (event.to_string(), Some(INVOICE.len() as i64)));
    assert_eq!((row.reason.as_ref(), row.due_at.as_ref()), (None, None));
    let announced = installation.announced().await;
    let (topic, subject, data) = announced.iter().find(|(_, subject, _)| subject == "invoice/7").unwrap();
    assert_eq!((topic.as_str(), subject.as_str()), ("invoice.fetched", "invoice/7"));
    assert_eq!(
        (&data["source"], &data["version"], &data["sha256"]),
        (&json!("source"), &json!(1), &json!(row.sha256))
    );
    assert_eq!(data["document"]["invoiceNumber"], 4711);
    let mut connection = installation.store.read().await.unwrap();
    let body = crate::body(&mut connection, row.id.parse().unwrap(), None).await.unwrap().unwrap();
    assert_eq!(body.body.as_deref(), Some(INVOICE.as_bytes()));
    drop(connection);
    let tokens = api.requests().iter().filter(|request| request.target == "/v1/auth/tokens").count();
    assert_eq!(tokens, 1, "it is kept");
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_fetched_by_its_id_and_known_by_its_code() {
    let api = Receiver::start().unwrap();
    api.answer_with(|_, _| found(r#"{"code": "0000593098", "orderTotal": "395.00"}"#));
    let installation = Installation::new(gestao_online::NAME, &api).await;
    let body = json!({"event_id": "ORDER_CREATED", "data": {"id": "100", "code": "0000593098"}});
    installation.record("ORDER_CREATED", &body).await;
    installation.wait_for(DocumentState::Fetched, 1).await;
    assert_eq!(fetches(&api), ["/order-external/100"]);
    assert_eq!(installation.announced().await[0].1, "order/0000593098");
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_or_refused_says_so_and_an_answer_that_is_none_is_asked_for_again() {
    let api = Receiver::start().unwrap();
    api.answer_with(|request, _| {
        invoices(
            request,
            match request.target.as_str() {
                "/v1/invoices/1" => Reply::status(410),
                "/v1/invoices/6" => Reply::status(404),
                "/v1/invoices/2" => Reply::status(403),
                "/v1/invoices/3" => Reply::status(200).header("content-type", "text/html").body("<html>"),
                "/v1/invoices/4" => Reply::stall(),
                _ => Reply::status(500),
            },
        )
    });
    let installation = Installation::new(mercado_eletronico::NAME, &api).await;
    for id in ["1", "2", "3", "4", "5", "6"] {
        installation.invoice(id).await;
    }
    let all = |rows: &[DocumentRow]| rows.len() == 6 && rows.iter().all(|row| row.reason.is_some());
    let mut rows = installation.wait_until(all).await;
    rows.sort_by(|one, other| one.external_id.cmp(&other.external_id));
    let shown: Vec<_> = rows.iter().map(|row| (row.state.as_str(), row.reason.as_deref().unwrap())).collect();
    assert_eq!(shown[0], ("gone", "answered 410 Gone"));
    assert_eq!(shown[5], ("gone", "answered 404 Not Found"));
    assert_eq!(shown[1], ("refused", "answered 403 Forbidden"));
    assert_eq!(shown[2], ("waiting", "answered 200 OK, and no JSON object"));
    assert_eq!(shown[3].0, "waiting");
    assert!(shown[3].1.contains("timed out"), "{}", shown[3].1);
    assert_eq!(shown[4], ("waiting", "answered 500 Internal Server Error"));
    assert!(rows[4].due_at.is_some() && rows[0].due_at.is_none());
    assert!(installation.announced().await.is_empty());
    assert_eq!(crate::failing(&installation.store).await.unwrap()[0].waiting, 4);
    // It works again.
    api.answer_with(|request, _| invoices(request, found(INVOICE)));
    installation.hurry().await;
    installation.wait_for(DocumentState::Fetched, 4).await;
    assert!(crate::failing(&installation.store).await.unwrap().is_empty());
    // An event about what was gone asks again.
    installation.invoice("1").await;
    installation.wait_for(DocumentState::Fetched, 5).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_not_there_is_gone_after_a_few_attempts() {
    let api = Receiver::start().unwrap();
    api.answer_with(|request, _| invoices(request, Reply::status(404)));
    let installation = Installation::new(mercado_eletronico::NAME, &api).await;
    installation.invoice("7").await;
    for attempts in 1..=3 {
        assert!(api.wait_for(1 + attempts, PATIENCE).await);
        // Its outcome is written.
        let is_later = |at: &String| at.parse::<Timestamp>().unwrap() > event::now();
        let rows = installation.wait_until(|rows| rows[0].due_at.as_ref().is_some_and(is_later)).await;
        let shown = (rows[0].state, rows[0].reason.as_deref());
        assert_eq!(shown, (DocumentState::Gone, Some("answered 404 Not Found")), "from the first answer on");
        installation.hurry().await;
    }
    installation.wait_until(|rows| rows[0].due_at.is_none()).await;
    assert_eq!(fetches(&api).len(), 4);
    let rows = installation.wait_for(DocumentState::Gone, 1).await;
    assert_eq!(rows[0].reason.as_deref(), Some("answered 404 Not Found"));
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_failed_otherwise_do_not_end_the_attempts_of_a_missing_document() {
    let api = Receiver::start().unwrap();
    api.answer_with(|request, _| invoices(request, Reply::status(500)));
    let installation = Installation::new(mercado_eletronico::NAME, &api).await;
    installation.invoice("7").await;
    for attempts in 1..=4 {
        assert!(api.wait_for(1 + attempts, PATIENCE).await);
        let is_later = |at: &String| at.parse::<Timestamp>().unwrap() > event::now();
        installation.wait_until(|rows| rows[0].due_at.as_ref().is_some_and(is_later)).await;
        if attempts == 4 {
            api.answer_with(|request, _| invoices(request, Reply::status(404)));
        }
        installation.hurry().await;
    }
    let is_missing = |rows: &[DocumentRow]| rows[0].reason.as_deref() == Some("answered 404 Not Found");
    let rows = installation.wait_until(is_missing).await;
    assert_eq!(rows[0].state, DocumentState::Gone);
    assert!(rows[0].due_at.is_some(), "the first answer that says so: it is asked for again");
    installation.end().await;
}

/// The rows and the breaker are made those of a day later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_day_without_their_api_all_documents_are_fetched_with_the_first_probe() {
    const COUNT: i64 = 4;
    let api = Receiver::start().unwrap();
    api.answer_with(|request, _| invoices(request, Reply::status(503)));
    let mut installation = Installation::new(mercado_eletronico::NAME, &api).await;
    installation.invoices((0..COUNT).map(|id| id.to_string())).await;
    installation.wait_until(|rows| rows.iter().filter(|row| row.reason.is_some()).count() == 4).await;
    installation.kill().await;
    let now = event::now().as_microsecond();
    let since = now - 24 * 3_600 * 1_000_000;
    installation.change(format!("UPDATE documents SET attempts = 2, due_at = {now}")).await;
    let a_day_later =
        format!("UPDATE document_sources SET failures = 300, failing_since = {since}, held_until = {now}");
    installation.change(a_day_later.clone()).await;
    installation.start(&api);
    while installation.count("SELECT count(*) FROM document_sources WHERE failures = 301").await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    installation.kill().await;
    let as_before = format!(
        "SELECT count(*) FROM documents WHERE attempts = 2 AND due_at <= {}",
        event::now().as_microsecond()
    );
    assert_eq!(
        installation.count(&as_before).await,
        COUNT,
        "a probe that failed is no attempt of its document"
    );
    installation.change(a_day_later).await;
    api.answer_with(|request, _| invoices(request, found(INVOICE)));
    installation.start(&api);
    installation.wait_for(DocumentState::Fetched, 4).await;
    assert_eq!(installation.announced().await.len(), 4);
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_waits_until_the_address_of_its_api_is_allowed() {
    let api = Receiver::start().unwrap();
    api.answer_with(|request, _| invoices(request, found(INVOICE)));
    let mut installation = Installation::new(mercado_eletronico::NAME, &api).await;
    installation.is_allowed = false;
    installation.kill().await;
    installation.start(&api);
    installation.invoice("7").await;
    let is_tried = |rows: &[DocumentRow]| rows.first().is_some_and(|row| row.reason.is_some());
    let rows = installation.wait_until(is_tried).await;
    assert_eq!((rows[0].state, api.count()), (DocumentState::Waiting, 0));
    installation.is_allowed = true;
    installation.kill().await;
    installation.start(&api);
    installation.hurry().await;
    installation.wait_for(DocumentState::Fetched, 1).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_denied_is_a_failure_of_the_api_and_quotes_nothing() {
    let api = Receiver::start().unwrap();
    api.answer(Reply::status(401).body(r#"{"message": "a secret is wrong"}"#));
    let installation = Installation::new(mercado_eletronico::NAME, &api).await;
    installation.invoices((0..40).map(|id| id.to_string())).await;
    let rows = installation.wait_until(|rows| rows.iter().any(|row| row.reason.is_some())).await;
    let row = rows.iter().find(|row| row.reason.is_some()).unwrap();
    let reason = row.reason.as_deref().unwrap();
    assert!(
        reason.contains("token endpoint 127.0.0.1 answered 401") && !reason.contains("secret"),
        "{reason}"
    );
    assert_eq!(row.state, DocumentState::Waiting);
    // Once the breaker is open, the others are not tried.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(api.count() <= 16, "{} requests for tokens", api.count());
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_fetched_again_with_other_credentials() {
    let api = Receiver::start().unwrap();
    let is_right = |request: &Received| request.header("x-api-key") == Some("right");
    api.answer_with(move |request, _| if is_right(request) { found("{}") } else { Reply::status(401) });
    let mut installation = Installation::new(gestao_online::NAME, &api).await;
    installation.key = Some("wrong");
    installation.kill().await;
    installation.start(&api);
    let body = json!({"event_id": "ORDER_CREATED", "data": {"id": "100", "code": "0000593098"}});
    installation.record("ORDER_CREATED", &body).await;
    let rows = installation.wait_for(DocumentState::Refused, 1).await;
    assert_eq!(rows[0].reason.as_deref(), Some("answered 401 Unauthorized"));
    installation.key = Some("right");
    installation.kill().await;
    installation.start(&api);
    installation.wait_for(DocumentState::Fetched, 1).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_secret_is_in_force_at_once_and_the_token_of_the_old_one_is_dropped() {
    let api = Receiver::start().unwrap();
    // Tokens of either secret are accepted: only what the engine sends is looked at.
    api.answer_with(|request, _| match request.target.as_str() {
        "/v1/auth/tokens" => {
            let asked: Value = serde_json::from_slice(&request.body).unwrap();
            let token = asked["clientSecret"].as_str().unwrap().replace(' ', "-");
            Reply::status(200).body(format!(r#"{{"accessToken": "{token}", "expiresIn": 3600}}"#))
        }
        _ => found(INVOICE),
    });
    let installation = Installation::new(mercado_eletronico::NAME, &api).await;
    let shown = || {
        let requests = api.requests().into_iter();
        requests.filter_map(|one| one.header("authorization").map(str::to_owned)).collect::<Vec<_>>()
    };
    installation.invoice("7").await;
    installation.wait_for(DocumentState::Fetched, 1).await;
    // The same again changes nothing: the token is kept.
    let source = installation.source(&api);
    installation.sources.send_replace(vec![source.clone()]);
    installation.invoice("8").await;
    installation.wait_for(DocumentState::Fetched, 2).await;
    assert_eq!((shown(), api.count()), (vec!["Bearer a-secret".to_owned(); 2], 3));

    let mut rotated = source.clone();
    rotated.api.client_secret = Some("another".into());
    installation.sources.send_replace(vec![rotated.clone()]);
    installation.invoice("9").await;
    installation.wait_for(DocumentState::Fetched, 3).await;
    assert_eq!(shown()[2..], ["Bearer another"]);

    // Nothing is fetched for a source that is not configured any more, until it is again.
    installation.sources.send_replace(Vec::new());
    installation.invoice("10").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fetches(&api).len(), 3);
    installation.sources.send_replace(vec![rotated]);
    installation.wait_for(DocumentState::Fetched, 4).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_fetched_again_as_soon_as_the_key_is_right() {
    let api = Receiver::start().unwrap();
    let is_right = |request: &Received| request.header("x-api-key") == Some("right");
    api.answer_with(move |request, _| if is_right(request) { found("{}") } else { Reply::status(401) });
    let installation = Installation::new(gestao_online::NAME, &api).await;
    let body = json!({"event_id": "ORDER_CREATED", "data": {"id": "100", "code": "0000593098"}});
    installation.record("ORDER_CREATED", &body).await;
    installation.wait_for(DocumentState::Refused, 1).await;
    let mut source = installation.source(&api);
    source.api.headers = [("x-api-key".to_owned(), "right".into())].into();
    installation.sources.send_replace(vec![source]);
    installation.wait_for(DocumentState::Fetched, 1).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_wait_for_one_document_share_a_fetch() {
    let api = Receiver::start().unwrap();
    api.answer_with(|request, _| invoices(request, found(INVOICE).after(Duration::from_millis(300))));
    let installation = Installation::new(mercado_eletronico::NAME, &api).await;
    for _ in 0..20 {
        installation.invoice("7").await;
    }
    installation.wait_for(DocumentState::Fetched, 1).await;
    // The first may be under way when the others come: they share the second.
    assert!((1..=4).contains(&fetches(&api).len()), "{:?}", fetches(&api));
    assert_eq!(installation.announced().await.len(), 1);
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_the_api_asks_for_is_kept_by_all_requests_and_counts_as_no_attempt() {
    let api = Receiver::start().unwrap();
    let refused_at = Arc::new(Mutex::new(None));
    let first = Arc::clone(&refused_at);
    api.answer_with(move |request, _| {
        let mut first = first.lock().unwrap();
        invoices(
            request,
            match *first {
                None if request.target != "/v1/auth/tokens" => {
                    *first = Some(Instant::now());
                    Reply::status(429).header("retry-after", "2")
                }
                _ => found(INVOICE),
            },
        )
    });
    let installation = Installation::new(mercado_eletronico::NAME, &api).await;
    installation.invoice("0").await;
    let asked = installation.wait_until(|rows| rows.iter().any(|row| row.reason.is_some())).await;
    assert_eq!(asked[0].reason.as_deref(), Some("answered 429 Too Many Requests"));
    for id in 1..8 {
        installation.invoice(&id.to_string()).await;
    }
    installation.wait_for(DocumentState::Fetched, 8).await;
    let begun = refused_at.lock().unwrap().unwrap();
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    assert_eq!(fetches(&api).len(), 9);
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_requests_are_sent_than_the_window_of_the_api_has() {
    let api = Receiver::start().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    api.answer_with(move |request, _| {
        if request.target == "/v1/auth/tokens" {
            return invoices(request, Reply::status(200));
        }
        let number = counted.fetch_add(1, Ordering::SeqCst);
        // Three a window, and each window is three seconds.
        let left = 2 - (number % 3);
        let answer =
            found(INVOICE).header("ratelimit-limit", "3").header("ratelimit-remaining", &left.to_string());
        invoices(request, answer.header("ratelimit-reset", "3"))
    });
    let installation = Installation::new(mercado_eletronico::NAME, &api).await;
    installation.invoice("0").await;
    installation.wait_for(DocumentState::Fetched, 1).await;
    for id in 1..5 {
        installation.invoice(&id.to_string()).await;
    }
    let begun = Instant::now();
    installation.wait_for(DocumentState::Fetched, 3).await;
    assert_eq!(count.load(Ordering::SeqCst), 3, "the window has no more");
    installation.wait_for(DocumentState::Fetched, 5).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_killed_loses_no_document_and_keeps_none_twice() {
    let api = Receiver::start().unwrap();
    api.answer_with(|request, _| invoices(request, found(INVOICE).after(Duration::from_millis(30))));
    let mut installation = Installation::new(mercado_eletronico::NAME, &api).await;
    installation.invoices((0..60).map(|id| id.to_string())).await;
    for wanted in [5, 20, 40] {
        installation
            .wait_until(|rows| {
                rows.iter().filter(|row| row.state == DocumentState::Fetched).count() >= wanted
            })
            .await;
        installation.kill().await;
        installation.start(&api);
    }
    let rows = installation.wait_for(DocumentState::Fetched, 60).await;
    assert!(rows.iter().all(|row| row.version == 1));
    let announced = installation.announced().await;
    let subjects: std::collections::BTreeSet<_> = announced.iter().map(|(_, subject, _)| subject).collect();
    assert_eq!((announced.len(), subjects.len()), (60, 60));
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_archived_before_its_address_expires_and_only_if_it_is_a_pdf() {
    let api = Receiver::start().unwrap();
    api.answer_with(|request, number| match (request.target.as_str(), number) {
        ("/glasses.pdf?signature=x", 0..2) => Reply::status(200).body("%PDF-1.7 glasses"),
        ("/lenses.pdf", _) => {
            Reply::status(200).header("content-type", "application/pdf").body("<html>expired")
        }
        _ => Reply::status(403),
    });
    let installation = Installation::new(beneficio_visao::NAME, &api).await;
    let body = json!({"status": "renewed", "cpf": "52998224725", "files": [
        {"fileName": "Receita de Maria", "fileUrl": api.url("/glasses.pdf?signature=x")},
        {"fileName": "Lentes", "fileUrl": api.url("/lenses.pdf")}]});
    // Sent twice, it still is one file.
    for _ in 0..2 {
        installation.record("renewed", &body).await;
    }
    installation.wait_for(DocumentState::Refused, 1).await;
    let rows = installation.wait_for(DocumentState::Fetched, 1).await;
    assert_eq!(rows.len(), 2);
    let row = rows.iter().find(|row| row.state == DocumentState::Fetched).unwrap();
    let key = file_key(&api.url("/glasses.pdf?signature=x"), Some("Receita de Maria"));
    assert_eq!((row.entity.as_str(), row.external_id.clone()), ("file", key));
    let archived = installation.archive().open(row.sha256.as_deref().unwrap()).await.unwrap();
    assert_eq!(archived.as_deref(), Some(b"%PDF-1.7 glasses".as_slice()));
    let refused = rows.iter().find(|row| row.state == DocumentState::Refused).unwrap();
    assert_eq!(refused.reason.as_deref(), Some("answered 200 OK, and no PDF"));
    let announced = installation.announced().await;
    assert_eq!((announced.len(), announced[0].0.as_str()), (1, "file.fetched"));
    let text = announced[0].2.to_string();
    assert!(!text.contains("Maria") && !text.contains("signature") && !text.contains("5299"), "{text}");
    installation.end().await;
}
