//! Agreements: the newest snapshot of each, with its debts, and the history of all.

use std::collections::HashMap;

use consumer::Failure;
use event::Event;
use providers::recuperador::{Agreement, Pagamento};
use providers::{Date, Personal};
use store::many::{Value, fetch_given, insert};
use store::{Row, Tx};

use crate::{AgreementState, ReceivableState};

/// An agreement as one event describes it.
pub(crate) struct Snapshot<'a> {
    pub event: &'a Event,
    pub agreement: &'a Agreement,
    pub state: AgreementState,
}

impl Snapshot<'_> {
    /// What identifies the agreement: its source and its id there.
    pub(crate) fn key(&self) -> (String, String) {
        (self.event.source.name.to_string(), self.agreement.id_acordo.as_str().to_owned())
    }
}

/// The order of snapshots with one webhook id: microseconds of receipt, then id. Of a fixed width, so that texts compare
/// as numbers do.
pub(crate) fn receipt(event: &Event) -> String {
    let (microseconds, id) = event.receipt();
    format!("{microseconds:020} {id}")
}

fn personal(text: &Option<Personal>) -> Value {
    text.as_ref().map(|text| text.expose().to_owned()).into()
}

pub(crate) fn date(date: Option<Date>) -> Value {
    date.map(|date| date.to_string()).into()
}

/// The number of instalments that the provider names, or else lists.
fn instalments(agreement: &Agreement) -> i64 {
    let listed = i64::try_from(agreement.lista_parcelas.len()).unwrap_or(i64::MAX);
    agreement.parcelas.map_or(listed, |named| named.0)
}

/// A row of an agreement that a snapshot wrote.
pub(crate) struct Written {
    /// The event that made the row.
    pub first_event: String,
    /// The state that it had before.
    pub state_before: Option<AgreementState>,
}

/// Writes those agreements of which the snapshot is newer than the row, and gives these. Locks the rows either way, on
/// PostgreSQL as on SQLite. No agreement is there twice.
pub(crate) async fn upsert_agreements(
    tx: &mut Tx,
    snapshots: &[&Snapshot<'_>],
) -> Result<HashMap<(String, String), Written>, Failure> {
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
             webhook_receipt = excluded.webhook_receipt, state_before = agreements.state \
         WHERE (excluded.webhook_id, excluded.webhook_receipt) > \
             (agreements.webhook_id, agreements.webhook_receipt) \
         RETURNING source, external_id, first_event, state_before",
        snapshots.iter().map(row).collect(),
    )
    .await?;
    let written = written.iter().map(|row| {
        let state_before = AgreementState::read_optional(row, "state_before")?;
        Ok(((row.try_get(0)?, row.try_get(1)?), Written { first_event: row.try_get(2)?, state_before }))
    });
    Ok(written.collect::<Result<_, store::DriverError>>()?)
}

/// Deletes the debts of older snapshots.
pub(crate) async fn delete_debts(tx: &mut Tx, snapshots: &[&Snapshot<'_>]) -> Result<(), Failure> {
    let text = |given: &str| format!("DELETE FROM agreement_debts WHERE (source, agreement_id) IN ({given})");
    let key = |snapshot: &&Snapshot<'_>| {
        let (source, agreement) = snapshot.key();
        vec![Value::from(source), Value::from(agreement)]
    };
    fetch_given(tx, text, snapshots.iter().map(key).collect()).await?;
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
