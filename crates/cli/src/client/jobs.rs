//! Lists, shows, watches and cancels jobs.

use std::process::ExitCode;

use anyhow::{Result, bail};
use ledger::JOBS;
use ledger::jobs::{Action, Job, JobState};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use super::api::Api;
use super::fields::Fields;
use super::ids;
use super::lists::{self, print_json};
use super::{follow, reconcile};
use crate::args::{JobList, JobRef, Show};
use crate::config::Config;
use crate::report;

/// Prints the jobs, newest first.
pub async fn list(JobList { filter, rows }: JobList, config: &Config) -> Result<()> {
    lists::list_with_options(&JOBS, filter, rows, config).await
}

/// Prints one job.
pub async fn show(Show { id, output }: Show, config: &Config) -> Result<()> {
    let api = Api::new(&output.api, config)?;
    let id = ids::whole(&[&JOBS], &id, &api).await?;
    let found: Box<RawValue> = find(&api, &id).await?;
    if output.json {
        print_json(&found);
        return Ok(());
    }
    let job: Job = api.read(&path(&id), found.get().as_bytes())?;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let fields = Fields::new(14)
        .text("job", &job.summary())
        .text("id", &job.id)
        .text("state", &job.state)
        .text("trouble", &some(&job.trouble))
        .text("reason", &job.reason.as_deref().and_then(some))
        .text("rate", &job.rate)
        .text("total", &job.total)
        .text("progress", &job.progress)
        .text("sent", &job.sent)
        .text("requested_by", &some(&job.requested_by))
        .time("requested_at", &job.requested_at)
        .time("started_at", &job.started_at)
        .time("finished_at", &job.finished_at);
    report::print(&fields.text);
    Ok(())
}

fn path(id: &str) -> String {
    format!("{}/{id}", JOBS.name)
}

async fn find<T: DeserializeOwned>(api: &Api, id: &str) -> Result<T> {
    match api.find(&path(id)).await? {
        Some(job) => Ok(job),
        None => bail!("no job {id}; ids are in `malote jobs list`"),
    }
}

/// A job after this was done with it.
async fn changed(JobRef { id, api }: JobRef, change: &str, config: &Config) -> Result<Job> {
    let api = Api::new(&api, config)?;
    let id = ids::whole(&[&JOBS], &id, &api).await?;
    find::<IgnoredAny>(&api, &id).await?;
    api.post(&format!("{}/{change}", path(&id)), &()).await
}

/// Stops a job until it is resumed.
pub async fn pause(job: JobRef, config: &Config) -> Result<()> {
    let Job { id, state, progress, total, .. } = changed(job, "pause", config).await?;
    report::line(match state {
        JobState::Paused => {
            format!(
                "The job is paused: {progress} of {total} were done. `malote jobs resume {id}` lets it go on."
            )
        }
        state => format!("The job had ended before: it is {state}."),
    });
    Ok(())
}

/// Lets a paused job go on.
pub async fn resume(job: JobRef, config: &Config) -> Result<()> {
    let Job { id, state, .. } = changed(job, "resume", config).await?;
    report::line(match state {
        JobState::Waiting | JobState::Running => {
            format!("The job goes on. `malote jobs watch {id}` follows it.")
        }
        state => format!("The job is {state}: it cannot go on."),
    });
    Ok(())
}

/// Ends a job.
pub async fn cancel(job: JobRef, config: &Config) -> Result<()> {
    let Job { state, progress, total, .. } = changed(job, "cancel", config).await?;
    report::line(match state {
        JobState::Cancelled => format!("The job is cancelled: {progress} of {total} were done."),
        state => format!("The job had ended before: it is {state}."),
    });
    Ok(())
}

/// Follows a job to its end.
pub async fn watch(JobRef { id, api }: JobRef, config: &Config) -> Result<ExitCode> {
    let api = Api::new(&api, config)?;
    let id = ids::whole(&[&JOBS], &id, &api).await?;
    let job: Job = find(&api, &id).await?;
    if job.action == Action::Reconcile {
        return reconcile::follow(&api, job, 50, false).await;
    }
    follow::jobs(&api, vec![job]).await
}
