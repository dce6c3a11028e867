//! Instalments: what the newest snapshot states of each and its newest payment, the newer of which decides; and the history of
//! payments.
//!
//! A snapshot and a payment have no order in common. They are compared by the last day that each names, and if that is the
//! same, or the snapshot names none, by receipt. An agreement begins before anything is paid: a snapshot that says no more than
//! that it is registered is older than every payment. A reversal that names no day is therefore not seen. A day that has not come
//! anywhere when it is received counts as the one after the receipt (UTC).

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use consumer::{Announcement, Failure};
use event::Event;
use providers::recuperador::{Pagamento, ParcelaAprovada};
use store::Tx;
use store::many::{Values, fetch_given, insert, merged, rounds};

use super::agreements::{Snapshot, date, receipt};
use crate::events::{Causes, RETURNING, receivable_announcements};
use crate::{AgreementState, Kind, Receivable, ReceivableState};

/// A payment of an instalment.
pub(crate) struct Payment<'a> {
    pub event: &'a Event,
    pub instalment: &'a ParcelaAprovada,
}

impl Payment<'_> {
    /// Its place among the payments of its instalment: the day, and the receipt. Where the day had not come, the day that was
    /// stated follows.
    fn at(&self) -> String {
        let (day, receipt) = (self.instalment.data_pagto.to_string(), receipt(self.event));
        let latest = latest_day(self.event);
        if day <= latest { format!("{day} {receipt}") } else { format!("{latest} {receipt} {day}") }
    }
}

/// The last day that an event can know of, wherever its sender is. A later one is a mistake, and must not win over all that comes.
fn latest_day(event: &Event) -> String {
    let next_day = event.time.checked_add(Duration::from_secs(24 * 3_600)).unwrap_or(event.time);
    next_day.to_string().chars().take(DAY).collect()
}

/// The length of a day as text.
const DAY: usize = "2026-11-22".len();

/// Where the day that was stated begins in the place of a payment, if it is there: after day and receipt.
const STATED_DAY: usize = DAY + " ".len() + 20 + " ".len() + 36 + " ".len() + 1;

/// When a snapshot was made, as far as it says: the last day on which something was paid or canceled, and its receipt. Empty if it
/// names none: then its receipt decides. One of an active agreement that names none says no more than its registration, which is
/// older than every payment: a down payment may be older than the day of the agreement itself.
fn stated_at(Snapshot { event, agreement, state }: &Snapshot<'_>) -> String {
    let paid = agreement.lista_parcelas.iter().map(|instalment| instalment.datapagto);
    let settled = agreement.lista_dividas.iter().map(|debt| debt.datapagto);
    match [agreement.data_cancelamento].into_iter().chain(paid).chain(settled).flatten().max() {
        Some(day) => format!("{} {}", day.to_string().min(latest_day(event)), receipt(event)),
        None if *state == AgreementState::Active && agreement.data.is_some() => "0000-00-00 ".to_owned(),
        None => String::new(),
    }
}

/// Whether the newest payment is newer than the newest snapshot, which are in these rows.
fn pays(snapshot: &str, payment: &str) -> String {
    format!(
        "{payment}.payment_at <> '' AND ({snapshot}.stated IS NULL OR CASE {snapshot}.stated_at \
         WHEN '' THEN {snapshot}.state_event < substr({payment}.payment_at, 12) \
         ELSE {snapshot}.stated_at < {payment}.payment_at END)"
    )
}

/// Sets state and day of payment by the newest snapshot and the newest payment. A paid instalment has a day if either names one.
fn decided(snapshot: &str, payment: &str) -> String {
    format!(
        "(state, paid_date) = (SELECT CASE WHEN pays THEN 'paid' ELSE {snapshot}.stated END, \
         CASE WHEN pays THEN day WHEN {snapshot}.stated = 'paid' THEN COALESCE({snapshot}.stated_paid_date, day) \
         ELSE {snapshot}.stated_paid_date END FROM (SELECT {} AS pays, \
         COALESCE(NULLIF(substr({payment}.payment_at, {STATED_DAY}, {DAY}), ''), \
         NULLIF(substr({payment}.payment_at, 1, {DAY}), '')) AS day) AS compared), \
         state_before = receivable_items.state, status_before = receivable_items.provider_status",
        pays(snapshot, payment)
    )
}

/// What identifies an instalment: source, agreement and its id there.
type Key<'a> = (&'a str, &'a str, &'a str);

fn key(row: &Receivable) -> (&str, &str) {
    (row.agreement_id.as_deref().unwrap_or_default(), &row.external_id)
}

/// Writes those instalments that no newer snapshot mentions. For the unpaid ones, the state beside their snapshot is stated.
pub(crate) async fn upsert_instalments(
    tx: &mut Tx,
    snapshots: &[(&Snapshot<'_>, ReceivableState)],
) -> Result<Vec<Announcement>, Failure> {
    static TAIL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "ON CONFLICT (source, kind, agreement_id, external_id) DO UPDATE SET due_date = excluded.due_date, \
                 amount_centavos = excluded.amount_centavos, state_order = excluded.state_order, \
                 state_event = excluded.state_event, stated = excluded.stated, stated_at = excluded.stated_at, \
                 stated_paid_date = excluded.stated_paid_date, {} \
             WHERE receivable_items.stated IS NULL OR (excluded.state_order, excluded.state_event) > \
                 (receivable_items.state_order, receivable_items.state_event) {RETURNING}",
            decided("excluded", "receivable_items")
        )
    });
    let mut rows = Vec::new();
    for (snapshot, unpaid) in snapshots {
        let Snapshot { event, agreement, .. } = snapshot;
        let stated_at = stated_at(snapshot);
        for instalment in &agreement.lista_parcelas {
            let state = match instalment.situacao {
                Pagamento::Pago => ReceivableState::Paid,
                Pagamento::NaoPago => *unpaid,
            };
            let row: Values = vec![
                (&event.source.name).into(),
                Kind::Instalment.as_str().into(),
                agreement.id_acordo.as_str().into(),
                instalment.id.as_str().into(),
                (&instalment.datavencto).into(),
                instalment.valor.0.into(),
                date(instalment.datapagto),
                state.as_str().into(),
                agreement.id.0.into(),
                receipt(event).into(),
                0.into(),
                "".into(),
                (&event.id).into(),
                state.as_str().into(),
                stated_at.clone().into(),
                date(instalment.datapagto),
            ];
            let key: Key<'_> =
                (event.source.name.as_str(), agreement.id_acordo.as_str(), instalment.id.as_str());
            rows.push((key, (key, *event, row)));
        }
    }
    let mut announcements = Vec::new();
    for round in rounds(rows) {
        let causes = round.iter().map(|(key, event, _)| (*key, (*event, *event))).collect();
        let written = insert(
            tx,
            "receivable_items (source, kind, agreement_id, external_id, due_date, amount_centavos, paid_date, \
                 state, state_order, state_event, status_order, status_event, first_event, stated, stated_at, \
                 stated_paid_date)",
            &TAIL,
            round.into_iter().map(|(.., row)| row).collect(),
        )
        .await?;
        announcements.extend(receivable_announcements(&written, &causes, key)?);
    }
    Ok(announcements)
}

/// Cancels the open instalments that these snapshots, the newest of their agreements, do not mention: only older ones do.
/// What a payment has paid stays paid.
pub(crate) async fn cancel_unmentioned(
    tx: &mut Tx,
    snapshots: &[&Snapshot<'_>],
) -> Result<Vec<Announcement>, Failure> {
    // One expression beside the agreement, so that rows are found by that. To PostgreSQL without statistics, each further
    // condition would leave a two-hundredth of the rows, and so few that it would go through the agreements for each.
    let text = |given: &str| {
        format!(
            "UPDATE receivable_items SET stated = 'canceled', state = CASE state WHEN 'open' THEN 'canceled' ELSE state END, \
             state_before = receivable_items.state, status_before = receivable_items.provider_status \
             FROM ({given}) AS newest \
             WHERE receivable_items.source = newest.column1 AND receivable_items.agreement_id = newest.column2 \
             AND CASE WHEN receivable_items.kind = 'instalment' AND receivable_items.stated = 'open' \
                 THEN (receivable_items.state_order, receivable_items.state_event) < (newest.column3, newest.column4) \
                 END {RETURNING}"
        )
    };
    let newest = |snapshot: &&Snapshot<'_>| {
        let (source, agreement) = snapshot.key();
        vec![source.into(), agreement.into(), snapshot.agreement.id.0.into(), receipt(snapshot.event).into()]
    };
    let written = fetch_given(tx, text, snapshots.iter().map(newest).collect()).await?;
    let causes: HashMap<_, Causes<'_>> = snapshots
        .iter()
        .map(|Snapshot { event, agreement, .. }| {
            ((event.source.name.as_str(), agreement.id_acordo.as_str(), ""), (*event, *event))
        })
        .collect();
    receivable_announcements(&written, &causes, |row| (row.agreement_id.as_deref().unwrap_or_default(), ""))
}

/// Writes the newest payment of each instalment. The instalment need not be known: its agreement may come later.
pub(crate) async fn upsert_payments(
    tx: &mut Tx,
    payments: &[Payment<'_>],
) -> Result<Vec<Announcement>, Failure> {
    static TAIL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "ON CONFLICT (source, kind, agreement_id, external_id) DO UPDATE SET payment_at = excluded.payment_at, \
                 due_date = CASE WHEN receivable_items.stated IS NULL THEN excluded.due_date \
                     ELSE receivable_items.due_date END, {} \
             WHERE excluded.payment_at > receivable_items.payment_at {RETURNING}",
            decided("receivable_items", "excluded")
        )
    });
    let keyed = payments.iter().map(|payment| {
        let Payment { event, instalment } = payment;
        let key: Key<'_> =
            (event.source.name.as_str(), instalment.id_acordo.as_str(), instalment.id_parcela.as_str());
        (key, (payment.at(), payment))
    });
    let newest = merged(keyed, |known, other| {
        if other.0 > known.0 {
            *known = other;
        }
    });
    let causes = newest.iter().map(|(key, (_, Payment { event, .. }))| (*key, (*event, *event))).collect();
    let rows =
        newest.iter().map(|((source, agreement, id), (at, Payment { event, instalment }))| -> Values {
            vec![
                (*source).into(),
                Kind::Instalment.as_str().into(),
                (*agreement).into(),
                (*id).into(),
                date(instalment.data_vencto),
                (&instalment.data_pagto).into(),
                ReceivableState::Paid.as_str().into(),
                0.into(),
                "".into(),
                0.into(),
                "".into(),
                (&event.id).into(),
                at.into(),
            ]
        });
    let written = insert(
        tx,
        "receivable_items (source, kind, agreement_id, external_id, due_date, paid_date, state, state_order, \
             state_event, status_order, status_event, first_event, payment_at)",
        &TAIL,
        rows.collect(),
    )
    .await?;
    receivable_announcements(&written, &causes, key)
}

/// Records the payments, whether or not they are the newest.
pub(crate) async fn record_payments(tx: &mut Tx, payments: &[Payment<'_>]) -> Result<(), Failure> {
    let row = |Payment { event, instalment }: &Payment<'_>| {
        let amounts: serde_json::Map<_, _> =
            instalment.valores.iter().map(|(name, amount)| (name.clone(), amount.0.into())).collect();
        vec![
            (&event.id).into(),
            (&event.source.name).into(),
            instalment.id_acordo.as_str().into(),
            instalment.id_parcela.as_str().into(),
            (&event.topic).into(),
            instalment.id.map(|id| id.0).into(),
            date(instalment.data_vencto),
            (&instalment.data_pagto).into(),
            instalment.meio_pagto.clone().into(),
            instalment.forma_pagto.clone().into(),
            serde_json::Value::Object(amounts).to_string().into(),
            event.time.into(),
        ]
    };
    insert(
        tx,
        "instalment_history (event_id, source, agreement_id, external_id, topic, webhook_id, due_date, paid_date, \
             means, method, amounts, received_at)",
        "ON CONFLICT (event_id) DO NOTHING",
        payments.iter().map(row).collect(),
    )
    .await?;
    Ok(())
}
