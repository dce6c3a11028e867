//! The outcome of what a job sent.

use event::EventId;
use serde::{Deserialize, Serialize};
use store::{Connection, Row, StoreError};
use utoipa::ToSchema;

use super::{Action, Job, What, table};
use crate::predicates::{dead_at, given_up_since, handled, is_duplicate, open_mark};
use store::many::{Value, fetch};

/// The outcome of what a job sent: of dead letters if it retried those, else of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Outcome)]
pub struct JobOutcome {
    /// How many were sent.
    pub sent: i64,
    /// How many are neither dead, unrouted nor pending: every consumer of malote that is bound to them has handled
    /// them, or they are duplicates.
    pub settled: i64,
    /// How many a consumer gave up again.
    pub dead: i64,
    /// How many no queue is bound to, again.
    pub unrouted: i64,
    /// How many a consumer has not handled yet.
    pub pending: i64,
}

/// The outcome of what a job has sent so far; `None` if there is no such job, or it sends nothing. Rows that a later
/// job has sent again count as settled.
pub async fn outcome(connection: &mut Connection, id: EventId) -> Result<Option<JobOutcome>, StoreError> {
    let sends = |job: &Job| !matches!(job.action, Action::Discard | Action::Fetch);
    let Some(job) = table::show(connection, id).await?.filter(sends) else { return Ok(None) };
    let counted = match job.what {
        What::Dead => "count(*)",
        What::Events | What::Rejected | What::Unrouted => "count(DISTINCT s.event_id)",
    };
    let (handled, given_up) = (handled("s"), given_up_since("s", "s.job"));
    let duplicate = is_duplicate("s");
    // Pending ones are counted first: those that end meanwhile are then counted by their outcome.
    let of_table = [
        format!(
            "{counted} FROM unsettled_events s WHERE s.job = $1 AND NOT {handled} AND NOT {duplicate} AND NOT {given_up}"
        ),
        format!("{counted} FROM dead_letters s WHERE s.died_in = $1 AND {}", dead_at("s")),
        format!(
            "{counted} FROM unrouted_events s WHERE s.marked_in = $1 AND {} AND NOT {duplicate}",
            open_mark("s")
        ),
    ];
    let mut counts = [0; 3];
    for (text, count) in of_table.into_iter().zip(&mut counts) {
        for row in fetch(connection, format!("SELECT {text}"), [Value::from(&job.id)]).await? {
            *count = row.try_get(0)?;
        }
    }
    let [pending, dead, unrouted] = counts;
    let settled = (job.sent - pending - dead - unrouted).max(0);
    Ok(Some(JobOutcome { sent: job.sent, settled, dead, unrouted, pending }))
}
