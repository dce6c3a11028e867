//! What the documents of orders say, beside their events.

use super::*;

/// A version of the document of order 0000593098 with these instalments: amount, what is paid of it, and the month in which it falls
/// due.
fn document(version: i64, total: &str, instalments: &[(&str, &str, u8)]) -> String {
    let items = instalments.iter().map(|(amount, paid, month)| {
        format!(r#"{{"amount": {amount}, "amountPaid": "{paid}", "dueDate": "2027-{month:02}-01", "type": "BOLETO"}}"#)
    });
    let items = items.collect::<Vec<_>>().join(",");
    format!(
        r#"{{"provider": "gestao-online", "source": "$source", "entity": "order", "external_id": "0000593098",
            "version": {version}, "document": {{"code": "0000593098", "orderTotal": "{total}", "financialItems": [{items}]}}}}"#
    )
}

fn fetched(data: &str) -> Webhook<'_> {
    Webhook { provider: event::ProviderName::OWN, topic: "order.fetched", data }
}

/// Kind, amount, due date and state of each row, by id.
fn shown(rows: &[Value]) -> Vec<(String, Value, Value, String)> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let mut shown: Vec<_> = rows
        .iter()
        .map(|row| {
            let kind = format!("{} {}", text(row, "kind"), text(row, "external_id"));
            (kind, row["amount_centavos"].clone(), row["due_date"].clone(), text(row, "state"))
        })
        .collect();
    shown.sort_by(|one, other| one.0.cmp(&other.0));
    shown
}

async fn check(store: &Store, webhooks: &[Webhook<'_>], expect: &[(&str, Option<i64>, Option<&str>, &str)]) {
    let rows = rows(store, webhooks).await;
    let expect: Vec<_> = expect
        .iter()
        .map(|(what, amount, due, state)| {
            ((*what).to_owned(), json!(amount), json!(due), (*state).to_owned())
        })
        .collect();
    assert_eq!(shown(&rows), expect, "{webhooks:?}");
}

/// An order has the amount and the instalments of its newest document, whatever comes first; one that a newer document leaves out is
/// no longer owed, and with the order the unpaid ones are cancelled.
pub async fn an_order_has_the_instalments_of_its_newest_document(store: &Store) {
    let first = document(1, "300.00", &[("100.00", "0", 1), ("100.00", "0", 2), ("100.00", "0", 3)]);
    let second = document(2, "395.00", &[("197.50", "197.50", 1), ("197.50", "0", 4)]);
    let (first, second) = (fetched(&first), fetched(&second));
    let order = "order 0000593098";
    let [one, two, three] = ["1", "2", "3"].map(|number| format!("instalment 0000593098/{number}"));
    let rows = |state| {
        [
            (one.as_str(), Some(19_750), Some("2027-01-01"), "paid"),
            (two.as_str(), Some(19_750), Some("2027-04-01"), state),
            (three.as_str(), Some(10_000), Some("2027-03-01"), "canceled"),
        ]
    };
    let created = documented("ORDER_CREATED");
    let with_order = |state| {
        let mut all = rows(state).to_vec();
        all.push((order, Some(39_500), Some("2027-01-01"), state));
        all
    };
    check(store, &[created, first, second], &with_order("open")).await;
    check(store, &[first, second, documented("ORDER_CANCEL")], &with_order("canceled")).await;
    let paid = documented("FINANCIAL_PAYMENT_DISCHARGE");
    let mut expect = rows("open").to_vec();
    expect.push((order, Some(39_500), Some("2027-01-01"), "paid"));
    check(store, &[documented("ORDER_CANCEL"), second, paid, first], &expect).await;
    // That of another provider says nothing here.
    let other = r#"{"provider": "mercado-eletronico", "source": "$source", "document": []}"#;
    check(store, &[fetched(other)], &[]).await;
}

/// Instalments of orders are announced as others are.
pub async fn the_instalments_of_an_order_are_announced(store: &Store) {
    let first = document(1, "200.00", &[("100.00", "0", 1), ("100.00", "0", 2)]);
    let second = document(2, "200.00", &[("100.00", "100.00", 1), ("100.00", "0", 2)]);
    let webhooks = [fetched(&first), fetched(&second), documented("ORDER_CANCEL")];
    let mut expect = [
        "receivable.opened receivable/0000593098",
        "receivable.opened receivable/0000593098/1",
        "receivable.opened receivable/0000593098/2",
        "receivable.paid receivable/0000593098/1",
        "receivable.canceled receivable/0000593098",
        "receivable.canceled receivable/0000593098/2",
    ];
    let mut told = announced(store, &webhooks).await;
    told.sort();
    expect.sort_unstable();
    assert_eq!(told, expect);
}
