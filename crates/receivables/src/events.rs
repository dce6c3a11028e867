//! The domain events: one for each change of the state of an agreement or a receivable. They contain no
//! personal data.

use std::collections::HashMap;

use consumer::{Announcement, DomainEvent, EventType, Failure};
use event::Event;
use providers::recuperador::Agreement;
use serde::Serialize;
use store::{AnyRow, Row};
use utoipa::ToSchema;

use crate::{AgreementState, Receivable, ReceivableState};

/// A receivable whose state became known or changed.
#[derive(Serialize, ToSchema)]
pub(crate) struct StateChange {
    /// The receivable as it is now.
    #[serde(flatten)]
    receivable: Receivable,
    /// The state that was known before.
    previous_state: Option<ReceivableState>,
}

/// A receivable whose payment has another status.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatusChange {
    /// The receivable as it is now.
    #[serde(flatten)]
    receivable: Receivable,
    /// The status that was known before.
    previous_provider_status: Option<String>,
}

/// An agreement whose state became known or changed.
#[derive(Serialize, ToSchema)]
pub(crate) struct AgreementChange {
    /// The source's name.
    source: String,
    /// The provider's id.
    external_id: String,
    /// Its state.
    state: AgreementState,
    /// The state that was known before.
    previous_state: Option<AgreementState>,
    /// The final value in centavos.
    agreed_centavos: i64,
    /// The debts before any discount, in centavos.
    original_centavos: i64,
}

const REGISTERED: EventType<AgreementChange> = EventType::new(
    "agreement.registered",
    "agreement",
    "When an agreement is active: it becomes known as such, or is active again.",
);
const SETTLED: EventType<AgreementChange> =
    EventType::new("agreement.settled", "agreement", "When everything agreed is paid.");
const AGREEMENT_CANCELED: EventType<AgreementChange> =
    EventType::new("agreement.canceled", "agreement", "When an agreement is cancelled.");
const INACTIVATED: EventType<AgreementChange> =
    EventType::new("agreement.inactivated", "agreement", "When the provider calls an agreement inactive.");
const OPENED: EventType<StateChange> = EventType::new(
    "receivable.opened",
    "receivable",
    "When an instalment or an order is owed: it becomes known as such, or is owed again.",
);
const PAID: EventType<StateChange> =
    EventType::new("receivable.paid", "receivable", "When an instalment or an order is paid.");
const CANCELED: EventType<StateChange> = EventType::new(
    "receivable.canceled",
    "receivable",
    "When an instalment or an order is owed no longer, although it was not paid.",
);
const STATUS_CHANGED: EventType<StatusChange> = EventType::new(
    "receivable.status_changed",
    "receivable",
    "When the provider's status of the payment of an order becomes known or changes.",
);

/// Every type.
pub(crate) const ALL: &[DomainEvent] = &[
    REGISTERED.declared(),
    SETTLED.declared(),
    AGREEMENT_CANCELED.declared(),
    INACTIVATED.declared(),
    OPENED.declared(),
    PAID.declared(),
    CANCELED.declared(),
    STATUS_CHANGED.declared(),
];

/// The event of an agreement that a snapshot wrote, if that changed the state.
pub(crate) fn agreement_announcement(
    event: &Event,
    agreement: &Agreement,
    state: AgreementState,
    previous_state: Option<AgreementState>,
) -> Option<Announcement> {
    let kind = match state {
        AgreementState::Active => REGISTERED,
        AgreementState::Settled => SETTLED,
        AgreementState::Canceled => AGREEMENT_CANCELED,
        AgreementState::Inactive => INACTIVATED,
    };
    let data = AgreementChange {
        source: event.source.name.to_string(),
        external_id: agreement.id_acordo.as_str().to_owned(),
        state,
        previous_state,
        agreed_centavos: agreement.valor_acordo.0,
        original_centavos: agreement.valor_original.0,
    };
    (previous_state != Some(state)).then(|| kind.announce(event, &data.external_id, &data))
}

/// What a receivable is called in subjects: agreements may number their instalments alike.
fn subject_id(receivable: &Receivable) -> String {
    match &receivable.agreement_id {
        Some(agreement) => format!("{agreement}/{}", receivable.external_id),
        None => receivable.external_id.clone(),
    }
}

/// The columns that [`receivable_announcements`] reads: what a statement returns of the rows that it wrote.
pub(crate) const RETURNING: &str = "RETURNING source, external_id, kind, agreement_id, due_date, amount_centavos, \
     paid_date, state, provider_status, order_id, state_before, status_before";

/// The events that state the state and the status of a receivable.
pub(crate) type Causes<'a> = (&'a Event, &'a Event);

/// The events of receivables that a statement wrote. Their causes are found by the source and what `key` gives.
pub(crate) fn receivable_announcements(
    written: &[AnyRow],
    causes: &HashMap<(&str, &str, &str), Causes<'_>>,
    key: fn(&Receivable) -> (&str, &str),
) -> Result<Vec<Announcement>, Failure> {
    let mut announcements = Vec::new();
    for row in written {
        let receivable = Receivable::read(row)?;
        let (agreement, id) = key(&receivable);
        let causes = causes.get(&(receivable.source.as_str(), agreement, id)).copied();
        let Some((state_cause, status_cause)) = causes else { continue };
        let (id, state) = (subject_id(&receivable), receivable.state);
        let previous_state = ReceivableState::read_optional(row, "state_before")?;
        if previous_state != Some(state) {
            let kind = match state {
                ReceivableState::Open => OPENED,
                ReceivableState::Paid => PAID,
                ReceivableState::Canceled => CANCELED,
            };
            let data = StateChange { receivable: receivable.clone(), previous_state };
            announcements.push(kind.announce(state_cause, &id, &data));
        }
        let previous_provider_status: Option<String> = row.try_get("status_before")?;
        if receivable.provider_status != previous_provider_status {
            let data = StatusChange { receivable, previous_provider_status };
            announcements.push(STATUS_CHANGED.announce(status_cause, &id, &data));
        }
    }
    Ok(announcements)
}
