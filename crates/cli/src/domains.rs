//! The domains: one row for each consumer that keeps a book of its own.

use std::sync::Arc;

use consumer::{Handler, Subscription};
use event::Zone;
use store::Component;

/// A domain as far as wiring is concerned.
pub struct Domain {
    /// What it reads.
    pub subscription: &'static Subscription,
    /// Its tables.
    pub component: &'static Component,
    /// What it does with an event.
    pub handler: fn(&Zone) -> Arc<dyn Handler>,
}

impl Domain {
    /// The consumer's name.
    pub fn name(&self) -> &'static str {
        self.subscription.consumer
    }
}

/// All of them. A new domain is a new row.
pub static ALL: [Domain; 3] = [
    Domain {
        subscription: &invoices::SUBSCRIPTION,
        component: &invoices::COMPONENT,
        handler: |_| invoices::handler(),
    },
    Domain {
        subscription: &receivables::SUBSCRIPTION,
        component: &receivables::COMPONENT,
        handler: receivables::handler,
    },
    Domain {
        subscription: &prescriptions::SUBSCRIPTION,
        component: &prescriptions::COMPONENT,
        handler: |_| prescriptions::handler(),
    },
];

/// The domain of a consumer's name.
pub fn named(name: &str) -> Option<&'static Domain> {
    ALL.iter().find(|domain| domain.name() == name)
}
