//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

use consumer::Failure;
use event::Event;
use store::Tx;
use store::sql::query;

/// What an event says, and about which invoice.
pub(crate) struct Said {
    /// The invoice, where the body names one.
    pub external_id: Option<String>,
    /// What is said of it, if that has a meaning.
    pub fact: Option<Fact>,
}

/// One thing said about an invoice.
pub(crate) enum Fact {
    /// It was created.
    Created,
    /// It was changed.
    Updated,
    /// Its status changed.
    Status { status: String, previous: Option<String> },
    /// A file was attached or deleted.
    Attachment { id: String, present: bool },
    /// A credit memo was requested for it.
    CreditMemoRequested,
}

fn source(event: &Event) -> String {
    event.source.name.as_str().to_owned()
}

/// Writes each aspect of the invoice if what is said about it is newer. What the event says nothing about is `NULL`,
/// or has order 0, which is never newer.
pub(crate) async fn upsert_invoice(
    tx: &mut Tx,
    event: &Event,
    external_id: &str,
    fact: &Fact,
) -> Result<(), Failure> {
    let (at, first) = event.receipt();
    let (status, previous, status_order, status_event) = match fact {
        Fact::Status { status, previous } => (Some(status.clone()), previous.clone(), at, first.to_string()),
        _ => (None, None, 0, String::new()),
    };
    query(
        "INSERT INTO invoices (source, external_id, status, previous_status, status_order, status_event, created_at, \
             updated_at, credit_memo_requested, first_event) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (source, external_id) DO UPDATE SET \
             (status, previous_status, status_order, status_event) = (SELECT \
                 CASE WHEN newer THEN excluded.status ELSE invoices.status END, \
                 CASE WHEN newer THEN excluded.previous_status ELSE invoices.previous_status END, \
                 CASE WHEN newer THEN excluded.status_order ELSE invoices.status_order END, \
                 CASE WHEN newer THEN excluded.status_event ELSE invoices.status_event END \
                 FROM (SELECT (excluded.status_order, excluded.status_event) > \
                     (invoices.status_order, invoices.status_event) AS newer) AS compared), \
             created_at = CASE WHEN excluded.created_at IS NULL OR invoices.created_at <= excluded.created_at \
                 THEN invoices.created_at ELSE excluded.created_at END, \
             updated_at = CASE WHEN excluded.updated_at IS NULL OR invoices.updated_at >= excluded.updated_at \
                 THEN invoices.updated_at ELSE excluded.updated_at END, \
             credit_memo_requested = CASE WHEN excluded.credit_memo_requested = 1 \
                 THEN 1 ELSE invoices.credit_memo_requested END",
    )
    .bind(source(event))
    .bind(external_id.to_owned())
    .bind(status)
    .bind(previous)
    .bind(status_order)
    .bind(status_event)
    .bind(matches!(fact, Fact::Created).then_some(at))
    .bind(matches!(fact, Fact::Updated).then_some(at))
    .bind(i64::from(matches!(fact, Fact::CreditMemoRequested)))
    .bind(event.id.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes whether the file is attached if what is said about that very file is newer.
pub(crate) async fn upsert_attachment(
    tx: &mut Tx,
    event: &Event,
    invoice: &str,
    id: &str,
    present: bool,
) -> Result<(), Failure> {
    let (at, first) = event.receipt();
    query(
        "INSERT INTO invoice_attachments (source, invoice_id, attachment_id, present, present_order, present_event) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (source, invoice_id, attachment_id) DO UPDATE SET present = excluded.present, \
             present_order = excluded.present_order, present_event = excluded.present_event \
         WHERE (excluded.present_order, excluded.present_event) > \
             (invoice_attachments.present_order, invoice_attachments.present_event)",
    )
    .bind(source(event))
    .bind(invoice.to_owned())
    .bind(id.to_owned())
    .bind(i64::from(present))
    .bind(at)
    .bind(first.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Records the event, whether or not it is the newest and whether or not it has a meaning here.
pub(crate) async fn record(tx: &mut Tx, event: &Event, said: &Said) -> Result<(), Failure> {
    let (status, previous) = match &said.fact {
        Some(Fact::Status { status, previous }) => (Some(status.clone()), previous.clone()),
        _ => (None, None),
    };
    let attachment = match &said.fact {
        Some(Fact::Attachment { id, .. }) => Some(id.clone()),
        _ => None,
    };
    query(
        "INSERT INTO invoice_history (event_id, source, external_id, topic, status, previous_status, attachment_id, \
             received_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (event_id) DO NOTHING",
    )
    .bind(event.id.to_string())
    .bind(source(event))
    .bind(said.external_id.clone())
    .bind(event.topic.to_string())
    .bind(status)
    .bind(previous)
    .bind(attachment)
    .bind(event.time.as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
