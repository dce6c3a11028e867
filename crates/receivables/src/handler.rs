//! From an event to its fact, and from facts to the statements that book them.

use std::collections::HashSet;

use async_trait::async_trait;
use consumer::{Failure, Handler, Permanent};
use event::{Event, Zone};
use providers::gestao_online::{self, Notification};
use providers::recuperador::{self, Agreement, Situacao};
use providers::{Ignored, Parsed};
use store::Tx;
use store::many::rounds;

use crate::sql::{self, Order, OrderChange, Snapshot};
use crate::{AgreementState, ReceivableState};

/// Books agreements and orders.
pub struct Receivables {
    /// The time zone of the payment day of an order: the day of receipt, since the provider does not give one.
    pub zone: Zone,
}

/// What an event says, and the optional fields of it that could not be read.
pub struct Fact {
    about: About,
    ignored: Ignored,
}

enum About {
    Agreement(Box<Agreement>, AgreementState),
    Order(Order),
}

#[async_trait]
impl Handler for Receivables {
    type Fact = Fact;

    fn read(&self, event: &Event) -> Result<Fact, Permanent> {
        match event.source.provider.as_str() {
            recuperador::NAME => agreement(event),
            gestao_online::NAME => order(event, &self.zone),
            provider => Err(Permanent::new(format!("receivables: no contract with provider {provider}"))),
        }
    }

    fn note(&self, fact: &Fact) -> Option<String> {
        fact.ignored.note()
    }

    async fn write(&self, facts: &[(&Event, &Fact)], tx: &mut Tx) -> Result<(), Failure> {
        let (mut snapshots, mut orders) = (Vec::new(), Vec::new());
        for (event, fact) in facts {
            match &fact.about {
                About::Agreement(agreement, state) => {
                    snapshots.push(Snapshot { event, agreement, state: *state });
                }
                About::Order(order) => orders.push((*event, order)),
            }
        }
        write_agreements(&snapshots, tx).await?;
        sql::upsert_orders(tx, &orders).await?;
        sql::record_orders(tx, &orders).await
    }
}

fn agreement(event: &Event) -> Result<Fact, Permanent> {
    let Parsed { payload: agreement, ignored } =
        providers::parse::<Agreement>(&event.data, &event.content_type).map_err(Permanent::new)?;
    let mut ids = HashSet::new();
    if let Some(index) = agreement.lista_parcelas.iter().position(|instalment| !ids.insert(&instalment.id)) {
        return Err(Permanent::new(format!("lista_parcelas[{index}].id: there twice")));
    }
    let state = match agreement.situacao {
        _ if agreement.is_canceled() => AgreementState::Canceled,
        Situacao::AguardandoPagamento => AgreementState::Active,
        Situacao::Quitado => AgreementState::Settled,
        Situacao::Inativo => AgreementState::Inactive,
    };
    Ok(Fact { about: About::Agreement(Box::new(agreement), state), ignored })
}

/// The body is a snapshot: it is valid for the agreement until a newer one arrives, and for an instalment until a newer
/// one mentions it. Of two with the same webhook id, which is how a sender corrects one, the one received later is
/// newer. An instalment that the newest snapshot does not mention is no longer owed.
///
/// Since an older snapshot still counts for what newer ones do not mention, the rows do not depend on the order of
/// arrival.
async fn write_agreements(snapshots: &[Snapshot<'_>], tx: &mut Tx) -> Result<(), Failure> {
    for round in rounds(snapshots.iter().map(|snapshot| (snapshot.key(), snapshot))) {
        // The agreements' rows come first: their locks keep other snapshots of the same agreements waiting.
        let mut newest = sql::upsert_agreements(tx, &round).await?;
        let (mut instalments, mut written, mut replacing) = (Vec::new(), Vec::new(), Vec::new());
        for snapshot in round {
            match newest.remove(&snapshot.key()) {
                Some(first_event) => {
                    let unpaid = match snapshot.state {
                        AgreementState::Canceled => ReceivableState::Canceled,
                        AgreementState::Active | AgreementState::Settled | AgreementState::Inactive => {
                            ReceivableState::Open
                        }
                    };
                    instalments.push((snapshot, unpaid));
                    written.push(snapshot);
                    if first_event != snapshot.event.id.to_string() {
                        replacing.push(snapshot);
                    }
                }
                None => instalments.push((snapshot, ReceivableState::Canceled)),
            }
        }
        sql::upsert_instalments(tx, &instalments).await?;
        sql::cancel_unmentioned(tx, &replacing).await?;
        sql::delete_debts(tx, &replacing).await?;
        sql::insert_debts(tx, &written).await?;
    }
    sql::record_agreements(tx, snapshots).await
}

/// Each topic says one thing about the order; whichever comes first makes the row.
fn order(event: &Event, zone: &Zone) -> Result<Fact, Permanent> {
    let Parsed { payload, ignored } =
        providers::parse::<Notification>(&event.data, &event.content_type).map_err(Permanent::new)?;
    let order = payload.data;
    let key = order.key().map_err(Permanent::new)?.as_str().to_owned();
    let status = order.status.as_ref().map(|status| status.as_str().to_owned());
    let change = match event.topic.as_str() {
        // An order is created before anything else happens to it, whenever the notice of that comes: sent again, it
        // must not open what is paid.
        "ORDER_CREATED" => OrderChange::Known,
        "FINANCIAL_PAYMENT_DISCHARGE" => {
            OrderChange::State(ReceivableState::Paid, Some(zone.day(event.time).to_string()))
        }
        "ORDER_CANCEL" => OrderChange::State(ReceivableState::Canceled, None),
        "FINANCIAL_PAYMENT_STATUS" if status.is_some() => OrderChange::Status,
        "FINANCIAL_PAYMENT_STATUS" => return Err(Permanent::new(ignored.absence("data.status"))),
        topic => return Err(Permanent::new(format!("receivables: no meaning for topic {topic}"))),
    };
    Ok(Fact { about: About::Order(Order { key, status, change }), ignored })
}
