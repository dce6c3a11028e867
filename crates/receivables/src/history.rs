//! The histories: every fact that was received, as lists.

mod agreements;
mod items;

pub use agreements::{AGREEMENT_HISTORY, AgreementFact, AgreementFactFilter};
pub use items::{RECEIVABLE_HISTORY, ReceivableFact, ReceivableFactFilter};
