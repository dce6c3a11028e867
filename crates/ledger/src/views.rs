//! The ledger's lists, each with the columns that the command line shows.

use view::{Column, Form, Reading, Shown, Tone, Tones, View, column, dropped, shown};

use crate::jobs::{Job, What};
use crate::{DeadGroup, DeadRow, Difference, EventRow, EventState, GroupNote, RejectedRow, UnroutedRow};

impl Shown for EventRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Received", |row| shown(&row.received_at), Form::Time),
        dropped(2, column("Source", |row| shown(&row.source), Form::Text)),
        column("Topic", |row| shown(&row.topic), Form::Text),
        column("Subject", |row| shown(&row.subject), Form::Text),
        column("State", |row| shown(&row.state), Form::State(EventState::TONES)),
        dropped(1, column("Consumers", |row| shown(&row.consumers), Form::States(EventState::TONES))),
        column("Id", |row| shown(&row.id), Form::Id),
    ];
}

/// `events`
pub static EVENTS: View = View {
    name: "events",
    tag: "record",
    about: "Every event that was received",
    row: "event",
    rows: "events",
    example: "state=dead",
    empty: "No events. `malote simulate` posts some; `malote config show` shows the sources.",
    reading: Reading::new::<EventRow>(),
};

impl Shown for DeadRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Failed", |row| shown(&row.failed_at), Form::Time),
        column("Consumer", |row| shown(&row.consumer), Form::Text),
        dropped(2, column("Topic", |row| shown(&row.topic), Form::Text)),
        dropped(1, column("Attempts", |row| shown(&row.attempts), Form::Number)),
        column("Error", |row| shown(&row.error), Form::Text),
        column("Event", |row| shown(&row.id), Form::Id),
    ];
}

/// `dead`
pub static DEAD: View = View {
    name: "dead",
    tag: "record",
    about: "Dead letters: events that a consumer gave up, with the error",
    row: "dead letter",
    rows: "dead letters",
    example: "source=main",
    empty: "No dead letters: no consumer has given up on an event.",
    reading: Reading::new::<DeadRow>(),
};

impl Shown for RejectedRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Received", |row| shown(&row.received_at), Form::Time),
        column("Source", |row| shown(&row.source), Form::Text),
        column("Cause", |row| shown(&row.cause), Form::Text),
        column("Id", |row| shown(&row.id), Form::Id),
    ];
}

/// `rejected`
pub static REJECTED: View = View {
    name: "rejected",
    tag: "record",
    about: "Authenticated bodies that could not be used, with the cause",
    row: "rejected body",
    rows: "rejected bodies",
    example: "source=main",
    empty: "No rejected bodies: everything that was authenticated could be used.",
    reading: Reading::new::<RejectedRow>(),
};

impl Shown for UnroutedRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Received", |row| shown(&row.received_at), Form::Time),
        dropped(1, column("Source", |row| shown(&row.source), Form::Text)),
        column("Topic", |row| shown(&row.topic), Form::Text),
        column("Subject", |row| shown(&row.subject), Form::Text),
        column("Id", |row| shown(&row.id), Form::Id),
    ];
}

/// `unrouted`
pub static UNROUTED: View = View {
    name: "unrouted",
    tag: "record",
    about: "Events whose topic no queue is bound to; push and pull subscriptions may take them",
    row: "unrouted event",
    rows: "unrouted events",
    example: "source=main",
    empty: "No unrouted events: a consumer is bound to every topic that came.",
    reading: Reading::new::<UnroutedRow>(),
};

impl Shown for DeadGroup {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Group", |row| shown(&row.group), Form::Id),
        column("Consumer", |row| shown(&row.consumer), Form::Text),
        column("Count", |row| shown(&row.count), Form::Number),
        dropped(1, column("First failed", |row| shown(&row.first_failed_at), Form::Time)),
        column("Last failed", |row| shown(&row.last_failed_at), Form::Time),
        dropped(2, column("Last hour", |row| shown(&row.per_hour.last()), Form::Number)),
        dropped(4, column("Last day", |row| shown(&row.per_day.last()), Form::Number)),
        column("Error", |row| shown(&row.error), Form::Text),
        dropped(3, column("Note", |row| shown(&row.note.as_ref().map(GroupNote::shown)), Form::Text)),
    ];
}

/// `dead/groups`
pub static DEAD_GROUPS: View = View {
    name: "dead/groups",
    tag: "record",
    about: "Dead letters by consumer and error, the largest group first: at most 1,000 groups",
    row: "group of dead letters",
    rows: "groups of dead letters",
    example: "source=main",
    empty: DEAD.empty,
    reading: Reading::whole::<DeadGroup>(),
};

/// What the states of a job mean to those who read them.
const JOB_TONES: Tones = &[
    ("done", Tone::Good),
    ("waiting", Tone::Waiting),
    ("running", Tone::Waiting),
    ("paused", Tone::Waiting),
    ("failed", Tone::Bad),
];

impl Shown for Job {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Asked for", |row| shown(&row.requested_at), Form::Time),
        dropped(1, column("By", |row| shown(&row.requested_by), Form::Text)),
        column("Job", |row| shown(&row.summary()), Form::Text),
        column("State", |row| shown(&row.state), Form::State(JOB_TONES)),
        dropped(2, column("Rows", |row| shown(&row.total), Form::Number)),
        dropped(3, column("Done", |row| shown(&row.progress), Form::Number)),
        column("Sent", |row| shown(&row.sent), Form::Number),
        column("Id", |row| shown(&row.id), Form::Id),
        dropped(4, column("Trouble", |row| shown(&row.trouble), Form::Text)),
    ];
}

/// `jobs`
pub static JOBS: View = View {
    name: "jobs",
    tag: "jobs",
    about: "Jobs that send again, discard or reconcile, and their progress",
    row: "job",
    rows: "jobs",
    example: "action=reconcile",
    empty: "No jobs: nothing was sent again, discarded or reconciled.",
    reading: Reading::new::<Job>(),
};

impl Shown for Difference {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Difference", |row| shown(&row.kind), Form::Text),
        dropped(1, column("Source", |row| shown(&row.source), Form::Text)),
        column("Consumer", |row| shown(&row.consumer), Form::Text),
        column("Detail", |row| shown(&row.detail), Form::Text),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];
}

/// `jobs/{id}/differences`
pub static DIFFERENCES: View = View {
    name: "jobs/{id}/differences",
    tag: "jobs",
    about: "The differences that a reconciliation found, event by event, and what it sent again; in the order in which it found them",
    row: "difference",
    rows: "differences",
    example: "",
    empty: "No differences.",
    reading: Reading::new::<Difference>(),
};

impl What {
    /// The list whose rows such a job processes.
    pub fn view(self) -> &'static View {
        match self {
            Self::Events => &EVENTS,
            Self::Dead => &DEAD,
            Self::Rejected => &REJECTED,
            Self::Unrouted => &UNROUTED,
        }
    }
}

/// Every list of the ledger.
pub static VIEWS: [&View; 7] = [&EVENTS, &DEAD, &DEAD_GROUPS, &REJECTED, &UNROUTED, &JOBS, &DIFFERENCES];
