//! Jobs as rows: made, listed, cancelled, and taken by one runner at a time.

use event::{Day, EventId, Timestamp, Zone};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, Connection, IdPrefix, List, Page, Paged, Row, Store, StoreError, Tx};
use utoipa::IntoParams;

use super::selection::Selection;
use super::{Action, Job, JobError, JobState, NewJob, What};
use crate::predicates::{at_work, replaced_letter, unfinished};
use store::many::{Value, fetch};
use store::{optional_time, time};

/// What is kept as one column.
#[derive(Default, Deserialize)]
struct Options {
    to_consumer: Option<String>,
    again: bool,
    rate: Option<u32>,
    limit: Option<u32>,
    reason: Option<String>,
}

const COLUMNS: &str = "id, action, what, filter, options, requested_by, requested_at, state, total, progress, \
     sent, resume_after, trouble, started_at, finished_at";

/// The kinds of jobs that this release knows. Those that a later release adds are left to it.
pub(super) const KNOWN: &str = "action IN ('replay', 'retry', 'discard', 'fetch', 'reconcile') \
     AND what IN ('events', 'dead', 'rejected', 'unrouted') \
     AND state IN ('waiting', 'running', 'paused', 'done', 'cancelled', 'failed')";

/// A name of one of the enums, as serde writes it.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => unreachable!("every variant is a word"),
    }
}

fn read<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    let value = serde_json::from_value(serde_json::Value::String(text));
    Ok(value.expect("the table holds the words it was given"))
}

pub(super) fn job(row: &AnyRow) -> Result<Job, StoreError> {
    let json = |column| row.try_get::<String, _>(column);
    let options: Options = serde_json::from_str(&json("options")?).unwrap_or_default();
    Ok(Job {
        id: row.try_get("id")?,
        action: read(row, "action")?,
        what: read(row, "what")?,
        filter: serde_json::from_str(&json("filter")?).unwrap_or_default(),
        to_consumer: options.to_consumer,
        again: options.again,
        rate: options.rate,
        limit: options.limit,
        reason: options.reason,
        requested_by: row.try_get("requested_by")?,
        requested_at: time(row, "requested_at")?,
        state: read(row, "state")?,
        total: row.try_get("total")?,
        progress: row.try_get("progress")?,
        sent: row.try_get("sent")?,
        trouble: row.try_get("trouble")?,
        started_at: optional_time(row, "started_at")?,
        finished_at: optional_time(row, "finished_at")?,
        resume_after: row.try_get("resume_after")?,
    })
}

/// How many rows a job would process; for a reconciliation, how many events the ingresses counted.
pub async fn count(store: &Store, new: &NewJob, zone: &Zone) -> Result<i64, JobError> {
    let mut connection = store.read().await?;
    if new.action == Action::Reconcile {
        return Ok(counted(&mut connection, new.day(zone)?).await?);
    }
    let selection = Selection::new(new.what, &new.filter)?;
    let total = selection.count(&mut connection, EventId::generate()).await?;
    refuse_replaced(&mut connection, &selection, total).await?;
    Ok(new.at_most(total))
}

/// Refuses a job on one dead letter in whose place an edited event was sent, and says which.
async fn refuse_replaced(
    connection: &mut Connection,
    selection: &Selection,
    total: i64,
) -> Result<(), JobError> {
    let Selection::Dead(filter) = selection else { return Ok(()) };
    let Some(id) = filter.id.filter(|_| total == 0) else { return Ok(()) };
    let mut conditions = Conditions::default();
    conditions.with_id("s.event_id", Some(id));
    conditions.with("s.consumer =", filter.consumer.as_ref());
    conditions.add(replaced_letter("s"));
    let text =
        format!("SELECT s.consumer, s.replaced_by FROM dead_letters s {} LIMIT 1", conditions.clause());
    let rows = fetch(connection, text, conditions.values).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let consumer: String = row.try_get("consumer").map_err(StoreError::from)?;
    let event = store::id(row, "replaced_by")?;
    Err(JobError::Unfit(format!(
        "filter.id: the event {event} was sent to {consumer} in place of this dead letter, which is closed"
    )))
}

async fn counted(connection: &mut Connection, day: Day) -> Result<i64, StoreError> {
    let text = "SELECT CAST(coalesce(sum(accepted), 0) AS BIGINT) FROM tally WHERE day = $1".to_owned();
    let rows = fetch(connection, text, [Value::from(&day)]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
}

/// Makes a job, which a [`super::Runner`] takes soon.
pub async fn create(store: &Store, new: &NewJob, consumers: &[&str], zone: &Zone) -> Result<Job, JobError> {
    new.check(consumers)?;
    let id = EventId::generate();
    let (total, filter) = match (new.action, &new.filter) {
        (Action::Reconcile, _) => {
            let day = new.day(zone)?;
            let total = counted(&mut *store.read().await?, day).await?;
            (total, serde_json::json!({ "day": day }).to_string())
        }
        (Action::Replay | Action::Retry | Action::Discard | Action::Fetch, filter) => {
            let selection = Selection::new(new.what, filter)?;
            let mut connection = store.read().await?;
            let total = selection.count(&mut connection, id).await?;
            refuse_replaced(&mut connection, &selection, total).await?;
            (new.at_most(total), if filter.is_null() { "{}".to_owned() } else { filter.to_string() })
        }
    };
    let mut tx = store.begin().await?;
    let job = insert(&mut tx, new, id, total, filter).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(job)
}

/// Writes a new job, which waits.
pub(super) async fn insert(
    tx: &mut Tx,
    new: &NewJob,
    id: EventId,
    total: i64,
    filter: String,
) -> Result<Job, StoreError> {
    let text = format!(
        "INSERT INTO jobs (id, action, what, filter, options, requested_by, requested_at, state, total, \
         progress, sent, resume_after, trouble) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, '', '') RETURNING {COLUMNS}"
    );
    let values = vec![
        Value::from(&id),
        Value::from(&word(&new.action)),
        Value::from(&word(&new.what)),
        Value::from(Some(filter)),
        Value::from(&new.options()),
        Value::from(&new.requested_by.trim()),
        Value::from(event::now()),
        Value::from(&word(&JobState::Waiting)),
        Value::from(total),
    ];
    let rows = fetch(tx, text, values).await?;
    job(rows.first().expect("an insert gives its row"))
}

/// Which jobs to list: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct JobFilter {
    /// The job's id, or its beginning.
    #[param(value_type = Option<String>)]
    pub id: Option<IdPrefix>,
    /// Only jobs that do this.
    pub action: Option<Action>,
    /// Only jobs on rows of this kind.
    pub what: Option<What>,
    /// Only jobs in this state.
    pub state: Option<JobState>,
}

impl view::Row for Job {
    type Filter = JobFilter;

    async fn page(
        connection: &mut Connection,
        filter: &JobFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        let select = format!("SELECT {COLUMNS} FROM jobs");
        let mut conditions = Conditions::default();
        conditions.add(KNOWN);
        conditions.with_id_text("id", filter.id);
        conditions.with("action =", filter.action.as_ref());
        conditions.with("what =", filter.what.as_ref());
        conditions.with("state =", filter.state.as_ref());
        List::new(&select, &["id"]).page(connection, conditions, page, job).await
    }
}

/// One job; `None` if there is none with this id.
pub async fn show(connection: &mut Connection, id: EventId) -> Result<Option<Job>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM jobs WHERE id = $1 AND {KNOWN}");
    let rows = fetch(connection, text, vec![Value::from(&id)]).await?;
    rows.first().map(job).transpose()
}

/// Cancels a job that has not ended. Messages already sent still arrive. `None` if there is no such job.
pub async fn cancel(store: &Store, id: EventId) -> Result<Option<Job>, StoreError> {
    let text = format!(
        "UPDATE jobs SET state = 'cancelled', finished_at = $2 \
         WHERE id = $1 AND {} AND {KNOWN}",
        unfinished("jobs")
    );
    change(store, id, text, vec![Value::from(&id), Value::from(event::now())]).await
}

/// Stops a job until it is resumed, whichever console runs then; messages already sent still arrive. One that has ended stays as
/// it is. `None` if there is no such job.
pub async fn pause(store: &Store, id: EventId) -> Result<Option<Job>, JobError> {
    let found = show(&mut *store.read().await?, id).await?;
    if found.is_some_and(|job| job.action == Action::Reconcile) {
        return Err(JobError::Unfit(
            "a reconciliation compares both sides at one time: cancel it, and begin another".to_owned(),
        ));
    }
    let text = format!(
        "UPDATE jobs SET state = 'paused' WHERE id = $1 AND {} AND {} AND {KNOWN}",
        unfinished("jobs"),
        at_work("jobs")
    );
    Ok(change(store, id, text, vec![Value::from(&id)]).await?)
}

/// Lets a paused job go on; any other stays as it is. `None` if there is no such job.
pub async fn resume(store: &Store, id: EventId) -> Result<Option<Job>, StoreError> {
    let text = format!(
        "UPDATE jobs SET state = 'waiting' WHERE id = $1 AND {} AND NOT {} AND {KNOWN}",
        unfinished("jobs"),
        at_work("jobs")
    );
    change(store, id, text, vec![Value::from(&id)]).await
}

async fn change(
    store: &Store,
    id: EventId,
    text: String,
    values: Vec<Value>,
) -> Result<Option<Job>, StoreError> {
    let mut tx = store.begin().await?;
    fetch(&mut tx, text, values).await?;
    tx.commit().await.map_err(StoreError::from)?;
    show(&mut *store.read().await?, id).await
}

/// Jobs of a lane run one after the other. A long replay does not block a reconciliation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    /// Sending again, discarding, and having documents fetched.
    Sending,
    /// Reconciling.
    Reconciling,
}

impl Lane {
    fn actions(self) -> &'static str {
        match self {
            // By name, so that a console ignores kinds that a later release adds.
            Self::Sending => "('replay', 'retry', 'discard', 'fetch')",
            Self::Reconciling => "('reconcile')",
        }
    }
}

/// Takes the oldest job of a lane that no console works on, for a limited time.
pub(super) async fn take(
    store: &Store,
    lane: Lane,
    worker: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Job>, StoreError> {
    let free = format!(
        "action IN {} AND {KNOWN} AND {} AND {} \
         AND (worker IS NULL OR worker = $1 OR lease_until < $2)",
        lane.actions(),
        unfinished("jobs"),
        at_work("jobs")
    );
    let text = format!("SELECT id FROM jobs WHERE {free} ORDER BY id LIMIT 1");
    let values = vec![Value::from(&worker), Value::from(now)];
    // Looked for first, so that an idle console writes nothing.
    if fetch(&mut *store.read().await?, text, values.clone()).await?.is_empty() {
        return Ok(None);
    }
    let mut tx = store.begin().await?;
    let text = format!(
        "UPDATE jobs SET worker = $1, lease_until = $3, state = 'running', started_at = coalesce(started_at, $2) \
         WHERE id = (SELECT id FROM jobs WHERE {free} ORDER BY id LIMIT 1) AND {free} RETURNING {COLUMNS}"
    );
    let rows = fetch(&mut tx, text, [values, vec![Value::from(until)]].concat()).await?;
    tx.commit().await.map_err(StoreError::from)?;
    rows.first().map(job).transpose()
}

/// Whether a job is still to be worked on, and by this worker.
pub(super) async fn is_at_work(
    connection: &mut Connection,
    id: &str,
    worker: &str,
) -> Result<bool, StoreError> {
    let text = "SELECT id FROM jobs WHERE id = $1 AND worker = $2 AND state = 'running'".to_owned();
    Ok(!fetch(connection, text, vec![Value::from(&id), Value::from(&worker)]).await?.is_empty())
}
