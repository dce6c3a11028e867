//! A domain as the program knows it.

use event::Zone;
use store::Component;
use view::View;

use crate::{Bindings, Consumer, Runtime};

/// One consumer that keeps books of its own: what a domain's crate declares, and all that wiring needs to know of it.
#[derive(Clone, Copy, Debug)]
pub struct Domain {
    /// What its consumer is bound to.
    pub bindings: Bindings,
    /// Its tables.
    pub component: Component,
    /// Its lists: route, API document and command of each follow from it.
    pub views: &'static [&'static View],
    /// Makes a replica of its consumer. Where a provider does not tell a fact's day, it is that of receipt in the zone.
    pub consumer: fn(&Zone, Runtime) -> Consumer,
}

impl Domain {
    /// The name of its consumer.
    pub fn name(&self) -> &'static str {
        self.bindings.consumer
    }
}
