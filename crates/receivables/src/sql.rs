//! The statements that write. Each compares orders of facts in the database itself, so that two replicas which
//! handle facts about the same thing at once cannot overwrite the newer one.

mod agreements;
mod documents;
mod instalments;
mod orders;

pub(crate) use agreements::{
    Snapshot, Written, delete_debts, insert_debts, record_agreements, upsert_agreements,
};
pub(crate) use documents::{Document, upsert_documents};
pub(crate) use instalments::{
    Payment, cancel_unmentioned, record_payments, upsert_instalments, upsert_payments,
};
pub(crate) use orders::{Order, OrderChange, record_orders, upsert_orders};
