//! What is known of an invoice after which webhooks: written once, run on each database.

use consumer::laws::{Webhook, events, handle, in_every_order};
use providers::{Provider, gestao_online, mercado_eletronico};
use serde_json::{Value, json};
use store::{Page, Store, sql};
use view::Row as _;

use crate::{Filter, Invoice, Invoices};

/// A notice of Mercado Eletrônico's about invoice 32211.
fn notice(topic: &'static str, data: &'static str) -> Webhook<'static> {
    Webhook { provider: mercado_eletronico::NAME, topic, data }
}

/// The documented webhook of this topic, of either provider.
fn documented(topic: &str) -> Webhook<'_> {
    let example = |provider| Some((provider, Provider::named(provider)?.example(topic)?));
    let mut examples = [mercado_eletronico::NAME, gestao_online::NAME].into_iter().filter_map(example);
    let (provider, data) = examples.next().expect("the topic has a documented body");
    Webhook { provider, topic, data }
}

/// The invoices of a source, without its name.
async fn invoices(store: &Store, source: &str) -> Vec<Value> {
    let mut connection = store.read().await.expect("a connection");
    let filter = Filter { source: Some(source.to_owned()), ..Filter::default() };
    let page = Invoice::page(&mut connection, &filter, &Page::first(100)).await.expect("a list");
    let mut rows: Vec<_> = page.items.iter().map(|row| json!(row)).collect();
    rows.iter_mut().for_each(|row| row["source"] = Value::Null);
    rows.sort_by_key(|row| row["external_id"].to_string());
    rows
}

async fn check(store: &Store, webhooks: &[Webhook<'_>], expect: &[Value]) {
    let got = in_every_order(store, &Invoices, webhooks, async |source| invoices(store, source).await).await;
    assert_eq!(got, expect, "{webhooks:?}");
}

async fn history(store: &Store, source: &str) -> i64 {
    let mut connection = store.read().await.expect("a connection");
    sql::scalar("SELECT count(*) FROM invoice_history WHERE source = $1")
        .bind(source.to_owned())
        .fetch_one(&mut *connection)
        .await
        .expect("a count")
}

fn invoice(
    id: &str,
    status: Option<&str>,
    previous: Option<&str>,
    attachments: &[&str],
    memo: bool,
) -> Value {
    json!({
        "source": null, "external_id": id, "status": status, "previous_status": previous, "attachments": attachments,
        "credit_memo_requested": memo,
    })
}

/// Every documented topic leaves its mark, whichever comes first.
pub async fn an_invoice_follows_its_notices(store: &Store) {
    let webhooks = ["invoice.created", "invoice.attachment.created", "invoice.status", "invoice.updated"]
        .map(documented);
    check(store, &webhooks, &[invoice("32211", Some("103"), Some("101"), &["54421"], false)]).await;
    check(store, &webhooks[..1], &[invoice("32211", None, None, &[], false)]).await;
    check(
        store,
        &[documented("invoice.creditmemo.requested"), documented("invoice.status")],
        &[invoice("32211", Some("103"), Some("101"), &[], false), invoice("851233", None, None, &[], true)],
    )
    .await;
}

/// Gestão Online tells the status of an order's invoice as a number.
pub async fn a_tax_invoice_is_known_by_its_order(store: &Store) {
    let webhooks = [documented("TAX_INVOICE_CHANGE_STATUS")];
    check(store, &webhooks, &[invoice("0000593098", Some("1"), None, &[], false)]).await;
}

/// The status received last stays, also when the invoice comes back to a status that it had before.
pub async fn the_newest_status_stays(store: &Store) {
    let to_103 = documented("invoice.status");
    let to_101 = notice(
        "invoice.status",
        r#"{"topic": "invoice.status", "data": {"invoiceId": 32211, "status": 101, "previousStatus": null}}"#,
    );
    check(store, &[to_103, to_101], &[invoice("32211", Some("101"), None, &[], false)]).await;
    let updated = documented("invoice.updated");
    check(
        store,
        &[to_103, to_101, to_103, updated],
        &[invoice("32211", Some("103"), Some("101"), &[], false)],
    )
    .await;
}

/// Each file is attached or not by the latest statement about that very file.
pub async fn each_attachment_has_its_own_order(store: &Store) {
    let created = documented("invoice.attachment.created");
    let deleted = documented("invoice.attachment.deleted");
    let other = notice(
        "invoice.attachment.created",
        r#"{"topic": "invoice.attachment.created", "data": {"invoiceId": "32211", "attachmentId": 7}}"#,
    );
    check(store, &[created, deleted, other], &[invoice("32211", None, None, &["7"], false)]).await;
    check(store, &[deleted, created, other], &[invoice("32211", None, None, &["54421", "7"], false)]).await;
    check(store, &[created, created, deleted, deleted], &[invoice("32211", None, None, &[], false)]).await;
}

/// A topic that the provider does not document is recorded, and is never an error.
pub async fn an_unknown_topic_is_recorded_only(store: &Store) {
    let webhooks = [
        notice("invoice.archived", r#"{"topic": "invoice.archived", "data": {"invoiceId": "32211"}}"#),
        notice("invoice.archived", r#"{"topic": "invoice.archived", "data": []}"#),
        notice("invoice", r#"{"topic": "invoice"}"#),
    ];
    handle(store, &Invoices, &events("unknown", &webhooks)).await.expect("handled");
    assert_eq!(invoices(store, "unknown").await, [Value::Null; 0]);
    assert_eq!(history(store, "unknown").await, 3);
}

/// A body that breaks its contract is refused for good, with the path, and leaves nothing behind.
pub async fn a_broken_contract_is_permanent_and_names_the_path(store: &Store) {
    let check = async |webhook: Webhook<'_>, expect: &str| {
        let failure =
            handle(store, &Invoices, &events("broken", &[webhook])).await.expect_err("it is broken");
        assert!(matches!(&failure, consumer::Failure::Permanent(text) if text == expect), "{failure:?}");
    };
    let id = r#"{"data": {"invoiceId": "1"}}"#;
    check(notice("invoice.created", r#"{"data": {}}"#), "data.invoiceId: missing").await;
    check(notice("invoice.status", id), "data.status: missing").await;
    check(notice("invoice.attachment.deleted", id), "data.attachmentId: missing").await;
    let tax = Webhook {
        provider: gestao_online::NAME,
        topic: "TAX_INVOICE_CHANGE_STATUS",
        data: r#"{"event_id": "TAX_INVOICE_CHANGE_STATUS", "data": {"code": "1"}}"#,
    };
    check(tax, "data.status: missing").await;
    assert_eq!(invoices(store, "broken").await, [Value::Null; 0]);
    assert_eq!(history(store, "broken").await, 0);
}

/// A list gives what its filter asks for, each row on one page, with its own attachments.
pub async fn a_list_is_filtered_and_paged(store: &Store) {
    let topics = ["invoice.creditmemo.requested", "invoice.status", "invoice.attachment.created"];
    handle(store, &Invoices, &events("listed", &topics.map(documented))).await.expect("handled");
    let mut connection = store.read().await.expect("a connection");
    let base = Filter { source: Some("listed".to_owned()), ..Filter::default() };
    let first = Invoice::page(&mut connection, &base, &Page::first(1)).await.expect("a page");
    assert_eq!((first.items[0].external_id.as_str(), first.items[0].attachments.len()), ("32211", 1));
    let second = Page { cursor: first.next, ..Page::first(1) };
    let second = Invoice::page(&mut connection, &base, &second).await.expect("a page");
    assert_eq!((second.items[0].external_id.as_str(), second.items[0].attachments.len()), ("851233", 0));
    assert_eq!(second.next, None);
    for (status, expect) in [("103", 1), ("101", 0)] {
        let filter = Filter { status: Some(status.to_owned()), ..base.clone() };
        let rows = Invoice::page(&mut connection, &filter, &Page::first(10)).await.expect("a page").items;
        assert_eq!(rows.len(), expect, "{status}");
    }
}

/// The laws as tests: see [`store::law_tests!`].
#[macro_export]
macro_rules! invoices_laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::DOMAIN.component], $crate =>
            an_invoice_follows_its_notices
            a_tax_invoice_is_known_by_its_order
            the_newest_status_stays
            each_attachment_has_its_own_order
            an_unknown_topic_is_recorded_only
            a_broken_contract_is_permanent_and_names_the_path
            a_list_is_filtered_and_paged
        }
    };
}

#[cfg(test)]
mod sqlite {
    invoices_laws!(store::fresh_sqlite!());
}
