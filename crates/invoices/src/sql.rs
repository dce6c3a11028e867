//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

use consumer::Failure;
use event::{Event, EventId, SourceName};
use providers::Ignored;
use store::Tx;
use store::many::{Value, Values, insert, merged, rounds};

/// What an event says, and about which invoice.
#[derive(Default)]
pub struct Fact {
    /// The invoice, where the body names one.
    pub(crate) external_id: Option<String>,
    /// The change of the invoice, if the event has one.
    pub(crate) change: Option<Change>,
    /// The optional fields that could not be read.
    pub(crate) ignored: Ignored,
}

/// One statement about an invoice.
pub(crate) enum Change {
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

/// What several events say about one invoice, as one row. What they say nothing about is absent.
struct InvoiceRow<'a> {
    /// The event that comes first.
    event: &'a Event,
    /// The newest status and the one before it, with their order of facts.
    status: Option<(i64, EventId, String, Option<String>)>,
    created_at: Option<i64>,
    updated_at: Option<i64>,
    credit_memo_requested: bool,
}

impl<'a> InvoiceRow<'a> {
    fn new(event: &'a Event, change: &Change) -> Self {
        let (at, first) = event.receipt();
        let status = match change {
            Change::Status { status, previous } => Some((at, first, status.clone(), previous.clone())),
            _ => None,
        };
        Self {
            event,
            status,
            created_at: matches!(change, Change::Created).then_some(at),
            updated_at: matches!(change, Change::Updated).then_some(at),
            credit_memo_requested: matches!(change, Change::CreditMemoRequested),
        }
    }

    /// Does what the statement does with a row that is there.
    fn merge(&mut self, other: Self) {
        // By receipt first; nothing is older than anything.
        self.status = self.status.take().max(other.status);
        self.created_at = self.created_at.into_iter().chain(other.created_at).min();
        self.updated_at = self.updated_at.max(other.updated_at);
        self.credit_memo_requested |= other.credit_memo_requested;
    }

    fn values(self, source: &SourceName, external_id: &str) -> Values {
        let (status_order, status_event, status, previous) = match self.status {
            Some((at, event, status, previous)) => (at, event.to_string(), Some(status), previous),
            None => (0, String::new(), None, None),
        };
        vec![
            source.into(),
            external_id.into(),
            status.into(),
            previous.into(),
            status_order.into(),
            status_event.into(),
            self.created_at.into(),
            self.updated_at.into(),
            i64::from(self.credit_memo_requested).into(),
            (&self.event.id).into(),
        ]
    }
}

/// Writes each aspect of an invoice if the statement about it is newer. What the event says nothing about is `NULL`,
/// or has order 0, which is never newer. What many events say of one invoice is written once.
pub(crate) async fn upsert_invoices(tx: &mut Tx, facts: &[(&Event, &Fact)]) -> Result<(), Failure> {
    let rows = facts.iter().filter_map(|(event, fact)| {
        let (external_id, change) = (fact.external_id.as_ref()?, fact.change.as_ref()?);
        Some(((&event.source.name, external_id.as_str()), InvoiceRow::new(event, change)))
    });
    let rows = merged(rows, InvoiceRow::merge);
    insert(
        tx,
        "invoices (source, external_id, status, previous_status, status_order, status_event, created_at, \
             updated_at, credit_memo_requested, first_event)",
        "ON CONFLICT (source, external_id) DO UPDATE SET \
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
        rows.into_iter().map(|((source, external_id), row)| row.values(source, external_id)).collect(),
    )
    .await?;
    Ok(())
}

/// Writes whether a file is attached if the statement about that very file is newer.
pub(crate) async fn upsert_attachments(tx: &mut Tx, facts: &[(&Event, &Fact)]) -> Result<(), Failure> {
    let rows = facts.iter().filter_map(|(event, fact)| {
        let (Some(invoice), Some(Change::Attachment { id, present })) = (&fact.external_id, &fact.change)
        else {
            return None;
        };
        let (at, first) = event.receipt();
        let row: Vec<Value> = vec![
            (&event.source.name).into(),
            invoice.into(),
            id.into(),
            i64::from(*present).into(),
            at.into(),
            (&first).into(),
        ];
        Some(((&event.source.name, invoice, id), row))
    });
    for round in rounds(rows) {
        insert(
            tx,
            "invoice_attachments (source, invoice_id, attachment_id, present, present_order, present_event)",
            "ON CONFLICT (source, invoice_id, attachment_id) DO UPDATE SET present = excluded.present, \
                 present_order = excluded.present_order, present_event = excluded.present_event \
             WHERE (excluded.present_order, excluded.present_event) > \
                 (invoice_attachments.present_order, invoice_attachments.present_event)",
            round,
        )
        .await?;
    }
    Ok(())
}

/// Records the events, whether or not they are the newest and whether or not they have a meaning here.
pub(crate) async fn record(tx: &mut Tx, facts: &[(&Event, &Fact)]) -> Result<(), Failure> {
    let row = |(event, fact): &(&Event, &Fact)| {
        let (status, previous) = match &fact.change {
            Some(Change::Status { status, previous }) => (Some(status.clone()), previous.clone()),
            _ => (None, None),
        };
        let attachment = match &fact.change {
            Some(Change::Attachment { id, .. }) => Some(id.clone()),
            _ => None,
        };
        vec![
            (&event.id).into(),
            (&event.source.name).into(),
            fact.external_id.clone().into(),
            (&event.topic).into(),
            status.into(),
            previous.into(),
            attachment.into(),
            event.time.into(),
        ]
    };
    insert(
        tx,
        "invoice_history (event_id, source, external_id, topic, status, previous_status, attachment_id, \
             received_at)",
        "ON CONFLICT (event_id) DO NOTHING",
        facts.iter().map(row).collect(),
    )
    .await?;
    Ok(())
}
