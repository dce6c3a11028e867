//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

use std::collections::HashMap;

use consumer::Failure;
use event::{Event, SourceName};
use providers::recuperador::{Agreement, Pagamento};
use providers::{Date, Personal};
use store::many::{Value, Values, chunks, fetch, insert, merged, rounds};
use store::sql::rows;
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

/// Cancels the open instalments that these snapshots, the newest of their agreements, do not mention: only older ones do.
pub(crate) async fn cancel_unmentioned(tx: &mut Tx, snapshots: &[&Snapshot<'_>]) -> Result<(), Failure> {
    for chunk in chunks(snapshots) {
        let constants = 4 * chunk.len();
        // Kind and state as expressions, so that rows are found by agreement: SQLite would read all open ones.
        let text = format!(
            "UPDATE receivables SET state = ${} FROM (VALUES {}) AS newest \
             WHERE receivables.source = newest.column1 AND receivables.agreement_id = newest.column2 \
             AND receivables.kind || '' = ${} AND receivables.state || '' = ${} \
             AND (receivables.state_order, {WRITTEN}) < (newest.column3, newest.column4)",
            constants + 1,
            rows(chunk.len(), 4),
            constants + 2,
            constants + 3,
        );
        let mut values: Values = Vec::with_capacity(constants + 3);
        for snapshot in chunk {
            let (source, agreement) = snapshot.key();
            let newest = [
                source.into(),
                agreement.into(),
                snapshot.agreement.id.0.into(),
                receipt(snapshot.event).into(),
            ];
            values.extend(newest);
        }
        values.extend(
            [ReceivableState::Canceled.as_str(), Kind::Instalment.as_str(), ReceivableState::Open.as_str()]
                .map(Value::from),
        );
        fetch(tx, text, values).await?;
    }
    Ok(())
}

/// Deletes the debts of older snapshots.
pub(crate) async fn delete_debts(tx: &mut Tx, snapshots: &[&Snapshot<'_>]) -> Result<(), Failure> {
    for chunk in chunks(snapshots) {
        let text = format!(
            "DELETE FROM agreement_debts WHERE (source, agreement_id) IN (VALUES {})",
            rows(chunk.len(), 2)
        );
        let mut values: Values = Vec::with_capacity(2 * chunk.len());
        for snapshot in chunk {
            let (source, agreement) = snapshot.key();
            values.extend([Value::from(source), Value::from(agreement)]);
        }
        fetch(tx, text, values).await?;
    }
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

/// What several events say about one order, as one row.
struct OrderRow<'a> {
    /// The event that comes first.
    event: &'a Event,
    paid_date: Option<String>,
    /// Each aspect with its order of facts; order 0 if the events state nothing about it.
    state: (i64, String, ReceivableState),
    status: (i64, String, Option<String>),
}

impl<'a> OrderRow<'a> {
    fn new(event: &'a Event, Order { status, change, .. }: &Order) -> Self {
        let (at, first) = event.receipt();
        let mut row = Self {
            event,
            paid_date: None,
            state: (0, String::new(), ReceivableState::Open),
            status: (0, String::new(), None),
        };
        match change {
            OrderChange::Known => {}
            OrderChange::State(state, paid_date) => {
                row.paid_date.clone_from(paid_date);
                row.state = (at, first.to_string(), *state);
            }
            OrderChange::Status => row.status = (at, first.to_string(), status.clone()),
        }
        row
    }

    /// Does what the statement does with a row that is there.
    fn merge(&mut self, other: Self) {
        if (other.state.0, &other.state.1) > (self.state.0, &self.state.1) {
            self.state = other.state;
        }
        if (other.status.0, &other.status.1) > (self.status.0, &self.status.1) {
            self.status = other.status;
        }
        // No day counts as later than every day.
        self.paid_date = match (self.paid_date.take(), other.paid_date) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    fn values(self, source: &SourceName, key: &str) -> Values {
        vec![
            source.into(),
            Kind::Order.as_str().into(),
            key.into(),
            self.paid_date.into(),
            self.state.2.as_str().into(),
            self.state.0.into(),
            self.state.1.into(),
            self.status.2.into(),
            self.status.0.into(),
            self.status.1.into(),
            (&self.event.id).into(),
        ]
    }
}

/// Writes each aspect of an order if the statement about it is newer. An aspect that the event says nothing about has
/// order 0, which is never newer. Of the days on which the payment was reported, the first stays. What many events say of one
/// order is written once.
pub(crate) async fn upsert_orders(tx: &mut Tx, orders: &[(&Event, &Order)]) -> Result<(), Failure> {
    let rows = orders
        .iter()
        .map(|(event, order)| ((&event.source.name, order.key.as_str()), OrderRow::new(event, order)));
    let rows = merged(rows, OrderRow::merge);
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
        rows.into_iter().map(|((source, key), row)| row.values(source, key)).collect(),
    )
    .await?;
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
