//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

use std::collections::HashMap;

use consumer::Failure;
use event::Event;
use providers::recuperador::{Agreement, Pagamento};
use providers::{Date, Personal};
use store::many::{Value, insert, rounds};
use store::sql::{assembled, query};
use store::{Row, Tx};

use crate::{AgreementState, Kind, ReceivableState};

/// An agreement as one event describes it.
pub(crate) struct Snapshot<'a> {
    pub event: &'a Event,
    pub agreement: &'a Agreement,
    pub state: AgreementState,
}

impl Snapshot<'_> {
    /// What tells the agreement from others: source and its id there.
    pub(crate) fn key(&self) -> (String, String) {
        (self.event.source.name.to_string(), self.agreement.id_acordo.as_str().to_owned())
    }
}

/// What one event says about an order.
pub(crate) struct Order {
    /// Its code, or else its id.
    pub key: String,
    /// As the body has it; its meaning depends on the topic.
    pub status: Option<String>,
    pub change: OrderChange,
}

/// What the topic says about an order.
pub(crate) enum OrderChange {
    /// That there is one.
    Known,
    /// That it is paid, and on which day the provider reported that, or that it is cancelled.
    State(ReceivableState, Option<String>),
    /// The status of its payment, from the body.
    Status,
}

/// The order of snapshots with one webhook id: microseconds of receipt, then id. Of a fixed width, so that texts compare
/// as numbers do.
fn receipt(event: &Event) -> String {
    let (microseconds, id) = event.receipt();
    format!("{microseconds:020} {id}")
}

fn personal(text: &Option<Personal>) -> Value {
    text.as_ref().map(|text| text.expose().to_owned()).into()
}

fn date(date: Option<Date>) -> Value {
    date.map(|date| date.to_string()).into()
}

/// The number of instalments that the provider names, or else lists.
fn instalments(agreement: &Agreement) -> i64 {
    let listed = i64::try_from(agreement.lista_parcelas.len()).unwrap_or(i64::MAX);
    agreement.parcelas.map_or(listed, |named| named.0)
}

/// Writes those agreements of which the snapshot is newer than the row, and gives them with the event that made the row.
/// Locks the rows either way, on PostgreSQL as on SQLite. No agreement is there twice.
pub(crate) async fn upsert_agreements(
    tx: &mut Tx,
    snapshots: &[&Snapshot<'_>],
) -> Result<HashMap<(String, String), String>, Failure> {
    let row = |Snapshot { event, agreement, state }: &&Snapshot<'_>| {
        vec![
            (&event.source.name).into(),
            agreement.id_acordo.as_str().into(),
            agreement.id_cliente.as_ref().map(|id| id.as_str().to_owned()).into(),
            personal(&agreement.nome_cliente),
            agreement.cpf_cnpj.as_ref().map(|document| document.bare().to_owned()).into(),
            agreement.id_credor.as_ref().map(|id| id.as_str().to_owned()).into(),
            personal(&agreement.nome_credor),
            date(agreement.data),
            date(agreement.data_cancelamento),
            personal(&agreement.motivo_cancelamento),
            agreement.valor_acordo.0.into(),
            agreement.valor_original.0.into(),
            instalments(agreement).into(),
            state.as_str().into(),
            agreement.id.0.into(),
            receipt(event).into(),
            (&event.id).into(),
        ]
    };
    let written = insert(
        tx,
        "agreements (source, external_id, client_id, client_name, document, creditor_id, creditor_name, \
             agreed_date, canceled_date, cancel_reason, agreed_centavos, original_centavos, instalments, state, \
             webhook_id, webhook_receipt, first_event)",
        "ON CONFLICT (source, external_id) DO UPDATE SET client_id = excluded.client_id, \
             client_name = excluded.client_name, document = excluded.document, creditor_id = excluded.creditor_id, \
             creditor_name = excluded.creditor_name, agreed_date = excluded.agreed_date, \
             canceled_date = excluded.canceled_date, cancel_reason = excluded.cancel_reason, \
             agreed_centavos = excluded.agreed_centavos, original_centavos = excluded.original_centavos, \
             instalments = excluded.instalments, state = excluded.state, webhook_id = excluded.webhook_id, \
             webhook_receipt = excluded.webhook_receipt \
         WHERE (excluded.webhook_id, excluded.webhook_receipt) > \
             (agreements.webhook_id, agreements.webhook_receipt) \
         RETURNING source, external_id, first_event",
        snapshots.iter().map(row).collect(),
    )
    .await?;
    let written = written.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?)));
    Ok(written.collect::<Result<_, store::DriverError>>()?)
}

/// The receipt of the snapshot that wrote an instalment. Earlier versions wrote the event id, which contains no space:
/// it counts as older than every receipt.
const WRITTEN: &str = "CASE WHEN receivables.state_event LIKE '% %' THEN receivables.state_event ELSE '' END";

/// Writes those instalments that no newer snapshot mentions. The unpaid ones get the state beside their snapshot.
pub(crate) async fn upsert_instalments(
    tx: &mut Tx,
    snapshots: &[(&Snapshot<'_>, ReceivableState)],
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (Snapshot { event, agreement, .. }, unpaid) in snapshots {
        for instalment in &agreement.lista_parcelas {
            let state = match instalment.situacao {
                Pagamento::Pago => ReceivableState::Paid,
                Pagamento::NaoPago => *unpaid,
            };
            let row: Vec<Value> = vec![
                (&event.source.name).into(),
                Kind::Instalment.as_str().into(),
                instalment.id.as_str().into(),
                agreement.id_acordo.as_str().into(),
                (&instalment.datavencto).into(),
                instalment.valor.0.into(),
                date(instalment.datapagto),
                state.as_str().into(),
                agreement.id.0.into(),
                receipt(event).into(),
                0.into(),
                "".into(),
                (&event.id).into(),
            ];
            rows.push(((&event.source.name, instalment.id.as_str()), row));
        }
    }
    let tail = format!(
        "ON CONFLICT (source, kind, external_id) DO UPDATE SET agreement_id = excluded.agreement_id, \
             due_date = excluded.due_date, amount_centavos = excluded.amount_centavos, \
             paid_date = excluded.paid_date, state = excluded.state, state_order = excluded.state_order, \
             state_event = excluded.state_event \
         WHERE (excluded.state_order, excluded.state_event) > (receivables.state_order, {WRITTEN})"
    );
    for round in rounds(rows) {
        insert(
            tx,
            "receivables (source, kind, external_id, agreement_id, due_date, amount_centavos, paid_date, \
                 state, state_order, state_event, status_order, status_event, first_event)",
            &tail,
            round,
        )
        .await?;
    }
    Ok(())
}

/// Cancels the open instalments that the snapshot, the newest, does not mention: only older ones do.
pub(crate) async fn cancel_unmentioned(tx: &mut Tx, snapshot: &Snapshot<'_>) -> Result<(), Failure> {
    let (source, agreement) = snapshot.key();
    assembled(format!(
        "UPDATE receivables SET state = $1 \
         WHERE source = $2 AND kind = $3 AND agreement_id = $4 AND state = $5 \
         AND (state_order, {WRITTEN}) < ($6, $7)"
    ))
    .bind(ReceivableState::Canceled.as_str())
    .bind(source)
    .bind(Kind::Instalment.as_str())
    .bind(agreement)
    .bind(ReceivableState::Open.as_str())
    .bind(snapshot.agreement.id.0)
    .bind(receipt(snapshot.event))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes the debts of an older snapshot.
pub(crate) async fn delete_debts(tx: &mut Tx, snapshot: &Snapshot<'_>) -> Result<(), Failure> {
    let (source, agreement) = snapshot.key();
    query("DELETE FROM agreement_debts WHERE source = $1 AND agreement_id = $2")
        .bind(source)
        .bind(agreement)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes the snapshots' debts where there are none.
pub(crate) async fn insert_debts(tx: &mut Tx, snapshots: &[&Snapshot<'_>]) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for Snapshot { event, agreement, .. } in snapshots {
        for (position, debt) in (0_i64..).zip(&agreement.lista_dividas) {
            let state = match debt.situacao {
                Pagamento::Pago => ReceivableState::Paid,
                Pagamento::NaoPago => ReceivableState::Open,
            };
            rows.push(vec![
                (&event.source.name).into(),
                agreement.id_acordo.as_str().into(),
                position.into(),
                debt.id.as_str().into(),
                date(debt.datavencto),
                date(debt.datapagto),
                debt.valor.0.into(),
                debt.descricao.clone().into(),
                debt.contrato.clone().into(),
                debt.codigo.clone().into(),
                state.as_str().into(),
            ]);
        }
    }
    insert(
        tx,
        "agreement_debts (source, agreement_id, position, external_id, due_date, paid_date, \
             amount_centavos, description, contract, code, state)",
        "",
        rows,
    )
    .await?;
    Ok(())
}

/// Records the snapshots, whether or not they are the newest.
pub(crate) async fn record_agreements(tx: &mut Tx, snapshots: &[Snapshot<'_>]) -> Result<(), Failure> {
    let row = |Snapshot { event, agreement, state }: &Snapshot<'_>| {
        let paid = agreement.lista_parcelas.iter().filter(|one| one.situacao == Pagamento::Pago);
        vec![
            (&event.id).into(),
            (&event.source.name).into(),
            agreement.id_acordo.as_str().into(),
            (&event.topic).into(),
            agreement.id.0.into(),
            state.as_str().into(),
            agreement.valor_acordo.0.into(),
            instalments(agreement).into(),
            i64::try_from(paid.count()).unwrap_or(i64::MAX).into(),
            event.time.into(),
        ]
    };
    insert(
        tx,
        "agreement_history (event_id, source, external_id, topic, webhook_id, state, agreed_centavos, \
             instalments, paid_instalments, received_at)",
        "ON CONFLICT (event_id) DO NOTHING",
        snapshots.iter().map(row).collect(),
    )
    .await?;
    Ok(())
}

/// Writes each aspect of an order if the statement about it is newer. An aspect that the event says nothing about has
/// order 0, which is never newer. Of the days on which the payment was reported, the first stays.
pub(crate) async fn upsert_orders(tx: &mut Tx, orders: &[(&Event, &Order)]) -> Result<(), Failure> {
    let rows = orders.iter().map(|(event, Order { key, status, change })| {
        let (at, first) = event.receipt();
        let (stated, absent) = ((at, first.to_string()), (0_i64, String::new()));
        let (state, paid_date, state_order, provider_status, status_order) = match change {
            OrderChange::Known => (ReceivableState::Open, None, absent.clone(), None, absent),
            OrderChange::State(state, paid_date) => (*state, paid_date.clone(), stated, None, absent),
            OrderChange::Status => (ReceivableState::Open, None, absent, status.clone(), stated),
        };
        let row: Vec<Value> = vec![
            (&event.source.name).into(),
            Kind::Order.as_str().into(),
            key.into(),
            paid_date.into(),
            state.as_str().into(),
            state_order.0.into(),
            state_order.1.into(),
            provider_status.into(),
            status_order.0.into(),
            status_order.1.into(),
            (&event.id).into(),
        ];
        ((&event.source.name, key), row)
    });
    for round in rounds(rows) {
        insert(
            tx,
            "receivables (source, kind, external_id, paid_date, state, state_order, state_event, \
                 provider_status, status_order, status_event, first_event)",
            "ON CONFLICT (source, kind, external_id) DO UPDATE SET \
                 paid_date = CASE WHEN excluded.paid_date IS NULL OR receivables.paid_date <= excluded.paid_date \
                     THEN receivables.paid_date ELSE excluded.paid_date END, \
                 (state, state_order, state_event) = (SELECT \
                     CASE WHEN newer THEN excluded.state ELSE receivables.state END, \
                     CASE WHEN newer THEN excluded.state_order ELSE receivables.state_order END, \
                     CASE WHEN newer THEN excluded.state_event ELSE receivables.state_event END \
                     FROM (SELECT (excluded.state_order, excluded.state_event) > \
                         (receivables.state_order, receivables.state_event) AS newer) AS compared), \
                 (provider_status, status_order, status_event) = (SELECT \
                     CASE WHEN newer THEN excluded.provider_status ELSE receivables.provider_status END, \
                     CASE WHEN newer THEN excluded.status_order ELSE receivables.status_order END, \
                     CASE WHEN newer THEN excluded.status_event ELSE receivables.status_event END \
                     FROM (SELECT (excluded.status_order, excluded.status_event) > \
                         (receivables.status_order, receivables.status_event) AS newer) AS compared)",
            round,
        )
        .await?;
    }
    Ok(())
}

/// Records the events, whether or not they are the newest.
pub(crate) async fn record_orders(tx: &mut Tx, orders: &[(&Event, &Order)]) -> Result<(), Failure> {
    let row = |(event, Order { key, status, .. }): &(&Event, &Order)| {
        vec![
            (&event.id).into(),
            (&event.source.name).into(),
            key.into(),
            (&event.topic).into(),
            status.clone().into(),
            event.time.into(),
        ]
    };
    insert(
        tx,
        "order_history (event_id, source, external_id, topic, provider_status, received_at)",
        "ON CONFLICT (event_id) DO NOTHING",
        orders.iter().map(row).collect(),
    )
    .await?;
    Ok(())
}
