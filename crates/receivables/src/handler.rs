//! From an event to its fact, and from facts to the statements that book them.

use std::collections::HashSet;

use async_trait::async_trait;
use consumer::{Announcement, Failure, Handler, Permanent};
use event::{Event, ProviderName, Zone};
use providers::gestao_online::{self, Notification, OrderDocument};
use providers::recuperador::{self, Agreement, Notice, ParcelaAprovada, Situacao};
use providers::{Fetched, Ignored, Parsed, fetched};
use store::Tx;
use store::many::rounds;

use crate::sql::{self, Document, Order, OrderChange, Payment, Snapshot, Written};
use crate::{AgreementState, ReceivableState, events};

/// Books agreements, payments of instalments, and orders.
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
    Payment(Box<ParcelaAprovada>),
    Order(Order),
    Document(Box<Fetched<OrderDocument>>),
    /// A document of another provider.
    Nothing,
}

#[async_trait]
impl Handler for Receivables {
    type Fact = Fact;

    fn read(&self, event: &Event) -> Result<Fact, Permanent> {
        match event.source.provider.as_str() {
            recuperador::NAME => notice(event),
            gestao_online::NAME => order(event, &self.zone),
            ProviderName::OWN => document(event),
            provider => Err(Permanent::new(format!("receivables: no contract with provider {provider}"))),
        }
    }

    fn note(&self, fact: &Fact) -> Option<String> {
        fact.ignored.note()
    }

    async fn write(&self, facts: &[(&Event, &Fact)], tx: &mut Tx) -> Result<Vec<Announcement>, Failure> {
        let (mut snapshots, mut payments) = (Vec::new(), Vec::new());
        let (mut orders, mut documents) = (Vec::new(), Vec::new());
        for (event, fact) in facts {
            match &fact.about {
                About::Agreement(agreement, state) => {
                    snapshots.push(Snapshot { event, agreement, state: *state });
                }
                About::Payment(instalment) => payments.push(Payment { event, instalment }),
                About::Order(order) => orders.push((*event, order)),
                About::Document(fetched) => documents.push(Document { event, fetched }),
                About::Nothing => {}
            }
        }
        let mut announcements = write_agreements(&snapshots, tx).await?;
        announcements.extend(sql::upsert_payments(tx, &payments).await?);
        sql::record_payments(tx, &payments).await?;
        announcements.extend(sql::upsert_orders(tx, &orders).await?);
        announcements.extend(sql::upsert_documents(tx, &documents).await?);
        sql::record_orders(tx, &orders).await?;
        Ok(announcements)
    }
}

fn notice(event: &Event) -> Result<Fact, Permanent> {
    let Parsed { payload, ignored } =
        providers::parse::<Notice>(&event.data, &event.content_type).map_err(Permanent::new)?;
    let about = match payload {
        Notice::Acordo(agreement) => about_agreement(agreement)?,
        Notice::ParcelaAprovada(instalment) => About::Payment(instalment),
    };
    Ok(Fact { about, ignored })
}

fn about_agreement(agreement: Box<Agreement>) -> Result<About, Permanent> {
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
    Ok(About::Agreement(agreement, state))
}

/// The body is a snapshot: it is valid for the agreement until a newer one arrives, and for an instalment until a newer
/// one mentions it. Of two with the same webhook id, which is how a sender corrects one, the one received later is
/// newer. An instalment that the newest snapshot does not mention is no longer owed.
///
/// Since an older snapshot still counts for what newer ones do not mention, the rows do not depend on the order of
/// arrival. What was paid by a payment that is newer stays paid.
async fn write_agreements(snapshots: &[Snapshot<'_>], tx: &mut Tx) -> Result<Vec<Announcement>, Failure> {
    let mut announcements = Vec::new();
    for round in rounds(snapshots.iter().map(|snapshot| (snapshot.key(), snapshot))) {
        // The agreements' rows come first: their locks keep other snapshots of the same agreements waiting.
        let mut newest = sql::upsert_agreements(tx, &round).await?;
        let (mut instalments, mut written, mut replacing) = (Vec::new(), Vec::new(), Vec::new());
        for snapshot in round {
            match newest.remove(&snapshot.key()) {
                Some(Written { first_event, state_before }) => {
                    let Snapshot { event, agreement, state } = snapshot;
                    announcements.extend(events::agreement_announcement(
                        event,
                        agreement,
                        *state,
                        state_before,
                    ));
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
        announcements.extend(sql::upsert_instalments(tx, &instalments).await?);
        announcements.extend(sql::cancel_unmentioned(tx, &replacing).await?);
        sql::delete_debts(tx, &replacing).await?;
        sql::insert_debts(tx, &written).await?;
    }
    sql::record_agreements(tx, snapshots).await?;
    Ok(announcements)
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

/// The document of an order. One of another provider says nothing here.
fn document(event: &Event) -> Result<Fact, Permanent> {
    let fetched = fetched::<Fetched<OrderDocument>>(&event.data, &event.content_type, gestao_online::NAME);
    Ok(match fetched.map_err(Permanent::new)? {
        Some(Parsed { payload, ignored }) => Fact { about: About::Document(Box::new(payload)), ignored },
        None => Fact { about: About::Nothing, ignored: Ignored::default() },
    })
}
