//! Daily reconciliation.

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::api::Api;
use super::lists::print_json;
use super::{follow, resend};
use crate::args::Reconcile;
use crate::config::Config;
use crate::report;
use crate::table::{self, Column, Form, column};

const SOURCES: [Column; 12] = [
    column("Source", "source", Form::Text),
    column("Answered", "counted_accepted", Form::Number),
    column("Received", "received", Form::Number),
    column("Handled", "handled", Form::Number),
    column("Routed", "routed", Form::Number),
    column("Pending", "pending", Form::Number),
    column("Dead", "dead", Form::Number),
    column("Unrouted", "unrouted", Form::Number),
    column("Discarded", "discarded", Form::Number),
    column("Duplicate", "duplicate", Form::Number),
    column("Rejected", "rejected", Form::Number),
    column("Replayed", "replayed", Form::Number),
];

/// What was sent again.
const SENT: [Column; 4] = [
    column("Sent again", "sent_at", Form::Time),
    column("Source", "source", Form::Text),
    column("Consumer", "consumer", Form::Text),
    column("Event", "event_id", Form::Id),
];

const DIFFERENCES: [Column; 5] = [
    column("Difference", "kind", Form::Text),
    column("Source", "source", Form::Text),
    column("Consumer", "consumer", Form::Text),
    column("Detail", "detail", Form::Text),
    column("Event", "event_id", Form::Id),
];

/// Creates a reconciliation job, follows it to its end and prints the books. Status 1 if they do not balance.
pub async fn run(Reconcile { day, limit, output }: Reconcile, config: &Config) -> Result<ExitCode> {
    let api = Api::new(&output.api, config)?;
    let asked = json!({
        "action": "reconcile", "what": "events", "filter": { "day": day }, "requested_by": resend::who(),
    });
    let job = api.post("jobs", &asked).await?;
    follow(&api, job, limit, output.json).await
}

/// Follows a reconciliation to its end and prints the books, with at most `limit` differences.
pub async fn follow(api: &Api, job: Value, limit: u32, as_json: bool) -> Result<ExitCode> {
    let interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let Some(job) = follow::to_its_end(api, job, interrupted).await? else { return Ok(ExitCode::FAILURE) };
    let text = |name: &str| job[name].as_str().unwrap_or_default();
    if text("state") != "done" {
        bail!(
            "the reconciliation is {}: {} events were processed. {}",
            text("state"),
            job["progress"],
            text("trouble")
        );
    }
    let mut books = api.get(&format!("jobs/{}/reconciliation", text("id")), &[]).await?;
    let (found, has_more) = api.newest(&format!("jobs/{}/differences", text("id")), &[], limit).await?;
    let status = if books["balanced"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if as_json {
        books["job"] = job["id"].clone();
        books["difference_count"] = books["differences"].take();
        books["differences"] = found.into();
        print_json(&books);
    } else {
        print(&books, found);
        if has_more {
            report::line("Only the first of them are shown; --limit shows more.");
        }
    }
    Ok(status)
}

fn print(books: &Value, found: Vec<Value>) {
    let day = format!(
        "{} ({})",
        books["day"].as_str().unwrap_or_default(),
        books["zone"].as_str().unwrap_or_default()
    );
    let sources = books["sources"].as_array().cloned().unwrap_or_default();
    if sources.is_empty() {
        report::line(format!("Nothing came in on {day}."));
    } else {
        report::print(&table::of_rows(&SOURCES, &sources));
    }
    let waiting: Vec<String> = books["waiting"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(queue, count)| format!("{queue} {}", table::written(Form::Text, count)))
        .collect();
    if !waiting.is_empty() {
        report::line(format!("\nWaiting in queues: {}.", waiting.join(", ")));
    }
    let sum = |name: &str| sources.iter().filter_map(|source| source[name].as_i64()).sum::<i64>();
    let uncounted = sum("received") - sum("rejected_resent") - sum("counted_accepted");
    let is_balanced = books["balanced"] == true;
    if is_balanced && uncounted > 0 {
        report::line(format!(
            "\n{uncounted} received and not counted yet: an ingress tells its counts every few seconds, and one that was \
             killed took its last ones with it."
        ));
    }
    let (sent, open): (Vec<_>, Vec<_>) = found.into_iter().partition(|row| !row["sent_at"].is_null());
    if !sent.is_empty() {
        report::line(format!(
            "\n{}, in no queue: sent again to the consumer that has not handled it, under the same id.",
            counted(&books["sent"], "event was pending", "events were pending")
        ));
        report::print(&table::of_rows(&SENT, &sent));
    }
    if is_balanced {
        report::line(format!(
            "\nThe books of {day} balance: received = handled + routed + pending + dead + unrouted + discarded + duplicate."
        ));
    } else {
        report::print(&format!("\n{}", table::of_rows(&DIFFERENCES, &open)));
        let count = counted(&books["differences"], "difference", "differences");
        report::line(format!("\nThe books of {day} do not balance: {count}."));
    }
}

fn counted(count: &Value, one: &str, many: &str) -> String {
    format!("{count} {}", if *count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_a_field_of_the_api() {
        let document: Value = serde_json::from_str(&console::openapi(&[])).unwrap();
        for (schema, columns) in
            [("SourceBooks", &SOURCES[..]), ("Difference", &DIFFERENCES[..]), ("Difference", &SENT[..])]
        {
            for column in columns {
                let field = &document["components"]["schemas"][schema]["properties"][column.field];
                assert!(field.is_object(), "{schema}.{}", column.field);
            }
        }
    }
}
