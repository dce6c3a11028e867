//! A domain as the program knows it.

use event::Zone;
use store::Component;
use view::View;

use crate::{Bindings, Consumer, Runtime};

/// A consumer with tables of its own: what the crate of a domain declares, and all that wiring needs.
#[derive(Clone, Copy, Debug)]
pub struct Domain {
    /// What its consumer is bound to.
    pub bindings: Bindings,
    /// Its tables.
    pub component: Component,
    /// Its lists: route, API document and command of each follow from it.
    pub views: &'static [&'static View],
    /// Creates a replica of its consumer. If a provider does not give the day of a fact, it is the day of receipt in
    /// the zone.
    pub consumer: fn(&Zone, Runtime) -> Consumer,
}

impl Domain {
    /// The name of its consumer.
    pub fn name(&self) -> &'static str {
        self.bindings.consumer
    }
}
