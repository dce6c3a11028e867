//! Daily reconciliation.

use std::process::ExitCode;

use anyhow::{Result, bail};
use ledger::jobs::{Action, Job, JobState, NewJob, What};
use ledger::{DIFFERENCES, Difference, JOBS, Reconciliation, SourceBooks};
use serde_json::json;
use view::{Column, Form, Shown, column, shown};

use super::api::Api;
use super::follow;
use super::lists::print_json;
use crate::args::Reconcile;
use crate::config::Config;
use crate::report;
use crate::table;

const SOURCES: [Column<SourceBooks>; 12] = [
    column("Source", |row| shown(&row.source), Form::Text),
    column("Answered", |row| shown(&row.counted_accepted), Form::Number),
    column("Received", |row| shown(&row.received), Form::Number),
    column("Handled", |row| shown(&row.handled), Form::Number),
    column("Routed", |row| shown(&row.routed), Form::Number),
    column("Pending", |row| shown(&row.pending), Form::Number),
    column("Dead", |row| shown(&row.dead), Form::Number),
    column("Unrouted", |row| shown(&row.unrouted), Form::Number),
    column("Discarded", |row| shown(&row.discarded), Form::Number),
    column("Duplicate", |row| shown(&row.duplicate), Form::Number),
    column("Rejected", |row| shown(&row.rejected), Form::Number),
    column("Replayed", |row| shown(&row.replayed), Form::Number),
];

/// What was sent again.
const SENT: [Column<Difference>; 4] = [
    column("Sent again", |row| shown(&row.sent_at), Form::Time),
    column("Source", |row| shown(&row.source), Form::Text),
    column("Consumer", |row| shown(&row.consumer), Form::Text),
    column("Event", |row| shown(&row.event_id), Form::Id),
];

/// Creates a reconciliation job, follows it to its end and prints the books. Status 1 if they do not balance.
pub async fn run(Reconcile { day, limit, output }: Reconcile, config: &Config) -> Result<ExitCode> {
    let api = Api::new(&output.api, config)?;
    let asked = NewJob::new(Action::Reconcile, What::Events);
    let job = api.post(JOBS.name, &NewJob { filter: json!({ "day": day }), ..asked }).await?;
    follow(&api, job, limit, output.json).await
}

/// Follows a reconciliation to its end and prints the books, with at most `limit` differences.
pub async fn follow(api: &Api, job: Job, limit: u32, as_json: bool) -> Result<ExitCode> {
    let interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let Some(job) = follow::to_its_end(api, job, interrupted).await? else { return Ok(ExitCode::FAILURE) };
    let Job { id, state, progress, trouble, .. } = job;
    if state != JobState::Done {
        bail!("the reconciliation is {state}: {progress} events were processed. {trouble}");
    }
    let books: Reconciliation = api.get(&format!("jobs/{id}/reconciliation"), &[]).await?;
    let path = DIFFERENCES.name.replace("{id}", &id);
    let (found, has_more) = api.newest::<Difference>(&path, &[], limit).await?;
    let status = if books.balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if as_json {
        let mut whole = shown(&books);
        whole["job"] = id.into();
        whole["difference_count"] = books.differences.into();
        whole["differences"] = shown(&found);
        print_json(&whole);
    } else {
        print(&books, &found);
        if has_more {
            report::line("Only the first of them are shown; --limit shows more.");
        }
    }
    Ok(status)
}

fn print(books: &Reconciliation, found: &[Difference]) {
    let day = format!("{} ({})", books.day, books.zone);
    if books.sources.is_empty() {
        report::line(format!("Nothing was received on {day}."));
    } else {
        report::print(&table::rows(&SOURCES, &books.sources));
    }
    let waiting: Vec<_> = books.waiting.iter().map(|(queue, count)| format!("{queue} {count}")).collect();
    if !waiting.is_empty() {
        report::line(format!("\nWaiting in queues: {}.", waiting.join(", ")));
    }
    let uncounted: i64 =
        books.sources.iter().map(|one| one.received - one.rejected_resent - one.counted_accepted).sum();
    if books.balanced && uncounted > 0 {
        report::line(format!(
            "\n{uncounted} received and not counted yet: an ingress tells its counts every few seconds, and one that was \
             killed took its last ones with it."
        ));
    }
    let (sent, open): (Vec<_>, Vec<_>) = found.iter().partition(|difference| difference.sent_at.is_some());
    if !sent.is_empty() {
        report::line(format!(
            "\n{}, in no queue: sent again to the consumer that has not handled it, under the same id.",
            counted(books.sent, "event was pending", "events were pending")
        ));
        report::print(&table::rows(&SENT, sent));
    }
    if books.balanced {
        report::line(format!(
            "\nThe books of {day} balance: received = handled + routed + pending + dead + unrouted + discarded + duplicate."
        ));
    } else {
        report::print(&format!("\n{}", table::rows(Difference::COLUMNS, open)));
        let count = counted(books.differences, "difference", "differences");
        report::line(format!("\nThe books of {day} do not balance: {count}."));
    }
}

fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
