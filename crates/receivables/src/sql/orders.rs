//! Orders: the state of each and the status of its payment, and the history of what was received.

use consumer::{Announcement, Failure};
use event::{Event, SourceName};
use store::Tx;
use store::many::{Values, insert, merged, newest};

use super::documents::follow_orders;
use crate::events::{RETURNING, receivable_announcements};
use crate::{Kind, ReceivableState};

/// What one event says about an order.
pub(crate) struct Order {
    /// Its code, or else its id.
    pub key: String,
    /// As the body has it; its meaning depends on the topic.
    pub status: Option<String>,
    pub change: OrderChange,
}

/// What the topic says about an order.
pub(crate) enum OrderChange {
    /// That there is one.
    Known,
    /// That it is paid, and on which day the provider reported that, or that it is cancelled.
    State(ReceivableState, Option<String>),
    /// The status of its payment, from the body.
    Status,
}

/// What several events say about one order, as one row.
struct OrderRow<'a> {
    /// The event that comes first.
    event: &'a Event,
    paid_date: Option<String>,
    /// Each aspect with its order of facts and the event that states it; order 0 if the events state nothing about it.
    state: (i64, String, ReceivableState, &'a Event),
    status: (i64, String, Option<String>, &'a Event),
}

impl<'a> OrderRow<'a> {
    fn new(event: &'a Event, Order { status, change, .. }: &Order) -> Self {
        let (at, first) = event.receipt();
        let mut row = Self {
            event,
            paid_date: None,
            state: (0, String::new(), ReceivableState::Open, event),
            status: (0, String::new(), None, event),
        };
        match change {
            OrderChange::Known => {}
            OrderChange::State(state, paid_date) => {
                row.paid_date.clone_from(paid_date);
                row.state = (at, first.to_string(), *state, event);
            }
            OrderChange::Status => row.status = (at, first.to_string(), status.clone(), event),
        }
        row
    }

    /// Does what the statement does with a row that is there.
    fn merge(&mut self, other: Self) {
        if (other.state.0, &other.state.1) > (self.state.0, &self.state.1) {
            self.state = other.state;
        }
        if (other.status.0, &other.status.1) > (self.status.0, &self.status.1) {
            self.status = other.status;
        }
        // No day counts as later than every day.
        self.paid_date = match (self.paid_date.take(), other.paid_date) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    fn values(self, source: &SourceName, key: &str) -> Values {
        vec![
            source.into(),
            Kind::Order.as_str().into(),
            "".into(),
            key.into(),
            self.paid_date.into(),
            self.state.2.as_str().into(),
            self.state.0.into(),
            self.state.1.into(),
            self.status.2.into(),
            self.status.0.into(),
            self.status.1.into(),
            (&self.event.id).into(),
        ]
    }
}

/// Writes each aspect of an order if the statement about it is newer. An aspect that the event says nothing about has
/// order 0, which is never newer. Of the days on which the payment was reported, the first stays. What many events say of one
/// order is written once, and unpaid instalments follow their order.
pub(crate) async fn upsert_orders(
    tx: &mut Tx,
    orders: &[(&Event, &Order)],
) -> Result<Vec<Announcement>, Failure> {
    let rows = orders
        .iter()
        .map(|(event, order)| ((&event.source.name, order.key.as_str()), OrderRow::new(event, order)));
    let rows = merged(rows, OrderRow::merge);
    let causes = rows
        .iter()
        .map(|((source, key), row)| ((source.as_str(), "", *key), (row.state.3, row.status.3)))
        .collect();
    let newest = |columns: &[&str], order: &[&str]| newest("receivable_items", columns, order);
    let state = newest(&["state"], &["state_order", "state_event"]);
    let status = newest(&["provider_status"], &["status_order", "status_event"]);
    let written = insert(
        tx,
        "receivable_items (source, kind, agreement_id, external_id, paid_date, state, state_order, state_event, \
             provider_status, status_order, status_event, first_event)",
        &format!(
            "ON CONFLICT (source, kind, agreement_id, external_id) DO UPDATE SET \
             state_before = receivable_items.state, status_before = receivable_items.provider_status, \
             paid_date = CASE WHEN excluded.paid_date IS NULL OR receivable_items.paid_date <= excluded.paid_date \
                 THEN receivable_items.paid_date ELSE excluded.paid_date END, {state}, {status} {RETURNING}"
        ),
        rows.into_iter().map(|((source, key), row)| row.values(source, key)).collect(),
    )
    .await?;
    let mut announcements = receivable_announcements(&written, &causes, |row| ("", &row.external_id))?;
    let stating = orders.iter().filter(|(_, order)| matches!(order.change, OrderChange::State(..)));
    let stating = stating
        .map(|(event, order)| ((event.source.name.as_str(), "", order.key.as_str()), (*event, *event)))
        .collect();
    announcements.extend(follow_orders(tx, &written, &stating).await?);
    Ok(announcements)
}

/// Records the events, whether or not they are the newest.
pub(crate) async fn record_orders(tx: &mut Tx, orders: &[(&Event, &Order)]) -> Result<(), Failure> {
    let row = |(event, Order { key, status, .. }): &(&Event, &Order)| {
        vec![
            (&event.id).into(),
            (&event.source.name).into(),
            key.into(),
            (&event.topic).into(),
            status.clone().into(),
            event.time.into(),
        ]
    };
    insert(
        tx,
        "order_history (event_id, source, external_id, topic, provider_status, received_at)",
        "ON CONFLICT (event_id) DO NOTHING",
        orders.iter().map(row).collect(),
    )
    .await?;
    Ok(())
}
