//! The domains: one row for each consumer that keeps a book of its own.

use consumer::{Consumer, Runtime, Subscription};
use event::Zone;
use store::Component;

/// A domain as far as wiring is concerned.
pub struct Domain {
    /// What it reads.
    pub subscription: &'static Subscription,
    /// Its tables.
    pub component: &'static Component,
    /// Its consumer, with the days of a zone.
    pub consumer: fn(&Zone, Runtime) -> Consumer,
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
        consumer: |_, runtime| invoices::consumer(runtime),
    },
    Domain {
        subscription: &receivables::SUBSCRIPTION,
        component: &receivables::COMPONENT,
        consumer: receivables::consumer,
    },
    Domain {
        subscription: &prescriptions::SUBSCRIPTION,
        component: &prescriptions::COMPONENT,
        consumer: |_, runtime| prescriptions::consumer(runtime),
    },
];

/// The domain of a consumer's name.
pub fn named(name: &str) -> Option<&'static Domain> {
    ALL.iter().find(|domain| domain.name() == name)
}
