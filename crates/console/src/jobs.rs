//! Jobs: asked for, looked at, ended.

use access::Identity;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use ledger::Reconciliation;
use ledger::jobs::{self, Job, JobError, JobOutcome, NewJob};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ConsoleState;
use crate::names;
use crate::page::Id;
use crate::refusal::Refusal;
use crate::token::Audited;

/// A job's answer when it only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counted {
    /// How many rows fit.
    pub total: i64,
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Unfit(text) => Self::Parameter(text),
            JobError::Store(error) => Self::Store(error),
        }
    }
}

/// Creates a job, or with `dry_run` only counts the rows that it would process. The findings of a reconciliation are at
/// `/jobs/{id}/reconciliation` and `/jobs/{id}/differences`.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", request_body = NewJob, responses(
    (status = 201, description = "The job, which begins soon", body = Job),
    (status = 200, description = "How many rows fit", body = Counted)))]
pub(crate) async fn create(
    State(state): State<ConsoleState>,
    Extension(identity): Extension<Identity>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let mut new: NewJob =
        serde_json::from_slice(&body).map_err(|error| Refusal::Parameter(error.to_string()))?;
    new.requested_by = identity.name;
    let consumers: Vec<_> = state.consumers.iter().map(|(name, _)| *name).collect();
    new.check(&consumers)?;
    let fields = new.filter.as_object().into_iter().flatten();
    let given: Vec<_> =
        fields.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    names::check(&state, &mut *state.store.read().await?, &given, None).await?;
    if new.dry_run {
        let total = jobs::count(&state.store, &new, &state.zone).await?;
        return Ok(Json(Counted { total }).into_response());
    }
    let job = jobs::create(&state.store, &new, &consumers, &state.zone).await?;
    tracing::info!(job = job.id, action = ?job.action, what = ?job.what, total = job.total, "a job is requested");
    let audited = Audited(job.id.clone());
    Ok((StatusCode::CREATED, Extension(audited), Json(job)).into_response())
}

/// One job, and its progress.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job", body = Job)))]
pub(crate) async fn show(State(state): State<ConsoleState>, Id(id): Id) -> Result<Json<Job>, Refusal> {
    let mut connection = state.store.read().await?;
    jobs::show(&mut connection, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}

/// The outcome of what a job has sent: how much was handled, became a dead letter again, or is pending.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/outcome", tag = "jobs",
    params(("id" = String, Path, description = "The job's id; it is no discard")),
    responses((status = 200, description = "The outcome", body = JobOutcome)))]
pub(crate) async fn outcome(
    State(state): State<ConsoleState>,
    Id(id): Id,
) -> Result<Json<JobOutcome>, Refusal> {
    let mut connection = state.store.read().await?;
    jobs::outcome(&mut connection, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}

/// Cancels a job; one that has ended stays as it is. Messages already sent still arrive.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job", body = Job)))]
pub(crate) async fn cancel(State(state): State<ConsoleState>, Id(id): Id) -> Result<Json<Job>, Refusal> {
    jobs::cancel(&state.store, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}

/// Stops a job until it is resumed, across restarts; messages already sent still arrive. One that has ended stays as it is.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/pause", tag = "jobs", operation_id = "pause_job",
    params(("id" = String, Path, description = "The job's id; it is no reconciliation")),
    responses((status = 200, description = "The job", body = Job)))]
pub(crate) async fn pause(State(state): State<ConsoleState>, Id(id): Id) -> Result<Json<Job>, Refusal> {
    jobs::pause(&state.store, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}

/// Lets a paused job go on where it was.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/resume", tag = "jobs", operation_id = "resume_job",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job", body = Job)))]
pub(crate) async fn resume(State(state): State<ConsoleState>, Id(id): Id) -> Result<Json<Job>, Refusal> {
    jobs::resume(&state.store, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}

/// The books of a reconciliation: partial while the job runs, complete once it is done.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/reconciliation", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The books", body = Reconciliation)))]
pub(crate) async fn reconciliation(
    State(state): State<ConsoleState>,
    Id(id): Id,
) -> Result<Json<Reconciliation>, Refusal> {
    let mut connection = state.store.read().await?;
    ledger::reconciliation(&mut connection, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}
