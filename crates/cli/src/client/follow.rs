//! Follows jobs to their end, and to the outcome of what they sent.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

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
pub async fn jobs(api: &Api, jobs: Vec<Value>) -> Result<ExitCode> {
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut is_whole = true;
    let mut ended = Vec::new();
    for job in jobs {
        let Some(job) = to_its_end(api, job, interrupted.as_mut()).await? else {
            return Ok(ExitCode::SUCCESS);
        };
        is_whole &= tell_end(&job);
        if job["action"] != "discard" && job["sent"].as_i64() > Some(0) {
            ended.push(job);
        }
    }
    if !ended.is_empty() {
        is_whole &= tell_outcome(api, &ended, interrupted.as_mut()).await?;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The job once it has ended; `None` if interrupted. Prints what it waits for.
pub async fn to_its_end(
    api: &Api,
    mut job: Value,
    mut interrupted: Pin<&mut impl Future>,
) -> Result<Option<Value>> {
    let id = job["id"].as_str().unwrap_or_default().to_owned();
    let bar = ProgressBar::new(job["total"].as_u64().unwrap_or(0)).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left")
            .expect("the template is sound"),
    );
    let begun = Instant::now();
    let mut trouble = String::new();
    let mut said = String::new();
    while matches!(job["state"].as_str(), Some("waiting" | "running")) {
        bar.set_position(job["progress"].as_u64().unwrap_or(0));
        if trouble.is_empty() && job["state"] == "waiting" && begun.elapsed() > TURN_PATIENCE {
            trouble =
                "it waits for its turn; a console takes one job after the other, see `malote jobs list`"
                    .to_owned();
        }
        if trouble != said {
            let text = if trouble.is_empty() { "it goes on" } else { &trouble };
            bar.suspend(|| report::note(format!("job {id}: {text}")));
            said.clone_from(&trouble);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = interrupted.as_mut() => {
                bar.abandon();
                report::line(format!(
                    "The job goes on. `malote jobs watch {id}` follows it, `malote jobs cancel {id}` ends it."
                ));
                return Ok(None);
            }
        }
        // A restarted console continues the job: this waits for it.
        trouble = match api.find(&format!("jobs/{id}")).await {
            Ok(Some(now)) => {
                job = now;
                job["trouble"].as_str().unwrap_or_default().to_owned()
            }
            Ok(None) => bail!("the job {id} is gone"),
            Err(error) => format!("it cannot be seen how far it is: {error:#}"),
        };
    }
    bar.finish_and_clear();
    Ok(Some(job))
}

/// Prints how a job ended; returns whether everything was done.
fn tell_end(job: &Value) -> bool {
    let text = |name: &str| job[name].as_str().unwrap_or_default();
    let (progress, sent) = (job["progress"].as_i64().unwrap_or(0), job["sent"].as_i64().unwrap_or(0));
    let done = match text("action") {
        "discard" => "discarded",
        _ => "sent again",
    };
    report::line(format!("{sent} {done}."));
    if progress > sent {
        report::line(format!("Not all: {}", text("trouble")));
    }
    if text("state") != "done" {
        report::line(format!(
            "The job is {}: {progress} of {} were processed. {}",
            text("state"),
            job["total"],
            text("trouble")
        ));
    }
    text("state") == "done" && progress == sent
}

/// The outcome of what jobs sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcome {
    settled: i64,
    dead: i64,
    unrouted: i64,
    pending: i64,
}

/// Waits a moment for the outcome of what was sent, and prints it; returns whether nothing came back.
async fn tell_outcome(api: &Api, jobs: &[Value], mut interrupted: Pin<&mut impl Future>) -> Result<bool> {
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
                let id = jobs[0]["id"].as_str().unwrap_or_default();
                report::line(format!("What was sent still arrives. `malote jobs watch {id}` shows its outcome."));
                return Ok(true);
            }
        }
    };
    outcome.lines(jobs[0]["what"] == "dead").iter().for_each(report::line);
    Ok(outcome.dead == 0 && outcome.unrouted == 0)
}

async fn outcome(api: &Api, jobs: &[Value]) -> Result<Outcome> {
    let mut sum = Outcome::default();
    for job in jobs {
        let of_job =
            api.get(&format!("jobs/{}/outcome", job["id"].as_str().unwrap_or_default()), &[]).await?;
        let count = |name: &str| of_job[name].as_i64().unwrap_or(0);
        sum.settled += count("settled");
        sum.dead += count("dead");
        sum.unrouted += count("unrouted");
        sum.pending += count("pending");
    }
    Ok(sum)
}

impl Outcome {
    /// One line per kind. Letters went to one consumer; events may also go to queues with unknown readers.
    fn lines(self, are_letters: bool) -> Vec<String> {
        let settled = if are_letters { "handled." } else { "handled, or routed to your own queues only." };
        [
            (self.settled, settled),
            (self.dead, "died again: `malote dead list` shows them, `malote dead list --group` the errors."),
            (self.unrouted, "came back, since no queue is bound to their topic: `malote unrouted list`."),
            (
                self.pending,
                "still pending, in a queue or waiting for the next attempt: `malote events list --state pending`.",
            ),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, text)| format!("{count} {text}"))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_by_kind() {
        let outcome = Outcome { settled: 3, dead: 1, unrouted: 0, pending: 2 };
        let lines = outcome.lines(true);
        assert_eq!(lines.len(), 3);
        assert!(lines[0] == "3 handled." && lines[1].starts_with("1 died again"), "{lines:?}");
        assert!(lines[2].starts_with("2 still pending"), "{lines:?}");
    }
}
