//! From an event to the statements that keep it.

use async_trait::async_trait;
use consumer::{Failure, Handler};
use event::Event;
use providers::gestao_online::{self, Notification};
use providers::mercado_eletronico::{self, Invoice, Notice};
use providers::{Ignored, Parsed, Payload};
use store::Tx;
use store::inbox::{self, Note};

use crate::SUBSCRIPTION;
use crate::sql::{self, Fact, Said};

/// Keeps invoices.
pub(crate) struct Invoices;

#[async_trait]
impl Handler for Invoices {
    async fn handle(&self, events: &[&Event], tx: &mut Tx) -> Result<(), Failure> {
        let mut notes = Vec::new();
        let said = events.iter().map(|event| said(event, &mut notes)).collect::<Result<Vec<_>, _>>()?;
        sql::upsert_invoices(tx, &said).await?;
        sql::upsert_attachments(tx, &said).await?;
        sql::record(tx, &said).await?;
        Ok(inbox::note(tx, SUBSCRIPTION.consumer, &notes).await?)
    }
}

fn said<'a>(event: &'a Event, notes: &mut Vec<Note>) -> Result<Said<'a>, Failure> {
    let (external_id, fact) = match event.source.provider.as_str() {
        mercado_eletronico::NAME => notice(event, notes)?,
        gestao_online::NAME => tax_invoice(event, notes)?,
        provider => {
            return Err(Failure::Permanent(format!("invoices: no contract with provider {provider}")));
        }
    };
    Ok(Said { event, external_id, fact })
}

/// The invoice, and what is said of it.
type Words = (Option<String>, Option<Fact>);

fn parse<T: Payload>(event: &Event, notes: &mut Vec<Note>) -> Result<Parsed<T>, Failure> {
    let parsed = providers::parse(&event.data, &event.content_type)
        .map_err(|broken| Failure::Permanent(broken.to_string()))?;
    if !parsed.ignored.is_empty() {
        notes.push(Note { event_id: event.id, text: parsed.ignored.to_string() });
    }
    Ok(parsed)
}

/// A field that the topic needs, although its family does not.
fn needed(field: Option<impl Into<String>>, path: &str, ignored: &Ignored) -> Result<String, Failure> {
    field.map(Into::into).ok_or_else(|| {
        Failure::Permanent(ignored.at(path).map_or_else(|| format!("{path}: missing"), ToString::to_string))
    })
}

/// A notice of Mercado Eletrônico's. A topic that the provider does not document has no contract: it is recorded with
/// what can be read of it.
fn notice(event: &Event, notes: &mut Vec<Note>) -> Result<Words, Failure> {
    let topic = event.topic.as_str();
    if !mercado_eletronico::TOPICS.iter().any(|info| info.name == topic) {
        let notice = parse::<Notice<Invoice>>(event, notes).ok();
        let external_id = notice.map(|notice| notice.payload.data.invoice_id.into());
        return Ok((external_id, None));
    }
    let Parsed { payload, ignored } = parse::<Notice<Invoice>>(event, notes)?;
    let Invoice { invoice_id, status, previous_status, attachment_id } = payload.data;
    let fact = match topic {
        "invoice.created" => Some(Fact::Created),
        "invoice.updated" => Some(Fact::Updated),
        "invoice.status" => Some(Fact::Status {
            status: needed(status, "data.status", &ignored)?,
            previous: previous_status.map(Into::into),
        }),
        "invoice.attachment.created" => Some(Fact::Attachment {
            id: needed(attachment_id, "data.attachmentId", &ignored)?,
            present: true,
        }),
        "invoice.attachment.deleted" => Some(Fact::Attachment {
            id: needed(attachment_id, "data.attachmentId", &ignored)?,
            present: false,
        }),
        "invoice.creditmemo.requested" => Some(Fact::CreditMemoRequested),
        _ => None,
    };
    Ok((Some(invoice_id.into()), fact))
}

/// A notification of Gestão Online's: it knows an invoice by its order.
fn tax_invoice(event: &Event, notes: &mut Vec<Note>) -> Result<Words, Failure> {
    let Parsed { payload, ignored } = parse::<Notification>(event, notes)?;
    let order = payload.data;
    let key = order.key().map_err(|broken| Failure::Permanent(broken.to_string()))?.clone();
    let fact = Fact::Status { status: needed(order.status, "data.status", &ignored)?, previous: None };
    Ok((Some(key.into()), Some(fact)))
}
