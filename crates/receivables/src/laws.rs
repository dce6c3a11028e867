//! What the books hold after which webhooks: written once, run on each database.

mod documents;
mod payments;

use consumer::laws::{Announced, Change, Webhook, announced_in_every_order, events, handle, in_every_order};
use event::Zone;
use providers::{Provider, gestao_online, recuperador};
use serde_json::{Value, json};
use store::{Page, Store, sql};
use view::Row as _;

pub use documents::*;
pub use payments::*;

use crate::{Agreement, AgreementFilter, Filter, Kind, ReceivableRow, ReceivableState, Receivables};

/// The handler with the days of the default zone.
fn handler() -> Receivables {
    Receivables { zone: Zone::default() }
}

/// A webhook of recuperador's with the given body.
fn agreement<'a>(topic: &'a str, data: &'a str) -> Webhook<'a> {
    Webhook { provider: recuperador::NAME, topic, data }
}

/// The documented webhook of this topic, of either provider.
fn documented(topic: &str) -> Webhook<'_> {
    let example = |provider| Some((provider, Provider::named(provider)?.example(topic)?));
    let mut examples = [recuperador::NAME, gestao_online::NAME].into_iter().filter_map(example);
    let (provider, data) = examples.next().expect("the topic has a documented body");
    Webhook { provider, topic, data }
}

/// A snapshot of agreement 7 with these instalments: id and `situacao`.
fn snapshot(webhook_id: i64, fields: &str, instalments: &[(&str, &str)]) -> String {
    let instalment = |(id, situacao): &(&str, &str)| {
        format!(
            r#"{{"id": {id}, "datavencto": "2026-12-15", "valor": "{webhook_id}.5", "situacao": "{situacao}"}}"#
        )
    };
    let instalments: Vec<String> = instalments.iter().map(instalment).collect();
    format!(
        r#"{{"id": {webhook_id}, "id_acordo": 7, "valor_original": 20, "valor_acordo": "10.00", {fields},
             "lista_parcelas": [{}]}}"#,
        instalments.join(", ")
    )
}

async fn receivables(store: &Store, source: &str) -> Vec<Value> {
    let mut connection = store.read().await.expect("a connection");
    let filter = Filter { source: Some(source.to_owned()), ..Filter::default() };
    let page = ReceivableRow::page(&mut connection, &filter, &Page::first(100)).await.expect("a list");
    let mut rows: Vec<_> = page.items.iter().map(|row| json!(row.receivable)).collect();
    rows.sort_by_key(|row| row["external_id"].to_string());
    rows
}

/// `id state` of each receivable, then the agreement's state.
async fn states(store: &Store, source: &str) -> Vec<String> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or("-").to_owned();
    let rows = receivables(store, source).await;
    let rows = rows.iter().map(|row| format!("{} {}", text(row, "external_id"), text(row, "state")));
    rows.chain(agreements(store, source).await.iter().map(|row| text(row, "state"))).collect()
}

async fn agreements(store: &Store, source: &str) -> Vec<Value> {
    let mut connection = store.read().await.expect("a connection");
    let filter = AgreementFilter { source: Some(source.to_owned()), ..AgreementFilter::default() };
    let page = Agreement::page(&mut connection, &filter, &Page::first(100)).await.expect("a list");
    let mut rows: Vec<_> = page.items.iter().map(|row| json!(row)).collect();
    // The event that came first depends on the order of arrival.
    rows.iter_mut().filter_map(Value::as_object_mut).for_each(|row| drop(row.remove("event_id")));
    rows
}

async fn count(store: &Store, sql: &'static str, source: &str) -> i64 {
    let mut connection = store.read().await.expect("a connection");
    sql::scalar(sql).bind(source.to_owned()).fetch_one(&mut *connection).await.expect("a count")
}

/// The rows that these webhooks lead to, without the source: receivables, then agreements.
async fn rows(store: &Store, webhooks: &[Webhook<'_>]) -> Vec<Value> {
    let read = async |source: &str| {
        let mut rows = receivables(store, source).await;
        rows.append(&mut agreements(store, source).await);
        rows.iter_mut().for_each(|row| row["source"] = Value::Null);
        rows
    };
    in_every_order(store, &handler(), webhooks, read).await
}

async fn check_states(store: &Store, webhooks: &[Webhook<'_>], expect: &[&str]) {
    let got = in_every_order(store, &handler(), webhooks, async |source| states(store, source).await).await;
    assert_eq!(got, expect);
}

/// The documented agreement ends settled, with its instalments paid on their days, whichever webhook comes first.
pub async fn a_settled_agreement_has_paid_instalments(store: &Store) {
    let webhooks = ["acordo.cadastrado", "acordo.quitado", "acordo.cancelado"].map(documented);
    let instalment = |id: &str, due: &str, paid: &str| {
        json!({
            "source": null, "external_id": id, "kind": "instalment", "agreement_id": "45031", "order_id": null, "due_date": due,
            "amount_centavos": 46020, "paid_date": paid, "state": "paid", "provider_status": null,
        })
    };
    let expect = [
        instalment("910001", "2026-10-15", "2026-10-14"),
        instalment("910002", "2026-11-15", "2026-11-13"),
        instalment("910003", "2026-12-15", "2026-12-15"),
        json!({
            "source": null, "external_id": "45031", "client_name": "Maria Aparecida de Souza",
            "document": "52998224725", "agreed_centavos": 138_060, "original_centavos": 150_000, "instalments": 3,
            "state": "settled",
        }),
    ];
    assert_eq!(rows(store, &webhooks).await, expect);
}

/// A cancelled agreement keeps what was paid; the rest is owed no longer. By webhook id, not by arrival.
pub async fn a_canceled_agreement_keeps_paid_instalments(store: &Store) {
    let webhooks = ["acordo.cancelado", "acordo.cadastrado"].map(documented);
    check_states(store, &webhooks, &["910001 paid", "910002 canceled", "910003 canceled", "canceled"]).await;
    check_states(
        store,
        &[documented("acordo.cadastrado")],
        &["910001 open", "910002 open", "910003 open", "active"],
    )
    .await;
}

/// An inactive agreement's instalments stay as they are.
pub async fn an_inactive_agreement_keeps_its_instalments(store: &Store) {
    let (old, new) = (
        snapshot(1, r#""situacao": "A""#, &[("1", "N"), ("2", "N")]),
        snapshot(2, r#""situacao": "I""#, &[("1", "P"), ("2", "N")]),
    );
    let webhooks = [agreement("acordo.cadastrado", &old), agreement("acordo.inativo", &new)];
    check_states(store, &webhooks, &["1 paid", "2 open", "inactive"]).await;
}

/// An open instalment that the newest snapshot leaves out is canceled, a paid one stays paid, and the newest snapshot
/// that mentions an instalment decides its state, even if it arrives late.
pub async fn an_instalment_left_out_is_canceled_unless_it_is_paid(store: &Store) {
    let active = r#""situacao": "A""#;
    let snapshots = [
        snapshot(1, active, &[("1", "N"), ("2", "N"), ("3", "P")]),
        snapshot(2, active, &[("1", "N"), ("2", "P")]),
        snapshot(3, active, &[("1", "N"), ("4", "N")]),
        snapshot(4, active, &[("4", "P"), ("5", "N")]),
    ];
    let webhooks = snapshots.each_ref().map(|data| agreement("acordo.cadastrado", data));
    check_states(store, &webhooks, &["1 canceled", "2 paid", "3 paid", "4 paid", "5 open", "active"]).await;
}

/// Newer snapshots of several agreements, handled together, cancel and replace what is their own.
pub async fn snapshots_of_several_agreements_replace_each_its_own(store: &Store) {
    let debts =
        |n: i64| format!(r#""situacao": "A", "lista_dividas": [{{"id": 1, "valor": {n}, "situacao": "N"}}]"#);
    let other = |data: String| data.replace(r#""id_acordo": 7"#, r#""id_acordo": 8"#);
    let snapshots = [
        snapshot(1, &debts(1), &[("1", "N"), ("2", "N")]),
        other(snapshot(5, &debts(2), &[("3", "N"), ("4", "N")])),
        snapshot(4, &debts(4), &[("1", "N")]),
        other(snapshot(6, &debts(8), &[("4", "N")])),
    ];
    let webhooks = snapshots.each_ref().map(|data| agreement("acordo.cadastrado", data));
    let left = async |source: &str| {
        let sum = "SELECT CAST(sum(amount_centavos) AS BIGINT) FROM agreement_debts WHERE source = $1";
        (count(store, sum, source).await, states(store, source).await)
    };
    let (owed, states) = in_every_order(store, &handler(), &webhooks, left).await;
    assert_eq!(owed, 1_200);
    assert_eq!(states, ["1 open", "2 canceled", "3 canceled", "4 open", "active", "active"]);
}

/// The same webhook again, as the sender's retry is: a new event with the same body.
pub async fn the_same_webhook_again_changes_nothing(store: &Store) {
    let (source, data) = ("webhook-again", snapshot(5, r#""situacao": "A""#, &[("1", "N")]));
    for _ in 0..3 {
        let events = events(source, &[agreement("acordo.cadastrado", &data)]);
        handle(store, &handler(), &events).await.expect("handled");
    }
    assert_eq!(states(store, source).await, ["1 open", "active"]);
    assert_eq!(count(store, "SELECT count(*) FROM agreement_history WHERE source = $1", source).await, 3);
}

/// Of two contents with one webhook id, the one received later holds, whichever is handled first.
pub async fn of_two_contents_with_one_webhook_id_the_later_holds(store: &Store) {
    let contents = [
        snapshot(5, r#""situacao": "A""#, &[("1", "N"), ("2", "N")]),
        snapshot(5, r#""situacao": "Q""#, &[("2", "P"), ("3", "N")]),
    ];
    let webhooks = contents.each_ref().map(|data| agreement("acordo.cadastrado", data));
    check_states(store, &webhooks, &["1 canceled", "2 paid", "3 open", "settled"]).await;
    let newer = snapshot(6, r#""situacao": "A""#, &[("3", "P")]);
    let webhooks = [webhooks[0], webhooks[1], agreement("acordo.cadastrado", &newer), webhooks[0]];
    check_states(store, &webhooks[..3], &["1 canceled", "2 paid", "3 paid", "active"]).await;
    // The first content once more, received last of its id, before the newer webhook.
    check_states(store, &[webhooks[1], webhooks[3]], &["1 open", "2 open", "3 canceled", "active"]).await;
}

/// The row of an instalment from an earlier version, which has no receipt, counts as older than every
/// receipt: a correction with the same webhook id replaces it.
pub async fn a_correction_holds_over_instalments_of_a_version_before_receipts(store: &Store) {
    let (source, active) = ("before-receipts", r#""situacao": "A""#);
    let contents = [
        snapshot(5, active, &[("1", "N"), ("2", "N")]),
        snapshot(5, r#""situacao": "Q""#, &[("2", "P"), ("3", "N")]),
    ];
    let webhooks = contents.each_ref().map(|data| agreement("acordo.cadastrado", data));
    let events = events(source, &webhooks);
    handle(store, &handler(), &events[..1]).await.expect("handled");
    let mut tx = store.begin().await.expect("a transaction");
    for text in ["UPDATE receivable_items SET state_event = ''", "UPDATE agreements SET webhook_receipt = ''"]
    {
        let text = format!("{text} WHERE source = '{source}'");
        sql::assembled(text).execute(&mut *tx).await.expect("an update");
    }
    tx.commit().await.expect("a commit");
    handle(store, &handler(), &events[1..]).await.expect("handled");
    assert_eq!(states(store, source).await, ["1 canceled", "2 paid", "3 open", "settled"]);
}

/// The debts are those of the newest snapshot.
pub async fn debts_are_replaced_by_a_newer_snapshot(store: &Store) {
    let two = r#""situacao": "A", "lista_dividas": [{"id": 1, "valor": 1, "situacao": "N"}, {"id": 1, "valor": 2, "situacao": "N"}]"#;
    let one = r#""situacao": "Q", "lista_dividas": [{"id": 1, "valor": 3.07, "situacao": "P"}]"#;
    let snapshots = [snapshot(1, two, &[]), snapshot(2, one, &[]), snapshot(1, two, &[])];
    let webhooks = snapshots.each_ref().map(|data| agreement("acordo.quitado", data));
    let owed = async |source: &str| {
        let sum = "SELECT CAST(sum(amount_centavos) AS BIGINT) FROM agreement_debts WHERE source = $1";
        (count(store, sum, source).await, states(store, source).await)
    };
    let got = in_every_order(store, &handler(), &webhooks, owed).await;
    assert_eq!(got, (307, vec!["settled".to_owned()]));
}

/// More instalments than one statement takes.
pub async fn an_agreement_may_have_thousands_of_instalments(store: &Store) {
    let ids: Vec<String> = (0..2_500).map(|id: u32| id.to_string()).collect();
    let instalments: Vec<_> = ids.iter().map(|id| (id.as_str(), "N")).collect();
    let data = snapshot(1, r#""situacao": "A""#, &instalments);
    let events = events("thousands", &[agreement("acordo.cadastrado", &data)]);
    handle(store, &handler(), &events).await.expect("handled");
    let count = count(store, "SELECT count(*) FROM receivable_items WHERE source = $1", "thousands").await;
    assert_eq!(count, 2_500);
}

/// An order is open until it is paid or cancelled, whichever was received last; its payment's status is another
/// matter, and so is the notice that it was created, whenever it comes.
pub async fn an_order_follows_its_events(store: &Store) {
    let check = async |topics: &[&'static str], expect: &str, paid: Option<&str>, status: Option<&str>| {
        let webhooks: Vec<_> = topics.iter().map(|topic| documented(topic)).collect();
        let expect = json!({
            "source": null, "external_id": "0000593098", "kind": "order", "agreement_id": null, "order_id": null, "due_date": null,
            "amount_centavos": null, "paid_date": paid, "state": expect, "provider_status": status,
        });
        assert_eq!(rows(store, &webhooks).await, [expect], "{topics:?}");
    };
    const CREATED: &str = "ORDER_CREATED";
    const CANCEL: &str = "ORDER_CANCEL";
    const DISCHARGE: &str = "FINANCIAL_PAYMENT_DISCHARGE";
    const STATUS: &str = "FINANCIAL_PAYMENT_STATUS";
    let day = Some("2026-11-22");
    check(&[CREATED], "open", None, None).await;
    check(&[STATUS], "open", None, Some("1")).await;
    check(&[CREATED, DISCHARGE], "paid", day, None).await;
    check(&[DISCHARGE, CREATED, DISCHARGE], "paid", day, None).await;
    check(&[CREATED, CANCEL, STATUS], "canceled", None, Some("1")).await;
    check(&[CREATED, STATUS, DISCHARGE, CANCEL], "canceled", day, Some("1")).await;
    check(&[CANCEL, DISCHARGE, CREATED], "paid", day, None).await;
}

/// Of the statuses of a payment, the one received last stays.
pub async fn the_newest_payment_status_stays(store: &Store) {
    let status =
        |n: u8| format!(r#"{{"event_id": "FINANCIAL_PAYMENT_STATUS", "data": {{"id": 9, "status": {n}}}}}"#);
    let bodies = [status(3), status(1), status(2)];
    let webhooks = bodies.each_ref().map(|data| Webhook {
        provider: gestao_online::NAME,
        topic: "FINANCIAL_PAYMENT_STATUS",
        data,
    });
    let read = async |source: &str| receivables(store, source).await[0]["provider_status"].clone();
    assert_eq!(in_every_order(store, &handler(), &webhooks, read).await, "2");
}

/// A payment that is reported again later keeps the day on which it was reported first.
pub async fn a_payment_told_again_keeps_its_day(store: &Store) {
    let mut received = events("days", &[documented("FINANCIAL_PAYMENT_DISCHARGE"); 2]);
    // A day in Brazil ends three hours after that of UTC.
    received[0].time = "2026-11-23T02:59:59Z".parse().expect("a time");
    received[1].time = "2026-11-23T03:00:00Z".parse().expect("a time");
    let [first, next_day] = received.as_slice() else { panic!("two events") };
    for order in [[first, next_day], [next_day, first]] {
        handle(store, &handler(), order).await.expect("handled");
        assert_eq!(receivables(store, "days").await[0]["paid_date"], "2026-11-22");
    }
    let alone = std::slice::from_ref(next_day);
    let elsewhere = events("elsewhere", &[documented("FINANCIAL_PAYMENT_DISCHARGE")]);
    let elsewhere = event::Event { time: alone[0].time, ..elsewhere[0].clone() };
    handle(store, &handler(), [&elsewhere]).await.expect("handled");
    assert_eq!(receivables(store, "elsewhere").await[0]["paid_date"], "2026-11-23");
}

/// The change that a domain event announces.
fn change((topic, subject, data): &Announced) -> Option<Change> {
    let (before, after) = match *topic {
        "receivable.status_changed" => ("previous_provider_status", "provider_status"),
        _ => ("previous_state", "state"),
    };
    // Instalments are numbered within their agreement.
    let thing = format!("{subject} of {} {after}", data["agreement_id"]);
    Some((thing, data[before].clone(), data[after].clone()))
}

/// What the domain events of these webhooks say, each as `<type> <subject>`, with those of agreements first.
async fn announced(store: &Store, webhooks: &[Webhook<'_>]) -> Vec<String> {
    let told = announced_in_every_order(store, &handler(), webhooks, change).await;
    told.iter().map(|(topic, subject, _)| format!("{topic} {subject}")).collect()
}

/// Each change of the state of an agreement or an instalment is announced, whichever webhook comes first; a webhook that
/// changes nothing announces nothing.
pub async fn the_changes_of_an_agreement_are_announced(store: &Store) {
    let snapshots = [
        snapshot(1, r#""situacao": "A""#, &[("1", "N"), ("2", "N"), ("3", "N")]),
        snapshot(2, r#""situacao": "A""#, &[("1", "P"), ("2", "N")]),
        snapshot(3, r#""situacao": "I""#, &[("1", "P"), ("2", "N")]),
        snapshot(4, r#""situacao": "Q""#, &[("1", "P"), ("2", "P")]),
    ];
    let webhooks = snapshots.each_ref().map(|data| agreement("acordo.cadastrado", data));
    let expect = [
        "agreement.registered agreement/7",
        "receivable.opened receivable/7/1",
        "receivable.opened receivable/7/2",
        "receivable.opened receivable/7/3",
        "receivable.paid receivable/7/1",
        "receivable.canceled receivable/7/3",
        "agreement.inactivated agreement/7",
        "agreement.settled agreement/7",
        "receivable.paid receivable/7/2",
    ];
    assert_eq!(announced(store, &webhooks).await, expect);
    let webhooks = ["acordo.cadastrado", "acordo.cancelado"].map(documented);
    let expect = [
        "agreement.registered agreement/45031",
        "receivable.opened receivable/45031/910001",
        "receivable.opened receivable/45031/910002",
        "receivable.opened receivable/45031/910003",
        "agreement.canceled agreement/45031",
        "receivable.paid receivable/45031/910001",
        "receivable.canceled receivable/45031/910002",
        "receivable.canceled receivable/45031/910003",
    ];
    assert_eq!(announced(store, &webhooks).await, expect);
    assert_eq!(announced(store, &webhooks[1..]).await[0], "agreement.canceled agreement/45031");
}

/// Each change of the state or of the payment's status of an order is announced.
pub async fn the_changes_of_an_order_are_announced(store: &Store) {
    let topics = ["ORDER_CREATED", "FINANCIAL_PAYMENT_STATUS", "FINANCIAL_PAYMENT_DISCHARGE", "ORDER_CANCEL"];
    let expect = ["opened", "status_changed", "paid", "canceled"];
    let expect = expect.map(|word| format!("receivable.{word} receivable/0000593098"));
    assert_eq!(announced(store, &topics.map(documented)).await, expect);
    let (paid, status) = (documented("FINANCIAL_PAYMENT_DISCHARGE"), documented("FINANCIAL_PAYMENT_STATUS"));
    let expect = ["receivable.paid receivable/0000593098", "receivable.status_changed receivable/0000593098"];
    assert_eq!(announced(store, &[paid, paid, status, status]).await, expect);
}

/// A domain event has what the lists show of a receivable, and of an agreement nothing about a person.
pub async fn an_announcement_says_what_changed_and_names_nobody(store: &Store) {
    let webhooks = ["acordo.cadastrado", "acordo.quitado"].map(documented);
    let told = announced_in_every_order(store, &handler(), &webhooks, change).await;
    let data = |topic: &str, subject: &str| {
        let found = told.iter().find(|(one, about, _)| *one == topic && about == subject);
        found.expect("it is announced").2.clone()
    };
    assert_eq!(
        data("receivable.paid", "receivable/45031/910001"),
        json!({
            "external_id": "910001", "kind": "instalment", "agreement_id": "45031", "order_id": null, "due_date": "2026-10-15",
            "amount_centavos": 46020, "paid_date": "2026-10-14", "state": "paid", "provider_status": null,
            "previous_state": "open",
        })
    );
    assert_eq!(
        data("agreement.settled", "agreement/45031"),
        json!({
            "external_id": "45031", "state": "settled", "previous_state": "active", "agreed_centavos": 138_060,
            "original_centavos": 150_000,
        })
    );
    let text = format!("{told:?}");
    assert!(!text.contains("Maria") && !text.contains("52998224725"), "{text}");
}

/// Rows from before domain events announce only what changes from then on.
pub async fn rows_from_before_announce_only_what_changes(store: &Store) {
    let webhooks = ["acordo.cadastrado", "acordo.quitado", "ORDER_CREATED"].map(documented);
    let received = events("before", &webhooks);
    let [open, settled, created] = received.as_slice() else { panic!("three events") };
    handle(store, &handler(), [open, created]).await.expect("handled");
    let mut tx = store.begin().await.expect("a transaction");
    for table in ["receivable_items", "agreements"] {
        let text = format!("UPDATE {table} SET state_before = NULL WHERE source = 'before'");
        sql::assembled(text).execute(&mut *tx).await.expect("as an earlier version wrote it");
    }
    tx.commit().await.expect("a commit");
    let again = events("before", &[documented("ORDER_CREATED")]);
    assert!(handle(store, &handler(), &again).await.expect("handled").is_empty());
    let announcements = handle(store, &handler(), [settled]).await.expect("handled");
    let topics: Vec<_> = announcements.iter().map(|one| one.topic).collect();
    assert_eq!(topics, ["agreement.settled", "receivable.paid", "receivable.paid", "receivable.paid"]);
}

/// A body that breaks its contract is refused for good, with the path, and leaves nothing behind.
pub async fn a_broken_contract_is_permanent_and_names_the_path(store: &Store) {
    let check = async |webhook: Webhook<'_>, expect: &str| {
        let failure =
            handle(store, &handler(), &events("broken", &[webhook])).await.expect_err("it is broken");
        assert!(matches!(&failure, consumer::Failure::Permanent(text) if text == expect), "{failure:?}");
    };
    let good = documented("acordo.cadastrado").data;
    let (at, last) = good.split_at(good.rfind("460.20").expect("an amount"));
    let abc = format!("{at}\"abc\"{}", &last["460.20".len()..]);
    let expect = "lista_parcelas[2].valor: expected a decimal, got a text of 3 characters";
    check(agreement("acordo.cadastrado", &abc), expect).await;
    let twice = snapshot(1, r#""situacao": "A""#, &[("1", "N"), ("1", "P")]);
    check(agreement("acordo.cadastrado", &twice), "lista_parcelas[1].id: there twice").await;
    let order = |topic, data| Webhook { provider: gestao_online::NAME, topic, data };
    check(
        order("ORDER_CREATED", r#"{"event_id": "ORDER_CREATED", "data": {}}"#),
        "data.code: missing, and so is data.id",
    )
    .await;
    let no_status = r#"{"event_id": "FINANCIAL_PAYMENT_STATUS", "data": {"code": "1"}}"#;
    check(order("FINANCIAL_PAYMENT_STATUS", no_status), "data.status: missing").await;
    assert_eq!(states(store, "broken").await, [""; 0]);
}

/// A list gives what its filter asks for, each row on one page.
pub async fn a_list_is_filtered_and_paged(store: &Store) {
    let webhooks = ["acordo.cadastrado", "acordo.cancelado", "ORDER_CREATED"].map(documented);
    handle(store, &handler(), &events("listed", &webhooks)).await.expect("handled");
    let mut connection = store.read().await.expect("a connection");
    let base = Filter { source: Some("listed".to_owned()), ..Filter::default() };

    let (mut page, mut ids) = (Page::first(1), Vec::new());
    loop {
        let part = ReceivableRow::page(&mut connection, &base, &page).await.expect("a page");
        ids.extend(part.items.into_iter().map(|row| row.receivable.external_id));
        match part.next {
            Some(next) => page.cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(ids, ["0000593098", "910003", "910002", "910001"]);

    let mut check = async |filter: Filter, expect: usize| {
        let rows =
            ReceivableRow::page(&mut connection, &filter, &Page::first(10)).await.expect("a page").items;
        assert_eq!(rows.len(), expect, "{filter:?}");
    };
    check(Filter { state: Some(ReceivableState::Canceled), ..base.clone() }, 2).await;
    check(Filter { kind: Some(Kind::Order), ..base.clone() }, 1).await;
    check(
        Filter { agreement_id: Some("45031".into()), state: Some(ReceivableState::Paid), ..base.clone() },
        1,
    )
    .await;
    let document = |text: &str| AgreementFilter {
        source: Some("listed".into()),
        document: Some(text.into()),
        ..AgreementFilter::default()
    };
    for (text, expect) in [("529.982.247-25", 1), ("52998224725", 1), ("1", 0), ("-", 0)] {
        let rows = Agreement::page(&mut connection, &document(text), &Page::first(10)).await.expect("a page");
        assert_eq!(rows.items.len(), expect, "{text}");
    }
}

/// The laws as tests: see [`store::law_tests!`].
#[macro_export]
macro_rules! laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::DOMAIN.component], $crate =>
            a_settled_agreement_has_paid_instalments
            a_canceled_agreement_keeps_paid_instalments
            an_inactive_agreement_keeps_its_instalments
            an_instalment_left_out_is_canceled_unless_it_is_paid
            snapshots_of_several_agreements_replace_each_its_own
            the_same_webhook_again_changes_nothing
            of_two_contents_with_one_webhook_id_the_later_holds
            a_correction_holds_over_instalments_of_a_version_before_receipts
            debts_are_replaced_by_a_newer_snapshot
            an_agreement_may_have_thousands_of_instalments
            an_order_follows_its_events
            an_order_has_the_instalments_of_its_newest_document
            the_instalments_of_an_order_are_announced
            the_newest_payment_status_stays
            a_payment_told_again_keeps_its_day
            the_changes_of_an_agreement_are_announced
            the_changes_of_an_order_are_announced
            an_announcement_says_what_changed_and_names_nobody
            rows_from_before_announce_only_what_changes
            a_payment_pays_its_instalment
            the_later_of_snapshot_and_payment_decides
            a_day_that_has_not_come_wins_over_nothing_that_is_received_later
            without_days_the_receipt_decides
            a_paid_instalment_may_be_left_out
            instalments_are_numbered_within_their_agreement
            a_payment_is_announced_once
            every_payment_is_on_record_with_its_amounts
            a_broken_contract_is_permanent_and_names_the_path
            a_list_is_filtered_and_paged
        }
    };
}

#[cfg(test)]
mod sqlite {
    laws!(store::fresh_sqlite!());
}
