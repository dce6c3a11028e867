//! Daily reconciliation: what was received, its outcome, and whether the two agree.
//!
//! Receipts and outcomes are read from different tables, so that an error in one shows: handled events are counted in
//! the inbox, pending ones in the list of pending effects. The counts of the ingresses come from neither.
//!
//! A reconciliation is a job ([`crate::jobs`]), whatever the size of the day: it processes the day in ranges of ids
//! ([`walk`]), stores the counts after each, and lists every difference. An event that is pending at a consumer and can
//! no longer be in a queue is sent to that consumer again, once per job.

pub(crate) mod walk;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use event::{EventId, Timestamp};
use serde::{Deserialize, Serialize};
use store::many::Value;
use store::{Conditions, Connection, List, Page, Paged, Row, StoreError, optional_id};
use utoipa::{IntoParams, ToSchema};

use store::optional_time;
use walk::Walk;

/// The books of one source for one day of receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceBooks {
    /// The configured sender; `/malote/<consumer>` for the domain events of a consumer, which no ingress counts.
    pub source: String,
    /// Requests that the ingresses say they answered 2xx.
    pub counted_accepted: i64,
    /// Bodies that the ingresses say they kept and answered 400.
    pub counted_rejected: i64,
    /// Events on record, replays not counted.
    pub received: i64,
    /// Every consumer that takes it has handled it.
    pub handled: i64,
    /// No consumer of malote takes it.
    pub routed: i64,
    /// A consumer has not handled it yet.
    pub pending: i64,
    /// A consumer gave up.
    pub dead: i64,
    /// No queue is bound to its topic.
    pub unrouted: i64,
    /// An operator closed it.
    pub discarded: i64,
    /// Its sender had sent the same before.
    pub duplicate: i64,
    /// None of these: a difference.
    pub unaccounted: i64,
    /// Rejected bodies on record.
    pub rejected: i64,
    /// Of those, the ones that are events by now.
    pub rejected_resent: i64,
    /// Replays under an id of their own.
    pub replayed: i64,
}

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// What does not agree, in a few words.
    pub kind: String,
    /// The configured sender, where that is known.
    pub source: Option<String>,
    /// The event, where that is known.
    pub event_id: Option<String>,
    /// The consumer that it is about.
    pub consumer: Option<String>,
    /// What was found, and what to do.
    pub detail: String,
    /// When the reconciliation sent the event to that consumer again, under the same id.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Timestamp>,
}

/// Which differences to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct DifferenceFilter {
    /// The job's id
    #[param(value_type = String)]
    pub id: EventId,
}

impl view::Row for Difference {
    type Filter = DifferenceFilter;

    /// The findings of a reconciliation, in order: the differences of its last pass, and what it sent again. The cursor is
    /// the page's last.
    async fn page(
        connection: &mut Connection,
        filter: &DifferenceFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        const LIST: List<'_> = List::new(
            "SELECT id, kind, source, event_id, consumer, detail, sent_at FROM differences",
            &["id"],
        )
        .ascending();
        let Some(walk) = walk::load(connection, &filter.id.to_string()).await? else {
            return Ok(Paged { items: Vec::new(), next: None });
        };
        let mut conditions = Conditions::default();
        conditions.with("job_id =", Some(&filter.id));
        let pass = conditions.bind(Value::from(walk.pass()));
        conditions.add(format!("(pass = {pass} OR sent_at IS NOT NULL)"));
        let difference = |row: &store::AnyRow| {
            Ok::<_, StoreError>(Self {
                kind: row.try_get("kind")?,
                source: row.try_get("source")?,
                event_id: optional_id(row, "event_id")?.map(|id| id.to_string()),
                consumer: row.try_get("consumer")?,
                detail: row.try_get("detail")?,
                sent_at: optional_time(row, "sent_at")?,
            })
        };
        LIST.page(connection, conditions, page, difference).await
    }
}

/// The books of one day: partial while the job runs, complete once it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reconciliation {
    /// The day, `YYYY-MM-DD`.
    pub day: String,
    /// The time zone of the day.
    pub zone: String,
    /// Whether everything is read and there is no difference.
    pub balanced: bool,
    /// Every source that something is known of.
    pub sources: Vec<SourceBooks>,
    /// How many differences there are; `GET /api/v1/jobs/{id}/differences` lists them.
    pub differences: i64,
    /// How many events were sent again to a consumer where they were pending; listed with the differences.
    pub sent: i64,
    /// Messages waiting in each queue that was not empty, by the queue's name without prefix.
    pub waiting: BTreeMap<String, u64>,
}

/// The books that a job has read; `None` if the job is not a reconciliation or has not begun.
pub async fn reconciliation(
    connection: &mut Connection,
    job: EventId,
) -> Result<Option<Reconciliation>, StoreError> {
    Ok(walk::load(connection, &job.to_string()).await?.map(Walk::into_books))
}
