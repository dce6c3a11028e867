//! Lists, shows, watches and cancels jobs.

use std::process::ExitCode;

use anyhow::{Result, bail};
use event::EventId;
use serde_json::Value;

use super::api::Api;
use super::lists::print_json;
use super::{follow, reconcile};
use crate::args::{JobList, JobRef, Show};
use crate::config::Config;
use crate::report;
use crate::table::{self, Column, Form, column};

const JOBS: [Column; 9] = [
    column("Asked for", "requested_at", Form::Time),
    column("By", "requested_by", Form::Text),
    column("Job", "job", Form::Text),
    column("State", "state", Form::State),
    column("Rows", "total", Form::Number),
    column("Done", "progress", Form::Number),
    column("Sent", "sent", Form::Number),
    column("Id", "id", Form::Id),
    column("Trouble", "trouble", Form::Text),
];

/// Prints the jobs, newest first.
pub async fn list(list: JobList, config: &Config) -> Result<()> {
    let api = Api::new(&list.output.api, config)?;
    let (mut rows, has_more) = api.newest("jobs", &[], list.limit).await?;
    if list.output.json {
        print_json(&Value::Array(rows));
        return Ok(());
    }
    if rows.is_empty() {
        report::line("No jobs: nothing was asked to be sent again, discarded or reconciled.");
        return Ok(());
    }
    for row in &mut rows {
        row["job"] = told(row).into();
    }
    report::print(&table::of_rows(&JOBS, &rows));
    if has_more {
        report::line(format!("\nOnly the newest {} are shown; --limit shows more.", rows.len()));
    }
    Ok(())
}

/// What a job does, in a few words.
fn told(job: &Value) -> String {
    let word = |name: &str| job[name].as_str().unwrap_or_default();
    let mut text = format!("{} {}", word("action"), word("what"));
    for (name, value) in job["filter"].as_object().into_iter().flatten() {
        text += &format!(" {name}={}", table::written(Form::Text, value));
    }
    if let Some(consumer) = job["to_consumer"].as_str() {
        text += &format!(" to {consumer}");
    }
    if job["again"] == true {
        text += " again";
    }
    text
}

/// Prints one job.
pub async fn show(Show { id, output }: Show, config: &Config) -> Result<()> {
    let api = Api::new(&output.api, config)?;
    let job = find(&api, &id).await?;
    if output.json {
        print_json(&job);
        return Ok(());
    }
    report::line(format!("{:14}  {}", "job", told(&job)));
    for (name, form) in [
        ("id", Form::Text),
        ("state", Form::Text),
        ("trouble", Form::Text),
        ("reason", Form::Text),
        ("rate", Form::Text),
        ("total", Form::Text),
        ("progress", Form::Text),
        ("sent", Form::Text),
        ("requested_by", Form::Text),
        ("requested_at", Form::Time),
        ("started_at", Form::Time),
        ("finished_at", Form::Time),
    ] {
        if !job[name].is_null() && job[name] != "" {
            report::line(format!("{name:14}  {}", table::written(form, &job[name])));
        }
    }
    Ok(())
}

async fn find(api: &Api, id: &str) -> Result<Value> {
    if id.parse::<EventId>().is_err() {
        bail!("{id} is not the id of a job: ids are in `malote jobs list`");
    }
    match api.find(&format!("jobs/{id}")).await? {
        Some(job) => Ok(job),
        None => bail!("no job {id}; ids are in `malote jobs list`"),
    }
}

/// Ends a job.
pub async fn cancel(JobRef { id, api }: JobRef, config: &Config) -> Result<()> {
    let api = Api::new(&api, config)?;
    find(&api, &id).await?;
    let job = api.post(&format!("jobs/{id}/cancel"), &Value::Null).await?;
    let (state, progress, total) =
        (job["state"].as_str().unwrap_or_default(), &job["progress"], &job["total"]);
    match state {
        "cancelled" => report::line(format!("The job is cancelled: {progress} of {total} were done.")),
        state => report::line(format!("The job had ended before: it is {state}.")),
    }
    Ok(())
}

/// Follows a job to its end.
pub async fn watch(JobRef { id, api }: JobRef, config: &Config) -> Result<ExitCode> {
    let api = Api::new(&api, config)?;
    let job = find(&api, &id).await?;
    if job["action"] == "reconcile" {
        return reconcile::follow(&api, job, 50, false).await;
    }
    follow::jobs(&api, vec![job]).await
}
