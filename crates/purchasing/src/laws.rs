//! What is known of a purchase after which webhooks: written once, run on each database.

use consumer::laws::{Announced, Change, Webhook, announced_in_every_order, events, handle, in_every_order};
use event::{ProviderName, Topic};
use providers::{Provider, mercado_eletronico};
use serde_json::{Value, json};
use store::{Page, Store, sql};
use view::Row as _;

use crate::{Filter, Kind, Purchase, Purchasing};

/// A notice of the provider.
fn notice(topic: &'static str, data: &'static str) -> Webhook<'static> {
    Webhook { provider: mercado_eletronico::NAME, topic, data }
}

/// The documented webhook of this topic.
fn documented(topic: &'static str) -> Webhook<'static> {
    let provider = Provider::named(mercado_eletronico::NAME).expect("it is built in");
    notice(topic, provider.example(topic).expect("the topic has a documented body"))
}

/// A version of a document, as malote announces it.
fn fetched(topic: &'static str, data: &'static str) -> Webhook<'static> {
    Webhook { provider: ProviderName::OWN, topic, data }
}

/// The first version of the document of order 123.
const FIRST: &str = r#"{"provider": "mercado-eletronico", "source": "$source", "external_id": "123", "version": 1,
    "document": {"grossValue": 100, "currency": "BRL", "supplierId": 900}}"#;

/// The second version.
const SECOND: &str = r#"{"provider": "mercado-eletronico", "source": "$source", "external_id": "123", "version": 2,
    "document": {"grossValue": 150.50, "currency": "BRL", "supplierId": 901}}"#;

/// The purchases of a source, without its name and the time.
async fn purchases(store: &Store, source: &str) -> Vec<Value> {
    let mut connection = store.read().await.expect("a connection");
    let filter = Filter { source: Some(source.to_owned()), ..Filter::default() };
    let page = Purchase::page(&mut connection, &filter, &Page::first(100)).await.expect("a list");
    let mut rows: Vec<_> = page.items.iter().map(|row| json!(row)).collect();
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.retain(|name, _| !["source", "updated_at", "event_id"].contains(&name.as_str()));
    }
    rows.sort_by_key(|row| (row["kind"].to_string(), row["external_id"].to_string()));
    rows
}

async fn check(store: &Store, webhooks: &[Webhook<'_>], expect: &[Value]) {
    let rows = async |source: &str| purchases(store, source).await;
    let got = in_every_order(store, &Purchasing, webhooks, rows).await;
    assert_eq!(got, expect, "{webhooks:?}");
}

fn purchase(
    kind: &str,
    id: &str,
    status: Option<&str>,
    previous: Option<&str>,
    supplier: Option<&str>,
) -> Value {
    json!({
        "kind": kind, "external_id": id, "status": status, "previous_status": previous, "supplier_id": supplier,
        "total_centavos": null, "currency": null,
    })
}

async fn history(store: &Store, source: &str) -> i64 {
    let mut connection = store.read().await.expect("a connection");
    sql::scalar("SELECT count(*) FROM purchase_history WHERE source = $1")
        .bind(source.to_owned())
        .fetch_one(&mut *connection)
        .await
        .expect("a count")
}

/// The state received last stays, and what a notice does not mention as well.
pub async fn an_order_follows_its_notices(store: &Store) {
    let webhooks = ["order.created", "order.received", "order.canceled", "order.updated"].map(documented);
    check(store, &webhooks, &[purchase("order", "123", Some("canceled"), None, Some("789"))]).await;
    check(store, &webhooks[..1], &[purchase("order", "123", Some("created"), None, None)]).await;
    check(store, &webhooks[3..], &[purchase("order", "123", None, None, Some("789"))]).await;
    check(store, &[documented("order.delivered")], &[purchase("order", "12442", None, None, None)]).await;
}

/// A sender repeats a notice for days: that something was created changes no later state, whenever it arrives.
pub async fn what_was_created_is_older_than_every_other_state(store: &Store) {
    let approved = documented("service-sheet.approved");
    let created = documented("service-sheet.created");
    let expect = [purchase("service_sheet", "32211", Some("approved"), None, None)];
    check(store, &[approved, created], &expect).await;
    check(store, &[created, approved, created], &expect).await;
}

/// A notice that was refused once comes again a day later: that an order is at its supplier reopens none that is cancelled.
pub async fn what_is_received_is_older_than_every_state_but_the_creation(store: &Store) {
    let [created, received, canceled] = ["order.created", "order.received", "order.canceled"].map(documented);
    let at = |status| [purchase("order", "123", Some(status), None, Some("789"))];
    check(store, &[created, canceled, received], &at("canceled")).await;
    check(store, &[received, canceled], &at("canceled")).await;
    check(store, &[received, created], &at("received")).await;
    let quotation = |data: &'static str, topic| notice(topic, data);
    let body = r#"{"data": {"rfqId": "4331"}}"#;
    let expect = [purchase("rfq", "4331", Some("closed"), None, None)];
    check(store, &[quotation(body, "rfq.closed"), quotation(body, "rfq.received")], &expect).await;
}

/// Every documented notice about orders, pre-orders, requests, quotations, contracts and service sheets is booked under its kind.
pub async fn every_documented_notice_about_a_purchase_is_booked(store: &Store) {
    let kinds = [
        ("order.", "order"),
        ("preorder.", "preorder"),
        ("prerequest.", "prerequest"),
        ("request.", "request"),
        ("request-item.", "request"),
        ("rfq.", "rfq"),
        ("contract.", "contract"),
        ("service-sheet.", "service_sheet"),
        ("service-sheet-document.", "service_sheet_document"),
    ];
    let provider = Provider::named(mercado_eletronico::NAME).expect("it is built in");
    let mut booked = 0;
    for topic in mercado_eletronico::TOPICS {
        let Some((_, kind)) = kinds.iter().find(|(prefix, _)| topic.name.starts_with(prefix)) else {
            continue;
        };
        assert!(crate::DOMAIN.bindings.takes(provider.name(), &Topic::new(topic.name).expect("a topic")));
        if topic.example.is_none() {
            continue;
        }
        let source = topic.name.replace('.', "-");
        let notices = [documented(topic.name)];
        handle(store, &Purchasing, &events(&source, &notices)).await.expect("it is handled");
        let rows = purchases(store, &source).await;
        assert_eq!((rows.len(), &rows[0]["kind"]), (1, &json!(kind)), "{}", topic.name);
        booked += 1;
    }
    assert_eq!(booked, 27);
}

/// The code received last stays with the one before it, also when it comes back to one that it had before.
pub async fn the_newest_code_stays(store: &Store) {
    let to_103 = documented("contract.status");
    let to_101 = notice(
        "contract.status",
        r#"{"topic": "contract.status", "data": {"contractId": 32211, "status": 101, "previousStatus": null}}"#,
    );
    let created = documented("contract.created");
    check(store, &[created, to_103, to_101], &[purchase("contract", "32211", Some("101"), None, None)]).await;
    let expect = [purchase("contract", "32211", Some("103"), Some("101"), None)];
    check(store, &[to_103, to_101, to_103, created], &expect).await;
}

/// The ids of kinds are apart: the documented bodies use one number for several.
pub async fn each_kind_has_its_own_ids(store: &Store) {
    let topics = ["preorder.status", "request.status", "contract.status", "service-sheet.status"];
    let kinds = ["contract", "preorder", "request", "service_sheet"];
    let expect = kinds.map(|kind| purchase(kind, "32211", Some("103"), Some("101"), None));
    check(store, &topics.map(documented), &expect).await;
    let topics = ["request-item.status.updated", "prerequest.submitted", "service-sheet-document.status"];
    let expect = [
        purchase("prerequest", "42490e28-ed00-4dc0-89b4-decad490b02a", Some("submitted"), None, None),
        purchase("request", "38510943", None, None, None),
        purchase("service_sheet_document", "250300", Some("103"), Some("101"), None),
    ];
    check(store, &topics.map(documented), &expect).await;
}

/// Several suppliers are asked for a quotation: none of them is that of the request.
pub async fn a_quotation_has_no_supplier_of_its_own(store: &Store) {
    let answered = documented("rfq.answer.created");
    check(store, &[answered], &[purchase("rfq", "9149480", None, None, None)]).await;
    let webhooks = ["rfq.created", "rfq.updated", "rfq.expired", "rfq.closed"].map(documented);
    check(store, &webhooks, &[purchase("rfq", "4331", Some("closed"), None, None)]).await;
    let received = documented("rfq.received");
    check(store, &[received], &[purchase("rfq", "102", Some("received"), None, None)]).await;
}

/// The newest version of a document counts, whichever comes first and whatever notices come between.
pub async fn an_order_has_the_total_of_its_newest_document(store: &Store) {
    let (first, second) = (fetched("order.fetched", FIRST), fetched("order.fetched", SECOND));
    let mut expect = purchase("order", "123", Some("canceled"), None, Some("901"));
    (expect["total_centavos"], expect["currency"]) = (15_050.into(), "BRL".into());
    check(store, &[documented("order.canceled"), first, second], &[expect.clone()]).await;
    check(store, &[second, documented("order.canceled"), first], &[expect.clone()]).await;
    (expect["status"], expect["supplier_id"], expect["total_centavos"]) =
        (Value::Null, "900".into(), 10_000.into());
    check(store, &[first], &[expect]).await;
    // Of another provider's order nothing is known here.
    check(store, &[fetched("order.fetched", r#"{"provider": "gestao-online", "document": {}}"#)], &[]).await;
    let quotation = r#"{"provider": "mercado-eletronico", "source": "$source", "external_id": "4331", "version": 1,
        "document": {"supplierId": 900}}"#;
    let quotation = fetched("rfq.fetched", quotation);
    check(store, &[quotation], &[purchase("rfq", "4331", None, None, None)]).await;
}

/// The change of a total that a domain event announces.
fn total((topic, subject, data): &Announced) -> Option<Change> {
    (*topic == "purchase.total_changed")
        .then(|| (subject.clone(), data["previous_total_centavos"].clone(), data["total_centavos"].clone()))
}

/// Each change of a total is announced, and no other version of a document.
pub async fn the_changes_of_a_total_are_announced(store: &Store) {
    let (first, second) = (fetched("order.fetched", FIRST), fetched("order.fetched", SECOND));
    let webhooks = [documented("order.received"), first, first, second];
    let announced = announced_in_every_order(store, &Purchasing, &webhooks, total).await;
    let got: Vec<_> = announced.iter().map(|(topic, about, _)| (*topic, about.as_str())).collect();
    let changed = ("purchase.total_changed", "order/123");
    let expect =
        [("purchase.created", "order/123"), ("purchase.status_changed", "order/123"), changed, changed];
    assert_eq!(got, expect);
    let (_, _, data) = announced.last().expect("the second version");
    let expect = json!({
        "kind": "order", "external_id": "123", "total_centavos": 15_050, "currency": "BRL",
        "previous_total_centavos": 10_000, "previous_currency": "BRL",
    });
    assert_eq!(*data, expect);
}

/// Every documented topic of the bindings has a meaning.
pub async fn every_documented_topic_is_booked(store: &Store) {
    let bindings = crate::DOMAIN.bindings;
    let provider = ProviderName::new(mercado_eletronico::NAME).expect("a name");
    let is_bound = |topic: &str| bindings.takes(&provider, &event::Topic::new(topic).expect("a topic"));
    let topics = mercado_eletronico::TOPICS.iter().filter(|info| is_bound(info.name));
    let webhooks: Vec<_> = topics.filter_map(|info| Some(notice(info.name, info.example?))).collect();
    assert!(webhooks.len() >= 27, "{}", webhooks.len());
    for webhook in webhooks {
        let source = webhook.topic.replace('.', "-");
        let announced = handle(store, &Purchasing, &events(&source, &[webhook])).await.expect("handled");
        assert_eq!(announced[0].topic, "purchase.created", "{}", webhook.topic);
        assert_eq!(purchases(store, &source).await.len(), 1, "{}", webhook.topic);
    }
}

/// The change that a domain event announces; the others have no state before and after.
fn change((topic, subject, data): &Announced) -> Option<Change> {
    (*topic == "purchase.status_changed")
        .then(|| (subject.clone(), data["previous_status"].clone(), data["status"].clone()))
}

/// A purchase is announced when it becomes known, by whichever notice; then each change of its status, and each notice that
/// says only that there is a change. What is known already is not announced.
pub async fn the_changes_of_a_purchase_are_announced(store: &Store) {
    let check = async |topics: &[&'static str], subject: &str, expect: &[&str]| {
        let webhooks: Vec<_> = topics.iter().map(|topic| documented(topic)).collect();
        let announced = announced_in_every_order(store, &Purchasing, &webhooks, change).await;
        let got: Vec<_> = announced.iter().map(|(topic, about, _)| (*topic, about.as_str())).collect();
        let expect: Vec<_> = expect.iter().map(|topic| (*topic, subject)).collect();
        assert_eq!(got, expect, "{topics:?}");
    };
    let (created, changed, updated) = ("purchase.created", "purchase.status_changed", "purchase.updated");
    let all = ["order.created", "order.canceled", "order.updated", "order.updated"];
    check(&all, "order/123", &[created, changed, changed, updated, updated]).await;
    check(&["order.updated", "order.created"], "order/123", &[created, updated, changed]).await;
    check(&["contract.status", "contract.status"], "contract/32211", &[created, changed]).await;
    check(&["service-sheet.approved", "service-sheet.created"], "service-sheet/32211", &[created, changed])
        .await;
}

/// A topic that the provider does not document leaves a line in the history, whatever its body.
pub async fn an_unknown_topic_is_recorded_only(store: &Store) {
    let webhooks = [
        notice("order.archived", r#"{"topic": "order.archived", "data": {"orderId": "1"}}"#),
        notice("rfq.archived", r#"{"topic": "rfq.archived", "data": []}"#),
        notice("contract", r#"{"topic": "contract"}"#),
    ];
    let announced = handle(store, &Purchasing, &events("unknown", &webhooks)).await.expect("handled");
    assert!(announced.is_empty(), "{announced:?}");
    assert_eq!(purchases(store, "unknown").await, [Value::Null; 0]);
    assert_eq!(history(store, "unknown").await, 3);
}

/// A body that breaks its contract is refused for good, with the path, and leaves nothing behind.
pub async fn a_broken_contract_is_permanent_and_names_the_path(store: &Store) {
    let check = async |topic, data, expect: &str| {
        let received = events("broken", &[notice(topic, data)]);
        let failure = handle(store, &Purchasing, &received).await.expect_err("it is broken");
        assert!(matches!(&failure, consumer::Failure::Permanent(text) if text == expect), "{failure:?}");
    };
    check("order.created", r#"{"data": {}}"#, "data.orderId: missing").await;
    check("preorder.status", r#"{"data": {"preOrderId": "1"}}"#, "data.status: missing").await;
    check("rfq.created", r#"{"topic": "rfq.created"}"#, "data: missing").await;
    assert_eq!(purchases(store, "broken").await, [Value::Null; 0]);
    assert_eq!(history(store, "broken").await, 0);
}

/// A list gives what its filter asks for, each row on one page.
pub async fn a_list_is_filtered_and_paged(store: &Store) {
    let topics = ["contract.status", "order.canceled", "rfq.created"];
    handle(store, &Purchasing, &events("listed", &topics.map(documented))).await.expect("handled");
    let mut connection = store.read().await.expect("a connection");
    let base = Filter { source: Some("listed".to_owned()), ..Filter::default() };
    let first = Purchase::page(&mut connection, &base, &Page::first(2)).await.expect("a page");
    assert_eq!(first.items.iter().map(|row| row.kind).collect::<Vec<_>>(), [Kind::Rfq, Kind::Order]);
    let second = Page { cursor: first.next, ..Page::first(2) };
    let second = Purchase::page(&mut connection, &base, &second).await.expect("a page");
    assert_eq!((second.items[0].kind, second.next), (Kind::Contract, None));
    for (filter, expect) in [
        (Filter { kind: Some(Kind::Order), ..base.clone() }, 1),
        (Filter { status: Some("103".to_owned()), ..base.clone() }, 1),
        (Filter { supplier_id: Some("789".to_owned()), ..base.clone() }, 1),
        (Filter { external_id: Some("4331".to_owned()), ..base.clone() }, 1),
        (Filter { kind: Some(Kind::Preorder), ..base.clone() }, 0),
    ] {
        let rows = Purchase::page(&mut connection, &filter, &Page::first(10)).await.expect("a page").items;
        assert_eq!(rows.len(), expect, "{filter:?}");
    }
}

/// The laws as tests: see [`store::law_tests!`].
#[macro_export]
macro_rules! laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::DOMAIN.component], $crate =>
            an_order_follows_its_notices
            what_was_created_is_older_than_every_other_state
            what_is_received_is_older_than_every_state_but_the_creation
            every_documented_notice_about_a_purchase_is_booked
            the_newest_code_stays
            each_kind_has_its_own_ids
            a_quotation_has_no_supplier_of_its_own
            an_order_has_the_total_of_its_newest_document
            the_changes_of_a_total_are_announced
            every_documented_topic_is_booked
            the_changes_of_a_purchase_are_announced
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
