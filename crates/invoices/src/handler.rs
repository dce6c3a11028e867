//! From an event to its fact, and from facts to the statements that keep them.

use async_trait::async_trait;
use consumer::{Announcement, Failure, Handler, Permanent};
use event::{Event, ProviderName};
use providers::gestao_online::{self, Notification};
use providers::mercado_eletronico::{self, Invoice, InvoiceDocument, SupplierDocument};
use providers::{Fetched, Parsed, Payload, fetched};
use store::Tx;

use crate::events::{InvoiceRef, UPDATED};
use crate::sql::{self, Change, Document, Fact};

/// Keeps invoices.
pub struct Invoices;

#[async_trait]
impl Handler for Invoices {
    type Fact = Fact;

    fn read(&self, event: &Event) -> Result<Fact, Permanent> {
        match event.source.provider.as_str() {
            mercado_eletronico::NAME => notice(event),
            gestao_online::NAME => tax_invoice(event),
            ProviderName::OWN => document(event),
            provider => Err(Permanent::new(format!("invoices: no contract with provider {provider}"))),
        }
    }

    fn note(&self, fact: &Fact) -> Option<String> {
        fact.ignored.note()
    }

    async fn write(&self, facts: &[(&Event, &Fact)], tx: &mut Tx) -> Result<Vec<Announcement>, Failure> {
        let mut announcements = sql::upsert_invoices(tx, facts).await?;
        announcements.extend(sql::upsert_documents(tx, facts).await?);
        sql::upsert_suppliers(tx, facts).await?;
        announcements.extend(updates(facts));
        announcements.extend(sql::upsert_attachments(tx, facts).await?);
        sql::record(tx, facts).await?;
        Ok(announcements)
    }
}

/// The notices that say only that an invoice was changed. There is no state to compare: each is announced.
fn updates(facts: &[(&Event, &Fact)]) -> impl Iterator<Item = Announcement> {
    facts.iter().filter_map(|(event, fact)| match (&fact.external_id, &fact.change) {
        (Some(id), Some(Change::Updated)) => {
            let data = InvoiceRef { source: event.source.name.to_string(), external_id: id.clone() };
            Some(UPDATED.announce(event, id, &data))
        }
        _ => None,
    })
}

/// A notice of Mercado Eletrônico's. A topic that the provider does not document has no contract: it is recorded with
/// what can be read of it.
fn notice(event: &Event) -> Result<Fact, Permanent> {
    let topic = event.topic.as_str();
    let notice = mercado_eletronico::notice::<Invoice>(topic, &event.data, &event.content_type);
    let Some(Parsed { payload, ignored }) = notice.map_err(Permanent::new)? else {
        return Ok(Fact::default());
    };
    let Invoice { invoice_id, status, previous_status, attachment_id } = payload;
    let change = match topic {
        "invoice.created" => Some(Change::Created),
        "invoice.updated" => Some(Change::Updated),
        "invoice.status" => Some(Change::Status {
            status: ignored.needed(status, "data.status").map_err(Permanent::new)?.into(),
            previous: previous_status.map(Into::into),
        }),
        "invoice.attachment.created" => Some(Change::Attachment {
            id: ignored.needed(attachment_id, "data.attachmentId").map_err(Permanent::new)?.into(),
            present: true,
        }),
        "invoice.attachment.deleted" => Some(Change::Attachment {
            id: ignored.needed(attachment_id, "data.attachmentId").map_err(Permanent::new)?.into(),
            present: false,
        }),
        "invoice.creditmemo.requested" => Some(Change::CreditMemoRequested),
        _ => None,
    };
    Ok(Fact { external_id: Some(invoice_id.into()), change, ignored, ..Fact::default() })
}

/// A notification of Gestão Online's: it knows an invoice by its order.
fn tax_invoice(event: &Event) -> Result<Fact, Permanent> {
    let Parsed { payload, ignored } =
        providers::parse::<Notification>(&event.data, &event.content_type).map_err(Permanent::new)?;
    let order = payload.data;
    let key = order.key().map_err(Permanent::new)?.clone();
    let change = Change::Status {
        status: ignored.needed(order.status, "data.status").map_err(Permanent::new)?.into(),
        previous: None,
    };
    Ok(Fact { external_id: Some(key.into()), change: Some(change), ignored, ..Fact::default() })
}

/// A document that was fetched. One of another provider says nothing here.
fn document(event: &Event) -> Result<Fact, Permanent> {
    fn read<T: Payload>(event: &Event, document: fn(Fetched<T>) -> Document) -> Result<Fact, Permanent> {
        let fetched = fetched::<Fetched<T>>(&event.data, &event.content_type, mercado_eletronico::NAME);
        Ok(match fetched.map_err(Permanent::new)? {
            Some(Parsed { payload, ignored }) => {
                let external_id = Some(payload.external_id.clone());
                Fact { external_id, document: Some(document(payload)), ignored, ..Fact::default() }
            }
            None => Fact::default(),
        })
    }
    match event.topic.as_str() {
        "invoice.fetched" => read::<InvoiceDocument>(event, Document::Invoice),
        "supplier.fetched" => read::<SupplierDocument>(event, Document::Supplier),
        topic => Err(Permanent::new(format!("invoices: no meaning for topic {topic}"))),
    }
}
