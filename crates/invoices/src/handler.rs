//! From an event to its fact, and from facts to the statements that keep them.

use async_trait::async_trait;
use consumer::{Failure, Handler, Permanent};
use event::Event;
use providers::gestao_online::{self, Notification};
use providers::mercado_eletronico::{self, Invoice, Notice};
use providers::{Ignored, Parsed};
use store::Tx;

use crate::sql::{self, Change, Fact};

/// Keeps invoices.
pub struct Invoices;

#[async_trait]
impl Handler for Invoices {
    type Fact = Fact;

    fn read(&self, event: &Event) -> Result<Fact, Permanent> {
        match event.source.provider.as_str() {
            mercado_eletronico::NAME => notice(event),
            gestao_online::NAME => tax_invoice(event),
            provider => Err(Permanent::new(format!("invoices: no contract with provider {provider}"))),
        }
    }

    fn note(&self, fact: &Fact) -> Option<String> {
        fact.ignored.note()
    }

    async fn write(&self, facts: &[(&Event, &Fact)], tx: &mut Tx) -> Result<(), Failure> {
        sql::upsert_invoices(tx, facts).await?;
        sql::upsert_attachments(tx, facts).await?;
        sql::record(tx, facts).await
    }
}

/// A field that the topic needs, although its family does not.
fn needed(field: Option<impl Into<String>>, path: &str, ignored: &Ignored) -> Result<String, Permanent> {
    field.map(Into::into).ok_or_else(|| Permanent::new(ignored.absence(path)))
}

/// A notice of Mercado Eletrônico's. A topic that the provider does not document has no contract: it is recorded with
/// what can be read of it.
fn notice(event: &Event) -> Result<Fact, Permanent> {
    let topic = event.topic.as_str();
    let parsed = providers::parse::<Notice<Invoice>>(&event.data, &event.content_type);
    if !mercado_eletronico::TOPICS.iter().any(|info| info.name == topic) {
        let Ok(Parsed { payload, ignored }) = parsed else { return Ok(Fact::default()) };
        return Ok(Fact { external_id: Some(payload.data.invoice_id.into()), change: None, ignored });
    }
    let Parsed { payload, ignored } = parsed.map_err(Permanent::new)?;
    let Invoice { invoice_id, status, previous_status, attachment_id } = payload.data;
    let change = match topic {
        "invoice.created" => Some(Change::Created),
        "invoice.updated" => Some(Change::Updated),
        "invoice.status" => Some(Change::Status {
            status: needed(status, "data.status", &ignored)?,
            previous: previous_status.map(Into::into),
        }),
        "invoice.attachment.created" => Some(Change::Attachment {
            id: needed(attachment_id, "data.attachmentId", &ignored)?,
            present: true,
        }),
        "invoice.attachment.deleted" => Some(Change::Attachment {
            id: needed(attachment_id, "data.attachmentId", &ignored)?,
            present: false,
        }),
        "invoice.creditmemo.requested" => Some(Change::CreditMemoRequested),
        _ => None,
    };
    Ok(Fact { external_id: Some(invoice_id.into()), change, ignored })
}

/// A notification of Gestão Online's: it knows an invoice by its order.
fn tax_invoice(event: &Event) -> Result<Fact, Permanent> {
    let Parsed { payload, ignored } =
        providers::parse::<Notification>(&event.data, &event.content_type).map_err(Permanent::new)?;
    let order = payload.data;
    let key = order.key().map_err(Permanent::new)?.clone();
    let change = Change::Status { status: needed(order.status, "data.status", &ignored)?, previous: None };
    Ok(Fact { external_id: Some(key.into()), change: Some(change), ignored })
}
