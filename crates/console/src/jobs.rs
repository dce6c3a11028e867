//! Jobs: asked for, looked at, ended.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use broker::layout::RetryDelay;
use http::StatusCode;
use ledger::Reconciliation;
use ledger::jobs::{self, Job, JobError, NewJob, Outcome};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::ConsoleState;
use crate::names;
use crate::page::{Id, List, Query};
use crate::refusal::Refusal;

/// A job's answer when it only counts.
#[derive(Serialize, ToSchema)]
pub(crate) struct Counted {
    /// How many rows fit.
    total: i64,
}

/// A list without a filter.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct NoFilter {}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Unfit(text) => Self::Parameter(text),
            JobError::Store(error) => Self::Store(error),
        }
    }
}

/// Asks for a job, or with `dry_run` only how many rows it would go through.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", request_body = NewJob, responses(
    (status = 201, description = "The job, which begins soon", body = Job),
    (status = 200, description = "How many rows fit", body = Counted)))]
pub(crate) async fn create(State(state): State<ConsoleState>, body: Bytes) -> Result<Response, Refusal> {
    let new: NewJob = serde_json::from_slice(&body).map_err(|error| Refusal::Parameter(error.to_string()))?;
    let consumers: Vec<_> = state.consumers.iter().map(|(name, _)| *name).collect();
    new.check(&consumers)?;
    let fields = new.filter.as_object().into_iter().flatten();
    let given: Vec<_> =
        fields.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    names::check(&state, &mut *state.store.read().await?, &given).await?;
    if new.dry_run {
        let total = jobs::count(&state.store, &new).await?;
        return Ok(Json(Counted { total }).into_response());
    }
    let job = jobs::create(&state.store, &new, &consumers).await?;
    tracing::info!(job = job.id, action = ?job.action, what = ?job.what, total = job.total, "a job is asked for");
    Ok((StatusCode::CREATED, Json(job)).into_response())
}

/// Every job there was.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", params(crate::page::PageParameters),
    responses((status = 200, description = "A page of jobs", body = List<Job>)))]
pub(crate) async fn list(
    State(state): State<ConsoleState>,
    Query { filter: NoFilter {}, page, .. }: Query<NoFilter>,
) -> Result<Json<List<Job>>, Refusal> {
    let mut connection = state.store.read().await?;
    Ok(Json(jobs::list(&mut connection, &page).await?.into()))
}

/// One job, and how far it is.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job", body = Job)))]
pub(crate) async fn show(State(state): State<ConsoleState>, Id(id): Id) -> Result<Json<Job>, Refusal> {
    let mut connection = state.store.read().await?;
    jobs::show(&mut connection, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}

/// What became of what a job has sent: how much was handled, died again, or is still under way.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/outcome", tag = "jobs",
    params(("id" = String, Path, description = "The job's id; it is no discard")),
    responses((status = 200, description = "What became of it", body = Outcome)))]
pub(crate) async fn outcome(State(state): State<ConsoleState>, Id(id): Id) -> Result<Json<Outcome>, Refusal> {
    let mut connection = state.store.read().await?;
    jobs::outcome(&mut connection, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}

/// Ends a job; one that has ended stays as it is. What is on its way arrives.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job", body = Job)))]
pub(crate) async fn cancel(State(state): State<ConsoleState>, Id(id): Id) -> Result<Json<Job>, Refusal> {
    jobs::cancel(&state.store, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}

/// Which day's books.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfDay {
    /// The day of receipt, UTC, as YYYY-MM-DD; today without it.
    day: Option<String>,
}

/// How often, and how long apart, the books are read while an ingress has counted more than the ledger has: the last
/// events may be in the ledger's hands.
const READINGS: u32 = 10;
const READING_PAUSE: Duration = Duration::from_millis(500);

/// The books of a day: what came in, what became of it, and what does not agree.
#[utoipa::path(get, path = "/api/v1/reconciliation", tag = "operations", params(OfDay),
    responses((status = 200, description = "The books", body = Reconciliation)))]
pub(crate) async fn reconciliation(
    State(state): State<ConsoleState>,
    Query { filter: OfDay { day }, .. }: Query<OfDay>,
) -> Result<Json<Reconciliation>, Refusal> {
    let day = day.unwrap_or_else(|| event::now().to_string().chars().take(10).collect());
    let wrong = || Refusal::Parameter(format!("day: expected a day such as 2026-11-24, got {day:?}"));
    let mut books = read_books(&state, &day).await?.ok_or_else(wrong)?;
    for _ in 1..READINGS {
        if books.balanced {
            break;
        }
        tokio::time::sleep(READING_PAUSE).await;
        books = read_books(&state, &day).await?.ok_or_else(wrong)?;
    }
    Ok(Json(books))
}

async fn read_books(state: &ConsoleState, day: &str) -> Result<Option<Reconciliation>, Refusal> {
    // Before the rows: what leaves a queue in between is in the rows.
    let waiting = waiting(state).await?;
    let mut connection = state.store.read().await?;
    Ok(ledger::reconcile(&mut connection, day, waiting).await?)
}

/// The queues that are not empty, by name without prefix.
async fn waiting(state: &ConsoleState) -> Result<BTreeMap<String, u64>, Refusal> {
    let fixed = crate::queues::FIXED.iter().map(|(name, _)| (*name).to_owned());
    let consumers = state.consumers.iter().map(|(name, _)| (*name).to_owned());
    let retry = RetryDelay::ALL.into_iter().map(|delay| format!("wait.{delay}"));
    let names: Vec<String> = fixed.chain(consumers).chain(retry).collect();
    let queues: Vec<_> = names.iter().map(|name| state.layout.queue(name)).collect();
    let statuses = state.broker.queues(&queues).await?;
    let depths = names.into_iter().zip(statuses).map(|(name, status)| (name, status.ready));
    Ok(depths.filter(|(_, ready)| *ready > 0).collect())
}
