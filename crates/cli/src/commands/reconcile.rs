//! The books of a day.

use std::process::ExitCode;

use super::lists::print_json;
use crate::api::Api;
use crate::args::Reconcile;
use crate::config::Config;
use crate::report;
use crate::table::{self, Column, Form, column};
use anyhow::Result;
use event::Timestamp;

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

const DIFFERENCES: [Column; 5] = [
    column("Difference", "kind", Form::Text),
    column("Source", "source", Form::Text),
    column("Consumer", "consumer", Form::Text),
    column("Detail", "detail", Form::Text),
    column("Event", "event_id", Form::Id),
];

/// Prints the books. Status 1 if they do not balance.
pub async fn run(Reconcile { day, output }: Reconcile, config: &Config) -> Result<ExitCode> {
    let of = |time: Timestamp| time.to_string().chars().take(10).collect::<String>();
    let day = match day.as_str() {
        "today" => of(event::now()),
        "yesterday" => of(event::now() - std::time::Duration::from_secs(24 * 60 * 60)),
        day => day.to_owned(),
    };
    let api = Api::new(&output.api, config)?;
    let books = api.get("reconciliation", &[("day".to_owned(), day.clone())]).await?;
    let is_balanced = books["balanced"] == true;
    let status = if is_balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if output.json {
        print_json(&books);
        return Ok(status);
    }
    let rows = |name: &str| books[name].as_array().cloned().unwrap_or_default();
    let (sources, differences) = (rows("sources"), rows("differences"));
    if sources.is_empty() {
        report::line(format!("Nothing came in on {day} (UTC)."));
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
    if is_balanced && uncounted > 0 {
        report::line(format!(
            "\n{uncounted} received and not counted yet: an ingress tells its counts every few seconds, and one that was \
             killed took its last ones with it."
        ));
    }
    if differences.is_empty() {
        report::line(format!(
            "\nThe books of {day} (UTC) balance: received = handled + routed + pending + dead + unrouted + discarded + duplicate."
        ));
    } else {
        report::print(&format!("\n{}", table::of_rows(&DIFFERENCES, &differences)));
        let count = match differences.len() {
            1 => "1 difference".to_owned(),
            count => format!("{count} differences"),
        };
        report::line(format!("\nThe books of {day} (UTC) do not balance: {count}."));
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_column_is_a_field_of_the_api() {
        let document: Value = serde_json::from_str(&console::openapi()).unwrap();
        for (schema, columns) in [("SourceBooks", &SOURCES[..]), ("Difference", &DIFFERENCES[..])] {
            for column in columns {
                let field = &document["components"]["schemas"][schema]["properties"][column.field];
                assert!(field.is_object(), "{schema}.{}", column.field);
            }
        }
    }
}
