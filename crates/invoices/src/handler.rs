//! From an event to the statements that keep it.

use async_trait::async_trait;
use consumer::{Failure, Handler};
use event::Event;
use providers::gestao_online::{self, Notification};
use providers::mercado_eletronico::{self, Invoice, Notice};
use store::Tx;

use crate::sql::{self, Fact, Said};

/// Keeps invoices.
pub(crate) struct Invoices;

#[async_trait]
impl Handler for Invoices {
    async fn handle(&self, events: &[&Event], tx: &mut Tx) -> Result<(), Failure> {
        let said = events.iter().map(|event| said(event)).collect::<Result<Vec<_>, _>>()?;
        sql::upsert_invoices(tx, &said).await?;
        sql::upsert_attachments(tx, &said).await?;
        sql::record(tx, &said).await
    }
}

fn said(event: &Event) -> Result<Said<'_>, Failure> {
    let (external_id, fact) = match event.source.provider.as_str() {
        mercado_eletronico::NAME => notice(event)?,
        gestao_online::NAME => tax_invoice(event)?,
        provider => {
            return Err(Failure::Permanent(format!("invoices: no contract with provider {provider}")));
        }
    };
    Ok(Said { event, external_id, fact })
}

/// The invoice, and what is said of it.
type Words = (Option<String>, Option<Fact>);

fn parse<T: serde::de::DeserializeOwned>(event: &Event) -> Result<T, Failure> {
    providers::parse(&event.data, event.repaired).map_err(|broken| Failure::Permanent(broken.to_string()))
}

/// A field that the topic needs, although its family does not.
fn needed(field: Option<impl Into<String>>, path: &str) -> Result<String, Failure> {
    field.map(Into::into).ok_or_else(|| Failure::Permanent(format!("{path}: missing")))
}

/// A notice of Mercado Eletrônico's. A topic that the provider does not document has no contract: it is recorded with
/// what can be read of it.
fn notice(event: &Event) -> Result<Words, Failure> {
    let topic = event.topic.as_str();
    if !mercado_eletronico::TOPICS.iter().any(|info| info.name == topic) {
        let external_id = parse::<Notice<Invoice>>(event).ok().map(|notice| notice.data.invoice_id.into());
        return Ok((external_id, None));
    }
    let Invoice { invoice_id, status, previous_status, attachment_id } =
        parse::<Notice<Invoice>>(event)?.data;
    let fact = match topic {
        "invoice.created" => Some(Fact::Created),
        "invoice.updated" => Some(Fact::Updated),
        "invoice.status" => Some(Fact::Status {
            status: needed(status, "data.status")?,
            previous: previous_status.map(Into::into),
        }),
        "invoice.attachment.created" => {
            Some(Fact::Attachment { id: needed(attachment_id, "data.attachmentId")?, present: true })
        }
        "invoice.attachment.deleted" => {
            Some(Fact::Attachment { id: needed(attachment_id, "data.attachmentId")?, present: false })
        }
        "invoice.creditmemo.requested" => Some(Fact::CreditMemoRequested),
        _ => None,
    };
    Ok((Some(invoice_id.into()), fact))
}

/// A notification of Gestão Online's: it knows an invoice by its order.
fn tax_invoice(event: &Event) -> Result<Words, Failure> {
    let order = parse::<Notification>(event)?.data;
    let key = order.key().map_err(|broken| Failure::Permanent(broken.to_string()))?.clone();
    let fact = Fact::Status { status: needed(order.status, "data.status")?, previous: None };
    Ok((Some(key.into()), Some(fact)))
}
