//! From an event to its fact, and from facts to the statements that keep them.

use async_trait::async_trait;
use consumer::{Announcement, Failure, Handler, Permanent};
use event::{Event, ProviderName};
use providers::mercado_eletronico::{self, Purchase, PurchaseDocument};
use providers::{Fetched, Ignored, Parsed};
use store::Tx;

use crate::Kind;
use crate::events::{PurchaseRef, UPDATED};
use crate::model::Key;
use crate::sql::{self, Change, Document, Fact};

/// Keeps purchases.
pub struct Purchasing;

#[async_trait]
impl Handler for Purchasing {
    type Fact = Fact;

    fn read(&self, event: &Event) -> Result<Fact, Permanent> {
        match event.source.provider.as_str() {
            mercado_eletronico::NAME => notice(event),
            ProviderName::OWN => document(event),
            provider => Err(Permanent::new(format!("purchasing: no contract with provider {provider}"))),
        }
    }

    fn note(&self, fact: &Fact) -> Option<String> {
        fact.ignored.note()
    }

    async fn write(&self, facts: &[(&Event, &Fact)], tx: &mut Tx) -> Result<Vec<Announcement>, Failure> {
        let mut announcements = sql::upsert_purchases(tx, facts).await?;
        announcements.extend(updates(facts));
        sql::record(tx, facts).await?;
        Ok(announcements)
    }
}

/// The notices that say only that something was changed. There is no state to compare: each is announced.
fn updates(facts: &[(&Event, &Fact)]) -> impl Iterator<Item = Announcement> {
    facts.iter().filter_map(|(event, fact)| match (&fact.purchase, &fact.change) {
        (Some(key), Some(Change::Updated)) => {
            let purchase = PurchaseRef::new(key.clone());
            Some(UPDATED.announce_about(event, purchase.subject(), &purchase))
        }
        _ => None,
    })
}

/// The purchase of a notice.
fn key(event: &Event, kind: Kind, external_id: String) -> Key {
    Key { source: event.source.name.to_string(), kind, external_id }
}

/// A notice of Mercado Eletrônico's. A topic that the provider does not document has no contract: it is recorded with
/// what can be read of it.
fn notice(event: &Event) -> Result<Fact, Permanent> {
    let topic = event.topic.as_str();
    let notice = mercado_eletronico::notice::<Purchase>(topic, &event.data, &event.content_type);
    let Some(Parsed { mut payload, ignored }) = notice.map_err(Permanent::new)? else {
        return Ok(Fact::default());
    };
    let family = mercado_eletronico::family(topic);
    let Some((kind, path)) = family.and_then(|(entity, path)| Some((Kind::with_entity(entity)?, path)))
    else {
        return Ok(Fact { ignored, ..Fact::default() });
    };
    let id = payload.take_id(path);
    if !mercado_eletronico::is_documented(topic) {
        let purchase = id.map(|id| key(event, kind, id.into()));
        return Ok(Fact { purchase, ignored, ..Fact::default() });
    }
    let external_id = ignored.needed(id, path).map_err(Permanent::new)?.into();
    let change = change(topic, &mut payload, &ignored)?;
    // A quotation has several suppliers: the one that is asked, or that answers, is not its supplier.
    let supplier = payload.supplier_id.filter(|_| kind != Kind::Rfq).map(Into::into);
    let purchase = Some(key(event, kind, external_id));
    Ok(Fact { purchase, change: Some(change), supplier, ignored, ..Fact::default() })
}

/// The change that a documented topic states.
fn change(topic: &str, notice: &mut Purchase, ignored: &Ignored) -> Result<Change, Permanent> {
    Ok(match topic.rsplit('.').next() {
        Some("status") => Change::Status {
            status: ignored.needed(notice.status.take(), "data.status").map_err(Permanent::new)?.into(),
            previous: notice.previous_status.take().map(Into::into),
        },
        // About a part, such as a contract's file or an answer to a quotation: the whole has no new state.
        _ if topic.matches('.').count() > 1 => Change::Updated,
        Some(word @ ("created" | "submitted")) => Change::Created { status: word.to_owned() },
        Some(word @ "received") => Change::Received { status: word.to_owned() },
        Some(word @ ("approved" | "canceled" | "closed" | "expired")) => {
            Change::Status { status: word.to_owned(), previous: None }
        }
        _ => Change::Updated,
    })
}

/// A document that was fetched. One of another provider says nothing here.
fn document(event: &Event) -> Result<Fact, Permanent> {
    let entity = event.topic.as_str().strip_suffix(".fetched").unwrap_or_default();
    let Some(kind) = Kind::with_entity(entity) else {
        return Err(Permanent::new(format!("purchasing: no meaning for topic {}", event.topic)));
    };
    let parsed = providers::fetched::<Fetched<PurchaseDocument>>(
        &event.data,
        &event.content_type,
        mercado_eletronico::NAME,
    );
    let Some(Parsed { payload, ignored }) = parsed.map_err(Permanent::new)? else {
        return Ok(Fact::default());
    };
    let Fetched { source, external_id, version, document } = payload;
    let PurchaseDocument { total, currency, supplier_id } = document;
    let document = Document {
        version,
        total_centavos: total.map(|total| total.0),
        currency,
        supplier: supplier_id.filter(|_| kind != Kind::Rfq).map(Into::into),
    };
    let purchase = Some(Key { source, kind, external_id });
    Ok(Fact { purchase, document: Some(document), ignored, ..Fact::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_topic_states_the_change_that_its_meaning_says() {
        let check = |topic: &str| {
            let body = br#"{"data": {"status": "103"}}"#;
            let Parsed { mut payload, ignored } =
                mercado_eletronico::notice::<Purchase>(topic, body, "").unwrap().unwrap();
            match change(topic, &mut payload, &ignored).unwrap() {
                Change::Created { status } => format!("created as {status}"),
                Change::Received { status } | Change::Status { status, .. } => status,
                Change::Updated => "updated".to_owned(),
            }
        };
        let is_purchase = |topic: &&str| {
            let (entity, _) = mercado_eletronico::family(topic).unwrap();
            Kind::with_entity(entity).is_some()
        };
        let topics = mercado_eletronico::TOPICS.iter().map(|info| info.name).filter(is_purchase);
        let found: Vec<_> = topics.map(|topic| (topic, check(topic))).collect();
        let expect = [
            ("order.received", "received"),
            ("order.created", "created as created"),
            ("order.canceled", "canceled"),
            // An item of it, and maybe not the last.
            ("order.delivered", "updated"),
            ("order.updated", "updated"),
            ("prerequest.submitted", "created as submitted"),
            ("request.approved", "approved"),
            ("request.status", "103"),
            ("request-item.status.updated", "updated"),
            ("rfq.created", "created as created"),
            ("rfq.closed", "closed"),
            ("rfq.expired", "expired"),
            ("rfq.canceled", "canceled"),
            ("rfq.updated", "updated"),
            ("rfq.received", "received"),
            ("rfq.answer.created", "updated"),
            ("rfq.answer.updated", "updated"),
            ("preorder.created", "created as created"),
            ("preorder.approved", "approved"),
            ("preorder.status", "103"),
            ("service-sheet.created", "created as created"),
            ("service-sheet.approved", "approved"),
            ("service-sheet.status", "103"),
            ("service-sheet-document.status", "103"),
            ("contract.created", "created as created"),
            ("contract.approved", "approved"),
            ("contract.updated", "updated"),
            ("contract.status", "103"),
            ("contract.attachment.created", "updated"),
            ("contract.attachment.deleted", "updated"),
        ];
        assert_eq!(found, expect.map(|(topic, change)| (topic, change.to_owned())));
    }
}
