//! What the books hold after notices that instalments were paid, in every order relative to the snapshots of their agreements.

use super::*;

/// A notice that an instalment of agreement 7 was paid on a day of November.
fn payment(id: &str, day: u8) -> String {
    format!(
        r#"{{"id": 3, "id_acordo": 7, "id_parcela": "{id}", "data_vencto": "2026-11-{day:02}", "data_pagto": "2026-11-{day:02}"}}"#
    )
}

fn paid(data: &str) -> Webhook<'_> {
    agreement("parcela.aprovada", data)
}

/// A snapshot of agreement 7, registered on November 5.
fn registered(webhook_id: i64, instalments: &[(&str, &str)]) -> String {
    snapshot(webhook_id, r#""situacao": "A", "data": "2026-11-05""#, instalments)
}

/// The same agreement, cancelled on November 20.
fn canceled(webhook_id: i64, instalments: &[(&str, &str)]) -> String {
    let fields =
        r#""situacao": "I", "cancelado": "S", "data": "2026-11-05", "data_cancelamento": "2026-11-20""#;
    snapshot(webhook_id, fields, instalments)
}

/// `agreement id state day` of each instalment.
async fn instalments(store: &Store, source: &str) -> Vec<String> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or("-").to_owned();
    let row = |row: &Value| {
        let [agreement, id, state, day] =
            ["agreement_id", "external_id", "state", "paid_date"].map(|field| text(row, field));
        format!("{agreement} {id} {state} {day}")
    };
    let mut rows: Vec<_> = receivables(store, source).await.iter().map(row).collect();
    rows.sort();
    rows
}

async fn check(store: &Store, webhooks: &[Webhook<'_>], expect: &[&str]) {
    let read = async |source: &str| instalments(store, source).await;
    assert_eq!(in_every_order(store, &handler(), webhooks, read).await, expect);
}

/// The documented notice pays its instalment of the documented agreement, and no other, whatever else was received.
pub async fn a_payment_pays_its_instalment(store: &Store) {
    let topics = ["acordo.cadastrado", "parcela.aprovada", "acordo.cancelado", "acordo.quitado"];
    let [registered, paid, canceled, settled] = topics.map(documented);
    let first = "45031 910001 paid 2026-10-14";
    check(store, &[registered, paid], &[first, "45031 910002 open -", "45031 910003 open -"]).await;
    // Received late, the registration is older all the same.
    check(store, &[paid, registered], &[first, "45031 910002 open -", "45031 910003 open -"]).await;
    let left = ["45031 910002 canceled -", "45031 910003 canceled -"];
    check(store, &[canceled, paid, registered], &[first, left[0], left[1]]).await;
    let all = [first, "45031 910002 paid 2026-11-13", "45031 910003 paid 2026-12-15"];
    check(store, &[paid, settled, registered, canceled], &all).await;
    let row = json!({
        "source": null, "external_id": "910001", "kind": "instalment", "agreement_id": "45031", "order_id": null,
        "due_date": "2026-10-15", "amount_centavos": null, "paid_date": "2026-10-14", "state": "paid",
        "provider_status": null,
    });
    assert_eq!(rows(store, &[paid]).await, [row]);
}

/// A snapshot that names a later day than that of the payment decides; an earlier one changes nothing back.
pub async fn the_later_of_snapshot_and_payment_decides(store: &Store) {
    let (unpaid, gone) = (registered(1, &[("1", "N")]), canceled(2, &[("1", "N")]));
    let (before, after) = (payment("1", 13), payment("1", 25));
    let [unpaid, gone] = [&unpaid, &gone].map(|data| agreement("acordo.cadastrado", data));
    check(store, &[unpaid, paid(&before), gone], &["7 1 canceled -"]).await;
    check(store, &[gone, unpaid, paid(&before)], &["7 1 canceled -"]).await;
    check(store, &[gone, paid(&after), unpaid], &["7 1 paid 2026-11-25"]).await;
    check(store, &[paid(&after), paid(&before), gone], &["7 1 paid 2026-11-25"]).await;
    // On the same day: a registration is older, and of a cancellation the receipt decides.
    let (on_5, on_20) = (payment("1", 5), payment("1", 20));
    check(store, &[paid(&on_5), unpaid], &["7 1 paid 2026-11-05"]).await;
    check(store, &[gone, paid(&on_20)], &["7 1 paid 2026-11-20"]).await;
    check(store, &[paid(&on_20), gone], &["7 1 canceled -"]).await;
    // A down payment may be older than the day of the agreement.
    let on_4 = payment("1", 4);
    check(store, &[paid(&on_4), unpaid], &["7 1 paid 2026-11-04"]).await;
    check(store, &[unpaid, paid(&on_4)], &["7 1 paid 2026-11-04"]).await;
    // Of an agreement that became inactive on no day, the receipt decides.
    let ended = snapshot(2, r#""situacao": "I", "data": "2026-11-05""#, &[("1", "N")]);
    let (ended, on_13) = (agreement("acordo.inativo", &ended), payment("1", 13));
    check(store, &[unpaid, ended, paid(&on_13)], &["7 1 paid 2026-11-13"]).await;
    check(store, &[unpaid, paid(&on_13), ended], &["7 1 open -"]).await;
}

/// A day that has not come when it is received wins over nothing that is received later: a mistyped year changes nothing. It is
/// shown as it was stated.
pub async fn a_day_that_has_not_come_wins_over_nothing_that_is_received_later(store: &Store) {
    let unpaid = registered(1, &[("1", "N")]);
    let gone = canceled(2, &[("1", "N")]).replace("2026-11-20", "2026-11-30");
    let mistyped = payment("1", 13).replace(r#""data_pagto": "2026"#, r#""data_pagto": "2062"#);
    let [unpaid, gone] = [&unpaid, &gone].map(|data| agreement("acordo.cadastrado", data));
    check(store, &[unpaid, paid(&mistyped)], &["7 1 paid 2062-11-13"]).await;
    check(store, &[unpaid, paid(&mistyped), gone], &["7 1 canceled -"]).await;
    check(store, &[unpaid, gone, paid(&mistyped)], &["7 1 paid 2062-11-13"]).await;
    // Of two payments, too.
    let later = payment("1", 25);
    check(store, &[unpaid, paid(&mistyped), paid(&later)], &["7 1 paid 2026-11-25"]).await;
}

/// Where a snapshot names no day, the receipt decides, and a snapshot that says paid without a day takes that of the payment.
pub async fn without_days_the_receipt_decides(store: &Store) {
    let active = r#""situacao": "A""#;
    let (open, settled) = (snapshot(1, active, &[("1", "N")]), snapshot(2, active, &[("1", "P")]));
    let [open, settled] = [&open, &settled].map(|data| agreement("acordo.cadastrado", data));
    let on_13 = payment("1", 13);
    check(store, &[open, paid(&on_13)], &["7 1 paid 2026-11-13"]).await;
    check(store, &[paid(&on_13), open], &["7 1 open -"]).await;
    check(store, &[paid(&on_13), open, settled], &["7 1 paid 2026-11-13"]).await;
}

/// What was paid stays paid when a newer snapshot leaves it out.
pub async fn a_paid_instalment_may_be_left_out(store: &Store) {
    let two = registered(1, &[("1", "N"), ("2", "N"), ("3", "N")]);
    let one = snapshot(4, r#""situacao": "A", "data": "2026-11-05""#, &[("1", "N")]);
    let [two, one] = [&two, &one].map(|data| agreement("acordo.cadastrado", data));
    let on_13 = payment("2", 13);
    check(store, &[two, paid(&on_13), one], &["7 1 open -", "7 2 paid 2026-11-13", "7 3 canceled -"]).await;
}

/// Two agreements that number their instalments alike have rows of their own.
pub async fn instalments_are_numbered_within_their_agreement(store: &Store) {
    let other = |data: &str| data.replace(r#""id_acordo": 7"#, r#""id_acordo": 8"#);
    let (one, paid_of_one) = (registered(1, &[("1", "N"), ("2", "N")]), payment("1", 13));
    let (another, paid_of_another) =
        (other(&canceled(2, &[("1", "P"), ("2", "N")])), other(&payment("2", 25)));
    let webhooks = [
        agreement("acordo.cadastrado", &one),
        agreement("acordo.cancelado", &another),
        paid(&paid_of_one),
        paid(&paid_of_another),
    ];
    let expect = ["7 1 paid 2026-11-13", "7 2 open -", "8 1 paid -", "8 2 paid 2026-11-25"];
    check(store, &webhooks, &expect).await;
    let told = announced(store, &webhooks).await;
    let expect = [
        "agreement.registered agreement/7",
        "receivable.opened receivable/7/1",
        "receivable.opened receivable/7/2",
        "agreement.canceled agreement/8",
        "receivable.paid receivable/8/1",
        "receivable.canceled receivable/8/2",
        "receivable.paid receivable/7/1",
        "receivable.paid receivable/8/2",
    ];
    assert_eq!(told, expect);
}

/// Each change by a payment is announced, and a snapshot that confirms it announces nothing.
pub async fn a_payment_is_announced_once(store: &Store) {
    let topics = ["acordo.cadastrado", "parcela.aprovada", "acordo.quitado", "parcela.aprovada"];
    let expect = [
        "agreement.registered agreement/45031",
        "receivable.opened receivable/45031/910001",
        "receivable.opened receivable/45031/910002",
        "receivable.opened receivable/45031/910003",
        "receivable.paid receivable/45031/910001",
        "agreement.settled agreement/45031",
        "receivable.paid receivable/45031/910002",
        "receivable.paid receivable/45031/910003",
    ];
    assert_eq!(announced(store, &topics.map(documented)).await, expect);
    let late = ["parcela.aprovada", "acordo.cadastrado"].map(documented);
    assert_eq!(announced(store, &late).await[0], "receivable.paid receivable/45031/910001");
    let (unpaid, gone) = (registered(1, &[("1", "N")]), canceled(2, &[("1", "N")]));
    let before = payment("1", 13);
    let webhooks =
        [agreement("acordo.cadastrado", &unpaid), paid(&before), agreement("acordo.cancelado", &gone)];
    let told = announced(store, &webhooks).await;
    assert_eq!(
        told[2..],
        [
            "receivable.paid receivable/7/1",
            "agreement.canceled agreement/7",
            "receivable.canceled receivable/7/1"
        ]
    );
}

/// The history has every payment with its amounts. The body decides: earlier releases recorded such notices under a topic of
/// agreements, and the sender's API has another name for the instalment.
pub async fn every_payment_is_on_record_with_its_amounts(store: &Store) {
    let source = "payments";
    let posted = documented("parcela.aprovada").data;
    let polled = posted.replace("id_parcela", "id_contasareceber").replace("2026-10-14", "2026-10-15");
    let webhooks = [agreement("acordo.cadastrado", posted), paid(&polled)];
    handle(store, &handler(), &events(source, &webhooks)).await.expect("handled");
    assert_eq!(instalments(store, source).await, ["45031 910001 paid 2026-10-15"]);
    let text = "SELECT count(*) FROM instalment_history WHERE source = $1 AND agreement_id = '45031' \
                AND external_id = '910001' AND webhook_id = 5120 AND means = 'Boleto' \
                AND amounts = '{\"valor\":46020,\"valor_pago\":46020,\"valor_repasse\":41418}'";
    assert_eq!(count(store, text, source).await, 2);
    let broken = posted.replace("2026-10-14", "14/10");
    let failure =
        handle(store, &handler(), &events(source, &[paid(&broken)])).await.expect_err("it is broken");
    let expect = "data_pagto: expected a date";
    assert!(
        matches!(&failure, consumer::Failure::Permanent(text) if text.starts_with(expect)),
        "{failure:?}"
    );
}
