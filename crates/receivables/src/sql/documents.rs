//! The documents of orders: the amount of each order, and its instalments.
//!
//! The newest version of a document counts. An unpaid instalment is owed as long as its order is not cancelled, and no longer once a
//! newer version does not have it.

use std::collections::HashMap;

use consumer::{Announcement, Failure};
use event::Event;
use providers::Fetched;
use providers::gestao_online::{FinancialItem, OrderDocument};
use store::Tx;
use store::many::{Value, Values, fetch_given, insert, rounds};

use crate::events::{Causes, RETURNING, receivable_announcements};
use crate::{Kind, Receivable, ReceivableState};

/// A document as an event announces it.
#[derive(Clone, Copy)]
pub(crate) struct Document<'a> {
    pub event: &'a Event,
    pub fetched: &'a Fetched<OrderDocument>,
}

impl<'a> Document<'a> {
    /// What identifies the order: its source and its code.
    fn key(&self) -> (&'a str, &'a str) {
        (&self.fetched.source, &self.fetched.external_id)
    }
}

/// The order that an instalment is of.
fn order(receivable: &Receivable) -> (&str, &str) {
    ("", receivable.order_id.as_deref().unwrap_or_default())
}

/// Writes what these documents say of orders and their instalments. The rows do not depend on the order of arrival.
pub(crate) async fn upsert_documents(
    tx: &mut Tx,
    documents: &[Document<'_>],
) -> Result<Vec<Announcement>, Failure> {
    let mut announcements = Vec::new();
    for round in rounds(documents.iter().map(|document| (document.key(), *document))) {
        let causes: HashMap<_, Causes<'_>> = round
            .iter()
            .map(|document| {
                let (source, order) = document.key();
                ((source, "", order), (document.event, document.event))
            })
            .collect();
        // The orders' rows come first: their locks keep other statements about the same instalments waiting.
        let written = upsert_amounts(tx, &round).await?;
        announcements.extend(receivable_announcements(&written, &causes, |row| ("", &row.external_id))?);
        let mut newest = HashMap::new();
        for row in &written {
            let Receivable { source, external_id, state, .. } = Receivable::read(row)?;
            newest.insert((source, external_id), state);
        }
        let state_of = |document: &Document<'_>| {
            let (source, order) = document.key();
            newest.get(&(source.to_owned(), order.to_owned())).copied()
        };
        let instalments = round.iter().flat_map(|document| instalments(document, state_of(document)));
        let written = insert(
            tx,
            "receivable_items (source, kind, agreement_id, external_id, order_id, due_date, amount_centavos, state, \
                 stated, document_version, state_order, state_event, status_order, status_event, first_event)",
            &format!(
                "ON CONFLICT (source, kind, agreement_id, external_id) DO UPDATE SET due_date = excluded.due_date, \
                     amount_centavos = excluded.amount_centavos, state = excluded.state, stated = excluded.stated, \
                     document_version = excluded.document_version, state_before = receivable_items.state, \
                     status_before = receivable_items.provider_status \
                 WHERE excluded.document_version > receivable_items.document_version {RETURNING}"
            ),
            instalments.collect(),
        )
        .await?;
        announcements.extend(receivable_announcements(&written, &causes, order)?);
        let newest: Vec<_> = round.iter().filter(|document| state_of(document).is_some()).copied().collect();
        announcements.extend(cancel_unmentioned(tx, &newest, &causes).await?);
    }
    Ok(announcements)
}

/// Writes the amounts of those orders of which the document is newer than the row, and gives these. Locks the rows either way.
async fn upsert_amounts(tx: &mut Tx, documents: &[Document<'_>]) -> Result<Vec<store::AnyRow>, Failure> {
    let row = |Document { event, fetched }: &Document<'_>| {
        let OrderDocument { total, items } = &fetched.document;
        let due_date = items.iter().filter_map(|item| item.due_date).min();
        vec![
            (&fetched.source).into(),
            Kind::Order.as_str().into(),
            "".into(),
            (&fetched.external_id).into(),
            due_date.map(|date| date.to_string()).into(),
            total.map(|total| total.0).into(),
            ReceivableState::Open.as_str().into(),
            fetched.version.into(),
            0.into(),
            "".into(),
            0.into(),
            "".into(),
            (&event.id).into(),
        ]
    };
    let written = insert(
        tx,
        "receivable_items (source, kind, agreement_id, external_id, due_date, amount_centavos, state, \
             document_version, state_order, state_event, status_order, status_event, first_event)",
        &format!(
            "ON CONFLICT (source, kind, agreement_id, external_id) DO UPDATE SET due_date = excluded.due_date, \
                 amount_centavos = excluded.amount_centavos, document_version = excluded.document_version, \
                 state_before = receivable_items.state, status_before = receivable_items.provider_status \
             WHERE excluded.document_version > receivable_items.document_version {RETURNING}"
        ),
        documents.iter().map(row).collect(),
    )
    .await?;
    Ok(written)
}

/// The instalments of a document; `order` is the state of its order if it is the newest document of that.
fn instalments(Document { event, fetched }: &Document<'_>, order: Option<ReceivableState>) -> Vec<Values> {
    let row = |(number, item): (usize, &FinancialItem)| {
        let stated = match order {
            _ if item.is_paid() => ReceivableState::Paid,
            Some(_) => ReceivableState::Open,
            // If a newer document has it, there is a row.
            None => ReceivableState::Canceled,
        };
        let state = match (stated, order) {
            (ReceivableState::Open, Some(ReceivableState::Canceled)) => ReceivableState::Canceled,
            (stated, _) => stated,
        };
        vec![
            (&fetched.source).into(),
            Kind::Instalment.as_str().into(),
            "".into(),
            format!("{}/{number}", fetched.external_id).into(),
            (&fetched.external_id).into(),
            item.due_date.map(|date| date.to_string()).into(),
            item.amount.map(|amount| amount.0).into(),
            state.as_str().into(),
            stated.as_str().into(),
            fetched.version.into(),
            0.into(),
            "".into(),
            0.into(),
            "".into(),
            (&event.id).into(),
        ]
    };
    // They have no ids: another order of the list must not change which is which.
    let mut items: Vec<&FinancialItem> = fetched.document.items.iter().collect();
    items.sort_by_key(|item| (item.due_date.is_none(), item.due_date, item.amount.map(|amount| amount.0)));
    (1..).zip(items).map(row).collect()
}

/// Cancels the unpaid instalments that these documents, the newest of their orders, do not have.
async fn cancel_unmentioned(
    tx: &mut Tx,
    documents: &[Document<'_>],
    causes: &HashMap<(&str, &str, &str), Causes<'_>>,
) -> Result<Vec<Announcement>, Failure> {
    // One expression beside the order, so that rows are found by that.
    let text = |given: &str| {
        format!(
            "UPDATE receivable_items SET state = 'canceled', stated = 'canceled', state_before = receivable_items.state, \
             status_before = receivable_items.provider_status FROM ({given}) AS newest \
             WHERE receivable_items.source = newest.column1 AND receivable_items.order_id = newest.column2 \
             AND CASE receivable_items.stated WHEN 'open' THEN receivable_items.document_version < newest.column3 END \
             {RETURNING}"
        )
    };
    let newest = |document: &Document<'_>| {
        let (source, order) = document.key();
        vec![Value::from(source), Value::from(order), Value::from(document.fetched.version)]
    };
    let written = fetch_given(tx, text, documents.iter().map(newest).collect()).await?;
    receivable_announcements(&written, causes, order)
}

/// Cancels the unpaid instalments of orders that are cancelled, and opens those of orders that are not any more. `written` are the
/// orders' rows as events have left them, locked; `causes` has the events that state whether an order is cancelled.
pub(super) async fn follow_orders(
    tx: &mut Tx,
    written: &[store::AnyRow],
    causes: &HashMap<(&str, &str, &str), Causes<'_>>,
) -> Result<Vec<Announcement>, Failure> {
    let mut given = Vec::new();
    for row in written {
        let Receivable { source, external_id, state, .. } = Receivable::read(row)?;
        if causes.contains_key(&(source.as_str(), "", external_id.as_str())) {
            let unpaid = match state {
                ReceivableState::Canceled => ReceivableState::Canceled,
                ReceivableState::Open | ReceivableState::Paid => ReceivableState::Open,
            };
            given.push(vec![source.into(), external_id.into(), unpaid.as_str().into()]);
        }
    }
    // As above.
    let text = |given: &str| {
        format!(
            "UPDATE receivable_items SET state = of_order.column3, state_before = receivable_items.state, \
             status_before = receivable_items.provider_status FROM ({given}) AS of_order \
             WHERE receivable_items.source = of_order.column1 AND receivable_items.order_id = of_order.column2 \
             AND CASE receivable_items.stated WHEN 'open' THEN receivable_items.state <> of_order.column3 END \
             {RETURNING}"
        )
    };
    let written = fetch_given(tx, text, given).await?;
    receivable_announcements(&written, causes, order)
}
