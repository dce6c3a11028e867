//! What fetching relies on of either database: one row for each document, one version for each content, one announcement for
//! each version, and nothing from a replica that has lost its source.

use std::time::Duration;

use bytes::Bytes;
use event::EventId;
use outbound::Breaker;
use providers::{Provider, beneficio_visao, gestao_online, mercado_eletronico};
use sha2::{Digest, Sha256};
use store::many::{Value, fetch};
use store::{Dialect, Row, Store, lease};

use crate::archive::Archive;
use crate::config::{ApiConfig, Source};
use crate::document::{Content, DocumentState, Due};
use crate::named::Cause;
use crate::retain;
use crate::table::{self, Holder, Settled};

/// A source of this provider whose API is there.
pub fn source(provider: &str, base_url: &str) -> Source {
    let token = r#", "client_id": "me", "client_secret": "a secret""#;
    let rest = if provider == mercado_eletronico::NAME { token } else { "" };
    let api: ApiConfig =
        serde_json::from_str(&format!(r#"{{"base_url": "{base_url}"{rest}}}"#)).expect("an API");
    let provider = Provider::named(provider).expect("it is built in");
    Source { name: event::SourceName::new("source").expect("a name"), provider, api }
}

fn invoices() -> Source {
    source(mercado_eletronico::NAME, "https://api.example.com")
}

/// Asks for these invoices, each by an event of its own.
async fn asked(store: &Store, source: &Source, ids: &[&str]) -> Vec<EventId> {
    let mut events = Vec::new();
    for id in ids {
        let event = EventId::generate();
        let body = format!(r#"{{"topic": "invoice.created", "data": {{"invoiceId": "{id}"}}}}"#);
        let cause = Cause {
            id: event,
            topic: "invoice.created",
            subject: None,
            traceparent: None,
            content_type: "application/json",
            body: body.as_bytes(),
        };
        let mut tx = store.begin().await.expect("a transaction");
        assert_eq!(table::ask_for(&mut tx, source, &[cause]).await.expect("it is asked for"), 1);
        tx.commit().await.expect("a commit");
        events.push(event);
    }
    events
}

async fn due(store: &Store, source: &Source) -> Vec<Due> {
    table::due(store, &source.name, event::now(), 10).await.expect("rows")
}

fn content(body: &'static str) -> Content {
    Content {
        fetched_at: event::now(),
        content_type: "application/json".to_owned(),
        sha256: providers::to_hex(&Sha256::digest(body)),
        body: Bytes::from_static(body.as_bytes()),
        document: serde_json::from_str(body).ok(),
    }
}

/// Takes the lease of a source, where there are leases, and settles a document as its holder.
async fn settled(store: &Store, source: &Source, due: &Due, settled: Settled<'_>) -> bool {
    let holder = Holder { source, name: "replica" };
    let now = event::now();
    if store.dialect() == Dialect::Postgres {
        let mut tx = store.begin().await.expect("a transaction");
        let name = Holder::lease(&source.name);
        lease::take(&mut tx, &name, "replica", now, now).await.expect("an answer");
        tx.commit().await.expect("a commit");
    }
    let breaker = Breaker::new(0, None, None);
    table::settle(store, holder, due, &settled, &breaker).await.expect("it is written")
}

async fn count(store: &Store, text: &str) -> i64 {
    let rows = fetch(&mut store.read().await.expect("a connection"), text.to_owned(), []).await;
    rows.expect("a count")[0].try_get(0).expect("a number")
}

/// Many events that name one document ask for one fetch; the newest is who asked.
pub async fn many_events_about_one_document_ask_for_one_fetch(store: &Store) {
    let source = invoices();
    let events = asked(store, &source, &["7", "8", "7", "7"]).await;
    let rows = due(store, &source).await;
    let rows: Vec<_> = rows.iter().map(|due| (due.external_id.as_str(), due.asked_by, due.asked)).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows.contains(&("7", events[3], 3)) && rows.contains(&("8", events[1], 1)), "{rows:?}");
}

/// Each distinct content is one version with one announcement; the same content again is neither.
pub async fn a_version_is_kept_and_announced_once(store: &Store) {
    let source = invoices();
    for (body, versions) in [("{\"a\":1}", 1), ("{\"a\":1}", 1), ("{\"a\":2}", 2), ("{\"a\":1}", 3)] {
        asked(store, &source, &["7"]).await;
        let due = due(store, &source).await.remove(0);
        assert!(settled(store, &source, &due, Settled::Fetched(&content(body))).await);
        for table in ["document_versions", "outbox"] {
            assert_eq!(
                count(store, &format!("SELECT count(*) FROM {table}")).await,
                versions,
                "{table} {body}"
            );
        }
        let text = "SELECT count(*) FROM documents WHERE state = 'fetched' AND due_at IS NULL";
        assert_eq!(count(store, text).await, 1);
    }
}

/// An event that comes while its document is fetched has it fetched again: the answer may be older than the event.
pub async fn an_event_during_a_fetch_has_it_fetched_again(store: &Store) {
    let source = invoices();
    asked(store, &source, &["7"]).await;
    let first = due(store, &source).await.remove(0);
    asked(store, &source, &["7"]).await;
    assert!(settled(store, &source, &first, Settled::Fetched(&content("{}"))).await);
    let again = due(store, &source).await.remove(0);
    let gone = Settled::Ended(DocumentState::Gone, "answered 404".to_owned());
    assert!(settled(store, &source, &again, gone).await);
    assert!(due(store, &source).await.is_empty());
    let text = "SELECT count(*) FROM documents WHERE state = 'gone' AND version = 1";
    assert_eq!(count(store, text).await, 1, "the version that was fetched stays");
}

/// An invoice asks for its supplier, once; what the event itself names is not overwritten by one that does not know where it is.
pub async fn a_document_asks_for_what_it_names(store: &Store) {
    let source = invoices();
    for body in ["{\"supplierId\":900}", "{\"supplierId\":900,\"totalDue\":1}"] {
        asked(store, &source, &["7"]).await;
        let rows = due(store, &source).await;
        let invoice = rows.into_iter().find(|due| due.entity == "invoice").expect("the invoice");
        assert!(settled(store, &source, &invoice, Settled::Fetched(&content(body))).await);
    }
    let rows = due(store, &source).await;
    assert_eq!((rows.len(), rows[0].entity.as_str(), rows[0].asked), (1, "supplier", 1));

    let orders = Source {
        name: event::SourceName::new("orders").expect("a name"),
        ..crate::laws::source(gestao_online::NAME, "https://api.example.com")
    };
    for body in
        [r#"{"data": {"code": "5", "id": 9}}"#, r#"{"data": {"code": "5"}}"#, r#"{"data": {"code": "6"}}"#]
    {
        let event = EventId::generate();
        let cause = Cause {
            id: event,
            topic: "ORDER_CREATED",
            subject: None,
            traceparent: None,
            content_type: "application/json",
            body: body.as_bytes(),
        };
        let mut tx = store.begin().await.expect("a transaction");
        table::ask_for(&mut tx, &orders, &[cause]).await.expect("it is asked for");
        tx.commit().await.expect("a commit");
    }
    let rows = due(store, &orders).await;
    assert_eq!((rows.len(), rows[0].place.as_str()), (1, "/order-external/9"));
    let text = "SELECT count(*) FROM documents WHERE state = 'refused' AND reason LIKE '%no id that%'";
    assert_eq!(count(store, text).await, 1, "an order without its id says so");
}

/// As many of each kind are due at a time, so that files do not wait behind documents whose API is down.
pub async fn files_are_due_whatever_documents_wait(store: &Store) {
    let source = invoices();
    let ids: Vec<String> = (0..10).map(|id| id.to_string()).collect();
    asked(store, &source, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut tx = store.begin().await.expect("a transaction");
    let text = "UPDATE documents SET entity = 'file', due_at = due_at + 1 WHERE external_id = '9'".to_owned();
    fetch(&mut tx, text, []).await.expect("a row");
    tx.commit().await.expect("a commit");
    let later = event::now() + Duration::from_secs(1);
    let rows = table::due(store, &source.name, later, 4).await.expect("rows");
    assert_eq!((rows.len(), rows.iter().filter(|due| due.is_file()).count()), (5, 1));
}

/// However much waits, looking for what is due next reads that alone: an index has it in order.
pub async fn what_is_due_is_found_in_an_index(store: &Store) {
    let values = vec![Value::from(&invoices().name), event::now().into()];
    let plan = store::laws::plan(store, &table::find_due(4), values).await;
    for index in ["documents_waiting ", "documents_waiting_files "] {
        assert!(plan.contains(index), "{index}is not read:\n{plan}");
    }
    assert!(!plan.contains("Sort") && !plan.contains("B-TREE"), "{plan}");
}

/// Runs a statement about documents as if time had passed.
async fn change(store: &Store, text: &str) {
    let mut tx = store.begin().await.expect("a transaction");
    fetch(&mut tx, text.to_owned(), []).await.expect("it is changed");
    tx.commit().await.expect("a commit");
}

/// Versions are deleted once they are old, and the newest one not before its document is; the numbers of versions go on.
pub async fn what_is_old_is_deleted_and_the_numbers_of_versions_go_on(store: &Store) {
    let archive = Archive::new(std::env::temp_dir().join(EventId::generate().to_string()));
    let sweep = async |days| retain::sweep(store, &archive, days, event::now()).await.expect("it is deleted");
    let source = invoices();
    for body in ["{\"a\":1}", "{\"a\":2}"] {
        asked(store, &source, &["7"]).await;
        let due = due(store, &source).await.remove(0);
        assert!(settled(store, &source, &due, Settled::Fetched(&content(body))).await);
    }
    asked(store, &source, &["8"]).await;
    let gone = due(store, &source).await.remove(0);
    assert!(
        settled(store, &source, &gone, Settled::Ended(DocumentState::Gone, "answered 410".to_owned())).await
    );
    assert_eq!(sweep(30).await, 0);
    change(store, "UPDATE document_versions SET fetched_at = 0").await;
    assert_eq!(sweep(30).await, 1, "the newest one was confirmed lately");
    change(store, "UPDATE documents SET checked_at = 0").await;
    assert_eq!(sweep(30).await, 1);
    let text = "SELECT count(*) FROM documents WHERE external_id = '7' AND version = 2 AND reason LIKE '%keep_days%'";
    assert_eq!(count(store, text).await, 1);
    assert_eq!(
        count(store, "SELECT count(*) FROM documents").await,
        1,
        "what was never fetched is forgotten"
    );
    asked(store, &source, &["7"]).await;
    let due = due(store, &source).await.remove(0);
    assert!(settled(store, &source, &due, Settled::Fetched(&content("{\"a\":2}"))).await);
    assert_eq!(count(store, "SELECT count(*) FROM document_versions WHERE version = 3").await, 1);
    assert_eq!(sweep(30).await, 0);
}

/// A file is deleted with the last version that needs it.
pub async fn a_file_is_deleted_with_the_last_version_that_needs_it(store: &Store) {
    let folder = std::env::temp_dir().join(EventId::generate().to_string());
    let archive = Archive::new(folder.clone());
    let source = source(beneficio_visao::NAME, "https://api.example.com");
    let body =
        br#"{"status": "renewed", "cpf": "52998224725", "files": [{"fileName": "Maria", "fileUrl": "https://x.example/1.pdf"},
                    {"fileName": "Maria", "fileUrl": "https://x.example/2.pdf"}]}"#;
    let cause = Cause {
        id: EventId::generate(),
        topic: "renewed",
        subject: None,
        traceparent: None,
        content_type: "application/json",
        body,
    };
    let mut tx = store.begin().await.expect("a transaction");
    assert_eq!(table::ask_for(&mut tx, &source, &[cause]).await.expect("it is asked for"), 1);
    tx.commit().await.expect("a commit");
    let pdf = Content { document: None, ..content("%PDF-1.7") };
    archive.keep(pdf.sha256.clone(), pdf.body.clone()).await.expect("it is kept");
    let mut ids = Vec::new();
    for due in due(store, &source).await {
        assert!(settled(store, &source, &due, Settled::Fetched(&pdf)).await);
        ids.push(due.id.to_hex());
    }
    assert_eq!(ids.len(), 2);
    for (id, is_there) in ids.iter().zip([true, false]) {
        change(
            store,
            &format!("UPDATE document_versions SET fetched_at = 0 WHERE {}", is(store, "document", id)),
        )
        .await;
        change(store, &format!("UPDATE documents SET checked_at = 0 WHERE {}", is(store, "id", id))).await;
        assert_eq!(retain::sweep(store, &archive, 30, event::now()).await.expect("it is deleted"), 1);
        assert_eq!(archive.open(&pdf.sha256).await.expect("an answer").is_some(), is_there);
    }
    let text = "SELECT count(*) FROM documents WHERE name IS NULL AND state = 'fetched'";
    assert_eq!(count(store, text).await, 2, "nothing is left of a person");
    std::fs::remove_dir_all(folder).expect("the folder of the archive");
}

/// The condition that a column is these bytes, given in hexadecimal.
fn is(store: &Store, column: &str, hex: &str) -> String {
    match store.dialect() {
        Dialect::Sqlite => format!("{column} = x'{hex}'"),
        Dialect::Postgres => format!("{column} = decode('{hex}', 'hex')"),
    }
}

/// A replica that has lost its source writes nothing.
pub async fn a_replica_without_its_lease_writes_nothing(store: &Store) {
    if store.dialect() == Dialect::Sqlite {
        return;
    }
    let source = invoices();
    asked(store, &source, &["7"]).await;
    let due = due(store, &source).await.remove(0);
    let name = Holder::lease(&source.name);
    let now = event::now();
    let mut tx = store.begin().await.expect("a transaction");
    assert!(lease::take(&mut tx, &name, "another", now, now).await.expect("an answer"));
    tx.commit().await.expect("a commit");
    let (content, breaker) = (content("{}"), Breaker::new(0, None, None));
    let holder = Holder { source: &source, name: "replica" };
    let written = table::settle(store, holder, &due, &Settled::Fetched(&content), &breaker).await;
    assert!(!written.expect("an answer"));
    assert_eq!(count(store, "SELECT count(*) FROM document_versions").await, 0);
    assert_eq!(count(store, "SELECT count(*) FROM outbox").await, 0);
}

/// The laws of documents as tests: see [`store::law_tests!`].
#[macro_export]
macro_rules! documents_laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::COMPONENT], $crate =>
            many_events_about_one_document_ask_for_one_fetch
            a_version_is_kept_and_announced_once
            an_event_during_a_fetch_has_it_fetched_again
            a_document_asks_for_what_it_names
            files_are_due_whatever_documents_wait
            what_is_due_is_found_in_an_index
            what_is_old_is_deleted_and_the_numbers_of_versions_go_on
            a_file_is_deleted_with_the_last_version_that_needs_it
            a_replica_without_its_lease_writes_nothing
        }
    };
}

#[cfg(test)]
mod sqlite {
    documents_laws!(store::fresh_sqlite!());
}
