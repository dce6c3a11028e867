//! What is known of an invoice after which webhooks: written once, run on each database.

use consumer::laws::{Announced, Change, Webhook, announced_in_every_order, events, handle, in_every_order};
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
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.insert("source".to_owned(), Value::Null);
        // The event that came first depends on the order of arrival.
        row.remove("event_id");
    }
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
        "credit_memo_requested": memo, "number": null, "series": null, "issue_date": null, "total_centavos": null,
        "net_centavos": null, "currency": null, "supplier_id": null, "supplier_document": null,
    })
}

/// A document as it is announced.
fn fetched<'a>(topic: &'a str, data: &'a str) -> Webhook<'a> {
    Webhook { provider: event::ProviderName::OWN, topic, data }
}

/// The newest document of an invoice counts, and that of its supplier, whichever comes first and whatever notices come between.
pub async fn an_invoice_has_the_amounts_of_its_newest_document(store: &Store) {
    let first = fetched(
        "invoice.fetched",
        r#"{"provider": "mercado-eletronico", "source": "$source", "external_id": "32211", "version": 1, "document":
            {"invoiceNumber": 4711, "invoiceSerial": "1", "totalDue": 1.00, "supplierId": 900}}"#,
    );
    let second = fetched(
        "invoice.fetched",
        r#"{"provider": "mercado-eletronico", "source": "$source", "external_id": "32211", "version": 2, "document":
            {"invoiceNumber": 4711, "issueDate": "2026-11-20T00:00:00", "totalDue": 1234.50, "netPrice": 1200,
             "currency": "BRL", "supplierId": 900}}"#,
    );
    let supplier = fetched(
        "supplier.fetched",
        r#"{"provider": "mercado-eletronico", "source": "$source", "external_id": "900", "version": 1, "document":
            {"documents": [{"type": "CNPJ", "number": "11.222.333/0001-81"}]}}"#,
    );
    let other = fetched("invoice.fetched", r#"{"provider": "another", "document": []}"#);
    let mut expect = invoice("32211", Some("103"), Some("101"), &[], false);
    let amounts = json!({
        "number": "4711", "issue_date": "2026-11-20", "total_centavos": 123_450, "net_centavos": 120_000,
        "currency": "BRL", "supplier_id": "900", "supplier_document": "11222333000181",
    });
    let fields = amounts.as_object().expect("an object").clone();
    expect.as_object_mut().expect("an object").extend(fields);
    check(store, &[documented("invoice.status"), first, second, supplier], &[expect]).await;
    check(store, &[other], &[]).await;
    let told = announced_in_every_order(store, &Invoices, &[first], change).await;
    assert_eq!(told.len(), 1, "an invoice that becomes known by its document is announced, too: {told:?}");
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

/// The change that a domain event announces; the others have no state before and after.
fn change((topic, subject, data): &Announced) -> Option<Change> {
    (*topic == "invoice.status_changed")
        .then(|| (subject.clone(), data["previous_status"].clone(), data["status"].clone()))
}

/// An invoice is announced when it becomes known, by whichever provider and notice; then each change, and each notice that
/// says only that there is one. What is known already is not announced.
pub async fn the_changes_of_an_invoice_are_announced(store: &Store) {
    let check = async |topics: &[&'static str], subject: &str, expect: &[&str]| {
        let webhooks: Vec<_> = topics.iter().map(|topic| documented(topic)).collect();
        let told = announced_in_every_order(store, &Invoices, &webhooks, change).await;
        let got: Vec<_> = told.iter().map(|(topic, about, _)| (*topic, about.as_str())).collect();
        let expect: Vec<_> = expect.iter().map(|topic| (*topic, subject)).collect();
        assert_eq!(got, expect, "{topics:?}");
    };
    let (created, updated) = ("invoice.created", "invoice.updated");
    check(
        &[created, "invoice.status", updated, updated],
        "invoice/32211",
        &[created, "invoice.status_changed", updated, updated],
    )
    .await;
    check(&["invoice.status", created], "invoice/32211", &[created, "invoice.status_changed"]).await;
    let requested = "invoice.creditmemo.requested";
    let expect = [created, "invoice.credit_memo_requested"];
    check(&[requested, requested], "invoice/851233", &expect).await;
    let tax = "TAX_INVOICE_CHANGE_STATUS";
    check(&[tax, tax], "invoice/0000593098", &[created, "invoice.status_changed"]).await;
}

/// A file is announced when it is attached or deleted, and not when an older notice about it arrives.
pub async fn the_changes_of_an_attachment_are_announced(store: &Store) {
    let webhooks = ["invoice.attachment.created", "invoice.attachment.deleted"].map(documented);
    let check = async |source: &str, order: &[usize], expect: &[&str]| {
        let received = events(source, &[webhooks[0], webhooks[1], webhooks[0]]);
        let order = order.iter().map(|index| &received[*index]);
        let announcements = handle(store, &Invoices, order).await.expect("handled");
        let told = announcements.iter().filter(|one| one.topic != "invoice.created");
        let told: Vec<_> = told
            .map(|one| {
                let data: Value = serde_json::from_slice(&one.data).expect("JSON");
                let expect = json!({"source": source, "external_id": "32211", "attachment_id": "54421"});
                assert_eq!(data, expect);
                one.topic.strip_prefix("invoice.attachment_").expect("it is about a file")
            })
            .collect();
        assert_eq!(told, expect, "{source}");
    };
    check("in-order", &[0, 1, 2], &["added", "removed", "added"]).await;
    check("late", &[1, 0], &["removed"]).await;
    check("newest-first", &[2, 1, 0], &["added"]).await;
}

/// A topic that the provider does not document is recorded, and is never an error.
pub async fn an_unknown_topic_is_recorded_only(store: &Store) {
    let webhooks = [
        notice("invoice.archived", r#"{"topic": "invoice.archived", "data": {"invoiceId": "32211"}}"#),
        notice("invoice.archived", r#"{"topic": "invoice.archived", "data": []}"#),
        notice("invoice", r#"{"topic": "invoice"}"#),
    ];
    let announced = handle(store, &Invoices, &events("unknown", &webhooks)).await.expect("handled");
    assert!(announced.is_empty(), "{announced:?}");
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
macro_rules! laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::DOMAIN.component], $crate =>
            an_invoice_follows_its_notices
            an_invoice_has_the_amounts_of_its_newest_document
            a_tax_invoice_is_known_by_its_order
            the_newest_status_stays
            each_attachment_has_its_own_order
            the_changes_of_an_invoice_are_announced
            the_changes_of_an_attachment_are_announced
            an_unknown_topic_is_recorded_only
            a_broken_contract_is_permanent_and_names_the_path
            a_list_is_filtered_and_paged
        }
    };
}

#[cfg(test)]
mod sqlite {
    laws!(store::fresh_sqlite!());
}
