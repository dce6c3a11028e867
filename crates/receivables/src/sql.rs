//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

use consumer::Failure;
use event::Event;
use providers::recuperador::{Agreement, Pagamento};
use providers::{Date, Id, Personal};
use store::sql::{assembled, query, rows, scalar};
use store::{Row, Tx};

use crate::{AgreementState, Kind, State};

/// The most rows of one statement, far below the databases' limit of parameters.
const CHUNK_ROWS: usize = 1_000;

fn source(event: &Event) -> String {
    event.source.name.as_str().to_owned()
}

fn id(id: &Id) -> String {
    id.as_str().to_owned()
}

fn personal(text: &Option<Personal>) -> Option<String> {
    text.as_ref().map(|text| text.expose().to_owned())
}

fn date(date: Option<Date>) -> Option<String> {
    date.map(|date| date.to_string())
}

/// The number of instalments that the provider names, or else lists.
fn instalments(agreement: &Agreement) -> i64 {
    let listed = i64::try_from(agreement.lista_parcelas.len()).unwrap_or(i64::MAX);
    agreement.parcelas.map_or(listed, |named| named.0)
}

/// Writes the agreement if the snapshot is newer than the row, and gives the event that made the row. Locks the row
/// either way, on PostgreSQL as on SQLite.
pub(crate) async fn upsert_agreement(
    tx: &mut Tx,
    event: &Event,
    agreement: &Agreement,
    state: AgreementState,
) -> Result<Option<String>, Failure> {
    let row = query(
        "INSERT INTO agreements (source, external_id, client_id, client_name, document, creditor_id, creditor_name, \
             agreed_date, canceled_date, cancel_reason, agreed_centavos, original_centavos, instalments, state, \
             webhook_id, first_event) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
         ON CONFLICT (source, external_id) DO UPDATE SET client_id = excluded.client_id, \
             client_name = excluded.client_name, document = excluded.document, creditor_id = excluded.creditor_id, \
             creditor_name = excluded.creditor_name, agreed_date = excluded.agreed_date, \
             canceled_date = excluded.canceled_date, cancel_reason = excluded.cancel_reason, \
             agreed_centavos = excluded.agreed_centavos, original_centavos = excluded.original_centavos, \
             instalments = excluded.instalments, state = excluded.state, webhook_id = excluded.webhook_id \
         WHERE excluded.webhook_id > agreements.webhook_id \
         RETURNING first_event",
    )
    .bind(source(event))
    .bind(id(&agreement.id_acordo))
    .bind(agreement.id_cliente.as_ref().map(id))
    .bind(personal(&agreement.nome_cliente))
    .bind(agreement.cpf_cnpj.as_ref().map(|document| document.bare().to_owned()))
    .bind(agreement.id_credor.as_ref().map(id))
    .bind(personal(&agreement.nome_credor))
    .bind(date(agreement.data))
    .bind(date(agreement.data_cancelamento))
    .bind(personal(&agreement.motivo_cancelamento))
    .bind(agreement.valor_acordo.0)
    .bind(agreement.valor_original.0)
    .bind(instalments(agreement))
    .bind(state.as_str())
    .bind(agreement.id.0)
    .bind(event.id.to_string())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// The webhook id of the newest snapshot of an agreement that is there.
pub(crate) async fn newest_webhook_id(
    tx: &mut Tx,
    event: &Event,
    agreement: &Agreement,
) -> Result<i64, Failure> {
    Ok(scalar("SELECT webhook_id FROM agreements WHERE source = $1 AND external_id = $2")
        .bind(source(event))
        .bind(id(&agreement.id_acordo))
        .fetch_one(&mut **tx)
        .await?)
}

/// Writes those instalments that no newer snapshot mentions. The unpaid ones get the given state.
pub(crate) async fn upsert_instalments(
    tx: &mut Tx,
    event: &Event,
    agreement: &Agreement,
    unpaid: State,
) -> Result<(), Failure> {
    for chunk in agreement.lista_parcelas.chunks(CHUNK_ROWS) {
        let mut upsert = assembled(format!(
            "INSERT INTO receivables (source, kind, external_id, agreement_id, due_date, amount_centavos, paid_date, \
                 state, state_order, state_event, status_order, status_event, first_event) \
             VALUES {} \
             ON CONFLICT (source, kind, external_id) DO UPDATE SET agreement_id = excluded.agreement_id, \
                 due_date = excluded.due_date, amount_centavos = excluded.amount_centavos, \
                 paid_date = excluded.paid_date, state = excluded.state, state_order = excluded.state_order, \
                 state_event = excluded.state_event \
             WHERE excluded.state_order > receivables.state_order",
            rows(chunk.len(), 13)
        ));
        for instalment in chunk {
            let state = match instalment.situacao {
                Pagamento::Pago => State::Paid,
                Pagamento::NaoPago => unpaid,
            };
            upsert = upsert
                .bind(source(event))
                .bind(Kind::Instalment.as_str())
                .bind(id(&instalment.id))
                .bind(id(&agreement.id_acordo))
                .bind(instalment.datavencto.to_string())
                .bind(instalment.valor.0)
                .bind(date(instalment.datapagto))
                .bind(state.as_str())
                .bind(agreement.id.0)
                .bind(event.id.to_string())
                .bind(0_i64)
                .bind("")
                .bind(event.id.to_string());
        }
        upsert.execute(&mut **tx).await?;
    }
    Ok(())
}

/// Cancels the open instalments that the snapshot, the newest, does not mention: only older ones do.
pub(crate) async fn cancel_unmentioned(
    tx: &mut Tx,
    event: &Event,
    agreement: &Agreement,
) -> Result<(), Failure> {
    query(
        "UPDATE receivables SET state = $1 \
         WHERE source = $2 AND kind = $3 AND agreement_id = $4 AND state = $5 AND state_order < $6",
    )
    .bind(State::Canceled.as_str())
    .bind(source(event))
    .bind(Kind::Instalment.as_str())
    .bind(id(&agreement.id_acordo))
    .bind(State::Open.as_str())
    .bind(agreement.id.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes the debts of an older snapshot.
pub(crate) async fn delete_debts(tx: &mut Tx, event: &Event, agreement: &Agreement) -> Result<(), Failure> {
    query("DELETE FROM agreement_debts WHERE source = $1 AND agreement_id = $2")
        .bind(source(event))
        .bind(id(&agreement.id_acordo))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes the snapshot's debts where there are none.
pub(crate) async fn insert_debts(tx: &mut Tx, event: &Event, agreement: &Agreement) -> Result<(), Failure> {
    let debts: Vec<_> = (0_i64..).zip(&agreement.lista_dividas).collect();
    for chunk in debts.chunks(CHUNK_ROWS) {
        let mut insert = assembled(format!(
            "INSERT INTO agreement_debts (source, agreement_id, position, external_id, due_date, paid_date, \
                 amount_centavos, description, contract, code, state) VALUES {}",
            rows(chunk.len(), 11)
        ));
        for (position, debt) in chunk {
            let state = match debt.situacao {
                Pagamento::Pago => State::Paid,
                Pagamento::NaoPago => State::Open,
            };
            insert = insert
                .bind(source(event))
                .bind(id(&agreement.id_acordo))
                .bind(*position)
                .bind(id(&debt.id))
                .bind(date(debt.datavencto))
                .bind(date(debt.datapagto))
                .bind(debt.valor.0)
                .bind(debt.descricao.clone())
                .bind(debt.contrato.clone())
                .bind(debt.codigo.clone())
                .bind(state.as_str());
        }
        insert.execute(&mut **tx).await?;
    }
    Ok(())
}

/// Records the snapshot, whether or not it is the newest.
pub(crate) async fn record_agreement(
    tx: &mut Tx,
    event: &Event,
    agreement: &Agreement,
    state: AgreementState,
) -> Result<(), Failure> {
    let paid = agreement.lista_parcelas.iter().filter(|instalment| instalment.situacao == Pagamento::Pago);
    query(
        "INSERT INTO agreement_history (event_id, source, external_id, topic, webhook_id, state, agreed_centavos, \
             instalments, paid_instalments, received_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (event_id) DO NOTHING",
    )
    .bind(event.id.to_string())
    .bind(source(event))
    .bind(id(&agreement.id_acordo))
    .bind(event.topic.to_string())
    .bind(agreement.id.0)
    .bind(state.as_str())
    .bind(agreement.valor_acordo.0)
    .bind(instalments(agreement))
    .bind(i64::try_from(paid.count()).unwrap_or(i64::MAX))
    .bind(event.time.as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What an event says about an order.
pub(crate) enum OrderFact {
    /// That there is one.
    Known,
    /// That it is paid, and on which day that was told, or that it is cancelled.
    State(State, Option<String>),
    /// The status of its payment.
    Status(String),
}

/// Writes each aspect of the order if what is said about it is newer. An aspect that the event says nothing about has
/// order 0, which is never newer. Of the days on which the payment was told, the first stays.
pub(crate) async fn upsert_order(
    tx: &mut Tx,
    event: &Event,
    key: &str,
    fact: OrderFact,
) -> Result<(), Failure> {
    let (at, first) = event.receipt();
    let (said, unsaid) = ((at, first.to_string()), (0_i64, String::new()));
    let (state, paid_date, state_order, provider_status, status_order) = match fact {
        OrderFact::Known => (State::Open, None, unsaid.clone(), None, unsaid),
        OrderFact::State(state, paid_date) => (state, paid_date, said, None, unsaid),
        OrderFact::Status(status) => (State::Open, None, unsaid, Some(status), said),
    };
    query(
        "INSERT INTO receivables (source, kind, external_id, paid_date, state, state_order, state_event, \
             provider_status, status_order, status_event, first_event) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (source, kind, external_id) DO UPDATE SET \
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
    )
    .bind(source(event))
    .bind(Kind::Order.as_str())
    .bind(key.to_owned())
    .bind(paid_date)
    .bind(state.as_str())
    .bind(state_order.0)
    .bind(state_order.1)
    .bind(provider_status)
    .bind(status_order.0)
    .bind(status_order.1)
    .bind(event.id.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Records the event, whether or not it is the newest.
pub(crate) async fn record_order(
    tx: &mut Tx,
    event: &Event,
    key: &str,
    status: Option<&str>,
) -> Result<(), Failure> {
    query(
        "INSERT INTO order_history (event_id, source, external_id, topic, provider_status, received_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (event_id) DO NOTHING",
    )
    .bind(event.id.to_string())
    .bind(source(event))
    .bind(key.to_owned())
    .bind(event.topic.to_string())
    .bind(status.map(str::to_owned))
    .bind(event.time.as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
