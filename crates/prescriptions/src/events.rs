//! The domain events: one for each change of the state of a request. They contain no personal data:
//! the subject is the keyed hash of the CPF, and reason, measurements and files are left out.

use consumer::{DomainEvent, EventType};
use serde::Serialize;
use utoipa::ToSchema;

use crate::PrescriptionState;

/// A request whose state became known or changed.
#[derive(Serialize, ToSchema)]
pub(crate) struct StateChange {
    /// The source's name.
    pub source: String,
    /// The state.
    pub state: PrescriptionState,
    /// The state that was known before.
    pub previous_state: Option<PrescriptionState>,
}

const PENDING: EventType<StateChange> = EventType::new(
    "prescription.pending",
    "prescription",
    "When the renewal of a prescription is requested.",
);
const IN_ANALYSIS: EventType<StateChange> =
    EventType::new("prescription.in_analysis", "prescription", "When a request for a renewal is examined.");
const REJECTED: EventType<StateChange> =
    EventType::new("prescription.rejected", "prescription", "When a request for a renewal is rejected.");
const RENEWED: EventType<StateChange> =
    EventType::new("prescription.renewed", "prescription", "When a prescription is renewed.");

/// Every type.
pub(crate) const ALL: &[DomainEvent] =
    &[PENDING.declared(), IN_ANALYSIS.declared(), REJECTED.declared(), RENEWED.declared()];

/// The type that announces a state.
pub(crate) fn state_event(state: PrescriptionState) -> EventType<StateChange> {
    match state {
        PrescriptionState::Pending => PENDING,
        PrescriptionState::InAnalysis => IN_ANALYSIS,
        PrescriptionState::Rejected => REJECTED,
        PrescriptionState::Renewed => RENEWED,
    }
}
