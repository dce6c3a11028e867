//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

use std::collections::HashMap;

use consumer::{Announcement, Failure};
use event::{Event, EventId, SourceName};
use providers::mercado_eletronico::{InvoiceDocument, SupplierDocument};
use providers::{Fetched, Ignored};
use store::many::{Value, Values, insert, merged, newest, rounds};
use store::{AnyRow, DriverError, Row, Tx};

use crate::events::{
    ATTACHMENT_ADDED, ATTACHMENT_REMOVED, AttachmentRef, CREATED, CREDIT_MEMO_REQUESTED, InvoiceRef,
    STATUS_CHANGED, StatusChange,
};

/// What an event says, and about which invoice.
#[derive(Default)]
pub struct Fact {
    /// The invoice, where the body names one.
    pub(crate) external_id: Option<String>,
    /// The change of the invoice, if the event has one.
    pub(crate) change: Option<Change>,
    /// The document, if the event has one.
    pub(crate) document: Option<Document>,
    /// The optional fields that could not be read.
    pub(crate) ignored: Ignored,
}

/// A document that was fetched.
pub(crate) enum Document {
    /// Of an invoice.
    Invoice(Fetched<InvoiceDocument>),
    /// Of a supplier.
    Supplier(Fetched<SupplierDocument>),
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
    /// The event that says so.
    status_from: &'a Event,
    created_at: Option<i64>,
    updated_at: Option<i64>,
    /// The event that says that a credit memo was requested.
    memo_from: Option<&'a Event>,
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
            status_from: event,
            created_at: matches!(change, Change::Created).then_some(at),
            updated_at: matches!(change, Change::Updated).then_some(at),
            memo_from: matches!(change, Change::CreditMemoRequested).then_some(event),
        }
    }

    /// Does what the statement does with a row that is there.
    fn merge(&mut self, other: Self) {
        // By receipt first; `None` is older than any value.
        if other.status > self.status {
            (self.status, self.status_from) = (other.status, other.status_from);
        }
        self.created_at = self.created_at.into_iter().chain(other.created_at).min();
        self.updated_at = self.updated_at.max(other.updated_at);
        self.memo_from = self.memo_from.or(other.memo_from);
    }

    fn values(&self, source: &SourceName, external_id: &str) -> Values {
        let (status_order, status_event, status, previous) = match &self.status {
            Some((at, event, status, previous)) => {
                (*at, event.to_string(), Some(status.clone()), previous.clone())
            }
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
            i64::from(self.memo_from.is_some()).into(),
            (&self.event.id).into(),
        ]
    }
}

/// Writes each aspect of an invoice if the statement about it is newer. What the event says nothing about is `NULL`,
/// or has order 0, which is never newer. What many events say of one invoice is written once. The statement keeps what each row
/// had before, and returns it: the row is locked, so what differs is the change that this transaction makes.
pub(crate) async fn upsert_invoices(
    tx: &mut Tx,
    facts: &[(&Event, &Fact)],
) -> Result<Vec<Announcement>, Failure> {
    let rows = facts.iter().filter_map(|(event, fact)| {
        let (external_id, change) = (fact.external_id.as_ref()?, fact.change.as_ref()?);
        Some(((&event.source.name, external_id.as_str()), InvoiceRow::new(event, change)))
    });
    let rows = merged(rows, InvoiceRow::merge);
    let causes: HashMap<_, _> = rows
        .iter()
        .map(|((source, id), row)| ((source.as_str(), *id), (row.event, row.status_from, row.memo_from)))
        .collect();
    let status = newest("invoices", &["status", "previous_status"], &["status_order", "status_event"]);
    let written = insert(
        tx,
        "invoices (source, external_id, status, previous_status, status_order, status_event, created_at, \
             updated_at, credit_memo_requested, first_event)",
        &format!(
            "ON CONFLICT (source, external_id) DO UPDATE SET \
             status_before = invoices.status, memo_before = invoices.credit_memo_requested, {status}, \
             created_at = CASE WHEN excluded.created_at IS NULL OR invoices.created_at <= excluded.created_at \
                 THEN invoices.created_at ELSE excluded.created_at END, \
             updated_at = CASE WHEN excluded.updated_at IS NULL OR invoices.updated_at >= excluded.updated_at \
                 THEN invoices.updated_at ELSE excluded.updated_at END, \
             credit_memo_requested = CASE WHEN excluded.credit_memo_requested = 1 \
                 THEN 1 ELSE invoices.credit_memo_requested END \
             RETURNING source, external_id, first_event, status, status_before, credit_memo_requested, memo_before"
        ),
        rows.iter().map(|((source, external_id), row)| row.values(source, external_id)).collect(),
    )
    .await?;
    let mut announcements = Vec::new();
    for row in &written {
        let (source, id): (String, String) = (row.try_get("source")?, row.try_get("external_id")?);
        if let Some(causes) = causes.get(&(source.as_str(), id.as_str())).copied() {
            announce(row, (source, id), causes, &mut announcements)?;
        }
    }
    Ok(announcements)
}

/// Announces what a statement changed in a row. The causes are the events that made the row, changed the status and requested
/// the credit memo, if the statement did.
fn announce(
    row: &AnyRow,
    (source, id): (String, String),
    (made, status_from, memo_from): (&Event, &Event, Option<&Event>),
    announcements: &mut Vec<Announcement>,
) -> Result<(), DriverError> {
    let invoice_ref = || InvoiceRef { source: source.clone(), external_id: id.clone() };
    if row.try_get::<String, _>("first_event")? == made.id.to_string() {
        announcements.push(CREATED.announce(made, &id, &invoice_ref()));
    }
    let previous_status: Option<String> = row.try_get("status_before")?;
    if let Some(status) = row.try_get::<Option<String>, _>("status")?
        && previous_status.as_ref() != Some(&status)
    {
        let (source, external_id) = (source.clone(), id.clone());
        let data = StatusChange { source, external_id, status, previous_status };
        announcements.push(STATUS_CHANGED.announce(status_from, &id, &data));
    }
    let is_requested =
        row.try_get::<i64, _>("credit_memo_requested")? > row.try_get::<i64, _>("memo_before")?;
    if let Some(event) = memo_from.filter(|_| is_requested) {
        announcements.push(CREDIT_MEMO_REQUESTED.announce(event, &id, &invoice_ref()));
    }
    Ok(())
}

/// Writes the newest document of each invoice, and announces those that become known by it.
pub(crate) async fn upsert_documents(
    tx: &mut Tx,
    facts: &[(&Event, &Fact)],
) -> Result<Vec<Announcement>, Failure> {
    let rows = facts.iter().filter_map(|(event, fact)| match &fact.document {
        Some(Document::Invoice(fetched)) => {
            Some(((fetched.source.as_str(), fetched.external_id.as_str()), (*event, fetched)))
        }
        _ => None,
    });
    let rows = merged(rows, |known, other| {
        if other.1.version > known.1.version {
            *known = other;
        }
    });
    let causes: HashMap<_, _> = rows.iter().map(|(key, (event, _))| (*key, *event)).collect();
    let row =
        |((source, external_id), (event, fetched)): &((&str, &str), (&Event, &Fetched<InvoiceDocument>))| {
            let InvoiceDocument { number, series, issue_date, total, net, currency, supplier_id } =
                &fetched.document;
            vec![
                source.into(),
                external_id.into(),
                number.as_ref().map(|number| number.as_str().to_owned()).into(),
                series.as_ref().map(|series| series.as_str().to_owned()).into(),
                issue_date.map(|date| date.to_string()).into(),
                total.map(|total| total.0).into(),
                net.map(|net| net.0).into(),
                currency.clone().into(),
                supplier_id.as_ref().map(|id| id.as_str().to_owned()).into(),
                fetched.version.into(),
                0.into(),
                "".into(),
                0.into(),
                (&event.id).into(),
            ]
        };
    let written = insert(
        tx,
        "invoices (source, external_id, number, series, issue_date, total_centavos, net_centavos, currency, \
             supplier_id, document_version, status_order, status_event, credit_memo_requested, first_event)",
        "ON CONFLICT (source, external_id) DO UPDATE SET number = excluded.number, series = excluded.series, \
             issue_date = excluded.issue_date, total_centavos = excluded.total_centavos, \
             net_centavos = excluded.net_centavos, currency = excluded.currency, \
             supplier_id = excluded.supplier_id, document_version = excluded.document_version \
         WHERE excluded.document_version > invoices.document_version \
         RETURNING source, external_id, first_event",
        rows.iter().map(row).collect(),
    )
    .await?;
    let mut announcements = Vec::new();
    for row in &written {
        let (source, external_id): (String, String) = (row.try_get("source")?, row.try_get("external_id")?);
        let made: String = row.try_get("first_event")?;
        let cause = causes.get(&(source.as_str(), external_id.as_str())).copied();
        if let Some(event) = cause.filter(|event| made == event.id.to_string()) {
            let data = InvoiceRef { source, external_id };
            announcements.push(CREATED.announce(event, &data.external_id, &data));
        }
    }
    Ok(announcements)
}

/// Writes the newest document of each supplier.
pub(crate) async fn upsert_suppliers(tx: &mut Tx, facts: &[(&Event, &Fact)]) -> Result<(), Failure> {
    let rows = facts.iter().filter_map(|(_, fact)| match &fact.document {
        Some(Document::Supplier(fetched)) => {
            Some(((fetched.source.as_str(), fetched.external_id.as_str()), fetched))
        }
        _ => None,
    });
    let rows = merged(rows, |known, other| {
        if other.version > known.version {
            *known = other;
        }
    });
    let row = |((source, id), fetched): &((&str, &str), &Fetched<SupplierDocument>)| {
        let document = fetched.document.document.as_ref().map(|document| document.bare().to_owned());
        vec![source.into(), id.into(), document.into(), fetched.version.into()]
    };
    insert(
        tx,
        "invoice_suppliers (source, supplier_id, document, document_version)",
        "ON CONFLICT (source, supplier_id) DO UPDATE SET document = excluded.document, \
             document_version = excluded.document_version \
         WHERE excluded.document_version > invoice_suppliers.document_version",
        rows.iter().map(row).collect(),
    )
    .await?;
    Ok(())
}

/// Writes whether a file is attached if the statement about that very file is newer.
pub(crate) async fn upsert_attachments(
    tx: &mut Tx,
    facts: &[(&Event, &Fact)],
) -> Result<Vec<Announcement>, Failure> {
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
        let key = (event.source.name.as_str(), invoice.as_str(), id.as_str());
        Some((key, (key, *event, row)))
    });
    let mut announcements = Vec::new();
    for round in rounds(rows) {
        let causes: HashMap<_, _> = round.iter().map(|(key, event, _)| (*key, *event)).collect();
        let written = insert(
            tx,
            "invoice_attachments (source, invoice_id, attachment_id, present, present_order, present_event)",
            "ON CONFLICT (source, invoice_id, attachment_id) DO UPDATE SET present = excluded.present, \
                 present_order = excluded.present_order, present_event = excluded.present_event, \
                 present_before = invoice_attachments.present \
             WHERE (excluded.present_order, excluded.present_event) > \
                 (invoice_attachments.present_order, invoice_attachments.present_event) \
             RETURNING source, invoice_id, attachment_id, present, present_before",
            round.into_iter().map(|(.., row)| row).collect(),
        )
        .await?;
        for row in &written {
            let text = |column| row.try_get::<String, _>(column);
            let (source, external_id) = (text("source")?, text("invoice_id")?);
            let attachment_id = text("attachment_id")?;
            let key = (source.as_str(), external_id.as_str(), attachment_id.as_str());
            let cause = causes.get(&key).copied();
            let (present, before): (i64, Option<i64>) =
                (row.try_get("present")?, row.try_get("present_before")?);
            if let Some(event) = cause.filter(|_| before != Some(present)) {
                let kind = if present == 1 { ATTACHMENT_ADDED } else { ATTACHMENT_REMOVED };
                let data = AttachmentRef { source, external_id, attachment_id };
                announcements.push(kind.announce(event, &data.external_id, &data));
            }
        }
    }
    Ok(announcements)
}

/// Records the events, whether or not they are the newest and whether or not they have a meaning here.
pub(crate) async fn record(tx: &mut Tx, facts: &[(&Event, &Fact)]) -> Result<(), Failure> {
    let row = |(event, fact): &(&Event, &Fact)| {
        let source = match &fact.document {
            Some(Document::Invoice(fetched)) => &fetched.source,
            Some(Document::Supplier(fetched)) => &fetched.source,
            None => event.source.name.as_str(),
        };
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
            source.into(),
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
