//! From an event to the statements that book it.

use std::collections::HashSet;

use async_trait::async_trait;
use consumer::{Failure, Handler};
use event::Event;
use jiff::tz::TimeZone;
use providers::gestao_online::{self, Notification};
use providers::recuperador::{self, Agreement, Situacao};
use store::Tx;

use crate::sql::{self, OrderFact};
use crate::{AgreementState, State};

/// Books agreements and orders.
pub(crate) struct Receivables;

#[async_trait]
impl Handler for Receivables {
    async fn handle(&self, event: &Event, tx: &mut Tx) -> Result<(), Failure> {
        match event.source.provider.as_str() {
            recuperador::NAME => agreement(event, tx).await,
            gestao_online::NAME => order(event, tx).await,
            provider => Err(Failure::Permanent(format!("receivables: no contract with provider {provider}"))),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(event: &Event) -> Result<T, Failure> {
    providers::parse(&event.data, event.repaired).map_err(|broken| Failure::Permanent(broken.to_string()))
}

/// The body is a snapshot: what it says about the agreement holds until a newer one comes, and about an instalment
/// until a newer one mentions it. An instalment that the newest snapshot does not mention is no longer owed.
///
/// That an older snapshot still counts for what newer ones do not mention makes the rows the same in whatever order
/// snapshots arrive.
async fn agreement(event: &Event, tx: &mut Tx) -> Result<(), Failure> {
    let snapshot: Agreement = parse(event)?;
    let mut ids = HashSet::new();
    if let Some(index) = snapshot.lista_parcelas.iter().position(|instalment| !ids.insert(&instalment.id)) {
        return Err(Failure::Permanent(format!("lista_parcelas[{index}].id: there twice")));
    }
    let state = match snapshot.situacao {
        _ if snapshot.is_canceled() => AgreementState::Canceled,
        Situacao::AguardandoPagamento => AgreementState::Active,
        Situacao::Quitado => AgreementState::Settled,
        Situacao::Inativo => AgreementState::Inactive,
    };
    // The agreement's row comes first: its lock keeps other snapshots of the agreement waiting.
    match sql::upsert_agreement(tx, event, &snapshot, state).await? {
        Some(first_event) => {
            let unpaid = match state {
                AgreementState::Canceled => State::Canceled,
                AgreementState::Active | AgreementState::Settled | AgreementState::Inactive => State::Open,
            };
            sql::upsert_instalments(tx, event, &snapshot, unpaid).await?;
            if first_event != event.id.to_string() {
                sql::cancel_unmentioned(tx, event, &snapshot).await?;
                sql::delete_debts(tx, event, &snapshot).await?;
            }
            sql::insert_debts(tx, event, &snapshot).await?;
        }
        None if sql::newest_webhook_id(tx, event, &snapshot).await? != snapshot.id.0 => {
            sql::upsert_instalments(tx, event, &snapshot, State::Canceled).await?;
        }
        // The same webhook again.
        None => {}
    }
    sql::record_agreement(tx, event, &snapshot, state).await
}

/// Each topic says one thing about the order; whichever comes first makes the row.
async fn order(event: &Event, tx: &mut Tx) -> Result<(), Failure> {
    let order = parse::<Notification>(event)?.data;
    let key = order.key().map_err(|broken| Failure::Permanent(broken.to_string()))?.as_str();
    let status = order.status.as_ref().map(|status| status.as_str());
    let fact = match event.topic.as_str() {
        // An order is created before anything else happens to it, whenever the notice of that comes: sent again, it
        // must not open what is paid.
        "ORDER_CREATED" => OrderFact::Known,
        "FINANCIAL_PAYMENT_DISCHARGE" => {
            OrderFact::State(State::Paid, Some(event.time.to_zoned(TimeZone::UTC).date().to_string()))
        }
        "ORDER_CANCEL" => OrderFact::State(State::Canceled, None),
        "FINANCIAL_PAYMENT_STATUS" => match status {
            Some(status) => OrderFact::Status(status.to_owned()),
            None => return Err(Failure::Permanent("data.status: missing".to_owned())),
        },
        topic => return Err(Failure::Permanent(format!("receivables: no meaning for topic {topic}"))),
    };
    sql::upsert_order(tx, event, key, fact).await?;
    sql::record_order(tx, event, key, status).await
}
