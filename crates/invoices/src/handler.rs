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
    async fn handle(&self, event: &Event, tx: &mut Tx) -> Result<(), Failure> {
        let said = match event.source.provider.as_str() {
            mercado_eletronico::NAME => notice(event)?,
            gestao_online::NAME => tax_invoice(event)?,
            provider => {
                return Err(Failure::Permanent(format!("invoices: no contract with provider {provider}")));
            }
        };
        if let (Some(invoice), Some(fact)) = (&said.external_id, &said.fact) {
            sql::upsert_invoice(tx, event, invoice, fact).await?;
            if let Fact::Attachment { id, present } = fact {
                sql::upsert_attachment(tx, event, invoice, id, *present).await?;
            }
        }
        sql::record(tx, event, &said).await
    }
}

fn parse<T: serde::de::DeserializeOwned>(event: &Event) -> Result<T, Failure> {
    providers::parse(&event.data, event.repaired).map_err(|broken| Failure::Permanent(broken.to_string()))
}

/// A field that the topic needs, although its family does not.
fn needed(field: Option<impl Into<String>>, path: &str) -> Result<String, Failure> {
    field.map(Into::into).ok_or_else(|| Failure::Permanent(format!("{path}: missing")))
}

/// A notice of Mercado Eletrônico's. A topic that the provider does not document has no contract: it is recorded with
/// what can be read of it.
fn notice(event: &Event) -> Result<Said, Failure> {
    let topic = event.topic.as_str();
    if !mercado_eletronico::TOPICS.iter().any(|info| info.name == topic) {
        let external_id = parse::<Notice<Invoice>>(event).ok().map(|notice| notice.data.invoice_id.into());
        return Ok(Said { external_id, fact: None });
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
    Ok(Said { external_id: Some(invoice_id.into()), fact })
}

/// A notification of Gestão Online's: it knows an invoice by its order.
fn tax_invoice(event: &Event) -> Result<Said, Failure> {
    let order = parse::<Notification>(event)?.data;
    let key = order.key().map_err(|broken| Failure::Permanent(broken.to_string()))?.clone();
    let fact = Fact::Status { status: needed(order.status, "data.status")?, previous: None };
    Ok(Said { external_id: Some(key.into()), fact: Some(fact) })
}
