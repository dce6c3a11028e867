//! Follows jobs to their end, and to the outcome of what they sent.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use ledger::jobs::{Action, Job, JobOutcome, JobState, What};

use super::api::Api;
use crate::report;

/// How often the progress of a job is requested.
const POLL: Duration = Duration::from_millis(250);

/// How long a job may wait before the command says so.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// The maximum and the minimum wait for the outcome of what was sent.
const OUTCOME_PATIENCE: Duration = Duration::from_secs(10);
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Follows jobs to their end, prints how each ended, and waits a moment for the outcome of what they sent. Status 1
/// unless everything was done and nothing came back. An interruption leaves the jobs running.
pub async fn jobs(api: &Api, jobs: Vec<Job>) -> Result<ExitCode> {
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut is_whole = true;
    let mut ended = Vec::new();
    for job in jobs {
        let Some(job) = to_its_end(api, job, interrupted.as_mut()).await? else {
            return Ok(ExitCode::SUCCESS);
        };
        is_whole &= print_end(&job);
        if !matches!(job.action, Action::Discard | Action::Fetch) && job.sent > 0 {
            ended.push(job);
        }
    }
    if !ended.is_empty() {
        is_whole &= print_outcome(api, &ended, interrupted.as_mut()).await?;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The job once it has ended; `None` if interrupted. Prints what it waits for.
pub async fn to_its_end(
    api: &Api,
    mut job: Job,
    mut interrupted: Pin<&mut impl Future>,
) -> Result<Option<Job>> {
    let id = job.id.clone();
    let bar = ProgressBar::new(u64::try_from(job.total).unwrap_or(0)).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left")
            .expect("the template is sound"),
    );
    let begun = Instant::now();
    let mut trouble = String::new();
    let mut reported = String::new();
    while matches!(job.state, JobState::Waiting | JobState::Running | JobState::Paused) {
        bar.set_position(u64::try_from(job.progress).unwrap_or(0));
        if trouble.is_empty() && job.state == JobState::Waiting && begun.elapsed() > TURN_PATIENCE {
            trouble =
                "it waits for its turn; a console runs one job at a time, see `malote jobs list`".to_owned();
        }
        if job.state == JobState::Paused {
            trouble = format!("it is paused; `malote jobs resume {id}` lets it go on");
        }
        if trouble != reported {
            let text = if trouble.is_empty() { "it continues" } else { &trouble };
            bar.suspend(|| report::note(format!("job {id}: {text}")));
            reported.clone_from(&trouble);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = interrupted.as_mut() => {
                bar.abandon();
                report::line(format!(
                    "The job continues. `malote jobs watch {id}` follows it, `malote jobs cancel {id}` ends it."
                ));
                return Ok(None);
            }
        }
        // A restarted console continues the job: this waits for it.
        trouble = match api.find::<Job>(&format!("jobs/{id}")).await {
            Ok(Some(now)) => {
                job = now;
                job.trouble.clone()
            }
            Ok(None) => bail!("the job {id} is gone"),
            Err(error) => format!("its progress is unknown: {error:#}"),
        };
    }
    bar.finish_and_clear();
    Ok(Some(job))
}

/// Prints how a job ended; returns whether everything was done.
fn print_end(Job { action, state, progress, total, sent, trouble, .. }: &Job) -> bool {
    let done = match action {
        Action::Discard => "discarded",
        Action::Fetch => "asked for: `malote documents list` shows the outcome",
        Action::Replay | Action::Retry | Action::Reconcile => "sent again",
    };
    report::line(format!("{sent} {done}."));
    // Most events name no document.
    let is_whole = progress == sent || *action == Action::Fetch && *sent > 0;
    if !is_whole {
        report::line(format!("Not all: {trouble}"));
    }
    if *state != JobState::Done {
        report::line(format!("The job is {state}: {progress} of {total} were processed. {trouble}"));
    }
    *state == JobState::Done && is_whole
}

/// Waits a moment for the outcome of what was sent, and prints it; returns whether nothing came back.
async fn print_outcome(api: &Api, jobs: &[Job], mut interrupted: Pin<&mut impl Future>) -> Result<bool> {
    let begun = Instant::now();
    let mut before = None;
    let outcome = loop {
        let now = outcome(api, jobs).await;
        // An unrouted event is marked a moment after it is sent: an outcome that is seen twice is final.
        let has_settled =
            matches!((&before, &now), (Some(before), Ok(now)) if before == now && now.pending == 0);
        if has_settled && begun.elapsed() > SETTLE_TIME || begun.elapsed() > OUTCOME_PATIENCE {
            break now?;
        }
        before = now.ok();
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = interrupted.as_mut() => {
                let id = &jobs[0].id;
                report::line(format!("What was sent still arrives. `malote jobs watch {id}` shows its outcome."));
                return Ok(true);
            }
        }
    };
    lines(outcome, jobs[0].what == What::Dead).iter().for_each(report::line);
    Ok(outcome.dead == 0 && outcome.unrouted == 0)
}

async fn outcome(api: &Api, jobs: &[Job]) -> Result<JobOutcome> {
    let mut sum = JobOutcome::default();
    for Job { id, .. } in jobs {
        let one: JobOutcome = api.get(&format!("jobs/{id}/outcome"), &[]).await?;
        sum.sent += one.sent;
        sum.settled += one.settled;
        sum.dead += one.dead;
        sum.unrouted += one.unrouted;
        sum.pending += one.pending;
    }
    Ok(sum)
}

/// One line for each kind. Letters went to one consumer; events may also go to queues whose readers are not known.
fn lines(outcome: JobOutcome, are_letters: bool) -> Vec<String> {
    let settled = if are_letters { "handled." } else { "handled, or routed to your own queues only." };
    [
        (outcome.settled, settled),
        (outcome.dead, "died again: `malote dead list` shows them, `malote dead list --group` the errors."),
        (outcome.unrouted, "came back, since no queue is bound to their topic: `malote unrouted list`."),
        (
            outcome.pending,
            "still pending, in a queue or waiting for the next attempt: `malote events list --state pending`.",
        ),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, text)| format!("{count} {text}"))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_by_kind() {
        let outcome = JobOutcome { sent: 6, settled: 3, dead: 1, unrouted: 0, pending: 2 };
        let lines = lines(outcome, true);
        assert_eq!(lines.len(), 3);
        assert!(lines[0] == "3 handled." && lines[1].starts_with("1 died again"), "{lines:?}");
        assert!(lines[2].starts_with("2 still pending"), "{lines:?}");
    }
}
