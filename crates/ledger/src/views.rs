//! The ledger's lists.

use view::{Form, Reading, View, column};

use crate::{DeadRow, EventRow, RejectedRow, UnroutedRow};

/// `events`
pub static EVENTS: View = View {
    name: "events",
    tag: "record",
    about: "Every event that was received",
    row: "event",
    rows: "events",
    columns: &[
        column("Received", "received_at", Form::Time),
        column("Source", "source", Form::Text),
        column("Topic", "topic", Form::Text),
        column("Subject", "subject", Form::Text),
        column("State", "state", Form::State),
        column("Consumers", "consumers", Form::States),
        column("Id", "id", Form::Id),
    ],
    example: "state=dead",
    empty: "No events. `malote simulate` posts some; `malote config show` shows the sources.",
    reading: Reading::new::<EventRow>(),
};

/// `dead`
pub static DEAD: View = View {
    name: "dead",
    tag: "record",
    about: "Dead letters: events that a consumer gave up, with the error",
    row: "dead letter",
    rows: "dead letters",
    columns: &[
        column("Failed", "failed_at", Form::Time),
        column("Consumer", "consumer", Form::Text),
        column("Topic", "topic", Form::Text),
        column("Attempts", "attempts", Form::Number),
        column("Error", "error", Form::Text),
        column("Event", "event_id", Form::Id),
    ],
    example: "consumer=invoices",
    empty: "No dead letters: no consumer has given up on an event.",
    reading: Reading::new::<DeadRow>(),
};

/// `rejected`
pub static REJECTED: View = View {
    name: "rejected",
    tag: "record",
    about: "Authenticated bodies that could not be used, with the cause",
    row: "rejected body",
    rows: "rejected bodies",
    columns: &[
        column("Received", "received_at", Form::Time),
        column("Source", "source", Form::Text),
        column("Cause", "cause", Form::Text),
        column("Id", "id", Form::Id),
    ],
    example: "provider=recuperador",
    empty: "No rejected bodies: everything that was authenticated could be used.",
    reading: Reading::new::<RejectedRow>(),
};

/// `unrouted`
pub static UNROUTED: View = View {
    name: "unrouted",
    tag: "record",
    about: "Events whose topic no queue is bound to",
    row: "unrouted event",
    rows: "unrouted events",
    columns: &[
        column("Received", "received_at", Form::Time),
        column("Source", "source", Form::Text),
        column("Topic", "topic", Form::Text),
        column("Subject", "subject", Form::Text),
        column("Id", "id", Form::Id),
    ],
    example: "provider=recuperador",
    empty: "No unrouted events: a consumer is bound to every topic that came.",
    reading: Reading::new::<UnroutedRow>(),
};

/// Every list of the ledger.
pub static VIEWS: [&View; 4] = [&EVENTS, &DEAD, &REJECTED, &UNROUTED];
