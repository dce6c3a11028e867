//! A domain as the program knows it.

use event::{Event, Zone};
use serde_json::value::RawValue;
use store::Component;
use view::View;

use crate::{Bindings, Consumer, DomainEvent, Permanent, Runtime};

/// A consumer with tables of its own: what the crate of a domain declares, and all that wiring needs.
#[derive(Clone, Copy, Debug)]
pub struct Domain {
    /// What its consumer is bound to.
    pub bindings: Bindings,
    /// Its tables.
    pub component: Component,
    /// The events that its effects amount to.
    pub events: &'static [DomainEvent],
    /// Its lists: route, API document and command of each follow from it.
    pub views: &'static [&'static View],
    /// What its lists have to show once the documented examples of the providers are handled.
    pub expectations: &'static [Expectation],
    /// Creates a replica of its consumer. If a provider does not give the day of a fact, it is the day of receipt in
    /// the zone.
    pub consumer: fn(&Zone, Runtime) -> Consumer,
    /// Whether its handler can read this event, and else why not: what an edited body is checked with before it is sent.
    pub check: fn(&Zone, &Event) -> Result<(), Permanent>,
}

/// What a list has to show once documented examples are handled.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// The list.
    pub view: &'static View,
    /// The topic whose example was handled last; `None` if all were.
    pub after: Option<&'static str>,
    /// What it has to show: a sentence without a full stop.
    pub text: &'static str,
    /// Whether these rows show it.
    pub is_met: fn(&[Box<RawValue>]) -> serde_json::Result<bool>,
}

impl Domain {
    /// The name of its consumer.
    pub fn name(&self) -> &'static str {
        self.bindings.consumer
    }
}
