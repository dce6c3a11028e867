//! From an event to the statements that book it.

use std::collections::HashSet;

use async_trait::async_trait;
use consumer::{Failure, Handler};
use event::{Event, Zone};
use providers::gestao_online::{self, Notification};
use providers::recuperador::{self, Agreement, Situacao};
use providers::{Parsed, Payload};
use store::Tx;
use store::inbox::{self, Note};
use store::many::rounds;

use crate::sql::{self, Notice, OrderFact, Snapshot};
use crate::{AgreementState, SUBSCRIPTION, State};

/// Books agreements and orders.
pub(crate) struct Receivables {
    /// Whose day an order is paid on.
    pub(crate) zone: Zone,
}

#[async_trait]
impl Handler for Receivables {
    async fn handle(&self, events: &[&Event], tx: &mut Tx) -> Result<(), Failure> {
        let (mut snapshots, mut notices, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        for event in events {
            match event.source.provider.as_str() {
                recuperador::NAME => snapshots.push(snapshot(event, &mut notes)?),
                gestao_online::NAME => notices.push(notice(event, &self.zone, &mut notes)?),
                provider => {
                    return Err(Failure::Permanent(format!(
                        "receivables: no contract with provider {provider}"
                    )));
                }
            }
        }
        agreements(&snapshots, tx).await?;
        sql::upsert_orders(tx, &notices).await?;
        sql::record_orders(tx, &notices).await?;
        Ok(inbox::note(tx, SUBSCRIPTION.consumer, &notes).await?)
    }
}

fn parse<T: Payload>(event: &Event, notes: &mut Vec<Note>) -> Result<Parsed<T>, Failure> {
    let parsed = providers::parse(&event.data, &event.content_type)
        .map_err(|broken| Failure::Permanent(broken.to_string()))?;
    if !parsed.ignored.is_empty() {
        notes.push(Note { event_id: event.id, text: parsed.ignored.to_string() });
    }
    Ok(parsed)
}

fn snapshot<'a>(event: &'a Event, notes: &mut Vec<Note>) -> Result<Snapshot<'a>, Failure> {
    let agreement = parse::<Agreement>(event, notes)?.payload;
    let mut ids = HashSet::new();
    if let Some(index) = agreement.lista_parcelas.iter().position(|instalment| !ids.insert(&instalment.id)) {
        return Err(Failure::Permanent(format!("lista_parcelas[{index}].id: there twice")));
    }
    let state = match agreement.situacao {
        _ if agreement.is_canceled() => AgreementState::Canceled,
        Situacao::AguardandoPagamento => AgreementState::Active,
        Situacao::Quitado => AgreementState::Settled,
        Situacao::Inativo => AgreementState::Inactive,
    };
    Ok(Snapshot { event, agreement, state })
}

/// The body is a snapshot: what it says about the agreement holds until a newer one comes, and about an instalment
/// until a newer one mentions it. Of two with the same webhook id, which a sender corrects that way, the one received
/// later is newer. An instalment that the newest snapshot does not mention is no longer owed.
///
/// That an older snapshot still counts for what newer ones do not mention makes the rows the same in whatever order
/// snapshots arrive.
async fn agreements(snapshots: &[Snapshot<'_>], tx: &mut Tx) -> Result<(), Failure> {
    for round in rounds(snapshots.iter().map(|snapshot| (snapshot.key(), snapshot))) {
        // The agreements' rows come first: their locks keep other snapshots of the same agreements waiting.
        let mut newest = sql::upsert_agreements(tx, &round).await?;
        let (mut instalments, mut written, mut replacing) = (Vec::new(), Vec::new(), Vec::new());
        for snapshot in round {
            match newest.remove(&snapshot.key()) {
                Some(first_event) => {
                    let unpaid = match snapshot.state {
                        AgreementState::Canceled => State::Canceled,
                        AgreementState::Active | AgreementState::Settled | AgreementState::Inactive => {
                            State::Open
                        }
                    };
                    instalments.push((snapshot, unpaid));
                    written.push(snapshot);
                    if first_event != snapshot.event.id.to_string() {
                        replacing.push(snapshot);
                    }
                }
                None => instalments.push((snapshot, State::Canceled)),
            }
        }
        sql::upsert_instalments(tx, &instalments).await?;
        for snapshot in replacing {
            sql::cancel_unmentioned(tx, snapshot).await?;
            sql::delete_debts(tx, snapshot).await?;
        }
        sql::insert_debts(tx, &written).await?;
    }
    sql::record_agreements(tx, snapshots).await
}

/// Each topic says one thing about the order; whichever comes first makes the row.
fn notice<'a>(event: &'a Event, zone: &Zone, notes: &mut Vec<Note>) -> Result<Notice<'a>, Failure> {
    let Parsed { payload, ignored } = parse::<Notification>(event, notes)?;
    let order = payload.data;
    let key = order.key().map_err(|broken| Failure::Permanent(broken.to_string()))?.as_str().to_owned();
    let status = order.status.as_ref().map(|status| status.as_str().to_owned());
    let fact = match event.topic.as_str() {
        // An order is created before anything else happens to it, whenever the notice of that comes: sent again, it
        // must not open what is paid.
        "ORDER_CREATED" => OrderFact::Known,
        "FINANCIAL_PAYMENT_DISCHARGE" => {
            OrderFact::State(State::Paid, Some(zone.day(event.time).to_string()))
        }
        "ORDER_CANCEL" => OrderFact::State(State::Canceled, None),
        "FINANCIAL_PAYMENT_STATUS" if status.is_some() => OrderFact::Status,
        "FINANCIAL_PAYMENT_STATUS" => {
            let problem = ignored.at("data.status").map(ToString::to_string);
            return Err(Failure::Permanent(problem.unwrap_or_else(|| "data.status: missing".to_owned())));
        }
        topic => return Err(Failure::Permanent(format!("receivables: no meaning for topic {topic}"))),
    };
    Ok(Notice { event, key, status, fact })
}
