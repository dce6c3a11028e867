//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

use std::collections::HashMap;

use consumer::{Announcement, Failure};
use event::{Event, EventId, ProviderName};
use providers::Ignored;
use store::many::{Values, insert, merged, newest};
use store::{AnyRow, DriverError, Row, Tx};

use crate::events::{CREATED, PurchaseRef, STATUS_CHANGED, StatusChange, TOTAL_CHANGED, TotalChange};
use crate::model::Key;

/// What an event says, and about which purchase.
#[derive(Default)]
pub struct Fact {
    /// The purchase, where the body names one.
    pub(crate) purchase: Option<Key>,
    /// The change of the purchase, if the event has one.
    pub(crate) change: Option<Change>,
    /// Its supplier.
    pub(crate) supplier: Option<String>,
    /// What its document says.
    pub(crate) document: Option<Document>,
    /// The optional fields that could not be read.
    pub(crate) ignored: Ignored,
}

/// A version of a purchase's document.
#[derive(Default)]
pub(crate) struct Document {
    /// The order of facts.
    pub version: i64,
    pub total_centavos: Option<i64>,
    pub currency: Option<String>,
    pub supplier: Option<String>,
}

/// One statement about a purchase.
pub(crate) enum Change {
    /// It was created; the word for that is its status until there is another.
    Created { status: String },
    /// Its supplier has it. That says nothing against any status but the one of its creation.
    Received { status: String },
    /// It, or a part of it, was changed.
    Updated,
    /// Its status changed.
    Status { status: String, previous: Option<String> },
}

impl Change {
    /// The status and the one before it.
    fn status(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Created { status } | Self::Received { status } => Some((status, None)),
            Self::Updated => None,
            Self::Status { status, previous } => Some((status, previous.as_deref())),
        }
    }
}

/// The order of a purchase's creation: a sender may repeat that notice for days, and every other state comes after it.
const CREATION: i64 = 1;

/// The order of its arrival at the supplier, whose notice may be repeated after an order is cancelled or a quotation closed.
const RECEPTION: i64 = 2;

/// What several events say about one purchase, as one row. What they say nothing about is absent.
struct PurchaseRow<'a> {
    /// The event that comes first.
    event: &'a Event,
    /// The newest status and the one before it, with their order of facts.
    status: Option<(i64, EventId, &'a str, Option<&'a str>)>,
    /// The event that says so.
    status_from: &'a Event,
    /// The newest supplier, with its order of facts.
    supplier: Option<(i64, EventId, &'a str)>,
    /// The newest version of the document, and the event that has it.
    document: Option<(&'a Document, &'a Event)>,
    /// The last receipt.
    updated_at: i64,
}

impl<'a> PurchaseRow<'a> {
    fn new(event: &'a Event, fact: &'a Fact) -> Self {
        let (at, first) = event.receipt();
        let order = match fact.change {
            Some(Change::Created { .. }) => CREATION,
            Some(Change::Received { .. }) => RECEPTION,
            _ => at,
        };
        let status = fact.change.as_ref().and_then(Change::status);
        Self {
            event,
            status: status.map(|(status, previous)| (order, first, status, previous)),
            status_from: event,
            supplier: fact.supplier.as_deref().map(|supplier| (at, first, supplier)),
            document: fact.document.as_ref().map(|document| (document, event)),
            updated_at: at,
        }
    }

    /// The version of the document; 0 without one.
    fn version(&self) -> i64 {
        self.document.map_or(0, |(document, _)| document.version)
    }

    /// Does what the statement does with a row that is there.
    fn merge(&mut self, other: Self) {
        // By their order first; `None` is older than any value.
        if other.status > self.status {
            (self.status, self.status_from) = (other.status, other.status_from);
        }
        self.supplier = self.supplier.max(other.supplier);
        if other.version() > self.version() {
            self.document = other.document;
        }
        self.updated_at = self.updated_at.max(other.updated_at);
    }

    fn values(&self, key: &Key) -> Values {
        let (status_order, status_event, status, previous) = match self.status {
            Some((order, event, status, previous)) => (order, event.to_string(), Some(status), previous),
            None => (0, String::new(), None, None),
        };
        let (supplier_order, supplier_event, supplier) = match self.supplier {
            Some((order, event, supplier)) => (order, event.to_string(), Some(supplier)),
            None => (0, String::new(), None),
        };
        let none = Document::default();
        let Document { version, total_centavos, currency, supplier: document_supplier } =
            self.document.map_or(&none, |(document, _)| document);
        vec![
            (&key.source).into(),
            key.kind.as_str().into(),
            (&key.external_id).into(),
            status.map(str::to_owned).into(),
            previous.map(str::to_owned).into(),
            status_order.into(),
            status_event.into(),
            supplier.map(str::to_owned).into(),
            supplier_order.into(),
            supplier_event.into(),
            (*total_centavos).into(),
            currency.clone().into(),
            document_supplier.clone().into(),
            (*version).into(),
            self.updated_at.into(),
            (&self.event.id).into(),
        ]
    }
}

/// Writes each aspect of a purchase if the statement about it is newer. What the event says nothing about is `NULL`, or has
/// order 0, which is never newer. What many events say of one purchase is written once. The statement keeps what each row had
/// before, and returns it: the row is locked, so what differs is the change that this transaction makes.
pub(crate) async fn upsert_purchases(
    tx: &mut Tx,
    facts: &[(&Event, &Fact)],
) -> Result<Vec<Announcement>, Failure> {
    let rows = facts.iter().filter_map(|(event, fact)| {
        let key = fact.purchase.as_ref()?;
        let says_something = fact.change.is_some() || fact.document.is_some();
        says_something.then(|| (key, PurchaseRow::new(event, fact)))
    });
    let rows = merged(rows, PurchaseRow::merge);
    let causes: HashMap<_, _> = rows
        .iter()
        .map(|(key, row)| ((key.source.as_str(), key.kind.as_str(), key.external_id.as_str()), (*key, row)))
        .collect();
    let newest = |columns: &[&str], order: &[&str]| newest("purchases", columns, order);
    let status = newest(&["status", "previous_status"], &["status_order", "status_event"]);
    let supplier = newest(&["supplier_id"], &["supplier_order", "supplier_event"]);
    let document = newest(&["total_centavos", "currency", "document_supplier_id"], &["document_version"]);
    let written = insert(
        tx,
        "purchases (source, kind, external_id, status, previous_status, status_order, status_event, supplier_id, \
             supplier_order, supplier_event, total_centavos, currency, document_supplier_id, document_version, \
             updated_at, first_event)",
        &format!(
            "ON CONFLICT (source, kind, external_id) DO UPDATE SET \
             status_before = purchases.status, total_before = purchases.total_centavos, \
             currency_before = purchases.currency, {status}, {supplier}, {document}, \
             updated_at = CASE WHEN purchases.updated_at >= excluded.updated_at \
                 THEN purchases.updated_at ELSE excluded.updated_at END \
             RETURNING source, kind, external_id, first_event, status, status_before, total_centavos, total_before, \
                 currency, currency_before"
        ),
        rows.iter().map(|(key, row)| row.values(key)).collect(),
    )
    .await?;
    let mut announcements = Vec::new();
    for row in &written {
        let (source, kind, id): (String, String, String) =
            (row.try_get("source")?, row.try_get("kind")?, row.try_get("external_id")?);
        if let Some((key, causes)) = causes.get(&(source.as_str(), kind.as_str(), id.as_str())) {
            announce(row, PurchaseRef::new((*key).clone()), causes, &mut announcements)?;
        }
    }
    Ok(announcements)
}

/// Announces what a statement changed in a row. The causes are the events that it was written for.
fn announce(
    row: &AnyRow,
    purchase: PurchaseRef,
    causes: &PurchaseRow<'_>,
    announcements: &mut Vec<Announcement>,
) -> Result<(), DriverError> {
    let subject = purchase.subject();
    if row.try_get::<String, _>("first_event")? == causes.event.id.to_string() {
        announcements.push(CREATED.announce_about(causes.event, subject.clone(), &purchase));
    }
    let PurchaseRef { source, kind, external_id } = purchase;
    let (total_centavos, previous_total_centavos): (Option<i64>, Option<i64>) =
        (row.try_get("total_centavos")?, row.try_get("total_before")?);
    let (currency, previous_currency): (Option<String>, Option<String>) =
        (row.try_get("currency")?, row.try_get("currency_before")?);
    let is_changed = (total_centavos, &currency) != (previous_total_centavos, &previous_currency);
    if let Some((_, event)) = causes.document.filter(|_| is_changed) {
        let (source, external_id) = (source.clone(), external_id.clone());
        let data = TotalChange {
            source,
            kind,
            external_id,
            total_centavos,
            currency,
            previous_total_centavos,
            previous_currency,
        };
        announcements.push(TOTAL_CHANGED.announce_about(event, subject.clone(), &data));
    }
    let previous_status: Option<String> = row.try_get("status_before")?;
    if let Some(status) = row.try_get::<Option<String>, _>("status")?
        && previous_status.as_ref() != Some(&status)
    {
        let data = StatusChange { source, kind, external_id, status, previous_status };
        announcements.push(STATUS_CHANGED.announce_about(causes.status_from, subject, &data));
    }
    Ok(())
}

/// Records the events, whether or not they are the newest and whether or not they have a meaning here; documents of other
/// providers are left out.
pub(crate) async fn record(tx: &mut Tx, facts: &[(&Event, &Fact)]) -> Result<(), Failure> {
    let row = |(event, fact): &(&Event, &Fact)| {
        let (status, previous) = fact.change.as_ref().and_then(Change::status).unzip();
        let document = fact.document.as_ref();
        let source = fact.purchase.as_ref().map_or(event.source.name.as_str(), |key| &key.source);
        vec![
            (&event.id).into(),
            source.into(),
            fact.purchase.as_ref().map(|key| key.kind.as_str().to_owned()).into(),
            fact.purchase.as_ref().map(|key| key.external_id.clone()).into(),
            (&event.topic).into(),
            status.map(str::to_owned).into(),
            previous.flatten().map(str::to_owned).into(),
            fact.supplier
                .as_ref()
                .or(document.and_then(|document| document.supplier.as_ref()))
                .cloned()
                .into(),
            event.time.into(),
            document.and_then(|document| document.total_centavos).into(),
            document.and_then(|document| document.currency.clone()).into(),
        ]
    };
    let is_recorded = |(event, fact): &&(&Event, &Fact)| {
        fact.purchase.is_some() || event.source.provider.as_str() != ProviderName::OWN
    };
    insert(
        tx,
        "purchase_history (event_id, source, kind, external_id, topic, status, previous_status, supplier_id, \
             received_at, total_centavos, currency)",
        "ON CONFLICT (event_id) DO NOTHING",
        facts.iter().filter(is_recorded).map(row).collect(),
    )
    .await?;
    Ok(())
}
